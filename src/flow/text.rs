//! Flows for people and for scripts: one line in the words of `conntrack -L`, and a JSON object.
//!
//! The line is the one that conntrack 1.4.7 prints for an entry without counters, time stamps and
//! security context, so that tools which read its output read ours. `tests/ctnetlink_kernel.rs`
//! compares the two over one table.

use std::fmt::{self, Display, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::proto::{DCCP_STATES, SCTP_STATES, TCP_STATES};
use super::rare::SeqAdj;
use super::tuple::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use super::{Family, Flow, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};

/// Appends the line of a flow, without a line break.
///
/// `timeout_left_secs` is what is left of its timeout now. Where the kernel would show how often an
/// entry is in use at the moment, the line says `use=1`, which it is at rest.
pub fn write_line(out: &mut String, flow: &Flow, rare: &Rare, timeout_left_secs: u32) {
    write_fields(out, flow, rare, timeout_left_secs).expect("a String takes all that is written");
}

fn write_fields(out: &mut String, flow: &Flow, rare: &Rare, timeout_left_secs: u32) -> fmt::Result {
    let protocol = flow.orig.protocol;
    let name = protocol_name(protocol);
    write!(out, "{name:<8} {protocol} {timeout_left_secs} ")?;
    if let Some(state) = state_name(&flow.proto) {
        write!(out, "{state} ")?;
    }
    write_tuple(out, &flow.orig)?;
    write_zone(out, "zone-orig", flow.zone, ZoneDir::Orig)?;
    if !flow.status.has(Status::SEEN_REPLY) {
        out.write_str("[UNREPLIED] ")?;
    }
    write_tuple(out, &flow.reply)?;
    write_zone(out, "zone-reply", flow.zone, ZoneDir::Reply)?;
    // One of the three at most, the most special first.
    if flow.status.has(Status::HW_OFFLOAD) {
        out.write_str("[HW_OFFLOAD] ")?;
    } else if flow.status.has(Status::OFFLOAD) {
        out.write_str("[OFFLOAD] ")?;
    } else if flow.status.has(Status::ASSURED) {
        out.write_str("[ASSURED] ")?;
    }
    write!(out, "mark={} ", flow.mark)?;
    write_zone(out, "zone", flow.zone, ZoneDir::Both)?;
    if let Some(helper) = &rare.helper {
        write!(out, "helper={} ", helper.as_str())?;
    }
    out.write_str("use=1")
}

fn write_tuple(out: &mut String, tuple: &Tuple) -> fmt::Result {
    let (src, dst) = (Address(tuple.src_ip()), Address(tuple.dst_ip()));
    write!(out, "src={src} dst={dst} ")?;
    match Ids::of(tuple) {
        Ids::Ports { sport, dport } => write!(out, "sport={sport} dport={dport} "),
        Ids::Icmp {
            icmp_type,
            code,
            id,
        } => {
            write!(out, "type={icmp_type} code={code} id={id} ")
        }
        Ids::Keys { srckey, dstkey } => write!(out, "srckey=0x{srckey:x} dstkey=0x{dstkey:x} "),
        Ids::None {} => Ok(()),
    }
}

fn write_zone(out: &mut String, word: &str, zone: Zone, dir: ZoneDir) -> fmt::Result {
    if zone.id != 0 && zone.dir == dir {
        write!(out, "{word}={} ", zone.id)?;
    }
    Ok(())
}

/// The protocol as conntrack calls it, `unknown` for those it has no name for.
#[must_use]
pub fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        ICMP => "icmp",
        TCP => "tcp",
        UDP => "udp",
        DCCP => "dccp",
        GRE => "gre",
        ICMPV6 => "icmpv6",
        SCTP => "sctp",
        UDPLITE => "udplite",
        _ => "unknown",
    }
}

/// The name of the protocol state, if the protocol has states; `NONE` for numbers that no state
/// has.
#[must_use]
pub fn state_name(proto: &ProtoInfo) -> Option<&'static str> {
    let (names, state) = match proto {
        ProtoInfo::None => return None,
        ProtoInfo::Tcp(info) => (&TCP_STATES, info.state),
        ProtoInfo::Sctp(info) => (&SCTP_STATES, info.state),
        ProtoInfo::Dccp(info) => (&DCCP_STATES, info.state),
    };
    Some(names.get(usize::from(state)).unwrap_or(&names[0]))
}

