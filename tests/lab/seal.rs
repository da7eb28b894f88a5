//! Sealed links: who has no key is named and changes nothing, and keys are changed without a gap. All
//! other tests of the laboratory run sealed as well.

use crate::cluster::{CONVERGE, Cluster};
use crate::harness::services::{Link, SEALED, key_line};
use crate::harness::table::assert_equal;
use crate::harness::wait::await_until;
use crate::harness::{Result, bulk, turn};

#[test]
fn nodes_with_another_key_or_none_are_named_and_change_nothing() -> Result<()> {
    let Some(_turn) = turn("nodes_with_another_key_or_none_are_named_and_change_nothing") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(3, Link::Multicast, "")?;
    for index in 1..=3_u8 {
        bulk::create(cluster.node(index.into()).namespace(), index, 500)?;
    }
    cluster.await_replicas(1)?;
    let before = cluster.replica(1)?;
    assert_eq!(before.len(), 1_000);

    cluster
        .node(2)
        .write_secret("another.key", &key_line("9a03"))?;
    cluster.restart_with(2, SEALED, r#"key_file = "/run/another.key""#)?;
    cluster.restart_with(3, SEALED, "insecure = true")?;
    for (of, stranger, cause) in [
        (1, "fw2", "another cluster key"),
        (1, "fw3", "it sends in the clear"),
        (2, "fw1", "another cluster key"),
        (3, "fw1", "it seals what it sends"),
    ] {
        let what = format!("fw{of} names {stranger}");
        await_until(&what, CONVERGE, || {
            let told = cluster.daemon(of).stranger(stranger)?;
            Ok(told.is_some_and(|told| told.contains(cause)))
        })?;
    }
    let text = cluster.daemon(1).ask(&["status"])?;
    assert!(
        text.contains("\nSTRANGER fw2  it has another cluster key"),
        "{text}"
    );
    assert!(
        text.contains("\nSTRANGER fw3  it sends in the clear"),
        "{text}"
    );

    // They have something to say, and have said it to whoever listens.
    bulk::delete(cluster.node(2).namespace(), 2, 500)?;
    bulk::create(cluster.node(3).namespace(), 4, 500)?;
    await_until("the strangers see their kernels", CONVERGE, || {
        Ok(cluster.local(2)?.is_empty() && cluster.local(3)?.len() == 1_000)
    })?;
    // Timeouts tick on.
    assert_equal(("before", &before), ("now", &cluster.replica(1)?), Some(60));
    assert_eq!(cluster.replica(2)?.len() + cluster.replica(3)?.len(), 0);

    // With the key they are back.
    cluster.restart_with(2, r#"key_file = "/run/another.key""#, SEALED)?;
    cluster.restart_with(3, "insecure = true", SEALED)?;
    cluster.await_sessions()?;
    cluster.await_replicas(1)
}

#[test]
fn keys_are_rotated_while_flows_come_and_go() -> Result<()> {
    let Some(_turn) = turn("keys_are_rotated_while_flows_come_and_go") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(2, Link::Multicast, "")?;
    let new = r#"key_file = "/run/new.key""#;
    let both = format!("{SEALED}\nother_key_file = \"/run/new.key\"");
    let swapped = format!("{new}\nother_key_file = \"/run/cluster.key\"");
    for index in 1..=2 {
        cluster
            .node(index)
            .write_secret("new.key", &key_line("77c2"))?;
    }
    let mut network = 1;
    for (from, to) in [(SEALED, &*both), (&*both, &*swapped), (&*swapped, new)] {
        for index in 1..=2 {
            let other = 3 - index;
            bulk::create(cluster.node(other).namespace(), network, 300)?;
            cluster.restart_with(index, from, to)?;
            bulk::create(cluster.node(index).namespace(), network + 1, 200)?;
            bulk::delete(cluster.node(other).namespace(), network, 100)?;
            cluster.await_sessions()?;
            cluster.await_replicas(1)?;
            cluster.await_replicas(2)?;
            for (of, peer) in [(1, "fw2"), (2, "fw1")] {
                assert_eq!(cluster.daemon(of).stranger(peer)?, None);
            }
            network += 2;
        }
    }
    Ok(())
}

#[test]
fn without_a_key_it_replicates_when_told_to_and_says_so() -> Result<()> {
    let Some(_turn) = turn("without_a_key_it_replicates_when_told_to_and_says_so") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(2, Link::Multicast, "")?;
    for index in 1..=2 {
        cluster.restart_with(index, SEALED, "insecure = true")?;
    }
    cluster.await_sessions()?;
    bulk::create(cluster.node(1).namespace(), 1, 1_000)?;
    cluster.await_replicas(2)?;
    let text = cluster.daemon(2).ask(&["status"])?;
    assert!(text.contains("\nINSECURE: "), "{text}");
    Ok(())
}
