//! The commit: the flows of the replicas into the kernel in the order of their worth, masters
//! before their children, and last what the helpers of flows expect.
//!
//! It merges. A flow that the kernel has, as it should be and tracked since this node last lost
//! the active role, is left alone: it is as new as the replica or newer. One that differs, or that
//! was tracked before that and so has a stale window, is deleted and created anew. So a second
//! commit finds everything in place and changes nothing.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Instant;

use hashbrown::HashTable;

use super::batch::Batches;
use super::expect::{self, Expect};
use super::needs::{Lost, Needs};
use super::orphans::Orphans;
use super::restore::{Failure, Message, Restore, Verdict};
use super::room::RoomLeft;
use super::status::{CommitStatus, ExpectationsStatus, FailedFlows};
use crate::cache::{Local, Replica, Secs};
use crate::ctnetlink::encode::{self, Ack};
use crate::ctnetlink::host::Rules;
use crate::ctnetlink::request::{Answer, KernelRequest};
use crate::replication::Peer;
use crate::wire::Name;

mod pass;
mod walk;

use pass::{PASSES, Pass};
use walk::{Counting, SLOTS_PER_STEP, Step, Walk};

/// A running commit.
#[derive(Debug)]
pub(super) struct Commit {
    /// The peers, the most authoritative first.
    sources: Vec<Name>,
    began: Instant,
    walks: VecDeque<Walk>,
    again: VecDeque<Restore>,
    orphans: Orphans,
    expect_again: VecDeque<Box<Expect>>,
    batches: Batches<Message>,
    failed: BTreeMap<Failure, u64>,
    expect_failed: BTreeMap<expect::Failure, u64>,
    is_cancelled: bool,
    status: CommitStatus,
    needs: Needs,
    lost: Lost,
    rules: Rules,
    /// As last seen.
    room: RoomLeft,
}

/// What a commit needs of the engine.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) local: &'a mut Local,
    pub(super) era: u8,
    /// Flows that have ended here since, and are not wanted back: hashes of their keys.
    pub(super) ended: Option<&'a HashTable<u64>>,
    pub(super) peers: &'a [Peer],
    pub(super) room: &'a mut RoomLeft,
    pub(super) now: Instant,
    pub(super) secs: Secs,
    pub(super) grace_secs: u32,
}

