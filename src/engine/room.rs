//! Room in the kernel's table.
//!
//! At `nf_conntrack_max` a create gets ENOMEM and evicts nothing, so a commit stops before it. The
//! count is told every second or so; in between this node's own creates and deletes are counted
//! along, and an ENOMEM all the same (others fill the table too) ends the creates until the next
//! word.

use super::Engine;
use super::status::Role;
use crate::ctnetlink::host::{Host, Room};

/// What is known of the room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct RoomLeft {
    told: Option<Room>,
    /// Creates under way or done since, minus deletes.
    since: i64,
    /// The kernel has said that there is none.
    is_used_up: bool,
}

impl RoomLeft {
    /// The kernel's word, newer than all that is known.
    pub(super) fn tell(&mut self, room: Option<Room>) {
        *self = Self {
            told: room,
            ..Self::default()
        };
    }

    /// Takes room for one flow; false if there is none. Unknown room has no end.
    pub(super) fn take(&mut self) -> bool {
        let has_room = !self.is_used_up && self.flows_left().is_none_or(|left| left > 0);
        self.since += i64::from(has_room);
        has_room
    }

    /// Gives room back: a flow was deleted, or was not created.
    pub(super) fn give(&mut self, flows: u64) {
        self.since = self.since.saturating_sub_unsigned(flows);
    }

    /// The kernel has refused a flow because there is no room.
    pub(super) fn use_up(&mut self) {
        self.is_used_up = true;
    }

    /// Flows that still fit; `None` if nobody can tell.
    pub(super) fn flows_left(&self) -> Option<u64> {
        let room = self.told?;
        Some(u64::from(room.max).saturating_sub(self.count()?))
    }

    /// Flows in the table.
    pub(super) fn count(&self) -> Option<u64> {
        let count = i64::from(self.told?.count).saturating_add(self.since);
        Some(u64::try_from(count).unwrap_or(0))
    }

    /// Most flows that the table takes.
    pub(super) fn max(&self) -> Option<u64> {
        self.told.map(|room| room.max.into())
    }
}

/// What `nf_conntrack_max` should be for this many flows: a tenth more, rounded up to thousands, so
/// that new connections fit too.
pub(super) fn max_for(flows: u64) -> u64 {
    flows
        .saturating_add(flows / 10)
        .div_ceil(1000)
        .saturating_mul(1000)
}

impl Engine {
    /// What the kernel has for flows besides its table: at the start, and every second or so.
    pub fn handle_host(&mut self, host: Host) {
        self.room.tell(host.room);
        self.rules = host.rules;
    }

    /// Why the table has no room for a promotion, in words; `None` if it has, or if nobody can tell.
    ///
    /// A flow that is here already, left from an earlier term, is counted twice: `promote --dry-run`
    /// counts flow by flow.
    pub(super) fn room_cause(&self) -> Option<String> {
        if self.role != Role::Standby {
            return None;
        }
        let (max, count) = (self.room.max()?, self.room.count()?);
        let replicas = self.peers().iter().filter_map(|peer| peer.replica());
        let held: u64 = replicas.map(|replica| replica.digest().flows()).sum();
        let needed = count.saturating_add(held);
        (needed > max).then(|| {
            format!(
                "the kernel's table has no room for the replicas: {count} flows here and {held} of \
                 them are more than net.netfilter.nf_conntrack_max, which is {max}; run `sysctl -w \
                 net.netfilter.nf_conntrack_max={}` on every node",
                max_for(needed)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_until_there_is_none_and_given_back() {
        let mut room = RoomLeft::default();
        assert!(room.take(), "nobody knows of an end");
        room.tell(Some(Room { max: 5, count: 3 }));
        assert_eq!([room.take(), room.take(), room.take()], [true, true, false]);
        assert_eq!(room.count(), Some(5), "what was refused does not count");
        room.give(1);
        assert!(room.take());
        room.give(2);
        room.use_up();
        assert!(!room.take(), "the kernel knows better");
        room.tell(Some(Room { max: 5, count: 4 }));
        assert!(room.take(), "until it says otherwise");
    }

    #[test]
    fn a_table_that_is_overfull_has_no_room() {
        let mut room = RoomLeft::default();
        room.tell(Some(Room { max: 5, count: 9 }));
        assert_eq!(room.flows_left(), Some(0));
        assert!(!room.take());
        room.give(20);
        assert_eq!(room.count(), Some(0));
    }

    #[test]
    fn the_value_to_set_leaves_room_to_grow() {
        assert_eq!(max_for(300_000), 330_000);
        assert_eq!(max_for(262_145), 289_000);
        assert_eq!(max_for(1), 1_000);
    }
}
