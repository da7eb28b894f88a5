//! What each answer of the kernel means at each step, and how long a restored flow gets.

use super::*;
use crate::engine::batch::Batches;
use crate::engine::orphans::Orphans;
use crate::flow::proto::{SctpInfo, TcpInfo};
use crate::flow::rare::HelperName;
use crate::flow::{FlowEvent, Tuple};

const GRACE: u32 = 180;

fn flow(protocol: u8) -> Flow {
    let orig = Tuple::new(
        protocol,
        [10, 0, 0, 1].into(),
        [192, 0, 2, 1].into(),
        1000,
        53,
    );
    Flow {
        orig,
        reply: orig.inverse(),
        ..Flow::default()
    }
}

fn tcp(state: u8) -> Flow {
    let proto = ProtoInfo::Tcp(TcpInfo {
        state,
        ..TcpInfo::default()
    });
    Flow { proto, ..flow(TCP) }
}

fn sctp(state: u8) -> Flow {
    let proto = ProtoInfo::Sctp(SctpInfo {
        state,
        ..SctpInfo::default()
    });
    Flow {
        proto,
        ..flow(SCTP)
    }
}

fn other(id: u32) -> Flow {
    let mut flow = flow(UDP);
    flow.reply.dst_id = 4444;
    flow.id = id;
    flow
}

fn found(flow: Flow) -> Option<Outcome> {
    Some(Outcome::Found(Box::new(FlowEvent {
        flow,
        ..FlowEvent::default()
    })))
}

const fn refused(errno: i32) -> Option<Outcome> {
    Some(Outcome::Refused(errno))
}

fn restore_with(rare: Rare, step: Step) -> Restore {
    let mut restore = Restore::new(&flow(UDP), Some(&rare), 60, GRACE);
    restore.step = step;
    restore
}

/// What a verdict says, in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Created,
    Replaced,
    Already,
    Again(Step),
    Failed(Failure),
}

fn judge(step: Step, outcome: Option<Outcome>, is_answered: bool) -> Said {
    let mut restore = restore_with(Rare::default(), step);
    restore.replaces = matches!(step, Step::Replace { .. });
    let answer = outcome.map(|outcome| Answer { seq: 1, outcome });
    match restore.judge(answer, is_answered) {
        Verdict::Created => Said::Created,
        Verdict::Replaced => Said::Replaced,
        Verdict::WithoutHelper => panic!("there is no helper"),
        Verdict::Already => Said::Already,
        Verdict::Again(restore) => Said::Again(restore.step),
        Verdict::Orphan(_) => panic!("it has no master"),
        Verdict::Failed(failure) => Said::Failed(failure),
    }
}

fn replace(blocker: Flow) -> Step {
    let id = Some(blocker.id);
    Step::Replace { blocker, id }
}

#[test]
fn every_answer_at_every_step() {
    use Failure::{Refused, TableFull};
    let right = flow(UDP);
    let reversed = Flow {
        orig: right.reply,
        reply: right.orig,
        id: 8,
        ..Flow::default()
    };
    let stale = replace(other(5));
    let table = [
        (Step::Create, None, Said::Created),
        (Step::Create, refused(libc::EEXIST), Said::Again(Step::Look)),
        (Step::Create, refused(libc::ENOMEM), Said::Failed(TableFull)),
        (
            Step::Create,
            refused(libc::EBUSY),
            Said::Failed(Refused(libc::EBUSY)),
        ),
        (
            Step::Create,
            refused(libc::ENOENT),
            Said::Failed(Refused(libc::ENOENT)),
        ),
        (
            Step::Create,
            refused(libc::EOPNOTSUPP),
            Said::Failed(Refused(libc::EOPNOTSUPP)),
        ),
        (stale, None, Said::Replaced),
        (stale, refused(libc::EEXIST), Said::Again(Step::Look)),
        (stale, refused(libc::ENOMEM), Said::Failed(TableFull)),
        (Step::Look, found(right), Said::Already),
        (Step::Look, found(other(7)), Said::Again(replace(other(7)))),
        (Step::Look, found(reversed), Said::Again(replace(reversed))),
        (
            Step::Look,
            refused(libc::ENOENT),
            Said::Again(Step::LookAtReply),
        ),
        (
            Step::Look,
            refused(libc::EPERM),
            Said::Failed(Refused(libc::EPERM)),
        ),
        (
            Step::LookAtReply,
            found(other(9)),
            Said::Again(replace(other(9))),
        ),
        (
            Step::LookAtReply,
            refused(libc::ENOENT),
            Said::Again(Step::Create),
        ),
        (
            Step::LookAtReply,
            refused(libc::EPERM),
            Said::Failed(Refused(libc::EPERM)),
        ),
    ];
    for (step, outcome, expected) in table {
        let said = judge(step, outcome.clone(), true);
        assert_eq!(said, expected, "{step:?} {outcome:?}");
        if outcome.is_some() {
            let said = judge(step, outcome.clone(), false);
            assert_eq!(said, expected, "an answer that came counts: {step:?}");
        }
    }
}

