//! Readers of the list: the sender's live and backfill cursors.

use super::super::list::{Kind, Meta};
use super::{Flow, Local, NIL, Rare, Secs, Slot};
use crate::flow::Expectation;
use crate::rules::{Rule, holds};

/// A reader's place in the list, by its number. Must be given back with `Local::close`.
#[derive(Debug)]
pub struct Cursor(usize);

/// What a slot has to send.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Entry<'a> {
    /// A flow.
    Flow {
        /// The flow.
        flow: &'a Flow,
        /// Its rare attributes, if any.
        rare: Option<&'a Rare>,
        /// How long ago the kernel told its timeout.
        age: Secs,
    },
    /// An expectation.
    Expectation {
        /// The expectation.
        expectation: &'a Expectation,
        /// How long ago the kernel told its timeout.
        age: Secs,
    },
    /// The end of the flow or expectation with this key hash.
    Tombstone {
        /// Key hash.
        hash: u64,
    },
}

impl Local {
    /// A cursor before everything.
    pub fn open_at_start(&mut self) -> Cursor {
        let slot = self.cursor_slot();
        self.list.push_front(&mut self.meta, slot);
        self.number(slot)
    }

    /// A cursor behind everything.
    pub fn open_at_end(&mut self) -> Cursor {
        let slot = self.cursor_slot();
        self.list.push_back(&mut self.meta, slot);
        self.number(slot)
    }

    /// Gives a cursor back.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a closed cursor must not be used again"
    )]
    pub fn close(&mut self, cursor: Cursor) {
        let slot = std::mem::replace(&mut self.cursors[cursor.0], NIL);
        self.list.unlink(&mut self.meta, slot);
        self.release(slot);
    }

    /// The slot behind a cursor and its version; `None` at the end.
    #[must_use]
    pub fn peek(&self, cursor: &Cursor) -> Option<(Slot, u64)> {
        let slot = self.list.next_entry(&self.meta, self.cursors[cursor.0])?;
        Some((slot, self.meta[slot.0 as usize].version))
    }

    /// Moves a cursor behind a slot that `peek` gave.
    pub fn pass(&mut self, cursor: &Cursor, slot: Slot) {
        self.list
            .move_after(&mut self.meta, slot.0, self.cursors[cursor.0]);
    }

    /// What a slot has to send.
    #[must_use]
    pub fn entry(&self, slot: Slot, now: Secs) -> Option<Entry<'_>> {
        let meta = self.meta.get(slot.0 as usize)?;
        match meta.kind {
            Kind::Free | Kind::Held | Kind::HeldExpectation | Kind::Cursor => None,
            Kind::Expectation => Some(Entry::Expectation {
                expectation: self.expectation(slot)?,
                age: now.saturating_sub(meta.seen),
            }),
            Kind::Flow => Some(Entry::Flow {
                flow: &self.flows[slot.0 as usize],
                rare: self.rares.at(meta.rare),
                age: now.saturating_sub(meta.seen),
            }),
            Kind::Tombstone => Some(Entry::Tombstone {
                hash: meta.tombstone_hash(),
            }),
        }
    }

    /// What a slot has to send if it has not changed since `tail` was the last version.
    #[must_use]
    pub fn unchanged_entry(&self, slot: Slot, tail: u64, now: Secs) -> Option<Entry<'_>> {
        let version = self.meta.get(slot.0 as usize)?.version;
        (version <= tail || !holds(Rule::E3))
            .then(|| self.entry(slot, now))
            .flatten()
    }

    /// After everything was forgotten: before the first entry and behind the last is the same.
    pub(super) fn reopen_cursors(&mut self) {
        for number in 0..self.cursors.len() {
            if self.cursors[number] != NIL {
                let slot = self.cursor_slot();
                self.list.push_back(&mut self.meta, slot);
                self.cursors[number] = slot;
            }
        }
    }

    /// A cursor's number: at most two cursors a peer are open.
    fn number(&mut self, slot: u32) -> Cursor {
        if let Some(number) = self.cursors.iter().position(|&slot| slot == NIL) {
            self.cursors[number] = slot;
            return Cursor(number);
        }
        self.cursors.push(slot);
        Cursor(self.cursors.len() - 1)
    }

    fn cursor_slot(&mut self) -> u32 {
        let slot = self.take_slot();
        self.meta[slot as usize] = Meta {
            kind: Kind::Cursor,
            ..Meta::FREE
        };
        slot
    }
}
