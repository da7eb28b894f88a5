//! A flow lives as long as its owner says, whatever a standby's clock makes of its timeout.
//!
//! Packets refresh a flow's timeout in the kernel without an event. The owner says so again when
//! half of what it announced is over; and until it says that a flow has ended, nobody else lets it.

use std::time::{Duration, Instant};

use crate::cluster::{CONVERGE, Cluster};
use crate::harness::services::{Link, number};
use crate::harness::traffic::{Kind, Spec, Traffic};
use crate::harness::wait::await_until;
use crate::harness::{Result, ensure, turn};
use crate::moves::fail_over;

const STREAMS: usize = 6;

/// A first firewall that tracks streams which nothing but their packets keeps alive: the kernel gives
/// them `timeout` seconds.
fn start(timeout: &'static str, scrub_interval: &str) -> Result<(Cluster, Traffic)> {
    let more = format!("[kernel]\nscrub_interval = \"{scrub_interval}\"");
    let cluster = Cluster::start(2, Link::Multicast, &more)?;
    for node in cluster.lab().nodes() {
        node.namespace().sysctl(&[
            ("net/netfilter/nf_conntrack_udp_timeout", timeout),
            ("net/netfilter/nf_conntrack_udp_timeout_stream", timeout),
        ])?;
    }
    cluster.daemon(1).ask(&["promote"])?;
    cluster.lab().give_addresses(cluster.node(1))?;
    cluster.lab().await_path()?;
    let spec = Spec {
        kind: Kind::Udp,
        connections: STREAMS,
        every: Duration::from_millis(100),
    };
    let traffic = Traffic::start(cluster.lab(), spec)?;
    // The last event of a stream: ASSURED, two seconds after its first packet.
    await_until("the standby holds the streams", CONVERGE, || {
        let left = left_of_streams(&cluster, true)?;
        Ok(left.len() == STREAMS)
    })?;
    Ok((cluster, traffic))
}

/// What is left of each stream by the clock of the standby.
fn left_of_streams(cluster: &Cluster, assured_only: bool) -> Result<Vec<u64>> {
    let table = cluster.replica(2)?;
    let streams = table.values().filter(|entry| {
        entry.key.starts_with("udp ")
            && entry.key.contains("dport=7000")
            && (!assured_only || entry.rest.contains("[ASSURED]"))
    });
    Ok(streams.map(|entry| entry.timeout).collect())
}

#[test]
fn a_stream_that_is_only_refreshed_is_announced_before_its_time_is_over() -> Result<()> {
    let name = "a_stream_that_is_only_refreshed_is_announced_before_its_time_is_over";
    let Some(_turn) = turn(name) else {
        return Ok(());
    };
    // Listings every 5 s: one comes in the second half of any timeout of 16 s.
    let (cluster, traffic) = start("16", "5s")?;
    let began = Instant::now();
    let mut least = u64::MAX;
    await_until("a timeout is over", Duration::from_secs(60), || {
        let left = left_of_streams(&cluster, false)?;
        ensure!(
            left.len() == STREAMS,
            "the standby holds {} streams",
            left.len()
        );
        least = least.min(left.into_iter().min().unwrap_or(0));
        Ok(began.elapsed() > Duration::from_secs(18))
    })?;
    ensure!(least > 0, "a stream's time was over on the standby");
    ensure!(traffic.ended() == 0, "the streams run");
    Ok(())
}

#[test]
fn a_standby_keeps_and_restores_what_its_own_clock_says_is_over() -> Result<()> {
    let name = "a_standby_keeps_and_restores_what_its_own_clock_says_is_over";
    let Some(_turn) = turn(name) else {
        return Ok(());
    };
    // No listing comes, so the owner does not know either that packets refresh the streams.
    let (cluster, traffic) = start("4", "1h")?;
    await_until("their time is over", Duration::from_secs(20), || {
        let left = left_of_streams(&cluster, false)?;
        ensure!(
            left.len() == STREAMS,
            "the standby holds {} streams",
            left.len()
        );
        Ok(left.iter().all(|&left| left == 0))
    })?;
    fail_over(&cluster, 1, 2)?;
    traffic.mark();
    let status = cluster.daemon(2).status()?;
    ensure!(number(&status, "/commit/expired")? == 0, "{status}");
    let streams = u64::try_from(STREAMS)?;
    ensure!(number(&status, "/commit/created")? >= streams, "{status}");
    let outcome = traffic.settle(Duration::from_secs(8))?;
    ensure!(outcome.alive == STREAMS, "{outcome:?}");
    Ok(())
}
