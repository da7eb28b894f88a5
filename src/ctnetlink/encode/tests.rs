//! Requests as bytes. That the kernel does what they ask is for `tests/ctnetlink_kernel`.

use std::net::IpAddr;

use super::super::attr::{Attr, Attrs};
use super::*;
use crate::flow::rare::{HelperName, SynProxy};
use crate::flow::tuple::{SCTP, TCP, UDP};

const HOW: Create = Create {
    timeout_secs: 600,
    helper: Helper::Restore,
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

/// `10.10.1.2:4001 > 10.10.2.2:80`, source translated to `10.10.2.1:5002`.
fn translated() -> Flow {
    Flow {
        orig: Tuple::new(TCP, ip("10.10.1.2"), ip("10.10.2.2"), 4001, 80),
        reply: Tuple::new(TCP, ip("10.10.2.2"), ip("10.10.2.1"), 80, 5002),
        status: Status(0x19e),
        mark: 5,
        proto: ProtoInfo::Tcp(TcpInfo {
            state: 3,
            wscale_orig: 7,
            wscale_reply: 9,
            flags_orig: 0x23,
            flags_reply: 0x37,
        }),
        ..Flow::default()
    }
}

fn icmp(reply_id: u16) -> Flow {
    Flow {
        orig: Tuple::new(ICMP, ip("10.0.0.1"), ip("10.0.0.2"), 7, 8 << 8),
        reply: Tuple::new(ICMP, ip("10.0.0.3"), ip("10.0.0.4"), reply_id, 0),
        ..Flow::default()
    }
}

fn created(flow: &Flow, rare: &Rare) -> Vec<u8> {
    let mut out = Vec::new();
    create(&mut out, 1, Ack::None, flow, rare, HOW);
    out
}

fn attrs(message: &[u8]) -> Vec<Attr<'_>> {
    Attrs::new(&message[20..])
        .collect::<Result<_, _>>()
        .expect("well formed")
}

fn find(message: &[u8], kind: u16) -> Option<Attr<'_>> {
    attrs(message).into_iter().find(|attr| attr.kind == kind)
}

fn flags(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[6], message[7]])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The form that was shown to translate in both directions: reply tuple as the plain inverse.
#[test]
fn a_translated_flow_is_created_with_its_inverse_and_its_bindings() {
    let bytes = created(&translated(), &Rare::default());
    let parts = [
        "e4000000 0001 0106 01000000 00000000 02000000",
        "34000180 14000180 080001000a0a0102 080002000a0a0202",
        "1c000280 0500010006000000 060002000fa10000 0600030000500000",
        "34000280 14000180 080001000a0a0202 080002000a0a0102",
        "1c000280 0500010006000000 0600020000500000 060003000fa10000",
        "080003000000000e 0800070000000258",
        "20000680 080001000a0a0201 14000380 06000100138a0000 06000200138a0000",
        "30000480 2c000180 0500010003000000 0500020007000000 0500030009000000",
        "060004000b0f0000 060005000f0f0000",
        "0800080000000005",
    ];
    assert_eq!(hex(&bytes), parts.concat().replace(' ', ""));
}

#[test]
fn bindings_carry_the_icmp_id_for_both_ends() {
    let bytes = created(&icmp(9), &Rare::default());
    let src = find(&bytes, cta::CTA_NAT_SRC).expect("a translated source");
    let dst = find(&bytes, cta::CTA_NAT_DST).expect("a translated destination");
    let id = "14000380 0600010000090000 0600020000090000".replace(' ', "");
    assert_eq!(hex(src.payload), format!("080001000a000004{id}"));
    assert_eq!(hex(dst.payload), format!("080001000a000003{id}"));
}

#[test]
fn flows_without_translation_have_no_bindings() {
    let mut flow = translated();
    flow.reply = flow.orig.inverse();
    let bytes = created(&flow, &Rare::default());
    assert_eq!(find(&bytes, cta::CTA_NAT_SRC), None);
    assert_eq!(find(&bytes, cta::CTA_NAT_DST), None);
    let reply_icmp = Flow {
        orig: Tuple::new(ICMP, ip("10.0.0.1"), ip("10.0.0.2"), 7, 0),
        reply: Tuple::new(ICMP, ip("10.0.0.2"), ip("10.0.0.1"), 7, 8 << 8),
        ..Flow::default()
    };
    let bytes = created(&reply_icmp, &Rare::default());
    assert_eq!(find(&bytes, cta::CTA_NAT_SRC), None);
    assert_eq!(find(&bytes, cta::CTA_NAT_DST), None);
}

