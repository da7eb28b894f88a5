//! What the kernel knows of a flow's protocol beyond its tuples: `CTA_PROTOINFO`.

/// Protocol state of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ProtoInfo {
    /// The kernel tracks no state for this protocol, or has not told it.
    #[default]
    None,
    /// TCP.
    Tcp(TcpInfo),
    /// SCTP.
    Sctp(SctpInfo),
    /// DCCP, on kernels that still track it.
    Dccp(DccpInfo),
}

/// `CTA_PROTOINFO_TCP`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TcpInfo {
    /// `enum tcp_conntrack`, include/uapi/linux/netfilter/nf_conntrack_tcp.h; 0 to 9.
    pub state: u8,
    /// Window scale of the original direction, 0 to 14.
    pub wscale_orig: u8,
    /// Window scale of the reply direction, 0 to 14.
    pub wscale_reply: u8,
    /// `IP_CT_TCP_FLAG_*` of the original direction; of them `FLAGS_KEPT`.
    pub flags_orig: u8,
    /// `IP_CT_TCP_FLAG_*` of the reply direction; likewise.
    pub flags_reply: u8,
}

impl TcpInfo {
    /// The flags that are kept: WINDOW_SCALE, SACK_PERM, CLOSE_INIT and BE_LIBERAL
    /// (include/uapi/linux/netfilter/nf_conntrack_tcp.h). The others are results of tracking: they
    /// come and go with the traffic, without an event, and no commit restores them.
    pub const FLAGS_KEPT: u8 = 0x0f;
    /// `IP_CT_TCP_FLAG_BE_LIBERAL`: packets outside of the window pass.
    pub const BE_LIBERAL: u8 = 0x08;
}

/// `TCP_CONNTRACK_SYN_SENT`.
pub const TCP_SYN_SENT: u8 = 1;
/// `TCP_CONNTRACK_SYN_RECV`.
pub const TCP_SYN_RECV: u8 = 2;
/// `TCP_CONNTRACK_ESTABLISHED`.
pub const TCP_ESTABLISHED: u8 = 3;
/// `TCP_CONNTRACK_TIME_WAIT`.
pub const TCP_TIME_WAIT: u8 = 7;
/// `TCP_CONNTRACK_CLOSE`.
pub const TCP_CLOSE: u8 = 8;

/// Names of the TCP states, by number, as `conntrack -L` prints them.
pub const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

/// `CTA_PROTOINFO_SCTP`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SctpInfo {
    /// `enum sctp_conntrack`, include/uapi/linux/netfilter/nf_conntrack_sctp.h; 0 to 8.
    pub state: u8,
    /// The tag that packets of the original direction carry.
    pub vtag_orig: u32,
    /// The tag that packets of the reply direction carry.
    pub vtag_reply: u32,
}

/// `SCTP_CONNTRACK_ESTABLISHED`.
pub const SCTP_ESTABLISHED: u8 = 4;

/// Names of the SCTP states, by number, as `conntrack -L` prints them.
pub const SCTP_STATES: [&str; 10] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
];

/// `CTA_PROTOINFO_DCCP`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DccpInfo {
    /// `enum ct_dccp_states`.
    pub state: u8,
    /// `enum ct_dccp_roles` of the original direction.
    pub role: u8,
    /// Handshake sequence number, network order (eight bytes, so that a flow keeps its alignment
    /// of four).
    pub handshake_seq: [u8; 8],
}

/// Names of the DCCP states, by number, as `conntrack -L` prints them.
pub const DCCP_STATES: [&str; 10] = [
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE",
    "INVALID",
];
