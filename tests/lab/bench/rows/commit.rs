//! `commit` and `commit-heard`: a replica of many flows into the kernel of the node that takes over,
//! from the order to its answer. The limit is a bare batched writer of the same flows: of the row
//! `commit` with nobody listening to events, of `commit-heard` with one reader who drains them and
//! does nothing else. A daemon has to listen, so that the second tells what is the daemon's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::{Group, Rounds};
use crate::harness::bulk;
use crate::harness::namespace::Namespace;
use crate::harness::peer;
use crate::harness::topology::Node;
use crate::harness::{Context as _, bail, ensure};
use crate::pair::{self, Pair, RECEIVER, SENDER};
use crate::report::{Aim, Figure, Row, Who};
use crate::{Bench, Result, meter};

/// What design section 9 asks of both.
const AIM: Aim = Aim {
    times_limit: Some(1.2),
    ..Aim::NONE
};

/// Beside a writer to whom nobody listens.
static ROW: Row = Row {
    name: "commit",
    unit: "s",
    aim: AIM,
};

/// Beside a writer whose events are read.
static HEARD_ROW: Row = Row {
    name: "commit-heard",
    unit: "s",
    aim: AIM,
};

/// CPU of the whole daemon, or of the writer and the reader, for a flow.
static CPU_ROW: Row = Row {
    name: "commit-cpu",
    unit: "µs/flow",
    aim: Aim::NONE,
};

/// All of it.
pub(super) const GROUP: Group = Group {
    name: "commits",
    rows: &[&ROW, &HEARD_ROW, &CPU_ROW],
    rounds: Rounds::Every,
    measure,
};

/// How long a table may take to cross the link.
const SYNC: Duration = Duration::from_secs(120);
/// Receive buffer of the reader, bytes: nothing is lost while it waits for its core.
const LISTENER_BUFFER: usize = 64 * 1024 * 1024;
/// Longest event with room to spare, bytes.
const READ: usize = 8 * 1024;
/// How soon the reader sees that it is to end.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// `NF_NETLINK_CONNTRACK_NEW`, `_UPDATE` and `_DESTROY`, as a mask.
const GROUPS: u32 = 0b111;

fn measure(bench: &mut Bench) -> Result<()> {
    for flows in bench.arguments.flows.clone() {
        let load = format!("{flows} flows");
        for is_heard in [false, true] {
            let result = limit(bench, &load, flows, is_heard);
            bench.note_failure(&load, Some(Who::Limit), result)?;
        }
        bench.both(&load.clone(), |bench, who| daemon(bench, &load, who, flows))?;
    }
    Ok(())
}

/// Adds a figure, if its row was asked for.
fn add(bench: &mut Bench, figure: Figure) {
    let is_all = bench.arguments.rows.iter().any(|it| it == GROUP.name);
    if is_all || bench.is_wanted(figure.row) {
        bench.report.add(figure);
    }
}

/// The bare writer: the messages are there before the clock runs. The other firewall has the flows
/// already, as where the daemons are measured: all namespaces share one hash table, and a million flows more
/// make its chains longer.
fn limit(bench: &mut Bench, load: &str, flows: u32, is_heard: bool) -> Result<()> {
    let lab = pair::lab()?;
    bulk::create(lab.node(SENDER).namespace(), 1, flows)?;
    let node = lab.node(RECEIVER);
    let listener = is_heard.then(|| Listener::start(node.namespace()));
    let listener = listener.transpose()?;
    let batches = bulk::creates(1, flows);
    let (took, cpu) = node.namespace().with(move || {
        let mut writer = crate::harness::netlink::Writer::open()?;
        let (start, before) = (Instant::now(), meter::cpu_of_this_thread()?);
        for batch in &batches {
            writer.send(batch)?;
        }
        let took = (start.elapsed(), meter::cpu_of_this_thread()? - before);
        let (refused, errno) = writer.refused();
        ensure!(
            refused == 0,
            "{refused} creates were refused, errno {errno}"
        );
        Ok(took)
    })?;
    whole(node, flows)?;
    let mut used = cpu;
    let mut note = None;
    if let Some(listener) = listener {
        let heard = listener.end(u64::from(flows))?;
        used += heard.cpu;
        note = (heard.overruns > 0).then(|| format!("{} overruns", heard.overruns));
    }
    let row = if is_heard { &HEARD_ROW } else { &ROW };
    let figure = Figure::new(row, load, Who::Limit, took.as_secs_f64());
    add(bench, figure.with_note(note));
    if is_heard {
        let each = used.as_secs_f64() * 1e6 / f64::from(flows);
        add(bench, Figure::new(&CPU_ROW, load, Who::Limit, each));
    }
    Ok(())
}

