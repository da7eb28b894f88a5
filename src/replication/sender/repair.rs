//! What the sender does about a replica that a marker found different: reconcile, and when that
//! does not help, full passes with holds between (rules D1, D6, D7).

use std::time::{Duration, Instant};

use super::Sender;
use crate::cache::{Local, Secs};
use crate::replication::reconcile::{Reconcile, Report};
use crate::rules::{Rule, holds};
use crate::wire::{Ack, List, Outcome, Sums};

/// Reconciles in a row after which a full pass is tried.
const RECONCILES_MAX: u32 = 3;
/// First wait when that did not help either, and the longest.
const HOLD_MIN: Duration = Duration::from_secs(1);
const HOLD_MAX: Duration = Duration::from_secs(60);

/// Repair of the peer's replica.
#[derive(Debug, Default)]
pub(super) struct Repair {
    reconcile: Option<Reconcile>,
    round: u32,
    /// Begun since the replica was last equal.
    attempts: u32,
    hold: Hold,
    report: Option<Repaired>,
}

/// Wait before the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Hold {
    #[default]
    No,
    Until(Instant),
    Over,
}

/// Something about the repair that an operator should hear about.
#[derive(Clone, Copy, Debug)]
pub(in crate::replication) enum Repaired {
    /// A reconcile has ended.
    Reconciled(Report),
    /// Attempts have not helped; the next one comes after a wait.
    Held {
        /// Attempts in a row.
        attempts: u32,
        /// The wait.
        wait: Duration,
    },
}

impl Repair {
    /// Attempts since the replica was last equal.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A full pass takes the place of a reconcile.
    pub(super) fn on_pass(&mut self) {
        self.reconcile = None;
    }

    /// When there will be something to do without any input.
    pub(super) fn wake_at(&self, round_trip: Duration) -> Option<Instant> {
        let repeat = self
            .reconcile
            .as_ref()
            .and_then(|reconcile| reconcile.wake_at(round_trip));
        match self.hold {
            Hold::Until(hold) => Some(repeat.map_or(hold, |repeat| repeat.min(hold))),
            Hold::No | Hold::Over => repeat,
        }
    }
}

impl Sender {
    /// The peer's judgement of a marker; each is taken once (rules M4, D1, D7).
    pub(in crate::replication) fn on_verdict(
        &mut self,
        ack: &Ack,
        local: &mut Local,
        table_is_whole: bool,
        now: Instant,
    ) {
        let Some(verdict) = ack
            .verdict
            .filter(|verdict| verdict.marker > self.marker.judged)
        else {
            return;
        };
        if verdict.marker >= self.ring.next() {
            return;
        }
        self.marker.judged = verdict.marker;
        match verdict.outcome {
            Outcome::Equal => {
                self.marker.equal = verdict.marker;
                (self.repair.attempts, self.repair.hold) = (0, Hold::No);
                // What was still to be asked has been answered by that.
                self.take_reconcile(now);
            }
            Outcome::Different => {
                self.counters.different += 1;
                let is_stale = verdict.marker < self.marker.fresh;
                let is_running = self.backfill.is_some() || self.repair.reconcile.is_some();
                if !is_stale && !is_running && table_is_whole {
                    self.on_difference(ack.have, local, now);
                }
            }
        }
    }

    /// The table is, or is not, known to be that of the kernel: what is missing in it must not be
    /// taken for something that the peer has too much.
    pub(in crate::replication) fn on_table(&mut self, is_whole: bool) {
        if !is_whole && self.repair.reconcile.take().is_some() {
            self.repair.attempts -= 1;
        }
    }

    /// Time has passed: a hold may be over, or a peer does not answer.
    pub(in crate::replication) fn on_timeout(&mut self, now: Instant) {
        if matches!(self.repair.hold, Hold::Until(hold) if hold <= now) {
            self.repair.hold = Hold::Over;
            self.marker.due = now;
        }
        let round_trip = self.round_trip;
        let reconcile = self.repair.reconcile.as_ref();
        if reconcile.is_some_and(|reconcile| reconcile.is_unanswered(round_trip, now)) {
            self.counters.reconcile.unanswered += 1;
            self.end_reconcile(now);
        }
    }

