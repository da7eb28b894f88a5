//! The gate on a real kernel: what it drops, what passes, and that it opens.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::failover::{CONNECTIONS, Pair};
use crate::harness::namespace::Namespace;
use crate::harness::services::{Link, Notify};
use crate::harness::topology::{INSIDE_VIP, Lab, SERVER};
use crate::harness::wait::await_until;
use crate::harness::{Result, bulk, turn};

const GATE: &str = "[gate]\ninterfaces = [\"eth0\", \"eth1\"]\n";
/// What it opens after when the daemon is dead, and what a busy machine may add.
const TIMEOUT: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);
/// Own addresses of the second firewall on the inside.
const OWN: [&str; 2] = ["192.0.2.3", "2001:db8:1::3"];

/// How many of `count` packets, 10 ms apart, are answered.
fn ping(from: &Namespace, address: &str, count: u32) -> Result<u32> {
    let count = count.to_string();
    let mut command = from.command("ping");
    command.args(["-n", "-q", "-c", &count, "-i", "0.01", "-W", "0.3", address]);
    // Packets without an answer make it fail, so its words are what counts.
    let text = String::from_utf8(command.output()?.stdout)?;
    let received = text
        .split(", ")
        .find_map(|part| part.strip_suffix(" received"));
    Ok(received.unwrap_or("0").parse()?)
}

fn gate(cluster: &Cluster, index: usize) -> Result<String> {
    let status = cluster.daemon(index).status()?;
    Ok(status["gate"]["state"]
        .as_str()
        .unwrap_or("none")
        .to_owned())
}

/// The entries of a node's kernel that have to do with what it must not carry.
fn stray_entries(cluster: &Cluster, index: usize) -> Result<Vec<String>> {
    let mut stray = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let namespace = cluster.node(index).namespace();
        let text = namespace.output("conntrack", &["-L", "-f", family])?;
        let is_stray = |line: &&str| {
            let to = |address: &str| line.contains(&format!("dst={address} "));
            SERVER.iter().any(|server| to(server)) || to(INSIDE_VIP) || to("2001:db8:1::1")
        };
        stray.extend(text.lines().filter(is_stray).map(str::to_owned));
    }
    Ok(stray)
}

/// A cluster whose second node has the addresses, as keepalived would have set them, and nobody has
/// told it.
fn with_addresses() -> Result<Cluster> {
    let cluster = Cluster::start(2, Link::Multicast, GATE)?;
    cluster.lab().give_addresses(cluster.node(2))?;
    Ok(cluster)
}

fn forwarded(lab: &Lab, count: u32) -> Result<u32> {
    Ok(ping(lab.client(), SERVER[0], count)? + ping(lab.client(), SERVER[1], count)?)
}

#[test]
fn closed_gate_drops_before_an_entry_is_born_and_lets_own_traffic_pass() -> Result<()> {
    let Some(_turn) = turn("closed_gate_drops_before_an_entry_is_born_and_lets_own_traffic_pass")
    else {
        return Ok(());
    };
    let cluster = with_addresses()?;
    let given = Instant::now();
    let client = cluster.lab().client();
    for vip in [INSIDE_VIP, "2001:db8:1::1"] {
        assert_eq!(ping(client, vip, 5)?, 0, "{vip} is fresh, so it moves");
    }
    assert!(
        given.elapsed() < Duration::from_secs(4),
        "the test is too slow to see it"
    );
    assert_eq!(forwarded(cluster.lab(), 20)?, 0);
    assert_eq!(stray_entries(&cluster, 2)?, Vec::<String>::new());
    // Neighbour discovery and the node's own addresses; nobody may remember the neighbour.
    client.ip("neigh flush dev eth0\n")?;
    for own in OWN {
        assert_eq!(ping(client, own, 3)?, 3, "{own} is the node's own");
    }
    assert_eq!(gate(&cluster, 2)?, "closed");
    let status = cluster.daemon(2).status()?;
    let dropped = status["gate"]["dropped"].as_u64();
    await_until("the dropped packets are counted", LIMIT, || {
        let status = cluster.daemon(2).status()?;
        Ok(status["gate"]["dropped"].as_u64() > Some(40))
    })?;
    assert!(dropped.is_some(), "{status}");
    // Whoever stays on a standby is its own.
    await_until("an address that stays becomes own", LIMIT, || {
        Ok(ping(client, INSIDE_VIP, 1)? == 1)
    })?;
    assert_eq!(forwarded(cluster.lab(), 1)?, 0);
    Ok(())
}

