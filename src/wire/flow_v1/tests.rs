//! Any flow comes back as it was, any bytes are answered without a panic, and nothing is longer
//! than it says.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::rare_v1::{MasterV1, RARE_MASTER, SeqAdjV1, SynProxyV1};
use super::*;
use crate::flow::rare::{HelperName, SeqAdj, SynProxy};
use crate::flow::tuple::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use crate::wire::codec::assert_same_as_wincode;
use crate::wire::emit_flow;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

fn plain_tcp() -> Flow {
    let orig = Tuple::new(TCP, ip("192.0.2.1"), ip("198.51.100.7"), 40000, 443);
    Flow {
        orig,
        reply: orig.inverse(),
        id: 0xdead_beef,
        status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED),
        timeout_secs: 432_000,
        proto: ProtoInfo::Tcp(TcpInfo {
            state: 3,
            wscale_orig: 7,
            wscale_reply: 14,
            flags_orig: 0x23,
            flags_reply: 0x23,
        }),
        ..Flow::default()
    }
}

fn encoded(flow: &Flow, rare: &Rare, age_secs: u32) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out, flow, rare, age_secs);
    out
}

fn record_bytes(flow: &Flow, rare: &Rare, age_secs: u32) -> usize {
    let mut out = Vec::new();
    emit_flow(&mut out, flow, rare, age_secs);
    out.len()
}

#[test]
fn a_plain_ipv4_tcp_flow_takes_33_bytes_and_a_translated_one_39() {
    let mut flow = plain_tcp();
    assert_eq!(record_bytes(&flow, &Rare::default(), 9), 33);
    flow.reply = Tuple::new(TCP, ip("198.51.100.7"), ip("203.0.113.1"), 443, 61000);
    assert_eq!(record_bytes(&flow, &Rare::default(), 9), 39);
}

#[test]
fn the_longest_flow_is_as_long_as_the_bound() {
    let orig = Tuple::new(DCCP, ip("2001:db8::1"), ip("2001:db8::2"), 40000, 443);
    let flow = Flow {
        orig,
        reply: Tuple::new(DCCP, ip("2001:db8::3"), ip("2001:db8::4"), 444, 40001),
        zone: Zone {
            id: 9,
            dir: ZoneDir::Reply,
        },
        id: 1,
        status: Status(Status::REPLICATED),
        mark: u32::MAX,
        timeout_secs: u32::MAX,
        proto: ProtoInfo::Dccp(DccpInfo {
            state: 4,
            role: 1,
            handshake_seq: [0xff; 8],
        }),
    };
    let seqadj = Some(SeqAdj {
        correction_pos: u32::MAX,
        offset_before: u32::MAX,
        offset_after: u32::MAX,
    });
    let rare = Rare {
        labels: Some([0xff; 16]),
        helper: HelperName::new(b"fifteen-letters"),
        seqadj_orig: seqadj,
        seqadj_reply: seqadj,
        synproxy: Some(SynProxy {
            isn: u32::MAX,
            its: u32::MAX,
            tsoff: u32::MAX,
        }),
        master: Some(orig),
    };
    assert_eq!(record_bytes(&flow, &rare, u32::MAX), FLOW_RECORD_BYTES_MAX);
    let body = encoded(&flow, &rare, u32::MAX);
    assert_eq!(decode(&body), Ok((flow, rare, u32::MAX)));
}

#[test]
fn emitting_into_a_buffer_with_room_does_not_allocate() {
    let mut out = Vec::with_capacity(FLOW_RECORD_BYTES_MAX);
    let before = (out.as_ptr(), out.capacity());
    emit_flow(&mut out, &plain_tcp(), &Rare::default(), 9);
    assert_eq!((out.as_ptr(), out.capacity()), before);
}

