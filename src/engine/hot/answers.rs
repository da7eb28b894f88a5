//! What the kernel says to the keeper's writes, and what `status` shows of it all.

use std::time::Instant;

use super::purpose::Step;
use super::{
    Attempt, BACKLOG_AGE, Cause, FULL_WAIT, KeepAround, Keeper, Later, Purpose, RETRIES_MAX, RETRY,
    Standing,
};
use crate::cache::local::Origin;
use crate::ctnetlink::encode::Helper;
use crate::ctnetlink::request::{Answer, Outcome};
use crate::engine::mirror::Mirror;
use crate::engine::restore::Failure;
use crate::engine::room::RoomLeft;
use crate::engine::status::{FailedFlows, HotStatus, Role};
use crate::flow::FlowKey;
use crate::replication::Peer;

/// The kernel's seconds and ours may be cut at different places.
const CLOCKS_DIFFER_SECS: u32 = 2;

impl Keeper {
    /// True if the keeper has written the batch that ends with this number.
    pub(in crate::engine) fn owns(&self, last_seq: u32) -> bool {
        self.batches.has(last_seq)
    }

    /// The kernel has done a batch.
    pub(in crate::engine) fn on_done(
        &mut self,
        last_seq: u32,
        is_answered: bool,
        answers: Vec<Answer>,
        around: &mut KeepAround<'_>,
    ) {
        let mut batches = std::mem::take(&mut self.batches);
        batches.settle(last_seq, answers, |purpose, answer| {
            let outcome = answer.map(|answer| answer.outcome);
            match (purpose, outcome) {
                (Purpose::Clear, _) => {}
                (purpose, None) if !is_answered => self.on_silence(purpose, around),
                (Purpose::Create(attempt), outcome) => self.on_created(attempt, outcome, around),
                (Purpose::Update(key), outcome) => self.on_updated(&key, outcome, around),
                (Purpose::Delete(key), outcome) => self.on_deleted(&key, outcome, around),
                (Purpose::Ask(key), outcome) => self.on_asked(key, outcome, around),
                (Purpose::Look(attempt), outcome) => self.on_looked(attempt, outcome, around),
                (Purpose::LookAtReply(attempt), outcome) => {
                    self.on_looked_at_reply(attempt, outcome, around);
                }
            }
        });
        self.batches = batches;
    }

    /// Nobody knows what became of it: a listing will tell.
    fn on_silence(&mut self, purpose: Purpose, around: &mut KeepAround<'_>) {
        match purpose {
            Purpose::Clear => {}
            Purpose::Create(Attempt { key, .. }) | Purpose::Update(key) | Purpose::Delete(key) => {
                self.wants_listing = true;
                Self::finish(&key, around);
            }
            Purpose::Ask(key) => {
                self.forget(&key, around);
                self.retry(key, Cause::Gone, 0, around.now);
            }
            Purpose::Look(attempt) | Purpose::LookAtReply(attempt) => self.give_up(attempt, around),
        }
    }

    fn on_created(
        &mut self,
        attempt: Attempt,
        outcome: Option<Outcome>,
        around: &mut KeepAround<'_>,
    ) {
        let key = attempt.key;
        let errno = match outcome {
            None | Some(Outcome::Found(_)) => {
                match (attempt.step, attempt.helper) {
                    (Step::Replace(..), _) => self.counters.replaced += 1,
                    (_, Helper::Leave) => self.counters.without_helper += 1,
                    _ => self.counters.created += 1,
                }
                return Self::finish(&key, around);
            }
            Some(Outcome::Refused(errno)) => errno,
        };
        let wants_rare = |has: fn(&crate::flow::Rare) -> bool| {
            let want = self.want(&key, around);
            want.and_then(|(_, want)| want.rare).is_some_and(has)
        };
        match errno {
            libc::EEXIST => self.again.push_back(Attempt {
                step: Step::Look,
                ..attempt
            }),
            libc::ENOMEM => {
                self.refuse(Failure::TableFull);
                self.full_until = Some(around.now + FULL_WAIT);
                self.walk_due = Some(around.now + FULL_WAIT);
                self.forget(&key, around);
            }
            libc::EOPNOTSUPP
                if attempt.helper == Helper::Restore
                    && wants_rare(|rare| rare.helper.is_some()) =>
            {
                self.again.push_back(Attempt {
                    step: Step::Create,
                    helper: Helper::Leave,
                    ..attempt
                });
            }
            // The master has ended, or is on its way; without it the flow lives on as what it is.
            libc::ENOENT if !attempt.without_master && wants_rare(|rare| rare.master.is_some()) => {
                self.again.push_back(Attempt {
                    step: Step::Create,
                    without_master: true,
                    ..attempt
                });
            }
            errno => {
                self.refuse(Failure::Refused(errno));
                self.forget(&key, around);
            }
        }
    }

