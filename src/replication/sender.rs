//! The sending end of one stream: the local cache to one peer, newest values only.
//!
//! docs/protocol.md sections 4, 5 and 7 state the rules (E, A, T1, M1, J2, F1, W1, L1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::reconcile::ReconcileCounters;
use super::ring::{Fate, Ring};
use crate::cache::local::Cursor;
use crate::cache::{Local, Slot};
use crate::histogram::Histogram;
use crate::rules::{Rule, holds};
use crate::wire::Ack;

mod fill;
mod marks;
mod repair;

pub(super) use fill::Circumstances;
use marks::Marks;
use repair::Repair;
pub(super) use repair::Repaired;

/// A marker is due this long after the last if anything was sent since.
const MARKER_AFTER_CHANGE: Duration = Duration::from_millis(100);
/// Part of the window that is in use at least, however much is lost.
const IN_USE_MIN: u32 = 16;
/// A datagram older than a quarter of the round trip may count as lost, but none younger than this.
const REORDER_TIME_MIN: Duration = Duration::from_millis(1);

/// State of one session's sending end.
#[derive(Debug)]
pub(super) struct Sender {
    /// The peer's bit in the masks of tombstones.
    peer: u8,
    ring: Ring,
    repairs: VecDeque<(Slot, u64)>,
    live: Cursor,
    /// Version up to which the live cursor has read.
    live_version: u64,
    /// When the live cursor left the end.
    behind_since: Option<Instant>,
    backfill: Option<Backfill>,
    since: Option<u64>,
    marker: MarkerState,
    /// The peer's window.
    window: u32,
    /// The part of it in use (rule W1).
    in_use: u32,
    halved_at: Option<Instant>,
    round_trip: Duration,
    turn: u8,
    repair: Repair,
    scratch: Vec<Slot>,
    marks: Marks,
    /// What it has done so far.
    pub(super) counters: SenderCounters,
}

#[derive(Debug)]
struct Backfill {
    cursor: Cursor,
    stop: u64,
}

#[derive(Debug)]
struct MarkerState {
    due: Instant,
    changed: bool,
    sent_at: Instant,
    /// Highest number whose verdict was taken.
    judged: u64,
    /// Highest number whose verdict was "equal".
    equal: u64,
    /// Verdicts on markers below this say nothing about the last repair.
    fresh: u64,
}

/// What a sender has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SenderCounters {
    /// Data datagrams.
    pub datagrams: u64,
    /// Bytes of data datagrams.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Datagrams that were lost.
    pub lost: u64,
    /// Records sent again.
    pub repairs: u64,
    /// Full passes over the table.
    pub passes: u64,
    /// Markers that found the peer's replica different.
    pub different: u64,
    /// Reconciles.
    pub reconcile: ReconcileCounters,
}

impl Sender {
    /// Starts a stream (rule J2). `have`: flows that the peer says it holds of ours; with none it
    /// gets everything, with some the first marker decides.
    pub(super) fn new(local: &mut Local, peer: u8, have: u64, window: u32, now: Instant) -> Self {
        let mut sender = Self {
            peer,
            ring: Ring::new(),
            repairs: VecDeque::new(),
            live: local.open_at_end(),
            live_version: local.tail(),
            behind_since: None,
            backfill: None,
            since: None,
            marker: MarkerState {
                due: now,
                changed: false,
                sent_at: now,
                judged: 0,
                equal: 0,
                fresh: 0,
            },
            window,
            in_use: window,
            halved_at: None,
            round_trip: Duration::from_millis(4),
            turn: 0,
            repair: Repair::default(),
            scratch: Vec::new(),
            marks: Marks::new(),
            counters: SenderCounters::default(),
        };
        if have == 0 {
            sender.start_pass(local, now);
        }
        sender
    }

    /// Ends the stream: nobody waits for tombstones any more (rule T3).
    pub(super) fn close(self, local: &mut Local) {
        local.close(self.live);
        if let Some(backfill) = self.backfill {
            local.close(backfill.cursor);
        }
        if holds(Rule::T3) {
            local.nobody_listens(self.peer);
        }
    }

    /// Sends everything again; what the peer holds beyond that it sweeps (rule F1).
    pub(super) fn start_pass(&mut self, local: &mut Local, now: Instant) {
        if let Some(backfill) = self.backfill.take() {
            local.close(backfill.cursor);
        }
        self.backfill = Some(Backfill {
            cursor: local.open_at_start(),
            stop: self.live_version,
        });
        self.repair.on_pass();
        self.since = Some(self.ring.next());
        self.marker.fresh = self.ring.next();
        self.marker.due = now;
        self.counters.passes += 1;
    }

