//! TCP at full speed, with windows far larger than 64 KiB, through failovers back and forth.
//!
//! What a failover asks of a restored flow is the worst that a window tracker meets: everything that
//! was in flight is lost, the oldest hole is sent again first, and the acknowledgment that follows
//! jumps over all that the other firewall had forwarded. `tcp_loose` is 0, and what the tracker
//! calls invalid is dropped and counted.

mod stream;

use std::time::{Duration, Instant};

use ctsyncd::flow::ProtoInfo;

use crate::cluster::Cluster;
use crate::harness::netlink;
use crate::harness::services::Link;
use crate::harness::topology::Node;
use crate::harness::wait::{await_some, await_until, pass};
use crate::harness::{Context as _, Result, ensure, turn};
use crate::moves::{come_back, fail_over};
use stream::{Streams, Way};

/// Failovers in a row.
const FAILOVERS: usize = 6;
/// The time over which a throughput is measured.
const SECOND: Duration = Duration::from_secs(1);
/// So many seconds are looked at after a move.
const SECONDS: u32 = 3;
const LIMIT: Duration = Duration::from_secs(10);
/// Every connection goes on within this.
const GO_ON: Duration = Duration::from_secs(6);

/// Ten connections: up, down, and both ways at once; over IPv4 and IPv6.
const CONNECTIONS: [&[Way]; 10] = [
    &[Way::Up],
    &[Way::Up],
    &[Way::Down],
    &[Way::Down],
    &[Way::Up, Way::Down],
    &[Way::Up, Way::Down],
    &[Way::Up],
    &[Way::Down],
    &[Way::Up, Way::Down],
    &[Way::Up, Way::Down],
];

/// A queue that makes the windows large, up to 150 ms of what the line carries, and loses what is
/// beyond. It is behind the firewalls: what one has forwarded still arrives when the other has taken
/// over.
const QUEUE: &str = "tbf rate 64mbit burst 16k latency 150ms";

const RULES: &str = "
flush ruleset
table inet firewall {
    counter invalid { }
    chain seen {
        type filter hook prerouting priority filter;
        ct state invalid counter name invalid drop
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname eth0 oifname eth1 ct state new accept
    }
    chain nat {
        type nat hook postrouting priority srcnat;
        oifname eth1 ip saddr 192.0.2.0/24 snat ip to 198.51.100.1
        oifname eth1 ip6 saddr 2001:db8:1::/64 snat ip6 to 2001:db8:2::1
    }
}
";

#[test]
fn bulk_transfers_go_on_at_full_speed_through_failovers_in_a_row() -> Result<()> {
    let name = "bulk_transfers_go_on_at_full_speed_through_failovers_in_a_row";
    let Some(_turn) = turn(name) else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    prepare(&cluster)?;
    cluster.daemon(1).ask(&["promote"])?;
    cluster.lab().give_addresses(cluster.node(1))?;
    cluster.lab().await_path()?;
    let streams = Streams::start(cluster.lab(), &CONNECTIONS)?;
    await_until("bytes arrive everywhere", LIMIT, || {
        Ok(streams.stuck(&[200_000; 20]).is_empty())
    })?;
    assert_scaled(&cluster)?;
    cluster.await_replicas(2)?;

    let (mut active, mut standby) = (1, 2);
    for round in 1..=FAILOVERS {
        pass(SECOND)?;
        let began = Instant::now();
        let before = streams.arrived(began - SECOND, began);
        let invalid = invalid_packets(cluster.node(standby))?;
        fail_over(&cluster, active, standby)?;
        let moved = Instant::now();
        let then = streams.progress();
        let back = await_some("bytes arrive again both ways", LIMIT, || {
            Ok(streams.went_on(moved))
        })
        .with_context(|| format!("failover {round}: {:?}", streams.stuck(&then)))?;
        let after = full_speed(&streams, back, before)?;
        let on = await_until("every connection goes on", GO_ON, || {
            Ok(streams.stuck(&then).is_empty())
        });
        let stuck = streams.stuck(&then);
        let invalid = invalid_packets(cluster.node(standby))? - invalid;
        let told = format!(
            "failover {round}: moved in {:?}, back after {:?}; bytes in a second, up and down: \
             before {before:?}, after {after:?}; {invalid} invalid",
            moved - began,
            back - began
        );
        println!("{told}");
        ensure!(on.is_ok() && stuck.is_empty(), "{told}: {stuck:?}");
        ensure!(is_full(before, after), "{told}");
        ensure!(invalid == 0, "{told}");
        come_back(&cluster, active, standby)?;
        (active, standby) = (standby, active);
    }
    Ok(())
}

/// What arrives in the second after `back`. On a machine that was busy with something else in that
/// second, in one of the next.
fn full_speed(streams: &Streams, back: Instant, before: [u64; 2]) -> Result<[u64; 2]> {
    let mut after = [0; 2];
    for second in 1..=SECONDS {
        let end = back + SECOND * second;
        pass(end.saturating_duration_since(Instant::now()))?;
        after = streams.arrived(end - SECOND, end);
        if is_full(before, after) {
            break;
        }
        println!("second {second} after the move: {after:?}");
    }
    Ok(after)
}

/// At least half of before, both ways.
fn is_full(before: [u64; 2], after: [u64; 2]) -> bool {
    (0..2).all(|way| after[way] * 2 >= before[way])
}

/// The rules and the queues.
fn prepare(cluster: &Cluster) -> Result<()> {
    for node in cluster.lab().nodes() {
        node.namespace().feed("nft", &["-f", "-"], RULES)?;
    }
    for port in ["client", "server"] {
        cluster.lab().queue(port, QUEUE)?;
    }
    // Linux's own timer: the laboratory's route makes the client patient.
    cluster
        .lab()
        .client()
        .ip("route replace default via 192.0.2.1\n\
         route replace default via 2001:db8:1::1\n")
}

/// Without scales a window would fit into 64 KiB, and none of this would mean anything.
fn assert_scaled(cluster: &Cluster) -> Result<()> {
    let flows = netlink::flows(cluster.node(1).namespace())?;
    let scaled = flows.iter().filter(|event| match event.flow.proto {
        ProtoInfo::Tcp(info) => info.wscale_orig > 0 && info.wscale_reply > 0,
        ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => false,
    });
    let scaled = scaled.count();
    ensure!(scaled >= CONNECTIONS.len(), "{scaled} flows have scales");
    Ok(())
}

fn invalid_packets(node: &Node) -> Result<u64> {
    let text = node
        .namespace()
        .output("nft", &["list", "counter", "inet", "firewall", "invalid"])?;
    let packets = text
        .split_once("packets ")
        .and_then(|(_, rest)| rest.split(' ').next());
    Ok(packets.context("a counter")?.parse()?)
}
