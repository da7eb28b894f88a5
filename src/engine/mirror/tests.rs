//! Events against listings: whose word counts, and when the table is whole.

use super::*;
use crate::cache::HashKey;
use crate::flow::{Flow, Present, Rare, Tuple};

const SCRUB: Duration = Duration::from_secs(60);
const OWN: u32 = 77;

struct World {
    mirror: Mirror,
    now: Instant,
}

fn flow(number: u16, mark: u32) -> Flow {
    let orig = Tuple::new(17, [10, 0, 0, 1].into(), [192, 0, 2, 1].into(), number, 53);
    Flow {
        orig,
        reply: orig.inverse(),
        mark,
        timeout_secs: 120,
        ..Flow::default()
    }
}

fn event(kind: EventKind, number: u16, mark: u32) -> FlowEvent {
    FlowEvent {
        kind,
        present: Present(Present::STATUS | Present::TIMEOUT),
        port_id: 0,
        flow: flow(number, mark),
        rare: Rare::default(),
    }
}

impl World {
    fn new() -> Self {
        Self::with_room_for(100)
    }

    fn with_room_for(flows_max: u32) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let local = Local::new(HashKey([1, 2]), flows_max, 100);
        Self {
            mirror: Mirror::new(local, Policy::Everything, OWN, SCRUB, now),
            now,
        }
    }

    /// A world whose first listing named these flows, each with mark 1.
    fn listed(numbers: &[u16]) -> Self {
        let mut world = Self::new();
        world.list(numbers);
        world
    }

    fn list(&mut self, numbers: &[u16]) {
        self.begin();
        self.hear_of(numbers);
        self.end(true);
    }

    fn begin(&mut self) {
        if let Some(due) = self.mirror.poll_timeout() {
            self.now = self.now.max(due);
        }
        assert!(self.mirror.begin_listing(self.now), "a listing is due");
    }

    fn hear_of(&mut self, numbers: &[u16]) {
        let flows: Vec<FlowEvent> = numbers
            .iter()
            .map(|&number| event(EventKind::Listed, number, 1))
            .collect();
        self.mirror.on_listed(1, &flows, 1);
    }

    fn end(&mut self, is_complete: bool) -> Option<Notice> {
        self.mirror.on_listing_ended(self.now, is_complete);
        self.mirror.on_timeout(self.now, 1, 1).1
    }

    fn tell(&mut self, kind: EventKind, number: u16, mark: u32) {
        self.mirror
            .on_events(self.now, 1, &[event(kind, number, mark)], 1);
    }

    fn mark(&self, number: u16) -> Option<u32> {
        let slot = self.mirror.local.find(&flow(number, 0).key())?;
        self.mirror.local.flow(slot).map(|flow| flow.mark)
    }
}

#[test]
fn the_table_is_whole_when_the_first_listing_is_complete() {
    let mut world = World::new();
    assert!(!world.mirror.is_complete());
    world.begin();
    world.hear_of(&[1, 2]);
    world.tell(EventKind::New, 3, 1);
    assert!(!world.mirror.is_whole());
    let notice = world.end(true);
    let expected = Notice::TableWhole {
        tracked: 3,
        swept: 0,
    };
    assert_eq!(notice, Some(expected));
    assert!(world.mirror.is_whole());
}

#[test]
fn an_event_beats_the_listing_that_was_under_way() {
    let mut world = World::listed(&[1]);
    world.begin();
    world.tell(EventKind::Update, 1, 7);
    world.tell(EventKind::New, 2, 8);
    world.hear_of(&[1, 2]);
    world.end(true);
    assert_eq!((world.mark(1), world.mark(2)), (Some(7), Some(8)));
}

#[test]
fn a_flow_that_ended_during_a_listing_is_not_resurrected_by_it() {
    let mut world = World::listed(&[1]);
    world.begin();
    world.tell(EventKind::Destroy, 1, 0);
    world.tell(EventKind::Destroy, 2, 0);
    world.hear_of(&[1, 2]);
    world.end(true);
    assert_eq!((world.mark(1), world.mark(2)), (None, None));
    world.list(&[1]);
    assert_eq!(world.mark(1), Some(1), "the next listing is believed again");
}

#[test]
fn a_second_life_that_began_during_a_listing_stays() {
    let mut world = World::listed(&[1]);
    world.begin();
    world.tell(EventKind::Destroy, 1, 0);
    world.tell(EventKind::New, 1, 9);
    world.hear_of(&[1]);
    world.end(true);
    assert_eq!(world.mark(1), Some(9));
}