#[test]
fn promotion_opens_it_and_demotion_closes_it() -> Result<()> {
    let Some(_turn) = turn("promotion_opens_it_and_demotion_closes_it") else {
        return Ok(());
    };
    let cluster = with_addresses()?;
    let daemon = cluster.daemon(2);
    daemon.ask(&["promote"])?;
    await_until("the gate opens", LIMIT, || Ok(gate(&cluster, 2)? == "open"))?;
    cluster.lab().await_path()?;
    assert!(daemon.process().has_said("the gate is open"));
    daemon.ask(&["demote"])?;
    await_until("the gate closes", LIMIT, || {
        Ok(gate(&cluster, 2)? == "closed")
    })?;
    assert_eq!(forwarded(cluster.lab(), 1)?, 0);
    let text = daemon.ask(&["status"])?;
    assert!(text.contains("\ngate    closed for "), "{text}");
    Ok(())
}

#[test]
fn gate_that_is_prolonged_never_leaks_and_opens_when_the_daemon_is_killed() -> Result<()> {
    let Some(_turn) =
        turn("gate_that_is_prolonged_never_leaks_and_opens_when_the_daemon_is_killed")
    else {
        return Ok(());
    };
    let mut cluster = with_addresses()?;
    let began = Instant::now();
    // Longer than the timeout, with a packet in every 10 ms.
    while began.elapsed() < 2 * TIMEOUT {
        assert_eq!(forwarded(cluster.lab(), 40)?, 0);
    }
    cluster.kill_daemon(2)?;
    let killed = Instant::now();
    assert_eq!(
        forwarded(cluster.lab(), 1)?,
        0,
        "a dead daemon's gate is closed for a while"
    );
    cluster.lab().await_path()?;
    let opened = killed.elapsed();
    assert!(opened < 3 * TIMEOUT, "{opened:?}");
    // What it left is replaced by the next run, and taken away by a clean end.
    cluster.start_daemon(2)?;
    assert_eq!(forwarded(cluster.lab(), 1)?, 0);
    cluster.stop_daemon(2)?;
    let rules = cluster
        .node(2)
        .namespace()
        .output("nft", &["list", "tables"])?;
    assert!(!rules.contains("ctsyncd_gate"), "{rules}");
    assert!(forwarded(cluster.lab(), 1)? > 0);
    Ok(())
}

#[test]
fn gate_is_put_back_when_the_ruleset_is_flushed() -> Result<()> {
    let Some(_turn) = turn("gate_is_put_back_when_the_ruleset_is_flushed") else {
        return Ok(());
    };
    let cluster = with_addresses()?;
    let node = cluster.node(2).namespace();
    node.output("nft", &["delete", "table", "inet", "ctsyncd_gate"])?;
    await_until("the gate is back", LIMIT, || {
        let text = node.output("nft", &["list", "table", "inet", "ctsyncd_gate"]);
        Ok(text.is_ok_and(|text| text.contains("eth0")))
    })?;
    assert!(cluster.daemon(2).process().has_said("putting it back"));
    assert_eq!(forwarded(cluster.lab(), 1)?, 0);
    Ok(())
}

/// A big table, and a ruleset that lets segments of flows that are not known yet reach this node's
/// own stack, which resets them: the case in which a commit is too late without a gate. keepalived's
/// word comes late, so that this table takes as long as one that is five times as large.
fn big_and_careless(cluster: &Cluster) -> Result<()> {
    for node in cluster.lab().nodes() {
        node.install_script(
            "failover",
            "#!/bin/sh\nsleep 0.6\nexec ctsyncd --socket /run/ctsyncd/control.sock notify \"$@\"\n",
        )?;
        let namespace = node.namespace();
        namespace.output("nft", &["flush", "chain", "inet", "firewall", "input"])?;
    }
    // The client acknowledges with its next line only: at any moment the server has something that
    // it will send again.
    let rules = "table inet late { chain out { type filter hook output priority 0; \
                 tcp flags & (fin | syn | rst | psh | ack) == ack drop; }; }";
    cluster.lab().client().feed("nft", &["-f", "-"], rules)?;
    bulk::create(cluster.node(1).namespace(), 1, 30_000)
}

#[test]
fn failover_with_a_big_table_keeps_every_connection_behind_the_gate() -> Result<()> {
    let Some(_turn) = turn("failover_with_a_big_table_keeps_every_connection_behind_the_gate")
    else {
        return Ok(());
    };
    let pair = Pair::start_with(Notify::Script, GATE, big_and_careless)?;
    // A gate that drops VRRP would have made a second master of it.
    assert_eq!(gate(&pair.cluster, 2)?, "closed");
    assert!(!pair.cluster.node(2).has_address()?);
    let outcome = pair.cut(1)?;
    let text = pair.cluster.daemon(2).process().text();
    assert_eq!(outcome.alive, CONNECTIONS, "{outcome:?}\n{text}");
    assert_eq!(gate(&pair.cluster, 2)?, "open");
    Ok(())
}

#[test]
fn the_same_failover_without_the_gate_resets_some() -> Result<()> {
    let Some(_turn) = turn("the_same_failover_without_the_gate_resets_some") else {
        return Ok(());
    };
    let pair = Pair::start_with(Notify::Script, "", big_and_careless)?;
    let outcome = pair.cut(1)?;
    assert!(outcome.reset > 0, "{outcome:?}");
    Ok(())
}
