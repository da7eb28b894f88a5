//! The codec against the real kernel: what it is told to create is what it lists afterwards.
//!
//! Needs root, and `ip`, `nft` and `conntrack`; every test works in a network namespace of its own
//! and says so by name when it cannot run.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper, Update};
use ctsyncd::ctnetlink::{MessageKind, decode_error, decode_event, decode_listed, messages};
use ctsyncd::flow::proto::{SctpInfo, TcpInfo};
use ctsyncd::flow::rare::{HelperName, SeqAdj, SynProxy};
use ctsyncd::flow::text::write_line;
use ctsyncd::flow::tuple::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use ctsyncd::flow::{
    EventKind, Family, Flow, FlowEvent, Present, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const ESP: u8 = 50;
const TIMEOUT_SECS: u32 = 500;
const HOW: Create = Create {
    timeout_secs: TIMEOUT_SECS,
    helper: Helper::Restore,
};
const EEXIST: i32 = 17;
const ENOENT: i32 = 2;
const EOPNOTSUPP: i32 = 95;

/// NAT is performed, and labels have room, only with rules that use them.
const RULES: &str = "table inet t {
    chain nat { type nat hook postrouting priority 100; }
    chain label { type filter hook output priority 0; ct label set 1; }
}";

#[test]
fn every_kind_of_flow_comes_back_as_it_was_created() {
    let Some(mut kernel) = Kernel::start("every_kind_of_flow_comes_back_as_it_was_created") else {
        return;
    };
    let flows = every_kind();
    for (flow, rare) in &flows {
        let errno = kernel.ask(|out, seq| encode::create(out, seq, Ack::Wanted, flow, rare, HOW));
        assert_eq!(errno, 0, "creating {flow:?} {rare:?}");
    }
    let listed = kernel.dump();
    assert_eq!(listed.len(), flows.len());
    for (flow, rare) in &flows {
        let found = listed
            .iter()
            .find(|found| found.flow.key() == flow.key())
            .expect("the flow is in the table");
        assert_same(found, flow, rare);
    }
}