/// What tells flows of one protocol between two addresses apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Ids {
    /// TCP, UDP, UDP-Lite, DCCP, SCTP.
    Ports {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Type; `type` in JSON.
        #[serde(rename = "type")]
        icmp_type: u8,
        /// Code.
        code: u8,
        /// Identifier.
        id: u16,
    },
    /// GRE.
    Keys {
        /// Source key.
        srckey: u16,
        /// Destination key.
        dstkey: u16,
    },
    /// Every other protocol: nothing.
    None {},
}

impl Ids {
    /// Reads them out of a tuple.
    #[must_use]
    pub fn of(tuple: &Tuple) -> Self {
        let (src, dst) = (tuple.src_id, tuple.dst_id);
        if tuple.has_ports() {
            return Self::Ports {
                sport: src,
                dport: dst,
            };
        }
        if tuple.is_icmp() {
            let [icmp_type, code] = dst.to_be_bytes();
            return Self::Icmp {
                icmp_type,
                code,
                id: src,
            };
        }
        if tuple.protocol == GRE {
            return Self::Keys {
                srckey: src,
                dstkey: dst,
            };
        }
        Self::None {}
    }
}

/// An address as inet_ntop(3) of glibc writes it: like Rust, but for IPv4-compatible addresses
/// (`::1.2.3.4`).
struct Address(IpAddr);

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => match ipv4_compatible(address) {
                Some(inner) => write!(f, "::{inner}"),
                None => address.fmt(f),
            },
        }
    }
}

fn ipv4_compatible(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0, 0, 0, 0, 0, 0, high, _] = address.segments() else {
        return None;
    };
    let [.., a, b, c, d] = address.octets();
    (high != 0).then(|| Ipv4Addr::new(a, b, c, d))
}

/// A flow as a JSON object. The names of the fields are an interface: they are added to, never
/// renamed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowJson {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// As in the line: `tcp`, or `unknown` where `protocol_number` must tell.
    pub protocol: &'static str,
    /// `IPPROTO_*`.
    pub protocol_number: u8,
    /// Name of the protocol state; absent for protocols without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Seconds left.
    pub timeout: u32,
    /// The original direction.
    pub orig: TupleJson,
    /// The reply direction, translated if the flow is.
    pub reply: TupleJson,
    /// Zone; 0 is the default zone.
    pub zone: u16,
    /// `both`, `orig` or `reply`: the direction whose tuple is in `zone`.
    pub zone_direction: &'static str,
    /// Names of the status bits that are set, lower case, in the order of the kernel's enum; bits
    /// without a name are left out.
    pub status: Vec<&'static str>,
    /// True if the kernel spares the flow when its table is full.
    pub assured: bool,
    /// True if a packet of the reply direction was seen.
    pub replied: bool,
    /// Packet mark.
    pub mark: u32,
    /// What TCP negotiated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpJson>,
    /// Verification tags of SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<SctpJson>,
    /// 128 bits as 32 hexadecimal digits, in the byte order of `CTA_LABELS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Name of the helper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// How sequence numbers of the original direction are shifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seqadj_orig: Option<SeqAdjJson>,
    /// How sequence numbers of the reply direction are shifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seqadj_reply: Option<SeqAdjJson>,
    /// What SYNPROXY holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synproxy: Option<SynProxyJson>,
    /// Original direction of the flow whose expectation made this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<MasterJson>,
}

/// One direction of a flow in JSON: `src`, `dst`, and either `sport` and `dport`, or `type`, `code`
/// and `id`, or `srckey` and `dstkey`, or nothing more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TupleJson {
    /// Source address.
    pub src: String,
    /// Destination address.
    pub dst: String,
    /// Ports, ICMP type, code and id, or GRE keys.
    #[serde(flatten)]
    pub ids: Ids,
}

impl TupleJson {
    fn new(tuple: &Tuple) -> Self {
        Self {
            src: Address(tuple.src_ip()).to_string(),
            dst: Address(tuple.dst_ip()).to_string(),
            ids: Ids::of(tuple),
        }
    }
}

/// A master in JSON: its protocol may differ from its child's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MasterJson {
    /// As in [`FlowJson`].
    pub protocol: &'static str,
    /// As in [`FlowJson`].
    pub protocol_number: u8,
    /// Its original direction.
    #[serde(flatten)]
    pub tuple: TupleJson,
}

