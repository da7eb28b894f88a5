//! The commit: the flows of the replicas into the kernel, masters before their children,
//! translated flows first, and last what the helpers of flows expect.
//!
//! It merges. A flow that the kernel has, as it should be and tracked since this node last lost
//! the active role, is left alone: it is as new as the replica or newer. One that differs, or that
//! was tracked before that and so has a stale window, is deleted and created anew. So a second
//! commit finds everything in place and changes nothing.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Instant;

use super::batch::{Batches, Writing};
use super::expect::{self, Expect};
use super::restore::{Failure, Message, Restore, Verdict};
use super::status::{CommitStatus, ExpectationsStatus, FailedFlows};
use crate::cache::{Local, Replica, Secs, Slot};
use crate::ctnetlink::request::{Answer, KernelRequest};
use crate::flow::{Flow, Rare};
use crate::replication::Peer;
use crate::wire::Name;

/// Slots of a replica that one step looks at: well under a millisecond.
const SLOTS_PER_STEP: u32 = 8_192;

/// Order in which the flows of a replica go.
const PASSES: [Pass; 4] = [
    Pass::Translated,
    Pass::Plain,
    Pass::Children,
    Pass::Expectations,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// Flows without a master that are translated: without their entry they break at once.
    Translated,
    /// The other flows without a master.
    Plain,
    /// Flows of an expectation, whose masters are there by now.
    Children,
    /// What the helpers of flows expect.
    Expectations,
}

impl Pass {
    fn of(flow: &Flow, rare: Option<&Rare>) -> Self {
        if rare.is_some_and(|rare| rare.master.is_some()) {
            Self::Children
        } else if flow.is_nat() {
            Self::Translated
        } else {
            Self::Plain
        }
    }
}

/// A running commit.
#[derive(Debug)]
pub(super) struct Commit {
    /// The peers, the most authoritative first.
    sources: Vec<Name>,
    began: Instant,
    walks: VecDeque<Walk>,
    again: VecDeque<Box<Restore>>,
    expect_again: VecDeque<Box<Expect>>,
    batches: Batches<Message>,
    failed: BTreeMap<Failure, u64>,
    expect_failed: BTreeMap<expect::Failure, u64>,
    is_cancelled: bool,
    status: CommitStatus,
}

/// A walk over a part of one replica.
#[derive(Debug)]
pub(super) struct Walk {
    peer: Name,
    pass: Option<Pass>,
    /// Only flows with a higher stamp than this: what came in while the commit ran.
    pub(super) above: u64,
    pub(super) slot: u32,
}

/// What a commit needs of the engine.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) local: &'a mut Local,
    pub(super) era: u8,
    pub(super) peers: &'a [Peer],
    pub(super) now: Instant,
    pub(super) secs: Secs,
    pub(super) grace_secs: u32,
}

impl Commit {
    /// A commit of the replicas of some peers, the first first: where two have a flow, its word
    /// counts.
    pub(super) fn new(peers: &[&Peer], now: Instant) -> Self {
        let mut total = 0;
        let mut expectations = 0;
        let mut first = Vec::new();
        let mut last = Vec::new();
        for peer in peers {
            let Some(replica) = peer.replica() else {
                continue;
            };
            let expected = u64::from(replica.expectations());
            total += replica.digest().flows() - expected;
            expectations += expected;
            first.push(peer.name());
            let (peer, above) = (peer.name(), peer.high());
            // Their masters may have come as late as they.
            for pass in [None, Some(Pass::Expectations)] {
                last.push(Walk {
                    peer,
                    pass,
                    above,
                    slot: 0,
                });
            }
        }
        let walks = PASSES.into_iter().flat_map(|pass| {
            first.iter().map(move |&peer| Walk {
                peer,
                pass: Some(pass),
                above: 0,
                slot: 0,
            })
        });
        Self {
            sources: first.clone(),
            began: now,
            walks: walks.chain(last).collect(),
            again: VecDeque::new(),
            expect_again: VecDeque::new(),
            batches: Batches::new(),
            failed: BTreeMap::new(),
            expect_failed: BTreeMap::new(),
            is_cancelled: false,
            status: CommitStatus {
                running: true,
                total,
                expectations: ExpectationsStatus {
                    total: expectations,
                    ..ExpectationsStatus::default()
                },
                ..CommitStatus::default()
            },
        }
    }

