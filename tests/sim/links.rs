//! Pretended links: datagrams in flight that are lost, late, doubled, out of order, or cut off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// Datagrams that an attacker has recorded.
const RECORDED_MAX: usize = 200;

/// And those that it keeps for long.
const KEPT_MAX: usize = 2000;
const KEEP_ONE_OF: u64 = 7;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    /// Sender.
    pub(crate) from: usize,
    /// Receiver.
    pub(crate) to: usize,
    /// Link.
    pub(crate) link: u8,
    /// Bytes.
    pub(crate) datagram: Vec<u8>,
}

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Links {
    in_flight: BTreeMap<(Instant, u64), InFlight>,
    sent: u64,
    cuts: BTreeSet<(usize, usize, u8)>,
    recorded: VecDeque<InFlight>,
    /// One datagram in `KEEP_ONE_OF`, kept for longer: those of earlier epochs are among them.
    kept: VecDeque<InFlight>,
}

impl Links {
    /// Cuts one direction of a link.
    pub(crate) fn cut(&mut self, from: usize, to: usize, link: u8) {
        self.cuts.insert((from, to, link));
    }

    /// Mends everything.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Puts a datagram on its way.
    pub(crate) fn send(&mut self, at: Instant, datagram: InFlight) {
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.pop_front();
        }
        self.recorded.push_back(datagram.clone());
        if self.sent.is_multiple_of(KEEP_ONE_OF) {
            if self.kept.len() == KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(datagram.clone());
        }
        if !self
            .cuts
            .contains(&(datagram.from, datagram.to, datagram.link))
        {
            self.sent += 1;
            self.in_flight.insert((at, self.sent), datagram);
        }
    }

    /// A recorded datagram: of the last ones, or of any time.
    pub(crate) fn recorded(&self, number: usize) -> Option<InFlight> {
        let from = if number.is_multiple_of(2) || self.kept.is_empty() {
            &self.recorded
        } else {
            &self.kept
        };
        (!from.is_empty()).then(|| from[number / 2 % from.len()].clone())
    }

    /// Everything that was recorded.
    pub(crate) fn recordings(&self) -> Vec<InFlight> {
        self.kept.iter().chain(&self.recorded).cloned().collect()
    }

    /// When the next datagram arrives.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.in_flight.keys().next().map(|&(at, _)| at)
    }

    /// The next datagram that has arrived.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<InFlight> {
        let first = self
            .in_flight
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}
