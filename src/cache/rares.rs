//! The rare attributes of a table's flows, kept beside the slab because most flows have none.

use crate::flow::Rare;

use super::NIL;

/// A slab of rare attributes; a flow holds the index, or `NIL`.
#[derive(Debug, Default)]
pub(crate) struct Rares {
    entries: Vec<Rare>,
    free: Vec<u32>,
}

impl Rares {
    /// The attributes at an index.
    pub(crate) fn at(&self, index: u32) -> Option<&Rare> {
        self.entries
            .get(usize::try_from(index).expect("usize has 32 bits"))
            .filter(|_| index != NIL)
    }

    /// Puts attributes at an index or a new one, or takes them away when empty; returns the index
    /// to hold from now on.
    pub(crate) fn set(&mut self, index: u32, rare: &Rare) -> u32 {
        if rare.is_empty() {
            self.release(index);
            return NIL;
        }
        let index = if index != NIL {
            index
        } else if let Some(index) = self.free.pop() {
            index
        } else {
            self.entries.push(Rare::default());
            u32::try_from(self.entries.len() - 1).expect("no more rares than flows")
        };
        self.entries[usize::try_from(index).expect("usize has 32 bits")] = *rare;
        index
    }

    /// Gives an index back.
    pub(crate) fn release(&mut self, index: u32) {
        if index != NIL {
            self.free.push(index);
        }
    }

    /// Gives all back.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.free.clear();
    }
}
