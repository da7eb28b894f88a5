//! Sealing: encryption and authentication of datagrams with keys made from the cluster's.
//!
//! The body of a datagram is encrypted with AES-256-GCM, its header is authenticated with it.
//! `docs/protocol.md` section 16 states the scheme. Keys are made by HKDF-SHA256 from the 32 bytes
//! of the cluster key; their labels name what they are for, so that no two uses share one:
//!
//! | label | and | seals | nonce counts |
//! | --- | --- | --- | --- |
//! | `hello` | sender's name and epoch | its hellos | hellos of that run |
//! | `greeting` | sender's and receiver's names and epochs | greetings between them | greetings of that run |
//! | `session` | sender's and receiver's names and epochs | control and data between them | each kind's packet numbers |
//!
//! An epoch is 128 random bits, and two runs have one session with each other in their life, so no
//! key and nonce are ever used twice.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

use super::{Header, Identity};

/// Bytes that sealing adds to a datagram.
pub const TAG_BYTES: usize = 16;

/// Bytes of a cluster key.
pub const CLUSTER_KEY_BYTES: usize = 32;

/// The secret that the nodes of a cluster share.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey {
    id: u8,
    bytes: [u8; CLUSTER_KEY_BYTES],
}

/// The cluster keys of a node: one to seal with, and while keys are rotated another that is
/// accepted as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyring {
    /// Seals, and is accepted.
    pub primary: ClusterKey,
    /// Is accepted.
    pub other: Option<ClusterKey>,
}

/// A key for one purpose.
pub struct SealKey {
    id: u8,
    key: LessSafeKey,
}

/// Why a datagram was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SealError {
    /// It is in the clear, and this node takes sealed ones only.
    InTheClear,
    /// It is sealed, and this node is insecure.
    Sealed,
    /// It is sealed with a key that this node does not have.
    UnknownKey,
    /// It does not open: forged, damaged, or sealed with another key of the same number.
    Forged,
}

impl SealError {
    /// Every reason, for the registration of counters.
    pub const ALL: [Self; 4] = [
        Self::InTheClear,
        Self::Sealed,
        Self::UnknownKey,
        Self::Forged,
    ];

    /// The value of the counter's `reason`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::InTheClear => "in_the_clear",
            Self::Sealed => "sealed",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
        }
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InTheClear => {
                "it sends in the clear, and this node has a key: give it the key_file too"
            }
            Self::Sealed => {
                "it seals what it sends, and this node is insecure: give this node its key_file"
            }
            Self::UnknownKey => {
                "it has another cluster key: copy the key_file of one node to the other"
            }
            Self::Forged => {
                "what it sends does not open: another cluster key, or somebody who has none"
            }
        })
    }
}

impl ClusterKey {
    /// A key from its bytes.
    #[must_use]
    pub fn new(bytes: [u8; CLUSTER_KEY_BYTES]) -> Self {
        let mut key = Self { id: 0, bytes };
        let mut id = [0];
        key.derive("id", &[], &mut id);
        key.id = id[0].max(1);
        key
    }

    /// Number by which a header names the key, 1 to 255: a hash, so that different keys mostly have
    /// different numbers.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Key of the flow hashes of all nodes that have this cluster key (rule S8).
    #[must_use]
    pub fn hash_key(&self) -> [u64; 2] {
        let mut bytes = [0; 16];
        self.derive("hash", &[], &mut bytes);
        let word = |half: &[u8]| {
            half.iter()
                .fold(0, |word, &byte| word << 8 | u64::from(byte))
        };
        [word(&bytes[..8]), word(&bytes[8..])]
    }

    /// Key of the hellos of a run.
    #[must_use]
    pub fn hello(&self, from: &Identity) -> SealKey {
        self.seal_key("hello", &[from])
    }

    /// Key of the greetings of one run to another.
    #[must_use]
    pub fn greeting(&self, from: &Identity, to: &Identity) -> SealKey {
        self.seal_key("greeting", &[from, to])
    }

    /// Key of the session datagrams of one run to another.
    #[must_use]
    pub fn session(&self, from: &Identity, to: &Identity) -> SealKey {
        self.seal_key("session", &[from, to])
    }

    fn seal_key(&self, label: &str, identities: &[&Identity]) -> SealKey {
        let mut bytes = [0; 32];
        self.derive(label, identities, &mut bytes);
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("a key of its length");
        SealKey {
            id: self.id,
            key: LessSafeKey::new(key),
        }
    }

    /// HKDF with everything that the key is for as its info, each part with its length.
    fn derive(&self, label: &str, identities: &[&Identity], out: &mut [u8]) {
        let mut info = Vec::new();
        let mut put = |part: &[u8]| {
            info.extend_from_slice(&u16::try_from(part.len()).expect("short").to_be_bytes());
            info.extend_from_slice(part);
        };
        put(label.as_bytes());
        for identity in identities {
            put(identity.name.as_str().as_bytes());
            put(&identity.epoch.0);
        }
        let secret = Salt::new(HKDF_SHA256, b"ctsyncd protocol 1").extract(&self.bytes);
        let info = [info.as_slice()];
        let material = secret
            .expand(&info, Length(out.len()))
            .expect("a few bytes");
        material
            .fill(out)
            .expect("of the length that was asked for");
    }
}

impl Keyring {
    /// Both keys, the one that seals first.
    pub fn keys(&self) -> impl Iterator<Item = &ClusterKey> {
        std::iter::once(&self.primary).chain(&self.other)
    }

