//! Flows to requests that the kernel understands. Each function appends one message to a buffer,
//! so that a batch is the buffer.
//!
//! How a flow must be put to come back to life was found by experiment; the rules that are easy to
//! break, and do harm silently when broken:
//!
//! - A translated flow is created with the **inverse** of its original tuple as reply tuple, and
//!   the translation in `CTA_NAT_SRC` and `CTA_NAT_DST` with address and port. With its real reply
//!   tuple it would look right in a listing and let packets out untranslated.
//! - TCP flags count only with their mask set, and window scales only with the flags.
//! - A delete without a tuple is a flush of the whole table. [`delete`] cannot leave it out.
//! - A key has a zone. Without it the kernel looks in zone 0.

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::attr::Builder;
use super::cta;
use crate::flow::proto::{DccpInfo, SctpInfo, TcpInfo};
use crate::flow::rare::SeqAdj;
use crate::flow::tuple::{GRE, ICMP, ICMPV6};
use crate::flow::{Family, Flow, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};

/// Whether the kernel shall answer also when all is well. Refusals it answers anyway.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ack {
    /// Silence means success: all but the last message of a batch.
    #[default]
    None,
    /// NLM_F_ACK: the last message of a batch.
    Wanted,
}

/// What to do about a flow's helper.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Helper {
    /// Create the flow with it.
    #[default]
    Restore,
    /// Create the flow without it: the kernel does not know it (EOPNOTSUPP), and the flow matters
    /// more.
    Leave,
}

/// The choices of a [`create`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Create {
    /// Seconds until the entry expires if no packet comes, at most 8,589,934 (the kernel cuts).
    pub timeout_secs: u32,
    /// What to do about the helper.
    pub helper: Helper,
}

/// What an [`update`] changes; `None` leaves a thing as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Update {
    /// Seconds until the entry expires. EPERM for entries with FIXED_TIMEOUT.
    pub timeout_secs: Option<u32>,
    /// `CTA_MARK`.
    pub mark: Option<u32>,
    /// Status bits: must hold every bit of SEEN_REPLY, ASSURED and EXPECTED that the entry has,
    /// else EBUSY.
    pub status: Option<Status>,
    /// Protocol state, put as [`create`] puts it.
    pub proto: Option<ProtoInfo>,
}

/// Most bytes that one message of this module takes: the create of a translated TCP flow over IPv6
/// that has everything that is rare.
pub const MESSAGE_LEN_MAX: usize = 544;

/// The bits of `CTA_STATUS` that a create may restore. The rest the kernel sets by itself, ignores,
/// or refuses (EXPECTED, DYING).
const STATUS_RESTORED: u32 = Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED;

/// Creates `flow` with `rare`; EEXIST if either of its tuples is taken.
pub fn create(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow, rare: &Rare, how: Create) {
    let flags = cta::NLM_F_CREATE | cta::NLM_F_EXCL;
    let mut message = begin(out, cta::IPCTNL_MSG_CT_NEW, flags, seq, ack, flow);
    orig_tuple(&mut message, flow);
    reply_tuple(&mut message, &flow.orig.inverse(), flow.zone);
    zone_of_both(&mut message, flow.zone);
    message.be32(cta::CTA_STATUS, status_at_create(flow));
    message.be32(cta::CTA_TIMEOUT, how.timeout_secs);
    nat(&mut message, flow);
    proto_info(&mut message, flow.proto);
    if flow.mark != 0 {
        message.be32(cta::CTA_MARK, flow.mark);
    }
    if let (Some(name), Helper::Restore) = (rare.helper, how.helper) {
        message.nest(cta::CTA_HELP, |help| {
            help.string(cta::CTA_HELP_NAME, name.as_str());
        });
    }
    if let Some(labels) = rare.labels {
        message.bytes(cta::CTA_LABELS, &labels);
    }
    seqadj(&mut message, cta::CTA_SEQ_ADJ_ORIG, rare.seqadj_orig);
    seqadj(&mut message, cta::CTA_SEQ_ADJ_REPLY, rare.seqadj_reply);
    if let Some(proxy) = rare.synproxy {
        message.nest(cta::CTA_SYNPROXY, |nest| {
            nest.be32(cta::CTA_SYNPROXY_ISN, proxy.isn);
            nest.be32(cta::CTA_SYNPROXY_ITS, proxy.its);
            nest.be32(cta::CTA_SYNPROXY_TSOFF, proxy.tsoff);
        });
    }
    if let Some(master) = rare.master {
        // A zone inside is EINVAL: the kernel takes the child's.
        message.nest(cta::CTA_TUPLE_MASTER, |nest| tuple(nest, &master));
    }
    message.finish();
}

