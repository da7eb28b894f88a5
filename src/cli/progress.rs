//! Progress of a commit on a terminal, while whoever ordered it waits.
//!
//! A second connection asks for the status now and then; the line is written over itself on
//! standard error, which a script that reads the answer does not see.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize as _;

use super::Place;
use super::text::{grouped, span};
use crate::control::client::Client;
use crate::control::message::Request;
use crate::engine::status::{CommitStatus, Status};

/// Most commits are over before this.
const FIRST_AFTER: Duration = Duration::from_millis(300);
/// How often the line is renewed.
const INTERVAL: Duration = Duration::from_millis(200);
/// Back to the start of the line, and clear it.
const ERASE: &str = "\r\x1b[K";

/// Shows progress until it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    // Dropped first: that ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows the progress of the commit of a daemon if standard error is a terminal. Whatever goes
    /// wrong means no progress, never a command that fails.
    pub(super) fn show(place: &Place) -> Self {
        let mut progress = Self {
            stop: None,
            thread: None,
        };
        if !io::stderr().is_terminal() {
            return progress;
        }
        let Ok(mut client) = place.connect() else {
            return progress;
        };
        let (stop, stopped) = mpsc::channel::<()>();
        let run = move || {
            let mut has_line = false;
            let mut wait = FIRST_AFTER;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                wait = INTERVAL;
                let Some(commit) = running(&mut client) else {
                    continue;
                };
                has_line = true;
                let _ = write!(io::stderr(), "{ERASE}{}", line(&commit));
            }
            if has_line {
                let _ = write!(io::stderr(), "{ERASE}");
            }
        };
        let thread = thread::Builder::new().name("progress".into()).spawn(run);
        progress.stop = Some(stop);
        progress.thread = thread.ok();
        progress
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The commit that runs now.
fn running(client: &mut Client) -> Option<CommitStatus> {
    let value = client.call(&Request::Status, |_| Ok(())).ok()?;
    let status = Status::deserialize(&value).ok()?;
    status.commit.filter(|commit| commit.running)
}

/// How far a commit is, in one line.
pub(super) fn line(commit: &CommitStatus) -> String {
    let mut line = format!(
        "{} of {} flows",
        grouped(commit.done()),
        grouped(commit.total)
    );
    if let Some(ms) = commit.remaining_ms() {
        line += &format!(", about {} to go", span(ms));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_how_long_it_takes_on() {
        let mut commit = CommitStatus {
            running: true,
            total: 200_000,
            created: 40_000,
            already: 10_000,
            elapsed_ms: 500,
            ..CommitStatus::default()
        };
        assert_eq!(line(&commit), "50,000 of 200,000 flows, about 1.5 s to go");
        commit.elapsed_ms = 1;
        assert_eq!(
            line(&commit),
            "50,000 of 200,000 flows",
            "too early to tell"
        );
    }
}
