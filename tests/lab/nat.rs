//! Translated flows through a failover and back, seen by the peers and not by reading the table.
//!
//! The standby's rules translate nothing and accept nothing new: a packet passes there only within a
//! flow that the commit restored, and is translated only as that flow says.

mod talk;

use std::net::{IpAddr, SocketAddr};

use crate::cluster::Cluster;
use crate::harness::services::Link;
use crate::harness::topology::{Node, SERVER};
use crate::harness::{Context as _, Result, ensure, turn};
use crate::moves::{come_back, fail_over};
use talk::{End, Speech, Talk};

/// Faults told before a test gives up: each takes its time.
const FAULTS_MAX: usize = 5;

/// The client's addresses.
const CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:1::10"];
/// The firewalls' address on the inside.
const INSIDE: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];
/// The firewalls' address on the outside.
const OUTSIDE: [&str; 2] = ["198.51.100.1", "2001:db8:2::1"];
/// Addresses of the outside that nobody has: what is sent there is translated to the server.
const NOBODY: [[&str; 2]; 3] = [
    ["198.51.100.76", "2001:db8:2::76"],
    ["198.51.100.77", "2001:db8:2::77"],
    ["198.51.100.78", "2001:db8:2::78"],
];

/// The active's rules: what is done with a flow depends on the port that it calls, or for echo
/// requests on the address.
const ACTIVE: &str = r#"
flush ruleset
table inet firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname "eth0" oifname "eth1" accept
        ct status dnat accept
    }
    chain before {
        type nat hook prerouting priority dstnat;
        meta l4proto { tcp, udp } th dport 7004 dnat ip to 198.51.100.10:7104
        meta l4proto { tcp, udp } th dport 7004 dnat ip6 to [2001:db8:2::10]:7104
        meta l4proto { tcp, udp } th dport 7005 dnat ip to 198.51.100.10
        meta l4proto { tcp, udp } th dport 7005 dnat ip6 to 2001:db8:2::10
        meta l4proto { tcp, udp } th dport 7006 dnat ip to 198.51.100.10:7106
        meta l4proto { tcp, udp } th dport 7006 dnat ip6 to [2001:db8:2::10]:7106
        iifname "eth1" meta l4proto { tcp, udp } th dport 7007 dnat ip to 192.0.2.10:7107
        iifname "eth1" meta l4proto { tcp, udp } th dport 7007 dnat ip6 to [2001:db8:1::10]:7107
        iifname "eth1" meta l4proto { tcp, udp } th dport 7009 dnat ip to 192.0.2.10:7109
        iifname "eth1" meta l4proto { tcp, udp } th dport 7009 dnat ip6 to [2001:db8:1::10]:7109
        ip daddr { 198.51.100.76, 198.51.100.77, 198.51.100.78 } dnat ip to 198.51.100.10
        ip6 daddr { 2001:db8:2::76, 2001:db8:2::77, 2001:db8:2::78 } dnat ip6 to 2001:db8:2::10
    }
    chain after {
        type nat hook postrouting priority srcnat;
        meta l4proto { tcp, udp } th dport 7001 snat ip to 198.51.100.1
        meta l4proto { tcp, udp } th dport 7001 snat ip6 to 2001:db8:2::1
        meta l4proto { tcp, udp } th dport 7002 snat ip to 198.51.100.1:40000-40999
        meta l4proto { tcp, udp } th dport 7002 snat ip6 to [2001:db8:2::1]:40000-40999
        meta l4proto { tcp, udp } th dport 7003 masquerade
        meta l4proto { tcp, udp } th dport 7008 masquerade to :41000-41999
        meta l4proto { tcp, udp } th dport 7010 snat to :43000-43999
        meta l4proto { tcp, udp } th dport 7106 snat ip to 198.51.100.1:42000-42999
        meta l4proto { tcp, udp } th dport 7106 snat ip6 to [2001:db8:2::1]:42000-42999
        meta l4proto { tcp, udp } th dport 7109 snat ip to 192.0.2.1:44000-44999
        meta l4proto { tcp, udp } th dport 7109 snat ip6 to [2001:db8:1::1]:44000-44999
        meta l4proto icmp ct original ip daddr 198.51.100.10 snat ip to 198.51.100.1
        meta l4proto icmp ct original ip daddr 198.51.100.77 snat ip to 198.51.100.1 random
        meta l4proto icmp ct original ip daddr 198.51.100.78 masquerade
        icmpv6 type echo-request ct original ip6 daddr 2001:db8:2::10 snat ip6 to 2001:db8:2::1
        icmpv6 type echo-request ct original ip6 daddr 2001:db8:2::77 snat ip6 to 2001:db8:2::1 random
        icmpv6 type echo-request ct original ip6 daddr 2001:db8:2::78 masquerade
    }
}
"#;

