//! Events that the kernel had to drop are made good by a listing.

use std::time::Duration;

use crate::cluster::{CONVERGE, Cluster};
use crate::harness::services::{Link, number};
use crate::harness::wait::await_until;
use crate::harness::{Result, bulk, ensure, turn};

/// Flows of a burst, each an event of 1,280 bytes: far more than the small buffer holds.
const BURST: u32 = 20_000;
/// Bursts tried: a daemon that keeps up with one may be busy during the next.
const BURSTS: u8 = 20;

#[test]
fn forced_overrun_heals_on_both_nodes() -> Result<()> {
    let Some(_turn) = turn("forced_overrun_heals_on_both_nodes") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "[kernel]\nevent_buffer = \"64KiB\"\n")?;
    let node = cluster.node(1).namespace();
    let overruns = || number(&cluster.daemon(1).status()?, "/kernel/overruns");
    for burst in 0..BURSTS {
        bulk::create(node, burst, BURST)?;
        if overruns()? > 0 {
            break;
        }
        bulk::delete(node, burst, BURST)?;
    }
    await_until("the overrun is noticed", Duration::from_secs(5), || {
        Ok(overruns()? > 0)
    })?;

    let in_kernel = node.flow_count()?;
    await_until("the cache is whole again", CONVERGE, || {
        let status = cluster.daemon(1).status()?;
        let clean = status["kernel"]["dirty"] == false;
        Ok(clean && number(&status, "/local/flows")? == node.flow_count()?)
    })?;
    ensure!(in_kernel >= u64::from(BURST), "a burst stands: {in_kernel}");
    cluster.await_mirror(1, None)?;
    cluster.await_replicas(2)
}

#[test]
fn flows_that_ended_during_an_overrun_are_not_kept() -> Result<()> {
    let Some(_turn) = turn("flows_that_ended_during_an_overrun_are_not_kept") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "[kernel]\nevent_buffer = \"64KiB\"\n")?;
    let node = cluster.node(1).namespace();
    for burst in 0..3 {
        bulk::create(node, burst, BURST)?;
        bulk::delete(node, burst, BURST)?;
    }
    bulk::create(node, 100, 50)?;
    cluster.await_mirror(1, None)?;
    cluster.await_replicas(2)?;
    assert!(cluster.replica(2)?.len() < 100);
    Ok(())
}
