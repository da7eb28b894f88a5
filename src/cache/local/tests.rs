//! The local cache against a plain map and a plain vector, and its rules one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::flow::rare::HelperName;
use crate::flow::{ProtoInfo, Status};

const KEY: HashKey = HashKey([5, 6]);
const AT: Circumstances = Circumstances {
    now: 10,
    listeners: 1,
    round: 0,
    era: 1,
    found_era: 0,
    born: Origin::Own,
    found: Origin::Own,
    shares: false,
    is_echo: false,
};

fn event(kind: EventKind, number: u16, mark: u32) -> FlowEvent {
    let mut flow = Flow {
        mark,
        timeout_secs: 100,
        ..Flow::default()
    };
    flow.status = Status(Status::CONFIRMED);
    flow.orig.src_id = number;
    let present = Present(Present::STATUS | Present::TIMEOUT);
    FlowEvent {
        kind,
        present,
        flow,
        ..FlowEvent::default()
    }
}

fn all(_: &Flow, _: Secs) -> bool {
    true
}

/// Odd marks replicate.
fn odd(flow: &Flow, _: Secs) -> bool {
    flow.mark % 2 == 1
}

fn hash(number: u16) -> u64 {
    KEY.of_key(&event(EventKind::New, number, 0).flow.key())
}

/// Everything behind a cursor, as (hash, mark or tombstone).
fn walk(local: &mut Local, cursor: &Cursor) -> Vec<(u64, Option<u32>)> {
    let mut seen = Vec::new();
    let mut last = 0;
    while let Some((slot, version)) = local.peek(cursor) {
        assert!(version > last, "the list is in the order of versions");
        last = version;
        seen.push(
            match local
                .entry(slot, 0)
                .expect("listed entries have something to send")
            {
                Entry::Flow { flow, .. } => (KEY.of_key(&flow.key()), Some(flow.mark)),
                Entry::Expectation { .. } => unreachable!("there are flows only"),
                Entry::Tombstone { hash } => (hash, None),
            },
        );
        local.pass(cursor, slot);
    }
    seen
}

#[test]
fn a_flow_that_changed_ten_times_is_read_once_with_its_newest_value() {
    let mut local = Local::new(KEY, 10, 10);
    let cursor = local.open_at_end();
    local.apply(&event(EventKind::New, 1, 0), AT, all);
    local.apply(&event(EventKind::New, 2, 0), AT, all);
    for mark in 1..=10 {
        assert_eq!(
            local.apply(&event(EventKind::Update, 1, mark), AT, all),
            Applied::Changed
        );
    }
    assert_eq!(
        local.apply(&event(EventKind::Update, 1, 10), AT, all),
        Applied::Same
    );
    assert_eq!(
        walk(&mut local, &cursor),
        [(hash(2), Some(0)), (hash(1), Some(10))]
    );
    assert_eq!(walk(&mut local, &cursor), []);
}

#[test]
fn an_end_leaves_a_tombstone_until_every_listener_has_heard() {
    let mut local = Local::new(KEY, 10, 10);
    let cursor = local.open_at_end();
    local.apply(&event(EventKind::New, 1, 0), AT, all);
    local.apply(
        &event(EventKind::Destroy, 1, 0),
        Circumstances {
            listeners: 0b11,
            ..AT
        },
        all,
    );
    let (slot, version) = local.peek(&cursor).expect("the tombstone");
    assert_eq!(
        local.entry(slot, 0),
        Some(Entry::Tombstone { hash: hash(1) })
    );
    local.heard(slot, version, 0b01);
    assert_eq!(local.tombstones(), 1);
    local.heard(slot, version - 1, 0b10); // what was acknowledged was an older entry of the slot
    assert_eq!(local.tombstones(), 1);
    local.heard(slot, version, 0b10);
    assert_eq!((local.tombstones(), local.peek(&cursor)), (0, None));
    local.apply(&event(EventKind::New, 1, 0), AT, all);
    local.apply(
        &event(EventKind::Destroy, 1, 0),
        Circumstances { listeners: 0, ..AT },
        all,
    );
    assert_eq!(local.tombstones(), 0, "nobody listens");
}

