//! What the engine tells beside its notices: role, history and keepalived's priority, each in a file.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::history::History;
use super::remember::{Memory, Remembered};
use super::track::TrackFile;
use crate::engine::status::Role;
use crate::engine::{Standing, Transition};

/// What the engine tells that has to be written somewhere.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) role: watch::Receiver<Remembered>,
    pub(super) memory: Memory,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) track: Option<TrackFile>,
    pub(super) transitions: mpsc::Receiver<(Instant, Transition)>,
}

impl Told {
    /// Waits for the next word and writes it down; false when the engine is gone.
    pub(super) async fn changed(&mut self, history: &Mutex<History>) -> bool {
        tokio::select! {
            changed = self.standing.changed() => {
                self.write_standing();
                changed.is_ok()
            }
            changed = self.role.changed() => {
                complain(self.memory.write(&self.role.borrow_and_update()));
                changed.is_ok()
            }
            transition = self.transitions.recv() => {
                let Some((began, transition)) = transition else {
                    return false;
                };
                let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
                complain(history.note(began, transition));
                true
            }
        }
    }

    pub(super) fn write_standing(&mut self) {
        let standing = *self.standing.borrow_and_update();
        if let Some(track) = &self.track {
            complain(track.write(standing));
        }
    }

    /// A standby without a daemon is not ready. An active node goes on without one.
    pub(super) fn on_stop(&mut self) {
        if self.role.borrow().role == Role::Standby
            && let Some(track) = &self.track
        {
            complain(track.write(Standing::Unready));
        }
    }
}

fn complain(outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        warn!("{error:#}");
    }
}
