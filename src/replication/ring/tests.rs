//! The ring against a map from number to what was sent, and the bounds of loss one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::AckBitmap;

#[expect(
    clippy::disallowed_methods,
    reason = "where virtual time starts does not matter"
)]
fn start() -> Instant {
    Instant::now()
}

const PLAIN: Carried = Carried {
    tail: 0,
    marker: false,
    tombstones: false,
};

fn ack(next: u64, seen: u64, received: &[u64]) -> Ack {
    let mut bitmap = AckBitmap::EMPTY;
    received.iter().for_each(|number| bitmap.set(number - next));
    Ack {
        next,
        seen,
        bitmap,
        verdict: None,
        have: 0,
        echo_clock_micros: 0,
    }
}

/// A ring with numbers 1 to `count` under way, each with the one slot of its number.
fn filled(count: u32, at: Instant) -> Ring {
    let mut ring = Ring::new();
    for number in 1..=count {
        ring.push(at, &[Slot(number)], PLAIN);
    }
    ring
}

/// Settles an ack and tells the fates, by slot.
fn fates(ring: &mut Ring, ack: &Ack, sent_before: Instant) -> Vec<(u32, Fate)> {
    let mut fates = Vec::new();
    ring.settle(ack, sent_before, |fate, _, slots| {
        fates.extend(slots.map(|slot| (slot.0, fate)));
    });
    fates
}

#[test]
fn what_three_later_ones_have_overtaken_is_lost_and_the_fourth_last_is_not() {
    let now = start();
    let mut ring = filled(10, now);
    // 6 arrived: 1 and 2 lie more than three below what was seen, 3 to 5 may still be late.
    let fates = fates(&mut ring, &ack(1, 7, &[6]), now);
    assert_eq!(
        fates,
        [
            (1, Fate::Lost),
            (2, Fate::Lost),
            (3, Fate::Lost),
            (6, Fate::Acked)
        ]
    );
    assert_eq!(ring.floor(), 4, "the floor passes what is lost at once");
    assert_eq!(ring.open(), 6);
}

#[test]
fn what_was_heard_of_is_lost_when_it_is_old_and_what_was_not_is_never() {
    let now = start();
    let mut ring = filled(2, now);
    ring.push(now + Duration::from_millis(5), &[Slot(3)], PLAIN);
    ring.push(now, &[Slot(4)], PLAIN);
    let sent_before = now + Duration::from_millis(1);
    // Seen up to 3: 3 is too young, 4 was never heard of.
    let fates = fates(&mut ring, &ack(1, 4, &[]), sent_before);
    assert_eq!(fates, [(1, Fate::Lost), (2, Fate::Lost)]);
    assert_eq!((ring.floor(), ring.next(), ring.open()), (3, 5, 2));
    assert_eq!(ring.oldest(), Some(now + Duration::from_millis(5)));
}

#[test]
fn an_old_ack_changes_nothing() {
    let now = start();
    let mut ring = filled(5, now);
    fates(&mut ring, &ack(4, 4, &[]), now);
    let later = now + Duration::from_secs(9);
    assert_eq!(fates(&mut ring, &ack(2, 3, &[]), later), []);
    assert_eq!((ring.floor(), ring.open()), (4, 2));
}

#[test]
fn it_says_what_a_datagram_carried() {
    let now = start();
    let mut ring = Ring::new();
    let carried = Carried {
        tail: 77,
        marker: true,
        tombstones: true,
    };
    ring.push(now, &[Slot(5), Slot(6)], carried);
    ring.push(now, &[], PLAIN);
    let mut seen = Vec::new();
    ring.settle(&ack(3, 3, &[]), now, |fate, carried, slots| {
        let slots: Vec<Slot> = slots.collect();
        seen.push((
            fate,
            carried.tail,
            carried.marker,
            carried.tombstones,
            slots,
        ));
    });
    assert_eq!(
        seen,
        [
            (Fate::Acked, 77, true, true, vec![Slot(5), Slot(6)]),
            (Fate::Acked, 0, false, false, vec![])
        ]
    );
    assert_eq!((ring.slots(), ring.span(), ring.oldest()), (0, 0, None));
}

