//! What two tables with the same flows share: a count and sums of the flows' hashes.

/// Number of leaves: the top 16 bits of a key hash choose one.
const LEAVES: usize = 1 << 16;

/// Count and sums over the flows of a table; kept up by adding and subtracting.
#[derive(Debug)]
pub struct Digest {
    leaves: Box<[u64]>,
    root: u64,
    flows: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            leaves: vec![0; LEAVES].into_boxed_slice(),
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

    /// The sums, by the top 16 bits of the key hash.
    #[must_use]
    pub fn leaves(&self) -> &[u64] {
        &self.leaves
    }

    /// Sum over the 256 leaves whose numbers have a high byte.
    #[must_use]
    pub fn inner(&self, high: u8) -> u64 {
        let first = usize::from(high) << 8;
        let leaves = self.leaves[first..first + 256].iter();
        leaves.copied().fold(0, u64::wrapping_add)
    }

    fn shift(&mut self, key_hash: u64, by: u64) {
        let leaf = &mut self.leaves[usize::try_from(key_hash >> 48).expect("16 bits")];
        *leaf = leaf.wrapping_add(by);
        self.root = self.root.wrapping_add(by);
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
        assert_eq!(one.leaves(), other.leaves());
        assert_eq!(
            one.leaves().iter().copied().fold(0, u64::wrapping_add),
            one.root()
        );
        assert_eq!((one.inner(0x10), one.inner(0x20)), (11, 0));
    }
}
