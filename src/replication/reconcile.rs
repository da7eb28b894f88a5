//! The asking side of reconcile: finds what a peer's replica has different, at a cost in proportion
//! to the difference, and lets ordinary records repair it.
//!
//! It asks for sums, then for finer sums below those that differ, then for lists of the leaves that
//! differ. A list is compared with the table as it is when the list comes: what the peer lacks is
//! touched, what it has too much is buried. Both are true whenever they are done, so nothing is
//! locked and nothing is copied. docs/protocol.md section 7 states the rules (D).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cache::{Digest, Local, Secs, Slot};
use crate::rules::{Rule, holds};
use crate::wire::{Level, List, ListQuestion, Sums, SumsQuestion};

mod cost;

pub use cost::ReconcileCounters;

/// Questions that may be open at a time: answers of a kilobyte each, so that a burst of them fits
/// in any socket buffer, and enough to find hundreds of leaves in a few round trips.
const OPEN_MAX: usize = 16;
/// Leaves known to differ beyond which no more are looked for until some have been listed. What is
/// open then can add [`OPEN_MAX`] times [`SUMS_ASKED`].
const LISTS_MAX: usize = 1024;
/// Sums asked for at once: their answer fits in a datagram.
const SUMS_ASKED: u16 = 128;
/// A question is repeated after four round trips, but not sooner than this,
const REPEAT_MIN: Duration = Duration::from_millis(20);
/// after twice as long each further time, but not later than this,
const REPEAT_MAX: Duration = Duration::from_secs(1);
/// and so often until the reconcile is given up: after seven seconds.
const TRIES_MAX: u32 = 12;

/// One question, to be asked or to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    Sums(SumsQuestion),
    List(ListQuestion),
}

impl Question {
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sums(question) => question.emit(out),
            Self::List(question) => question.emit(out),
        }
    }
}

/// A reconcile that runs.
#[derive(Debug)]
pub(super) struct Reconcile {
    round: u32,
    /// The peer's bit in the masks of tombstones.
    peer: u8,
    began: Instant,
    /// The counters when it began.
    before: ReconcileCounters,
    /// Sums to ask for: at most two halves of each of 256 inner nodes.
    sums: VecDeque<(Level, u16)>,
    /// Leaves to ask for.
    lists: VecDeque<u16>,
    open: Vec<Open>,
    own: Vec<(u64, u64, Slot)>,
    listed: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    question: Question,
    asked_at: Option<Instant>,
    tries: u32,
}

impl Open {
    fn new(question: Question) -> Self {
        Self {
            question,
            asked_at: None,
            tries: 0,
        }
    }

    fn due(&self, repeat: Duration) -> Option<Instant> {
        let wait = REPEAT_MAX.min(repeat * (1 << self.tries.saturating_sub(1).min(6)));
        self.asked_at.map(|asked_at| asked_at + wait)
    }

    fn is_due(&self, repeat: Duration, now: Instant) -> bool {
        self.due(repeat).is_none_or(|due| due <= now)
    }
}

/// What a reconcile did, when it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Report {
    pub(super) cost: ReconcileCounters,
    pub(super) took: Duration,
}

impl Reconcile {
    /// Asks for all inner sums.
    pub(super) fn new(
        round: u32,
        peer: u8,
        now: Instant,
        counters: &mut ReconcileCounters,
    ) -> Self {
        let before = *counters;
        counters.reconciles += 1;
        let inner = (0..Level::Inner.count() as u16).step_by(usize::from(SUMS_ASKED));
        Self {
            round,
            peer,
            began: now,
            before,
            sums: inner.map(|first| (Level::Inner, first)).collect(),
            lists: VecDeque::new(),
            open: Vec::with_capacity(OPEN_MAX),
            own: Vec::new(),
            listed: Vec::new(),
        }
    }

    /// True when nothing is left to ask (rule D6).
    pub(super) fn is_done(&self) -> bool {
        self.open.is_empty() && self.sums.is_empty() && self.lists.is_empty()
    }