#[test]
fn bits_that_do_not_replicate_stay_here_and_are_not_taken_from_others() {
    let mut flow = plain_tcp();
    flow.status.0 |= Status::DYING | Status::OFFLOAD;
    let mut body = encoded(&flow, &Rare::default(), 0);
    let (back, _, _) = decode(&body).expect("a good body");
    assert_eq!(back.status.0, flow.status.0 & Status::REPLICATED);
    // Status is the two bytes after shape, protocol, the two ids and the id.
    body[10] |= (Status::DYING >> 8) as u8;
    let (back, _, _) = decode(&body).expect("a good body");
    assert_eq!(back.status.0, flow.status.0 & Status::REPLICATED);
}

#[test]
fn values_that_no_kernel_has_are_refused() {
    let body = encoded(&plain_tcp(), &Rare::default(), 0);
    let with = |at: usize, byte: u8| {
        let mut body = body.clone();
        body[at] = byte;
        decode(&body)
    };
    const INFO: usize = 12;
    const SCALES: usize = 27;
    assert_eq!(body[INFO], 0x13);
    assert_eq!(body[SCALES], 0x7e);
    assert!(with(INFO, 0x19).is_ok(), "TCP state 9");
    assert_eq!(with(INFO, 0x1a), Err(WireError::ProtoInfo), "TCP state 10");
    assert_eq!(with(INFO, 0x29), Err(WireError::ProtoInfo), "SCTP state 9");
    assert_eq!(with(INFO, 0x3a), Err(WireError::ProtoInfo), "DCCP state 10");
    assert_eq!(with(INFO, 0x01), Err(WireError::ProtoInfo), "no protocol");
    assert_eq!(with(INFO, 0x40), Err(WireError::ProtoInfo), "unknown kind");
    assert_eq!(
        with(INFO, 0x00),
        Err(WireError::Trailing),
        "state left over"
    );
    assert_eq!(
        with(INFO, 0x24),
        Err(WireError::Truncated),
        "SCTP is longer"
    );
    assert_eq!(with(SCALES, 0xf0), Err(WireError::ProtoInfo));
    assert_eq!(with(SCALES, 0x0f), Err(WireError::ProtoInfo));
    assert!(with(SCALES, 0xee).is_ok());
}

#[test]
fn a_dccp_role_and_a_zone_direction_above_the_last_are_refused() {
    let mut flow = plain_tcp();
    flow.proto = ProtoInfo::Dccp(DccpInfo::default());
    let mut body = encoded(&flow, &Rare::default(), 0);
    let role = body.len() - 9;
    body[role] = 2;
    assert_eq!(decode(&body), Err(WireError::ProtoInfo));

    let mut flow = plain_tcp();
    flow.zone.id = 5;
    flow.proto = ProtoInfo::None;
    let mut body = encoded(&flow, &Rare::default(), 0);
    *body.last_mut().expect("not empty") = 3;
    assert_eq!(decode(&body), Err(WireError::Attribute));
}

#[test]
fn bad_rare_attributes_are_refused() {
    let mut flow = plain_tcp();
    flow.proto = ProtoInfo::None;
    let rare = Rare {
        helper: HelperName::new(b"ftp"),
        ..Rare::default()
    };
    let body = encoded(&flow, &rare, 0);
    let mask = body.len() - 5;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut body = body.clone();
        change(&mut body);
        decode(&body)
    };
    assert_eq!(with(&|b| b[mask] = 0), Err(WireError::Attribute));
    assert_eq!(with(&|b| b[mask] |= 0x40), Err(WireError::Attribute));
    assert_eq!(with(&|b| b[mask + 1] = 16), Err(WireError::Truncated));
    assert_eq!(with(&|b| b[mask + 2] = 0), Err(WireError::Attribute));
    assert_eq!(with(&|b| b[mask + 2] = 0xe9), Err(WireError::Attribute));
    assert_eq!(with(&|b| b[mask + 1] = 2), Err(WireError::Trailing));

    let rare = Rare {
        master: Some(flow.orig),
        ..Rare::default()
    };
    let mut body = encoded(&flow, &rare, 0);
    assert_eq!(body[mask], RARE_MASTER);
    body[mask + 1] = 3;
    assert_eq!(decode(&body), Err(WireError::Family));
}

