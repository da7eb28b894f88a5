//! How far a peer's replica of our flows is behind.

use std::time::{Duration, Instant};

use super::Peer;
use crate::cache::Local;
use crate::histogram::Histogram;
use crate::replication::sender::Sender;

impl Peer {
    /// Age of the oldest change that it has not acknowledged.
    #[must_use]
    pub fn lag(&self, now: Instant) -> Duration {
        self.sender()
            .map_or(Duration::ZERO, |sender| sender.lag(now))
    }

    /// Most changes that it has not acknowledged.
    #[must_use]
    pub fn lag_records(&self, local: &Local) -> u64 {
        self.sender().map_or(0, |sender| sender.lag_records(local))
    }

    /// How long changes took, in this session, from the engine until the peer acknowledged them; one
    /// sample for each millisecond with changes. An upper bound of how stale its replica is.
    #[must_use]
    pub fn ack_lag(&self) -> Option<&Histogram> {
        self.sender().map(Sender::ack_lag)
    }
}
