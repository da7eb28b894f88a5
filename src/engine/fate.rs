//! What a commit has to do about one flow of a replica, by what this node knows without asking its
//! kernel.

use std::time::Instant;

use crate::cache::{Local, Replica, Secs, Slot};
use crate::flow::{Flow, FlowKey};
use crate::replication::Peer;

/// What is to be done about a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// A peer of more authority has it, and has said how.
    Covered,
    /// It has ended with its owner, who has been silent for longer than it lives.
    Expired,
    /// The kernel has it, as it should be and tracked since this node last lost the active role.
    Right,
    /// The kernel has it as it should be, from before that: its window is stale.
    Stale(Slot, Flow),
    /// The kernel has it, translated or zoned otherwise.
    Different(Slot, Flow),
    /// The kernel does not have it.
    Missing,
}

/// By what it is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    /// The replica that the flow is of.
    pub(super) replica: &'a Replica,
    /// The replicas of peers with more authority.
    pub(super) before: &'a [&'a Replica],
    /// How long the replica's owner has been silent, seconds; 0 if it is heard.
    pub(super) silent_secs: u32,
    /// The era in which a kernel entry is born now.
    pub(super) era: u8,
    pub(super) secs: Secs,
    pub(super) grace_secs: u32,
}

impl Judge<'_> {
    /// What is to be done about the flow in a slot of the replica, and what is left of its timeout.
    pub(super) fn fate(&self, local: &Local, slot: Slot, flow: &Flow) -> (Fate, Secs) {
        let key = flow.key();
        if self.before.iter().any(|other| other.find(&key).is_some()) {
            return (Fate::Covered, 0);
        }
        let left = self.replica.timeout_left(slot, self.secs);
        if left == 0 && self.silent_secs > flow.timeout_secs.saturating_add(self.grace_secs) {
            return (Fate::Expired, left);
        }
        let held = local.find(&key);
        let Some((slot, held)) = held.and_then(|slot| Some((slot, *local.flow(slot)?))) else {
            return (Fate::Missing, left);
        };
        let fate = if held.reply != flow.reply || held.zone != flow.zone {
            Fate::Different(slot, held)
        } else if local.era(slot) != self.era {
            Fate::Stale(slot, held)
        } else {
            Fate::Right
        };
        (fate, left)
    }
}

/// How long a peer has been silent, seconds; 0 if it is heard.
pub(super) fn silent_secs(peer: &Peer, now: Instant) -> u32 {
    if peer.is_silent(now) {
        u32::try_from(peer.silent_for(now).as_secs()).unwrap_or(u32::MAX)
    } else {
        0
    }
}

/// What has the reply tuple of a flow that the kernel does not have: an entry born of a stray packet
/// of the server, or the flow itself the other way round.
pub(super) fn owner_of_reply(local: &Local, flow: &Flow) -> Option<Slot> {
    local.find(&FlowKey {
        orig: flow.reply,
        zone: flow.zone.of_reply(),
    })
}
