//! A walk over a part of one replica: which of its flows are due in this pass, and what is to be done
//! about each.

use super::super::batch::Writing;
use super::super::expect::{self, Expect, Look};
use super::super::fate::{Fate, Judge, silent_secs};
use super::super::needs::Needs;
use super::super::restore::{Message, Restore};
use super::super::status::{CommitStatus, ExpectationsStatus};
use super::{Around, Pass};
use crate::cache::{Replica, Slot};
use crate::wire::Name;

/// Slots of a replica that one step looks at: well under a millisecond.
pub(super) const SLOTS_PER_STEP: u32 = 8_192;

/// A walk over a part of one replica.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) peer: Name,
    pub(super) pass: Option<Pass>,
    /// Only flows with a higher stamp than this: what came in while the commit ran.
    pub(super) above: u64,
    pub(super) slot: u32,
}

/// How far a walk has got.
pub(super) enum Step {
    /// The walk has seen everything.
    Over,
    /// The batch is full, or enough slots were looked at.
    Enough,
}

/// What a walk counts.
pub(super) struct Counting<'a> {
    pub(super) status: &'a mut CommitStatus,
    pub(super) needs: &'a mut Needs,
    /// Flows that were left out for want of room.
    pub(super) no_room: u64,
}

impl Walk {
    /// It has not begun, and what it restores needs other flows to be there.
    pub(super) fn needs_masters(&self) -> bool {
        matches!(self.pass, Some(Pass::Children | Pass::Expectations)) && self.slot == 0
    }

    /// Goes on; writes what is to be done into the batch.
    pub(super) fn step(
        &mut self,
        around: &mut Around<'_>,
        before: &[&Replica],
        slots: &mut u32,
        batch: &mut Writing<'_, Message>,
        count: &mut Counting<'_>,
    ) -> Step {
        let Some(peer) = around.peers.iter().find(|peer| peer.name() == self.peer) else {
            return Step::Over;
        };
        let Some(replica) = peer.replica() else {
            return Step::Over;
        };
        let judge = Judge {
            replica,
            before,
            silent_secs: silent_secs(peer, around.now),
            era: around.era,
            secs: around.secs,
            grace_secs: around.grace_secs,
        };
        while self.slot < replica.slots() {
            if *slots == 0 || batch.room() < 2 {
                return Step::Enough;
            }
            *slots -= 1;
            let slot = Slot(self.slot);
            self.slot += 1;
            if self.pass == Some(Pass::Expectations) {
                let status = &mut count.status.expectations;
                self.expect(around, &judge, slot, batch, status);
                continue;
            }
            let Some((flow, rare)) = replica.flow(slot) else {
                continue;
            };
            if replica.stamp(slot) <= self.above {
                continue;
            }
            let pass = Pass::of(flow, rare);
            if self.pass.is_some_and(|due| due != pass) {
                continue;
            }
            if self.pass.is_none() {
                count.status.total += 1;
            }
            let (fate, left) = judge.fate(around.local, slot, flow);
            match fate {
                Fate::Covered | Fate::Right => count.status.already += 1,
                Fate::Expired => count.status.expired += 1,
                Fate::Missing if !around.room.take() => count.no_room += 1,
                Fate::Missing => {
                    Restore::new(flow, rare, left, around.grace_secs)
                        .taking_room()
                        .write(batch);
                }
                Fate::Stale(slot, held) | Fate::Different(slot, held) => {
                    // Of this era before the event says so: another walk must not do it again.
                    around.local.set_era(slot, around.era);
                    Restore::new(flow, rare, left, around.grace_secs)
                        .replacing(&held)
                        .write(batch);
                }
            }
            if !matches!(fate, Fate::Covered | Fate::Expired) {
                // Which passes know without looking again.
                let is_translated = match pass {
                    Pass::Translated => true,
                    Pass::Plain => false,
                    Pass::Unassured | Pass::Children | Pass::Expectations => flow.is_nat(),
                };
                count.needs.count(flow, rare, is_translated);
            }
        }
        Step::Over
    }
    /// An expectation of the replica.
    fn expect(
        &self,
        around: &Around<'_>,
        judge: &Judge<'_>,
        slot: Slot,
        batch: &mut Writing<'_, Message>,
        status: &mut ExpectationsStatus,
    ) {
        let replica = judge.replica;
        let Some(expectation) = replica.expectation(slot) else {
            return;
        };
        if replica.stamp(slot) <= self.above {
            return;
        }
        if self.above > 0 {
            status.total += 1;
        }
        // Who has more authority over the master has said what it expects.
        let master = expect::master_key(expectation);
        let mut before = judge.before.iter();
        if before.any(|replica| replica.find(&master).is_some()) {
            status.superseded += 1;
            return;
        }
        let left = replica.timeout_left(slot, around.secs);
        if left == 0 && judge.silent_secs > expectation.timeout_secs {
            status.expired += 1;
            return;
        }
        match expect::look(around.local, around.era, replica, expectation) {
            Look::Already => status.already += 1,
            Look::Superseded => status.superseded += 1,
            Look::Missing => Expect::new(expectation, left, around.grace_secs).write(batch),
        }
    }
}
