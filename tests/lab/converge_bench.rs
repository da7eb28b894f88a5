//! What becoming equal again costs after a fault: time until it is proven, and bytes.
//!
//! Two to four firewalls on one multicast group, on the real kernel. A proof counts once both sides
//! hold the same number of flows, the receiver has compared since the fault was over, and nothing
//! waits to be sent; then the dumps of both sides are compared flow by flow. `make bench-converge`
//! runs it; docs/performance.md says what the rows mean.

#![expect(
    clippy::disallowed_methods,
    reason = "the laboratory lives in real time: it measures and awaits by the clock"
)]

#[path = "harness/mod.rs"]
mod harness;
#[path = "converge/measure.rs"]
mod measure;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use harness::room::Room;
use harness::wait::pass;
use harness::{Context as _, Result, bulk, ensure_host};
use measure::{Counters, Site, since};

/// How long the sync link is cut.
const CUT: Duration = Duration::from_secs(5);
/// Flows that come and go under loss do so in steps of this many.
const STEP: u32 = 1000;
/// A step lives for this many further steps, and the last ones stay.
const STEPS_ALIVE: u8 = 5;
/// A step lasts this long: 10,000 new flows a second, and as many ends.
const STEP_TIME: Duration = Duration::from_millis(100);
/// Lost on arrival, on both sides. Without netem: not every kernel has it.
const LOSS: &str = r#"
table inet loss {
    chain arriving {
        type filter hook prerouting priority -400;
        iifname "eth2" numgen random mod 100 < 20 drop
    }
}
"#;

/// Times how replicas become equal after a fault, and counts what it costs.
#[derive(Parser, Debug)]
struct Arguments {
    /// The ctsyncd to measure.
    #[arg(long, default_value = "target/release/ctsyncd")]
    binary: PathBuf,
    /// The rows to run, as letters.
    #[arg(long, value_delimiter = ',', default_value = "cut,crash,loss,few,four")]
    rows: Vec<Which>,
    /// Runs with so many times fewer flows.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    divide: u32,
    /// Shows every counter that moved, below each row.
    #[arg(long)]
    counters: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Which {
    /// The sync link is cut for 5 s while 350,000 changes happen to 400,000 flows.
    Cut,
    /// The sender is killed, 30,000 of 400,000 flows end meanwhile, and it comes back.
    Crash,
    /// 100,000 flows come and go, without loss and with 20 % lost both ways.
    Loss,
    /// 1,000,000 flows, of which 100 change while the sender is away.
    Few,
    /// Four nodes with 50,000 flows each meet.
    Four,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    what: String,
    took: Duration,
    /// What the sender counted, by the names of `stats` without `peer.NAME.`.
    sender: Counters,
    remarks: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure_host()?;
    let _room = Room::make(1_100_000)?;
    let bench = Bench { arguments };
    say(&format!(
        "{:<52} {:>9} {:>12} {:>9} {:>6} {:>12}  {}",
        "", "time", "data bytes", "records", "passes", "wire bytes", "remarks"
    ));
    let is_wanted = |which| bench.arguments.rows.contains(&which);
    if is_wanted(Which::Cut) || is_wanted(Which::Crash) {
        bench.cut_and_crash()?;
    }
    if is_wanted(Which::Loss) {
        bench.loss()?;
    }
    if is_wanted(Which::Few) {
        bench.few()?;
    }
    if is_wanted(Which::Four) {
        bench.four()?;
    }
    Ok(())
}

#[derive(Debug)]
struct Bench {
    arguments: Arguments,
}

impl Bench {
    fn scaled(&self, flows: u32) -> u32 {
        flows / self.arguments.divide
    }

    fn site(&self, count: u8) -> Result<Site> {
        Site::new(count, &self.arguments.binary)
    }

    /// fw1 with `flows` flows, fw2 with their replica.
    fn filled(&self, flows: u32, what: &str) -> Result<Site> {
        let mut site = self.site(2)?;
        bulk::create(site.node(1).namespace(), 1, flows)?;
        site.start(2)?;
        let before = site.counters(1)?;
        let start = Instant::now();
        site.start(1)?;
        let took = site.await_proof(1, 2, flows.into(), start)?;
        self.row(&site, &before, what, took, "start of the sender to proof")?;
        Ok(site)
    }

