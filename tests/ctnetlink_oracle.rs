//! The codec against a second opinion, `netlink-packet-netfilter`, on what that types: tuples,
//! status, timeout, mark and TCP state. And against hostile bytes.

use std::net::IpAddr;

use ctsyncd::ctnetlink::attr::Attrs;
use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper, MESSAGE_LEN_MAX};
use ctsyncd::ctnetlink::{Message, decode_error, decode_event, decode_listed, messages};
use ctsyncd::flow::proto::{DccpInfo, SctpInfo, TcpInfo};
use ctsyncd::flow::rare::{HelperName, SeqAdj, SynProxy};
use ctsyncd::flow::tuple::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use ctsyncd::flow::{EventKind, Flow, FlowEvent, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo as TheirProtoInfo, ProtoInfoTCP,
    ProtoTuple, Status as TheirStatus, TCPFlags, Tuple as TheirTuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const GOLDEN: &str = include_str!("golden/ctnetlink.txt");

proptest! {
    #[test]
    fn the_crate_reads_what_we_create(
        flow in any_flow(), rare in any_rare(), timeout_secs in any::<u32>()
    ) {
        let how = Create { timeout_secs, helper: Helper::Restore };
        let mut out = Vec::new();
        encode::create(&mut out, 77, Ack::Wanted, &flow, &rare, how);
        prop_assert!(out.len() <= MESSAGE_LEN_MAX && out.len() % 4 == 0);
        let read = their_view(&out).expect("the crate can read it");
        prop_assert_eq!(read.flags, 0x605);
        prop_assert_eq!(read.seq, 77);
        prop_assert_eq!(read.orig, Some(typed(&flow.orig)));
        prop_assert_eq!(read.reply, Some(typed(&flow.orig.inverse())));
        prop_assert_eq!(read.timeout, Some(timeout_secs));
        prop_assert_eq!(read.mark.unwrap_or(0), flow.mark);
        let kept = flow.status.0 & 0x400;
        let fixed = if flow.orig.protocol == GRE { 0x400 } else { kept };
        prop_assert_eq!(read.status, Some(flow.status.0 & 0x0e | 0x08 | fixed));
        let tcp = match flow.proto {
            ProtoInfo::Tcp(info) => Some(TcpInfo {
                flags_orig: info.flags_orig & 0x0f | 0x08,
                flags_reply: info.flags_reply & 0x0f | 0x08,
                ..info
            }),
            ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => None,
        };
        prop_assert_eq!(read.tcp, tcp);
    }

    #[test]
    fn we_read_what_the_crate_writes(
        flow in any_flow(), flags in prop_oneof![Just(0), Just(0x600)], port_id in any::<u32>()
    ) {
        prop_assume!(!flow.orig.is_icmp());
        let bytes = written_by_crate(&flow, flags, port_id);
        let mut event = FlowEvent::default();
        decode_event(&bytes, &mut event).expect("we can read it");
        let kind = if flags == 0 { EventKind::Update } else { EventKind::New };
        prop_assert_eq!((event.kind, event.port_id), (kind, port_id));
        let proto = match flow.proto {
            ProtoInfo::Tcp(_) => flow.proto,
            ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => ProtoInfo::None,
        };
        let expected = Flow { proto, zone: Zone::default(), ..flow };
        prop_assert_eq!(event.flow, expected);
        prop_assert_eq!(event.rare, Rare::default());
    }

    #[test]
    fn we_read_what_we_create(flow in any_flow(), rare in any_rare()) {
        let how = Create { timeout_secs: flow.timeout_secs, helper: Helper::Restore };
        let mut out = Vec::new();
        encode::create(&mut out, 1, Ack::None, &flow, &rare, how);
        let mut event = FlowEvent::default();
        decode_listed(&out, &mut event).expect("we can read it");
        let expected = Flow {
            reply: flow.orig.inverse(),
            status: event.flow.status,
            proto: match flow.proto {
                ProtoInfo::Tcp(info) => ProtoInfo::Tcp(TcpInfo {
                    flags_orig: info.flags_orig & 0x0f | 0x08,
                    flags_reply: info.flags_reply & 0x0f | 0x08,
                    ..info
                }),
                ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => flow.proto,
            },
            ..flow
        };
        prop_assert_eq!(event.flow, expected);
        prop_assert_eq!(event.rare, rare);
    }

    #[test]
    fn a_batch_is_walked_message_by_message(flows in vec((any_flow(), any_rare()), 1..20)) {
        let how = Create { timeout_secs: 1, helper: Helper::Restore };
        let mut out = Vec::new();
        for (seq, (flow, rare)) in (0..).zip(&flows) {
            encode::delete(&mut out, seq * 2, Ack::None, flow, Some(seq));
            encode::create(&mut out, seq * 2 + 1, Ack::None, flow, rare, how);
        }
        let seqs: Vec<u32> = messages(&out)
            .map(|message| message.expect("whole messages").seq)
            .collect();
        let sent = u32::try_from(flows.len() * 2).expect("few");
        prop_assert_eq!(seqs, (0..sent).collect::<Vec<_>>());
    }

    #[test]
    fn every_delete_has_the_tuple_and_no_filter(flow in any_flow(), id in any::<Option<u32>>()) {
        let mut out = Vec::new();
        encode::delete(&mut out, 1, Ack::None, &flow, id);
        let read = their_view(&out).expect("the crate can read it");
        prop_assert_eq!(read.orig, Some(typed(&flow.orig)));
        let kinds: Vec<u16> = Attrs::new(&out[20..])
            .map(|attr| attr.expect("well formed").kind)
            .collect();
        prop_assert_eq!(kinds[0], 1, "CTA_TUPLE_ORIG");
        prop_assert!(kinds[1..].iter().all(|kind| matches!(kind, 12 | 18)), "CTA_ID, CTA_ZONE");
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        swallow(&bytes);
    }

    #[test]
    fn random_attributes_do_no_harm(
        family in prop_oneof![Just(2_u8), Just(10)], bytes in vec(0_u8..16, 0..300)
    ) {
        let mut message = vec![0; 20];
        message[4..6].copy_from_slice(&0x100_u16.to_ne_bytes());
        message[16] = family;
        message.extend(bytes);
        fix_length(&mut message);
        swallow(&message);
    }

    /// Where both decoders make something of a damaged message, they make the same of it.
    #[test]
    fn damaged_messages_do_no_harm(
        pick in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        len in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let golden: Vec<Vec<u8>> = golden();
        let mut message = golden[pick.index(golden.len())].clone();
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if cut {
            message.truncate(len.index(message.len()));
            if message.len() >= 4 {
                fix_length(&mut message);
            }
        }
        swallow(&message);
        agree(&message)?;
    }
}

#[test]
fn the_crate_and_we_agree_on_what_the_kernel_sent() {
    let golden = golden();
    assert!(golden.len() > 10);
    for message in golden {
        agree(&message).expect("the same reading");
    }
}

/// Runs every parser over `bytes`.
fn swallow(bytes: &[u8]) {
    let mut event = FlowEvent::default();
    let _ = decode_event(bytes, &mut event);
    let _ = decode_listed(bytes, &mut event);
    for message in messages(bytes).flatten() {
        let _ = decode_error(&message);
        let _ = decode_listed(message.bytes, &mut event);
        for attr in Attrs::new(message.payload()).flatten() {
            let _ = attr.nest().count();
        }
    }
}

/// Both readings of one message, where there are two. Ours is stricter.
fn agree(message: &[u8]) -> Result<(), TestCaseError> {
    let mut event = FlowEvent::default();
    if decode_event(message, &mut event).is_err() {
        return Ok(());
    }
    let Some(theirs) = their_view(message) else {
        return Ok(());
    };
    prop_assert_eq!(theirs.orig, Some(typed(&event.flow.orig)));
    prop_assert_eq!(theirs.reply, Some(typed(&event.flow.reply)));
    prop_assert_eq!(theirs.status.unwrap_or(0), event.flow.status.0);
    prop_assert_eq!(theirs.timeout.unwrap_or(0), event.flow.timeout_secs);
    prop_assert_eq!(theirs.mark.unwrap_or(0), event.flow.mark);
    if let (Some(theirs), ProtoInfo::Tcp(ours)) = (theirs.tcp, event.flow.proto) {
        prop_assert_eq!(theirs, ours);
    }
    Ok(())
}

fn golden() -> Vec<Vec<u8>> {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(_, hex)| {
            let digits = hex.as_bytes().chunks(2);
            digits
                .map(|two| str::from_utf8(two).expect("ASCII"))
                .map(|two| u8::from_str_radix(two, 16).expect("hexadecimal digits"))
                .collect()
        })
        .collect()
}

