//! Other nodes that are active beside this one: shared work, split brain, and what they leave.
//!
//! | a living peer | claims | means |
//! | --- | --- | --- |
//! | active, as we are | other instances | active-active: each has its own flows |
//! | active, as we are | one of ours, or everything | split brain, if it lasts |
//! | was active beside us, and is no longer | | its flows live here now: they are taken over, once |
//! | standby, in a later term than ours | | was active out of our sight: likewise |
//!
//! Nothing is deleted here, on either side: who of the two is wrong is not for us to know.

use std::time::{Duration, Instant};

use super::command::Reply;
use super::history::{TransitionKind, Trigger, millis};
use super::jobs::Work;
use super::notice::{JobId, Notice};
use super::status::{Role, SplitBrainStatus};
use super::{Engine, Peer};
use crate::wire::{Name, Outcome};

/// Two claims that overlap for less than this are a hand-over: where the new active preempts,
/// keepalived makes it MASTER before the old one has noticed, and either may be busy with its
/// commit when the other one's ping comes.
const SPLIT_AFTER: Duration = Duration::from_secs(2);

/// A replica that does not become whole in this time is taken over as it is.
const WHOLE_WAIT_MAX: Duration = Duration::from_secs(10);

/// A peer that is active while we are.
#[derive(Debug)]
pub(super) struct Rival {
    name: Name,
    /// It has said that it is active since we are. Else it was active when our promotion began:
    /// if it steps down at once, what it said last came after our commit began; if it has died,
    /// what it holds when it comes back is history.
    is_proven: bool,
    /// Since when it claims what we claim.
    overlaps_since: Option<Instant>,
    /// The split brain was told.
    is_told: bool,
    /// When it was first heard to be standby.
    stepped_down_at: Option<Instant>,
    /// It has stepped down, and this job takes its flows over.
    job: Option<JobId>,
}

impl Rival {
    /// Who it is.
    pub(super) fn name(&self) -> Name {
        self.name
    }

    fn new(name: Name, is_proven: bool) -> Self {
        Self {
            name,
            is_proven,
            overlaps_since: None,
            is_told: false,
            stepped_down_at: None,
            job: None,
        }
    }
}

impl Engine {
    /// Looks at the peers' roles and claims, and does and says what follows.
    pub(super) fn watch_rivals(&mut self, now: Instant) {
        if self.role == Role::Standby {
            self.end_split_brains(now);
            self.rivals.clear();
            return;
        }
        let claims = self.claims();
        for at in 0..self.replication.peers().len() {
            let peer = &self.replication.peers()[at];
            let name = peer.name();
            let Some(told) = peer.told().filter(|_| !peer.is_silent(now)) else {
                // Out of sight. What it was is remembered; what it is now nobody can say.
                self.on_no_overlap(now, name);
                self.rivals
                    .retain(|rival| rival.is_proven || rival.name != name);
                continue;
            };
            let is_fresh = peer.told_at() > self.tenure.active_since;
            let overlap = peer.claims().overlap(&claims);
            match told.role {
                2 if self.role == Role::Active && is_fresh => self.on_rival(now, name, overlap),
                0 => {
                    let is_whole = told.lag_records == 0 && peer.verdict() == Some(Outcome::Equal);
                    self.on_standby(now, name, told.term, is_whole);
                }
                // Promoting or demoting: let it come to its end.
                _ => {}
            }
        }
    }

    /// A promotion begins: whoever is active now hands over to us, or is dead.
    pub(super) fn note_predecessors(&mut self, now: Instant) {
        let is_active = |peer: &&Peer| peer.told().is_some_and(|told| told.role != 0);
        let living = self.replication.peers().iter().filter(is_active);
        self.rivals = living
            .filter(|peer| !peer.is_silent(now))
            .map(|peer| Rival::new(peer.name(), false))
            .collect();
    }

    /// The split brains that are under way.
    pub(super) fn split_brains(&self, now: Instant) -> Vec<SplitBrainStatus> {
        let told = self.rivals.iter().filter(|rival| rival.is_told);
        let status = |rival: &Rival| {
            let since = rival.overlaps_since?;
            let peer = rival.name.as_str().to_owned();
            let instances = self.instances_in_common(rival.name);
            Some(SplitBrainStatus {
                cause: cause(&peer, &instances),
                peer,
                instances,
                since_ms: millis(now.saturating_duration_since(since)),
            })
        };
        told.filter_map(status).collect()
    }

