//! Checksums, lengths, and the numbers of a connection.

use super::super::bulk;
use super::*;

#[test]
fn a_checksum_is_that_of_the_rfc() {
    // RFC 1071 section 3: these words sum up to 2ddf0, folded ddf2.
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(checksum(0, &bytes), !0xddf2);
    assert_eq!(checksum(0, &[0x12]), !0x1200);
}

#[test]
fn every_header_sums_up_to_nothing() {
    let flow = bulk::flow(7, 60_001);
    let mut frame = Frame::new();
    frame.datagram(&flow.orig).expect("IPv4");
    assert_valid(&frame, UDP);
    for at in 0..CONNECTION_PACKETS {
        frame
            .of_connection(&flow.orig, &flow.reply, at)
            .expect("IPv4");
        assert_valid(&frame, TCP);
    }
}

#[test]
fn each_end_acknowledges_what_the_other_has_sent() {
    let mut next = ISS;
    for segment in connection() {
        let (own, other) = match segment.side {
            Side::Inside => (0, 1),
            Side::Outside => (1, 0),
        };
        assert_eq!(segment.seq, next[own], "{segment:?}");
        if segment.flags & ACK != 0 {
            assert_eq!(segment.ack, next[other], "{segment:?}");
        }
        let flags = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        next[own] += flags + if segment.payload { 32 } else { 0 };
    }
}

/// A receiver sums everything, the checksum included, and must get all ones.
fn assert_valid(frame: &Frame, protocol: u8) {
    let at = ETHERNET + IPV4;
    let bytes = &frame.bytes;
    assert_eq!(checksum(0, &bytes[ETHERNET..at]), 0, "IPv4");
    let length = u32::try_from(bytes.len() - at).expect("short");
    let pseudo = words(&bytes[at - 8..at]) + u32::from(protocol) + length;
    assert_eq!(checksum(pseudo, &bytes[at..]), 0, "protocol {protocol}");
    assert_eq!(bytes[ETHERNET + 9], protocol);
    let told = u16::from_be_bytes([bytes[ETHERNET + 2], bytes[ETHERNET + 3]]);
    assert_eq!(usize::from(told) + ETHERNET, bytes.len());
}
