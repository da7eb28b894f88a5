//! What this node's kernel has for flows besides its table: room, and the rules without which a
//! flow is of no use. `kernel` finds it out, the engine judges by it.

/// One look at the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// How full the table is; `None` if nobody can tell.
    pub room: Option<Room>,
    /// What the rules of this network namespace make of flows.
    pub rules: Rules,
}

/// How full the kernel's table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// `net.netfilter.nf_conntrack_max`: most flows. A create beyond it gets ENOMEM, and nothing is
    /// evicted for it.
    pub max: u32,
    /// `net.netfilter.nf_conntrack_count`: flows in the table, ended ones that were not collected
    /// yet included.
    pub count: u32,
}

/// What the rules of a network namespace make of flows, as far as can be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// A chain of `type nat` sees IPv4: without one, translations are stored and not performed.
    pub nat_v4: Seen,
    /// Likewise IPv6.
    pub nat_v6: Seen,
    /// A rule uses conntrack: without one, packets are not tracked.
    pub tracking: Seen,
    /// A rule uses `ct label`: without one, the kernel drops labels at a create without an error.
    pub labels: Seen,
}

/// Whether something is there. Whatever is in doubt is `Unknown`: a false alarm is worse than none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Seen {
    /// Nobody can tell.
    #[default]
    Unknown,
    /// It is there.
    Yes,
    /// Everything was looked at, and it is not there.
    No,
}
