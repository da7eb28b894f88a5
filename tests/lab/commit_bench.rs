//! Commit of many flows, ours beside conntrackd's, in one run on the same namespaces.
//!
//! fw1 gets the flows, fw2 holds them as replica and commits. The bare batched writer, which sends
//! the same creates with nobody to look after, is the limit; with a listener of the events beside
//! it, the fair one. `make bench-commit` runs it.

#![expect(
    clippy::disallowed_methods,
    reason = "the laboratory lives in real time: it measures and awaits by the clock"
)]

#[path = "harness/mod.rs"]
mod harness;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use harness::peer::{self, Conntrackd};
use harness::process::Process;
use harness::services::{Ctsyncd, Link, ctsyncd_config};
use harness::topology::{Lab, Node};
use harness::wait::await_until;
use harness::{Result, bulk, ensure, missing_packages};

/// How long a table of this size may take to cross the link.
const SYNC: Duration = Duration::from_secs(60);
/// Most flows a run takes: the ports of the made-up clients end there.
const FLOWS_MAX: i64 = 1_000_000;

/// Times a commit of many flows, ours beside conntrackd's.
#[derive(Parser, Debug)]
struct Arguments {
    /// The ctsyncd to measure.
    #[arg(long, default_value = "target/release/ctsyncd")]
    binary: PathBuf,
    /// Flows to commit.
    #[arg(long, default_value_t = 200_000,
          value_parser = clap::value_parser!(u32).range(1..=FLOWS_MAX))]
    flows: u32,
    /// Runs of each; the best counts.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Measure what is there and leave ctsyncd out.
    #[arg(long)]
    without_ctsyncd: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(rustix::process::geteuid().is_root(), "the bench needs root");
    let missing = missing_packages();
    ensure!(
        missing.is_empty(),
        "missing Debian packages: {}",
        missing.join(" ")
    );
    let room = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let room: u32 = room.trim().parse()?;
    ensure!(
        room >= arguments.flows + 1000,
        "net.netfilter.nf_conntrack_max is {room}: too small for {} flows",
        arguments.flows
    );
    let flows = arguments.flows;
    let best = |what: &str, measure: &dyn Fn() -> Result<Duration>| -> Result<()> {
        let mut best = Duration::MAX;
        for _ in 0..arguments.runs {
            best = best.min(measure()?);
        }
        let each = best.as_secs_f64() * 1e6 / f64::from(flows);
        say(&format!(
            "{what:<32} {:>7.3} s  {each:>6.2} µs a flow",
            best.as_secs_f64()
        ));
        Ok(())
    };
    say(&format!(
        "commit of {flows} flows, best of {}",
        arguments.runs
    ));
    best("bare writer, nobody listening", &|| bare(flows, false))?;
    best("bare writer, with a listener", &|| bare(flows, true))?;
    if !arguments.without_ctsyncd {
        best("ctsyncd commit", &|| ours(flows, &arguments.binary))?;
    }
    best("conntrackd -c", &|| theirs(flows))
}

fn bare(flows: u32, listened: bool) -> Result<Duration> {
    let lab = Lab::new(1)?;
    let node = lab.node(1).namespace();
    let _listener = listened
        .then(|| {
            let mut command = node.command("sh");
            command.args(["-c", "exec conntrack -E >/dev/null 2>&1"]);
            Process::start("conntrack -E", &mut command)
        })
        .transpose()?;
    if listened {
        // The listener says nothing when it is ready; its socket shows.
        await_until("conntrack -E listens", Duration::from_secs(5), || {
            let sockets =
                node.with(|| Ok(std::fs::read_to_string("/proc/thread-self/net/netlink")?))?;
            // Protocol 12 is NETLINK_NETFILTER; the groups are a mask of eight digits.
            Ok(sockets.lines().any(|line| {
                let mut words = line.split_whitespace().skip(1);
                words.next() == Some("12")
                    && words.nth(1).is_some_and(|groups| groups != "00000000")
            }))
        })?;
    }
    let start = Instant::now();
    bulk::create(node, 1, flows)?;
    Ok(start.elapsed())
}

fn ours(flows: u32, binary: &Path) -> Result<Duration> {
    let lab = Lab::new(2)?;
    let start = |node: &Node| {
        let config = ctsyncd_config(node, lab.nodes(), Link::Multicast, "");
        Ctsyncd::start(binary, node, &config)
    };
    let (_one, two) = (start(lab.node(1))?, start(lab.node(2))?);
    bulk::create(lab.node(1).namespace(), 1, flows)?;
    await_until("fw2 holds the flows", SYNC, || {
        Ok(two.replica_flows("fw1")? == u64::from(flows))
    })?;
    let start = Instant::now();
    two.ask(&["commit"])?;
    let took = start.elapsed();
    whole(lab.node(2), flows)?;
    Ok(took)
}

fn theirs(flows: u32) -> Result<Duration> {
    let lab = Lab::new(2)?;
    let _running = [
        Conntrackd::start(lab.node(1), true)?,
        Conntrackd::start(lab.node(2), true)?,
    ];
    bulk::create(lab.node(1).namespace(), 1, flows)?;
    await_until("fw2 holds the flows", SYNC, || {
        Ok(peer::counts(lab.node(2))?.external == u64::from(flows))
    })?;
    let start = Instant::now();
    peer::ask(lab.node(2), &["-c"])?;
    let took = start.elapsed();
    whole(lab.node(2), flows)?;
    Ok(took)
}

/// A time counts only if the work was done.
fn whole(node: &Node, flows: u32) -> Result<()> {
    let committed = node.namespace().flow_count()?;
    ensure!(
        committed >= u64::from(flows),
        "only {committed} of {flows} flows are in the kernel"
    );
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
