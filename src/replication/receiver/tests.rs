//! The rules of receiving, each by the shortest story that needs it.

use super::*;
use crate::cache::HashKey;
use crate::flow::{Flow, Rare, Tuple};
use crate::wire::{Kind, emit_flow, emit_marker, emit_tombstone};

const KEY: HashKey = HashKey([5, 6]);
const NOW: Secs = 1000;

fn flow(number: u16, mark: u32) -> Flow {
    let client = [10, 0, 0, 1].into();
    let server = [192, 0, 2, 1].into();
    let orig = Tuple::new(17, client, server, number, 53);
    Flow {
        orig,
        reply: orig.inverse(),
        mark,
        timeout_secs: 120,
        ..Flow::default()
    }
}

fn hash(number: u16) -> u64 {
    KEY.of_key(&flow(number, 0).key())
}

/// A receiver with its replica.
struct Standby {
    receiver: Receiver,
    replica: Replica,
}

impl Standby {
    fn new() -> Self {
        Self::with_room_for(100)
    }

    fn with_room_for(flows_max: u32) -> Self {
        Self {
            receiver: Receiver::new(0),
            replica: Replica::new(KEY, flows_max),
        }
    }

    /// The next session with the same peer.
    fn meet_again(&mut self) {
        self.receiver = Receiver::new(self.receiver.high());
    }

    fn take(&mut self, number: u64, floor: u64, records: &[What]) -> Received {
        let mut body = Vec::new();
        for record in records {
            match *record {
                What::Flow(number, mark) => {
                    emit_flow(&mut body, &flow(number, mark), &Rare::default(), 3);
                }
                What::End(number) => emit_tombstone(&mut body, hash(number)),
                What::Marker(marker) => emit_marker(&mut body, &marker),
                What::Noise => body.extend_from_slice(&[99, 0, 0]),
            }
        }
        let header = Header {
            kind: Kind::Data,
            seal: 0,
            session: 1,
            number,
            floor,
            sender: None,
        };
        self.receiver
            .on_data(&header, &body, &mut self.replica, NOW)
    }

    fn mark(&self, number: u16) -> Option<u32> {
        let slot = self.replica.find(&flow(number, 0).key())?;
        self.replica.flow(slot).map(|(flow, _)| flow.mark)
    }

    /// A marker that tells what the replica holds now.
    fn truth(&self, since: Option<u64>) -> What {
        let digest = self.replica.digest();
        What::Marker(Marker {
            flows: digest.flows(),
            root: digest.root(),
            since,
            clock_micros: 7,
        })
    }

    fn next(&self) -> u64 {
        self.receiver.ack(&self.replica, None).next
    }

    fn verdict(&self) -> Option<(u64, Outcome)> {
        let verdict = self.receiver.ack(&self.replica, None).verdict?;
        Some((verdict.marker, verdict.outcome))
    }
}

#[derive(Clone, Copy)]
enum What {
    Flow(u16, u32),
    End(u16),
    Marker(Marker),
    Noise,
}
use What::{End, Noise};

/// A marker that is true of no table here.
const UNTRUE: What = What::Marker(Marker {
    flows: 9,
    root: 9,
    since: None,
    clock_micros: 7,
});

#[test]
fn records_apply_on_arrival_in_any_order_and_the_later_sent_wins() {
    let mut standby = Standby::new();
    assert!(standby.take(3, 1, &[What::Flow(1, 30)]).gap);
    assert_eq!(standby.mark(1), Some(30), "applied before 1 and 2 are here");
    assert!(!standby.take(2, 1, &[What::Flow(1, 20)]).gap);
    assert_eq!(standby.mark(1), Some(30));
    standby.take(4, 1, &[What::Flow(1, 40)]);
    assert_eq!(standby.mark(1), Some(40));
}

#[test]
fn a_late_update_does_not_resurrect_a_destroyed_flow() {
    let mut standby = Standby::new();
    standby.take(2, 1, &[End(1)]);
    assert_eq!(standby.receiver.dead.len(), 1);
    standby.take(1, 1, &[What::Flow(1, 10)]);
    assert_eq!(standby.mark(1), None);
    assert!(
        standby.receiver.dead.len() == 0,
        "nothing older can come any more"
    );
    standby.take(3, 1, &[What::Flow(1, 30)]);
    assert_eq!(standby.mark(1), Some(30), "a new life is not held back");
}

#[test]
fn an_end_in_order_leaves_no_dead_mark() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[What::Flow(1, 10)]);
    standby.take(2, 1, &[End(1)]);
    assert_eq!((standby.mark(1), standby.receiver.dead.len()), (None, 0));
}

