//! Hot standby: the kernels of the standbys hold what the active tracks, whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use ctsyncd::cache::Slot;
use ctsyncd::cache::local::Origin;
use ctsyncd::engine::status::Role;
use ctsyncd::flow::Tuple;

use crate::cluster::{Cluster, Options};
use crate::rng::Rng;
use crate::{SECOND, seeds};

/// What of a flow a copy must have.
type Kept = BTreeMap<[u8; 40], (Tuple, Tuple, u32)>;

fn pair() -> Cluster {
    let mut cluster = Cluster::new(Options {
        nodes: 2,
        flows: 40,
        is_hot: true,
        ..Options::default()
    });
    cluster.run(SECOND);
    cluster.promote(0);
    cluster.route_to(0);
    cluster.live_on(0, 100);
    at_rest(&mut cluster, 0, 20 * SECOND);
    cluster
}

fn kept(cluster: &Cluster, node: usize) -> Kept {
    let flows = cluster.kernel(node).flows().into_iter();
    flows
        .map(|(key, flow)| (key, (flow.orig, flow.reply, flow.mark)))
        .collect()
}

fn copies(cluster: &Cluster, node: usize) -> usize {
    cluster.engine(node).local().copies() as usize
}

/// Lets everything come to rest; then the standbys hold what the active has, and tell none of it.
fn at_rest(cluster: &mut Cluster, active: usize, limit: Duration) {
    cluster.run_until_at_rest(limit);
    // What is in no replica is somebody's until the active has been so for a while, and what a
    // standby still has of its own ages; then the next scrub walks.
    let mut waited = Duration::ZERO;
    while let Some(what) = unlike(cluster, active) {
        assert!(
            waited < limit + 400 * SECOND,
            "seed {}: {what}",
            cluster.seed()
        );
        cluster.run(SECOND);
        waited += SECOND;
    }
    cluster.run_until_at_rest(limit);
}

/// What makes some kernel unlike the active's.
fn unlike(cluster: &Cluster, active: usize) -> Option<String> {
    let wanted = kept(cluster, active);
    for node in (0..cluster.nodes()).filter(|&node| node != active && cluster.runs(node)) {
        let held = kept(cluster, node);
        let local = cluster.engine(node).local();
        for (key, flow) in &wanted {
            if held.get(key) != Some(flow) {
                return Some(format!("fw{node} has {:?} for {flow:?}", held.get(key)));
            }
        }
        for slot in (0..local.slots()).map(Slot) {
            let Some(flow) = local.flow(slot) else {
                continue;
            };
            let origin = local.origin(slot);
            assert!(
                !local.replicates(slot) || matches!(origin, Origin::Own | Origin::Shared),
                "seed {}: fw{node} tells a flow that is not its own",
                cluster.seed()
            );
            let is_wanted = wanted.contains_key(&crate::kernel::ordered(&flow.key()));
            if !is_wanted && origin != Origin::Own {
                return Some(format!("fw{node} holds {flow:?}, which nobody has"));
            }
            if is_wanted && origin != Origin::Derived {
                return Some(format!("fw{node} takes {flow:?} for {origin:?}"));
            }
        }
    }
    let local = cluster.engine(active).local();
    let is_copy = |slot: &Slot| local.flow(*slot).is_some() && local.origin(*slot).is_copy();
    if (0..local.slots()).map(Slot).any(|slot| is_copy(&slot)) {
        return Some(format!("fw{active} is active and holds copies"));
    }
    None
}

#[test]
pub(crate) fn the_standbys_kernel_holds_what_the_active_tracks() {
    let mut cluster = pair();
    assert!(copies(&cluster, 1) > 10);
    for _ in 0..50 {
        cluster.live_on(0, 20);
        cluster.run(SECOND / 10);
    }
    at_rest(&mut cluster, 0, 20 * SECOND);
    assert!(copies(&cluster, 1) > 10);
}

