//! The role of this node: standby, promoting, active.
//!
//! | from | on | to | what it sets off |
//! | --- | --- | --- | --- |
//! | standby | promote | promoting | the term grows, the replicas are committed |
//! | standby, hot and complete | promote | active | the term grows, the commit is a second look |
//! | promoting | the commit ended | active | |
//! | promoting | promote | promoting | another commit queues |
//! | active | promote | active | a commit, which finds everything in place |
//! | active, remembered | a peer is active in a later term | standby | as demote |
//! | promoting, active | demote | standby | a running commit stops; what our kernel holds is stale |
//! | standby | demote | standby | nothing |

use std::time::Instant;

use hashbrown::HashTable;

use super::command::Reply;
use super::jobs::{Ended, Work};
use super::notice::{JobResult, Notice};
use super::status::{CommitStatus, Role};
use super::{Engine, Peer};

/// Instances of keepalived whose state is kept; more are taken as one.
const INSTANCES_MAX: usize = 64;

/// What the role rests on.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    /// The term up to which this node has taken over everything: a peer that was active in an
    /// earlier one, and not since, has nothing for us. 0: never.
    pub(super) since_term: u64,
    /// The role is that of an earlier run, and nobody has confirmed it.
    is_remembered: bool,
    /// keepalived's instances and groups that are MASTER here.
    masters: Vec<(String, String)>,
}

impl Tenure {
    /// What an earlier run has left.
    pub(super) fn remembered(role: Role, term: u64) -> Self {
        let is_active = role == Role::Active;
        Self {
            since_term: if is_active { term } else { 0 },
            is_remembered: is_active,
            masters: Vec::new(),
        }
    }
}

impl Engine {
    /// keepalived's word on one of its instances or groups: this node is active while any of them
    /// is MASTER here.
    pub(super) fn on_instance(
        &mut self,
        now: Instant,
        kind: String,
        name: String,
        is_master: bool,
    ) -> Reply {
        let instance = (kind, name);
        let masters = &mut self.tenure.masters;
        masters.retain(|held| *held != instance);
        if is_master {
            if masters.len() < INSTANCES_MAX {
                masters.push(instance);
            }
            return self.promote(now);
        }
        if masters.is_empty() {
            self.demote(now)
        } else {
            Reply::Done
        }
    }

    /// Commits the replicas and becomes active. In hot standby, if they are in the kernel already,
    /// it is active at once, and the commit is a second look in the background.
    pub(super) fn promote(&mut self, now: Instant) -> Reply {
        self.tenure.is_remembered = false;
        self.keeper.on_promoted(now);
        let is_free = self.role != Role::Promoting && !self.jobs.has_other_than_check();
        if is_free && self.keeper.is_in_place(now) {
            return self.take_over();
        }
        let reply = self.jobs.queue(Work::Promotion);
        if self.role == Role::Standby && matches!(reply, Reply::Started(_)) {
            self.change_role(Role::Promoting);
        }
        reply
    }

    /// Everything is in the kernel: only the role changes, if that.
    fn take_over(&mut self) -> Reply {
        self.mirror.take_ownership();
        self.mirror.ended.get_or_insert_with(HashTable::new);
        if self.role == Role::Standby {
            self.change_role(Role::Promoting);
            self.change_role(Role::Active);
        }
        let copies = u64::from(self.local().copies());
        let in_place = CommitStatus {
            total: copies,
            already: copies,
            ..CommitStatus::default()
        };
        let job = self.jobs.ended();
        self.notify(Notice::Committed(in_place.clone()));
        self.notify(Notice::JobDone {
            job,
            result: JobResult::Committed(in_place),
        });
        self.jobs.queue_check();
        Reply::Started(job)
    }

    /// Becomes standby. From now on the flows live elsewhere: what our kernel holds of them goes
    /// stale, and a commit that is under way would only add to it.
    pub(super) fn demote(&mut self, now: Instant) -> Reply {
        self.tenure.is_remembered = false;
        self.tenure.masters.clear();
        if self.role != Role::Standby {
            self.jobs.cancel_promotions();
            self.mirror.lose_ownership();
            self.keeper.on_demoted(now);
            self.mirror.ended = None;
            self.change_role(Role::Standby);
        }
        Reply::Done
    }

    /// A role that is only remembered gives way to a peer that was promoted since.
    pub(super) fn doubt_role(&mut self, now: Instant) {
        let is_later = |peer: &Peer| {
            peer.told()
                .is_some_and(|told| told.role != 0 && told.term > self.term)
        };
        if self.tenure.is_remembered && self.peers().iter().any(is_later) {
            self.demote(now);
        }
    }

    /// The one door for changes of role. The term grows when a promotion begins.
    fn change_role(&mut self, to: Role) {
        let from = self.role;
        if from == to {
            return;
        }
        if (from, to) == (Role::Standby, Role::Promoting) {
            let terms = self
                .peers()
                .iter()
                .filter_map(Peer::told)
                .map(|told| told.term);
            self.term = terms.fold(self.term, u64::max) + 1;
        }
        self.role = to;
        self.replication.handle_role();
        self.notify(Notice::Role {
            from,
            to,
            term: self.term,
        });
    }

    pub(super) fn on_ended(&mut self, now: Instant, ended: Ended) {
        let Ended { job, work, result } = ended;
        if let JobResult::Committed(status) = &result {
            self.notify(Notice::Committed(status.clone()));
            // Not a promotion that was cancelled: after a later one, what lived elsewhere meanwhile
            // has still to be taken over.
            let is_promotion = matches!(work, Work::Promotion | Work::Check);
            if is_promotion && self.role != Role::Standby {
                if status.failed.is_empty() {
                    self.tenure.since_term = self.term;
                }
                if !self.jobs.has_promotions() && self.role == Role::Promoting {
                    self.keeper.on_promoted(now);
                    self.change_role(Role::Active);
                }
            }
        }
        self.notify(Notice::JobDone { job, result });
    }
}
