//! What a failover costs whom: connections that live, the longest stall, and how much of it is
//! VRRP's, for each way to replicate, at each size of table.
//!
//! Real keepalived (VRRPv3, adverts of 100 ms), NATed TCP over IPv4 and IPv6 that talks, UDP streams,
//! two FTP transfers; the active firewall loses all its cables at once. `make bench-failover` runs
//! it; docs/performance.md says what the columns mean.

#![expect(
    clippy::disallowed_methods,
    reason = "the laboratory lives in real time: it measures and awaits by the clock"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod failover;
mod ftp;
mod report;
mod series;
mod site;
mod switchover;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use harness::room::Room;
use harness::{Result, ensure, missing_packages, signals, wait};
use report::Report;

/// What replicates, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Mode {
    /// Nothing: shows what a failover is without help.
    None,
    /// conntrackd, with the steps of its own failover script.
    Conntrackd,
    /// ctsyncd, cold standby: committed at promotion.
    Cold,
    /// ctsyncd, cold standby behind a gate.
    Gate,
    /// ctsyncd, hot standby: in the kernel all along.
    Hot,
}

impl Mode {
    /// Its name in the table.
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Conntrackd => "conntrackd",
            Self::Cold => "cold",
            Self::Gate => "cold, gate",
            Self::Hot => "hot",
        }
    }

    /// What it adds to ctsyncd's configuration; `None` if it is not ctsyncd. What a mode does not need
    /// is not written, so that a release without it can be measured in the others.
    fn config(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Conntrackd => None,
            Self::Cold => Some(""),
            Self::Gate => Some("[gate]\ninterfaces = [\"eth0\", \"eth1\"]\n"),
            Self::Hot => Some("[standby]\nmode = \"hot\"\n"),
        }
    }
}

/// The firewalls' rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Ruleset {
    /// The laboratory's: what is invalid is dropped on its way through and to the firewall itself.
    Lab,
    /// What is invalid reaches the firewall's own TCP, which resets it, as in many a ruleset.
    Plain,
}

impl Ruleset {
    fn name(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Plain => "plain",
        }
    }
}

/// How keepalived tells ctsyncd.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Via {
    /// A process for each change: `ctsyncd notify`.
    Script,
    /// The FIFO that ctsyncd reads.
    Fifo,
}

/// Times failovers, and counts who lives through them.
#[derive(Parser, Clone, Debug)]
struct Arguments {
    /// The ctsyncd to measure.
    #[arg(long, default_value = "target/release/ctsyncd")]
    binary: PathBuf,
    /// The rows, in this order.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "none,conntrackd,cold,gate,hot"
    )]
    peers: Vec<Mode>,
    /// Further flows in the table, made up; several sizes make several blocks of rows.
    #[arg(long, value_delimiter = ',', default_value = "1000",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    flows: Vec<u32>,
    /// TCP connections, half over IPv4 and half over IPv6.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(2..=5000))]
    connections: u16,
    /// UDP streams, half over IPv4 and half over IPv6.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(2..=1000))]
    udp: u16,
    /// Milliseconds from line to line on each of them.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(5..=1000))]
    every_ms: u16,
    /// Leaves the FTP transfers out.
    #[arg(long)]
    without_ftp: bool,
    /// The firewalls' rules.
    #[arg(long, value_enum, default_value = "lab")]
    ruleset: Ruleset,
    /// How keepalived tells ctsyncd; conntrackd knows its script only.
    #[arg(long, value_enum, default_value = "script")]
    via: Via,
    /// So many failovers in a row, back and forth, in place of one.
    #[arg(long, value_name = "N", conflicts_with = "switchover",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    failovers: Option<u32>,
    /// A planned switchover in place of a failover; ctsyncd's modes only.
    #[arg(long)]
    switchover: bool,
    /// Each row also as a line of JSON, appended to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Arguments {
    fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms.into())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::new(arguments.json.clone());
    let result = run(&arguments, &mut report);
    // Also what was measured before a Ctrl-C.
    report.print();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => signals::exit_code(&error, say),
    }
}

fn run(arguments: &Arguments, report: &mut Report) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the bench makes network namespaces and needs root: sudo make bench-failover"
    );
    let missing = missing_packages();
    ensure!(
        missing.is_empty(),
        "missing Debian packages: apt-get install {}",
        missing.join(" ")
    );
    signals::listen()?;
    let most = arguments.flows.iter().copied().max().unwrap_or(0);
    // Connections, streams, transfers and whatever the nodes themselves say.
    let _room = Room::make(u64::from(most) + 20_000)?;
    for &flows in &arguments.flows {
        for &mode in &arguments.peers {
            say(&format!("{} at {flows} flows", mode.name()));
            if let Err(why) = one(arguments, mode, flows, report) {
                if wait::is_cancelled() {
                    return Err(why);
                }
                // One row that cannot be measured must not cost the others.
                report.fail(mode, flows, arguments.ruleset, &format!("{why:#}"))?;
            }
        }
    }
    Ok(())
}

fn one(arguments: &Arguments, mode: Mode, flows: u32, report: &mut Report) -> Result<()> {
    if arguments.switchover {
        return report.add(switchover::measure(arguments, mode, flows)?);
    }
    match arguments.failovers {
        None => report.add(failover::measure(arguments, mode, flows)?),
        Some(times) => series::measure(arguments, mode, flows, times, report),
    }
}

/// Tells how far it has come.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "failover_bench: {text}");
}
