//! How many flows of the replicas the kernel has already: they need no room.
//!
//! Only asked when the sums say that there is no room; then the replicas are walked in steps, again
//! and again, so that a node with entries of an earlier term is not called full for their sake.

use std::time::{Duration, Instant};

use crate::cache::{Local, Slot};
use crate::replication::Peer;

/// Slots that one step looks at, a lookup each: well under a millisecond.
const SLOTS_PER_STEP: u32 = 4_096;
/// From the end of a walk to the next.
const INTERVAL: Duration = Duration::from_secs(10);

/// A walk, and what the last one found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overlap {
    next_at: Option<Instant>,
    peer: usize,
    slot: u32,
    found: u64,
    known: Option<u64>,
}

impl Overlap {
    /// What the last walk found; `None` before the first one is over.
    pub(super) fn flows(&self) -> Option<u64> {
        self.known
    }

    /// When the next step is due.
    pub(super) fn due(&self, otherwise: Instant) -> Instant {
        self.next_at.unwrap_or(otherwise)
    }

    /// Takes a step, if it is due.
    pub(super) fn step(&mut self, now: Instant, local: &Local, peers: &[Peer]) {
        if self.next_at.is_some_and(|at| at > now) {
            return;
        }
        self.next_at = None;
        let Some(peer) = peers.get(self.peer) else {
            *self = Self {
                next_at: Some(now + INTERVAL),
                known: Some(self.found),
                ..Self::default()
            };
            return;
        };
        if let Some(replica) = peer.replica() {
            let end = replica
                .slots()
                .min(self.slot.saturating_add(SLOTS_PER_STEP));
            for slot in (self.slot..end).map(Slot) {
                let is_here = |flow| local.find(flow).is_some();
                let flow = replica.flow(slot).map(|(flow, _)| flow.key());
                self.found += u64::from(flow.as_ref().is_some_and(is_here));
            }
            self.slot = end;
            if end < replica.slots() {
                return;
            }
        }
        self.peer += 1;
        self.slot = 0;
    }
}
