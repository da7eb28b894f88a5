//! Questions about a replica and their answers. `docs/protocol.md` sections 7 and 13.
//!
//! An answer names the range for which it is complete, which may be less than was asked: it always
//! fits in one datagram, and whoever asked asks for the rest. Both answers borrow from the datagram
//! they came in.

use super::WireError;
use super::codec::{Body, Decode, Encode, put};
use super::envelope::{ENVELOPE_BYTES, wrap};

/// Kind of a frame that asks for sums.
pub const SUMS_QUESTION_V1: u8 = 40;
/// Kind of a frame that tells sums.
pub const SUMS_V1: u8 = 41;
/// Kind of a frame that asks for the flows of a range of key hashes.
pub const LIST_QUESTION_V1: u8 = 42;
/// Kind of a frame that lists them.
pub const LIST_V1: u8 = 43;

/// Most bytes of a question, envelope included.
pub const QUESTION_BYTES_MAX: usize = ENVELOPE_BYTES + 5 + 8 + 8;
/// Most bytes of an answer that are neither a sum nor an entry of a list, envelope included.
pub const ANSWER_HEAD_BYTES_MAX: usize = ENVELOPE_BYTES + 5 + 8 + 8;
/// Bytes of a sum in an answer.
pub const SUM_BYTES: usize = 8;
/// Bytes of an entry of a list: key hash, value hash.
pub const LIST_ENTRY_BYTES: usize = 16;

/// Bits of a key hash below its leaf.
const BELOW_LEAF: u64 = u64::MAX >> 16;

/// Which sums.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// Sum of 256 leaves whose numbers have the high byte in common; there are 256.
    Inner = 0,
    /// Sum of the value hashes whose key hashes begin with the same 16 bits; there are 65,536.
    Leaf = 1,
}

impl Level {
    /// How many sums there are.
    #[must_use]
    pub fn count(self) -> u32 {
        match self {
            Self::Inner => 1 << 8,
            Self::Leaf => 1 << 16,
        }
    }

    fn from_wire(level: u8) -> Result<Self, WireError> {
        match level {
            0 => Ok(Self::Inner),
            1 => Ok(Self::Leaf),
            _ => Err(WireError::Malformed),
        }
    }

    fn check(self, first: u16, count: usize) -> Result<(), WireError> {
        let is_possible = count > 0 && usize::from(first) + count <= self.count() as usize;
        is_possible.then_some(()).ok_or(WireError::Range)
    }
}

/// Asks for some sums of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SumsQuestion {
    /// Which reconcile of the asker this belongs to.
    pub round: u32,
    /// Which sums.
    pub level: Level,
    /// Number of the first.
    pub first: u16,
    /// How many; at least 1, and none beyond the last there is.
    pub count: u16,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct SumsQuestionV1 {
    round: u32,
    level: u8,
    first: u16,
    count: u16,
}

impl SumsQuestion {
    /// Appends a SUMS_QUESTION_V1 frame: at most [`QUESTION_BYTES_MAX`] bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let body = SumsQuestionV1 {
            round: self.round,
            level: self.level as u8,
            first: self.first,
            count: self.count,
        };
        wrap(out, SUMS_QUESTION_V1, |out| put(out, &body));
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let question: SumsQuestionV1 = body.take()?;
        body.finish()?;
        let level = Level::from_wire(question.level)?;
        level.check(question.first, usize::from(question.count))?;
        Ok(Self {
            round: question.round,
            level,
            first: question.first,
            count: question.count,
        })
    }
}

/// Sums of a replica, from one upward.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sums<'a> {
    /// From the question.
    pub round: u32,
    /// From the question.
    pub level: Level,
    /// From the question: number of the first sum.
    pub first: u16,
    sums: &'a [[u8; SUM_BYTES]],
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct SumsV1 {
    round: u32,
    level: u8,
    first: u16,
}

impl<'a> Sums<'a> {
    /// Sums in the form in which they travel.
    #[must_use]
    pub fn new(round: u32, level: Level, first: u16, sums: &'a [[u8; SUM_BYTES]]) -> Self {
        Self {
            round,
            level,
            first,
            sums,
        }
    }

