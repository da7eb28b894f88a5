//! Values that few entries of a table have, kept beside the table.

use super::NIL;
use super::chunks::{Chunks, chunk_of};

/// Values by index; indices that were given back are used again.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Chunks<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            entries: Chunks::default(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// The value at an index; `None` at `NIL`.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.entries
            .get(usize::try_from(index).expect("usize has 32 bits"))
            .filter(|_| index != NIL)
    }

    /// The value at an index, to be changed.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries
            .get_mut(usize::try_from(index).expect("usize has 32 bits"))
            .filter(|_| index != NIL)
    }

    /// Takes a value in; returns its index.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let Some(index) = self.free.pop() else {
            let index = self.entries.len();
            self.entries.push(chunk_of(index), value);
            return index;
        };
        self.entries[usize::try_from(index).expect("usize has 32 bits")] = value;
        index
    }

    /// Gives an index back; `NIL` is none.
    pub(crate) fn release(&mut self, index: u32) {
        if index != NIL {
            self.free.push(index);
        }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> u32 {
        self.entries.len() - self.free.len() as u32
    }

    /// Gives all back.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.free.clear();
    }
}
