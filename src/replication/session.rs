//! One session: this run of ours with that run of theirs. A session ends only when either side
//! has a new epoch, never by silence (rules S6, S7).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::LinkId;
use super::answer::Answerer;
use super::keys::{Replays, SessionKeys};
use super::receiver::Receiver;
use super::sender::Sender;
use crate::wire::Epoch;

/// A ping goes out this often while anything is open, so that a lost tail shows (rule A6).
pub(super) const PING_WHILE_OPEN: Duration = Duration::from_millis(20);
/// And this often at rest, on the only link.
pub(super) const PING_AT_REST: Duration = Duration::from_secs(1);
/// With several links each is watched this closely.
pub(super) const PING_OF_MANY: Duration = Duration::from_millis(200);
/// Data is acked at most this long after it came (rule A2).
pub(super) const ACK_DELAY: Duration = Duration::from_millis(2);
/// Answers to pings that wait to be sent; beyond that the oldest is answered by the next ack.
const ANSWERS_MAX: usize = 16;
/// Pings of ours that wait for their answer: those of more than a second on the busiest link, so
/// that a long round trip is no silence. The oldest goes first.
const PINGS_MAX: usize = 64;

/// State that belongs to the session.
#[derive(Debug)]
pub(super) struct Session {
    /// Their run.
    pub(super) epoch: Epoch,
    /// How they address us.
    pub(super) ours: u64,
    /// How we address them.
    pub(super) theirs: u64,
    /// Keys of the session.
    pub(super) keys: SessionKeys,
    /// Highest number of their hellos.
    pub(super) hello_number: u64,
    /// Control datagrams received.
    pub(super) replays: Replays,
    /// Control datagrams sent.
    pub(super) number: u64,
    /// What they said they hold of our flows.
    pub(super) have: u64,
    /// Their window.
    pub(super) window: u32,
    /// The version of the protocol that both speak in it.
    pub(super) version: u8,
    /// Our stream; not before our table is complete (rule J1).
    pub(super) sender: Option<Sender>,
    /// Their stream.
    pub(super) receiver: Receiver,
    /// Their questions about our replica of their flows.
    pub(super) answerer: Answerer,
    /// An ack is due.
    pub(super) ack_at: Option<Instant>,
    /// Highest clock told, so that each ping's is its own.
    pub(super) clock: u64,
    /// Pings that were not answered yet.
    answers: VecDeque<Answer>,
    /// Pings sent that were not answered yet.
    pings: VecDeque<SentPing>,
}

/// An ack that is due now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// Clock of the ping that it answers.
    pub(super) clock: Option<u64>,
    /// Link that it goes over; the one that carries if `None`.
    pub(super) link: Option<LinkId>,
}

/// A ping under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SentPing {
    pub(super) clock: u64,
    pub(super) link: LinkId,
    pub(super) at: Instant,
}

/// What two greetings have agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Their run.
    pub(super) epoch: Epoch,
    /// How they address us.
    pub(super) ours: u64,
    /// How we address them.
    pub(super) theirs: u64,
    /// What they hold of our flows.
    pub(super) have: u64,
    /// Their window.
    pub(super) window: u32,
    /// The highest version of the protocol that both speak.
    pub(super) version: u8,
}

impl Session {
    pub(super) fn new(terms: Terms, keys: SessionKeys, high: u64) -> Self {
        let Terms {
            epoch,
            ours,
            theirs,
            have,
            window,
            version,
        } = terms;
        Self {
            epoch,
            ours,
            theirs,
            keys,
            hello_number: 0,
            replays: Replays::default(),
            number: 0,
            have,
            window,
            version,
            sender: None,
            receiver: Receiver::new(high),
            answerer: Answerer::default(),
            ack_at: None,
            clock: 0,
            answers: VecDeque::with_capacity(ANSWERS_MAX),
            pings: VecDeque::with_capacity(PINGS_MAX),
        }
    }

    /// A ping wants an answer of its own: that tells its sender which link works. It goes back over
    /// the link by which the ping came, and over the one that carries as well: either may be cut
    /// in that direction only (rule W2).
    pub(super) fn owe_answer(&mut self, clock: u64, came_by: LinkId, carrying: Option<LinkId>) {
        let clock = Some(clock);
        let back = (Some(came_by) != carrying).then_some(Some(came_by));
        for link in back.into_iter().chain([None]) {
            if self.answers.len() == ANSWERS_MAX {
                self.answers.pop_front();
            }
            self.answers.push_back(Answer { clock, link });
        }
    }