#[test]
fn the_text_is_what_conntrack_prints() {
    let Some(mut kernel) = Kernel::start("the_text_is_what_conntrack_prints") else {
        return;
    };
    for (flow, rare) in &every_kind() {
        let errno = kernel.ask(|out, seq| encode::create(out, seq, Ack::Wanted, flow, rare, HOW));
        assert_eq!(errno, 0, "creating {flow:?}");
    }
    let mut ours: Vec<String> = kernel.dump().iter().map(line).map(without_ticks).collect();
    let mut theirs: Vec<String> = kernel
        .run("conntrack", &["-L"], "")
        .lines()
        .map(|line| without_ticks(line.to_owned()))
        .collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn one_delete_deletes_one_flow_of_one_zone() {
    let Some(mut kernel) = Kernel::start("one_delete_deletes_one_flow_of_one_zone") else {
        return;
    };
    // One original tuple in four zones, told apart on the other side by their translation.
    let orig = Tuple::new(UDP, ip("10.0.0.1"), ip("10.0.0.2"), 1000, 53);
    let zones = [
        Zone::default(),
        zone(5, ZoneDir::Both),
        zone(6, ZoneDir::Orig),
        zone(7, ZoneDir::Both),
    ];
    let flows: Vec<Flow> = zones
        .iter()
        .zip(2000..)
        .map(|(&zone, port)| Flow {
            orig,
            reply: Tuple::new(UDP, ip("10.0.0.2"), ip("10.0.0.9"), 53, port),
            zone,
            status: Status(0x0e),
            ..Flow::default()
        })
        .collect();
    for flow in &flows {
        assert_eq!(kernel.create(flow), 0);
    }
    let mut left = flows.len();
    for flow in &flows {
        let by_orig = kernel
            .find(|out, seq| encode::get(out, seq, Ack::None, flow))
            .expect("found by its original tuple");
        let by_reply = kernel
            .find(|out, seq| encode::get_by_reply(out, seq, Ack::None, flow))
            .expect("found by its reply tuple");
        assert_eq!(
            (by_orig.flow.zone, by_orig.flow.reply),
            (flow.zone, flow.reply)
        );
        assert_eq!(by_orig.flow.id, by_reply.flow.id);
        let id = by_orig.flow.id;
        let delete = |id| {
            move |out: &mut Vec<u8>, seq| encode::delete(out, seq, Ack::Wanted, flow, Some(id))
        };
        assert_eq!(kernel.ask(delete(id ^ 1)), ENOENT, "another life");
        assert_eq!(kernel.dump().len(), left);
        assert_eq!(kernel.ask(delete(id)), 0);
        left -= 1;
        assert_eq!(kernel.dump().len(), left, "only this one");
        assert_eq!(kernel.ask(delete(id)), ENOENT, "not a flush");
        assert_eq!(kernel.dump().len(), left);
    }
}

#[test]
fn a_flow_in_a_zone_of_the_reply_direction_is_found_and_deleted() {
    let name = "a_flow_in_a_zone_of_the_reply_direction_is_found_and_deleted";
    let Some(mut kernel) = Kernel::start(name) else {
        return;
    };
    let orig = Tuple::new(TCP, ip("10.0.0.1"), ip("10.0.0.2"), 1000, 80);
    let flow = Flow {
        orig,
        reply: orig.inverse(),
        zone: zone(9, ZoneDir::Reply),
        status: Status(0x0e),
        ..Flow::default()
    };
    assert_eq!(kernel.create(&flow), 0);
    for request in [encode::get, encode::get_by_reply] {
        let found = kernel.find(|out, seq| request(out, seq, Ack::None, &flow));
        assert_eq!(found.map(|event| event.flow.zone), Ok(flow.zone));
    }
    assert_eq!(
        kernel.ask(|out, seq| encode::delete(out, seq, Ack::Wanted, &flow, None)),
        0
    );
    assert!(kernel.dump().is_empty());
}

#[test]
fn a_taken_reply_tuple_is_refused_and_its_owner_is_found() {
    let name = "a_taken_reply_tuple_is_refused_and_its_owner_is_found";
    let Some(mut kernel) = Kernel::start(name) else {
        return;
    };
    let flow = Flow {
        orig: Tuple::new(UDP, ip("10.0.0.1"), ip("10.0.0.2"), 1000, 53),
        reply: Tuple::new(UDP, ip("10.0.0.2"), ip("10.0.0.9"), 53, 2000),
        status: Status(0x0e),
        ..Flow::default()
    };
    // What a stray packet of the server to the address of the firewall makes.
    let stray = Flow {
        orig: flow.reply,
        reply: flow.reply.inverse(),
        status: Status(0x08),
        ..Flow::default()
    };
    assert_eq!(kernel.create(&stray), 0);
    assert_eq!(kernel.create(&flow), EEXIST);
    let by_orig = kernel.find(|out, seq| encode::get(out, seq, Ack::None, &flow));
    assert_eq!(by_orig, Err(ENOENT));
    let owner = kernel
        .find(|out, seq| encode::get_by_reply(out, seq, Ack::None, &flow))
        .expect("somebody has the reply tuple");
    assert_eq!(owner.flow.orig, stray.orig);
    // Out of the way and made, in one send.
    let errno = kernel.ask(|out, seq| {
        let id = Some(owner.flow.id);
        encode::delete(out, seq - 1, Ack::None, &owner.flow, id);
        encode::create(out, seq, Ack::Wanted, &flow, &Rare::default(), HOW);
    });
    assert_eq!(errno, 0);
    let listed = kernel.dump();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].flow.key(), flow.key());
}

