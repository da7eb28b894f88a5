//! `[commit] tcp_liberal = false`: committed TCP flows are made strict again, one by one.
//!
//! A commit cannot restore a window, so it makes the tracker liberal; and while it is liberal it
//! does not learn from packets that it would have refused. Cleared, a flow whose tracker has not
//! caught up dies (measured: 41 of 42 lived). So the flag is cleared only where the kernel has judged
//! a packet of each direction to be in the window (MAXACK_SET in both), which is necessary and not
//! sufficient; and then it is looked again: packets that pass move the timeout, and where it only
//! ticks the flag is set back and the flow is left alone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashTable;

use super::batch::Batches;
use super::commit::Around;
use crate::cache::{HashKey, Slot};
use crate::ctnetlink::encode::{self, Ack};
use crate::ctnetlink::request::{Answer, KernelRequest, Outcome};
use crate::flow::proto::{TCP_ESTABLISHED, TcpInfo};
use crate::flow::{Flow, FlowEvent, Present, ProtoInfo};

/// Slots that one step looks at: well under a millisecond.
const SLOTS_PER_STEP: u32 = 4_096;
/// One batch under way, and the next no sooner than this.
const PACE: Duration = Duration::from_millis(5);
/// A flow that talks has done so within this time. Long enough to tell a timeout that was renewed
/// from one that ticks, which the kernel tells in whole seconds.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Flows that are being watched after their flag was cleared; the next ones wait.
const WATCHED_MAX: usize = 256;
/// Walks over the table: a flow that was silent in one is found in another.
const ROUNDS: u32 = 30;
/// From one walk to the next; with `ROUNDS`, five minutes.
const ROUND_INTERVAL: Duration = Duration::from_secs(10);
/// Flows that are left alone; with one more the walks end.
const LEFT_ALONE_MAX: usize = 1 << 16;

/// The running work.
#[derive(Debug)]
pub(super) struct Strict {
    next_at: Option<Instant>,
    rounds_left: u32,
    slot: u32,
    to_clear: VecDeque<Watched>,
    watched: VecDeque<Watched>,
    to_set_back: VecDeque<Flow>,
    left_alone: HashTable<u64>,
    batches: Batches<What>,
    /// Flows that are strict again and talk.
    pub(super) cleared: u64,
    /// Flows whose flag was set back.
    pub(super) set_back: u64,
}

/// A flow and its timeout when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Watched {
    flow: Flow,
    timeout_secs: u32,
    at: Instant,
}

/// What a message was for.
#[derive(Clone, Copy, Debug)]
enum What {
    /// See whether a flow may be made strict.
    Look,
    /// Make it so.
    Clear(Watched),
    /// See whether it still talks.
    LookAgain(Watched),
    /// Make it liberal again.
    SetBack,
}

impl Strict {
    pub(super) fn new() -> Self {
        Self {
            next_at: None,
            rounds_left: ROUNDS,
            slot: 0,
            to_clear: VecDeque::new(),
            watched: VecDeque::new(),
            to_set_back: VecDeque::new(),
            left_alone: HashTable::new(),
            batches: Batches::new(),
            cleared: 0,
            set_back: 0,
        }
    }

    /// Another commit has ended: its flows are walked over too.
    pub(super) fn renew(&mut self) {
        self.rounds_left = ROUNDS;
        self.slot = 0;
        self.next_at = None;
    }

