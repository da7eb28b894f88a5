//! What can be asked of the engine, and its answers.

use std::fmt;
use std::time::Duration;

use super::lookup::Found;
use super::notice::JobId;
use super::role::Instance;
use super::status::Status;
use crate::cache::Secs;
use crate::flow::{Expectation, Flow, FlowKey, Rare};

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
        /// How it came to us.
        via: Via,
        /// `INSTANCE` or `GROUP`, and its name.
        instance: Instance,
        /// Its state here.
        state: InstanceState,
    },
    /// Hand over to a peer. `Reply::Started`.
    Switchover {
        /// How long it may take, in all.
        timeout: Duration,
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
    /// Look a flow up in every table. `Reply::Found`.
    Lookup(FlowKey),
    /// Some flows and expectations of a table. `Reply::Flows`.
    Flows {
        /// Which table, and from where on.
        from: FlowsFrom,
        /// Most slots to look at.
        slots_max: u32,
    },
}

/// How keepalived's word came to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// `ctsyncd notify`, which waits for the end.
    Notify,
    /// The FIFO: nobody waits.
    Fifo,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notify => "notify",
            Self::Fifo => "fifo",
        })
    }
}

/// What keepalived says of one of its instances or groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InstanceState {
    /// It has the addresses.
    Master,
    /// Another node has them.
    Backup,
    /// Something that it tracks has failed; another node has them, if there is one.
    Fault,
    /// keepalived stops.
    Stop,
    /// The instance is no longer configured.
    Deleted,
    /// It stays what it is: a priority has changed, or a lower one was heard.
    Unchanged,
}

impl InstanceState {
    /// keepalived's word for it; `None` if it is none that we know.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "MASTER" => Self::Master,
            "BACKUP" => Self::Backup,
            "FAULT" => Self::Fault,
            "STOP" => Self::Stop,
            "DELETED" => Self::Deleted,
            "MASTER_RX_LOWER_PRI" | "MASTER_PRIORITY" | "BACKUP_PRIORITY" => Self::Unchanged,
            _ => return None,
        })
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
            Self::Unchanged => "unchanged",
        })
    }
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
    /// What is known of a flow.
    Found(Box<Found>),
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
