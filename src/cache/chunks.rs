//! Memory of a table: chunks of a fixed number of slots, each on its own, so that growing moves
//! nothing and a chunk can go back to the system alone.
//!
//! One `Vec` would double: with a million flows that copies 112 MB at once and holds both copies
//! meanwhile. A chunk is reserved whole, and the system gives its pages as they are first written.

use std::ops::{Index, IndexMut};

/// Slots of a chunk: 1.8 MB of flows, so that giving one back is a short step.
const CHUNK_BITS: u32 = 14;
pub(crate) const CHUNK_SLOTS: u32 = 1 << CHUNK_BITS;

/// Values by slot. A chunk may be missing between others.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    /// What is not needed any more, freed one at a time.
    doomed: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            doomed: Vec::new(),
        }
    }
}

/// The chunk of a slot, and the slot's place in it.
fn place(slot: usize) -> (usize, usize) {
    (slot >> CHUNK_BITS, slot & (CHUNK_SLOTS as usize - 1))
}

/// The chunk of a slot.
pub(crate) fn chunk_of(slot: u32) -> usize {
    (slot >> CHUNK_BITS) as usize
}

/// The first slot of a chunk.
pub(crate) fn first_of(chunk: usize) -> u32 {
    u32::try_from(chunk << CHUNK_BITS).expect("no more slots than a u32 counts")
}

impl<T> Chunks<T> {
    /// One more than the last slot that has a value.
    pub(crate) fn len(&self) -> u32 {
        let last = self.chunks.len().checked_sub(1);
        last.map_or(0, |last| first_of(last) + self.chunks[last].len() as u32)
    }

    /// The value in a slot, if there is one.
    pub(crate) fn get(&self, slot: usize) -> Option<&T> {
        let (chunk, at) = place(slot);
        self.chunks.get(chunk)?.get(at)
    }

    /// The value in a slot, if there is one, to be changed.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        let (chunk, at) = place(slot);
        self.chunks.get_mut(chunk)?.get_mut(at)
    }

    /// The next slot of a chunk gets a value.
    pub(crate) fn push(&mut self, chunk: usize, value: T) {
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, Vec::new);
        }
        let chunk = &mut self.chunks[chunk];
        if chunk.capacity() == 0 {
            chunk.reserve_exact(CHUNK_SLOTS as usize);
        }
        debug_assert!(chunk.len() < CHUNK_SLOTS as usize, "a chunk never moves");
        chunk.push(value);
    }

    /// Gives a chunk back to the system.
    pub(crate) fn free(&mut self, chunk: usize) {
        self.chunks[chunk] = Vec::new();
        while self.chunks.pop_if(|last| last.capacity() == 0).is_some() {}
    }

    /// Forgets everything; the memory goes with `free_doomed`.
    pub(crate) fn clear(&mut self) {
        self.doomed.append(&mut self.chunks);
    }

    /// True if there are chunks of what was forgotten.
    pub(crate) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Frees one of them.
    pub(crate) fn free_doomed(&mut self) {
        self.doomed.pop();
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, slot: usize) -> &T {
        let (chunk, at) = place(slot);
        &self.chunks[chunk][at]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, slot: usize) -> &mut T {
        let (chunk, at) = place(slot);
        &mut self.chunks[chunk][at]
    }
}
