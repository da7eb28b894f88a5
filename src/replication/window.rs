//! Which data packet numbers of a peer have arrived (rules R1, R2, R4).

use crate::wire::{AckBitmap, WINDOW_MAX};

const WORDS: usize = WINDOW_MAX as usize / 64;

/// The numbers from `next` upward, a bit each.
#[derive(Debug)]
pub(super) struct Window {
    /// All numbers below are received or resolved.
    next: u64,
    /// Highest number received.
    top: u64,
    /// Bit `number % WINDOW_MAX` is set if the number is received and not below `next`.
    bits: [u64; WORDS],
}

/// What a number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// Not seen before.
    New,
    /// Received, or no longer waited for.
    Old,
    /// Further up than a correct sender goes.
    Beyond,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            next: 1,
            top: 0,
            bits: [0; WORDS],
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn top(&self) -> u64 {
        self.top
    }

    /// What a number is, without taking it in.
    pub(super) fn judge(&self, number: u64) -> Arrival {
        if number < self.next || number < self.next + u64::from(WINDOW_MAX) && self.has(number) {
            Arrival::Old
        } else if number >= self.next + u64::from(WINDOW_MAX) {
            Arrival::Beyond
        } else {
            Arrival::New
        }
    }

    /// The sender waits for nothing below `floor` any more.
    pub(super) fn raise(&mut self, floor: u64) {
        if floor <= self.next {
            return;
        }
        if floor - self.next >= u64::from(WINDOW_MAX) {
            self.bits.fill(0);
        } else {
            for number in self.next..floor {
                self.clear(number);
            }
        }
        self.next = floor;
        self.step();
    }

    /// Takes a new number in.
    pub(super) fn take(&mut self, number: u64) {
        debug_assert_eq!(self.judge(number), Arrival::New);
        self.top = self.top.max(number);
        if number == self.next {
            self.next += 1;
            self.step();
        } else {
            let (word, bit) = place(number);
            self.bits[word] |= bit;
        }
    }

    /// The received numbers from `next` upward.
    pub(super) fn bitmap(&self) -> AckBitmap {
        let mut bitmap = AckBitmap::EMPTY;
        for number in self.next..=self.top {
            if self.has(number) {
                bitmap.set(number - self.next);
            }
        }
        bitmap
    }

    fn step(&mut self) {
        while self.has(self.next) {
            self.clear(self.next);
            self.next += 1;
        }
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.bits[word] & bit != 0
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.bits[word] &= !bit;
    }
}

fn place(number: u64) -> (usize, u64) {
    let at = (number % u64::from(WINDOW_MAX)) as usize;
    (at / 64, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(
            steps in prop::collection::vec((any::<bool>(), 0..6000u64), 1..300),
        ) {
            let mut window = Window::new();
            let mut received = BTreeSet::new();
            let mut next = 1;
            for (is_floor, distance) in steps {
                if is_floor {
                    next = next.max(next + distance / 8 - 10.min(next));
                    window.raise(next);
                } else {
                    let number = (next + distance).saturating_sub(1000).max(1);
                    let expected = if number < next || received.contains(&number) {
                        Arrival::Old
                    } else if number >= next + u64::from(WINDOW_MAX) {
                        Arrival::Beyond
                    } else {
                        Arrival::New
                    };
                    prop_assert_eq!(window.judge(number), expected);
                    if expected == Arrival::New {
                        window.take(number);
                        received.insert(number);
                    }
                }
                while received.contains(&next) {
                    next += 1;
                }
                prop_assert_eq!(window.next(), next);
                prop_assert_eq!(window.top(), received.last().copied().unwrap_or(0));
                let bitmap = window.bitmap();
                for offset in 0..u64::from(WINDOW_MAX) {
                    prop_assert_eq!(bitmap.has(offset), received.contains(&(next + offset)));
                }
            }
        }
    }
}