/// Changes the entry that has the original tuple of `flow`; ENOENT if there is none. Beware: an
/// entry born the other way round has this tuple too, and is changed.
pub fn update(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow, change: Update) {
    let mut message = begin(out, cta::IPCTNL_MSG_CT_NEW, 0, seq, ack, flow);
    orig_key(&mut message, flow);
    if let Some(status) = change.status {
        let kept = STATUS_RESTORED | Status::EXPECTED;
        message.be32(cta::CTA_STATUS, status.0 & kept | Status::CONFIRMED);
    }
    if let Some(timeout_secs) = change.timeout_secs {
        message.be32(cta::CTA_TIMEOUT, timeout_secs);
    }
    if let Some(proto) = change.proto {
        proto_info(&mut message, proto);
    }
    if let Some(mark) = change.mark {
        message.be32(cta::CTA_MARK, mark);
    }
    message.finish();
}

/// Gives the entry of `flow` this long to live, in seconds: the smallest re-arming, 80 bytes.
pub fn update_timeout(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow, timeout_secs: u32) {
    let change = Update {
        timeout_secs: Some(timeout_secs),
        ..Update::default()
    };
    update(out, seq, ack, flow, change);
}

/// Lets packets outside of the window pass in both directions of a TCP flow: for an entry whose
/// window went stale while the flow lived elsewhere.
pub fn make_liberal(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow) {
    set_liberal(out, seq, ack, flow, cta::IP_CT_TCP_FLAG_BE_LIBERAL);
}

/// Takes that back. A flow whose tracker has not caught up dies of it (measured: 1 of 42).
pub fn make_strict(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow) {
    set_liberal(out, seq, ack, flow, 0);
}

fn set_liberal(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow, value: u8) {
    let flags = [value, cta::IP_CT_TCP_FLAG_BE_LIBERAL];
    let mut message = begin(out, cta::IPCTNL_MSG_CT_NEW, 0, seq, ack, flow);
    orig_key(&mut message, flow);
    message.nest(cta::CTA_PROTOINFO, |nest| {
        nest.nest(cta::CTA_PROTOINFO_TCP, |tcp| {
            tcp.bytes(cta::CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &flags);
            tcp.bytes(cta::CTA_PROTOINFO_TCP_FLAGS_REPLY, &flags);
        });
    });
    message.finish();
}

/// Deletes the entry that has the original tuple of `flow`; ENOENT if there is none, or if it has
/// another `CTA_ID` than `id`.
pub fn delete(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow, id: Option<u32>) {
    let mut message = begin(out, cta::IPCTNL_MSG_CT_DELETE, 0, seq, ack, flow);
    orig_key(&mut message, flow);
    if let Some(id) = id {
        message.be32(cta::CTA_ID, id);
    }
    message.finish();
}

/// Asks for the entry that has the original tuple of `flow`, in either direction.
pub fn get(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow) {
    let mut message = begin(out, cta::IPCTNL_MSG_CT_GET, 0, seq, ack, flow);
    orig_key(&mut message, flow);
    message.finish();
}

/// Asks for the entry that has the (translated) reply tuple of `flow`, in either direction: who is
/// in the way when [`create`] got EEXIST and [`get`] found nothing.
pub fn get_by_reply(out: &mut Vec<u8>, seq: u32, ack: Ack, flow: &Flow) {
    let mut message = begin(out, cta::IPCTNL_MSG_CT_GET, 0, seq, ack, flow);
    reply_tuple(&mut message, &flow.reply, flow.zone);
    zone_of_both(&mut message, flow.zone);
    message.finish();
}

/// Sets NLM_F_ACK in a message that was written without it: the last of a batch is known only when
/// there is no next.
///
/// # Panics
///
/// When `message` does not hold a netlink header.
pub fn want_ack(message: &mut [u8]) {
    let flags = &mut message[6..8];
    let with_ack = u16::from_ne_bytes([flags[0], flags[1]]) | cta::NLM_F_ACK;
    flags.copy_from_slice(&with_ack.to_ne_bytes());
}

/// Asks for the whole table, both families.
///
/// Once a minute at most, so it may allocate, and is built from the types of
/// `netlink-packet-netfilter`.
pub fn dump(out: &mut Vec<u8>, seq: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = cta::NLM_F_REQUEST | cta::NLM_F_DUMP;
    header.sequence_number = seq;
    let request = NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, cta::NFNETLINK_V0, 0),
        ConntrackMessage::Get(Vec::new()),
    );
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let start = out.len();
    out.resize(start + message.buffer_len(), 0);
    message.serialize(&mut out[start..]);
}

