//! Filling a datagram: repairs, live changes, the backfill, a marker (rules E, M1).

use std::time::{Duration, Instant};

use super::Sender;
use crate::cache::local::Entry;
use crate::cache::{Local, Secs, Slot};
use crate::flow::Rare;
use crate::replication::ring::Carried;
use crate::rules::{Rule, holds};
use crate::wire::{
    Header, Kind, MARKER_RECORD_BYTES_MAX, Marker, emit_expectation, emit_flow, emit_marker,
    emit_tombstone,
};

/// A marker is due this long after the last at the latest.
const MARKER_AT_REST: Duration = Duration::from_secs(1);
/// While a backfill runs it gets one datagram in this many, however busy the live cursor is.
const BACKFILL_SHARE: u8 = 4;

/// What the sender needs to know to fill a datagram.
#[derive(Clone, Copy, Debug)]
pub(in crate::replication) struct Circumstances {
    pub(in crate::replication) now: Instant,
    pub(in crate::replication) secs: Secs,
    pub(in crate::replication) clock_micros: u64,
    /// The table is complete and not dirty: it equals the kernel's.
    pub(in crate::replication) table_is_whole: bool,
    pub(in crate::replication) datagram_bytes_max: usize,
    pub(in crate::replication) session: u64,
    /// Number of the key that will seal it.
    pub(in crate::replication) seal: u8,
}

impl Sender {
    /// Writes the next data datagram, if there is one to send and room in the window (rules E).
    pub(in crate::replication) fn fill(
        &mut self,
        local: &mut Local,
        at: Circumstances,
        out: &mut Vec<u8>,
    ) -> Option<Header> {
        self.marks.put(local.tail());
        let is_full = self.ring.span() >= self.window && holds(Rule::E6);
        if is_full || self.ring.open() >= self.in_use {
            return None;
        }
        let number = self.ring.next();
        let start = out.len();
        let header = Header {
            kind: Kind::Data,
            seal: at.seal,
            session: at.session,
            number,
            floor: if holds(Rule::E1Floor) {
                self.ring.floor()
            } else {
                number
            },
            sender: None,
        };
        header.emit(out);
        let empty = out.len();
        let room = start + at.datagram_bytes_max;
        let mut slots = std::mem::take(&mut self.scratch);
        slots.clear();
        let mut page = Page {
            secs: at.secs,
            out,
            room,
            slots,
            carried: Carried {
                tail: local.tail(),
                marker: false,
                tombstones: false,
            },
        };
        self.turn = (self.turn + 1) % BACKFILL_SHARE;
        if self.turn == 0 {
            self.fill_backfill(local, &mut page);
        }
        self.fill_repairs(local, &mut page);
        self.fill_live(local, &mut page);
        self.fill_backfill(local, &mut page);
        let Page {
            out,
            slots,
            mut carried,
            ..
        } = page;
        self.marker.changed |= !slots.is_empty();
        if self.may_mark(local, at) && out.len() + MARKER_RECORD_BYTES_MAX <= room {
            let digest = local.digest();
            let marker = Marker {
                flows: digest.flows(),
                root: digest.root(),
                since: self.since,
                clock_micros: at.clock_micros,
            };
            emit_marker(out, &marker);
            carried.marker = true;
            self.marker.sent_at = at.now;
            self.marker.due = at.now + MARKER_AT_REST;
            self.marker.changed = false;
        }
        let has_content = out.len() > empty;
        if has_content {
            self.ring.push(at.now, &slots, carried);
            self.counters.datagrams += 1;
            self.counters.bytes += (out.len() - start) as u64;
            self.counters.records += slots.len() as u64;
        } else {
            out.truncate(start);
        }
        self.scratch = slots;
        if self.repairs.is_empty() {
            self.marks.on_sent(self.live_version, self.ring.next());
        }
        has_content.then_some(header)
    }

    /// A marker may be sent when everything else has been (rule M1).
    fn may_mark(&self, local: &Local, at: Circumstances) -> bool {
        at.now >= self.marker_due()
            && (at.table_is_whole || !holds(Rule::M1Whole))
            && (self.backfill.is_none() || !holds(Rule::M1Backfill))
            && (self.repairs.is_empty() || !holds(Rule::M1Repairs))
            && (local.peek(&self.live).is_none() || !holds(Rule::M1Live))
    }

    /// What was lost and has not changed since (rule E3).
    fn fill_repairs(&mut self, local: &Local, page: &mut Page<'_>) {
        while let Some(&(slot, tail)) = self.repairs.front() {
            if let Some(entry) = local.unchanged_entry(slot, tail, page.secs) {
                if !page.put(slot, entry) {
                    return;
                }
                self.counters.repairs += 1;
            }
            self.repairs.pop_front();
        }
    }

    /// What has changed behind the live cursor, in order.
    fn fill_live(&mut self, local: &mut Local, page: &mut Page<'_>) {
        while let Some((slot, version)) = local.peek(&self.live) {
            let entry = page.entry(local, slot);
            let is_told = !matches!(entry, Entry::Tombstone { .. }) || holds(Rule::E4);
            if is_told && !page.put(slot, entry) {
                return;
            }
            local.pass(&self.live, slot);
            self.live_version = version;
            if !holds(Rule::T1Sent) {
                local.heard(slot, version, self.peer);
            }
        }
        self.live_version = local.tail();
        self.behind_since = None;
    }

    /// The table from its start up to where the pass began, tombstones left out (rule E4).
    fn fill_backfill(&mut self, local: &mut Local, page: &mut Page<'_>) {
        let Some(backfill) = &self.backfill else {
            return;
        };
        while let Some((slot, version)) = local.peek(&backfill.cursor) {
            if version > backfill.stop {
                break;
            }
            let entry = page.entry(local, slot);
            if !matches!(entry, Entry::Tombstone { .. }) && !page.put(slot, entry) {
                return;
            }
            local.pass(&backfill.cursor, slot);
        }
        if let Some(backfill) = self.backfill.take() {
            local.close(backfill.cursor);
        }
    }
}

/// A datagram while it is filled, and what it carries so far.
struct Page<'a> {
    secs: Secs,
    out: &'a mut Vec<u8>,
    /// Length of `out` that must not be passed.
    room: usize,
    slots: Vec<Slot>,
    carried: Carried,
}

impl Page<'_> {
    /// What a slot that a cursor came to has to send.
    fn entry<'a>(&self, local: &'a Local, slot: Slot) -> Entry<'a> {
        let entry = local.entry(slot, self.secs);
        entry.expect("listed entries have something to send")
    }

    /// Appends an entry's record if it fits. False: it does not, and nothing was appended.
    fn put(&mut self, slot: Slot, entry: Entry<'_>) -> bool {
        let start = self.out.len();
        match entry {
            Entry::Flow { flow, rare, age } => {
                emit_flow(self.out, flow, rare.unwrap_or(&NO_RARE), age);
            }
            Entry::Expectation { expectation, age } => {
                emit_expectation(self.out, expectation, age);
            }
            Entry::Tombstone { hash } => emit_tombstone(self.out, hash),
        }
        if self.out.len() > self.room {
            self.out.truncate(start);
            return false;
        }
        self.carried.tombstones |= matches!(entry, Entry::Tombstone { .. });
        self.slots.push(slot);
        true
    }
}

const NO_RARE: Rare = Rare {
    labels: None,
    helper: None,
    seqadj_orig: None,
    seqadj_reply: None,
    synproxy: None,
    master: None,
};
