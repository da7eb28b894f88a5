//! Which slots of a table are taken.
//!
//! The lowest chunk with room gives the next slot, so that a table that was large once draws together
//! as its flows come and go, and the chunks behind get empty. An empty chunk goes back to the system,
//! but for one, so that a table at the edge of a chunk does not take and give with every flow.

use super::NIL;
use super::chunks::{CHUNK_SLOTS, Chunks, chunk_of, first_of};
use crate::flow::Flow;

/// What stands beside a flow, and links the free slots of a chunk.
pub(crate) trait Linked {
    /// What a free slot holds.
    fn free(next: u32) -> Self;
    /// The next free slot of the chunk.
    fn next_free(&self) -> u32;
}

/// Free and taken slots, by chunk.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    chunks: Vec<Chunk>,
    /// A bit for each chunk that is there and has room.
    roomy: Vec<u64>,
    /// The empty chunk that is kept.
    spare: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// The first slot that was given back.
    free: u32,
    taken: u32,
    /// Slots that were ever taken since the chunk came from the system.
    filled: u32,
}

impl Chunk {
    const MISSING: Self = Self {
        free: NIL,
        taken: 0,
        filled: 0,
    };
}

impl Slots {
    /// Takes a slot; what it holds is not defined.
    pub(crate) fn take<M: Linked>(
        &mut self,
        flows: &mut Chunks<Flow>,
        meta: &mut Chunks<M>,
    ) -> u32 {
        let at = self.lowest_roomy().unwrap_or_else(|| self.add());
        if self.spare == Some(at) {
            self.spare = None;
        }
        let chunk = &mut self.chunks[at];
        chunk.taken += 1;
        let slot = if chunk.free == NIL {
            chunk.filled += 1;
            flows.push(at, Flow::default());
            meta.push(at, M::free(NIL));
            first_of(at) + chunk.filled - 1
        } else {
            let slot = chunk.free;
            chunk.free = meta[slot as usize].next_free();
            slot
        };
        if chunk.taken == CHUNK_SLOTS {
            self.roomy[at / 64] &= !(1 << (at % 64));
        }
        slot
    }

    /// Gives a slot back.
    pub(crate) fn release<M: Linked>(
        &mut self,
        flows: &mut Chunks<Flow>,
        meta: &mut Chunks<M>,
        slot: u32,
    ) {
        let at = chunk_of(slot);
        let chunk = &mut self.chunks[at];
        meta[slot as usize] = M::free(chunk.free);
        chunk.free = slot;
        chunk.taken -= 1;
        self.roomy[at / 64] |= 1 << (at % 64);
        if chunk.taken > 0 {
            return;
        }
        // Of two empty ones the first stays.
        let spare = self.spare.map_or(at, |spare| spare.min(at));
        if let Some(other) = self.spare.replace(spare) {
            let freed = other.max(at);
            self.chunks[freed] = Chunk::MISSING;
            self.roomy[freed / 64] &= !(1 << (freed % 64));
            flows.free(freed);
            meta.free(freed);
        }
    }

    /// Gives all back; the memory goes with `Chunks::free_doomed`.
    pub(crate) fn clear<M>(&mut self, flows: &mut Chunks<Flow>, meta: &mut Chunks<M>) {
        *self = Self::default();
        flows.clear();
        meta.clear();
    }

    fn lowest_roomy(&self) -> Option<usize> {
        let word = self.roomy.iter().position(|&word| word != 0)?;
        Some(word * 64 + self.roomy[word].trailing_zeros() as usize)
    }

    /// A chunk from the system, in the first place that has none.
    fn add(&mut self) -> usize {
        let missing = self.chunks.iter().position(|chunk| chunk.filled == 0);
        let at = missing.unwrap_or(self.chunks.len());
        if missing.is_none() {
            self.chunks.push(Chunk::MISSING);
            self.roomy.resize(self.chunks.len().div_ceil(64), 0);
        }
        self.roomy[at / 64] |= 1 << (at % 64);
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Linked for u32 {
        fn free(next: u32) -> Self {
            next
        }

        fn next_free(&self) -> u32 {
            *self
        }
    }

    #[derive(Default)]
    struct Table {
        slots: Slots,
        flows: Chunks<Flow>,
        meta: Chunks<u32>,
    }

    impl Table {
        fn take(&mut self) -> u32 {
            self.slots.take(&mut self.flows, &mut self.meta)
        }

        fn release(&mut self, slot: u32) {
            self.slots.release(&mut self.flows, &mut self.meta, slot);
        }

        fn chunks(&self) -> usize {
            let is_there = |&at: &usize| self.meta.get(first_of(at) as usize).is_some();
            (0..64).filter(is_there).count()
        }
    }

    proptest! {
        #[test]
        fn a_slot_is_taken_once_and_kept(
            steps in prop::collection::vec((any::<bool>(), 1..20_000u32, any::<u32>()), 1..20),
        ) {
            let mut table = Table::default();
            let mut taken = BTreeSet::new();
            for (takes, count, from) in steps {
                for _ in 0..count {
                    if takes {
                        let slot = table.take();
                        prop_assert!(taken.insert(slot), "{slot} was taken before");
                        table.meta[slot as usize] = slot ^ 1;
                    } else {
                        let next = taken.range(from % CHUNK_SLOTS..).next().or(taken.first());
                        let Some(&slot) = next else { break };
                        taken.remove(&slot);
                        table.release(slot);
                    }
                }
            }
            for &slot in &taken {
                prop_assert_eq!(table.meta[slot as usize], slot ^ 1);
            }
            let full = taken.len().div_ceil(CHUNK_SLOTS as usize);
            prop_assert!(table.chunks() >= full);
            let used: BTreeSet<usize> = taken.iter().map(|&slot| chunk_of(slot)).collect();
            prop_assert!(table.chunks() <= used.len() + 1, "one empty chunk is kept");
        }
    }

    #[test]
    fn what_comes_and_goes_after_a_burst_draws_together() {
        let mut table = Table::default();
        let slots: Vec<u32> = (0..10 * CHUNK_SLOTS).map(|_| table.take()).collect();
        assert_eq!(table.chunks(), 10);
        // Every tenth stays, in all chunks.
        let (stay, go): (Vec<u32>, Vec<u32>) = slots.iter().partition(|&slot| slot % 10 == 0);
        go.iter().for_each(|&slot| table.release(slot));
        assert_eq!(table.chunks(), 10);
        for slot in stay {
            table.take();
            table.release(slot);
        }
        assert!(table.chunks() <= 3, "{}", table.chunks());
        assert!(table.meta.len() <= 3 * CHUNK_SLOTS, "walks end early");
    }

    #[test]
    fn what_was_cleared_is_freed_in_steps() {
        let mut table = Table::default();
        (0..3 * CHUNK_SLOTS).for_each(|_| {
            table.take();
        });
        table.slots.clear(&mut table.flows, &mut table.meta);
        assert_eq!((table.meta.len(), table.take()), (0, 0));
        for _ in 0..3 {
            assert!(table.meta.has_doomed());
            table.meta.free_doomed();
        }
        assert!(!table.meta.has_doomed());
    }
}
