//! What the engine tells about itself: status, counters, tables in pieces.

use std::time::{Duration, Instant};

use super::command::{FlowsFrom, Reply};
use super::status::{
    KernelStatus, LinkStatus, LocalStatus, PathState, PathStatus, PeerState, PeerStatus,
    ReplicaStatus, Role, Status, StrangerStatus,
};
use super::{Engine, Slot};
use crate::cache::Replica;
use crate::replication::{LinkId, Peer};
use crate::wire::Outcome;

/// Version of the form of `Status`.
const STATUS_VERSION: u32 = 1;
/// Proofs come every second; one older than this says that they fail to come.
const PROOF_AGE_MAX: Duration = Duration::from_secs(5);
/// Buckets of lag that are shown end at every power of two of nanoseconds up to this: 1.07 s.
const LAG_SHOWN_MAX: Duration = Duration::from_nanos(1 << 30);

impl Engine {
    /// One look at the node.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let cause = self.cause(now);
        let mut peers: Vec<PeerStatus> = self
            .peers()
            .iter()
            .map(|peer| self.peer_status(peer, now))
            .collect();
        peers.sort_by(|one, other| one.name.cmp(&other.name));
        let strangers = self
            .replication
            .strangers(now)
            .map(|stranger| StrangerStatus {
                name: stranger.name.as_str().into(),
                cause: stranger.why.to_string(),
            });
        let strangers = strangers.collect();
        let link_status = |name: &String| LinkStatus {
            name: name.clone(),
            sent: 0,
            received: 0,
            send_errors: 0,
        };
        Status {
            version: STATUS_VERSION,
            node: self.settings.name.as_str().into(),
            role: self.role,
            term: self.term,
            insecure: self.settings.keyring.is_none(),
            ready: cause.is_none(),
            cause,
            local: LocalStatus {
                flows: self.local_flows(),
                expectations: u64::from(self.local().expectations()),
                tracked: u64::from(self.local().tracked()),
                tombstones: u64::from(self.local().tombstones()),
            },
            kernel: KernelStatus {
                complete: self.mirror.is_complete(),
                dirty: self.mirror.is_dirty(),
                events: self.mirror.counters.events,
                echoes: self.mirror.counters.echoes,
                overruns: self.mirror.counters.overruns,
                dumps: self.mirror.counters.listings,
            },
            links: self.settings.links.iter().map(link_status).collect(),
            peers,
            strangers,
            split_brain: self.split_brains(now),
            last_promotion: None,
            commit: self.jobs.commit_status(now),
            gate: None,
            hot: self
                .keeper
                .status(&self.mirror, self.peers(), &self.kernel.room),
        }
    }

    fn local_flows(&self) -> u64 {
        let local = self.local();
        local.digest().flows() - u64::from(local.expectations())
    }

    /// Every counter by name.
    pub(super) fn stats(&self) -> Vec<(String, u64)> {
        let kernel = &self.mirror.counters;
        let background = self.background.counters();
        let mut stats: Vec<(String, u64)> = [
            ("local.flows", self.local_flows()),
            ("local.expectations", u64::from(self.local().expectations())),
            ("local.tracked", u64::from(self.local().tracked())),
            ("local.tombstones", u64::from(self.local().tombstones())),
            ("local.refused_flows", kernel.refused_flows),
            ("kernel.events", kernel.events),
            ("kernel.echoes", kernel.echoes),
            ("kernel.held_ends", kernel.held_ends),
            ("kernel.overruns", kernel.overruns),
            ("kernel.dumps", kernel.listings),
            ("kernel.dumps_interrupted", kernel.listings_interrupted),
            ("kernel.swept_flows", kernel.swept_flows),
            ("background.faded", background.faded),
            ("background.made_strict", background.made_strict),
            ("background.set_back", background.set_back),
            ("kernel.expectation_events", kernel.expectation_events),
            (
                "kernel.expectations_without_master",
                kernel.expectations_without_master,
            ),
            (
                "kernel.expectations_ambiguous",
                kernel.expectations_ambiguous,
            ),
            ("kernel.reads", kernel.reads),
            ("kernel.reads_left_out", self.mirror.reads_left_out()),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        let hot = self.keeper.stats(&self.mirror).into_iter();
        stats.extend(hot.map(|(name, count)| (name.to_owned(), count)));
        let replication = self.replication.counters().list();
        stats.extend(
            replication
                .into_iter()
                .map(|(name, n)| (format!("replication.{name}"), n)),
        );
        for peer in self.peers() {
            let sent = peer.sender_counters();
            let (asked, told) = (sent.reconcile, peer.answer_counters());
            let name = peer.name();
            for (counter, count) in [
                ("replica.flows", peer.replica().map_or(0, replica_flows)),
                (
                    "replica.expectations",
                    peer.replica()
                        .map_or(0, |replica| u64::from(replica.expectations())),
                ),
                ("sent.datagrams", sent.datagrams),
                ("sent.bytes", sent.bytes),
                ("sent.records", sent.records),
                ("sent.lost", sent.lost),
                ("sent.repairs", sent.repairs),
                ("sent.passes", sent.passes),
                ("sent.different", sent.different),
                ("reconcile.reconciles", asked.reconciles),
                ("reconcile.unanswered", asked.unanswered),
                ("reconcile.questions", asked.questions),
                ("reconcile.question_bytes", asked.question_bytes),
                ("reconcile.answer_bytes", asked.answer_bytes),
                ("reconcile.stale_answers", asked.stale_answers),
                ("reconcile.sums", asked.sums),
                ("reconcile.list_entries", asked.list_entries),
                ("reconcile.touched", asked.touched),
                ("reconcile.buried", asked.buried),
                ("answered.questions", told.questions),
                ("answered.dropped", told.dropped),
                ("answered.answers", told.answers),
                ("answered.bytes", told.bytes),
                ("answered.list_entries", told.list_entries),
            ] {
                stats.push((format!("peer.{}.{counter}", name.as_str()), count));
            }
            let lag = peer.ack_lag().into_iter();
            stats.extend(
                lag.flat_map(|lag| lag.stats(LAG_SHOWN_MAX))
                    .map(|(part, count)| (format!("peer.{}.ack_lag.{part}", name.as_str()), count)),
            );
        }
        stats
    }

    /// Part of a table.
    pub(super) fn flows(&self, now: Instant, from: FlowsFrom, slots_max: u32) -> Reply {
        let secs = self.secs(now);
        let mut flows = Vec::new();
        let mut expectations = Vec::new();
        let next = match from {
            FlowsFrom::Local(from) => {
                let local = self.local();
                let end = local.slots().min(from.saturating_add(slots_max));
                for slot in (from..end).map(Slot) {
                    if let Some(flow) = local.flow(slot) {
                        let rare = local.rare(slot).copied().unwrap_or_default();
                        flows.push((*flow, rare, local.timeout_left(slot, secs)));
                    } else if let Some(expectation) = local.expectation(slot) {
                        expectations.push((*expectation, local.timeout_left(slot, secs)));
                    }
                }
                (end < local.slots()).then_some(FlowsFrom::Local(end))
            }
            FlowsFrom::Replica(number, from) => {
                let Some(peer) = self.peers().get(number) else {
                    return Reply::Flows {
                        flows,
                        expectations,
                        next: None,
                    };
                };
                let after = Some(FlowsFrom::Replica(number + 1, 0));
                match peer.replica() {
                    None => after,
                    Some(replica) => {
                        let end = replica.slots().min(from.saturating_add(slots_max));
                        for slot in (from..end).map(Slot) {
                            if let Some((flow, rare)) = replica.flow(slot) {
                                let rare = rare.copied().unwrap_or_default();
                                flows.push((*flow, rare, replica.timeout_left(slot, secs)));
                            } else if let Some(expectation) = replica.expectation(slot) {
                                let left = replica.timeout_left(slot, secs);
                                expectations.push((*expectation, left));
                            }
                        }
                        if end < replica.slots() {
                            Some(FlowsFrom::Replica(number, end))
                        } else {
                            after
                        }
                    }
                }
            }
        };
        Reply::Flows {
            flows,
            expectations,
            next,
        }
    }

    /// Why this node is not ready, in words; `None` if it is.
    pub(super) fn cause(&self, now: Instant) -> Option<String> {
        if !self.mirror.is_complete() {
            return Some("the kernel's table has not been listed yet".into());
        }
        if self.mirror.is_full() {
            return Some("the local cache is full: raise [cache] flows_max".into());
        }
        if self.mirror.is_dirty() {
            return Some("events of the kernel were missed; its table is being listed anew".into());
        }
        if let Some(cause) = self.room_cause() {
            return Some(cause);
        }
        match self.role {
            Role::Active => None,
            Role::Promoting => Some("the commit is running".into()),
            Role::Standby
                if (self.peers().iter())
                    .all(|peer| !peer.has_session() && peer.incompatible(now).is_none()) =>
            {
                Some("no peer has been met yet".into())
            }
            // Somebody who was heard and is gone without a session is nobody to wait for.
            Role::Standby => {
                let of_replicas = self.peers().iter().find_map(|peer| {
                    let is_incompatible = peer.incompatible(now).is_some();
                    if !peer.has_session() && peer.is_silent(now) && !is_incompatible {
                        return None;
                    }
                    let cause = self.replica_cause(peer, now)?;
                    Some(format!("{}: {cause}", peer.name().as_str()))
                });
                of_replicas.or_else(|| {
                    self.keeper
                        .cause(&self.mirror, self.peers(), &self.kernel.room, now)
                })
            }
        }
    }

    /// Why the replica of a peer cannot be relied on, in words.
    ///
    /// A standby that was ready does not become unready because the active died: silence is no
    /// cause once there was a proof.
    fn replica_cause(&self, peer: &Peer, now: Instant) -> Option<String> {
        if let Some(theirs) = peer.incompatible(now) {
            let ours = self.settings.versions;
            return Some(format!(
                "speaks protocol versions {} to {}, we {} to {}: upgrade the older node",
                theirs.min, theirs.max, ours.min, ours.max
            ));
        }
        if !peer.has_session() {
            return Some("no session yet".into());
        }
        if peer.refused_flows() > 0 {
            return Some("its replica is full: raise [cache] flows_max".into());
        }
        match (peer.verdict(), peer.verified_at()) {
            (Some(Outcome::Different), _) => {
                Some("its replica differs from its table and is being repaired".into())
            }
            (None, None) => Some("its replica has not been compared with its table yet".into()),
            // A new session of a peer whose replica we had proven is compared within moments.
            (None, Some(_)) if peer.is_silent(now) => None,
            (None, Some(_)) => Some("its replica has not been compared since it came back".into()),
            (Some(Outcome::Equal), Some(verified)) => {
                let age = now.saturating_duration_since(verified);
                let is_late = age > PROOF_AGE_MAX && !peer.is_silent(now);
                is_late
                    .then(|| format!("its replica was last proven equal {} s ago", age.as_secs()))
            }
            (Some(Outcome::Equal), None) => None,
        }
    }

    fn path_status(&self, peer: &Peer, now: Instant) -> Vec<PathStatus> {
        let carrying = peer.link(now).map(|LinkId(at)| usize::from(at));
        let names = self.settings.links.iter().enumerate();
        let state = |at, answers| match answers {
            false => PathState::Silent,
            true if carrying == Some(at) => PathState::Carrying,
            true => PathState::Answers,
        };
        let paths = names.zip(peer.answers(now));
        let status = |((at, name), path): ((usize, &String), _)| PathStatus {
            name: name.clone(),
            state: state(at, path),
        };
        paths.map(status).collect()
    }

    fn peer_status(&self, peer: &Peer, now: Instant) -> PeerStatus {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let state = if peer.incompatible(now).is_some() {
            PeerState::Incompatible
        } else if !peer.has_session() {
            PeerState::Greeting
        } else if peer.is_silent(now) {
            PeerState::Silent
        } else if peer.is_joining() || peer.verdict().is_none() {
            PeerState::Joining
        } else {
            PeerState::Streaming
        };
        let told = peer.told().unwrap_or_default();
        let verified_age = peer
            .verified_at()
            .map(|at| now.saturating_duration_since(at));
        let link_name = |LinkId(at)| self.settings.links[usize::from(at)].clone();
        PeerStatus {
            name: peer.name().as_str().into(),
            state,
            cause: self.replica_cause(peer, now),
            version: peer.version(),
            link: peer.link(now).map(link_name),
            links: self.path_status(peer, now),
            silent_ms: millis(peer.silent_for(now)),
            lag_ms: millis(peer.lag(now)),
            lag_records: peer.lag_records(self.local()),
            replica: ReplicaStatus {
                flows: peer.replica().map_or(0, replica_flows),
                expectations: peer
                    .replica()
                    .map_or(0, |replica| u64::from(replica.expectations())),
                in_sync: peer.verdict() == Some(Outcome::Equal)
                    && !peer.is_silent(now)
                    && verified_age.is_some_and(|age| age <= PROOF_AGE_MAX),
                verified_age_ms: verified_age.map(millis),
                lag_ms: u64::from(told.lag_ms),
                lag_records: u64::from(told.lag_records),
            },
        }
    }
}

/// Flows of a replica: its digest counts expectations too.
fn replica_flows(replica: &Replica) -> u64 {
    replica.digest().flows() - u64::from(replica.expectations())
}
