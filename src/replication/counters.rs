//! What the protocol counts: every datagram that is dropped has its reason.

use crate::wire::WireError;
use crate::wire::seal::SealError;

/// Counters of all peers together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received whose header could be read.
    pub received: u64,
    /// Datagrams and frames that could not be read, by `WireError`.
    pub unreadable: [u64; WireError::ALL.len()],
    /// Datagrams that were not opened, by `SealError`.
    pub unopened: [u64; SealError::ALL.len()],
    /// Control datagrams received before.
    pub replays: u64,
    /// Frames of a kind that this version does not know.
    pub unknown_frames: u64,
    /// Records of a kind that this version does not know, or that could not be read.
    pub unreadable_records: u64,
    /// Datagrams of a session that does not exist (any more), or of somebody else's.
    pub unknown_session: u64,
    /// Greetings for somebody else.
    pub not_for_us: u64,
    /// Data datagrams received before.
    pub duplicates: u64,
    /// Data datagrams beyond the window.
    pub beyond_window: u64,
    /// Acks of what was never sent.
    pub impossible_acks: u64,
    /// Flows that did not fit in a replica.
    pub refused_flows: u64,
    /// Records received.
    pub records: u64,
    /// Hellos with our own name from another node.
    pub own_name: u64,
    /// Nodes beyond `PEERS_MAX` heard.
    pub peers_full: u64,
    /// Greetings not sent because too many waited.
    pub greetings_dropped: u64,
}

impl Counters {
    /// Counts bytes that could not be read.
    pub fn refuse(&mut self, error: WireError) {
        let at = WireError::ALL.iter().position(|&known| known == error);
        self.unreadable[at.expect("ALL has every error")] += 1;
    }

    /// Counts a datagram that was not opened.
    pub fn refuse_seal(&mut self, error: SealError) {
        let at = SealError::ALL.iter().position(|&known| known == error);
        self.unopened[at.expect("ALL has every error")] += 1;
    }

    /// Every counter with its name, for `stats`.
    #[must_use]
    pub fn list(&self) -> Vec<(String, u64)> {
        let mut list: Vec<(String, u64)> = [
            ("sent", self.sent),
            ("received", self.received),
            ("replays", self.replays),
            ("unknown_frames", self.unknown_frames),
            ("unreadable_records", self.unreadable_records),
            ("unknown_session", self.unknown_session),
            ("not_for_us", self.not_for_us),
            ("duplicates", self.duplicates),
            ("beyond_window", self.beyond_window),
            ("impossible_acks", self.impossible_acks),
            ("refused_flows", self.refused_flows),
            ("records", self.records),
            ("own_name", self.own_name),
            ("peers_full", self.peers_full),
            ("greetings_dropped", self.greetings_dropped),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
        for (error, &count) in WireError::ALL.iter().zip(&self.unreadable) {
            list.push((format!("unreadable.{}", error.reason()), count));
        }
        for (error, &count) in SealError::ALL.iter().zip(&self.unopened) {
            list.push((format!("unopened.{}", error.reason()), count));
        }
        list
    }
}
