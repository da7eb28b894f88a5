//! What keepalived is told of this node through its track file, and the planned switchover.
//!
//! | state | on | to | keepalived is told |
//! | --- | --- | --- | --- |
//! | draining | the ready peers have all our changes | yielding | last choice |
//! | yielding | 1 s, and no peer has taken over | released | let go |
//! | yielding, released | a peer is active in a later term, we are standby | over: done | last choice |
//! | released | 3 s, and no peer is on its way to be active | over: failed | as before |
//! | any | the time is over | over: failed | as before, unless a peer has taken over |
//! | any | split brain | over: failed | as before |
//!
//! Two steps, because keepalived's `nopreempt` ignores priorities: where it preempts, a peer takes
//! over while this node still answers, and nothing is ever without an owner. Else keepalived has
//! to let go (its FAULT, which says goodbye with priority 0), and a peer follows within one advert.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Engine;
use super::command::Reply;
use super::history::millis;
use super::notice::{JobId, JobResult, Notice};
use super::status::Role;
use crate::replication::Peer;
use crate::wire::{Claims, Name};

/// A node that has become ready stays so for this long before keepalived hears of it.
const READY_FOR: Duration = Duration::from_secs(3);
/// A stream under load is never empty. After this long, changes that are on their way are enough.
const DRAIN: Duration = Duration::from_secs(2);
/// How old such a change may be: it arrives before keepalived has moved anything.
const DRAINED_LAG_MAX: Duration = Duration::from_millis(20);
/// A peer that preempts takes over within three adverts and a bit: 0.4 s with adverts of 100 ms.
const YIELD: Duration = Duration::from_secs(1);
/// How often a switchover is looked at, if nothing happens.
const LOOK: Duration = Duration::from_millis(20);
/// A peer follows a goodbye within one advert and starts its promotion at once.
const RELEASE: Duration = Duration::from_secs(3);

/// What keepalived is told of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Its full priority.
    Full,
    /// A standby that is not ready: less priority, and it may still be elected.
    Unready,
    /// After a switchover: the lowest priority, and it may still be elected.
    LastChoice,
    /// During a switchover: let go of the addresses.
    LetGo,
}

/// How a switchover went. Times are milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Switchover {
    /// Who is active now.
    pub peer: String,
    /// Its term.
    pub term: u64,
    /// Waiting until the peers had all our changes.
    pub drained_ms: u64,
    /// From then until this node was standby.
    pub demoted_ms: u64,
    /// From then until the peer was active, its commit done; 0 if it was before.
    pub active_ms: u64,
    /// keepalived had to be told to let go: nobody preempts.
    pub let_go: bool,
}

/// The hand-over, and what keepalived was told last.
#[derive(Debug)]
pub(super) struct Handover {
    ready_since: Option<Instant>,
    told: Standing,
    running: Option<Running>,
    /// A switchover is over, and this peer has taken over: the priority stays low meanwhile.
    successor: Option<Name>,
}

#[derive(Debug)]
struct Running {
    job: JobId,
    began: Instant,
    until: Instant,
    /// When to look again, if nothing happens before.
    look_at: Instant,
    /// What we claimed, and the latest term that any active node had.
    claims: Claims,
    term: u64,
    drained_at: Option<Instant>,
    released_at: Option<Instant>,
    demoted_at: Option<Instant>,
}

impl Handover {
    pub(super) fn new() -> Self {
        Self {
            ready_since: None,
            told: Standing::Unready,
            running: None,
            successor: None,
        }
    }

    /// When something is due without input.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let debounce = (self.told == Standing::Unready)
            .then_some(self.ready_since)
            .flatten()
            .map(|since| since + READY_FOR);
        let running = self.running.iter().map(|running| running.look_at);
        debounce.into_iter().chain(running).min()
    }

    /// This node is promoted: whatever was handed over is ours again.
    pub(super) fn on_promoted(&mut self) {
        self.successor = None;
    }
}

