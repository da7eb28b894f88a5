//! The table of cases: one line each, every attribute that the kernel lets one restore.

use std::net::IpAddr;

use ctsyncd::flow::proto::{SCTP_STATES, SctpInfo, TCP_STATES, TcpInfo};
use ctsyncd::flow::rare::{HelperName, SeqAdj, SynProxy};
use ctsyncd::flow::tuple::{GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use ctsyncd::flow::{Family, Flow, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};

use Family::{V4, V6};

const ESP: u8 = 50;
/// A protocol that no kernel tracks.
const UNKNOWN: u8 = 99;
/// Seconds that cases have whose timeout is not their subject: more than any grace.
const LONG_SECS: u32 = 3_000;

/// The helpers that this kernel may have, each with a protocol that it takes.
const HELPERS: [(&str, u8); 13] = [
    ("ftp", TCP),
    ("irc", TCP),
    ("pptp", TCP),
    ("sane", TCP),
    ("Q.931", TCP),
    ("sip", TCP),
    ("sip", UDP),
    ("tftp", UDP),
    ("RAS", UDP),
    ("amanda", UDP),
    ("netbios-ns", UDP),
    ("snmp", UDP),
    ("snmp_trap", UDP),
];

/// One flow, and what it shows.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What a failure calls it.
    pub(crate) name: String,
    /// The flow on the active; its timeout is what it is created with.
    pub(crate) flow: Flow,
    /// Its rare attributes.
    pub(crate) rare: Rare,
    /// Seconds that it has on the standby; `None`: what the active has left.
    pub(crate) restored_secs: Option<u32>,
}

/// All cases, masters before their children.
pub(crate) fn all() -> Vec<Case> {
    let mut t = Table::default();
    protocols(&mut t);
    translations(&mut t);
    zones(&mut t);
    rare_attributes(&mut t);
    timeouts(&mut t);
    t.cases
}

fn protocols(t: &mut Table) {
    for (state, name) in (0..).zip(TCP_STATES) {
        t.add(format!("TCP {name}"), V4, TCP)
            .tcp(state, (7, 10), (0x03, 0x03));
    }
    t.add("TCP scales 0", V4, TCP).tcp(3, (0, 0), (0x03, 0x03));
    t.add("TCP scales 14", V6, TCP)
        .tcp(3, (14, 14), (0x03, 0x03));
    t.add("TCP one scale", V6, TCP)
        .tcp(3, (0, 14), (0x03, 0x03));
    t.add("TCP without scales", V4, TCP)
        .tcp(3, (0, 0), (0x02, 0x02));
    t.add("TCP no SACK", V4, TCP).tcp(3, (7, 7), (0x01, 0x01));
    t.add("TCP SACK one way", V6, TCP)
        .tcp(3, (7, 7), (0x03, 0x01));
    t.add("TCP CLOSE_INIT of the original", V4, TCP)
        .tcp(7, (7, 7), (0x07, 0x03));
    t.add("TCP CLOSE_INIT of the reply", V4, TCP)
        .tcp(7, (7, 7), (0x03, 0x07));
    for (state, name) in (0..9).zip(SCTP_STATES) {
        t.add(format!("SCTP {name}"), V4, SCTP)
            .sctp(state, 0x0102_0304, 0x0506_0708);
    }
    t.add("SCTP over IPv6", V6, SCTP)
        .sctp(4, 0xffff_ffff, 0x8000_0000);
    t.add("UDP over IPv4", V4, UDP);
    t.add("UDP over IPv6", V6, UDP);
    t.add("UDP-Lite over IPv4", V4, UDPLITE);
    t.add("UDP-Lite over IPv6", V6, UDPLITE);
    t.add("UDP port 65535", V4, UDP).ids(65_535, 65_535);
    for (kind, name) in [
        (8, "echo"),
        (13, "timestamp"),
        (15, "information"),
        (17, "mask"),
    ] {
        t.add(format!("ICMP {name}"), V4, ICMP).ids(77, kind << 8);
    }
    t.add("ICMP with a code", V4, ICMP).ids(1, 8 << 8 | 3);
    t.add("ICMP id 0", V4, ICMP).ids(0, 8 << 8);
    t.add("ICMP id 65535", V4, ICMP).ids(65_535, 8 << 8);
    t.add("ICMPv6 echo", V6, ICMPV6).ids(78, 128 << 8);
    t.add("ICMPv6 node information", V6, ICMPV6)
        .ids(79, 139 << 8);
    t.add("GRE", V4, GRE).restored(3_600);
    t.add("GRE over IPv6", V6, GRE).restored(3_600);
    t.add("GRE with keys", V4, GRE)
        .ids(0x12c, 0x15)
        .restored(3_600);
    t.add("ESP over IPv4", V4, ESP);
    t.add("ESP over IPv6", V6, ESP);
    t.add("protocol 99", V4, UNKNOWN);
    for status in [0x08, 0x0a, 0x0c, 0x0e] {
        for (family, protocol) in [(V4, TCP), (V6, UDP), (V4, ICMP), (V4, GRE)] {
            let name = format!("status {status:#x} of protocol {protocol}");
            let case = t.add(name, family, protocol).status(status);
            if protocol == GRE {
                case.restored(3_600);
            }
        }
    }
}

