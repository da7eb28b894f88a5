//! Body of the FLOW_V1 record: one flow in as few bytes as it needs. `docs/protocol.md` section 12.
//!
//! A body is a run of small fixed pieces, each a derived struct, chosen by the bits of `shape` and
//! by the protocol state. What almost every flow lacks costs a bit, not a byte.

use super::WireError;
use super::codec::{Body, Decode, Encode, put};
use super::envelope::ENVELOPE_BYTES;
use super::rare_v1::{RARE_BYTES_MAX, put_rare, rare_mask, take_rare};
use crate::flow::proto::{DccpInfo, SctpInfo, TcpInfo};
use crate::flow::{Family, Flow, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};

/// Most bytes of a FLOW_V1 record, envelope included: IPv6, every part present, every varint long.
/// A buffer with this much room takes any flow without growing.
pub const FLOW_RECORD_BYTES_MAX: usize =
    ENVELOPE_BYTES + HEAD_BYTES_MAX + 2 * (2 * 16) + 2 * 2 + 3 + 5 + 9 + RARE_BYTES_MAX;

const HEAD_BYTES_MAX: usize = 1 + 1 + 2 + 2 + 4 + 2 + 1 + 5 + 5;

/// IPv6 addresses, else IPv4.
const SHAPE_V6: u8 = 1 << 0;
/// The reply's source differs from the inverse of the original.
const SHAPE_REPLY_SRC: u8 = 1 << 1;
/// The reply's destination differs from the inverse of the original.
const SHAPE_REPLY_DST: u8 = 1 << 2;
/// The reply's `src_id` differs from the inverse of the original.
const SHAPE_REPLY_SRC_ID: u8 = 1 << 3;
/// The reply's `dst_id` differs from the inverse of the original.
const SHAPE_REPLY_DST_ID: u8 = 1 << 4;
/// A zone other than the default.
const SHAPE_ZONE: u8 = 1 << 5;
/// A mark other than zero.
const SHAPE_MARK: u8 = 1 << 6;
/// Rare attributes.
const SHAPE_RARE: u8 = 1 << 7;

/// High nibble of `info`: which protocol state follows. The low nibble is the state itself.
const INFO_NONE: u8 = 0;
const INFO_TCP: u8 = 1;
const INFO_SCTP: u8 = 2;
const INFO_DCCP: u8 = 3;

const TCP_STATE_MAX: u8 = 9;
const SCTP_STATE_MAX: u8 = 8;
const DCCP_STATE_MAX: u8 = 9;
/// `CT_DCCP_ROLE_SERVER`.
const DCCP_ROLE_MAX: u8 = 1;
/// RFC 7323 section 2.3.
const WSCALE_MAX: u8 = 14;

// The status travels in two bytes.
const _: () = assert!(Status::REPLICATED <= 0xffff);

/// What every flow has. Ports, the id and the status are fixed: as varints, ports above 250, most
/// NAT status words and all ids would be longer, not shorter.
#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct HeadV1 {
    shape: u8,
    protocol: u8,
    src_id: [u8; 2],
    dst_id: [u8; 2],
    id: [u8; 4],
    status: [u8; 2],
    info: u8,
    timeout_secs: u32,
    age_secs: u32,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct ZoneV1 {
    id: [u8; 2],
    dir: u8,
}