    /// Sums of the peer's replica.
    pub(in crate::replication) fn on_sums(&mut self, sums: &Sums<'_>, local: &Local, now: Instant) {
        let counters = &mut self.counters.reconcile;
        match &mut self.repair.reconcile {
            Some(reconcile) => reconcile.on_sums(sums, local, counters),
            None => counters.stale_answers += 1,
        }
        self.end_reconcile_if_done(now);
    }

    /// A list of flows of the peer's replica.
    pub(in crate::replication) fn on_list(
        &mut self,
        list: &List<'_>,
        local: &mut Local,
        secs: Secs,
        now: Instant,
    ) {
        let counters = &mut self.counters.reconcile;
        match &mut self.repair.reconcile {
            Some(reconcile) => reconcile.on_list(list, local, self.live_version, secs, counters),
            None => counters.stale_answers += 1,
        }
        self.end_reconcile_if_done(now);
    }

    /// True if a question is to be asked now.
    pub(in crate::replication) fn wants_to_ask(&mut self, local: &Local, now: Instant) -> bool {
        let round_trip = self.round_trip;
        let reconcile = self.repair.reconcile.as_mut();
        reconcile.is_some_and(|reconcile| reconcile.wants_to_ask(local, round_trip, now))
    }

    /// Appends the questions that are due, as many as there is room for.
    pub(in crate::replication) fn ask(
        &mut self,
        local: &Local,
        now: Instant,
        room: usize,
        out: &mut Vec<u8>,
    ) {
        if let Some(reconcile) = &mut self.repair.reconcile {
            let counters = &mut self.counters.reconcile;
            reconcile.ask(local, self.round_trip, now, room, out, counters);
        }
    }

    /// Something that an operator should hear about.
    pub(in crate::replication) fn take_repaired(&mut self) -> Option<Repaired> {
        self.repair.report.take()
    }

    fn on_difference(&mut self, have: u64, local: &mut Local, now: Instant) {
        let repair = &mut self.repair;
        match repair.hold {
            Hold::Until(_) => return,
            Hold::No if repair.attempts > RECONCILES_MAX && holds(Rule::D7Hold) => {
                let doublings = (repair.attempts - RECONCILES_MAX - 1).min(6);
                let wait = HOLD_MAX.min(HOLD_MIN * 2u32.pow(doublings));
                repair.hold = Hold::Until(now + wait);
                repair.report = Some(Repaired::Held {
                    attempts: repair.attempts,
                    wait,
                });
                return;
            }
            Hold::No | Hold::Over => repair.hold = Hold::No,
        }
        repair.attempts += 1;
        // A replica that is empty has nothing to compare, as at the start (rule J2); a table that
        // keeps no tombstones cannot bury.
        let wants_pass = repair.attempts.is_multiple_of(RECONCILES_MAX + 1);
        if wants_pass || have == 0 || !local.can_bury() {
            return self.start_pass(local, now);
        }
        repair.round = repair.round.wrapping_add(1);
        let counters = &mut self.counters.reconcile;
        repair.reconcile = Some(Reconcile::new(repair.round, self.peer, now, counters));
    }

    fn end_reconcile_if_done(&mut self, now: Instant) {
        if self
            .repair
            .reconcile
            .as_ref()
            .is_some_and(Reconcile::is_done)
        {
            self.end_reconcile(now);
        }
    }

    /// The next marker decides (rule D6).
    fn end_reconcile(&mut self, now: Instant) {
        self.take_reconcile(now);
        self.marker.fresh = self.ring.next();
        self.marker.due = now;
    }

    fn take_reconcile(&mut self, now: Instant) {
        if let Some(reconcile) = self.repair.reconcile.take() {
            let report = reconcile.report(&self.counters.reconcile, now);
            self.repair.report = Some(Repaired::Reconciled(report));
        }
    }
}
