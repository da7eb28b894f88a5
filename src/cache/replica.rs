//! A replica: what a peer's kernel tracks, as far as the peer has told.
//!
//! Every entry, flow or expectation, carries the stamp of the datagram that told it; the higher stamp wins, in any order
//! of arrival. docs/protocol.md section 6 states the rules (T4, R3, R5, R6, M3).

use super::ahead;
use super::chunks::Chunks;
use super::index::{Chained, Index};
use super::rares::Rares;
use super::slab::Slab;
use super::slots::{Linked, Slots};
use super::{Changes, Digest, HashKey, NIL, Secs, Slot};
use crate::flow::{Expectation, ExpectationKey, Flow, FlowKey, Rare};
use crate::rules::{Rule, holds};

mod whole;

/// The table of one peer's flows.
#[derive(Debug)]
pub struct Replica {
    flows: Chunks<Flow>,
    meta: Chunks<Meta>,
    slots: Slots,
    rares: Rares,
    expectations: Slab<Expectation>,
    index: Index,
    key: HashKey,
    digest: Digest,
    changes: Changes,
    flows_max: u32,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    /// Stamp of the datagram that told the flow; 0 for a free slot.
    stamp: u64,
    /// When the peer's kernel told the timeout, by our clock.
    seen: Secs,
    /// Index of the rare attributes, or of the expectation; the next free slot in a free one.
    rare: u32,
    /// The next entry of the index's chain.
    chain: u32,
    /// It is an expectation, and the slab's flow means nothing.
    is_expectation: bool,
}

const _: () = assert!(size_of::<Meta>() == 24);

impl Meta {
    const FREE: Self = Self {
        stamp: 0,
        seen: 0,
        rare: NIL,
        chain: NIL,
        is_expectation: false,
    };
}

impl Linked for Meta {
    fn free(next: u32) -> Self {
        Self {
            rare: next,
            ..Self::FREE
        }
    }

    fn next_free(&self) -> u32 {
        self.rare
    }
}

impl Chained for Meta {
    fn chain(&self) -> u32 {
        self.chain
    }

    fn set_chain(&mut self, next: u32) {
        self.chain = next;
    }
}

/// What is stored.
#[derive(Clone, Copy, Debug)]
enum Entry<'a> {
    Flow(&'a Flow, &'a Rare),
    Expectation(&'a Expectation),
}

/// What storing a flow did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// It is in the table.
    Yes,
    /// What is there is as new or newer.
    Stale,
    /// `flows_max` is reached: refused, nothing is evicted for it (rule R5).
    Full,
}

impl Replica {
    /// An empty replica, hashed with the key of the peer it belongs to.
    #[must_use]
    pub fn new(key: HashKey, flows_max: u32) -> Self {
        Self {
            flows: Chunks::default(),
            meta: Chunks::default(),
            slots: Slots::default(),
            rares: Rares::default(),
            expectations: Slab::default(),
            index: Index::new(flows_max),
            key,
            digest: Digest::default(),
            changes: Changes::default(),
            flows_max,
        }
    }

    /// What has changed, once somebody follows.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The same, to read it.
    pub fn changes_mut(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// The key of the table's hashes.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.key
    }