#[test]
fn updates_change_what_they_name() {
    let Some(mut kernel) = Kernel::start("updates_change_what_they_name") else {
        return;
    };
    let flow = tcp_flow(0x03);
    assert_eq!(kernel.create(&flow), 0);
    let listed = |kernel: &mut Kernel| kernel.dump()[0].flow;

    let errno = kernel.ask(|out, seq| {
        encode::update_timeout(out, seq, Ack::Wanted, &flow, 9000);
    });
    assert_eq!(errno, 0);
    assert!((8990..=9000).contains(&listed(&mut kernel).timeout_secs));

    let mut closing = tcp_flow(0x07);
    let ProtoInfo::Tcp(info) = &mut closing.proto else {
        panic!("TCP");
    };
    info.state = 4;
    let change = Update {
        timeout_secs: Some(100),
        mark: Some(0xabcd),
        status: Some(Status(0x0e)),
        proto: Some(closing.proto),
    };
    let errno = kernel.ask(|out, seq| encode::update(out, seq, Ack::Wanted, &flow, change));
    assert_eq!(errno, 0);
    let changed = listed(&mut kernel);
    assert_eq!(changed.mark, 0xabcd);
    assert!((90..=100).contains(&changed.timeout_secs));
    assert_eq!(changed.proto, restored(closing.proto));
    assert_eq!(
        (changed.orig, changed.reply),
        (flow.orig, flow.reply),
        "translation stays"
    );

    // Take the flag away behind the encoder's back, and have it set again.
    let liberal = |flow: &Flow| match flow.proto {
        ProtoInfo::Tcp(info) => info.flags_orig & info.flags_reply & 0x08 != 0,
        ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => false,
    };
    let errno = kernel.ask(|out, seq| {
        encode::make_liberal(out, seq, Ack::Wanted, &flow);
        for kind in [4, 5] {
            replace(out, &[6, 0, kind, 0, 8, 8], &[6, 0, kind, 0, 0, 8]);
        }
    });
    assert_eq!(errno, 0);
    assert!(!liberal(&listed(&mut kernel)));
    let errno = kernel.ask(|out, seq| encode::make_liberal(out, seq, Ack::Wanted, &flow));
    assert_eq!(errno, 0);
    assert!(liberal(&listed(&mut kernel)));
}

#[test]
fn an_unknown_helper_refuses_the_flow_and_leaving_it_out_does_not() {
    let name = "an_unknown_helper_refuses_the_flow_and_leaving_it_out_does_not";
    let Some(mut kernel) = Kernel::start(name) else {
        return;
    };
    let flow = tcp_flow(0x03);
    let rare = Rare {
        helper: HelperName::new(b"not-in-here"),
        ..Rare::default()
    };
    let mut create = |helper| {
        let how = Create { helper, ..HOW };
        kernel.ask(|out, seq| encode::create(out, seq, Ack::Wanted, &flow, &rare, how))
    };
    assert_eq!(create(Helper::Restore), EOPNOTSUPP);
    assert_eq!(create(Helper::Leave), 0);
}

#[test]
fn our_own_writes_come_back_as_events_with_our_port_id() {
    let name = "our_own_writes_come_back_as_events_with_our_port_id";
    let Some(mut kernel) = Kernel::start(name) else {
        return;
    };
    let listener = kernel.socket();
    for group in 1..=3 {
        listener
            .add_membership(group)
            .expect("a group of ctnetlink");
    }
    let flow = tcp_flow(0x03);
    assert_eq!(kernel.create(&flow), 0);
    let errno = kernel.ask(|out, seq| {
        encode::update_timeout(out, seq, Ack::Wanted, &flow, 9000);
    });
    assert_eq!(errno, 0);
    let errno = kernel.ask(|out, seq| encode::delete(out, seq, Ack::Wanted, &flow, None));
    assert_eq!(errno, 0);

    let mut events = Vec::new();
    while events.len() < 3 {
        let (datagram, _) = listener.recv_from_full().expect("an event");
        for message in messages(&datagram) {
            let mut event = FlowEvent::default();
            let message = message.expect("whole messages");
            decode_event(message.bytes, &mut event).expect("an event of a flow");
            events.push(event);
        }
    }
    let kinds = [EventKind::New, EventKind::Update, EventKind::Destroy];
    assert_eq!([0, 1, 2].map(|at: usize| events[at].kind), kinds);
    for event in &events {
        assert_eq!(event.port_id, kernel.port_id);
        assert_eq!(event.flow.key(), flow.key());
        assert_eq!(event.flow.reply, flow.reply);
    }
    // Every entry made through ctnetlink shows a synproxy of zeros.
    let created = Present::PROTOINFO | Present::STATUS | Present::TIMEOUT | Present::SYNPROXY;
    assert!(events[0].present.has(created));
    assert_eq!(events[0].rare.synproxy, None);
    assert!(events[2].flow.status.has(Status::DYING));
    assert!(events[2].present.has(Present::TIMEOUT), "it was killed");
}

