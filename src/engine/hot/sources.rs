//! Whose flows the keeper keeps: those of the peers that carry traffic.

use std::time::{Duration, Instant};

use super::decide::Want;
use super::purpose::End;
use crate::cache::Secs;
use crate::engine::status::Role;
use crate::flow::tuple::GRE;
use crate::flow::{Flow, FlowKey};
use crate::replication::{PEERS_MAX, Peer};
use crate::wire::Outcome;

/// A copy gets at least this long, seconds: many times what most flows live without a packet, so
/// that re-arming costs little; the first packet that it carries brings the kernel's own value.
const TIMEOUT_MIN: u32 = 300;
/// Copies of GRE flows, whose timeouts cannot be refreshed, seconds.
const GRE_TIMEOUT: u32 = 3_600;
/// A peer that became active tells within this time what it has taken over; before that, a flow
/// that is missing there is not missing.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// What a peer is to the keeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Standing {
    /// It carries no traffic, as far as it has said.
    #[default]
    None,
    /// It carries traffic.
    Living,
    /// It did, when it was last heard.
    Lost,
}

/// One look at the peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sources {
    standing: [Standing; PEERS_MAX],
    /// The peers that are sources, the most authoritative first.
    order: [u8; PEERS_MAX],
    len: usize,
    /// Those whose replica has been proven.
    proven: u8,
    /// Those that are active for a while.
    settled: u8,
}

/// Since when each peer is active, by its place.
pub(super) type ActiveSince = [Option<Instant>; PEERS_MAX];

/// What a look at the peers needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) now: Instant,
    pub(super) role: Role,
    pub(super) since_term: u64,
}

impl Sources {
    /// Looks at the peers.
    pub(super) fn new(peers: &[Peer], since: &mut ActiveSince, look: Look) -> Self {
        let mut sources = Self::default();
        for (at, peer) in peers.iter().enumerate().take(PEERS_MAX) {
            let standing = standing(peer, look);
            sources.standing[at] = standing;
            if peer.verified_at().is_some() {
                sources.proven |= 1 << at;
            }
            // One that is being promoted has not taken over everything yet.
            let has_taken_over = peer.told().is_some_and(|told| told.role == 2);
            if standing != Standing::Living || !has_taken_over {
                since[at] = None;
            } else if *since[at].get_or_insert(look.now) + SETTLED <= look.now {
                sources.settled |= 1 << at;
            }
            if standing != Standing::None {
                sources.order[sources.len] = at as u8;
                sources.len += 1;
            }
        }
        let rank = |&at: &u8| {
            let term = peers[usize::from(at)].told().map_or(0, |told| told.term);
            let is_lost = sources.standing[usize::from(at)] == Standing::Lost;
            (is_lost, std::cmp::Reverse(term))
        };
        let mut order = sources.order;
        order[..sources.len].sort_unstable_by_key(rank);
        Self { order, ..sources }
    }

    /// There is a source that was none before, or whose replica had not been proven.
    pub(super) fn has_more_than(&self, before: &Self) -> bool {
        (0..PEERS_MAX).any(|at| {
            let is_source = self.standing[at] != Standing::None;
            let was_source = before.standing[at] != Standing::None;
            let is_newly_proven = self.proven & !before.proven & 1 << at != 0;
            is_source && (!was_source || is_newly_proven)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn standing(&self, at: usize) -> Standing {
        self.standing[at]
    }

    /// True if what a peer's end means is known: it has told its role since, or is no source.
    pub(super) fn is_ripe(&self, end: &End, peers: &[Peer]) -> bool {
        self.standing(end.peer) != Standing::Living || peers[end.peer].told_at() > Some(end.heard)
    }

    /// Some peer carries traffic.
    pub(super) fn has_living(&self) -> bool {
        self.standing.contains(&Standing::Living)
    }

    /// True if what is in no replica is nobody's: some peer carries traffic, and each that does
    /// has done so for a while and is proven equal now.
    pub(super) fn may_purge(&self, peers: &[Peer]) -> bool {
        let mut living = (0..peers.len().min(PEERS_MAX))
            .filter(|&at| self.standing[at] == Standing::Living)
            .peekable();
        living.peek().is_some()
            && living.all(|at| {
                self.settled >> at & 1 == 1 && peers[at].verdict() == Some(Outcome::Equal)
            })
    }

    /// Every living source has been compared with its replica since we met.
    pub(super) fn are_proven(&self) -> bool {
        (0..PEERS_MAX).all(|at| self.standing[at] != Standing::Living || self.proven >> at & 1 == 1)
    }

    /// Every living source has been active for a while.
    pub(super) fn are_settled(&self) -> bool {
        (0..PEERS_MAX)
            .all(|at| self.standing[at] != Standing::Living || self.settled >> at & 1 == 1)
    }

    /// What the peers that carry traffic say of a flow.
    pub(super) fn want<'a>(
        &self,
        peers: &'a [Peer],
        key: &FlowKey,
        now: Instant,
        secs: Secs,
        grace_secs: u32,
    ) -> Option<(&'a Peer, Want<'a>)> {
        self.order[..self.len].iter().find_map(|&at| {
            let peer = &peers[usize::from(at)];
            let replica = peer.replica()?;
            let slot = replica.find(key)?;
            let (flow, rare) = replica.flow(slot)?;
            let left = replica.timeout_left(slot, secs);
            let is_living = self.standing[usize::from(at)] == Standing::Living;
            let silent = peer.silent_for(now).as_secs();
            let lives = u64::from(flow.timeout_secs) + u64::from(grace_secs);
            if !is_living && silent > lives {
                return None;
            }
            let timeout_secs = left.max(timeout_min(flow));
            let want = Want {
                flow,
                rare,
                timeout_secs,
                is_living,
            };
            Some((peer, want))
        })
    }
}

/// A copy gets at least this long, seconds.
pub(super) fn timeout_min(flow: &Flow) -> u32 {
    if flow.orig.protocol == GRE {
        GRE_TIMEOUT
    } else {
        TIMEOUT_MIN
    }
}

/// An active node takes over the flows of a silent peer by a promotion only.
fn standing(peer: &Peer, look: Look) -> Standing {
    let Some(told) = peer.told().filter(|told| told.role != 0) else {
        return Standing::None;
    };
    if !peer.has_told_since_restart() {
        return Standing::None;
    }
    if !peer.is_silent(look.now) {
        return Standing::Living;
    }
    if look.role == Role::Standby && told.term >= look.since_term {
        Standing::Lost
    } else {
        Standing::None
    }
}