/// Window scales and `IP_CT_TCP_FLAG_*` bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct TcpJson {
    /// Window scale of the original direction.
    pub wscale_orig: u8,
    /// Window scale of the reply direction.
    pub wscale_reply: u8,
    /// Flags of the original direction.
    pub flags_orig: u8,
    /// Flags of the reply direction.
    pub flags_reply: u8,
}

/// Verification tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SctpJson {
    /// Tag of packets of the original direction.
    pub vtag_orig: u32,
    /// Tag of packets of the reply direction.
    pub vtag_reply: u32,
}

/// A shift of sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SeqAdjJson {
    /// Sequence number from which `offset_after` counts.
    pub correction_pos: u32,
    /// Signed.
    pub offset_before: i32,
    /// Signed.
    pub offset_after: i32,
}

impl SeqAdjJson {
    fn new(adj: SeqAdj) -> Self {
        Self {
            correction_pos: adj.correction_pos,
            offset_before: adj.offset_before.cast_signed(),
            offset_after: adj.offset_after.cast_signed(),
        }
    }
}

/// What SYNPROXY holds of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SynProxyJson {
    /// Initial sequence number.
    pub isn: u32,
    /// Initial time stamp.
    pub its: u32,
    /// Offset of time stamps.
    pub tsoff: u32,
}

/// `enum ip_conntrack_status`, in its order.
const STATUS_NAMES: [(u32, &str); 14] = [
    (Status::EXPECTED, "expected"),
    (Status::SEEN_REPLY, "seen_reply"),
    (Status::ASSURED, "assured"),
    (Status::CONFIRMED, "confirmed"),
    (Status::SRC_NAT, "src_nat"),
    (Status::DST_NAT, "dst_nat"),
    (Status::SEQ_ADJUST, "seq_adjust"),
    (Status::SRC_NAT_DONE, "src_nat_done"),
    (Status::DST_NAT_DONE, "dst_nat_done"),
    (Status::DYING, "dying"),
    (Status::FIXED_TIMEOUT, "fixed_timeout"),
    (Status::HELPER, "helper"),
    (Status::OFFLOAD, "offload"),
    (Status::HW_OFFLOAD, "hw_offload"),
];

impl FlowJson {
    /// Puts a flow; `timeout_left_secs` is what is left of its timeout now.
    #[must_use]
    pub fn new(flow: &Flow, rare: &Rare, timeout_left_secs: u32) -> Self {
        let named = STATUS_NAMES.iter().filter(|(bit, _)| flow.status.has(*bit));
        Self {
            family: match flow.orig.family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            },
            protocol: protocol_name(flow.orig.protocol),
            protocol_number: flow.orig.protocol,
            state: state_name(&flow.proto),
            timeout: timeout_left_secs,
            orig: TupleJson::new(&flow.orig),
            reply: TupleJson::new(&flow.reply),
            zone: flow.zone.id,
            zone_direction: match flow.zone.dir {
                ZoneDir::Both => "both",
                ZoneDir::Orig => "orig",
                ZoneDir::Reply => "reply",
            },
            status: named.map(|(_, name)| *name).collect(),
            assured: flow.status.has(Status::ASSURED),
            replied: flow.status.has(Status::SEEN_REPLY),
            mark: flow.mark,
            tcp: match flow.proto {
                ProtoInfo::Tcp(info) => Some(TcpJson {
                    wscale_orig: info.wscale_orig,
                    wscale_reply: info.wscale_reply,
                    flags_orig: info.flags_orig,
                    flags_reply: info.flags_reply,
                }),
                ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => None,
            },
            sctp: match flow.proto {
                ProtoInfo::Sctp(info) => Some(SctpJson {
                    vtag_orig: info.vtag_orig,
                    vtag_reply: info.vtag_reply,
                }),
                ProtoInfo::None | ProtoInfo::Tcp(_) | ProtoInfo::Dccp(_) => None,
            },
            labels: rare.labels.map(|labels| hex(&labels)),
            helper: rare.helper.map(|helper| helper.as_str().to_owned()),
            seqadj_orig: rare.seqadj_orig.map(SeqAdjJson::new),
            seqadj_reply: rare.seqadj_reply.map(SeqAdjJson::new),
            synproxy: rare.synproxy.map(|proxy| SynProxyJson {
                isn: proxy.isn,
                its: proxy.its,
                tsoff: proxy.tsoff,
            }),
            master: rare.master.map(|master| MasterJson {
                protocol: protocol_name(master.protocol),
                protocol_number: master.protocol,
                tuple: TupleJson::new(&master),
            }),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}

#[cfg(test)]
mod tests;
