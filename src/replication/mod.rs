//! The protocol between this node and its peers: who is there, and one stream in each direction
//! with each of them. docs/protocol.md states the rules by the letters cited here.
//!
//! The story of one change: `Sender::fill` reads it from the local cache into a data datagram and
//! notes its slot in the `Ring`; the peer's `Receiver` puts it into its `Replica`, and its ack
//! closes the ring's entry. What was lost is read from the table again. When all has been sent, a
//! marker lets the peer compare the whole table.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::cache::{HashKey, Local};
use crate::wire::seal::{Keyring, TAG_BYTES};
use crate::wire::{Ack, Claims, Greeting, Header, Identity, Kind, Versions};

mod ahead;
mod answer;
mod circumstances;
pub mod counters;
mod first;
mod keys;
pub mod peer;
mod receiver;
mod reconcile;
mod ring;
mod sender;
mod session;
mod strangers;
mod window;

#[cfg(test)]
mod attacks {
    mod tests;
}

pub use answer::AnswerCounters;
pub use circumstances::Circumstances;
pub use counters::Counters;
pub use peer::{Damage, Peer, PeerNotice};
pub use reconcile::ReconcileCounters;
pub use sender::SenderCounters;
pub use strangers::Stranger;
use strangers::Strangers;

/// Most peers: with this node a cluster of eight. A tombstone keeps a bit for each.
pub const PEERS_MAX: usize = 7;

/// A hello goes out on every link this often (rule S2).
const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// Greetings that wait to be sent; beyond that they are dropped, and the next hello brings another.
const GREETINGS_MAX: usize = 16;

/// What goes on is told again after this long, not with every datagram.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// A link, by its place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LinkId(pub u8);

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The link to send it on.
    pub link: LinkId,
    /// One peer, or everybody on the link. On a multicast link both are the group (rule W3).
    pub to: Option<SocketAddr>,
}

/// Where a datagram came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Origin {
    link: LinkId,
    address: SocketAddr,
}

/// What the protocol needs to know about this node.
#[derive(Clone, Debug)]
pub struct ReplicationSettings {
    /// This node and run.
    pub identity: Identity,
    /// The versions of the protocol that this node speaks.
    pub versions: Versions,
    /// The cluster's keys; none: the links are insecure.
    pub keyring: Option<Keyring>,
    /// Known to nobody else; challenges and session numbers are made from it (rule S1).
    pub secret: HashKey,
    /// Number of links.
    pub links: u8,
    /// Most data packet numbers that one peer may have under way to us (rule W1); fewer are offered
    /// if the ack of so many would not fit in a datagram.
    pub window: u32,
    /// Most bytes of a datagram.
    pub datagram_bytes_max: usize,
    /// Most flows of a replica.
    pub flows_max: u32,
}

/// All peers, and what is on its way to them.
#[derive(Debug)]
pub struct Replication {
    settings: ReplicationSettings,
    peers: Vec<Peer>,
    hello_at: Instant,
    /// Links that the current round of hellos has not reached yet.
    hellos: std::ops::Range<u8>,
    hello_number: u64,
    greeting_number: u64,
    greetings: VecDeque<(Transmit, Greeting)>,
    /// Whose data goes next.
    turn: usize,
    drained_at: Instant,
    notices: VecDeque<PeerNotice>,
    strangers: Strangers,
    told_at: Option<Instant>,
    claims: Claims,
    counters: Counters,
}

/// Notices that nobody has fetched; beyond that the oldest is dropped.
const NOTICES_MAX: usize = 64;

impl Replication {
    /// Nobody heard of yet.
    #[must_use]
    pub fn new(mut settings: ReplicationSettings, now: Instant) -> Self {
        let tag = settings.keyring.as_ref().map_or(0, |_| TAG_BYTES);
        let fitting = Ack::window_that_fits(settings.datagram_bytes_max - tag);
        settings.window = settings.window.min(fitting);
        Self {
            settings,
            peers: Vec::with_capacity(PEERS_MAX),
            hello_at: now,
            hellos: 0..0,
            hello_number: 0,
            greeting_number: 0,
            greetings: VecDeque::with_capacity(GREETINGS_MAX),
            turn: 0,
            drained_at: now,
            notices: VecDeque::with_capacity(NOTICES_MAX),
            strangers: Strangers::default(),
            told_at: None,
            claims: Claims::NONE,
            counters: Counters::default(),
        }
    }

    /// The peers, in the order in which they were heard of.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// The peers, to change what is ours of them.
    pub fn peers_mut(&mut self) -> &mut [Peer] {
        &mut self.peers
    }

    /// Everything counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who was heard lately and could not be understood.
    pub fn strangers(&self, now: Instant) -> impl Iterator<Item = &Stranger> {
        self.strangers.recent(now)
    }

