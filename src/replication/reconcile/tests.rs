//! A sender and a receiver, their tables different in known ways, no network between them.

use std::collections::BTreeSet;

use super::*;
use crate::cache::local::Circumstances as Change;
use crate::cache::{HashKey, Replica};
use crate::flow::{EventKind, Flow, FlowEvent, Present, Rare, Status};
use crate::replication::answer::Answerer;
use crate::replication::receiver::Receiver;
use crate::replication::sender::{Circumstances, Repaired, Sender};
use crate::wire::header::CONTROL_HEADER_BYTES;
use crate::wire::{Frame, Frames, Header, Outcome};

const KEY: HashKey = HashKey([3, 4]);
const PEER: u8 = 2;
const AT: Change = Change {
    now: 10,
    listeners: PEER,
    round: 0,
    era: 0,
    found_era: 0,
    born: crate::cache::local::Origin::Own,
    found: crate::cache::local::Origin::Own,
    shares: false,
    is_echo: false,
};

/// Both ends of a stream, and the time.
struct Pair {
    local: Local,
    replica: Replica,
    sender: Sender,
    receiver: Receiver,
    answerer: Answerer,
    now: Instant,
    datagram_bytes: usize,
    round_trips: u32,
    /// Bytes of questions and answers, headers included.
    bytes: usize,
}

fn flow(number: u32, mark: u32) -> Flow {
    let mut flow = Flow {
        mark,
        timeout_secs: 100,
        status: Status(Status::CONFIRMED),
        ..Flow::default()
    };
    flow.orig.src[..4].copy_from_slice(&number.to_be_bytes());
    flow
}

fn apply(local: &mut Local, kind: EventKind, flow: Flow) {
    let event = FlowEvent {
        kind,
        present: Present(Present::STATUS | Present::TIMEOUT),
        flow,
        ..FlowEvent::default()
    };
    local.apply(&event, AT, |_, _| true);
}

