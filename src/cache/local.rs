//! The local cache: what this node's kernel tracks, in the order in which the peers must hear of
//! it.
//!
//! A change that matters to a peer gives the flow the next version and moves it to the end of the
//! list; counters and ticking timeouts are no such change. An end leaves a tombstone for the peers
//! whose stream runs. docs/protocol.md sections 3 and 4 state the rules (C1 to C6, E4, E5).

use super::chunks::Chunks;
use super::index::Index;
use super::list::{Kind, List, Meta};
use super::rares::Rares;
use super::slots::Slots;
use super::{Changes, Digest, HashKey, NIL, Secs, Slot};
use crate::flow::{EventKind, Flow, FlowEvent, FlowKey, Present, Rare};
use crate::rules::{Rule, holds};

mod change;
mod cursor;
mod expectations;
mod leaves;
mod merge;
mod origin;
mod sweep;
mod tombstones;
mod warm;

pub use change::{Applied, Circumstances};
pub use cursor::{Cursor, Entry};
pub use expectations::Master;
use expectations::{Expectations, Fate};
pub use origin::Origin;
use tombstones::Tombstones;
pub(crate) use warm::AHEAD;

/// The table. All memory is bounded by `flows_max + tombstones_max` slots.
#[derive(Debug)]
pub struct Local {
    flows: Chunks<Flow>,
    meta: Chunks<Meta>,
    slots: Slots,
    /// Where the cursors stand, by their numbers.
    cursors: Vec<u32>,
    rares: Rares,
    expectations: Expectations,
    index: Index,
    tombstones: Tombstones,
    list: List,
    tail: u64,
    key: HashKey,
    digest: Digest,
    tracked: u32,
    copies: u32,
    changes: Changes,
    flows_max: u32,
}

impl Local {
    /// An empty table.
    #[must_use]
    pub fn new(key: HashKey, flows_max: u32, tombstones_max: u32) -> Self {
        let mut index = Index::new(flows_max);
        index.touch();
        Self {
            flows: Chunks::default(),
            meta: Chunks::default(),
            slots: Slots::default(),
            cursors: Vec::new(),
            rares: Rares::default(),
            expectations: Expectations::default(),
            index,
            tombstones: Tombstones::new(tombstones_max),
            list: List::EMPTY,
            tail: 0,
            key,
            digest: Digest::default(),
            tracked: 0,
            copies: 0,
            changes: Changes::default(),
            flows_max,
        }
    }

