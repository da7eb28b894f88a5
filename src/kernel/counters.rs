//! Counts of what could not be decoded, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ctnetlink::DecodeError;

const REASONS: [DecodeError; 8] = [
    DecodeError::Truncated,
    DecodeError::MessageLength,
    DecodeError::AttributeLength,
    DecodeError::ValueLength,
    DecodeError::NotAFlow,
    DecodeError::Family,
    DecodeError::IncompleteTuple,
    DecodeError::TuplesDiffer,
];

/// One count for each reason.
#[derive(Debug, Default)]
pub struct Undecodable([AtomicU64; REASONS.len()]);

impl Undecodable {
    pub(super) fn count(&self, error: DecodeError) {
        add_one(&self.0[index(error)]);
    }

    /// All reasons, with how often they came.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        REASONS.iter().map(|error| {
            (
                error.reason(),
                self.0[index(*error)].load(Ordering::Relaxed),
            )
        })
    }

    /// Over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().map(|(_, count)| count).sum()
    }
}

/// Place of a reason in `REASONS`.
fn index(error: DecodeError) -> usize {
    match error {
        DecodeError::Truncated => 0,
        DecodeError::MessageLength => 1,
        DecodeError::AttributeLength => 2,
        DecodeError::ValueLength => 3,
        DecodeError::NotAFlow => 4,
        DecodeError::Family => 5,
        DecodeError::IncompleteTuple => 6,
        DecodeError::TuplesDiffer => 7,
    }
}

pub(super) fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let counts = Undecodable::default();
        for (place, error) in REASONS.into_iter().enumerate() {
            assert_eq!(index(error), place);
            for _ in 0..=place {
                counts.count(error);
            }
        }

        let counted: Vec<u64> = counts.by_reason().map(|(_, count)| count).collect();
        assert_eq!(counted, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(counts.total(), 36);
    }
}
