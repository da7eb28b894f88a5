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
use crate::flow::filter::LocalAddresses;
use crate::flow::{ExpectationEvent, FlowEvent};
use crate::replication::{LinkId, Peer, Replication, ReplicationSettings, Transmit};
use crate::wire::{Claims, Identity, Name};

mod background;
mod batch;
pub mod command;
mod commit;
mod damage;
mod departed;
mod expect;
mod fade;
mod fate;
mod flush;
mod handover;
mod history;
mod hot;
mod jobs;
mod keep;
mod look;
pub mod lookup;
mod mirror;
mod naming;
mod needs;
mod notice;
mod orders;
mod orphans;
mod overlap;
mod reads;
mod report;
mod restore;
mod role;
mod room;
mod settings;
mod split;
pub mod status;
mod strict;
mod survey;
mod text;

use background::Background;
pub use command::{Command, FlowsFrom, InstanceState, Reply, Via};
use handover::Handover;
pub use handover::Standing;
use history::History;
pub use history::{Transition, TransitionKind};
use hot::Keeper;
use jobs::Jobs;
use mirror::Mirror;
pub use notice::{JobId, JobResult, Notice};
use reads::Read;
pub use role::Instance;
use role::Tenure;
use room::KernelView;
pub use settings::EngineSettings;
use split::Rival;
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
    background: Background,
    keeper: Keeper,
    role: Role,
    term: u64,
    tenure: Tenure,
    kernel: KernelView,
    rivals: Vec<Rival>,
    /// Up to which term what a standby had as an active was taken over.
    taken_terms: Vec<(Name, u64)>,
    handover: Handover,
    history: History,
    /// As it was looked at last: the pings tell it.
    is_ready: bool,
    /// What the pings tell.
    told: (u8, u64, bool, Claims),
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
            versions: settings.versions,
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
            background: Background::default(),
            keeper: Keeper::new(settings.is_hot, now),
            role: settings.role,
            term: settings.term,
            tenure: Tenure::remembered(settings.role, settings.term, settings.masters.clone(), now),
            kernel: KernelView::default(),
            rivals: Vec::new(),
            taken_terms: Vec::new(),
            handover: Handover::new(),
            history: History::default(),
            is_ready: false,
            told: (0, 0, false, Claims::NONE),
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
        if self.mirror.on_events(now, secs, events, listeners) {
            self.replication.handle_change(now);
        }
        self.tell_full(now);
    }

    /// An event of the kernel about an expectation, in its place among the others.
    pub fn handle_expectation(&mut self, now: Instant, event: &ExpectationEvent) {
        let (secs, listeners) = (self.secs(now), self.replication.listeners());
        if self.mirror.on_expectation(secs, event, listeners) {
            self.replication.handle_change(now);
        }
        self.tell_full(now);
    }

    /// Events of the kernel were missed.
    pub fn handle_overrun(&mut self, now: Instant) {
        let notice = self.mirror.on_overrun(now);
        self.notify(notice);
        self.look_around(now);
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
                self.tell_full(now);
            }
            RequestDone::DumpEnded { complete } => {
                self.mirror.on_listing_ended(now, complete);
                self.look_around(now);
            }
            RequestDone::ListedExpectations(listed) => {
                let (secs, listeners) = (self.secs(now), self.replication.listeners());
                if self.mirror.on_listed_expectations(secs, &listed, listeners) {
                    self.replication.handle_change(now);
                }
                self.tell_full(now);
            }
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
                let (secs, listeners) = (self.secs(now), self.replication.listeners());
                let is_read = self
                    .mirror
                    .on_read(secs, (last_seq, complete), answers, listeners);
                match is_read {
                    Read::Changed => self.replication.handle_change(now),
                    Read::Same => {}
                    Read::NotOurs(answers) => {
                        self.on_batch_done(now, last_seq, complete, answers);
                        self.settle_jobs(now);
                    }
                }
            }
        }
    }

    /// Time has passed. Spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let (secs, listeners) = (self.secs(now), self.replication.listeners());
        let listings = self.mirror.counters.listings;
        self.mirror.local.go_on();
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
        self.look_at_overlap(now);
        self.look_around(now);
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
        if let Some(request) = self.mirror.next_read(now, self.jobs.next_seq(), out) {
            return Some(request);
        }
        let secs = self.secs(now);
        let around = commit::Around {
            era: self.mirror.era(),
            ended: self.mirror.ended.as_ref(),
            local: &mut self.mirror.local,
            peers: self.replication.peers(),
            room: &mut self.kernel.room,
            now,
            secs,
            grace_secs: u32::try_from(self.settings.grace.as_secs()).unwrap_or(u32::MAX),
        };
        let request = if self.jobs.is_idle() {
            let next_seq = self.jobs.next_seq();
            self.background.step(&around, next_seq, out)
        } else {
            self.jobs.next_batch(around, out)
        };
        if request.is_some() {
            return request;
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
        if self.jobs.is_hungry() || self.is_keeper_hungry() || self.local().has_more() {
            return self.began;
        }
        let mirror = self.mirror.poll_timeout().filter(|_| self.may_list());
        let background = self.background.due(self.began);
        let background = background.filter(|_| self.jobs.is_idle());
        let keeper = self.keeper.poll_timeout(&self.mirror);
        let keeper = keeper.filter(|_| !self.jobs.is_running());
        let timers = [
            mirror,
            self.mirror.read_due(),
            self.jobs.poll_timeout(),
            self.handover.poll_timeout(),
            background,
            keeper,
            self.overlap_due(),
        ];
        timers
            .into_iter()
            .flatten()
            .fold(self.replication.poll_timeout(), Instant::min)
    }

    /// Says once that the local cache is full.
    fn tell_full(&mut self, now: Instant) {
        if self.mirror.take_filled() {
            self.notify(Notice::TableFull);
            self.look_around(now);
        }
    }

    /// A listing beside a commit doubles the commit's time (measured), and can wait for it, unless
    /// it is the first.
    fn may_list(&self) -> bool {
        !self.jobs.is_running() || !self.mirror.is_complete()
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
