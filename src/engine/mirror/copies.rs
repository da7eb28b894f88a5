//! Hot standby in the mirror: which entries of the kernel's table are copies of a peer's flows.

use super::{GONE_MAX, Mirror};
use crate::cache::local::{Applied, Circumstances, Origin};
use crate::cache::{Secs, Slot};
use crate::flow::{EventKind, Flow, FlowEvent};
use crate::rules::{Rule, holds};

impl Mirror {
    /// Hot standby: whether what is found is this node's own, and whether it carries traffic.
    pub(in crate::engine) fn set_hot(&mut self, finds_own: bool, is_active: bool) {
        self.finds = if finds_own || !holds(Rule::HotFound) {
            Origin::Own
        } else {
            Origin::Found
        };
        self.shares = is_active;
    }

    /// Number of the current, or last, listing.
    pub(in crate::engine) fn round(&self) -> u8 {
        self.round
    }

    /// Says whose a flow is. True if the peers must hear of it.
    pub(in crate::engine) fn set_origin(
        &mut self,
        slot: Slot,
        origin: Origin,
        secs: Secs,
        listeners: u8,
    ) -> bool {
        let at = self.circumstances(secs, listeners);
        let policy = &self.policy;
        let worth = |flow: &Flow, age| policy.replicates(flow, age).is_ok();
        self.local.set_origin(slot, origin, at, worth) == Applied::Changed
    }

    /// True if a flow begins or ends at this node itself.
    pub(in crate::engine) fn is_endpoint_of(&self, flow: &Flow) -> bool {
        let ends = [flow.orig.src_ip(), flow.reply.src_ip()];
        ends.iter().any(|&end| self.addresses.contains(end))
    }

    /// An event that a write of ours has caused. What the keeper creates is a copy; what a commit
    /// creates is ours if this node is active.
    pub(super) fn on_echo(&mut self, event: &FlowEvent, at: &mut Circumstances) {
        (at.born, at.found) = (self.finds, self.finds);
        if self.shares {
            at.born = Origin::Own;
        }
        let key = event.flow.key();
        let hash = self.local.hash_key().of_key(&key);
        if self.writes.creates(hash, &key) {
            (at.born, at.found) = (Origin::Derived, Origin::Derived);
        }
        at.is_echo = self.writes.on_event(hash, &key, event.kind);
    }

    /// Remembers an end while second looks after a promotion ask.
    pub(super) fn note_end(&mut self, event: &FlowEvent) {
        if event.kind == EventKind::Destroy
            && let Some(ended) = &mut self.ended
            && ended.len() < GONE_MAX
        {
            let hash = self.local.hash_key().of_key(&event.flow.key());
            let is_it = |&ended: &u64| ended == hash;
            ended.entry(hash, is_it, |&ended| ended).or_insert(hash);
        }
    }

    /// What a peer's policy lets through is kept here, whatever ours says.
    pub(super) fn is_copy(&self, event: &FlowEvent, at: Circumstances) -> bool {
        let is_held_copy = |slot| self.local.origin(slot).is_copy();
        at.born == Origin::Derived
            || at.found == Origin::Derived
            || (self.local.copies() > 0
                && self.local.find(&event.flow.key()).is_some_and(is_held_copy))
    }
}
