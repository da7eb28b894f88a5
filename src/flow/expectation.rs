//! An expectation: a flow that a helper waits for, because a flow that it reads has announced it.
//!
//! The kernel drops it when the flow comes, when its time is over, when its helper has too many, or
//! with its master. It shows it in the same form in events and listings
//! (net/netfilter/nf_conntrack_netlink.c, `ctnetlink_exp_dump_expect`), without the zone, which is
//! that of its master.

use super::rare::HelperName;
use super::{EventKind, Family, Tuple};

/// Longest name of a function that sets up the expected flow; the kernel's longest has 17 bytes.
pub const FUNCTION_NAME_MAX: usize = 31;

/// What tells expectations apart: the tuple that is waited for, and its zone. The kernel refuses
/// two whose tuples overlap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ExpectationKey {
    /// `CTA_EXPECT_TUPLE`.
    pub tuple: Tuple,
    /// Zone of the original direction of the master.
    pub zone: u16,
}

/// One expectation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Expectation {
    /// `CTA_EXPECT_TUPLE`: the original tuple of the expected flow, where `mask` counts.
    pub tuple: Tuple,
    /// `CTA_EXPECT_MASK`: which bits of the source must be as in `tuple`; of the destination all
    /// must be.
    pub mask: SourceMask,
    /// `CTA_EXPECT_MASTER`: the original tuple of the flow whose helper expects.
    pub master: Tuple,
    /// Zone of the original direction of the master. The kernel never tells it with the
    /// expectation; 0 until the master was looked up.
    pub zone: u16,
    /// `CTA_EXPECT_ID`, as little to be relied on as the id of a flow; 0 if not known.
    pub id: u32,
    /// `CTA_EXPECT_NAT`: what the translation of the expected flow is made from.
    pub nat: Option<ExpectationNat>,
    /// `CTA_EXPECT_CLASS`: which of the helper's kinds of expectation it is.
    pub class: u32,
    /// `CTA_EXPECT_FLAGS`: `NF_CT_EXPECT_*`.
    pub flags: u32,
    /// `CTA_EXPECT_HELP_NAME`: the helper of the master.
    pub helper: Option<HelperName>,
    /// `CTA_EXPECT_FN`: what sets up the expected flow.
    pub function: Option<FunctionName>,
    /// `CTA_EXPECT_TIMEOUT`: seconds left when the source said so.
    pub timeout_secs: u32,
}

impl Expectation {
    /// What tells this expectation apart.
    #[must_use]
    pub fn key(&self) -> ExpectationKey {
        ExpectationKey {
            tuple: self.tuple,
            zone: self.zone,
        }
    }
}

/// The part of a mask that the kernel keeps; everything else of a tuple must match.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SourceMask {
    /// Bits of the source address that count, in the form of a tuple's.
    pub address: [u8; 16],
    /// Bits of the source port that count.
    pub id: u16,
}

impl SourceMask {
    /// The mask as a tuple, which is how ctnetlink and `conntrack -L expect` write it.
    #[must_use]
    pub fn as_tuple(&self, of: &Tuple) -> Tuple {
        let mut dst = [0; 16];
        let len = match of.family {
            Family::V4 => 4,
            Family::V6 => 16,
        };
        dst[..len].fill(0xff);
        Tuple {
            src: self.address,
            dst,
            src_id: self.id,
            dst_id: u16::MAX,
            ..*of
        }
    }
}

/// `CTA_EXPECT_NAT`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ExpectationNat {
    /// `CTA_EXPECT_NAT_DIR`: 0 if the expected flow goes the way of its master, 1 for the other.
    pub direction: u32,
    /// Address before the translation, in the form of a tuple's; zero if it is the master's.
    pub address: [u8; 16],
    /// Port before the translation.
    pub id: u16,
}

/// The name of a function, without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FunctionName {
    bytes: [u8; FUNCTION_NAME_MAX],
    len: u8,
}

impl FunctionName {
    /// A name from its bytes without the closing zero; `None` under the conditions of
    /// [`HelperName::new`].
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let is_seen = name.iter().all(u8::is_ascii_graphic);
        if name.is_empty() || name.len() > FUNCTION_NAME_MAX || !is_seen {
            return None;
        }
        let mut bytes = [0; FUNCTION_NAME_MAX];
        bytes[..name.len()].copy_from_slice(name);
        Some(Self {
            bytes,
            len: u8::try_from(name.len()).expect("at most 31"),
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("checked to be ASCII")
    }
}

/// One event about an expectation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExpectationEvent {
    /// What happened. The kernel tells no update.
    pub kind: EventKind,
    /// Netlink port id of the process that caused the event; 0 for the kernel itself.
    pub port_id: u32,
    /// The expectation, its zone not known.
    pub expectation: Expectation,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::tuple::TCP;

    #[test]
    fn a_mask_is_shown_with_a_full_destination() {
        let ip = |text: &str| text.parse().expect("a literal");
        let tuple = Tuple::new(TCP, ip("192.0.2.1"), ip("198.51.100.7"), 0, 40_000);
        let mask = SourceMask {
            address: [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            id: 0,
        };
        let shown = mask.as_tuple(&tuple);
        assert_eq!(shown.src_ip(), ip("255.255.255.0"));
        assert_eq!(shown.dst_ip(), ip("255.255.255.255"));
        assert_eq!((shown.src_id, shown.dst_id), (0, u16::MAX));
        let tuple = Tuple::new(TCP, ip("fd00::1"), ip("fd00::2"), 0, 40_000);
        let full = ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(mask.as_tuple(&tuple).dst_ip(), full);
    }

    #[test]
    fn a_function_name_is_one_word_that_can_be_seen() {
        let kept = FunctionName::new(b"nat-follow-master").expect("one of the kernel's");
        assert_eq!(kept.as_str(), "nat-follow-master");
        for name in ["", "two words", "nul\0", &"x".repeat(FUNCTION_NAME_MAX + 1)] {
            assert_eq!(FunctionName::new(name.as_bytes()), None, "{name:?}");
        }
    }
}