    /// The next ack that is due: of a ping with its clock, or on its own.
    pub(super) fn take_due_ack(&mut self, now: Instant) -> Option<Answer> {
        if let Some(answer) = self.answers.pop_front() {
            self.ack_at = None;
            return Some(answer);
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            return Some(Answer {
                clock: None,
                link: None,
            });
        }
        None
    }

    /// A ping was sent.
    pub(super) fn note_ping(&mut self, ping: SentPing) {
        if self.pings.len() == PINGS_MAX {
            self.pings.pop_front();
        }
        self.pings.push_back(ping);
    }

    /// The ping that an ack answers, once.
    pub(super) fn take_answered(&mut self, clock: u64) -> Option<SentPing> {
        let at = self.pings.iter().position(|ping| ping.clock == clock)?;
        self.pings.remove(at)
    }

    /// An ack is due no later than `at`.
    pub(super) fn ack_by(&mut self, at: Instant) {
        self.ack_at = Some(self.ack_at.map_or(at, |due| due.min(at)));
    }

    /// A clock for a ping that no other ping of this session has.
    pub(super) fn next_clock(&mut self, clock_micros: u64) -> u64 {
        self.clock = clock_micros.max(self.clock + 1);
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Identity, Name};

    fn session() -> Session {
        let terms = Terms {
            epoch: Epoch([1; 16]),
            ours: 1,
            theirs: 2,
            have: 0,
            window: 64,
            version: 1,
        };
        let identity = Identity {
            name: Name::new(b"fw1").expect("a valid name"),
            epoch: Epoch([9; 16]),
        };
        let keys = SessionKeys::new(None, &identity, &identity);
        Session::new(terms, keys, 0)
    }

    #[test]
    fn each_ping_is_answered_by_name_and_the_oldest_of_too_many_is_not() {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let mut session = session();
        let carrying = LinkId(0);
        for clock in 0..=ANSWERS_MAX as u64 {
            session.owe_answer(clock, carrying, Some(carrying));
        }
        session.ack_by(now);
        for clock in 1..=ANSWERS_MAX as u64 {
            let expected = Answer {
                clock: Some(clock),
                link: None,
            };
            assert_eq!(session.take_due_ack(now), Some(expected));
        }
        assert_eq!(session.take_due_ack(now), None, "they were acks as well");
    }

    #[test]
    fn a_ping_over_another_link_is_answered_over_that_and_over_the_one_that_carries() {
        let mut session = session();
        session.owe_answer(5, LinkId(1), Some(LinkId(0)));
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let answers: Vec<Answer> = std::iter::from_fn(|| session.take_due_ack(now)).collect();
        let clock = Some(5);
        let expected = [Some(LinkId(1)), None].map(|link| Answer { clock, link });
        assert_eq!(answers, expected);
    }

    #[test]
    fn an_answer_that_takes_longer_than_the_next_ping_is_known() {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let at = Instant::now();
        let mut session = session();
        let link = LinkId(0);
        for clock in 1..=10 {
            session.note_ping(SentPing { clock, link, at });
        }
        let clock = 4;
        assert_eq!(
            session.take_answered(clock),
            Some(SentPing { clock, link, at })
        );
        assert_eq!(session.take_answered(clock), None, "once");
        assert!(session.take_answered(10).is_some());
        for clock in 11..100 {
            session.note_ping(SentPing { clock, link, at });
        }
        assert_eq!(session.pings.len(), PINGS_MAX);
    }

    #[test]
    fn an_ack_waits_until_the_earliest_time_asked_for() {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let mut session = session();
        session.ack_by(now + 2 * ACK_DELAY);
        session.ack_by(now + ACK_DELAY);
        session.ack_by(now + 3 * ACK_DELAY);
        assert_eq!(session.take_due_ack(now), None);
        assert!(session.take_due_ack(now + ACK_DELAY).is_some());
        assert_eq!(session.take_due_ack(now + 9 * ACK_DELAY), None);
    }

    #[test]
    fn no_two_pings_have_the_same_clock() {
        let mut session = session();
        assert_eq!(session.next_clock(10), 10);
        assert_eq!(session.next_clock(10), 11);
        assert_eq!(session.next_clock(5), 12);
        assert_eq!(session.next_clock(90), 90);
    }
}
