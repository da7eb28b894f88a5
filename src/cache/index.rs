//! The index of a table: from a key hash to the slots of its flows, and from a leaf of the digest
//! to all of its flows.
//!
//! One chain per bucket, linked through the table's own metadata; a bucket is an equal part of the
//! range of the keyed hash. There are as many buckets as the table can have flows, so the index
//! never grows: growing a hash table of 500,000 entries was measured to stall for 30 ms. Because
//! buckets are in the order of the hash, the flows of a leaf stand in consecutive buckets, which
//! reconcile needs and a hash table without order cannot give.

use super::NIL;
use super::chunks::Chunks;

/// Heads of the chains.
#[derive(Debug)]
pub(crate) struct Index {
    /// First slots of the chains, inverted: zero for none, so that the system's zeroed pages are an
    /// empty index, and come one by one as they are needed.
    heads: Vec<u32>,
}

/// Where a slot keeps the link to the next one of its chain.
pub(crate) trait Chained {
    /// The link.
    fn chain(&self) -> u32;
    /// The link, to be set.
    fn set_chain(&mut self, next: u32);
}

impl Index {
    /// Room for so many flows at one per bucket.
    pub(crate) fn new(flows_max: u32) -> Self {
        Self {
            heads: vec![0; flows_max.max(1) as usize],
        }
    }

    /// Takes the memory from the system now: a table that is filled at once would wait for most of it
    /// within a few thousand flows.
    pub(crate) fn touch(&mut self) {
        // What is zero anyway must not pass for a zeroed page.
        self.heads.fill(1);
        self.heads = std::hint::black_box(std::mem::take(&mut self.heads));
        self.heads.fill(0);
    }

    /// The slot at which the chain of a hash begins; `NIL` for none.
    pub(crate) fn first(&self, hash: u64) -> u32 {
        !self.heads[self.bucket(hash)]
    }

    /// The first slot with a hash for which `is_it` says yes.
    pub(crate) fn find<M: Chained>(
        &self,
        meta: &Chunks<M>,
        hash: u64,
        mut is_it: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let mut at = !self.heads[self.bucket(hash)];
        while at != NIL && !is_it(at) {
            at = meta[at as usize].chain();
        }
        (at != NIL).then_some(at)
    }

    /// Adds a slot that is not in the index.
    pub(crate) fn insert<M: Chained>(&mut self, meta: &mut Chunks<M>, hash: u64, slot: u32) {
        let bucket = self.bucket(hash);
        meta[slot as usize].set_chain(!self.heads[bucket]);
        self.heads[bucket] = !slot;
    }

    /// Takes a slot out.
    ///
    /// # Panics
    ///
    /// When it is not in the chain of its hash: the table is damaged.
    pub(crate) fn remove<M: Chained>(&mut self, meta: &mut Chunks<M>, hash: u64, slot: u32) {
        let next = meta[slot as usize].chain();
        let bucket = self.bucket(hash);
        let mut at = !self.heads[bucket];
        if at == slot {
            self.heads[bucket] = !next;
            return;
        }
        while meta[at as usize].chain() != slot {
            at = meta[at as usize].chain();
        }
        meta[at as usize].set_chain(next);
    }

    /// Calls `visit` with every slot whose hash may lie in a leaf: the top 16 bits say which. There
    /// are others among them, of the buckets at its ends.
    pub(crate) fn visit_leaf<M: Chained>(
        &self,
        meta: &Chunks<M>,
        leaf: u16,
        mut visit: impl FnMut(u32),
    ) {
        let first = u64::from(leaf) << 48;
        let last = first | (u64::MAX >> 16);
        for bucket in self.bucket(first)..=self.bucket(last) {
            let mut at = !self.heads[bucket];
            while at != NIL {
                visit(at);
                at = meta[at as usize].chain();
            }
        }
    }

    /// Empties the index; the links in the metadata mean nothing any more.
    pub(crate) fn clear(&mut self) {
        self.heads = vec![0; self.heads.len()];
    }

    fn bucket(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.heads.len() as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Chained for u32 {
        fn chain(&self) -> u32 {
            *self
        }
        fn set_chain(&mut self, next: u32) {
            *self = next;
        }
    }

    proptest! {
        /// Hashes of few distinct values, so that chains are long.
        #[test]
        fn behaves_like_a_map(
            flows_max in prop_oneof![Just(1u32), Just(16), Just(300_000), Just(1_100_000)],
            steps in prop::collection::vec((0..64u32, 0..8u64, 0..3u64), 1..200),
        ) {
            let mut index = Index::new(flows_max);
            let mut meta = Chunks::default();
            (0..64).for_each(|_| meta.push(0, NIL));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (slot, high, low) in steps {
                let hash = high << 61 | low << 46 | low;
                match model.remove(&slot) {
                    Some(held) => index.remove(&mut meta, held, slot),
                    None => {
                        index.insert(&mut meta, hash, slot);
                        model.insert(slot, hash);
                    }
                }
                for (&slot, &hash) in &model {
                    prop_assert_eq!(index.find(&meta, hash, |at| at == slot), Some(slot));
                    let mut seen = 0;
                    index.visit_leaf(&meta, (hash >> 48) as u16, |at| seen += u32::from(at == slot));
                    prop_assert_eq!(seen, 1);
                }
                prop_assert_eq!(index.find(&meta, hash, |at| !model.contains_key(&at)), None);
            }
        }
    }
}