    fn on_updated(&mut self, key: &FlowKey, outcome: Option<Outcome>, around: &mut KeepAround<'_>) {
        match outcome {
            None | Some(Outcome::Found(_)) => {
                self.counters.updated += 1;
                Self::finish(key, around);
            }
            // It has expired, and its end is on its way to us, or was missed.
            Some(Outcome::Refused(libc::ENOENT)) => {
                self.forget(key, around);
                self.retry(*key, Cause::Told, 0, around.now);
            }
            Some(Outcome::Refused(errno)) => {
                self.refuse(Failure::Refused(errno));
                self.forget(key, around);
            }
        }
    }

    fn on_deleted(&mut self, key: &FlowKey, outcome: Option<Outcome>, around: &mut KeepAround<'_>) {
        match outcome {
            None | Some(Outcome::Found(_)) => {
                self.counters.deleted += 1;
                Self::finish(key, around);
            }
            // Gone already, which its event tells.
            Some(Outcome::Refused(libc::ENOENT)) => self.forget(key, around),
            Some(Outcome::Refused(errno)) => {
                self.refuse(Failure::Refused(errno));
                self.forget(key, around);
            }
        }
    }

    /// Its owner has ended it: do packets use it here? Then its timeout is not what we wrote and
    /// the time has left of it.
    fn on_asked(&mut self, key: FlowKey, outcome: Option<Outcome>, around: &mut KeepAround<'_>) {
        self.forget(&key, around);
        let Some(Outcome::Found(found)) = outcome else {
            return;
        };
        let local = &around.mirror.local;
        let Some(slot) = local.find(&key) else { return };
        let expected = local.timeout_left(slot, around.secs);
        let is_used = found.flow.timeout_secs.abs_diff(expected) > CLOCKS_DIFFER_SECS;
        // The owner has it again, or somebody else has.
        if self.want(&key, around).is_some() {
            return self.retry(key, Cause::Told, 0, around.now);
        }
        if is_used {
            self.counters.claimed += 1;
            self.set_origin(&key, Origin::Own, around);
        } else {
            self.unused.push_back(key);
        }
    }

    fn on_looked(
        &mut self,
        attempt: Attempt,
        outcome: Option<Outcome>,
        around: &mut KeepAround<'_>,
    ) {
        let key = attempt.key;
        let Some(Outcome::Found(found)) = outcome else {
            return self.again.push_back(Attempt {
                step: Step::LookAtReply,
                ..attempt
            });
        };
        let found = found.flow;
        let is_it = self.want(&key, around).is_some_and(|(_, want)| {
            found.orig == want.flow.orig && found.reply == want.flow.reply
        });
        if is_it {
            // It is there, which an event tells, or has told.
            return self.forget(&key, around);
        }
        self.on_blocker(attempt, &found, around);
    }

    fn on_looked_at_reply(
        &mut self,
        attempt: Attempt,
        outcome: Option<Outcome>,
        around: &mut KeepAround<'_>,
    ) {
        match outcome {
            Some(Outcome::Found(found)) => self.on_blocker(attempt, &found.flow, around),
            None | Some(Outcome::Refused(_)) => self.give_up(attempt, around),
        }
    }

    /// Another entry is in the way. A stray goes: on a standby any that no peer has, on an active
    /// node one that was born of this flow's own replies. What a peer still has stays, for its end
    /// is on its way, and what an active node tracks.
    fn on_blocker(
        &mut self,
        attempt: Attempt,
        blocker: &crate::flow::Flow,
        around: &mut KeepAround<'_>,
    ) {
        let is_wanted = self.want(&blocker.key(), around).is_some();
        let want = self.want(&attempt.key, around);
        let is_of_replies = want.is_some_and(|(_, want)| want.flow.reply == blocker.orig);
        let is_stray = around.role == Role::Standby || is_of_replies;
        // Packets may bring it back as often as it goes.
        if is_wanted || !is_stray || attempt.retries >= RETRIES_MAX {
            return self.give_up(attempt, around);
        }
        self.again.push_back(Attempt {
            step: Step::Replace(*blocker, Some(blocker.id)),
            retries: attempt.retries + 1,
            ..attempt
        });
    }

    /// Not now; a little later, and not for ever.
    fn give_up(&mut self, attempt: Attempt, around: &mut KeepAround<'_>) {
        self.forget(&attempt.key, around);
        self.retry(attempt.key, Cause::Told, attempt.retries + 1, around.now);
    }

    fn retry(&mut self, key: FlowKey, cause: Cause, retries: u8, now: Instant) {
        if retries >= RETRIES_MAX {
            return self.refuse(Failure::Conflict);
        }
        self.try_later(Later {
            due: now + RETRY,
            key,
            cause,
            retries,
            told_after: None,
        });
    }

