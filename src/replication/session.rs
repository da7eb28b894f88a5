//! One session: this run of ours with that run of theirs. A session ends only when either side
//! has a new epoch, never by silence (rules S6, S7).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
/// Pings that wait for their answer; beyond that the oldest is answered by the next ack.
const ANSWERS_MAX: usize = 8;

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
    /// Our stream; not before our table is complete (rule J1).
    pub(super) sender: Option<Sender>,
    /// Their stream.
    pub(super) receiver: Receiver,
    /// An ack is due.
    pub(super) ack_at: Option<Instant>,
    /// The last ping on the carrying link.
    pub(super) pinged_at: Option<Instant>,
    /// Highest clock told, so that each ping's is its own.
    pub(super) clock: u64,
    /// Clocks of pings that were not answered yet.
    answers: VecDeque<u64>,
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
}

impl Session {
    pub(super) fn new(terms: Terms, keys: SessionKeys, high: u64) -> Self {
        let Terms {
            epoch,
            ours,
            theirs,
            have,
            window,
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
            sender: None,
            receiver: Receiver::new(high),
            ack_at: None,
            pinged_at: None,
            clock: 0,
            answers: VecDeque::with_capacity(ANSWERS_MAX),
        }
    }

    /// A ping wants an answer of its own: that tells its sender which link works.
    pub(super) fn owe_answer(&mut self, clock: u64) {
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(clock);
    }

    /// The next ack that is due: of a ping with its clock, or on its own.
    pub(super) fn take_due_ack(&mut self, now: Instant) -> Option<Option<u64>> {
        if let Some(clock) = self.answers.pop_front() {
            self.ack_at = None;
            return Some(Some(clock));
        }
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            return Some(None);
        }
        None
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