    /// A job has ended; if it took over what a rival left, that is settled.
    pub(super) fn forget_rival(&mut self, job: JobId) {
        self.rivals.retain(|rival| rival.job != Some(job));
    }

    /// A standby with a later term than ours was active out of our sight, after we were.
    fn on_standby(&mut self, now: Instant, name: Name, term: u64, is_whole: bool) {
        let is_known = |(peer, taken): &(Name, u64)| *peer == name && *taken >= term;
        if self.role == Role::Active
            && term > self.term
            && !self.taken_terms.iter().any(is_known)
            && !self.rivals.iter().any(|rival| rival.name == name)
        {
            self.rivals.push(Rival::new(name, true));
        }
        if self.on_stepped_down(now, name, is_whole) {
            self.taken_terms.retain(|(peer, _)| *peer != name);
            self.taken_terms.push((name, term));
        }
    }

    fn on_rival(&mut self, now: Instant, name: Name, overlap: bool) {
        let known = self.rivals.iter().position(|rival| rival.name == name);
        let at = known.unwrap_or_else(|| {
            self.rivals.push(Rival::new(name, true));
            self.rivals.len() - 1
        });
        (self.rivals[at].is_proven, self.rivals[at].job) = (true, None);
        self.rivals[at].stepped_down_at = None;
        if !overlap {
            return self.on_no_overlap(now, name);
        }
        let since = *self.rivals[at].overlaps_since.get_or_insert(now);
        if now >= since + SPLIT_AFTER && !self.rivals[at].is_told {
            self.rivals[at].is_told = true;
            let instances = self.instances_in_common(name);
            self.notify(Notice::SplitBrain {
                cause: cause(name.as_str(), &instances),
            });
        }
    }

    fn on_no_overlap(&mut self, now: Instant, name: Name) {
        let Some(rival) = self.rivals.iter_mut().find(|rival| rival.name == name) else {
            return;
        };
        let since = rival.overlaps_since.take();
        if let (Some(since), true) = (since, std::mem::take(&mut rival.is_told)) {
            self.notify(Notice::SplitBrainOver {
                peer: name,
                lasted: now.saturating_duration_since(since),
            });
        }
    }

    /// What a rival leaves is taken over by a commit, once: when its replica is whole, as far as it
    /// can tell, or after a while. True: now.
    fn on_stepped_down(&mut self, now: Instant, name: Name, is_whole: bool) -> bool {
        self.on_no_overlap(now, name);
        let is_new = |rival: &&mut Rival| rival.name == name && rival.job.is_none();
        let Some(rival) = self.rivals.iter_mut().find(is_new) else {
            return false;
        };
        let since = *rival.stepped_down_at.get_or_insert(now);
        if !is_whole && now < since + WHOLE_WAIT_MAX {
            return false;
        }
        // A full queue holds commits enough; they take this peer's flows too.
        let Reply::Started(job) = self.jobs.queue(Work::Commit, Vec::new()) else {
            return false;
        };
        let kind = TransitionKind::TakeOver;
        self.begin_transition(now, kind, &Trigger::SteppedDown(name), Some(job));
        if let Some(rival) = self.rivals.iter_mut().find(|rival| rival.name == name) {
            rival.job = Some(job);
        }
        true
    }

    fn end_split_brains(&mut self, now: Instant) {
        let told = self.rivals.iter().filter(|rival| rival.is_told);
        for name in told.map(|rival| rival.name).collect::<Vec<_>>() {
            self.on_no_overlap(now, name);
        }
    }

    /// Our instances that the peer claims too; none: one of the two claims everything.
    fn instances_in_common(&self, name: Name) -> Vec<String> {
        let peers = self.peers().iter();
        let claims = peers
            .filter(|peer| peer.name() == name)
            .map(|peer| *peer.claims())
            .next()
            .unwrap_or_default();
        self.tenure.masters_among(&claims)
    }
}

/// What it is, and what to do.
fn cause(peer: &str, instances: &[String]) -> String {
    let what = match instances {
        [] => "the same addresses, by a promotion without an instance of keepalived".into(),
        instances => instances.join(", "),
    };
    format!(
        "{peer} is active for {what} as well: keepalived's adverts do not reach the other node, or \
         one role is wrong; mend the VRRP network, or run `ctsyncd demote` on the node that has no \
         addresses"
    )
}
