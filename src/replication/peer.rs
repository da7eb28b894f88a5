//! One peer: what is known of it, the session with it, and the replica of its flows.
//!
//! The replica belongs to the name and outlives sessions; everything else about a session is in
//! `Session`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sender::{Sender, SenderCounters};
use super::session::Session;
use super::{Circumstances, LinkId, ReplicationSettings};
use crate::cache::{Local, Replica};
use crate::rules::{Rule, holds};
use crate::wire::{Claims, Epoch, Name, Outcome, Versions};

mod damage;
mod lag;
mod meet;
mod notice;
mod paths;
mod reconcile;
mod talk;

pub use damage::Damage;
use meet::{GREETED_MAX, RETIRED_MAX};
pub use notice::PeerNotice;
use paths::Path;

/// A peer not heard of for this long is silent: three pings at rest.
const SILENCE: Duration = Duration::from_secs(3);
/// A node without a version in common is shown for this long after its last hello: ten of them.
const INCOMPATIBLE: Duration = Duration::from_secs(10);
/// Notices that wait to be fetched; a call yields two at most.
const NOTICES_MAX: usize = 8;

/// What is fixed about a peer.
#[derive(Clone, Debug)]
pub(super) struct PeerSettings {
    /// Its bit in the masks of tombstones.
    pub(super) bit: u8,
    /// This node.
    pub(super) replication: ReplicationSettings,
}

/// Who a hello or greeting is from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) epoch: Epoch,
    pub(super) versions: Versions,
    /// The datagram's.
    pub(super) number: u64,
}

/// What a peer told of itself in its last ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// Its role, as the ping numbers them.
    pub role: u8,
    /// Its term.
    pub term: u64,
    /// Flows in its table.
    pub flows: u64,
    /// How far its sending to us lags, in milliseconds.
    pub lag_ms: u32,
    /// Changes it has still to send us, at most.
    pub lag_records: u32,
    /// It is ready: as a standby it could take over now.
    pub ready: bool,
}

/// One peer.
#[derive(Debug)]
pub struct Peer {
    name: Name,
    settings: PeerSettings,
    known_since: Instant,
    accepted: u64,
    retired: VecDeque<Epoch>,
    /// Versions of which none is ours, and when they were heard last.
    incompatible: Option<(Versions, Instant)>,
    incompatible_told_at: Option<Instant>,
    /// Runs whose hellos were answered, and when.
    greeted: Vec<(Epoch, Instant)>,
    /// The run whose greeting came last, and the greeting's number.
    greeting_number: Option<(Epoch, u64)>,
    retired_told_at: Option<Instant>,
    session: Option<Session>,
    paths: Vec<Path>,
    heard_at: Option<Instant>,
    told: Option<Told>,
    /// The run that told it, and when.
    told_by: Option<(Epoch, Instant)>,
    claims: Claims,
    /// What we tell it of ourselves has changed then, and it has not answered a ping since.
    news_at: Option<Instant>,
    replica: Option<Replica>,
    /// Highest stamp in the replica.
    high: u64,
    verdict: Option<Outcome>,
    verified_at: Option<Instant>,
    refused_flows: u64,
    notices: VecDeque<PeerNotice>,
}