#[test]
fn a_dead_mark_goes_when_the_floor_passes_it_and_not_before() {
    let mut standby = Standby::new();
    standby.take(5, 1, &[End(1)]);
    standby.take(6, 4, &[]);
    assert_eq!(standby.receiver.dead.len(), 1, "4 may still come");
    standby.take(4, 4, &[What::Flow(1, 40)]);
    assert_eq!(standby.mark(1), None);
    assert!(standby.receiver.dead.len() == 0);
}

#[test]
fn a_late_end_does_not_take_a_newer_life() {
    let mut standby = Standby::new();
    standby.take(2, 1, &[What::Flow(1, 20)]);
    standby.take(1, 1, &[End(1)]);
    assert_eq!(standby.mark(1), Some(20));
}

#[test]
fn a_newer_life_forgets_the_dead_mark() {
    let mut standby = Standby::new();
    standby.take(3, 1, &[End(1)]);
    standby.take(4, 1, &[What::Flow(1, 40)]);
    assert_eq!(
        standby.receiver.dead.len(),
        0,
        "its stamp does the same job"
    );
    standby.take(2, 1, &[What::Flow(1, 20)]);
    assert_eq!(standby.mark(1), Some(40));
}

#[test]
fn what_was_here_or_is_not_waited_for_is_dropped() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[What::Flow(1, 10)]);
    standby.take(2, 1, &[End(1)]);
    assert!(standby.take(1, 1, &[What::Flow(1, 10)]).duplicate);
    standby.take(9, 8, &[]);
    assert_eq!(standby.next(), 8, "the floor resolves 3 to 7, 8 is open");
}

#[test]
fn the_floor_moves_next_over_what_is_received_above_it() {
    let mut standby = Standby::new();
    standby.take(5, 1, &[]);
    standby.take(8, 5, &[]);
    assert_eq!(standby.next(), 6);
    assert!(standby.take(4, 1, &[What::Flow(1, 40)]).duplicate);
    assert_eq!(standby.mark(1), None, "nobody waits for 4 any more");
}

#[test]
fn what_is_beyond_the_window_is_dropped_and_told() {
    let mut standby = Standby::new();
    let beyond = 1 + u64::from(crate::wire::WINDOW_MAX);
    assert!(standby.take(beyond, 1, &[What::Flow(1, 10)]).beyond);
    assert_eq!(standby.mark(1), None);
    assert!(!standby.take(beyond - 1, 1, &[What::Flow(1, 10)]).beyond);
}

#[test]
fn a_marker_is_judged_when_it_is_the_newest_and_nothing_is_missing() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[What::Flow(1, 10)]);
    let truth = standby.truth(None);
    assert_eq!(standby.take(2, 1, &[truth]).judged, Some(Outcome::Equal));
    assert_eq!(standby.verdict(), Some((2, Outcome::Equal)));
    let judged = standby.take(3, 1, &[UNTRUE]).judged;
    assert_eq!(judged, Some(Outcome::Different));
    assert_eq!(standby.verdict(), Some((3, Outcome::Different)));
}

#[test]
fn a_marker_with_a_gap_below_it_is_not_judged_then_nor_later() {
    let mut standby = Standby::new();
    assert_eq!(standby.take(2, 1, &[UNTRUE]).judged, None);
    assert_eq!(standby.take(1, 1, &[]).judged, None);
    assert_eq!(standby.verdict(), None);
}

#[test]
fn a_marker_that_was_overtaken_is_not_judged() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[]);
    standby.take(3, 1, &[What::Flow(1, 30)]);
    assert_eq!(standby.take(2, 1, &[UNTRUE]).judged, None);
}

#[test]
fn a_marker_whose_gap_the_floor_resolves_is_judged() {
    let mut standby = Standby::new();
    let truth = standby.truth(None);
    assert_eq!(standby.take(7, 7, &[truth]).judged, Some(Outcome::Equal));
}

