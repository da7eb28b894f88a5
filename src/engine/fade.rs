//! After a demotion: the entries that the new active has are shortened, so that they age out here.
//!
//! They stand for flows that live elsewhere now, and their windows go stale. Nothing is deleted (the
//! role may come back within moments, and a commit replaces what is stale anyway), nothing is made
//! to live longer, and what the new active does not have is not touched: it may be all that is left
//! of a flow. The end of such an entry, when it comes, is the end of this node's own copy.

use std::time::{Duration, Instant};

use super::batch::Batches;
use super::commit::Around;
use crate::cache::{Local, Replica, Slot};
use crate::ctnetlink::encode::{self, Ack};
use crate::ctnetlink::request::{Answer, KernelRequest, Outcome};
use crate::flow::{Flow, Status};
use crate::replication::Peer;
use crate::wire;

/// Slots that one step looks at: well under a millisecond.
const SLOTS_PER_STEP: u32 = 4_096;
/// One batch under way, and the next no sooner than this: 200,000 entries take a quarter of a minute
/// and 5 % of a core, and nobody waits for them.
const PACE: Duration = Duration::from_millis(5);
/// How often it is looked whether a new active has proven its replica.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A running fade.
#[derive(Debug)]
pub(super) struct Fade {
    began: Option<Instant>,
    next_at: Option<Instant>,
    slot: u32,
    is_walked: bool,
    batches: Batches<()>,
    /// Entries that were shortened.
    pub(super) shortened: u64,
}

impl Fade {
    pub(super) fn new() -> Self {
        Self {
            began: None,
            next_at: None,
            slot: 0,
            is_walked: false,
            batches: Batches::new(),
            shortened: 0,
        }
    }

    /// True when there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.is_walked && self.batches.is_empty()
    }

    /// When the next step is due; `None` while the kernel works on one.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.batches.is_empty() && !self.is_walked).then(|| self.next_at.unwrap_or(now))
    }

    /// Takes the next step, if it is due.
    pub(super) fn step(
        &mut self,
        around: &Around<'_>,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        let now = around.now;
        if self.due(now).is_none_or(|due| due > now) {
            return None;
        }
        let began = *self.began.get_or_insert(now);
        let living: Vec<&Replica> = around
            .peers
            .iter()
            .filter(|peer| is_proven_active(peer, began, now))
            .filter_map(Peer::replica)
            .collect();
        if living.is_empty() {
            self.next_at = Some(now + LOOK_INTERVAL);
            return None;
        }
        self.next_at = Some(now + PACE);
        let mut batch = self.batches.begin(out, next_seq);
        let end = around
            .local
            .slots()
            .min(self.slot.saturating_add(SLOTS_PER_STEP));
        while batch.room() > 0 && self.slot < end {
            let slot = Slot(self.slot);
            self.slot += 1;
            if let Some(flow) = fading(around, slot, &living) {
                batch.push((), |out, seq| {
                    encode::update_timeout(out, seq, Ack::None, &flow, around.grace_secs);
                });
            }
        }
        self.is_walked = self.slot >= around.local.slots();
        self.batches.send(batch)
    }

    /// The kernel has answered. What it refuses (the entry has ended meanwhile) needs nothing more.
    pub(super) fn on_done(&mut self, last_seq: u32, answers: Vec<Answer>) {
        let shortened = &mut self.shortened;
        self.batches.settle(last_seq, answers, |(), answer| {
            let is_refused = matches!(
                answer.map(|answer| answer.outcome),
                Some(Outcome::Refused(_))
            );
            *shortened += u64::from(!is_refused);
        });
    }

    /// True if it waits for this batch.
    pub(super) fn owns(&self, last_seq: u32) -> bool {
        self.batches.has(last_seq)
    }
}

/// A peer that is active, and whose replica was proven equal since.
fn is_proven_active(peer: &Peer, since: Instant, now: Instant) -> bool {
    const ACTIVE: u8 = 2;
    peer.told().is_some_and(|told| told.role == ACTIVE)
        && !peer.is_silent(now)
        && peer.verdict() == Some(wire::Outcome::Equal)
        && peer.verified_at().is_some_and(|at| at >= since)
}

/// The flow in a slot, if its entry is to be shortened.
fn fading(around: &Around<'_>, slot: Slot, living: &[&Replica]) -> Option<Flow> {
    let local: &Local = around.local;
    let flow = *local.flow(slot)?;
    let is_old = local.era(slot) != around.era;
    // EPERM, and such an entry ends on its clock anyway.
    let is_fixed = flow.status.has(Status::FIXED_TIMEOUT);
    // The kernel tells of no refreshed timeout: what is really left is this or more.
    let is_long = local.timeout_left(slot, around.secs) > around.grace_secs;
    let lives_there = |replica: &&Replica| {
        let found = replica.find(&flow.key());
        let found = found.and_then(|slot| replica.flow(slot));
        found.is_some_and(|(there, _)| there.reply == flow.reply && there.zone == flow.zone)
    };
    (is_old && !is_fixed && is_long && living.iter().any(lives_there)).then_some(flow)
}
