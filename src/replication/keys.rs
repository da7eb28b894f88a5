//! The keys at work: what is opened with which, and which control datagrams were here before.

use crate::wire::seal::{Keyring, SealError, SealKey, TAG_BYTES};
use crate::wire::{Header, Identity};

/// Keys of one session, or none when the links are insecure.
#[derive(Debug)]
pub(super) struct SessionKeys {
    /// One to seal with, and one to open for each cluster key that is accepted.
    keys: Option<(SealKey, Vec<SealKey>)>,
}

impl SessionKeys {
    /// The keys between two runs.
    pub(super) fn new(keyring: Option<&Keyring>, ours: &Identity, theirs: &Identity) -> Self {
        let keys = keyring.map(|ring| {
            let open = ring.keys().map(|key| key.session(theirs, ours)).collect();
            (ring.primary.session(ours, theirs), open)
        });
        Self { keys }
    }

    /// Number of the cluster key for the header; 0 for in the clear.
    pub(super) fn id(&self) -> u8 {
        self.keys.as_ref().map_or(0, |(seal, _)| seal.id())
    }

    /// Bytes that sealing adds.
    pub(super) fn tag_bytes(&self) -> usize {
        if self.keys.is_some() { TAG_BYTES } else { 0 }
    }

    /// Seals a datagram that is complete.
    pub(super) fn seal(&self, header: &Header, datagram: &mut Vec<u8>) {
        if let Some((key, _)) = &self.keys {
            key.seal(header, datagram);
        }
    }

    /// Opens a datagram.
    pub(super) fn open<'a>(
        &self,
        header: &Header,
        datagram: &'a mut [u8],
    ) -> Result<&'a [u8], SealError> {
        let keys = self.keys.as_ref().map(|(_, open)| open);
        let id = header.seal;
        open_with(header, datagram, keys.is_some(), || {
            keys?.iter().find(|key| key.id() == id)
        })
    }
}

/// Seals a hello or greeting with the key that `make` derives.
pub(super) fn seal_first(
    keyring: Option<&Keyring>,
    header: &Header,
    datagram: &mut Vec<u8>,
    make: impl FnOnce(&Keyring) -> SealKey,
) {
    if let Some(ring) = keyring {
        make(ring).seal(header, datagram);
    }
}

/// Opens a hello or greeting with the key that `make` derives for the number in its header.
pub(super) fn open_first<'a>(
    keyring: Option<&Keyring>,
    header: &Header,
    datagram: &'a mut [u8],
    make: impl FnOnce(&crate::wire::seal::ClusterKey) -> SealKey,
) -> Result<&'a [u8], SealError> {
    let key = keyring
        .and_then(|ring| ring.accepted(header.seal))
        .map(make);
    open_with(header, datagram, keyring.is_some(), || key.as_ref())
}

fn open_with<'a, 'k>(
    header: &Header,
    datagram: &'a mut [u8],
    is_secure: bool,
    key: impl FnOnce() -> Option<&'k SealKey>,
) -> Result<&'a [u8], SealError> {
    match (is_secure, header.seal) {
        (false, 0) => Ok(&datagram[header.bytes()..]),
        (false, _) => Err(SealError::Sealed),
        (true, 0) => Err(SealError::InTheClear),
        (true, _) => key().ok_or(SealError::UnknownKey)?.open(header, datagram),
    }
}

/// Control packet numbers that were received: each is taken once, and none that is far behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replays {
    top: u64,
    /// Bit n: `top - n` was received.
    seen: u64,
}

impl Replays {
    /// Takes a number in. False: it was here before, or is too old to know.
    pub(super) fn take(&mut self, number: u64) -> bool {
        if number > self.top {
            let ahead = number - self.top;
            self.seen = if ahead < 64 { self.seen << ahead } else { 0 } | 1;
            self.top = number;
            return true;
        }
        let behind = self.top - number;
        let is_new = behind < 64 && self.seen >> behind & 1 == 0;
        if is_new {
            self.seen |= 1 << behind;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_taken_once(numbers in prop::collection::vec(1..200u64, 1..200)) {
            let mut replays = Replays::default();
            let mut taken = BTreeSet::new();
            for number in numbers {
                let top = taken.last().copied().unwrap_or(0);
                let expected = number + 63 >= top && !taken.contains(&number);
                prop_assert_eq!(replays.take(number), expected);
                if expected {
                    taken.insert(number);
                }
            }
        }
    }
}
