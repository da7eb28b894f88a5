//! Messages of the subsystem `NFNL_SUBSYS_CTNETLINK_EXP` to expectations and back.
//!
//! What the kernel does with a request was found by experiment; the rules that are easy to break:
//!
//! - A create ignores the timeout and takes the helper's own; [`update_timeout`] right behind it
//!   sets what is wanted.
//! - A key has a zone, that of the master. No dump and no event tells it.
//! - A delete without a tuple is a flush of all expectations. [`delete`] cannot leave it out.
//! - The name of the helper is that of the master in what the kernel tells, and that of the
//!   *expected flow* in a create ([`create`]).

use super::attr::{Attr, Attrs, Builder};
use super::cta;
use super::decode::{self, DecodeError};
use super::encode::{self, Ack};
use super::message::{Message, MessageKind, NFGENMSG_LEN};
use crate::flow::expectation::{ExpectationNat, FunctionName, SourceMask};
use crate::flow::rare::HelperName;
use crate::flow::{EventKind, Expectation, ExpectationEvent, Tuple};

/// Decodes an event: one whole netlink message, header included.
///
/// `event` is overwritten as a whole; after an error its content means nothing.
///
/// # Errors
///
/// When `message` is not a well-formed NEW or DESTROY of an expectation.
pub fn decode_expectation_event(
    message: &[u8],
    event: &mut ExpectationEvent,
) -> Result<(), DecodeError> {
    let message = Message::parse(message)?;
    let kind = match message.kind {
        MessageKind::Expectation(cta::IPCTNL_MSG_EXP_NEW) => EventKind::New,
        MessageKind::Expectation(cta::IPCTNL_MSG_EXP_DELETE) => EventKind::Destroy,
        MessageKind::Expectation(_)
        | MessageKind::Conntrack(_)
        | MessageKind::Error
        | MessageKind::Done
        | MessageKind::Overrun
        | MessageKind::Other(_) => return Err(DecodeError::NotAFlow),
    };
    decode(&message, kind, event)
}

/// Decodes an entry of a dump, as [`decode_expectation_event`].
///
/// # Errors
///
/// When `message` is not a well-formed listing of an expectation.
pub fn decode_listed_expectation(
    message: &[u8],
    event: &mut ExpectationEvent,
) -> Result<(), DecodeError> {
    let message = Message::parse(message)?;
    if message.kind != MessageKind::Expectation(cta::IPCTNL_MSG_EXP_NEW) {
        return Err(DecodeError::NotAFlow);
    }
    decode(&message, EventKind::Listed, event)
}

fn decode(
    message: &Message<'_>,
    kind: EventKind,
    event: &mut ExpectationEvent,
) -> Result<(), DecodeError> {
    let Some((nfgenmsg, attributes)) = message.payload().split_first_chunk::<NFGENMSG_LEN>() else {
        return Err(DecodeError::Truncated);
    };
    let family = decode::family_of(nfgenmsg[0])?;
    let (mut tuple, mut mask, mut master) = (None, None, None);
    let mut expectation = Expectation::default();
    for attr in Attrs::new(attributes) {
        let attr = attr?;
        match attr.kind {
            cta::CTA_EXPECT_TUPLE => tuple = Some(decode::tuple(&attr)?.0),
            cta::CTA_EXPECT_MASK => mask = Some(decode::tuple(&attr)?.0),
            cta::CTA_EXPECT_MASTER => master = Some(decode::tuple(&attr)?.0),
            cta::CTA_EXPECT_TIMEOUT => expectation.timeout_secs = attr.be32()?,
            cta::CTA_EXPECT_ID => expectation.id = attr.be32()?,
            cta::CTA_EXPECT_FLAGS => expectation.flags = attr.be32()?,
            cta::CTA_EXPECT_CLASS => expectation.class = attr.be32()?,
            cta::CTA_EXPECT_NAT => expectation.nat = nat(&attr)?,
            // A name that cannot be one is dropped: the expectation matters more.
            cta::CTA_EXPECT_HELP_NAME => expectation.helper = HelperName::new(attr.text()),
            cta::CTA_EXPECT_FN => expectation.function = FunctionName::new(attr.text()),
            _ => {}
        }
    }
    let (Some(tuple), Some(mask), Some(master)) = (tuple, mask, master) else {
        return Err(DecodeError::IncompleteTuple);
    };
    if [tuple.family, mask.family, master.family] != [family; 3] {
        return Err(DecodeError::TuplesDiffer);
    }
    expectation.tuple = tuple;
    expectation.master = master;
    expectation.mask = SourceMask {
        address: mask.src,
        id: mask.src_id,
    };
    *event = ExpectationEvent {
        kind,
        port_id: message.port_id,
        expectation,
    };
    Ok(())
}

