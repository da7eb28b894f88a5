//! Deleting the flows of the local cache from the kernel: each by its tuple, nothing that is not
//! in the cache.

use super::batch::Batches;
use crate::cache::{Local, Slot};
use crate::ctnetlink::encode::{self, Ack};
use crate::ctnetlink::request::{Answer, KernelRequest, Outcome};

/// Slots that one step looks at: well under a millisecond.
const SLOTS_PER_STEP: u32 = 8_192;

/// A running flush.
#[derive(Debug)]
pub(super) struct Flush {
    slot: u32,
    is_walked: bool,
    batches: Batches<()>,
    pub(super) deleted: u64,
    pub(super) failed: u64,
}

impl Flush {
    pub(super) fn new() -> Self {
        Self {
            slot: 0,
            is_walked: false,
            batches: Batches::new(),
            deleted: 0,
            failed: 0,
        }
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.batches.has_room() && !self.is_walked
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_walked && self.batches.is_empty()
    }

    /// Writes the next batch into `out`.
    pub(super) fn next_batch(
        &mut self,
        local: &Local,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        if !self.batches.has_room() {
            return None;
        }
        let mut batch = self.batches.begin(out, next_seq);
        let end = local.slots().min(self.slot.saturating_add(SLOTS_PER_STEP));
        while batch.room() > 0 && self.slot < end {
            if let Some(flow) = local.flow(Slot(self.slot)) {
                batch.push((), |out, seq| {
                    encode::delete(out, seq, Ack::None, flow, None)
                });
            }
            self.slot += 1;
        }
        self.is_walked = self.slot >= local.slots();
        self.batches.send(batch)
    }

    /// The kernel has done a batch.
    pub(super) fn on_done(&mut self, last_seq: u32, is_answered: bool, answers: Vec<Answer>) {
        let Self {
            batches,
            deleted,
            failed,
            ..
        } = self;
        batches.settle(last_seq, answers, |(), answer| {
            match answer.map(|answer| answer.outcome) {
                None if is_answered => *deleted += 1,
                // Somebody else was faster.
                Some(Outcome::Refused(libc::ENOENT)) => *deleted += 1,
                None | Some(Outcome::Refused(_) | Outcome::Found(_)) => *failed += 1,
            }
        });
    }
}
