//! The header of every datagram: fixed, by hand, in the clear. `docs/protocol.md` section 10.

use super::codec::Body;
use super::{DATAGRAM_BYTES_MAX, Identity, NUMBER_MAX, WireError};

/// First two bytes of every datagram.
pub const MAGIC: u16 = 0xc75d;

/// Version of the header's form.
pub const HEADER_VERSION: u8 = 1;

/// Bytes of the header of a control datagram.
pub const CONTROL_HEADER_BYTES: usize = 21;

/// Bytes of the header of a data datagram, which also carries the floor.
pub const DATA_HEADER_BYTES: usize = 29;

/// What a datagram is for, and in which space its packet number counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// "I am here", to everybody on the link.
    Hello = 1,
    /// To one node, before there is a session.
    Greeting = 2,
    /// Acks and pings of a session.
    Control = 3,
    /// Records of a session.
    Data = 4,
}

impl Kind {
    fn from_wire(kind: u8) -> Result<Self, WireError> {
        match kind {
            1 => Ok(Self::Hello),
            2 => Ok(Self::Greeting),
            3 => Ok(Self::Control),
            4 => Ok(Self::Data),
            _ => Err(WireError::Kind),
        }
    }

    /// True for what belongs to a session and so names it.
    fn has_session(self) -> bool {
        match self {
            Self::Hello | Self::Greeting => false,
            Self::Control | Self::Data => true,
        }
    }
}

/// Header of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// What the datagram is for.
    pub kind: Kind,
    /// Number of the cluster key that seals the body ([`super::seal::ClusterKey::id`]); 0: it is in
    /// the clear.
    pub seal: u8,
    /// The session, by the number that the receiver of this datagram chose; 0 in a hello and a
    /// greeting, and nowhere else.
    pub session: u64,
    /// Packet number: counts from 1 at the sender, for each kind on its own (control and data: for
    /// each session); at most [`NUMBER_MAX`].
    pub number: u64,
    /// Data only, else 0: the lowest data packet number that the sender still waits for; from 1
    /// to `number`.
    pub floor: u64,
    /// Hello and greeting only: who sends, in the clear, so that a node with the wrong key has a
    /// name.
    pub sender: Option<Identity>,
}

