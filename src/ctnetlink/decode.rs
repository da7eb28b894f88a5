//! A message of conntrack to a [`FlowEvent`], in one pass and without allocation.
//!
//! Attributes that nobody here knows are skipped: a newer kernel must not silence the mirror.
//! Counters, time stamps and security contexts are skipped too, as no commit can restore them.
//! Of an attribute that comes twice the last one counts, as in the kernel.

use super::attr::{Attr, Attrs};
use super::cta;
use super::message::{Message, MessageKind, NFGENMSG_LEN};
use crate::flow::proto::{DccpInfo, SctpInfo, TcpInfo};
use crate::flow::rare::{HelperName, SeqAdj, SynProxy};
use crate::flow::tuple::{ICMP, ICMPV6, TCP, UDP};
use crate::flow::{
    EventKind, Family, FlowEvent, Present, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir,
};

pub use super::message::DecodeError;

/// Decodes an event: one whole netlink message, header included.
///
/// `event` is overwritten as a whole; after an error its content means nothing.
///
/// # Errors
///
/// When `message` is not a well-formed NEW, UPDATE or DESTROY of a flow.
pub fn decode_event(message: &[u8], event: &mut FlowEvent) -> Result<(), DecodeError> {
    let message = Message::parse(message)?;
    let kind = match message.kind {
        // ctnetlink_conntrack_event() tells the two apart by the flag alone.
        MessageKind::Conntrack(cta::IPCTNL_MSG_CT_NEW) => {
            if message.flags & cta::NLM_F_CREATE == 0 {
                EventKind::Update
            } else {
                EventKind::New
            }
        }
        MessageKind::Conntrack(cta::IPCTNL_MSG_CT_DELETE) => EventKind::Destroy,
        MessageKind::Conntrack(_)
        | MessageKind::Expectation(_)
        | MessageKind::Error
        | MessageKind::Done
        | MessageKind::Overrun
        | MessageKind::Other(_) => return Err(DecodeError::NotAFlow),
    };
    decode_flow(&message, kind, event)
}

/// Decodes an entry of a dump or the answer to a GET: one whole netlink message, header included.
///
/// `event` is overwritten as a whole; after an error its content means nothing. Its `port_id` is
/// the asker's own.
///
/// # Errors
///
/// When `message` is not a well-formed listing of a flow.
pub fn decode_listed(message: &[u8], event: &mut FlowEvent) -> Result<(), DecodeError> {
    let message = Message::parse(message)?;
    if message.kind != MessageKind::Conntrack(cta::IPCTNL_MSG_CT_NEW) {
        return Err(DecodeError::NotAFlow);
    }
    decode_flow(&message, EventKind::Listed, event)
}

fn decode_flow(
    message: &Message<'_>,
    kind: EventKind,
    event: &mut FlowEvent,
) -> Result<(), DecodeError> {
    let Some((nfgenmsg, attributes)) = message.payload().split_first_chunk::<NFGENMSG_LEN>() else {
        return Err(DecodeError::Truncated);
    };
    let family = family_of(nfgenmsg[0])?;
    *event = FlowEvent {
        kind,
        port_id: message.port_id,
        ..FlowEvent::default()
    };
    let mut orig = None;
    let mut reply = None;
    for attr in Attrs::new(attributes) {
        let attr = attr?;
        match attr.kind {
            cta::CTA_TUPLE_ORIG => orig = Some(tuple(&attr)?),
            cta::CTA_TUPLE_REPLY => reply = Some(tuple(&attr)?),
            cta::CTA_ZONE => event.flow.zone = zone(attr.be16()?, ZoneDir::Both),
            cta::CTA_ID => event.flow.id = attr.be32()?,
            cta::CTA_MARK => event.flow.mark = attr.be32()?,
            cta::CTA_STATUS => {
                event.flow.status = Status(attr.be32()?);
                event.present.0 |= Present::STATUS;
            }
            cta::CTA_TIMEOUT => {
                event.flow.timeout_secs = attr.be32()?;
                event.present.0 |= Present::TIMEOUT;
            }
            cta::CTA_PROTOINFO => {
                let (proto, judged) = proto_info(&attr)?;
                event.flow.proto = proto;
                event.present.0 |= Present::PROTOINFO | judged;
            }
            _ => event.present.0 |= rare(&attr, &mut event.rare)?,
        }
    }
    let (Some((orig, orig_zone)), Some((reply, reply_zone))) = (orig, reply) else {
        return Err(DecodeError::IncompleteTuple);
    };
    let of_one_kind = |tuple: &Tuple| tuple.family == family && tuple.protocol == orig.protocol;
    if !of_one_kind(&orig) || !of_one_kind(&reply) {
        return Err(DecodeError::TuplesDiffer);
    }
    event.flow.orig = orig;
    event.flow.reply = reply;
    // The kernel sends at most one of the three forms.
    if let Some(id) = orig_zone {
        event.flow.zone = zone(id, ZoneDir::Orig);
    } else if let Some(id) = reply_zone {
        event.flow.zone = zone(id, ZoneDir::Reply);
    }
    Ok(())
}

