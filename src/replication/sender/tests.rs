//! The rules of sending: what goes into a datagram, what an ack does, when a marker may go.

use super::*;
use crate::cache::HashKey;
use crate::cache::local::Circumstances as Change;
use crate::flow::{EventKind, Flow, FlowEvent, Present, Rare, Tuple};
use crate::wire::{AckBitmap, Header, Outcome, Record, Records, Verdict};

const PEER: u8 = 1;
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A sender with its table and a clock.
struct Active {
    local: Local,
    sender: Sender,
    now: Instant,
    is_whole: bool,
    bytes_max: usize,
}

/// A datagram, taken apart.
#[derive(PartialEq, Debug)]
struct Sent {
    number: u64,
    floor: u64,
    what: Vec<What>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    Flow(u16),
    End,
    Marker { since: Option<u64> },
}
use What::{End, Flow as F};

fn event(kind: EventKind, number: u16, mark: u32) -> FlowEvent {
    let client = [10, 0, 0, 1].into();
    let server = [192, 0, 2, 1].into();
    let orig = Tuple::new(17, client, server, number, 53);
    let flow = Flow {
        orig,
        reply: orig.inverse(),
        mark,
        timeout_secs: 120,
        ..Flow::default()
    };
    FlowEvent {
        kind,
        present: Present(Present::STATUS | Present::TIMEOUT),
        port_id: 0,
        flow,
        rare: Rare::default(),
    }
}

impl Active {
    /// A stream to a peer that says it holds `have` flows; the table has flows 1 to `flows`.
    fn new(flows: u16, have: u64, window: u32) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now() + SECOND;
        let mut local = Local::new(HashKey([1, 2]), 1000, 1000);
        for number in 1..=flows {
            apply(&mut local, &event(EventKind::New, number, 0));
        }
        let sender = Sender::new(&mut local, PEER, have, window, now);
        Self {
            local,
            sender,
            now,
            is_whole: true,
            bytes_max: 1400,
        }
    }

    /// The same with the first full pass and its marker sent and acknowledged.
    fn settled(flows: u16, window: u32) -> Self {
        let mut active = Self::new(flows, 0, window);
        active.send_all();
        active.ack_all();
        active
    }

    fn change(&mut self, kind: EventKind, number: u16, mark: u32) {
        apply(&mut self.local, &event(kind, number, mark));
        self.sender.on_change(self.now);
    }

    fn send(&mut self) -> Option<Sent> {
        let circumstances = Circumstances {
            now: self.now,
            secs: 1,
            clock_micros: 1,
            table_is_whole: self.is_whole,
            datagram_bytes_max: self.bytes_max,
            session: 1,
            seal: 0,
        };
        let mut out = Vec::new();
        let filled = self.sender.fill(&mut self.local, circumstances, &mut out);
        if filled.is_none() {
            assert!(out.is_empty(), "nothing to send leaves nothing behind");
            return None;
        }
        assert!(out.len() <= self.bytes_max, "datagrams are bounded");
        let (header, body) = Header::parse(&out).expect("well-formed");
        let what = Records::new(body).map(|record| match record.expect("well-formed") {
            Record::Flow { flow, .. } => F(flow.orig.src_id),
            Record::Expectation { .. } => unreachable!("there are flows only"),
            Record::Tombstone { .. } => End,
            Record::Marker(marker) => What::Marker {
                since: marker.since,
            },
            Record::Unknown(_) => panic!("no such record is sent"),
        });
        Some(Sent {
            number: header.number,
            floor: header.floor,
            what: what.collect(),
        })
    }

    fn send_all(&mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.send()).collect()
    }

    /// Everything sent so far, records only.
    fn records(&mut self) -> Vec<What> {
        self.send_all()
            .into_iter()
            .flat_map(|sent| sent.what)
            .collect()
    }

    fn hear(&mut self, next: u64, seen: u64, received: &[u64], verdict: Option<Verdict>) -> bool {
        let mut bitmap = AckBitmap::EMPTY;
        received.iter().for_each(|number| bitmap.set(number - next));
        let ack = Ack {
            next,
            seen,
            bitmap,
            verdict,
            have: 0,
            echo_clock_micros: 0,
        };
        let is_possible = self.sender.on_ack(&ack, &mut self.local, self.now);
        if is_possible {
            self.sender
                .on_verdict(&ack, &mut self.local, true, self.now);
        }
        is_possible
    }

    fn ack_all(&mut self) {
        let next = self.sender.next();
        assert!(self.hear(next, next, &[], None));
    }

    /// The receiver has heard of everything and received nothing below `next`.
    fn lose_all(&mut self) {
        self.now += 20 * MILLI;
        let (next, floor) = (self.sender.next(), self.sender.ring.floor());
        assert!(self.hear(floor, next, &[], None));
    }

    /// Lets the next marker become due, sends it, and has it judged.
    fn judge(&mut self, outcome: Outcome) {
        self.now += SECOND;
        let sent = self.send_all();
        let marker = sent.last().expect("a marker is due");
        assert!(matches!(marker.what.last(), Some(What::Marker { .. })));
        let next = self.sender.next();
        let verdict = Verdict {
            marker: marker.number,
            outcome,
        };
        assert!(self.hear(next, next, &[], Some(verdict)));
    }
}