#[test]
fn every_cut_of_a_body_is_truncated() {
    let body = encoded(&plain_tcp(), &Rare::default(), 300);
    for len in 0..body.len() {
        assert_eq!(decode(&body[..len]), Err(WireError::Truncated), "{len}");
    }
}

proptest! {
    #[test]
    fn any_flow_comes_back_as_it_was(flow in flow(), rare in rare(), age_secs: u32) {
        let body = encoded(&flow, &rare, age_secs);
        prop_assert!(body.len() + ENVELOPE_BYTES <= FLOW_RECORD_BYTES_MAX);
        prop_assert_eq!(decode(&body), Ok((flow, rare, age_secs)));
    }

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&body);
    }

    #[test]
    fn a_damaged_body_is_answered_with_a_possible_flow(
        flow in flow(), rare in rare(), at: prop::sample::Index, byte: u8, len: prop::sample::Index,
    ) {
        let mut body = encoded(&flow, &rare, 0);
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok((flow, rare, age_secs)) = decode(&body) {
            let again = encoded(&flow, &rare, age_secs);
            prop_assert_eq!(decode(&again), Ok((flow, rare, age_secs)));
        }
        body.truncate(len.index(body.len()));
        let _ = decode(&body);
    }

    #[test]
    fn wincode_gives_the_same_bytes(
        bytes: [u8; 8], small: [u8; 3], words: [u32; 3], half: [u8; 2], quarter: [u8; 4],
    ) {
        assert_same_as_wincode!(HeadV1, HeadV1 {
            shape: small[0],
            protocol: small[1],
            src_id: half,
            dst_id: [half[1], half[0]],
            id: quarter,
            status: half,
            info: small[2],
            timeout_secs: words[0],
            age_secs: words[1] >> (words[2] % 32),
        });
        assert_same_as_wincode!(ZoneV1, ZoneV1 { id: half, dir: small[0] });
        assert_same_as_wincode!(TcpV1, TcpV1 {
            scales: small[0],
            flags_orig: small[1],
            flags_reply: small[2],
        });
        assert_same_as_wincode!(SctpV1, SctpV1 { vtag_orig: quarter, vtag_reply: quarter });
        assert_same_as_wincode!(DccpV1, DccpV1 { role: small[0], handshake_seq: bytes });
        assert_same_as_wincode!(SeqAdjV1, SeqAdjV1 {
            correction_pos: words[0],
            offset_before: words[1] >> (words[0] % 32),
            offset_after: words[2],
        });
        assert_same_as_wincode!(SynProxyV1, SynProxyV1 {
            isn: words[0],
            its: words[1],
            tsoff: words[2] >> (words[0] % 32),
        });
        assert_same_as_wincode!(MasterV1, MasterV1 {
            family: small[0],
            protocol: small[1],
            src_id: half,
            dst_id: half,
        });
        assert_same_as_wincode!(u32, words[0] >> (words[1] % 32)); // mark
    }
}

fn tuple(family: Family, protocol: u8) -> impl Strategy<Value = Tuple> {
    let address = move |address: [u8; 16]| match family {
        Family::V4 => {
            let mut wide = [0; 16];
            wide[..4].copy_from_slice(&address[..4]);
            wide
        }
        Family::V6 => address,
    };
    any::<([u8; 16], [u8; 16], u16, u16)>().prop_map(move |(src, dst, src_id, dst_id)| Tuple {
        src: address(src),
        dst: address(dst),
        src_id,
        dst_id,
        family,
        protocol,
    })
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![
        prop::sample::select(vec![TCP, UDP, UDPLITE, ICMP, ICMPV6, SCTP, DCCP, GRE]),
        any::<u8>(),
    ]
}

