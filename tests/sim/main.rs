//! The simulator: whole clusters in one process, on a virtual clock, from one seed.
//!
//! The engines are the real ones; kernels, links and time are pretended. Checkers run at every
//! step (a judged marker must be exact, flow by flow) and at rest (every replica equals its
//! source). `SEEDS=from..to cargo test --release --test sim -- random` explores; a failing seed is
//! named in the message and replays with `SEEDS=n..n+1`.

mod cluster;
mod kernel;
mod links;
mod rng;

use std::time::Duration;

use cluster::{Cluster, Options};
use rng::Rng;

const SECOND: Duration = Duration::from_secs(1);

/// Seeds to run: `SEEDS=from..to`, or the first few.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else {
        return 0..60;
    };
    let parsed = text
        .split_once("..")
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.expect("SEEDS is written from..to")
}

/// A cluster lives through a random minute, then faults end, and it must come to rest.
fn live(seed: u64, licensed: bool) {
    let mut rng = Rng::new(seed);
    let options = Options {
        nodes: 2 + rng.below(3) as usize,
        flows: 2 + rng.below(40) as u16,
        window: [2, 8, 64, 4096][rng.below(4) as usize],
        tombstones_max: if licensed {
            1 + rng.below(64) as u32
        } else {
            100_000
        },
        loss_percent: rng.below(31) as u32,
        duplicate_percent: rng.below(20) as u32,
        delay_ms_max: 1 + rng.below(20),
        is_sealed: seed.is_multiple_of(2),
        damage_percent: if seed.is_multiple_of(2) {
            rng.below(6) as u32
        } else {
            0
        },
        seed,
    };
    let mut cluster = Cluster::new(options);
    for _ in 0..200 {
        let node = rng.below(options.nodes as u64) as usize;
        match rng.below(if licensed { 40 } else { 30 }) {
            0..=19 => cluster.churn(node, 1 + rng.below(8)),
            20..=22 => cluster.cut(node, (node + 1) % options.nodes),
            23..=26 => cluster.heal(),
            27 | 28 => cluster.overrun(node),
            29 => cluster.churn(node, 200),
            30 | 31 => cluster.restart(node),
            32 => cluster.reboot(node),
            33 => cluster.flush_replicas(node),
            34 => cluster.commit(node),
            35 => cluster.expire_silently(node),
            36 => cluster.resync_peers(node),
            37 => cluster.flush_local(node),
            _ => cluster.replay(5),
        }
        if options.is_sealed {
            // With a key recordings of any time are harmless, so they come all the time.
            cluster.replay(rng.below(4));
        }
        cluster.run(Duration::from_millis(rng.below(300)));
    }
    cluster.heal();
    cluster.end_of_faults();
    cluster.run_until_at_rest(150 * SECOND);
    if !licensed {
        assert_eq!(
            cluster.different_verdicts(),
            0,
            "seed {seed}: nothing licensed a difference"
        );
    }
}

#[test]
fn random_lives_converge() {
    for seed in seeds() {
        live(seed, true);
    }
}

#[test]
fn random_lives_without_a_licensed_cause_never_judge_different() {
    for seed in seeds() {
        live(seed, false);
    }
}

fn pair() -> Cluster {
    let mut cluster = Cluster::new(Options {
        nodes: 2,
        flows: 30,
        ..Options::default()
    });
    cluster.churn(0, 100);
    cluster.run_until_at_rest(10 * SECOND);
    cluster
}

#[test]
fn a_partition_heals_without_a_full_pass() {
    let mut cluster = pair();
    cluster.cut(0, 1);
    cluster.cut(1, 0);
    for _ in 0..50 {
        cluster.churn(0, 20);
        cluster.run(SECOND / 10);
    }
    cluster.heal();
    cluster.run_until_at_rest(5 * SECOND);
    assert_eq!(cluster.passes(0), 1, "only the first join is a pass");
}

#[test]
fn flows_that_ended_while_the_sender_was_down_leave_no_ghost() {
    let mut cluster = pair();
    cluster.stop(0);
    cluster.churn(0, 100);
    cluster.restart(0);
    cluster.run_until_at_rest(5 * SECOND);
}

#[test]
fn a_receiver_that_restarts_is_filled_again() {
    let mut cluster = pair();
    cluster.restart(1);
    cluster.run_until_at_rest(5 * SECOND);
}

#[test]
fn an_overrun_is_repaired_by_a_listing() {
    let mut cluster = pair();
    cluster.overrun(0);
    cluster.churn(0, 50);
    cluster.run_until_at_rest(5 * SECOND);
}

#[test]
fn a_flow_whose_end_no_event_told_is_found_by_the_scrub() {
    let mut cluster = pair();
    cluster.expire_silently(0);
    cluster.run_until_at_rest(90 * SECOND);
}

#[test]
fn three_nodes_hold_everything_of_the_other_two() {
    let mut cluster = Cluster::new(Options {
        nodes: 3,
        flows: 30,
        ..Options::default()
    });
    for node in 0..3 {
        cluster.churn(node, 100);
    }
    cluster.run_until_at_rest(10 * SECOND);
}

#[test]
fn a_commit_brings_every_flow_into_the_kernel_and_twice_is_once() {
    let mut cluster = pair();
    cluster.crash(0);
    cluster.commit(1);
    cluster.run(5 * SECOND);
    assert_eq!(cluster.kernel(1).tuples(), cluster.kernel(0).tuples());
    let writes = cluster.kernel(1).writes;
    cluster.commit(1);
    cluster.run(5 * SECOND);
    assert_eq!(
        cluster.kernel(1).writes,
        writes,
        "the second commit writes nothing"
    );
}

#[test]
fn the_checkers_see_a_replica_that_was_damaged() {
    let mut cluster = pair();
    cluster.kernel_mut(0).vanish_unseen();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cluster.run_until_at_rest(2 * SECOND);
    }));
    assert!(outcome.is_err(), "a ghost must be seen");
}