fn apply(local: &mut Local, event: &FlowEvent) {
    let at = Change {
        now: 1,
        listeners: PEER,
        round: 0,
        era: 0,
        found_era: 0,
    };
    local.apply(event, at, |_, _| true);
}

fn marker(since: u64) -> What {
    What::Marker { since: Some(since) }
}

#[test]
fn a_peer_that_holds_nothing_gets_everything_and_a_marker() {
    let mut active = Active::new(3, 0, 64);
    let sent = active.send().expect("the pass");
    assert_eq!((sent.number, sent.floor), (1, 1));
    assert_eq!(sent.what, [F(1), F(2), F(3), marker(1)]);
    assert_eq!(active.send(), None, "and nothing more");
}

#[test]
fn a_peer_that_holds_something_gets_a_marker_first() {
    let mut active = Active::new(3, 3, 64);
    assert_eq!(active.records(), [What::Marker { since: None }]);
}

#[test]
fn changes_go_in_order_and_a_flow_that_changed_twice_goes_once() {
    let mut active = Active::settled(3, 64);
    active.change(EventKind::Update, 1, 5);
    active.change(EventKind::Update, 2, 6);
    active.change(EventKind::Update, 1, 7);
    active.change(EventKind::Destroy, 3, 0);
    assert_eq!(active.records(), [F(2), F(1), End]);
}

#[test]
fn an_acknowledged_end_frees_its_tombstone_and_one_merely_sent_does_not() {
    let mut active = Active::settled(2, 64);
    active.change(EventKind::Destroy, 1, 0);
    active.send_all();
    assert_eq!(active.local.tombstones(), 1);
    active.ack_all();
    assert_eq!(active.local.tombstones(), 0);
}

#[test]
fn an_ack_of_an_older_end_does_not_free_a_newer_one() {
    let mut active = Active::settled(2, 64);
    active.change(EventKind::Destroy, 1, 0);
    active.send_all();
    active.change(EventKind::New, 1, 0);
    active.change(EventKind::Destroy, 1, 0);
    active.ack_all();
    assert_eq!(active.local.tombstones(), 1, "its own end is not sent yet");
}

#[test]
fn the_end_of_a_session_frees_what_waited_for_it() {
    let mut active = Active::settled(2, 64);
    active.change(EventKind::Destroy, 1, 0);
    active.sender.close(&mut active.local);
    assert_eq!(active.local.tombstones(), 0);
}

#[test]
fn what_was_lost_is_read_from_the_table_again_if_it_has_not_changed() {
    let mut active = Active::settled(0, 64);
    active.change(EventKind::New, 1, 0);
    active.change(EventKind::New, 2, 0);
    active.send_all();
    active.change(EventKind::Update, 2, 5);
    active.lose_all();
    assert_eq!(active.sender.counters.lost, 1);
    let sent = active.send().expect("a repair and a change");
    assert_eq!(sent.what, [F(1), F(2)], "2 once, by the live cursor");
    assert_eq!(active.sender.counters.repairs, 1);
    assert_eq!(sent.floor, sent.number, "the floor passed what was lost");
}

#[test]
fn a_lost_end_is_sent_again() {
    let mut active = Active::settled(1, 64);
    active.change(EventKind::Destroy, 1, 0);
    active.send_all();
    active.lose_all();
    assert_eq!(active.records(), [End]);
    active.ack_all();
    assert_eq!(active.local.tombstones(), 0);
}

