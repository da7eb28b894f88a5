//! A daemon that was killed comes back, on either side, and no flow that ended meanwhile stays.

use crate::cluster::Cluster;
use crate::harness::services::Link;
use crate::harness::{Result, bulk, turn};

#[test]
fn killed_sender_comes_back_without_ghosts() -> Result<()> {
    let Some(_turn) = turn("killed_sender_comes_back_without_ghosts") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(2, Link::Multicast, "")?;
    bulk::create(cluster.node(1).namespace(), 1, 3_000)?;
    cluster.await_replicas(2)?;
    cluster.kill_daemon(1)?;
    let held = cluster.daemon(2).replica_flows("fw1")?;
    assert_eq!(held, 3_000, "a lost peer's flows are what a replica is for");

    bulk::delete(cluster.node(1).namespace(), 1, 2_000)?;
    bulk::create(cluster.node(1).namespace(), 2, 500)?;
    cluster.start_daemon(1)?;
    cluster.await_sessions()?;
    cluster.await_replicas(2)?;
    cluster.await_mirror(1, Some(2))?;
    assert_eq!(cluster.daemon(2).replica_flows("fw1")?, 1_500);
    Ok(())
}

#[test]
fn killed_receiver_comes_back_and_is_filled() -> Result<()> {
    let Some(_turn) = turn("killed_receiver_comes_back_and_is_filled") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(2, Link::Multicast, "")?;
    bulk::create(cluster.node(1).namespace(), 1, 3_000)?;
    cluster.await_replicas(2)?;
    cluster.kill_daemon(2)?;
    bulk::delete(cluster.node(1).namespace(), 1, 1_000)?;
    cluster.start_daemon(2)?;
    cluster.await_sessions()?;
    cluster.await_replicas(2)?;
    assert_eq!(cluster.daemon(2).replica_flows("fw1")?, 2_000);
    Ok(())
}

#[test]
fn both_killed_at_once_come_back() -> Result<()> {
    let Some(_turn) = turn("both_killed_at_once_come_back") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(2, Link::Multicast, "")?;
    bulk::create(cluster.node(1).namespace(), 1, 1_000)?;
    bulk::create(cluster.node(2).namespace(), 2, 1_000)?;
    cluster.await_replicas(2)?;
    cluster.kill_daemon(1)?;
    cluster.kill_daemon(2)?;
    bulk::delete(cluster.node(1).namespace(), 1, 500)?;
    cluster.start_daemon(2)?;
    cluster.start_daemon(1)?;
    cluster.await_sessions()?;
    cluster.await_replicas(1)?;
    cluster.await_replicas(2)?;
    assert_eq!(cluster.daemon(2).replica_flows("fw1")?, 500);
    Ok(())
}
