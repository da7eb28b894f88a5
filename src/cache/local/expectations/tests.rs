//! What binds an expectation to its master.

use super::*;
use crate::cache::local::Origin;
use crate::cache::{Digest, HashKey, Secs};
use crate::flow::rare::HelperName;
use crate::flow::{FlowEvent, Present, Zone};

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

/// Flows of an odd mark replicate.
fn odd(flow: &Flow, _: Secs) -> bool {
    flow.mark % 2 == 1
}

fn local() -> Local {
    Local::new(KEY, 100, 100)
}

fn master(number: u16, zone: u16, mark: u32) -> FlowEvent {
    let mut event = FlowEvent {
        kind: EventKind::New,
        present: Present(Present::STATUS | Present::TIMEOUT | Present::HELPER),
        ..FlowEvent::default()
    };
    event.flow.orig.src_id = number;
    event.flow.zone = Zone {
        id: zone,
        ..Zone::default()
    };
    (event.flow.mark, event.flow.timeout_secs) = (mark, 100);
    event.rare.helper = HelperName::new(b"ftp");
    event
}

fn expected(kind: EventKind, number: u16, port: u16) -> ExpectationEvent {
    let mut event = ExpectationEvent {
        kind,
        ..ExpectationEvent::default()
    };
    event.expectation.tuple.dst_id = port;
    event.expectation.master.src_id = number;
    event.expectation.timeout_secs = 300;
    event
}

fn expect(local: &mut Local, number: u16, port: u16, at: Circumstances) -> Applied {
    let event = expected(EventKind::New, number, port);
    let Master::Known(slot) = local.master(&event.expectation.master) else {
        panic!("flow {number} is there");
    };
    local.expect(&event, slot, at)
}

fn held(local: &Local, zone: u16, port: u16) -> Option<bool> {
    let mut key = ExpectationKey {
        zone,
        ..ExpectationKey::default()
    };
    key.tuple.dst_id = port;
    let slot = local.find_expectation(&key)?;
    Some(local.replicates(slot))
}

/// The digest is what the entries that replicate make it.
fn assert_digest(local: &Local) {
    let mut anew = Digest::default();
    for slot in (0..local.slots()).filter(|&slot| local.replicates(Slot(slot))) {
        let hash = local.key_hash(slot);
        anew.add(hash, local.value_hash(slot, hash));
    }
    let held = local.digest();
    assert_eq!((held.flows(), held.root()), (anew.flows(), anew.root()));
    assert!((0..=u16::MAX).all(|leaf| held.leaf(leaf) == anew.leaf(leaf)));
}

#[test]
fn an_expectation_replicates_if_and_only_if_its_master_does() {
    let mut local = local();
    local.apply(&master(1, 0, 0), AT, odd);
    assert_eq!(expect(&mut local, 1, 5001, AT), Applied::Same);
    assert_eq!(expect(&mut local, 1, 5002, AT), Applied::Same);
    assert_eq!(held(&local, 0, 5001), Some(false));
    assert_eq!((local.tracked(), local.digest().flows()), (3, 0));

    let update = FlowEvent {
        kind: EventKind::Update,
        ..master(1, 0, 1)
    };
    local.apply(&update, AT, odd);
    assert_eq!(held(&local, 0, 5001), Some(true));
    assert_eq!(held(&local, 0, 5002), Some(true));
    assert_eq!((local.expectations(), local.digest().flows()), (2, 3));
    assert_digest(&local);
    assert_eq!(expect(&mut local, 1, 5003, AT), Applied::Changed);

    let update = FlowEvent {
        kind: EventKind::Update,
        ..master(1, 0, 2)
    };
    local.apply(&update, AT, odd);
    assert_eq!(held(&local, 0, 5003), Some(false));
    assert_eq!((local.expectations(), local.digest().flows()), (0, 0));
    assert_eq!(local.tombstones(), 4, "the peers hear of every end");
    assert_digest(&local);
}