    /// True while a batch could be written without waiting for the kernel.
    pub(super) fn is_hungry(&self) -> bool {
        let may_walk = !self.walks.is_empty() && !self.waits_for_masters();
        self.batches.has_room() && (may_walk || self.tries_again())
    }

    fn tries_again(&self) -> bool {
        !self.again.is_empty() || !self.expect_again.is_empty()
    }

    /// Children and expectations go when every master has its outcome: one that met a conflict is
    /// tried again, and a child that comes before its master loses it.
    fn waits_for_masters(&self) -> bool {
        self.walks.front().is_some_and(Walk::needs_masters)
            && (self.tries_again() || !self.batches.is_empty())
    }

    /// True when there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.walks.is_empty() && !self.tries_again() && self.batches.is_empty()
    }

    /// Does nothing more than what is under way.
    pub(super) fn cancel(&mut self) {
        self.walks.clear();
        self.again.clear();
        self.expect_again.clear();
        self.is_cancelled = true;
    }

    /// True if it has not done everything.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// Progress or outcome.
    pub(super) fn status(&self, now: Instant) -> CommitStatus {
        let elapsed = now.saturating_duration_since(self.began);
        let failed = self.failed.iter().map(|(failure, &flows)| FailedFlows {
            reason: failure.reason(),
            flows,
        });
        let expect_failed = self
            .expect_failed
            .iter()
            .map(|(failure, &flows)| FailedFlows {
                reason: failure.reason(),
                flows,
            });
        CommitStatus {
            running: !self.is_done(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            failed: failed.collect(),
            expectations: ExpectationsStatus {
                failed: expect_failed.collect(),
                ..self.status.expectations.clone()
            },
            ..self.status.clone()
        }
    }

    /// Writes the next batch into `out`.
    pub(super) fn next_batch(
        &mut self,
        mut around: Around<'_>,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        if !self.batches.has_room() {
            return None;
        }
        let mut batch = self.batches.begin(out, next_seq);
        while batch.room() >= 2 {
            let Some(restore) = self.again.pop_front() else {
                break;
            };
            restore.write(&mut batch);
        }
        while batch.room() > 0 {
            let Some(expect) = self.expect_again.pop_front() else {
                break;
            };
            expect.write(&mut batch);
        }
        let mut slots = SLOTS_PER_STEP;
        while let Some(walk) = self.walks.front_mut() {
            let is_settled = batch.is_empty()
                && self.batches.is_empty()
                && self.again.is_empty()
                && self.expect_again.is_empty();
            if walk.needs_masters() && !is_settled {
                break;
            }
            let before = self.sources.iter().take_while(|&&name| name != walk.peer);
            let before = before.filter_map(|&name| {
                let peer = around.peers.iter().find(|peer| peer.name() == name)?;
                peer.replica()
            });
            let before: Vec<&Replica> = before.collect();
            match walk.step(
                &mut around,
                &before,
                &mut slots,
                &mut batch,
                &mut self.status,
            ) {
                Step::Over => {
                    self.walks.pop_front();
                }
                Step::Enough => break,
            }
        }
        self.batches.send(batch)
    }

    /// The kernel has done a batch.
    pub(super) fn on_done(&mut self, last_seq: u32, is_answered: bool, answers: Vec<Answer>) {
        let Self {
            batches,
            again,
            expect_again,
            failed,
            expect_failed,
            status,
            is_cancelled,
            ..
        } = self;
        batches.settle(last_seq, answers, |message, answer| {
            let restore = match message {
                Message::Clear => return,
                Message::Decide(restore) => restore,
                Message::Expect(expect) => {
                    let expectations = &mut status.expectations;
                    match expect.judge(answer, is_answered) {
                        expect::Verdict::Created => expectations.created += 1,
                        expect::Verdict::Already => expectations.already += 1,
                        expect::Verdict::Again(_) if *is_cancelled => {}
                        expect::Verdict::Again(expect) => expect_again.push_back(expect),
                        expect::Verdict::Failed(why) => *expect_failed.entry(why).or_default() += 1,
                    }
                    return;
                }
            };
            match restore.judge(answer, is_answered) {
                Verdict::Created => status.created += 1,
                Verdict::Replaced => status.replaced += 1,
                Verdict::WithoutHelper => status.without_helper += 1,
                Verdict::Already => status.already += 1,
                Verdict::Again(_) if *is_cancelled => {}
                Verdict::Again(restore) => again.push_back(restore),
                Verdict::Failed(failure) => *failed.entry(failure).or_default() += 1,
            }
        });
    }
}

