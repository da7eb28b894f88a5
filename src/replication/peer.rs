//! One peer: how it is met, over which links it is reached, the session with it, and the replica
//! of its flows.
//!
//! The replica belongs to the name and outlives sessions; everything else about a session is in
//! `Session`. A greeting is believed when it echoes the challenge that we would give now: the
//! challenge is a keyed hash of the peer's name and epoch and of how many of its sessions we have
//! accepted, so that there is no state to exhaust and no recording to play back (rules S3, S4).

use std::collections::VecDeque;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::sender::{self, Sender, SenderCounters};
use super::session::{ACK_DELAY, PING_AT_REST, PING_OF_MANY, PING_WHILE_OPEN, Session};
use super::{Circumstances, Counters, LinkId, ReplicationSettings, Transmit};
use crate::cache::{Local, Replica};
use crate::wire::{
    Ack, Epoch, Frame, Frames, Greeting, Header, Kind, Name, Outcome, PROTOCOL_VERSION, Ping,
};

/// Epochs that were left and are never accepted again (rule S4).
const RETIRED_MAX: usize = 64;
/// A hello is answered at most this often.
const GREETING_INTERVAL: Duration = Duration::from_millis(100);
/// A peer not heard of for this long is silent: three pings at rest.
const SILENCE: Duration = Duration::from_secs(3);
/// A link whose ping was not answered for this long does not carry: three pings of many.
const LINK_SILENCE: Duration = Duration::from_millis(700);
/// Notices that wait to be fetched; a call yields two at most.
const NOTICES_MAX: usize = 8;

/// What is fixed about a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerSettings {
    /// Its bit in the masks of tombstones.
    pub(super) bit: u8,
    /// This node.
    pub(super) replication: ReplicationSettings,
}

/// Who a hello or greeting says it is from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) name: Name,
    pub(super) epoch: Epoch,
    pub(super) versions: (u8, u8),
}

/// Something an operator should hear about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerNotice {
    /// A session began: the peer is new, or it or we have restarted.
    SessionStarted {
        /// The peer.
        name: Name,
        /// Its run.
        epoch: Epoch,
    },
    /// A marker proved the replica equal after it was not, or for the first time.
    InSync {
        /// The peer.
        name: Name,
        /// Flows.
        flows: u64,
    },
    /// A marker found the replica different.
    Different {
        /// The peer.
        name: Name,
    },
    /// The peer speaks other versions of the protocol.
    Incompatible {
        /// The peer.
        name: Name,
        /// Lowest and highest version it speaks.
        versions: (u8, u8),
    },
    /// Another node has our name.
    DuplicateName {
        /// The name.
        name: Name,
    },
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
}

/// A way to the peer over one link.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    address: Option<SocketAddr>,
    /// When a ping sent on it was last answered.
    answered_at: Option<Instant>,
    pinged_at: Option<Instant>,
    /// Clock of the last ping sent on it.
    clock: u64,
}

/// One peer.
#[derive(Debug)]
pub struct Peer {
    name: Name,
    settings: PeerSettings,
    known_since: Instant,
    accepted: u64,
    retired: VecDeque<Epoch>,
    incompatible: Option<(u8, u8)>,
    greeted_at: Option<Instant>,
    session: Option<Session>,
    paths: Vec<Path>,
    heard_at: Option<Instant>,
    told: Option<Told>,
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
        Self {
            name,
            settings,
            known_since: now,
            accepted: 0,
            retired: VecDeque::with_capacity(RETIRED_MAX),
            incompatible: None,
            greeted_at: None,
            session: None,
            paths: vec![Path::default(); usize::from(settings.replication.links)],
            heard_at: None,
            told: None,
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

    /// True while something that our stream sent waits for an ack, or the whole table is sent.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.sender()
            .is_some_and(|sender| sender.is_passing() || sender.is_open())
    }