    /// The next data packet number.
    pub(super) fn next(&self) -> u64 {
        self.ring.next()
    }

    /// True while the first pass, or a later full one, runs.
    pub(super) fn is_passing(&self) -> bool {
        self.backfill.is_some()
    }

    /// True while anything waits for an ack or for being repaired (rule A6).
    pub(super) fn is_open(&self) -> bool {
        self.ring.open() > 0 || !self.repairs.is_empty()
    }

    /// True if a marker since the last full pass has proven the replica equal.
    pub(super) fn has_proven_pass(&self) -> bool {
        self.backfill.is_none() && self.marker.equal >= self.marker.fresh.max(1)
    }

    /// Attempts to repair the replica since it was last equal.
    pub(super) fn attempts(&self) -> u32 {
        self.repair.attempts()
    }

    /// Most changes that the peer has not acknowledged (rule L1).
    pub(super) fn lag_records(&self, local: &Local) -> u64 {
        let behind = local.tail().saturating_sub(self.live_version);
        (self.ring.slots() + self.repairs.len()) as u64 + behind
    }

    /// Age of the oldest change that the peer has not acknowledged (rule L1).
    pub(super) fn lag(&self, now: Instant) -> Duration {
        let oldest = [self.ring.oldest(), self.behind_since]
            .into_iter()
            .flatten()
            .min();
        oldest.map_or(Duration::ZERO, |oldest| {
            now.saturating_duration_since(oldest)
        })
    }

    /// How long changes took from the engine until the peer acknowledged them.
    pub(super) fn ack_lag(&self) -> &Histogram {
        self.marks.took()
    }

    /// When there will be something to do without any input.
    pub(super) fn wake_at(&self) -> impl Iterator<Item = Instant> {
        [
            Some(self.marker_due()),
            self.repair.wake_at(self.round_trip),
        ]
        .into_iter()
        .flatten()
    }

    /// Notes that the table has changed.
    pub(super) fn on_change(&mut self, now: Instant) {
        self.behind_since.get_or_insert(now);
        self.marks.on_change(now);
    }

    /// What the peer has (rules A3, A4, T1). False: it cannot have that.
    pub(super) fn on_ack(&mut self, ack: &Ack, local: &mut Local, now: Instant) -> bool {
        if ack.next > self.ring.next() || ack.seen > self.ring.next() {
            return false;
        }
        let reorder_time = REORDER_TIME_MIN.max(self.round_trip / 4);
        let sent_before = now.checked_sub(reorder_time).unwrap_or(now);
        let (peer, repairs) = (self.peer, &mut self.repairs);
        let (mut acked, mut lost, mut lost_marker) = (0u32, 0u32, false);
        self.ring
            .settle(ack, sent_before, |fate, carried, slots| match fate {
                Fate::Acked => {
                    acked += 1;
                    if carried.tombstones {
                        slots.for_each(|slot| local.heard(slot, carried.tail, peer));
                    }
                }
                Fate::Lost => {
                    lost += 1;
                    lost_marker |= carried.marker;
                    if holds(Rule::A4Repair) {
                        repairs.extend(slots.map(|slot| (slot, carried.tail)));
                    }
                }
            });
        self.in_use = (self.in_use + acked).min(self.window);
        if lost > 0 {
            self.counters.lost += u64::from(lost);
            if self.halved_at.is_none_or(|at| now >= at + self.round_trip) {
                self.in_use = (self.in_use / 2).max(IN_USE_MIN.min(self.window));
                self.halved_at = Some(now);
            }
        }
        if lost > 0 {
            self.marks.on_loss();
        }
        self.marks.on_floor(self.ring.floor(), now);
        if lost_marker {
            self.marker.due = now;
        }
        true
    }

    /// A round trip was measured.
    pub(super) fn on_round_trip(&mut self, sample: Duration) {
        self.round_trip = (self.round_trip * 7 + sample) / 8;
    }

    fn marker_due(&self) -> Instant {
        if self.marker.changed {
            self.marker
                .due
                .min(self.marker.sent_at + MARKER_AFTER_CHANGE)
        } else {
            self.marker.due
        }
    }
}

#[cfg(test)]
mod tests;
