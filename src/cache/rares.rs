//! The rare attributes of a table's flows, kept beside the slab because most flows have none.

use super::NIL;
use super::slab::Slab;
use crate::flow::Rare;

/// A slab of rare attributes; a flow holds the index, or `NIL`.
#[derive(Debug, Default)]
pub(crate) struct Rares(Slab<Rare>);

impl Rares {
    /// The attributes at an index.
    pub(crate) fn at(&self, index: u32) -> Option<&Rare> {
        self.0.at(index)
    }

    /// Puts attributes at an index or a new one, or takes them away when empty; returns the index
    /// to hold from now on.
    pub(crate) fn set(&mut self, index: u32, rare: &Rare) -> u32 {
        if rare.is_empty() {
            self.release(index);
            return NIL;
        }
        match self.0.at_mut(index) {
            None => self.0.insert(*rare),
            Some(held) => {
                *held = *rare;
                index
            }
        }
    }

    /// Gives an index back.
    pub(crate) fn release(&mut self, index: u32) {
        self.0.release(index);
    }

    /// Gives all back.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
