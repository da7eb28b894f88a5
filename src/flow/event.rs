//! What an event source tells: one flow, and what happened to it.

use super::{Flow, Rare};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum EventKind {
    /// A flow was born (`IPCTNL_MSG_CT_NEW` with NLM_F_CREATE).
    #[default]
    New,
    /// A flow changed (`IPCTNL_MSG_CT_NEW` without NLM_F_CREATE).
    Update,
    /// A flow ended (`IPCTNL_MSG_CT_DELETE`).
    Destroy,
    /// A flow is there: one entry of a dump, or the answer to a GET.
    Listed,
}

/// Which attributes an event carried; what it did not carry is unchanged (kernel: the mark is the
/// exception, absent means zero).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Present(pub u16);

impl Present {
    /// `CTA_PROTOINFO`.
    pub const PROTOINFO: u16 = 1 << 0;
    /// `CTA_TIMEOUT`. In a destroy it says that the flow was killed; absent, that it expired.
    pub const TIMEOUT: u16 = 1 << 1;
    /// `CTA_LABELS`.
    pub const LABELS: u16 = 1 << 2;
    /// `CTA_SEQ_ADJ_ORIG` or `CTA_SEQ_ADJ_REPLY`.
    pub const SEQADJ: u16 = 1 << 3;
    /// `CTA_SYNPROXY`.
    pub const SYNPROXY: u16 = 1 << 4;
    /// `CTA_TUPLE_MASTER`.
    pub const MASTER: u16 = 1 << 5;
    /// `CTA_HELP`.
    pub const HELPER: u16 = 1 << 6;
    /// `CTA_STATUS`.
    pub const STATUS: u16 = 1 << 7;
    /// TCP: a packet of the original direction was judged to be in the window
    /// (`IP_CT_TCP_FLAG_MAXACK_SET`). A result of tracking, not kept with the flow.
    pub const ORIG_JUDGED: u16 = 1 << 8;
    /// Likewise of the reply direction.
    pub const REPLY_JUDGED: u16 = 1 << 9;

    /// True if the event carried all of `bits`.
    #[must_use]
    pub fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }
}

/// One event. A source need not know `flow.id`, and an update may be partial or complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowEvent {
    /// What happened.
    pub kind: EventKind,
    /// What the event carried.
    pub present: Present,
    /// Netlink port id of the process that caused the event; 0 for the kernel itself.
    pub port_id: u32,
    /// The flow, as far as `present` says.
    pub flow: Flow,
    /// Its rare attributes, as far as `present` says.
    pub rare: Rare,
}
