//! What is known of a flow and what is told of it, made one.

use super::{Applied, Circumstances, Local, NIL, Secs, Slot};
use crate::flow::{EventKind, Flow, FlowEvent, Present, Status};

impl Local {
    /// Takes over what the kernel has shown of a flow and tells in no event: how a NAT helper has
    /// shifted its sequence numbers. Everything else an event may have told later.
    pub fn adjust(
        &mut self,
        slot: Slot,
        shown: &FlowEvent,
        at: Circumstances,
        worth: impl Fn(&Flow, Secs) -> bool,
    ) -> Applied {
        let mut flow = self.flows[slot.0 as usize];
        // Different ids prove different lives; equal ones prove nothing, and cannot be helped.
        if !shown.present.has(Present::SEQADJ) || shown.flow.id != flow.id {
            return Applied::Same;
        }
        flow.status.0 |= Status::SEQ_ADJUST;
        let told = FlowEvent {
            kind: EventKind::Update,
            present: Present(Present::SEQADJ | Present::STATUS),
            port_id: 0,
            flow,
            rare: shown.rare,
        };
        // It is no event: what a listing says of the flow still counts.
        let round = self.meta[slot.0 as usize].round;
        let applied = self.change(&told, slot, self.key_hash(slot.0), at, worth);
        self.meta[slot.0 as usize].round = round;
        applied
    }

    /// Writes what an event carried over what is there. A new life says everything. A listing does
    /// too, but for offloaded flows, which show neither timeout nor protocol state. An attribute
    /// that an update lacks is unchanged, except for the mark.
    pub(super) fn merge(&mut self, slot: u32, event: &FlowEvent, at: Circumstances) {
        let meta = &mut self.meta[slot as usize];
        let flow = &mut self.flows[slot as usize];
        meta.round = at.round;
        let old = *flow;
        *flow = event.flow;
        if event.kind == EventKind::New {
            meta.seen = at.now;
            meta.era = at.era;
            meta.rare = self.rares.set(meta.rare, &event.rare);
            return;
        }
        if !event.present.has(Present::PROTOINFO) {
            flow.proto = old.proto;
        }
        if !event.present.has(Present::STATUS) {
            flow.status = old.status;
        }
        if event.present.has(Present::TIMEOUT) {
            meta.seen = at.now;
        } else {
            flow.timeout_secs = old.timeout_secs;
        }
        if event.kind == EventKind::Listed {
            meta.rare = self.rares.set(meta.rare, &event.rare);
            return;
        }
        if meta.rare == NIL && event.rare.is_empty() {
            return;
        }
        let mut rare = self.rares.at(meta.rare).copied().unwrap_or_default();
        if event.present.has(Present::LABELS) {
            rare.labels = event.rare.labels;
        }
        if event.present.has(Present::HELPER) {
            rare.helper = event.rare.helper;
        }
        if event.present.has(Present::SEQADJ) {
            rare.seqadj_orig = event.rare.seqadj_orig.or(rare.seqadj_orig);
            rare.seqadj_reply = event.rare.seqadj_reply.or(rare.seqadj_reply);
        }
        if event.present.has(Present::SYNPROXY) {
            rare.synproxy = event.rare.synproxy;
        }
        if event.present.has(Present::MASTER) {
            rare.master = event.rare.master;
        }
        meta.rare = self.rares.set(meta.rare, &rare);
    }

    /// True if half of the timeout that the peers know is over and the kernel tells a later end:
    /// packets have refreshed it, which makes no event.
    pub(super) fn is_half_over(&self, slot: u32, known: Secs, told: Secs, now: Secs) -> bool {
        let meta = &self.meta[slot as usize];
        let since_announced = now.saturating_sub(meta.announced);
        since_announced > known / 2 && told > known.saturating_sub(now.saturating_sub(meta.seen))
    }
}
