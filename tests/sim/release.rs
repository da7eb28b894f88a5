//! A release that is not written yet, put around the engine of today: it speaks versions 1 and 2 of
//! the protocol.
//!
//! In a session of version 2 its flows travel in a record of another kind, and each control
//! datagram has a frame more. Who agreed on version 2 must understand both, for without the flows
//! no table becomes equal; who speaks 1 must never be sent them.

use ctsyncd::wire::record::FLOW_V1;
use ctsyncd::wire::seal::SealKey;
use ctsyncd::wire::{Header, Kind, Versions};

/// The record that takes the place of FLOW_V1.
const FLOW_V2: u8 = 27;
/// A frame that says something new, in four bytes.
const NEWS_V2: [u8; 7] = [59, 0, 4, 1, 2, 3, 4];

/// Bytes of an envelope: kind, and length (docs/protocol.md section 11).
const ENVELOPE: usize = 3;

/// True for the release that is not written yet.
pub(crate) fn speaks_2(versions: Versions) -> bool {
    versions.max >= 2
}

/// Turns a datagram of the engine into one of version 2, if it is for one of the sessions of that
/// version: `partners` holds their keys, and what the other node of each really speaks.
pub(crate) fn write(partners: impl Iterator<Item = (SealKey, Versions)>, datagram: &mut Vec<u8>) {
    rewrite(partners, datagram, |kind, versions, body| match kind {
        _ if !speaks_2(versions) => panic!("a session of version 2 with {versions:?}"),
        Kind::Data => rename(body, FLOW_V1, FLOW_V2),
        Kind::Control => body.extend_from_slice(&NEWS_V2),
        Kind::Hello | Kind::Greeting => {}
    });
}

/// Turns a datagram of version 2 into what the engine understands. `keys`: of the sessions that it
/// may be for. The frame stays: the engine steps over what it does not know.
pub(crate) fn read(keys: impl Iterator<Item = SealKey>, datagram: &mut Vec<u8>) {
    rewrite(keys.map(|key| (key, ())), datagram, |kind, (), body| {
        if kind == Kind::Data {
            rename(body, FLOW_V2, FLOW_V1);
        }
    });
}

/// Opens a datagram with the key that fits, changes its body, and seals it again. What no key opens
/// stays as it is.
fn rewrite<T>(
    mut keys: impl Iterator<Item = (SealKey, T)>,
    datagram: &mut Vec<u8>,
    change: impl FnOnce(Kind, T, &mut Vec<u8>),
) {
    let Ok((header, _)) = Header::parse(datagram) else {
        return;
    };
    if !matches!(header.kind, Kind::Control | Kind::Data) {
        return;
    }
    let opened = keys.find_map(|(key, whose)| {
        let mut copy = datagram.clone();
        let body = key.open(&header, &mut copy).ok()?.to_vec();
        Some((key, whose, body))
    });
    if let Some((key, whose, mut body)) = opened {
        change(header.kind, whose, &mut body);
        datagram.clear();
        header.emit(datagram);
        datagram.extend_from_slice(&body);
        key.seal(&header, datagram);
    }
}

/// Gives all records of one kind another.
fn rename(body: &mut [u8], from: u8, to: u8) {
    let mut at = 0;
    while at + ENVELOPE <= body.len() {
        if body[at] == from {
            body[at] = to;
        }
        at += ENVELOPE + usize::from(u16::from_be_bytes([body[at + 1], body[at + 2]]));
    }
}