    /// True when a question was repeated as often as questions are, without an answer.
    pub(super) fn is_unanswered(&self, round_trip: Duration, now: Instant) -> bool {
        let repeat = repeat(round_trip);
        self.open
            .iter()
            .any(|open| open.tries >= TRIES_MAX && open.is_due(repeat, now))
    }

    /// When a question is to be repeated.
    pub(super) fn wake_at(&self, round_trip: Duration) -> Option<Instant> {
        let repeat = repeat(round_trip);
        self.open.iter().filter_map(|open| open.due(repeat)).min()
    }

    /// What it did.
    pub(super) fn report(&self, counters: &ReconcileCounters, now: Instant) -> Report {
        Report {
            cost: counters.since(&self.before),
            took: now.saturating_duration_since(self.began),
        }
    }

    /// True if a question is to be asked now. Chooses the next ones when there is room.
    pub(super) fn wants_to_ask(
        &mut self,
        local: &Local,
        round_trip: Duration,
        now: Instant,
    ) -> bool {
        let may_list = !local.is_half_buried(self.peer);
        while self.open.len() < OPEN_MAX {
            // Depth first, so that little is remembered.
            let next = match self.lists.front() {
                Some(_) if may_list => self.lists.pop_front().map(|leaf| self.list_of(leaf)),
                _ if self.lists.len() < LISTS_MAX => {
                    self.sums.pop_front().map(|sums| self.sums_from(sums))
                }
                _ => None,
            };
            let Some(question) = next else { break };
            self.open.push(Open::new(question));
        }
        let repeat = repeat(round_trip);
        let is_wanted = |open: &Open| may_ask(open, may_list) && open.is_due(repeat, now);
        self.open.iter().any(is_wanted)
    }

    /// Appends the questions that are due, as many as there is room for.
    pub(super) fn ask(
        &mut self,
        local: &Local,
        round_trip: Duration,
        now: Instant,
        room: usize,
        out: &mut Vec<u8>,
        counters: &mut ReconcileCounters,
    ) {
        let may_list = !local.is_half_buried(self.peer);
        let repeat = repeat(round_trip);
        for open in &mut self.open {
            if !may_ask(open, may_list) || !open.is_due(repeat, now) {
                continue;
            }
            let start = out.len();
            open.question.emit(out);
            if out.len() > room {
                out.truncate(start);
                return;
            }
            (open.asked_at, open.tries) = (Some(now), open.tries + 1);
            counters.questions += 1;
        }
    }

    /// Sums of the replica, compared with those of the table as it is now (rule D3).
    pub(super) fn on_sums(
        &mut self,
        sums: &Sums<'_>,
        local: &Local,
        counters: &mut ReconcileCounters,
    ) {
        let count = sums.sums().len();
        let asked = self.open.iter().position(|open| {
            matches!(open.question, Question::Sums(asked)
                if (asked.round, asked.level, asked.first) == (sums.round, sums.level, sums.first)
                    && count <= usize::from(asked.count))
        });
        let Some(at) = asked else {
            counters.stale_answers += 1;
            return;
        };
        for (number, theirs) in (sums.first..=u16::MAX).zip(sums.sums()) {
            counters.sums += 1;
            if theirs == sum(local.digest(), sums.level, number) {
                continue;
            }
            match sums.level {
                Level::Inner => {
                    let leaf = number << 8;
                    self.sums.push_back((Level::Leaf, leaf));
                    self.sums.push_back((Level::Leaf, leaf + SUMS_ASKED));
                }
                Level::Leaf => self.lists.push_back(number),
            }
        }
        let rest = match self.open[at].question {
            Question::Sums(asked) if count < usize::from(asked.count) => {
                let told = u16::try_from(count).expect("less than was asked");
                Some(Question::Sums(SumsQuestion {
                    first: asked.first + told,
                    count: asked.count - told,
                    ..asked
                }))
            }
            Question::Sums(_) | Question::List(_) => None,
        };
        self.go_on(at, rest);
    }

