//! What concerns the whole of a replica: the sweep, another key, forgetting.

use super::{Replica, Slot};
use crate::cache::HashKey;

impl Replica {
    /// Removes every entry with a lower stamp (rule M3) from some slots; returns how many, and where
    /// to go on until there is nothing left to look at.
    pub fn sweep(&mut self, stamp: u64, from: Slot, slots: u32) -> (u32, Option<Slot>) {
        let end = self.slots().min(from.0.saturating_add(slots));
        let mut swept = 0;
        for slot in from.0..end {
            if (1..stamp).contains(&self.stamp(Slot(slot))) {
                let hash = self.key_hash(slot);
                self.index.remove(&mut self.meta, hash, slot);
                self.release(slot, hash);
                swept += 1;
            }
        }
        (swept, (end < self.slots()).then_some(Slot(end)))
    }

    /// Hashes the table anew with another key; does nothing if it is the same.
    ///
    /// Walks the whole table at once, for longer than any other step of the engine, when a peer comes back with
    /// another key: only where the links are not sealed, for the key is made from the cluster's.
    pub fn rehash(&mut self, key: HashKey) {
        if key == self.key {
            return;
        }
        self.key = key;
        self.digest.clear();
        self.index.clear();
        for slot in 0..self.slots() {
            if self.stamp(Slot(slot)) == 0 {
                continue;
            }
            let hash = self.key_hash(slot);
            self.digest.add(hash, self.value_hash(slot, hash));
            self.index.insert(&mut self.meta, hash, slot);
        }
    }

    /// True while there is memory to be freed of what was forgotten.
    #[must_use]
    pub fn has_doomed(&self) -> bool {
        self.meta.has_doomed()
    }

    /// Frees some of it: that of a million flows is 150 MB.
    pub fn free_doomed(&mut self) {
        self.flows.free_doomed();
        self.meta.free_doomed();
    }

    /// Forgets every entry (rule R6).
    pub fn clear(&mut self) {
        self.slots.clear(&mut self.flows, &mut self.meta);
        self.rares.clear();
        self.expectations.clear();
        self.index.clear();
        self.digest.clear();
        self.changes.overflow();
    }
}
