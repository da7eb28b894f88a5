//! Ended flows that some peer has not heard of (rules C2, C3, T1 to T3).

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::super::list::{Kind, Meta};
use super::{Local, Slot};

/// Index of the tombstones by key hash, and their order of age.
#[derive(Debug)]
pub(super) struct Tombstones {
    by_hash: HashTable<u32>,
    /// Oldest first, with the version that tells whether the slot still is that tombstone.
    order: VecDeque<(u32, u64)>,
    max: u32,
}

impl Tombstones {
    pub(super) fn new(max: u32) -> Self {
        Self {
            by_hash: HashTable::new(),
            order: VecDeque::new(),
            max,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.by_hash.len() as u32
    }

    pub(super) fn clear(&mut self) {
        self.by_hash.clear();
        self.order.clear();
    }
}

impl Local {
    /// Adds a tombstone for the peers in `mask`; none for nobody. Over the cap the oldest goes,
    /// heard of or not; the next judged marker finds what that cost (rule T2).
    pub(super) fn bury(&mut self, hash: u64, mask: u8) {
        self.unbury(hash);
        if mask == 0 || self.tombstones.max == 0 {
            return;
        }
        if self.tombstones.len() >= self.tombstones.max {
            self.forget_oldest();
        }
        let slot = self.take_slot();
        self.tail += 1;
        let meta = &mut self.meta[slot as usize];
        meta.version = self.tail;
        meta.set_tombstone(hash, mask);
        self.list.push_back(&mut self.meta, slot);
        let meta = &self.meta;
        self.tombstones
            .by_hash
            .insert_unique(hash, slot, |&slot| meta[slot as usize].tombstone_hash());
        // What was freed before its turn leaves its place in the order behind.
        if self.tombstones.order.len() >= 2 * self.tombstones.max as usize {
            self.tombstones
                .order
                .retain(|&(slot, version)| is_tombstone(meta, slot, version));
        }
        self.tombstones.order.push_back((slot, self.tail));
    }

    /// Takes the tombstone of a hash out, if there is one: its flow lives again, or ended again.
    pub(super) fn unbury(&mut self, hash: u64) {
        let meta = &self.meta;
        let same = |&slot: &u32| meta[slot as usize].tombstone_hash() == hash;
        if let Ok(found) = self.tombstones.by_hash.find_entry(hash, same) {
            let (slot, _) = found.remove();
            self.list.unlink(&mut self.meta, slot);
            self.release(slot);
        }
    }

    /// A peer has acknowledged what a slot held when `tail` was the last version: its bit goes,
    /// and with the last bit the tombstone (rule T1).
    pub fn heard(&mut self, slot: Slot, tail: u64, peer: u8) {
        let meta = &mut self.meta[slot.0 as usize];
        if meta.kind == Kind::Tombstone && meta.version <= tail {
            meta.mask &= !peer;
            if meta.mask == 0 {
                let hash = meta.tombstone_hash();
                self.unbury(hash);
            }
        }
    }

    /// A peer's session has ended: no tombstone waits for it any more (rule T3).
    pub fn nobody_listens(&mut self, peer: u8) {
        for at in 0..self.tombstones.order.len() {
            let (slot, version) = self.tombstones.order[at];
            if is_tombstone(&self.meta, slot, version) {
                self.heard(Slot(slot), version, peer);
            }
        }
    }

    fn forget_oldest(&mut self) {
        while let Some((slot, version)) = self.tombstones.order.pop_front() {
            if is_tombstone(&self.meta, slot, version) {
                let hash = self.meta[slot as usize].tombstone_hash();
                self.unbury(hash);
                return;
            }
        }
    }
}

fn is_tombstone(meta: &[Meta], slot: u32, version: u64) -> bool {
    let meta = &meta[slot as usize];
    meta.kind == Kind::Tombstone && meta.version == version
}
