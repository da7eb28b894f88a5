//! What became of every promotion and demotion: when, why, and how long each step took.
//!
//! The engine tells a transition when it begins and again when it is over; whoever keeps them puts
//! the time of day to it and replaces what it was told before under the same number.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Engine;
use super::command::{InstanceState, Via};
use super::notice::{JobId, JobResult, Notice};
use super::status::{CommitStatus, Role};
use crate::wire::Name;

/// Transitions whose commit has not ended: not more than jobs can wait, and one that runs.
const OPEN_MAX: usize = 17;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransitionKind {
    /// A standby became active.
    Promotion,
    /// A node that was active already took over the flows of somebody else.
    TakeOver,
    /// The node became standby.
    Demotion,
}

/// One promotion, take-over or demotion. Times are milliseconds since it began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transition {
    /// Counted in one run of the daemon, from 1.
    pub number: u64,
    /// What happened.
    pub kind: TransitionKind,
    /// Who wanted it, in words.
    pub trigger: String,
    /// The term that began with a promotion, or ended with a demotion.
    pub term: u64,
    /// The peers as they were when it began.
    pub peers: Vec<PeerThen>,
    /// When the commit began.
    pub commit_started_ms: Option<u64>,
    /// When it was over.
    pub done_ms: Option<u64>,
    /// The flows by outcome.
    pub commit: Option<CommitStatus>,
    /// Why it did not come to its end.
    pub failed: Option<String>,
}

/// A peer when a transition began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerThen {
    /// Its name.
    pub name: String,
    /// For how long it had been silent, in milliseconds: how the loss of the active was noticed.
    pub silent_ms: u64,
    /// It had said that it was active, or about to be.
    pub active: bool,
}

/// Who wanted a transition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trigger {
    /// `ctsyncd promote` or `ctsyncd demote`.
    Command,
    /// keepalived.
    Keepalived {
        via: Via,
        kind: String,
        name: String,
        state: InstanceState,
    },
    /// The role was only remembered, and this peer was promoted since.
    Doubt(Name),
    /// This peer was active beside us and is so no longer.
    SteppedDown(Name),
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command => f.write_str("command"),
            Self::Keepalived {
                via,
                kind,
                name,
                state,
            } => write!(f, "{via} {kind} {name} {state}"),
            Self::Doubt(peer) => {
                write!(f, "{} was promoted since the daemon stopped", peer.as_str())
            }
            Self::SteppedDown(peer) => write!(f, "{} is no longer active", peer.as_str()),
        }
    }
}

/// Transitions that are under way.
#[derive(Debug, Default)]
pub(super) struct History {
    last_number: u64,
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    job: JobId,
    began: Instant,
    transition: Transition,
}

impl Engine {
    /// A transition begins whose end is that of a job; without a job it is over at once.
    pub(super) fn begin_transition(
        &mut self,
        now: Instant,
        kind: TransitionKind,
        trigger: &Trigger,
        job: Option<JobId>,
    ) {
        let peers = self.peers().iter().map(|peer| PeerThen {
            name: peer.name().as_str().into(),
            silent_ms: millis(peer.silent_for(now)),
            active: peer.told().is_some_and(|told| told.role != 0),
        });
        let peers = peers.collect();
        self.history.last_number += 1;
        let transition = Transition {
            number: self.history.last_number,
            kind,
            trigger: trigger.to_string(),
            term: self.term,
            peers,
            commit_started_ms: None,
            done_ms: job.is_none().then_some(0),
            commit: None,
            failed: None,
        };
        self.notify(Notice::Transition {
            began: now,
            transition: Box::new(transition.clone()),
        });
        if let Some(job) = job {
            if self.history.open.len() == OPEN_MAX {
                self.history.open.pop_front();
            }
            self.history.open.push_back(Open {
                job,
                began: now,
                transition,
            });
        }
    }

    /// A job begins.
    pub(super) fn on_job_begun(&mut self, now: Instant, job: JobId) {
        let mut open = self.history.open.iter_mut();
        if let Some(open) = open.find(|open| open.job == job) {
            let elapsed = now.saturating_duration_since(open.began);
            open.transition.commit_started_ms = Some(millis(elapsed));
        }
    }

    /// A job has ended, and with it the transition that waited for it.
    pub(super) fn end_transition(&mut self, now: Instant, job: JobId, result: &JobResult) {
        let open = &mut self.history.open;
        let Some(at) = open.iter().position(|open| open.job == job) else {
            return;
        };
        let Some(Open {
            began,
            mut transition,
            ..
        }) = open.remove(at)
        else {
            return;
        };
        transition.done_ms = Some(millis(now.saturating_duration_since(began)));
        match result {
            JobResult::Committed(status) => transition.commit = Some(status.clone()),
            JobResult::Failed(reason) => transition.failed = Some(reason.clone()),
            JobResult::Flushed { .. }
            | JobResult::Foreseen(_)
            | JobResult::SwitchedOver(_)
            | JobResult::Done => {}
        }
        self.notify(Notice::Transition {
            began,
            transition: Box::new(transition),
        });
    }

    /// Promotion from standby, take-over by a node that is active already.
    pub(super) fn kind_of_promotion(&self) -> TransitionKind {
        match self.role {
            Role::Standby => TransitionKind::Promotion,
            Role::Promoting | Role::Active => TransitionKind::TakeOver,
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
