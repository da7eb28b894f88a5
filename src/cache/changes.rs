//! What has changed in a table, for whoever follows it: a bounded log of keys.
//!
//! An entry says that something happened to a key, not what is there now: whoever follows looks
//! that up, so that ten changes of one flow that were not read in time cost ten looks and no more
//! memory than ten keys. A log that ran full says so once, and the follower walks the whole table.

use std::collections::VecDeque;

use crate::flow::FlowKey;

/// Changes that wait; one more and the log is given up until the table has been walked. Two seconds
/// of the busiest traffic.
pub const CHANGES_MAX: usize = 1 << 16;

/// Something happened to the flow of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key.
    pub key: FlowKey,
    /// It left the table; perhaps it is back.
    pub is_end: bool,
}

/// The log. Off until somebody follows: then nothing is kept, and nothing is missing.
#[derive(Debug, Default)]
pub struct Changes {
    entries: VecDeque<Change>,
    is_on: bool,
    has_overflowed: bool,
}

impl Changes {
    /// Starts to keep changes. What is in the table already has to be walked once.
    pub fn follow(&mut self) {
        if !self.is_on {
            self.is_on = true;
            self.has_overflowed = true;
        }
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.has_overflowed
    }

    /// Changes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The oldest change.
    pub fn pop(&mut self) -> Option<Change> {
        self.entries.pop_front()
    }

    /// True once after changes were lost.
    pub fn take_overflowed(&mut self) -> bool {
        std::mem::take(&mut self.has_overflowed)
    }

    pub(crate) fn push(&mut self, key: FlowKey, is_end: bool) {
        if !self.is_on {
            return;
        }
        if self.entries.len() < CHANGES_MAX {
            self.entries.push_back(Change { key, is_end });
        } else {
            self.overflow();
        }
    }

    /// Everything may have changed.
    pub(crate) fn overflow(&mut self) {
        if self.is_on {
            self.entries.clear();
            self.has_overflowed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_nobody_follows_keeps_nothing() {
        let mut changes = Changes::default();
        changes.push(FlowKey::default(), false);
        changes.overflow();
        assert!(changes.is_empty());
        changes.follow();
        assert!(changes.take_overflowed(), "what is there must be walked");
        assert!(changes.is_empty());
        changes.follow();
        assert!(changes.is_empty(), "only once");
    }

    #[test]
    fn a_full_log_says_so_and_starts_anew() {
        let mut changes = Changes::default();
        changes.follow();
        changes.take_overflowed();
        for _ in 0..CHANGES_MAX {
            changes.push(FlowKey::default(), false);
        }
        assert!(!changes.take_overflowed());
        changes.push(FlowKey::default(), true);
        assert_eq!((changes.len(), changes.take_overflowed()), (0, true));
        changes.push(FlowKey::default(), true);
        assert_eq!(changes.pop().map(|change| change.is_end), Some(true));
    }
}