    /// The key that a header names. Two keys of one ring have different numbers; a pair that has
    /// not is refused where keys are loaded.
    #[must_use]
    pub fn accepted(&self, id: u8) -> Option<&ClusterKey> {
        self.keys().find(|key| key.id() == id)
    }
}

impl SealKey {
    /// Number of the cluster key that it was made from.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Seals a datagram: encrypts what follows its header and appends the tag.
    ///
    /// # Panics
    ///
    /// When the datagram is shorter than its header, or the header names another key.
    pub fn seal(&self, header: &Header, datagram: &mut Vec<u8>) {
        assert_eq!(header.seal, self.id, "the header names the key");
        let (clear, body) = datagram.split_at_mut(header.bytes());
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(header), Aad::from(&*clear), body)
            .expect("a datagram is shorter than the cipher's limit");
        datagram.extend_from_slice(tag.as_ref());
    }

    /// Opens the body of a datagram in place.
    ///
    /// # Errors
    ///
    /// When it was not sealed with this key, or changed since.
    pub fn open<'a>(&self, header: &Header, datagram: &'a mut [u8]) -> Result<&'a [u8], SealError> {
        let (clear, body) = datagram
            .split_at_mut_checked(header.bytes())
            .ok_or(SealError::Forged)?;
        let opened = self
            .key
            .open_in_place(nonce(header), Aad::from(&*clear), body);
        opened.map(|opened| &*opened).map_err(|_| SealError::Forged)
    }
}

/// Kind and packet number.
fn nonce(header: &Header) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3] = header.kind as u8;
    bytes[4..].copy_from_slice(&header.number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey(number {})", self.id())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey(of cluster key {})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Epoch, Kind, Name};

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::new([byte; 32])
    }

    fn identity(name: &str, epoch: u8) -> Identity {
        Identity {
            name: Name::new(name.as_bytes()).expect("valid"),
            epoch: Epoch([epoch; 16]),
        }
    }

    fn header(number: u64, id: u8) -> Header {
        Header {
            kind: Kind::Data,
            seal: id,
            session: 5,
            number,
            floor: 1,
            sender: None,
        }
    }

    fn sealed(number: u64, key: &SealKey) -> (Header, Vec<u8>) {
        let header = header(number, key.id());
        let mut datagram = Vec::new();
        header.emit(&mut datagram);
        datagram.extend_from_slice(b"records");
        key.seal(&header, &mut datagram);
        (header, datagram)
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_only() {
        let (a, b) = (identity("a", 1), identity("b", 2));
        let session = key(7).session(&a, &b);
        let (header, datagram) = sealed(3, &session);
        assert!(!datagram.windows(7).any(|part| part == b"records"));
        assert_eq!(datagram.len(), header.bytes() + 7 + TAG_BYTES);
        assert_eq!(
            session.open(&header, &mut datagram.clone()),
            Ok(&b"records"[..])
        );
        let others = [
            key(8).session(&a, &b),
            key(7).session(&b, &a),
            key(7).greeting(&a, &b),
            key(7).session(&identity("a", 9), &b),
            key(7).session(&a, &identity("bb", 2)),
            key(7).hello(&a),
        ];
        for other in others {
            assert_eq!(
                other.open(&header, &mut datagram.clone()),
                Err(SealError::Forged)
            );
        }
    }

    #[test]
    fn no_bit_of_a_sealed_datagram_can_be_changed() {
        let session = key(7).session(&identity("a", 1), &identity("b", 2));
        let (_, datagram) = sealed(3, &session);
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A header that says something else does not open either.
            if let Ok((header, _)) = Header::parse(&changed) {
                assert_eq!(
                    session.open(&header, &mut changed),
                    Err(SealError::Forged),
                    "{bit}"
                );
            }
        }
        for len in 0..datagram.len() {
            let mut cut = datagram[..len].to_vec();
            if let Ok((header, _)) = Header::parse(&cut) {
                assert_eq!(
                    session.open(&header, &mut cut),
                    Err(SealError::Forged),
                    "{len}"
                );
            }
        }
    }

    #[test]
    fn a_name_cannot_pass_for_the_start_of_another() {
        // Without the lengths in the info these two would give one key.
        let one = key(1).session(&identity("ab", 1), &identity("c", 1));
        let other = key(1).session(&identity("a", 1), &identity("bc", 1));
        let (header, mut datagram) = sealed(1, &one);
        assert_eq!(other.open(&header, &mut datagram), Err(SealError::Forged));
    }

    /// Frozen: another implementation must make the same. The values are of one that was written for
    /// this, in Python from RFC 5869, FIPS 197 and SP 800-38D.
    #[test]
    fn the_derivation_is_frozen() {
        assert_eq!(key(1).id(), FROZEN_ID);
        assert_eq!(key(1).hash_key(), FROZEN_HASH_KEY);
        let session = key(1).session(&identity("a", 1), &identity("b", 2));
        let (_, datagram) = sealed(1, &session);
        let hex: String = datagram.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, FROZEN_DATAGRAM);
    }
    const FROZEN_ID: u8 = 172;
    const FROZEN_HASH_KEY: [u64; 2] = [0x051a_da7e_8a4f_7115, 0xfe93_db19_74ab_e58b];
    const FROZEN_DATAGRAM: &str = "c75d0104ac000000000000000500000000000000010000000000000001\
        123271d7cae32efecb9379817469de50c85b1f1931ddb3";

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", key(0xab)).contains("ab"));
        assert!(format!("{:?}", key(0xab)).starts_with("ClusterKey(number"));
    }
}
