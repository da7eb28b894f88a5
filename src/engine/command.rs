//! What can be asked of the engine, and its answers.

use super::notice::JobId;
use super::status::Status;
use crate::cache::Secs;
use crate::flow::{Expectation, Flow, Rare};

/// A question or an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `Reply::Status`.
    Status,
    /// `Reply::Stats`.
    Stats,
    /// Put the replicas into the kernel. `Reply::Started`.
    Commit {
        /// Only those of the peers with these names; none: of all whose word counts.
        from: Vec<String>,
    },
    /// Say what a commit or a promotion would do now, and change nothing. `Reply::Started`, which
    /// ends in `JobResult::Foreseen`.
    DryRun {
        /// As of a commit.
        from: Vec<String>,
    },
    /// Become active. `Reply::Started`.
    Promote,
    /// Become standby. `Reply::Done`.
    Demote,
    /// What keepalived says of one of its instances or groups: as `Promote` or `Demote`, or
    /// `Reply::Done` if another one decides.
    Instance {
        /// `INSTANCE` or `GROUP`.
        kind: String,
        /// Its name.
        name: String,
        /// It is MASTER here.
        is_master: bool,
    },
    /// Forget the local cache and list the kernel's table anew. `Reply::Started`.
    FlushLocal,
    /// Forget all replicas. `Reply::FlowsForgotten`.
    FlushReplicas,
    /// Delete the flows of the local cache from the kernel. `Reply::Started`.
    FlushKernel,
    /// List the kernel's table anew. `Reply::Started`.
    ResyncKernel,
    /// Send the whole table to all peers. `Reply::Started`.
    ResyncPeers,
    /// Some flows and expectations of a table. `Reply::Flows`.
    Flows {
        /// Which table, and from where on.
        from: FlowsFrom,
        /// Most slots to look at.
        slots_max: u32,
    },
}

/// A place in a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowsFrom {
    /// The local cache, from a slot on.
    Local(u32),
    /// The replica of the peer with this number, from a slot on.
    Replica(usize, u32),
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// One look at the node.
    Status(Box<Status>),
    /// Every counter by name.
    Stats(Vec<(String, u64)>),
    /// It is done.
    Done,
    /// So many flows were forgotten.
    FlowsForgotten(u64),
    /// It has begun; `Notice::JobDone` tells its end.
    Started(JobId),
    /// It was refused, and why.
    Refused(String),
    /// Part of a table.
    Flows {
        /// Flows with their rare attributes and what is left of their timeout.
        flows: Vec<(Flow, Rare, Secs)>,
        /// Expectations with what is left of their timeout.
        expectations: Vec<(Expectation, Secs)>,
        /// Where to go on; `None` at the end.
        next: Option<FlowsFrom>,
    },
}
