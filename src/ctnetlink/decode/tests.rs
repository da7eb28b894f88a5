//! Messages of a real kernel, `tests/golden/ctnetlink.txt`, and what is built by hand.

use super::super::attr::Builder;
use super::super::message::messages;
use super::*;
use crate::flow::text::write_line;
use message::golden;

#[path = "../../../tests/golden/message.rs"]
mod message;

/// Decodes over what an earlier, quite different event left behind.
fn event(message: &[u8]) -> Result<FlowEvent, DecodeError> {
    let mut event = FlowEvent::default();
    decode_event(&golden("new_tcp_helper_labels"), &mut event).expect("a golden message");
    decode_event(message, &mut event).map(|()| event)
}

fn line(event: &FlowEvent) -> String {
    let mut line = String::new();
    write_line(&mut line, &event.flow, &event.rare, event.flow.timeout_secs);
    line
}

fn has(event: &FlowEvent, bits: u16) -> bool {
    event.present.has(bits)
}

#[test]
fn a_new_translated_flow() {
    let event = event(&golden("new_tcp_snat_dnat")).expect("a golden message");
    assert_eq!(event.kind, EventKind::New);
    assert_eq!(event.port_id, 0);
    assert_eq!(
        event.present.0,
        Present::PROTOINFO | Present::TIMEOUT | Present::STATUS
    );
    assert_eq!(
        line(&event),
        "tcp      6 120 SYN_SENT src=127.0.0.1 dst=127.0.0.5 sport=37752 dport=8080 [UNREPLIED] \
         src=127.0.0.1 dst=127.0.0.77 sport=9090 dport=6000 mark=7 use=1"
    );
    assert_eq!(event.flow.status, Status(0x1b8));
    assert!(event.flow.is_snat() && event.flow.is_dnat());
    assert!(event.rare.is_empty());
    assert_ne!(event.flow.id, 0);
}

#[test]
fn an_update_is_told_by_the_missing_flag_and_has_scales_and_flags() {
    let event = event(&golden("update_tcp_established")).expect("a golden message");
    assert_eq!(event.kind, EventKind::Update);
    assert_eq!(
        event.flow.proto,
        ProtoInfo::Tcp(TcpInfo {
            state: 3,
            wscale_orig: 10,
            wscale_reply: 10,
            flags_orig: 0x03,
            flags_reply: 0x03,
        })
    );
    let fin = super::tests::event(&golden("update_tcp_fin_wait")).expect("a golden message");
    let ProtoInfo::Tcp(info) = fin.flow.proto else {
        panic!("TCP has a state");
    };
    assert_eq!((info.state, info.flags_orig), (4, 0x07));
}

#[test]
fn a_judged_direction_is_told_beside_the_flow_and_not_with_it() {
    for (orig, reply, judged) in [
        (0x2b, 0x2b, Present::ORIG_JUDGED | Present::REPLY_JUDGED),
        (0x2b, 0x1b, Present::ORIG_JUDGED),
        (0x0b, 0x3b, Present::REPLY_JUDGED),
        (0x1b, 0x1b, 0),
    ] {
        let mut message = golden("update_tcp_established");
        for (kind, value) in [(4u8, orig), (5, reply)] {
            // CTA_PROTOINFO_TCP_FLAGS_*, two bytes: flags and mask.
            let header = [6, 0, kind, 0];
            let at = message.windows(4).rposition(|bytes| bytes == header);
            message[at.expect("flags of a direction") + 4] = value;
        }
        let event = event(&message).expect("a golden message");
        let all = Present::ORIG_JUDGED | Present::REPLY_JUDGED;
        assert_eq!(event.present.0 & all, judged, "{orig:#x} {reply:#x}");
        let ProtoInfo::Tcp(info) = event.flow.proto else {
            panic!("TCP has a state");
        };
        assert_eq!((info.flags_orig, info.flags_reply), (0x0b, 0x0b));
    }
}

#[test]
fn helper_and_labels() {
    let event = event(&golden("new_tcp_helper_labels")).expect("a golden message");
    assert!(has(&event, Present::HELPER | Present::LABELS));
    assert_eq!(event.rare.helper, HelperName::new(b"ftp"));
    let mut labels = [0; 16];
    labels[0] = 1 << 3;
    assert_eq!(event.rare.labels, Some(labels));
}

