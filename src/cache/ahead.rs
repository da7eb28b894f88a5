//! Looking ahead: what a handful of events or records will need is loaded for all of them at once.
//!
//! A process that wakes now and then finds little of its tables in the processor's caches. One
//! after the other each event would wait for its bucket, then for its flow: at 50,000 events a
//! second that was more than half of what an event cost. Loads that do not depend on each other are
//! waited for together.

use std::hint::black_box;

use super::chunks::Chunks;
use super::index::{Chained, Index};
use super::{HashKey, NIL};
use crate::flow::{Flow, FlowEvent};

/// As many are looked at together: more than a processor has loads under way gains nothing.
pub(crate) const AHEAD: usize = 32;

/// Hashes of the keys of up to [`AHEAD`] events.
pub(super) fn hashes(key: HashKey, events: &[FlowEvent]) -> [u64; AHEAD] {
    let mut hashes = [0; AHEAD];
    for (event, hash) in events.iter().zip(&mut hashes) {
        *hash = key.of_key(&event.flow.key());
    }
    hashes
}

/// Loads what the entries with these hashes, [`AHEAD`] at most, are found by: their buckets, then the first entry of each,
/// then, where the table has them, the entries beside it in the list (`beside`).
pub(super) fn touch<M: Chained>(
    index: &Index,
    flows: &Chunks<Flow>,
    meta: &Chunks<M>,
    hashes: &[u64],
    beside: impl Fn(&M) -> [u32; 2],
) {
    let mut firsts = [NIL; AHEAD];
    index.firsts(hashes, &mut firsts);
    let mut sum = 0u32;
    let mut others = [[NIL; 2]; AHEAD];
    for (&first, others) in firsts.iter().zip(&mut others) {
        if let (Some(flow), Some(meta)) = (flows.get(first as usize), meta.get(first as usize)) {
            // The ends of the flow, which lies in two or three cache lines.
            sum = sum.wrapping_add(u32::from(flow.orig.protocol) ^ flow.timeout_secs);
            *others = beside(meta);
        }
    }
    for other in others.as_flattened() {
        if let Some(meta) = meta.get(*other as usize) {
            sum = sum.wrapping_add(meta.chain());
        }
    }
    black_box(sum);
}
