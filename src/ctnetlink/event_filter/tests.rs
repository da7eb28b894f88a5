//! The program run by a small interpreter, over messages of a real kernel and over random ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::attr::Builder;
use super::super::cta::{
    CTA_STATUS, CTA_TUPLE_IP, IPCTNL_MSG_CT_DELETE, NFNL_SUBSYS_CTNETLINK_EXP, NLA_TYPE_MASK,
};
use super::super::decode_event;
use super::super::encode::{self, Ack, Create, Helper};
use super::*;
use crate::flow::tuple::{ICMP, ICMPV6, SCTP, TCP, UDP};
use crate::flow::{EventKind, Flow, FlowEvent, Rare, Tuple};

const INET: u8 = libc::AF_INET as u8;
const FLOWS: &str = include_str!("../../../tests/golden/ctnetlink.txt");
const EXPECTATIONS: &str = include_str!("../../../tests/golden/ctnetlink_expectations.txt");

/// The messages of a golden file, with their names.
fn golden(file: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let (name, hex) = line.split_once(' ')?;
        let digits = hex.as_bytes().chunks(2).map(|two| {
            let two = str::from_utf8(two).expect("ASCII");
            u8::from_str_radix(two, 16).expect("hexadecimal digits")
        });
        Some((name, digits.collect()))
    })
}

/// What the kernel does with a program, net/core/filter.c: true if the message passes.
fn passes(program: &[Instruction], message: &[u8]) -> bool {
    let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |holds| usize::from(if holds { jt } else { jf });
        let loaded = match code {
            LD_WORD if k == FIND => Some(find(message, a, message.len(), x)),
            LD_WORD if k == FIND_INSIDE => Some(find_inside(message, a, x)),
            LD_WORD => bytes(message, k, 4),
            LD_HALF => bytes(message, k, 2),
            LD_HALF_AT => bytes(message, x + k, 2),
            LD_BYTE_AT => bytes(message, x + k, 1),
            LD_LEN => u32::try_from(message.len()).ok(),
            LD_IMM => Some(k),
            LDX_IMM | TAX => {
                x = if code == TAX { a } else { k };
                continue;
            }
            JEQ | JGE => {
                at += jump(if code == JEQ { a == k } else { a >= k });
                continue;
            }
            RET => return k != DROP,
            _ => panic!("{code:#x} is none of ours"),
        };
        // A load beyond the end drops.
        let Some(loaded) = loaded else { return false };
        a = loaded;
    }
}

fn bytes(message: &[u8], at: u32, len: usize) -> Option<u32> {
    let at = at as usize;
    let bytes = message.get(at..at + len)?;
    Some(
        bytes
            .iter()
            .fold(0, |number, &byte| number << 8 | u32::from(byte)),
    )
}

/// `nla_find` from `at` to `end`.
fn find(message: &[u8], at: u32, end: usize, kind: u32) -> u32 {
    let mut at = at as usize;
    while let Some(&[l0, l1, k0, k1]) = message[..end].get(at..at + 4) {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        if len < 4 || len > end - at {
            break;
        }
        if u32::from(u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK) == kind {
            return at as u32;
        }
        at += len.next_multiple_of(4);
    }
    0
}

/// `nla_find_nested` in the attribute at `at`.
fn find_inside(message: &[u8], at: u32, kind: u32) -> u32 {
    let start = at as usize;
    let Some(&[l0, l1]) = message.get(start..start + 2) else {
        return 0;
    };
    let end = start + usize::from(u16::from_ne_bytes([l0, l1]));
    if end > message.len() {
        return 0;
    }
    find(message, at + 4, end.max(start + 4), kind)
}

/// The rule, by the decoder.
fn should_pass(message: &[u8], protocols: &[u8]) -> bool {
    let mut event = FlowEvent::default();
    decode_event(message, &mut event).is_err()
        || event.kind == EventKind::Destroy
        || event.port_id != 0
        || protocols.contains(&event.flow.orig.protocol)
}

/// An event as the kernel would tell it.
fn event(flow: &Flow, subsystem: u8, action: u8, port_id: u32) -> Vec<u8> {
    let how = Create {
        timeout_secs: 600,
        helper: Helper::Restore,
    };
    let mut message = Vec::new();
    encode::create(&mut message, 0, Ack::None, flow, &Rare::default(), how);
    message[4..6].copy_from_slice(&u16::from_be_bytes([subsystem, action]).to_ne_bytes());
    message[12..16].copy_from_slice(&port_id.to_ne_bytes());
    message
}

