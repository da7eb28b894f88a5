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

/// A flow is asked for this often when answers are lost, or come too early; then the next scrub
/// reads it.
const ATTEMPTS_MAX: u8 = 3;

/// What waits, and the one batch under way.
#[derive(Debug)]
pub(super) struct Reads {
    waiting: VecDeque<Wanted>,
    /// When those that wait are read.
    due: Option<Instant>,
    batches: Batches<Wanted>,
    /// What the batch under way asks for, but for those that have ended since it was sent.
    asked: Vec<FlowKey>,
    /// Flows that found no place.
    pub(super) left_out: u64,
}

/// A flow to be read.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    flow: Flow,
    attempts: u8,
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
    pub(super) fn want(&mut self, flow: &Flow) {
        self.push(Wanted {
            flow: *flow,
            attempts: 0,
        });
    }

    fn push(&mut self, wanted: Wanted) {
        let key = wanted.flow.key();
        if self.waiting.iter().any(|waiting| waiting.flow.key() == key) {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.left_out += 1;
            return;
        }
        self.waiting.push_back(wanted);
    }

    /// A flow has ended: an answer about it would be told of another life.
    pub(super) fn forget(&mut self, key: &FlowKey) {
        self.waiting.retain(|waiting| waiting.flow.key() != *key);
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
        if self.waiting.is_empty() {
            self.due = None;
            return None;
        }
        let due = *self.due.get_or_insert(now + DELAY);
        if !self.batches.is_empty() || due > now {
            return None;
        }
        let mut batch = self.batches.begin(out, next_seq);
        while batch.room() > 0 {
            let Some(wanted) = self.waiting.pop_front() else {
                break;
            };
            self.asked.push(wanted.flow.key());
            batch.push(wanted, |out, seq| {
                encode::get(out, seq, Ack::None, &wanted.flow);
            });
        }
        self.due = None;
        self.batches.send(batch)
    }

    /// A batch was carried out: calls `found` with the flows that are still asked for; it says whether
    /// it could use the answer. One that is about another life than we know (its birth is on its way
    /// to us) is asked for again. Gives the answers back if it was no read.
    pub(super) fn on_done(
        &mut self,
        last_seq: u32,
        is_answered: bool,
        answers: Vec<Answer>,
        mut found: impl FnMut(&FlowKey, &FlowEvent) -> bool,
    ) -> Result<(), Vec<Answer>> {
        if !self.batches.has(last_seq) {
            return Err(answers);
        }
        let asked = std::mem::take(&mut self.asked);
        let mut again = Vec::new();
        self.batches.settle(last_seq, answers, |wanted, answer| {
            let key = wanted.flow.key();
            let is_over = match answer.map(|answer| answer.outcome) {
                Some(Outcome::Found(event)) => asked.contains(&key) && found(&key, &event),
                Some(Outcome::Refused(_)) => true,
                None => is_answered || !asked.contains(&key),
            };
            if !is_over && wanted.attempts + 1 < ATTEMPTS_MAX {
                again.push(Wanted {
                    attempts: wanted.attempts + 1,
                    ..wanted
                });
            }
        });
        again.into_iter().for_each(|wanted| self.push(wanted));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