pub(super) fn family_of(number: u8) -> Result<Family, DecodeError> {
    const V4: u8 = Family::V4 as u8;
    const V6: u8 = Family::V6 as u8;
    match number {
        V4 => Ok(Family::V4),
        V6 => Ok(Family::V6),
        _ => Err(DecodeError::Family),
    }
}

/// Zone 0 is the default zone and has one spelling only.
fn zone(id: u16, dir: ZoneDir) -> Zone {
    match id {
        0 => Zone::default(),
        id => Zone { id, dir },
    }
}

/// A `CTA_TUPLE_*` and the zone inside of it.
pub(super) fn tuple(attr: &Attr<'_>) -> Result<(Tuple, Option<u16>), DecodeError> {
    let mut addresses = Addresses::default();
    let mut tuple = Tuple::default();
    let mut has_proto = false;
    let mut zone = None;
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_TUPLE_IP => addresses = Addresses::decode(&attr)?,
            cta::CTA_TUPLE_PROTO => {
                proto(&attr, &mut tuple)?;
                has_proto = true;
            }
            cta::CTA_TUPLE_ZONE => zone = Some(attr.be16()?),
            _ => {}
        }
    }
    let (Some((src_family, src)), Some((dst_family, dst)), true) =
        (addresses.src, addresses.dst, has_proto)
    else {
        return Err(DecodeError::IncompleteTuple);
    };
    if src_family != dst_family {
        return Err(DecodeError::TuplesDiffer);
    }
    tuple.family = src_family;
    tuple.src = src;
    tuple.dst = dst;
    Ok((tuple, zone))
}

#[derive(Default)]
struct Addresses {
    src: Option<(Family, [u8; 16])>,
    dst: Option<(Family, [u8; 16])>,
}

impl Addresses {
    fn decode(attr: &Attr<'_>) -> Result<Self, DecodeError> {
        let mut addresses = Self::default();
        for attr in attr.nest() {
            let attr = attr?;
            match attr.kind {
                cta::CTA_IP_V4_SRC => addresses.src = Some((Family::V4, v4(&attr)?)),
                cta::CTA_IP_V4_DST => addresses.dst = Some((Family::V4, v4(&attr)?)),
                cta::CTA_IP_V6_SRC => addresses.src = Some((Family::V6, attr.array()?)),
                cta::CTA_IP_V6_DST => addresses.dst = Some((Family::V6, attr.array()?)),
                _ => {}
            }
        }
        Ok(addresses)
    }
}

