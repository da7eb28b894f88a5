//! The sweep: what a listing of the kernel's table has not named is gone.

use super::{Circumstances, Local};
use crate::cache::Slot;
use crate::flow::Flow;

impl Local {
    /// Ends the entries in some slots that the current listing and the events since it began have
    /// not named, but for those that `keeps` knows better; returns how many, and where to go on until
    /// there is nothing left to look at.
    pub fn sweep(
        &mut self,
        from: Slot,
        slots: u32,
        at: Circumstances,
        keeps: impl Fn(&Flow) -> bool,
    ) -> (u32, Option<Slot>) {
        let end = self.slots().min(from.0.saturating_add(slots));
        let mut swept = 0;
        for slot in from.0..end {
            let Some(meta) = self.meta.get(slot as usize) else {
                continue;
            };
            let is_unnamed = meta.kind.is_tracked() && meta.round != at.round;
            let is_kept = || !meta.kind.is_expectation() && keeps(&self.flows[slot as usize]);
            if is_unnamed && !is_kept() {
                let hash = self.key_hash(slot);
                self.end(Slot(slot), hash, at);
                swept += 1;
            }
        }
        (swept, (end < self.slots()).then_some(Slot(end)))
    }
}
