//! What the gate should do, from the role and from whether the engine lives.

use std::time::{Duration, Instant};

use crate::engine::status::{GateState, Role};

/// A thread that gives no sign for so long hangs: ten times what a busy round takes.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Whether the engine's thread lives.
#[derive(Debug)]
pub(super) struct Beat {
    count: u64,
    heard: Instant,
}

impl Beat {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            count: 0,
            heard: now,
        }
    }

    /// True if there was a sign of life lately.
    pub(super) fn lives(&mut self, now: Instant, count: u64) -> bool {
        if count != self.count {
            self.count = count;
            self.heard = now;
        }
        now.saturating_duration_since(self.heard) < SILENCE_MAX
    }
}

/// What the gate should do, and why.
pub(super) fn wanted(
    role: Role,
    is_overdue: bool,
    engine_lives: bool,
) -> (GateState, &'static str) {
    match (role, engine_lives) {
        (Role::Active, _) => (GateState::Open, "this node is active"),
        (Role::Standby | Role::Promoting, false) => (GateState::Open, "the engine does not answer"),
        (Role::Promoting, true) if is_overdue => {
            (GateState::Open, "the commit takes longer than open_after")
        }
        (Role::Promoting, true) => (GateState::Closed, "the commit is running"),
        (Role::Standby, true) => (GateState::Closed, "this node is standby"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::clock;

    #[test]
    fn closed_until_the_commit_is_done_or_nobody_knows() {
        let state = |role, is_overdue, lives| wanted(role, is_overdue, lives).0;
        assert_eq!(state(Role::Standby, false, true), GateState::Closed);
        assert_eq!(state(Role::Promoting, false, true), GateState::Closed);
        assert_eq!(state(Role::Promoting, true, true), GateState::Open);
        assert_eq!(state(Role::Active, false, true), GateState::Open);
        for role in [Role::Standby, Role::Promoting, Role::Active] {
            assert_eq!(state(role, false, false), GateState::Open);
        }
    }

    #[test]
    fn a_thread_without_a_sign_of_life_is_taken_for_dead_after_a_while() {
        let start = clock();
        let mut beat = Beat::new(start);
        assert!(beat.lives(start + SILENCE_MAX / 2, 0));
        assert!(!beat.lives(start + SILENCE_MAX, 0));
        assert!(beat.lives(start + SILENCE_MAX, 1));
        assert!(!beat.lives(start + 2 * SILENCE_MAX, 1));
    }
}
