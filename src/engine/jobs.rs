//! Work that takes longer than a call: one at a time, the others queue.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::command::Reply;
use super::commit::{Around, Commit};
use super::flush::Flush;
use super::notice::{JobId, JobResult};
use super::room::RoomLeft;
use super::split::Rival;
use super::status::{CommitStatus, Role};
use super::survey::Survey;
use crate::ctnetlink::host::Rules;
use crate::ctnetlink::request::{Answer, KernelRequest};
use crate::replication::Peer;
use crate::wire::Name;

/// Promotions that wait, and other jobs that wait; one more is refused.
const QUEUE_MAX: usize = 16;
/// A commit needs to know what the kernel holds already; without a listing for this long it goes
/// ahead, and the kernel's refusals tell it.
const LISTING_WAIT_MAX: Duration = Duration::from_secs(10);
/// Whoever waits for a listing or a pass is told after this long that it has not come.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How a promotion ends that a demotion has overtaken.
const DEMOTED: &str = "this node was demoted while it was being promoted";
/// How a dry run ends that a commit has overtaken.
const OVERTAKEN: &str = "a commit was asked for meanwhile, and goes first; ask again";

/// What `begin_next` needs of the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin<'a> {
    pub(super) now: Instant,
    pub(super) role: Role,
    /// The term up to which this node has taken over everything.
    pub(super) since_term: u64,
    pub(super) table_is_complete: bool,
    pub(super) rules: Rules,
    pub(super) peers: &'a [Peer],
    /// Peers that are or were active beside us.
    pub(super) rivals: &'a [Rival],
}

/// The queue, what runs, and who waits for something else.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    last_id: u64,
    /// Number of the next message to the kernel, whoever writes it.
    next_seq: u32,
    queue: VecDeque<Queued>,
    /// A commit waits for the first listing of the kernel's table since then.
    waits_since: Option<Instant>,
    /// Promotions that a demotion has overtaken, and dry runs that a commit has; and why.
    cancelled: VecDeque<(JobId, &'static str)>,
    running: Option<(JobId, Work, Running)>,
    waiters: Vec<(JobId, Instant, Awaited)>,
    last_commit: Option<CommitStatus>,
}

/// A job that waits.
#[derive(Debug)]
struct Queued {
    id: JobId,
    work: Work,
    /// Only the replicas of these peers; none: of all whose word counts.
    from: Vec<Name>,
}

/// What a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// The replicas into the kernel.
    Commit,
    /// Likewise, and then this node is active.
    Promotion,
    /// Likewise, after a promotion in hot standby that found everything in place: a second look.
    Check,
    /// The flows of the local cache out of the kernel.
    Flush,
    /// What a commit would do.
    Survey,
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
    Commit(Box<Commit>),
    Flush(Flush),
    Survey(Box<Survey>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    /// That so many listings of the kernel's table are complete.
    Listings(u64),
    /// That every peer has proven that it holds what the last pass sent.
    Passes,
}

impl Jobs {
    /// Queues work. A commit goes before every dry run.
    pub(super) fn queue(&mut self, work: Work, from: Vec<Name>) -> Reply {
        if matches!(work, Work::Commit | Work::Promotion) {
            self.cancel_surveys();
        }
        // What waits before it does not keep a node from taking over.
        let is_promotion = |work: Work| work == Work::Promotion;
        let alike = self.queue.iter();
        let alike = alike.filter(|job| is_promotion(job.work) == is_promotion(work));
        if alike.count() >= QUEUE_MAX {
            return Reply::Refused(format!(
                "{QUEUE_MAX} jobs are waiting already; try again later"
            ));
        }
        let id = self.new_id();
        self.queue.push_back(Queued { id, work, from });
        Reply::Started(id)
    }

    /// True while jobs run or wait, but for second looks.
    pub(super) fn has_other_than_check(&self) -> bool {
        let running = self.running.iter().map(|(_, work, _)| *work);
        let mut works = running.chain(self.queue.iter().map(|job| job.work));
        works.any(|work| work != Work::Check)
    }

    /// Queues a second look, unless one waits already.
    pub(super) fn queue_check(&mut self) {
        if !self.queue.iter().any(|job| job.work == Work::Check) {
            let id = self.new_id();
            let (work, from) = (Work::Check, Vec::new());
            self.queue.push_back(Queued { id, work, from });
        }
    }

    /// A job that has ended before it began.
    pub(super) fn ended(&mut self) -> JobId {
        self.new_id()
    }

