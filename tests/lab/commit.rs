//! A commit restores everything that the kernel lets one set, and a second one changes nothing.
//!
//! Two kernels are compared attribute by attribute, as they send them, without our decoder.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::harness::namespace::Namespace;
use crate::harness::netlink::{Attributes, cta, entries};
use crate::harness::process::Process;
use crate::harness::services::{Link, number};
use crate::harness::traffic::{Kind, Spec, Traffic};
use crate::harness::wait::await_until;
use crate::harness::{Context as _, Result, bulk, turn};
use crate::mix;

/// Status bits that a commit restores: SEEN_REPLY, ASSURED, CONFIRMED, and what the kernel makes of
/// the translation, SRC_NAT and DST_NAT.
const STATUS: u32 = 0x3e;
/// TCP flags that a commit restores; BE_LIBERAL (0x08) it sets.
const TCP_FLAGS: u8 = 0x0f;
const BE_LIBERAL: u8 = 0x08;

#[test]
fn commit_restores_every_field_of_every_protocol() -> Result<()> {
    let Some(_turn) = turn("commit_restores_every_field_of_every_protocol") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    cluster.lab().nodes().iter().try_for_each(mix::add_rules)?;
    mix::by_hand(cluster.node(1))?;
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;
    let compared = assert_restored(&cluster)?;
    assert!(compared >= mix::BY_HAND_COUNT, "only {compared} flows");
    let status = cluster.daemon(2).status()?;
    assert_eq!(
        status["commit"]["failed"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
    Ok(())
}

#[test]
fn commit_restores_marks_labels_helpers_and_masters_of_real_traffic() -> Result<()> {
    let Some(_turn) = turn("commit_restores_marks_labels_helpers_and_masters_of_real_traffic")
    else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let lab = cluster.lab();
    lab.nodes().iter().try_for_each(mix::add_rules)?;
    lab.give_addresses(cluster.node(1))?;
    lab.await_path()?;
    let spec = |kind| Spec {
        kind,
        connections: 40,
        every: Duration::from_millis(50),
    };
    let _tcp = Traffic::start(lab, spec(Kind::Tcp))?;
    let _udp = Traffic::start(lab, spec(Kind::Udp))?;
    let _ftp = mix::Ftp::open(lab)?;
    let of_active = entries(cluster.node(1).namespace())?;
    let has = |kind: u16| {
        let with = |entry: &&Attributes| entry.keys().any(|path| path[0] == kind);
        of_active.values().filter(with).count()
    };
    assert!(has(cta::LABELS) >= 80, "the rules label");
    assert_eq!(has(cta::HELP), 1, "the FTP session has a helper");
    assert_eq!(
        has(cta::TUPLE_MASTER),
        1,
        "its data connection has a master"
    );

    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;
    let compared = assert_restored(&cluster)?;
    assert!(compared >= 82, "only {compared} flows");
    Ok(())
}

#[test]
fn second_commit_changes_nothing() -> Result<()> {
    let Some(_turn) = turn("second_commit_changes_nothing") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    cluster.lab().nodes().iter().try_for_each(mix::add_rules)?;
    mix::by_hand(cluster.node(1))?;
    bulk::create(cluster.node(1).namespace(), 1, 2_000)?;
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;
    let before = stable(cluster.node(2).namespace())?;

    let standby = cluster.node(2).namespace();
    let events = Process::start("conntrack -E", standby.command("conntrack").arg("-E"))?;
    // An event of our own shows that the listener listens; another, that it has seen everything.
    await_until("conntrack -E listens", Duration::from_secs(5), || {
        touch(standby, 65_001)?;
        Ok(!events.lines().is_empty())
    })?;
    cluster.daemon(2).ask(&["commit"])?;
    touch(standby, 65_002)?;
    await_until("the last event came", Duration::from_secs(5), || {
        Ok(events.has_said("sport=65002"))
    })?;

    let of_commit: Vec<_> = events
        .lines()
        .into_iter()
        .map(|line| line.text)
        .filter(|line| !line.contains("sport=6500") && line.contains('='))
        .collect();
    assert!(of_commit.is_empty(), "the second commit did: {of_commit:?}");
    let mut after = stable(standby)?;
    after.retain(|key, _| before.contains_key(key));
    assert_eq!(before, after);
    let status = cluster.daemon(2).status()?;
    let total = number(&status, "/commit/total")?;
    assert_eq!(number(&status, "/commit/already")?, total, "{status}");
    Ok(())
}

#[test]
fn commit_replaces_a_wrong_entry_that_stands_in_the_way() -> Result<()> {
    let Some(_turn) = turn("commit_replaces_a_wrong_entry_that_stands_in_the_way") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    cluster.lab().nodes().iter().try_for_each(mix::add_rules)?;
    mix::by_hand(cluster.node(1))?;
    cluster.await_replicas(2)?;
    // What a stray packet of the server makes before the commit: an entry from the server to the
    // outside address, which owns the tuple that the restored flow needs for its replies.
    let stray = "-I -t 30 -p udp -s 198.51.100.10 -d 198.51.100.1 --sport 53 --dport 2007";
    let arguments: Vec<_> = stray.split(' ').collect();
    cluster
        .node(2)
        .namespace()
        .output("conntrack", &arguments)?;
    cluster.daemon(2).ask(&["commit"])?;
    let of_standby = crate::harness::table::kernel(cluster.node(2).namespace())?;
    let restored = of_standby
        .values()
        .find(|entry| entry.key.contains("sport=1007"))
        .context("the flow is in the kernel")?;
    assert!(
        restored
            .rest
            .contains("dst=198.51.100.1 sport=53 dport=2007")
    );
    Ok(())
}

/// Makes a flow that nobody else makes, again and again.
fn touch(namespace: &Namespace, port: u16) -> Result<()> {
    let line = format!("-t 20 -p udp -s 192.0.2.99 -d 198.51.100.99 --sport {port} --dport 9");
    let arguments = |command: &'static str| {
        let mut arguments = vec![command];
        arguments.extend(line.split(' '));
        arguments
    };
    if namespace.output("conntrack", &arguments("-I")).is_err() {
        let tuple = arguments("-D");
        // Without the timeout: a delete that names one looks for it.
        namespace.output("conntrack", &[&tuple[..1], &tuple[3..]].concat())?;
    }
    Ok(())
}

/// Compares all flows of fw1's kernel with fw2's; yields how many.
fn assert_restored(cluster: &Cluster) -> Result<usize> {
    let active = restorable(cluster.node(1).namespace())?;
    let standby = restorable(cluster.node(2).namespace())?;
    for (key, expected) in &active {
        let shown = expected.get(&vec![cta::TUPLE_ORIG]);
        let found = standby
            .get(key)
            .with_context(|| format!("fw2 has no {key:?} ({shown:?})"))?;
        let differing: Vec<_> = expected
            .iter()
            .filter(|(path, bytes)| found.get(*path) != Some(bytes))
            .map(|(path, bytes)| (path, bytes, found.get(path)))
            .chain(
                found
                    .iter()
                    .filter(|(path, _)| !expected.contains_key(*path))
                    .map(|(path, bytes)| (path, bytes, None)),
            )
            .collect();
        assert!(
            differing.is_empty(),
            "attributes (path, one side, other side) of {expected:?} differ: {differing:?}"
        );
    }
    Ok(active.len())
}

/// What a commit can restore, in the form it has after one.
fn restorable(namespace: &Namespace) -> Result<BTreeMap<Vec<u8>, Attributes>> {
    let mut table = stable(namespace)?;
    for entry in table.values_mut() {
        if let Some(status) = entry.get_mut(&vec![cta::STATUS]) {
            let bits = status
                .first_chunk()
                .copied()
                .context("four bytes of status")?;
            *status = (u32::from_be_bytes(bits) & STATUS).to_be_bytes().to_vec();
        }
        for direction in [cta::TCP_FLAGS_ORIG, cta::TCP_FLAGS_REPLY] {
            let path = vec![cta::PROTOINFO, cta::TCP, direction];
            if let Some(flags) = entry.get_mut(&path) {
                // Two bytes, flags and mask; what a dump says in the mask means nothing.
                *flags = vec![flags[0] & TCP_FLAGS | BE_LIBERAL];
            }
        }
    }
    Ok(table)
}

/// What does not tick, count or belong to one kernel's memory.
fn stable(namespace: &Namespace) -> Result<BTreeMap<Vec<u8>, Attributes>> {
    let mut table = entries(namespace)?;
    for entry in table.values_mut() {
        entry.retain(|path, bytes| match path[0] {
            cta::TIMEOUT
            | cta::USE
            | cta::ID
            | cta::COUNTERS_ORIG
            | cta::COUNTERS_REPLY
            | cta::SECCTX
            | cta::TIMESTAMP => false,
            // Every entry that came through ctnetlink shows three zeros here.
            cta::SYNPROXY => bytes.iter().any(|byte| *byte != 0),
            _ => true,
        });
    }
    Ok(table)
}
