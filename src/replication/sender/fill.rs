//! Filling a datagram: repairs, live changes, the backfill, a marker (rules E, M1).

use std::time::{Duration, Instant};

use super::Sender;
use crate::cache::local::Entry;
use crate::cache::{Local, Secs, Slot};
use crate::flow::Rare;
use crate::replication::ring::Carried;
use crate::rules::{Rule, holds};
use crate::wire::{
    Header, Kind, MARKER_RECORD_BYTES_MAX, Marker, emit_flow, emit_marker, emit_tombstone,
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
        let mut carried = Carried {
            tail: local.tail(),
            marker: false,
            tombstones: false,
        };
        self.turn = (self.turn + 1) % BACKFILL_SHARE;
        if self.turn == 0 {
            self.fill_backfill(local, at.secs, out, room, &mut slots);
        }
        self.fill_repairs(local, at.secs, out, room, &mut slots, &mut carried);
        self.fill_live(local, at.secs, out, room, &mut slots, &mut carried);
        self.fill_backfill(local, at.secs, out, room, &mut slots);
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
    fn fill_repairs(
        &mut self,
        local: &mut Local,
        secs: Secs,
        out: &mut Vec<u8>,
        room: usize,
        slots: &mut Vec<Slot>,
        carried: &mut Carried,
    ) {
        while let Some(&(slot, tail)) = self.repairs.front() {
            if let Some(entry) = local.unchanged_entry(slot, tail, secs) {
                if !put(entry, out, room) {
                    return;
                }
                carried.tombstones |= matches!(entry, Entry::Tombstone { .. });
                slots.push(slot);
                self.counters.repairs += 1;
            }
            self.repairs.pop_front();
        }
    }

    /// What has changed behind the live cursor, in order.
    fn fill_live(
        &mut self,
        local: &mut Local,
        secs: Secs,
        out: &mut Vec<u8>,
        room: usize,
        slots: &mut Vec<Slot>,
        carried: &mut Carried,
    ) {
        while let Some((slot, version)) = local.peek(&self.live) {
            let entry = local
                .entry(slot, secs)
                .expect("listed entries have something to send");
            let is_tombstone = matches!(entry, Entry::Tombstone { .. });
            if !is_tombstone || holds(Rule::E4) {
                if !put(entry, out, room) {
                    return;
                }
                carried.tombstones |= is_tombstone;
                slots.push(slot);
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
    fn fill_backfill(
        &mut self,
        local: &mut Local,
        secs: Secs,
        out: &mut Vec<u8>,
        room: usize,
        slots: &mut Vec<Slot>,
    ) {
        let Some(backfill) = &self.backfill else {
            return;
        };
        while let Some((slot, version)) = local.peek(&backfill.cursor) {
            if version > backfill.stop {
                break;
            }
            let entry = local
                .entry(slot, secs)
                .expect("listed entries have something to send");
            if matches!(entry, Entry::Flow { .. }) {
                if !put(entry, out, room) {
                    return;
                }
                slots.push(slot);
            }
            local.pass(&backfill.cursor, slot);
        }
        if let Some(backfill) = self.backfill.take() {
            local.close(backfill.cursor);
        }
    }
}

/// Appends an entry's record if it fits.
fn put(entry: Entry<'_>, out: &mut Vec<u8>, room: usize) -> bool {
    let start = out.len();
    match entry {
        Entry::Flow { flow, rare, age } => {
            emit_flow(out, flow, rare.unwrap_or(&NO_RARE), age);
        }
        Entry::Tombstone { hash } => emit_tombstone(out, hash),
    }
    if out.len() > room {
        out.truncate(start);
        return false;
    }
    true
}

const NO_RARE: Rare = Rare {
    labels: None,
    helper: None,
    seqadj_orig: None,
    seqadj_reply: None,
    synproxy: None,
    master: None,
};
