//! The table of hot standby, line by line.

use super::*;
use crate::flow::Tuple;
use crate::flow::tuple::TCP;

const STANDBY: Ours = Ours {
    is_active: false,
    claims: false,
    may_purge: false,
};
const ACTIVE: Ours = Ours {
    is_active: true,
    ..STANDBY
};
const STATUS: u32 = Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED;

fn tcp(state: u8) -> Flow {
    let orig = Tuple::new(TCP, [10, 0, 0, 1].into(), [192, 0, 2, 1].into(), 1000, 80);
    Flow {
        orig,
        reply: orig.inverse(),
        status: Status(STATUS),
        timeout_secs: 300,
        proto: ProtoInfo::Tcp(TcpInfo {
            state,
            flags_orig: BE_LIBERAL,
            flags_reply: BE_LIBERAL,
            ..TcpInfo::default()
        }),
        ..Flow::default()
    }
}

fn want(flow: &Flow) -> Want<'_> {
    Want {
        flow,
        rare: None,
        timeout_secs: 300,
        is_living: true,
    }
}

fn held(flow: &Flow, origin: Origin) -> Held<'_> {
    Held {
        flow,
        rare: None,
        origin,
        is_fresh: true,
        is_told: origin.is_told(),
        left_secs: 300,
    }
}

fn both(wanted: &Flow, kept: &Flow, origin: Origin, ours: Ours) -> Act {
    decide(
        Some(&want(wanted)),
        Some(&held(kept, origin)),
        Cause::Told,
        ours,
        false,
    )
}

#[test]
fn what_the_kernel_lacks_is_created_and_a_copy_that_is_right_is_left_alone() {
    let flow = tcp(3);
    let wanted = want(&flow);
    assert_eq!(
        decide(Some(&wanted), None, Cause::Told, STANDBY, false),
        Act::Create
    );
    assert_eq!(both(&flow, &flow, Origin::Derived, STANDBY), Act::Nothing);
}

#[test]
fn of_a_copy_only_what_differs_is_updated() {
    let (old, new) = (tcp(3), tcp(5));
    let Act::Update(update) = both(&new, &old, Origin::Derived, STANDBY) else {
        panic!("it is updated");
    };
    assert_eq!(
        (update.proto, update.timeout_secs),
        (Some(new.proto), Some(300))
    );
    assert_eq!((update.mark, update.status), (None, None));
    let marked = Flow { mark: 7, ..old };
    let Act::Update(update) = both(&marked, &old, Origin::Derived, STANDBY) else {
        panic!("it is updated");
    };
    assert_eq!((update.proto, update.mark), (None, Some(7)));
}

#[test]
fn a_new_life_is_created_anew() {
    let old = tcp(7);
    assert_eq!(
        both(&tcp(1), &old, Origin::Derived, STANDBY),
        Act::Replace,
        "state"
    );
    let mut other = old;
    other.reply.dst_id = 9;
    assert_eq!(
        both(&other, &old, Origin::Derived, STANDBY),
        Act::Replace,
        "translation"
    );
    let mut young = old;
    young.status = Status(Status::CONFIRMED);
    assert_eq!(
        both(&young, &old, Origin::Derived, STANDBY),
        Act::Replace,
        "status"
    );
}

#[test]
fn a_copy_is_rearmed_at_half_of_its_time() {
    let flow = tcp(3);
    let at = |left_secs| {
        let held = Held {
            left_secs,
            ..held(&flow, Origin::Derived)
        };
        decide(
            Some(&want(&flow)),
            Some(&held),
            Cause::Rearm,
            STANDBY,
            false,
        )
    };
    assert_eq!(at(150), Act::Nothing);
    let update = Update {
        timeout_secs: Some(300),
        ..Update::default()
    };
    assert_eq!(at(149), Act::Update(update));
}

