//! Records: what a data datagram carries. `docs/protocol.md` section 12.

use super::codec::{Body, Decode, Encode, put};
use super::envelope::{ENVELOPE_BYTES, Envelopes, wrap};
use super::{NUMBER_MAX, WireError, expectation_v1, flow_v1};
use crate::flow::{Expectation, Flow, Rare};

/// Kind of a record that carries a flow.
pub const FLOW_V1: u8 = 1;
/// Kind of a record that ends a flow or an expectation.
pub const TOMBSTONE_V1: u8 = 2;
/// Kind of a record that states what the receiver must hold by now.
pub const MARKER_V1: u8 = 3;

/// Kind of a record that carries an expectation.
pub const EXPECTATION_V1: u8 = 4;

/// Bytes of a TOMBSTONE_V1 record, envelope included.
pub const TOMBSTONE_RECORD_BYTES: usize = ENVELOPE_BYTES + 8;

/// Most bytes of a MARKER_V1 record, envelope included.
pub const MARKER_RECORD_BYTES_MAX: usize = ENVELOPE_BYTES + 9 + 8 + (1 + 9) + 9;

/// One record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// A flow as the sender's table had it when the datagram was made.
    Flow {
        /// The flow; of its status only `Status::REPLICATED`.
        flow: Flow,
        /// Its rare attributes.
        rare: Rare,
        /// Seconds since the kernel told `flow.timeout_secs`.
        age_secs: u32,
    },
    /// An expectation as the sender's table had it when the datagram was made.
    Expectation {
        /// The expectation.
        expectation: Expectation,
        /// Seconds since the kernel told `expectation.timeout_secs`.
        age_secs: u32,
    },
    /// The flow or expectation of this key hash is gone.
    Tombstone {
        /// Hash of the key, under the hash key of the sender's greeting.
        hash: u64,
    },
    /// What the receiver must hold if it has received everything up to here.
    Marker(Marker),
    /// A kind that this version does not know: stepped over, to be counted.
    Unknown(u8),
}

/// The sender's statement about its table; always the last record of its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Marker {
    /// Flows and expectations in the table.
    pub flows: u64,
    /// Wrapping sum of the table's digest leaves.
    pub root: u64,
    /// Data packet number: everything that was last sent under a lower one, in this session or an
    /// earlier, is gone. At least 1, at most [`NUMBER_MAX`].
    pub since: Option<u64>,
    /// The sender's monotonic clock in microseconds, from a start of its own choice.
    pub clock_micros: u64,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct MarkerV1 {
    flows: u64,
    root: [u8; 8],
    since: Option<u64>,
    clock_micros: u64,
}

/// Appends a FLOW_V1 record: at most [`super::FLOW_RECORD_BYTES_MAX`] bytes, no allocation if `out`
/// has the room. `age_secs`: seconds since the kernel told `flow.timeout_secs`.
pub fn emit_flow(out: &mut Vec<u8>, flow: &Flow, rare: &Rare, age_secs: u32) {
    wrap(out, FLOW_V1, |out| flow_v1::emit(out, flow, rare, age_secs));
}

/// Appends an EXPECTATION_V1 record: at most [`super::EXPECTATION_RECORD_BYTES_MAX`] bytes, no
/// allocation if `out` has the room.
pub fn emit_expectation(out: &mut Vec<u8>, expectation: &Expectation, age_secs: u32) {
    wrap(out, EXPECTATION_V1, |out| {
        expectation_v1::emit(out, expectation, age_secs);
    });
}

/// Appends a TOMBSTONE_V1 record: [`TOMBSTONE_RECORD_BYTES`] bytes.
pub fn emit_tombstone(out: &mut Vec<u8>, hash: u64) {
    wrap(out, TOMBSTONE_V1, |out| {
        out.extend_from_slice(&hash.to_be_bytes());
    });
}

/// Appends a MARKER_V1 record: at most [`MARKER_RECORD_BYTES_MAX`] bytes. Nothing may follow it.
pub fn emit_marker(out: &mut Vec<u8>, marker: &Marker) {
    let body = MarkerV1 {
        flows: marker.flows,
        root: marker.root.to_be_bytes(),
        since: marker.since,
        clock_micros: marker.clock_micros,
    };
    wrap(out, MARKER_V1, |out| put(out, &body));
}

/// Iterates over the records in the body of a data datagram.
///
/// A record that cannot be decoded is an error, and the next one follows: its envelope says where.
/// An envelope that cannot be followed, or anything after a marker, is the last error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    envelopes: Envelopes<'a>,
    after_marker: bool,
}

impl<'a> Records<'a> {
    /// The records of `body`, which is what follows the header.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            envelopes: Envelopes::new(body),
            after_marker: false,
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.after_marker && !self.envelopes.is_at_end() {
            self.envelopes.stop();
            return Some(Err(WireError::Trailing));
        }
        match self.envelopes.next()? {
            Ok((kind, bytes)) => {
                self.after_marker = kind == MARKER_V1;
                Some(decode(kind, bytes))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

fn decode(kind: u8, bytes: &[u8]) -> Result<Record, WireError> {
    match kind {
        FLOW_V1 => {
            let (flow, rare, age_secs) = flow_v1::decode(bytes)?;
            Ok(Record::Flow {
                flow,
                rare,
                age_secs,
            })
        }
        EXPECTATION_V1 => {
            let (expectation, age_secs) = expectation_v1::decode(bytes)?;
            Ok(Record::Expectation {
                expectation,
                age_secs,
            })
        }
        TOMBSTONE_V1 => {
            let mut body = Body::new(bytes);
            let hash = u64::from_be_bytes(body.array()?);
            body.finish()?;
            Ok(Record::Tombstone { hash })
        }
        MARKER_V1 => decode_marker(bytes).map(Record::Marker),
        _ => Ok(Record::Unknown(kind)),
    }
}

fn decode_marker(bytes: &[u8]) -> Result<Marker, WireError> {
    let mut body = Body::new(bytes);
    let marker: MarkerV1 = body.take()?;
    body.finish()?;
    match marker.since {
        Some(since) if !(1..=NUMBER_MAX).contains(&since) => Err(WireError::Number),
        Some(_) | None => Ok(Marker {
            flows: marker.flows,
            root: u64::from_be_bytes(marker.root),
            since: marker.since,
            clock_micros: marker.clock_micros,
        }),
    }
}

#[cfg(test)]
mod tests;
