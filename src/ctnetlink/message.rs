//! The messages of a netlink datagram, and the ones that carry no flow.
//!
//! ```text
//!  0               4       6       8               12              16
//! +---------------+-------+-------+---------------+---------------+--------
//! | nlmsg_len     | type  | flags | seq           | pid           | payload   host order
//! +---------------+-------+-------+---------------+---------------+--------
//! ```
//!
//! `nlmsg_len` counts the header; the next message starts at the next multiple of four.

use netlink_packet_core::{DoneBuffer, ErrorBuffer};

use super::cta;

/// Bytes of `struct nlmsghdr`.
pub const HEADER_LEN: usize = 16;
/// Bytes of `struct nfgenmsg`, which follows in messages of netfilter's subsystems.
pub const NFGENMSG_LEN: usize = 4;

/// What is wrong with bytes that came from the kernel (or say so).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside of a header.
    #[error("truncated")]
    Truncated,
    /// `nlmsg_len` is shorter than its header or longer than the datagram.
    #[error("bad message length")]
    MessageLength,
    /// `nla_len` is shorter than its header or longer than what it stands in.
    #[error("bad attribute length")]
    AttributeLength,
    /// An attribute's payload does not have the size of its type.
    #[error("bad value length")]
    ValueLength,
    /// Not a message of conntrack that tells of a flow (or of an expectation, where one is read).
    #[error("not a conntrack entry")]
    NotAFlow,
    /// Neither AF_INET nor AF_INET6.
    #[error("unknown address family")]
    Family,
    /// A tuple, or something without which it is none, is missing.
    #[error("incomplete tuple")]
    IncompleteTuple,
    /// The two tuples are not of one protocol and family.
    #[error("tuples do not belong together")]
    TuplesDiffer,
}

impl DecodeError {
    /// One word for a counter's label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::MessageLength => "message_length",
            Self::AttributeLength => "attribute_length",
            Self::ValueLength => "value_length",
            Self::NotAFlow => "not_a_flow",
            Self::Family => "family",
            Self::IncompleteTuple => "incomplete_tuple",
            Self::TuplesDiffer => "tuples_differ",
        }
    }
}

/// What a message is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageKind {
    /// A flow, or the request for one: `IPCTNL_MSG_CT_*`.
    Conntrack(u8),
    /// An expectation, or the request for one: `IPCTNL_MSG_EXP_*`.
    Expectation(u8),
    /// NLMSG_ERROR: see [`decode_error`].
    Error,
    /// NLMSG_DONE: a dump is over, well if [`decode_error`] says nothing.
    Done,
    /// NLMSG_OVERRUN: messages were lost.
    Overrun,
    /// Something else, NLMSG_NOOP included.
    Other(u16),
}

/// One netlink message, in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// The whole message with its header, without padding.
    pub bytes: &'a [u8],
    /// `nlmsg_type`, sorted.
    pub kind: MessageKind,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// `nlmsg_pid`: in an event the port id of who caused it, 0 for the kernel.
    pub port_id: u32,
}

impl<'a> Message<'a> {
    /// Reads one message from the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    ///
    /// `Truncated` without a whole header, `MessageLength` if its length does not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::Truncated);
        };
        let &[
            l0,
            l1,
            l2,
            l3,
            t0,
            t1,
            f0,
            f1,
            s0,
            s1,
            s2,
            s3,
            p0,
            p1,
            p2,
            p3,
        ] = header;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]);
        let len = usize::try_from(len).map_err(|_| DecodeError::MessageLength)?;
        if len < HEADER_LEN || len > bytes.len() {
            return Err(DecodeError::MessageLength);
        }
        Ok(Self {
            bytes: &bytes[..len],
            kind: sort(u16::from_ne_bytes([t0, t1])),
            flags: u16::from_ne_bytes([f0, f1]),
            seq: u32::from_ne_bytes([s0, s1, s2, s3]),
            port_id: u32::from_ne_bytes([p0, p1, p2, p3]),
        })
    }

    /// What follows the header.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