/// The standby's rules. One chain of `type nat` must be there: without, the kernel translates
/// nothing, whatever a flow says.
const STANDBY: &str = r#"
flush ruleset
table inet firewall {
    counter invalid { }
    counter strange { }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid counter name invalid drop
        ct state established,related accept
        counter name strange
    }
    chain after { type nat hook postrouting priority srcnat; }
}
"#;

/// Whom the callee must see.
#[derive(Clone, Copy, Debug)]
struct Seen {
    addresses: [&'static str; 2],
    port: Port,
}

#[derive(Clone, Copy, Debug)]
enum Port {
    /// The caller's own.
    Same,
    /// Between two.
    Within(u16, u16),
    /// An id that is not the caller's own.
    Other,
}

/// A way of translation.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// Who calls: the client inside, or the server outside.
    caller: Caller,
    /// Address and port that are called.
    target: ([&'static str; 2], u16),
    /// Port at which the callee listens.
    listen: u16,
    seen: Seen,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Caller {
    Client,
    Server,
}

const PORTS: [Case; 11] = [
    outwards("no translation", SERVER, 7000, 7000, CLIENT, Port::Same),
    outwards(
        "SNAT of the address",
        SERVER,
        7001,
        7001,
        OUTSIDE,
        Port::Same,
    ),
    outwards(
        "SNAT",
        SERVER,
        7002,
        7002,
        OUTSIDE,
        Port::Within(40_000, 40_999),
    ),
    outwards("masquerade", SERVER, 7003, 7003, OUTSIDE, Port::Same),
    outwards(
        "masquerade to other ports",
        SERVER,
        7008,
        7008,
        OUTSIDE,
        Port::Within(41_000, 41_999),
    ),
    outwards(
        "SNAT of the port",
        SERVER,
        7010,
        7010,
        CLIENT,
        Port::Within(43_000, 43_999),
    ),
    outwards("DNAT", INSIDE, 7004, 7104, CLIENT, Port::Same),
    outwards(
        "DNAT of the address",
        INSIDE,
        7005,
        7005,
        CLIENT,
        Port::Same,
    ),
    outwards(
        "DNAT and SNAT",
        INSIDE,
        7006,
        7106,
        OUTSIDE,
        Port::Within(42_000, 42_999),
    ),
    inwards("DNAT from outside", 7007, 7107, SERVER, Port::Same),
    inwards(
        "DNAT and SNAT from outside",
        7009,
        7109,
        INSIDE,
        Port::Within(44_000, 44_999),
    ),
];

const ECHOES: [Case; 4] = [
    outwards("SNAT", SERVER, 0, 0, OUTSIDE, Port::Same),
    outwards("DNAT", NOBODY[0], 0, 0, CLIENT, Port::Same),
    outwards(
        "DNAT and SNAT to another id",
        NOBODY[1],
        0,
        0,
        OUTSIDE,
        Port::Other,
    ),
    outwards("DNAT and masquerade", NOBODY[2], 0, 0, OUTSIDE, Port::Same),
];

const fn outwards(
    name: &'static str,
    target: [&'static str; 2],
    port: u16,
    listen: u16,
    addresses: [&'static str; 2],
    seen: Port,
) -> Case {
    Case {
        name,
        caller: Caller::Client,
        target: (target, port),
        listen,
        seen: Seen {
            addresses,
            port: seen,
        },
    }
}

const fn inwards(
    name: &'static str,
    port: u16,
    listen: u16,
    addresses: [&'static str; 2],
    seen: Port,
) -> Case {
    Case {
        name,
        caller: Caller::Server,
        target: (OUTSIDE, port),
        listen,
        seen: Seen {
            addresses,
            port: seen,
        },
    }
}

#[test]
fn translated_flows_of_every_kind_go_on_through_a_failover_and_back() -> Result<()> {
    let name = "translated_flows_of_every_kind_go_on_through_a_failover_and_back";
    let Some(_turn) = turn(name) else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let lab = cluster.lab();
    prepare(&cluster)?;
    load(cluster.node(1), ACTIVE)?;
    load(cluster.node(2), STANDBY)?;
    cluster.daemon(1).ask(&["promote"])?;
    lab.give_addresses(cluster.node(1))?;
    lab.await_path()?;

    let mut talks = Vec::new();
    for (speech, cases) in [
        (Speech::Tcp, &PORTS[..]),
        (Speech::Udp, &PORTS),
        (Speech::Echo, &ECHOES),
    ] {
        for case in cases {
            for family in 0..2 {
                // One of them hears from its caller first after the failover, one from its callee.
                for first in [End::Caller, End::Callee] {
                    let name = format!(
                        "{speech:?}, IPv{}, {}, {first:?} first",
                        [4, 6][family],
                        case.name
                    );
                    let talk = start(&cluster, case, speech, family)
                        .with_context(|| format!("{name}: on the first firewall"))?;
                    talks.push((name, first, talk));
                }
            }
        }
    }
    cluster.await_replicas(2)?;

    fail_over(&cluster, 1, 2)?;
    go_on(&mut talks, "the second firewall")?;
    let rules = cluster
        .node(2)
        .namespace()
        .output("nft", &["list", "counters"])?;
    assert_eq!(
        rules.matches("packets 0 ").count(),
        2,
        "INVALID or unknown there:\n{rules}"
    );

    // The first firewall has entries of its own of all of them, which have not seen the last words.
    come_back(&cluster, 1, 2)?;
    load(cluster.node(1), STANDBY)?;
    fail_over(&cluster, 2, 1)?;
    go_on(&mut talks, "the first firewall again")?;
    let rules = cluster
        .node(1)
        .namespace()
        .output("nft", &["list", "counters"])?;
    assert_eq!(
        rules.matches("packets 0 ").count(),
        2,
        "INVALID or unknown there:\n{rules}"
    );
    Ok(())
}

/// Masquerading takes the first address of the interface: so that it is the virtual one, the
/// firewalls have no other on the outside. Both hosts have a way to the other's addresses.
fn prepare(cluster: &Cluster) -> Result<()> {
    for (node, last) in cluster.lab().nodes().iter().zip(2..) {
        node.namespace().ip(&format!(
            "address del 198.51.100.{last}/24 dev eth1\n\
             address del 2001:db8:2::{last}/64 dev eth1\n"
        ))?;
    }
    let (client, server) = (cluster.lab().client(), cluster.lab().server());
    server.ip("route add 192.0.2.0/24 via 198.51.100.1\n\
         route add 2001:db8:1::/64 via 2001:db8:2::1\n")?;
    client.sysctl(&[("net/ipv4/ping_group_range", "0 0")])
}

fn load(node: &Node, rules: &str) -> Result<()> {
    node.namespace().feed("nft", &["-f", "-"], rules)?;
    Ok(())
}

fn start(cluster: &Cluster, case: &Case, speech: Speech, family: usize) -> Result<Talk> {
    let ip = |texts: [&str; 2]| -> Result<IpAddr> { Ok(texts[family].parse()?) };
    let client = (cluster.lab().client(), ip(CLIENT)?);
    let server = (cluster.lab().server(), ip(SERVER)?);
    let (caller, callee) = match case.caller {
        Caller::Client => (client, server),
        Caller::Server => (server, client),
    };
    let listen = SocketAddr::new(callee.1, case.listen);
    let target = SocketAddr::new(ip(case.target.0)?, case.target.1);
    let talk = Talk::start(speech, caller, (callee.0, listen), target)?;
    let (seen, own) = (talk.seen(), talk.caller_port()?);
    let is_right = match case.seen.port {
        Port::Same => seen.port() == own,
        Port::Within(from, to) => (from..=to).contains(&seen.port()),
        Port::Other => seen.port() != own,
    };
    ensure!(
        is_right && seen.ip() == ip(case.seen.addresses)?,
        "the callee sees {seen} for port {own}"
    );
    Ok(talk)
}

/// Every flow says a word each way, and its callee sees the same caller as before.
fn go_on(talks: &mut [(String, End, Talk)], through: &str) -> Result<()> {
    let mut faults = Vec::new();
    for (name, first, talk) in talks.iter_mut() {
        if faults.len() == FAULTS_MAX {
            break;
        }
        let second = match first {
            End::Caller => End::Callee,
            End::Callee => End::Caller,
        };
        for end in [*first, second] {
            match talk.say(end) {
                Ok(seen) if seen == talk.seen() => {}
                Ok(seen) => faults.push(format!("{name}: {} became {seen}", talk.seen())),
                Err(error) => {
                    faults.push(format!("{name}: {error:#}"));
                    break;
                }
            }
        }
    }
    ensure!(
        faults.is_empty(),
        "through {through}, {} flows or more of {}:\n{}",
        faults.len(),
        talks.len(),
        faults.join("\n")
    );
    Ok(())
}
