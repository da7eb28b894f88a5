//! Expectations: entries of the table like flows, bound to their masters.
//!
//! An expectation replicates if and only if its master does, and ends with it (rule C7). The kernel
//! tells an expectation with the tuple of its master and without its zone, so flows that have a
//! helper can be found by their original tuple alone.

use hashbrown::HashTable;

use super::super::list::{Kind, Meta};
use super::super::slab::Slab;
use super::{Applied, Circumstances, Local, NIL, Slot};
use crate::flow::{EventKind, Expectation, ExpectationEvent, ExpectationKey, Flow, FlowKey, Tuple};
use crate::rules::{Rule, holds};

/// What a table keeps of its expectations.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    entries: Slab<Bound>,
    /// The flows that have a helper, by the hash of their original tuple without its zone.
    masters: HashTable<Expecting>,
    /// How many replicate.
    pub(super) told: u32,
}

/// An expectation and its place among those of its master.
#[derive(Clone, Copy, Debug)]
struct Bound {
    expectation: Expectation,
    /// Slot of the master.
    master: u32,
    /// Slot of the next expectation of the same master.
    next: u32,
}

/// A flow that has a helper.
#[derive(Clone, Copy, Debug)]
struct Expecting {
    hash: u64,
    slot: u32,
    /// Slot of its first expectation.
    first: u32,
}

/// What happens to a master, and so to its expectations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It starts to replicate.
    Enters,
    /// It replicates no longer.
    IsHeld,
    /// It has ended, or lost its helper.
    Ends,
}

/// Whose an expectation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Master {
    /// The flow in this slot.
    Known(Slot),
    /// No flow of the table that has a helper.
    Unknown,
    /// One of several flows with one tuple in different zones, and the kernel does not say which.
    Ambiguous,
}

impl Expectations {
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.masters.clear();
        self.told = 0;
    }

    fn master_mut(&mut self, hash: u64, slot: u32) -> Option<&mut Expecting> {
        self.masters.find_mut(hash, |master| master.slot == slot)
    }
}

impl Local {
    /// Number of expectations that replicate.
    #[must_use]
    pub fn expectations(&self) -> u32 {
        self.expectations.told
    }

    /// The expectation in a slot, if one is there.
    #[must_use]
    pub fn expectation(&self, slot: Slot) -> Option<&Expectation> {
        self.bound(slot.0).map(|bound| &bound.expectation)
    }

    /// The slot of the master of the expectation in a slot.
    #[must_use]
    pub fn master_of(&self, slot: Slot) -> Option<Slot> {
        self.bound(slot.0).map(|bound| Slot(bound.master))
    }

    /// The expectation with a key.
    #[must_use]
    pub fn find_expectation(&self, key: &ExpectationKey) -> Option<Slot> {
        let hash = self.key.of_expectation_key(key);
        self.index
            .find(&self.meta, hash, |slot| {
                self.expectation(Slot(slot))
                    .is_some_and(|held| held.key() == *key)
            })
            .map(Slot)
    }

    /// Calls `visit` with the slots of the expectations of a flow.
    pub fn visit_expectations(&self, master: Slot, mut visit: impl FnMut(Slot, &Expectation)) {
        if !self.has_helper(master.0) {
            return;
        }
        let hash = self.tuple_hash(&self.flows[master.0 as usize].orig);
        let found = self
            .expectations
            .masters
            .find(hash, |at| at.slot == master.0);
        let mut at = found.map_or(NIL, |master| master.first);
        while let Some(bound) = self.bound(at) {
            visit(Slot(at), &bound.expectation);
            at = bound.next;
        }
    }

    /// Which flow with a helper has this original tuple, in whatever zone.
    #[must_use]
    pub fn master(&self, tuple: &Tuple) -> Master {
        let mut masters = self.masters_of(tuple);
        match (masters.next(), masters.next()) {
            (None, _) => Master::Unknown,
            (Some(slot), None) => Master::Known(Slot(slot)),
            (Some(_), Some(_)) => Master::Ambiguous,
        }
    }