    /// The sums, in the order of their numbers; at least one.
    pub fn sums(&self) -> impl ExactSizeIterator<Item = u64> + 'a {
        self.sums.iter().map(|sum| u64::from_be_bytes(*sum))
    }

    /// Appends a SUMS_V1 frame: at most [`ANSWER_HEAD_BYTES_MAX`] and [`SUM_BYTES`] for each sum.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let head = SumsV1 {
            round: self.round,
            level: self.level as u8,
            first: self.first,
        };
        wrap(out, SUMS_V1, |out| {
            put(out, &head);
            out.extend_from_slice(self.sums.as_flattened());
        });
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let head: SumsV1 = body.take()?;
        let sums = chunks(body.rest())?;
        let level = Level::from_wire(head.level)?;
        level.check(head.first, sums.len())?;
        Ok(Self {
            round: head.round,
            level,
            first: head.first,
            sums,
        })
    }
}

/// Asks for the flows of a range of key hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListQuestion {
    /// Which reconcile of the asker this belongs to.
    pub round: u32,
    /// First key hash.
    pub from: u64,
    /// Last key hash: not below `from`, and of the same leaf.
    pub to: u64,
}

#[derive(Encode, Decode, Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
struct ListV1 {
    round: u32,
    from: [u8; 8],
    to: [u8; 8],
}

impl ListQuestion {
    /// Appends a LIST_QUESTION_V1 frame: at most [`QUESTION_BYTES_MAX`] bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let body = ListV1 {
            round: self.round,
            from: self.from.to_be_bytes(),
            to: self.to.to_be_bytes(),
        };
        wrap(out, LIST_QUESTION_V1, |out| put(out, &body));
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let question: ListV1 = body.take()?;
        body.finish()?;
        let (from, to) = range(&question)?;
        Ok(Self {
            round: question.round,
            from,
            to,
        })
    }
}

/// All flows that a replica holds in a range of key hashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct List<'a> {
    /// From the question.
    pub round: u32,
    /// From the question: first key hash.
    pub from: u64,
    /// Last key hash for which the list is complete: not below `from`, and of the same leaf.
    pub to: u64,
    entries: &'a [[u8; LIST_ENTRY_BYTES]],
}

impl<'a> List<'a> {
    /// A list from entries in the form in which they travel, see [`list_entry`], in the order of
    /// their key hashes.
    #[must_use]
    pub fn new(round: u32, from: u64, to: u64, entries: &'a [[u8; LIST_ENTRY_BYTES]]) -> Self {
        Self {
            round,
            from,
            to,
            entries,
        }
    }

    /// Key hash and value hash of each flow, in the order of the key hashes.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + 'a {
        self.entries.iter().map(|entry| split(*entry))
    }

    /// Appends a LIST_V1 frame: at most [`ANSWER_HEAD_BYTES_MAX`] and [`LIST_ENTRY_BYTES`] for
    /// each flow.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let head = ListV1 {
            round: self.round,
            from: self.from.to_be_bytes(),
            to: self.to.to_be_bytes(),
        };
        wrap(out, LIST_V1, |out| {
            put(out, &head);
            out.extend_from_slice(self.entries.as_flattened());
        });
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new(bytes);
        let head: ListV1 = body.take()?;
        let entries = chunks(body.rest())?;
        let (from, to) = range(&head)?;
        let list = Self::new(head.round, from, to, entries);
        let hashes = || list.entries().map(|(hash, _)| hash);
        if !hashes().is_sorted() || !hashes().all(|hash| (from..=to).contains(&hash)) {
            return Err(WireError::Range);
        }
        Ok(list)
    }
}

/// An entry of a list in the form in which it travels. Entries sort by key hash.
#[must_use]
pub fn list_entry(hash: u64, value: u64) -> [u8; LIST_ENTRY_BYTES] {
    (u128::from(hash) << 64 | u128::from(value)).to_be_bytes()
}

fn split(entry: [u8; LIST_ENTRY_BYTES]) -> (u64, u64) {
    let both = u128::from_be_bytes(entry);
    ((both >> 64) as u64, both as u64)
}

fn range(list: &ListV1) -> Result<(u64, u64), WireError> {
    let (from, to) = (u64::from_be_bytes(list.from), u64::from_be_bytes(list.to));
    let is_possible = from <= to && from | BELOW_LEAF == to | BELOW_LEAF;
    is_possible.then_some((from, to)).ok_or(WireError::Range)
}

fn chunks<const N: usize>(bytes: &[u8]) -> Result<&[[u8; N]], WireError> {
    match bytes.as_chunks() {
        (chunks, []) => Ok(chunks),
        (_, _) => Err(WireError::Truncated),
    }
}

#[cfg(test)]
mod tests;