#[test]
fn what_neither_the_listing_nor_an_event_named_is_gone() {
    let mut world = World::listed(&[1, 2, 3]);
    world.begin();
    world.hear_of(&[1]);
    world.tell(EventKind::Update, 2, 5);
    world.end(true);
    assert_eq!(world.mirror.local.tracked(), 2);
    assert_eq!(world.mark(3), None);
    assert_eq!(world.mirror.counters.swept_flows, 1);
}

#[test]
fn an_interrupted_listing_sweeps_nothing_and_is_repeated() {
    let mut world = World::listed(&[1, 2]);
    world.begin();
    world.hear_of(&[1]);
    assert_eq!(world.end(false), None);
    assert_eq!(world.mark(2), Some(1));
    assert_eq!(world.mirror.counters.listings_interrupted, 1);
    assert!(
        world.mirror.poll_timeout() < Some(world.now + SCRUB),
        "soon, not with the next scrub"
    );
    world.list(&[1]);
    assert_eq!(world.mark(2), None);
}

#[test]
fn an_overrun_makes_the_table_dirty_until_a_listing_that_began_after_it() {
    let mut world = World::listed(&[1, 2]);
    world.begin();
    assert_eq!(world.mirror.on_overrun(world.now), Notice::Overrun);
    assert!(world.mirror.is_dirty() && !world.mirror.is_whole());
    world.hear_of(&[1]);
    world.end(true);
    assert!(world.mirror.is_dirty(), "it began before");
    assert_eq!(world.mark(2), Some(1), "and sweeps nothing");
    world.begin();
    world.hear_of(&[1]);
    let notice = world.end(true);
    assert!(matches!(notice, Some(Notice::TableWhole { swept: 1, .. })));
    assert!(world.mirror.is_whole());
}

#[test]
fn an_overrun_while_the_sweep_waits_keeps_the_table_dirty() {
    let mut world = World::listed(&[1, 2]);
    world.begin();
    world.hear_of(&[1]);
    world.mirror.on_listing_ended(world.now, true);
    world.mirror.on_overrun(world.now);
    world.mirror.on_timeout(world.now, 1, 1);
    assert!(world.mirror.is_dirty());
    world.list(&[1, 2]);
    assert!(world.mirror.is_whole());
    assert_eq!(world.mark(2), Some(1));
}

#[test]
fn overruns_do_not_make_one_listing_after_another() {
    let mut world = World::listed(&[1]);
    let first = world.now;
    world.mirror.on_overrun(world.now);
    assert!(!world.mirror.begin_listing(first));
    assert_eq!(
        world.mirror.poll_timeout(),
        Some(first + LISTING_INTERVAL_MIN)
    );
    world.begin();
    for _ in 0..5 {
        world.mirror.on_overrun(world.now);
    }
    world.end(true);
    assert!(!world.mirror.begin_listing(world.now));
}

#[test]
fn the_scrub_comes_by_itself() {
    let mut world = World::listed(&[1, 2]);
    assert_eq!(world.mirror.poll_timeout(), Some(world.now + SCRUB));
    world.list(&[1]);
    assert_eq!(world.mark(2), None);
}

#[test]
fn a_full_table_is_dirty_until_a_listing_fits() {
    let mut world = World::with_room_for(2);
    world.list(&[1, 2, 3]);
    assert!(world.mirror.is_full() && world.mirror.is_dirty());
    assert_eq!(world.mirror.counters.refused_flows, 1);
    world.tell(EventKind::Destroy, 1, 0);
    assert!(world.mirror.is_dirty(), "3 is still missing");
    world.list(&[2, 3]);
    assert!(world.mirror.is_whole());
}

#[test]
fn a_flush_forgets_the_table_and_is_whole_after_the_next_listing() {
    let mut world = World::listed(&[1, 2]);
    world.mirror.flush(world.now);
    assert_eq!(world.mirror.local.tracked(), 0);
    assert!(!world.mirror.is_complete());
    let until = world.mirror.listings_until_fresh();
    world.list(&[1, 2]);
    assert_eq!(world.mirror.counters.listings, until);
    assert!(world.mirror.is_whole());
}

#[test]
fn our_own_writes_are_counted_as_echoes_and_known_from_then_on() {
    let mut world = World::listed(&[]);
    let echo = FlowEvent {
        port_id: OWN,
        ..event(EventKind::New, 1, 4)
    };
    world.mirror.on_events(world.now, 1, &[echo], 1);
    assert_eq!(world.mirror.counters.echoes, 1);
    assert_eq!(world.mark(1), Some(4));
}