    /// Count and sums.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Slots to walk.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.meta.len()
    }

    /// The flow in a slot with its rare attributes, if one is there.
    #[must_use]
    pub fn flow(&self, slot: Slot) -> Option<(&Flow, Option<&Rare>)> {
        let meta = self
            .meta
            .get(slot.0 as usize)
            .filter(|meta| meta.stamp != 0 && !meta.is_expectation)?;
        Some((&self.flows[slot.0 as usize], self.rares.at(meta.rare)))
    }

    /// The expectation in a slot, if one is there.
    #[must_use]
    pub fn expectation(&self, slot: Slot) -> Option<&Expectation> {
        let meta = self.meta.get(slot.0 as usize)?;
        self.expectations
            .at(meta.rare)
            .filter(|_| meta.stamp != 0 && meta.is_expectation)
    }

    /// The expectation with a key.
    #[must_use]
    pub fn find_expectation(&self, key: &ExpectationKey) -> Option<Slot> {
        self.find_expectation_hashed(self.key.of_expectation_key(key), key)
            .map(Slot)
    }

    /// Number of expectations among the entries.
    #[must_use]
    pub fn expectations(&self) -> u32 {
        self.expectations.len()
    }

    /// The flow with a key.
    #[must_use]
    pub fn find(&self, key: &FlowKey) -> Option<Slot> {
        self.find_hashed(self.key.of_key(key), key).map(Slot)
    }

    /// Stamp of the entry in a slot; 0 for none.
    #[must_use]
    pub fn stamp(&self, slot: Slot) -> u64 {
        self.meta.get(slot.0 as usize).map_or(0, |meta| meta.stamp)
    }

    /// Calls `visit` with the key hash and value hash of every entry of a digest leaf, in no order.
    pub fn visit_leaf(&self, leaf: u16, mut visit: impl FnMut(u64, u64)) {
        self.index.visit_leaf(&self.meta, leaf, |slot| {
            let hash = self.key_hash(slot);
            if hash >> 48 == u64::from(leaf) {
                visit(hash, self.value_hash(slot, hash));
            }
        });
    }

    /// What is left at least of the timeout of the entry in a slot.
    #[must_use]
    pub fn timeout_left(&self, slot: Slot, now: Secs) -> Secs {
        let age = now.saturating_sub(self.meta.get(slot.0 as usize).map_or(0, |meta| meta.seen));
        let of_flow = self.flow(slot).map(|(flow, _)| flow.timeout_secs);
        let told = of_flow.or_else(|| Some(self.expectation(slot)?.timeout_secs));
        told.unwrap_or(0).saturating_sub(age)
    }

    /// Prepares for the next records, [`AHEAD`](ahead::AHEAD) at most, of these key hashes.
    pub(crate) fn look_ahead(&self, hashes: &[u64]) {
        ahead::touch(&self.index, &self.flows, &self.meta, hashes, |_| [NIL; 2]);
    }

    /// Stores a flow unless a newer word on it is there. `seen` is when the peer's kernel told the
    /// timeout, by our clock; `hash` the hash of the flow's key.
    pub fn store(&mut self, hash: u64, flow: &Flow, rare: &Rare, stamp: u64, seen: Secs) -> Stored {
        let found = self.find_hashed(hash, &flow.key());
        self.put(hash, Entry::Flow(flow, rare), found, stamp, seen)
    }

    /// Stores an expectation under the same conditions.
    pub fn store_expectation(
        &mut self,
        hash: u64,
        expectation: &Expectation,
        stamp: u64,
        seen: Secs,
    ) -> Stored {
        let found = self.find_expectation_hashed(hash, &expectation.key());
        self.put(hash, Entry::Expectation(expectation), found, stamp, seen)
    }

    fn put(
        &mut self,
        hash: u64,
        entry: Entry<'_>,
        found: Option<u32>,
        stamp: u64,
        seen: Secs,
    ) -> Stored {
        debug_assert!(stamp > 0, "stamps start at 1");
        let value = match entry {
            Entry::Flow(flow, rare) => self.key.of_value(hash, flow, Some(rare)),
            Entry::Expectation(expectation) => self.key.of_expectation(hash, expectation),
        };
        let slot = if let Some(slot) = found {
            if self.meta[slot as usize].stamp >= stamp && holds(Rule::R3Stamp) {
                return Stored::Stale;
            }
            let old_value = self.value_hash(slot, hash);
            if old_value == value && !holds(Rule::R3Renew) {
                return Stored::Yes;
            }
            self.digest.replace(hash, old_value, value);
            slot
        } else {
            if self.digest.flows() >= u64::from(self.flows_max) {
                return Stored::Full;
            }
            let slot = self.take_slot();
            self.meta[slot as usize] = Meta::FREE;
            self.digest.add(hash, value);
            self.index.insert(&mut self.meta, hash, slot);
            slot
        };
        let meta = &mut self.meta[slot as usize];
        (meta.stamp, meta.seen) = (stamp, seen);
        match entry {
            Entry::Flow(flow, rare) => {
                meta.rare = self.rares.set(meta.rare, rare);
                self.flows[slot as usize] = *flow;
                self.changes.push(flow.key(), false);
            }
            Entry::Expectation(expectation) => {
                meta.is_expectation = true;
                match self.expectations.at_mut(meta.rare) {
                    Some(held) => *held = *expectation,
                    None => meta.rare = self.expectations.insert(*expectation),
                }
            }
        }
        Stored::Yes
    }

    /// Removes every entry of a key hash that is older than a tombstone's stamp (rule T4); returns
    /// how many.
    pub fn remove(&mut self, hash: u64, stamp: u64) -> u32 {
        let mut removed = 0;
        loop {
            let is_older = |slot: u32| {
                (self.meta[slot as usize].stamp < stamp || !holds(Rule::T4Older))
                    && self.key_hash(slot) == hash
            };
            let Some(slot) = self.index.find(&self.meta, hash, is_older) else {
                return removed;
            };
            self.index.remove(&mut self.meta, hash, slot);
            self.release(slot, hash);
            removed += 1;
        }
    }

    fn find_hashed(&self, hash: u64, key: &FlowKey) -> Option<u32> {
        self.index.find(&self.meta, hash, |slot| {
            !self.meta[slot as usize].is_expectation && self.flows[slot as usize].key() == *key
        })
    }

    fn find_expectation_hashed(&self, hash: u64, key: &ExpectationKey) -> Option<u32> {
        self.index.find(&self.meta, hash, |slot| {
            let held = self.expectation(Slot(slot));
            held.is_some_and(|held| held.key() == *key)
        })
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

    fn release(&mut self, slot: u32, hash: u64) {
        let value = self.value_hash(slot, hash);
        self.digest.remove(hash, value);
        let Meta {
            rare,
            is_expectation,
            ..
        } = self.meta[slot as usize];
        if is_expectation {
            self.expectations.release(rare);
        } else {
            self.rares.release(rare);
            self.changes.push(self.flows[slot as usize].key(), true);
        }
        self.slots.release(&mut self.flows, &mut self.meta, slot);
    }
}

#[cfg(test)]
mod tests;