#[test]
pub(crate) fn a_promotion_at_rest_is_a_change_of_role() {
    let mut cluster = pair();
    let writes = cluster.kernel(1).writes;
    let flows = kept(&cluster, 1);
    cluster.crash(0);
    cluster.promote(1);
    assert_eq!(cluster.status(1).role, Role::Active, "at once");
    cluster.route_to(1);
    cluster.run(20 * SECOND);
    assert_eq!(kept(&cluster, 1), flows);
    assert_eq!(cluster.kernel(1).writes, writes, "nothing was left to do");
    assert_eq!(copies(&cluster, 1), 0, "they are its own now");
}

#[test]
pub(crate) fn copies_outlive_their_timeouts_while_their_owner_has_them() {
    let mut cluster = pair();
    let flows = kept(&cluster, 1);
    let writes = cluster.kernel(1).writes;
    // Nothing is told meanwhile: the owner's packets refresh its entries without events.
    for _ in 0..40 {
        cluster.run(30 * SECOND);
        assert_eq!(kept(&cluster, 1), flows);
    }
    let rearmed = cluster.kernel(1).writes - writes;
    let per_flow = rearmed / flows.len() as u64;
    assert!((6..=10).contains(&per_flow), "{per_flow} writes a flow");
}

#[test]
pub(crate) fn a_copy_that_ends_here_is_created_again() {
    let mut cluster = pair();
    let flows = kept(&cluster, 1);
    for _ in 0..10 {
        cluster.expire_one(1);
    }
    assert!(kept(&cluster, 1).len() < flows.len());
    cluster.run(2 * SECOND);
    assert_eq!(kept(&cluster, 1), flows, "before any walk");
}

#[test]
pub(crate) fn what_a_demoted_node_loses_ends_nothing_elsewhere() {
    let mut cluster = pair();
    let flows = kept(&cluster, 1);
    cluster.demote(0);
    cluster.run(2 * SECOND);
    // The addresses go, and with them what was masqueraded behind them.
    for _ in 0..5 {
        cluster.end_one(0);
    }
    cluster.run(5 * SECOND);
    assert_eq!(kept(&cluster, 1), flows);
    cluster.promote(1);
    assert_eq!(cluster.status(1).role, Role::Active, "at once");
    assert_eq!(kept(&cluster, 1), flows);
}

#[test]
fn copies_of_an_owner_that_is_gone_age() {
    let mut cluster = pair();
    cluster.crash(0);
    // 120 s that its flows live without a packet, 180 s of grace, and what was written last.
    cluster.run(700 * SECOND);
    assert_eq!(kept(&cluster, 1).len(), 0);
}

#[test]
pub(crate) fn failover_and_failback_again_and_again() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(Options {
            nodes: 2,
            flows: 40,
            is_hot: true,
            seed,
            ..Options::default()
        });
        cluster.run(SECOND);
        cluster.promote(0);
        cluster.route_to(0);
        for round in 0..6 {
            let (from, to) = (round % 2, 1 - round % 2);
            cluster.live_on(from, 60);
            at_rest(&mut cluster, from, 20 * SECOND);
            let before = kept(&cluster, from);
            cluster.demote(from);
            cluster.promote(to);
            assert_eq!(cluster.status(to).role, Role::Active, "at once");
            cluster.route_to(to);
            for (key, flow) in before {
                assert_eq!(kept(&cluster, to).get(&key), Some(&flow));
            }
            cluster.run(SECOND / 10);
        }
    }
}

#[test]
pub(crate) fn a_restarted_standby_knows_its_copies_again() {
    let mut cluster = pair();
    let writes = cluster.kernel(1).writes;
    cluster.restart(1);
    at_rest(&mut cluster, 0, 20 * SECOND);
    assert_eq!(cluster.kernel(1).writes, writes, "nothing was written");
    assert_eq!(cluster.sent(1)[0].records, 0, "and nothing was told");
    // And what ended while it was down goes.
    cluster.stop(1);
    cluster.live_on(0, 60);
    cluster.run(SECOND);
    cluster.restart(1);
    at_rest(&mut cluster, 0, 20 * SECOND);
}

