//! Each reason for which a flow does not replicate, in both families.

use super::*;
use crate::flow::proto::{SctpInfo, TCP_SYN_RECV, TcpInfo};
use crate::flow::tuple::{GRE, SCTP, TCP, UDP};
use crate::flow::{Tuple, Zone, ZoneDir};

#[test]
fn an_established_tcp_flow_through_the_firewall_replicates_by_default() {
    for flow in both_families(TCP) {
        assert_eq!(tracks(&Policy::default(), &flow), Ok(()));
        assert_eq!(Policy::default().replicates(&flow, 0), Ok(()));
    }
}

#[test]
fn a_protocol_that_is_not_listed_is_left_out() {
    let policy = filtered(|filters| filters.protocols = Some([TCP, UDP].into_iter().collect()));
    for protocol in [TCP, UDP] {
        for flow in both_families(protocol) {
            assert_eq!(tracks(&policy, &flow), Ok(()));
        }
    }
    for flow in both_families(GRE) {
        assert_eq!(tracks(&policy, &flow), Err(Exclusion::Protocol(GRE)));
    }
}

#[test]
fn the_set_of_protocols_holds_each_number_apart() {
    for wanted in 0..=u8::MAX {
        let set: Protocols = [wanted].into_iter().collect();
        for asked in 0..=u8::MAX {
            assert_eq!(set.contains(asked), asked == wanted);
        }
    }
}

#[test]
fn a_zone_that_is_not_listed_is_left_out_whatever_its_direction() {
    let policy = filtered(|filters| filters.zones = vec![0, 7]);
    for dir in [ZoneDir::Both, ZoneDir::Orig, ZoneDir::Reply] {
        for mut flow in both_families(TCP) {
            assert_eq!(tracks(&policy, &flow), Ok(()));
            flow.zone = Zone { id: 7, dir };
            assert_eq!(tracks(&policy, &flow), Ok(()));
            flow.zone = Zone { id: 8, dir };
            assert_eq!(tracks(&policy, &flow), Err(Exclusion::Zone(8)));
        }
    }
}

#[test]
fn loopback_is_left_out() {
    let flow = flow(TCP, "127.0.0.1", "127.9.9.9");
    let end = ip("127.0.0.1");
    assert_eq!(
        tracks(&Policy::default(), &flow),
        Err(Exclusion::Loopback(end))
    );
    let flow = self::flow(TCP, "::1", "::1");
    let end = ip("::1");
    assert_eq!(
        tracks(&Policy::default(), &flow),
        Err(Exclusion::Loopback(end))
    );
    // Redirected to a proxy on this node.
    let mut flow = self::flow(TCP, "192.0.2.1", "198.51.100.7");
    flow.reply = Tuple::new(TCP, ip("127.0.0.1"), ip("192.0.2.1"), 3128, 40000);
    let end = ip("127.0.0.1");
    assert_eq!(
        tracks(&Policy::default(), &flow),
        Err(Exclusion::Loopback(end))
    );
}

#[test]
fn multicast_and_broadcast_are_left_out() {
    for group in ["224.0.0.18", "239.255.255.250", "255.255.255.255"] {
        let flow = flow(UDP, "192.0.2.1", group);
        let to = ip(group);
        assert_eq!(
            tracks(&Policy::default(), &flow),
            Err(Exclusion::Multicast(to))
        );
    }
    let flow = flow(UDP, "2001:db8::1", "ff02::fb");
    let to = ip("ff02::fb");
    assert_eq!(
        tracks(&Policy::default(), &flow),
        Err(Exclusion::Multicast(to))
    );
    let flow = self::flow(UDP, "192.0.2.1", "223.255.255.255");
    assert_eq!(tracks(&Policy::default(), &flow), Ok(()));
}

#[test]
fn what_this_node_originates_is_left_out_unless_wanted() {
    for (own, other) in [("10.0.0.1", "198.51.100.7"), ("fd00::1", "2001:db8::7")] {
        let flow = flow(TCP, own, other);
        let expected = Err(Exclusion::OwnSource(ip(own)));
        assert_eq!(tracks(&Policy::default(), &flow), expected);
        assert_eq!(
            tracks(&filtered(|filters| filters.own = true), &flow),
            Ok(())
        );
    }
}

#[test]
fn what_this_node_terminates_is_left_out_also_behind_a_translated_destination() {
    for (client, vip, own) in [
        ("192.0.2.1", "203.0.113.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8:1::1", "fd00::1"),
    ] {
        let mut flow = flow(TCP, client, vip);
        flow.reply = Tuple::new(TCP, ip(own), ip(client), 22, 40000);
        let expected = Err(Exclusion::OwnDestination(ip(own)));
        assert_eq!(tracks(&Policy::default(), &flow), expected);
        assert_eq!(
            tracks(&filtered(|filters| filters.own = true), &flow),
            Ok(())
        );
    }
}

