//! What `status` shows, as the control socket carries it. Fields are added, never renamed.

use serde::{Deserialize, Serialize};

mod foreseen;

pub use foreseen::{Foreseen, ForeseenConflict, ForeseenRoom, ForeseenSource};

pub use super::handover::Switchover;
pub use super::history::{PeerThen, Transition, TransitionKind};

/// One look at the node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of this form; grows when a field changes its meaning.
    pub version: u32,
    /// Own name.
    pub node: String,
    /// Role.
    pub role: Role,
    /// Grows with each promotion of this node.
    pub term: u64,
    /// The links are neither encrypted nor authenticated.
    pub insecure: bool,
    /// A standby: it could take over now. An active: it owns its flows.
    pub ready: bool,
    /// Why not ready, in words.
    pub cause: Option<String>,
    /// Own kernel's flows.
    pub local: LocalStatus,
    /// The event source.
    pub kernel: KernelStatus,
    /// The links.
    pub links: Vec<LinkStatus>,
    /// The peers, by name.
    pub peers: Vec<PeerStatus>,
    /// Who was heard lately and could not be understood.
    #[serde(default)]
    pub strangers: Vec<StrangerStatus>,
    /// Other nodes that are active for the same addresses as this one.
    #[serde(default)]
    pub split_brain: Vec<SplitBrainStatus>,
    /// The last promotion of this node, also of an earlier run; the daemon puts it in.
    #[serde(default)]
    pub last_promotion: Option<PastTransition>,
    /// Progress of the running commit, or the outcome of the last.
    pub commit: Option<CommitStatus>,
    /// The gate; none is configured otherwise.
    #[serde(default)]
    pub gate: Option<GateStatus>,
    /// What the kernel holds of the peers' flows; null in cold standby.
    #[serde(default)]
    pub hot: Option<HotStatus>,
}

/// The gate that keeps forwarded packets from a node that must not carry them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GateStatus {
    /// What it does.
    pub state: GateState,
    /// Since when, in milliseconds.
    pub since_ms: u64,
    /// Why, in words; what is wrong and what mends it.
    pub why: String,
    /// Packets dropped since the daemon started, as of the last look.
    pub dropped: u64,
}

/// What the gate does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// Everything passes.
    Open,
    /// Forwarded packets and packets to addresses that are not this node's own are dropped.
    Closed,
    /// The system refuses it: everything passes.
    Unavailable,
}

/// Another node that is active for the same addresses as this one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SplitBrainStatus {
    /// Its name.
    pub peer: String,
    /// keepalived's instances and groups that are MASTER on both; empty: one of the two is active
    /// without any.
    pub instances: Vec<String>,
    /// For how long, in milliseconds.
    pub since_ms: u64,
    /// What it is and what to do, in words.
    pub cause: String,
}

/// A transition with the time of day.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastTransition {
    /// When it began, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The run of the daemon.
    pub run: String,
    /// What happened.
    #[serde(flatten)]
    pub transition: Transition,
}

/// Hot standby: the peers' flows in our kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HotStatus {
    /// Copies of peers' flows in the kernel.
    pub flows: u64,
    /// Flows that wait to be written or looked at.
    pub pending: u64,
    /// All that the peers that carry traffic have has been put into the kernel once; what has
    /// changed since is in `pending`.
    pub complete: bool,
    /// Flows that the kernel has refused since the last look at all of them, by reason.
    pub refused: Vec<FailedFlows>,
    /// Created since the start.
    pub created: u64,
    /// Updated.
    pub updated: u64,
    /// Deleted and created anew.
    pub replaced: u64,
    /// Deleted because their owner ended them.
    pub deleted: u64,
    /// Given new time before the kernel aged them.
    pub rearmed: u64,
    /// Created without the helper, which this kernel does not know.
    pub without_helper: u64,
}

/// Somebody who is heard and cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StrangerStatus {
    /// Who they say they are.
    pub name: String,
    /// What is wrong, and what mends it.
    pub cause: String,
}

/// Role of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds replicas, carries no traffic.
    Standby,
    /// Putting the replicas into the kernel.
    Promoting,
    /// Carries the traffic.
    Active,
}

/// The local cache.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalStatus {
    /// Flows that replicate.
    pub flows: u64,
    /// Flows and expectations that the kernel tracks and policy does not keep out of the cache.
    pub tracked: u64,
    /// Expectations that replicate.
    #[serde(default)]
    pub expectations: u64,
    /// Ended flows some peer has not heard of.
    pub tombstones: u64,
}

/// The event source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KernelStatus {
    /// The first listing of the kernel's table is complete.
    pub complete: bool,
    /// Something was missed and is being repaired by a listing.
    pub dirty: bool,
    /// Events received.
    pub events: u64,
    /// Events that our own writes caused.
    pub echoes: u64,
    /// Times that the kernel had to drop events.
    pub overruns: u64,
    /// Listings completed.
    pub dumps: u64,
}