fn daemon(bench: &mut Bench, load: &str, who: Who, flows: u32) -> Result<()> {
    let pair = Pair::start(who, &bench.arguments.binary)?;
    bulk::create(pair.node(SENDER).namespace(), 1, flows)?;
    pair.await_held(u64::from(flows), SYNC)?;
    let pid = pair.pid(RECEIVER);
    let before = meter::cpu(pid)?;
    let start = Instant::now();
    match pair.ctsyncd(RECEIVER) {
        Some(daemon) => daemon.ask(&["commit"])?,
        None => peer::ask(pair.node(RECEIVER), &["-c"])?,
    };
    let took = start.elapsed();
    let used = meter::cpu(pid)? - before;
    whole(pair.node(RECEIVER), flows)?;
    let overruns = pair.counts(RECEIVER)?.overruns;
    let note = (overruns > 0).then(|| format!("{overruns} overruns"));
    for row in [&ROW, &HEARD_ROW] {
        let figure = Figure::new(row, load, who, took.as_secs_f64());
        add(bench, figure.with_note(note.clone()));
    }
    let each = used.as_secs_f64() * 1e6 / f64::from(flows);
    add(bench, Figure::new(&CPU_ROW, load, who, each));
    Ok(())
}

/// A time counts only if the work was done.
fn whole(node: &Node, flows: u32) -> Result<()> {
    let there = node.namespace().flow_count()?;
    ensure!(
        there >= u64::from(flows),
        "only {there} of {flows} flows are in the kernel"
    );
    Ok(())
}

/// Reads the events of a namespace and does nothing with them.
struct Listener {
    heard: JoinHandle<Result<Heard>>,
    is_over: Arc<AtomicBool>,
}

/// What the reader did.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    datagrams: u64,
    overruns: u64,
    cpu: Duration,
}

impl Listener {
    /// Listens when this returns.
    fn start(namespace: &Namespace) -> Result<Self> {
        let socket = namespace.with(|| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                flags,
                Some(NETFILTER),
            )?;
            set_socket_recv_buffer_size_force(&socket, LISTENER_BUFFER)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(socket)
        })?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let heard = std::thread::spawn(move || {
            let mut heard = Heard::default();
            let mut buffer = vec![0; READ];
            loop {
                match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok(_) => heard.datagrams += 1,
                    Err(Errno::NOBUFS) => heard.overruns += 1,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) if ends.load(Ordering::Acquire) => break,
                    Err(Errno::AGAIN) => {
                        poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&LOOK))?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            heard.cpu = meter::cpu_of_this_thread()?;
            Ok(heard)
        });
        Ok(Self { heard, is_over })
    }

    /// Ends it once it has read everything. An error if it has not heard of `flows` flows: then
    /// nobody has listened, and the limit was another.
    fn end(self, flows: u64) -> Result<Heard> {
        self.is_over.store(true, Ordering::Release);
        let heard = self.heard.join();
        let Ok(heard) = heard else {
            bail!("the reader of events panicked");
        };
        let heard = heard.context("reading events")?;
        ensure!(
            heard.overruns > 0 || heard.datagrams >= flows,
            "the reader heard of {} of {flows} flows",
            heard.datagrams
        );
        Ok(heard)
    }
}
