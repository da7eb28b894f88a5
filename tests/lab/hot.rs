//! Hot standby on the real kernel: the standby's table is the active's, all along.

use std::time::Instant;

use serde_json::Value;

use crate::cluster::{CONVERGE, Cluster};
use crate::failover::{LIMIT, Pair, assert_all_alive};
use crate::harness::process::Process;
use crate::harness::services::{Link, Notify, number};
use crate::harness::table::kernel;
use crate::harness::wait::await_until;
use crate::harness::{Result, bulk, ensure, turn};

/// What turns it on.
const HOT: &str = "[standby]\nmode = \"hot\"\n";

/// Two nodes in hot standby, fw1 active by hand.
fn pair() -> Result<Cluster> {
    let cluster = Cluster::start(2, Link::Multicast, HOT)?;
    cluster.daemon(1).ask(&["promote"])?;
    Ok(cluster)
}

/// Waits until the kernel of `standby` holds what `active` tracks, and both say that all is well.
fn await_copies(cluster: &Cluster, active: usize, standby: usize) -> Result<()> {
    let (of_active, of_standby) = (cluster.node(active), cluster.node(standby));
    await_until("the standby's kernel holds the flows", CONVERGE, || {
        let flows = kernel(of_active.namespace())?;
        let copies = kernel(of_standby.namespace())?;
        let is_there = |key: &String| copies.contains_key(key);
        let status = cluster.daemon(standby).status()?;
        let is_ready = status["ready"] == true && status["hot"]["complete"] == true;
        Ok(flows.keys().all(is_there) && is_ready)
    })
}

/// `/hot/…` of a status.
fn hot(status: &Value, counter: &str) -> Result<u64> {
    number(status, &format!("/hot/{counter}"))
}

#[test]
fn hot_standby_holds_the_flows_and_follows_their_ends() -> Result<()> {
    let Some(_turn) = turn("hot_standby_holds_the_flows_and_follows_their_ends") else {
        return Ok(());
    };
    let cluster = pair()?;
    bulk::create(cluster.node(1).namespace(), 1, 2_000)?;
    await_copies(&cluster, 1, 2)?;
    let status = cluster.daemon(2).status()?;
    ensure!(hot(&status, "flows")? == 2_000, "all are copies: {status}");
    ensure!(
        number(&status, "/local/flows")? == 0,
        "none is told as fw2's own: {status}"
    );
    ensure!(
        number(&status, "/kernel/echoes")? >= 2_000,
        "the echoes were seen: {status}"
    );
    bulk::delete(cluster.node(1).namespace(), 1, 2_000)?;
    await_until("the copies are gone", CONVERGE, || {
        Ok(cluster.node(2).namespace().flow_count()? == 0)
    })?;
    let status = cluster.daemon(2).status()?;
    ensure!(hot(&status, "flows")? == 0, "{status}");
    Ok(())
}

#[test]
fn hot_promotion_is_a_change_of_role() -> Result<()> {
    let Some(_turn) = turn("hot_promotion_is_a_change_of_role") else {
        return Ok(());
    };
    let cluster = pair()?;
    bulk::create(cluster.node(1).namespace(), 1, 20_000)?;
    await_copies(&cluster, 1, 2)?;
    let events = events_of(&cluster, 2)?;
    cluster.daemon(1).ask(&["demote"])?;
    let began = Instant::now();
    cluster.daemon(2).ask(&["promote"])?;
    let took = began.elapsed();
    let status = cluster.daemon(2).status()?;
    ensure!(status["role"] == "active", "{status}");
    await_until("the flows are fw2's own", CONVERGE, || {
        let status = cluster.daemon(2).status()?;
        Ok(number(&status, "/local/flows")? == 20_000 && hot(&status, "flows")? == 0)
    })?;
    await_copies(&cluster, 2, 1)?;
    let written = events.lines().len();
    ensure!(written < 10, "nothing was left to write: {written} lines");
    let _ = took;
    Ok(())
}

/// The events of a node's kernel from now on.
fn events_of(cluster: &Cluster, index: usize) -> Result<Process> {
    let node = cluster.node(index).namespace();
    Process::start("conntrack -E", node.command("conntrack").arg("-E"))
}

#[test]
fn a_restarted_hot_standby_takes_its_copies_for_what_they_are() -> Result<()> {
    let Some(_turn) = turn("a_restarted_hot_standby_takes_its_copies_for_what_they_are") else {
        return Ok(());
    };
    let mut cluster = pair()?;
    bulk::create(cluster.node(1).namespace(), 1, 1_000)?;
    await_copies(&cluster, 1, 2)?;
    cluster.kill_daemon(2)?;
    cluster.start_daemon(2)?;
    cluster.await_sessions()?;
    await_until("they are copies again", CONVERGE, || {
        let status = cluster.daemon(2).status()?;
        Ok(hot(&status, "flows")? == 1_000)
    })?;
    let status = cluster.daemon(2).status()?;
    ensure!(hot(&status, "created")? == 0, "{status}");
    ensure!(number(&status, "/local/flows")? == 0, "{status}");
    ensure!(cluster.daemon(1).replica_flows("fw2")? == 0, "{status}");
    Ok(())
}

#[test]
fn a_copy_that_is_deleted_here_is_created_again() -> Result<()> {
    let Some(_turn) = turn("a_copy_that_is_deleted_here_is_created_again") else {
        return Ok(());
    };
    let cluster = pair()?;
    bulk::create(cluster.node(1).namespace(), 1, 500)?;
    await_copies(&cluster, 1, 2)?;
    cluster
        .node(2)
        .namespace()
        .output("conntrack", &["-D", "-p", "tcp"])?;
    await_until("they are back", CONVERGE, || {
        Ok(cluster.node(2).namespace().flow_count()? == 500)
    })?;
    ensure!(
        cluster.daemon(1).local_flows()? == 500,
        "the owner has them"
    );
    Ok(())
}

#[test]
fn hot_failover_and_failback_keep_every_connection() -> Result<()> {
    let Some(_turn) = turn("hot_failover_and_failback_keep_every_connection") else {
        return Ok(());
    };
    let pair = Pair::start_with(Notify::Ctsyncd, HOT)?;
    for round in 0..4 {
        let (active, standby) = (1 + round % 2, 2 - round % 2);
        await_copies(&pair.cluster, active, standby)?;
        let outcome = pair.cut(active)?;
        assert_all_alive(&outcome, &pair);
        let status = pair.cluster.daemon(standby).status()?;
        ensure!(status["role"] == "active", "{status}");
        pair.cluster.lab().heal(pair.cluster.node(active))?;
        await_until("the other is standby", LIMIT, || {
            let node = pair.cluster.node(active);
            let status = pair.cluster.daemon(active).status()?;
            Ok(status["role"] == "standby" && !node.has_address()?)
        })?;
        pair.await_standby(standby, active)?;
    }
    Ok(())
}
