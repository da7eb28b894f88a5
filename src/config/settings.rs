//! The settings as used: every value is checked, every default filled in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::flow::filter::{Policy, Protocols};

/// Where the control socket is when nobody says otherwise; the unit's `RuntimeDirectory`.
pub const SOCKET_DEFAULT: &str = "/run/ctsyncd/control.sock";
/// Longest node name, bytes: it travels in every greeting.
pub const NODE_NAME_LEN_MAX: usize = 64;
/// Most links. More than two or three independent paths between firewalls are a mistake.
pub const LINKS_MAX: usize = 8;
/// Most listed peers of a link. Clusters have two to four nodes; a longer list is a mistake, and
/// each peer costs a replica of `flows_max`.
pub const PEERS_MAX: usize = 7;

/// Everything the daemon needs to know before it starts.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// `[standby]`
    pub standby: StandbySettings,
    /// `[commit]`
    pub commit: CommitSettings,
    /// `[keepalived]`
    pub keepalived: KeepalivedSettings,
    /// `[gate]`; none: no gate.
    pub gate: Option<GateSettings>,
    /// `[log]`
    pub log: LogSettings,
}

impl Settings {
    /// The protocols of which this node has to hear what packets do to their flows; `None` for all.
    /// In hot standby all: copies of a peer's flows are kept whatever our own policy says.
    #[must_use]
    pub fn heard_protocols(&self) -> Option<Protocols> {
        if self.standby.is_hot {
            None
        } else {
            self.policy.protocols()
        }
    }
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Security {
    /// Every datagram is encrypted and authenticated.
    Sealed {
        /// The cluster key.
        key_file: PathBuf,
        /// A second key that is accepted as well, while keys are rotated.
        other_key_file: Option<PathBuf>,
    },
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

impl LinkSettings {
    /// 4 MiB: what a full window of packets from each of several peers takes, with the kernel's
    /// accounting of about twice the payload.
    pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
    /// 1 MiB: a few milliseconds of a gigabit link; more would only be lag that nobody sees.
    pub const SEND_BUFFER_BYTES: usize = 1 << 20;
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

impl Addressing {
    /// Port that datagrams of the peers come in at.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Multicast { group } => group.port(),
            Self::Unicast { bind, .. } => bind.port(),
        }
    }
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

impl Default for KernelSettings {
    fn default() -> Self {
        Self {
            // 26,000 events: a quarter of a second at 100,000 a second.
            event_buffer_bytes: 32 << 20,
            // Half of the shortest timeout of an assured flow (120 s, a UDP stream): refreshed
            // timeouts, which no event tells, are found in time to be announced again.
            scrub_interval: Duration::from_secs(60),
            set_events_sysctl: true,
        }
    }
}

/// `[cache]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheSettings {
    /// Most flows in the local cache, and in each replica.
    pub flows_max: u32,
    /// Most ended flows remembered for peers that have not heard of their end.
    pub tombstones_max: u32,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            // Four times the largest `nf_conntrack_max` that the kernel chooses by itself. Room is
            // reserved at start, but memory is only taken by flows that were there.
            flows_max: 1 << 20,
            // A quarter of it: what ends in several seconds of the busiest traffic while a peer is
            // out of reach. A peer that misses more gets a longer reconciliation, nothing worse.
            tombstones_max: 1 << 18,
        }
    }
}

/// `[standby]`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StandbySettings {
    /// `mode = "hot"`: the kernel holds the flows of the active nodes all along; else they are put
    /// into it at promotion.
    pub is_hot: bool,
}

/// `[commit]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitSettings {
    /// A committed flow gets at least this long for its first packet.
    pub grace: Duration,
    /// A committed TCP flow stays liberal for its life; false: it is made strict again once its
    /// traffic has been seen both ways.
    pub tcp_liberal: bool,
}

impl Default for CommitSettings {
    fn default() -> Self {
        Self {
            // A client that backs off (TCP doubles up to 120 s) is heard again within this time;
            // its first packet then refreshes the timeout to the usual value.
            grace: Duration::from_secs(180),
            // Clearing it can kill a flow (measured: 1 of 42).
            tcp_liberal: true,
        }
    }
}

/// `[keepalived]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeepalivedSettings {
    /// FIFO to which keepalived writes its changes of state.
    pub notify_fifo: Option<PathBuf>,
    /// File that keepalived tracks: what its priority is to be changed by.
    pub track_file: Option<PathBuf>,
    /// How much less priority a standby has that is not ready; 1 to 253.
    pub unready_priority: u8,
}

impl Default for KeepalivedSettings {
    fn default() -> Self {
        Self {
            notify_fifo: None,
            track_file: None,
            // The step between the priorities in the example: below any node that is ready.
            unready_priority: 50,
        }
    }
}

/// `[gate]`: forwarded traffic is dropped while this node must not carry any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GateSettings {
    /// Interfaces that carry forwarded traffic, at least one.
    pub interfaces: Vec<String>,
    /// Sources whose packets always pass.
    pub allow: Vec<IpNet>,
    /// The gate opens this long after the daemon has died.
    pub timeout: Duration,
    /// It opens this long after a promotion began, whatever the commit does.
    pub open_after: Duration,
}

impl GateSettings {
    /// Two seconds: longer than a busy machine keeps a thread waiting, shorter than people wait.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// A million flows take less.
    pub const OPEN_AFTER: Duration = Duration::from_secs(10);
}

/// `[log]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// Least severe level that is written.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Text,
        }
    }
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
