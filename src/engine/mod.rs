//! Everything ctsyncd decides, without doing any of it.
//!
//! The engine owns every table and all state of the protocol. Inputs come through `handle_*`, which
//! never block and never fail as a whole; afterwards drain `poll_transmit`, `poll_request` and
//! `poll_notice` until each returns `None`, then wait for the next input or for `poll_timeout`.
//! Time is an argument and never goes backwards, so that a simulator can be the world.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::cache::{Local, Secs, Slot};
use crate::ctnetlink::request::{KernelRequest, RequestDone};
use crate::flow::FlowEvent;
use crate::flow::filter::LocalAddresses;
use crate::replication::{Circumstances, LinkId, Peer, Replication, ReplicationSettings, Transmit};
use crate::wire::Identity;

mod batch;
pub mod command;
mod commit;
mod damage;
mod flush;
mod hot;
mod jobs;
mod keep;
mod mirror;
mod notice;
mod report;
mod restore;
mod role;
mod settings;
pub mod status;

pub use command::{Command, FlowsFrom, Reply};
use hot::Keeper;
use jobs::{Begin, Jobs, Work};
use mirror::Mirror;
pub use notice::{JobId, JobResult, Notice};
use role::Tenure;
pub use settings::EngineSettings;
use status::Role;

/// Seconds that the clock of timeouts shows at the start: more than any timeout is long, so that
/// "told before we started" is not before zero.
const SECS_AT_START: Secs = 1 << 30;
/// Notices that nobody has fetched; beyond that the oldest is dropped.
const NOTICES_MAX: usize = 256;

/// The node.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    began: Instant,
    mirror: Mirror,
    replication: Replication,
    jobs: Jobs,
    keeper: Keeper,
    role: Role,
    term: u64,
    tenure: Tenure,
    notices: VecDeque<Notice>,
}

impl Engine {
    /// A node that knows nothing yet and wants to list its kernel's table.
    #[must_use]
    pub fn new(settings: EngineSettings, now: Instant) -> Self {
        let local = Local::new(
            settings.hash_key,
            settings.flows_max,
            settings.tombstones_max,
        );
        let mirror = Mirror::new(
            local,
            settings.policy.clone(),
            settings.writer_port_id,
            settings.scrub_interval,
            now,
        );
        let replication = ReplicationSettings {
            identity: Identity {
                name: settings.name,
                epoch: settings.epoch,
            },
            keyring: settings.keyring.clone(),
            secret: settings.secret,
            links: u8::try_from(settings.links.len()).expect("links are counted in a u8"),
            window: settings.window,
            datagram_bytes_max: settings.datagram_bytes_max,
            flows_max: settings.flows_max,
        };
        Self {
            replication: Replication::new(replication, now),
            mirror,
            jobs: Jobs::default(),
            keeper: Keeper::new(settings.is_hot, now),
            role: settings.role,
            term: settings.term,
            tenure: Tenure::remembered(settings.role, settings.term),
            notices: VecDeque::with_capacity(NOTICES_MAX),
            began: now,
            settings,
        }
    }

