//! The data path allocates nothing once it is warm: netlink bytes in, datagrams across, acks back.
//!
//! An allocator counts what is asked of it while two engines replicate flows of every kind, with
//! ends and their tombstones, markers and the proofs that answer them. What is not covered, and
//! why: listings and commands, which run now and then. What a commit and a reconcile may allocate
//! is stated at their tests.

use ctsyncd::flow::{EventKind, Family};
use ctsyncd::wire::seal::{ClusterKey, Keyring};

#[path = "no_alloc/counting.rs"]
mod counting;
#[path = "no_alloc/messages.rs"]
mod messages;
#[path = "no_alloc/pair.rs"]
mod pair;

use counting::allocations;
use messages::{KINDS, Messages};
use pair::{FLOWS, Pair, Setup};

/// Hellos that one node sends while it is measured: one a second, of virtual time.
const HELLOS: u64 = 7;
/// Allocations that sealing and opening a hello take: its key is derived for it.
const PER_HELLO: u64 = 12;

/// Allocations of a commit: its lists and their growth, its outcome for whoever asks.
const PER_COMMIT: u64 = 16;

/// Allocations of a reconcile: four lists and their growth.
const PER_RECONCILE: u64 = 32;

#[test]
fn the_counter_counts() {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1u8)));
    assert_eq!(allocations() - before, 1);
}

#[test]
fn events_datagrams_and_acks_allocate_nothing_once_warm() {
    assert_eq!(Life::new(&Setup::default()).allocated, 0);
}

#[test]
fn sealed_only_hellos_allocate() {
    let life = Life::new(&Setup {
        keyring: Some(Keyring {
            primary: ClusterKey::new([7; 32]),
            other: None,
        }),
        ..Setup::default()
    });
    assert!(
        life.allocated <= 2 * HELLOS * PER_HELLO,
        "{} allocations are not those of hellos",
        life.allocated
    );
}

#[test]
fn datagrams_lost_and_out_of_order_allocate_nothing_either() {
    let life = Life::new(&Setup {
        is_lossy: true,
        ..Setup::default()
    });
    assert_eq!(life.allocated, 0);
    assert!(life.lost > 100, "{} were lost", life.lost);
}

#[test]
fn the_writes_of_a_hot_standby_allocate_nothing_once_warm() {
    let life = Life::new(&Setup {
        is_hot: true,
        ..Setup::default()
    });
    assert_eq!(life.allocated, 0);
    assert!(life.written > 50_000, "{} were written", life.written);
}

/// What a pair has done over 100,000 events, once it is warm.
struct Life {
    allocated: u64,
    /// Datagrams that the sender took for lost.
    lost: u64,
    /// Messages that were written to the kernel.
    written: u64,
}

impl Life {
    fn new(setup: &Setup) -> Self {
        let mut pair = Pair::new(setup);
        for _ in 0..3_000 {
            pair.live();
        }

        let before = (allocations(), pair.datagrams, pair.lost(), pair.written());
        let mut proofs = 0;
        for _ in 0..2_000 {
            pair.live();
            proofs += u32::from(pair.is_just_proven());
        }
        let life = Self {
            allocated: allocations() - before.0,
            lost: pair.lost() - before.2,
            written: pair.written() - before.3,
        };

        assert!(pair.datagrams - before.1 > 4_000, "data and acks went");
        assert!(proofs > 10, "{proofs} markers were judged");
        pair.settle();
        pair.assert_equal();
        life
    }
}

/// A commit runs now and then and may allocate for itself: its walks, its counts by reason, the
/// memory of what is under way; with several peers a short list for each step. It does not allocate
/// for each flow, other than for expectations and refusals.
#[test]
fn a_commit_allocates_for_itself_and_not_for_each_flow() {
    let mut pair = Pair::new(&Setup::default());
    pair.commit();
    let (before, written) = (allocations(), pair.written());
    pair.commit();
    let allocated = allocations() - before;
    assert_eq!(pair.written() - written, u64::from(FLOWS));
    assert!(
        allocated <= PER_COMMIT,
        "{allocated} allocations of a commit of {FLOWS} flows"
    );
}

/// A reconcile has lists of its own, which grow with what differs by doubling; neither questions
/// nor answers nor repairs allocate for each flow.
#[test]
fn a_reconcile_allocates_for_itself_and_not_for_each_flow() {
    let mut pair = Pair::new(&Setup::default());
    for _ in 0..2 {
        pair.reconcile(900);
    }
    for flows in [9, 900] {
        let before = allocations();
        assert_eq!(pair.reconcile(flows), flows as u64);
        let allocated = allocations() - before;
        assert!(
            (1..=PER_RECONCILE).contains(&allocated),
            "{allocated} allocations to find {flows} flows"
        );
    }
    pair.assert_equal();
}

#[test]
fn the_flows_are_of_every_kind() {
    let (mut messages, mut events) = (Messages::new(), Vec::new());
    for number in 0..KINDS as u16 {
        messages.read(EventKind::New, number, 9, &mut events);
    }
    let [nat, helper, ipv6, zone, rare] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(nat.flow.is_snat() && nat.flow.is_dnat());
    assert!(helper.rare.helper.is_some() && helper.rare.labels.is_some());
    assert_eq!(ipv6.flow.orig.family, Family::V6);
    assert_eq!((zone.flow.zone.id, zone.flow.orig.protocol), (5, 17));
    assert!(rare.rare.seqadj_orig.is_some() && rare.rare.seqadj_reply.is_some());
    assert!(rare.rare.synproxy.is_some() && rare.rare.master.is_some());
    assert!(events[1..].iter().all(|event| !event.flow.is_nat()));
    assert!(events.iter().all(|event| event.flow.mark == 9));
}
