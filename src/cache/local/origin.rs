//! Whose a flow is (hot standby): the kernel of a node holds flows that it tracks itself, and
//! copies of those that a peer tracks. Only the first are told to the peers.
//!
//! The origin outlives listings and updates: a listing that names a copy does not make it ours
//! (docs/architecture.md, "Hot standby").

use super::super::list::{Kind, Meta};
use super::expectations::Fate;
use super::{Applied, Circumstances, Local, Slot};
use crate::cache::Secs;
use crate::flow::{EventKind, Flow, FlowEvent};
use crate::rules::{Rule, holds};

/// Whose a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Origin {
    /// This node's.
    #[default]
    Own = 0,
    /// A copy of a peer's, made by our writer.
    Derived = 1,
    /// Such a copy that packets have changed here while this node was active: told as well.
    Shared = 2,
    /// A listing found it, and nobody has said yet whose it is. Not told.
    Found = 3,
}

impl Origin {
    /// True if the peers hear of such a flow.
    #[must_use]
    pub fn is_told(self) -> bool {
        matches!(self, Self::Own | Self::Shared) || !holds(Rule::HotTold)
    }

    /// True if our writer made the entry for a peer's flow.
    #[must_use]
    pub fn is_copy(self) -> bool {
        matches!(self, Self::Derived | Self::Shared)
    }

    /// What an event about a flow of this origin makes of it.
    fn after(self, event: &FlowEvent, at: Circumstances) -> Self {
        match (event.kind, self) {
            (EventKind::New, _) => at.born,
            (EventKind::Update, Self::Derived) if event.port_id == 0 && at.shares => Self::Shared,
            (EventKind::Update | EventKind::Listed | EventKind::Destroy, origin) => origin,
        }
    }
}

impl Meta {
    /// Of a flow, in whose place a tombstone keeps its mask.
    pub(super) fn origin(&self) -> Origin {
        match self.mask {
            1 => Origin::Derived,
            2 => Origin::Shared,
            3 => Origin::Found,
            _ => Origin::Own,
        }
    }

    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.mask = origin as u8;
    }
}

impl Local {
    /// Whose the flow in a slot is.
    #[must_use]
    pub fn origin(&self, slot: Slot) -> Origin {
        self.at(slot).origin()
    }

    /// What happened to copies, once somebody follows.
    #[must_use]
    pub fn changes(&self) -> &super::Changes {
        &self.changes
    }

    /// The same, to read it.
    pub fn changes_mut(&mut self) -> &mut super::Changes {
        &mut self.changes
    }

    /// True if the kernel entry in a slot is not older than this node's last loss of the active
    /// role. Copies never are: our writer makes them so that any packet passes.
    #[must_use]
    pub fn is_fresh(&self, slot: Slot, era: u8) -> bool {
        self.origin(slot).is_copy() || self.era(slot) == era
    }

    /// Flows that are copies of a peer's.
    #[must_use]
    pub fn copies(&self) -> u32 {
        self.copies
    }

    /// Says whose a flow is; one that is told from now on, or not any more, enters or leaves the
    /// stream.
    pub fn set_origin(
        &mut self,
        slot: Slot,
        origin: Origin,
        at: Circumstances,
        worth: impl Fn(&Flow, Secs) -> bool,
    ) -> Applied {
        let Some(&flow) = self.flow(slot) else {
            return Applied::Same;
        };
        if self.origin(slot) == origin {
            return Applied::Same;
        }
        let hash = self.key.of_key(&flow.key());
        let old_value = self.value_hash(slot.0, hash);
        self.change_origin(slot.0, origin);
        if origin == Origin::Own {
            self.set_era(slot, at.era);
        }
        let meta = &self.meta[slot.0 as usize];
        let is_told = origin.is_told() && worth(&flow, at.now.saturating_sub(meta.announced));
        match (meta.kind == Kind::Flow, is_told) {
            (false, true) => {
                self.enter(slot.0, hash, at.now);
                self.follow_master(slot.0, Fate::Enters, at);
                Applied::Changed
            }
            (true, false) => {
                self.hold(slot.0, hash, old_value, at);
                self.follow_master(slot.0, Fate::IsHeld, at);
                Applied::Changed
            }
            (false, false) | (true, true) => Applied::Same,
        }
    }

    /// What an event makes of a flow's origin; whoever follows hears of it if a copy is concerned.
    pub(super) fn follow_event(&mut self, slot: u32, event: &FlowEvent, at: Circumstances) {
        let before = self.meta[slot as usize].origin();
        let after = before.after(event, at);
        self.change_origin(slot, after);
        if (before != Origin::Own || after != Origin::Own) && !at.is_echo {
            self.changes.push(self.flows[slot as usize].key(), false);
        }
    }

    /// A flow ends; whoever follows hears of it if it is a copy.
    pub(super) fn forget_origin(&mut self, slot: u32, at: Circumstances) {
        if self.meta[slot as usize].origin().is_copy() {
            if !at.is_echo {
                self.changes.push(self.flows[slot as usize].key(), true);
            }
            self.change_origin(slot, Origin::Own);
        }
    }

    pub(super) fn change_origin(&mut self, slot: u32, origin: Origin) {
        let meta = &mut self.meta[slot as usize];
        self.copies -= u32::from(meta.origin().is_copy());
        self.copies += u32::from(origin.is_copy());
        meta.set_origin(origin);
    }
}
