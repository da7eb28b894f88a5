//! One key at a time: what is there, what is to be done, and the messages that do it.

use super::decide::{Act, Held, Ours, decide};
use super::purpose::{Attempt, Cause, Later, Next, Purpose, Step};
use super::{Awaits, KeepAround, Keeper, LATER_MAX, RETRY};
use crate::cache::local::Origin;
use crate::ctnetlink::encode::{self, Ack, Create, Update};
use crate::engine::batch::Writing;
use crate::engine::status::Role;
use crate::flow::{Flow, FlowKey};
use crate::replication::Peer;
use crate::rules::{Rule, holds};

impl Keeper {
    pub(super) fn ours(&self, around: &KeepAround<'_>) -> Ours {
        Ours {
            is_active: around.role != Role::Standby,
            claims: self.claims_until.is_some() && around.role == Role::Active,
            may_purge: self.sources.may_purge(around.peers) && around.mirror.is_whole(),
        }
    }

    /// Looks at one flow and does what is to be done.
    pub(super) fn look(
        &mut self,
        next: Next,
        around: &mut KeepAround<'_>,
        batch: &mut Writing<'_, Purpose>,
    ) {
        let Next {
            key,
            cause,
            retries,
        } = next;
        let hash = around.mirror.local.hash_key().of_key(&key);
        if around.mirror.writes.stir(hash, &key, cause) {
            return;
        }
        for _ in 0..2 {
            let act = self.act(&key, cause, around);
            match act {
                Act::Nothing => return,
                Act::Adopt => {
                    self.counters.adopted += 1;
                    self.set_origin(&key, Origin::Derived, around);
                    // What of it differs is looked at now.
                    continue;
                }
                Act::Claim => {
                    self.counters.claimed += 1;
                    return self.set_origin(&key, Origin::Own, around);
                }
                Act::Create if self.must_wait(key, cause, around) => return,
                Act::Create => {
                    let attempt = Attempt::new(key, Step::Create, retries);
                    return self.create(attempt, hash, around, batch);
                }
                Act::Replace => {
                    let Some(held) = self.held_flow(&key, around) else {
                        return;
                    };
                    let attempt = Attempt::new(key, Step::Replace(held, None), retries);
                    return self.create(attempt, hash, around, batch);
                }
                Act::Update(update) => {
                    if cause == Cause::Rearm {
                        self.counters.rearmed += 1;
                    }
                    return Self::update(key, update, hash, around, batch);
                }
                Act::Delete => return self.delete(key, hash, around, batch),
                Act::Ask => {
                    let Some(held) = self.held_flow(&key, around) else {
                        return;
                    };
                    around.mirror.writes.begin(hash, key, Awaits::End);
                    return batch.push(Purpose::Ask(key), |out, seq| {
                        encode::get(out, seq, Ack::None, &held);
                    });
                }
            }
        }
    }

    fn act(&self, key: &FlowKey, cause: Cause, around: &KeepAround<'_>) -> Act {
        let local = &around.mirror.local;
        let want = self.want(key, around).map(|(_, want)| want);
        let slot = local.find(key);
        let held = slot.and_then(|slot| {
            Some(Held {
                flow: local.flow(slot)?,
                rare: local.rare(slot),
                origin: local.origin(slot),
                is_fresh: local.is_fresh(slot, around.mirror.era()),
                is_told: local.replicates(slot),
                left_secs: local.timeout_left(slot, around.secs),
            })
        });
        if want.is_none() && held.is_none() {
            return Act::Nothing;
        }
        let has = |peer: &Peer| {
            peer.replica()
                .is_some_and(|replica| replica.find(key).is_some())
        };
        let is_nowhere = want.is_none() && !around.peers.iter().any(has);
        let act = decide(
            want.as_ref(),
            held.as_ref(),
            cause,
            self.ours(around),
            is_nowhere,
        );
        match (act, held) {
            // Its packets end, or begin, at this node, whoever else has told it.
            (Act::Delete, Some(held)) if around.mirror.is_endpoint_of(held.flow) => {
                match held.origin {
                    Origin::Own => Act::Nothing,
                    Origin::Derived | Origin::Shared | Origin::Found => Act::Claim,
                }
            }
            (act, _) => act,
        }
    }