#[test]
fn a_session_that_ends_frees_its_tombstones() {
    let mut local = Local::new(KEY, 10, 10);
    for number in 0..3 {
        local.apply(&event(EventKind::New, number, 0), AT, all);
        let listeners = if number == 0 { 0b11 } else { 0b01 };
        local.apply(
            &event(EventKind::Destroy, number, 0),
            Circumstances { listeners, ..AT },
            all,
        );
    }
    local.nobody_listens(0b01);
    assert_eq!(local.tombstones(), 1);
}

#[test]
fn a_peer_leaves_in_steps_and_takes_nothing_of_its_next_session_along() {
    let many = 3_000;
    let mut local = Local::new(KEY, 10, many);
    let bury = |local: &mut Local, number, listeners| {
        local.apply(&event(EventKind::New, number, 0), AT, all);
        let at = Circumstances { listeners, ..AT };
        local.apply(&event(EventKind::Destroy, number, 0), at, all);
    };
    for number in 0..many as u16 {
        bury(
            &mut local,
            number,
            if number % 2 == 0 { 0b11 } else { 0b01 },
        );
    }
    local.nobody_listens(0b01);
    assert!(local.has_more() && local.tombstones() > many / 2);
    // One that is looked at next goes by itself, and another one is of the next session.
    local.apply(&event(EventKind::New, 1_025, 0), AT, all);
    bury(&mut local, 3_001, 0b01);
    while local.has_more() {
        local.go_on();
    }
    assert_eq!(local.tombstones(), many / 2 + 1);
    local.nobody_listens(0b10);
    while local.has_more() {
        local.go_on();
    }
    assert_eq!(local.tombstones(), 1);
}

#[test]
fn cursors_outlive_a_flush() {
    let mut local = Local::new(KEY, 10, 10);
    local.apply(&event(EventKind::New, 1, 0), AT, all);
    let cursor = local.open_at_start();
    local.clear();
    assert!(local.has_more(), "memory is freed in steps");
    local.go_on();
    assert!(!local.has_more());
    assert_eq!(local.peek(&cursor), None);
    local.apply(&event(EventKind::New, 2, 0), AT, all);
    assert_eq!(walk(&mut local, &cursor), [(hash(2), Some(0))]);
    local.close(cursor);
}

#[test]
fn over_the_cap_the_oldest_tombstone_goes() {
    let mut local = Local::new(KEY, 10, 2);
    let cursor = local.open_at_start();
    for number in 0..4 {
        local.apply(&event(EventKind::New, number, 0), AT, all);
        local.apply(&event(EventKind::Destroy, number, 0), AT, all);
    }
    assert_eq!(
        walk(&mut local, &cursor),
        [(hash(2), None), (hash(3), None)]
    );
}

#[test]
fn a_new_life_replaces_its_tombstone() {
    let mut local = Local::new(KEY, 10, 10);
    let cursor = local.open_at_end();
    local.apply(&event(EventKind::New, 1, 0), AT, all);
    local.apply(&event(EventKind::Destroy, 1, 0), AT, all);
    local.apply(&event(EventKind::New, 1, 7), AT, all);
    assert_eq!(walk(&mut local, &cursor), [(hash(1), Some(7))]);
    assert_eq!(local.tombstones(), 0);
}

#[test]
fn a_flow_that_leaves_the_policy_ends_for_the_peers_and_comes_back() {
    let mut local = Local::new(KEY, 10, 10);
    let cursor = local.open_at_end();
    assert_eq!(
        local.apply(&event(EventKind::New, 1, 2), AT, odd),
        Applied::Same
    );
    assert_eq!((local.tracked(), local.digest().flows()), (1, 0));
    assert_eq!(
        local.apply(&event(EventKind::Update, 1, 3), AT, odd),
        Applied::Changed
    );
    assert_eq!(walk(&mut local, &cursor), [(hash(1), Some(3))]);
    assert_eq!(
        local.apply(&event(EventKind::Update, 1, 4), AT, odd),
        Applied::Changed
    );
    assert_eq!(walk(&mut local, &cursor), [(hash(1), None)]);
    assert_eq!((local.tracked(), local.digest().flows()), (1, 0));
    assert_eq!(
        local.apply(&event(EventKind::Update, 1, 5), AT, odd),
        Applied::Changed
    );
    assert_eq!(walk(&mut local, &cursor), [(hash(1), Some(5))]);
}