#[test]
fn an_expectation_ends_by_its_event_and_with_its_master() {
    let mut local = local();
    local.apply(&master(1, 0, 1), AT, odd);
    for port in [5001, 5002, 5003] {
        expect(&mut local, 1, port, AT);
    }
    // The one in the middle of those of its master.
    let end = expected(EventKind::Destroy, 1, 5002);
    assert_eq!(local.unexpect(&end, AT), Applied::Changed);
    assert_eq!(local.unexpect(&end, AT), Applied::Same);
    assert_eq!(held(&local, 0, 5002), None);
    let mut ports = Vec::new();
    let Master::Known(slot) = local.master(&end.expectation.master) else {
        panic!("it is there");
    };
    local.visit_expectations(slot, |_, held| ports.push(held.tuple.dst_id));
    assert_eq!(ports, [5003, 5001]);

    let end = FlowEvent {
        kind: EventKind::Destroy,
        ..master(1, 0, 1)
    };
    local.apply(&end, AT, odd);
    assert_eq!((local.tracked(), local.expectations()), (0, 0));
    assert_eq!(local.tombstones(), 4);
    assert_digest(&local);
    // Nothing of the old life is left for the next one.
    local.apply(&master(1, 0, 1), AT, odd);
    assert_eq!(expect(&mut local, 1, 5001, AT), Applied::Changed);
    assert_digest(&local);
}

#[test]
fn a_flow_that_loses_its_helper_expects_nothing_any_more() {
    let mut local = local();
    local.apply(&master(1, 0, 1), AT, odd);
    expect(&mut local, 1, 5001, AT);
    let mut without = master(1, 0, 1);
    (without.kind, without.rare.helper) = (EventKind::Update, None);
    local.apply(&without, AT, odd);
    assert_eq!(held(&local, 0, 5001), None);
    let tuple = without.flow.orig;
    assert_eq!(local.master(&tuple), Master::Unknown);
    assert_digest(&local);
}

#[test]
fn the_zone_is_the_masters_and_two_masters_of_one_tuple_are_ambiguous() {
    let mut local = local();
    local.apply(&master(1, 7, 1), AT, odd);
    expect(&mut local, 1, 5001, AT);
    assert_eq!(
        (held(&local, 7, 5001), held(&local, 0, 5001)),
        (Some(true), None)
    );
    local.apply(&master(1, 8, 1), AT, odd);
    let tuple = master(1, 7, 1).flow.orig;
    assert_eq!(local.master(&tuple), Master::Ambiguous);
    // What is known ends by its id; another one of the same tuple is another zone's.
    let mut end = expected(EventKind::Destroy, 1, 5001);
    end.expectation.id = 9;
    assert_eq!(local.unexpect(&end, AT), Applied::Same);
    end.expectation.id = 0;
    assert_eq!(local.unexpect(&end, AT), Applied::Changed);
}

#[test]
fn what_no_listing_names_is_swept_and_what_an_event_told_stays() {
    let mut local = local();
    local.apply(&master(1, 0, 1), AT, odd);
    expect(&mut local, 1, 5001, AT);
    expect(&mut local, 1, 5002, AT);
    expect(&mut local, 1, 5003, AT);
    let at = Circumstances { round: 1, ..AT };
    local.apply(
        &FlowEvent {
            kind: EventKind::Listed,
            ..master(1, 0, 1)
        },
        at,
        odd,
    );
    expect(&mut local, 1, 5001, at);
    let mut listed = expected(EventKind::Listed, 1, 5001);
    listed.expectation.class = 9;
    let Master::Known(slot) = local.master(&listed.expectation.master) else {
        panic!("it is there");
    };
    assert_eq!(
        local.expect(&listed, slot, at),
        Applied::Same,
        "older than the event"
    );
    let listed = expected(EventKind::Listed, 1, 5002);
    assert_eq!(local.expect(&listed, slot, at), Applied::Same, "as it was");
    let (swept, next) = local.sweep(Slot(0), 1000, at, |_| false);
    assert_eq!((swept, next), (1, None));
    let ports = [5001, 5002, 5003].map(|port| held(&local, 0, port));
    assert_eq!(ports, [Some(true), Some(true), None]);
    assert_digest(&local);
}

#[test]
fn a_full_table_refuses_an_expectation_and_says_so() {
    let mut local = Local::new(KEY, 2, 100);
    local.apply(&master(1, 0, 1), AT, odd);
    assert_eq!(expect(&mut local, 1, 5001, AT), Applied::Changed);
    assert_eq!(expect(&mut local, 1, 5002, AT), Applied::Full);
    assert_digest(&local);
}

#[test]
fn a_cleared_table_holds_no_expectations() {
    let mut local = local();
    local.apply(&master(1, 0, 1), AT, odd);
    expect(&mut local, 1, 5001, AT);
    local.clear();
    assert_eq!((local.tracked(), local.expectations()), (0, 0));
    local.apply(&master(1, 0, 1), AT, odd);
    expect(&mut local, 1, 5001, AT);
    assert_digest(&local);
}
