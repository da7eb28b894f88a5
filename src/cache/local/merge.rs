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
        if event.flow.id != old.id {
            // Another life, whose birth was missed: how the sequence numbers of the one before were
            // shifted would corrupt its stream.
            rare.seqadj_orig = None;
            rare.seqadj_reply = None;
            rare.synproxy = None;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::HashKey;
    use crate::cache::local::Origin;
    use crate::flow::Rare;
    use crate::flow::rare::{HelperName, SeqAdj};

    const AT: Circumstances = Circumstances {
        now: 10,
        listeners: 1,
        round: 1,
        era: 1,
        found_era: 0,
        born: Origin::Own,
        found: Origin::Own,
        shares: false,
        is_echo: false,
    };

    /// What is held of a flow of id 1, adjusted, with a helper, after an update that says `id`.
    fn updated(id: u32) -> Rare {
        let mut event = FlowEvent {
            kind: EventKind::New,
            present: Present(Present::STATUS | Present::SEQADJ | Present::HELPER),
            ..FlowEvent::default()
        };
        event.flow.id = 1;
        event.rare.seqadj_orig = Some(SeqAdj::default());
        event.rare.helper = HelperName::new(b"ftp");
        let mut local = Local::new(HashKey([1, 2]), 10, 10);
        local.apply(&event, AT, |_, _| true);
        (event.kind, event.present) = (EventKind::Update, Present(Present::STATUS));
        (event.flow.id, event.rare) = (id, Rare::default());
        local.apply(&event, AT, |_, _| true);
        let slot = local.find(&event.flow.key()).expect("is there");
        *local.rare(slot).expect("has a helper")
    }

    #[test]
    fn an_update_of_another_life_ends_the_adjustment_of_the_one_before() {
        assert_eq!(updated(1).seqadj_orig, Some(SeqAdj::default()));
        assert_eq!(updated(2).seqadj_orig, None);
        assert_eq!(updated(2).helper, HelperName::new(b"ftp"));
    }
}
