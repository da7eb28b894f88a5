//! The rare attributes of a FLOW_V1 record: a byte of bits, and what they say is there.
//! `docs/protocol.md` section 12.

use super::WireError;
use super::codec::{Body, Decode, Encode, put};
use super::flow_v1::{put_address, take_address};
use crate::flow::rare::{HelperName, SeqAdj, SynProxy};
use crate::flow::{Family, Rare, Tuple};

/// Most bytes of all rare attributes: labels, helper, both adjustments, synproxy, master.
pub(super) const RARE_BYTES_MAX: usize = 1 + 16 + 16 + 2 * 15 + 15 + (1 + 1 + 2 * 16 + 2 * 2);

const RARE_LABELS: u8 = 1 << 0;
const RARE_HELPER: u8 = 1 << 1;
const RARE_SEQADJ_ORIG: u8 = 1 << 2;
const RARE_SEQADJ_REPLY: u8 = 1 << 3;
const RARE_SYNPROXY: u8 = 1 << 4;
pub(super) const RARE_MASTER: u8 = 1 << 5;
const RARE_KNOWN: u8 = (1 << 6) - 1;

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct SeqAdjV1 {
    pub(super) correction_pos: u32,
    pub(super) offset_before: u32,
    pub(super) offset_after: u32,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct SynProxyV1 {
    pub(super) isn: u32,
    pub(super) its: u32,
    pub(super) tsoff: u32,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct MasterV1 {
    pub(super) family: u8,
    pub(super) protocol: u8,
    pub(super) src_id: [u8; 2],
    pub(super) dst_id: [u8; 2],
}

/// Which attributes there are; 0 for none.
pub(super) fn rare_mask(rare: &Rare) -> u8 {
    let bit = |present: bool, bit: u8| if present { bit } else { 0 };
    bit(rare.labels.is_some(), RARE_LABELS)
        | bit(rare.helper.is_some(), RARE_HELPER)
        | bit(rare.seqadj_orig.is_some(), RARE_SEQADJ_ORIG)
        | bit(rare.seqadj_reply.is_some(), RARE_SEQADJ_REPLY)
        | bit(rare.synproxy.is_some(), RARE_SYNPROXY)
        | bit(rare.master.is_some(), RARE_MASTER)
}

/// Appends the attributes of `mask`, which is not 0.
pub(super) fn put_rare(out: &mut Vec<u8>, rare: &Rare, mask: u8) {
    out.push(mask);
    if let Some(labels) = &rare.labels {
        out.extend_from_slice(labels);
    }
    if let Some(helper) = &rare.helper {
        let name = helper.as_str().as_bytes();
        out.push(u8::try_from(name.len()).expect("at most 15"));
        out.extend_from_slice(name);
    }
    for adjustment in [&rare.seqadj_orig, &rare.seqadj_reply]
        .into_iter()
        .flatten()
    {
        let adjustment = SeqAdjV1 {
            correction_pos: adjustment.correction_pos,
            offset_before: adjustment.offset_before,
            offset_after: adjustment.offset_after,
        };
        put(out, &adjustment);
    }
    if let Some(synproxy) = &rare.synproxy {
        let synproxy = SynProxyV1 {
            isn: synproxy.isn,
            its: synproxy.its,
            tsoff: synproxy.tsoff,
        };
        put(out, &synproxy);
    }
    if let Some(master) = &rare.master {
        let head = MasterV1 {
            family: master.family as u8,
            protocol: master.protocol,
            src_id: master.src_id.to_be_bytes(),
            dst_id: master.dst_id.to_be_bytes(),
        };
        put(out, &head);
        put_address(out, master.family, &master.src);
        put_address(out, master.family, &master.dst);
    }
}

/// Reads them.
pub(super) fn take_rare(body: &mut Body<'_>) -> Result<Rare, WireError> {
    let [mask] = body.array()?;
    if mask == 0 || mask & !RARE_KNOWN != 0 {
        return Err(WireError::Attribute);
    }
    let has = |bit: u8| mask & bit != 0;
    let mut rare = Rare::default();
    if has(RARE_LABELS) {
        rare.labels = Some(body.array()?);
    }
    if has(RARE_HELPER) {
        let [len] = body.array()?;
        let name = HelperName::new(body.bytes(usize::from(len))?);
        rare.helper = Some(name.ok_or(WireError::Attribute)?);
    }
    if has(RARE_SEQADJ_ORIG) {
        rare.seqadj_orig = Some(take_seqadj(body)?);
    }
    if has(RARE_SEQADJ_REPLY) {
        rare.seqadj_reply = Some(take_seqadj(body)?);
    }
    if has(RARE_SYNPROXY) {
        let synproxy: SynProxyV1 = body.take()?;
        rare.synproxy = Some(SynProxy {
            isn: synproxy.isn,
            its: synproxy.its,
            tsoff: synproxy.tsoff,
        });
    }
    if has(RARE_MASTER) {
        rare.master = Some(take_master(body)?);
    }
    Ok(rare)
}

fn take_seqadj(body: &mut Body<'_>) -> Result<SeqAdj, WireError> {
    let adjustment: SeqAdjV1 = body.take()?;
    Ok(SeqAdj {
        correction_pos: adjustment.correction_pos,
        offset_before: adjustment.offset_before,
        offset_after: adjustment.offset_after,
    })
}

fn take_master(body: &mut Body<'_>) -> Result<Tuple, WireError> {
    let head: MasterV1 = body.take()?;
    let family = match head.family {
        2 => Family::V4,
        10 => Family::V6,
        _ => return Err(WireError::Family),
    };
    Ok(Tuple {
        src: take_address(body, family)?,
        dst: take_address(body, family)?,
        src_id: u16::from_be_bytes(head.src_id),
        dst_id: u16::from_be_bytes(head.dst_id),
        family,
        protocol: head.protocol,
    })
}
