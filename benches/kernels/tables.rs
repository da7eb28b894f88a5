//! The local cache and a replica, in tables of several sizes.

use std::hint::black_box;

use ctsyncd::cache::local::{Applied, Circumstances, Origin};
use ctsyncd::cache::replica::Stored;
use ctsyncd::cache::{HashKey, Local, Replica};
use ctsyncd::flow::proto::{TCP_ESTABLISHED, TcpInfo};
use ctsyncd::flow::tuple::TCP;
use ctsyncd::flow::{EventKind, Flow, FlowEvent, Present, ProtoInfo, Rare, Status, Tuple};

use super::{Kernel, Run};

const KEY: HashKey = HashKey([1, 2]);
/// Changes of one run.
const CHANGES: u32 = 64;
/// Between one flow that changes and the next: a prime, so that caches do not help.
const STRIDE: u32 = 7_919;
/// Leaves of the digest that one run lists.
const LEAVES: u16 = 64;

/// Flow `number`, of at most 20,000,000: established, its source translated.
pub(super) fn flow(number: u32) -> Flow {
    const PORTS: u32 = 50_000;
    let client = [10, 0, 1, (number / PORTS + 1) as u8].into();
    let (server, outside) = ([192, 0, 2, 80].into(), [203, 0, 113, 1].into());
    let port = (1_024 + number % PORTS) as u16;
    let service = (10_000 + number / PORTS) as u16;
    Flow {
        orig: Tuple::new(TCP, client, server, port, service),
        reply: Tuple::new(TCP, server, outside, service, port),
        status: Status(
            Status::SEEN_REPLY
                | Status::ASSURED
                | Status::CONFIRMED
                | Status::SRC_NAT
                | Status::SRC_NAT_DONE,
        ),
        timeout_secs: 432_000,
        proto: ProtoInfo::Tcp(TcpInfo {
            state: TCP_ESTABLISHED,
            wscale_orig: 7,
            wscale_reply: 7,
            flags_orig: 0x03,
            flags_reply: 0x03,
        }),
        ..Flow::default()
    }
}

/// An event of [`flow`].
pub(super) fn event(kind: EventKind, number: u32, mark: u32) -> FlowEvent {
    FlowEvent {
        kind,
        present: Present(Present::STATUS | Present::TIMEOUT | Present::PROTOINFO),
        port_id: 0,
        flow: Flow {
            mark,
            ..flow(number)
        },
        rare: Rare::default(),
    }
}

pub(super) fn kernels(sizes: &[u32]) -> Vec<Kernel> {
    let kernel = |name, items, flows, prepare: fn(&Kernel) -> Run| Kernel {
        name,
        items,
        bytes: 0,
        flows,
        prepare,
    };
    let changes = u64::from(CHANGES);
    let mut kernels = Vec::new();
    for &flows in sizes {
        kernels.push(kernel("local/update", changes, flows, update));
        kernels.push(kernel("local/destroy+new", changes, flows, life));
        kernels.push(kernel("replica/store", changes, flows, store));
    }
    // The entries of 64 of the 65,536 leaves of the largest table.
    if let Some(&flows) = sizes.last() {
        let leaves_of_run = u64::from(LEAVES);
        kernels.push(kernel("digest/list leaf", leaves_of_run, flows, leaves));
    }
    kernels
}

/// Nobody listens, so that an end leaves no tombstone.
const AT: Circumstances = Circumstances {
    now: 1_000,
    listeners: 0,
    round: 1,
    era: 0,
    found_era: 0,
    born: Origin::Own,
    found: Origin::Own,
    shares: false,
    is_echo: false,
};

fn apply(local: &mut Local, event: &FlowEvent) {
    let applied = local.apply(event, AT, |_, _| true);
    assert_eq!(black_box(applied), Applied::Changed);
}

fn local_of(flows: u32) -> Local {
    let mut local = Local::new(KEY, flows, 1);
    for number in 0..flows {
        apply(&mut local, &event(EventKind::New, number, 0));
    }
    local
}

/// Numbers of the flows that change in one run after another.
struct Turn(u32);

impl Turn {
    fn next(&mut self, flows: u32) -> u32 {
        self.0 = (self.0 + STRIDE) % flows;
        self.0
    }
}

fn update(kernel: &Kernel) -> Run {
    let flows = kernel.flows;
    let (mut local, mut turn, mut mark) = (local_of(flows), Turn(0), 0);
    Box::new(move || {
        mark += 1;
        for _ in 0..CHANGES {
            let event = event(EventKind::Update, turn.next(flows), mark);
            apply(&mut local, &event);
        }
    })
}

fn life(kernel: &Kernel) -> Run {
    let flows = kernel.flows;
    let (mut local, mut turn) = (local_of(flows), Turn(0));
    Box::new(move || {
        for _ in 0..CHANGES {
            let number = turn.next(flows);
            apply(&mut local, &event(EventKind::Destroy, number, 0));
            apply(&mut local, &event(EventKind::New, number, 0));
        }
    })
}

fn replica_of(flows: u32) -> Replica {
    let mut replica = Replica::new(KEY, flows);
    for number in 0..flows {
        let flow = flow(number);
        let hash = KEY.of_key(&flow.key());
        let stored = replica.store(hash, &flow, &Rare::default(), 1, 1_000);
        assert_eq!(stored, Stored::Yes);
    }
    replica
}

fn store(kernel: &Kernel) -> Run {
    let flows = kernel.flows;
    let (mut replica, mut turn, mut stamp) = (replica_of(flows), Turn(0), 1);
    Box::new(move || {
        stamp += 1;
        for _ in 0..CHANGES {
            let mut flow = flow(turn.next(flows));
            flow.mark = stamp as u32;
            let hash = KEY.of_key(&flow.key());
            let stored = replica.store(hash, &flow, &Rare::default(), stamp, 1_000);
            assert_eq!(black_box(stored), Stored::Yes);
        }
    })
}

fn leaves(kernel: &Kernel) -> Run {
    let replica = replica_of(kernel.flows);
    let mut first = 0u16;
    Box::new(move || {
        for leaf in 0..LEAVES {
            replica.visit_leaf(first.wrapping_add(leaf), |hash, value| {
                black_box((hash, value));
            });
        }
        first = first.wrapping_add(LEAVES);
    })
}
