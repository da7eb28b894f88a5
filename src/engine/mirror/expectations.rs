//! The mirror's part about expectations, and the reads that they are the cue for.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::reads::Read;
use super::Mirror;
use crate::cache::local::{Applied, Master};
use crate::cache::{HashKey, Secs, Slot};
use crate::ctnetlink::request::{Answer, KernelRequest};
use crate::flow::rare::SeqAdj;
use crate::flow::{
    EventKind, ExpectationEvent, ExpectationKey, Flow, FlowEvent, FlowKey, Present, Status,
};
use crate::rules::{Rule, holds};

/// Expectations that wait for their master to be told; beyond that the oldest goes, and the next
/// listing finds it.
const ORPHANS_MAX: usize = 64;

/// Expectations that were told before their masters, or may have been: a helper looks at the first
/// packet of a flow before the kernel takes the flow into its table.
#[derive(Debug, Default)]
pub(super) struct Orphans(VecDeque<ExpectationEvent>);

impl Orphans {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, event: &ExpectationEvent) {
        if self.0.len() >= ORPHANS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(*event);
    }

    fn forget(&mut self, ended: &ExpectationEvent) {
        let is_it = |event: &ExpectationEvent| {
            let (held, ended) = (&event.expectation, &ended.expectation);
            (held.tuple, held.master, held.id) == (ended.tuple, ended.master, ended.id)
        };
        self.0.retain(|event| !is_it(event));
    }
}

impl Mirror {
    /// An event about an expectation. True if the peers must hear of something.
    pub(in crate::engine) fn on_expectation(
        &mut self,
        secs: Secs,
        event: &ExpectationEvent,
        listeners: u8,
    ) -> bool {
        self.counters.events += 1;
        self.counters.expectation_events += 1;
        if event.port_id != 0 && event.port_id == self.own_port_id {
            self.counters.echoes += 1;
        }
        if event.kind == EventKind::Destroy {
            self.orphans.forget(event);
            if self.listing_runs() && holds(Rule::ListingEnds) {
                self.remember_end(end_hash(self.local.hash_key(), event));
            }
            let at = self.circumstances(secs, listeners);
            let applied = self.local.unexpect(event, at);
            return self.judge(applied);
        }
        // The master that we know may be an earlier life, whose end was missed: then the sweep takes
        // the expectation with it, and the birth that is about to be told brings it back.
        let may_be_early = self.missed_events && event.kind == EventKind::New;
        let master = self.local.master(&event.expectation.master);
        if may_be_early && matches!(master, Master::Known(_)) {
            self.orphans.push(event);
        }
        self.expect(secs, event, listeners)
    }

    /// Part of the running listing.
    pub(in crate::engine) fn on_listed_expectations(
        &mut self,
        secs: Secs,
        listed: &[ExpectationEvent],
        listeners: u8,
    ) -> bool {
        let mut has_changed = false;
        if self.listing_runs() {
            for event in listed {
                let hash = end_hash(self.local.hash_key(), event);
                if self.gone.find(hash, |&gone| gone == hash).is_none() {
                    has_changed |= self.expect(secs, event, listeners);
                }
            }
        }
        has_changed
    }

    /// A flow with a helper was told: expectations may have waited for it.
    pub(super) fn adopt(&mut self, secs: Secs, event: &FlowEvent, listeners: u8) -> bool {
        let mut has_changed = false;
        for _ in 0..self.orphans.0.len() {
            let Some(orphan) = self.orphans.0.pop_front() else {
                break;
            };
            if orphan.expectation.master == event.flow.orig {
                has_changed |= self.expect(secs, &orphan, listeners);
            } else {
                self.orphans.0.push_back(orphan);
            }
        }
        has_changed
    }

    fn expect(&mut self, secs: Secs, event: &ExpectationEvent, listeners: u8) -> bool {
        let at = self.circumstances(secs, listeners);
        let applied = match self.local.master(&event.expectation.master) {
            Master::Known(slot) => {
                if event.kind == EventKind::New
                    && event.port_id == 0
                    && let Some(flow) = self.local.flow(slot)
                {
                    self.reads.want(flow);
                }
                self.local.expect(event, slot, at)
            }
            Master::Unknown => {
                self.counters.expectations_without_master += 1;
                if event.kind == EventKind::New {
                    self.orphans.push(event);
                }
                Applied::Same
            }
            Master::Ambiguous => {
                self.counters.expectations_ambiguous += 1;
                Applied::Same
            }
        };
        self.judge(applied)
    }

