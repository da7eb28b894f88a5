//! Planned upgrades: nodes of an old and of a newer release in one cluster, replaced one at a time.

use std::time::Duration;

use ctsyncd::engine::status::PeerState;
use ctsyncd::wire::Versions;

use crate::cluster::{Cluster, Options};
use crate::rng::Rng;
use crate::{SECOND, seeds};

const OLD: Versions = Versions { min: 1, max: 1 };
const NEW: Versions = Versions { min: 1, max: 2 };
/// A release that has forgotten version 1.
const NEWEST: Versions = Versions { min: 2, max: 2 };

/// How long an upgraded node may take until everything is proven equal again.
const LIMIT: Duration = Duration::from_secs(10);

fn three() -> Cluster {
    let mut cluster = Cluster::new(Options {
        nodes: 3,
        flows: 40,
        loss_percent: 5,
        ..Options::default()
    });
    for node in 0..3 {
        cluster.churn(node, 100);
    }
    cluster.run_until_at_rest(LIMIT);
    cluster
}

/// Replaces a node while the flows of all come and go, and waits for the proofs.
fn replace(cluster: &mut Cluster, node: usize, versions: Versions) {
    cluster.install(node, versions);
    for _ in 0..50 {
        (0..3).for_each(|at| cluster.churn(at, 2));
        cluster.run(SECOND / 50);
    }
    cluster.run_until_at_rest(LIMIT);
}

/// Each pair speaks the version that the table says, on both sides.
#[track_caller]
fn assert_versions(cluster: &Cluster, pairs: [(usize, usize, Option<u8>); 3]) {
    for (one, other, version) in pairs {
        let both = (cluster.version(one, other), cluster.version(other, one));
        assert_eq!(both, (version, version), "fw{one} and fw{other}");
    }
}

#[test]
fn one_node_at_a_time_is_replaced_by_a_newer_release_and_back() {
    let mut cluster = three();
    let (one, two) = (Some(1), Some(2));
    replace(&mut cluster, 2, NEW);
    assert_versions(&cluster, [(0, 1, one), (0, 2, one), (1, 2, one)]);
    replace(&mut cluster, 1, NEW);
    assert_versions(&cluster, [(0, 1, one), (0, 2, one), (1, 2, two)]);
    replace(&mut cluster, 0, NEW);
    assert_versions(&cluster, [(0, 1, two), (0, 2, two), (1, 2, two)]);
    // The new release is not liked after all: back, one at a time.
    replace(&mut cluster, 1, OLD);
    assert_versions(&cluster, [(0, 1, one), (0, 2, two), (1, 2, one)]);
    replace(&mut cluster, 2, OLD);
    replace(&mut cluster, 0, OLD);
    assert_versions(&cluster, [(0, 1, one), (0, 2, one), (1, 2, one)]);
    let passes = cluster.passes(0);
    assert_eq!(passes, 0, "the others kept what they held of the last one");
}

#[test]
fn two_upgrades_leave_the_first_version_behind() {
    let mut cluster = three();
    for versions in [NEW, NEWEST] {
        for node in [1, 2, 0] {
            replace(&mut cluster, node, versions);
        }
    }
    let two = Some(2);
    assert_versions(&cluster, [(0, 1, two), (0, 2, two), (1, 2, two)]);
}

#[test]
fn a_pair_without_a_common_version_says_so_and_harms_nobody() {
    let mut cluster = three();
    replace(&mut cluster, 1, NEW);
    cluster.install(2, NEWEST);
    for _ in 0..100 {
        (0..3).for_each(|at| cluster.churn(at, 2));
        cluster.run(SECOND / 10);
    }
    cluster.run(5 * SECOND);
    // fw1 understands both, and they it.
    assert_versions(
        &cluster,
        [(0, 1, Some(1)), (1, 2, Some(2)), (2, 1, Some(2))],
    );
    for (holder, source) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        assert!(cluster.holds(holder, source), "fw{holder} of fw{source}");
    }
    let words = "speaks protocol versions 2 to 2, we 1 to 1: upgrade the older node";
    for (node, peer, words) in [
        (0, "fw2", words),
        (
            2,
            "fw0",
            "speaks protocol versions 1 to 1, we 2 to 2: upgrade the older node",
        ),
    ] {
        let status = cluster.status(node);
        let mut peers = status.peers.iter();
        let shown = peers.find(|it| it.name == peer).expect("it is heard");
        assert_eq!(shown.state, PeerState::Incompatible);
        assert_eq!(shown.cause.as_deref(), Some(words));
        assert_eq!(status.cause, Some(format!("{peer}: {words}")));
        assert!(!status.ready, "who knows what that one tracks");
    }
    assert!(cluster.status(1).ready, "{:?}", cluster.status(1).cause);
    // The older node follows, and nothing is left of it.
    replace(&mut cluster, 0, NEW);
    assert_versions(
        &cluster,
        [(0, 1, Some(2)), (0, 2, Some(2)), (1, 2, Some(2))],
    );
}

#[test]
fn who_is_incompatible_and_leaves_is_nobody_to_wait_for() {
    let mut cluster = three();
    replace(&mut cluster, 1, OLD);
    // A node of a newer release was never met by this run of fw1, and goes away for good.
    cluster.install(2, NEWEST);
    cluster.restart(1);
    cluster.run(5 * SECOND);
    assert!(!cluster.status(1).ready);
    cluster.stop(2);
    cluster.run(15 * SECOND);
    let status = cluster.status(1);
    assert!(status.ready, "{:?}", status.cause);
}

/// A random minute of faults in which releases come and go, without ever a pair that cannot talk.
fn live_through_upgrades(seed: u64) {
    let mut rng = Rng::new(seed);
    let options = Options {
        nodes: 2 + rng.below(3) as usize,
        flows: 2 + rng.below(40) as u16,
        loss_percent: rng.below(31) as u32,
        duplicate_percent: rng.below(20) as u32,
        delay_ms_max: 1 + rng.below(20),
        damage_percent: rng.below(6) as u32,
        links: 1 + rng.below(2) as u8,
        seed,
        ..Options::default()
    };
    let mut cluster = Cluster::new(options);
    for _ in 0..150 {
        let node = rng.below(options.nodes as u64) as usize;
        match rng.below(24) {
            0..=12 => cluster.churn(node, 1 + rng.below(8)),
            13 | 14 => cluster.install(node, NEW),
            15 => cluster.install(node, OLD),
            16 => cluster.cut(node, (node + 1) % options.nodes),
            17 | 18 => cluster.heal(),
            19 => cluster.restart(node),
            20 => cluster.promote(node),
            21 => cluster.demote(node),
            22 => cluster.overrun(node),
            _ => cluster.replay(5),
        }
        cluster.run(Duration::from_millis(rng.below(300)));
    }
    cluster.heal();
    cluster.end_of_faults();
    cluster.run_until_at_rest(150 * SECOND);
}

#[test]
fn random_lives_of_two_releases_converge() {
    let seeds = seeds();
    // Each datagram is opened and sealed twice more: a third of the lives takes the same time.
    for seed in seeds.start..seeds.start + (seeds.end - seeds.start).div_ceil(3) {
        live_through_upgrades(seed);
    }
}