fn begin<'a>(
    out: &'a mut Vec<u8>,
    action: u8,
    flags: u16,
    seq: u32,
    ack: Ack,
    flow: &Flow,
) -> Builder<'a> {
    let ack = match ack {
        Ack::None => 0,
        Ack::Wanted => cta::NLM_F_ACK,
    };
    let flags = cta::NLM_F_REQUEST | flags | ack;
    Builder::new(out, action, flags, seq, flow.orig.family as u8)
}

/// The key: the original tuple with its zone.
fn orig_key(message: &mut Builder<'_>, flow: &Flow) {
    orig_tuple(message, flow);
    zone_of_both(message, flow.zone);
}

fn orig_tuple(message: &mut Builder<'_>, flow: &Flow) {
    message.nest(cta::CTA_TUPLE_ORIG, |nest| {
        tuple(nest, &flow.orig);
        if flow.zone.id != 0 && flow.zone.dir == ZoneDir::Orig {
            nest.be16(cta::CTA_TUPLE_ZONE, flow.zone.id);
        }
    });
}

fn reply_tuple(message: &mut Builder<'_>, reply: &Tuple, zone: Zone) {
    message.nest(cta::CTA_TUPLE_REPLY, |nest| {
        tuple(nest, reply);
        if zone.id != 0 && zone.dir == ZoneDir::Reply {
            nest.be16(cta::CTA_TUPLE_ZONE, zone.id);
        }
    });
}

/// `CTA_ZONE`, which excludes a `CTA_TUPLE_ZONE` (EINVAL).
fn zone_of_both(message: &mut Builder<'_>, zone: Zone) {
    if zone.id != 0 && zone.dir == ZoneDir::Both {
        message.be16(cta::CTA_ZONE, zone.id);
    }
}

pub(super) fn tuple(nest: &mut Builder<'_>, tuple: &Tuple) {
    nest.nest(cta::CTA_TUPLE_IP, |ip| match tuple.family {
        Family::V4 => {
            ip.bytes(cta::CTA_IP_V4_SRC, &tuple.src[..4]);
            ip.bytes(cta::CTA_IP_V4_DST, &tuple.dst[..4]);
        }
        Family::V6 => {
            ip.bytes(cta::CTA_IP_V6_SRC, &tuple.src);
            ip.bytes(cta::CTA_IP_V6_DST, &tuple.dst);
        }
    });
    nest.nest(cta::CTA_TUPLE_PROTO, |proto| {
        let [icmp_type, icmp_code] = tuple.dst_id.to_be_bytes();
        proto.u8(cta::CTA_PROTO_NUM, tuple.protocol);
        match tuple.protocol {
            ICMP => {
                proto.be16(cta::CTA_PROTO_ICMP_ID, tuple.src_id);
                proto.u8(cta::CTA_PROTO_ICMP_TYPE, icmp_type);
                proto.u8(cta::CTA_PROTO_ICMP_CODE, icmp_code);
            }
            ICMPV6 => {
                proto.be16(cta::CTA_PROTO_ICMPV6_ID, tuple.src_id);
                proto.u8(cta::CTA_PROTO_ICMPV6_TYPE, icmp_type);
                proto.u8(cta::CTA_PROTO_ICMPV6_CODE, icmp_code);
            }
            // The kernel ignores them for protocols that it does not track.
            _ => {
                proto.be16(cta::CTA_PROTO_SRC_PORT, tuple.src_id);
                proto.be16(cta::CTA_PROTO_DST_PORT, tuple.dst_id);
            }
        }
    });
}

/// CONFIRMED must be there (else EBUSY). An entry of GRE has no timeouts of its own when it is
/// made through ctnetlink: without FIXED_TIMEOUT its first packet would expire it.
fn status_at_create(flow: &Flow) -> u32 {
    let fixed = if flow.orig.protocol == GRE {
        Status::FIXED_TIMEOUT
    } else {
        0
    };
    flow.status.0 & STATUS_RESTORED | Status::CONFIRMED | fixed
}

fn nat(message: &mut Builder<'_>, flow: &Flow) {
    let reply = &flow.reply;
    // An ICMP id belongs to both ends.
    let (src_port, dst_port) = if flow.orig.is_icmp() {
        (reply.src_id, reply.src_id)
    } else {
        (reply.dst_id, reply.src_id)
    };
    if flow.is_snat() {
        binding(message, cta::CTA_NAT_SRC, reply, &reply.dst, src_port);
    }
    if flow.is_dnat() {
        binding(message, cta::CTA_NAT_DST, reply, &reply.src, dst_port);
    }
}