impl Header {
    /// Appends the header to `out`, which should be empty: a datagram has one header.
    pub fn emit(&self, out: &mut Vec<u8>) {
        debug_assert_eq!(self.kind.has_session(), self.session != 0);
        debug_assert!((1..=NUMBER_MAX).contains(&self.number));
        out.extend_from_slice(&MAGIC.to_be_bytes());
        debug_assert_eq!(self.kind.has_session(), self.sender.is_none());
        out.extend_from_slice(&[HEADER_VERSION, self.kind as u8, self.seal]);
        out.extend_from_slice(&self.session.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        if self.kind == Kind::Data {
            debug_assert!((1..=self.number).contains(&self.floor));
            out.extend_from_slice(&self.floor.to_be_bytes());
        }
        if let Some(sender) = &self.sender {
            sender.emit(out);
        }
    }

    /// Bytes of the header.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match (self.kind, &self.sender) {
            (Kind::Data, _) => DATA_HEADER_BYTES,
            (_, None) => CONTROL_HEADER_BYTES,
            (_, Some(sender)) => CONTROL_HEADER_BYTES + 1 + sender.name.as_str().len() + 16,
        }
    }

    /// Takes a datagram apart.
    ///
    /// # Errors
    ///
    /// When the datagram is not of this protocol and version, or its header says what cannot be.
    pub fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), WireError> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(WireError::Long);
        }
        // Magic first, then version: what is not ours should be counted as such, whatever its size.
        let (magic, rest) = take::<2>(datagram)?;
        if u16::from_be_bytes(magic) != MAGIC {
            return Err(WireError::Magic);
        }
        let ([version, kind, seal], rest) = take::<3>(rest)?;
        if version != HEADER_VERSION {
            return Err(WireError::Version);
        }
        let kind = Kind::from_wire(kind)?;
        let (session, rest) = take::<8>(rest)?;
        let (number, rest) = take::<8>(rest)?;
        let (session, number) = (u64::from_be_bytes(session), u64::from_be_bytes(number));
        if kind.has_session() != (session != 0) {
            return Err(WireError::Session);
        }
        if !(1..=NUMBER_MAX).contains(&number) {
            return Err(WireError::Number);
        }
        let (floor, sender, body) = match kind {
            Kind::Control => (0, None, rest),
            Kind::Hello | Kind::Greeting => {
                let mut rest = Body::new(rest);
                let sender = Identity::take(&mut rest).map_err(|error| match error {
                    WireError::Truncated => WireError::Short,
                    error => error,
                })?;
                (0, Some(sender), rest.rest())
            }
            Kind::Data => {
                let (floor, body) = take::<8>(rest)?;
                let floor = u64::from_be_bytes(floor);
                if !(1..=number).contains(&floor) {
                    return Err(WireError::Number);
                }
                (floor, None, body)
            }
        };
        let header = Self {
            kind,
            seal,
            session,
            number,
            floor,
            sender,
        };
        Ok((header, body))
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), WireError> {
    match bytes.split_first_chunk::<N>() {
        Some((chunk, rest)) => Ok((*chunk, rest)),
        None => Err(WireError::Short),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Epoch, NAME_BYTES_MAX, Name};

    fn data() -> Vec<u8> {
        let mut out = Vec::new();
        Header {
            kind: Kind::Data,
            seal: 6,
            session: 0x0102_0304_0506_0708,
            number: 9,
            floor: 4,
            sender: None,
        }
        .emit(&mut out);
        out
    }

    fn hello(name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Header {
            kind: Kind::Hello,
            seal: 0,
            session: 0,
            number: 9,
            floor: 0,
            sender: Some(sender(name)),
        }
        .emit(&mut out);
        out
    }

    fn sender(name: &str) -> Identity {
        Identity {
            name: Name::new(name.as_bytes()).expect("a literal name"),
            epoch: Epoch([3; 16]),
        }
    }

    #[test]
    fn each_kind_has_the_length_it_states() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        for (kind, session, floor, name, bytes) in [
            (Kind::Hello, 0, 0, Some("a"), 21 + 18),
            (Kind::Greeting, 0, 0, Some(longest.as_str()), 21 + 81),
            (Kind::Control, 5, 0, None, CONTROL_HEADER_BYTES),
            (Kind::Data, 5, 1, None, DATA_HEADER_BYTES),
        ] {
            let header = Header {
                kind,
                seal: 200,
                session,
                number: 1,
                floor,
                sender: name.map(sender),
            };
            let mut out = Vec::new();
            header.emit(&mut out);
            assert_eq!((out.len(), header.bytes()), (bytes, bytes));
            out.extend_from_slice(b"body");
            assert_eq!(Header::parse(&out), Ok((header, &b"body"[..])));
        }
    }

    #[test]
    fn every_cut_of_a_header_is_short() {
        for whole in [data(), hello("fw1")] {
            for len in 0..whole.len() {
                assert_eq!(Header::parse(&whole[..len]), Err(WireError::Short), "{len}");
            }
        }
    }

    #[test]
    fn a_sender_without_a_name_is_refused() {
        let mut bytes = hello("fw1");
        bytes[CONTROL_HEADER_BYTES + 1] = b'\n';
        assert_eq!(Header::parse(&bytes), Err(WireError::Name));
        bytes[CONTROL_HEADER_BYTES] = 0;
        assert_eq!(Header::parse(&bytes), Err(WireError::Name));
    }

    #[test]
    fn what_is_not_ours_is_told_apart_by_its_reason() {
        let with = |at: usize, byte: u8| {
            let mut bytes = data();
            bytes[at] = byte;
            Header::parse(&bytes).map(|(header, _)| header)
        };
        assert_eq!(with(0, 0), Err(WireError::Magic));
        assert_eq!(with(2, 2), Err(WireError::Version));
        assert_eq!(with(3, 0), Err(WireError::Kind));
        assert_eq!(with(3, 5), Err(WireError::Kind));
        assert_eq!(with(3, Kind::Hello as u8), Err(WireError::Session));
        assert_eq!(with(13, 1), Err(WireError::Number), "above NUMBER_MAX");
        assert_eq!(with(20, 0), Err(WireError::Number), "zero");
        assert_eq!(with(28, 0), Err(WireError::Number), "floor zero");
        assert_eq!(with(28, 10), Err(WireError::Number), "floor above number");
        let mut bytes = data();
        bytes[5..13].fill(0);
        assert_eq!(Header::parse(&bytes), Err(WireError::Session));
        bytes.resize(DATAGRAM_BYTES_MAX + 1, 0);
        assert_eq!(Header::parse(&bytes), Err(WireError::Long));
    }

    proptest! {
        #[test]
        fn what_parses_is_what_would_be_emitted(
            mut bytes in prop::collection::vec(any::<u8>(), 0..64), patch: bool, name in 1..9u8,
        ) {
            if patch && bytes.len() >= 12 {
                let kind = 1 + bytes[3] % 4;
                bytes[..4].copy_from_slice(&[0xc7, 0x5d, HEADER_VERSION, kind]);
                if kind <= 2 { bytes[5..].iter_mut().take(8).for_each(|byte| *byte = 0); }
                if bytes.len() > 30 {
                    bytes[13..19].fill(0);
                    bytes[21] = name;
                    bytes[22..30].fill(b'n');
                }
            }
            if let Ok((header, body)) = Header::parse(&bytes) {
                let mut out = Vec::new();
                header.emit(&mut out);
                out.extend_from_slice(body);
                prop_assert_eq!(out, bytes);
            }
        }
    }
}
