//! The dry run of a commit: the same walk, which changes nothing and says what would be done.
//!
//! The kernel is asked one thing, which helpers it knows, and in a way that changes nothing either:
//! a create with the helper and a master that does not exist. The kernel looks for the helper first,
//! so EOPNOTSUPP says that it does not know it, and ENOENT (no such master) that it does; no entry
//! comes of it in either case (net/netfilter/nf_conntrack_netlink.c, `ctnetlink_create_conntrack`).

use super::batch::Batches;
use super::commit::Around;
use super::fate::{Fate, Judge, owner_of_reply, silent_secs};
use super::needs::{HELPERS_MAX, Needs, unknown_helper};
use super::room::{RoomLeft, max_for};
use super::status::{CommitStatus, Foreseen, ForeseenConflict, ForeseenRoom, ForeseenSource};
use crate::cache::{Local, Replica, Slot};
use crate::ctnetlink::encode::{self, Ack, Create, Helper};
use crate::ctnetlink::host::Rules;
use crate::ctnetlink::request::{Answer, KernelRequest, Outcome};
use crate::flow::rare::HelperName;
use crate::flow::{Flow, ProtoInfo, Rare, Status};
use crate::replication::Peer;
use crate::wire::Name;

/// Slots of a replica that one step looks at: a few lookups each, about a millisecond.
const SLOTS_PER_STEP: u32 = 4_096;
/// A commit of fewer flows says nothing of how fast one goes.
const RATE_FLOWS_MIN: u64 = 100;

/// A running dry run.
#[derive(Debug)]
pub(super) struct Survey {
    sources: Vec<Name>,
    at: usize,
    slot: u32,
    rules: Rules,
    needs: Needs,
    foreseen: Foreseen,
    conflicts: [u64; CONFLICTS.len()],
    /// A flow of each helper that some flow has.
    helpers: Vec<(HelperName, Flow)>,
    asked: bool,
    unknown: Vec<HelperName>,
    batches: Batches<HelperName>,
}

/// What may be in the way; the numbers are those of [`Conflict`].
const CONFLICTS: [&str; 3] = [
    "entries of an earlier term, with stale windows",
    "entries that are translated or zoned differently",
    "entries of stray packets that hold a flow's reply tuple",
];

#[derive(Clone, Copy)]
enum Conflict {
    Stale = 0,
    Different = 1,
    Stray = 2,
}

impl Survey {
    /// A dry run of a commit of these peers, the first first.
    pub(super) fn new(peers: &[&Peer], rules: Rules) -> Self {
        let with_replica = peers.iter().filter(|peer| peer.replica().is_some());
        let sources: Vec<Name> = with_replica.map(|peer| peer.name()).collect();
        let source = |name: &Name| ForeseenSource {
            peer: name.as_str().into(),
            ..ForeseenSource::default()
        };
        Self {
            foreseen: Foreseen {
                sources: sources.iter().map(source).collect(),
                ..Foreseen::default()
            },
            sources,
            at: 0,
            slot: 0,
            rules,
            needs: Needs::default(),
            conflicts: [0; CONFLICTS.len()],
            helpers: Vec::new(),
            asked: false,
            unknown: Vec::new(),
            batches: Batches::new(),
        }
    }

    /// True while a step could be taken without waiting for the kernel.
    pub(super) fn is_hungry(&self) -> bool {
        self.at < self.sources.len() || !self.asked
    }

