//! The status bits of a flow: `enum ip_conntrack_status`,
//! include/uapi/linux/netfilter/nf_conntrack_common.h.

/// `CTA_STATUS`, in host order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Status(pub u32);

impl Status {
    /// Created by an expectation; has a master.
    pub const EXPECTED: u32 = 1 << 0;
    /// A packet of the reply direction was seen.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Spared when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// In the kernel's table.
    pub const CONFIRMED: u32 = 1 << 3;
    /// The source is translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// The destination is translated.
    pub const DST_NAT: u32 = 1 << 5;
    /// Sequence numbers are adjusted.
    pub const SEQ_ADJUST: u32 = 1 << 6;
    /// The source binding is decided.
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    /// The destination binding is decided.
    pub const DST_NAT_DONE: u32 = 1 << 8;
    /// On its way out.
    pub const DYING: u32 = 1 << 9;
    /// The timeout is not refreshed by packets.
    pub const FIXED_TIMEOUT: u32 = 1 << 10;
    /// Has a helper that was assigned by hand.
    pub const HELPER: u32 = 1 << 13;
    /// In a flowtable.
    pub const OFFLOAD: u32 = 1 << 14;
    /// In a flowtable of the hardware.
    pub const HW_OFFLOAD: u32 = 1 << 15;

    /// The bits that replicate: what a commit can restore or needs to know. DYING and the offload
    /// bits describe one kernel's business only.
    pub const REPLICATED: u32 = Self::EXPECTED
        | Self::SEEN_REPLY
        | Self::ASSURED
        | Self::CONFIRMED
        | Self::SRC_NAT
        | Self::DST_NAT
        | Self::SEQ_ADJUST
        | Self::SRC_NAT_DONE
        | Self::DST_NAT_DONE
        | Self::FIXED_TIMEOUT
        | Self::HELPER;

    /// True if every bit of `bits` is set.
    #[must_use]
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}