/// What ended on the new owner before it was told there is nobody's, and goes from the old owner.
#[test]
pub(crate) fn what_ends_right_after_a_change_of_roles_stays_nowhere() {
    let mut cluster = pair();
    cluster.demote(0);
    cluster.promote(1);
    cluster.route_to(1);
    for _ in 0..5 {
        cluster.end_one(1);
    }
    let flows = kept(&cluster, 1);
    // Less than what is left ages in, and enough for a scrub after ten seconds.
    cluster.run(80 * SECOND);
    assert_eq!(kept(&cluster, 1), flows);
    assert_eq!(kept(&cluster, 0), flows);
}

/// A cluster in hot standby lives through a random minute of failovers; then it must come to rest.
pub(crate) fn live(seed: u64, is_orderly: bool) {
    let mut rng = Rng::new(seed);
    let options = Options {
        nodes: 2 + rng.below(2) as usize,
        flows: 2 + rng.below(40) as u16,
        loss_percent: if is_orderly { 0 } else { rng.below(20) as u32 },
        delay_ms_max: 1 + rng.below(if is_orderly { 3 } else { 20 }),
        is_hot: true,
        seed,
        ..Options::default()
    };
    let mut cluster = Cluster::new(options);
    let mut active = 0;
    cluster.run(SECOND);
    cluster.promote(active);
    cluster.route_to(active);
    for _ in 0..150 {
        let node = rng.below(options.nodes as u64) as usize;
        match rng.below(if is_orderly { 24 } else { 34 }) {
            0..=15 => cluster.live_on(active, 1 + rng.below(8)),
            16 | 17 => cluster.overrun_nothing(node),
            // One that restarts does not know that what it finds was its own once, and lets it age.
            18 if node != active && !is_orderly => cluster.restart(node),
            19 if node != active => cluster.expire_one(node),
            20 | 21 if node != active => {
                if is_orderly {
                    at_rest(&mut cluster, active, 30 * SECOND);
                }
                if rng.percent(50) {
                    cluster.demote(active);
                    cluster.promote(node);
                } else {
                    cluster.promote(node);
                    cluster.run(Duration::from_millis(rng.below(100)));
                    cluster.demote(active);
                }
                active = node;
                cluster.route_to(active);
            }
            24 | 25 => cluster.cut(node, (node + 1) % options.nodes),
            26..=28 => cluster.heal(),
            29 => cluster.restart(node),
            30 => cluster.reboot_standby(node, active),
            31 => cluster.flush_replicas(node),
            32 => cluster.resync_peers(node),
            33 => cluster.commit(active),
            _ => {}
        }
        cluster.run(Duration::from_millis(rng.below(300)));
        assert_tells_only_its_own(&cluster);
    }
    cluster.heal();
    cluster.end_of_faults();
    for node in 0..options.nodes {
        if node != active {
            cluster.demote(node);
        }
    }
    cluster.promote(active);
    at_rest(&mut cluster, active, 150 * SECOND);
    if is_orderly {
        for node in 0..options.nodes {
            for (_, _, mark) in kept(&cluster, node).into_values() {
                let has_ended = cluster.lives.has_ended(mark);
                assert!(!has_ended, "seed {seed}: an ended flow lives on fw{node}");
            }
        }
    }
}

/// A standby tells the peers of nothing that is a copy.
fn assert_tells_only_its_own(cluster: &Cluster) {
    for node in (0..cluster.nodes()).filter(|&node| cluster.runs(node)) {
        let engine = cluster.engine(node);
        let local = engine.local();
        for slot in (0..local.slots()).map(Slot) {
            let is_told = local.flow(slot).is_some() && local.replicates(slot);
            let is_copy = local.flow(slot).is_some()
                && matches!(local.origin(slot), Origin::Derived | Origin::Found);
            assert!(
                !(is_told && is_copy),
                "seed {}: fw{node} tells a copy",
                cluster.seed()
            );
        }
    }
}

#[test]
fn hot_random_lives_converge() {
    for seed in seeds() {
        live(seed, false);
    }
}

#[test]
fn hot_orderly_lives_bring_nothing_back() {
    for seed in seeds() {
        live(seed, true);
    }
}
