//! Which versions of the protocol a node speaks. `docs/protocol.md` section 15.

use super::PROTOCOL_VERSION;

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Versions {
    /// Lowest.
    pub min: u8,
    /// Highest; not below `min`.
    pub max: u8,
}

impl Versions {
    /// What this build speaks.
    pub const OURS: Self = Self {
        min: PROTOCOL_VERSION,
        max: PROTOCOL_VERSION,
    };

    /// The version that a pair uses; `None` if no version is in both ranges. Both sides come to the
    /// same answer, each from its own point of view.
    #[must_use]
    pub fn highest_common(self, other: Self) -> Option<u8> {
        let highest = self.max.min(other.max);
        (highest >= self.min && highest >= other.min).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(min: u8, max: u8) -> Versions {
        Versions { min, max }
    }

    #[test]
    fn a_pair_uses_the_highest_version_of_both_ranges() {
        for (one, other, common) in [
            (of(1, 1), of(1, 1), Some(1)),
            (of(1, 1), of(1, 2), Some(1)),
            (of(1, 3), of(2, 9), Some(3)),
            (of(0, u8::MAX), of(4, 5), Some(5)),
            (of(1, 1), of(2, 2), None),
            (of(5, 7), of(1, 4), None),
        ] {
            assert_eq!(one.highest_common(other), common, "{one:?} {other:?}");
            assert_eq!(other.highest_common(one), common, "{other:?} {one:?}");
        }
    }
}