impl Pair {
    fn new(flows_max: u32, tombstones_max: u32) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let mut local = Local::new(KEY, flows_max, tombstones_max);
        let sender = Sender::new(&mut local, PEER, 1, 4096, now);
        Self {
            local,
            replica: Replica::new(KEY, flows_max),
            sender,
            receiver: Receiver::new(1),
            answerer: Answerer::default(),
            now,
            datagram_bytes: 1400,
            round_trips: 0,
            bytes: 0,
        }
    }

    /// The same flows on both sides, unsent.
    fn holding(flows: u32, flows_max: u32, tombstones_max: u32) -> Self {
        let mut pair = Self::new(flows_max, tombstones_max);
        for number in 0..flows {
            apply(&mut pair.local, EventKind::New, flow(number, 0));
            pair.hold(flow(number, 0));
        }
        // The stream begins behind what is there, as after a restart.
        let sender = Sender::new(&mut pair.local, PEER, 1, 4096, pair.now);
        std::mem::replace(&mut pair.sender, sender).close(&mut pair.local);
        pair
    }

    fn hold(&mut self, flow: Flow) {
        let hash = KEY.of_key(&flow.key());
        self.replica.remove(hash, u64::MAX);
        self.replica.store(hash, &flow, &Rare::default(), 1, 0);
    }

    fn lose(&mut self, flow: Flow) {
        self.replica.remove(KEY.of_key(&flow.key()), u64::MAX);
    }

    fn is_equal(&self) -> bool {
        let (ours, theirs) = (self.local.digest(), self.replica.digest());
        (ours.flows(), ours.root()) == (theirs.flows(), theirs.root())
    }

    /// Sends all data there is; the last verdict.
    fn stream(&mut self) -> Option<Outcome> {
        let mut judged = None;
        let mut datagram = Vec::new();
        loop {
            datagram.clear();
            let at = Circumstances {
                now: self.now,
                secs: 10,
                clock_micros: 1,
                table_is_whole: true,
                datagram_bytes_max: self.datagram_bytes,
                session: 1,
                seal: 0,
            };
            if self
                .sender
                .fill(&mut self.local, at, &mut datagram)
                .is_none()
            {
                return judged;
            }
            let (header, body) = Header::parse(&datagram).expect("well-formed");
            let received = self.receiver.on_data(&header, body, &mut self.replica, 10);
            judged = received.judged.or(judged);
            let ack = self.receiver.ack(&self.replica, None);
            assert!(self.sender.on_ack(&ack, &mut self.local, self.now));
            self.sender
                .on_verdict(&ack, &mut self.local, true, self.now);
        }
    }

    /// One datagram of questions and its answers, all of them lost or none.
    fn ask(&mut self, is_lost: bool) -> bool {
        let mut has_asked = false;
        let mut body = Vec::new();
        while self.sender.wants_to_ask(&self.local, self.now) {
            has_asked = true;
            body.clear();
            self.sender
                .ask(&self.local, self.now, self.datagram_bytes, &mut body);
            assert!(!body.is_empty() && body.len() <= self.datagram_bytes);
            self.bytes += CONTROL_HEADER_BYTES + body.len();
            if is_lost {
                continue;
            }
            for frame in Frames::new(&body) {
                self.answerer
                    .on_question(match frame.expect("well-formed") {
                        Frame::SumsQuestion(question) => Question::Sums(question),
                        Frame::ListQuestion(question) => Question::List(question),
                        other => panic!("{other:?}"),
                    });
            }
        }
        self.round_trips += u32::from(has_asked);
        while self.answerer.has_answers() {
            body.clear();
            self.answerer
                .answer(&self.replica, self.datagram_bytes, &mut body);
            assert!(!body.is_empty() && body.len() <= self.datagram_bytes);
            self.bytes += CONTROL_HEADER_BYTES + body.len();
            self.take_answers(&body);
        }
        has_asked
    }

    fn take_answers(&mut self, body: &[u8]) {
        for frame in Frames::new(body) {
            match frame.expect("well-formed") {
                Frame::Sums(sums) => self.sender.on_sums(&sums, &self.local, self.now),
                Frame::List(list) => self.sender.on_list(&list, &mut self.local, 10, self.now),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Goes on until nobody has anything to say.
    fn settle(&mut self) -> Option<Outcome> {
        let mut judged = self.stream();
        while self.ask(false) {
            judged = self.stream().or(judged);
        }
        judged
    }

    fn counters(&self) -> ReconcileCounters {
        self.sender.counters.reconcile
    }

    /// Flows in the leaves of some hashes, as the replica has them.
    fn in_leaves_of(&self, flows: &[Flow]) -> u64 {
        let leaves: BTreeSet<u16> = flows
            .iter()
            .map(|flow| (KEY.of_key(&flow.key()) >> 48) as u16)
            .collect();
        let mut count = 0;
        for leaf in leaves {
            self.replica.visit_leaf(leaf, |_, _| count += 1);
        }
        count
    }
}

/// Missing, changed and extra flows at the receiver, a third each; returns what differs.
fn make_different(pair: &mut Pair, flows: u32, differences: u32) -> Vec<Flow> {
    let stride = flows / differences.max(1);
    let mut different = Vec::new();
    for at in 0..differences {
        let held = flow(at * stride, 0);
        match at % 3 {
            0 => {
                pair.lose(held);
                different.push(held);
            }
            1 => {
                pair.hold(flow(at * stride, 9));
                different.push(held);
            }
            _ => {
                let ghost = flow(u32::MAX - at, 0);
                pair.hold(ghost);
                different.push(ghost);
            }
        }
    }
    different
}

#[test]
fn any_number_of_differences_takes_one_round_and_that_many_records() {
    for (flows, differences) in [
        (1200, 0),
        (1200, 1),
        (1200, 100),
        (1200, 600),
        (20_000, 300),
    ] {
        let mut pair = Pair::holding(flows, 65_536, 1 << 16);
        let different = make_different(&mut pair, flows, differences);
        let in_leaves = pair.in_leaves_of(&different);
        assert_eq!(pair.settle(), Some(Outcome::Equal), "{differences}");
        assert!(pair.is_equal());
        let cost = pair.counters();
        assert_eq!(pair.sender.counters.records, u64::from(differences));
        assert_eq!(
            cost.list_entries, in_leaves,
            "those of the leaves that differ"
        );
        assert_eq!(cost.reconciles, u64::from(differences > 0));
        assert_eq!(cost.touched + cost.buried, u64::from(differences));
        assert_eq!(pair.sender.counters.passes, 0);
        assert_eq!(pair.local.tombstones(), 0, "all acknowledged");
    }
}

#[test]
fn small_tables_and_small_datagrams_do_not_matter() {
    let mut pair = Pair::holding(200, 256, 1000);
    pair.datagram_bytes = 200;
    make_different(&mut pair, 200, 50);
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    assert_eq!(pair.sender.counters.records, 50);
    assert_eq!(pair.counters().reconciles, 1);
}

#[test]
fn ghosts_beyond_the_cap_of_tombstones_are_buried_in_one_round() {
    for cap in [1, 2, 7, 64] {
        let mut pair = Pair::holding(100, 65_536, cap);
        for ghost in 0..300 {
            pair.hold(flow(1_000_000 + ghost, 0));
        }
        assert_eq!(pair.settle(), Some(Outcome::Equal), "cap {cap}");
        assert_eq!(pair.counters().buried, 300);
        assert_eq!(pair.counters().reconciles, 1, "cap {cap}");
    }
}

#[test]
fn a_dead_peers_tombstones_do_not_stop_the_others_reconcile() {
    let mut pair = Pair::holding(100, 65_536, 64);
    for number in 50..100 {
        let end = FlowEvent {
            kind: EventKind::Destroy,
            flow: flow(number, 0),
            ..FlowEvent::default()
        };
        let dead = Change {
            listeners: 1 << 5,
            ..AT
        };
        pair.local.apply(&end, dead, |_, _| true);
    }
    assert!(pair.local.is_half_buried(1 << 5) && !pair.local.is_half_buried(PEER));
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    assert_eq!(
        pair.counters().buried,
        0,
        "their ends were sent by the stream"
    );
    for ghost in 0..100 {
        pair.hold(flow(1_000_000 + ghost, 0));
    }
    pair.now += Duration::from_secs(1);
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    assert_eq!(pair.counters().buried, 100);
}

#[test]
fn what_the_live_cursor_will_send_anyway_is_neither_touched_nor_buried() {
    let mut pair = Pair::holding(100, 65_536, 1000);
    pair.lose(flow(1, 0));
    pair.stream();
    // The difference is known; before the first answer comes, much changes.
    for number in 10..20 {
        apply(&mut pair.local, EventKind::Update, flow(number, 7));
        apply(&mut pair.local, EventKind::Destroy, flow(number + 20, 0));
    }
    while pair.ask(false) {}
    let cost = pair.counters();
    assert_eq!((cost.touched, cost.buried), (1, 0));
    pair.now += Duration::from_secs(1);
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    assert_eq!(pair.sender.counters.records, 21);
}

#[test]
fn lost_questions_are_repeated_ever_more_slowly_and_then_given_up() {
    let mut pair = Pair::holding(100, 65_536, 1000);
    pair.lose(flow(1, 0));
    pair.stream();
    let began = pair.now;
    let mut asked = 0;
    assert!(pair.ask(true));
    while pair.sender.take_repaired().is_none() {
        let wake = pair.sender.wake_at().nth(1).expect("something is open");
        assert!(wake >= pair.now + Duration::from_millis(20));
        assert!(wake <= pair.now + REPEAT_MAX);
        pair.now = wake;
        pair.sender.on_timeout(pair.now);
        asked += u32::from(pair.ask(true));
    }
    assert_eq!(asked, TRIES_MAX - 1);
    assert!(pair.now - began < Duration::from_secs(10));
    assert_eq!(pair.counters().unanswered, 1);
    assert_eq!(
        pair.settle(),
        Some(Outcome::Equal),
        "the next marker begins anew"
    );
    assert_eq!(pair.sender.counters.passes, 0);
}

#[test]
fn a_repeated_question_is_answered_in_the_end() {
    let mut pair = Pair::holding(100, 65_536, 1000);
    make_different(&mut pair, 100, 10);
    pair.stream();
    for _ in 0..5 {
        assert!(pair.ask(true));
        assert!(!pair.ask(true), "not before its time");
        pair.now += REPEAT_MAX;
    }
    assert_eq!(pair.settle(), Some(Outcome::Equal));
}

#[test]
fn old_forged_and_doubled_answers_change_nothing() {
    let mut pair = Pair::holding(100, 65_536, 1000);
    pair.lose(flow(1, 0));
    let nothing = [[0; 8]; 128];
    let forge = |pair: &mut Pair, round: u32| {
        let mut body = Vec::new();
        Sums::new(round, Level::Inner, 0, &nothing).emit(&mut body);
        Sums::new(round, Level::Leaf, 0, &nothing).emit(&mut body);
        List::new(round, 0, u64::MAX >> 16, &[]).emit(&mut body);
        pair.take_answers(&body);
    };
    forge(&mut pair, 1);
    pair.stream();
    forge(&mut pair, 1);
    assert_eq!(pair.counters().stale_answers, 6, "nothing was asked yet");
    assert!(pair.sender.wants_to_ask(&pair.local, pair.now));
    forge(&mut pair, 0);
    assert_eq!(pair.counters().stale_answers, 9, "another round");
    let tail = pair.local.tail();
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    assert_eq!(pair.local.tail(), tail + 1);
    forge(&mut pair, 1);
    assert_eq!(pair.local.tail(), tail + 1, "over");
}

#[test]
fn it_stops_when_the_table_becomes_dirty_and_starts_again_when_it_is_whole() {
    let mut pair = Pair::holding(100, 65_536, 1000);
    make_different(&mut pair, 100, 10);
    pair.stream();
    pair.ask(false);
    assert!(pair.sender.wants_to_ask(&pair.local, pair.now));
    pair.sender.on_table(false);
    assert!(!pair.sender.wants_to_ask(&pair.local, pair.now));
    assert_eq!(pair.sender.attempts(), 0, "that was no failure");
    pair.now += Duration::from_secs(1);
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    assert_eq!(
        (pair.counters().reconciles, pair.sender.counters.passes),
        (2, 0)
    );
}

#[test]
fn a_replica_that_stays_different_gets_a_full_pass_after_three_rounds_and_then_holds() {
    let mut pair = Pair::holding(100, 65_536, 1000);
    // Too small: whatever is done, half of the flows are refused.
    pair.replica = Replica::new(KEY, 50);
    for number in 0..50 {
        pair.hold(flow(number, 0));
    }
    let (mut held, mut history) = (Vec::new(), String::new());
    for _ in 0..300 {
        let before = (pair.counters().reconciles, pair.sender.counters.passes);
        pair.stream();
        if pair.counters().reconciles > before.0 {
            history.push('r');
        }
        if pair.sender.counters.passes > before.1 {
            history.push('p');
        }
        if let Some(Repaired::Held { wait, .. }) = pair.sender.take_repaired() {
            held.push(wait.as_secs());
        }
        while pair.ask(false) {}
        pair.now += Duration::from_secs(1);
        pair.sender.on_timeout(pair.now);
    }
    assert!(history.starts_with("rrrprrrprr"), "{history}");
    assert!(held.starts_with(&[1, 2, 4, 8, 16, 32, 60, 60]), "{held:?}");
    for number in 50..100 {
        apply(&mut pair.local, EventKind::Destroy, flow(number, 0));
    }
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    assert_eq!(pair.sender.attempts(), 0, "equal resets");
}

#[test]
fn an_empty_replica_gets_a_full_pass() {
    let mut pair = Pair::holding(100, 65_536, 1000);
    pair.replica.clear();
    assert_eq!(pair.settle(), Some(Outcome::Equal));
    let sent = pair.sender.counters;
    assert_eq!((sent.passes, sent.reconcile.reconciles), (1, 0));
}

#[test]
fn burying_for_one_peer_keeps_what_another_waits_for() {
    let mut local = Local::new(KEY, 100, 100);
    let hash = KEY.of_key(&flow(1, 0).key());
    let cursor = local.open_at_end();
    assert!(local.bury_for(hash, 1, local.tail()));
    assert!(local.bury_for(hash, 2, local.tail()));
    assert!(
        !local.bury_for(hash, 2, local.tail() - 1),
        "is beyond the cursor"
    );
    let (slot, version) = local.peek(&cursor).expect("a tombstone");
    local.heard(slot, version, 2);
    assert_eq!(local.tombstones(), 1, "the other one has not heard");
    local.heard(slot, version, 1);
    assert_eq!(local.tombstones(), 0);
    apply(&mut local, EventKind::New, flow(1, 0));
    assert!(!local.bury_for(hash, 1, local.tail()), "the flow lives");
    local.close(cursor);
}

/// `cargo test --release --lib -- --ignored --nocapture a_hundred_among_a_million`
#[test]
#[ignore = "a million flows twice take half a gigabyte and some seconds"]
#[expect(clippy::print_stdout, reason = "a measurement")]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn a_hundred_among_a_million() {
    for differences in [1, 100, 1000, 10_000] {
        let mut pair = Pair::holding(1_000_000, 1 << 20, 1 << 18);
        make_different(&mut pair, 1_000_000, differences);
        let began = Instant::now();
        assert_eq!(pair.settle(), Some(Outcome::Equal));
        let (took, cost, sent) = (began.elapsed(), pair.counters(), pair.sender.counters);
        assert_eq!(sent.records, u64::from(differences));
        println!(
            "{differences} of 1,000,000: {} questions in {} round trips, {} sums, {} list entries, \
             {} touched, {} buried, {} bytes of them, {} bytes of data, {took:?} of both ends",
            cost.questions,
            pair.round_trips,
            cost.sums,
            cost.list_entries,
            cost.touched,
            cost.buried,
            pair.bytes,
            sent.bytes,
        );
    }
}
