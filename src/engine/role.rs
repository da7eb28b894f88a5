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
//! | active | an instance of keepalived is lost, another stays | active | what our kernel holds may be stale |
//! | standby | demote | standby | nothing |
//!
//! keepalived's instances promote when one becomes MASTER and demote when the last one is MASTER no
//! more. Who else is active beside us is for `split`.

use std::time::{Duration, Instant};

use hashbrown::HashTable;

use super::command::{InstanceState, Reply, Via};
use super::history::{TransitionKind, Trigger};
use super::jobs::{Ended, Work};
use super::notice::{JobId, JobResult, Notice};
use super::status::{CommitStatus, Role};
use super::{Engine, Peer};
use crate::wire::{CLAIMS_MAX, Claims, claim_of};

/// keepalived writes a line for each instance and for its group, all of which become MASTER at
/// once: what follows a promotion within this time is part of it.
const BURST: Duration = Duration::from_millis(500);

/// An instance or group of keepalived: `INSTANCE` or `GROUP`, and its name.
pub type Instance = (String, String);

/// What the role rests on.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    /// The term up to which this node has taken over everything: a peer that was active in an
    /// earlier one, and not since, has nothing for us. 0: never.
    pub(super) since_term: u64,
    /// Since when this node is active, or was last.
    pub(super) active_since: Option<Instant>,
    /// The role is that of an earlier run, and nobody has confirmed it.
    is_remembered: bool,
    /// keepalived's instances and groups that are MASTER here; what is beyond [`CLAIMS_MAX`] is
    /// not kept.
    masters: Vec<Instance>,
    /// When the last promotion was asked for.
    promoted_at: Option<Instant>,
}

impl Tenure {
    /// What an earlier run has left.
    pub(super) fn remembered(role: Role, term: u64, masters: Vec<Instance>, now: Instant) -> Self {
        let is_active = role == Role::Active;
        Self {
            since_term: if is_active { term } else { 0 },
            active_since: is_active.then_some(now),
            is_remembered: is_active,
            masters: if is_active { masters } else { Vec::new() },
            promoted_at: None,
        }
    }

    /// Our instances among what a peer claims, for people.
    pub(super) fn masters_among(&self, claims: &Claims) -> Vec<String> {
        let in_common = self.masters.iter().filter(|(kind, name)| {
            let hash = claim_of(kind, name);
            claims.hashes().contains(&hash)
        });
        in_common
            .map(|(kind, name)| format!("{kind} {name}"))
            .collect()
    }
}

impl Engine {
    /// keepalived's instances and groups that are MASTER here.
    #[must_use]
    pub fn masters(&self) -> &[Instance] {
        &self.tenure.masters
    }

    /// What this node claims: while it is active, or about to be.
    pub(super) fn claims(&self) -> Claims {
        match (self.role, self.tenure.masters.as_slice()) {
            (Role::Standby, _) => Claims::NONE,
            (Role::Promoting | Role::Active, []) => Claims::everything(),
            (Role::Promoting | Role::Active, masters) => {
                Claims::of(masters.iter().map(|(kind, name)| claim_of(kind, name)))
            }
        }
    }

    /// keepalived's word on one of its instances or groups: this node is active while any of them
    /// is MASTER here.
    pub(super) fn on_instance(
        &mut self,
        now: Instant,
        via: Via,
        (kind, name): Instance,
        state: InstanceState,
    ) -> Reply {
        let trigger = Trigger::Keepalived {
            via,
            kind: kind.clone(),
            name: name.clone(),
            state,
        };
        let instance = (kind, name);
        let masters = &mut self.tenure.masters;
        let was_master = masters.contains(&instance);
        match state {
            InstanceState::Unchanged => return Reply::Done,
            InstanceState::Master => {
                self.tenure.is_remembered = false;
                if !was_master && masters.len() < CLAIMS_MAX {
                    masters.push(instance);
                }
                if via == Via::Fifo && (was_master || self.is_promoted_lately(now)) {
                    // Nobody waits for this one's commit, and one that began just now is enough.
                    return Reply::Done;
                }
                return self.promote(now, &trigger);
            }
            InstanceState::Backup
            | InstanceState::Fault
            | InstanceState::Stop
            | InstanceState::Deleted => {}
        }
        masters.retain(|held| *held != instance);
        if masters.is_empty() {
            return self.demote(now, &trigger);
        }
        if was_master {
            // The flows of this instance go on elsewhere, and may come back with other windows. Those
            // of the others cannot be told from them; should a commit put them anew, they live on.
            self.mirror.begin_era();
        }
        Reply::Done
    }