fn translations(t: &mut Table) {
    for family in [V4, V6] {
        let icmp = match family {
            V4 => ICMP,
            V6 => ICMPV6,
        };
        for protocol in [TCP, UDP, UDPLITE, SCTP, icmp] {
            let name = |what: &str| format!("{what} of protocol {protocol} over {family:?}");
            t.add(name("SNAT"), family, protocol).snat_to(Some(5_002));
            t.add(name("SNAT, same port"), family, protocol)
                .snat_to(None);
            t.add(name("SNAT of the port"), family, protocol)
                .snat_id(5_003);
            t.add(name("DNAT, same port"), family, protocol)
                .dnat_to(None);
            t.add(name("SNAT and DNAT, same ports"), family, protocol)
                .snat_to(None)
                .dnat_to(None);
            // An ICMP id belongs to both ends: there is one to translate, that of the source.
            if protocol != icmp {
                t.add(name("DNAT"), family, protocol).dnat_to(Some(8_080));
                t.add(name("DNAT of the port"), family, protocol)
                    .dnat_id(8_081);
                t.add(name("SNAT and DNAT of the ports"), family, protocol)
                    .snat_id(5_004)
                    .dnat_id(8_082);
                t.add(
                    name("SNAT of the address, DNAT of the port"),
                    family,
                    protocol,
                )
                .snat_to(None)
                .dnat_id(8_083);
                t.add(name("SNAT and DNAT"), family, protocol)
                    .snat_to(Some(5_005))
                    .dnat_to(Some(8_084));
            } else {
                t.add(name("SNAT and DNAT"), family, protocol)
                    .snat_to(Some(5_005))
                    .dnat_to(None);
            }
        }
        t.add(format!("SNAT of ESP over {family:?}"), family, ESP)
            .snat_to(None);
        t.add(format!("DNAT of ESP over {family:?}"), family, ESP)
            .dnat_to(None);
        t.add(format!("SNAT of GRE over {family:?}"), family, GRE)
            .snat_to(None)
            .restored(3_600);
        t.add(format!("DNAT of GRE over {family:?}"), family, GRE)
            .dnat_to(None)
            .restored(3_600);
    }
    t.add("SNAT of a flow without replies", V4, UDP)
        .snat_to(Some(5_006))
        .status(0x08);
}