impl Commit {
    /// A commit of the replicas of some peers, the first first: where two have a flow, its word
    /// counts.
    pub(super) fn new(peers: &[&Peer], rules: Rules, now: Instant) -> Self {
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
            orphans: Orphans::default(),
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
            needs: Needs::default(),
            lost: Lost::default(),
            rules,
            room: RoomLeft::default(),
        }
    }

    /// True while a batch could be written without waiting for the kernel.
    pub(super) fn is_hungry(&self) -> bool {
        let may_walk = !self.walks.is_empty() && !self.waits_for_masters();
        let may_look = self.is_settled() && self.lost.wants_look();
        let may_try = self.tries_again() || self.may_try_orphans();
        self.batches.has_room() && (may_walk || may_try || may_look)
    }

    /// Every message that was written has its outcome, and none is to be written again.
    fn is_at_rest(&self) -> bool {
        !self.tries_again() && self.batches.is_empty()
    }

    /// Every flow and expectation but the orphans has its outcome.
    fn is_settled(&self) -> bool {
        self.walks.is_empty() && self.is_at_rest()
    }

    /// Orphans go when all other flows have their outcome, before the expectations, which need them.
    fn may_try_orphans(&self) -> bool {
        let is_due = |walk: &Walk| walk.pass == Some(Pass::Expectations) && walk.slot == 0;
        !self.orphans.is_empty() && self.is_at_rest() && self.walks.front().is_none_or(is_due)
    }

    fn tries_again(&self) -> bool {
        !self.again.is_empty() || !self.expect_again.is_empty()
    }

    /// Children and expectations go when every master has its outcome: one that met a conflict is
    /// tried again, and a child that comes before its master loses it.
    fn waits_for_masters(&self) -> bool {
        self.walks.front().is_some_and(Walk::needs_masters) && !self.is_at_rest()
    }

    /// True when there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.is_settled() && self.orphans.is_empty() && !self.lost.wants_look()
    }

    /// Does nothing more than what is under way.
    pub(super) fn cancel(&mut self) {
        self.walks.clear();
        self.again.clear();
        self.orphans.clear();
        self.lost = Lost::default();
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
            reason: failure.reason(&self.room, flows),
            flows,
        });
        let mut missing = self.needs.missing(self.rules);
        missing.extend(self.lost.missing());
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
            without_labels: self.lost.without_labels(),
            missing,
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
        if self.may_try_orphans() {
            self.again.extend(self.orphans.take_round());
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
            let is_at_rest = batch.is_empty()
                && self.batches.is_empty()
                && self.again.is_empty()
                && self.expect_again.is_empty();
            let needs_orphans = walk.pass == Some(Pass::Expectations) && !self.orphans.is_empty();
            if walk.needs_masters() && (!is_at_rest || needs_orphans) {
                break;
            }
            let before = self.sources.iter().take_while(|&&name| name != walk.peer);
            let before = before.filter_map(|&name| {
                let peer = around.peers.iter().find(|peer| peer.name() == name)?;
                peer.replica()
            });
            let before: Vec<&Replica> = before.collect();
            let mut count = Counting {
                status: &mut self.status,
                needs: &mut self.needs,
                no_room: 0,
            };
            let step = walk.step(&mut around, &before, &mut slots, &mut batch, &mut count);
            if count.no_room > 0 {
                *self.failed.entry(Failure::TableFull).or_default() += count.no_room;
            }
            match step {
                Step::Over => {
                    self.walks.pop_front();
                }
                Step::Enough => break,
            }
        }
        let is_settled = self.walks.is_empty()
            && self.again.is_empty()
            && self.expect_again.is_empty()
            && self.batches.is_empty();
        if is_settled
            && batch.is_empty()
            && let Some(flow) = self.lost.take_look()
        {
            batch.push(Message::Look, |out, seq| {
                encode::get(out, seq, Ack::None, &flow);
            });
        }
        self.room = *around.room;
        self.batches.send(batch)
    }

    /// The kernel has done a batch.
    pub(super) fn on_done(
        &mut self,
        last_seq: u32,
        is_answered: bool,
        answers: Vec<Answer>,
        room: &mut RoomLeft,
    ) {
        let Self {
            batches,
            again,
            orphans,
            expect_again,
            failed,
            expect_failed,
            status,
            is_cancelled,
            lost,
            ..
        } = self;
        batches.settle(last_seq, answers, |message, answer| {
            let restore = match message {
                Message::Clear => return,
                Message::Look => return lost.on_look(answer),
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
            let (takes_room, what) = (restore.takes_room(), restore.what_may_be_lost());
            let verdict = restore.judge(answer, is_answered);
            if takes_room && matches!(verdict, Verdict::Already | Verdict::Failed(_)) {
                room.give(1);
            }
            match verdict {
                Verdict::Created => {
                    lost.on_created(what);
                    status.created += 1;
                }
                Verdict::Replaced => {
                    // What stood in its place has made room.
                    room.give(u64::from(takes_room));
                    lost.on_created(what);
                    status.replaced += 1;
                }
                Verdict::WithoutHelper => {
                    lost.on_helper(what);
                    status.without_helper += 1;
                }
                Verdict::Already => status.already += 1,
                Verdict::Again(_) | Verdict::Orphan(_) if *is_cancelled => {
                    room.give(u64::from(takes_room));
                }
                Verdict::Orphan(restore) => orphans.add(restore),
                Verdict::Again(restore) => again.push_back(restore),
                Verdict::Failed(failure) => {
                    if failure == Failure::TableFull {
                        room.use_up();
                    }
                    *failed.entry(failure).or_default() += 1;
                }
            }
        });
        self.room = *room;
    }
}