#[test]
fn stale_entries_of_ours_are_replaced_unless_any_packet_passes_them() {
    let liberal = tcp(3);
    let mut tracked = liberal;
    tracked.proto = ProtoInfo::Tcp(TcpInfo {
        state: 3,
        ..TcpInfo::default()
    });
    let stale = |flow| {
        let held = Held {
            is_fresh: false,
            ..held(flow, Origin::Own)
        };
        decide(
            Some(&want(&liberal)),
            Some(&held),
            Cause::Told,
            STANDBY,
            false,
        )
    };
    assert_eq!(stale(&tracked), Act::Replace);
    assert_eq!(stale(&liberal), Act::Adopt);
}

#[test]
fn what_an_active_tracks_goes_forward_and_never_back() {
    for origin in [Origin::Own, Origin::Shared] {
        for (wanted, kept, moves) in [
            (2, 1, true),
            (3, 2, true),
            (3, 9, true),
            (7, 3, true),
            (3, 3, false),
            (1, 2, false),
            (3, 7, false),
            // The word on an earlier life does not close what is being set up.
            (7, 1, false),
            (8, 2, false),
        ] {
            let act = both(&tcp(wanted), &tcp(kept), origin, ACTIVE);
            assert_eq!(act != Act::Nothing, moves, "{wanted} over {kept}: {act:?}");
        }
    }
}

#[test]
fn two_nodes_that_tell_each_other_come_to_an_end() {
    for one in 0..10 {
        for other in 0..10 {
            let (mut one, mut other) = (tcp(one), tcp(other));
            let mut writes = 0;
            loop {
                let to_one = both(&other, &one, Origin::Own, ACTIVE);
                let to_other = both(&one, &other, Origin::Shared, ACTIVE);
                if (to_one, to_other) == (Act::Nothing, Act::Nothing) {
                    break;
                }
                if let Act::Update(update) = to_one {
                    one.proto = update.proto.expect("only the state differs");
                }
                if let Act::Update(update) = to_other {
                    other.proto = update.proto.expect("only the state differs");
                }
                writes += 1;
                assert!(writes <= 1, "{one:?} and {other:?} chase each other");
            }
        }
    }
}

#[test]
fn an_end_deletes_a_copy_and_an_active_looks_first() {
    let flow = tcp(3);
    let end = |origin, ours| decide(None, Some(&held(&flow, origin)), Cause::Gone, ours, false);
    assert_eq!(end(Origin::Derived, STANDBY), Act::Delete);
    assert_eq!(end(Origin::Derived, ACTIVE), Act::Ask);
    assert_eq!(
        end(Origin::Shared, ACTIVE),
        Act::Claim,
        "packets changed it here"
    );
    assert_eq!(end(Origin::Own, STANDBY), Act::Nothing);
    assert_eq!(end(Origin::Own, ACTIVE), Act::Nothing);
}

#[test]
fn what_no_replica_has_goes_only_when_the_living_are_proven() {
    let flow = tcp(3);
    let copy = held(&flow, Origin::Derived);
    let walk = |ours, is_nowhere| decide(None, Some(&copy), Cause::Walk, ours, is_nowhere);
    let purging = Ours {
        may_purge: true,
        ..STANDBY
    };
    assert_eq!(walk(STANDBY, true), Act::Nothing);
    assert_eq!(
        walk(purging, false),
        Act::Nothing,
        "a peer that is no source has it"
    );
    assert_eq!(walk(purging, true), Act::Delete);
    let found = held(&flow, Origin::Found);
    let act = decide(None, Some(&found), Cause::Walk, purging, true);
    assert_eq!(act, Act::Claim, "it was ours all along");
}

#[test]
fn a_promotion_claims_what_no_living_peer_carries() {
    let flow = tcp(3);
    let claiming = Ours {
        claims: true,
        ..ACTIVE
    };
    for origin in [Origin::Derived, Origin::Shared, Origin::Found] {
        let act = decide(
            None,
            Some(&held(&flow, origin)),
            Cause::Walk,
            claiming,
            false,
        );
        assert_eq!(act, Act::Claim);
    }
    let act = both(&flow, &flow, Origin::Derived, claiming);
    assert_eq!(act, Act::Nothing, "a living peer carries it");
}