fn zones(t: &mut Table) {
    for dir in [ZoneDir::Both, ZoneDir::Orig, ZoneDir::Reply] {
        let name = |what: &str| format!("{what} in zone 5, {dir:?}");
        t.add(name("TCP"), V4, TCP).zone(5, dir);
        t.add(name("UDP over IPv6"), V6, UDP).zone(5, dir);
        t.add(name("ICMP"), V4, ICMP).zone(5, dir);
        t.add(name("SNAT and DNAT"), V4, TCP)
            .zone(5, dir)
            .snat_to(Some(5_002))
            .dnat_to(Some(8_080));
        t.add(name("SNAT over IPv6"), V6, UDP)
            .zone(5, dir)
            .snat_to(Some(5_002));
    }
    t.add("zone 65535", V4, UDP).zone(65_535, ZoneDir::Both);
    t.add("equal tuples, zone 0", V4, UDP);
    for zone in [7, 8] {
        t.add(format!("equal tuples, zone {zone}"), V4, UDP)
            .tuples_of("equal tuples, zone 0")
            .zone(zone, ZoneDir::Both);
    }
    // Here the replies share a zone, and their ports tell the flows apart.
    t.add("equal original tuples, zone 9", V4, TCP)
        .zone(9, ZoneDir::Orig)
        .snat_to(Some(5_009));
    t.add("equal original tuples, zone 10", V4, TCP)
        .tuples_of("equal original tuples, zone 9")
        .zone(10, ZoneDir::Orig)
        .snat_to(Some(5_010));
    t.add("equal reply tuples, zone 0", V4, TCP)
        .snat_to(Some(5_011));
    t.add("equal reply tuples, zone 11", V4, TCP)
        .reply_of("equal reply tuples, zone 0")
        .zone(11, ZoneDir::Reply);
}

fn rare_attributes(t: &mut Table) {
    for mark in [1, 0x8000_0000, u32::MAX] {
        t.add(format!("mark {mark:#x}"), V4, UDP).mark(mark);
    }
    t.add("label 0", V4, TCP).labels(&[0]);
    t.add("labels 5, 77 and 127", V6, TCP).labels(&[5, 77, 127]);
    t.add("labels of a translated flow", V4, UDP)
        .labels(&[32])
        .snat_to(Some(5_002));
    for (name, protocol) in HELPERS {
        t.add(
            format!("helper {name} of protocol {protocol}"),
            V4,
            protocol,
        )
        .helper(name);
    }
    t.add("helper ftp over IPv6", V6, TCP).helper("ftp");
    t.add("adjusted, original direction", V4, TCP)
        .adjusted(Some((0x0102_0304, 3, 0xffff_fffe)), None);
    t.add("adjusted, reply direction", V4, TCP)
        .adjusted(None, Some((9, 0, 7)));
    t.add("adjusted both ways, translated, with a helper", V4, TCP)
        .snat_to(Some(5_021))
        .helper("ftp")
        .adjusted(Some((1, 2, 3)), Some((4, 5, 6)));
    t.add("synproxy", V4, TCP)
        .synproxy(0x0a0b_0c0d, 1, 0xffff_fff0);
    t.add("synproxy and adjusted", V6, TCP)
        .synproxy(1, 0, 0)
        .adjusted(Some((7, 0, 8)), Some((9, 0, 0xffff_fff8)));
    t.add("master", V4, TCP).helper("ftp").snat_to(Some(5_030));
    t.add("child", V4, TCP).child_of("master");
    t.add("child, translated", V4, TCP)
        .child_of("master")
        .snat_to(Some(5_031))
        .dnat_to(Some(8_031));
    t.add("child of another protocol", V4, UDP)
        .child_of("master");
    t.add("child of a child", V4, UDP).child_of("child");
    for dir in [ZoneDir::Both, ZoneDir::Orig, ZoneDir::Reply] {
        let master = format!("master in zone 6, {dir:?}");
        t.add(&*master, V4, TCP).zone(6, dir).helper("ftp");
        t.add(format!("child in zone 6, {dir:?}"), V4, TCP)
            .zone(6, dir)
            .child_of(&master);
    }
    t.add("master over IPv6", V6, UDP).helper("sip");
    t.add("child over IPv6", V6, UDP)
        .child_of("master over IPv6");
    t.add("everything at once", V6, TCP)
        .tcp(4, (3, 11), (0x07, 0x03))
        .snat_to(Some(5_040))
        .dnat_to(Some(8_040))
        .zone(12, ZoneDir::Both)
        .mark(0xdead_beef)
        .labels(&[1, 2, 3, 99])
        .helper("ftp")
        .adjusted(Some((1, 2, 3)), Some((4, 5, 6)))
        .synproxy(7, 8, 9);
}

