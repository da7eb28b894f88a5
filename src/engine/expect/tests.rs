//! Every answer of the kernel, and what the local cache knows.

use super::*;
use crate::cache::HashKey;
use crate::cache::local::{Applied, Circumstances, Master, Origin};
use crate::flow::rare::HelperName;
use crate::flow::{EventKind, ExpectationEvent, FlowEvent, Present, Rare};

const KEY: HashKey = HashKey([1, 2]);
const AT: Circumstances = Circumstances {
    now: 10,
    listeners: 0,
    round: 0,
    era: 1,
    found_era: 0,
    born: Origin::Own,
    found: Origin::Own,
    shares: false,
    is_echo: false,
};

fn expectation(port: u16) -> Expectation {
    let mut expectation = Expectation {
        timeout_secs: 300,
        ..Expectation::default()
    };
    expectation.tuple.dst_id = port;
    expectation
}

fn expect(step: Step, attempts: u8) -> Box<Expect> {
    let mut expect = Expect::new(&expectation(1), 100, 180);
    (expect.step, expect.attempts) = (step, attempts);
    Box::new(expect)
}

fn refused(errno: i32) -> Option<Answer> {
    Some(Answer {
        seq: 0,
        outcome: Outcome::Refused(errno),
    })
}

#[test]
fn it_lives_for_what_is_left_but_at_least_the_grace_and_at_most_what_was_told() {
    let secs = |told: u32, left, grace| {
        let told = Expectation {
            timeout_secs: told,
            ..expectation(1)
        };
        Expect::new(&told, left, grace).timeout_secs
    };
    assert_eq!(secs(300, 250, 180), 250);
    assert_eq!(secs(300, 5, 180), 180);
    assert_eq!(secs(60, 5, 180), 60);
}

#[test]
fn a_create_is_followed_by_its_timeout() {
    let Verdict::Again(next) = expect(Step::Create, 0).judge(None, true) else {
        panic!("its timeout is to be set");
    };
    assert_eq!(next.step, Step::SetTimeout);
    assert!(matches!(next.judge(None, true), Verdict::Created));
    // It may have been used meanwhile.
    let used = expect(Step::SetTimeout, 0).judge(refused(libc::ENOENT), true);
    assert!(matches!(used, Verdict::Created));
}

#[test]
fn one_that_is_there_is_left_alone_unless_it_may_be_ours() {
    let there = expect(Step::Create, 0).judge(refused(libc::EEXIST), true);
    assert!(matches!(there, Verdict::Already));
    let ours = expect(Step::Create, 1).judge(refused(libc::EEXIST), true);
    assert!(matches!(ours, Verdict::Again(next) if next.step == Step::SetTimeout));
}

#[test]
fn every_refusal_has_its_reason() {
    for (errno, failure) in [
        (libc::ENOENT, Failure::NoMaster),
        (libc::EOPNOTSUPP, Failure::NoHelper),
        (libc::EBUSY, Failure::Conflict),
        (libc::EMFILE, Failure::TooMany),
        (libc::EINVAL, Failure::Refused(libc::EINVAL)),
    ] {
        match expect(Step::Create, 0).judge(refused(errno), true) {
            Verdict::Failed(found) => assert_eq!(found, failure),
            other => panic!("{errno}: {other:?}"),
        }
        assert!(!failure.reason().is_empty());
    }
}

#[test]
fn lost_answers_are_asked_for_again_a_few_times() {
    let mut next = expect(Step::Create, 0);
    for _ in 1..ATTEMPTS_MAX {
        let Verdict::Again(again) = next.judge(None, false) else {
            panic!("it is tried again");
        };
        assert_eq!(again.step, Step::Create);
        next = again;
    }
    let last = next.judge(None, false);
    assert!(matches!(last, Verdict::Failed(Failure::NoAnswer)));
}

#[test]
fn what_is_newer_here_is_not_dropped_for_what_a_replica_remembers() {
    let mut local = Local::new(KEY, 10, 10);
    let mut replica = Replica::new(KEY, 10);
    let wanted = expectation(1);
    let look_at = |local: &Local, replica: &Replica| look(local, 1, replica, &wanted);
    assert_eq!(look_at(&local, &replica), Look::Missing);

    let mut master = FlowEvent {
        kind: EventKind::New,
        present: Present(Present::HELPER),
        ..FlowEvent::default()
    };
    master.rare = Rare {
        helper: HelperName::new(b"ftp"),
        ..Rare::default()
    };
    local.apply(&master, AT, |_, _| true);
    let tell = |local: &mut Local, port, at: Circumstances| {
        let event = ExpectationEvent {
            kind: EventKind::New,
            port_id: 0,
            expectation: expectation(port),
        };
        let Master::Known(slot) = local.master(&event.expectation.master) else {
            panic!("it is there");
        };
        assert_eq!(local.expect(&event, slot, at), Applied::Changed);
    };
    assert_eq!(look_at(&local, &replica), Look::Missing);
    // From before this node last lost the active role: stale.
    tell(&mut local, 2, Circumstances { era: 0, ..AT });
    assert_eq!(look_at(&local, &replica), Look::Missing);
    tell(&mut local, 3, AT);
    assert_eq!(look_at(&local, &replica), Look::Superseded);
    // The replica has that one too: the helper expects both.
    let other = expectation(3);
    let hash = KEY.of_expectation_key(&other.key());
    replica.store_expectation(hash, &other, 1, 0);
    assert_eq!(look_at(&local, &replica), Look::Missing);
    tell(&mut local, 1, AT);
    assert_eq!(look_at(&local, &replica), Look::Already);
}