#[derive(Clone, Debug)]
enum Step {
    Send { slots: u8, flags: u8 },
    Wait { millis: u8 },
    Hear { next: u8, seen: u8, bits: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5u8, 0..4u8).prop_map(|(slots, flags)| Step::Send { slots, flags }),
        1 => (0..4u8).prop_map(|millis| Step::Wait { millis }),
        2 => (any::<u8>(), any::<u8>(), any::<u16>())
            .prop_map(|(next, seen, bits)| Step::Hear { next, seen, bits }),
    ]
}

/// What the model knows of a number under way.
#[derive(Clone, Debug)]
struct Known {
    at: Instant,
    tail: u64,
    flags: u8,
    slots: Vec<Slot>,
}

type Settled = Vec<(Fate, u64, u8, Vec<Slot>)>;

/// The rules in the plainest way.
fn model(open: &mut BTreeMap<u64, Known>, ack: &Ack, sent_before: Instant) -> Settled {
    let mut settled = Vec::new();
    open.retain(|&number, known| {
        let is_acked = number < ack.next || ack.bitmap.has(number - ack.next);
        let is_lost = number + 3 < ack.seen || number < ack.seen && known.at < sent_before;
        // A bit says nothing about a number that the same ack says it has never heard of.
        let is_heard = number < ack.seen;
        let fate = match (is_acked && is_heard, is_lost) {
            (true, _) => Fate::Acked,
            (false, true) => Fate::Lost,
            (false, false) => return true,
        };
        settled.push((fate, known.tail, known.flags, known.slots.clone()));
        false
    });
    settled
}

proptest! {
    #[test]
    fn behaves_like_a_map_of_numbers(steps in prop::collection::vec(step(), 1..150)) {
        const REORDER: Duration = Duration::from_millis(2);
        let began = start() + REORDER;
        let mut now = began;
        let mut ring = Ring::new();
        let mut open: BTreeMap<u64, Known> = BTreeMap::new();
        let mut carried_slots: BTreeMap<u64, usize> = BTreeMap::new();
        let mut next = 1;
        for step in steps {
            match step {
                Step::Send { slots, flags } => {
                    let base = u32::try_from(next).expect("a short test") * 8;
                    let slots: Vec<Slot> = (0..u32::from(slots)).map(|at| Slot(base + at)).collect();
                    let carried = Carried {
                        tail: next * 100,
                        marker: flags & 1 != 0,
                        tombstones: flags & 2 != 0,
                    };
                    ring.push(now, &slots, carried);
                    carried_slots.insert(next, slots.len());
                    open.insert(next, Known { at: now, tail: carried.tail, flags, slots });
                    next += 1;
                }
                Step::Wait { millis } => now += Duration::from_millis(u64::from(millis)),
                Step::Hear { next: to, seen, bits } => {
                    let to = 1 + u64::from(to) % next;
                    let seen = to + u64::from(seen) % (next - to + 1);
                    let received: Vec<u64> =
                        (0..16).filter(|at| bits >> at & 1 == 1).map(|at| to + at).collect();
                    let ack = ack(to, seen, &received);
                    let sent_before = now - REORDER;
                    let mut settled = Settled::new();
                    ring.settle(&ack, sent_before, |fate, carried, slots| {
                        let flags = u8::from(carried.marker) | u8::from(carried.tombstones) << 1;
                        settled.push((fate, carried.tail, flags, slots.collect()));
                    });
                    prop_assert_eq!(settled, model(&mut open, &ack, sent_before));
                }
            }
            let floor = open.keys().next().copied().unwrap_or(next);
            prop_assert_eq!(ring.floor(), floor);
            prop_assert_eq!(ring.next(), next);
            prop_assert_eq!(u64::from(ring.span()), next - floor);
            prop_assert_eq!(ring.open() as usize, open.len());
            prop_assert_eq!(ring.oldest(), open.values().next().map(|known| known.at));
            let held: usize = carried_slots.range(floor..).map(|(_, &slots)| slots).sum();
            prop_assert_eq!(ring.slots(), held);
        }
    }
}
