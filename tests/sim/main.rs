//! The simulator: whole clusters in one process, on a virtual clock, from one seed.
//!
//! The engines are the real ones; kernels, links and time are pretended. Checkers run at every
//! step (a judged marker must be exact, flow by flow) and at rest (every replica equals its
//! source). `SEEDS=from..to cargo test --release --test sim -- random` explores; a failing seed is
//! named in the message and replays with `SEEDS=n..n+1`.

mod cluster;
mod hot;
mod kernel;
mod links;
mod release;
mod rng;
#[cfg(feature = "broken-rules")]
mod rules;
mod split;
mod upgrade;

use std::net::IpAddr;
use std::time::Duration;

use cluster::{Cluster, Options};
use rng::Rng;

const SECOND: Duration = Duration::from_secs(1);

/// Seeds to run: `SEEDS=from..to`, or the first few.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else {
        return 0..150;
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
        corrupt_percent: rng.below(5) as u32,
        links: 1 + rng.below(2) as u8,
        datagram_bytes_max: 130 + rng.below(200) as usize,
        delay_ms_max: 1 + rng.below(20),
        is_sealed: seed.is_multiple_of(2),
        damage_percent: if seed.is_multiple_of(2) {
            rng.below(6) as u32
        } else {
            0
        },
        seed,
        ..Options::default()
    };
    let mut cluster = Cluster::new(options);
    for _ in 0..200 {
        let node = rng.below(options.nodes as u64) as usize;
        match rng.below(if licensed { 43 } else { 30 }) {
            0..=17 => cluster.churn(node, 1 + rng.below(8)),
            18 => cluster.promote(node),
            19 => cluster.demote(node),
            20 => cluster.cut(node, (node + 1) % options.nodes),
            21 | 22 => {
                let link = rng.below(u64::from(options.links)) as u8;
                cluster.cut_link(node, (node + 1) % options.nodes, link);
            }
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
            38 | 39 => cluster.stray(node),
            40 | 41 => (0..1 + rng.below(8)).for_each(|_| cluster.damage(node)),
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
    pair_of(30, 100)
}

fn pair_of(flows: u16, churn: u64) -> Cluster {
    let mut cluster = Cluster::new(Options {
        nodes: 2,
        flows,
        ..Options::default()
    });
    cluster.churn(0, churn);
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
    assert_eq!(
        cluster.passes(0),
        0,
        "what differed was found, not sent anew"
    );
}

#[test]
fn after_a_restart_of_the_sender_only_what_differs_is_sent() {
    let mut cluster = pair_of(600, 4000);
    cluster.restart(0);
    cluster.run_until_at_rest(5 * SECOND);
    assert_eq!(cluster.sent(0)[0].records, 0, "nothing differs");
    for changes in [1, 10, 100] {
        let before = cluster.kernel(0).table();
        cluster.stop(0);
        cluster.churn(0, changes);
        let differences = before.differences(&cluster.kernel(0).table());
        cluster.reconciled.clear();
        cluster.restart(0);
        cluster.run_until_at_rest(5 * SECOND);
        let sent = cluster.sent(0)[0];
        // Datagrams that overtake each other may be sent twice.
        let records = sent.records - sent.repairs;
        assert_eq!(records, differences as u64);
        assert_eq!(sent.passes, 0);
        assert_eq!(cluster.reconciled.len(), 1, "one round is enough");
        let cost = cluster.reconciled[0];
        assert_eq!(cost.touched + cost.buried, records);
        assert!(
            cost.list_entries <= 2 * records,
            "few leaves hold two of 600 flows"
        );
    }
}

#[test]
fn a_restart_under_churn_takes_one_round_and_what_churns() {
    let mut cluster = pair_of(300, 2000);
    cluster.stop(0);
    cluster.churn(0, 50);
    cluster.restart(0);
    for _ in 0..200 {
        cluster.churn(0, 1);
        cluster.run(SECOND / 200);
    }
    cluster.run_until_at_rest(5 * SECOND);
    let sent = cluster.sent(0)[0];
    assert_eq!((sent.passes, cluster.reconciled.len()), (0, 1));
    // A change is a flow, what it has expected and what it expects now.
    assert!(sent.records <= 3 * (50 + 200) + 20, "{sent:?}");
}

#[test]
fn a_damaged_replica_is_repaired_without_a_full_pass() {
    let mut cluster = pair_of(100, 400);
    for _ in 0..20 {
        cluster.damage(1);
    }
    cluster.run_until_at_rest(5 * SECOND);
    assert_eq!(cluster.passes(0), 1, "only the first join is a pass");
    assert_eq!(cluster.reconciled.len(), 1);
    assert!(cluster.sent(0)[0].reconcile.touched > 0);
}

#[test]
fn tombstones_lost_in_a_partition_are_buried_a_few_at_a_time() {
    let mut cluster = Cluster::new(Options {
        flows: 400,
        tombstones_max: 8,
        ..Options::default()
    });
    cluster.churn(0, 3000);
    cluster.run_until_at_rest(10 * SECOND);
    cluster.reconciled.clear();
    cluster.cut(0, 1);
    cluster.churn(0, 3000);
    cluster.run(2 * SECOND);
    cluster.heal();
    cluster.run_until_at_rest(5 * SECOND);
    assert_eq!((cluster.passes(0), cluster.reconciled.len()), (1, 1));
    assert!(
        cluster.reconciled[0].buried > 50,
        "{:?}",
        cluster.reconciled
    );
}

#[test]
fn a_table_without_room_for_tombstones_replicates_by_full_passes() {
    let mut cluster = Cluster::new(Options {
        tombstones_max: 0,
        ..Options::default()
    });
    for _ in 0..5 {
        cluster.churn(0, 30);
        cluster.run_until_at_rest(20 * SECOND);
    }
    assert!(cluster.passes(0) > 1);
}

#[test]
fn events_and_listings_race() {
    for seed in 0..40 {
        let mut cluster = Cluster::new(Options {
            seed,
            ..Options::default()
        });
        for _ in 0..20 {
            cluster.overrun(0);
            // Often enough that something changes while a listing runs, which takes some 10 ms.
            for _ in 0..200 {
                cluster.churn(0, 2);
                cluster.run(SECOND / 500);
            }
        }
        cluster.run_until_at_rest(5 * SECOND);
    }
}

#[test]
fn a_partition_in_the_middle_of_a_reconcile_is_outlived() {
    let mut cluster = pair_of(300, 2000);
    cluster.stop(0);
    cluster.churn(0, 300);
    cluster.restart(0);
    cluster.run(SECOND / 50);
    cluster.cut(1, 0);
    cluster.run(20 * SECOND);
    cluster.heal();
    cluster.run_until_at_rest(5 * SECOND);
    assert_eq!(cluster.passes(0), 0);
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
fn a_suspended_daemon_catches_up_after_its_clock_has_jumped() {
    let mut cluster = pair();
    for suspended in [1, 0] {
        cluster.suspend(suspended);
        for _ in 0..30 {
            cluster.churn(0, 20);
            cluster.churn(1, 20);
            cluster.run(2 * SECOND);
        }
        cluster.resume(suspended);
        cluster.run_until_at_rest(10 * SECOND);
        assert_eq!(
            cluster.passes(0),
            1,
            "it is a partition: no pass, no new session"
        );
    }
}

#[test]
fn eight_nodes_hold_everything_of_the_other_seven() {
    let mut cluster = Cluster::new(Options {
        nodes: 8,
        flows: 20,
        loss_percent: 5,
        ..Options::default()
    });
    for node in 0..8 {
        cluster.churn(node, 60);
    }
    cluster.run_until_at_rest(20 * SECOND);
    cluster.restart(3);
    cluster.churn(7, 60);
    cluster.run_until_at_rest(20 * SECOND);
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
fn a_commit_gets_past_strays_of_every_kind() {
    for seed in 0..40 {
        let mut cluster = Cluster::new(Options {
            nodes: 2,
            flows: 30,
            seed,
            ..Options::default()
        });
        cluster.churn(0, 100);
        cluster.run_until_at_rest(10 * SECOND);
        for _ in 0..15 {
            cluster.stray(1);
        }
        cluster.run(SECOND);
        cluster.crash(0);
        cluster.promote(1);
        cluster.run(5 * SECOND);
        let commit = cluster.status(1).commit.expect("there was one");
        assert!(!commit.running);
        assert_eq!(commit.failed, [], "seed {seed}: {commit:?}");
        let held = cluster.kernel(1).flows();
        for (key, flow) in cluster.kernel(0).flows() {
            let held = held.get(&key).map(|held| (held.orig, held.reply));
            assert_eq!(held, Some((flow.orig, flow.reply)), "seed {seed}");
        }
    }
}

#[test]
fn a_restarted_sender_is_believed_at_once_however_long_the_session_before_was() {
    let mut cluster = pair();
    for _ in 0..300 {
        cluster.churn(0, 10);
        cluster.run(SECOND / 50);
    }
    cluster.restart(0);
    cluster.run(SECOND);
    cluster.churn(0, 30);
    cluster.run_until_at_rest(2 * SECOND);
}

#[test]
fn one_link_of_two_is_enough_whichever_it_is() {
    let mut cluster = Cluster::new(Options {
        links: 2,
        flows: 30,
        ..Options::default()
    });
    cluster.run_until_at_rest(10 * SECOND);
    for round in 0..6 {
        cluster.cut_link(0, 1, round % 2);
        cluster.cut_link(1, 0, round % 2);
        cluster.churn(0, 20);
        cluster.run_until_at_rest(3 * SECOND);
        cluster.heal();
        cluster.run(SECOND);
    }
    assert_eq!(cluster.different_verdicts(), 0);
    assert_eq!(cluster.passes(0), 1, "only the first join is a pass");
}

#[test]
fn a_replica_that_is_too_small_is_full_of_true_flows_says_so_and_heals() {
    let mut cluster = Cluster::new(Options {
        flows_max: 10,
        flows: 30,
        ..Options::default()
    });
    while cluster.kernel(0).flows().len() < 20 {
        cluster.churn(0, 5);
    }
    cluster.run(100 * SECOND);
    let status = cluster.status(1);
    assert!(!status.ready);
    let cause = status.cause.expect("not ready has a cause");
    assert!(cause.contains("full"), "{cause}");
    let replica = &status.peers[0].replica;
    let held = replica.flows + replica.expectations;
    assert_eq!(held, 10, "full to the brim");
    assert!(!status.peers[0].replica.in_sync);
    assert!(cluster.passes(0) < 12, "it does not loop");
    assert!(cluster.replica_is_part_of_its_source(1, 0));
    while cluster.kernel(0).table().len() > 8 {
        cluster.end_one(0);
    }
    cluster.run_until_at_rest(100 * SECOND);
}

/// A run of fw1 whose greetings never arrive dies; its successor is met, and then an attacker plays
/// back what was recorded of it. The successor must stay: it would be retired for good.
fn a_run_that_was_never_met_is_played_back(cut_after: Duration) {
    let mut cluster = pair();
    cluster.restart(1);
    cluster.run(cut_after);
    cluster.cut(1, 0);
    cluster.run(SECOND / 20);
    cluster.heal();
    cluster.restart(1);
    cluster.run(SECOND / 20);
    cluster.replay_everything();
    cluster.run_until_at_rest(5 * SECOND);
}

#[test]
fn a_recorded_greeting_that_echoes_a_challenge_replaces_nobody() {
    // Somewhere here the cut falls between the challenge and its echo.
    for step in 0..40 {
        a_run_that_was_never_met_is_played_back(step * Duration::from_micros(150));
    }
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

#[test]
fn flows_that_die_of_an_address_that_leaves_live_on_elsewhere() {
    let own = IpAddr::from([192, 0, 2, 2]);
    let moving = IpAddr::from([198, 51, 100, 1]);
    let mut cluster = pair();
    cluster.set_addresses(0, &[own, moving]);
    cluster.promote(0);
    cluster.kernel_mut(0).masquerade(moving, 20);
    cluster.run_until_at_rest(10 * SECOND);
    let alive = cluster.kernel(0).tuples();
    assert!(alive.len() >= 20);
    // keepalived takes the address away, the kernel destroys, and some time later both are told.
    cluster.set_addresses(0, &[own]);
    cluster.run(SECOND / 5);
    cluster.kernel_mut(0).lose_address(moving);
    cluster.run(SECOND);
    cluster.demote(0);
    cluster.promote(1);
    cluster.run(2 * SECOND);
    assert_eq!(cluster.kernel(1).tuples(), alive);
    cluster.run_until_at_rest(60 * SECOND);
}
