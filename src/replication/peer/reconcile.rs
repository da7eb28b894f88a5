//! Reconcile as a part of what is said within a session: whose question or answer it is.

use super::{Peer, PeerNotice};
use crate::cache::Local;
use crate::replication::answer::AnswerCounters;
use crate::replication::reconcile::Question;
use crate::replication::sender::Repaired;
use crate::replication::{Circumstances, Transmit};
use crate::wire::{List, Sums};

impl Peer {
    /// What was answered of its questions in this session.
    #[must_use]
    pub fn answer_counters(&self) -> AnswerCounters {
        self.session
            .as_ref()
            .map_or_else(AnswerCounters::default, |session| session.answerer.counters)
    }

    /// The next datagram of questions or answers that is due.
    pub(in crate::replication) fn next_reconcile(
        &mut self,
        at: Circumstances,
        local: &Local,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (link, address) = self.carrying(at.now)?;
        let replica = self.replica.as_ref()?;
        let session = self.session.as_mut()?;
        let start = out.len();
        let bytes_max = self.settings.replication.datagram_bytes_max;
        let room = start + bytes_max - session.keys.tag_bytes();
        if let Some(sender) = &mut session.sender {
            sender.on_table(at.table_is_whole);
            if sender.wants_to_ask(local, at.now) {
                Self::control(session, out, |session, out| {
                    if let Some(sender) = &mut session.sender {
                        sender.ask(local, at.now, room, out);
                    }
                });
                let sender = session.sender.as_mut()?;
                sender.counters.reconcile.question_bytes += (out.len() - start) as u64;
                return Some(Transmit {
                    link,
                    to: Some(address),
                });
            }
        }
        if session.answerer.has_answers() {
            Self::control(session, out, |session, out| {
                session.answerer.answer(replica, room, out);
            });
            session.answerer.counters.bytes += (out.len() - start) as u64;
            return Some(Transmit {
                link,
                to: Some(address),
            });
        }
        None
    }

    pub(super) fn on_question(&mut self, question: Question) {
        if let Some(session) = &mut self.session {
            session.answerer.on_question(question);
        }
    }

    pub(super) fn on_sums(&mut self, at: Circumstances, sums: &Sums<'_>, local: &Local) {
        if let Some(sender) = self.sender_mut() {
            sender.on_table(at.table_is_whole);
            sender.on_sums(sums, local, at.now);
        }
        self.tell_repaired();
    }

    pub(super) fn on_list(&mut self, at: Circumstances, list: &List<'_>, local: &mut Local) {
        if let Some(sender) = self.sender_mut() {
            sender.on_table(at.table_is_whole);
            sender.on_list(list, local, at.secs, at.now);
        }
        self.tell_repaired();
    }

    /// Counts the bytes of a datagram with answers, once.
    pub(super) fn count_answers(&mut self, bytes: &mut usize) {
        if let Some(sender) = self.sender_mut() {
            sender.counters.reconcile.answer_bytes += std::mem::take(bytes) as u64;
        }
    }

    pub(super) fn tell_repaired(&mut self) {
        let name = self.name;
        let notice = match self.sender_mut().and_then(|sender| sender.take_repaired()) {
            Some(Repaired::Reconciled(report)) => PeerNotice::Reconciled {
                name,
                cost: report.cost,
                took: report.took,
            },
            Some(Repaired::Held { attempts, wait }) => PeerNotice::Unrepaired {
                name,
                attempts,
                wait,
            },
            None => return,
        };
        self.notify(notice);
    }
}