    fn cut_and_crash(&self) -> Result<()> {
        let flows = self.scaled(400_000);
        let what = format!("a first join with {flows} flows");
        let mut site = self.filled(flows, &what)?;
        if self.arguments.rows.contains(&Which::Cut) {
            self.cut(&site, flows)?;
        } else {
            bulk::create(site.node(1).namespace(), 2, self.scaled(30_000))?;
            let flows = flows + self.scaled(30_000);
            site.await_proof(1, 2, flows.into(), Instant::now())?;
        }
        if self.arguments.rows.contains(&Which::Crash) {
            self.crash(&mut site)?;
        }
        Ok(())
    }

    fn cut(&self, site: &Site, flows: u32) -> Result<()> {
        let kernel = site.node(1).namespace();
        let half = self.scaled(175_000);
        let before = site.counters(1)?;
        site.lab().sync_cable(site.node(2), "down")?;
        let start = Instant::now();
        bulk::delete(kernel, 1, half)?;
        bulk::create(kernel, 2, half)?;
        let changed = start.elapsed();
        pass(CUT.saturating_sub(changed))?;
        let healed = Instant::now();
        site.lab().sync_cable(site.node(2), "up")?;
        let took = site.await_proof(1, 2, flows.into(), healed)?;
        let what = format!("link cut for 5 s, {} changes to {flows} flows", 2 * half);
        let remarks = format!(
            "healing to proof; the changes took {:.1} s",
            changed.as_secs_f64()
        );
        self.row(site, &before, &what, took, &remarks)?;
        site.check_equal(1, 2, flows.into())
    }

    fn crash(&self, site: &mut Site) -> Result<()> {
        let ended = self.scaled(30_000);
        let flows = site.daemon(1).local_flows()?;
        site.kill(1)?;
        bulk::delete(site.node(1).namespace(), 2, ended)?;
        let before = site.counters(1)?;
        let start = Instant::now();
        site.start(1)?;
        let listed = site.await_listing(1, start)?;
        let left = flows - u64::from(ended);
        let took = site.await_proof(1, 2, left, start)?;
        let what = format!("sender killed, {ended} of {flows} flows end");
        self.row(site, &before, &what, took, &from_start(listed))?;
        site.check_equal(1, 2, left)
    }

    fn loss(&self) -> Result<()> {
        let mut site = self.site(2)?;
        site.start(1)?;
        site.start(2)?;
        site.await_proof(1, 2, 0, Instant::now())?;
        let without = self.come_and_go(&site, "without loss")?;
        for node in site.lab().nodes() {
            node.namespace().feed("nft", &["-f", "-"], LOSS)?;
        }
        let with = self.come_and_go(&site, "20 % lost both ways")?;
        say(&format!(
            "    {:.2} times the data bytes and {:.2} times the wire bytes of the run without loss",
            ratio(&with, &without, "sent.bytes")?,
            ratio(&with, &without, "wire")?
        ));
        Ok(())
    }

    /// Flows come and go; yields what that cost until the end was proven.
    fn come_and_go(&self, site: &Site, how: &str) -> Result<Counters> {
        let kernel = site.node(1).namespace();
        let steps = u8::try_from(self.scaled(100_000) / STEP)?;
        let before = site.counters(1)?;
        let start = Instant::now();
        for step in 0..steps {
            bulk::create(kernel, step, STEP)?;
            if let Some(old) = step.checked_sub(STEPS_ALIVE) {
                bulk::delete(kernel, old, STEP)?;
            }
            // Not after the last step: what is proven in that pause would count as proven before.
            if step + 1 < steps {
                let next = start + STEP_TIME * u32::from(step + 1);
                pass(next.saturating_duration_since(Instant::now()))?;
            }
        }
        let last = Instant::now();
        let left = u32::from(steps.min(STEPS_ALIVE)) * STEP;
        let took = site.await_proof(1, 2, left.into(), last)?;
        let what = format!("{} flows come and go, {how}", u32::from(steps) * STEP);
        let remarks = format!(
            "last change to proof; {:.1} s of changes",
            (last - start).as_secs_f64()
        );
        let row = self.row(site, &before, &what, took, &remarks)?;
        site.check_equal(1, 2, left.into())?;
        for step in steps.saturating_sub(STEPS_ALIVE)..steps {
            bulk::delete(kernel, step, STEP)?;
        }
        site.await_proof(1, 2, 0, Instant::now())?;
        Ok(row.sender)
    }