#[test]
fn a_flow_masqueraded_to_an_own_address_replicates() {
    for (client, server, own) in [
        ("192.168.1.5", "198.51.100.7", "10.0.0.1"),
        ("fd01::5", "2001:db8::7", "fd00::1"),
    ] {
        let mut flow = flow(TCP, client, server);
        flow.reply = Tuple::new(TCP, ip(server), ip(own), 80, 50000);
        assert_eq!(tracks(&Policy::default(), &flow), Ok(()));
    }
}

#[test]
fn a_flow_to_an_own_address_that_goes_on_elsewhere_replicates() {
    // Port forwarding: the destination is ours, the server that answers is not.
    let mut flow = flow(TCP, "192.0.2.1", "10.0.0.1");
    flow.reply = Tuple::new(TCP, ip("192.168.1.80"), ip("192.0.2.1"), 80, 40000);
    assert_eq!(tracks(&Policy::default(), &flow), Ok(()));
}

#[test]
fn an_end_in_an_ignored_network_leaves_the_flow_out() {
    let policy = filtered(|filters| filters.ignore = networks());
    for (inside, outside) in [
        ("172.16.3.4", "192.0.2.1"),
        ("2001:db8:ffff::1", "2001:db8::1"),
    ] {
        let expected = Err(Exclusion::Ignored(ip(inside)));
        assert_eq!(tracks(&policy, &flow(TCP, inside, outside)), expected);
        assert_eq!(tracks(&policy, &flow(TCP, outside, inside)), expected);
        let mut answered = flow(TCP, outside, outside);
        answered.reply = Tuple::new(TCP, ip(inside), ip(outside), 80, 40000);
        assert_eq!(tracks(&policy, &answered), expected);
        assert_eq!(tracks(&policy, &flow(TCP, outside, outside)), Ok(()));
    }
}

#[test]
fn with_networks_given_one_end_must_be_inside() {
    let policy = filtered(|filters| filters.networks = Some(networks()));
    for (inside, outside) in [
        ("172.16.3.4", "192.0.2.1"),
        ("2001:db8:ffff::1", "2001:db8::1"),
    ] {
        assert_eq!(tracks(&policy, &flow(TCP, inside, outside)), Ok(()));
        assert_eq!(tracks(&policy, &flow(TCP, outside, inside)), Ok(()));
        let elsewhere = flow(TCP, outside, outside);
        assert_eq!(tracks(&policy, &elsewhere), Err(Exclusion::Elsewhere));
    }
}

#[test]
fn a_flow_replicates_once_it_is_confirmed() {
    for mut flow in both_families(TCP) {
        flow.status.0 &= !Status::CONFIRMED;
        for policy in [Policy::default(), Policy::Everything] {
            assert_eq!(policy.replicates(&flow, 0), Err(Exclusion::Unconfirmed));
        }
    }
}

#[test]
fn a_tcp_flow_replicates_from_established_on() {
    let policy = Policy::default();
    for state in 0..=u8::MAX {
        for mut flow in both_families(TCP) {
            flow.proto = tcp(state);
            let expected = match state {
                3..=8 => Ok(()),
                0..=2 | 9.. => Err(Exclusion::TcpState(state)),
            };
            assert_eq!(policy.replicates(&flow, 0), expected);
        }
    }
}

#[test]
fn listed_tcp_states_take_the_place_of_the_default() {
    let policy = filtered(|filters| filters.tcp_states = [TCP_SYN_RECV].into_iter().collect());
    for mut flow in both_families(TCP) {
        let expected = Err(Exclusion::TcpState(TCP_ESTABLISHED));
        assert_eq!(policy.replicates(&flow, 0), expected);
        flow.proto = tcp(TCP_SYN_RECV);
        assert_eq!(policy.replicates(&flow, 0), Ok(()));
    }
}

#[test]
fn other_protocols_replicate_when_assured() {
    let lenient = filtered(|filters| filters.assured = false);
    for protocol in [UDP, SCTP, GRE] {
        for mut flow in both_families(protocol) {
            if protocol == SCTP {
                flow.proto = ProtoInfo::Sctp(SctpInfo::default());
            }
            assert_eq!(Policy::default().replicates(&flow, 0), Ok(()));
            flow.status.0 &= !Status::ASSURED;
            let expected = Err(Exclusion::NotAssured);
            assert_eq!(Policy::default().replicates(&flow, 0), expected);
            assert_eq!(lenient.replicates(&flow, 0), Ok(()));
        }
    }
}

