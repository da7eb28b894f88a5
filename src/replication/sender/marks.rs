//! How long a change takes from the engine's hands to the peer's: measured by what the peer
//! acknowledges, so without any clock but ours, and an upper bound of how stale its replica was.
//!
//! A mark is a version and when the first of the changes up to it came. It is *passed* when the live
//! cursor is beyond it and nothing waits to be repaired: then a datagram that was sent by now carries
//! it. It is reached when everything sent by then is acknowledged. A loss puts marks back, as their
//! change may have been in what was lost. A flow that has changed again since counts with the newer
//! change: only the newest is sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;

/// Changes closer to each other than this share a mark, with the time of the first.
const APART: Duration = Duration::from_millis(1);
/// A quarter of a second in which nothing is acknowledged; what changes then shares the last mark
/// and has the time of its first change.
const MARKS_MAX: usize = 256;

/// Marks on their way to a peer, and how long those took that have come.
#[derive(Debug)]
pub(super) struct Marks {
    /// In the order of version, time and number.
    marks: VecDeque<Mark>,
    /// How many of them are passed: the first ones.
    passed: usize,
    /// When the first change came that has no mark yet.
    changed_at: Option<Instant>,
    took: Histogram,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    version: u64,
    at: Instant,
    /// Packet number below which everything has to be acknowledged, once it is passed.
    before: u64,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self {
            marks: VecDeque::with_capacity(MARKS_MAX),
            passed: 0,
            changed_at: None,
            took: Histogram::new(),
        }
    }

    /// How long those took that have come.
    pub(super) fn took(&self) -> &Histogram {
        &self.took
    }

    /// Something has changed.
    pub(super) fn on_change(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
    }

    /// Puts a mark at the table's tail if something has changed since the last.
    pub(super) fn put(&mut self, tail: u64) {
        let Some(at) = self.changed_at.take() else {
            return;
        };
        let is_full = self.marks.len() == MARKS_MAX;
        let waits = self.passed < self.marks.len();
        if let Some(last) = self.marks.back_mut()
            && (is_full || (waits && at.saturating_duration_since(last.at) < APART))
        {
            last.version = tail;
            self.passed = self.passed.min(self.marks.len() - 1);
            return;
        }
        self.marks.push_back(Mark {
            version: tail,
            at,
            before: 0,
        });
    }

    /// The live cursor has read up to a version, nothing waits to be repaired, and `next` is the
    /// number of the next datagram.
    pub(super) fn on_sent(&mut self, version: u64, next: u64) {
        while let Some(mark) = self.marks.get_mut(self.passed)
            && mark.version <= version
        {
            mark.before = next;
            self.passed += 1;
        }
    }

    /// Something that was sent is lost.
    pub(super) fn on_loss(&mut self) {
        self.passed = 0;
    }

    /// Everything below a number is acknowledged.
    pub(super) fn on_floor(&mut self, floor: u64, now: Instant) {
        while self.passed > 0
            && let Some(mark) = self.marks.pop_front_if(|mark| mark.before <= floor)
        {
            self.passed -= 1;
            self.took.record(now.saturating_duration_since(mark.at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[expect(
        clippy::disallowed_methods,
        reason = "where virtual time starts does not matter"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_change_counts_from_its_event_to_the_ack_of_everything_sent_with_it() {
        let (mut marks, start) = (Marks::new(), start());
        marks.on_change(start);
        marks.on_change(start + MILLI);
        marks.put(10);
        marks.on_sent(9, 4);
        marks.on_floor(9, start + MILLI);
        assert_eq!(marks.took().count(), 0, "version 10 was not sent yet");
        marks.on_sent(10, 5);
        marks.on_floor(4, start + 2 * MILLI);
        assert_eq!(marks.took().count(), 0, "datagram 4 is under way");
        marks.on_floor(5, start + 3 * MILLI);
        assert_eq!(marks.took().count(), 1);
        assert_eq!(marks.took().max(), 3 * MILLI, "from the first change");
    }

    #[test]
    fn changes_within_a_millisecond_share_a_mark_unless_the_first_is_sent() {
        let (mut marks, start) = (Marks::new(), start());
        for (micros, version) in [(0, 1), (999, 2), (1000, 3)] {
            marks.on_change(start + Duration::from_micros(micros));
            marks.put(version);
        }
        assert_eq!(marks.marks.len(), 2);
        marks.on_sent(3, 2);
        marks.on_change(start + Duration::from_micros(1001));
        marks.put(4);
        assert_eq!(
            marks.marks.len(),
            3,
            "what is sent cannot wait for what is not"
        );
        marks.put(5);
        assert_eq!(marks.marks.len(), 3, "nothing has changed");
    }

    #[test]
    fn after_a_loss_a_mark_waits_for_what_is_sent_then() {
        let (mut marks, start) = (Marks::new(), start());
        marks.on_change(start);
        marks.put(1);
        marks.on_sent(1, 2);
        marks.on_loss();
        marks.on_floor(2, start + MILLI);
        assert_eq!(marks.took().count(), 0);
        marks.on_sent(1, 3);
        marks.on_floor(3, start + 5 * MILLI);
        assert_eq!(marks.took().max(), 5 * MILLI);
    }

    #[test]
    fn marks_are_bounded_and_the_last_keeps_the_oldest_time() {
        let (mut marks, start) = (Marks::new(), start());
        for number in 1..=2 * u32::try_from(MARKS_MAX).expect("small") {
            marks.on_change(start + 2 * MILLI * number);
            marks.put(u64::from(number));
            marks.on_sent(u64::from(number), u64::from(number) + 1);
        }
        assert_eq!(
            (marks.marks.len(), marks.marks.capacity()),
            (MARKS_MAX, MARKS_MAX)
        );
        marks.on_floor(1000, start + Duration::from_secs(2));
        assert_eq!(marks.took().count(), MARKS_MAX as u64);
        assert!(marks.marks.is_empty());
    }
}
