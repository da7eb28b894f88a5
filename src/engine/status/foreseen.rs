//! What a commit would do now: the answer to `commit --dry-run` and `promote --dry-run`.

use serde::{Deserialize, Serialize};

/// What a commit would do, by what this node knows of its kernel. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Foreseen {
    /// Flows that it would go through.
    pub total: u64,
    /// It would create these.
    pub create: u64,
    /// Already there and right: it would leave these alone.
    pub already: u64,
    /// There, but stale or different: it would delete these and create them anew.
    pub replace: u64,
    /// It would leave these out: their owner has been silent for longer than they live.
    pub expired: u64,
    /// The same by peer, the most authoritative first.
    pub sources: Vec<ForeseenSource>,
    /// What would be in the way, by reason; it would be replaced.
    pub conflicts: Vec<ForeseenConflict>,
    /// Room in the kernel's table; null if nobody can tell.
    pub room: Option<ForeseenRoom>,
    /// What the flows need and this node does not have, a sentence each, with its mend.
    pub missing: Vec<String>,
    /// How long it would take at the rate of the last commit, in milliseconds; null without one.
    pub estimated_ms: Option<u64>,
}

/// What a commit would do with the replica of one peer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ForeseenSource {
    /// The peer.
    pub peer: String,
    /// Flows of its replica.
    pub flows: u64,
    /// To create.
    pub create: u64,
    /// Already there and right, or taken from a peer of more authority.
    pub already: u64,
    /// To replace.
    pub replace: u64,
    /// To leave out.
    pub expired: u64,
}

/// Flows for which something is in the way, for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForeseenConflict {
    /// In words.
    pub reason: String,
    /// How many.
    pub flows: u64,
}

/// Room in the kernel's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForeseenRoom {
    /// `net.netfilter.nf_conntrack_max`.
    pub max: u64,
    /// Flows in the table now.
    pub count: u64,
    /// Flows that a commit would leave out for want of room.
    pub left_out: u64,
    /// What to set `net.netfilter.nf_conntrack_max` to, if some would be left out.
    pub wanted_max: Option<u64>,
}
