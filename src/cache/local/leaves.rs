//! What reconcile asks of the table: the entries of a leaf of the digest.

use super::{Local, Slot};

impl Local {
    /// Version of what stands in a slot; the maximum if it has nothing to send.
    #[must_use]
    pub fn version(&self, slot: Slot) -> u64 {
        self.at(slot).version
    }

    /// Calls `visit` with the slot, key hash and value hash of every entry of a digest leaf that
    /// replicates, in no order.
    pub fn visit_leaf(&self, leaf: u16, mut visit: impl FnMut(Slot, u64, u64)) {
        self.index.visit_leaf(&self.meta, leaf, |slot| {
            let hash = self.key_hash(slot);
            if hash >> 48 == u64::from(leaf) && self.meta[slot as usize].kind.replicates() {
                visit(Slot(slot), hash, self.value_hash(slot, hash));
            }
        });
    }
}