    fn finish(key: &FlowKey, around: &mut KeepAround<'_>) {
        let hash = around.mirror.local.hash_key().of_key(key);
        let round = around.mirror.round();
        around.mirror.writes.on_done(hash, key, round);
    }

    fn forget(&self, key: &FlowKey, around: &mut KeepAround<'_>) {
        let hash = around.mirror.local.hash_key().of_key(key);
        around.mirror.writes.remove(hash, key);
    }

    fn refuse(&mut self, failure: Failure) {
        *self.refused.entry(failure).or_default() += 1;
    }
}

impl Keeper {
    /// What `status` shows; `None` in cold standby.
    pub(in crate::engine) fn status(
        &self,
        mirror: &Mirror,
        peers: &[Peer],
        room: &RoomLeft,
    ) -> Option<HotStatus> {
        let refused = self.refused.iter().map(|(failure, &flows)| FailedFlows {
            reason: failure.reason(room, flows),
            flows,
        });
        let counters = &self.counters;
        self.is_on.then(|| HotStatus {
            flows: u64::from(mirror.local.copies()),
            pending: self.pending(mirror, peers),
            complete: self.has_kept,
            refused: refused.collect(),
            created: counters.created,
            updated: counters.updated,
            replaced: counters.replaced,
            deleted: counters.deleted,
            rearmed: counters.rearmed,
            without_helper: counters.without_helper,
        })
    }

    /// Flows to write or to look at, at least.
    fn pending(&self, mirror: &Mirror, peers: &[Peer]) -> u64 {
        let replicas = peers.iter().filter_map(Peer::replica);
        let told: usize = replicas.map(|replica| replica.changes().len()).sum();
        let waiting = self.again.len() + self.later.len() + self.ends.len() + self.unused.len();
        let all = told + waiting + mirror.writes.len() + mirror.local.changes().len();
        all as u64
    }

    /// Everything that the peers that carry traffic have is in the kernel: a promotion need not
    /// wait for a commit.
    pub(in crate::engine) fn is_in_place(&self, now: Instant) -> bool {
        self.is_on && self.has_kept && self.full_until.is_none() && !self.has_backlog(now)
    }

    fn has_backlog(&self, now: Instant) -> bool {
        self.busy_since
            .is_some_and(|since| now.saturating_duration_since(since) > BACKLOG_AGE)
    }

    /// Why this standby could not take over at once, in words.
    pub(in crate::engine) fn cause(
        &self,
        mirror: &Mirror,
        peers: &[Peer],
        room: &RoomLeft,
        now: Instant,
    ) -> Option<String> {
        if !self.is_on || !self.sources.has_living() {
            return None;
        }
        if self.full_until.is_some() {
            let replicas = peers.iter().filter_map(Peer::replica);
            let held: u64 = replicas.map(|replica| replica.digest().flows()).sum();
            let missing = held.saturating_sub(mirror.local.copies().into());
            return Some(Failure::TableFull.reason(room, missing));
        }
        let is_settling = self.demoted_at.is_some() && !self.sources.are_settled();
        if self.has_kept && !self.has_backlog(now) && !is_settling {
            return None;
        }
        let living = (0..peers.len()).filter(|&at| self.sources.standing(at) == Standing::Living);
        let (mut names, mut flows) = (String::new(), 0);
        for peer in living.map(|at| &peers[at]) {
            let separator = if names.is_empty() { "" } else { ", " };
            names = names + separator + peer.name().as_str();
            flows += peer.replica().map_or(0, |replica| replica.digest().flows());
        }
        let missing = flows.saturating_sub(u64::from(mirror.local.copies()));
        let missing = missing.max(self.pending(mirror, peers));
        Some(match missing {
            0 => format!("what the kernel holds of the flows of {names} is being looked through"),
            missing => format!("{missing} flows of {names} are still being put into the kernel"),
        })
    }

    /// Every counter by name.
    pub(in crate::engine) fn stats(&self, mirror: &Mirror) -> Vec<(&'static str, u64)> {
        if !self.is_on {
            return Vec::new();
        }
        let counters = &self.counters;
        vec![
            ("hot.flows", u64::from(mirror.local.copies())),
            ("hot.created", counters.created),
            ("hot.updated", counters.updated),
            ("hot.replaced", counters.replaced),
            ("hot.deleted", counters.deleted),
            ("hot.rearmed", counters.rearmed),
            ("hot.adopted", counters.adopted),
            ("hot.claimed", counters.claimed),
            ("hot.without_helper", counters.without_helper),
            ("hot.walks", counters.walks),
            ("hot.refused", self.refused.values().sum()),
        ]
    }
}