    /// The versions it speaks, if none of them is ours.
    #[must_use]
    pub fn incompatible(&self) -> Option<(u8, u8)> {
        self.incompatible
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

    /// Flows that did not fit in the replica.
    #[must_use]
    pub fn refused_flows(&self) -> u64 {
        self.refused_flows
    }

    /// Age of the oldest change that it has not acknowledged.
    #[must_use]
    pub fn lag(&self, now: Instant) -> Duration {
        self.sender()
            .map_or(Duration::ZERO, |sender| sender.lag(now))
    }

    /// Most changes that it has not acknowledged.
    #[must_use]
    pub fn lag_records(&self, local: &Local) -> u64 {
        self.sender().map_or(0, |sender| sender.lag_records(local))
    }

    /// Full passes in a row that did not make its replica of ours equal.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.sender().map_or(0, Sender::failures)
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

    /// Forgets the replica's flows; the next judged marker brings them back (rule R6).
    pub fn flush_replica(&mut self) {
        if let Some(replica) = &mut self.replica {
            replica.clear();
        }
    }

    pub(super) fn answers_to(&self, session: u64) -> bool {
        self.session
            .as_ref()
            .is_some_and(|held| held.ours == session)
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

    /// Answers a hello with a greeting, unless there is a session with that run.
    pub(super) fn on_hello(
        &mut self,
        at: Circumstances,
        link: LinkId,
        from: SocketAddr,
        who: Identity,
        local: &Local,
    ) -> Option<Greeting> {
        if !self.is_compatible(who) || self.retired.contains(&who.epoch) {
            return None;
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.epoch == who.epoch)
        {
            // Known on another link: from now on that link is watched as well.
            let path = &mut self.paths[usize::from(link.0)];
            path.address.get_or_insert(from);
            return None;
        }
        if self
            .greeted_at
            .is_some_and(|greeted| at.now < greeted + GREETING_INTERVAL)
        {
            return None;
        }
        self.greeted_at = Some(at.now);
        Some(self.greeting(who.epoch, None, local))
    }

    /// Accepts a session if the greeting echoes the challenge; says what to answer.
    pub(super) fn on_greeting(
        &mut self,
        at: Circumstances,
        link: LinkId,
        from: SocketAddr,
        who: Identity,
        greeting: &Greeting,
        local: &mut Local,
    ) -> Option<Greeting> {
        if !self.is_compatible(who) || self.retired.contains(&who.epoch) {
            return None;
        }
        let is_current = self
            .session
            .as_ref()
            .is_some_and(|held| held.epoch == who.epoch);
        let is_echo = greeting.echo == Some(self.token(Token::Challenge, who.epoch));
        let is_accepted = is_echo && !is_current;
        if is_accepted {
            self.accept(at, link, from, greeting, local);
        }
        (is_accepted || greeting.echo.is_none())
            .then(|| self.greeting(who.epoch, Some(greeting.challenge), local))
    }

    /// A datagram of our session.
    pub(super) fn on_datagram(
        &mut self,
        at: Circumstances,
        link: LinkId,
        from: SocketAddr,
        header: &Header,
        body: &[u8],
        local: &mut Local,
        counters: &mut Counters,
    ) {
        self.heard_at = Some(at.now);
        self.paths[usize::from(link.0)].address = Some(from);
        if header.kind == Kind::Data {
            return self.on_data(at, header, body, counters);
        }
        for frame in Frames::new(body) {
            match frame {
                Ok(Frame::Ack(ack)) => self.on_ack(at, &ack, local, counters),
                Ok(Frame::Ping(ping)) => self.on_ping(&ping),
                Ok(Frame::Hello(_) | Frame::Greeting(_) | Frame::Unknown(_)) => {
                    counters.unknown_frames += 1;
                }
                Err(error) => counters.refuse(error),
            }
        }
    }

    /// Starts our stream when our table is complete (rule J1); ends holds.
    pub(super) fn on_timeout(&mut self, at: Circumstances, local: &mut Local) {
        let Some(session) = &mut self.session else {
            return;
        };
        match &mut session.sender {
            Some(sender) => sender.on_timeout(local, at.now),
            None if at.table_is_complete => {
                let bit = self.settings.bit;
                let sender = Sender::new(local, bit, session.have, session.window, at.now);
                session.sender = Some(sender);
            }
            None => {}
        }
    }

    /// The next control datagram that is due: an ack, or a ping of some link.
    pub(super) fn next_control(
        &mut self,
        at: Circumstances,
        local: &Local,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let carrying = self.carrying(at.now)?;
        let replica = self.replica.as_ref()?;
        let session = self.session.as_mut()?;
        if let Some(answered_clock) = session.take_due_ack(at.now) {
            Self::control_header(session, out);
            session.receiver.ack(replica, answered_clock).emit(out);
            return Some(Transmit {
                link: carrying.0,
                to: Some(carrying.1),
            });
        }
        let (link, address) = self.next_ping(at.now, carrying)?;
        let (lag, lag_records) = (self.lag(at.now), self.lag_records(local));
        let session = self.session.as_mut()?;
        let clock = session.next_clock(at.clock_micros);
        let path = &mut self.paths[usize::from(link.0)];
        (path.clock, path.pinged_at) = (clock, Some(at.now));
        if link == carrying.0 {
            session.pinged_at = Some(at.now);
        }
        Self::control_header(session, out);
        let ping = Ping {
            next: session.sender.as_ref().map_or(1, Sender::next),
            lag_ms: u32::try_from(lag.as_millis()).unwrap_or(u32::MAX),
            lag_records: u32::try_from(lag_records).unwrap_or(u32::MAX),
            clock_micros: clock,
            role: at.role,
            term: at.term,
            flows: local.digest().flows(),
        };
        ping.emit(out);
        Some(Transmit {
            link,
            to: Some(address),
        })
    }

    /// The next data datagram.
    pub(super) fn next_data(
        &mut self,
        at: Circumstances,
        datagram_bytes_max: usize,
        local: &mut Local,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (link, address) = self.carrying(at.now)?;
        let session = self.session.as_mut()?;
        let sender = session.sender.as_mut()?;
        let circumstances = sender::Circumstances {
            now: at.now,
            secs: at.secs,
            clock_micros: at.clock_micros,
            table_is_whole: at.table_is_whole,
            datagram_bytes_max,
            session: session.theirs,
        };
        let is_filled = sender.fill(local, circumstances, out);
        is_filled.then_some(Transmit {
            link,
            to: Some(address),
        })
    }

    /// When there is something to do without input; what was already due at `drained_at` waits for
    /// something else.
    pub(super) fn wake_at(&self, drained_at: Instant) -> Option<Instant> {
        let session = self.session.as_ref()?;
        let carrying = self.carrying(drained_at).map(|(link, _)| link);
        let pings = (0..self.paths.len()).filter_map(|at| {
            let link = LinkId(u8::try_from(at).expect("links are counted in a u8"));
            self.ping_due(link, carrying)
        });
        let sender = session
            .sender
            .as_ref()
            .map(Sender::wake_at)
            .filter(|&at| at > drained_at);
        pings.chain(session.ack_at).chain(sender).min()
    }

    fn sender(&self) -> Option<&Sender> {
        self.session.as_ref()?.sender.as_ref()
    }

    fn sender_mut(&mut self) -> Option<&mut Sender> {
        self.session.as_mut()?.sender.as_mut()
    }

    fn on_data(
        &mut self,
        at: Circumstances,
        header: &Header,
        body: &[u8],
        counters: &mut Counters,
    ) {
        let (Some(session), Some(replica)) = (&mut self.session, &mut self.replica) else {
            return;
        };
        let received = session.receiver.on_data(header, body, replica, at.secs);
        self.high = self.high.max(session.receiver.high());
        counters.duplicates += u64::from(received.duplicate);
        counters.beyond_window += u64::from(received.beyond);
        counters.records += u64::from(received.records);
        counters.unreadable_records += u64::from(received.unreadable);
        counters.refused_flows += u64::from(received.refused);
        self.refused_flows += u64::from(received.refused);
        let is_urgent = received.gap || received.judged.is_some();
        session.ack_by(if is_urgent {
            at.now
        } else {
            at.now + ACK_DELAY
        });
        let flows = replica.digest().flows();
        match received.judged {
            Some(Outcome::Equal) => {
                if self.verdict != Some(Outcome::Equal) {
                    self.notify(PeerNotice::InSync {
                        name: self.name,
                        flows,
                    });
                }
                self.verified_at = Some(at.now);
            }
            Some(Outcome::Different) => self.notify(PeerNotice::Different { name: self.name }),
            None => return,
        }
        self.verdict = received.judged;
    }

    fn on_ack(&mut self, at: Circumstances, ack: &Ack, local: &mut Local, counters: &mut Counters) {
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(path) = self
            .paths
            .iter_mut()
            .find(|path| path.clock == ack.echo_clock_micros)
        {
            path.answered_at = path.pinged_at.max(path.answered_at);
            if let (Some(sender), Some(pinged_at)) = (&mut session.sender, path.pinged_at) {
                sender.on_round_trip(at.now.saturating_duration_since(pinged_at));
            }
            // One answer is one measurement.
            path.clock = 0;
        }
        let Some(sender) = &mut session.sender else {
            return;
        };
        if sender.on_ack(ack, local, at.now) {
            sender.on_verdict(ack, local, at.now);
        } else {
            counters.impossible_acks += 1;
        }
    }

    fn on_ping(&mut self, ping: &Ping) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.receiver.on_ping(ping.next, ping.clock_micros);
        session.owe_answer(ping.clock_micros);
        self.told = Some(Told {
            role: ping.role,
            term: ping.term,
            flows: ping.flows,
            lag_ms: ping.lag_ms,
            lag_records: ping.lag_records,
        });
    }

    fn accept(
        &mut self,
        at: Circumstances,
        link: LinkId,
        from: SocketAddr,
        greeting: &Greeting,
        local: &mut Local,
    ) {
        self.end_session(local);
        let key = crate::cache::HashKey(greeting.hash_key);
        match &mut self.replica {
            Some(replica) => replica.rehash(key),
            None => self.replica = Some(Replica::new(key, self.settings.replication.flows_max)),
        }
        let ours = self.token(Token::Session, greeting.epoch);
        self.accepted += 1;
        let session = Session::new(
            greeting.epoch,
            ours,
            greeting.session,
            greeting.have,
            greeting.window,
            self.high,
        );
        self.session = Some(session);
        self.paths.fill(Path::default());
        self.paths[usize::from(link.0)].address = Some(from);
        self.heard_at = Some(at.now);
        (self.verdict, self.refused_flows) = (None, 0);
        self.notify(PeerNotice::SessionStarted {
            name: self.name,
            epoch: greeting.epoch,
        });
        self.on_timeout(at, local);
    }

    fn end_session(&mut self, local: &mut Local) {
        let Some(session) = self.session.take() else {
            return;
        };
        if let Some(sender) = session.sender {
            sender.close(local);
        }
        if self.retired.len() == RETIRED_MAX {
            self.retired.pop_front();
        }
        self.retired.push_back(session.epoch);
    }

    fn greeting(&self, to_epoch: Epoch, echo: Option<u64>, local: &Local) -> Greeting {
        let ours = &self.settings.replication;
        let session = match &self.session {
            Some(session) if session.epoch == to_epoch => session.ours,
            Some(_) | None => self.token(Token::Session, to_epoch),
        };
        Greeting {
            from: ours.name,
            epoch: ours.epoch,
            to: self.name,
            to_epoch,
            challenge: self.token(Token::Challenge, to_epoch),
            echo,
            session,
            have: self
                .replica
                .as_ref()
                .map_or(0, |replica| replica.digest().flows()),
            window: ours.window,
            flows: local.digest().flows(),
            hash_key: local.hash_key().0,
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: 0,
        }
    }

    /// A number that only we can make, for the next session with a run of this peer.
    fn token(&self, token: Token, epoch: Epoch) -> u64 {
        let secret = self.settings.replication.secret.0;
        let mut hasher = SipHasher13::new_with_keys(secret[0], secret[1]);
        hasher.write(&[token as u8]);
        hasher.write(self.name.as_str().as_bytes());
        hasher.write(&epoch.0);
        hasher.write(&self.accepted.to_be_bytes());
        // Zero means "no session".
        hasher.finish().max(1)
    }

    fn is_compatible(&mut self, who: Identity) -> bool {
        let (min, max) = who.versions;
        if (min..=max).contains(&PROTOCOL_VERSION) {
            self.incompatible = None;
            return true;
        }
        if self.incompatible != Some(who.versions) {
            self.incompatible = Some(who.versions);
            let versions = who.versions;
            self.notify(PeerNotice::Incompatible {
                name: self.name,
                versions,
            });
        }
        false
    }

    /// The first link whose pings are answered; before any answer, or when none is, the first
    /// over which the peer was heard.
    fn carrying(&self, now: Instant) -> Option<(LinkId, SocketAddr)> {
        let is_alive = |path: &&Path| {
            path.answered_at
                .is_some_and(|answered| now < answered + LINK_SILENCE)
        };
        let chosen = self.paths.iter().find(is_alive).or_else(|| {
            let latest = self.paths.iter().filter_map(|path| path.answered_at).max();
            self.paths
                .iter()
                .find(|path| path.address.is_some() && path.answered_at == latest)
        });
        let address = chosen?.address?;
        let at = self
            .paths
            .iter()
            .position(|path| std::ptr::eq(path, chosen.expect("is some")))?;
        Some((
            LinkId(u8::try_from(at).expect("links are counted in a u8")),
            address,
        ))
    }

    fn next_ping(
        &self,
        now: Instant,
        carrying: (LinkId, SocketAddr),
    ) -> Option<(LinkId, SocketAddr)> {
        (0..self.paths.len()).find_map(|at| {
            let link = LinkId(u8::try_from(at).expect("links are counted in a u8"));
            let due = self.ping_due(link, Some(carrying.0))?;
            (due <= now).then_some((link, self.paths[at].address?))
        })
    }

    fn ping_due(&self, link: LinkId, carrying: Option<LinkId>) -> Option<Instant> {
        let path = &self.paths[usize::from(link.0)];
        path.address?;
        let is_open = self.sender().is_some_and(Sender::is_open);
        let interval = match (Some(link) == carrying && is_open, self.paths.len()) {
            (true, _) => PING_WHILE_OPEN,
            (false, 1) => PING_AT_REST,
            (false, _) => PING_OF_MANY,
        };
        Some(
            path.pinged_at
                .map_or(self.known_since, |pinged| pinged + interval),
        )
    }

    fn control_header(session: &mut Session, out: &mut Vec<u8>) {
        session.number += 1;
        let (theirs, number) = (session.theirs, session.number);
        Header {
            kind: Kind::Control,
            session: theirs,
            number,
            floor: 0,
        }
        .emit(out);
    }

    fn notify(&mut self, notice: PeerNotice) {
        if self.notices.len() == NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Token {
    Challenge = 1,
    Session = 2,
}
