//! What the keeper has asked of the kernel and not seen done: one write per flow at a time.
//!
//! A write is over when the kernel has acknowledged it and its event, which the kernel stamps with
//! our writer's port id, has been seen: from then on the local cache tells how things are, in
//! whatever order the two arrive. What happens to the flow meanwhile is looked at afterwards. And
//! because every write waits for its event, our own writes never overrun the event socket.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::Cause;
use crate::flow::{EventKind, FlowKey};

/// Writes under way: an eighth of the events for which the default buffer has room.
const WRITES_MAX: usize = 3_072;

/// The event that shows a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Awaits {
    /// That of a creation.
    Birth,
    /// That of an update.
    Change,
    /// That of a deletion.
    End,
}

/// A write under way.
#[derive(Clone, Copy, Debug)]
struct Write {
    hash: u64,
    key: FlowKey,
    awaits: Awaits,
    is_seen: bool,
    /// Acknowledged, or nobody knows; in this round of listings.
    acked: Option<u8>,
    /// Something has happened to the flow meanwhile.
    stirred: Option<Cause>,
}

/// The writes under way.
#[derive(Debug, Default)]
pub(in crate::engine) struct Writes {
    table: HashTable<Write>,
    stirred: VecDeque<(FlowKey, Cause)>,
}

impl Writes {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.table.len() < WRITES_MAX
    }

    /// True if something happened to flows whose writes are over.
    pub(super) fn has_stirred(&self) -> bool {
        !self.stirred.is_empty()
    }

    /// A flow to which something happened while it was written.
    pub(super) fn pop_stirred(&mut self) -> Option<(FlowKey, Cause)> {
        self.stirred.pop_front()
    }

    /// A write goes out; the flow must have none under way.
    pub(super) fn begin(&mut self, hash: u64, key: FlowKey, awaits: Awaits) {
        let write = Write {
            hash,
            key,
            awaits,
            is_seen: false,
            acked: None,
            stirred: None,
        };
        debug_assert!(self.find(hash, &key).is_none(), "one write per flow");
        self.table.insert_unique(hash, write, |write| write.hash);
    }

    /// True if the flow is being written; what happened is remembered until that is over.
    pub(super) fn stir(&mut self, hash: u64, key: &FlowKey, cause: Cause) -> bool {
        let Some(write) = self.find_mut(hash, key) else {
            return false;
        };
        let is_weightier = write
            .stirred
            .is_none_or(|held| held.weight() < cause.weight());
        if is_weightier {
            write.stirred = Some(cause);
        }
        true
    }

    /// An event of our own port id. True if it is of a write under way.
    pub(in crate::engine) fn on_event(
        &mut self,
        hash: u64,
        key: &FlowKey,
        kind: EventKind,
    ) -> bool {
        let Some(write) = self.find_mut(hash, key) else {
            return false;
        };
        write.is_seen |= match write.awaits {
            Awaits::Birth => kind == EventKind::New,
            Awaits::Change => kind == EventKind::Update,
            Awaits::End => kind == EventKind::Destroy,
        };
        if write.is_seen && write.acked.is_some() {
            self.remove(hash, key);
        }
        true
    }

    /// True if the flow is being created.
    pub(in crate::engine) fn creates(&self, hash: u64, key: &FlowKey) -> bool {
        let write = self.find(hash, key);
        write.is_some_and(|write| write.awaits == Awaits::Birth)
    }

    /// The kernel has done a write, or nobody knows whether it has: then the next listing tells.
    pub(super) fn on_done(&mut self, hash: u64, key: &FlowKey, round: u8) {
        let Some(write) = self.find_mut(hash, key) else {
            return;
        };
        write.acked = Some(round);
        if write.is_seen {
            self.remove(hash, key);
        }
    }

    /// The kernel has refused a write, or its answer is all there is.
    pub(super) fn remove(&mut self, hash: u64, key: &FlowKey) {
        let is_it = |write: &Write| write.key == *key;
        if let Ok(found) = self.table.find_entry(hash, is_it) {
            let (write, _) = found.remove();
            self.stirred
                .extend(write.stirred.map(|cause| (write.key, cause)));
        }
    }

    /// A listing is complete: writes that were over before it began, and whose events have not
    /// come, will not be told by an event any more. The listing has told.
    #[expect(
        clippy::disallowed_methods,
        reason = "in which order flows are looked at again decides nothing"
    )]
    pub(in crate::engine) fn on_listing(&mut self, round: u8) {
        let stirred = &mut self.stirred;
        self.table.retain(|write| {
            let is_over = write.acked.is_some_and(|acked| acked != round);
            if is_over {
                stirred.push_back((write.key, write.stirred.unwrap_or(Cause::Walk)));
            }
            !is_over
        });
    }

    fn find(&self, hash: u64, key: &FlowKey) -> Option<&Write> {
        self.table.find(hash, |write| write.key == *key)
    }

    fn find_mut(&mut self, hash: u64, key: &FlowKey) -> Option<&mut Write> {
        self.table.find_mut(hash, |write| write.key == *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u16) -> FlowKey {
        let mut key = FlowKey::default();
        key.orig.src_id = number;
        key
    }

    #[test]
    fn a_write_is_over_when_it_is_acknowledged_and_seen_in_either_order() {
        let mut writes = Writes::default();
        writes.begin(1, key(1), Awaits::Birth);
        writes.begin(2, key(2), Awaits::Birth);
        writes.on_done(1, &key(1), 0);
        assert!(writes.on_event(2, &key(2), EventKind::New));
        assert_eq!(writes.len(), 2);
        assert!(writes.on_event(1, &key(1), EventKind::New));
        writes.on_done(2, &key(2), 0);
        assert_eq!(writes.len(), 0);
        assert!(
            !writes.on_event(1, &key(1), EventKind::New),
            "nobody awaits it"
        );
    }

    #[test]
    fn the_deletion_before_a_creation_does_not_end_it() {
        let mut writes = Writes::default();
        writes.begin(1, key(1), Awaits::Birth);
        writes.on_event(1, &key(1), EventKind::Destroy);
        writes.on_done(1, &key(1), 0);
        assert_eq!(writes.len(), 1);
    }

    #[test]
    fn what_happens_meanwhile_is_looked_at_afterwards_by_its_weightiest_cause() {
        let mut writes = Writes::default();
        assert!(!writes.stir(1, &key(1), Cause::Told));
        writes.begin(1, key(1), Awaits::Change);
        for cause in [Cause::Told, Cause::Gone, Cause::Walk] {
            assert!(writes.stir(1, &key(1), cause));
        }
        assert!(!writes.has_stirred());
        writes.remove(1, &key(1));
        assert_eq!(writes.pop_stirred(), Some((key(1), Cause::Gone)));
    }

    #[test]
    fn a_listing_ends_what_was_over_before_it_began() {
        let mut writes = Writes::default();
        for number in 1..=3 {
            writes.begin(u64::from(number), key(number), Awaits::Birth);
        }
        writes.on_done(1, &key(1), 4);
        writes.on_done(2, &key(2), 5);
        writes.on_listing(5);
        assert_eq!(writes.len(), 2, "the second may still be told by an event");
        assert_eq!(writes.pop_stirred(), Some((key(1), Cause::Walk)));
    }
}
