//! The version-ordered list: one intrusive list through the entries of a table.
//!
//! Flows, expectations and tombstones stand in it in the order of their versions; cursors are nodes of their own
//! between them, so that no entry that moves or dies can take a cursor with it
//! (docs/protocol.md section 4, rule E5).

use super::chunks::Chunks;
use super::index::Chained;
use super::slots::Linked;
use super::{NIL, Slot};

/// What a slot of the slab holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nothing; `next` links the free slots.
    Free,
    /// A flow that policy keeps from the peers for now; not in the list.
    Held,
    /// A flow that replicates.
    Flow,
    /// An expectation whose master is held; not in the list.
    HeldExpectation,
    /// An expectation that replicates.
    Expectation,
    /// An ended flow or expectation that some peer has not heard of.
    Tombstone,
    /// A reader's place.
    Cursor,
}

impl Kind {
    /// True for what the peers hear of while it lives.
    pub(crate) fn replicates(self) -> bool {
        matches!(self, Self::Flow | Self::Expectation)
    }

    /// True for what the kernel tracks.
    pub(crate) fn is_tracked(self) -> bool {
        self.replicates() || matches!(self, Self::Held | Self::HeldExpectation)
    }

    /// True for expectations.
    pub(crate) fn is_expectation(self) -> bool {
        matches!(self, Self::Expectation | Self::HeldExpectation)
    }
}

/// What a table keeps per slot beside the flow. Packed, for four bytes less of a million flows each:
/// only the version is not where the machine would like it, and no processor of ours minds.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(crate) struct Meta {
    /// Version of the entry; the maximum for slots that hold nothing to send, so that they never
    /// pass for "unchanged since".
    pub(crate) version: u64,
    /// Flow: when `timeout_secs` was told. Tombstone: upper half of the key hash.
    pub(crate) seen: u32,
    /// Flow: index of its rare attributes. Expectation: its index beside the table. Tombstone: lower half of the key hash.
    pub(crate) rare: u32,
    /// The entry before.
    pub(crate) prev: u32,
    /// The entry after.
    pub(crate) next: u32,
    /// The next flow of the index's chain. Tombstone: the next older one.
    pub(crate) chain: u32,
    /// Flow: when its version was given. Held: when it was born. Tombstone: the next younger one.
    pub(crate) announced: u32,
    /// What it is.
    pub(crate) kind: Kind,
    /// Tombstone: the peers that have not heard of it, a bit each. Flow: its `Origin`.
    pub(crate) mask: u8,
    /// Flow: the last listing of the kernel's table that an event or the listing named it in.
    pub(crate) round: u8,
    /// Flow: how often this node had lost the active role when the kernel entry was born.
    pub(crate) era: u8,
}

const _: () = assert!(size_of::<Meta>() == 36);

impl Chained for Meta {
    fn chain(&self) -> u32 {
        self.chain
    }

    fn set_chain(&mut self, next: u32) {
        self.chain = next;
    }
}

impl Linked for Meta {
    fn free(next: u32) -> Self {
        Self { next, ..Self::FREE }
    }

    fn next_free(&self) -> u32 {
        self.next
    }
}

impl Meta {
    /// Version of whatever must not be taken for an entry.
    pub(crate) const NO_VERSION: u64 = u64::MAX;

    pub(crate) const FREE: Self = Self {
        version: Self::NO_VERSION,
        seen: 0,
        rare: NIL,
        prev: NIL,
        next: NIL,
        chain: NIL,
        announced: 0,
        kind: Kind::Free,
        mask: 0,
        round: 0,
        era: 0,
    };

    /// The key hash of a tombstone.
    pub(crate) fn tombstone_hash(&self) -> u64 {
        u64::from(self.seen) << 32 | u64::from(self.rare)
    }

    /// The tombstone before this one, by age.
    pub(crate) fn older(&self) -> u32 {
        self.chain
    }

    /// The tombstone after this one, by age.
    pub(crate) fn younger(&self) -> u32 {
        self.announced
    }

    /// Links a tombstone by age.
    pub(crate) fn set_ages(&mut self, older: u32, younger: u32) {
        (self.chain, self.announced) = (older, younger);
    }

    /// The tombstone before is another one.
    pub(crate) fn set_older(&mut self, older: u32) {
        self.chain = older;
    }

    /// The tombstone after is another one.
    pub(crate) fn set_younger(&mut self, younger: u32) {
        self.announced = younger;
    }

    /// Makes this a tombstone of a key hash.
    pub(crate) fn set_tombstone(&mut self, hash: u64, mask: u8) {
        self.kind = Kind::Tombstone;
        self.seen = (hash >> 32) as u32;
        self.rare = hash as u32;
        self.mask = mask;
    }
}

/// Ends of the list; the links are in the `Meta`s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
    };

    /// Appends a slot that is in no list.
    pub(crate) fn push_back(&mut self, meta: &mut Chunks<Meta>, slot: u32) {
        self.insert_after(meta, self.tail, slot);
    }

    /// Prepends a slot that is in no list.
    pub(crate) fn push_front(&mut self, meta: &mut Chunks<Meta>, slot: u32) {
        self.insert_after(meta, NIL, slot);
    }

    /// Takes a slot out.
    pub(crate) fn unlink(&mut self, meta: &mut Chunks<Meta>, slot: u32) {
        let Meta { prev, next, .. } = meta[slot as usize];
        match prev {
            NIL => self.head = next,
            prev => meta[prev as usize].next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => meta[next as usize].prev = prev,
        }
    }

    /// Moves a slot to the end.
    pub(crate) fn move_to_back(&mut self, meta: &mut Chunks<Meta>, slot: u32) {
        if self.tail != slot {
            self.unlink(meta, slot);
            self.push_back(meta, slot);
        }
    }

    /// The next entry that is no cursor after a slot.
    pub(crate) fn next_entry(&self, meta: &Chunks<Meta>, after: u32) -> Option<Slot> {
        let mut at = meta[after as usize].next;
        // At most two cursors per peer stand in a row.
        while at != NIL && meta[at as usize].kind == Kind::Cursor {
            at = meta[at as usize].next;
        }
        (at != NIL).then_some(Slot(at))
    }

    /// Moves a slot behind another; `before` NIL is the front.
    pub(crate) fn move_after(&mut self, meta: &mut Chunks<Meta>, before: u32, slot: u32) {
        self.unlink(meta, slot);
        self.insert_after(meta, before, slot);
    }

    fn insert_after(&mut self, meta: &mut Chunks<Meta>, before: u32, slot: u32) {
        let next = match before {
            NIL => self.head,
            before => meta[before as usize].next,
        };
        meta[slot as usize].prev = before;
        meta[slot as usize].next = next;
        match before {
            NIL => self.head = slot,
            before => meta[before as usize].next = slot,
        }
        match next {
            NIL => self.tail = slot,
            next => meta[next as usize].prev = slot,
        }
    }
}
