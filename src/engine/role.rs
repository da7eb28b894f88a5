//! The role of this node: standby, promoting, active.
//!
//! | from | on | to | what it sets off |
//! | --- | --- | --- | --- |
//! | standby | promote | promoting | the term grows, the replicas are committed |
//! | promoting | the commit ended | active | |
//! | promoting | promote | promoting | another commit queues |
//! | active | promote | active | a commit, which finds everything in place |
//! | active, remembered | a peer is active in a later term | standby | as demote |
//! | promoting, active | demote | standby | a running commit stops; what our kernel holds is stale |
//! | active | an instance of keepalived is lost, another stays | active | what our kernel holds may be stale |
//! | standby | demote | standby | nothing |

use std::time::Instant;

use super::command::Reply;
use super::jobs::{Ended, Work};
use super::notice::{JobResult, Notice};
use super::status::Role;
use super::{Engine, Peer};

/// Instances of keepalived whose state is kept; more are taken as one.
const INSTANCES_MAX: usize = 64;

/// What the role rests on.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    /// The term up to which this node has taken over everything: a peer that was active in an
    /// earlier one, and not since, has nothing for us. 0: never.
    pub(super) since_term: u64,
    /// When it did so; `None` in an earlier run, or never.
    pub(super) since: Option<Instant>,
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
            since: None,
            is_remembered: is_active,
            masters: Vec::new(),
        }
    }
}

impl Engine {
    /// keepalived's word on one of its instances or groups: this node is active while any of them
    /// is MASTER here.
    pub(super) fn on_instance(&mut self, kind: String, name: String, is_master: bool) -> Reply {
        let instance = (kind, name);
        let masters = &mut self.tenure.masters;
        let held = masters.len();
        masters.retain(|held| *held != instance);
        let is_lost = masters.len() < held && !is_master;
        if is_master {
            if masters.len() < INSTANCES_MAX {
                masters.push(instance);
            }
            return self.promote();
        }
        if masters.is_empty() {
            return self.demote();
        }
        if is_lost {
            // The flows of this instance go on elsewhere, and may come back with other windows. Those
            // of the others cannot be told from them; should a commit put them anew, they live on.
            self.mirror.begin_era();
        }
        Reply::Done
    }

    /// Commits the replicas and becomes active.
    pub(super) fn promote(&mut self) -> Reply {
        self.tenure.is_remembered = false;
        self.stop_fading();
        let reply = self.jobs.queue(Work::Promotion, Vec::new());
        if self.role == Role::Standby && matches!(reply, Reply::Started(_)) {
            self.change_role(Role::Promoting);
        }
        reply
    }

    /// Becomes standby. From now on the flows live elsewhere: what our kernel holds of them goes
    /// stale, and a commit that is under way would only add to it.
    pub(super) fn demote(&mut self) -> Reply {
        self.tenure.is_remembered = false;
        self.tenure.masters.clear();
        if self.role != Role::Standby {
            self.jobs.cancel_promotions();
            self.mirror.lose_ownership();
            self.change_role(Role::Standby);
            self.begin_fading();
        }
        Reply::Done
    }

    /// A role that is only remembered gives way to a peer that was promoted since.
    pub(super) fn doubt_role(&mut self) {
        let is_later = |peer: &Peer| {
            peer.told()
                .is_some_and(|told| told.role != 0 && told.term > self.term)
        };
        if self.tenure.is_remembered && self.peers().iter().any(is_later) {
            self.demote();
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
            if work == Work::Promotion && self.role != Role::Standby {
                if status.failed.is_empty() {
                    self.tenure.since_term = self.term;
                    self.tenure.since = Some(now);
                }
                if !self.jobs.has_promotions() {
                    self.change_role(Role::Active);
                }
            }
        }
        if matches!(result, JobResult::Committed(_)) {
            self.begin_strict(work);
        }
        self.notify(Notice::JobDone { job, result });
    }
}