    /// True when there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        !self.is_hungry() && self.batches.is_empty()
    }

    /// Takes a step; the last one asks the kernel.
    pub(super) fn step(
        &mut self,
        around: &Around<'_>,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        let Some(&name) = self.sources.get(self.at) else {
            return self.ask(next_seq, out);
        };
        let replica_of = |name: &Name| {
            let peer = around.peers.iter().find(|peer| peer.name() == *name)?;
            Some((peer, peer.replica()?))
        };
        let Some((peer, replica)) = replica_of(&name) else {
            self.next_source();
            return None;
        };
        let before = self.sources[..self.at].iter().filter_map(replica_of);
        let before: Vec<&Replica> = before.map(|(_, replica)| replica).collect();
        let judge = Judge {
            replica,
            before: &before,
            silent_secs: silent_secs(peer, around.now),
            era: around.era,
            secs: around.secs,
            grace_secs: around.grace_secs,
        };
        let end = replica
            .slots()
            .min(self.slot.saturating_add(SLOTS_PER_STEP));
        for slot in (self.slot..end).map(Slot) {
            if let Some((flow, rare)) = replica.flow(slot) {
                let (fate, _) = judge.fate(around.local, slot, flow);
                self.count(fate, flow, rare, around.local);
            }
        }
        self.slot = end;
        if end >= replica.slots() {
            self.next_source();
        }
        None
    }

    /// The kernel has answered.
    pub(super) fn on_done(&mut self, last_seq: u32, answers: Vec<Answer>) {
        let unknown = &mut self.unknown;
        self.batches.settle(last_seq, answers, |helper, answer| {
            // Any other answer says nothing about the helper.
            if let Some(Outcome::Refused(libc::EOPNOTSUPP)) = answer.map(|answer| answer.outcome) {
                unknown.push(helper);
            }
        });
    }

    /// What came of it.
    pub(super) fn foreseen(self, room: &RoomLeft, last: Option<&CommitStatus>) -> Foreseen {
        let mut foreseen = self.foreseen;
        let counts = CONFLICTS.into_iter().zip(self.conflicts);
        let conflict = |(reason, flows): (&str, u64)| ForeseenConflict {
            reason: reason.into(),
            flows,
        };
        foreseen.conflicts = counts
            .filter(|&(_, flows)| flows > 0)
            .map(conflict)
            .collect();
        foreseen.missing = self.needs.missing(self.rules);
        foreseen
            .missing
            .extend(self.unknown.iter().map(unknown_helper));
        foreseen.room = room.max().zip(room.count()).map(|(max, count)| {
            let needed = count.saturating_add(foreseen.create);
            let left_out = needed.saturating_sub(max.max(count));
            ForeseenRoom {
                max,
                count,
                left_out,
                wanted_max: (left_out > 0).then(|| max_for(needed)),
            }
        });
        foreseen.estimated_ms = last.and_then(|last| {
            let written = last.created + last.replaced + last.without_helper;
            let writes = foreseen.create + foreseen.replace;
            (written >= RATE_FLOWS_MIN).then(|| last.elapsed_ms.saturating_mul(writes) / written)
        });
        foreseen
    }

    fn next_source(&mut self) {
        self.at += 1;
        self.slot = 0;
    }

    fn count(&mut self, fate: Fate, flow: &Flow, rare: Option<&Rare>, local: &Local) {
        let source = &mut self.foreseen.sources[self.at];
        source.flows += 1;
        self.foreseen.total += 1;
        let conflict = match fate {
            Fate::Stale(..) => Some(Conflict::Stale),
            Fate::Different(..) => Some(Conflict::Different),
            Fate::Missing => owner_of_reply(local, flow).map(|_| Conflict::Stray),
            Fate::Covered | Fate::Expired | Fate::Right => None,
        };
        let (total, part) = match (fate, conflict) {
            (Fate::Expired, _) => (&mut self.foreseen.expired, &mut source.expired),
            (_, Some(conflict)) => {
                self.conflicts[conflict as usize] += 1;
                (&mut self.foreseen.replace, &mut source.replace)
            }
            (Fate::Missing, None) => (&mut self.foreseen.create, &mut source.create),
            (Fate::Covered | Fate::Right | Fate::Stale(..) | Fate::Different(..), None) => {
                (&mut self.foreseen.already, &mut source.already)
            }
        };
        *total += 1;
        *part += 1;
        if matches!(fate, Fate::Covered | Fate::Expired) {
            return;
        }
        self.needs.count(flow, rare, flow.is_nat());
        if let Some(name) = rare.and_then(|rare| rare.helper) {
            let is_known = self.helpers.iter().any(|(known, _)| *known == name);
            if !is_known && self.helpers.len() < HELPERS_MAX {
                self.helpers.push((name, *flow));
            }
        }
    }

    /// Asks which helpers the kernel knows.
    fn ask(&mut self, next_seq: &mut u32, out: &mut Vec<u8>) -> Option<KernelRequest> {
        if self.asked {
            return None;
        }
        self.asked = true;
        let mut batch = self.batches.begin(out, next_seq);
        for (name, like) in &self.helpers {
            let (flow, rare) = impossible(*name, like);
            let how = Create {
                timeout_secs: 1,
                helper: Helper::Restore,
            };
            batch.push(*name, |out, seq| {
                encode::create(out, seq, Ack::None, &flow, &rare, how);
            });
        }
        self.batches.send(batch)
    }
}

/// A flow with a helper whose master does not exist: no address is 0.0.0.0 or ::.
fn impossible(helper: HelperName, like: &Flow) -> (Flow, Rare) {
    let mut orig = like.orig;
    (orig.src, orig.dst) = ([0; 16], [0; 16]);
    let mut master = orig;
    (master.src_id, master.dst_id) = (0, 0);
    let flow = Flow {
        orig,
        reply: orig.inverse(),
        status: Status(Status::CONFIRMED),
        proto: ProtoInfo::None,
        ..Flow::default()
    };
    let rare = Rare {
        helper: Some(helper),
        master: Some(master),
        ..Rare::default()
    };
    (flow, rare)
}
