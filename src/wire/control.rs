//! Frames: what hello, greeting and control datagrams carry. `docs/protocol.md` section 13.

use super::codec::{Body, Decode, Encode, put};
use super::envelope::{ENVELOPE_BYTES, Envelopes, wrap};
use super::header::CONTROL_HEADER_BYTES;
use super::reconcile::{LIST_QUESTION_V1, LIST_V1, SUMS_QUESTION_V1, SUMS_V1};
use super::{
    AckBitmap, Claims, Greeting, Hello, List, ListQuestion, NUMBER_MAX, Sums, SumsQuestion,
    WINDOW_MAX, WireError,
};

/// Kind of the frame of a hello datagram.
pub const HELLO_V1: u8 = 32;
/// Kind of the frame of a greeting datagram.
pub const GREETING_V1: u8 = 33;
/// Kind of a frame that says what was received.
pub const ACK_V1: u8 = 34;
/// Kind of a frame that says what was sent.
pub const PING_V1: u8 = 35;
/// Kinds kept free for other questions and answers of reconcile; this version neither sends nor
/// understands any, and steps over them as over everything unknown.
pub const RECONCILE_RESERVED: std::ops::RangeInclusive<u8> = 44..=47;

/// One frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an ack holds its bitmap in place; boxing it would allocate per ack"
)]
pub enum Frame<'a> {
    /// A node is here.
    Hello(Hello),
    /// A node wants a session, or agrees to one.
    Greeting(Greeting),
    /// What was received.
    Ack(Ack),
    /// What was sent.
    Ping(Ping),
    /// Sums of the replica are wanted.
    SumsQuestion(SumsQuestion),
    /// Sums of the replica.
    Sums(Sums<'a>),
    /// A list of flows of the replica is wanted.
    ListQuestion(ListQuestion),
    /// A list of flows of the replica.
    List(List<'a>),
    /// A kind that this version does not know, or not here: stepped over, to be counted.
    Unknown(u8),
}

impl Frame<'_> {
    /// Appends the frame; an unknown kind with an empty body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => hello.emit(out),
            Self::Greeting(greeting) => greeting.emit(out),
            Self::Ack(ack) => ack.emit(out),
            Self::Ping(ping) => ping.emit(out),
            Self::SumsQuestion(question) => question.emit(out),
            Self::Sums(sums) => sums.emit(out),
            Self::ListQuestion(question) => question.emit(out),
            Self::List(list) => list.emit(out),
            Self::Unknown(kind) => wrap(out, *kind, |_| ()),
        }
    }
}

/// What a receiver has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ack {
    /// All data packet numbers below are received or no longer waited for; from 1.
    pub next: u64,
    /// No data packet number from here upward is known to have been sent; not below `next`.
    pub seen: u64,
    /// Received packet numbers from `next` upward, in full.
    pub bitmap: AckBitmap,
    /// The last judged marker, repeated until another one is judged.
    pub verdict: Option<Verdict>,
    /// Flows in the replica.
    pub have: u64,
    /// `clock_micros` of the newest ping or marker received; 0 before the first.
    pub echo_clock_micros: u64,
}

/// What comparing the replica with a marker gave.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Verdict {
    /// Data packet number of the datagram that carried the marker.
    pub marker: u64,
    /// The result.
    pub outcome: Outcome,
}

/// Result of a comparison. A marker that could not be judged has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Outcome {
    /// The replica is the sender's table as of the marker.
    Equal = 1,
    /// It is not.
    Different = 2,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct AckV1 {
    next: u64,
    seen: u64,
    verdict: Option<VerdictV1>,
    have: u64,
    echo_clock_micros: u64,
    bitmap_bytes: u16,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct VerdictV1 {
    marker: u64,
    outcome: u8,
}

impl Ack {
    /// Most bytes of an ack without its bitmap, the datagram's header included.
    const BYTES_MAX: usize =
        CONTROL_HEADER_BYTES + ENVELOPE_BYTES + 9 + 9 + (1 + 9 + 1) + 9 + 9 + 3;

    /// The widest window whose ack fits in a datagram of that many bytes (rule A1: always in full).
    #[must_use]
    pub fn window_that_fits(datagram_bytes: usize) -> u32 {
        let bytes = datagram_bytes.saturating_sub(Self::BYTES_MAX);
        u32::try_from(bytes * 8)
            .unwrap_or(WINDOW_MAX)
            .clamp(1, WINDOW_MAX)
    }

    /// Appends an ACK_V1 frame.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wrap(out, ACK_V1, |out| {
            let head = AckV1 {
                next: self.next,
                seen: self.seen,
                verdict: self.verdict.map(|verdict| VerdictV1 {
                    marker: verdict.marker,
                    outcome: verdict.outcome as u8,
                }),
                have: self.have,
                echo_clock_micros: self.echo_clock_micros,
                bitmap_bytes: u16::try_from(self.bitmap.wire_bytes()).expect("at most 512"),
            };
            put(out, &head);
            self.bitmap.emit(out);
        });
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let head: AckV1 = body.take()?;
        let bitmap = AckBitmap::take(&mut body, usize::from(head.bitmap_bytes))?;
        body.finish()?;
        check_number(head.next)?;
        check_number(head.seen)?;
        if head.seen < head.next {
            return Err(WireError::Number);
        }
        Ok(Self {
            next: head.next,
            seen: head.seen,
            bitmap,
            verdict: head.verdict.map(Verdict::decode).transpose()?,
            have: head.have,
            echo_clock_micros: head.echo_clock_micros,
        })
    }
}

