//! Children whose master the kernel does not have: not yet, or not any more.
//!
//! A master may itself be the child of another (H.323 makes chains of three), and a replica knows no
//! order. So a child that was refused for want of its master is tried again when everything else
//! has its outcome, and as long as that finds masters for some; what is left then goes without.

use std::collections::VecDeque;

use super::restore::Restore;

/// The children that wait. There are no more of them than flows in the replicas.
#[derive(Debug)]
pub(super) struct Orphans {
    waiting: VecDeque<Restore>,
    /// How many the last round began with: fewer now means that it found masters.
    before: usize,
}

impl Default for Orphans {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            before: usize::MAX,
        }
    }
}

impl Orphans {
    /// A child was refused for want of its master.
    pub(super) fn add(&mut self, child: Restore) {
        self.waiting.push_back(child);
    }

    /// True if none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// All of them, to be tried again: with their masters, or without when the last round found none.
    /// Every round has fewer children than the one before, or is the last.
    pub(super) fn take_round(&mut self) -> impl Iterator<Item = Restore> + use<> {
        let found_some = self.waiting.len() < self.before;
        self.before = self.waiting.len();
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(move |mut child| {
                if !found_some {
                    child.leave_master();
                }
                child
            })
    }
}