fn sort(kind: u16) -> MessageKind {
    match kind {
        cta::NLMSG_ERROR => MessageKind::Error,
        cta::NLMSG_DONE => MessageKind::Done,
        cta::NLMSG_OVERRUN => MessageKind::Overrun,
        _ => match kind.to_be_bytes() {
            [cta::NFNL_SUBSYS_CTNETLINK, action] => MessageKind::Conntrack(action),
            [cta::NFNL_SUBSYS_CTNETLINK_EXP, action] => MessageKind::Expectation(action),
            [_, _] => MessageKind::Other(kind),
        },
    }
}

/// Walks the messages of a datagram. After an error there is nothing more: where the next message
/// would start is not known.
#[must_use]
pub fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages { rest: datagram }
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = Message::parse(self.rest);
        let used = parsed.map_or(self.rest.len(), |message| {
            message.bytes.len().next_multiple_of(4).min(self.rest.len())
        });
        self.rest = &self.rest[used..];
        Some(parsed)
    }
}

/// What the kernel says of a request: its sequence number and the positive errno, 0 for an
/// acknowledgement. `None` for messages that say nothing of the kind, an NLMSG_DONE without an
/// error among them.
#[must_use]
pub fn decode_error(message: &Message<'_>) -> Option<(u32, i32)> {
    let code = match message.kind {
        MessageKind::Error => {
            let error = ErrorBuffer::new_checked(message.payload()).ok()?;
            error.code().map_or(0, std::num::NonZeroI32::get)
        }
        MessageKind::Done => match DoneBuffer::new_checked(message.payload()).ok()?.code() {
            0 => return None,
            code => code,
        },
        MessageKind::Conntrack(_)
        | MessageKind::Expectation(_)
        | MessageKind::Overrun
        | MessageKind::Other(_) => return None,
    };
    Some((message.seq, code.saturating_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers to two creates in one send, the second with NLM_F_ACK and NETLINK_CAP_ACK set:
    /// the first was there already (-17).
    fn two_answers() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (seq, code) in [(7_u32, -17_i32), (8, 0)] {
            bytes.extend_from_slice(&36_u32.to_ne_bytes());
            bytes.extend_from_slice(&cta::NLMSG_ERROR.to_ne_bytes());
            bytes.extend_from_slice(&[0, 1]);
            bytes.extend_from_slice(&seq.to_ne_bytes());
            bytes.extend_from_slice(&4242_u32.to_ne_bytes());
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes.extend_from_slice(&[0; 16]);
        }
        bytes
    }

    #[test]
    fn a_datagram_of_answers_gives_each_with_its_sequence_number() {
        let bytes = two_answers();
        let answers: Vec<_> = messages(&bytes)
            .map(|message| decode_error(&message.expect("whole messages")))
            .collect();
        assert_eq!(answers, [Some((7, 17)), Some((8, 0))]);
    }

    #[test]
    fn a_bad_length_ends_the_walk_with_one_error() {
        for len in [0_u32, 15, 37, u32::MAX] {
            let mut bytes = two_answers();
            bytes[36..40].copy_from_slice(&len.to_ne_bytes());
            let seen: Vec<_> = messages(&bytes).collect();
            assert_eq!(seen.len(), 2);
            assert!(seen[0].is_ok());
            assert_eq!(seen[1], Err(DecodeError::MessageLength));
        }
        let bytes = two_answers();
        assert_eq!(
            messages(&bytes[..40]).last(),
            Some(Err(DecodeError::Truncated))
        );
    }

    #[test]
    fn the_end_of_a_dump_tells_only_its_errors() {
        let mut bytes = two_answers()[..20].to_vec();
        bytes[0] = 20;
        bytes[4..6].copy_from_slice(&cta::NLMSG_DONE.to_ne_bytes());
        bytes[16..20].copy_from_slice(&0_i32.to_ne_bytes());
        let done = Message::parse(&bytes).expect("a whole message");
        assert_eq!((done.kind, decode_error(&done)), (MessageKind::Done, None));
        bytes[16..20].copy_from_slice(&(-22_i32).to_ne_bytes());
        let done = Message::parse(&bytes).expect("a whole message");
        assert_eq!(decode_error(&done), Some((7, 22)));
    }

    #[test]
    fn the_smallest_errno_does_not_overflow() {
        let mut bytes = two_answers();
        bytes[16..20].copy_from_slice(&i32::MIN.to_ne_bytes());
        let error = Message::parse(&bytes).expect("a whole message");
        assert_eq!(decode_error(&error), Some((7, i32::MAX)));
    }
}
