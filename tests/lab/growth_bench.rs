//! What the size of the table changes: CPU for an event, the longest step of the engine, memory for a
//! flow, and what a burst leaves behind.
//!
//! Two firewalls on the real kernel. `make bench-growth` runs it; docs/performance.md says what the
//! rows mean.

#![expect(
    clippy::disallowed_methods,
    reason = "the laboratory lives in real time: it measures and awaits by the clock"
)]

#[path = "harness/mod.rs"]
mod harness;
#[expect(dead_code, reason = "`converge_bench` uses the rest of it")]
#[path = "converge/measure.rs"]
mod measure;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use harness::meter;
use harness::room::Room;
use harness::wait::pass;
use harness::{Context as _, Result, bulk, ensure_host};
use measure::{Counters, Site, since};

/// The load: this many flows begin and end in a step, beside those that stay,
const STEP: u32 = 1_000;
/// every so often: 20,000 events a second,
const STEP_TIME: Duration = Duration::from_millis(100);
/// this many times.
const STEPS: u32 = 50;
/// Flows that are there before a burst and after it.
const QUIET: u32 = 10_000;
/// How long after a burst memory is looked at.
const SETTLED: Duration = Duration::from_secs(5);

/// Measures what the size of the table changes.
#[derive(Parser, Debug)]
struct Arguments {
    /// The ctsyncd to measure.
    #[arg(long, default_value = "target/release/ctsyncd")]
    binary: PathBuf,
    /// The rows to run.
    #[arg(long, value_delimiter = ',', default_value = "growth,burst")]
    rows: Vec<Which>,
    /// Flows in the table, one line each.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,10000,100000,1000000,2000000"
    )]
    flows: Vec<u32>,
    /// Flows that come and go in the burst.
    #[arg(long, default_value_t = 1_000_000)]
    burst: u32,
    /// Bursts, one after the other.
    #[arg(long, default_value_t = 2)]
    bursts: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Which {
    /// The same load beside tables of many sizes.
    Growth,
    /// Memory before, at and after bursts.
    Burst,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure_host()?;
    if arguments.rows.contains(&Which::Growth) {
        say(&format!(
            "{:>9}  {:>15} {:>16} {:>22} {:>22} {:>22}",
            "flows",
            "sender µs/event",
            "receiver µs/rec.",
            "longest step, ms",
            "steps > 5 ms",
            "bytes a flow"
        ));
        for &flows in &arguments.flows {
            growth(&arguments, flows)?;
        }
    }
    if arguments.rows.contains(&Which::Burst) {
        burst(&arguments)?;
    }
    Ok(())
}

/// fw1 with flows, fw2 with their replica.
fn filled(arguments: &Arguments, flows: u32, flows_max: u32) -> Result<Site> {
    let mut site = Site::new(2, &arguments.binary)?;
    bulk::create(site.node(1).namespace(), 1, flows)?;
    let more = format!("[cache]\nflows_max = {flows_max}\n");
    site.start_with(2, &more)?;
    let start = Instant::now();
    site.start_with(1, &more)?;
    site.await_proof(1, 2, flows.into(), start)?;
    Ok(site)
}

fn growth(arguments: &Arguments, flows: u32) -> Result<()> {
    let _room = Room::make(u64::from(flows) + u64::from(flows / 10) + 10_000)?;
    let site = filled(arguments, flows, flows + flows / 10 + 10_000)?;
    let bytes = [site.resident_bytes(1)?, site.resident_bytes(2)?];
    let joined = [site.counters(1)?, site.counters(2)?];
    let cpu = |index: usize| meter::cpu(site.daemon(index).process().id());
    let used = [cpu(1)?, cpu(2)?];
    let kernel = site.node(1).namespace();
    let start = Instant::now();
    for step in 0..STEPS {
        bulk::create(kernel, 2, STEP)?;
        bulk::delete(kernel, 2, STEP)?;
        let next = start + STEP_TIME * (step + 1);
        pass(next.saturating_duration_since(Instant::now()))?;
    }
    site.await_proof(1, 2, flows.into(), Instant::now())?;
    let moved = [
        since(&joined[0], &site.counters(1)?),
        since(&joined[1], &site.counters(2)?),
    ];
    let used = [cpu(1)? - used[0], cpu(2)? - used[1]];
    let each = |used: Duration, moved: &Counters, name: &str| {
        let count = moved.get(name).copied().context("a counter of the load")?;
        Ok::<_, harness::Error>(used.as_secs_f64() * 1e6 / count as f64)
    };
    let now = [site.counters(1)?, site.counters(2)?];
    let of_steps = |name: &str, of: &Counters| {
        let count = of.get(&format!("engine.step.{name}")).copied();
        count.context("a daemon that shows its steps")
    };
    let longest = |of: &Counters| Ok::<_, harness::Error>(of_steps("max_us", of)? as f64 / 1e3);
    say(&format!(
        "{flows:>9}  {:>15.2} {:>16.2} {:>10.2}, {:>10.2} {:>10}, {:>10} {:>10.1}, {:>10.1}",
        each(used[0], &moved[0], "kernel.events")?,
        each(used[1], &moved[1], "replication.records")?,
        longest(&now[0])?,
        longest(&now[1])?,
        of_steps("over_5_ms", &now[0])?,
        of_steps("over_5_ms", &now[1])?,
        bytes[0] as f64 / f64::from(flows),
        bytes[1] as f64 / f64::from(flows),
    ));
    Ok(())
}

fn burst(arguments: &Arguments) -> Result<()> {
    let most = arguments.burst + QUIET;
    let _room = Room::make(u64::from(most) + 10_000)?;
    let site = filled(arguments, QUIET, most + 10_000)?;
    let kernel = site.node(1).namespace();
    let tell = |when: &str| -> Result<()> {
        let [sender, receiver] = [site.resident_bytes(1)?, site.resident_bytes(2)?];
        say(&format!(
            "{when:<34} sender {:>7.1} MiB, receiver {:>7.1} MiB",
            sender as f64 / f64::from(1 << 20),
            receiver as f64 / f64::from(1 << 20)
        ));
        Ok(())
    };
    tell(&format!("{QUIET} flows"))?;
    for _ in 0..arguments.bursts {
        bulk::create(kernel, 2, arguments.burst)?;
        site.await_proof(1, 2, most.into(), Instant::now())?;
        tell(&format!("{most} flows"))?;
        bulk::delete(kernel, 2, arguments.burst)?;
        site.await_proof(1, 2, QUIET.into(), Instant::now())?;
        pass(SETTLED)?;
        tell(&format!("{QUIET} flows again, after 5 s"))?;
    }
    for index in [1, 2] {
        let counters = site.counters(index)?;
        let of = |name: &str| counters.get(&format!("engine.step.{name}")).copied();
        say(&format!(
            "fw{index}: longest step {:?} µs, steps of more than 5 ms {:?}",
            of("max_us").unwrap_or_default(),
            of("over_5_ms").unwrap_or_default()
        ));
    }
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
