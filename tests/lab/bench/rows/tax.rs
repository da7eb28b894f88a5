//! `path` and `tax`: what listening costs the packets. New flows through a forwarding namespace, each
//! from one packet that one thread writes onto the firewall's cable; everything the kernel does with it
//! (tracking, translating, forwarding, and building the event) happens in that thread's context.
//!
//! `path` is the whole way of a flow's packets, `tax` what it is more than without any listener in this
//! kernel. The limit of `tax` is a listener whose socket filter drops everything: the kernel builds
//! the event, and nobody gets it.

use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use socket2::{SockFilter, SockRef};

use ctsyncd::flow::Tuple;
use ctsyncd::flow::tuple::UDP;

use super::{Group, Rounds};
use crate::Bench;
use crate::harness::frames::{CONNECTION_PACKETS, Cables, Frame, Side};
use crate::harness::topology::Lab;
use crate::harness::wait::{self, await_until};
use crate::harness::{Result, bail, bulk, ensure};
use crate::pair::{self, Pair, SENDER};
use crate::report::{Aim, Figure, Row, Who};

/// The whole way.
static PATH_ROW: Row = Row {
    name: "path",
    unit: "ns/flow",
    aim: Aim::NONE,
};

/// What listening adds.
static TAX_ROW: Row = Row {
    name: "tax",
    unit: "ns/flow",
    aim: Aim::NONE,
};

/// Both rows.
pub(super) const GROUP: Group = Group {
    name: "path-tax",
    rows: &[&PATH_ROW, &TAX_ROW],
    rounds: Rounds::Every,
    measure,
};

/// Made-up network of the flows, of those below 200.
const NETWORK: u8 = 60;
/// Flows of one measurement, all of which are in the table at its end.
const FLOWS: u32 = 30_000;
/// Flows timed at once; the figure is the median of all of these, so that what preempts the sender
/// now and then is nobody's tax.
const CHUNK: u32 = 250;
/// Times every load is put on a firewall; the table is emptied in between.
const REPEATS: u32 = 3;
/// After the table was emptied.
const SETTLE: Duration = Duration::from_millis(500);
/// How long the table may take to be empty.
const PATIENCE: Duration = Duration::from_secs(20);
/// Multicast groups of conntrack: new, update, destroy (`NFNLGRP_CONNTRACK_*`,
/// include/uapi/linux/netfilter/nfnetlink_compat.h).
const GROUPS: [u32; 3] = [1, 2, 3];
/// `BPF_RET | BPF_K` with 0: nothing is let through, include/uapi/linux/bpf_common.h.
const DROP_ALL: u16 = 0x06;

/// What the rules say about events; see nft(8), `ct event set`.
const MASK: &str = "add rule inet firewall forward_events ct event set new,related,destroy,assured";
const MASK_CHAIN: &str =
    "add chain inet firewall forward_events { type filter hook prerouting priority -150; }\n";

/// What a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Load {
    Udp,
    Syn,
    Connection,
}

impl Load {
    const ALL: [Self; 3] = [Self::Udp, Self::Syn, Self::Connection];

    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP, one packet",
            Self::Syn => "TCP, SYN only",
            Self::Connection => "TCP, 9 packets",
        }
    }
}

impl Load {
    /// Between two chunks, so that some 50,000 events come in a second: without it every listener
    /// would be overrun within a tenth of a second, and an event that finds a full socket is cheaper
    /// for the packet than one that is delivered.
    fn pause(self) -> Duration {
        match self {
            Self::Udp | Self::Syn => Duration::from_millis(5),
            Self::Connection => Duration::from_millis(35),
        }
    }
}

/// Who listens while packets pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listener {
    Nobody,
    Bare,
    Pair(Who),
    /// ctsyncd, and a rule that limits the events.
    Masked,
}

impl Listener {
    const ALL: [Self; 5] = [
        Self::Nobody,
        Self::Bare,
        Self::Pair(Who::Ctsyncd),
        Self::Masked,
        Self::Pair(Who::Conntrackd),
    ];
}

fn measure(bench: &mut Bench) -> Result<()> {
    let mut nobody = None;
    for listener in Listener::ALL {
        let times = one(bench, listener)?;
        let nobody = *nobody.get_or_insert(times);
        for (load, (time, base)) in Load::ALL.into_iter().zip(times.into_iter().zip(nobody)) {
            report(bench, listener, load, time, base);
        }
    }
    Ok(())
}