// What is created.

/// Which end of a flow is translated.
#[derive(Clone, Copy)]
enum Nat {
    No,
    Source,
    Destination,
    Both,
}

/// Flows of every protocol, family and translation, each with addresses of its own, and flows with
/// each of the rare attributes. Masters stand before their children.
fn every_kind() -> Vec<(Flow, Rare)> {
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
fn flow(n: usize, protocol: u8, family: Family, nat: Nat) -> Flow {
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

fn tcp_flow(flags: u8) -> Flow {
    let mut tcp = flow(1, TCP, Family::V4, Nat::Source);
    if let ProtoInfo::Tcp(info) = &mut tcp.proto {
        (info.flags_orig, info.flags_reply) = (flags, flags);
    }
    tcp
}

fn zone(id: u16, dir: ZoneDir) -> Zone {
    Zone { id, dir }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

// What is expected.

/// Protocol state as it is after a create: the flags that can be restored, and liberal.
fn restored(proto: ProtoInfo) -> ProtoInfo {
    match proto {
        ProtoInfo::Tcp(info) => ProtoInfo::Tcp(TcpInfo {
            flags_orig: info.flags_orig & 0x0f | 0x08,
            flags_reply: info.flags_reply & 0x0f | 0x08,
            ..info
        }),
        ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => proto,
    }
}

fn assert_same(found: &FlowEvent, flow: &Flow, rare: &Rare) {
    assert_eq!(found.kind, EventKind::Listed);
    assert_eq!(found.flow.orig, flow.orig);
    assert_eq!(found.flow.reply, flow.reply);
    assert_eq!(found.flow.zone, flow.zone);
    assert_eq!(found.flow.mark, flow.mark);
    assert_eq!(found.flow.proto, restored(flow.proto), "{flow:?}");
    let left = found.flow.timeout_secs;
    assert!((TIMEOUT_SECS - 30..=TIMEOUT_SECS).contains(&left), "{left}");
    assert_eq!(found.rare, *rare);
    assert_ne!(found.flow.id, 0);

    let status = found.flow.status;
    assert_eq!(status.0 & 0x0e, flow.status.0);
    assert_eq!(status.has(Status::SRC_NAT), flow.is_snat());
    assert_eq!(status.has(Status::DST_NAT), flow.is_dnat());
    assert_eq!(status.has(Status::FIXED_TIMEOUT), flow.orig.protocol == GRE);
    assert_eq!(status.has(Status::EXPECTED), rare.master.is_some());
    assert_eq!(status.has(Status::HELPER), rare.helper.is_some());
    assert_eq!(status.has(Status::SEQ_ADJUST), rare.seqadj_orig.is_some());
}

fn line(event: &FlowEvent) -> String {
    let mut line = String::new();
    write_line(&mut line, &event.flow, &event.rare, event.flow.timeout_secs);
    line
}

/// A line without what differs from one moment to the next: seconds left, and who holds the entry
/// just now (a master is held by its child).
fn without_ticks(line: String) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    // The name is padded with spaces, so the protocol's number and the timeout are not at fixed
    // places.
    let timeout = (0..words.len())
        .filter(|&at| words[at].parse::<u32>().is_ok())
        .nth(1)
        .expect("a protocol number and a timeout");
    words[timeout] = "SECONDS";
    let held = words.len() - 1;
    assert!(words[held].starts_with("use="));
    words[held] = "use=N";
    words.join(" ")
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("the bytes are there");
    bytes[at..at + to.len()].copy_from_slice(to);
}

// The kernel.

/// A network namespace with rules, and a socket inside of it.
struct Kernel {
    name: String,
    socket: Option<Socket>,
    port_id: u32,
    seq: u32,
}

impl Kernel {
    /// `None`, and a line that names the test, without the right to make a namespace.
    fn start(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: {test} needs root for a network namespace");
            return None;
        }
        for tool in ["ip", "nft", "conntrack"] {
            let there = Command::new(tool)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if there.is_err() {
                eprintln!("skipped: {test} needs the command {tool}");
                return None;
            }
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut kernel = Self {
            name: format!("ctsyncd-nl-{}-{count}", std::process::id()),
            socket: None,
            port_id: 0,
            seq: 0,
        };
        let added = Command::new("ip")
            .args(["netns", "add", &kernel.name])
            .status();
        assert!(added.expect("ip runs").success(), "ip netns add");
        kernel.run("nft", &["-f", "-"], RULES);
        let socket = kernel.socket();
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address).expect("a port id");
        kernel.port_id = address.port_number();
        kernel.socket = Some(socket);
        Some(kernel)
    }

    /// A netfilter socket of this namespace; the thread that made it is gone afterwards.
    fn socket(&self) -> Socket {
        let path = format!("/run/netns/{}", self.name);
        let made = std::thread::spawn(move || {
            let namespace = File::open(path).expect("the namespace is there");
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network)
                .expect("root may enter a namespace");
            Socket::new(netlink_sys::protocols::NETLINK_NETFILTER).expect("a netlink socket")
        });
        let mut socket: Socket = made.join().expect("the thread ends well");
        socket.bind_auto().expect("a port id");
        socket
    }

    /// Runs a command inside; its output.
    fn run(&self, command: &str, args: &[&str], input: &str) -> String {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.name, command])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("a pipe");
        drop(stdin);
        let output = child.wait_with_output().expect("the command ends");
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// Sends what `build` builds, with the next sequence number; the socket to read answers from.
    fn send(&mut self, build: impl FnOnce(&mut Vec<u8>, u32)) -> (&mut Socket, u32) {
        self.seq += 2; // room for a second message before it
        let mut out = Vec::new();
        build(&mut out, self.seq);
        let socket = self.socket.as_mut().expect("started");
        assert_eq!(socket.send(&out, 0).expect("sent"), out.len());
        (socket, self.seq)
    }

    /// Sends one message that wants an acknowledgement; the errno it got, 0 for success.
    fn ask(&mut self, build: impl FnOnce(&mut Vec<u8>, u32)) -> i32 {
        let (socket, seq) = self.send(build);
        let (datagram, _) = socket.recv_from_full().expect("an answer");
        let mut answers = messages(&datagram).map(|message| {
            let message = message.expect("whole messages");
            decode_error(&message).expect("an acknowledgement or a refusal")
        });
        let (answered, errno) = answers.next().expect("an answer");
        assert_eq!(answered, seq, "{errno}");
        errno
    }

    fn create(&mut self, flow: &Flow) -> i32 {
        let rare = Rare::default();
        self.ask(|out, seq| encode::create(out, seq, Ack::Wanted, flow, &rare, HOW))
    }

    /// Sends a GET; the flow, or why not.
    fn find(&mut self, build: impl FnOnce(&mut Vec<u8>, u32)) -> Result<FlowEvent, i32> {
        let (socket, _) = self.send(build);
        let (datagram, _) = socket.recv_from_full().expect("an answer");
        let message = messages(&datagram).next().expect("an answer");
        let message = message.expect("whole messages");
        if let Some((_, errno)) = decode_error(&message) {
            return Err(errno);
        }
        let mut event = FlowEvent::default();
        decode_listed(message.bytes, &mut event).expect("a flow");
        Ok(event)
    }

    /// The whole table.
    fn dump(&mut self) -> Vec<FlowEvent> {
        let (socket, _) = self.send(encode::dump);
        let mut listed = Vec::new();
        loop {
            let (datagram, _) = socket.recv_from_full().expect("an answer");
            for message in messages(&datagram) {
                let message = message.expect("whole messages");
                if message.kind == MessageKind::Done {
                    assert_eq!(decode_error(&message), None);
                    return listed;
                }
                let mut event = FlowEvent::default();
                decode_listed(message.bytes, &mut event).expect("a flow");
                listed.push(event);
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and a panic here would hide the test's own.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}