#[test]
fn an_update_keeps_what_it_does_not_carry() {
    let mut local = Local::new(KEY, 10, 10);
    let mut born = event(EventKind::New, 1, 5);
    born.flow.proto = ProtoInfo::Tcp(crate::flow::proto::TcpInfo {
        state: 3,
        ..Default::default()
    });
    born.rare.helper = HelperName::new(b"ftp");
    born.rare.labels = Some([1; 16]);
    local.apply(&born, AT, all);
    let mut update = event(EventKind::Update, 1, 0);
    update.present = Present(Present::LABELS);
    update.rare.labels = Some([2; 16]);
    update.flow.timeout_secs = 0;
    local.apply(&update, Circumstances { now: 30, ..AT }, all);
    let slot = local.find(&born.flow.key()).expect("is there");
    let flow = local.flow(slot).expect("is a flow");
    assert_eq!(
        (flow.proto, flow.status, flow.mark),
        (born.flow.proto, born.flow.status, 0)
    );
    let rare = local.rare(slot).expect("has labels");
    assert_eq!(
        (rare.helper, rare.labels),
        (born.rare.helper, Some([2; 16]))
    );
    assert_eq!(
        local.timeout_left(slot, 30),
        80,
        "the timeout told at 10 runs on"
    );
}

#[test]
fn a_listing_does_not_overrule_an_event_of_its_round_and_sweeps_what_nobody_named() {
    let mut local = Local::new(KEY, 10, 10);
    for number in 1..=3 {
        local.apply(&event(EventKind::New, number, 0), AT, all);
    }
    let at = Circumstances { round: 1, ..AT };
    local.apply(&event(EventKind::Update, 1, 9), at, all);
    assert_eq!(
        local.apply(&event(EventKind::Listed, 1, 0), at, all),
        Applied::Same
    );
    local.apply(&event(EventKind::Listed, 2, 4), at, all);
    assert_eq!(local.sweep(Slot(0), 2, at, |_| false), (0, Some(Slot(2))));
    assert_eq!(local.sweep(Slot(2), 2, at, |_| false), (1, None));
    let mark = |number| {
        let slot = local.find(&event(EventKind::New, number, 0).flow.key());
        slot.map(|slot| local.flow(slot).expect("is a flow").mark)
    };
    assert_eq!([mark(1), mark(2), mark(3)], [Some(9), Some(4), None]);
}

#[test]
fn a_refreshed_timeout_is_announced_before_half_of_it_is_over_twice() {
    let mut local = Local::new(KEY, 10, 10);
    local.apply(&event(EventKind::New, 1, 0), AT, all);
    let mut listed = event(EventKind::Listed, 1, 0);
    listed.flow.timeout_secs = 95;
    let at = |now, round| Circumstances { now, round, ..AT };
    assert_eq!(local.apply(&listed, at(40, 1), all), Applied::Same);
    assert_eq!(local.apply(&listed, at(61, 2), all), Applied::Changed);
    assert_eq!(local.apply(&listed, at(70, 3), all), Applied::Same);
}

#[test]
fn a_full_table_refuses_and_says_so() {
    let mut local = Local::new(KEY, 1, 10);
    assert_eq!(
        local.apply(&event(EventKind::New, 1, 0), AT, all),
        Applied::Changed
    );
    assert_eq!(
        local.apply(&event(EventKind::New, 2, 0), AT, all),
        Applied::Full
    );
    assert_eq!(
        local.apply(&event(EventKind::Update, 1, 1), AT, all),
        Applied::Changed
    );
}

#[derive(Clone, Debug)]
enum Op {
    Told {
        kind: EventKind,
        number: u16,
        mark: u32,
        listeners: u8,
    },
    Heard {
        peer: u8,
    },
    Read {
        steps: usize,
    },
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        4 => Just(EventKind::New),
        4 => Just(EventKind::Update),
        3 => Just(EventKind::Destroy),
    ];
    prop_oneof![
        20 => (kind, 0..12u16, 0..4u32, 0..4u8)
            .prop_map(|(kind, number, mark, listeners)| Op::Told { kind, number, mark, listeners }),
        2 => (0..2u8).prop_map(|peer| Op::Heard { peer: 1 << peer }),
        6 => (0..6usize).prop_map(|steps| Op::Read { steps }),
        1 => Just(Op::Clear),
    ]
}

