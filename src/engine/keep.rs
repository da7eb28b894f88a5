//! The engine around the keeper of hot standby.

use std::time::Instant;

use super::Engine;
use super::hot::{KeepAround, Keeper};
use crate::ctnetlink::request::KernelRequest;

impl Engine {
    /// The keeper's next batch; jobs go before it.
    pub(super) fn keep(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<KernelRequest> {
        if self.jobs.is_running() {
            return None;
        }
        if !self.keeper.claims() {
            self.mirror.ended = None;
        }
        let mut next_seq = *self.jobs.next_seq();
        let request = self.with_keeper(now, |keeper, around| {
            keeper.look_at_peers(around);
            keeper.next_batch(around, &mut next_seq, out)
        });
        *self.jobs.next_seq() = next_seq;
        request
    }

    /// Something that the keeper follows has changed, and it could write.
    pub(super) fn is_keeper_hungry(&self) -> bool {
        !self.jobs.is_running() && self.keeper.is_hungry(&self.mirror, self.peers())
    }

    /// Gives the keeper what it needs of the rest.
    pub(super) fn with_keeper<T>(
        &mut self,
        now: Instant,
        f: impl FnOnce(&mut Keeper, &mut KeepAround<'_>) -> T,
    ) -> T {
        let (secs, listeners) = (self.secs(now), self.replication.listeners());
        let mut around = KeepAround {
            mirror: &mut self.mirror,
            peers: self.replication.peers_mut(),
            role: self.role,
            since_term: self.tenure.since_term,
            now,
            secs,
            listeners,
            grace_secs: u32::try_from(self.settings.grace.as_secs()).unwrap_or(u32::MAX),
        };
        let done = f(&mut self.keeper, &mut around);
        if self.keeper.take_changed() {
            self.replication.handle_change(now);
        }
        if self.keeper.take_wants_listing() {
            self.mirror.want_listing(now);
        }
        done
    }
}
