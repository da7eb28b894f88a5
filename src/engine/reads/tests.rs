//! Reads are bounded, come once, and answer for the life that they were asked about.

use std::time::Instant;

use super::*;

fn flow(number: u16) -> Flow {
    let mut flow = Flow::default();
    flow.orig.src_id = number;
    flow
}

struct World {
    now: Instant,
    reads: Reads,
    seq: u32,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "where virtual time starts does not matter"
    )]
    fn new() -> Self {
        Self {
            now: Instant::now(),
            reads: Reads::new(),
            seq: 100,
        }
    }

    /// The next batch, by its last number.
    fn poll(&mut self) -> Option<u32> {
        let mut out = Vec::new();
        match self.reads.next_batch(self.now, &mut self.seq, &mut out)? {
            KernelRequest::Batch { last_seq, .. } => Some(last_seq),
            KernelRequest::Dump => panic!("reads are batches"),
        }
    }

    fn poll_later(&mut self) -> Option<u32> {
        assert_eq!(self.poll(), None, "not before the helper is done");
        self.now = self.reads.poll_timeout()?;
        self.poll()
    }

    fn done(&mut self, last_seq: u32, is_answered: bool, answers: Vec<Answer>) -> Vec<u16> {
        let mut found = Vec::new();
        let done = self
            .reads
            .on_done(last_seq, is_answered, answers, |key, _| {
                found.push(key.orig.src_id);
                true
            });
        done.expect("it was a read");
        found
    }
}

fn found(seq: u32) -> Answer {
    Answer {
        seq,
        outcome: Outcome::Found(Box::default()),
    }
}

#[test]
fn a_flow_is_read_once_a_moment_after_the_cue() {
    let mut world = World::new();
    world.reads.want(&flow(1));
    world.reads.want(&flow(1));
    world.reads.want(&flow(2));
    let last = world.poll_later().expect("two reads");
    assert_eq!(last, 101);
    assert_eq!(world.reads.poll_timeout(), None);
    assert_eq!(world.done(last, true, vec![found(100), found(101)]), [1, 2]);
    assert_eq!(world.poll(), None);
}

#[test]
fn answers_of_others_are_given_back() {
    let mut world = World::new();
    let given = world
        .reads
        .on_done(5, true, vec![found(5)], |_, _| panic!("not ours"));
    assert_eq!(given, Err(vec![found(5)]));
}

#[test]
fn an_answer_about_a_flow_that_has_ended_is_not_heard() {
    let mut world = World::new();
    world.reads.want(&flow(1));
    world.reads.want(&flow(2));
    let last = world.poll_later().expect("two reads");
    world.reads.forget(&flow(1).key());
    assert_eq!(world.done(last, true, vec![found(100), found(101)]), [2]);
    // It was about the next life, whose birth may be on its way: that is read again, twice.
    for last in [102, 103] {
        assert_eq!(world.poll_later(), Some(last));
        world.reads.forget(&flow(1).key());
        assert_eq!(world.done(last, true, vec![found(last)]), [0; 0]);
    }
    world.reads.want(&flow(3));
    world.reads.forget(&flow(3).key());
    assert!(world.reads.is_empty());
    assert_eq!(world.poll(), None);
}

#[test]
fn lost_answers_are_asked_for_again_a_few_times() {
    let mut world = World::new();
    world.reads.want(&flow(1));
    for _ in 0..ATTEMPTS_MAX {
        let last = world.poll_later().expect("it is read again");
        assert_eq!(world.done(last, false, Vec::new()), Vec::<u16>::new());
    }
    assert!(world.reads.is_empty());
}

#[test]
fn more_than_there_is_room_for_is_left_to_the_scrub() {
    let mut world = World::new();
    let more = u16::try_from(WAITING_MAX).expect("a small number") + 3;
    (0..more).for_each(|number| world.reads.want(&flow(number)));
    assert_eq!(world.reads.left_out, 3);
}
