//! The timeline of promotions and demotions, across restarts of the daemon: one JSON object per
//! line, in a file beside the control socket, replaced as a whole. A line that cannot be read is
//! left out and counted; it blocks nothing.

use std::collections::VecDeque;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::engine::status::PastTransition;
use crate::engine::{Transition, TransitionKind};
use crate::kernel::clock;

/// Transitions kept; beyond that the oldest is dropped.
const ENTRIES_MAX: usize = 64;
/// Most of the file that is read: far more than so many entries take.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The timeline.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    /// This run.
    run: String,
    entries: VecDeque<PastTransition>,
    /// Lines of the file that could not be read.
    skipped: u64,
}

impl History {
    /// What earlier runs on this boot have left beside a control socket.
    pub(super) fn beside(socket: &Path, run: String) -> Self {
        let mut path = socket.as_os_str().to_owned();
        path.push(".history");
        let path = PathBuf::from(path);
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(&path) {
            // As far as it can be read.
            let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        }
        let mut history = Self {
            path,
            run,
            entries: VecDeque::with_capacity(ENTRIES_MAX),
            skipped: 0,
        };
        let lines = bytes.split(|&byte| byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => history.push(entry),
                Err(_) => history.skipped += 1,
            }
        }
        history
    }

    /// All that is known, oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &PastTransition> {
        self.entries.iter()
    }

    /// Lines of the file that could not be read.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The last promotion.
    pub(super) fn last_promotion(&self) -> Option<&PastTransition> {
        let is_promotion =
            |entry: &&PastTransition| entry.transition.kind == TransitionKind::Promotion;
        self.entries.iter().rev().find(is_promotion)
    }

    /// Notes a transition, or what is newly known of it.
    pub(super) fn note(&mut self, began: Instant, transition: Transition) -> anyhow::Result<()> {
        let is_same = |entry: &&mut PastTransition| {
            entry.run == self.run && entry.transition.number == transition.number
        };
        match self.entries.iter_mut().rev().find(is_same) {
            Some(entry) => entry.transition = transition,
            None => {
                let entry = PastTransition {
                    at_ms: time_of_day(began),
                    run: self.run.clone(),
                    transition,
                };
                self.push(entry);
            }
        }
        self.write()
    }

    fn push(&mut self, entry: PastTransition) {
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    fn write(&self) -> anyhow::Result<()> {
        let mut text = String::new();
        for entry in &self.entries {
            text += &serde_json::to_string(entry)?;
            text.push('\n');
        }
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(".new");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &self.path))
            .with_context(|| format!("cannot keep the history in {}", self.path.display()))
    }
}

/// The time of day of a moment that was just now, in milliseconds of Unix time.
fn time_of_day(at: Instant) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "for people: nothing is decided by the time of day"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ago = clock().saturating_duration_since(at);
    let since_1970 = now.unwrap_or(Duration::ZERO).saturating_sub(ago);
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(number: u64, done_ms: Option<u64>) -> Transition {
        Transition {
            number,
            kind: TransitionKind::Promotion,
            trigger: "command".into(),
            term: number,
            peers: Vec::new(),
            commit_started_ms: None,
            done_ms,
            commit: None,
            failed: None,
        }
    }

    #[test]
    fn a_timeline_survives_its_run_bounded_and_without_what_is_broken() {
        let folder = std::env::temp_dir().join(format!("ctsyncd-history-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary directory");
        let socket = folder.join("control.sock");
        let mut first = History::beside(&socket, "one".into());
        first.note(clock(), transition(1, None)).expect("writable");
        first
            .note(clock(), transition(1, Some(5)))
            .expect("writable");
        assert_eq!(first.entries().count(), 1, "one transition, told twice");

        let mut text = fs::read_to_string(&first.path).expect("is there");
        text.push_str("{\"half\": \n");
        fs::write(&first.path, text).expect("is ours");
        let mut second = History::beside(&socket, "two".into());
        assert_eq!(second.skipped(), 1);
        // The same number in another run is another transition.
        second.note(clock(), transition(1, None)).expect("writable");
        let found: Vec<_> = second
            .entries()
            .map(|entry| (entry.run.as_str(), entry.transition.done_ms))
            .collect();
        assert_eq!(found, [("one", Some(5)), ("two", None)]);
        for number in 2..100 {
            second
                .note(clock(), transition(number, None))
                .expect("writable");
        }
        assert_eq!(second.entries().count(), ENTRIES_MAX);
        let last = second.last_promotion().expect("there are many");
        assert_eq!(last.transition.number, 99);
        fs::remove_dir_all(&folder).expect("is ours");
    }
}
