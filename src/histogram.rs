//! How long something takes, as a distribution: buckets of a fixed, logarithmic scale.
//!
//! For what happens hundreds of thousands of times a second: a record is an increment, nothing is
//! allocated, and the whole is less than a kilobyte. Each power of two of nanoseconds is cut into four
//! buckets, so a bucket is at most a quarter wider than where it begins. Bounds belong to the bucket
//! below, as `le` of Prometheus' histograms has it.

use std::time::Duration;

/// What is shorter is in the first bucket: 1,024 ns.
const SHORTEST_BITS: u32 = 10;
/// What is longer is in the last bucket: 68.7 s.
const LONGEST_BITS: u32 = 36;
/// Two bits below the highest choose one of four buckets.
const PART_BITS: u32 = 2;
/// Buckets with an upper bound.
const BOUNDED: usize = 1 + (((LONGEST_BITS - SHORTEST_BITS) as usize) << PART_BITS);

/// Counts of durations by length.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// The last one has no upper bound.
    counts: [u64; BOUNDED + 1],
    count: u64,
    sum_nanos: u64,
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Nothing recorded yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            counts: [0; BOUNDED + 1],
            count: 0,
            sum_nanos: 0,
            max_nanos: 0,
        }
    }

    /// Something took so long.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.count += 1;
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them together; exact.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// The longest; exact, zero if nothing was recorded.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// A duration that a share (0 to 1) of what was recorded does not exceed; zero if nothing was.
    ///
    /// Never less than the exact quantile. Above a microsecond it is at most a quarter more, and
    /// never more than the longest.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let reached = |&(_, below): &(Option<Duration>, u64)| below >= rank.max(1);
        let bound = self.buckets().find(reached).and_then(|(bound, _)| bound);
        bound.map_or(self.max(), |bound| bound.min(self.max()))
    }

    /// In numbers under the names of `stats`: `count`, `sum_us`, `p50_us`, `p99_us`, `max_us`, and
    /// `le_ns.N` for every bound of a whole power of two up to `bound_max`.
    pub fn stats(&self, bound_max: Duration) -> impl Iterator<Item = (String, u64)> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let whole = [
            ("count", self.count()),
            ("sum_us", micros(self.sum())),
            ("p50_us", micros(self.quantile(0.5))),
            ("p99_us", micros(self.quantile(0.99))),
            ("max_us", micros(self.max())),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let shown = self.buckets().filter_map(move |(bound, below)| {
            let bound = bound.filter(|&bound| bound <= bound_max)?.as_nanos();
            let is_whole_power = bound.is_power_of_two();
            is_whole_power.then(|| (format!("le_ns.{bound}"), below))
        });
        whole.into_iter().chain(shown)
    }

    /// The buckets in order: upper bound (of the last one none), and how many were recorded up to it.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let mut below = 0;
        self.counts.iter().enumerate().map(move |(at, count)| {
            below += count;
            (upper_bound(at), below)
        })
    }
}

/// The bucket of a length.
fn bucket(nanos: u64) -> usize {
    // A bound belongs to the bucket that it closes.
    let nanos = nanos.saturating_sub(1);
    let Some(octave) = (u64::BITS - nanos.leading_zeros()).checked_sub(SHORTEST_BITS + 1) else {
        return 0;
    };
    let part = (nanos >> (octave + SHORTEST_BITS - PART_BITS)) as usize & ((1 << PART_BITS) - 1);
    (1 + ((octave as usize) << PART_BITS) + part).min(BOUNDED)
}

/// Where a bucket ends.
fn upper_bound(bucket: usize) -> Option<Duration> {
    let (octave, part) = match bucket.checked_sub(1) {
        None => return Some(Duration::from_nanos(1 << SHORTEST_BITS)),
        Some(at) if at + 1 < BOUNDED => (at >> PART_BITS, at & ((1 << PART_BITS) - 1)),
        Some(_) => return None,
    };
    let parts = (1 << PART_BITS) + part as u64 + 1;
    Some(Duration::from_nanos(
        parts << (octave as u32 + SHORTEST_BITS - PART_BITS),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lengths() -> impl Strategy<Value = Vec<u64>> {
        let length = prop_oneof![
            4 => (0..40u32, any::<u64>()).prop_map(|(bits, any)| any & ((1 << bits) - 1)),
            1 => (0..40u32, 0..3u64).prop_map(|(bits, by)| (1u64 << bits) + by - 1),
            1 => any::<u64>(),
        ];
        prop::collection::vec(length, 1..300)
    }

    proptest! {
        /// The model is the sorted samples.
        #[test]
        fn tells_what_sorted_samples_tell(mut lengths in lengths(), share in 0.0..=1.0f64) {
            let mut histogram = Histogram::new();
            for &nanos in &lengths {
                histogram.record(Duration::from_nanos(nanos));
            }
            lengths.sort_unstable();
            prop_assert_eq!(histogram.count(), lengths.len() as u64);
            prop_assert_eq!(histogram.max().as_nanos() as u64, *lengths.last().expect("some"));
            let sum = lengths.iter().fold(0u64, |sum, &nanos| sum.saturating_add(nanos));
            prop_assert_eq!(histogram.sum().as_nanos() as u64, sum);
            let rank = ((lengths.len() as f64 * share).ceil() as usize).max(1);
            let exact = u128::from(lengths[rank - 1]);
            let told = histogram.quantile(share).as_nanos();
            prop_assert!(told >= exact, "{told} for {exact}");
            if (1_024..1 << LONGEST_BITS).contains(&exact) {
                prop_assert!(told <= exact + exact / 4, "{told} for {exact}");
            }
            for (bound, below) in histogram.buckets() {
                let is_below = |nanos: &u64| {
                    bound.is_none_or(|bound| Duration::from_nanos(*nanos) <= bound)
                };
                prop_assert_eq!(below, lengths.iter().filter(|nanos| is_below(nanos)).count() as u64);
            }
        }
    }

    #[test]
    fn bounds_ascend_by_a_quarter_at_most_from_a_microsecond_to_a_minute() {
        let histogram = Histogram::default();
        let bounds: Vec<u128> = histogram
            .buckets()
            .filter_map(|(bound, _)| Some(bound?.as_nanos()))
            .collect();
        assert_eq!((bounds.len(), bounds.first()), (BOUNDED, Some(&1_024)));
        assert_eq!(bounds.last(), Some(&68_719_476_736));
        for pair in bounds.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] * 4 <= pair[0] * 5);
        }
    }

    #[test]
    fn of_nothing_everything_is_zero() {
        let histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
        assert_eq!(histogram.max(), Duration::ZERO);
        assert!(histogram.buckets().all(|(_, below)| below == 0));
    }
}
