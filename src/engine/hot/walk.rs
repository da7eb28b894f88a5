//! The keeper's ways through whole tables: the walk, which finds what no change has told, and the
//! re-arming of copies. Both go on a bounded number of slots at a time.

use std::time::{Duration, Instant};

use super::sources::timeout_min;
use super::{KeepAround, Keeper, Standing};
use crate::cache::local::Origin;
use crate::cache::{Local, Secs, Slot};
use crate::flow::FlowKey;
use crate::replication::PEERS_MAX;

/// Copies that have half of their time behind them are looked for this often. The shortest get 300
/// seconds.
const REARM_INTERVAL: Duration = Duration::from_secs(10);

/// A walk: the replicas of the sources, one after the other, then the local cache.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    /// The peer by its place; behind the last the local cache.
    table: usize,
    slot: u32,
}

impl Keeper {
    /// The key at which a walk goes on; begins one that is due.
    pub(super) fn next_of_walk(
        &mut self,
        around: &KeepAround<'_>,
        budget: &mut u32,
    ) -> Option<FlowKey> {
        if self.walk.is_none() && self.walk_due.is_some_and(|due| due <= around.now) {
            self.walk_due = None;
            self.walk = Some(Walk::default());
            self.refused.clear();
        }
        let walk = self.walk.as_mut()?;
        while walk.table < PEERS_MAX {
            let replica = around.peers.get(walk.table).and_then(|peer| peer.replica());
            let is_source = self.sources.standing(walk.table) != Standing::None;
            let Some(replica) = replica.filter(|_| is_source) else {
                (walk.table, walk.slot) = (walk.table + 1, 0);
                continue;
            };
            while walk.slot < replica.slots() {
                if *budget == 0 {
                    return None;
                }
                *budget -= 1;
                let slot = Slot(walk.slot);
                walk.slot += 1;
                if let Some((flow, _)) = replica.flow(slot) {
                    return Some(flow.key());
                }
            }
            (walk.table, walk.slot) = (walk.table + 1, 0);
        }
        let local = &around.mirror.local;
        while walk.slot < local.slots() {
            if *budget == 0 {
                return None;
            }
            *budget -= 1;
            let slot = Slot(walk.slot);
            walk.slot += 1;
            if let Some(flow) = local.flow(slot)
                && (local.origin(slot) != Origin::Own || !local.is_fresh(slot, around.mirror.era()))
            {
                return Some(flow.key());
            }
        }
        self.walk = None;
        self.counters.walks += 1;
        let is_last = self.walk_due.is_none_or(|due| due > around.now);
        self.has_kept |= is_last && !self.sources.is_empty() && self.sources.are_proven();
        if self.full_until.is_some_and(|until| until <= around.now) {
            self.full_until = None;
        }
        if self.claims_until.is_some() && self.walk_due.is_none() {
            // A peer may fall silent yet.
            self.walk_due = self
                .claims_until
                .map(|until| until.min(around.now + Duration::from_secs(1)));
        }
        None
    }
}

/// The way of re-arming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rearm {
    due: Instant,
    slot: u32,
}

impl Rearm {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now, slot: 0 }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// The next copy that has half of its time behind it.
    pub(super) fn next(&mut self, around: &KeepAround<'_>, budget: &mut u32) -> Option<FlowKey> {
        let local = &around.mirror.local;
        if !self.is_due(around.now) {
            return None;
        }
        while self.slot < local.slots() {
            if *budget == 0 {
                return None;
            }
            *budget -= 1;
            let slot = Slot(self.slot);
            self.slot += 1;
            if is_half_over(local, slot, around.secs) {
                return local.flow(slot).map(crate::flow::Flow::key);
            }
        }
        self.slot = 0;
        self.due = around.now + REARM_INTERVAL;
        None
    }
}

/// A listing tells what is left, and not what was written: half of the least that is written
/// decides. Who lives longer is told again by its owner before half of its time is over.
fn is_half_over(local: &Local, slot: Slot, secs: Secs) -> bool {
    local.flow(slot).is_some_and(|flow| {
        local.origin(slot).is_copy() && local.timeout_left(slot, secs) < timeout_min(flow) / 2
    })
}