#[test]
fn a_tcp_flow_of_unknown_state_goes_by_assured() {
    for mut flow in both_families(TCP) {
        flow.proto = ProtoInfo::None;
        assert_eq!(Policy::default().replicates(&flow, 0), Ok(()));
        flow.status.0 &= !Status::ASSURED;
        let expected = Err(Exclusion::NotAssured);
        assert_eq!(Policy::default().replicates(&flow, 0), expected);
    }
}

#[test]
fn a_mark_must_fit_one_of_the_listed() {
    let policy = filtered(|filters| {
        filters.marks = vec![
            MarkMatch {
                value: 0x10,
                mask: 0xf0,
            },
            MarkMatch {
                value: 7,
                mask: u32::MAX,
            },
        ];
    });
    for mut flow in both_families(TCP) {
        for mark in [0x10, 0xabc1f, 7] {
            flow.mark = mark;
            assert_eq!(policy.replicates(&flow, 0), Ok(()));
        }
        for mark in [0, 0x20, 0x107] {
            flow.mark = mark;
            assert_eq!(policy.replicates(&flow, 0), Err(Exclusion::Mark(mark)));
        }
    }
}

#[test]
fn a_flow_replicates_once_it_has_the_age() {
    let policy = filtered(|filters| filters.min_age_secs = 5);
    for flow in both_families(TCP) {
        let expected = Err(Exclusion::TooYoung {
            age_secs: 4,
            min_age_secs: 5,
        });
        assert_eq!(policy.replicates(&flow, 4), expected);
        assert_eq!(policy.replicates(&flow, 5), Ok(()));
    }
}

#[test]
fn everything_means_everything_the_kernel_confirms() {
    let policy = Policy::Everything;
    let own = flow(UDP, "10.0.0.1", "224.0.0.1");
    let loopback = flow(TCP, "::1", "::1");
    for mut flow in [own, loopback] {
        assert_eq!(tracks(&policy, &flow), Ok(()));
        flow.proto = tcp(1);
        flow.status = Status(Status::CONFIRMED);
        assert_eq!(policy.replicates(&flow, 0), Ok(()));
    }
}

#[test]
fn the_reasons_read_as_the_end_of_a_sentence() {
    let own = Exclusion::OwnSource(ip("192.0.2.1"));
    assert_eq!(
        own.to_string(),
        "its source 192.0.2.1 is one of this node's own addresses"
    );
    assert_eq!(
        Exclusion::TcpState(1).to_string(),
        "its TCP state SYN_SENT is not in [replicate] tcp_states"
    );
    assert_eq!(
        Exclusion::Protocol(47).to_string(),
        "its protocol gre is not in [replicate] protocols"
    );
    assert_eq!(
        Exclusion::Protocol(50).to_string(),
        "its protocol 50 is not in [replicate] protocols"
    );
}

/// Asks with 10.0.0.1 and fd00::1 as this node's addresses.
fn tracks(policy: &Policy, flow: &Flow) -> Result<(), Exclusion> {
    let local = LocalAddresses::new(vec![ip("10.0.0.1"), ip("fd00::1")]);
    policy.tracks(flow, &local)
}

fn filtered(change: impl FnOnce(&mut Filters)) -> Policy {
    let mut filters = Filters::default();
    change(&mut filters);
    Policy::Filtered(filters)
}

fn networks() -> Networks {
    let v4 = |text: &str| text.parse().expect("a literal address");
    let v6 = |text: &str| text.parse().expect("a literal address");
    Networks::new(
        [(v4("172.16.0.0"), v4("172.31.255.255"))],
        [(v6("2001:db8:ffff::"), v6("2001:db8:ffff:ffff::"))],
    )
}

/// A flow that replicates by default, over IPv4 and over IPv6.
fn both_families(protocol: u8) -> [Flow; 2] {
    [
        flow(protocol, "192.0.2.1", "198.51.100.7"),
        flow(protocol, "2001:db8::1", "2001:db8::7"),
    ]
}

fn flow(protocol: u8, src: &str, dst: &str) -> Flow {
    let orig = Tuple::new(protocol, ip(src), ip(dst), 40000, 80);
    Flow {
        orig,
        reply: orig.inverse(),
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        proto: if protocol == TCP {
            tcp(TCP_ESTABLISHED)
        } else {
            ProtoInfo::None
        },
        ..Flow::default()
    }
}

fn tcp(state: u8) -> ProtoInfo {
    ProtoInfo::Tcp(TcpInfo {
        state,
        ..TcpInfo::default()
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}