    /// A job that ends when so many listings are complete.
    pub(super) fn await_listing(&mut self, now: Instant, listings: u64) -> Reply {
        self.wait_for(now, Awaited::Listings(listings))
    }

    /// A job that ends when every peer has proven that it holds everything.
    pub(super) fn await_passes(&mut self, now: Instant) -> Reply {
        self.wait_for(now, Awaited::Passes)
    }

    /// Begins the next job if none runs; says what it is.
    pub(super) fn begin_next(&mut self, at: Begin<'_>) -> Option<(JobId, Work)> {
        let next = self.queue.front().filter(|_| self.running.is_none())?;
        let (id, work) = (next.id, next.work);
        if work != Work::Flush {
            let since = *self.waits_since.get_or_insert(at.now);
            if !at.table_is_complete && at.now < since + LISTING_WAIT_MAX {
                return None;
            }
        }
        let running = match work {
            Work::Commit | Work::Promotion | Work::Check => {
                let commit = Commit::new(&sources(at, &next.from), at.rules, at.now);
                Running::Commit(Box::new(commit))
            }
            Work::Survey => {
                Running::Survey(Box::new(Survey::new(&sources(at, &next.from), at.rules)))
            }
            Work::Flush => Running::Flush(Flush::new()),
        };
        self.waits_since = None;
        self.queue.pop_front();
        self.running = Some((id, work, running));
        Some((id, work))
    }

    /// The number of the next message to the kernel, whoever writes it.
    pub(super) fn next_seq(&mut self) -> &mut u32 {
        &mut self.next_seq
    }