    /// A creation that has to wait: the kernel is full; or nobody has just told the flow, and this
    /// node is active: it may have ended under our own eyes, and whether its peer still carries
    /// traffic shows when that tells its role.
    fn must_wait(&mut self, key: FlowKey, cause: Cause, around: &KeepAround<'_>) -> bool {
        if let Some(until) = self.full_until {
            if around.now < until {
                self.walk_due = Some(self.walk_due.map_or(until, |due| due.min(until)));
                return true;
            }
            self.full_until = None;
        }
        if cause == Cause::Ended && !holds(Rule::HotExpired) {
            return true;
        }
        if cause != Cause::Told && around.role != Role::Standby {
            self.try_later(Later {
                due: around.now + RETRY,
                key,
                cause,
                retries: 0,
                // What was on its way when the flow ended is no news.
                told_after: Some(around.now + RETRY),
            });
            return true;
        }
        false
    }

    pub(super) fn try_later(&mut self, later: Later) {
        if self.later.len() < LATER_MAX {
            self.later.push_back(later);
        } else {
            self.walk_due.get_or_insert(later.due);
        }
    }

    fn held_flow(&self, key: &FlowKey, around: &KeepAround<'_>) -> Option<Flow> {
        let local = &around.mirror.local;
        local.find(key).and_then(|slot| local.flow(slot).copied())
    }

    pub(super) fn set_origin(
        &mut self,
        key: &FlowKey,
        origin: Origin,
        around: &mut KeepAround<'_>,
    ) {
        let Some(slot) = around.mirror.local.find(key) else {
            return;
        };
        let (secs, listeners) = (around.secs, around.listeners);
        self.has_changed |= around.mirror.set_origin(slot, origin, secs, listeners);
    }

    fn create(
        &mut self,
        attempt: Attempt,
        hash: u64,
        around: &mut KeepAround<'_>,
        batch: &mut Writing<'_, Purpose>,
    ) {
        let Some((_, want)) = self.want(&attempt.key, around) else {
            return;
        };
        let (flow, mut rare) = (*want.flow, want.rare.copied().unwrap_or_default());
        let how = Create {
            timeout_secs: want.timeout_secs,
            helper: attempt.helper,
        };
        if attempt.without_master {
            rare.master = None;
        }
        around.mirror.writes.begin(hash, attempt.key, Awaits::Birth);
        if let Step::Replace(blocker, id) = attempt.step {
            batch.push(Purpose::Clear, |out, seq| {
                encode::delete(out, seq, Ack::None, &blocker, id);
            });
        }
        batch.push(Purpose::Create(attempt), |out, seq| {
            encode::create(out, seq, Ack::None, &flow, &rare, how);
        });
    }

    fn update(
        key: FlowKey,
        update: Update,
        hash: u64,
        around: &mut KeepAround<'_>,
        batch: &mut Writing<'_, Purpose>,
    ) {
        let local = &around.mirror.local;
        let Some(flow) = local.find(&key).and_then(|slot| local.flow(slot).copied()) else {
            return;
        };
        around.mirror.writes.begin(hash, key, Awaits::Change);
        batch.push(Purpose::Update(key), |out, seq| {
            encode::update(out, seq, Ack::None, &flow, update);
        });
    }

    pub(super) fn delete(
        &mut self,
        key: FlowKey,
        hash: u64,
        around: &mut KeepAround<'_>,
        batch: &mut Writing<'_, Purpose>,
    ) {
        let Some(held) = self.held_flow(&key, around) else {
            return;
        };
        around.mirror.writes.begin(hash, key, Awaits::End);
        batch.push(Purpose::Delete(key), |out, seq| {
            encode::delete(out, seq, Ack::None, &held, None);
        });
    }

    /// Goes on with a creation that was refused.
    pub(super) fn try_again(
        &mut self,
        attempt: Attempt,
        around: &mut KeepAround<'_>,
        batch: &mut Writing<'_, Purpose>,
    ) {
        let hash = around.mirror.local.hash_key().of_key(&attempt.key);
        let Some((_, want)) = self.want(&attempt.key, around) else {
            return around.mirror.writes.remove(hash, &attempt.key);
        };
        let flow = *want.flow;
        // It stays the write that it is.
        around.mirror.writes.remove(hash, &attempt.key);
        match attempt.step {
            Step::Create | Step::Replace(..) => self.create(attempt, hash, around, batch),
            Step::Look => {
                around.mirror.writes.begin(hash, attempt.key, Awaits::Birth);
                batch.push(Purpose::Look(attempt), |out, seq| {
                    encode::get(out, seq, Ack::None, &flow);
                });
            }
            Step::LookAtReply => {
                around.mirror.writes.begin(hash, attempt.key, Awaits::Birth);
                batch.push(Purpose::LookAtReply(attempt), |out, seq| {
                    encode::get_by_reply(out, seq, Ack::None, &flow);
                });
            }
        }
    }
}
