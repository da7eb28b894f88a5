//! The next records of a datagram, with the hashes of their keys: what they need of the replica is
//! loaded for all of them at once (`cache::ahead` says why).

use crate::cache::HashKey;
use crate::cache::ahead::AHEAD;
use crate::wire::{Record, Records};

/// Up to [`AHEAD`] records.
#[derive(Debug)]
pub(super) struct Ahead {
    hashes: [u64; AHEAD],
    records: [Record; AHEAD],
    count: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            hashes: [0; AHEAD],
            records: [Record::Unknown(0); AHEAD],
            count: 0,
        }
    }
}

impl Ahead {
    /// Takes the next records in place of those that are here; yields how many. What cannot be read
    /// is counted.
    pub(super) fn fill(
        &mut self,
        records: &mut Records<'_>,
        key: HashKey,
        unreadable: &mut u32,
    ) -> usize {
        self.count = 0;
        while self.count < AHEAD {
            match records.next() {
                Some(Ok(record)) => {
                    self.hashes[self.count] = key_hash(key, &record);
                    self.records[self.count] = record;
                    self.count += 1;
                }
                Some(Err(_)) => *unreadable += 1,
                None => break,
            }
        }
        self.count
    }

    /// The hashes of the records' keys; 0 for a record that has none.
    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes[..self.count]
    }

    /// The records, in their order.
    pub(super) fn records(&self) -> impl Iterator<Item = (&u64, &Record)> {
        self.hashes().iter().zip(&self.records)
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