#[test]
fn while_a_pass_runs_it_gets_one_datagram_in_four_however_much_changes() {
    let mut active = Active::new(100, 0, 64);
    active.bytes_max = 130;
    let mut shares = 0;
    for round in 0..40u32 {
        // More changes than a datagram holds.
        for number in 500..504 {
            active.change(EventKind::Update, number, round + 1);
        }
        let sent = active.send().expect("there is always something");
        shares += u32::from(sent.what.iter().any(|what| matches!(what, F(1..=100))));
        active.ack_all();
    }
    assert!((9..=11).contains(&shares), "{shares} of 40");
}

#[test]
fn the_window_stops_data_until_an_ack() {
    let mut active = Active::new(50, 0, 3);
    active.bytes_max = 130;
    assert_eq!(active.send_all().len(), 3);
    assert!(active.hear(1, 4, &[2, 3], None), "1 may still come");
    assert_eq!(active.send(), None, "the floor has not moved");
    assert!(active.hear(2, 4, &[2, 3], None));
    let sent = active.send().expect("room again");
    assert_eq!((sent.number, sent.floor), (4, 4));
}

#[test]
fn a_loss_halves_what_is_in_use_once_a_round_trip_and_acks_let_it_grow() {
    let mut active = Active::new(400, 0, 64);
    active.bytes_max = 130;
    assert_eq!(active.send_all().len(), 64);
    active.lose_all();
    assert_eq!(active.sender.in_use, 32);
    assert_eq!(active.send_all().len(), 32);
    let (next, floor) = (active.sender.next(), active.sender.ring.floor());
    assert!(active.hear(floor, next, &[next - 1], None));
    assert_eq!(active.sender.in_use, 33, "the same round trip; one acked");
    active.now += SECOND;
    active.ack_all();
    for _ in 0..9 {
        active.send_all();
        active.lose_all();
    }
    assert_eq!(active.sender.in_use, IN_USE_MIN);
}

#[test]
fn acks_of_what_was_never_sent_are_refused() {
    let mut active = Active::new(3, 0, 64);
    active.send_all();
    assert!(!active.hear(3, 3, &[], None));
    assert!(!active.hear(1, 3, &[], None));
    assert!(active.sender.is_open(), "and change nothing");
}

#[test]
fn no_marker_goes_before_everything_else_has() {
    let mut active = Active::settled(2, 64);
    let mut expect = |reason: &str, prepare: &mut dyn FnMut(&mut Active)| {
        active.now += 2 * SECOND;
        prepare(&mut active);
        let sent = active.send_all();
        let has_marker = |sent: &Sent| matches!(sent.what.last(), Some(What::Marker { .. }));
        assert!(!sent.iter().any(has_marker), "{reason}");
    };
    expect("the table is not whole", &mut |active| {
        active.is_whole = false;
    });
    expect("the window is full of what is open", &mut |active| {
        active.is_whole = true;
        active.sender.in_use = 0;
    });
    let mut active = Active::settled(40, 64);
    active.now += 2 * SECOND;
    active.bytes_max = 130;
    for number in 1..=8 {
        active.change(EventKind::Update, number, 3);
    }
    let first = active.send().expect("changes");
    assert!(!matches!(first.what.last(), Some(What::Marker { .. })));
    let rest = active.send_all();
    assert!(
        matches!(
            rest.last().map(|sent| &sent.what[..]),
            Some([.., What::Marker { .. }])
        ),
        "behind the last change"
    );
}

#[test]
fn a_marker_waits_for_the_repairs() {
    let mut active = Active::settled(40, 64);
    active.bytes_max = 130;
    for number in 1..=8 {
        active.change(EventKind::Update, number, 3);
    }
    active.send_all();
    active.now += 2 * SECOND;
    active.lose_all();
    let sent = active.send_all();
    let markers = sent
        .iter()
        .filter(|sent| matches!(sent.what.last(), Some(What::Marker { .. })))
        .count();
    assert_eq!(markers, 1);
    assert!(matches!(
        sent.last().expect("repairs").what.last(),
        Some(What::Marker { .. })
    ));
}