    /// The local cache.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.mirror.local
    }

    /// The peers.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        self.replication.peers()
    }

    /// Own role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Own term.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Events of the kernel, in order.
    pub fn handle_events(&mut self, now: Instant, events: &[FlowEvent]) {
        let (secs, listeners) = (self.secs(now), self.replication.listeners());
        if self.mirror.on_events(secs, events, listeners) {
            self.replication.handle_change(now);
        }
        self.tell_full();
    }

    /// Events of the kernel were missed.
    pub fn handle_overrun(&mut self, now: Instant) {
        let notice = self.mirror.on_overrun(now);
        self.notify(notice);
    }

    /// The node's own addresses, all of them.
    pub fn handle_addresses(&mut self, now: Instant, addresses: Vec<IpAddr>) {
        self.mirror
            .on_addresses(now, LocalAddresses::new(addresses));
    }

    /// A datagram has arrived on a link.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        link: LinkId,
        from: SocketAddr,
        datagram: &mut [u8],
    ) {
        let at = self.circumstances(now);
        self.replication
            .handle_datagram(at, link, from, datagram, &mut self.mirror.local);
    }

    /// The kernel has answered a request, or goes on answering.
    pub fn handle_done(&mut self, now: Instant, done: RequestDone) {
        match done {
            RequestDone::Listed(flows) => {
                let (secs, listeners) = (self.secs(now), self.replication.listeners());
                if self.mirror.on_listed(secs, &flows, listeners) {
                    self.replication.handle_change(now);
                }
                self.tell_full();
            }
            RequestDone::DumpEnded { complete } => self.mirror.on_listing_ended(now, complete),
            RequestDone::Batch {
                last_seq,
                complete,
                answers,
            } if self.keeper.owns(last_seq) => {
                self.with_keeper(now, |keeper, around| {
                    keeper.on_done(last_seq, complete, answers, around);
                });
            }
            RequestDone::Batch {
                last_seq,
                complete,
                answers,
            } => {
                self.jobs.on_done(last_seq, complete, answers);
                self.settle_jobs(now);
            }
        }
    }

    /// A question or an order.
    pub fn handle_command(&mut self, now: Instant, command: Command) -> Reply {
        let reply = match command {
            Command::Status => Reply::Status(Box::new(self.status(now))),
            Command::Stats => Reply::Stats(self.stats()),
            Command::Flows { from, slots_max } => self.flows(now, from, slots_max),
            Command::Commit => self.jobs.queue(Work::Commit),
            Command::Promote => self.promote(now),
            Command::Instance {
                kind,
                name,
                is_master,
            } => self.on_instance(now, kind, name, is_master),
            Command::Demote => self.demote(now),
            Command::FlushLocal => {
                self.mirror.flush(now);
                self.jobs
                    .await_listing(now, self.mirror.listings_until_fresh())
            }
            Command::FlushReplicas => {
                let peers = self.replication.peers_mut().iter_mut();
                Reply::FlowsForgotten(peers.map(Peer::flush_replica).sum())
            }
            Command::FlushKernel => self.jobs.queue(Work::Flush),
            Command::ResyncKernel => {
                self.mirror.want_listing(now);
                self.jobs
                    .await_listing(now, self.mirror.listings_until_fresh())
            }
            Command::ResyncPeers => self.resync_peers(now),
        };
        self.settle_jobs(now);
        reply
    }

    /// Time has passed. Spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let (secs, listeners) = (self.secs(now), self.replication.listeners());
        let listings = self.mirror.counters.listings;
        let (has_changed, notice) = self.mirror.on_timeout(now, secs, listeners);
        if self.mirror.counters.listings != listings {
            self.keeper.on_listing(now);
        }
        if has_changed {
            self.replication.handle_change(now);
        }
        if let Some(notice) = notice {
            self.notify(notice);
        }
        let at = self.circumstances(now);
        self.replication.handle_timeout(at, &mut self.mirror.local);
        self.with_keeper(now, Keeper::look_at_peers);
        self.settle_jobs(now);
    }

    /// Writes the next datagram into `out`; `None` when there is nothing to send now.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let at = self.circumstances(now);
        self.replication
            .poll_transmit(at, &mut self.mirror.local, out)
    }

    /// The next request to the kernel; its messages are in `out`. `None` when there is nothing to
    /// ask now.
    pub fn poll_request(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<KernelRequest> {
        out.clear();
        let secs = self.secs(now);
        let around = commit::Around {
            era: self.mirror.era(),
            ended: self.mirror.ended.as_ref(),
            local: &mut self.mirror.local,
            peers: self.replication.peers(),
            now,
            secs,
            grace_secs: u32::try_from(self.settings.grace.as_secs()).unwrap_or(u32::MAX),
        };
        if let Some(request) = self.jobs.next_batch(around, out) {
            return Some(request);
        }
        self.settle_jobs(now);
        if let Some(request) = self.keep(now, out) {
            return Some(request);
        }
        (self.may_list() && self.mirror.begin_listing(now)).then_some(KernelRequest::Dump)
    }

    /// Something that people, or whoever waits for a job, should hear about.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        let peer = self.replication.poll_notice().map(Notice::Peer);
        peer.or_else(|| self.notices.pop_front())
    }

    /// When to call `handle_timeout` and drain, if nothing else happens before. In the past means:
    /// at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        if self.jobs.is_hungry() || self.is_keeper_hungry() {
            return self.began;
        }
        let mirror = self.mirror.poll_timeout().filter(|_| self.may_list());
        let keeper = self.keeper.poll_timeout(&self.mirror);
        let keeper = keeper.filter(|_| !self.jobs.is_running());
        let timers = [mirror, self.jobs.poll_timeout(), keeper];
        timers
            .into_iter()
            .flatten()
            .fold(self.replication.poll_timeout(), Instant::min)
    }

    /// Says once that the local cache is full.
    fn tell_full(&mut self) {
        if self.mirror.take_filled() {
            self.notify(Notice::TableFull);
        }
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
    fn settle_jobs(&mut self, now: Instant) {
        self.doubt_role(now);
        loop {
            if let Some(ended) = self.jobs.take_ended(now) {
                self.on_ended(now, ended);
                continue;
            }
            let begin = Begin {
                now,
                role: self.role,
                since_term: self.tenure.since_term,
                table_is_complete: self.mirror.is_complete(),
                peers: self.replication.peers(),
            };
            match self.jobs.begin_next(begin) {
                Some(Work::Commit | Work::Promotion | Work::Check) => self.mirror.take_ownership(),
                Some(Work::Flush) => {}
                None => break,
            }
        }
        let is_unproven = |peer: &Peer| peer.is_listening() && !peer.has_proven_pass();
        let passes_are_over = !self.peers().iter().any(is_unproven);
        let listings = self.mirror.counters.listings;
        while let Some((job, result)) = self.jobs.take_waiter(now, listings, passes_are_over) {
            self.notify(Notice::JobDone { job, result });
        }
    }

    /// A listing beside a commit doubles the commit's time (measured), and can wait for it, unless
    /// it is the first.
    fn may_list(&self) -> bool {
        !self.jobs.is_running() || !self.mirror.is_complete()
    }

    fn circumstances(&self, now: Instant) -> Circumstances {
        let elapsed = now.saturating_duration_since(self.began);
        Circumstances {
            now,
            secs: self.secs(now),
            clock_micros: u64::try_from(elapsed.as_micros())
                .unwrap_or(u64::MAX)
                .max(1),
            table_is_complete: self.mirror.is_complete(),
            table_is_whole: self.mirror.is_whole(),
            role: match self.role {
                Role::Standby => 0,
                Role::Promoting => 1,
                Role::Active => 2,
            },
            term: self.term,
        }
    }

    fn secs(&self, now: Instant) -> Secs {
        let elapsed = now.saturating_duration_since(self.began).as_secs();
        SECS_AT_START.saturating_add(u32::try_from(elapsed).unwrap_or(u32::MAX))
    }

    fn notify(&mut self, notice: Notice) {
        if self.notices.len() == NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}

#[cfg(test)]
mod tests;
