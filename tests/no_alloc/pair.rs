//! Two engines, the network between them and a kernel that does as it is told.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctsyncd::cache::{HashKey, Slot};
use ctsyncd::ctnetlink::MessageKind;
use ctsyncd::ctnetlink::cta::{
    IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_NEW, NLM_F_CREATE,
};
use ctsyncd::ctnetlink::messages;
use ctsyncd::ctnetlink::request::{KernelRequest, RequestDone};
use ctsyncd::engine::status::Role;
use ctsyncd::engine::{Command, Engine, EngineSettings};
use ctsyncd::flow::filter::Policy;
use ctsyncd::flow::{EventKind, FlowEvent};
use ctsyncd::replication::{Damage, LinkId};
use ctsyncd::wire::seal::Keyring;
use ctsyncd::wire::{Epoch, Name, Outcome, Versions};

use crate::messages::{Messages, number_of};

pub(crate) const FLOWS: u16 = 4_000;
const TOMBSTONES_MAX: u32 = 2_000;
/// Events that a call brings, as the reader gathers them.
const EVENTS: usize = 50;
/// Datagrams that the network keeps back at a time.
const HELD_MAX: usize = 64;
const WRITER_PORT_ID: u32 = 7;

struct Node {
    engine: Engine,
    address: SocketAddr,
}

/// What is there besides the engines.
struct World {
    now: Instant,
    out: Vec<u8>,
    messages: Messages,
    /// Which flows live, and how often each has changed.
    lives: Vec<(bool, u32)>,
    events: Vec<FlowEvent>,
    written: u64,
    /// The kernel tells no events.
    is_mute: bool,
}

pub(crate) struct Pair {
    nodes: [Node; 2],
    world: World,
    network: Network,
    random: u64,
    pub(crate) datagrams: u64,
}

/// What is to be tried.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) keyring: Option<Keyring>,
    /// The second node is in hot standby.
    pub(crate) is_hot: bool,
    /// Datagrams get lost and overtake each other.
    pub(crate) is_lossy: bool,
}

/// Datagrams that others overtake, in buffers that are used again.
struct Network {
    is_lossy: bool,
    held: Vec<Vec<u8>>,
    free: Vec<Vec<u8>>,
}

impl Node {
    fn new(run: u8, setup: &Setup, now: Instant) -> Self {
        let settings = EngineSettings {
            name: Name::new(format!("fw{run}").as_bytes()).expect("a valid name"),
            epoch: Epoch([run; 16]),
            versions: Versions::OURS,
            hash_key: HashKey([u64::from(run), 1]),
            secret: HashKey([u64::from(run), 2]),
            policy: Policy::Everything,
            flows_max: 2 * u32::from(FLOWS),
            tombstones_max: TOMBSTONES_MAX,
            links: vec!["sync".into()],
            window: 1024,
            datagram_bytes_max: 1400,
            scrub_interval: Duration::from_secs(1 << 20),
            grace: Duration::from_secs(180),
            tcp_liberal: true,
            is_hot: setup.is_hot && run == 2,
            writer_port_id: WRITER_PORT_ID,
            keyring: setup.keyring.clone(),
            role: Role::Standby,
            term: 0,
            masters: Vec::new(),
        };
        Self {
            engine: Engine::new(settings, now),
            address: SocketAddr::from(([192, 0, 2, run], 3780)),
        }
    }

    fn drain_requests(&mut self, world: &mut World) {
        let now = world.now;
        if self.engine.poll_timeout() <= now {
            self.engine.handle_timeout(now);
        }
        while let Some(request) = self.engine.poll_request(now, &mut world.out) {
            let done = match request {
                KernelRequest::Dump => RequestDone::DumpEnded { complete: true },
                KernelRequest::Batch { last_seq, .. } => {
                    world.carry_out();
                    if !world.is_mute {
                        self.engine.handle_events(now, &world.events);
                    }
                    RequestDone::Batch {
                        last_seq,
                        complete: true,
                        answers: Vec::new(),
                    }
                }
            };
            self.engine.handle_done(now, done);
            self.engine.handle_timeout(now);
        }
        while self.engine.poll_notice().is_some() {}
    }
}