    /// When something is due without input.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let listing = self.waits_since.map(|since| since + LISTING_WAIT_MAX);
        self.waiters
            .iter()
            .map(|(_, until, _)| *until)
            .chain(listing)
            .min()
    }

    /// True while a job runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// True if promotions wait.
    pub(super) fn has_promotions(&self) -> bool {
        self.queue.iter().any(|job| job.work == Work::Promotion)
    }

    /// True if nothing runs and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.is_empty()
    }

    /// Stops the running promotion after what is under way, and lets those that wait end at once.
    pub(super) fn cancel_promotions(&mut self) {
        self.cancel_queued(Work::Promotion, DEMOTED);
        self.cancel_queued(Work::Check, DEMOTED);
        if let Some((_, Work::Promotion | Work::Check, Running::Commit(commit))) = &mut self.running
        {
            commit.cancel();
        }
    }

    /// Lets dry runs end at once, the running one included.
    fn cancel_surveys(&mut self) {
        self.cancel_queued(Work::Survey, OVERTAKEN);
        if let Some((id, ..)) = self.running.take_if(|(_, work, _)| *work == Work::Survey) {
            self.cancelled.push_back((id, OVERTAKEN));
        }
    }

    fn cancel_queued(&mut self, work: Work, why: &'static str) {
        if self.queue.front().is_some_and(|job| job.work == work) {
            // It was the one that waited; what comes next waits from its own beginning.
            self.waits_since = None;
        }
        let cancelled = self.queue.iter().filter(|job| job.work == work);
        self.cancelled.extend(cancelled.map(|job| (job.id, why)));
        self.queue.retain(|job| job.work != work);
    }

    /// True while the running job could write a batch at once.
    pub(super) fn is_hungry(&self) -> bool {
        match &self.running {
            Some((_, _, Running::Commit(commit))) => commit.is_hungry(),
            Some((_, _, Running::Flush(flush))) => flush.is_hungry(),
            Some((_, _, Running::Survey(survey))) => survey.is_hungry(),
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
            Some((_, _, Running::Survey(survey))) => survey.step(&around, next_seq, out),
            None => None,
        }
    }

    /// The kernel has done a batch.
    pub(super) fn on_done(
        &mut self,
        last_seq: u32,
        is_answered: bool,
        answers: Vec<Answer>,
        room: &mut RoomLeft,
    ) {
        match &mut self.running {
            Some((_, _, Running::Commit(commit))) => {
                commit.on_done(last_seq, is_answered, answers, room);
            }
            Some((_, _, Running::Flush(flush))) => {
                let before = flush.deleted;
                flush.on_done(last_seq, is_answered, answers);
                room.give(flush.deleted - before);
            }
            Some((_, _, Running::Survey(survey))) => survey.on_done(last_seq, answers),
            None => {}
        }
    }

    /// The running job, if it has ended.
    pub(super) fn take_ended(&mut self, now: Instant, room: &RoomLeft) -> Option<Ended> {
        let is_done = match &self.running {
            Some((_, _, Running::Commit(commit))) => commit.is_done(),
            Some((_, _, Running::Flush(flush))) => flush.is_done(),
            Some((_, _, Running::Survey(survey))) => survey.is_done(),
            None => false,
        };
        let (job, work, running) = self.running.take_if(|_| is_done)?;
        let result = match running {
            Running::Commit(commit) => {
                let status = commit.status(now);
                self.last_commit = Some(status.clone());
                if commit.is_cancelled() {
                    JobResult::Failed(DEMOTED.into())
                } else {
                    JobResult::Committed(status)
                }
            }
            Running::Flush(Flush {
                deleted, failed, ..
            }) => JobResult::Flushed { deleted, failed },
            Running::Survey(survey) => {
                let foreseen = survey.foreseen(room, self.last_commit.as_ref());
                JobResult::Foreseen(Box::new(foreseen))
            }
        };
        Some(Ended { job, work, result })
    }

    /// A job that waited, and has ended.
    pub(super) fn take_waiter(
        &mut self,
        now: Instant,
        listings: u64,
        passes_are_over: bool,
    ) -> Option<(JobId, JobResult)> {
        if let Some((job, why)) = self.cancelled.pop_front() {
            return Some((job, JobResult::Failed(why.into())));
        }
        let has_come = |awaited: &Awaited| match *awaited {
            Awaited::Listings(count) => listings >= count,
            Awaited::Passes => passes_are_over,
        };
        let is_over =
            |(_, until, awaited): &(JobId, Instant, Awaited)| *until <= now || has_come(awaited);
        let at = self.waiters.iter().position(is_over)?;
        let (job, _, awaited) = self.waiters.remove(at);
        if has_come(&awaited) {
            return Some((job, JobResult::Done));
        }
        let seconds = WAIT_MAX.as_secs();
        Some((
            job,
            JobResult::Failed(format!("not complete after {seconds} s; it goes on")),
        ))
    }

    /// Progress of the running commit, or the outcome of the last.
    pub(super) fn commit_status(&self, now: Instant) -> Option<CommitStatus> {
        match &self.running {
            Some((_, _, Running::Commit(commit))) => Some(commit.status(now)),
            Some((_, _, Running::Flush(_) | Running::Survey(_))) | None => self.last_commit.clone(),
        }
    }

    fn wait_for(&mut self, now: Instant, awaited: Awaited) -> Reply {
        if self.waiters.len() >= QUEUE_MAX {
            return Reply::Refused(format!(
                "{QUEUE_MAX} jobs are waiting already; try again later"
            ));
        }
        let job = self.new_id();
        self.waiters.push((job, now + WAIT_MAX, awaited));
        Reply::Started(job)
    }

    /// The number of a job that is kept elsewhere.
    pub(super) fn new_id(&mut self) -> JobId {
        self.last_id += 1;
        JobId(self.last_id)
    }
}

/// Whose flows a commit takes, the most authoritative first: whoever says that it is active, then
/// by term. A peer that was last active in a term before we took everything over is left out: its
/// flows have lived, and perhaps ended, here since. One that never was active, or has forgotten, is
/// taken: better a flow too many than one too few. So is one that was active beside us.
/// Peers that are named are taken as they are.
fn sources<'a>(at: Begin<'a>, named: &[Name]) -> Vec<&'a Peer> {
    let is_active = |peer: &&Peer| peer.told().is_some_and(|told| told.role != 0);
    let term_of = |peer: &&Peer| peer.told().map_or(0, |told| told.term);
    let is_left_behind = |peer: &&Peer| {
        let is_living_active = is_active(peer) && !peer.is_silent(at.now);
        let has_forgotten = term_of(peer) == 0 && at.role != Role::Active;
        let is_rival = at.rivals.iter().any(|rival| rival.name() == peer.name());
        term_of(peer) < at.since_term && !is_living_active && !has_forgotten && !is_rival
    };
    let mut sources: Vec<&Peer> = at
        .peers
        .iter()
        .filter(|peer| match named {
            [] => !is_left_behind(peer),
            named => named.contains(&peer.name()),
        })
        .collect();
    sources.sort_by_key(|peer| Reverse((is_active(peer), term_of(peer))));
    sources
}