    /// Takes an expectation in, or what the kernel says anew of one, told by an event or a listing.
    /// `master` is what [`Local::master`] knows.
    pub fn expect(&mut self, event: &ExpectationEvent, master: Slot, at: Circumstances) -> Applied {
        let Some(flow) = self.flow(master) else {
            return Applied::Same;
        };
        let expectation = Expectation {
            zone: zone_of(flow),
            ..event.expectation
        };
        let key = expectation.key();
        let hash = self.key.of_expectation_key(&key);
        let Some(slot) = self.find_expectation(&key) else {
            return self.begin_expectation(event.kind, &expectation, hash, master, at);
        };
        let meta = &self.meta[slot.0 as usize];
        if event.kind == EventKind::Listed && meta.round == at.round && holds(Rule::ListingLate) {
            return Applied::Same;
        }
        if self.master_of(slot) != Some(master) {
            // Of another master: the kernel has dropped the old one and told us, or we missed it.
            self.end(slot, hash, at);
            let _ended = self.begin_expectation(event.kind, &expectation, hash, master, at);
            return Applied::Changed;
        }
        self.change_expectation(event.kind, &expectation, slot.0, hash, at)
    }

    /// Ends an expectation, told by an event. Where flows with one tuple expect in several zones
    /// the id tells them apart.
    pub fn unexpect(&mut self, event: &ExpectationEvent, at: Circumstances) -> Applied {
        let ended = &event.expectation;
        let is_ambiguous = self.master(&ended.master) == Master::Ambiguous;
        let keys = self.masters_of(&ended.master).map(|master| ExpectationKey {
            tuple: ended.tuple,
            zone: zone_of(&self.flows[master as usize]),
        });
        let found = keys
            .filter_map(|key| self.find_expectation(&key))
            .find(|&slot| {
                self.bound(slot.0).is_some_and(|bound| {
                    bound.expectation.master == ended.master
                        && (!is_ambiguous || bound.expectation.id == ended.id)
                })
            });
        match found {
            None => Applied::Same,
            Some(slot) => self.end(slot, self.key_hash(slot.0), at),
        }
    }

    fn begin_expectation(
        &mut self,
        kind: EventKind,
        expectation: &Expectation,
        hash: u64,
        master: Slot,
        at: Circumstances,
    ) -> Applied {
        if self.tracked >= self.flows_max {
            return Applied::Full;
        }
        let tuple = self.tuple_hash(&self.flows[master.0 as usize].orig);
        let slot = self.take_slot();
        let Some(expecting) = self.expectations.master_mut(tuple, master.0) else {
            self.release(slot);
            return Applied::Same;
        };
        let next = std::mem::replace(&mut expecting.first, slot);
        let rare = self.expectations.entries.insert(Bound {
            expectation: *expectation,
            master: master.0,
            next,
        });
        self.meta[slot as usize] = Meta {
            seen: at.now,
            rare,
            announced: at.now,
            kind: Kind::HeldExpectation,
            round: at.round,
            era: if kind == EventKind::New {
                at.era
            } else {
                at.found_era
            },
            ..Meta::FREE
        };
        self.index.insert(&mut self.meta, hash, slot);
        self.tracked += 1;
        if self.replicates(master) {
            self.enter(slot, hash, at.now);
            return Applied::Changed;
        }
        Applied::Same
    }

    fn change_expectation(
        &mut self,
        kind: EventKind,
        expectation: &Expectation,
        slot: u32,
        hash: u64,
        at: Circumstances,
    ) -> Applied {
        let old_value = self.value_hash(slot, hash);
        let rare = self.meta[slot as usize].rare;
        let known = self
            .bound(slot)
            .map_or(0, |bound| bound.expectation.timeout_secs);
        let touch = self.is_half_over(slot, known, expectation.timeout_secs, at.now);
        if let Some(bound) = self.expectations.entries.at_mut(rare) {
            bound.expectation = *expectation;
        }
        let meta = &mut self.meta[slot as usize];
        (meta.seen, meta.round) = (at.now, at.round);
        if kind == EventKind::New {
            meta.era = at.era;
        }
        if meta.kind != Kind::Expectation {
            return Applied::Same;
        }
        let new_value = self.value_hash(slot, hash);
        if new_value == old_value && !touch && kind != EventKind::New {
            return Applied::Same;
        }
        self.digest.replace(hash, old_value, new_value);
        self.announce(slot, at.now);
        Applied::Changed
    }

