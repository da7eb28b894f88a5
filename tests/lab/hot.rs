//! Hot standby on the real kernel: the standby's table is the active's, all along.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{CONVERGE, Cluster};
use crate::failover::{LIMIT, Pair, assert_all_alive};
use crate::harness::process::Process;
use crate::harness::services::{Link, Notify, number};
use crate::harness::table::kernel;
use crate::harness::traffic::{Kind, Spec, Traffic};
use crate::harness::wait::{await_until, pass};
use crate::harness::{Context as _, Result, bulk, ensure, turn};

/// What turns it on.
const HOT: &str = "[standby]\nmode = \"hot\"\n";

/// A node that was demoted is ready when the new active has been so for ten seconds.
const SETTLE: Duration = Duration::from_secs(30);

/// Two nodes in hot standby, fw1 active by hand.
fn pair() -> Result<Cluster> {
    let cluster = Cluster::start(2, Link::Multicast, HOT)?;
    cluster.daemon(1).ask(&["promote"])?;
    Ok(cluster)
}

/// Waits until the kernel of `standby` holds what `active` tracks, and both say that all is well.
fn await_copies(cluster: &Cluster, active: usize, standby: usize) -> Result<()> {
    let (of_active, of_standby) = (cluster.node(active), cluster.node(standby));
    await_until("the standby's kernel holds the flows", SETTLE, || {
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
    cluster.daemon(2).ask(&["promote"])?;
    let status = cluster.daemon(2).status()?;
    ensure!(status["role"] == "active", "{status}");
    await_until("the flows are fw2's own", CONVERGE, || {
        let status = cluster.daemon(2).status()?;
        Ok(number(&status, "/local/flows")? == 20_000 && hot(&status, "flows")? == 0)
    })?;
    await_copies(&cluster, 2, 1)?;
    let written = events.lines().len();
    ensure!(written < 10, "nothing was left to write: {written} lines");
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
    let pair = Pair::start_with(Notify::Ctsyncd, HOT, |_| Ok(()))?;
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

#[test]
fn copies_of_streams_get_their_time_back() -> Result<()> {
    let Some(_turn) = turn("copies_of_streams_get_their_time_back") else {
        return Ok(());
    };
    let cluster = pair()?;
    cluster.lab().give_addresses(cluster.node(1))?;
    cluster.lab().await_path()?;
    let spec = Spec {
        kind: Kind::Udp,
        connections: 20,
        every: Duration::from_millis(50),
    };
    let traffic = Traffic::start(cluster.lab(), spec)?;
    await_copies(&cluster, 1, 2)?;
    // As if we had come late: two seconds are left of what no event will tell again.
    let standby = cluster.node(2).namespace();
    for family in ["ipv4", "ipv6"] {
        standby.output("conntrack", &["-U", "-f", family, "-p", "udp", "-t", "2"])?;
    }
    pass(Duration::from_secs(4))?;
    let flows = kernel(cluster.node(1).namespace())?;
    let copies = kernel(standby)?;
    for key in flows.keys().filter(|key| key.contains("udp")) {
        let copy = copies.get(key).with_context(|| format!("fw2 has {key}"))?;
        ensure!(copy.timeout > 200, "{copy:?}");
    }
    ensure!(traffic.talking() == 20, "the streams go on");
    Ok(())
}

#[test]
fn asymmetric_paths_through_two_actives_carry_connections() -> Result<()> {
    let Some(_turn) = turn("asymmetric_paths_through_two_actives_carry_connections") else {
        return Ok(());
    };
    let cluster = pair()?;
    cluster.daemon(2).ask(&["promote"])?;
    // What the client sends goes through fw1, what the server answers comes back through fw2.
    cluster
        .node(1)
        .namespace()
        .ip("address add 192.0.2.1/24 dev eth0\n\
         address add 2001:db8:1::1/64 dev eth0 nodad\n")?;
    cluster
        .node(2)
        .namespace()
        .ip("address add 198.51.100.1/24 dev eth1\n\
         address add 2001:db8:2::1/64 dev eth1 nodad\n")?;
    let spec = |kind| Spec {
        kind,
        connections: 20,
        every: Duration::from_millis(50),
    };
    let tcp = Traffic::start(cluster.lab(), spec(Kind::Tcp))?;
    let udp = Traffic::start(cluster.lab(), spec(Kind::Udp))?;
    await_until("all are answered", LIMIT, || {
        Ok(tcp.talking() == 20 && udp.talking() == 20)
    })?;
    let updates = || -> Result<u64> {
        let of = |index| hot(&cluster.daemon(index).status()?, "updated");
        Ok(of(1)? + of(2)?)
    };
    // Nothing changes any more, so the nodes have nothing to write into each other's flows.
    pass(Duration::from_secs(2))?;
    let before = updates()?;
    pass(Duration::from_secs(3))?;
    let written = updates()? - before;
    ensure!(
        written <= 4,
        "{written} updates of flows that do not change"
    );
    ensure!(tcp.talking() == 20 && udp.talking() == 20, "they go on");
    // Each of the two can carry them alone.
    cluster
        .node(2)
        .namespace()
        .ip("address del 198.51.100.1/24 dev eth1\n\
         address del 2001:db8:2::1/64 dev eth1\n")?;
    cluster
        .node(1)
        .namespace()
        .ip("address add 198.51.100.1/24 dev eth1\n\
         address add 2001:db8:2::1/64 dev eth1 nodad\n")?;
    tcp.mark();
    let outcome = tcp.settle(Duration::from_secs(8))?;
    ensure!(outcome.alive == 20, "{outcome:?}");
    Ok(())
}

/// Time of a promotion, and what a standby costs while flows come and go. `FLOWS=200000 cargo test
/// --test lab -- --ignored --nocapture hot_numbers`
#[test]
#[ignore = "measures"]
fn hot_numbers() -> Result<()> {
    let Some(_turn) = turn("hot_numbers") else {
        return Ok(());
    };
    let flows: u32 = std::env::var("FLOWS").map_or(Ok(20_000), |flows| flows.parse())?;
    let cluster = pair()?;
    let began = Instant::now();
    bulk::create(cluster.node(1).namespace(), 1, flows)?;
    let limit = Duration::from_secs(120);
    let standby = cluster.daemon(2);
    await_until("the copies are there", limit, || {
        let status = standby.status()?;
        Ok(hot(&status, "flows")? == u64::from(flows) && status["ready"] == true)
    })?;
    eprintln!("{flows} flows, made and copied: {:?}", began.elapsed());

    let cpu = || cpu_seconds(standby.process().id());
    let (cpu_before, began) = (cpu()?, Instant::now());
    let mut made = 0;
    while began.elapsed() < Duration::from_secs(10) {
        let until = began + Duration::from_millis(200) * (made / 1_000);
        pass(until.saturating_duration_since(Instant::now()))?;
        bulk::create(cluster.node(1).namespace(), 2, 1_000)?;
        bulk::delete(cluster.node(1).namespace(), 2, 1_000)?;
        made += 1_000;
    }
    let (took, used) = (began.elapsed().as_secs_f64(), cpu()? - cpu_before);
    eprintln!(
        "{:.0} flows/s come and go: the standby uses {:.1} % of a core",
        f64::from(made) / took,
        100.0 * used / took
    );

    await_copies(&cluster, 1, 2).or_else(|_| await_copies(&cluster, 1, 2))?;
    cluster.daemon(1).ask(&["demote"])?;
    let began = Instant::now();
    let said = standby.ask(&["promote"])?;
    eprintln!("promote: {:?}: {said}", began.elapsed());
    let began = Instant::now();
    await_until("all are fw2's own", limit, || {
        let status = standby.status()?;
        Ok(hot(&status, "flows")? == 0 && status["commit"]["running"] == false)
    })?;
    eprintln!("all are its own and looked at again: {:?}", began.elapsed());
    eprintln!("{}", standby.ask(&["status"])?);
    Ok(())
}

/// Processor time of a process, seconds.
fn cpu_seconds(id: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // Behind the name in parentheses utime and stime are the 12th and 13th, in hundredths.
    let (_, rest) = stat.rsplit_once(')').context("a name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
