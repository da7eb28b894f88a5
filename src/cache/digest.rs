//! What two tables with the same flows share: a count and sums of the flows' hashes.

/// Number of leaves: the top 16 bits of a key hash choose one.
const LEAVES: usize = 1 << 16;

/// Changes that wait until they are carried into their leaves together. One by one each would wait
/// for its leaf to come from memory, some 300 ns in a process that sleeps between events; of many at once
/// the processor waits for all at the same time.
const WAITING_MAX: usize = 64;

/// Count and sums over the flows of a table; kept up by adding and subtracting.
#[derive(Debug)]
pub struct Digest {
    leaves: Box<[u64]>,
    /// Leaves and what is still to be added to them.
    waiting: Vec<(u16, u64)>,
    root: u64,
    flows: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            leaves: vec![0; LEAVES].into_boxed_slice(),
            waiting: Vec::with_capacity(WAITING_MAX),
            root: 0,
            flows: 0,
        }
    }
}

impl Digest {
    /// A flow came in.
    pub fn add(&mut self, key_hash: u64, value_hash: u64) {
        self.shift(key_hash, value_hash);
        self.flows += 1;
    }

    /// A flow went out.
    pub fn remove(&mut self, key_hash: u64, value_hash: u64) {
        self.shift(key_hash, value_hash.wrapping_neg());
        self.flows = self
            .flows
            .checked_sub(1)
            .expect("only flows that are in go out");
    }

    /// A flow changed.
    pub fn replace(&mut self, key_hash: u64, old_value_hash: u64, new_value_hash: u64) {
        self.shift(key_hash, new_value_hash.wrapping_sub(old_value_hash));
    }

    /// Everything went out.
    pub fn clear(&mut self) {
        self.leaves.fill(0);
        self.waiting.clear();
        self.root = 0;
        self.flows = 0;
    }

    /// Number of flows and expectations.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.flows
    }

    /// Sum over all leaves.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The sum over a leaf: the flows whose key hash has these top 16 bits.
    #[must_use]
    pub fn leaf(&self, number: u16) -> u64 {
        let waiting = self.waiting.iter().filter(|&&(leaf, _)| leaf == number);
        waiting.fold(self.leaves[usize::from(number)], |sum, &(_, by)| {
            sum.wrapping_add(by)
        })
    }

    /// Sum over the 256 leaves whose numbers have a high byte.
    #[must_use]
    pub fn inner(&self, high: u8) -> u64 {
        let first = usize::from(high) << 8;
        let leaves = self.leaves[first..first + 256].iter().copied();
        let waiting = self.waiting.iter();
        let waiting = waiting.filter(|&&(leaf, _)| leaf.to_be_bytes()[0] == high);
        leaves
            .chain(waiting.map(|&(_, by)| by))
            .fold(0, u64::wrapping_add)
    }

    fn shift(&mut self, key_hash: u64, by: u64) {
        self.root = self.root.wrapping_add(by);
        let leaf = u16::try_from(key_hash >> 48).expect("16 bits");
        self.waiting.push((leaf, by));
        if self.waiting.len() == WAITING_MAX {
            for (leaf, by) in self.waiting.drain(..) {
                let sum = &mut self.leaves[usize::from(leaf)];
                *sum = sum.wrapping_add(by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_changes_leaves_no_trace() {
        let mut one = Digest::default();
        one.add(1 << 60, 10);
        one.add(2 << 60, 20);
        one.replace(1 << 60, 10, 11);
        one.remove(2 << 60, 20);
        let mut other = Digest::default();
        other.add(1 << 60, 11);
        assert_eq!((one.flows(), one.root()), (other.flows(), other.root()));
        assert!((0..=u16::MAX).all(|leaf| one.leaf(leaf) == other.leaf(leaf)));
        let sums = (0..=u16::MAX).map(|leaf| one.leaf(leaf));
        assert_eq!(sums.fold(0, u64::wrapping_add), one.root());
        assert_eq!((one.inner(0x10), one.inner(0x20)), (11, 0));
    }

    #[test]
    fn what_waits_counts_at_every_moment() {
        let mut digest = Digest::default();
        let mut model = vec![0u64; LEAVES];
        for step in 0..3 * WAITING_MAX as u64 {
            // Some leaves more than once among what waits.
            let leaf = (step * 7 % 40 * 1_000) as u16;
            let key_hash = u64::from(leaf) << 48 | step;
            digest.add(key_hash, step + 1);
            model[usize::from(leaf)] += step + 1;
            assert_eq!(digest.leaf(leaf), model[usize::from(leaf)], "step {step}");
            let high = leaf.to_be_bytes()[0];
            let first = usize::from(high) << 8;
            let inner: u64 = model[first..first + 256].iter().sum();
            assert_eq!(digest.inner(high), inner, "step {step}");
        }
        assert_eq!(digest.root(), model.iter().sum::<u64>());
    }
}