    /// The peers whose stream runs, a bit each.
    #[must_use]
    pub fn listeners(&self) -> u8 {
        self.peers
            .iter()
            .filter(|peer| peer.is_listening())
            .fold(0, |mask, peer| mask | peer.bit())
    }

    /// What this node tells of itself, beside role and term, has changed.
    pub fn handle_news(&mut self, now: Instant, claims: Claims) {
        self.claims = claims;
        for peer in &mut self.peers {
            peer.on_news(now);
        }
    }

    /// The local cache has changed.
    pub fn handle_change(&mut self, now: Instant) {
        for peer in &mut self.peers {
            peer.on_change(now);
        }
    }

    /// A datagram has arrived.
    pub fn handle_datagram(
        &mut self,
        at: Circumstances,
        link: LinkId,
        from: SocketAddr,
        datagram: &mut [u8],
        local: &mut Local,
    ) {
        let origin = Origin {
            link,
            address: from,
        };
        let header = match Header::parse(datagram) {
            Ok((header, _)) => header,
            Err(error) => return self.counters.refuse(error),
        };
        self.counters.received += 1;
        match header.kind {
            Kind::Hello | Kind::Greeting => {
                self.on_first(at, origin, &header, datagram, local);
            }
            Kind::Control | Kind::Data => {
                let session = header.session;
                let counters = &mut self.counters;
                match self.peers.iter_mut().find(|peer| peer.answers_to(session)) {
                    Some(peer) => {
                        let tail = local.tail();
                        peer.on_datagram(at, origin, &header, datagram, local, counters);
                        Self::collect(&mut self.notices, peer);
                        if local.tail() != tail {
                            // What reconcile has touched and buried concerns every peer.
                            self.handle_change(at.now);
                        }
                    }
                    None => counters.unknown_session += 1,
                }
            }
        }
    }

    /// Time has passed. Spurious calls are harmless.
    pub fn handle_timeout(&mut self, at: Circumstances, local: &mut Local) {
        if self.hello_at <= at.now {
            self.hello_at = at.now + HELLO_INTERVAL;
            self.hellos = 0..self.settings.links;
        }
        for peer in &mut self.peers {
            peer.on_timeout(at, local);
            Self::collect(&mut self.notices, peer);
        }
    }

    /// Sends the whole table again to every peer (rule F1).
    pub fn resync_peers(&mut self, local: &mut Local, now: Instant) {
        for peer in &mut self.peers {
            peer.start_pass(local, now);
        }
    }

    /// Writes the next datagram into `out`, which is cleared first; `None` when there is nothing
    /// to send now.
    pub fn poll_transmit(
        &mut self,
        at: Circumstances,
        local: &mut Local,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        out.clear();
        let transmit = self
            .next_greeting(out)
            .or_else(|| self.next_hello(out))
            .or_else(|| {
                self.peers.iter_mut().find_map(|peer| {
                    peer.next_control(at, &self.claims, local, out)
                        .or_else(|| peer.next_reconcile(at, local, out))
                })
            })
            .or_else(|| self.next_data(at, local, out));
        match transmit {
            Some(_) => self.counters.sent += 1,
            None => self.drained_at = at.now,
        }
        transmit
    }

    /// When `handle_timeout` and `poll_transmit` will have something to do, if nothing else
    /// happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let peers = self
            .peers
            .iter()
            .filter_map(|peer| peer.wake_at(self.drained_at));
        peers.fold(self.hello_at, Instant::min)
    }

    /// Something an operator should hear about.
    pub fn poll_notice(&mut self) -> Option<PeerNotice> {
        self.notices.pop_front()
    }

    fn next_data(
        &mut self,
        at: Circumstances,
        local: &mut Local,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        for _ in 0..self.peers.len() {
            self.turn = (self.turn + 1) % self.peers.len();
            let bytes_max = self.settings.datagram_bytes_max;
            if let Some(transmit) = self.peers[self.turn].next_data(at, bytes_max, local, out) {
                return Some(transmit);
            }
        }
        None
    }

    /// A notice about somebody who is no peer: at most one a minute, whoever it is.
    fn tell_seldom(&mut self, now: Instant, notice: PeerNotice) {
        if self.told_at.is_none_or(|told| now >= told + TELL_INTERVAL) {
            self.told_at = Some(now);
            push_notice(&mut self.notices, notice);
        }
    }

    fn collect(notices: &mut VecDeque<PeerNotice>, peer: &mut Peer) {
        while let Some(notice) = peer.take_notice() {
            push_notice(notices, notice);
        }
    }
}

fn push_notice(notices: &mut VecDeque<PeerNotice>, notice: PeerNotice) {
    if notices.len() == NOTICES_MAX {
        notices.pop_front();
    }
    notices.push_back(notice);
}

#[cfg(test)]
mod tests;