#[test]
fn bindings_are_of_the_family_and_have_ports_where_the_protocol_has() {
    for protocol in [TCP, UDP, SCTP, 136, GRE, 50] {
        let flow = Flow {
            orig: Tuple::new(protocol, ip("fd00::1"), ip("fd00::2"), 1, 2),
            reply: Tuple::new(protocol, ip("fd00::3"), ip("fd00::1"), 3, 1),
            ..Flow::default()
        };
        let bytes = created(&flow, &Rare::default());
        assert_eq!(find(&bytes, cta::CTA_NAT_SRC), None);
        let nest = find(&bytes, cta::CTA_NAT_DST).expect("a translated destination");
        let kinds: Vec<u16> = nest
            .nest()
            .map(|attr| attr.expect("well formed").kind)
            .collect();
        if matches!(protocol, GRE | 50) {
            assert_eq!(kinds, [cta::CTA_NAT_V6_MINIP], "{protocol}");
        } else {
            assert_eq!(kinds, [cta::CTA_NAT_V6_MINIP, cta::CTA_NAT_PROTO]);
        }
    }
}

#[test]
fn the_status_holds_what_the_kernel_takes_and_nothing_else() {
    let status = |protocol: u8, dumped: u32| {
        let orig = Tuple::new(protocol, ip("10.0.0.1"), ip("10.0.0.2"), 0, 0);
        let flow = Flow {
            orig,
            reply: orig.inverse(),
            status: Status(dumped),
            ..Flow::default()
        };
        let bytes = created(&flow, &Rare::default());
        find(&bytes, cta::CTA_STATUS).expect("a status").be32()
    };
    assert_eq!(status(UDP, u32::MAX), Ok(0x40e));
    assert_eq!(status(UDP, 0x39fe & !0x400), Ok(0x0e));
    assert_eq!(status(UDP, 0), Ok(0x08));
    assert_eq!(status(GRE, 0x18e), Ok(0x40e));
}

#[test]
fn tcp_flags_are_liberal_and_masked_whatever_was_dumped() {
    for dumped in [0, 0x10, 0x20, 0x3b, 0xff] {
        let mut flow = translated();
        let ProtoInfo::Tcp(info) = &mut flow.proto else {
            panic!("TCP");
        };
        info.flags_orig = dumped;
        let bytes = created(&flow, &Rare::default());
        let nest = find(&bytes, cta::CTA_PROTOINFO).expect("TCP has a state");
        let tcp = nest.nest().next().expect("one").expect("well formed");
        let flags = tcp
            .nest()
            .map(|attr| attr.expect("well formed"))
            .find(|attr| attr.kind == cta::CTA_PROTOINFO_TCP_FLAGS_ORIGINAL)
            .expect("flags");
        assert_eq!(flags.array(), Ok([dumped & 0x0f | 0x08, 0x0f]));
    }
}

#[test]
fn a_zone_stands_where_it_applies_and_once() {
    let mut flow = translated();
    for (dir, places) in [
        (ZoneDir::Both, [true, false, false]),
        (ZoneDir::Orig, [false, true, false]),
        (ZoneDir::Reply, [false, false, true]),
    ] {
        flow.zone = Zone { id: 5, dir };
        let mut requests = vec![created(&flow, &Rare::default())];
        let mut out = Vec::new();
        get(&mut out, 1, Ack::None, &flow);
        requests.push(std::mem::take(&mut out));
        delete(&mut out, 1, Ack::None, &flow, Some(3));
        requests.push(std::mem::take(&mut out));
        update_timeout(&mut out, 1, Ack::None, &flow, 3);
        requests.push(std::mem::take(&mut out));
        make_liberal(&mut out, 1, Ack::None, &flow);
        requests.push(std::mem::take(&mut out));
        get_by_reply(&mut out, 1, Ack::None, &flow);
        requests.push(out);
        for bytes in requests {
            let in_tuple = |kind| {
                let tuple = find(&bytes, kind)?;
                Some(tuple.nest().any(|attr| {
                    let attr = attr.expect("well formed");
                    attr.kind == cta::CTA_TUPLE_ZONE && attr.be16() == Ok(5)
                }))
            };
            let [both, orig, reply] = places;
            assert_eq!(find(&bytes, cta::CTA_ZONE).is_some(), both);
            assert_eq!(in_tuple(cta::CTA_TUPLE_ORIG).unwrap_or(orig), orig);
            assert_eq!(in_tuple(cta::CTA_TUPLE_REPLY).unwrap_or(reply), reply);
        }
    }
}