#[test]
fn zones_in_their_three_forms() {
    for (name, id, dir) in [
        ("new_udp_zone", 5, ZoneDir::Both),
        ("new_udp_zone_orig", 6, ZoneDir::Orig),
        ("new_udp_zone_reply", 7, ZoneDir::Reply),
    ] {
        let event = event(&golden(name)).expect("a golden message");
        assert_eq!(event.flow.zone, Zone { id, dir }, "{name}");
    }
}

#[test]
fn icmp_id_type_and_code() {
    let event = event(&golden("new_icmpv6")).expect("a golden message");
    assert_eq!(
        line(&event),
        "icmpv6   58 30 src=::1 dst=::1 type=128 code=0 id=13909 [UNREPLIED] \
         src=::1 dst=::1 type=129 code=0 id=13909 mark=7 use=1"
    );
    assert!(!event.flow.is_nat());
}

#[test]
fn a_destroy_names_its_cause() {
    let event = event(&golden("destroy_by_tool")).expect("a golden message");
    assert_eq!(event.kind, EventKind::Destroy);
    assert_eq!(event.port_id, 3_919_497_189);
    assert!(has(&event, Present::TIMEOUT), "it was killed");
    assert!(event.flow.status.has(Status::DYING));
}

#[test]
fn a_listed_entry_is_no_event_of_its_own() {
    let mut event = FlowEvent::default();
    let message = golden("listed_tcp_helper_labels");
    decode_listed(&message, &mut event).expect("a golden message");
    assert_eq!(event.kind, EventKind::Listed);
    assert_eq!(event.flow.timeout_secs, 431_999);
    assert_eq!(event.rare.helper, HelperName::new(b"ftp"));
    let destroy = golden("destroy_by_tool");
    assert_eq!(
        decode_listed(&destroy, &mut event),
        Err(DecodeError::NotAFlow)
    );
    let done = golden("dump_done");
    assert_eq!(decode_event(&done, &mut event), Err(DecodeError::NotAFlow));
}

#[test]
fn back_to_back_messages_are_decoded_one_by_one() {
    let mut datagram = golden("listed_tcp_helper_labels");
    datagram.extend(golden("listed_tcp_ipv6"));
    datagram.extend(golden("dump_done"));
    let mut lines = Vec::new();
    for message in messages(&datagram) {
        let message = message.expect("whole messages");
        let mut event = FlowEvent::default();
        if message.kind != MessageKind::Done {
            decode_listed(message.bytes, &mut event).expect("a golden message");
            lines.push(line(&event));
        }
    }
    assert_eq!(lines.len(), 2);
    assert!(lines[1].contains("src=::1 dst=::1 sport=50128 dport=80"));
}

#[test]
fn a_message_that_ends_early_is_refused_wherever_it_ends() {
    let whole = golden("new_tcp_helper_labels");
    for len in 0..whole.len() {
        let mut cut = whole[..len].to_vec();
        // Once with the length as it was, once with one that fits what is left.
        assert!(event(&cut).is_err(), "cut to {len}");
        if let Some(field) = cut.get_mut(..4) {
            let len = u32::try_from(len).expect("short");
            field.copy_from_slice(&len.to_ne_bytes());
            // An end between two attributes shows only if a tuple went missing.
            let _no_panic = event(&cut);
        }
    }
}

