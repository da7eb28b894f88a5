//! The simulator can fail: each rule of the protocol is taken out in turn, and a checker notices.
//!
//! Most rules are missed by some random life. Where a full pass repairs in the end whatever went
//! wrong, only the price of that tells, and a scenario that states the price misses the rule.
//!
//! Not taken out here, and why:
//! - S4Retired: the challenge counts sessions, so no recorded greeting of an epoch that was left
//!   echoes it. Covered twice.
//! - J1: the whole table is asked for by M1 as well, and D1 starts nothing before. Covered twice.
//! - E3: costs bytes; `a_repair_of_what_has_changed_costs_bytes` measures that.
//! - A2, A3, D2, D3, D6, L1: when and in which portions something is said; without them it is said
//!   later or twice, and A5 makes a loss that is wrongly declared harmless.
//! - D5: tombstones that push each other out are found by the next marker; no scenario tried so far
//!   cost a further round without it.
//! - E5: cursors are nodes of the list; there is no other code to switch to.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ctsyncd::rules::{Rule, without};

use crate::cluster::{Cluster, Options};
use crate::{SECOND, live};

/// Where a rule is missed.
#[derive(Clone, Copy, Debug)]
enum Missed {
    /// In a random life.
    InALife,
    /// In a named scenario.
    In(fn()),
}

use Missed::{In, InALife};

const RULES: &[(Rule, Missed)] = &[
    (
        Rule::S3Count,
        In(crate::a_recorded_greeting_that_echoes_a_challenge_replaces_nobody),
    ),
    (
        Rule::S4Challenge,
        In(crate::a_recorded_greeting_that_echoes_a_challenge_replaces_nobody),
    ),
    (Rule::S6Session, InALife),
    (Rule::C2, InALife),
    (Rule::C3, InALife),
    (Rule::E1Floor, InALife),
    (Rule::E4, InALife),
    (Rule::E6, InALife),
    (Rule::A4Repair, InALife),
    (Rule::A4Floor, InALife),
    (Rule::A6Ping, InALife),
    (Rule::A6Answer, InALife),
    (Rule::T1Sent, InALife),
    (Rule::T1Every, InALife),
    (Rule::T3, InALife),
    (Rule::T4Dead, InALife),
    (Rule::T4Older, InALife),
    (Rule::R1, InALife),
    (Rule::R2, InALife),
    (Rule::R3Stamp, InALife),
    (Rule::R3Renew, InALife),
    (Rule::M1Whole, InALife),
    (Rule::M1Live, InALife),
    (Rule::M1Backfill, InALife),
    (Rule::M1Repairs, InALife),
    (Rule::M2Next, InALife),
    (Rule::M2Top, InALife),
    (
        Rule::M3,
        In(crate::a_table_without_room_for_tombstones_replicates_by_full_passes),
    ),
    (
        Rule::J3,
        In(crate::a_restarted_sender_is_believed_at_once_however_long_the_session_before_was),
    ),
    (
        Rule::D4Touch,
        In(crate::a_damaged_replica_is_repaired_without_a_full_pass),
    ),
    (
        Rule::D4Bury,
        In(crate::flows_that_ended_while_the_sender_was_down_leave_no_ghost),
    ),
    (
        Rule::D7Hold,
        In(crate::a_replica_that_is_too_small_is_full_of_true_flows_says_so_and_heals),
    ),
    (Rule::ListingLate, In(crate::events_and_listings_race)),
    (Rule::ListingEnds, In(crate::events_and_listings_race)),
    (Rule::ListingWhole, InALife),
    (
        Rule::HeldEnds,
        In(crate::flows_that_die_of_an_address_that_leaves_live_on_elsewhere),
    ),
    (
        Rule::HotTold,
        In(crate::hot::the_standbys_kernel_holds_what_the_active_tracks),
    ),
    (
        Rule::HotFound,
        In(crate::hot::a_restarted_standby_knows_its_copies_again),
    ),
    (
        Rule::HotStandbyEnds,
        In(crate::hot::what_a_demoted_node_loses_ends_nothing_elsewhere),
    ),
    (
        Rule::HotExpired,
        In(crate::hot::a_copy_that_ends_here_is_created_again),
    ),
    (
        Rule::HotRearm,
        In(crate::hot::copies_outlive_their_timeouts_while_their_owner_has_them),
    ),
    (
        Rule::HotStale,
        In(crate::hot::what_ends_right_after_a_change_of_roles_stays_nowhere),
    ),
    (
        Rule::HotClaim,
        In(crate::hot::a_promotion_at_rest_is_a_change_of_role),
    ),
];

/// Lives after which a rule counts as not missed.
const SEEDS: u64 = 150;

thread_local! {
    static IS_FAILURE_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// What a checker said, if one did.
fn failure(of: impl FnOnce()) -> Option<String> {
    IS_FAILURE_WANTED.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(of));
    IS_FAILURE_WANTED.set(false);
    let what = outcome.err()?;
    let text = what.downcast_ref::<String>().cloned();
    let text = text.or_else(|| what.downcast_ref::<&str>().map(|&text| text.to_owned()));
    Some(text.unwrap_or_default())
}

/// Where a rule is missed first, and what the checker said.
fn first_failure(rule: Rule, missed: Missed) -> Option<String> {
    let without = |life: &dyn Fn()| failure(|| without(rule, life));
    match missed {
        In(scenario) => without(&scenario).map(|what| format!("scenario: {what}")),
        InALife => (0..SEEDS).find_map(|seed| {
            [true, false].into_iter().find_map(|licensed| {
                let what = without(&|| live(seed, licensed))?;
                let suit = if licensed { "licensed" } else { "unlicensed" };
                Some(format!("seed {seed} {suit}: {what}"))
            })
        }),
    }
}

#[test]
fn a_checker_notices_each_rule_that_is_taken_out() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !IS_FAILURE_WANTED.get() {
            usual(info);
        }
    }));
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&(rule, missed)) = RULES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let line = (rule, first_failure(rule, missed));
                    show(rule, line.1.as_deref());
                    found.lock().expect("nobody panics here").push(line);
                }
            });
        }
    });
    let found = found.into_inner().expect("nobody panics here");
    let unnoticed: Vec<Rule> = found
        .iter()
        .filter_map(|(rule, what)| what.is_none().then_some(*rule))
        .collect();
    assert_eq!(found.len(), RULES.len());
    assert_eq!(unnoticed, [], "nothing fails without these");
}

#[test]
fn a_repair_of_what_has_changed_costs_bytes() {
    let repairs = || {
        let mut cluster = Cluster::new(Options {
            loss_percent: 30,
            flows: 10,
            ..Options::default()
        });
        cluster.run_until_at_rest(20 * SECOND);
        for _ in 0..300 {
            cluster.churn(0, 5);
            cluster.run(Duration::from_millis(20));
        }
        cluster.run_until_at_rest(20 * SECOND);
        cluster.sent(0)[0].repairs
    };
    let (with, without) = (repairs(), without(Rule::E3, repairs));
    assert!(without > with, "{without} repairs, {with} with the rule");
}

/// One line of the table: the rule, and what noticed.
fn show(rule: Rule, what: Option<&str>) {
    let what = what.unwrap_or("NOT NOTICED");
    let first: String = what
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(110)
        .collect();
    eprintln!("{:<13} {first}", format!("{rule:?}"));
}
