//! Ended flows that some peer has not heard of (rules C2, C3, T1 to T3).

use hashbrown::HashTable;

use super::super::chunks::Chunks;
use super::super::list::{Kind, Meta};
use super::{Local, NIL, Slot};
use crate::rules::{Rule, holds};

/// Tombstones that a step of a peer's leaving looks at: well under a millisecond.
const LEAVING_STEP: u32 = 1_024;

/// Index of the tombstones by key hash, and the ends of their list by age, which goes through the
/// `Meta`s.
#[derive(Debug)]
pub(super) struct Tombstones {
    by_hash: HashTable<u32>,
    oldest: u32,
    newest: u32,
    /// At most one for each peer.
    leaving: Vec<Leaving>,
    /// How many wait for each peer, by the place of its bit.
    waiting: [u32; 8],
    max: u32,
}

/// A peer that has left, whose bit goes out of the tombstones step by step.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    peer: u8,
    /// Last version given when it left: what is younger waits for its next session.
    until: u64,
    /// The next tombstone to look at.
    at: u32,
}

impl Tombstones {
    pub(super) fn new(max: u32) -> Self {
        Self {
            // Growing would look at every tombstone at once.
            by_hash: HashTable::with_capacity(max as usize),
            oldest: NIL,
            newest: NIL,
            leaving: Vec::with_capacity(8),
            waiting: [0; 8],
            max,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.by_hash.len() as u32
    }

    pub(super) fn clear(&mut self) {
        self.by_hash.clear();
        (self.oldest, self.newest) = (NIL, NIL);
        self.leaving.clear();
        self.waiting = [0; 8];
    }

    fn append(&mut self, meta: &mut Chunks<Meta>, slot: u32) {
        meta[slot as usize].set_ages(self.newest, NIL);
        match self.newest {
            NIL => self.oldest = slot,
            newest => meta[newest as usize].set_younger(slot),
        }
        self.newest = slot;
    }

    fn unlink(&mut self, meta: &mut Chunks<Meta>, slot: u32) {
        let (older, younger) = (meta[slot as usize].older(), meta[slot as usize].younger());
        match older {
            NIL => self.oldest = younger,
            older => meta[older as usize].set_younger(younger),
        }
        match younger {
            NIL => self.newest = older,
            younger => meta[younger as usize].set_older(older),
        }
        for leaving in &mut self.leaving {
            if leaving.at == slot {
                leaving.at = younger;
            }
        }
    }

    /// One more or one less waits for each of some peers.
    fn count(&mut self, mask: u8, change: impl Fn(&mut u32)) {
        for (bit, waiting) in self.waiting.iter_mut().enumerate() {
            if mask >> bit & 1 == 1 {
                change(waiting);
            }
        }
    }
}

impl Local {
    /// True if tombstones that wait for a peer fill half of the room there is for tombstones: more
    /// of them would soon push each other out (rule D5).
    #[must_use]
    pub fn is_half_buried(&self, peer: u8) -> bool {
        let waiting = self.tombstones.waiting[peer.trailing_zeros() as usize];
        u64::from(waiting) * 2 >= u64::from(self.tombstones.max)
    }

    /// True if there can be tombstones at all.
    #[must_use]
    pub fn can_bury(&self) -> bool {
        self.tombstones.max > 0
    }

    /// Adds a tombstone of a hash that a peer holds, unless an entry of that hash replicates, or the
    /// peer will hear of such a tombstone anyway: it stands behind `read`, the version up to which
    /// the live cursor has read (rule D4). What other peers wait for they still wait for. True if
    /// it was added.
    pub fn bury_for(&mut self, hash: u64, peer: u8, read: u64) -> bool {
        let is_entry =
            |slot: u32| self.meta[slot as usize].kind.replicates() && self.key_hash(slot) == hash;
        if !self.can_bury() || self.index.find(&self.meta, hash, is_entry).is_some() {
            return false;
        }
        let meta = &self.meta;
        let same = |&slot: &u32| meta[slot as usize].tombstone_hash() == hash;
        let others = match self.tombstones.by_hash.find(hash, same) {
            None => 0,
            Some(&slot) => {
                let Meta { version, mask, .. } = meta[slot as usize];
                if version > read && mask & peer != 0 {
                    return false;
                }
                mask
            }
        };
        self.bury(hash, others | peer);
        true
    }