    /// Commits the replicas and becomes active. In hot standby, if they are in the kernel already,
    /// it is active at once, and the commit is a second look in the background.
    pub(super) fn promote(&mut self, now: Instant, trigger: &Trigger) -> Reply {
        self.tenure.is_remembered = false;
        self.stop_fading();
        self.keeper.on_promoted(now);
        let kind = self.kind_of_promotion();
        let is_free = self.role != Role::Promoting && !self.jobs.has_other_than_check();
        if is_free && self.keeper.is_in_place(now) {
            return self.take_over(now, kind, trigger);
        }
        let reply = self.jobs.queue(Work::Promotion, Vec::new());
        let Reply::Started(job) = reply else {
            return reply;
        };
        if self.role == Role::Standby {
            self.note_predecessors(now);
            self.change_role(Role::Promoting);
        }
        self.tenure.promoted_at = Some(now);
        self.handover.on_promoted();
        self.begin_transition(now, kind, trigger, Some(job));
        reply
    }

    /// Everything is in the kernel: only the role changes, if that.
    fn take_over(&mut self, now: Instant, kind: TransitionKind, trigger: &Trigger) -> Reply {
        self.mirror.take_ownership();
        self.mirror.ended.get_or_insert_with(HashTable::new);
        if self.role == Role::Standby {
            self.note_predecessors(now);
            self.change_role(Role::Promoting);
            self.tenure.active_since = Some(now);
            self.change_role(Role::Active);
        }
        self.tenure.promoted_at = Some(now);
        self.handover.on_promoted();
        let copies = u64::from(self.local().copies());
        let in_place = CommitStatus {
            total: copies,
            already: copies,
            ..CommitStatus::default()
        };
        let job = self.jobs.ended();
        self.begin_transition(now, kind, trigger, Some(job));
        self.notify(Notice::Committed(in_place.clone()));
        self.end_job(now, job, JobResult::Committed(in_place));
        self.jobs.queue_check();
        Reply::Started(job)
    }

    /// Becomes standby. From now on the flows live elsewhere: what our kernel holds of them goes
    /// stale, and a commit that is under way would only add to it.
    pub(super) fn demote(&mut self, now: Instant, trigger: &Trigger) -> Reply {
        self.tenure.is_remembered = false;
        self.tenure.masters.clear();
        if self.role != Role::Standby {
            self.begin_transition(now, TransitionKind::Demotion, trigger, None);
            self.jobs.cancel_promotions();
            self.mirror.lose_ownership();
            self.keeper.on_demoted(now);
            self.mirror.ended = None;
            self.change_role(Role::Standby);
            // A hot standby's entries are replaced as the new active tells of them.
            if !self.settings.is_hot {
                self.begin_fading();
            }
        }
        Reply::Done
    }

    /// A role that is only remembered gives way to a peer that was promoted since.
    pub(super) fn doubt_role(&mut self, now: Instant) {
        let is_later = |peer: &&Peer| {
            peer.told()
                .is_some_and(|told| told.role != 0 && told.term > self.term)
        };
        if !self.tenure.is_remembered {
            return;
        }
        // Who shares the work with us has a term of its own, and says nothing about ours.
        let claims = self.claims();
        let overlaps = |peer: &&Peer| peer.claims().overlap(&claims);
        let later = self.peers().iter().filter(is_later).find(overlaps);
        if let Some(peer) = later.map(Peer::name) {
            self.demote(now, &Trigger::Doubt(peer));
        }
    }

    fn is_promoted_lately(&self, now: Instant) -> bool {
        let at = self.tenure.promoted_at;
        self.role != Role::Standby && at.is_some_and(|at| now < at + BURST)
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
            let is_promotion = matches!(work, Work::Promotion | Work::Check);
            if is_promotion && self.role != Role::Standby {
                if status.failed.is_empty() {
                    self.tenure.since_term = self.term;
                }
                if !self.jobs.has_promotions() && self.role == Role::Promoting {
                    self.keeper.on_promoted(now);
                    self.tenure.active_since = Some(now);
                    self.change_role(Role::Active);
                }
            }
        }
        if matches!(result, JobResult::Committed(_)) {
            self.begin_strict(work);
        }
        self.forget_rival(job);
        self.end_job(now, job, result);
    }

    /// Tells whoever waits for a job how it ended, and what it was a part of.
    pub(super) fn end_job(&mut self, now: Instant, job: JobId, result: JobResult) {
        self.end_transition(now, job, &result);
        self.notify(Notice::JobDone { job, result });
    }
}