#[test]
fn a_step_whose_answer_was_lost_is_taken_again_as_it_was() {
    for step in [
        Step::Create,
        replace(other(5)),
        Step::Look,
        Step::LookAtReply,
    ] {
        assert_eq!(judge(step, None, false), Said::Again(step));
    }
}

#[test]
fn answers_that_stay_lost_are_counted_in_the_end() {
    let mut restore = restore_with(Rare::default(), Step::Create);
    for _ in 1..ATTEMPTS_MAX {
        let Verdict::Again(again) = restore.judge(None, false) else {
            panic!("it is tried again");
        };
        restore = again;
    }
    let verdict = restore.judge(None, false);
    assert!(matches!(verdict, Verdict::Failed(Failure::NoAnswer)));
}

#[test]
fn a_conflict_that_stays_is_given_up() {
    let mut restore = restore_with(Rare::default(), Step::Create);
    for _ in 0..20 {
        let outcome = match restore.step {
            Step::LookAtReply | Step::Look => refused(libc::ENOENT),
            Step::Create | Step::Replace { .. } => refused(libc::EEXIST),
        };
        let answer = outcome.map(|outcome| Answer { seq: 1, outcome });
        match restore.judge(answer, true) {
            Verdict::Again(again) => restore = again,
            Verdict::Failed(failure) => return assert_eq!(failure, Failure::Conflict),
            verdict => panic!("{verdict:?}"),
        }
    }
    panic!("it never ends");
}

#[test]
fn a_taken_tuple_and_a_taken_reply_tuple_are_both_cleared() {
    let mut restore = restore_with(Rare::default(), Step::Create);
    let story = [
        refused(libc::EEXIST),
        found(other(7)),
        refused(libc::EEXIST),
        refused(libc::ENOENT),
        found(other(9)),
    ];
    for outcome in story {
        let answer = outcome.map(|outcome| Answer { seq: 1, outcome });
        match restore.judge(answer, true) {
            Verdict::Again(again) => restore = again,
            verdict => panic!("{verdict:?}"),
        }
    }
    assert_eq!(restore.step, replace(other(9)));
}

#[test]
fn an_unknown_helper_is_left_out_and_said() {
    let helper = HelperName::new(b"ftp");
    let rare = Rare {
        helper,
        ..Rare::default()
    };
    let answer = Answer {
        seq: 1,
        outcome: Outcome::Refused(libc::EOPNOTSUPP),
    };
    let Verdict::Again(restore) =
        restore_with(rare, Step::Create).judge(Some(answer.clone()), true)
    else {
        panic!("it is tried without");
    };
    assert_eq!((restore.helper, restore.rare.helper), (Helper::Leave, None));
    assert!(matches!(
        restore.clone().judge(None, true),
        Verdict::WithoutHelper
    ));
    assert!(matches!(
        restore.judge(Some(answer), true),
        Verdict::Failed(Failure::Refused(libc::EOPNOTSUPP))
    ));
}

