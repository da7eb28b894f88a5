//! Two engines that have met: a session, a few flows each, and equality proven both ways.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctsyncd::cache::HashKey;
use ctsyncd::ctnetlink::request::{KernelRequest, RequestDone};
use ctsyncd::ctnetlink::{encode, messages};
use ctsyncd::engine::status::Role;
use ctsyncd::engine::{Engine, EngineSettings, Notice};
use ctsyncd::flow::filter::Policy;
use ctsyncd::flow::tuple::{TCP, UDP};
use ctsyncd::flow::{EventKind, Flow, FlowEvent, Present, Status, Tuple};
use ctsyncd::replication::{LinkId, PEERS_MAX};
use ctsyncd::wire::seal::{ClusterKey, Keyring};
use ctsyncd::wire::{Epoch, Name, Versions};

/// Most flows, and most tombstones, of an engine here.
const FLOWS_MAX: u32 = 64;
/// More than this in one go is without end: 2 links, 16 greetings, a window of 64, and the rest of
/// it thrice.
const OUTPUTS_MAX: usize = 400;

/// Where the peer is on the first link.
pub(crate) const PEER: Origin = Origin {
    link: LinkId(0),
    address: address([192, 0, 2, 2]),
};
/// Somebody on the second link.
pub(crate) const STRANGER: Origin = Origin {
    link: LinkId(1),
    address: address([203, 0, 113, 9]),
};
const US: Origin = Origin {
    link: LinkId(0),
    address: address([192, 0, 2, 1]),
};

/// Where a datagram comes from.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    link: LinkId,
    address: SocketAddr,
}

/// One of the two.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    flows: Vec<FlowEvent>,
    /// All that it has sent.
    pub(crate) sent: Vec<Vec<u8>>,
    /// How much of that has been delivered.
    delivered: usize,
    /// Notices since the last look.
    pub(crate) notices: Vec<Notice>,
}

/// The two.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) us: Node,
    pub(crate) peer: Node,
}

impl Pair {
    /// Two that have met, with a cluster key or without.
    pub(crate) fn warm(key: Option<u8>) -> Self {
        let now = start();
        let mut pair = Self {
            now,
            us: Node::new(now, "us", key, (0..3).map(listed)),
            peer: Node::new(now, "peer", key, (100..106).map(listed)),
        };
        let is_proven = |node: &Node| {
            let mut peers = node.engine.peers().iter();
            peers.any(|peer| peer.verified_at().is_some())
        };
        for _ in 0..200 {
            pair.exchange();
            if is_proven(&pair.us) && is_proven(&pair.peer) {
                return pair;
            }
            pair.wait(Duration::from_millis(20));
        }
        panic!("two nodes on a good link do not find each other");
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.us.settle(self.now);
        self.peer.settle(self.now);
    }

    /// Delivers what each has sent, until both are silent or have said enough.
    pub(crate) fn exchange(&mut self) {
        self.us.settle(self.now);
        self.peer.settle(self.now);
        for _ in 0..8 {
            let to_us = self.peer.undelivered();
            let to_peer = self.us.undelivered();
            if to_us.is_empty() && to_peer.is_empty() {
                return;
            }
            for mut datagram in to_us {
                self.us.hear(self.now, PEER, &mut datagram);
            }
            for mut datagram in to_peer {
                self.peer.hear(self.now, US, &mut datagram);
            }
        }
    }

    /// The next datagram of the peer that has not been delivered.
    pub(crate) fn next_of_peer(&mut self) -> Option<Vec<u8>> {
        let next = self.peer.sent.get(self.peer.delivered)?.clone();
        self.peer.delivered += 1;
        Some(next)
    }
}

impl Node {
    pub(crate) fn new(
        now: Instant,
        name: &str,
        key: Option<u8>,
        flows: impl Iterator<Item = FlowEvent>,
    ) -> Self {
        let byte = name.as_bytes()[0];
        let settings = EngineSettings {
            name: Name::new(name.as_bytes()).expect("a valid name"),
            epoch: Epoch([byte; 16]),
            versions: Versions::OURS,
            hash_key: HashKey([u64::from(byte), 1]),
            secret: HashKey([u64::from(byte), 2]),
            policy: Policy::Everything,
            flows_max: FLOWS_MAX,
            tombstones_max: FLOWS_MAX,
            links: vec!["first".into(), "second".into()],
            window: 64,
            datagram_bytes_max: 400,
            scrub_interval: Duration::from_secs(60),
            grace: Duration::from_secs(180),
            tcp_liberal: true,
            writer_port_id: 7,
            keyring: key.map(|byte| Keyring {
                primary: ClusterKey::new([byte; 32]),
                other: None,
            }),
            role: Role::Standby,
            term: 0,
            masters: Vec::new(),
        };
        Self {
            engine: Engine::new(settings, now),
            flows: flows.collect(),
            sent: Vec::new(),
            delivered: 0,
            notices: Vec::new(),
        }
    }

