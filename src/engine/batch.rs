//! Batches of netlink messages under way to the kernel: what each message was for.

use std::collections::VecDeque;

use crate::ctnetlink::encode;
use crate::ctnetlink::request::{Answer, KernelRequest};

/// Messages of a batch. 16 are within 5 % of the best, more than 64 bring nothing (measured).
pub(super) const MESSAGES_MAX: usize = 64;
/// Batches under way: one that the kernel works on, and so many that wait for it that the writer has work for
/// 2 ms, whatever else the engine does meanwhile. With 3 a commit of 200,000 flows took 6 % longer.
const BATCHES_MAX: usize = 8;

/// Numbers messages and remembers what they were for, `T`, until their batch is done.
#[derive(Debug)]
pub(super) struct Batches<T> {
    under_way: VecDeque<Batch<T>>,
    spare: Vec<Vec<T>>,
    /// Room to sort answers in; empty in between.
    by_message: Vec<Option<Answer>>,
}

#[derive(Debug)]
struct Batch<T> {
    first_seq: u32,
    messages: Vec<T>,
}

impl<T> Default for Batches<T> {
    fn default() -> Self {
        Self {
            under_way: VecDeque::new(),
            spare: Vec::new(),
            by_message: Vec::new(),
        }
    }
}

impl<T> Batch<T> {
    fn last_seq(&self) -> u32 {
        self.first_seq.wrapping_add(self.messages.len() as u32 - 1)
    }
}

/// A batch while it is written.
#[derive(Debug)]
pub(super) struct Writing<'a, T> {
    out: &'a mut Vec<u8>,
    next_seq: &'a mut u32,
    first_seq: u32,
    last_start: usize,
    messages: Vec<T>,
}

impl<T> Batches<T> {
    pub(super) fn new() -> Self {
        Self {
            under_way: VecDeque::with_capacity(BATCHES_MAX),
            spare: Vec::new(),
            by_message: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// True if the batch that ends with `last_seq` is under way.
    pub(super) fn has(&self, last_seq: u32) -> bool {
        self.under_way
            .iter()
            .any(|batch| batch.last_seq() == last_seq)
    }

    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < BATCHES_MAX
    }

    /// Begins a batch in `out`.
    pub(super) fn begin<'a>(
        &mut self,
        out: &'a mut Vec<u8>,
        next_seq: &'a mut u32,
    ) -> Writing<'a, T> {
        out.clear();
        let messages = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(MESSAGES_MAX));
        Writing {
            first_seq: *next_seq,
            out,
            next_seq,
            last_start: 0,
            messages,
        }
    }

    /// Ends a batch; `None` if nothing was written.
    pub(super) fn send(&mut self, writing: Writing<'_, T>) -> Option<KernelRequest> {
        let Writing {
            out,
            first_seq,
            last_start,
            messages,
            ..
        } = writing;
        if messages.is_empty() {
            self.spare.push(messages);
            return None;
        }
        encode::want_ack(&mut out[last_start..]);
        let last_seq = first_seq.wrapping_add(messages.len() as u32 - 1);
        self.under_way.push_back(Batch {
            first_seq,
            messages,
        });
        Some(KernelRequest::Batch {
            first_seq,
            last_seq,
        })
    }

    /// Takes the batch that ends with `last_seq`: calls `settle` for each of its messages, in
    /// order, with the kernel's answer, if there was one.
    pub(super) fn settle(
        &mut self,
        last_seq: u32,
        answers: Vec<Answer>,
        mut settle: impl FnMut(T, Option<Answer>),
    ) {
        let is_it = |batch: &Batch<T>| batch.last_seq() == last_seq;
        let Some(at) = self.under_way.iter().position(is_it) else {
            return;
        };
        let mut batch = self.under_way.remove(at).expect("was just found");
        let by_message = &mut self.by_message;
        by_message.resize_with(batch.messages.len(), || None);
        for answer in answers {
            let at = answer.seq.wrapping_sub(batch.first_seq) as usize;
            if let Some(slot) = by_message.get_mut(at) {
                *slot = Some(answer);
            }
        }
        for (message, answer) in batch.messages.drain(..).zip(by_message.drain(..)) {
            settle(message, answer);
        }
        if self.spare.len() < BATCHES_MAX {
            self.spare.push(batch.messages);
        }
    }
}

impl<T> Writing<'_, T> {
    /// True if nothing was written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages that still fit.
    pub(super) fn room(&self) -> usize {
        MESSAGES_MAX - self.messages.len()
    }

    /// Writes a message that is for `what`; `encode` gets the buffer and the message's number.
    pub(super) fn push(&mut self, what: T, encode: impl FnOnce(&mut Vec<u8>, u32)) {
        self.last_start = self.out.len();
        encode(self.out, *self.next_seq);
        *self.next_seq = self.next_seq.wrapping_add(1);
        self.messages.push(what);
    }
}
