//! The keeper of hot standby: the kernel holds what the peers that carry traffic track, all along,
//! so that a promotion is a change of role.
//!
//! It follows keys, not changes: whatever happens to a flow in a replica, or to its copy in our
//! kernel, makes it look at the key, at what the peers say now and at what the kernel has
//! now, and `decide` what to do. So nothing depends on the order in which words arrive, and what
//! was missed is found by a walk over everything. One write per flow is under way (`Writes`), the
//! next waits for its event. Each step looks at a bounded number of keys and writes one batch.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::batch::Batches;
use super::mirror::Mirror;
use super::restore::Failure;
use super::status::Role;
use crate::cache::Secs;
use crate::ctnetlink::request::KernelRequest;
use crate::flow::FlowKey;
use crate::replication::{PEERS_MAX, Peer};
use crate::rules::{Rule, holds};

mod answers;
mod decide;
mod look;
mod purpose;
mod sources;
mod walk;
mod writes;

use purpose::{Attempt, Cause, End, Later, Next, Purpose};
use sources::{ActiveSince, Sources, Standing};
use walk::{Rearm, Walk};
pub(super) use writes::{Awaits, Writes};

/// Keys that a step looks at: well under a millisecond.
const LOOKS_PER_STEP: u32 = 2_048;
/// Flows that wait to be tried again; one more waits for the next walk.
const LATER_MAX: usize = 1 << 14;
/// Ends that wait for their peer's role, a second at most; one more is found by the next walk.
const ENDS_MAX: usize = 1 << 16;
/// After this long a refused flow is tried again: the end of whoever holds its tuple is on its way.
const RETRY: Duration = Duration::from_millis(200);
/// As often. After that it waits for the next walk.
const RETRIES_MAX: u8 = 25;
/// The kernel's table is full: after this long there may be room.
const FULL_WAIT: Duration = Duration::from_secs(5);
/// Work that has waited for this long is a backlog.
const BACKLOG_AGE: Duration = Duration::from_secs(1);
/// After a promotion what the peers do not carry any more becomes ours: long enough for a dead peer
/// to be known as silent.
const CLAIM_TIME: Duration = Duration::from_secs(10);

/// What it has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct KeeperCounters {
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) replaced: u64,
    pub(super) deleted: u64,
    pub(super) rearmed: u64,
    pub(super) adopted: u64,
    pub(super) claimed: u64,
    pub(super) without_helper: u64,
    pub(super) walks: u64,
}

/// The keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    is_on: bool,
    batches: Batches<Purpose>,
    again: VecDeque<Attempt>,
    later: VecDeque<Later>,
    ends: VecDeque<End>,
    /// Copies that their owner has ended and that no packet uses here.
    unused: VecDeque<FlowKey>,
    walk: Option<Walk>,
    walk_due: Option<Instant>,
    rearm: Rearm,
    sources: Sources,
    active_since: ActiveSince,
    claims_until: Option<Instant>,
    has_kept: bool,
    demoted_at: Option<Instant>,
    full_until: Option<Instant>,
    busy_since: Option<Instant>,
    refused: BTreeMap<Failure, u64>,
    pub(super) counters: KeeperCounters,
    has_changed: bool,
    wants_listing: bool,
}

/// What the keeper needs of the engine.
#[derive(Debug)]
pub(super) struct KeepAround<'a> {
    pub(super) mirror: &'a mut Mirror,
    pub(super) peers: &'a mut [Peer],
    pub(super) role: Role,
    pub(super) since_term: u64,
    pub(super) now: Instant,
    pub(super) secs: Secs,
    pub(super) listeners: u8,
    pub(super) grace_secs: u32,
}

impl Keeper {
    pub(super) fn new(is_on: bool, now: Instant) -> Self {
        Self {
            is_on,
            batches: Batches::new(),
            again: VecDeque::new(),
            later: VecDeque::new(),
            ends: VecDeque::new(),
            unused: VecDeque::new(),
            walk: None,
            walk_due: None,
            rearm: Rearm::new(now),
            sources: Sources::default(),
            active_since: [None; PEERS_MAX],
            claims_until: None,
            has_kept: false,
            demoted_at: None,
            full_until: None,
            busy_since: None,
            refused: BTreeMap::new(),
            counters: KeeperCounters::default(),
            has_changed: false,
            wants_listing: false,
        }
    }