impl Engine {
    /// What keepalived is told of this node now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.handover.told
    }

    /// Begins a switchover.
    pub(super) fn switch_over(&mut self, now: Instant, timeout: Duration) -> Reply {
        if let Some(why) = self.refuses_switchover(now) {
            return Reply::Refused(why);
        }
        let job = self.jobs.new_id();
        // A peer that shares the work is active already, perhaps in a later term than ours.
        let told = self.peers().iter().filter_map(Peer::told);
        let active = told.filter(|told| told.role != 0).map(|told| told.term);
        let term = active.fold(self.term, u64::max);
        self.handover.running = Some(Running {
            job,
            began: now,
            until: now + timeout,
            look_at: now,
            claims: self.claims(),
            term,
            drained_at: None,
            released_at: None,
            demoted_at: None,
        });
        Reply::Started(job)
    }

    /// Goes on with a switchover, and tells keepalived when something has changed for it.
    pub(super) fn drive_handover(&mut self, now: Instant, is_ready: bool) {
        if is_ready {
            self.handover.ready_since.get_or_insert(now);
        } else {
            self.handover.ready_since = None;
        }
        self.step_switchover(now);
        let is_gone = |name: Name| {
            let peers = self.peers().iter();
            peers
                .filter(|peer| peer.name() == name)
                .all(|peer| peer.is_silent(now))
        };
        if self.handover.successor.is_some_and(is_gone) {
            self.handover.successor = None;
        }
        let standing = self.wanted_standing(now);
        if standing != self.handover.told {
            self.handover.told = standing;
            self.notify(Notice::Standing(standing));
        }
    }

    fn wanted_standing(&self, now: Instant) -> Standing {
        let is_settled = |since: Instant| now >= since + READY_FOR;
        match &self.handover.running {
            Some(running) if running.released_at.is_some() && running.demoted_at.is_none() => {
                return Standing::LetGo;
            }
            Some(running) if running.drained_at.is_some() => return Standing::LastChoice,
            Some(_) | None => {}
        }
        match self.role {
            _ if self.handover.successor.is_some() => Standing::LastChoice,
            Role::Active | Role::Promoting => Standing::Full,
            // Up only after a while, down at once.
            Role::Standby => match self.handover.ready_since {
                Some(_) if self.handover.told == Standing::Full => Standing::Full,
                Some(since) if is_settled(since) => Standing::Full,
                Some(_) | None => Standing::Unready,
            },
        }
    }

    fn refuses_switchover(&self, now: Instant) -> Option<String> {
        if self.handover.running.is_some() {
            return Some("a switchover is under way already".into());
        }
        if self.role != Role::Active {
            return Some(
                "this node is not active: run `ctsyncd switchover` on the node that is".into(),
            );
        }
        if let Some(split) = self.split_brains(now).first() {
            return Some(format!("split brain: {}", split.cause));
        }
        if self.ready_peers(now).next().is_some() {
            return None;
        }
        let living = self.peers().iter().filter(|peer| !peer.is_silent(now));
        let names: Vec<_> = living.map(|peer| peer.name().as_str().to_owned()).collect();
        Some(match names.as_slice() {
            [] => "there is no peer to hand over to: is a daemon running there, and the link up?"
                .into(),
            names => format!(
                "no peer is ready to take over: look at `ctsyncd status` on {}",
                names.join(", ")
            ),
        })
    }

    fn step_switchover(&mut self, now: Instant) {
        let Some(running) = &self.handover.running else {
            return;
        };
        let taker = self.taker(running, now);
        let is_drained = self.is_drained(running, now);
        let has_split = !self.split_brains(now).is_empty();
        let is_ready = self.ready_peers(now).next().is_some();
        let role = self.role;
        let Some(running) = &mut self.handover.running else {
            return;
        };
        running.look_at = now + LOOK;
        let Some(drained_at) = running.drained_at else {
            let why = if role == Role::Standby {
                "this node was demoted meanwhile"
            } else if has_split {
                "another node is active for the same addresses: see `ctsyncd status`"
            } else if now >= running.until && is_ready {
                "the time is over: the peers still lag behind (see `to it` in `ctsyncd status`)"
            } else if now >= running.until {
                "the time is over: no peer is ready (see `ctsyncd status` there)"
            } else {
                if is_drained {
                    running.drained_at = Some(now);
                }
                return;
            };
            return self.end_switchover(Err(format!("{why}; nothing was changed")));
        };
        if role == Role::Standby {
            running.demoted_at.get_or_insert(now);
        }
        let (released_at, demoted_at) = (running.released_at, running.demoted_at);
        if demoted_at.is_some() && role != Role::Standby {
            return self.end_switchover(Err(
                "keepalived let go here, no peer took the addresses, and it has taken them again: \
                 does keepalived run on the peers?"
                    .into(),
            ));
        }
        match (taker, demoted_at) {
            (Some((name, 2, term)), Some(demoted)) => {
                let done = Switchover {
                    peer: name.as_str().to_owned(),
                    term,
                    drained_ms: millis(drained_at.saturating_duration_since(running.began)),
                    demoted_ms: millis(demoted.saturating_duration_since(drained_at)),
                    active_ms: millis(now.saturating_duration_since(demoted)),
                    let_go: released_at.is_some(),
                };
                self.handover.successor = Some(name);
                return self.end_switchover(Ok(done));
            }
            (Some((name, ..)), None) if now >= running.until => {
                // Taking the priority back would only move everything once more.
                self.handover.successor = Some(name);
                return self.end_switchover(Err(format!(
                    "{} has taken over, and nobody has told this node that it is standby: does \
                     keepalived call `ctsyncd notify`, or write to [keepalived] notify_fifo?",
                    name.as_str()
                )));
            }
            (Some((name, ..)), Some(_)) if now >= running.until => {
                self.handover.successor = Some(name);
                return self.end_switchover(Err(format!(
                    "{} has taken over, and its commit is not done yet: see `ctsyncd status` there",
                    name.as_str()
                )));
            }
            (Some(_), _) => return,
            (None, _) => {}
        }
        let is_late = released_at.is_some_and(|at| now >= at + RELEASE);
        if is_late || now >= running.until {
            return self.end_switchover(Err(match (released_at, demoted_at) {
                (None, None) => "the time is over, and no peer has taken over".to_owned(),
                (_, Some(_)) => {
                    "keepalived let go here, and no peer has taken over: does keepalived \
                                 run there, and does it call `ctsyncd notify` or write to \
                                 notify_fifo?"
                        .to_owned()
                }
                (Some(_), None) => "keepalived has not let go: does its vrrp_sync_group or \
                                    vrrp_instance name a track_file with the path of [keepalived] \
                                    track_file and weight 1, and does it call `ctsyncd notify` or \
                                    write to notify_fifo?"
                    .to_owned(),
            } + "; the priority is put back"));
        }
        if now >= drained_at + YIELD && released_at.is_none() && demoted_at.is_none() {
            running.released_at = Some(now);
        }
    }

    fn end_switchover(&mut self, outcome: Result<Switchover, String>) {
        let Some(running) = self.handover.running.take() else {
            return;
        };
        let result = match outcome {
            Ok(done) => JobResult::SwitchedOver(done),
            Err(why) => JobResult::Failed(why),
        };
        self.notify(Notice::JobDone {
            job: running.job,
            result,
        });
    }

    /// The peer that has taken over, its role and its term.
    fn taker(&self, running: &Running, now: Instant) -> Option<(Name, u8, u64)> {
        let living = self.peers().iter().filter(|peer| !peer.is_silent(now));
        living
            .filter_map(|peer| Some((peer, peer.told()?)))
            .filter(|(_, told)| matches!(told.role, 1 | 2))
            // Who was active already, for other instances, has no new term.
            .find(|(peer, told)| told.term > running.term || peer.claims().cover(&running.claims))
            .map(|(peer, told)| (peer.name(), told.role, told.term))
    }

    fn is_drained(&self, running: &Running, now: Instant) -> bool {
        let is_late = now >= running.began + DRAIN;
        let has_all = |peer: &Peer| {
            peer.lag_records(self.local()) == 0 || is_late && peer.lag(now) <= DRAINED_LAG_MAX
        };
        let mut ready = self.ready_peers(now).peekable();
        ready.peek().is_some() && ready.all(has_all)
    }

    fn ready_peers(&self, now: Instant) -> impl Iterator<Item = &Peer> {
        let peers = self.peers().iter();
        peers.filter(move |peer| {
            peer.is_listening()
                && !peer.is_silent(now)
                && peer.told().is_some_and(|told| told.ready)
        })
    }
}
