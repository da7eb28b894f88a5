//! What the active tracks is what the others hold, over every kind of link.

use std::time::Duration;

use crate::cluster::{CONVERGE, Cluster};
use crate::harness::services::Link;
use crate::harness::traffic::{Kind, Spec, Traffic};
use crate::harness::wait::await_until;
use crate::harness::{Result, bulk, turn};
use crate::mix;

fn replica_follows(test: &str, link: Link) -> Result<()> {
    let Some(_turn) = turn(test) else {
        return Ok(());
    };
    let cluster = Cluster::start(2, link, "")?;
    mix::by_hand(cluster.node(1))?;
    bulk::create(cluster.node(1).namespace(), 1, 5_000)?;
    cluster.await_replicas(2)?;
    assert!(cluster.replica(2)?.len() >= 5_000 + mix::BY_HAND_COUNT);
    bulk::delete(cluster.node(1).namespace(), 1, 4_000)?;
    cluster.await_replicas(2)?;
    assert!(cluster.replica(2)?.len() < 2_000);
    Ok(())
}

#[test]
fn replica_equals_the_local_cache_over_ipv4_multicast() -> Result<()> {
    replica_follows(
        "replica_equals_the_local_cache_over_ipv4_multicast",
        Link::Multicast,
    )
}

#[test]
fn replica_equals_the_local_cache_over_ipv6_multicast() -> Result<()> {
    replica_follows(
        "replica_equals_the_local_cache_over_ipv6_multicast",
        Link::Multicast6,
    )
}

#[test]
fn replica_equals_the_local_cache_over_ipv4_unicast() -> Result<()> {
    replica_follows(
        "replica_equals_the_local_cache_over_ipv4_unicast",
        Link::Unicast,
    )
}

#[test]
fn replica_equals_the_local_cache_over_ipv6_unicast() -> Result<()> {
    replica_follows(
        "replica_equals_the_local_cache_over_ipv6_unicast",
        Link::Unicast6,
    )
}

#[test]
fn replica_equals_the_local_cache_under_real_traffic() -> Result<()> {
    let Some(_turn) = turn("replica_equals_the_local_cache_under_real_traffic") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let lab = cluster.lab();
    cluster.lab().nodes().iter().try_for_each(mix::add_rules)?;
    lab.give_addresses(cluster.node(1))?;
    lab.await_path()?;
    let traffic = Traffic::start(
        lab,
        Spec {
            kind: Kind::Tcp,
            connections: 100,
            every: Duration::from_millis(50),
        },
    )?;
    let _ftp = mix::Ftp::open(lab)?;
    cluster.await_replicas(2)?;
    assert!(cluster.replica(2)?.len() >= 100);
    drop(traffic);
    // The ends closed: FIN_WAIT, LAST_ACK, TIME_WAIT follow each other, and the replica follows.
    cluster.await_replicas(2)
}

#[test]
fn each_of_three_nodes_holds_everything_of_the_other_two() -> Result<()> {
    let Some(_turn) = turn("each_of_three_nodes_holds_everything_of_the_other_two") else {
        return Ok(());
    };
    let cluster = Cluster::start(3, Link::Multicast, "")?;
    for (index, count) in [(1, 3_000), (2, 2_000), (3, 1_000)] {
        let network = u8::try_from(index)?;
        bulk::create(cluster.node(index).namespace(), network, count)?;
    }
    for holder in 1..=3 {
        cluster.await_replicas(holder)?;
    }
    assert!(cluster.replica(1)?.len() >= 3_000);
    assert!(cluster.replica(3)?.len() >= 5_000);
    bulk::delete(cluster.node(2).namespace(), 2, 1_500)?;
    for holder in 1..=3 {
        cluster.await_replicas(holder)?;
    }
    assert!(cluster.replica(3)?.len() < 4_000);
    Ok(())
}

#[test]
fn a_pulled_sync_cable_heals() -> Result<()> {
    let Some(_turn) = turn("a_pulled_sync_cable_heals") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let node = cluster.node(1);
    bulk::create(node.namespace(), 1, 2_000)?;
    cluster.await_replicas(2)?;
    cluster.lab().sync_cable(node, "down")?;
    await_until("the silence is noticed", CONVERGE, || {
        let status = cluster.daemon(2).status()?;
        Ok(status["peers"][0]["state"] == "silent")
    })?;
    bulk::delete(node.namespace(), 1, 1_000)?;
    bulk::create(node.namespace(), 2, 2_000)?;
    let held = cluster.daemon(2).replica_flows("fw1")?;
    assert_eq!(held, 2_000, "a silent peer's flows are kept");
    cluster.lab().sync_cable(node, "up")?;
    cluster.await_sessions()?;
    cluster.await_replicas(2)
}