impl Verdict {
    fn decode(verdict: VerdictV1) -> Result<Self, WireError> {
        check_number(verdict.marker)?;
        Ok(Self {
            marker: verdict.marker,
            outcome: match verdict.outcome {
                1 => Outcome::Equal,
                2 => Outcome::Different,
                _ => return Err(WireError::Malformed),
            },
        })
    }
}

/// What a sender has sent, outside the data window; answered by an ack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ping {
    /// The data packet number that comes next; from 1.
    pub next: u64,
    /// Age of the oldest change that the receiver of this ping has not acked, in milliseconds.
    pub lag_ms: u32,
    /// Most changes that the receiver of this ping may still lack.
    pub lag_records: u32,
    /// The sender's monotonic clock in microseconds, from a start of its own choice.
    pub clock_micros: u64,
    /// The sender's role: 0 standby, 1 promoting, 2 active, 3 demoting; a number that is none of
    /// these is a role of a later version.
    pub role: u8,
    /// The sender's term.
    pub term: u64,
    /// Flows in the sender's table.
    pub flows: u64,
    /// The sender is ready: as a standby it could take over now.
    pub ready: bool,
    /// What the sender claims while it is active, or about to be.
    pub claims: Claims,
}

/// Bit of `PingV1::flags`: the sender is ready. The others are kept for later, and ignored.
const PING_READY: u8 = 1;

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct PingV1 {
    next: u64,
    lag_ms: u32,
    lag_records: u32,
    clock_micros: u64,
    role: u8,
    term: u64,
    flows: u64,
    flags: u8,
    claims: u8,
}

impl Ping {
    /// Appends a PING_V1 frame.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let body = PingV1 {
            next: self.next,
            lag_ms: self.lag_ms,
            lag_records: self.lag_records,
            clock_micros: self.clock_micros,
            role: self.role,
            term: self.term,
            flows: self.flows,
            flags: if self.ready { PING_READY } else { 0 },
            claims: u8::try_from(self.claims.hashes().len()).expect("at most 64"),
        };
        wrap(out, PING_V1, |out| {
            put(out, &body);
            self.claims.emit(out);
        });
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let ping: PingV1 = body.take()?;
        let claims = Claims::take(&mut body, usize::from(ping.claims))?;
        body.finish()?;
        check_number(ping.next)?;
        Ok(Self {
            next: ping.next,
            lag_ms: ping.lag_ms,
            lag_records: ping.lag_records,
            clock_micros: ping.clock_micros,
            role: ping.role,
            term: ping.term,
            flows: ping.flows,
            ready: ping.flags & PING_READY != 0,
            claims,
        })
    }
}

/// Iterates over the frames in the body of a hello, greeting or control datagram.
///
/// A frame that cannot be decoded is an error, and the next one follows: its envelope says where.
/// An envelope that cannot be followed is the last error.
#[derive(Clone, Debug)]
pub struct Frames<'a>(Envelopes<'a>);

impl<'a> Frames<'a> {
    /// The frames of `body`, which is what follows the header.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self(Envelopes::new(body))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, bytes) = match self.0.next()? {
            Ok(envelope) => envelope,
            Err(error) => return Some(Err(error)),
        };
        Some(match kind {
            HELLO_V1 => Hello::decode(bytes).map(Frame::Hello),
            GREETING_V1 => Greeting::decode(bytes).map(Frame::Greeting),
            ACK_V1 => Ack::decode(bytes).map(Frame::Ack),
            PING_V1 => Ping::decode(bytes).map(Frame::Ping),
            SUMS_QUESTION_V1 => SumsQuestion::decode(bytes).map(Frame::SumsQuestion),
            SUMS_V1 => Sums::decode(bytes).map(Frame::Sums),
            LIST_QUESTION_V1 => ListQuestion::decode(bytes).map(Frame::ListQuestion),
            LIST_V1 => List::decode(bytes).map(Frame::List),
            _ => Ok(Frame::Unknown(kind)),
        })
    }
}

/// Numbers that name the one after the last may be one above it.
fn check_number(number: u64) -> Result<(), WireError> {
    if (1..=NUMBER_MAX + 1).contains(&number) {
        Ok(())
    } else {
        Err(WireError::Number)
    }
}

#[cfg(test)]
mod tests;