/// What is left on the active, and what the standby makes of it: the grace (180 s), but no more
/// than the kernel gives a flow of this kind and state; what is left if that is more.
fn timeouts(t: &mut Table) {
    let tcp = [
        (1, 120),
        (2, 60),
        (3, 180),
        (4, 120),
        (5, 60),
        (6, 30),
        (7, 120),
        (8, 10),
        (9, 120),
    ];
    for (state, secs) in tcp {
        t.add(format!("9 s left of TCP state {state}"), V4, TCP)
            .tcp(state, (7, 7), (0x03, 0x03))
            .left(9)
            .restored(secs);
    }
    let sctp = [(1, 10), (4, 180), (8, 30)];
    for (state, secs) in sctp {
        t.add(format!("9 s left of SCTP state {state}"), V4, SCTP)
            .sctp(state, 1, 2)
            .left(9)
            .restored(secs);
    }
    for protocol in [UDP, UDPLITE] {
        t.add(format!("9 s left of protocol {protocol}"), V4, protocol)
            .left(9)
            .restored(120);
        t.add(
            format!("9 s left of protocol {protocol}, no reply seen"),
            V4,
            protocol,
        )
        .status(0x08)
        .left(9)
        .restored(30);
    }
    t.add("9 s left of ICMP", V4, ICMP).left(9).restored(30);
    t.add("9 s left of ICMPv6", V6, ICMPV6).left(9).restored(30);
    t.add("9 s left of ESP", V4, ESP).left(9).restored(180);
    t.add("9 s left of GRE", V4, GRE).left(9).restored(3_600);
    t.add("more than the grace left of UDP", V4, UDP).left(500);
    t.add("five days left of TCP", V4, TCP).left(432_000);
}

/// Cases, each with addresses of its own unless it takes those of another.
#[derive(Default)]
struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn add(&mut self, name: impl Into<String>, family: Family, protocol: u8) -> Described<'_> {
        let number = self.cases.len();
        let address = |net| address(family, net, number);
        let (src_id, dst_id) = match protocol {
            TCP | UDP | UDPLITE | SCTP => (4_001, 80),
            ICMP => (77, 8 << 8),
            ICMPV6 => (77, 128 << 8),
            _ => (0, 0),
        };
        let orig = Tuple::new(protocol, address(1), address(2), src_id, dst_id);
        let flow = Flow {
            orig,
            reply: orig.inverse(),
            status: Status(0x0e),
            timeout_secs: LONG_SECS,
            ..Flow::default()
        };
        self.cases.push(Case {
            name: name.into(),
            flow,
            rare: Rare::default(),
            restored_secs: None,
        });
        let described = Described { table: self };
        match protocol {
            TCP => described.tcp(3, (7, 10), (0x03, 0x03)),
            SCTP => described.sctp(4, 1, 2),
            _ => described,
        }
    }

    fn named(&self, name: &str) -> &Case {
        let found = self.cases.iter().find(|case| case.name == name);
        found.expect("the case stands above")
    }
}

/// The last case of a table, to say more about.
struct Described<'a> {
    table: &'a mut Table,
}