/// Nanoseconds a flow, by load.
fn one(bench: &Bench, listener: Listener) -> Result<[f64; 3]> {
    let binary = &bench.arguments.binary;
    match listener {
        Listener::Nobody => all_loads(&pair::lab()?),
        Listener::Bare => {
            let lab = pair::lab()?;
            let _listener = lab.node(SENDER).namespace().with(deaf_listener)?;
            all_loads(&lab)
        }
        Listener::Pair(who) => all_loads(Pair::start(who, binary)?.lab()),
        Listener::Masked => {
            let pair = Pair::start(Who::Ctsyncd, binary)?;
            let rules = format!("{MASK_CHAIN}{MASK}\n");
            pair.node(SENDER).load_rules(&rules)?;
            all_loads(pair.lab())
        }
    }
}

fn report(bench: &mut Bench, listener: Listener, load: Load, time: f64, base: f64) {
    let (who, name) = match listener {
        Listener::Nobody => (Who::Limit, load.name().to_owned()),
        Listener::Bare => (Who::Limit, format!("{}, deaf listener", load.name())),
        Listener::Pair(who) => (who, load.name().to_owned()),
        Listener::Masked => (Who::Ctsyncd, format!("{}, ct event set", load.name())),
    };
    let note = format!("{:.0} flows/s", 1e9 / time);
    let figure = Figure::new(&PATH_ROW, name.clone(), who, time);
    if bench.is_wanted(&PATH_ROW) || is_group_wanted(bench) {
        bench.report.add(figure.with_note(Some(note)));
    }
    if listener == Listener::Nobody || !(bench.is_wanted(&TAX_ROW) || is_group_wanted(bench)) {
        return;
    }
    let name = if listener == Listener::Bare {
        load.name().to_owned()
    } else {
        name
    };
    let percent = format!("{:+.1} % of the path", (time - base) / base * 100.0);
    let figure = Figure::new(&TAX_ROW, name, who, time - base);
    bench.report.add(figure.with_note(Some(percent)));
}

fn is_group_wanted(bench: &Bench) -> bool {
    bench.arguments.rows.iter().any(|it| it == GROUP.name)
}

/// A socket that joined conntrack's groups and whose filter drops all of it.
fn deaf_listener() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    SockRef::from(&socket).attach_filter(&[SockFilter::new(DROP_ALL, 0, 0, 0)])?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

fn all_loads(lab: &Lab) -> Result<[f64; 3]> {
    let cables = Cables::take(lab, lab.node(SENDER))?;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..REPEATS {
        for (load, times) in Load::ALL.into_iter().zip(&mut times) {
            times.extend(run(lab, &cables, load)?);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}

/// Sends all flows of a load, a chunk as fast as the firewall takes it and then a pause; nanoseconds a
/// flow, chunk by chunk.
fn run(lab: &Lab, cables: &Cables, load: Load) -> Result<Vec<f64>> {
    let host = lab.node(SENDER).namespace();
    host.output("conntrack", &["-F"])?;
    await_until("an empty table", PATIENCE, || Ok(host.flow_count()? < 100))?;
    // What the flush has told the listeners is theirs to deal with first.
    wait::pass(SETTLE)?;
    let before = cables.received(Side::Outside)?;
    let mut frame = Frame::new();
    let mut times = Vec::new();
    for first in (0..FLOWS).step_by(usize::try_from(CHUNK)?) {
        if wait::is_cancelled() {
            bail!("interrupted");
        }
        let start = Instant::now();
        for number in first..first + CHUNK {
            send(cables, &mut frame, load, number)?;
        }
        times.push(start.elapsed().as_nanos() as f64 / f64::from(CHUNK));
        thread::sleep(load.pause());
    }
    let to_server = match load {
        Load::Udp | Load::Syn => 1,
        Load::Connection => 5,
    };
    let forwarded = cables.received(Side::Outside)? - before;
    let tracked = host.flow_count()?;
    ensure!(
        forwarded >= u64::from(FLOWS) * to_server && tracked >= u64::from(FLOWS),
        "{}: of {FLOWS} flows {tracked} are tracked, and {forwarded} packets were forwarded",
        load.name()
    );
    Ok(times)
}

fn send(cables: &Cables, frame: &mut Frame, load: Load, number: u32) -> Result<()> {
    let flow = bulk::flow(NETWORK, number);
    match load {
        Load::Udp => {
            let Tuple { src_id, dst_id, .. } = flow.orig;
            let (src, dst) = (flow.orig.src_ip(), flow.orig.dst_ip());
            frame.datagram(&Tuple::new(UDP, src, dst, src_id, dst_id))?;
            cables.send(Side::Inside, frame)
        }
        Load::Syn => {
            frame.syn(&flow.orig)?;
            cables.send(Side::Inside, frame)
        }
        Load::Connection => (0..CONNECTION_PACKETS).try_for_each(|at| {
            let side = frame.of_connection(&flow.orig, &flow.reply, at)?;
            cables.send(side, frame)
        }),
    }
}