    /// Adds a tombstone for the peers in `mask`; none for nobody. Over the cap the oldest goes,
    /// heard of or not; the next judged marker finds what that cost (rule T2).
    pub(super) fn bury(&mut self, hash: u64, mask: u8) {
        self.unbury(hash);
        if mask == 0 || self.tombstones.max == 0 || !holds(Rule::C2) {
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
        self.tombstones.count(mask, |waiting| *waiting += 1);
        self.list.push_back(&mut self.meta, slot);
        let meta = &self.meta;
        self.tombstones
            .by_hash
            .insert_unique(hash, slot, |&slot| meta[slot as usize].tombstone_hash());
        self.tombstones.append(&mut self.meta, slot);
    }

    /// Takes the tombstone of a hash out, if there is one: its flow lives again, or ended again.
    pub(super) fn unbury(&mut self, hash: u64) {
        let meta = &self.meta;
        let same = |&slot: &u32| meta[slot as usize].tombstone_hash() == hash;
        if let Ok(found) = self.tombstones.by_hash.find_entry(hash, same) {
            let (slot, _) = found.remove();
            let mask = meta[slot as usize].mask;
            self.tombstones.count(mask, |waiting| *waiting -= 1);
            self.tombstones.unlink(&mut self.meta, slot);
            self.list.unlink(&mut self.meta, slot);
            self.release(slot);
        }
    }

    /// A peer has acknowledged what a slot held when `tail` was the last version: its bit goes,
    /// and with the last bit the tombstone (rule T1).
    pub fn heard(&mut self, slot: Slot, tail: u64, peer: u8) {
        // Its chunk may be gone.
        let Some(meta) = self.meta.get_mut(slot.0 as usize) else {
            return;
        };
        if meta.kind == Kind::Tombstone && meta.version <= tail {
            let bits = if holds(Rule::T1Every) { peer } else { u8::MAX };
            let heard = meta.mask & bits;
            meta.mask &= !bits;
            let (hash, is_over) = (meta.tombstone_hash(), meta.mask == 0);
            self.tombstones.count(heard, |waiting| *waiting -= 1);
            if is_over {
                self.unbury(hash);
            }
        }
    }

    /// A peer's session has ended: no tombstone waits for it any more (rule T3).
    pub fn nobody_listens(&mut self, peer: u8) {
        self.tombstones.leaving.retain(|held| held.peer != peer);
        self.tombstones.leaving.push(Leaving {
            peer,
            until: self.tail,
            at: self.tombstones.oldest,
        });
        self.let_leave();
    }

    /// True while a peer's leaving is not over.
    pub(super) fn has_leaving(&self) -> bool {
        !self.tombstones.leaving.is_empty()
    }

    /// Goes on with the peers that have left.
    pub(super) fn let_leave(&mut self) {
        for _ in 0..LEAVING_STEP {
            let Some(&Leaving { peer, until, at }) = self.tombstones.leaving.last() else {
                return;
            };
            let found = self.meta.get(at as usize).filter(|_| at != NIL);
            let Some(&meta) = found.filter(|meta| meta.version <= until) else {
                self.tombstones.leaving.pop();
                continue;
            };
            if let Some(leaving) = self.tombstones.leaving.last_mut() {
                leaving.at = meta.younger();
            }
            self.heard(Slot(at), until, peer);
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.tombstones.oldest;
        if oldest != NIL {
            self.unbury(self.meta[oldest as usize].tombstone_hash());
        }
    }
}
