//! Two nodes that are active at once, out of each other's sight, and what becomes of their flows.

use std::collections::BTreeSet;

use ctsyncd::engine::status::Role;

use crate::SECOND;
use crate::cluster::{Cluster, Options};

/// A node is promoted on either side of a partition, and flows are born on both.
fn split_pair(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(Options {
        flows: 200,
        loss_percent: 5,
        seed,
        ..Options::default()
    });
    cluster.churn(0, 100);
    cluster.promote(0);
    cluster.run_until_at_rest(10 * SECOND);
    cluster.cut(0, 1);
    cluster.cut(1, 0);
    cluster.run(5 * SECOND);
    cluster.promote(1);
    cluster.run(SECOND);
    for node in [0, 1] {
        cluster.churn(node, 60);
    }
    cluster.run(5 * SECOND);
    cluster
}

#[test]
fn a_split_brain_is_seen_when_the_partition_heals_and_each_keeps_what_it_owns() {
    for seed in 0..10 {
        let mut cluster = split_pair(seed);
        assert!(cluster.status(0).split_brain.is_empty(), "out of sight");
        let before: Vec<_> = [0, 1].map(|node| cluster.kernel(node).flows()).into();
        cluster.heal();
        cluster.run(5 * SECOND);
        for (node, other) in [(0, "fw1"), (1, "fw0")] {
            let status = cluster.status(node);
            assert_eq!(status.role, Role::Active);
            assert_eq!(status.split_brain.len(), 1, "seed {seed}");
            assert_eq!(status.split_brain[0].peer, other);
        }
        cluster.run_until_at_rest(10 * SECOND);
        let after: Vec<_> = [0, 1].map(|node| cluster.kernel(node).flows()).into();
        assert!(
            before == after,
            "seed {seed}: nothing is deleted on hearsay"
        );
    }
}

#[test]
fn whoever_stays_active_takes_over_what_the_other_had_whichever_it_is() {
    for seed in 0..20 {
        let mut cluster = split_pair(seed);
        let (stays, leaves) = if seed % 2 == 0 { (0, 1) } else { (1, 0) };
        if seed % 4 < 2 {
            // It is demoted in sight of the other, else before they see each other again.
            cluster.heal();
            cluster.run(4 * SECOND);
        }
        cluster.demote(leaves);
        cluster.heal();
        cluster.run(4 * SECOND);
        cluster.run_until_at_rest(10 * SECOND);
        let keys =
            |node: usize| -> BTreeSet<_> { cluster.kernel(node).tuples().into_iter().collect() };
        // A later term is a word on it; without one, what was active before us is history.
        if seed % 4 < 2 || leaves == 1 {
            let missing = keys(leaves).difference(&keys(stays)).count();
            assert_eq!(missing, 0, "seed {seed}");
        }
        assert!(cluster.status(stays).split_brain.is_empty());
        assert_eq!(cluster.status(stays).role, Role::Active);
        assert_eq!(cluster.status(leaves).role, Role::Standby);
    }
}