    /// A list of the replica's flows, compared with the table as it is now: touches and buries
    /// (rules D3, D4). `read`: version up to which the live cursor has read.
    pub(super) fn on_list(
        &mut self,
        list: &List<'_>,
        local: &mut Local,
        read: u64,
        now: Secs,
        counters: &mut ReconcileCounters,
    ) {
        let asked = self.open.iter().enumerate().find_map(|(at, open)| {
            let Question::List(asked) = open.question else {
                return None;
            };
            let is_it = (asked.round, asked.from) == (list.round, list.from) && list.to <= asked.to;
            is_it.then_some((at, asked))
        });
        let Some((at, asked)) = asked else {
            counters.stale_answers += 1;
            return;
        };
        self.own.clear();
        let leaf = (list.from >> 48) as u16;
        local.visit_leaf(leaf, |slot, hash, value| {
            if (list.from..=list.to).contains(&hash) {
                self.own.push((hash, value, slot));
            }
        });
        self.own.sort_unstable();
        self.listed.clear();
        self.listed.extend(list.entries());
        self.listed.sort_unstable();
        counters.list_entries += self.listed.len() as u64;
        let Some(end) = self.bury_listed(list, local, read, counters) else {
            return self.go_on(at, Some(Question::List(asked)));
        };
        for &(hash, value, slot) in &self.own {
            let is_listed = self.listed.binary_search(&(hash, value)).is_ok();
            let is_told = is_listed || local.version(slot) > read || !holds(Rule::D4Touch);
            if hash <= end && !is_told {
                local.touch(slot, now);
                counters.touched += 1;
            }
        }
        let rest = (end < asked.to).then_some(Question::List(ListQuestion {
            from: end.saturating_add(1),
            ..asked
        }));
        self.go_on(at, rest);
    }

    /// Ends what only the peer has. Returns the hash up to which that was done: not to the end, or
    /// `None`, when there is no room for more tombstones at present (rule D5).
    fn bury_listed(
        &self,
        list: &List<'_>,
        local: &mut Local,
        read: u64,
        counters: &mut ReconcileCounters,
    ) -> Option<u64> {
        for &(hash, _) in &self.listed {
            let found = self.own.binary_search_by_key(&hash, |&(own, _, _)| own);
            if found.is_ok() || !holds(Rule::D4Bury) {
                continue;
            }
            if local.is_half_buried(self.peer) {
                return hash.checked_sub(1).filter(|end| *end >= list.from);
            }
            counters.buried += u64::from(local.bury_for(hash, self.peer, read));
        }
        Some(list.to)
    }

    /// A question was answered, but for the rest.
    fn go_on(&mut self, at: usize, rest: Option<Question>) {
        match rest {
            Some(rest) => self.open[at] = Open::new(rest),
            None => {
                self.open.swap_remove(at);
            }
        }
    }

    fn list_of(&self, leaf: u16) -> Question {
        let from = u64::from(leaf) << 48;
        Question::List(ListQuestion {
            round: self.round,
            from,
            to: from | (u64::MAX >> 16),
        })
    }

    fn sums_from(&self, (level, first): (Level, u16)) -> Question {
        Question::Sums(SumsQuestion {
            round: self.round,
            level,
            first,
            count: SUMS_ASKED,
        })
    }
}

/// A sum by its number.
pub(super) fn sum(digest: &Digest, level: Level, number: u16) -> u64 {
    match level {
        Level::Inner => digest.inner(u8::try_from(number).expect("checked when it was read")),
        Level::Leaf => digest.leaf(number),
    }
}

fn may_ask(open: &Open, may_list: bool) -> bool {
    let is_list = matches!(open.question, Question::List(_));
    open.tries < TRIES_MAX && (may_list || !is_list)
}

fn repeat(round_trip: Duration) -> Duration {
    REPEAT_MIN.max(round_trip * 4)
}

#[cfg(test)]
mod tests;