    /// The key of the table's hashes.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.key
    }

    /// Count and sums of the flows and expectations that replicate.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Last version given.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Flows and expectations in the table, those that policy keeps from the peers included.
    #[must_use]
    pub fn tracked(&self) -> u32 {
        self.tracked
    }

    /// Tombstones in the table.
    #[must_use]
    pub fn tombstones(&self) -> u32 {
        self.tombstones.len()
    }

    /// Most entries a slab can have.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.meta.len()
    }

    /// The flow with a key.
    #[must_use]
    pub fn find(&self, key: &FlowKey) -> Option<Slot> {
        let hash = self.key.of_key(key);
        self.find_hashed(hash, key)
    }

    /// What is kept of a slot, which may be gone with its chunk.
    fn at(&self, slot: Slot) -> &Meta {
        self.meta.get(slot.0 as usize).unwrap_or(&Meta::FREE)
    }

    /// The flow in a slot, if one is there.
    #[must_use]
    pub fn flow(&self, slot: Slot) -> Option<&Flow> {
        let meta = self.meta.get(slot.0 as usize)?;
        matches!(meta.kind, Kind::Flow | Kind::Held).then(|| &self.flows[slot.0 as usize])
    }

    /// The rare attributes of the flow in a slot; `None` for most.
    #[must_use]
    pub fn rare(&self, slot: Slot) -> Option<&Rare> {
        self.flow(slot)?;
        self.rares.at(self.meta[slot.0 as usize].rare)
    }

    /// What is left of the timeout of the entry in a slot, as far as the kernel has told.
    #[must_use]
    pub fn timeout_left(&self, slot: Slot, now: Secs) -> Secs {
        let age = now.saturating_sub(self.at(slot).seen);
        let of_flow = self.flow(slot).map(|flow| flow.timeout_secs);
        let told = of_flow.or_else(|| Some(self.expectation(slot)?.timeout_secs));
        told.unwrap_or(0).saturating_sub(age)
    }

    /// In which era the kernel entry was born (`Circumstances::era`).
    #[must_use]
    pub fn era(&self, slot: Slot) -> u8 {
        self.at(slot).era
    }

    /// Puts the kernel entry of a flow into an era: it is being created anew.
    pub fn set_era(&mut self, slot: Slot, era: u8) {
        if let Some(meta) = self.meta.get_mut(slot.0 as usize) {
            meta.era = era;
        }
    }

    /// True if the entry in a slot replicates.
    #[must_use]
    pub fn replicates(&self, slot: Slot) -> bool {
        self.at(slot).kind.replicates()
    }

    /// Carries out an event or one entry of a listing. `worth` says whether a flow of an age
    /// replicates.
    pub fn apply(
        &mut self,
        event: &FlowEvent,
        at: Circumstances,
        worth: impl Fn(&Flow, Secs) -> bool,
    ) -> Applied {
        let key = event.flow.key();
        let hash = self.key.of_key(&key);
        let found = self.find_hashed(hash, &key);
        match (event.kind, found) {
            (EventKind::Destroy, None) => Applied::Same,
            (EventKind::Destroy, Some(slot)) => self.end(slot, hash, at),
            (EventKind::New | EventKind::Update | EventKind::Listed, None) => {
                self.begin(event, hash, at, worth)
            }
            // What an event has told since the listing began is newer than the listing.
            (EventKind::Listed, Some(slot))
                if self.meta[slot.0 as usize].round == at.round && holds(Rule::ListingLate) =>
            {
                self.adjust(slot, event, at, worth)
            }
            (EventKind::New | EventKind::Update | EventKind::Listed, Some(slot)) => {
                self.change(event, slot, hash, at, worth)
            }
        }
    }

    /// Gives an entry the next version without changing it (rule C6).
    pub fn touch(&mut self, slot: Slot, now: Secs) {
        if self.replicates(slot) {
            self.announce(slot.0, now);
        }
    }

    /// True while something goes on that takes several steps.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.meta.has_doomed() || self.has_leaving()
    }

    /// Goes on with it: frees memory of what was forgotten (that of a million flows is 150 MB), and lets peers leave.
    pub fn go_on(&mut self) {
        self.flows.free_doomed();
        self.meta.free_doomed();
        self.let_leave();
    }

    /// Forgets every entry and tombstone, without a word to the peers; cursors stay.
    pub fn clear(&mut self) {
        self.slots.clear(&mut self.flows, &mut self.meta);
        self.list = List::EMPTY;
        self.reopen_cursors();
        self.expectations.clear();
        self.index.clear();
        self.tombstones.clear();
        self.rares.clear();
        self.digest.clear();
        (self.tracked, self.copies) = (0, 0);
        self.changes.overflow();
    }

    fn find_hashed(&self, hash: u64, key: &FlowKey) -> Option<Slot> {
        let is_it = |slot: u32| {
            !self.meta[slot as usize].kind.is_expectation()
                && self.flows[slot as usize].key() == *key
        };
        self.index.find(&self.meta, hash, is_it).map(Slot)
    }

    fn begin(
        &mut self,
        event: &FlowEvent,
        hash: u64,
        at: Circumstances,
        worth: impl Fn(&Flow, Secs) -> bool,
    ) -> Applied {
        if self.tracked >= self.flows_max {
            return Applied::Full;
        }
        let slot = self.take_slot();
        self.flows[slot as usize] = event.flow;
        let rare = self.rares.set(NIL, &event.rare);
        self.meta[slot as usize] = Meta {
            seen: at.now,
            rare,
            announced: at.now,
            kind: Kind::Held,
            round: at.round,
            era: if event.kind == EventKind::New {
                at.era
            } else {
                at.found_era
            },
            ..Meta::FREE
        };
        self.index.insert(&mut self.meta, hash, slot);
        self.tracked += 1;
        let origin = match event.kind {
            EventKind::New => at.born,
            EventKind::Update | EventKind::Listed | EventKind::Destroy => at.found,
        };
        self.change_origin(slot, origin);
        if origin != Origin::Own && !at.is_echo {
            self.changes.push(event.flow.key(), false);
        }
        self.follow_helper(slot, false, at);
        if origin.is_told() && worth(&event.flow, 0) {
            self.enter(slot, hash, at.now);
            return Applied::Changed;
        }
        Applied::Same
    }

    fn change(
        &mut self,
        event: &FlowEvent,
        slot: Slot,
        hash: u64,
        at: Circumstances,
        worth: impl Fn(&Flow, Secs) -> bool,
    ) -> Applied {
        let slot = slot.0;
        let old_value = self.value_hash(slot, hash);
        let known = self.flows[slot as usize].timeout_secs;
        let touch = event.present.has(Present::TIMEOUT)
            && self.is_half_over(slot, known, event.flow.timeout_secs, at.now);
        let had_helper = self.has_helper(slot);
        self.merge(slot, event, at);
        self.follow_helper(slot, had_helper, at);
        self.follow_event(slot, event, at);
        let meta = self.meta[slot as usize];
        let flow = &self.flows[slot as usize];
        let age = match meta.kind {
            Kind::Held => at.now.saturating_sub(meta.announced),
            // Old enough once is old enough for good.
            _ => Secs::MAX,
        };
        let is_told = meta.origin().is_told() && worth(flow, age);
        match (meta.kind == Kind::Flow, is_told) {
            (false, false) => Applied::Same,
            (false, true) => {
                self.enter(slot, hash, at.now);
                self.follow_master(slot, Fate::Enters, at);
                Applied::Changed
            }
            (true, true) => {
                let new_value = self.value_hash(slot, hash);
                if new_value != old_value {
                    self.digest.replace(hash, old_value, new_value);
                }
                if new_value == old_value && !touch {
                    return Applied::Same;
                }
                self.announce(slot, at.now);
                Applied::Changed
            }
            (true, false) => {
                self.hold(slot, hash, old_value, at);
                self.follow_master(slot, Fate::IsHeld, at);
                Applied::Changed
            }
        }
    }

    fn end(&mut self, slot: Slot, hash: u64, at: Circumstances) -> Applied {
        let slot = slot.0;
        self.index.remove(&mut self.meta, hash, slot);
        self.tracked -= 1;
        let Meta { kind, rare, .. } = self.meta[slot as usize];
        if kind.replicates() {
            let value = self.value_hash(slot, hash);
            self.digest.remove(hash, value);
            self.list.unlink(&mut self.meta, slot);
        }
        if kind.is_expectation() {
            self.forget_expectation(slot);
        } else {
            self.forget_origin(slot, at);
            if self.has_helper(slot) {
                self.follow_end(slot, at);
            }
            self.rares.release(rare);
        }
        self.release(slot);
        if !kind.replicates() {
            return Applied::Same;
        }
        self.bury(hash, at.listeners);
        Applied::Changed
    }

    /// An entry that replicates does so no longer.
    fn hold(&mut self, slot: u32, hash: u64, value: u64, at: Circumstances) {
        self.digest.remove(hash, value);
        self.list.unlink(&mut self.meta, slot);
        let meta = &mut self.meta[slot as usize];
        meta.kind = if meta.kind.is_expectation() {
            self.expectations.told -= 1;
            Kind::HeldExpectation
        } else {
            Kind::Held
        };
        (meta.version, meta.announced) = (Meta::NO_VERSION, at.now);
        self.bury(hash, at.listeners);
    }

    /// A held entry starts to replicate.
    fn enter(&mut self, slot: u32, hash: u64, now: Secs) {
        if holds(Rule::C3) {
            self.unbury(hash);
        }
        self.tail += 1;
        let value = self.value_hash(slot, hash);
        self.digest.add(hash, value);
        let meta = &mut self.meta[slot as usize];
        meta.kind = if meta.kind.is_expectation() {
            self.expectations.told += 1;
            Kind::Expectation
        } else {
            Kind::Flow
        };
        (meta.version, meta.announced) = (self.tail, now);
        self.list.push_back(&mut self.meta, slot);
    }

    fn announce(&mut self, slot: u32, now: Secs) {
        self.tail += 1;
        let meta = &mut self.meta[slot as usize];
        (meta.version, meta.announced) = (self.tail, now);
        self.list.move_to_back(&mut self.meta, slot);
    }

    fn key_hash(&self, slot: u32) -> u64 {
        match self.expectation(Slot(slot)) {
            Some(expectation) => self.key.of_expectation_key(&expectation.key()),
            None => self.key.of_key(&self.flows[slot as usize].key()),
        }
    }

    fn value_hash(&self, slot: u32, hash: u64) -> u64 {
        if let Some(expectation) = self.expectation(Slot(slot)) {
            return self.key.of_expectation(hash, expectation);
        }
        let rare = self.rares.at(self.meta[slot as usize].rare);
        self.key.of_value(hash, &self.flows[slot as usize], rare)
    }

    fn take_slot(&mut self) -> u32 {
        self.slots.take(&mut self.flows, &mut self.meta)
    }

    fn release(&mut self, slot: u32) {
        self.slots.release(&mut self.flows, &mut self.meta, slot);
    }
}

#[cfg(test)]
mod tests;