fn v4(attr: &Attr<'_>) -> Result<[u8; 16], DecodeError> {
    let [a, b, c, d] = attr.array()?;
    Ok([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// `CTA_TUPLE_PROTO`: the protocol and what tells its flows apart.
fn proto(attr: &Attr<'_>, tuple: &mut Tuple) -> Result<(), DecodeError> {
    let mut number = None;
    let (mut src_id, mut dst_id) = (None, None);
    let (mut icmp_type, mut icmp_code) = (None, None);
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_PROTO_NUM => number = Some(attr.u8()?),
            cta::CTA_PROTO_SRC_PORT | cta::CTA_PROTO_ICMP_ID | cta::CTA_PROTO_ICMPV6_ID => {
                src_id = Some(attr.be16()?);
            }
            cta::CTA_PROTO_DST_PORT => dst_id = Some(attr.be16()?),
            cta::CTA_PROTO_ICMP_TYPE | cta::CTA_PROTO_ICMPV6_TYPE => icmp_type = Some(attr.u8()?),
            cta::CTA_PROTO_ICMP_CODE | cta::CTA_PROTO_ICMPV6_CODE => icmp_code = Some(attr.u8()?),
            _ => {}
        }
    }
    let number = number.ok_or(DecodeError::IncompleteTuple)?;
    if matches!(number, ICMP | ICMPV6) {
        dst_id = icmp_type
            .zip(icmp_code)
            .map(|pair| u16::from_be_bytes(pair.into()));
    }
    // These have a tracker in every kernel; a kernel without the tracker of another protocol
    // treats it as a generic one and sends no ports for it.
    let must_have_both = matches!(number, TCP | UDP | ICMP | ICMPV6);
    if must_have_both && (src_id.is_none() || dst_id.is_none()) {
        return Err(DecodeError::IncompleteTuple);
    }
    tuple.protocol = number;
    tuple.src_id = src_id.unwrap_or(0);
    tuple.dst_id = dst_id.unwrap_or(0);
    Ok(())
}

/// The state, and which directions of TCP were judged (bits of [`Present`]).
fn proto_info(attr: &Attr<'_>) -> Result<(ProtoInfo, u16), DecodeError> {
    let mut info = ProtoInfo::None;
    let mut judged = 0;
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_PROTOINFO_TCP => {
                let tcp;
                (tcp, judged) = self::tcp(&attr)?;
                info = ProtoInfo::Tcp(tcp);
            }
            cta::CTA_PROTOINFO_SCTP => info = ProtoInfo::Sctp(sctp(&attr)?),
            cta::CTA_PROTOINFO_DCCP => info = ProtoInfo::Dccp(dccp(&attr)?),
            _ => {}
        }
    }
    Ok((info, judged))
}

fn tcp(attr: &Attr<'_>) -> Result<(TcpInfo, u16), DecodeError> {
    let mut info = TcpInfo::default();
    let (mut orig, mut reply) = (0, 0);
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_PROTOINFO_TCP_STATE => info.state = attr.u8()?,
            cta::CTA_PROTOINFO_TCP_WSCALE_ORIGINAL => info.wscale_orig = attr.u8()?,
            cta::CTA_PROTOINFO_TCP_WSCALE_REPLY => info.wscale_reply = attr.u8()?,
            // Value and mask; the mask of what the kernel sends is 0.
            cta::CTA_PROTOINFO_TCP_FLAGS_ORIGINAL => [orig, _] = attr.array()?,
            cta::CTA_PROTOINFO_TCP_FLAGS_REPLY => [reply, _] = attr.array()?,
            _ => {}
        }
    }
    info.flags_orig = orig & TcpInfo::FLAGS_KEPT;
    info.flags_reply = reply & TcpInfo::FLAGS_KEPT;
    let judged = |flags: u8, bit: u16| match flags & cta::IP_CT_TCP_FLAG_MAXACK_SET {
        0 => 0,
        _ => bit,
    };
    let judged = judged(orig, Present::ORIG_JUDGED) | judged(reply, Present::REPLY_JUDGED);
    Ok((info, judged))
}