#[test]
fn what_makes_no_flow_is_refused_by_its_reason() {
    let refuse = |fill: &dyn Fn(&mut Builder<'_>)| {
        let mut out = Vec::new();
        let mut message = Builder::new(&mut out, cta::IPCTNL_MSG_CT_NEW, 0, 1, 2);
        fill(&mut message);
        message.finish();
        event(&out).expect_err("no flow")
    };
    let addresses = |ip: &mut Builder<'_>| {
        ip.bytes(cta::CTA_IP_V4_SRC, &[10, 0, 0, 1]);
        ip.bytes(cta::CTA_IP_V4_DST, &[10, 0, 0, 2]);
    };
    let tuple = |message: &mut Builder<'_>, kind: u16, protocol: u8, ports: bool| {
        message.nest(kind, |tuple| {
            tuple.nest(cta::CTA_TUPLE_IP, addresses);
            tuple.nest(cta::CTA_TUPLE_PROTO, |proto| {
                proto.u8(cta::CTA_PROTO_NUM, protocol);
                if ports {
                    proto.be16(cta::CTA_PROTO_SRC_PORT, 1);
                    proto.be16(cta::CTA_PROTO_DST_PORT, 2);
                }
            });
        });
    };
    let no_reply = refuse(&|message| tuple(message, cta::CTA_TUPLE_ORIG, TCP, true));
    assert_eq!(no_reply, DecodeError::IncompleteTuple);
    let no_ports = refuse(&|message| {
        tuple(message, cta::CTA_TUPLE_ORIG, TCP, false);
        tuple(message, cta::CTA_TUPLE_REPLY, TCP, true);
    });
    assert_eq!(no_ports, DecodeError::IncompleteTuple);
    let two_protocols = refuse(&|message| {
        tuple(message, cta::CTA_TUPLE_ORIG, TCP, true);
        tuple(message, cta::CTA_TUPLE_REPLY, UDP, true);
    });
    assert_eq!(two_protocols, DecodeError::TuplesDiffer);
    let mixed = refuse(&|message| {
        message.nest(cta::CTA_TUPLE_ORIG, |tuple| {
            tuple.nest(cta::CTA_TUPLE_IP, |ip| {
                ip.bytes(cta::CTA_IP_V4_SRC, &[10, 0, 0, 1]);
                ip.bytes(cta::CTA_IP_V6_DST, &[0; 16]);
            });
            tuple.nest(cta::CTA_TUPLE_PROTO, |proto| {
                proto.u8(cta::CTA_PROTO_NUM, 50);
            });
        });
    });
    assert_eq!(mixed, DecodeError::TuplesDiffer);
    let long_labels = refuse(&|message| message.bytes(cta::CTA_LABELS, &[0; 20]));
    assert_eq!(long_labels, DecodeError::ValueLength);
    let short_mark = refuse(&|message| message.be16(cta::CTA_MARK, 7));
    assert_eq!(short_mark, DecodeError::ValueLength);
    let mut bridge = golden("new_icmp");
    bridge[16] = 7;
    assert_eq!(event(&bridge), Err(DecodeError::Family));
    let mut other_family = golden("new_icmp");
    other_family[16] = 10;
    assert_eq!(event(&other_family), Err(DecodeError::TuplesDiffer));
}

#[test]
fn a_generic_flow_needs_no_ports() {
    let mut out = Vec::new();
    let mut message = Builder::new(&mut out, cta::IPCTNL_MSG_CT_NEW, 0, 1, 10);
    for kind in [cta::CTA_TUPLE_ORIG, cta::CTA_TUPLE_REPLY] {
        message.nest(kind, |tuple| {
            tuple.nest(cta::CTA_TUPLE_IP, |ip| {
                ip.bytes(cta::CTA_IP_V6_SRC, &[1; 16]);
                ip.bytes(cta::CTA_IP_V6_DST, &[2; 16]);
            });
            tuple.nest(cta::CTA_TUPLE_PROTO, |proto| {
                proto.u8(cta::CTA_PROTO_NUM, 50);
            });
        });
    }
    // Some senders cut labels after the last word that is set.
    message.bytes(cta::CTA_LABELS, &[1, 2, 3, 4]);
    // Not one of ours: skipped.
    message.be32(99, 1);
    message.finish();
    let event = event(&out).expect("a flow");
    assert_eq!(event.flow.orig.protocol, 50);
    assert_eq!(event.flow.orig.src, [1; 16]);
    let labels = [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(event.rare.labels, Some(labels));
    assert_eq!(event.present.0, Present::LABELS);
}

#[test]
fn synproxy_of_zeros_is_none_but_present() {
    let mut message = golden("new_icmp");
    let zeros = [
        28, 0, 24, 128, 8, 0, 1, 0, 0, 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 0,
    ];
    message.extend(zeros);
    message.extend([8, 0, 3, 0, 0, 0, 0, 0]);
    let len = u32::try_from(message.len()).expect("short");
    message[..4].copy_from_slice(&len.to_ne_bytes());
    let zero = event(&message).expect("a flow");
    assert_eq!(zero.rare.synproxy, None);
    assert!(has(&zero, Present::SYNPROXY));
    *message.last_mut().expect("not empty") = 5;
    let set = event(&message).expect("a flow");
    let expected = SynProxy {
        tsoff: 5,
        ..SynProxy::default()
    };
    assert_eq!(set.rare.synproxy, Some(expected));
}
