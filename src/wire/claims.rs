//! What an active node claims: the instances and groups of its keepalived that are MASTER there.
//! `docs/protocol.md` section 13, PING_V1.
//!
//! A hash stands for each, so that a ping stays small whatever the names are. Two nodes that claim
//! the same are a split brain; two that claim different instances share the work (active-active).

use super::WireError;
use super::codec::Body;

/// Most instances and groups that a ping names; the engine keeps no more.
pub const CLAIMS_MAX: usize = 64;

/// The claim of a node that is active without any instance: everything. No hash has this value.
const EVERYTHING: u32 = 0;

/// Hash of one instance or group: FNV-1a, 32 bits, of the kind, a zero and the name. Without a key,
/// because nothing is looked up by it and two nodes have to find the same.
#[must_use]
pub fn claim_of(kind: &str, name: &str) -> u32 {
    let bytes = kind.bytes().chain([0]).chain(name.bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    // The value that means everything is nobody's.
    hash.max(1)
}

/// What a node claims; empty: nothing, it is standby.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claims {
    /// In ascending order, the rest is 0.
    hashes: [u32; CLAIMS_MAX],
    len: u8,
}

impl Claims {
    /// Nothing is claimed.
    pub const NONE: Self = Self {
        hashes: [0; CLAIMS_MAX],
        len: 0,
    };

    /// Everything is claimed: active, and no instance says for what.
    #[must_use]
    pub fn everything() -> Self {
        Self::of([EVERYTHING])
    }

    /// Claims of these instances; what is beyond [`CLAIMS_MAX`] is left out.
    #[must_use]
    pub fn of(hashes: impl IntoIterator<Item = u32>) -> Self {
        let mut claims = Self::NONE;
        for hash in hashes {
            let len = usize::from(claims.len);
            let Err(at) = claims.hashes[..len].binary_search(&hash) else {
                continue;
            };
            if len == CLAIMS_MAX {
                break;
            }
            claims.hashes.copy_within(at..len, at + 1);
            claims.hashes[at] = hash;
            claims.len += 1;
        }
        claims
    }

    /// The hashes, in ascending order.
    #[must_use]
    pub fn hashes(&self) -> &[u32] {
        &self.hashes[..usize::from(self.len)]
    }

    /// True if nothing is claimed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if all is claimed, whatever instances there are.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.hashes().first() == Some(&EVERYTHING)
    }

    /// True if `hash` is claimed.
    #[must_use]
    pub fn has(&self, hash: u32) -> bool {
        self.is_everything() || self.hashes().binary_search(&hash).is_ok()
    }

    /// True if two nodes claim the same, at least in part.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        if self.is_everything() || other.is_everything() {
            return !self.is_empty() && !other.is_empty();
        }
        self.hashes().iter().any(|&hash| other.has(hash))
    }

    /// True if all that `other` claims is claimed here too.
    #[must_use]
    pub fn cover(&self, other: &Self) -> bool {
        self.is_everything() || other.hashes().iter().all(|&hash| self.has(hash))
    }

    /// Appends the hashes, 4 bytes each with the least first; their count is told before.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        for hash in self.hashes() {
            out.extend_from_slice(&hash.to_le_bytes());
        }
    }

    /// Reads `count` hashes. They ascend, so that claims have one form only.
    pub(super) fn take(body: &mut Body<'_>, count: usize) -> Result<Self, WireError> {
        if count > CLAIMS_MAX {
            return Err(WireError::Range);
        }
        let mut claims = Self::NONE;
        for (at, bytes) in body.bytes(4 * count)?.chunks_exact(4).enumerate() {
            let hash = u32::from_le_bytes(bytes.try_into().expect("a chunk of four"));
            if at > 0 && hash <= claims.hashes[at - 1] {
                return Err(WireError::Malformed);
            }
            claims.hashes[at] = hash;
            claims.len += 1;
        }
        Ok(claims)
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_and_a_group_of_one_name_are_two() {
        assert_ne!(claim_of("INSTANCE", "VI_1"), claim_of("GROUP", "VI_1"));
        // FNV-1a of "GROUP\0firewall", computed elsewhere: other nodes must find the same.
        assert_eq!(claim_of("GROUP", "firewall"), 0xf147_9c7c);
    }

    #[test]
    fn claims_overlap_where_one_instance_is_on_both_sides() {
        let (one, two) = (claim_of("INSTANCE", "one"), claim_of("INSTANCE", "two"));
        let of = |hashes: &[u32]| Claims::of(hashes.iter().copied());
        for (left, right, overlap) in [
            (of(&[one]), of(&[two]), false),
            (of(&[one, two]), of(&[two]), true),
            (of(&[one]), of(&[one]), true),
            (of(&[one]), Claims::everything(), true),
            (Claims::everything(), Claims::everything(), true),
            (Claims::everything(), Claims::NONE, false),
            (of(&[one]), Claims::NONE, false),
        ] {
            assert_eq!(left.overlap(&right), overlap, "{left:?} {right:?}");
            assert_eq!(right.overlap(&left), overlap, "{right:?} {left:?}");
        }
        assert!(of(&[one, two]).cover(&of(&[two])));
        assert!(!of(&[two]).cover(&of(&[one, two])));
        assert!(Claims::everything().cover(&of(&[one])));
    }

    #[test]
    fn claims_are_sorted_told_once_and_bounded() {
        let claims = Claims::of([7, 3, 7, 5]);
        assert_eq!(claims.hashes(), [3, 5, 7]);
        let many = Claims::of((1..=100).rev());
        assert_eq!(many.hashes().len(), CLAIMS_MAX);
        assert!(many.hashes().is_sorted());
    }
}