#[test]
fn a_full_pass_sweeps_what_it_did_not_send_and_sweeps_once() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[What::Flow(1, 10), What::Flow(2, 10)]);
    // The pass begins with 2 and sends flow 1 only.
    standby.take(2, 1, &[What::Flow(1, 10)]);
    let mut after = Standby::new();
    after.take(1, 1, &[What::Flow(1, 10)]);
    let told = after.truth(Some(2));
    assert_eq!(standby.take(3, 1, &[told]).judged, Some(Outcome::Equal));
    assert_eq!((standby.mark(1), standby.mark(2)), (Some(10), None));

    // The same `since` again: what is older than it by now is not its business.
    let slot = standby.replica.find(&flow(1, 0).key()).expect("is there");
    assert_eq!(standby.replica.stamp(slot), 2);
    standby.receiver.swept = Some(9);
    let told = standby.truth(Some(9));
    assert_eq!(standby.take(4, 1, &[told]).judged, Some(Outcome::Equal));
    assert_eq!(standby.mark(1), Some(10), "swept for 9 already");
}

#[test]
fn a_long_sweep_goes_in_steps_and_the_marker_waits_for_its_end() {
    let mut standby = Standby::with_room_for(20_000);
    let flows: Vec<_> = (0..10_000).map(|number| What::Flow(number, 10)).collect();
    standby.take(1, 1, &flows);
    standby.take(2, 1, &[What::Flow(1, 10)]);
    let mut after = Standby::new();
    after.take(1, 1, &[What::Flow(1, 10)]);
    let told = after.truth(Some(2));
    assert_eq!(standby.take(3, 1, &[told]).judged, None);
    assert!(standby.receiver.is_sweeping());
    assert_eq!(standby.receiver.go_on(&mut standby.replica), None);
    let judged = standby.receiver.go_on(&mut standby.replica);
    assert_eq!(judged, Some(Outcome::Equal));
    assert!(!standby.receiver.is_sweeping());
    assert_eq!(standby.verdict(), Some((3, Outcome::Equal)));
}

#[test]
fn a_marker_that_is_not_judged_sweeps_nothing() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[What::Flow(1, 10)]);
    let told = standby.truth(Some(3));
    standby.take(4, 1, &[told]);
    assert_eq!(standby.mark(1), Some(10));
}

#[test]
fn a_flow_of_an_earlier_session_loses_to_everything_new() {
    let mut standby = Standby::new();
    for number in 1..=6 {
        standby.take(number, 1, &[What::Flow(1, 60)]);
    }
    standby.meet_again();
    standby.take(1, 1, &[What::Flow(1, 1)]);
    assert_eq!(standby.mark(1), Some(1));
    standby.meet_again();
    standby.take(1, 1, &[End(1)]);
    assert_eq!(standby.mark(1), None);
}

#[test]
fn a_full_replica_refuses_the_newcomer_and_counts_it() {
    let mut standby = Standby::with_room_for(2);
    let received = standby.take(
        1,
        1,
        &[What::Flow(1, 10), What::Flow(2, 10), What::Flow(3, 10)],
    );
    assert_eq!((received.records, received.refused), (3, 1));
    assert_eq!(standby.mark(3), None);
    let received = standby.take(2, 1, &[What::Flow(1, 11)]);
    assert_eq!(received.refused, 0, "a change of what is held fits");
    assert_eq!(standby.mark(1), Some(11));
    assert_eq!(
        standby.take(3, 1, &[End(1), What::Flow(3, 30)]).refused,
        0,
        "and there is room after an end"
    );
}

#[test]
fn records_that_cannot_be_read_are_counted_and_stepped_over() {
    let mut standby = Standby::new();
    let received = standby.take(1, 1, &[Noise, What::Flow(1, 10)]);
    assert_eq!((received.unreadable, received.records), (1, 1));
    assert_eq!(standby.mark(1), Some(10));
}

#[test]
fn an_ack_tells_the_window_in_full_and_what_pings_told() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[]);
    standby.take(4, 1, &[]);
    let ack = standby.receiver.ack(&standby.replica, None);
    assert_eq!((ack.next, ack.seen), (2, 5));
    assert!(ack.bitmap.has(2) && !ack.bitmap.has(0) && !ack.bitmap.has(1));
    standby.receiver.on_ping(9, 50);
    standby.receiver.on_ping(7, 40);
    let ack = standby.receiver.ack(&standby.replica, None);
    assert_eq!(
        (ack.seen, ack.echo_clock_micros),
        (9, 50),
        "an old ping takes nothing back"
    );
    let ack = standby.receiver.ack(&standby.replica, Some(40));
    assert_eq!(ack.echo_clock_micros, 40, "each ping is answered by name");
}

#[test]
fn the_age_of_a_timeout_is_taken_off() {
    let mut standby = Standby::new();
    standby.take(1, 1, &[What::Flow(1, 10)]);
    let slot = standby.replica.find(&flow(1, 0).key()).expect("is there");
    assert_eq!(standby.replica.timeout_left(slot, NOW), 117);
}