#[test]
fn a_long_sweep_goes_in_steps_and_events_go_on_between_them() {
    let count = SWEEP_SLOTS + 10;
    let mut world = World::with_room_for(2 * count);
    let number_of = |at: u32| {
        let mut listed = event(
            EventKind::Listed,
            u16::try_from(at % 60_000).expect("fits"),
            1,
        );
        listed.flow.orig.dst_id = u16::try_from(at / 60_000).expect("fits");
        listed
    };
    world.begin();
    let all: Vec<FlowEvent> = (0..count).map(number_of).collect();
    world.mirror.on_listed(1, &all, 1);
    world.mirror.on_listing_ended(world.now, true);
    world.mirror.on_timeout(world.now, 1, 1);
    assert!(!world.mirror.is_whole(), "the first step is not all");
    world.mirror.on_timeout(world.now, 1, 1);
    assert!(world.mirror.is_whole());
    world.begin();
    world.mirror.on_listing_ended(world.now, true);
    world.mirror.on_timeout(world.now, 1, 1);
    let last = FlowEvent {
        kind: EventKind::Update,
        ..number_of(count - 1)
    };
    world.mirror.on_events(world.now, 1, &[last], 1);
    world.mirror.on_timeout(world.now, 1, 1);
    assert_eq!(
        world.mirror.local.tracked(),
        1,
        "the one that an event named"
    );
}

const MOVING: [u8; 4] = [198, 51, 100, 1];

/// A flow whose source is translated to the address that moves.
fn masqueraded(kind: EventKind, number: u16) -> FlowEvent {
    let mut event = event(kind, number, 1);
    event.flow.reply.dst = Tuple::new(17, MOVING.into(), MOVING.into(), 0, 0).src;
    event
}

/// A world with flow 1 behind the address that moves and flow 2 behind none.
fn masquerading() -> World {
    let mut world = World::listed(&[2]);
    world.set_addresses(&[[192, 0, 2, 2], MOVING]);
    world.hear(&masqueraded(EventKind::New, 1));
    world
}

impl World {
    fn set_addresses(&mut self, addresses: &[[u8; 4]]) {
        let addresses = addresses.iter().map(|&one| one.into()).collect();
        let addresses = LocalAddresses::new(addresses);
        self.mirror.on_addresses(self.now, addresses);
    }

    fn hear(&mut self, event: &FlowEvent) {
        self.mirror.on_events(self.now, 1, &[*event], 1);
    }

    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }

    fn holds(&self, number: u16) -> bool {
        let key = flow(number, 0).key();
        self.mirror.local.find(&key).is_some()
    }
}

#[test]
fn an_end_that_comes_of_an_address_that_left_waits_for_a_listing() {
    let mut world = masquerading();
    world.set_addresses(&[[192, 0, 2, 2]]);
    world.hear(&masqueraded(EventKind::Destroy, 1));
    assert!(world.holds(1));
    assert_eq!(world.mirror.counters.held_ends, 1);
    // A listing in between, from which the flow is missing, says nothing of it either.
    world.mirror.want_listing(world.now);
    world.list(&[2]);
    assert!(world.holds(1));
    // The one that settles it is asked for, long before the scrub.
    let due = world.mirror.poll_timeout().expect("a listing");
    assert!(due < world.now + SCRUB, "{due:?}");
    world.list(&[2]);
    assert!(!world.holds(1));
    assert!(world.holds(2));
}

#[test]
fn what_is_not_masqueraded_behind_it_ends_at_once() {
    let mut world = masquerading();
    world.set_addresses(&[[192, 0, 2, 2]]);
    // An operator's deletion, an expiry, a flow that is not translated, and one after a while.
    let by_hand = FlowEvent {
        port_id: 99,
        ..masqueraded(EventKind::Destroy, 1)
    };
    world.hear(&by_hand);
    assert!(!world.holds(1));
    world.hear(&masqueraded(EventKind::New, 1));
    let expired = FlowEvent {
        present: Present(Present::STATUS),
        ..masqueraded(EventKind::Destroy, 1)
    };
    world.hear(&expired);
    assert!(!world.holds(1));
    world.hear(&event(EventKind::Destroy, 2, 1));
    assert!(!world.holds(2));
    world.hear(&masqueraded(EventKind::New, 1));
    world.pass(11);
    world.hear(&masqueraded(EventKind::Destroy, 1));
    assert!(!world.holds(1));
    assert_eq!(world.mirror.counters.held_ends, 0);
}

#[test]
fn ends_are_held_back_while_the_role_has_just_gone() {
    let mut world = masquerading();
    world.mirror.take_ownership();
    world.mirror.lose_ownership();
    world.hear(&masqueraded(EventKind::Destroy, 1));
    assert!(world.holds(1), "the address may have left unseen");
    world.mirror.take_ownership();
    world.hear(&masqueraded(EventKind::Destroy, 1));
    assert!(!world.holds(1), "an active node's flows are its own");
}
