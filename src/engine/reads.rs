//! Flows to be read from the kernel because something has changed in them that no event tells.
//!
//! A NAT helper that rewrites addresses in a byte stream shifts its sequence numbers, and tells
//! nobody; a copy of the flow without that shift corrupts the stream silently. But it announces
//! the flow that it expects, with the same packet, and that is the cue to read its master. What
//! makes no expectation either (SIP over TCP rewrites more than that) the next scrub finds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::batch::Batches;
use crate::ctnetlink::encode::{self, Ack};
use crate::ctnetlink::request::{Answer, KernelRequest, Outcome};
use crate::flow::{Flow, FlowEvent, FlowKey};

/// Flows that wait to be read; a scrub reads those that find no place.
const WAITING_MAX: usize = 1_024;
/// From the cue to the read: the kernel tells the expectation before it rewrites the packet and
/// shifts the numbers, some microseconds later.
const DELAY: Duration = Duration::from_millis(2);

/// What waits, and the one batch under way.
#[derive(Debug)]
pub(super) struct Reads {
    waiting: VecDeque<(FlowKey, Flow)>,
    /// When the last that waits was told.
    due: Option<Instant>,
    batches: Batches<FlowKey>,
    /// What the batch under way asks for, but for those that have ended since it was sent.
    asked: Vec<FlowKey>,
    /// Flows that found no place.
    pub(super) left_out: u64,
}

/// What came of a batch.
#[derive(Debug)]
pub(super) enum Read {
    /// It was a read, and the peers must hear of something.
    Changed,
    /// It was a read.
    Same,
    /// It was no read.
    NotOurs(Vec<Answer>),
}

impl Reads {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            due: None,
            batches: Batches::new(),
            asked: Vec::new(),
            left_out: 0,
        }
    }

    /// A flow is to be read soon.
    pub(super) fn want(&mut self, now: Instant, flow: &Flow) {
        let key = flow.key();
        if self.waiting.iter().any(|(waiting, _)| *waiting == key) {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.left_out += 1;
            return;
        }
        self.due.get_or_insert(now + DELAY);
        self.waiting.push_back((key, *flow));
    }

    /// A flow has ended: an answer about it would be told of another life.
    pub(super) fn forget(&mut self, key: &FlowKey) {
        self.waiting.retain(|(waiting, _)| waiting != key);
        self.asked.retain(|asked| asked != key);
    }

    /// True if there is nothing to forget.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// When the next read is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| self.batches.is_empty())
    }

    /// Writes the reads that are due, one batch at a time.
    pub(super) fn next_batch(
        &mut self,
        now: Instant,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        if !self.batches.is_empty() || self.due.is_none_or(|due| due > now) {
            return None;
        }
        let mut batch = self.batches.begin(out, next_seq);
        while batch.room() > 0 {
            let Some((key, flow)) = self.waiting.pop_front() else {
                break;
            };
            self.asked.push(key);
            batch.push(key, |out, seq| encode::get(out, seq, Ack::None, &flow));
        }
        if self.waiting.is_empty() {
            self.due = None;
        }
        self.batches.send(batch)
    }

    /// A batch was carried out: calls `found` with the flows that are still asked for. Gives the
    /// answers back if it was no read.
    pub(super) fn on_done(
        &mut self,
        last_seq: u32,
        answers: Vec<Answer>,
        mut found: impl FnMut(&FlowKey, &FlowEvent),
    ) -> Result<(), Vec<Answer>> {
        if !self.batches.has(last_seq) {
            return Err(answers);
        }
        let asked = &self.asked;
        self.batches.settle(last_seq, answers, |key, answer| {
            if let Some(Outcome::Found(event)) = answer.map(|answer| answer.outcome)
                && asked.contains(&key)
            {
                found(&key, &event);
            }
        });
        self.asked.clear();
        Ok(())
    }
}