#[test]
fn a_delete_has_its_tuple_and_never_a_filter() {
    let mut out = Vec::new();
    delete(&mut out, 1, Ack::Wanted, &Flow::default(), Some(77));
    let kinds: Vec<u16> = attrs(&out).iter().map(|attr| attr.kind).collect();
    assert_eq!(kinds, [cta::CTA_TUPLE_ORIG, cta::CTA_ID]);
    assert_eq!(flags(&out), cta::NLM_F_REQUEST | cta::NLM_F_ACK);
}

#[test]
fn a_create_is_exclusive_and_an_update_is_no_create() {
    let flow = translated();
    let exclusive = cta::NLM_F_REQUEST | cta::NLM_F_CREATE | cta::NLM_F_EXCL;
    assert_eq!(flags(&created(&flow, &Rare::default())), exclusive);
    let mut out = Vec::new();
    let change = Update {
        timeout_secs: Some(1),
        mark: Some(0),
        status: Some(Status(0x19f)),
        proto: Some(flow.proto),
    };
    update(&mut out, 1, Ack::None, &flow, change);
    assert_eq!(flags(&out), cta::NLM_F_REQUEST);
    assert_eq!(find(&out, cta::CTA_NAT_SRC), None, "EOPNOTSUPP");
    assert_eq!(find(&out, cta::CTA_TUPLE_MASTER), None, "EOPNOTSUPP");
    let status = find(&out, cta::CTA_STATUS).expect("a status");
    assert_eq!(status.be32(), Ok(0x0f), "EXPECTED must stay");
    assert!(find(&out, cta::CTA_MARK).is_some());
}

#[test]
fn the_smallest_updates_are_as_small_as_they_can_be() {
    let mut out = Vec::new();
    update_timeout(&mut out, 1, Ack::None, &translated(), 600);
    assert_eq!(out.len(), 80);
    out.clear();
    make_liberal(&mut out, 1, Ack::None, &translated());
    assert_eq!(out.len(), 96);
}

#[test]
fn strictness_touches_one_flag_only() {
    for (value, make) in [
        ("0808", make_liberal as fn(&mut Vec<u8>, u32, Ack, &Flow)),
        ("0008", make_strict),
    ] {
        let mut out = Vec::new();
        make(&mut out, 1, Ack::None, &translated());
        let nest = find(&out, cta::CTA_PROTOINFO).expect("a state");
        let expected = format!("1400018006000400{value}000006000500{value}0000");
        assert_eq!(hex(nest.payload), expected);
    }
}

#[test]
fn a_helper_can_be_left_out() {
    let rare = Rare {
        helper: HelperName::new(b"ftp"),
        ..Rare::default()
    };
    let with = created(&translated(), &rare);
    let help = find(&with, cta::CTA_HELP).expect("a helper");
    assert_eq!(hex(help.payload), "0800010066747000");
    let mut without = Vec::new();
    let how = Create {
        helper: Helper::Leave,
        ..HOW
    };
    create(&mut without, 1, Ack::None, &translated(), &rare, how);
    assert_eq!(find(&without, cta::CTA_HELP), None);
}

#[test]
fn the_largest_message_fits_its_bound() {
    let adj = Some(SeqAdj::default());
    let tuple = Tuple::new(TCP, ip("fd00::1"), ip("fd00::2"), 1, 2);
    let rare = Rare {
        labels: Some([1; 16]),
        helper: HelperName::new(b"fifteen-letters"),
        seqadj_orig: adj,
        seqadj_reply: adj,
        synproxy: Some(SynProxy::default()),
        master: Some(tuple),
    };
    let flow = Flow {
        orig: tuple,
        reply: Tuple::new(TCP, ip("fd00::3"), ip("fd00::4"), 3, 4),
        zone: Zone {
            id: 1,
            dir: ZoneDir::Both,
        },
        mark: 1,
        ..translated()
    };
    let len = created(&flow, &rare).len();
    assert_eq!(len, MESSAGE_LEN_MAX);
}

#[test]
fn the_dump_request_asks_for_both_families() {
    let mut out = vec![1, 2, 3, 4];
    dump(&mut out, 9);
    assert_eq!(
        hex(&out),
        "010203041400000001010103090000000000000000000000"
    );
}
