//! Expectations that are told while events about their masters are missing.

use std::time::Duration;

use super::*;
use crate::cache::Local;
use crate::flow::filter::Policy;
use crate::flow::rare::HelperName;

fn master(kind: EventKind, id: u32) -> FlowEvent {
    let mut event = FlowEvent {
        kind,
        present: Present(Present::STATUS | Present::TIMEOUT | Present::HELPER),
        ..FlowEvent::default()
    };
    (event.flow.id, event.flow.timeout_secs) = (id, 100);
    event.rare.helper = HelperName::new(b"ftp");
    event
}

fn expected(kind: EventKind) -> ExpectationEvent {
    let mut event = ExpectationEvent {
        kind,
        ..ExpectationEvent::default()
    };
    event.expectation.tuple.dst_id = 7;
    event.expectation.timeout_secs = 300;
    event
}

/// Life 1 of a flow is in the table, events are missed, and a listing that does not name the flow
/// has begun.
fn missing_an_end() -> (Mirror, Instant) {
    #[expect(
        clippy::disallowed_methods,
        reason = "where virtual time starts does not matter"
    )]
    let now = Instant::now();
    let local = Local::new(HashKey([1, 2]), 100, 100);
    let scrub = Duration::from_secs(60);
    let mut mirror = Mirror::new(local, Policy::Everything, 77, scrub, now);
    mirror.on_events(now, 1, &[master(EventKind::New, 1)], 1);
    let _overrun = mirror.on_overrun(now);
    assert!(mirror.begin_listing(now), "a listing is due");
    (mirror, now)
}

fn is_expected(mirror: &Mirror) -> bool {
    let key = expected(EventKind::New).expectation.key();
    mirror.local.find_expectation(&key).is_some()
}

fn end_listing(mirror: &mut Mirror, now: Instant) {
    mirror.on_listing_ended(now, true);
    let (has_swept, _whole) = mirror.on_timeout(now, 1, 1);
    assert!(has_swept, "life 1 is gone");
}

#[test]
fn what_the_next_life_expects_outlives_the_sweep_of_the_one_before() {
    let (mut mirror, now) = missing_an_end();
    mirror.on_expectation(1, &expected(EventKind::New), 1);
    assert!(is_expected(&mirror), "of life 1, as far as we know");
    end_listing(&mut mirror, now);
    assert!(!is_expected(&mirror));
    mirror.on_events(now, 1, &[master(EventKind::New, 2)], 1);
    assert!(is_expected(&mirror));
}

#[test]
fn what_has_ended_meanwhile_does_not_come_back() {
    let (mut mirror, now) = missing_an_end();
    mirror.on_expectation(1, &expected(EventKind::New), 1);
    mirror.on_expectation(1, &expected(EventKind::Destroy), 1);
    end_listing(&mut mirror, now);
    mirror.on_events(now, 1, &[master(EventKind::New, 2)], 1);
    assert!(!is_expected(&mirror));
}