    /// Takes an expectation whose slot is about to be released out of its master's.
    pub(super) fn forget_expectation(&mut self, slot: u32) {
        let Some(&Bound { master, next, .. }) = self.bound(slot) else {
            return;
        };
        let hash = self.tuple_hash(&self.flows[master as usize].orig);
        if let Some(expecting) = self.expectations.master_mut(hash, master)
            && expecting.first == slot
        {
            expecting.first = next;
        } else {
            let first = self.first_of(hash, master);
            let mut at = first;
            while let Some(&Bound { next: after, .. }) = self.bound(at) {
                if after == slot {
                    let rare = self.meta[at as usize].rare;
                    if let Some(bound) = self.expectations.entries.at_mut(rare) {
                        bound.next = next;
                    }
                    break;
                }
                at = after;
            }
        }
        let Meta { kind, rare, .. } = self.meta[slot as usize];
        self.expectations.told -= u32::from(kind.replicates());
        self.expectations.entries.release(rare);
    }

    /// A flow may have got a helper, or lost it, and with it what it expected.
    pub(super) fn follow_helper(&mut self, slot: u32, had_helper: bool, at: Circumstances) {
        let has_helper = self.has_helper(slot);
        if had_helper && !has_helper {
            self.follow_end(slot, at);
        } else if has_helper && !had_helper {
            let hash = self.tuple_hash(&self.flows[slot as usize].orig);
            let master = Expecting {
                hash,
                slot,
                first: NIL,
            };
            self.expectations
                .masters
                .insert_unique(hash, master, |master| master.hash);
        }
    }

    /// A flow has ended, or lost its helper: nothing is expected for it any more.
    pub(super) fn follow_end(&mut self, slot: u32, at: Circumstances) {
        self.follow_master(slot, Fate::Ends, at);
        let hash = self.tuple_hash(&self.flows[slot as usize].orig);
        let is_it = |master: &Expecting| master.slot == slot;
        if let Ok(found) = self.expectations.masters.find_entry(hash, is_it) {
            found.remove();
        }
    }

    /// What a master does its expectations do.
    pub(super) fn follow_master(&mut self, master: u32, fate: Fate, at: Circumstances) {
        if fate != Fate::Ends && !self.has_helper(master) {
            return;
        }
        let hash = self.tuple_hash(&self.flows[master as usize].orig);
        let mut slot = self.first_of(hash, master);
        while let Some(&Bound { next, .. }) = self.bound(slot) {
            let hash = self.key_hash(slot);
            match fate {
                Fate::Enters => self.enter(slot, hash, at.now),
                Fate::IsHeld => self.hold(slot, hash, self.value_hash(slot, hash), at),
                Fate::Ends => {
                    self.end(Slot(slot), hash, at);
                }
            }
            slot = next;
        }
    }

    pub(super) fn has_helper(&self, slot: u32) -> bool {
        let rare = self.rares.at(self.meta[slot as usize].rare);
        rare.is_some_and(|rare| rare.helper.is_some())
    }

    fn first_of(&self, hash: u64, master: u32) -> u32 {
        let found = self.expectations.masters.find(hash, |at| at.slot == master);
        found.map_or(NIL, |master| master.first)
    }

    fn bound(&self, slot: u32) -> Option<&Bound> {
        let meta = self.meta.get(slot as usize)?;
        self.expectations
            .entries
            .at(meta.rare)
            .filter(|_| meta.kind.is_expectation())
    }

    fn masters_of(&self, tuple: &Tuple) -> impl Iterator<Item = u32> {
        let tuple = *tuple;
        self.expectations
            .masters
            .iter_hash(self.tuple_hash(&tuple))
            .map(|master| master.slot)
            .filter(move |&slot| self.flows[slot as usize].orig == tuple)
    }

    fn tuple_hash(&self, tuple: &Tuple) -> u64 {
        self.key.of_key(&FlowKey {
            orig: *tuple,
            zone: 0,
        })
    }
}

fn zone_of(master: &Flow) -> u16 {
    master.zone.of_orig()
}

#[cfg(test)]
mod tests;
