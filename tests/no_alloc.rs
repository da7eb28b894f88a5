//! The data path allocates nothing once it is warm: events in, datagrams across, acks back.
//!
//! An allocator counts what is asked of it while two engines replicate. What is not covered, and
//! why: datagrams out of order (the receiver's dead marks are a map of at most a window's records,
//! empty while they come in order), listings, commits and commands, which run now and then.

#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctsyncd::cache::HashKey;
use ctsyncd::ctnetlink::request::{KernelRequest, RequestDone};
use ctsyncd::engine::status::Role;
use ctsyncd::engine::{Engine, EngineSettings};
use ctsyncd::flow::filter::Policy;
use ctsyncd::flow::{EventKind, Flow, FlowEvent, Present, Rare, Status, Tuple};
use ctsyncd::replication::LinkId;
use ctsyncd::wire::seal::{ClusterKey, Keyring};
use ctsyncd::wire::{Epoch, Name, Versions};

/// Counts per thread, so that the test harness does not count.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local
// cell that has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`; `at` came from `System`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

const FLOWS: u32 = 4_000;
const TOMBSTONES_MAX: u32 = 2_000;
/// Events that a call brings, as the reader gathers them.
const EVENTS: usize = 50;

struct Node {
    engine: Engine,
    address: SocketAddr,
}

impl Node {
    fn new(run: u8, keyring: Option<Keyring>, now: Instant) -> Self {
        let settings = EngineSettings {
            name: Name::new(format!("fw{run}").as_bytes()).expect("a valid name"),
            epoch: Epoch([run; 16]),
            versions: Versions::OURS,
            hash_key: HashKey([u64::from(run), 1]),
            secret: HashKey([u64::from(run), 2]),
            policy: Policy::Everything,
            flows_max: 2 * FLOWS,
            tombstones_max: TOMBSTONES_MAX,
            links: vec!["sync".into()],
            window: 1024,
            datagram_bytes_max: 1400,
            scrub_interval: Duration::from_secs(1 << 20),
            grace: Duration::from_secs(180),
            tcp_liberal: true,
            writer_port_id: 7,
            keyring,
            role: Role::Standby,
            term: 0,
            masters: Vec::new(),
        };
        Self {
            engine: Engine::new(settings, now),
            address: SocketAddr::from(([192, 0, 2, run], 3780)),
        }
    }

    fn drain_requests(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.engine.poll_timeout() <= now {
            self.engine.handle_timeout(now);
        }
        while let Some(request) = self.engine.poll_request(now, out) {
            assert_eq!(request, KernelRequest::Dump);
            let complete = true;
            self.engine
                .handle_done(now, RequestDone::DumpEnded { complete });
            self.engine.handle_timeout(now);
        }
        while self.engine.poll_notice().is_some() {}
    }
}

struct Pair {
    nodes: [Node; 2],
    now: Instant,
    out: Vec<u8>,
    events: Vec<FlowEvent>,
    /// Which flows live, and how often each has changed.
    lives: Vec<(bool, u32)>,
    random: u64,
    datagrams: u64,
}

impl Pair {
    /// Everything that is sent reaches the other side at once.
    fn exchange(&mut self) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for from in [0, 1] {
                self.nodes[from].drain_requests(self.now, &mut self.out);
                let address = self.nodes[from].address;
                while self.nodes[from]
                    .engine
                    .poll_transmit(self.now, &mut self.out)
                    .is_some()
                {
                    is_busy = true;
                    self.datagrams += 1;
                    let link = LinkId(0);
                    self.nodes[1 - from].engine.handle_datagram(
                        self.now,
                        link,
                        address,
                        &mut self.out,
                    );
                }
            }
        }
    }

    /// Some flows are born, change and end.
    fn live(&mut self) {
        self.events.clear();
        for _ in 0..EVENTS {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
            let number = (self.random >> 33) as u32 % FLOWS;
            let (lives, changes) = &mut self.lives[number as usize];
            let kind = match (*lives, self.random >> 62) {
                (false, _) => EventKind::New,
                (true, 0) => EventKind::Destroy,
                (true, _) => EventKind::Update,
            };
            *lives = kind != EventKind::Destroy;
            *changes += 1;
            self.events.push(event(kind, number, *changes));
        }
        self.nodes[0].engine.handle_events(self.now, &self.events);
        self.exchange();
        self.now += Duration::from_millis(3);
        self.exchange();
    }
}

fn event(kind: EventKind, number: u32, mark: u32) -> FlowEvent {
    let client = [10, 0, (number >> 8) as u8, number as u8].into();
    let orig = Tuple::new(17, client, [192, 0, 2, 1].into(), 1000, 53);
    let flow = Flow {
        orig,
        reply: orig.inverse(),
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        mark,
        timeout_secs: 120,
        ..Flow::default()
    };
    let labels = number.is_multiple_of(7).then_some([1; 16]);
    FlowEvent {
        kind,
        present: Present(Present::STATUS | Present::TIMEOUT),
        port_id: 0,
        flow,
        rare: Rare {
            labels,
            ..Rare::default()
        },
    }
}

/// Hellos that one node sends while it is measured: one a second, of virtual time.
const HELLOS: u64 = 7;
/// Allocations that sealing and opening a hello take: its key is derived for it.
const PER_HELLO: u64 = 12;

#[test]
fn events_datagrams_and_acks_allocate_nothing_once_warm() {
    assert_eq!(allocations_of_a_life(None), 0, "in the clear");
    let keyring = Keyring {
        primary: ClusterKey::new([7; 32]),
        other: None,
    };
    let sealed = allocations_of_a_life(Some(keyring));
    assert!(
        sealed <= 2 * HELLOS * PER_HELLO,
        "sealed: {sealed} allocations are not those of hellos"
    );
    let before = allocations();
    drop(std::hint::black_box(Box::new(1u8)));
    assert_eq!(allocations() - before, 1, "the counter counts");
}

/// Allocations of a pair over 100,000 events, once it is warm.
fn allocations_of_a_life(keyring: Option<Keyring>) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "where virtual time starts does not matter"
    )]
    let now = Instant::now();
    let mut pair = Pair {
        nodes: [
            Node::new(1, keyring.clone(), now),
            Node::new(2, keyring, now),
        ],
        now,
        out: Vec::with_capacity(2048),
        events: Vec::with_capacity(EVENTS),
        lives: vec![(false, 0); FLOWS as usize],
        random: 7,
        datagrams: 0,
    };
    for number in 0..FLOWS {
        pair.lives[number as usize].0 = true;
        let born = [event(EventKind::New, number, 0)];
        pair.nodes[0].engine.handle_events(pair.now, &born);
    }
    for _ in 0..3_000 {
        pair.live();
    }

    let (before, datagrams) = (allocations(), pair.datagrams);
    for _ in 0..2_000 {
        pair.live();
    }
    let allocated = allocations() - before;

    assert!(pair.datagrams - datagrams > 4_000, "data and acks went");
    let table = pair.nodes[0].engine.local().digest();
    let replica = pair.nodes[1].engine.peers()[0].replica();
    let replica = replica.expect("they have met").digest();
    assert_eq!(
        (table.flows(), table.root()),
        (replica.flows(), replica.root())
    );
    allocated
}