fn nat(attr: &Attr<'_>) -> Result<Option<ExpectationNat>, DecodeError> {
    let (mut direction, mut source) = (None, None);
    for attr in attr.nest() {
        let attr = attr?;
        match attr.kind {
            cta::CTA_EXPECT_NAT_DIR => direction = Some(attr.be32()?),
            cta::CTA_EXPECT_NAT_TUPLE => source = Some(decode::tuple(&attr)?.0),
            _ => {}
        }
    }
    Ok(direction
        .zip(source)
        .map(|(direction, tuple)| ExpectationNat {
            direction,
            address: tuple.src,
            id: tuple.src_id,
        }))
}

/// Creates an expectation, with the timeout of its helper. EEXIST if one is there that waits for
/// the same, EBUSY if one waits for part of the same, ENOENT without its master, EOPNOTSUPP if
/// that has no helper, EINVAL for a class or function that the helper does not have.
///
/// The kernel shows the helper of the master, and takes what it is given as the helper of the
/// expected flow: given back, the data connection of an FTP session would be read, and rewritten,
/// as a control connection. So the name goes back only where the expected flow has that helper
/// (signalling of SIP), or where a class needs it: the kernel takes no class without.
pub fn create(out: &mut Vec<u8>, seq: u32, ack: Ack, expectation: &Expectation) {
    let flags = cta::NLM_F_CREATE | cta::NLM_F_EXCL;
    let mut message = begin(out, cta::IPCTNL_MSG_EXP_NEW, flags, seq, ack, expectation);
    message.nest(cta::CTA_EXPECT_MASTER, |nest| {
        encode::tuple(nest, &expectation.master);
    });
    key(&mut message, expectation);
    message.nest(cta::CTA_EXPECT_MASK, |nest| {
        encode::tuple(nest, &expectation.mask.as_tuple(&expectation.tuple));
    });
    message.be32(cta::CTA_EXPECT_TIMEOUT, expectation.timeout_secs);
    if let Some(name) = expectation.helper
        && (expectation.class != 0 || name.as_str() == "sip")
    {
        message.string(cta::CTA_EXPECT_HELP_NAME, name.as_str());
    }
    message.be32(cta::CTA_EXPECT_FLAGS, expectation.flags);
    message.be32(cta::CTA_EXPECT_CLASS, expectation.class);
    if let Some(nat) = expectation.nat {
        message.nest(cta::CTA_EXPECT_NAT, |nest| {
            nest.be32(cta::CTA_EXPECT_NAT_DIR, nat.direction);
            nest.nest(cta::CTA_EXPECT_NAT_TUPLE, |nest| {
                let source = Tuple {
                    src: nat.address,
                    dst: [0; 16],
                    src_id: nat.id,
                    dst_id: 0,
                    ..expectation.tuple
                };
                encode::tuple(nest, &source);
            });
        });
    }
    if let Some(name) = expectation.function {
        message.string(cta::CTA_EXPECT_FN, name.as_str());
    }
    message.finish();
}

/// Gives an expectation this long to live, in seconds, without an event; ENOENT if there is none.
pub fn update_timeout(
    out: &mut Vec<u8>,
    seq: u32,
    ack: Ack,
    expectation: &Expectation,
    timeout_secs: u32,
) {
    let mut message = begin(out, cta::IPCTNL_MSG_EXP_NEW, 0, seq, ack, expectation);
    key(&mut message, expectation);
    message.be32(cta::CTA_EXPECT_TIMEOUT, timeout_secs);
    message.finish();
}

/// Deletes the expectation that waits for this tuple; ENOENT if there is none.
pub fn delete(out: &mut Vec<u8>, seq: u32, ack: Ack, expectation: &Expectation) {
    let mut message = begin(out, cta::IPCTNL_MSG_EXP_DELETE, 0, seq, ack, expectation);
    key(&mut message, expectation);
    message.finish();
}

/// Asks for all expectations, both families.
pub fn dump(out: &mut Vec<u8>, seq: u32) {
    let flags = cta::NLM_F_REQUEST | cta::NLM_F_DUMP;
    // AF_UNSPEC: all.
    Builder::expectation(out, cta::IPCTNL_MSG_EXP_GET, flags, seq, 0).finish();
}

fn begin<'a>(
    out: &'a mut Vec<u8>,
    action: u8,
    flags: u16,
    seq: u32,
    ack: Ack,
    expectation: &Expectation,
) -> Builder<'a> {
    let ack = match ack {
        Ack::None => 0,
        Ack::Wanted => cta::NLM_F_ACK,
    };
    let flags = cta::NLM_F_REQUEST | flags | ack;
    let family = expectation.tuple.family as u8;
    Builder::expectation(out, action, flags, seq, family)
}

fn key(message: &mut Builder<'_>, expectation: &Expectation) {
    message.nest(cta::CTA_EXPECT_TUPLE, |nest| {
        encode::tuple(nest, &expectation.tuple);
    });
    if expectation.zone != 0 {
        message.be16(cta::CTA_EXPECT_ZONE, expectation.zone);
    }
}

#[cfg(test)]
mod tests;
