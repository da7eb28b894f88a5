//! Orders and the work they set off: what is answered at once, what queues, and what follows when a
//! piece of work has ended.

use std::time::Instant;

use super::history::Trigger;
use super::jobs::{Begin, Work};
use super::{Command, Engine, Reply};
use crate::replication::Peer;

impl Engine {
    /// A question or an order.
    pub fn handle_command(&mut self, now: Instant, command: Command) -> Reply {
        let reply = match command {
            // Asked often, and changes nothing.
            Command::Lookup(key) => return Reply::Found(Box::new(self.lookup(now, &key))),
            Command::Status => Reply::Status(Box::new(self.status(now))),
            Command::Stats => Reply::Stats(self.stats()),
            Command::Flows { from, slots_max } => self.flows(now, from, slots_max),
            Command::Commit { from } => self.queue_commit(Work::Commit, &from),
            Command::DryRun { from } => self.queue_commit(Work::Survey, &from),
            Command::Promote => self.promote(now, &Trigger::Command),
            Command::Instance {
                via,
                instance,
                state,
            } => self.on_instance(now, via, instance, state),
            Command::Demote => self.demote(now, &Trigger::Command),
            Command::Switchover { timeout } => self.switch_over(now, timeout),
            Command::FlushLocal => {
                self.mirror.flush(now);
                self.jobs
                    .await_listing(now, self.mirror.listings_until_fresh())
            }
            Command::FlushReplicas => {
                let peers = self.replication.peers_mut().iter_mut();
                Reply::FlowsForgotten(peers.map(Peer::flush_replica).sum())
            }
            Command::FlushKernel => self.jobs.queue(Work::Flush, Vec::new()),
            Command::ResyncKernel => {
                self.mirror.want_listing(now);
                self.jobs
                    .await_listing(now, self.mirror.listings_until_fresh())
            }
            Command::ResyncPeers => self.resync_peers(now),
        };
        self.look_around(now);
        self.settle_jobs(now);
        reply
    }

    /// Every peer gets the whole table again; done when each has proven that it holds it.
    fn resync_peers(&mut self, now: Instant) -> Reply {
        let deaf = |peer: &&Peer| peer.is_silent(now) || !peer.is_listening();
        if self.peers().is_empty() {
            return Reply::Refused("there is no peer to send the table to".into());
        }
        if let Some(peer) = self.peers().iter().find(deaf) {
            return Reply::Refused(format!("{} does not listen", peer.name()));
        }
        self.replication.resync_peers(&mut self.mirror.local, now);
        self.jobs.await_passes(now)
    }

    /// Ends what is done and begins what waits for it.
    pub(super) fn settle_jobs(&mut self, now: Instant) {
        self.doubt_role(now);
        loop {
            if let Some(ended) = self.jobs.take_ended(now, &self.kernel.room) {
                self.on_ended(now, ended);
                continue;
            }
            let begin = Begin {
                now,
                role: self.role,
                since_term: self.tenure.since_term,
                table_is_complete: self.mirror.is_complete(),
                rules: self.kernel.rules,
                peers: self.replication.peers(),
                rivals: &self.rivals,
            };
            match self.jobs.begin_next(begin) {
                Some((job, Work::Commit | Work::Promotion | Work::Check)) => {
                    self.mirror.take_ownership();
                    self.on_job_begun(now, job);
                }
                Some((_, Work::Flush | Work::Survey)) => {}
                None => break,
            }
        }
        self.settle_background();
        let is_unproven = |peer: &Peer| peer.is_listening() && !peer.has_proven_pass();
        let passes_are_over = !self.peers().iter().any(is_unproven);
        let listings = self.mirror.counters.listings;
        while let Some((job, result)) = self.jobs.take_waiter(now, listings, passes_are_over) {
            self.end_job(now, job, result);
        }
        if (self.role_number(), self.term) != (self.told.0, self.told.1) {
            self.look_around(now);
        }
    }
}