fn udp_event() -> Vec<u8> {
    let orig = Tuple::new(UDP, [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 53, 53);
    let reply = orig.inverse();
    let flow = Flow {
        orig,
        reply,
        ..Flow::default()
    };
    event(&flow, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW, 0)
}

#[test]
fn of_real_messages_new_and_update_of_other_protocols_are_dropped() {
    let program = program(&[TCP, SCTP]).expect("few protocols");
    let dropped: Vec<_> = golden(FLOWS)
        .filter(|(_, message)| !passes(&program, message))
        .map(|(name, _)| name)
        .collect();
    // What is listed comes to another socket, with a port id besides.
    assert_eq!(
        dropped,
        [
            "new_udp_zone",
            "new_udp_zone_orig",
            "new_udp_zone_reply",
            "new_icmp",
            "new_icmpv6"
        ]
    );
}

#[test]
fn every_real_message_about_expectations_passes() {
    let program = program(&[]).expect("no protocol");
    let messages: Vec<_> = golden(EXPECTATIONS).collect();
    assert!(!messages.is_empty());
    for (name, message) in messages {
        assert!(passes(&program, &message), "{name}");
    }
}

#[test]
fn each_protocol_of_the_list_passes_and_no_other() {
    for protocols in [&[][..], &[UDP], &[TCP, ICMP, ICMPV6], &[0, 255]] {
        let program = program(protocols).expect("few protocols");
        for protocol in 0..=255 {
            let mut message = udp_event();
            let at = message
                .windows(5)
                .position(|bytes| bytes == [5, 0, 1, 0, UDP])
                .expect("CTA_PROTO_NUM");
            message[at + 4] = protocol;
            let passes = passes(&program, &message);
            assert_eq!(passes, protocols.contains(&protocol), "{protocol}");
        }
    }
}

#[test]
fn as_many_protocols_as_fit_and_not_one_more() {
    let most: Vec<u8> = (100..).take(PROTOCOLS_MAX).collect();
    let longest = program(&most).expect("as many as fit");
    assert!(!passes(&longest, &udp_event()));
    let last = most.len() - 1;
    for (place, protocol) in [(0, UDP), (last, UDP)] {
        let mut with_udp = most.clone();
        with_udp[place] = protocol;
        let program = program(&with_udp).expect("as many as fit");
        assert!(passes(&program, &udp_event()));
    }
    assert_eq!(program(&[6; PROTOCOLS_MAX + 1]), None);
}

#[test]
fn what_cannot_be_walked_passes() {
    let program = program(&[TCP]).expect("one protocol");
    let message = udp_event();
    assert!(!passes(&program, &message));
    // Up to the last byte of CTA_TUPLE_ORIG, which is not whole before.
    let orig = usize::from(u16::from_ne_bytes([message[20], message[21]]));
    for len in 0..20 + orig {
        assert!(passes(&program, &message[..len]), "{len}");
    }
    // No tuple, no protocol in it, no number in it; a number that is not one byte.
    let tuple = |fill: &dyn Fn(&mut Builder<'_>)| {
        let mut out = Vec::new();
        let mut message = Builder::new(&mut out, IPCTNL_MSG_CT_NEW, 0, 0, INET);
        fill(&mut message);
        message.finish();
        out
    };
    let cases = [
        tuple(&|_| {}),
        tuple(&|m| m.be32(CTA_STATUS, 0)),
        tuple(&|m| m.nest(CTA_TUPLE_ORIG, |_| {})),
        tuple(&|m| m.nest(CTA_TUPLE_ORIG, |t| t.nest(CTA_TUPLE_IP, |_| {}))),
        tuple(&|m| m.nest(CTA_TUPLE_ORIG, |t| t.nest(CTA_TUPLE_PROTO, |_| {}))),
        tuple(&|m| {
            m.nest(CTA_TUPLE_ORIG, |t| {
                t.nest(CTA_TUPLE_PROTO, |p| p.bytes(CTA_PROTO_NUM, &[]));
            });
        }),
        tuple(&|m| {
            m.nest(CTA_TUPLE_ORIG, |t| {
                t.nest(CTA_TUPLE_PROTO, |p| p.be16(CTA_PROTO_NUM, 17));
            });
        }),
    ];
    for (place, message) in cases.iter().enumerate() {
        assert!(passes(&program, message), "{place}");
    }
    // The same with a whole number is dropped: the cases differ in nothing else.
    let whole = tuple(&|m| {
        m.nest(CTA_TUPLE_ORIG, |t| {
            t.nest(CTA_TUPLE_PROTO, |p| p.u8(CTA_PROTO_NUM, UDP));
        });
    });
    assert!(!passes(&program, &whole));
}

prop_compose! {
    fn flow()(
        protocol: u8,
        is_v6: bool,
        ends: [u128; 2],
        ids: [u16; 2],
        mark: u32,
    ) -> Flow {
        let ends = ends.map(|end| if is_v6 {
            IpAddr::from(Ipv6Addr::from(end))
        } else {
            IpAddr::from(Ipv4Addr::from(end as u32))
        });
        let orig = Tuple::new(protocol, ends[0], ends[1], ids[0], ids[1]);
        Flow { orig, reply: orig.inverse(), mark, ..Flow::default() }
    }
}

proptest! {
    #[test]
    fn the_verdict_is_the_rule(
        flow in flow(),
        mut protocols in vec(any::<u8>(), 0..=PROTOCOLS_MAX),
        is_listed: bool,
        place: prop::sample::Index,
        subsystem in prop::sample::select(vec![NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_CTNETLINK_EXP]),
        action in IPCTNL_MSG_CT_NEW..=IPCTNL_MSG_CT_DELETE,
        port_id in prop_oneof![Just(0), any::<u32>()],
    ) {
        if is_listed && !protocols.is_empty() {
            let place = place.index(protocols.len());
            protocols[place] = flow.orig.protocol;
        }
        let message = event(&flow, subsystem, action, port_id);
        let program = program(&protocols).expect("not too many");
        prop_assert_eq!(passes(&program, &message), should_pass(&message, &protocols));
    }

    /// Damaged messages end in a verdict, and what is dropped is a change that a packet caused.
    #[test]
    fn whatever_is_dropped_tells_of_a_change_that_a_packet_caused(
        flow in flow(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut message = event(&flow, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW, 0);
        for (place, byte) in damage {
            let place = place.index(message.len());
            message[place] = byte;
        }
        if !passes(&program(&[TCP]).expect("one protocol"), &message) {
            prop_assert_eq!(&message[4..6], &CHANGE.to_ne_bytes());
            prop_assert_eq!(&message[12..16], &[0; 4]);
        }
    }
}
