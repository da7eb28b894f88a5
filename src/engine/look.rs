//! A look around: what the others are to this node, and what it is to them.

use std::time::Instant;

use super::Engine;
use super::status::Role;
use crate::replication::Circumstances;

impl Engine {
    /// What the others are to this node, and it to them: told when it has changed.
    pub(super) fn look_around(&mut self, now: Instant) {
        self.watch_rivals(now);
        self.is_ready = self.cause(now).is_none();
        self.drive_handover(now, self.is_ready);
        let told = (self.role_number(), self.term, self.is_ready, self.claims());
        if told != self.told {
            self.told = told;
            self.replication.handle_news(now, told.3);
        }
    }

    pub(super) fn circumstances(&self, now: Instant) -> Circumstances {
        let elapsed = now.saturating_duration_since(self.began);
        Circumstances {
            now,
            secs: self.secs(now),
            clock_micros: u64::try_from(elapsed.as_micros())
                .unwrap_or(u64::MAX)
                .max(1),
            table_is_complete: self.mirror.is_complete(),
            table_is_whole: self.mirror.is_whole(),
            role: self.role_number(),
            term: self.term,
            ready: self.is_ready,
        }
    }

    /// As a ping tells it.
    pub(super) fn role_number(&self) -> u8 {
        match self.role {
            Role::Standby => 0,
            Role::Promoting => 1,
            Role::Active => 2,
        }
    }
}
