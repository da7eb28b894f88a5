//! What the commands promise to scripts: exit codes, and done means done.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use ctsyncd::control::client::Client;
use ctsyncd::control::lookup::FlowQuery;
use ctsyncd::control::message::Request;
use ctsyncd::flow::Flow;

use crate::cluster::{Cluster, binary};
use crate::harness::services::{Link, number};
use crate::harness::{Result, bulk, turn};

fn code(command: &mut Command) -> Result<Option<i32>> {
    Ok(command.output()?.status.code())
}

#[test]
fn without_a_daemon_commands_exit_with_3() -> Result<()> {
    let Some(_turn) = turn("without_a_daemon_commands_exit_with_3") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(1, Link::Multicast, "")?;
    let mut status = cluster.daemon(1).command(&["status"]);
    assert_eq!(code(&mut status)?, Some(0));
    let mut commit = cluster.daemon(1).command(&["commit"]);
    // The socket's file stays behind after a crash, and must not block the next start.
    cluster.kill_daemon(1)?;
    assert_eq!(code(&mut status)?, Some(3));
    assert_eq!(code(&mut commit)?, Some(3));
    cluster.start_daemon(1)?;
    assert_eq!(code(&mut status)?, Some(0));
    assert_eq!(
        code(Command::new(binary()).arg("no-such-command"))?,
        Some(2)
    );
    Ok(())
}

#[test]
fn promote_and_demote_return_when_it_is_done() -> Result<()> {
    let Some(_turn) = turn("promote_and_demote_return_when_it_is_done") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    bulk::create(cluster.node(1).namespace(), 1, 5_000)?;
    cluster.await_replicas(2)?;
    let standby = cluster.daemon(2);
    let term = number(&standby.status()?, "/term")?;
    standby.ask(&["promote"])?;
    assert!(cluster.node(2).namespace().flow_count()? >= 5_000);
    let status = standby.status()?;
    assert_eq!(status["role"], "active");
    assert_eq!(number(&status, "/term")?, term + 1);
    assert_eq!(number(&status, "/commit/created")?, 5_000, "{status}");
    standby.ask(&["demote"])?;
    assert_eq!(standby.status()?["role"], "standby");
    // keepalived's own arguments say the same.
    standby.ask(&["notify", "GROUP", "firewall", "MASTER", "100"])?;
    assert_eq!(standby.status()?["role"], "active");
    // Another instance that is not MASTER here changes nothing; the last one that is does.
    standby.ask(&["notify", "INSTANCE", "inside", "FAULT", "100"])?;
    assert_eq!(standby.status()?["role"], "active");
    standby.ask(&["notify", "GROUP", "firewall", "FAULT", "100"])?;
    assert_eq!(standby.status()?["role"], "standby");
    Ok(())
}

#[test]
fn flush_and_resync_end_with_whole_tables() -> Result<()> {
    let Some(_turn) = turn("flush_and_resync_end_with_whole_tables") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    bulk::create(cluster.node(1).namespace(), 1, 2_000)?;
    cluster.await_replicas(2)?;
    for command in [
        ["flush", "replica"],
        ["flush", "local"],
        ["resync", "kernel"],
        ["resync", "peers"],
    ] {
        for index in 1..=2 {
            cluster.daemon(index).ask(&command)?;
        }
        cluster.await_mirror(1, Some(2))?;
        cluster.await_replicas(2)?;
        assert_eq!(
            cluster.daemon(2).replica_flows("fw1")?,
            2_000,
            "{command:?}"
        );
    }
    // A flow that is flushed in the kernel is gone everywhere.
    cluster.daemon(1).ask(&["flush", "kernel"])?;
    cluster.await_replicas(2)?;
    assert_eq!(cluster.node(1).namespace().flow_count()?, 0);
    assert_eq!(cluster.daemon(2).replica_flows("fw1")?, 0);
    Ok(())
}

#[test]
fn a_lookup_finds_a_flow_where_it_is_and_nowhere_else() -> Result<()> {
    let Some(_turn) = turn("a_lookup_finds_a_flow_where_it_is_and_nowhere_else") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    bulk::create(cluster.node(1).namespace(), 1, 10)?;
    cluster.await_replicas(2)?;
    let [mut one, mut two] = [1, 2].map(|index| Client::connect(&cluster.node(index).socket()));
    let [one, two] = [one.as_mut(), two.as_mut()].map(|client| client.expect("it answers"));
    let (held, unknown) = (bulk::flow(1, 3), bulk::flow(1, 10));
    let look = |client: &mut Client, flow: &Flow| {
        let flow = FlowQuery::of(&flow.key());
        client.call(&Request::Lookup { flow }, |_| Ok(()))
    };
    let ours = look(one, &held)?;
    assert_eq!(ours["local"]["replicates"], true, "{ours}");
    let flow = &ours["local"]["flow"];
    assert_eq!(flow["state"], "ESTABLISHED", "{flow}");
    assert_eq!(flow["orig"]["sport"], held.orig.src_id, "{flow}");
    let theirs = look(two, &held)?;
    assert!(theirs["local"].is_null(), "{theirs}");
    assert_eq!(theirs["replicas"][0]["peer"], cluster.node(1).name.as_str());
    assert_eq!(theirs["replicas"][0]["flow"]["reply"], flow["reply"]);
    let nothing = look(two, &unknown)?;
    assert!(nothing["replicas"][0]["flow"].is_null(), "{nothing}");
    let mixed = FlowQuery {
        sport: None,
        ..FlowQuery::of(&held.key())
    };
    let refused = two.call(&Request::Lookup { flow: mixed }, |_| Ok(()));
    let why = refused.expect_err("no port").to_string();
    assert!(why.contains("sport and dport"), "{why}");
    Ok(())
}

#[test]
fn clients_that_say_nothing_or_nonsense_disturb_nobody() -> Result<()> {
    let Some(_turn) = turn("clients_that_say_nothing_or_nonsense_disturb_nobody") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let socket = cluster.node(1).socket();
    let _silent = UnixStream::connect(&socket)?;
    let mut half = UnixStream::connect(&socket)?;
    half.write_all(b"{\"command\":\"sta")?;
    let mut garbage = UnixStream::connect(&socket)?;
    garbage.write_all(&[0xff; 4096])?;
    bulk::create(cluster.node(1).namespace(), 1, 1_000)?;
    cluster.await_replicas(2)?;
    assert_eq!(cluster.daemon(1).local_flows()?, 1_000);
    Ok(())
}
