//! How long the engine's thread is held from one look at its inputs to the next: what whoever waits
//! for the engine waits at most.

use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::kernel::clock;

/// A step that is longer is a stall.
const STALL: Duration = Duration::from_millis(5);
/// Buckets that are shown end at every power of two of nanoseconds up to this: 67 ms.
const SHOWN_MAX: Duration = Duration::from_nanos(1 << 26);

/// Time for each input in a round, and for what goes out, and what was begun in it: where memory is slow
/// to come, or records are dear, less is done than the number allows. With events, answers, a link and the
/// output a round is over within 2 ms; with twice as much single ones passed 5 ms.
const SHARE: Duration = Duration::from_micros(500);

/// Steps of the driver by length.
#[derive(Debug)]
pub(super) struct Steps {
    lengths: Histogram,
    stalls: u64,
}

impl Steps {
    pub(super) const fn new() -> Self {
        Self {
            lengths: Histogram::new(),
            stalls: 0,
        }
    }

    /// A step has ended.
    pub(super) fn count(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        self.lengths.record(took);
        self.stalls += u64::from(took > STALL);
    }

    /// By the names of `stats`.
    pub(super) fn stats(&self) -> impl Iterator<Item = (String, u64)> {
        let stalls = ("over_5_ms".to_owned(), self.stalls);
        (self.lengths.stats(SHOWN_MAX).chain([stalls]))
            .map(|(name, value)| (format!("engine.step.{name}"), value))
    }
}

/// What may be taken of an input in a round, or sent.
#[derive(Debug)]
pub(super) struct Share {
    until: Instant,
    left: usize,
}

impl Share {
    pub(super) fn of(most: usize) -> Self {
        Self {
            until: clock() + SHARE,
            left: most,
        }
    }

    /// True when one more was taken and that was the last.
    pub(super) fn is_over(&mut self) -> bool {
        let is_over = self.left == 0 || clock() >= self.until;
        self.left = self.left.saturating_sub(1);
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_counts_up_to_the_bounds_and_names_stalls() {
        let began = crate::kernel::clock();
        let mut steps = Steps::new();
        for micros in [1, 3, 5_000, 5_001, 400_000] {
            steps.count(began, began + Duration::from_micros(micros));
        }
        let stats: Vec<_> = steps.stats().collect();
        let value = |name: &str| {
            let found = stats.iter().find(|(held, _)| held == name);
            found.map(|&(_, value)| value).expect("it is shown")
        };
        assert_eq!(value("engine.step.count"), 5);
        assert_eq!(value("engine.step.over_5_ms"), 2);
        assert_eq!(value("engine.step.max_us"), 400_000);
        assert_eq!(value("engine.step.le_ns.1024"), 1);
        assert_eq!(value("engine.step.le_ns.4096"), 2);
        assert_eq!(value("engine.step.le_ns.67108864"), 4);
    }
}