/// `scales`: original in the high nibble, reply in the low.
#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct TcpV1 {
    scales: u8,
    flags_orig: u8,
    flags_reply: u8,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct SctpV1 {
    vtag_orig: [u8; 4],
    vtag_reply: [u8; 4],
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct DccpV1 {
    role: u8,
    handshake_seq: [u8; 8],
}

/// Appends the body. The reply has the family and protocol of the original in every flow there is,
/// so the wire names them once.
pub(super) fn emit(out: &mut Vec<u8>, flow: &Flow, rare: &Rare, age_secs: u32) {
    let orig = &flow.orig;
    let reply = &flow.reply;
    let inverse = orig.inverse();
    debug_assert_eq!((orig.family, orig.protocol), (reply.family, reply.protocol));
    let rare_mask = rare_mask(rare);
    let bit = |present: bool, bit: u8| if present { bit } else { 0 };
    let shape = bit(orig.family == Family::V6, SHAPE_V6)
        | bit(reply.src != inverse.src, SHAPE_REPLY_SRC)
        | bit(reply.dst != inverse.dst, SHAPE_REPLY_DST)
        | bit(reply.src_id != inverse.src_id, SHAPE_REPLY_SRC_ID)
        | bit(reply.dst_id != inverse.dst_id, SHAPE_REPLY_DST_ID)
        | bit(flow.zone != Zone::default(), SHAPE_ZONE)
        | bit(flow.mark != 0, SHAPE_MARK)
        | bit(rare_mask != 0, SHAPE_RARE);
    let (info, state) = match flow.proto {
        ProtoInfo::None => (INFO_NONE, 0),
        ProtoInfo::Tcp(tcp) => (INFO_TCP, tcp.state),
        ProtoInfo::Sctp(sctp) => (INFO_SCTP, sctp.state),
        ProtoInfo::Dccp(dccp) => (INFO_DCCP, dccp.state),
    };
    debug_assert!(state < 16, "the kernel has no such state");
    let status = (flow.status.0 & Status::REPLICATED) as u16;
    let head = HeadV1 {
        shape,
        protocol: orig.protocol,
        src_id: orig.src_id.to_be_bytes(),
        dst_id: orig.dst_id.to_be_bytes(),
        id: flow.id.to_be_bytes(),
        status: status.to_be_bytes(),
        info: info << 4 | state & 0x0f,
        timeout_secs: flow.timeout_secs,
        age_secs,
    };
    put(out, &head);
    put_address(out, orig.family, &orig.src);
    put_address(out, orig.family, &orig.dst);
    if shape & SHAPE_REPLY_SRC != 0 {
        put_address(out, orig.family, &reply.src);
    }
    if shape & SHAPE_REPLY_DST != 0 {
        put_address(out, orig.family, &reply.dst);
    }
    if shape & SHAPE_REPLY_SRC_ID != 0 {
        out.extend_from_slice(&reply.src_id.to_be_bytes());
    }
    if shape & SHAPE_REPLY_DST_ID != 0 {
        out.extend_from_slice(&reply.dst_id.to_be_bytes());
    }
    if shape & SHAPE_ZONE != 0 {
        let zone = ZoneV1 {
            id: flow.zone.id.to_be_bytes(),
            dir: flow.zone.dir as u8,
        };
        put(out, &zone);
    }
    if shape & SHAPE_MARK != 0 {
        put(out, &flow.mark);
    }
    put_proto(out, &flow.proto);
    if rare_mask != 0 {
        put_rare(out, rare, rare_mask);
    }
}

/// Reads a body; the inverse of [`emit`].
pub(super) fn decode(bytes: &[u8]) -> Result<(Flow, Rare, u32), WireError> {
    let mut body = Body::new(bytes);
    let head: HeadV1 = body.take()?;
    let has = |bit: u8| head.shape & bit != 0;
    let family = if has(SHAPE_V6) {
        Family::V6
    } else {
        Family::V4
    };
    let orig = Tuple {
        src: take_address(&mut body, family)?,
        dst: take_address(&mut body, family)?,
        src_id: u16::from_be_bytes(head.src_id),
        dst_id: u16::from_be_bytes(head.dst_id),
        family,
        protocol: head.protocol,
    };
    let mut reply = orig.inverse();
    if has(SHAPE_REPLY_SRC) {
        reply.src = take_address(&mut body, family)?;
    }
    if has(SHAPE_REPLY_DST) {
        reply.dst = take_address(&mut body, family)?;
    }
    if has(SHAPE_REPLY_SRC_ID) {
        reply.src_id = u16::from_be_bytes(body.array()?);
    }
    if has(SHAPE_REPLY_DST_ID) {
        reply.dst_id = u16::from_be_bytes(body.array()?);
    }
    let zone = if has(SHAPE_ZONE) {
        take_zone(&mut body)?
    } else {
        Zone::default()
    };
    let mark = if has(SHAPE_MARK) { body.take()? } else { 0 };
    let proto = take_proto(&mut body, head.info)?;
    let rare = if has(SHAPE_RARE) {
        take_rare(&mut body)?
    } else {
        Rare::default()
    };
    body.finish()?;
    let flow = Flow {
        orig,
        reply,
        zone,
        id: u32::from_be_bytes(head.id),
        status: Status(u32::from(u16::from_be_bytes(head.status)) & Status::REPLICATED),
        mark,
        timeout_secs: head.timeout_secs,
        proto,
    };
    Ok((flow, rare, head.age_secs))
}

pub(super) fn put_address(out: &mut Vec<u8>, family: Family, address: &[u8; 16]) {
    match family {
        Family::V4 => out.extend_from_slice(&address[..4]),
        Family::V6 => out.extend_from_slice(address),
    }
}

pub(super) fn take_address(body: &mut Body<'_>, family: Family) -> Result<[u8; 16], WireError> {
    match family {
        Family::V4 => {
            let mut wide = [0; 16];
            wide[..4].copy_from_slice(&body.array::<4>()?);
            Ok(wide)
        }
        Family::V6 => body.array(),
    }
}

fn take_zone(body: &mut Body<'_>) -> Result<Zone, WireError> {
    let zone: ZoneV1 = body.take()?;
    Ok(Zone {
        id: u16::from_be_bytes(zone.id),
        dir: match zone.dir {
            0 => ZoneDir::Both,
            1 => ZoneDir::Orig,
            2 => ZoneDir::Reply,
            _ => return Err(WireError::Attribute),
        },
    })
}

fn put_proto(out: &mut Vec<u8>, proto: &ProtoInfo) {
    match proto {
        ProtoInfo::None => {}
        ProtoInfo::Tcp(tcp) => put(
            out,
            &TcpV1 {
                scales: tcp.wscale_orig << 4 | tcp.wscale_reply & 0x0f,
                flags_orig: tcp.flags_orig,
                flags_reply: tcp.flags_reply,
            },
        ),
        ProtoInfo::Sctp(sctp) => put(
            out,
            &SctpV1 {
                vtag_orig: sctp.vtag_orig.to_be_bytes(),
                vtag_reply: sctp.vtag_reply.to_be_bytes(),
            },
        ),
        ProtoInfo::Dccp(dccp) => put(
            out,
            &DccpV1 {
                role: dccp.role,
                handshake_seq: dccp.handshake_seq,
            },
        ),
    }
}

fn take_proto(body: &mut Body<'_>, info: u8) -> Result<ProtoInfo, WireError> {
    let (kind, state) = (info >> 4, info & 0x0f);
    match kind {
        INFO_NONE if state == 0 => Ok(ProtoInfo::None),
        INFO_TCP if state <= TCP_STATE_MAX => {
            let tcp: TcpV1 = body.take()?;
            let (wscale_orig, wscale_reply) = (tcp.scales >> 4, tcp.scales & 0x0f);
            if wscale_orig > WSCALE_MAX || wscale_reply > WSCALE_MAX {
                return Err(WireError::ProtoInfo);
            }
            Ok(ProtoInfo::Tcp(TcpInfo {
                state,
                wscale_orig,
                wscale_reply,
                flags_orig: tcp.flags_orig,
                flags_reply: tcp.flags_reply,
            }))
        }
        INFO_SCTP if state <= SCTP_STATE_MAX => {
            let sctp: SctpV1 = body.take()?;
            Ok(ProtoInfo::Sctp(SctpInfo {
                state,
                vtag_orig: u32::from_be_bytes(sctp.vtag_orig),
                vtag_reply: u32::from_be_bytes(sctp.vtag_reply),
            }))
        }
        INFO_DCCP if state <= DCCP_STATE_MAX => {
            let dccp: DccpV1 = body.take()?;
            if dccp.role > DCCP_ROLE_MAX {
                return Err(WireError::ProtoInfo);
            }
            Ok(ProtoInfo::Dccp(DccpInfo {
                state,
                role: dccp.role,
                handshake_seq: dccp.handshake_seq,
            }))
        }
        _ => Err(WireError::ProtoInfo),
    }
}

#[cfg(test)]
pub(super) mod tests;
