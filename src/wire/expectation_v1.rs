//! Body of the EXPECTATION_V1 record: one expectation. `docs/protocol.md` section 12.
//!
//! All addresses are of one family: the kernel has no expectation of another family than its master's.

use super::WireError;
use super::codec::{Body, Decode, Encode, put};
use super::envelope::ENVELOPE_BYTES;
use super::flow_v1::{put_address, take_address};
use crate::flow::expectation::{ExpectationNat, FUNCTION_NAME_MAX, FunctionName, SourceMask};
use crate::flow::rare::{HELPER_NAME_MAX, HelperName};
use crate::flow::{Expectation, Family, Tuple};

/// Most bytes of an EXPECTATION_V1 record, envelope included.
pub const EXPECTATION_RECORD_BYTES_MAX: usize = ENVELOPE_BYTES
    + HEAD_BYTES_MAX
    + 5 * 16
    + 2
    + (NAT_BYTES_MAX + 16)
    + (1 + HELPER_NAME_MAX)
    + (1 + FUNCTION_NAME_MAX);

const HEAD_BYTES_MAX: usize = 1 + 1 + 2 + 2 + 2 + 1 + 2 + 2 + 4 + 5 + 5 + 5 + 5;
const NAT_BYTES_MAX: usize = 5 + 2;

/// IPv6 addresses, else IPv4.
const SHAPE_V6: u8 = 1 << 0;
/// A zone other than the default.
const SHAPE_ZONE: u8 = 1 << 1;
/// A translation.
const SHAPE_NAT: u8 = 1 << 2;
/// The name of a helper.
const SHAPE_HELPER: u8 = 1 << 3;
/// The name of a function.
const SHAPE_FUNCTION: u8 = 1 << 4;
const SHAPE_KNOWN: u8 = (1 << 5) - 1;

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct ExpectationHeadV1 {
    shape: u8,
    protocol: u8,
    src_id: [u8; 2],
    dst_id: [u8; 2],
    mask_id: [u8; 2],
    master_protocol: u8,
    master_src_id: [u8; 2],
    master_dst_id: [u8; 2],
    id: [u8; 4],
    class: u32,
    flags: u32,
    timeout_secs: u32,
    age_secs: u32,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub(super) struct ExpectationNatV1 {
    direction: u32,
    id: [u8; 2],
}

/// Appends the body.
pub(super) fn emit(out: &mut Vec<u8>, expectation: &Expectation, age_secs: u32) {
    let Expectation { tuple, master, .. } = expectation;
    let family = tuple.family;
    debug_assert_eq!(family, master.family);
    let bit = |present: bool, bit: u8| if present { bit } else { 0 };
    let head = ExpectationHeadV1 {
        shape: bit(family == Family::V6, SHAPE_V6)
            | bit(expectation.zone != 0, SHAPE_ZONE)
            | bit(expectation.nat.is_some(), SHAPE_NAT)
            | bit(expectation.helper.is_some(), SHAPE_HELPER)
            | bit(expectation.function.is_some(), SHAPE_FUNCTION),
        protocol: tuple.protocol,
        src_id: tuple.src_id.to_be_bytes(),
        dst_id: tuple.dst_id.to_be_bytes(),
        mask_id: expectation.mask.id.to_be_bytes(),
        master_protocol: master.protocol,
        master_src_id: master.src_id.to_be_bytes(),
        master_dst_id: master.dst_id.to_be_bytes(),
        id: expectation.id.to_be_bytes(),
        class: expectation.class,
        flags: expectation.flags,
        timeout_secs: expectation.timeout_secs,
        age_secs,
    };
    put(out, &head);
    put_address(out, family, &tuple.src);
    put_address(out, family, &tuple.dst);
    put_address(out, family, &expectation.mask.address);
    put_address(out, family, &master.src);
    put_address(out, family, &master.dst);
    if expectation.zone != 0 {
        out.extend_from_slice(&expectation.zone.to_be_bytes());
    }
    if let Some(nat) = &expectation.nat {
        let fixed = ExpectationNatV1 {
            direction: nat.direction,
            id: nat.id.to_be_bytes(),
        };
        put(out, &fixed);
        put_address(out, family, &nat.address);
    }
    if let Some(name) = &expectation.helper {
        put_name(out, name.as_str());
    }
    if let Some(name) = &expectation.function {
        put_name(out, name.as_str());
    }
}

/// Reads a body; the inverse of [`emit`].
pub(super) fn decode(bytes: &[u8]) -> Result<(Expectation, u32), WireError> {
    let mut body = Body::new(bytes);
    let head: ExpectationHeadV1 = body.take()?;
    if head.shape & !SHAPE_KNOWN != 0 {
        return Err(WireError::Attribute);
    }
    let has = |bit: u8| head.shape & bit != 0;
    let family = if has(SHAPE_V6) {
        Family::V6
    } else {
        Family::V4
    };
    let (src, dst) = take_pair(&mut body, family)?;
    let address = take_address(&mut body, family)?;
    let (master_src, master_dst) = take_pair(&mut body, family)?;
    let zone = if has(SHAPE_ZONE) {
        u16::from_be_bytes(body.array()?)
    } else {
        0
    };
    let nat = if has(SHAPE_NAT) {
        let fixed: ExpectationNatV1 = body.take()?;
        Some(ExpectationNat {
            direction: fixed.direction,
            address: take_address(&mut body, family)?,
            id: u16::from_be_bytes(fixed.id),
        })
    } else {
        None
    };
    let helper = if has(SHAPE_HELPER) {
        let name = HelperName::new(take_name(&mut body)?);
        Some(name.ok_or(WireError::Attribute)?)
    } else {
        None
    };
    let function = if has(SHAPE_FUNCTION) {
        let name = FunctionName::new(take_name(&mut body)?);
        Some(name.ok_or(WireError::Attribute)?)
    } else {
        None
    };
    body.finish()?;
    let expectation = Expectation {
        tuple: Tuple {
            src,
            dst,
            src_id: u16::from_be_bytes(head.src_id),
            dst_id: u16::from_be_bytes(head.dst_id),
            family,
            protocol: head.protocol,
        },
        mask: SourceMask {
            address,
            id: u16::from_be_bytes(head.mask_id),
        },
        master: Tuple {
            src: master_src,
            dst: master_dst,
            src_id: u16::from_be_bytes(head.master_src_id),
            dst_id: u16::from_be_bytes(head.master_dst_id),
            family,
            protocol: head.master_protocol,
        },
        zone,
        id: u32::from_be_bytes(head.id),
        nat,
        class: head.class,
        flags: head.flags,
        helper,
        function,
        timeout_secs: head.timeout_secs,
    };
    Ok((expectation, head.age_secs))
}

fn take_pair(body: &mut Body<'_>, family: Family) -> Result<([u8; 16], [u8; 16]), WireError> {
    Ok((take_address(body, family)?, take_address(body, family)?))
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(u8::try_from(name.len()).expect("names are short"));
    out.extend_from_slice(name.as_bytes());
}

fn take_name<'a>(body: &mut Body<'a>) -> Result<&'a [u8], WireError> {
    let [len] = body.array()?;
    body.bytes(usize::from(len))
}

#[cfg(test)]
mod tests;