fn fix_length(message: &mut [u8]) {
    let len = u32::try_from(message.len()).expect("short");
    message[..4].copy_from_slice(&len.to_ne_bytes());
}

// The crate's reading.

/// A tuple as far as the crate types it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Typed {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    protocol: u8,
    sport: u16,
    dport: u16,
}

fn typed(tuple: &Tuple) -> Typed {
    let (sport, dport) = if tuple.is_icmp() {
        (0, 0)
    } else {
        (tuple.src_id, tuple.dst_id)
    };
    Typed {
        src: Some(tuple.src_ip()),
        dst: Some(tuple.dst_ip()),
        protocol: tuple.protocol,
        sport,
        dport,
    }
}

#[derive(Default)]
struct Theirs {
    flags: u16,
    seq: u32,
    orig: Option<Typed>,
    reply: Option<Typed>,
    status: Option<u32>,
    timeout: Option<u32>,
    mark: Option<u32>,
    tcp: Option<TcpInfo>,
}

fn their_view(bytes: &[u8]) -> Option<Theirs> {
    // The crate takes more than one message's bytes as one message.
    let bytes = Message::parse(bytes).ok()?.bytes;
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(bytes).ok()?;
    let NetlinkPayload::InnerMessage(inner) = message.payload else {
        return None;
    };
    let NetfilterMessageInner::Conntrack(inner) = inner.inner else {
        return None;
    };
    let attributes = match inner {
        ConntrackMessage::New(attributes)
        | ConntrackMessage::Get(attributes)
        | ConntrackMessage::Delete(attributes) => attributes,
        _ => return None,
    };
    let mut theirs = Theirs {
        flags: message.header.flags,
        seq: message.header.sequence_number,
        ..Theirs::default()
    };
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => theirs.orig = Some(their_tuple(&parts)),
            ConntrackAttribute::CtaTupleReply(parts) => theirs.reply = Some(their_tuple(&parts)),
            ConntrackAttribute::CtaStatus(status) => theirs.status = Some(status.bits()),
            ConntrackAttribute::CtaTimeout(timeout) => theirs.timeout = Some(timeout),
            ConntrackAttribute::CtaMark(mark) => theirs.mark = Some(mark),
            ConntrackAttribute::CtaProtoInfo(infos) => {
                for info in infos {
                    if let TheirProtoInfo::TCP(parts) = info {
                        theirs.tcp = Some(their_tcp(&parts));
                    }
                }
            }
            _ => {}
        }
    }
    Some(theirs)
}