impl Peer {
    pub(super) fn new(name: Name, settings: PeerSettings, now: Instant) -> Self {
        let paths = vec![Path::default(); usize::from(settings.replication.links)];
        Self {
            name,
            settings,
            known_since: now,
            accepted: 0,
            retired: VecDeque::with_capacity(RETIRED_MAX),
            incompatible: None,
            incompatible_told_at: None,
            greeted: Vec::with_capacity(GREETED_MAX),
            greeting_number: None,
            retired_told_at: None,
            session: None,
            paths,
            heard_at: None,
            told: None,
            told_by: None,
            claims: Claims::NONE,
            news_at: None,
            replica: None,
            high: 0,
            verdict: None,
            verified_at: None,
            refused_flows: 0,
            notices: VecDeque::with_capacity(NOTICES_MAX),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Name {
        self.name
    }

    /// Its bit in the masks of tombstones.
    #[must_use]
    pub fn bit(&self) -> u8 {
        self.settings.bit
    }

    /// True once there is a session.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// True while our stream to it runs.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.sender().is_some()
    }

    /// True while our stream sends the whole table.
    #[must_use]
    pub fn is_joining(&self) -> bool {
        self.sender().is_some_and(Sender::is_passing)
    }

    /// The versions it speaks, if none of them is ours: heard within ten seconds, and nothing of a
    /// session since.
    #[must_use]
    pub fn incompatible(&self, now: Instant) -> Option<Versions> {
        let (versions, at) = self.incompatible?;
        let is_old = now.saturating_duration_since(at) >= INCOMPATIBLE;
        let is_over = self.heard_at.is_some_and(|heard| heard > at);
        (!is_old && !is_over).then_some(versions)
    }

    /// The version of the protocol that the session uses.
    #[must_use]
    pub fn version(&self) -> Option<u8> {
        self.session.as_ref().map(|session| session.version)
    }

    /// How long it has been silent.
    #[must_use]
    pub fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard_at.unwrap_or(self.known_since))
    }

    /// True if it has been silent for too long to be there.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        self.silent_for(now) >= SILENCE
    }

    /// What it told of itself, once there was a ping.
    #[must_use]
    pub fn told(&self) -> Option<Told> {
        self.told
    }

    /// When its last ping came.
    #[must_use]
    pub fn told_at(&self) -> Option<Instant> {
        self.told_by.map(|(_, at)| at)
    }

    /// True if its present run has told it: one that has restarted may be something else by now.
    #[must_use]
    pub fn has_told_since_restart(&self) -> bool {
        let epoch = self.session.as_ref().map(|session| session.epoch);
        epoch.is_some() && self.told_by.map(|(epoch, _)| epoch) == epoch
    }

    /// What it claimed in its last ping.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The replica of its flows, to follow its changes.
    pub fn replica_mut(&mut self) -> Option<&mut Replica> {
        self.replica.as_mut()
    }

    /// The replica of its flows, once there was a session.
    #[must_use]
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    /// Highest stamp in the replica: grows with every datagram that changes it.
    #[must_use]
    pub fn high(&self) -> u64 {
        self.high
    }

    /// Result of the last judged marker of this session.
    #[must_use]
    pub fn verdict(&self) -> Option<Outcome> {
        self.verdict
    }

    /// When the replica was last proven equal.
    #[must_use]
    pub fn verified_at(&self) -> Option<Instant> {
        self.verified_at
    }

    /// Flows that did not fit in the replica since it was last proven equal.
    #[must_use]
    pub fn refused_flows(&self) -> u64 {
        self.refused_flows
    }

    /// Attempts to repair its replica of ours since that was last equal.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.sender().map_or(0, Sender::attempts)
    }

    /// What our stream to it has done in this session.
    #[must_use]
    pub fn sender_counters(&self) -> SenderCounters {
        self.sender()
            .map_or_else(SenderCounters::default, |sender| sender.counters)
    }

    /// The link that carries.
    #[must_use]
    pub fn link(&self, now: Instant) -> Option<LinkId> {
        self.carrying(now).map(|(link, _)| link)
    }

    /// True if it holds what the last full pass sent: a marker since has proven it.
    #[must_use]
    pub fn has_proven_pass(&self) -> bool {
        self.sender().is_some_and(Sender::has_proven_pass)
    }

    /// Forgets the replica's flows, and with them every proof; the next judged marker brings them
    /// back (rule R6). Returns how many there were.
    pub fn flush_replica(&mut self) -> u64 {
        (self.verdict, self.verified_at) = (None, None);
        let Some(replica) = &mut self.replica else {
            return 0;
        };
        let flows = replica.digest().flows();
        replica.clear();
        flows
    }

    pub(super) fn answers_to(&self, session: u64) -> bool {
        self.session
            .as_ref()
            .is_some_and(|held| held.ours == session || !holds(Rule::S6Session))
    }

    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        self.session.is_none() && self.replica.is_none() && self.is_silent(now)
    }

    pub(super) fn take_notice(&mut self) -> Option<PeerNotice> {
        self.notices.pop_front()
    }

    pub(super) fn close(mut self, local: &mut Local) {
        self.end_session(local);
    }

    /// What pings tell of us has changed: one is due at once on the link that carries.
    pub(super) fn on_news(&mut self, now: Instant) {
        self.news_at = Some(now);
    }

    pub(super) fn on_change(&mut self, now: Instant) {
        if let Some(sender) = self.sender_mut() {
            sender.on_change(now);
        }
    }

    pub(super) fn start_pass(&mut self, local: &mut Local, now: Instant) {
        if let Some(sender) = self.sender_mut() {
            sender.start_pass(local, now);
        }
    }

    /// Starts our stream when our table is complete (rule J1); ends holds.
    pub(super) fn on_timeout(&mut self, at: Circumstances, local: &mut Local) {
        self.go_on(at);
        let Some(session) = &mut self.session else {
            return;
        };
        match &mut session.sender {
            Some(sender) => {
                sender.on_table(at.table_is_whole);
                sender.on_timeout(at.now);
                self.tell_repaired();
            }
            None if at.table_is_complete || !holds(Rule::J1) => {
                let bit = self.settings.bit;
                let sender = Sender::new(local, bit, session.have, session.window, at.now);
                session.sender = Some(sender);
            }
            None => {}
        }
    }

    /// When there is something to do without input; what was already due at `drained_at` waits for
    /// something else.
    pub(super) fn wake_at(&self, drained_at: Instant) -> Option<Instant> {
        if self.replica.as_ref().is_some_and(Replica::has_doomed) {
            return Some(drained_at);
        }
        let session = self.session.as_ref()?;
        if session.receiver.is_sweeping() {
            return Some(drained_at);
        }
        let carrying = self.carrying(drained_at).map(|(link, _)| link);
        let pings = (0..self.paths.len()).filter_map(|at| {
            let link = LinkId(u8::try_from(at).expect("links are counted in a u8"));
            self.ping_due(link, carrying)
        });
        let sender = session
            .sender
            .iter()
            .flat_map(|sender| sender.wake_at())
            .filter(|&at| at > drained_at);
        pings.chain(session.ack_at).chain(sender).min()
    }

    fn sender(&self) -> Option<&Sender> {
        self.session.as_ref()?.sender.as_ref()
    }

    fn sender_mut(&mut self) -> Option<&mut Sender> {
        self.session.as_mut()?.sender.as_mut()
    }

    fn notify(&mut self, notice: PeerNotice) {
        if self.notices.len() == NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}
