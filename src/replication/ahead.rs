//! The next records of a datagram, with the hashes of their keys: what they need of the replica is
//! loaded for all of them at once (`cache::ahead` says why).

use crate::cache::HashKey;
use crate::cache::ahead::AHEAD;
use crate::wire::{Record, Records};

/// Up to [`AHEAD`] records, in room that stays.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    hashes: Vec<u64>,
    records: Vec<Record>,
}

impl Ahead {
    /// With room for as many as there may be.
    pub(super) fn new() -> Self {
        Self {
            hashes: Vec::with_capacity(AHEAD),
            records: Vec::with_capacity(AHEAD),
        }
    }

    /// Takes the next records in place of those that are here; yields how many. What cannot be read
    /// is counted.
    pub(super) fn fill(
        &mut self,
        records: &mut Records<'_>,
        key: HashKey,
        unreadable: &mut u32,
    ) -> usize {
        self.hashes.clear();
        self.records.clear();
        while self.records.len() < AHEAD {
            match records.next() {
                Some(Ok(record)) => {
                    self.hashes.push(key_hash(key, &record));
                    self.records.push(record);
                }
                Some(Err(_)) => *unreadable += 1,
                None => break,
            }
        }
        self.records.len()
    }

    /// The hashes of the records' keys; 0 for a record that has none.
    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The records, in their order.
    pub(super) fn records(&self) -> impl Iterator<Item = (&u64, &Record)> {
        self.hashes.iter().zip(&self.records)
    }
}

fn key_hash(key: HashKey, record: &Record) -> u64 {
    match record {
        Record::Flow { flow, .. } => key.of_key(&flow.key()),
        Record::Expectation { expectation, .. } => key.of_expectation_key(&expectation.key()),
        Record::Tombstone { hash } => *hash,
        Record::Marker(_) | Record::Unknown(_) => 0,
    }
}
