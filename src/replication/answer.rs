//! The answering side of reconcile: says what a replica holds at the moment of the answer, and
//! keeps nothing but the questions that wait (docs/protocol.md section 7, rule D2).

use std::collections::VecDeque;

use super::reconcile::{Question, sum};
use crate::cache::Replica;
use crate::wire::reconcile::{ANSWER_HEAD_BYTES_MAX, LIST_ENTRY_BYTES, SUM_BYTES, list_entry};
use crate::wire::{List, ListQuestion, Sums, SumsQuestion};

/// Questions that wait for their answer: twice what a peer has open. Beyond that they are dropped,
/// and asked again.
const WAITING_MAX: usize = 32;

/// Questions that wait.
#[derive(Debug, Default)]
pub(super) struct Answerer {
    waiting: VecDeque<Question>,
    sums: Vec<[u8; SUM_BYTES]>,
    entries: Vec<[u8; LIST_ENTRY_BYTES]>,
    pub(super) counters: AnswerCounters,
}

/// What was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AnswerCounters {
    /// Questions taken.
    pub questions: u64,
    /// Questions dropped because too many waited.
    pub dropped: u64,
    /// Answers sent.
    pub answers: u64,
    /// Bytes of datagrams with answers.
    pub bytes: u64,
    /// Flows listed.
    pub list_entries: u64,
}

impl Answerer {
    /// A question has come. One that waits already is a repeat.
    pub(super) fn on_question(&mut self, question: Question) {
        if self.waiting.len() >= WAITING_MAX {
            self.counters.dropped += 1;
        } else if !self.waiting.contains(&question) {
            self.counters.questions += 1;
            self.waiting.push_back(question);
        }
    }

    /// True if an answer is due.
    pub(super) fn has_answers(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Appends answers, as many as there is room for; one that no datagram has room for is cut and
    /// says so.
    pub(super) fn answer(&mut self, replica: &Replica, room: usize, out: &mut Vec<u8>) {
        let empty = out.len();
        while let Some(&question) = self.waiting.front() {
            let is_first = out.len() == empty;
            let left = room.checked_sub(out.len() + ANSWER_HEAD_BYTES_MAX);
            let is_answered = left.is_some_and(|left| match question {
                Question::Sums(asked) => self.answer_sums(asked, replica, left, is_first, out),
                Question::List(asked) => self.answer_list(asked, replica, left, is_first, out),
            });
            if !is_answered && !is_first {
                return;
            }
            self.waiting.pop_front();
            self.counters.answers += u64::from(is_answered);
        }
    }

    fn answer_sums(
        &mut self,
        asked: SumsQuestion,
        replica: &Replica,
        left: usize,
        may_cut: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let count = usize::from(asked.count).min(left / SUM_BYTES);
        if count == 0 || (count < usize::from(asked.count) && !may_cut) {
            return false;
        }
        let sums = (asked.first..=u16::MAX).take(count);
        self.sums.clear();
        self.sums
            .extend(sums.map(|at| sum(replica.digest(), asked.level, at).to_be_bytes()));
        Sums::new(asked.round, asked.level, asked.first, &self.sums).emit(out);
        true
    }

    fn answer_list(
        &mut self,
        asked: ListQuestion,
        replica: &Replica,
        left: usize,
        may_cut: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        self.entries.clear();
        replica.visit_leaf((asked.from >> 48) as u16, |hash, value| {
            if (asked.from..=asked.to).contains(&hash) {
                self.entries.push(list_entry(hash, value));
            }
        });
        let max = left / LIST_ENTRY_BYTES;
        let mut to = asked.to;
        if self.entries.len() > max {
            if !may_cut || max == 0 {
                return false;
            }
            self.entries.sort_unstable();
            let hash = |at: usize| {
                let (hash, _) = self.entries[at].split_first_chunk().expect("16 bytes");
                u64::from_be_bytes(*hash)
            };
            // Flows of one hash are told together; if a datagram does not hold them, those that
            // are left out are sent again each time, until a full pass (rule D7).
            let whole = (1..=max)
                .rfind(|&at| hash(at - 1) != hash(at))
                .unwrap_or(max);
            to = hash(whole - 1);
            self.entries.truncate(whole);
        } else {
            self.entries.sort_unstable();
        }
        self.counters.list_entries += self.entries.len() as u64;
        List::new(asked.round, asked.from, to, &self.entries).emit(out);
        true
    }
}

#[cfg(test)]
mod tests;