impl World {
    /// The kernel does what the messages in `out` say: their events.
    fn carry_out(&mut self) {
        self.events.clear();
        for message in messages(&self.out) {
            let message = message.expect("a whole message");
            let kind = match message.kind {
                MessageKind::Conntrack(IPCTNL_MSG_CT_DELETE) => EventKind::Destroy,
                MessageKind::Conntrack(IPCTNL_MSG_CT_NEW) if message.flags & NLM_F_CREATE == 0 => {
                    EventKind::Update
                }
                MessageKind::Conntrack(IPCTNL_MSG_CT_NEW) => EventKind::New,
                MessageKind::Conntrack(IPCTNL_MSG_CT_GET) if self.is_mute => continue,
                kind => panic!("{kind:?} has no event"),
            };
            let number = number_of(message.bytes);
            // What the peer has now: the network is faster than the kernel.
            let (_, mark) = self.lives[usize::from(number)];
            self.messages.read(kind, number, mark, &mut self.events);
            let event = self.events.last_mut().expect("was just read");
            event.port_id = WRITER_PORT_ID;
            self.written += 1;
        }
    }
}

impl Pair {
    /// A pair that has met, the first node active and with all flows.
    pub(crate) fn new(setup: &Setup) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let mut pair = Self {
            nodes: [Node::new(1, setup, now), Node::new(2, setup, now)],
            world: World {
                now,
                out: Vec::with_capacity(1 << 16),
                messages: Messages::new(),
                lives: vec![(false, 0); usize::from(FLOWS)],
                events: Vec::with_capacity(256),
                written: 0,
                is_mute: false,
            },
            network: Network {
                is_lossy: false,
                held: Vec::with_capacity(HELD_MAX),
                free: (0..HELD_MAX).map(|_| Vec::with_capacity(2048)).collect(),
            },
            random: 7,
            datagrams: 0,
        };
        pair.rest(Duration::from_secs(3));
        let now = pair.world.now;
        pair.nodes[0].engine.handle_command(now, Command::Promote);
        pair.rest(Duration::from_secs(3));
        for number in 0..FLOWS {
            pair.world.lives[usize::from(number)].0 = true;
            let events = &mut pair.world.events;
            events.clear();
            pair.world.messages.read(EventKind::New, number, 0, events);
            pair.nodes[0].engine.handle_events(now, events);
        }
        pair.rest(Duration::from_secs(3));
        pair.network.is_lossy = setup.is_lossy;
        pair
    }

    /// Messages that were written to the kernels.
    pub(crate) fn written(&self) -> u64 {
        self.world.written
    }

    /// Datagrams of the first node that it took for lost.
    pub(crate) fn lost(&self) -> u64 {
        self.nodes[0].engine.peers()[0].sender_counters().lost
    }

    /// The second node puts everything into its kernel, which is as empty each time, since
    /// it tells no events.
    pub(crate) fn commit(&mut self) {
        self.world.is_mute = true;
        let (now, from) = (self.world.now, Vec::new());
        let Node { engine, .. } = &mut self.nodes[1];
        engine.handle_command(now, Command::Commit { from });
        self.rest(Duration::from_secs(1));
    }

    /// The second node loses some flows of its replica, which is found and repaired. Returns how
    /// many differed.
    pub(crate) fn reconcile(&mut self, flows: usize) -> u64 {
        let found = |pair: &Self| {
            let counters = pair.nodes[0].engine.peers()[0].sender_counters();
            counters.reconcile.touched
        };
        let before = found(self);
        let [first, second] = &mut self.nodes;
        let local = first.engine.local();
        let held = (0..local.slots()).filter_map(|slot| local.flow(Slot(slot)));
        for flow in held.take(flows) {
            assert!(second.engine.damage_replica(0, Damage::Lose(*flow)));
        }
        self.rest(Duration::from_secs(3));
        found(self) - before
    }

    /// A number below `below`.
    fn chance(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        (self.random >> 33) % below
    }

    /// Some flows are born, change and end.
    pub(crate) fn live(&mut self) {
        self.world.events.clear();
        for _ in 0..EVENTS {
            let number = self.chance(u64::from(FLOWS)) as u16;
            let is_over = self.chance(4) == 0;
            let world = &mut self.world;
            let (lives, changes) = &mut world.lives[usize::from(number)];
            let kind = match *lives {
                false => EventKind::New,
                true if is_over => EventKind::Destroy,
                true => EventKind::Update,
            };
            *lives = kind != EventKind::Destroy;
            *changes += 1;
            world
                .messages
                .read(kind, number, *changes, &mut world.events);
        }
        let (now, events) = (self.world.now, &self.world.events);
        self.nodes[0].engine.handle_events(now, events);
        self.step();
    }

    /// Nothing happens for a while.
    pub(crate) fn rest(&mut self, long: Duration) {
        let until = self.world.now + long;
        while self.world.now < until {
            self.step();
        }
    }

    /// No datagram is lost any more, and what was has been repaired.
    pub(crate) fn settle(&mut self) {
        self.network.is_lossy = false;
        self.rest(Duration::from_secs(10));
    }

    fn step(&mut self) {
        self.exchange();
        self.world.now += Duration::from_millis(3);
        self.exchange();
    }

    /// What is sent reaches the other side at once, unless the network has it otherwise.
    fn exchange(&mut self) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for from in [0, 1] {
                self.nodes[from].drain_requests(&mut self.world);
                while self.transmit(from) {
                    is_busy = true;
                }
                while let Some(mut late) = self.network.held.pop() {
                    self.deliver(from, &mut late);
                    self.network.free.push(late);
                }
            }
        }
    }

    fn transmit(&mut self, from: usize) -> bool {
        let (now, mut out) = (self.world.now, std::mem::take(&mut self.world.out));
        let engine = &mut self.nodes[from].engine;
        let is_sent = engine.poll_transmit(now, &mut out).is_some();
        if is_sent {
            self.datagrams += 1;
            match self.chance(16) {
                0 if self.network.is_lossy => {}
                1..4 if self.network.is_lossy => self.hold(&out),
                _ => self.deliver(from, &mut out),
            }
        }
        self.world.out = out;
        is_sent
    }

    /// Keeps a datagram until the others are through.
    fn hold(&mut self, datagram: &[u8]) {
        if let Some(mut buffer) = self.network.free.pop() {
            buffer.clear();
            buffer.extend(datagram);
            self.network.held.push(buffer);
        }
    }

    fn deliver(&mut self, from: usize, datagram: &mut [u8]) {
        let address = self.nodes[from].address;
        let other = &mut self.nodes[1 - from].engine;
        other.handle_datagram(self.world.now, LinkId(0), address, datagram);
    }

    /// True if the second node has just proven its replica equal.
    pub(crate) fn is_just_proven(&self) -> bool {
        let peer = &self.nodes[1].engine.peers()[0];
        let is_now = peer.verified_at() == Some(self.world.now);
        is_now && peer.verdict() == Some(Outcome::Equal)
    }

    /// Asserts that the second node has what the first has; in hot standby its kernel too.
    pub(crate) fn assert_equal(&mut self) {
        let table = self.nodes[0].engine.local().digest();
        let peer = &self.nodes[1].engine.peers()[0];
        let replica = peer.replica().expect("they have met").digest();
        assert_eq!(
            (table.flows(), table.root()),
            (replica.flows(), replica.root())
        );
        let now = self.world.now;
        let status = self.nodes[1].engine.status(now);
        assert!(status.peers[0].replica.in_sync, "{:?}", status.peers);
        if let Some(hot) = status.hot {
            assert_eq!((hot.flows, hot.pending), (table.flows(), 0));
        }
    }
}
