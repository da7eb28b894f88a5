//! The codec against the real kernel: what it is told to create is what it lists afterwards.
//!
//! Needs root, and `ip`, `nft` and `conntrack`; every test works in a network namespace of its own
//! and says so by name when it cannot run.

mod expectations;
mod flows;
mod kernel;

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper, Update};
use ctsyncd::ctnetlink::{decode_event, messages};
use ctsyncd::flow::proto::TcpInfo;
use ctsyncd::flow::rare::HelperName;
use ctsyncd::flow::text::write_line;
use ctsyncd::flow::tuple::{GRE, TCP, UDP};
use ctsyncd::flow::{
    EventKind, Flow, FlowEvent, Present, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir,
};

use flows::{every_kind, ip, tcp_flow, zone};
use kernel::Kernel;

const TIMEOUT_SECS: u32 = 500;
const HOW: Create = Create {
    timeout_secs: TIMEOUT_SECS,
    helper: Helper::Restore,
};
const EEXIST: i32 = 17;
const ENOENT: i32 = 2;
const EOPNOTSUPP: i32 = 95;

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

    // Take the flag away, and have it set again.
    let liberal = |flow: &Flow| match flow.proto {
        ProtoInfo::Tcp(info) => info.flags_orig & info.flags_reply & 0x08 != 0,
        ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => false,
    };
    let errno = kernel.ask(|out, seq| encode::make_strict(out, seq, Ack::Wanted, &flow));
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