    /// A flow has ended: what was read, or is being read, says nothing of its next life.
    pub(super) fn forget_reads(&mut self, key: &FlowKey) {
        if !self.reads.is_empty() {
            self.reads.forget(key);
        }
        if !self.fresh.is_empty() {
            let hash = self.local.hash_key().of_key(key);
            if let Ok(read) = self.fresh.find_entry(hash, |&read| read == hash) {
                read.remove();
            }
        }
    }

    /// Flows that were to be read and found no place.
    pub(in crate::engine) fn reads_left_out(&self) -> u64 {
        self.reads.left_out
    }

    /// When flows are to be read.
    pub(in crate::engine) fn read_due(&self) -> Option<Instant> {
        self.reads.poll_timeout()
    }

    /// Writes a batch of reads that are due.
    pub(in crate::engine) fn next_read(
        &mut self,
        now: Instant,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        self.reads.next_batch(now, next_seq, out)
    }

    /// A batch was carried out, perhaps one of reads.
    pub(in crate::engine) fn on_read(
        &mut self,
        secs: Secs,
        (last_seq, is_answered): (u32, bool),
        answers: Vec<Answer>,
        listeners: u8,
    ) -> Read {
        let at = self.circumstances(secs, listeners);
        let listing_runs = self.listing_runs();
        let Self {
            local,
            policy,
            reads,
            counters,
            fresh,
            ..
        } = self;
        let mut has_changed = false;
        let done = reads.on_done(last_seq, is_answered, answers, |key, found| {
            counters.reads += 1;
            let Some(slot) = local.find(key) else {
                return false;
            };
            // What was found may be the next life of the tuple, whose birth is not told yet: then it
            // says nothing of this one, and a listing knows more than it.
            let is_it = |held: &Flow| {
                let is_same_life = held.id == found.flow.id;
                is_same_life && held.orig == found.flow.orig && held.reply == found.flow.reply
            };
            if !local.flow(slot).is_some_and(is_it) {
                return false;
            }
            let worth = |flow: &Flow, age| policy.replicates(flow, age).is_ok();
            let applied = local.adjust(slot, found, at, worth);
            has_changed |= applied == Applied::Changed;
            let hash = local.hash_key().of_key(key);
            if listing_runs && fresh.find(hash, |&held| held == hash).is_none() {
                fresh.insert_unique(hash, hash, |&held| held);
            }
            true
        });
        match done {
            Err(answers) => Read::NotOurs(answers),
            Ok(()) if has_changed => Read::Changed,
            Ok(()) => Read::Same,
        }
    }

    /// A line of a listing about a flow that was read since the listing began. Either of the two may
    /// be older, and the cue to a newer read may be among events that were missed: the later
    /// adjustment of the two stays. A line about another life stands as it is.
    pub(super) fn with_later_adjustment(&self, line: &FlowEvent) -> FlowEvent {
        let mut line = *line;
        let is_it = |slot: &Slot| {
            self.local
                .flow(*slot)
                .is_some_and(|held| held.id == line.flow.id)
        };
        let Some(slot) = self.local.find(&line.flow.key()).filter(is_it) else {
            return line;
        };
        let rare = self.local.rare(slot).copied().unwrap_or_default();
        line.rare.seqadj_orig = later(rare.seqadj_orig, line.rare.seqadj_orig);
        line.rare.seqadj_reply = later(rare.seqadj_reply, line.rare.seqadj_reply);
        if line.rare.seqadj_orig.is_some() || line.rare.seqadj_reply.is_some() {
            line.present.0 |= Present::SEQADJ;
            line.flow.status.0 |= Status::SEQ_ADJUST;
        }
        line
    }
}

/// The later of two adjustments of one direction: the kernel moves `correction_pos` forward only, in
/// the order of TCP's sequence numbers (`nf_ct_seqadj_set`).
fn later(one: Option<SeqAdj>, other: Option<SeqAdj>) -> Option<SeqAdj> {
    let (Some(held), Some(told)) = (one, other) else {
        return one.or(other);
    };
    let ahead = told.correction_pos.wrapping_sub(held.correction_pos);
    Some(if ahead < 1 << 31 { told } else { held })
}

/// What tells the end of an expectation apart from others, in the same hashes as those of flows.
/// Its master may not be known yet, and with it its zone, so the id stands in for that.
fn end_hash(key: HashKey, event: &ExpectationEvent) -> u64 {
    let without_zone = ExpectationKey {
        tuple: event.expectation.tuple,
        zone: 0,
    };
    key.of_expectation_key(&without_zone)
        .wrapping_add(u64::from(event.expectation.id))
}

#[cfg(test)]
mod tests;