    /// True when there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.rounds_left == 0
            && self.batches.is_empty()
            && self.to_clear.is_empty()
            && self.watched.is_empty()
            && self.to_set_back.is_empty()
    }

    /// When the next step is due; `None` while the kernel works on one.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.batches.is_empty() {
            return None;
        }
        let watched = self
            .watched
            .front()
            .map(|watched| watched.at + LOOK_AGAIN_AFTER);
        let walk = (self.rounds_left > 0 && self.watched.len() < WATCHED_MAX)
            .then(|| self.next_at.unwrap_or(now));
        let has_work = !self.to_clear.is_empty() || !self.to_set_back.is_empty();
        [watched, walk, has_work.then_some(now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes the next step, if it is due.
    pub(super) fn step(
        &mut self,
        around: &Around<'_>,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        let now = around.now;
        if self.due(now).is_none_or(|due| due > now) {
            return None;
        }
        let mut batch = self.batches.begin(out, next_seq);
        while batch.room() > 0
            && let Some(flow) = self.to_set_back.pop_front()
        {
            batch.push(What::SetBack, |out, seq| {
                encode::make_liberal(out, seq, Ack::None, &flow);
            });
        }
        let is_due = |watched: &Watched| watched.at + LOOK_AGAIN_AFTER <= now;
        while batch.room() > 0
            && let Some(watched) = self.watched.pop_front_if(|watched| is_due(watched))
        {
            batch.push(What::LookAgain(watched), |out, seq| {
                encode::get(out, seq, Ack::None, &watched.flow);
            });
        }
        while batch.room() > 0
            && let Some(watched) = self.to_clear.pop_front()
        {
            batch.push(What::Clear(watched), |out, seq| {
                encode::make_strict(out, seq, Ack::None, &watched.flow);
            });
        }
        if self.rounds_left > 0 && self.next_at.is_none_or(|at| at <= now) {
            self.next_at = Some(now + PACE);
            let end = around
                .local
                .slots()
                .min(self.slot.saturating_add(SLOTS_PER_STEP));
            let mut free = WATCHED_MAX.saturating_sub(self.watched.len());
            while batch.room() > 0 && free > 0 && self.slot < end {
                let slot = Slot(self.slot);
                self.slot += 1;
                if let Some(flow) = self.candidate(around, slot) {
                    free -= 1;
                    batch.push(What::Look, |out, seq| {
                        encode::get(out, seq, Ack::None, &flow);
                    });
                }
            }
            if self.slot >= around.local.slots() {
                self.slot = 0;
                self.rounds_left -= 1;
                self.next_at = Some(now + ROUND_INTERVAL);
            }
        }
        self.batches.send(batch)
    }

    /// The kernel has answered.
    pub(super) fn on_done(
        &mut self,
        now: Instant,
        key: HashKey,
        last_seq: u32,
        is_answered: bool,
        answers: Vec<Answer>,
    ) {
        let Self {
            batches,
            to_clear,
            watched,
            to_set_back,
            left_alone,
            rounds_left,
            cleared,
            set_back,
            ..
        } = self;
        batches.settle(last_seq, answers, |what, answer| {
            match (what, answer.map(|answer| answer.outcome)) {
                (What::Look, Some(Outcome::Found(found))) if may_be_cleared(&found) => {
                    to_clear.push_back(Watched {
                        flow: found.flow,
                        timeout_secs: found.flow.timeout_secs,
                        at: now,
                    });
                }
                // Whether it was done or not, it is looked at again.
                (What::Clear(flow), None) => watched.push_back(flow),
                (What::LookAgain(flow), Some(Outcome::Found(found)))
                    if has_moved(&flow, &found, now) =>
                {
                    *cleared += 1;
                }
                (What::LookAgain(flow), Some(Outcome::Found(_)) | None) => {
                    to_set_back.push_back(flow.flow);
                    *set_back += 1;
                    let hash = key.of_key(&flow.flow.key());
                    if left_alone.len() >= LEFT_ALONE_MAX {
                        *rounds_left = 0;
                    } else if left_alone.find(hash, |&known| known == hash).is_none() {
                        left_alone.insert_unique(hash, hash, |&known| known);
                    }
                }
                // It may still be strict.
                (What::SetBack, None) if is_answered => {}
                (What::SetBack, None | Some(_))
                | (What::Look, _)
                | (What::Clear(_) | What::LookAgain(_), Some(_)) => {}
            }
        });
    }

    /// True if it waits for this batch.
    pub(super) fn owns(&self, last_seq: u32) -> bool {
        self.batches.has(last_seq)
    }

    /// The flow in a slot, if its entry may be one that a commit has made liberal.
    fn candidate(&self, around: &Around<'_>, slot: Slot) -> Option<Flow> {
        let local = &around.local;
        let flow = *local.flow(slot)?;
        let hash = local.hash_key().of_key(&flow.key());
        let is_candidate = is_liberal(flow.proto)
            && local.era(slot) == around.era
            && self.left_alone.find(hash, |&known| known == hash).is_none();
        is_candidate.then_some(flow)
    }
}

/// An established TCP flow whose tracker takes any packet.
fn is_liberal(proto: ProtoInfo) -> bool {
    let ProtoInfo::Tcp(tcp) = proto else {
        return false;
    };
    let liberal = (tcp.flags_orig | tcp.flags_reply) & TcpInfo::BE_LIBERAL;
    tcp.state == TCP_ESTABLISHED && liberal != 0
}

/// It is liberal, and a packet of each direction was judged to be in the window.
fn may_be_cleared(found: &FlowEvent) -> bool {
    is_liberal(found.flow.proto)
        && found
            .present
            .has(Present::ORIG_JUDGED | Present::REPLY_JUDGED)
}

/// Packets have passed since: the timeout is not what was left, less the time that has gone by.
fn has_moved(watched: &Watched, found: &FlowEvent, now: Instant) -> bool {
    let elapsed = now.saturating_duration_since(watched.at).as_millis();
    let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
    let expected = i64::from(watched.timeout_secs) * 1000 - elapsed;
    let is = i64::from(found.flow.timeout_secs) * 1000;
    // Whole seconds on both sides, cut off.
    is.abs_diff(expected) > 1_500
}
