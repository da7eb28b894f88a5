//! What the engine wants people, and whoever waits for a job, to hear about.

use std::time::{Duration, Instant};

use super::handover::{Standing, Switchover};
use super::history::Transition;
use super::status::{CommitStatus, Foreseen, Role};
use crate::replication::PeerNotice;
use crate::wire::Name;

/// A piece of work that takes longer than a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct JobId(pub u64);

/// How a job ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobResult {
    /// The replicas are in the kernel.
    Committed(CommitStatus),
    /// What a commit would do.
    Foreseen(Box<Foreseen>),
    /// Flows were deleted from the kernel.
    Flushed {
        /// Deleted, or gone already.
        deleted: u64,
        /// Refused by the kernel.
        failed: u64,
    },
    /// A peer is active in our place.
    SwitchedOver(Switchover),
    /// Done, and there is nothing to count.
    Done,
    /// Not done, and why.
    Failed(String),
}

/// A notice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// About a peer.
    Peer(PeerNotice),
    /// The role changed.
    Role {
        /// From.
        from: Role,
        /// To.
        to: Role,
        /// The term.
        term: u64,
    },
    /// After a demotion: the entries that the new active has will age out here.
    Faded {
        /// How many were shortened.
        shortened: u64,
    },
    /// After a commit: TCP flows were made strict again.
    MadeStrict {
        /// These are strict, and talk.
        cleared: u64,
        /// These were silent afterwards, and are liberal for good.
        set_back: u64,
    },
    /// A promotion, take-over or demotion has begun; told again, under the same number, when it is
    /// over.
    Transition {
        /// When.
        began: Instant,
        /// What.
        transition: Box<Transition>,
    },
    /// keepalived has to be told something else of this node.
    Standing(Standing),
    /// Another node is active for the same addresses.
    SplitBrain {
        /// Who, for what, and what to do.
        cause: String,
    },
    /// A split brain is over, or out of sight.
    SplitBrainOver {
        /// The other node.
        peer: Name,
        /// For how long it lasted.
        lasted: Duration,
    },
    /// A commit ended.
    Committed(CommitStatus),
    /// A job ended.
    JobDone {
        /// Which.
        job: JobId,
        /// How.
        result: JobResult,
    },
    /// The kernel dropped events; the table is listed anew.
    Overrun,
    /// The first listing, or one that repaired what was missed, is complete.
    TableWhole {
        /// Flows tracked.
        tracked: u32,
        /// Flows that neither the listing nor an event named, removed.
        swept: u64,
    },
    /// `flows_max` is reached: flows are missing in the local cache.
    TableFull,
}