    /// True once after something has changed that the peers must hear of.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// True once after the outcome of writes was lost.
    pub(super) fn take_wants_listing(&mut self) -> bool {
        std::mem::take(&mut self.wants_listing)
    }

    /// Looks at the peers anew; a change among them is worth a walk. Cheap: a few comparisons.
    pub(super) fn look_at_peers(&mut self, around: &mut KeepAround<'_>) {
        if !self.is_on {
            return;
        }
        for replica in around.peers.iter_mut().filter_map(Peer::replica_mut) {
            replica.changes_mut().follow();
        }
        around.mirror.local.changes_mut().follow();
        let look = sources::Look {
            now: around.now,
            role: around.role,
            since_term: around.since_term,
        };
        let sources = Sources::new(around.peers, &mut self.active_since, look);
        if sources != self.sources {
            self.has_kept &= !sources.has_more_than(&self.sources);
            self.sources = sources;
            self.walk_due = Some(around.now);
        }
        let is_active = around.role != Role::Standby;
        let finds_own = is_active && !sources.has_living();
        around.mirror.set_hot(finds_own, is_active);
        if self.claims_until.is_some_and(|until| until <= around.now) {
            self.claims_until = None;
        }
    }

    /// This node has been promoted: what the peers do not carry any more is ours.
    pub(super) fn on_promoted(&mut self, now: Instant) {
        self.claims_until = Some(now + CLAIM_TIME);
        self.demoted_at = None;
        self.walk_due = Some(now);
    }

    /// A promotion was a short while ago.
    pub(super) fn claims(&self) -> bool {
        self.claims_until.is_some()
    }

    /// This node has been demoted: what it tracked itself goes stale.
    pub(super) fn on_demoted(&mut self, now: Instant) {
        self.claims_until = None;
        self.demoted_at = Some(now);
        self.has_kept = false;
        self.walk_due = Some(now);
    }

    /// A listing of the kernel's table is complete: what it found is to be looked at.
    pub(super) fn on_listing(&mut self, now: Instant) {
        if self.is_on {
            self.walk_due.get_or_insert(now);
        }
    }

    /// True while there is something to write or to look at without waiting for the kernel or
    /// for a time.
    pub(super) fn is_hungry(&self, mirror: &Mirror, peers: &[Peer]) -> bool {
        self.is_on && self.may_write(mirror) && self.has_work(mirror, peers)
    }

    fn may_write(&self, mirror: &Mirror) -> bool {
        self.batches.has_room() && mirror.writes.has_room() && mirror.is_complete()
    }

    fn has_work(&self, mirror: &Mirror, peers: &[Peer]) -> bool {
        let has_changes = |peer: &Peer| {
            let replica = peer.replica();
            replica.is_some_and(|replica| !replica.changes().is_empty())
        };
        !self.again.is_empty()
            || !self.unused.is_empty()
            || self
                .ends
                .front()
                .is_some_and(|end| self.sources.is_ripe(end, peers))
            || mirror.writes.has_stirred()
            || !mirror.local.changes().is_empty()
            || peers.iter().any(has_changes)
            || self.walk.is_some()
    }

    /// When something is due without input.
    pub(super) fn poll_timeout(&self, mirror: &Mirror) -> Option<Instant> {
        if !self.is_on || !self.may_write(mirror) {
            return None;
        }
        let later = self.later.front().map(|later| later.due);
        [later, self.walk_due, Some(self.rearm.due())]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes the next batch into `out`.
    pub(super) fn next_batch(
        &mut self,
        around: &mut KeepAround<'_>,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        if !self.is_on || !self.may_write(around.mirror) {
            return None;
        }
        let mut batch = self.batches.begin(out, next_seq);
        let mut budget = LOOKS_PER_STEP;
        while batch.room() >= 2 && around.mirror.writes.has_room() {
            let Some(attempt) = self.again.pop_front() else {
                break;
            };
            self.try_again(attempt, around, &mut batch);
        }
        while batch.room() >= 2 && around.mirror.writes.has_room() {
            let Some(key) = self.unused.pop_front() else {
                break;
            };
            let hash = around.mirror.local.hash_key().of_key(&key);
            if !around.mirror.writes.stir(hash, &key, Cause::Gone) {
                self.delete(key, hash, around, &mut batch);
            }
        }
        while budget > 0 && batch.room() >= 2 && around.mirror.writes.has_room() {
            let Some(next) = self.next_key(around, &mut budget) else {
                break;
            };
            self.look(next, around, &mut batch);
        }
        let request = self.batches.send(batch);
        let is_busy = request.is_some() || self.has_work(around.mirror, around.peers);
        if !is_busy && around.mirror.writes.len() == 0 {
            self.busy_since = None;
        } else {
            self.busy_since.get_or_insert(around.now);
        }
        request
    }

