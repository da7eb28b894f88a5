//! Work that takes longer than a call: one at a time, the others queue.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

use super::command::Reply;
use super::commit::{Around, Commit};
use super::flush::Flush;
use super::notice::{JobId, JobResult};
use super::status::{CommitStatus, Role};
use crate::ctnetlink::request::{Answer, KernelRequest};
use crate::replication::Peer;

/// Jobs that wait; one more is refused.
const QUEUE_MAX: usize = 16;

/// The queue, what runs, and who waits for something else.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    last_id: u64,
    next_seq: u32,
    queue: VecDeque<(JobId, Work)>,
    running: Option<(JobId, Work, Running)>,
    waiters: Vec<(JobId, Awaited)>,
    last_commit: Option<CommitStatus>,
}

/// What a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// The replicas into the kernel.
    Commit,
    /// Likewise, and then this node is active.
    Promotion,
    /// The flows of the local cache out of the kernel.
    Flush,
}

/// A job that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) job: JobId,
    pub(super) work: Work,
    pub(super) result: JobResult,
}

#[derive(Debug)]
enum Running {
    Commit(Commit),
    Flush(Flush),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    /// That so many listings of the kernel's table are complete.
    Listings(u64),
    /// That no peer is being sent the whole table.
    Passes,
}

impl Jobs {
    /// Queues work.
    pub(super) fn queue(&mut self, work: Work) -> Reply {
        if self.queue.len() >= QUEUE_MAX {
            return Reply::Refused(format!(
                "{QUEUE_MAX} jobs are waiting already; try again later"
            ));
        }
        let job = self.new_id();
        self.queue.push_back((job, work));
        Reply::Started(job)
    }

    /// A job that ends when so many listings are complete.
    pub(super) fn await_listing(&mut self, listings: u64) -> Reply {
        self.wait_for(Awaited::Listings(listings))
    }

    /// A job that ends when every peer has been sent everything.
    pub(super) fn await_passes(&mut self) -> Reply {
        self.wait_for(Awaited::Passes)
    }

    /// Begins the next job if none runs. False: there is nothing to begin.
    pub(super) fn begin_next(
        &mut self,
        now: Instant,
        role: Role,
        term: u64,
        peers: &[Peer],
    ) -> bool {
        if self.running.is_some() {
            return false;
        }
        let Some((job, work)) = self.queue.pop_front() else {
            return false;
        };
        let running = match work {
            Work::Commit | Work::Promotion => {
                Running::Commit(Commit::new(&sources(now, role, term, peers), now))
            }
            Work::Flush => Running::Flush(Flush::new()),
        };
        self.running = Some((job, work, running));
        true
    }

    /// True while the running job could write a batch at once.
    pub(super) fn is_hungry(&self) -> bool {
        match &self.running {
            Some((_, _, Running::Commit(commit))) => commit.is_hungry(),
            Some((_, _, Running::Flush(flush))) => flush.is_hungry(),
            None => false,
        }
    }

    /// Writes the next batch of the running job.
    pub(super) fn next_batch(
        &mut self,
        around: Around<'_>,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        let next_seq = &mut self.next_seq;
        match &mut self.running {
            Some((_, _, Running::Commit(commit))) => commit.next_batch(around, next_seq, out),
            Some((_, _, Running::Flush(flush))) => flush.next_batch(around.local, next_seq, out),
            None => None,
        }
    }

    /// The kernel has done a batch.
    pub(super) fn on_done(&mut self, last_seq: u32, is_answered: bool, answers: Vec<Answer>) {
        match &mut self.running {
            Some((_, _, Running::Commit(commit))) => commit.on_done(last_seq, is_answered, answers),
            Some((_, _, Running::Flush(flush))) => flush.on_done(last_seq, is_answered, answers),
            None => {}
        }
    }

    /// The running job, if it has ended.
    pub(super) fn take_ended(&mut self, now: Instant) -> Option<Ended> {
        let is_done = match &self.running {
            Some((_, _, Running::Commit(commit))) => commit.is_done(),
            Some((_, _, Running::Flush(flush))) => flush.is_done(),
            None => false,
        };
        let (job, work, running) = self.running.take_if(|_| is_done)?;
        let result = match running {
            Running::Commit(commit) => {
                let status = commit.status(now);
                self.last_commit = Some(status.clone());
                JobResult::Committed(status)
            }
            Running::Flush(Flush {
                deleted, failed, ..
            }) => JobResult::Flushed { deleted, failed },
        };
        Some(Ended { job, work, result })
    }

    /// A job that waited for something that has come.
    pub(super) fn take_waiter(&mut self, listings: u64, passes_are_over: bool) -> Option<JobId> {
        let at = self
            .waiters
            .iter()
            .position(|(_, awaited)| match *awaited {
                Awaited::Listings(count) => listings >= count,
                Awaited::Passes => passes_are_over,
            })?;
        Some(self.waiters.remove(at).0)
    }

    /// Progress of the running commit, or the outcome of the last.
    pub(super) fn commit_status(&self, now: Instant) -> Option<CommitStatus> {
        match &self.running {
            Some((_, _, Running::Commit(commit))) => Some(commit.status(now)),
            Some((_, _, Running::Flush(_))) | None => self.last_commit.clone(),
        }
    }

    fn wait_for(&mut self, awaited: Awaited) -> Reply {
        if self.waiters.len() >= QUEUE_MAX {
            return Reply::Refused(format!(
                "{QUEUE_MAX} jobs are waiting already; try again later"
            ));
        }
        let job = self.new_id();
        self.waiters.push((job, awaited));
        Reply::Started(job)
    }

    fn new_id(&mut self) -> JobId {
        self.last_id += 1;
        JobId(self.last_id)
    }
}

/// Whose flows a commit takes, the most authoritative first: whoever says that it is active, then
/// by term. An active node does not take what a living standby of an older term still holds: those
/// flows have lived, and perhaps ended, here since.
fn sources(now: Instant, role: Role, term: u64, peers: &[Peer]) -> Vec<&Peer> {
    let is_active = |peer: &&Peer| peer.told().is_some_and(|told| told.role != 0);
    let term_of = |peer: &&Peer| peer.told().map_or(0, |told| told.term);
    let is_left_behind = |peer: &&Peer| {
        role == Role::Active && !peer.is_silent(now) && !is_active(peer) && term_of(peer) < term
    };
    let mut sources: Vec<&Peer> = peers.iter().filter(|peer| !is_left_behind(peer)).collect();
    sources.sort_by_key(|peer| Reverse((is_active(peer), term_of(peer))));
    sources
}