    fn few(&self) -> Result<()> {
        let flows = self.scaled(1_000_000);
        let what = format!("first join with {flows} flows");
        let mut site = self.filled(flows, &what)?;
        for (index, what) in [(1, "sender"), (2, "receiver")] {
            let bytes = site.resident_bytes(index)?;
            say(&format!(
                "    the {what} takes {:.1} MiB: {:.1} bytes a flow, all in",
                bytes as f64 / f64::from(1 << 20),
                bytes as f64 / f64::from(flows)
            ));
        }
        site.kill(1)?;
        let kernel = site.node(1).namespace();
        bulk::delete(kernel, 1, 50)?;
        bulk::create(kernel, 2, 50)?;
        let before = site.counters(1)?;
        let start = Instant::now();
        site.start(1)?;
        let listed = site.await_listing(1, start)?;
        let took = site.await_proof(1, 2, flows.into(), start)?;
        let what = format!("100 of {flows} flows differ");
        self.row(&site, &before, &what, took, &from_start(listed))?;
        site.check_equal(1, 2, flows.into())
    }

    fn four(&self) -> Result<()> {
        let flows = self.scaled(50_000);
        let mut site = self.site(4)?;
        let nodes = 1..=4;
        for index in nodes.clone() {
            let network = u8::try_from(index)?;
            bulk::create(site.node(index).namespace(), network, flows)?;
        }
        let before =
            (nodes.clone().map(|index| site.counters(index))).collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        for index in nodes.clone() {
            site.start(index)?;
        }
        let mut took = Duration::ZERO;
        let pairs = || {
            nodes
                .clone()
                .flat_map(|owner| nodes.clone().map(move |holder| (owner, holder)))
        };
        for (owner, holder) in pairs().filter(|(owner, holder)| owner != holder) {
            took = took.max(site.await_proof(owner, holder, flows.into(), start)?);
        }
        // Together: what each of them sent.
        let mut sent = Counters::new();
        for (index, before) in nodes.clone().zip(&before) {
            for (name, count) in since(before, &site.counters(index)?) {
                *sent.entry(shortened(&name).to_owned()).or_default() += count;
            }
        }
        // What one sends, the three others receive: count it once.
        sent.insert(
            "wire".to_owned(),
            sent.get("wire.sent").copied().unwrap_or(0),
        );
        self.print(&Row {
            what: format!("four nodes with {flows} flows each meet"),
            took,
            sender: sent,
            remarks: "start of the first daemon to the last of 12 proofs; all four together"
                .to_owned(),
        });
        for (holder, others) in [
            (1, [2, 3, 4]),
            (2, [1, 3, 4]),
            (3, [1, 2, 4]),
            (4, [1, 2, 3]),
        ] {
            site.check_union(&others, holder, 3 * u64::from(flows))?;
        }
        Ok(())
    }

    /// Prints what was counted at fw1 since `before`.
    fn row(
        &self,
        site: &Site,
        before: &Counters,
        what: &str,
        took: Duration,
        remarks: &str,
    ) -> Result<Row> {
        let mut sender: Counters = since(before, &site.counters(1)?)
            .into_iter()
            .map(|(name, count)| (shortened(&name).to_owned(), count))
            .collect();
        let wire = sender["wire.sent"] + sender["wire.received"];
        sender.insert("wire".to_owned(), wire);
        let row = Row {
            what: what.to_owned(),
            took,
            sender,
            remarks: remarks.to_owned(),
        };
        self.print(&row);
        Ok(row)
    }

    fn print(&self, row: &Row) {
        let count = |name: &str| row.sender.get(name).copied().unwrap_or(0);
        say(&format!(
            "{:<52} {:>7.2} s {:>12} {:>9} {:>6} {:>12}  {}",
            row.what,
            row.took.as_secs_f64(),
            count("sent.bytes"),
            count("sent.records"),
            count("sent.passes"),
            count("wire"),
            row.remarks
        ));
        if self.arguments.counters {
            let moved = row.sender.iter().filter(|&(_, &count)| count > 0);
            let moved: Vec<_> = moved
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            say(&format!("    {}", moved.join(", ")));
        }
    }
}

/// A peer's counter without the peer.
fn shortened(name: &str) -> &str {
    let of_peer = name.strip_prefix("peer.");
    of_peer
        .and_then(|rest| rest.split_once('.'))
        .map_or(name, |(_, counter)| counter)
}

fn from_start(listed: Duration) -> String {
    let secs = listed.as_secs_f64();
    format!("start of the sender to proof; its kernel's table was listed after {secs:.2} s")
}

fn ratio(one: &Counters, other: &Counters, name: &str) -> Result<f64> {
    let get = |counters: &Counters| counters.get(name).copied().context("a counter of the row");
    Ok(get(one)? as f64 / get(other)? as f64)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