fn proto_info() -> impl Strategy<Value = ProtoInfo> {
    prop_oneof![
        Just(ProtoInfo::None),
        (
            0..=TCP_STATE_MAX,
            0..=WSCALE_MAX,
            0..=WSCALE_MAX,
            any::<u8>(),
            any::<u8>()
        )
            .prop_map(
                |(state, wscale_orig, wscale_reply, flags_orig, flags_reply)| {
                    ProtoInfo::Tcp(TcpInfo {
                        state,
                        wscale_orig,
                        wscale_reply,
                        flags_orig,
                        flags_reply,
                    })
                }
            ),
        (0..=SCTP_STATE_MAX, any::<u32>(), any::<u32>()).prop_map(
            |(state, vtag_orig, vtag_reply)| {
                ProtoInfo::Sctp(SctpInfo {
                    state,
                    vtag_orig,
                    vtag_reply,
                })
            }
        ),
        (0..=DCCP_STATE_MAX, 0..=DCCP_ROLE_MAX, any::<[u8; 8]>()).prop_map(
            |(state, role, handshake_seq)| {
                ProtoInfo::Dccp(DccpInfo {
                    state,
                    role,
                    handshake_seq,
                })
            }
        ),
    ]
}

/// Replies that are the inverse, and replies of which any part differs.
fn reply(orig: Tuple) -> impl Strategy<Value = Tuple> {
    (tuple(orig.family, orig.protocol), 0_u8..16).prop_map(move |(other, differs)| {
        let mut reply = orig.inverse();
        if differs & 1 != 0 {
            reply.src = other.src;
        }
        if differs & 2 != 0 {
            reply.dst = other.dst;
        }
        if differs & 4 != 0 {
            reply.src_id = other.src_id;
        }
        if differs & 8 != 0 {
            reply.dst_id = other.dst_id;
        }
        reply
    })
}

pub(in crate::wire) fn flow() -> impl Strategy<Value = Flow> {
    let zone = (any::<u16>(), 0_u8..3).prop_map(|(id, dir)| Zone {
        id,
        dir: [ZoneDir::Both, ZoneDir::Orig, ZoneDir::Reply][usize::from(dir)],
    });
    let zone = prop_oneof![Just(Zone::default()), zone];
    let mark = prop_oneof![Just(0), any::<u32>()];
    let tuples = (family(), protocol())
        .prop_flat_map(|(family, protocol)| tuple(family, protocol))
        .prop_flat_map(|orig| (Just(orig), reply(orig)));
    (
        tuples,
        zone,
        any::<u32>(),
        any::<u32>(),
        mark,
        any::<u32>(),
        proto_info(),
    )
        .prop_map(
            |((orig, reply), zone, id, status, mark, timeout_secs, proto)| Flow {
                orig,
                reply,
                zone,
                id,
                status: Status(status & Status::REPLICATED),
                mark,
                timeout_secs,
                proto,
            },
        )
}

pub(in crate::wire) fn rare() -> impl Strategy<Value = Rare> {
    let helper = "[a-zA-Z0-9-]{1,15}"
        .prop_map(|name| HelperName::new(name.as_bytes()).expect("at most 15 ASCII letters"));
    let seqadj = || {
        any::<(u32, u32, u32)>().prop_map(|(correction_pos, offset_before, offset_after)| SeqAdj {
            correction_pos,
            offset_before,
            offset_after,
        })
    };
    let synproxy =
        any::<(u32, u32, u32)>().prop_map(|(isn, its, tsoff)| SynProxy { isn, its, tsoff });
    let master =
        (family(), any::<u8>()).prop_flat_map(|(family, protocol)| tuple(family, protocol));
    let present = (
        prop::option::of(any::<[u8; 16]>()),
        prop::option::of(helper),
        prop::option::of(seqadj()),
        prop::option::of(seqadj()),
        prop::option::of(synproxy),
        prop::option::of(master),
    )
        .prop_map(
            |(labels, helper, seqadj_orig, seqadj_reply, synproxy, master)| Rare {
                labels,
                helper,
                seqadj_orig,
                seqadj_reply,
                synproxy,
                master,
            },
        );
    prop_oneof![Just(Rare::default()), present]
}
