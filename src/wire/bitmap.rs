//! The bitmap of an ack: which packet numbers from `next` upward have been received.

use super::codec::Body;
use super::{WINDOW_MAX, WireError};

const WORDS: usize = WINDOW_MAX as usize / 64;
const BYTES_MAX: usize = WINDOW_MAX as usize / 8;

/// One bit for each of [`WINDOW_MAX`] packet numbers. Without allocation: 512 bytes, of which only
/// those up to the highest bit travel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AckBitmap {
    words: [u64; WORDS],
}

impl AckBitmap {
    /// No number received.
    pub const EMPTY: Self = Self { words: [0; WORDS] };

    /// Says that the number `offset` above `next` was received; what is outside the window is
    /// ignored.
    pub fn set(&mut self, offset: u64) {
        if let Some(word) = word_of(offset).and_then(|at| self.words.get_mut(at)) {
            *word |= 1 << (offset % 64);
        }
    }

    /// True if the number `offset` above `next` was received; false outside the window.
    #[must_use]
    pub fn has(&self, offset: u64) -> bool {
        word_of(offset)
            .and_then(|at| self.words.get(at))
            .is_some_and(|word| word >> (offset % 64) & 1 == 1)
    }

    /// The bits, 64 to a word, lowest first.
    #[must_use]
    pub fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    /// A bitmap from its words, lowest first; a window holds them in the same form.
    #[must_use]
    pub fn from_words(words: [u64; WORDS]) -> Self {
        Self { words }
    }

    /// True if no bit is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The bytes that travel: up to the highest bit.
    pub(super) fn wire_bytes(&self) -> usize {
        self.words
            .iter()
            .rposition(|&word| word != 0)
            .map_or(0, |at| {
                let bits = 64 - self.words[at].leading_zeros() as usize;
                at * 8 + bits.div_ceil(8)
            })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let mut left = self.wire_bytes();
        for word in &self.words {
            let count = left.min(8);
            out.extend_from_slice(&word.to_le_bytes()[..count]);
            left -= count;
        }
    }

    /// Reads `count` bytes. Zeros at the end are refused, so that a bitmap has one form only.
    pub(super) fn take(body: &mut Body<'_>, count: usize) -> Result<Self, WireError> {
        if count > BYTES_MAX {
            return Err(WireError::Range);
        }
        let bytes = body.bytes(count)?;
        if bytes.last() == Some(&0) {
            return Err(WireError::Malformed);
        }
        let mut bitmap = Self::EMPTY;
        for (word, chunk) in bitmap.words.iter_mut().zip(bytes.chunks(8)) {
            let mut wide = [0; 8];
            wide[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(wide);
        }
        Ok(bitmap)
    }
}

impl Default for AckBitmap {
    fn default() -> Self {
        Self::EMPTY
    }
}

fn word_of(offset: u64) -> Option<usize> {
    usize::try_from(offset / 64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_travels_in_the_byte_of_its_offset() {
        for (offset, bytes) in [(0, 1), (7, 1), (8, 2), (63, 8), (64, 9), (4095, 512)] {
            let mut bitmap = AckBitmap::EMPTY;
            bitmap.set(offset);
            assert!(bitmap.has(offset));
            let mut out = Vec::new();
            bitmap.emit(&mut out);
            assert_eq!(out.len(), bytes);
            assert_eq!(out.last(), Some(&(1 << (offset % 8))));
            assert_eq!(AckBitmap::take(&mut Body::new(&out), bytes), Ok(bitmap));
        }
    }

    #[test]
    fn outside_the_window_nothing_is_set() {
        let mut bitmap = AckBitmap::EMPTY;
        bitmap.set(4096);
        bitmap.set(u64::MAX);
        assert!(bitmap.is_empty());
        assert!(!bitmap.has(4096) && !bitmap.has(u64::MAX));
    }

    #[test]
    fn a_bitmap_above_the_window_or_with_loose_zeros_is_refused() {
        let bytes = [0xff; BYTES_MAX + 1];
        let taken = AckBitmap::take(&mut Body::new(&bytes), bytes.len());
        assert_eq!(taken, Err(WireError::Range));
        let taken = AckBitmap::take(&mut Body::new(&[1, 0]), 2);
        assert_eq!(taken, Err(WireError::Malformed));
        let taken = AckBitmap::take(&mut Body::new(&[1]), 2);
        assert_eq!(taken, Err(WireError::Truncated));
    }
}