#[test]
fn markers_come_a_tenth_of_a_second_after_a_change_else_every_second_else_when_one_was_lost() {
    let mut active = Active::settled(1, 64);
    active.change(EventKind::Update, 1, 9);
    assert_eq!(active.records(), [F(1)]);
    active.ack_all();
    active.now += 99 * MILLI;
    assert_eq!(active.send(), None);
    active.now += MILLI;
    assert_eq!(active.records(), [marker(1)]);
    active.now += SECOND - MILLI;
    assert_eq!(active.send(), None);
    assert_eq!(active.sender.wake_at().min(), Some(active.now + MILLI));
    active.now += MILLI;
    assert_eq!(active.records(), [marker(1)]);
    active.lose_all();
    assert_eq!(active.records(), [marker(1)], "at once");
}

/// Reconcile has its own tests; `hear` tells of an empty replica, which gets passes.
#[test]
fn four_attempts_come_at_once_and_later_ones_wait_twice_as_long_each() {
    let mut active = Active::settled(2, 64);
    for attempt in 1..=4 {
        active.judge(Outcome::Different);
        let passes = active.sender.counters.passes;
        let attempts = active.sender.attempts();
        assert_eq!((passes, attempts), (1 + u64::from(attempt), attempt));
        assert!(active.sender.is_passing());
    }
    for secs in [1, 2, 4, 8, 16, 32, 60, 60] {
        active.judge(Outcome::Different);
        let held = active.now + Duration::from_secs(secs);
        assert!(active.sender.wake_at().any(|at| at == held), "{secs}");
        active.now = held - MILLI;
        active.sender.on_timeout(active.now);
        assert!(!active.sender.is_passing(), "the hold is not over");
        active.now = held;
        active.sender.on_timeout(active.now);
        active.judge(Outcome::Different);
        assert!(active.sender.is_passing());
    }
    active.judge(Outcome::Equal);
    assert_eq!(active.sender.attempts(), 0);
    active.judge(Outcome::Different);
    assert!(active.sender.is_passing(), "the first again");
}

#[test]
fn a_full_pass_sends_everything_anew_under_a_new_since() {
    let mut active = Active::settled(2, 64);
    active.change(EventKind::New, 3, 0);
    active.sender.start_pass(&mut active.local, active.now);
    let next = active.sender.next();
    let records = active.records();
    assert_eq!(records, [F(3), F(1), F(2), marker(next)]);
}

#[test]
fn a_verdict_is_taken_once_and_never_for_what_was_not_sent() {
    let mut active = Active::settled(2, 64);
    active.judge(Outcome::Different);
    let next = active.sender.next();
    let verdict = Verdict {
        marker: next - 1,
        outcome: Outcome::Different,
    };
    assert!(active.hear(next, next, &[], Some(verdict)), "told again");
    assert_eq!(active.sender.counters.different, 1);
    let verdict = Verdict {
        marker: next + 5,
        outcome: Outcome::Different,
    };
    assert!(active.hear(next, next, &[], Some(verdict)));
    assert_eq!(active.sender.counters.different, 1);
    assert!(active.sender.marker.judged < next, "and is not remembered");
}

#[test]
fn a_difference_found_before_the_pass_began_starts_no_other() {
    let mut active = Active::settled(2, 64);
    active.now += SECOND;
    let old = active.send_all().last().expect("a marker").number;
    active.sender.start_pass(&mut active.local, active.now);
    active.send_all();
    assert!(!active.sender.is_passing(), "the pass is sent");
    let next = active.sender.next();
    let verdict = Verdict {
        marker: old,
        outcome: Outcome::Different,
    };
    assert!(active.hear(next, next, &[], Some(verdict)));
    assert_eq!(active.sender.attempts(), 0);
    assert!(!active.sender.is_passing());
}

#[test]
fn lag_is_zero_with_everything_acknowledged() {
    let mut active = Active::settled(2, 64);
    assert_eq!(active.sender.lag(active.now), Duration::ZERO);
    assert_eq!(active.sender.lag_records(&active.local), 0);
    active.change(EventKind::Update, 1, 9);
    active.now += 5 * MILLI;
    assert_eq!(active.sender.lag(active.now), 5 * MILLI);
    assert_eq!(active.sender.lag_records(&active.local), 1);
    active.send_all();
    active.now += MILLI;
    assert_eq!(active.sender.lag(active.now), MILLI, "since it was sent");
    active.ack_all();
    assert_eq!(active.sender.lag(active.now), Duration::ZERO);
}