#[test]
fn a_child_whose_master_is_not_there_can_go_without() {
    let rare = Rare {
        master: Some(flow(TCP).orig),
        ..Rare::default()
    };
    let answer = Answer {
        seq: 1,
        outcome: Outcome::Refused(libc::ENOENT),
    };
    let restore = restore_with(rare, replace(other(5)));
    let Verdict::Orphan(mut restore) = restore.judge(Some(answer), true) else {
        panic!("it waits for its master");
    };
    assert_eq!(
        (restore.step, restore.rare.master),
        (Step::Create, rare.master)
    );
    restore.leave_master();
    assert_eq!(restore.rare.master, None);
}

#[test]
fn orphans_are_tried_again_while_masters_are_found() {
    let child = || {
        let rare = Rare {
            master: Some(flow(TCP).orig),
            ..Rare::default()
        };
        restore_with(rare, Step::Create)
    };
    let mut orphans = Orphans::default();
    let mut round = |refused: usize| {
        (0..refused).for_each(|_| orphans.add(child()));
        let tried: Vec<_> = orphans.take_round().collect();
        assert!(orphans.is_empty());
        let with_master = tried.iter().filter(|child| child.rare.master.is_some());
        (with_master.count(), tried.len())
    };
    assert_eq!(round(3), (3, 3), "their masters may be there by now");
    assert_eq!(round(2), (2, 2), "one found its own, and may be another's");
    assert_eq!(round(2), (0, 2), "nobody found any");
}

#[test]
fn a_replacement_deletes_and_creates_back_to_back() {
    let mut batches = Batches::new();
    let (mut out, mut next_seq) = (Vec::new(), 1);
    let mut batch = batches.begin(&mut out, &mut next_seq);
    Restore::new(&flow(UDP), None, 60, GRACE)
        .replacing(&other(5))
        .write(&mut batch);
    assert_eq!(batch.room(), crate::engine::batch::MESSAGES_MAX - 2);
    assert!(batches.send(batch).is_some());
    let mut messages = Vec::new();
    batches.settle(2, Vec::new(), |message, _| messages.push(message));
    assert!(matches!(messages[0], Message::Clear));
    assert!(matches!(&messages[1], Message::Decide(restore) if restore.replaces));
}

#[test]
fn a_flow_gets_the_grace_but_no_more_than_its_kind_has() {
    let assured = Flow {
        status: Status(Status::ASSURED),
        ..flow(UDP)
    };
    let fixed = Flow {
        status: Status(Status::ASSURED | Status::FIXED_TIMEOUT),
        ..flow(UDP)
    };
    let cases = [
        (tcp(TCP_ESTABLISHED), 400_000, 400_000, "what is left"),
        (tcp(TCP_ESTABLISHED), 5, GRACE, "the grace"),
        (tcp(TCP_SYN_SENT), 5, 120, "no more than the state has"),
        (tcp(TCP_SYN_RECV), 5, 60, "no more than the state has"),
        (tcp(TCP_CLOSE), 1, 10, "no more than the state has"),
        (tcp(6), 1, 30, "LAST_ACK"),
        (tcp(6), 90, 90, "its own, where it was set higher"),
        (flow(UDP), 5, 30, "UDP without an answer"),
        (assured, 5, 120, "UDP stream"),
        (flow(ICMP), 5, 30, "echo"),
        (flow(UDPLITE), 5, 30, "UDP-Lite without an answer"),
        (sctp(1), 5, 10, "SCTP CLOSED"),
        (sctp(3), 1, 3, "SCTP COOKIE_ECHOED"),
        (sctp(4), 5, GRACE, "the grace"),
        (sctp(8), 5, 30, "SCTP HEARTBEAT_SENT"),
        (flow(50), 5, GRACE, "anything else"),
        (flow(GRE), 5, GRE_TIMEOUT, "packets do not refresh it"),
        (fixed, 5, 5, "it shall end then"),
        (fixed, 0, 1, "it has not ended yet"),
        (flow(GRE), 9_000, 9_000, "what is left"),
    ];
    for (flow, left, expected, why) in cases {
        let restore = Restore::new(&flow, None, left, GRACE);
        assert_eq!(restore.timeout_secs, expected, "{why}: {flow:?}");
    }
    let short = Restore::new(&tcp(TCP_ESTABLISHED), None, 5, 20);
    assert_eq!(short.timeout_secs, 20, "a short grace");
}
