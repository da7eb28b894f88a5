//! The settings as used: every value is checked, every default filled in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::flow::filter::Policy;

/// Everything the daemon needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[node]`
    pub node: NodeSettings,
    /// `[control]`
    pub control: ControlSettings,
    /// `[security]`
    pub security: Security,
    /// `[[link]]`, in order of preference; at least one.
    pub links: Vec<LinkSettings>,
    /// `[kernel]`
    pub kernel: KernelSettings,
    /// `[cache]`
    pub cache: CacheSettings,
    /// `[replicate]`
    pub policy: Policy,
    /// `[commit]`
    pub commit: CommitSettings,
    /// `[log]`
    pub log: LogSettings,
}

/// `[node]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSettings {
    /// Unique in the cluster; 1 to 64 bytes of letters, digits, `-`, `_` and `.`.
    pub name: String,
}

/// `[control]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlSettings {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

/// `[security]`: how the links are protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Security {
    /// Neither encrypted nor authenticated: whoever reaches a link can read and write flows.
    Insecure,
}

/// One `[[link]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkSettings {
    /// Interface that carries it.
    pub interface: String,
    /// Where the peers are.
    pub addressing: Addressing,
    /// Receive buffer of the socket, bytes.
    pub receive_buffer_bytes: usize,
    /// Send buffer of the socket, bytes.
    pub send_buffer_bytes: usize,
}

/// Where the peers of a link are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// Everybody in one group.
    Multicast {
        /// Group and port, IPv4 or IPv6.
        group: SocketAddr,
    },
    /// Listed.
    Unicast {
        /// Own address and port.
        bind: SocketAddr,
        /// Addresses and ports of the peers, at least one, of the family of `bind`.
        peers: Vec<SocketAddr>,
    },
}

/// `[kernel]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelSettings {
    /// Receive buffer of the event socket, bytes; an event takes 1,280 of it.
    pub event_buffer_bytes: usize,
    /// How often the whole table is listed to find what no event told.
    pub scrub_interval: Duration,
    /// Set `net.netfilter.nf_conntrack_events` to 1 at start.
    pub set_events_sysctl: bool,
}

/// `[cache]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheSettings {
    /// Most flows in the local cache, and in each replica.
    pub flows_max: u32,
    /// Most ended flows remembered for peers that have not heard of their end.
    pub tombstones_max: u32,
}

/// `[commit]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitSettings {
    /// A committed flow gets at least this long for its first packet.
    pub grace: Duration,
}

/// `[log]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

/// Severity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// We stop.
    Error,
    /// Worth waking someone.
    Warn,
    /// A role, a peer, a resync, a commit.
    Info,
    /// A refusal with its reason.
    Debug,
    /// Each datagram.
    Trace,
}

/// Form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}