fn sctp(attr: &Attr<'_>) -> Result<SctpInfo, DecodeError> {
    let mut info = SctpInfo::default();
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_PROTOINFO_SCTP_STATE => info.state = attr.u8()?,
            cta::CTA_PROTOINFO_SCTP_VTAG_ORIGINAL => info.vtag_orig = attr.be32()?,
            cta::CTA_PROTOINFO_SCTP_VTAG_REPLY => info.vtag_reply = attr.be32()?,
            _ => {}
        }
    }
    Ok(info)
}

fn dccp(attr: &Attr<'_>) -> Result<DccpInfo, DecodeError> {
    let mut info = DccpInfo::default();
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_PROTOINFO_DCCP_STATE => info.state = attr.u8()?,
            cta::CTA_PROTOINFO_DCCP_ROLE => info.role = attr.u8()?,
            cta::CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ => info.handshake_seq = attr.array()?,
            _ => {}
        }
    }
    Ok(info)
}

/// Takes a rare attribute in; the bit of [`Present`] for it, 0 for one that is not kept.
fn rare(attr: &Attr<'_>, rare: &mut Rare) -> Result<u16, DecodeError> {
    match attr.kind {
        cta::CTA_HELP => {
            rare.helper = helper(attr)?;
            Ok(Present::HELPER)
        }
        cta::CTA_LABELS => {
            rare.labels = Some(labels(attr)?);
            Ok(Present::LABELS)
        }
        cta::CTA_SEQ_ADJ_ORIG => {
            rare.seqadj_orig = Some(seqadj(attr)?);
            Ok(Present::SEQADJ)
        }
        cta::CTA_SEQ_ADJ_REPLY => {
            rare.seqadj_reply = Some(seqadj(attr)?);
            Ok(Present::SEQADJ)
        }
        cta::CTA_SYNPROXY => {
            rare.synproxy = synproxy(attr)?;
            Ok(Present::SYNPROXY)
        }
        cta::CTA_TUPLE_MASTER => {
            rare.master = Some(tuple(attr)?.0);
            Ok(Present::MASTER)
        }
        _ => Ok(0),
    }
}

/// The helper's name. One that cannot be a helper's name is dropped: the flow matters more.
fn helper(attr: &Attr<'_>) -> Result<Option<HelperName>, DecodeError> {
    let mut name = None;
    for attr in attr.nest() {
        let attr = attr?;
        if attr.kind == cta::CTA_HELP_NAME {
            name = HelperName::new(attr.text());
        }
    }
    Ok(name)
}

/// Labels may be cut after the last word that is set; what is missing is zero.
fn labels(attr: &Attr<'_>) -> Result<[u8; 16], DecodeError> {
    let mut labels = [0; 16];
    labels
        .get_mut(..attr.payload.len())
        .ok_or(DecodeError::ValueLength)?
        .copy_from_slice(attr.payload);
    Ok(labels)
}

fn seqadj(attr: &Attr<'_>) -> Result<SeqAdj, DecodeError> {
    let mut adj = SeqAdj::default();
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_SEQADJ_CORRECTION_POS => adj.correction_pos = attr.be32()?,
            cta::CTA_SEQADJ_OFFSET_BEFORE => adj.offset_before = attr.be32()?,
            cta::CTA_SEQADJ_OFFSET_AFTER => adj.offset_after = attr.be32()?,
            _ => {}
        }
    }
    Ok(adj)
}

/// `None` when all members are zero: the kernel shows that for every entry made through ctnetlink.
fn synproxy(attr: &Attr<'_>) -> Result<Option<SynProxy>, DecodeError> {
    let mut proxy = SynProxy::default();
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_SYNPROXY_ISN => proxy.isn = attr.be32()?,
            cta::CTA_SYNPROXY_ITS => proxy.its = attr.be32()?,
            cta::CTA_SYNPROXY_TSOFF => proxy.tsoff = attr.be32()?,
            _ => {}
        }
    }
    Ok((proxy != SynProxy::default()).then_some(proxy))
}

#[cfg(test)]
mod tests;