/// One end's translation. GRE keys cannot be given: the kernel takes no notice of them (and finds
/// flows of PPTP by a map that only its helper fills), so translated keys are not restored.
///
/// With a port given, the kernel takes exactly this one or says EEXIST; without, it silently takes
/// another where this one is used.
fn binding(message: &mut Builder<'_>, kind: u16, of: &Tuple, address: &[u8; 16], port: u16) {
    message.nest(kind, |nest| {
        match of.family {
            Family::V4 => nest.bytes(cta::CTA_NAT_V4_MINIP, &address[..4]),
            Family::V6 => nest.bytes(cta::CTA_NAT_V6_MINIP, address),
        }
        if of.has_ports() || of.is_icmp() {
            nest.nest(cta::CTA_NAT_PROTO, |proto| {
                proto.be16(cta::CTA_PROTONAT_PORT_MIN, port);
                proto.be16(cta::CTA_PROTONAT_PORT_MAX, port);
            });
        }
    });
}

fn proto_info(message: &mut Builder<'_>, proto: ProtoInfo) {
    match proto {
        ProtoInfo::None => {}
        ProtoInfo::Tcp(info) => message.nest(cta::CTA_PROTOINFO, |nest| tcp(nest, info)),
        ProtoInfo::Sctp(info) => message.nest(cta::CTA_PROTOINFO, |nest| sctp(nest, info)),
        ProtoInfo::Dccp(info) => message.nest(cta::CTA_PROTOINFO, |nest| dccp(nest, info)),
    }
}

/// The kernel takes the scales only if both are there and WINDOW_SCALE is set both ways. The
/// window itself cannot be restored, so the tracker is told to be liberal: without, flows die at
/// the first retransmission after a failover.
fn tcp(nest: &mut Builder<'_>, info: TcpInfo) {
    let flags = |of_dump: u8| {
        [
            of_dump & TcpInfo::FLAGS_KEPT | cta::IP_CT_TCP_FLAG_BE_LIBERAL,
            TcpInfo::FLAGS_KEPT,
        ]
    };
    nest.nest(cta::CTA_PROTOINFO_TCP, |tcp| {
        tcp.u8(cta::CTA_PROTOINFO_TCP_STATE, info.state);
        tcp.u8(cta::CTA_PROTOINFO_TCP_WSCALE_ORIGINAL, info.wscale_orig);
        tcp.u8(cta::CTA_PROTOINFO_TCP_WSCALE_REPLY, info.wscale_reply);
        tcp.bytes(
            cta::CTA_PROTOINFO_TCP_FLAGS_ORIGINAL,
            &flags(info.flags_orig),
        );
        tcp.bytes(cta::CTA_PROTOINFO_TCP_FLAGS_REPLY, &flags(info.flags_reply));
    });
}

/// Without both tags the create is EINVAL, with wrong ones all data is invalid.
fn sctp(nest: &mut Builder<'_>, info: SctpInfo) {
    nest.nest(cta::CTA_PROTOINFO_SCTP, |sctp| {
        sctp.u8(cta::CTA_PROTOINFO_SCTP_STATE, info.state);
        sctp.be32(cta::CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, info.vtag_orig);
        sctp.be32(cta::CTA_PROTOINFO_SCTP_VTAG_REPLY, info.vtag_reply);
    });
}

fn dccp(nest: &mut Builder<'_>, info: DccpInfo) {
    nest.nest(cta::CTA_PROTOINFO_DCCP, |dccp| {
        dccp.u8(cta::CTA_PROTOINFO_DCCP_STATE, info.state);
        dccp.u8(cta::CTA_PROTOINFO_DCCP_ROLE, info.role);
        dccp.bytes(cta::CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ, &info.handshake_seq);
    });
}

fn seqadj(message: &mut Builder<'_>, kind: u16, adj: Option<SeqAdj>) {
    let Some(adj) = adj else { return };
    message.nest(kind, |nest| {
        nest.be32(cta::CTA_SEQADJ_CORRECTION_POS, adj.correction_pos);
        nest.be32(cta::CTA_SEQADJ_OFFSET_BEFORE, adj.offset_before);
        nest.be32(cta::CTA_SEQADJ_OFFSET_AFTER, adj.offset_after);
    });
}

#[cfg(test)]
mod tests;
