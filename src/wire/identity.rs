//! Who sends: a node's name and the epoch of its run.

use std::fmt;

use super::codec::Body;
use super::{NAME_BYTES_MAX, WireError};

/// One run of a daemon: 128 random bits, drawn at start and never changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Epoch(pub [u8; 16]);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A run of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// The node.
    pub name: Name,
    /// Its run.
    pub epoch: Epoch,
}

impl Identity {
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        self.name.emit(out);
        out.extend_from_slice(&self.epoch.0);
    }

    pub(super) fn take(body: &mut Body<'_>) -> Result<Self, WireError> {
        let name = Name::take(body)?;
        Ok(Self {
            name,
            epoch: Epoch(body.array()?),
        })
    }
}

/// A node's name: 1 to [`NAME_BYTES_MAX`] letters, digits, `-`, `_` and `.`, all ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    len: u8,
}

impl Name {
    /// A name; `None` if it is not one.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.iter().all(is_allowed) {
            return None;
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name);
        Some(Self {
            bytes,
            len: u8::try_from(name.len()).expect("at most 64"),
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("checked to be ASCII")
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.len);
        out.extend_from_slice(self.as_bytes());
    }

    pub(super) fn take(body: &mut Body<'_>) -> Result<Self, WireError> {
        let [len] = body.array()?;
        Self::new(body.bytes(usize::from(len))?).ok_or(WireError::Name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        for good in ["fw1", "a", "fw-1.example_org", longest.as_str()] {
            assert_eq!(Name::new(good.as_bytes()).expect("good").as_str(), good);
        }
        let too_long = "n".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "fw 1", "fw\n", "fé", "fw\0", too_long.as_str()] {
            assert_eq!(Name::new(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn an_epoch_prints_all_its_bits() {
        let mut epoch = Epoch::default();
        epoch.0[0] = 1;
        assert_eq!(epoch.to_string(), "01000000000000000000000000000000");
    }
}
