//! The receiving end of one stream: datagrams of one session into the replica of that peer.
//!
//! Records are applied on arrival, in any order; the stamp decides. docs/protocol.md section 6
//! states the rules (R, T4, M2 to M4).

use std::mem;

use super::ahead::Ahead;
use super::window::{Arrival, Window};
use crate::cache::replica::Stored;
use crate::cache::{Replica, Secs, Slot};
use crate::rules::{Rule, holds};
use crate::wire::{Ack, Header, Marker, Outcome, Record, Records, Verdict};

mod dead;

use dead::DeadMarks;

/// State of one session's receiving end.
#[derive(Debug)]
pub(super) struct Receiver {
    window: Window,
    /// Highest stamp of earlier sessions.
    base: u64,
    /// The data packet number that comes next, as pings tell.
    sent: u64,
    /// Tombstones that an older datagram could still undo.
    dead: DeadMarks,
    /// Room for the records of the datagram at hand.
    ahead: Ahead,
    verdict: Option<Verdict>,
    swept: Option<u64>,
    sweep: Option<Sweep>,
    clock: u64,
}

/// A sweep that is not over, and the marker that waits for it (rule M3).
#[derive(Clone, Copy, Debug)]
struct Sweep {
    since: u64,
    from: Slot,
    number: u64,
    marker: Marker,
}

/// Slots that a step of a sweep looks at: at most 2 ms, if all of them go.
const SWEEP_SLOTS: u32 = 4_096;

/// What a datagram did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Received {
    /// Nothing: it was here before, or nobody waits for it.
    pub(super) duplicate: bool,
    /// Nothing: its number is beyond the window.
    pub(super) beyond: bool,
    /// It left a new gap below it.
    pub(super) gap: bool,
    /// A marker in it was judged.
    pub(super) judged: Option<Outcome>,
    /// Records taken.
    pub(super) records: u32,
    /// Records that could not be read.
    pub(super) unreadable: u32,
    /// Flows that did not fit in the replica.
    pub(super) refused: u32,
}

impl Receiver {
    /// A new session's receiving end. `high` is the highest stamp in use: what is in the replica
    /// loses to everything new (rule J3).
    pub(super) fn new(high: u64) -> Self {
        Self {
            window: Window::new(),
            base: if holds(Rule::J3) { high } else { 0 },
            sent: 1,
            dead: DeadMarks::default(),
            ahead: Ahead::new(),
            verdict: None,
            swept: None,
            sweep: None,
            clock: 0,
        }
    }

    /// Highest stamp that may be in use.
    pub(super) fn high(&self) -> u64 {
        self.base + self.window.top()
    }

    /// A data datagram of this session.
    pub(super) fn on_data(
        &mut self,
        header: &Header,
        body: &[u8],
        replica: &mut Replica,
        now: Secs,
    ) -> Received {
        let mut received = Received::default();
        if holds(Rule::R1) {
            self.window.raise(header.floor);
        }
        let arrival = self.window.judge(header.number);
        match arrival {
            Arrival::Old if holds(Rule::R2) => {
                return Received {
                    duplicate: true,
                    ..received
                };
            }
            Arrival::Beyond => {
                return Received {
                    beyond: true,
                    ..received
                };
            }
            Arrival::New | Arrival::Old => {}
        }
        let stamp = self.base + header.number;
        let in_order = header.number == self.window.next();
        received.gap = header.number > self.window.top() + 1;
        let mut marker = None;
        let mut records = Records::new(body);
        let mut ahead = mem::take(&mut self.ahead);
        while ahead.fill(&mut records, replica.hash_key(), &mut received.unreadable) > 0 {
            replica.look_ahead(ahead.hashes());
            for (&hash, record) in ahead.records() {
                match record {
                    Record::Flow {
                        flow,
                        rare,
                        age_secs,
                    } => {
                        let seen = now.saturating_sub(*age_secs);
                        self.on_entry(hash, stamp, &mut received, || {
                            replica.store(hash, flow, rare, stamp, seen)
                        });
                    }
                    Record::Expectation {
                        expectation,
                        age_secs,
                    } => {
                        let seen = now.saturating_sub(*age_secs);
                        self.on_entry(hash, stamp, &mut received, || {
                            replica.store_expectation(hash, expectation, stamp, seen)
                        });
                    }
                    Record::Tombstone { .. } => {
                        replica.remove(hash, stamp);
                        if !in_order && holds(Rule::T4Dead) {
                            self.dead.put(hash, stamp);
                        }
                        received.records += 1;
                    }
                    Record::Marker(told) => marker = Some(*told),
                    Record::Unknown(_) => received.unreadable += 1,
                }
            }
        }
        self.ahead = ahead;
        if arrival == Arrival::New {
            self.window.take(header.number);
        }
        // A tombstone is remembered until nothing numbered as it or below can still be accepted.
        self.dead.settle(self.base + self.window.next());
        if let Some(marker) = marker {
            self.clock = self.clock.max(marker.clock_micros);
            received.judged = self.judge(header.number, &marker, replica);
        }
        received
    }

