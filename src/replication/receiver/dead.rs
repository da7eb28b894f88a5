//! Ends that came before something older: what an older datagram must not bring back (rule T4).

use hashbrown::HashTable;

/// Key hash → highest stamp of its tombstones. At most a window times the records of a datagram;
/// empty while datagrams come in order. Room once needed is kept, so that under loss nothing is
/// allocated for a mark: at the very most 5 MB, a few kilobytes as a rule.
#[derive(Debug, Default)]
pub(super) struct DeadMarks {
    marks: HashTable<(u64, u64)>,
}

impl DeadMarks {
    /// A tombstone was told before everything older is here.
    pub(super) fn put(&mut self, hash: u64, stamp: u64) {
        let mark = self
            .marks
            .entry(hash, |mark| mark.0 == hash, |mark| mark.0)
            .or_insert((hash, stamp));
        let (_, highest) = mark.into_mut();
        *highest = stamp.max(*highest);
    }

    /// True if a key ended after `stamp`.
    pub(super) fn has_ended_after(&self, hash: u64, stamp: u64) -> bool {
        let mark = self.marks.find(hash, |mark| mark.0 == hash);
        mark.is_some_and(|&(_, dead)| dead > stamp)
    }

    /// A key has a newer life, whose stamp does the same job.
    pub(super) fn remove(&mut self, hash: u64) {
        if let Ok(mark) = self.marks.find_entry(hash, |mark| mark.0 == hash) {
            mark.remove();
        }
    }

    /// Nothing with a stamp below `settled` can still be accepted: marks below it have done their
    /// job.
    #[expect(
        clippy::disallowed_methods,
        reason = "in which order marks are dropped decides nothing"
    )]
    pub(super) fn settle(&mut self, settled: u64) {
        if !self.marks.is_empty() {
            self.marks.retain(|&mut (_, stamp)| stamp >= settled);
        }
    }

    /// Number of marks.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_ends_of_a_key_the_later_counts_in_either_order() {
        for stamps in [[5, 7], [7, 5]] {
            let mut dead = DeadMarks::default();
            stamps.into_iter().for_each(|stamp| dead.put(1, stamp));
            assert_eq!(dead.len(), 1);
            assert!(dead.has_ended_after(1, 6) && !dead.has_ended_after(1, 7));
        }
    }

    #[test]
    fn keys_whose_hashes_share_a_place_are_told_apart() {
        let mut dead = DeadMarks::default();
        let hashes: Vec<u64> = (0..100).map(|at| at << 32).collect();
        for (stamp, &hash) in (1..).zip(&hashes) {
            dead.put(hash, stamp);
        }
        dead.remove(hashes[50]);
        assert!(!dead.has_ended_after(hashes[50], 0));
        assert!(dead.has_ended_after(hashes[51], 51) && !dead.has_ended_after(hashes[51], 52));
        assert_eq!(dead.len(), 99);
    }

    #[test]
    fn what_is_settled_is_forgotten_and_its_room_kept() {
        let mut dead = DeadMarks::default();
        (0..1000).for_each(|at| dead.put(at, at));
        let room = dead.marks.allocation_size();
        dead.settle(999);
        assert_eq!((dead.len(), dead.has_ended_after(999, 1)), (1, true));
        dead.settle(1000);
        assert_eq!((dead.len(), dead.marks.allocation_size()), (0, room));
    }
}
