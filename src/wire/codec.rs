//! Bodies of records and frames: structs to bytes and back. The only file that names `bincode`.
//!
//! `bincode` 2 is pinned to its last release and unmaintained (RUSTSEC-2025-0141); its form here is
//! plain enough that others write it too, and a test holds `wincode` to the same bytes. The form
//! (`docs/protocol.md` section 11): fields in order without names or padding, u8 and byte arrays as
//! they are, larger integers as varints, an option as a byte 0 or 1 before the value.

pub(super) use bincode::{Decode, Encode};

use bincode::config::Config;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};

use super::{DATAGRAM_BYTES_MAX, WireError};

/// Never without a limit: `bincode` trusts a length that it reads, up to this many bytes.
fn form() -> impl Config {
    bincode::config::standard().with_limit::<DATAGRAM_BYTES_MAX>()
}

/// Appends `value` to `out`.
pub(super) fn put<T: Encode>(out: &mut Vec<u8>, value: &T) {
    bincode::encode_into_writer(value, Tail(out), form()).expect("a Vec takes every byte");
}

/// The end of a buffer, to be written to without a detour over `std::io::Write`.
struct Tail<'a>(&'a mut Vec<u8>);

impl Writer for Tail<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// What is left to read of one body.
pub(super) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    /// All of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next value.
    pub(super) fn take<T: Decode<()>>(&mut self) -> Result<T, WireError> {
        match bincode::decode_from_slice(self.0, form()) {
            Ok((value, read)) => {
                self.0 = self.0.get(read..).ok_or(WireError::Malformed)?;
                Ok(value)
            }
            Err(DecodeError::UnexpectedEnd { .. }) => Err(WireError::Truncated),
            Err(_) => Err(WireError::Malformed),
        }
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// What is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// A body must be used up: bytes that nobody reads are bytes that nobody checked.
    pub(super) fn finish(self) -> Result<(), WireError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing)
        }
    }
}

/// Asserts that `wincode` writes a value as we do, and reads what we wrote: the way out should
/// `bincode` ever fail us. What is not derived (names, addresses, labels, the bitmap, the reply's
/// parts) is bytes that no encoder touches.
#[cfg(test)]
macro_rules! assert_same_as_wincode {
    ($type:ty, $value:expr) => {{
        let value: $type = $value;
        let config = wincode::config::Configuration::default().with_varint_encoding();
        let mut ours = Vec::new();
        $crate::wire::codec::put(&mut ours, &value);
        let theirs = wincode::config::serialize(&value, config).expect("a plain struct");
        assert_eq!(ours, theirs, "{value:?}");
        let back: $type = wincode::config::deserialize_exact(&ours, config).expect("our bytes");
        assert_eq!(back, value);
        let mut body = $crate::wire::codec::Body::new(&theirs);
        assert_eq!(body.take::<$type>(), Ok(value));
        assert_eq!(body.finish(), Ok(()));
    }};
}
#[cfg(test)]
pub(super) use assert_same_as_wincode;