fn their_tuple(parts: &[TheirTuple]) -> Typed {
    let mut typed = Typed::default();
    for part in parts {
        match part {
            TheirTuple::Ip(addresses) => {
                (typed.src, typed.dst) = (None, None);
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => typed.src = Some(*address),
                        IPTuple::DestinationAddress(address) => typed.dst = Some(*address),
                        _ => {}
                    }
                }
            }
            TheirTuple::Proto(parts) => {
                (typed.sport, typed.dport) = (0, 0);
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(protocol) => typed.protocol = (*protocol).into(),
                        ProtoTuple::SourcePort(port) => typed.sport = *port,
                        ProtoTuple::DestinationPort(port) => typed.dport = *port,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if matches!(typed.protocol, ICMP | ICMPV6) {
        (typed.sport, typed.dport) = (0, 0);
    }
    typed
}

fn their_tcp(parts: &[ProtoInfoTCP]) -> TcpInfo {
    let mut info = TcpInfo::default();
    for part in parts {
        match part {
            ProtoInfoTCP::State(state) => info.state = *state,
            ProtoInfoTCP::OriginalWindowScale(scale) => info.wscale_orig = *scale,
            ProtoInfoTCP::ReplyWindowScale(scale) => info.wscale_reply = *scale,
            ProtoInfoTCP::OriginalFlags(flags) => {
                info.flags_orig = flags.flags & TcpInfo::FLAGS_KEPT
            }
            ProtoInfoTCP::ReplyFlags(flags) => info.flags_reply = flags.flags & TcpInfo::FLAGS_KEPT,
            _ => {}
        }
    }
    info
}

fn written_by_crate(flow: &Flow, flags: u16, port_id: u32) -> Vec<u8> {
    let tuple = |tuple: &Tuple| {
        vec![
            TheirTuple::Ip(vec![
                IPTuple::SourceAddress(tuple.src_ip()),
                IPTuple::DestinationAddress(tuple.dst_ip()),
            ]),
            TheirTuple::Proto(vec![
                ProtoTuple::Protocol(tuple.protocol.into()),
                ProtoTuple::SourcePort(tuple.src_id),
                ProtoTuple::DestinationPort(tuple.dst_id),
            ]),
        ]
    };
    let mut attributes = vec![
        ConntrackAttribute::CtaTupleOrig(tuple(&flow.orig)),
        ConntrackAttribute::CtaTupleReply(tuple(&flow.reply)),
        ConntrackAttribute::CtaStatus(TheirStatus::from_bits_retain(flow.status.0)),
        ConntrackAttribute::CtaTimeout(flow.timeout_secs),
        ConntrackAttribute::CtaMark(flow.mark),
    ];
    if let ProtoInfo::Tcp(info) = flow.proto {
        let flags = |value| TCPFlags::parse(&[value, 0]).expect("two bytes");
        attributes.push(ConntrackAttribute::CtaProtoInfo(vec![TheirProtoInfo::TCP(
            vec![
                ProtoInfoTCP::State(info.state),
                ProtoInfoTCP::OriginalWindowScale(info.wscale_orig),
                ProtoInfoTCP::ReplyWindowScale(info.wscale_reply),
                ProtoInfoTCP::OriginalFlags(flags(info.flags_orig)),
                ProtoInfoTCP::ReplyFlags(flags(info.flags_reply)),
            ],
        )]));
    }
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.port_number = port_id;
    let family = NetfilterProtoFamily::from(flow.orig.family as u8);
    let inner = NetfilterMessage::new(
        NetfilterHeader::new(family, 0, 0),
        ConntrackMessage::New(attributes),
    );
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(inner));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

// Flows as they could be, and some that could not.

fn any_flow() -> impl Strategy<Value = Flow> {
    let protocols = prop_oneof![
        Just(TCP),
        Just(UDP),
        Just(UDPLITE),
        Just(SCTP),
        Just(DCCP),
        Just(GRE),
        Just(ICMP),
        Just(ICMPV6),
        any::<u8>(),
    ];
    (protocols, any::<bool>()).prop_flat_map(|(protocol, v6)| {
        (
            any_tuple(protocol, v6),
            option::of(any_tuple(protocol, v6)),
            any_zone(),
            any::<[u32; 3]>(),
            any_proto(protocol),
        )
            .prop_map(
                |(orig, reply, zone, [status, mark, timeout_secs], proto)| Flow {
                    orig,
                    reply: reply.unwrap_or_else(|| orig.inverse()),
                    zone,
                    id: 0,
                    status: Status(status),
                    mark,
                    timeout_secs,
                    proto,
                },
            )
    })
}

fn any_tuple(protocol: u8, v6: bool) -> impl Strategy<Value = Tuple> {
    let address = || (any::<[u8; 4]>(), any::<[u8; 16]>());
    (address(), address(), any::<u16>(), any::<u16>()).prop_map(
        move |(src, dst, src_id, dst_id)| {
            let pick = |(short, long): ([u8; 4], [u8; 16])| {
                if v6 {
                    IpAddr::from(long)
                } else {
                    IpAddr::from(short)
                }
            };
            Tuple::new(protocol, pick(src), pick(dst), src_id, dst_id)
        },
    )
}

fn any_zone() -> impl Strategy<Value = Zone> {
    let dir = prop_oneof![
        Just(ZoneDir::Both),
        Just(ZoneDir::Orig),
        Just(ZoneDir::Reply)
    ];
    prop_oneof![
        Just(Zone::default()),
        (1..=u16::MAX, dir).prop_map(|(id, dir)| Zone { id, dir }),
    ]
}

fn any_proto(protocol: u8) -> BoxedStrategy<ProtoInfo> {
    match protocol {
        TCP => any::<[u8; 5]>()
            .prop_map(
                |[state, wscale_orig, wscale_reply, flags_orig, flags_reply]| {
                    ProtoInfo::Tcp(TcpInfo {
                        state,
                        wscale_orig,
                        wscale_reply,
                        flags_orig: flags_orig & TcpInfo::FLAGS_KEPT,
                        flags_reply: flags_reply & TcpInfo::FLAGS_KEPT,
                    })
                },
            )
            .boxed(),
        SCTP => any::<(u8, u32, u32)>()
            .prop_map(|(state, vtag_orig, vtag_reply)| {
                ProtoInfo::Sctp(SctpInfo {
                    state,
                    vtag_orig,
                    vtag_reply,
                })
            })
            .boxed(),
        DCCP => any::<(u8, u8, [u8; 8])>()
            .prop_map(|(state, role, handshake_seq)| {
                ProtoInfo::Dccp(DccpInfo {
                    state,
                    role,
                    handshake_seq,
                })
            })
            .boxed(),
        _ => Just(ProtoInfo::None).boxed(),
    }
}

fn any_rare() -> impl Strategy<Value = Rare> {
    let adj = || {
        option::of(
            any::<[u32; 3]>().prop_map(|[correction_pos, offset_before, offset_after]| SeqAdj {
                correction_pos,
                offset_before,
                offset_after,
            }),
        )
    };
    // Zeros are what the kernel shows where there is no synproxy.
    let synproxy = any::<[u32; 3]>().prop_map(|[isn, its, tsoff]| {
        let proxy = SynProxy { isn, its, tsoff };
        (proxy != SynProxy::default()).then_some(proxy)
    });
    let helper = option::of("[a-z0-9._-]{1,15}")
        .prop_map(|name| name.map(|name| HelperName::new(name.as_bytes()).expect("a good name")));
    let master = option::of((any::<bool>()).prop_flat_map(|v6| any_tuple(TCP, v6)));
    (
        option::of(any::<[u8; 16]>()),
        helper,
        adj(),
        adj(),
        synproxy,
        master,
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
        )
}