impl Described<'_> {
    fn case(&mut self) -> &mut Case {
        self.table.cases.last_mut().expect("just added")
    }

    fn number(&self) -> usize {
        self.table.cases.len() - 1
    }

    fn tcp(mut self, state: u8, scales: (u8, u8), flags: (u8, u8)) -> Self {
        self.case().flow.proto = ProtoInfo::Tcp(TcpInfo {
            state,
            wscale_orig: scales.0,
            wscale_reply: scales.1,
            flags_orig: flags.0,
            flags_reply: flags.1,
        });
        self
    }

    fn sctp(mut self, state: u8, vtag_orig: u32, vtag_reply: u32) -> Self {
        self.case().flow.proto = ProtoInfo::Sctp(SctpInfo {
            state,
            vtag_orig,
            vtag_reply,
        });
        self
    }

    /// Ports, keys, or an ICMP id with type and code.
    fn ids(mut self, src_id: u16, dst_id: u16) -> Self {
        let flow = &mut self.case().flow;
        (flow.orig.src_id, flow.orig.dst_id) = (src_id, dst_id);
        flow.reply = flow.orig.inverse();
        self
    }

    fn status(mut self, status: u32) -> Self {
        self.case().flow.status = Status(status);
        self
    }

    fn snat_to(mut self, id: Option<u16>) -> Self {
        let number = self.number();
        let flow = &mut self.case().flow;
        let to = address(flow.orig.family, 3, number);
        flow.reply.dst = Tuple::new(0, to, to, 0, 0).dst;
        match id {
            Some(id) => self.snat_id(id),
            None => self,
        }
    }

    fn snat_id(mut self, id: u16) -> Self {
        let reply = &mut self.case().flow.reply;
        if reply.is_icmp() {
            reply.src_id = id;
        } else {
            reply.dst_id = id;
        }
        self
    }

    fn dnat_to(mut self, id: Option<u16>) -> Self {
        let number = self.number();
        let flow = &mut self.case().flow;
        let to = address(flow.orig.family, 4, number);
        flow.reply.src = Tuple::new(0, to, to, 0, 0).src;
        match id {
            Some(id) => self.dnat_id(id),
            None => self,
        }
    }

    fn dnat_id(mut self, id: u16) -> Self {
        self.case().flow.reply.src_id = id;
        self
    }

    fn zone(mut self, id: u16, dir: ZoneDir) -> Self {
        self.case().flow.zone = Zone { id, dir };
        self
    }

    fn tuples_of(mut self, name: &str) -> Self {
        let orig = self.table.named(name).flow.orig;
        let flow = &mut self.case().flow;
        (flow.orig, flow.reply) = (orig, orig.inverse());
        self
    }

    /// Another original tuple that is translated to the reply tuple of another case.
    fn reply_of(mut self, name: &str) -> Self {
        let other = self.table.named(name).flow;
        let flow = &mut self.case().flow;
        flow.orig.dst = other.orig.dst;
        flow.reply = other.reply;
        self
    }

    fn mark(mut self, mark: u32) -> Self {
        self.case().flow.mark = mark;
        self
    }

    fn labels(mut self, bits: &[usize]) -> Self {
        let mut labels = [0; 16];
        for bit in bits {
            labels[bit / 8] |= 1 << (bit % 8);
        }
        self.case().rare.labels = Some(labels);
        self
    }

    fn helper(mut self, name: &str) -> Self {
        let name = HelperName::new(name.as_bytes());
        self.case().rare.helper = Some(name.expect("a helper's name"));
        self
    }

    fn adjusted(mut self, orig: Option<(u32, u32, u32)>, reply: Option<(u32, u32, u32)>) -> Self {
        let adj = |(correction_pos, offset_before, offset_after)| SeqAdj {
            correction_pos,
            offset_before,
            offset_after,
        };
        // The kernel has one extension for both: the other direction is there, with zeros.
        let rare = &mut self.case().rare;
        rare.seqadj_orig = Some(orig.map_or(SeqAdj::default(), adj));
        rare.seqadj_reply = Some(reply.map_or(SeqAdj::default(), adj));
        self
    }

    fn synproxy(mut self, isn: u32, its: u32, tsoff: u32) -> Self {
        self.case().rare.synproxy = Some(SynProxy { isn, its, tsoff });
        self
    }

    fn child_of(mut self, name: &str) -> Self {
        let master = self.table.named(name).flow.orig;
        self.case().rare.master = Some(master);
        self
    }

    fn left(mut self, secs: u32) -> Self {
        self.case().flow.timeout_secs = secs;
        self
    }

    fn restored(mut self, secs: u32) -> Self {
        self.case().restored_secs = Some(secs);
        self
    }
}

/// Address of case `number` in network `net`.
fn address(family: Family, net: u8, number: usize) -> IpAddr {
    let text = match family {
        V4 => format!("10.{net}.{}.{}", number / 200, number % 200 + 1),
        V6 => format!("fd00:{net}::{:x}", number + 1),
    };
    text.parse().expect("an address of the table")
}