    /// A datagram arrives.
    pub(crate) fn hear(&mut self, now: Instant, from: Origin, datagram: &mut [u8]) {
        self.engine
            .handle_datagram(now, from.link, from.address, datagram);
        self.drain(now);
    }

    /// Does what is due, which must come to an end.
    pub(crate) fn settle(&mut self, now: Instant) {
        for _ in 0..50 {
            self.drain(now);
            if self.engine.poll_timeout() > now {
                return;
            }
            self.engine.handle_timeout(now);
        }
        panic!("an engine that is always busy");
    }

    /// Takes everything out of the engine and looks at its bounds. The kernel lists what it was
    /// given at the start, and does all that it is told.
    pub(crate) fn drain(&mut self, now: Instant) {
        let mut out = Vec::new();
        for count in 0.. {
            assert!(count < OUTPUTS_MAX, "requests without end");
            let Some(request) = self.engine.poll_request(now, &mut out) else {
                break;
            };
            match request {
                KernelRequest::Dump => {
                    let flows = self.flows.clone();
                    self.engine.handle_done(now, RequestDone::Listed(flows));
                    let ended = RequestDone::DumpEnded { complete: true };
                    self.engine.handle_done(now, ended);
                }
                KernelRequest::Batch {
                    first_seq,
                    last_seq,
                } => {
                    let requests = messages(&out).filter(|message| {
                        message.is_ok_and(|it| it.bytes.len() <= encode::MESSAGE_LEN_MAX)
                    });
                    let expected = last_seq.wrapping_sub(first_seq) as usize + 1;
                    assert_eq!(requests.count(), expected);
                    let done = RequestDone::Batch {
                        last_seq,
                        complete: true,
                        answers: Vec::new(),
                    };
                    self.engine.handle_done(now, done);
                }
            }
        }
        for count in 0.. {
            assert!(count < OUTPUTS_MAX, "datagrams without end");
            if self.engine.poll_transmit(now, &mut out).is_none() {
                break;
            }
            self.sent.push(out.clone());
        }
        self.notices.clear();
        while let Some(notice) = self.engine.poll_notice() {
            self.notices.push(notice);
            assert!(self.notices.len() < OUTPUTS_MAX, "notices without end");
        }
        self.check_bounds();
    }

    fn undelivered(&mut self) -> Vec<Vec<u8>> {
        let from = std::mem::replace(&mut self.delivered, self.sent.len());
        self.sent[from..].to_vec()
    }

    fn check_bounds(&self) {
        let local = self.engine.local();
        assert!(local.slots() <= 2 * FLOWS_MAX && local.tombstones() <= FLOWS_MAX);
        assert!(self.engine.peers().len() <= PEERS_MAX);
        for replica in self.engine.peers().iter().filter_map(|peer| peer.replica()) {
            assert!(replica.slots() <= FLOWS_MAX);
            assert!(replica.digest().flows() <= u64::from(FLOWS_MAX));
        }
    }
}

/// A flow of a kernel's table, as a listing tells it.
pub(crate) fn listed(number: u16) -> FlowEvent {
    let protocol = if number.is_multiple_of(3) { UDP } else { TCP };
    let (inside, outside) = ([10, 0, 0, 7].into(), [198, 51, 100, 1].into());
    FlowEvent {
        kind: EventKind::Listed,
        present: Present(Present::STATUS | Present::TIMEOUT),
        flow: Flow {
            orig: Tuple::new(protocol, inside, outside, number, 443),
            reply: Tuple::new(protocol, outside, inside, 443, number),
            status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED),
            timeout_secs: 600,
            mark: u32::from(number),
            ..Flow::default()
        },
        ..FlowEvent::default()
    }
}

/// When everything here begins.
pub(crate) fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "where virtual time starts does not matter"
    )]
    Instant::now()
}

const fn address([a, b, c, d]: [u8; 4]) -> SocketAddr {
    let ip = std::net::Ipv4Addr::new(a, b, c, d);
    SocketAddr::new(std::net::IpAddr::V4(ip), 3780)
}
