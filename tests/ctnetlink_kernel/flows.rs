//! Flows of every kind.

use std::net::IpAddr;

use ctsyncd::flow::proto::{SctpInfo, TcpInfo};
use ctsyncd::flow::rare::{HelperName, SeqAdj, SynProxy};
use ctsyncd::flow::tuple::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use ctsyncd::flow::{Family, Flow, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};

const ESP: u8 = 50;

/// Which end of a flow is translated.
#[derive(Clone, Copy)]
pub(crate) enum Nat {
    No,
    Source,
    Destination,
    Both,
}

/// Flows of every protocol, family and translation, each with addresses of its own, and flows with
/// each of the rare attributes. Masters stand before their children.
pub(crate) fn every_kind() -> Vec<(Flow, Rare)> {
    let mut flows = Vec::new();
    for family in [Family::V4, Family::V6] {
        let icmp = match family {
            Family::V4 => ICMP,
            Family::V6 => ICMPV6,
        };
        for protocol in [TCP, UDP, UDPLITE, SCTP, icmp, ESP, DCCP, GRE] {
            for nat in [Nat::No, Nat::Source, Nat::Destination, Nat::Both] {
                flows.push((flow(flows.len(), protocol, family, nat), Rare::default()));
            }
        }
    }
    for dir in [ZoneDir::Both, ZoneDir::Orig, ZoneDir::Reply] {
        for nat in [Nat::No, Nat::Both] {
            let mut zoned = flow(flows.len(), TCP, Family::V4, nat);
            zoned.zone = zone(5, dir);
            flows.push((zoned, Rare::default()));
        }
    }
    for state in 0..10 {
        let mut tcp = flow(flows.len(), TCP, Family::V6, Nat::No);
        if let ProtoInfo::Tcp(info) = &mut tcp.proto {
            info.state = state;
        }
        flows.push((tcp, Rare::default()));
    }
    for state in 0..9 {
        let mut sctp = flow(flows.len(), SCTP, Family::V4, Nat::No);
        if let ProtoInfo::Sctp(info) = &mut sctp.proto {
            info.state = state;
        }
        flows.push((sctp, Rare::default()));
    }
    for status in [0x08, 0x0a, 0x0c] {
        let mut udp = flow(flows.len(), UDP, Family::V4, Nat::No);
        udp.status = Status(status);
        flows.push((udp, Rare::default()));
    }
    let mut keyed = flow(flows.len(), GRE, Family::V4, Nat::No);
    (keyed.orig.src_id, keyed.orig.dst_id) = (0x12c, 0x15);
    keyed.reply = keyed.orig.inverse();
    flows.push((keyed, Rare::default()));

    let master = flow(flows.len(), TCP, Family::V4, Nat::Source);
    let adjusted = Rare {
        helper: HelperName::new(b"ftp"),
        seqadj_orig: Some(SeqAdj {
            correction_pos: 0x0102_0304,
            offset_before: 3,
            offset_after: 0xffff_fffe,
        }),
        seqadj_reply: Some(SeqAdj {
            correction_pos: 9,
            offset_before: 0,
            offset_after: 7,
        }),
        ..Rare::default()
    };
    flows.push((master, adjusted));
    let child = Rare {
        master: Some(master.orig),
        ..Rare::default()
    };
    let translated = flow(flows.len(), TCP, Family::V4, Nat::Both);
    flows.push((translated, child));
    let labelled = Rare {
        labels: Some(*b"0123456789abcdef"),
        synproxy: Some(SynProxy {
            isn: 0x0a0b_0c0d,
            its: 1,
            tsoff: 0xffff_fff0,
        }),
        ..Rare::default()
    };
    flows.push((flow(flows.len(), TCP, Family::V6, Nat::Source), labelled));
    flows
}

/// A flow whose addresses no other `n` has.
pub(crate) fn flow(n: usize, protocol: u8, family: Family, nat: Nat) -> Flow {
    let address = |net: u8| match family {
        Family::V4 => ip(&format!("10.{net}.0.{n}")),
        Family::V6 => ip(&format!("fd00:{net}::{n:x}")),
    };
    let (src_id, dst_id) = match protocol {
        TCP | UDP | UDPLITE | SCTP => (4001, 80),
        ICMP => (77, 8 << 8),
        ICMPV6 => (77, 128 << 8),
        _ => (0, 0),
    };
    let orig = Tuple::new(protocol, address(1), address(2), src_id, dst_id);
    let mut reply = orig.inverse();
    let other = Tuple::new(protocol, address(4), address(3), 0, 0);
    let ports = matches!(protocol, TCP | UDP | UDPLITE | SCTP);
    if matches!(nat, Nat::Source | Nat::Both) {
        reply.dst = other.dst;
        if ports {
            reply.dst_id = 5002;
        } else if orig.is_icmp() {
            reply.src_id = 78;
        }
    }
    if matches!(nat, Nat::Destination | Nat::Both) {
        reply.src = other.src;
        if ports {
            reply.src_id = 8080;
        }
    }
    Flow {
        orig,
        reply,
        status: Status(0x0e),
        mark: u32::try_from(n).expect("few flows") * 3,
        proto: match protocol {
            TCP => ProtoInfo::Tcp(TcpInfo {
                state: 3,
                wscale_orig: 7,
                wscale_reply: 10,
                flags_orig: 0x23,
                flags_reply: 0x33,
            }),
            SCTP => ProtoInfo::Sctp(SctpInfo {
                state: 4,
                vtag_orig: 0x0102_0304,
                vtag_reply: 0x0506_0708,
            }),
            _ => ProtoInfo::None,
        },
        ..Flow::default()
    }
}

pub(crate) fn tcp_flow(flags: u8) -> Flow {
    let mut tcp = flow(1, TCP, Family::V4, Nat::Source);
    if let ProtoInfo::Tcp(info) = &mut tcp.proto {
        (info.flags_orig, info.flags_reply) = (flags, flags);
    }
    tcp
}

pub(crate) fn zone(id: u16, dir: ZoneDir) -> Zone {
    Zone { id, dir }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}