/// One link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Interface and address, as configured.
    pub name: String,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
    /// Sends that the system refused.
    pub send_errors: u64,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// State of the session.
    pub state: PeerState,
    /// Why it is not in sync, in words.
    pub cause: Option<String>,
    /// Version of the protocol that the session uses.
    #[serde(default)]
    pub version: Option<u8>,
    /// Link that carries.
    pub link: Option<String>,
    /// Every link, in order of preference: whether the peer answers over it.
    #[serde(default)]
    pub links: Vec<PathStatus>,
    /// Silence, in milliseconds.
    pub silent_ms: u64,
    /// Age of the oldest change the peer has not acknowledged; 0 when there is none.
    pub lag_ms: u64,
    /// Changes the peer has not acknowledged, at most.
    pub lag_records: u64,
    /// What we hold of its flows.
    pub replica: ReplicaStatus,
}

/// One link as a way to one peer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathStatus {
    /// The link.
    pub name: String,
    /// What it is good for.
    pub state: PathState,
}

/// What a link is good for, as a way to one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// It carries what is sent.
    Carrying,
    /// The peer answers over it: it could carry.
    Answers,
    /// The peer does not answer over it.
    Silent,
}

/// State of a session with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// Heard of, no session yet.
    Greeting,
    /// The session runs and the first pass over the table is not complete.
    Joining,
    /// The session runs.
    Streaming,
    /// The session is silent.
    Silent,
    /// It speaks another protocol version.
    Incompatible,
}

/// The replica of a peer's flows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Flows held.
    pub flows: u64,
    /// Expectations held.
    #[serde(default)]
    pub expectations: u64,
    /// The last comparison with the peer found equality, and it has been heard since.
    pub in_sync: bool,
    /// Age of the last proof of equality.
    pub verified_age_ms: Option<u64>,
    /// How far the peer's own sending lags behind its kernel, as it says.
    pub lag_ms: u64,
    /// Changes the peer has still to send, as it says, at most.
    pub lag_records: u64,
}

/// A commit: replicas into the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CommitStatus {
    /// Still running.
    pub running: bool,
    /// Time it took so far, in milliseconds.
    pub elapsed_ms: u64,
    /// Flows to go through.
    pub total: u64,
    /// Created.
    pub created: u64,
    /// Already there and right: left alone.
    pub already: u64,
    /// There, but stale or different: deleted and created anew.
    pub replaced: u64,
    /// Created without the helper, which this kernel does not know.
    pub without_helper: u64,
    /// Left out: their owner has been silent for longer than they live without a packet.
    #[serde(default)]
    pub expired: u64,
    /// Created, and the kernel has dropped their labels: no rule of this node uses labels. They are
    /// among `created`, `replaced` and `without_helper`.
    #[serde(default)]
    pub without_labels: u64,
    /// Not in the kernel now, by reason.
    pub failed: Vec<FailedFlows>,
    /// What the flows need and this node does not have, a sentence each, with its mend.
    #[serde(default)]
    pub missing: Vec<String>,
    /// What became of the expectations, which are not counted above.
    #[serde(default)]
    pub expectations: ExpectationsStatus,
}

/// The expectations of a commit.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ExpectationsStatus {
    /// Expectations to go through.
    pub total: u64,
    /// Created.
    pub created: u64,
    /// Already there: left alone.
    pub already: u64,
    /// Left out: the flow that expects has expected something newer.
    pub superseded: u64,
    /// Left out: their owner has been silent for longer than they live.
    pub expired: u64,
    /// Not in the kernel now, by reason.
    pub failed: Vec<FailedFlows>,
}

impl CommitStatus {
    /// Flows that have their outcome.
    #[must_use]
    pub fn done(&self) -> u64 {
        let failed = self.failed.iter().map(|failed| failed.flows);
        [
            self.created,
            self.already,
            self.replaced,
            self.without_helper,
            self.expired,
        ]
        .into_iter()
        .chain(failed)
        .sum()
    }

    /// How long a running commit takes on, in milliseconds, if it goes on as it went; `None` if it
    /// is over or has just begun.
    #[must_use]
    pub fn remaining_ms(&self) -> Option<u64> {
        let done = self.done();
        if !self.running || done == 0 || self.elapsed_ms < ESTIMATE_MS_MIN {
            return None;
        }
        let left = self.total.saturating_sub(done);
        Some(self.elapsed_ms.saturating_mul(left) / done)
    }
}

/// Before that a commit has not shown how fast it goes.
const ESTIMATE_MS_MIN: u64 = 50;

/// Flows that a commit could not restore, for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailedFlows {
    /// In words.
    pub reason: String,
    /// How many.
    pub flows: u64,
}
