//! A flow as a JSON object.

use std::fmt::Write;

use serde::Serialize;

use super::{Address, Ids, protocol_name, state_name};
use crate::flow::rare::SeqAdj;
use crate::flow::{Family, Flow, ProtoInfo, Rare, Status, Tuple, ZoneDir};

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
    pub(super) fn new(tuple: &Tuple) -> Self {
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

impl MasterJson {
    pub(super) fn new(master: &Tuple) -> Self {
        Self {
            protocol: protocol_name(master.protocol),
            protocol_number: master.protocol,
            tuple: TupleJson::new(master),
        }
    }
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
            master: rare.master.map(|master| MasterJson::new(&master)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}
