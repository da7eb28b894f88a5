//! The envelope around every record and frame: kind and length, so that a reader can step over
//! what it does not know. `docs/protocol.md` section 11.

use super::WireError;

/// Bytes of an envelope: kind u8, length u16 big-endian.
pub(super) const ENVELOPE_BYTES: usize = 3;

/// Appends an envelope of `kind` around what `body` appends.
#[inline]
pub(super) fn wrap(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[kind, 0, 0]);
    let start = out.len();
    body(out);
    let length = u16::try_from(out.len() - start).expect("no body is longer than a datagram");
    out[start - 2..start].copy_from_slice(&length.to_be_bytes());
}

/// Iterates over the envelopes of a datagram's body: kind, and the bytes inside.
///
/// An envelope that promises more than there is ends the iteration with one error; what came
/// before it has been yielded.
#[derive(Clone, Debug)]
pub(super) struct Envelopes<'a> {
    rest: &'a [u8],
}

impl<'a> Envelopes<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// True if nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the iteration.
    pub(super) fn stop(&mut self) {
        self.rest = &[];
    }

    fn split(&self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk::<ENVELOPE_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (bytes, rest) = rest.split_at_checked(length)?;
        Some((kind, bytes, rest))
    }
}

impl<'a> Iterator for Envelopes<'a> {
    type Item = Result<(u8, &'a [u8]), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_at_end() {
            return None;
        }
        let Some((kind, bytes, rest)) = self.split() else {
            self.stop();
            return Some(Err(WireError::Envelope));
        };
        self.rest = rest;
        Some(Ok((kind, bytes)))
    }
}
