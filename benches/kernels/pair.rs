//! Two engines: events in at one, datagrams across, acknowledgements back; and a commit of what the
//! other holds. The network between them is a call.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctsyncd::cache::HashKey;
use ctsyncd::ctnetlink::request::{KernelRequest, RequestDone};
use ctsyncd::engine::status::Role;
use ctsyncd::engine::{Command, Engine, EngineSettings};
use ctsyncd::flow::filter::Policy;
use ctsyncd::flow::{EventKind, FlowEvent};
use ctsyncd::replication::LinkId;
use ctsyncd::wire::seal::{ClusterKey, Keyring};
use ctsyncd::wire::{Epoch, Name, Versions};

use super::tables::event;
use super::{Kernel, Run};

const FLOWS: u32 = 4_000;
/// Events that a call brings, as the reader gathers them.
const EVENTS: u32 = 50;

pub(super) fn kernels() -> Vec<Kernel> {
    let kernel = |name, items: u32, prepare| Kernel {
        name,
        items: u64::from(items),
        bytes: 0,
        flows: 0,
        prepare,
    };
    let events: fn(&Kernel) -> Run = events;
    vec![
        kernel("pair/update, in the clear", EVENTS, events),
        kernel("pair/update, sealed", EVENTS, events),
        kernel("commit/walk and encode", FLOWS, commit),
    ]
}

struct Node {
    engine: Engine,
    address: SocketAddr,
}

struct Pair {
    nodes: [Node; 2],
    now: Instant,
    out: Vec<u8>,
}

fn node(run: u8, keyring: Option<Keyring>, now: Instant) -> Node {
    let settings = EngineSettings {
        name: Name::new(format!("fw{run}").as_bytes()).expect("a valid name"),
        epoch: Epoch([run; 16]),
        versions: Versions::OURS,
        hash_key: HashKey([u64::from(run), 1]),
        secret: HashKey([u64::from(run), 2]),
        policy: Policy::Everything,
        flows_max: 2 * FLOWS,
        tombstones_max: FLOWS,
        links: vec!["sync".into()],
        window: 1024,
        datagram_bytes_max: 1400,
        scrub_interval: Duration::from_secs(1 << 30),
        grace: Duration::from_secs(180),
        tcp_liberal: true,
        is_hot: false,
        writer_port_id: 7,
        keyring,
        role: Role::Standby,
        term: 0,
        masters: Vec::new(),
    };
    Node {
        engine: Engine::new(settings, now),
        address: SocketAddr::from(([192, 0, 2, run], 3780)),
    }
}

impl Node {
    /// The kernel has nothing to list and refuses nothing. Returns how many messages it was sent.
    fn drain_requests(&mut self, now: Instant, out: &mut Vec<u8>) -> u32 {
        let mut messages = 0;
        if self.engine.poll_timeout() <= now {
            self.engine.handle_timeout(now);
        }
        while let Some(request) = self.engine.poll_request(now, out) {
            let done = match request {
                KernelRequest::Dump => RequestDone::DumpEnded { complete: true },
                KernelRequest::Batch {
                    first_seq,
                    last_seq,
                } => {
                    messages += last_seq - first_seq + 1;
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
        messages
    }
}

impl Pair {
    /// A pair that has met; the first node's flows have reached the second.
    fn new(keyring: Option<Keyring>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let mut pair = Self {
            nodes: [node(1, keyring.clone(), now), node(2, keyring, now)],
            now,
            out: Vec::with_capacity(2048),
        };
        for _ in 0..100 {
            pair.step();
        }
        for number in 0..FLOWS {
            let born = [event(EventKind::New, number, 0)];
            pair.nodes[0].engine.handle_events(pair.now, &born);
        }
        for _ in 0..100 {
            pair.step();
        }
        let peers = pair.nodes[1].engine.peers();
        let replica = peers[0].replica().expect("they have met");
        assert_eq!(replica.digest().flows(), u64::from(FLOWS));
        pair
    }

    /// Everything that is sent reaches the other side at once; 3 ms go by.
    fn step(&mut self) {
        self.exchange();
        self.now += Duration::from_millis(3);
        self.exchange();
    }

    fn exchange(&mut self) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for from in [0, 1] {
                self.nodes[from].drain_requests(self.now, &mut self.out);
                let address = self.nodes[from].address;
                let (now, out) = (self.now, &mut self.out);
                while self.nodes[from].engine.poll_transmit(now, out).is_some() {
                    is_busy = true;
                    let other = &mut self.nodes[1 - from].engine;
                    other.handle_datagram(now, LinkId(0), address, out);
                }
            }
        }
    }
}

/// All of it for an event, from the decoded event at one node to the acknowledged record at the
/// other: both tables, datagram, ping and ack.
fn events(kernel: &Kernel) -> Run {
    let keyring = kernel.name.ends_with(" sealed").then(|| Keyring {
        primary: ClusterKey::new([7; 32]),
        other: None,
    });
    let (mut pair, mut next, mut mark) = (Pair::new(keyring), 0, 0);
    let mut events: Vec<FlowEvent> = Vec::with_capacity(EVENTS as usize);
    Box::new(move || {
        mark += 1;
        events.clear();
        for _ in 0..EVENTS {
            next = (next + 1) % FLOWS;
            events.push(event(EventKind::Update, next, mark));
        }
        pair.nodes[0].engine.handle_events(pair.now, &events);
        pair.step();
    })
}

/// The standby walks over its replica and writes a create for each flow; the kernel takes them.
fn commit(_: &Kernel) -> Run {
    let mut pair = Pair::new(None);
    Box::new(move || {
        let (now, out) = (pair.now, &mut pair.out);
        let from = Vec::new();
        let standby = &mut pair.nodes[1];
        standby.engine.handle_command(now, Command::Commit { from });
        // The job is over when somebody asks again after its last batch.
        let written = standby.drain_requests(now, out) + standby.drain_requests(now, out);
        assert_eq!(written, FLOWS);
    })
}
