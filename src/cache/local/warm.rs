//! Bringing what a batch is about to need into the processor's caches.

use super::Local;
use crate::flow::FlowEvent;

/// Events that are looked ahead at: enough for the memory to be busy, few enough to be still there when
/// their turn comes.
pub(crate) const AHEAD: usize = 16;

impl Local {
    /// Reads where the flows of at most [`AHEAD`] events stand.
    ///
    /// In a large table each of the three reads of a lookup (index, links, flow) waits for memory, and
    /// they wait for each other, and so do those of the
    /// neighbours in the list. Here those of different events wait together.
    pub fn warm(&self, events: &[FlowEvent]) {
        let mut hashes = [0; AHEAD];
        for (hash, event) in hashes.iter_mut().zip(events) {
            *hash = self.key.of_key(&event.flow.key());
        }
        let mut slots = [0; AHEAD];
        for (slot, hash) in slots.iter_mut().zip(hashes) {
            *slot = self.index.first(hash);
        }
        let mut read = 0;
        let mut beside = [[0; 3]; AHEAD];
        for (beside, slot) in beside.iter_mut().zip(slots) {
            if let (Some(meta), Some(flow)) =
                (self.meta.get(slot as usize), self.flows.get(slot as usize))
            {
                *beside = [meta.chain, meta.prev, meta.next];
                read ^= flow.mark ^ u32::from(flow.orig.src_id);
            }
        }
        for slot in beside.into_iter().flatten() {
            read ^= self.meta.get(slot as usize).map_or(0, |meta| meta.chain);
        }
        for hash in hashes {
            read ^= self.digest.leaves()[(hash >> 48) as usize] as u32;
        }
        std::hint::black_box(read);
    }
}
