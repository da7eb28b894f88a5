//! What is under way to a peer: packet number → the slots it carried. No payload is kept; a repair
//! reads the table again.

use std::collections::VecDeque;
use std::time::Instant;

use crate::cache::Slot;
use crate::rules::{Rule, holds};
use crate::wire::{Ack, WINDOW_MAX};

/// The data packet numbers from the floor to the next. At most [`WINDOW_MAX`] of them.
#[derive(Debug)]
pub(super) struct Ring {
    /// Number of the first entry: the floor.
    first: u64,
    entries: VecDeque<Sent>,
    slots: VecDeque<Slot>,
    open: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    tail: u64,
    slots: u16,
    open: bool,
    marker: bool,
    tombstones: bool,
}

/// What a datagram carried, when its fate is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// Last version given when it was made.
    pub(super) tail: u64,
    /// It carried a marker.
    pub(super) marker: bool,
    /// It carried tombstones.
    pub(super) tombstones: bool,
}

/// Fate of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The peer has it.
    Acked,
    /// The peer has heard of a later one and not of this.
    Lost,
}

/// Datagrams may overtake each other by this many before one counts as lost.
const REORDER_NUMBERS: u64 = 3;

impl Ring {
    pub(super) fn new() -> Self {
        Self {
            first: 1,
            entries: VecDeque::new(),
            slots: VecDeque::new(),
            open: 0,
        }
    }

    /// The number that comes next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The lowest number that is still waited for, or the next.
    pub(super) fn floor(&self) -> u64 {
        self.first
    }

    /// Numbers from floor to next.
    pub(super) fn span(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Numbers that are waited for.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// Slots carried by what is under way, at most.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// When the oldest that is waited for was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|sent| sent.at)
    }

    /// The next number was sent, with these slots.
    pub(super) fn push(&mut self, at: Instant, slots: &[Slot], carried: Carried) {
        debug_assert!(self.span() < WINDOW_MAX, "the window bounds the ring");
        self.slots.extend(slots);
        self.entries.push_back(Sent {
            at,
            tail: carried.tail,
            slots: u16::try_from(slots.len()).expect("a datagram has at most 127 records"),
            open: true,
            marker: carried.marker,
            tombstones: carried.tombstones,
        });
        self.open += 1;
    }

    /// Closes what an ack settles (rules A3, A4): calls `settle` with the fate, what the datagram
    /// carried, and its slots.
    pub(super) fn settle(
        &mut self,
        ack: &Ack,
        sent_before: Instant,
        mut settle: impl FnMut(Fate, Carried, &mut dyn Iterator<Item = Slot>),
    ) {
        let mut offset = 0;
        for (at, sent) in self.entries.iter_mut().enumerate() {
            let number = self.first + at as u64;
            let slots = offset..offset + usize::from(sent.slots);
            offset = slots.end;
            if number >= ack.seen && number >= ack.next {
                break;
            }
            if !sent.open {
                continue;
            }
            let fate = if number < ack.next || ack.bitmap.has(number - ack.next) {
                Fate::Acked
            } else if number + REORDER_NUMBERS < ack.seen || sent.at < sent_before {
                Fate::Lost
            } else {
                continue;
            };
            if fate == Fate::Acked || holds(Rule::A4Floor) {
                sent.open = false;
                self.open -= 1;
            }
            let carried = Carried {
                tail: sent.tail,
                marker: sent.marker,
                tombstones: sent.tombstones,
            };
            settle(fate, carried, &mut self.slots.range(slots).copied());
        }
        while self.entries.front().is_some_and(|sent| !sent.open) {
            let sent = self.entries.pop_front().expect("was just looked at");
            self.slots.drain(..usize::from(sent.slots));
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests;
