//! What the edges around the engine have counted.

use super::Driver;

impl Driver {
    /// What the threads around the engine have counted.
    pub(super) fn edge_stats(&self) -> Vec<(String, u64)> {
        use std::sync::atomic::Ordering::Relaxed;
        let reader = self.parts.reader.counters();
        let requests = self.parts.requests.counters();
        let mut stats: Vec<(String, u64)> = [
            ("reader.events", reader.events),
            ("reader.overruns", reader.overruns),
            ("reader.truncated", reader.truncated),
            ("reader.foreign", reader.foreign),
            (
                "reader.filter",
                self.parts.reader.filtered_protocols() as u64,
            ),
            (
                "requests.dumps_incomplete",
                requests.dumps_incomplete.load(Relaxed),
            ),
            (
                "requests.batches_incomplete",
                requests.batches_incomplete.load(Relaxed),
            ),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        stats.extend(self.steps.stats());
        for (reason, count) in reader.undecodable.by_reason() {
            stats.push((format!("reader.undecodable.{reason}"), count));
        }
        for (reason, count) in requests.undecodable.by_reason() {
            stats.push((format!("requests.undecodable.{reason}"), count));
        }
        stats
    }
}