    /// The next key to look at, the most urgent first.
    fn next_key(&mut self, around: &mut KeepAround<'_>, budget: &mut u32) -> Option<Next> {
        *budget -= 1;
        if let Some(later) = self.take_due(around) {
            return Some(later);
        }
        if let Some((key, cause)) = around.mirror.writes.pop_stirred() {
            return Some(Next::new(key, cause));
        }
        let changes = around.mirror.local.changes_mut();
        if changes.take_overflowed() {
            (self.walk_due, self.has_kept) = (Some(around.now), false);
        }
        if let Some(change) = changes.pop() {
            let cause = if change.is_end {
                Cause::Ended
            } else {
                Cause::Changed
            };
            return Some(Next::new(change.key, cause));
        }
        while let Some(end) = self.pop_ripe(around.peers) {
            if self.sources.standing(end.peer) == Standing::Living {
                return Some(Next::new(end.key, Cause::Gone));
            }
        }
        for (at, peer) in around.peers.iter_mut().enumerate().take(PEERS_MAX) {
            let standing = self.sources.standing(at);
            let Some(replica) = peer.replica_mut() else {
                continue;
            };
            if replica.changes_mut().take_overflowed() && standing != Standing::None {
                (self.walk_due, self.has_kept) = (Some(around.now), false);
            }
            while let Some(change) = replica.changes_mut().pop() {
                let is_kept = standing != Standing::None;
                if !change.is_end && is_kept {
                    return Some(Next::new(change.key, Cause::Told));
                }
                if change.is_end && !holds(Rule::HotStandbyEnds) {
                    return Some(Next::new(change.key, Cause::Gone));
                }
                // The word of one that carries no traffic ends nothing here.
                if change.is_end && standing == Standing::Living {
                    let end = End {
                        key: change.key,
                        peer: at,
                        heard: around.now,
                    };
                    if self.ends.len() < ENDS_MAX {
                        self.ends.push_back(end);
                    } else {
                        self.walk_due = Some(around.now + RETRY);
                    }
                }
            }
        }
        let walked = self.next_of_walk(around, budget);
        walked.map(|key| Next::new(key, Cause::Walk)).or_else(|| {
            let key = self.rearm.next(around, budget);
            key.map(|key| Next::new(key, Cause::Rearm))
        })
    }

    fn pop_ripe(&mut self, peers: &[Peer]) -> Option<End> {
        let is_ripe = self
            .ends
            .front()
            .is_some_and(|end| self.sources.is_ripe(end, peers));
        is_ripe.then(|| self.ends.pop_front()).flatten()
    }

    /// A flow whose time to be tried again has come.
    fn take_due(&mut self, around: &KeepAround<'_>) -> Option<Next> {
        let later = *self.later.front().filter(|later| later.due <= around.now)?;
        self.later.pop_front();
        let next = Next {
            key: later.key,
            cause: later.cause,
            retries: later.retries,
        };
        let Some(after) = later.told_after else {
            return Some(next);
        };
        let (peer, _) = self.want(&later.key, around)?;
        if peer.told_at() > Some(after) {
            return Some(Next {
                cause: Cause::Told,
                ..next
            });
        }
        self.later.push_back(Later {
            due: around.now + RETRY,
            ..later
        });
        None
    }

    fn want<'a>(
        &self,
        key: &FlowKey,
        around: &'a KeepAround<'_>,
    ) -> Option<(&'a Peer, decide::Want<'a>)> {
        let KeepAround {
            now,
            secs,
            grace_secs,
            ..
        } = *around;
        self.sources.want(around.peers, key, now, secs, grace_secs)
    }
}