    /// An entry was told; `store` puts it into the replica, unless its end came before it.
    fn on_entry(
        &mut self,
        hash: u64,
        stamp: u64,
        received: &mut Received,
        store: impl FnOnce() -> Stored,
    ) {
        if self.dead.has_ended_after(hash, stamp) {
            return;
        }
        match store() {
            Stored::Yes => {
                self.dead.remove(hash);
            }
            Stored::Stale => {}
            Stored::Full => received.refused += 1,
        }
        received.records += 1;
    }

    /// A ping said which number comes next.
    pub(super) fn on_ping(&mut self, next: u64, clock_micros: u64) {
        self.sent = self.sent.max(next);
        self.clock = self.clock.max(clock_micros);
    }

    /// What was received, in answer to the ping with a clock, or on its own.
    pub(super) fn ack(&self, replica: &Replica, answered_clock: Option<u64>) -> Ack {
        let next = self.window.next();
        Ack {
            next,
            seen: self.sent.max(self.window.top() + 1).max(next),
            bitmap: self.window.bitmap(),
            verdict: self.verdict,
            have: replica.digest().flows(),
            echo_clock_micros: answered_clock.unwrap_or(self.clock),
        }
    }

    /// Judges a marker that is the newest datagram received with nothing below it missing; then
    /// the replica must be the sender's table (rules M2 to M4). Not before what it says is gone was
    /// swept, which goes on in steps: what comes meanwhile has higher stamps and stays.
    fn judge(&mut self, number: u64, marker: &Marker, replica: &mut Replica) -> Option<Outcome> {
        let is_gapless = self.window.next() == number + 1 || !holds(Rule::M2Next);
        let is_newest = self.window.top() == number || !holds(Rule::M2Top);
        if !is_gapless || !is_newest {
            return None;
        }
        if let Some(since) = marker.since.filter(|&since| Some(since) != self.swept) {
            let begun = self.sweep.filter(|sweep| sweep.since == since);
            let sweep = Sweep {
                since,
                from: begun.map_or(Slot(0), |sweep| sweep.from),
                number,
                marker: *marker,
            };
            if !self.sweep_on(sweep, replica) {
                return None;
            }
        }
        let digest = replica.digest();
        let outcome = if (digest.flows(), digest.root()) == (marker.flows, marker.root) {
            Outcome::Equal
        } else {
            Outcome::Different
        };
        self.verdict = Some(Verdict {
            marker: number,
            outcome,
        });
        Some(outcome)
    }

    /// True while a sweep is not over.
    pub(super) fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Goes on with the sweep; judges the marker that waited for its end, if that is still the newest.
    pub(super) fn go_on(&mut self, replica: &mut Replica) -> Option<Outcome> {
        let sweep = self.sweep?;
        if !self.sweep_on(sweep, replica) {
            return None;
        }
        self.judge(sweep.number, &sweep.marker, replica)
    }

    /// A step of a sweep; true if that was the last.
    fn sweep_on(&mut self, sweep: Sweep, replica: &mut Replica) -> bool {
        let next = if holds(Rule::M3) {
            replica
                .sweep(self.base + sweep.since, sweep.from, SWEEP_SLOTS)
                .1
        } else {
            None
        };
        self.sweep = next.map(|from| Sweep { from, ..sweep });
        if self.sweep.is_none() {
            self.swept = Some(sweep.since);
        }
        self.sweep.is_none()
    }
}

#[cfg(test)]
mod tests;