enum Step {
    /// The walk has seen everything.
    Over,
    /// The batch is full, or enough slots were looked at.
    Enough,
}

impl Walk {
    /// It has not begun, and what it restores needs other flows to be there.
    fn needs_masters(&self) -> bool {
        matches!(self.pass, Some(Pass::Children | Pass::Expectations)) && self.slot == 0
    }

    fn step(
        &mut self,
        around: &mut Around<'_>,
        before: &[&Replica],
        slots: &mut u32,
        batch: &mut Writing<'_, Message>,
        status: &mut CommitStatus,
    ) -> Step {
        let Some(peer) = around.peers.iter().find(|peer| peer.name() == self.peer) else {
            return Step::Over;
        };
        let Some(replica) = peer.replica() else {
            return Step::Over;
        };
        let silent_secs = if peer.is_silent(around.now) {
            u32::try_from(peer.silent_for(around.now).as_secs()).unwrap_or(u32::MAX)
        } else {
            0
        };
        while self.slot < replica.slots() {
            if *slots == 0 || batch.room() < 2 {
                return Step::Enough;
            }
            *slots -= 1;
            let slot = Slot(self.slot);
            self.slot += 1;
            if self.pass == Some(Pass::Expectations) {
                let status = &mut status.expectations;
                self.expect(around, before, replica, silent_secs, batch, status);
                continue;
            }
            let Some((flow, rare)) = replica.flow(slot) else {
                continue;
            };
            if replica.stamp(slot) <= self.above
                || self.pass.is_some_and(|pass| pass != Pass::of(flow, rare))
            {
                continue;
            }
            if self.pass.is_none() {
                status.total += 1;
            }
            // Somebody of more authority has it, and has said how.
            if before
                .iter()
                .any(|replica| replica.find(&flow.key()).is_some())
            {
                status.already += 1;
                continue;
            }
            let left = replica.timeout_left(slot, around.secs);
            if left == 0 && silent_secs > flow.timeout_secs.saturating_add(around.grace_secs) {
                status.expired += 1;
                continue;
            }
            let restore = Restore::new(flow, rare, left, around.grace_secs);
            let held = around.local.find(&flow.key());
            match held.and_then(|slot| Some((slot, *around.local.flow(slot)?))) {
                None => restore.write(batch),
                Some((slot, held))
                    if is_right(&held, flow) && around.local.era(slot) == around.era =>
                {
                    status.already += 1;
                }
                Some((slot, held)) => {
                    // Of this era before the event says so: another walk must not do it again.
                    around.local.set_era(slot, around.era);
                    restore.replacing(&held).write(batch);
                }
            }
        }
        Step::Over
    }
}

/// The entry is the flow: same ways, same translation.
fn is_right(held: &Flow, flow: &Flow) -> bool {
    held.reply == flow.reply && held.zone == flow.zone
}
