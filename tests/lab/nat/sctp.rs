//! Packets of SCTP made by hand, as far as a firewall looks (RFC 9260): this kernel tracks SCTP, and
//! has no sockets for it. The checksum is left out; the firewalls are told not to look at it.

/// Common header: ports, tag, checksum.
const HEADER: usize = 12;
/// Header of a chunk: type, flags, length.
const CHUNK: usize = 4;
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;

/// The tags that an association's packets carry, by direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Association {
    /// In what the caller sends.
    pub(crate) to_callee: u32,
    /// In what the callee sends.
    pub(crate) to_caller: u32,
}

/// The steps of the handshake, the caller's first: each with the tag of its packet.
pub(crate) fn handshake(of: Association) -> [(u32, Vec<u8>); 4] {
    let init = |kind, tag: u32| {
        // Tag, window, streams out and in, first TSN.
        let value = [
            &tag.to_be_bytes()[..],
            &[0, 1, 0, 0],
            &[0, 1, 0, 1],
            &[0, 0, 0, 1],
        ];
        chunk(kind, 0, &value.concat())
    };
    [
        (0, init(INIT, of.to_caller)),
        (of.to_caller, init(INIT_ACK, of.to_callee)),
        (of.to_callee, chunk(COOKIE_ECHO, 0, b"cake")),
        (of.to_caller, chunk(COOKIE_ACK, 0, &[])),
    ]
}

/// A chunk with one whole message in it.
pub(crate) fn data(word: &[u8]) -> Vec<u8> {
    let value = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], word].concat();
    chunk(DATA, 3, &value)
}

/// A packet.
pub(crate) fn packet(src_port: u16, dst_port: u16, tag: u32, chunk: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + chunk.len());
    packet.extend_from_slice(&src_port.to_be_bytes());
    packet.extend_from_slice(&dst_port.to_be_bytes());
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(chunk);
    packet
}

/// The port that a packet comes from, if it carries this tag and chunk.
pub(crate) fn port_of(packet: &[u8], tag: u32, chunk: &[u8]) -> Option<u16> {
    let is_it = packet.get(4..8)? == tag.to_be_bytes() && packet.get(HEADER..)? == chunk;
    is_it.then(|| u16::from_be_bytes([packet[0], packet[1]]))
}

fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(CHUNK + value.len()).expect("a short chunk");
    let mut chunk = vec![kind, flags];
    chunk.extend_from_slice(&length.to_be_bytes());
    chunk.extend_from_slice(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}