/// The list as a vector: (number, mark or tombstone, mask).
type Model = Vec<(u16, Option<u32>, u8)>;

proptest! {
    #[test]
    fn behaves_like_a_map_and_a_vector(ops in prop::collection::vec(op(), 1..200)) {
        const TOMBSTONES_MAX: usize = 4;
        let mut local = Local::new(KEY, 8, TOMBSTONES_MAX as u32);
        let reader = local.open_at_end();
        let mut told: BTreeMap<u64, Option<u32>> = BTreeMap::new();
        let mut kernel: BTreeMap<u16, u32> = BTreeMap::new();
        let mut model: Model = Vec::new();
        let mut cleared = false;
        for op in ops {
            match op {
                Op::Told { kind, number, mark, listeners } => {
                    let at = Circumstances { listeners, ..AT };
                    let applied = local.apply(&event(kind, number, mark), at, odd);
                    let was = kernel.get(&number).copied();
                    let is = (kind != EventKind::Destroy).then_some(mark);
                    if was.is_none() && is.is_some() && kernel.len() >= 8 {
                        prop_assert_eq!(applied, Applied::Full);
                        continue;
                    }
                    match is {
                        Some(mark) => kernel.insert(number, mark),
                        None => kernel.remove(&number),
                    };
                    let sent = |mark: Option<u32>| mark.filter(|mark| mark % 2 == 1);
                    prop_assert_eq!(applied == Applied::Changed, sent(was) != sent(is));
                    if sent(was) != sent(is) {
                        model.retain(|entry| entry.0 != number);
                        match sent(is) {
                            Some(mark) => model.push((number, Some(mark), 0)),
                            None if listeners != 0 => {
                                if model.iter().filter(|e| e.1.is_none()).count() == TOMBSTONES_MAX {
                                    let oldest = model.iter().position(|e| e.1.is_none());
                                    model.remove(oldest.expect("there are some"));
                                }
                                model.push((number, None, listeners));
                            }
                            None => {}
                        }
                    }
                }
                Op::Heard { peer } => {
                    local.nobody_listens(peer);
                    for entry in &mut model {
                        entry.2 &= !peer;
                    }
                    model.retain(|entry| entry.1.is_some() || entry.2 != 0);
                }
                Op::Read { steps } => {
                    for _ in 0..steps {
                        let Some((slot, _)) = local.peek(&reader) else { break };
                        match local.entry(slot, 0).expect("something to send") {
                            Entry::Flow { flow, .. } => {
                                told.insert(KEY.of_key(&flow.key()), Some(flow.mark))
                            }
                            Entry::Expectation { .. } => unreachable!("there are flows only"),
                            Entry::Tombstone { hash } => told.insert(hash, None),
                        };
                        local.pass(&reader, slot);
                    }
                }
                Op::Clear => {
                    local.clear();
                    kernel.clear();
                    model.clear();
                    cleared = true;
                }
            }
            let walker = local.open_at_start();
            let walked = walk(&mut local, &walker);
            local.close(walker);
            let expected: Vec<_> = model.iter().map(|e| (hash(e.0), e.1)).collect();
            prop_assert_eq!(walked, expected);
            prop_assert_eq!(local.tracked() as usize, kernel.len());
            let root = model.iter().filter_map(|e| e.1.map(|mark| (e.0, mark))).fold(
                0u64,
                |root, (number, mark)| {
                    let flow = event(EventKind::New, number, mark).flow;
                    root.wrapping_add(KEY.of_value(hash(number), &flow, None))
                },
            );
            prop_assert_eq!(local.digest().root(), root);
        }
        // What the reader was told in pieces is, in the end, what is there.
        while let Some((slot, _)) = local.peek(&reader) {
            match local.entry(slot, 0).expect("something to send") {
                Entry::Flow { flow, .. } => told.insert(KEY.of_key(&flow.key()), Some(flow.mark)),
                Entry::Expectation { .. } => unreachable!("there are flows only"),
                Entry::Tombstone { hash } => told.insert(hash, None),
            };
            local.pass(&reader, slot);
        }
        if !cleared {
            for (number, mark, _) in model.iter().filter(|entry| entry.1.is_some()) {
                prop_assert_eq!(told.get(&hash(*number)), Some(mark));
            }
        }
    }
}
