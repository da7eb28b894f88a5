//! The demo: two firewalls share an address, one of them dies, and the connections go on.
//!
//! `make demo` runs it with ctsyncd, `make demo PEER=conntrackd` with conntrackd, and
//! `make demo PEER=none` with nothing that replicates. See the folder's `harness` for the network.

#![expect(
    clippy::disallowed_methods,
    reason = "the laboratory lives in real time: it measures and awaits by the clock"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod story;
mod verdict;
mod view;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use harness::{Result, missing_packages, signals};

/// What replicates between the firewalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Peer {
    /// ctsyncd.
    Ctsyncd,
    /// conntrackd, for comparison.
    Conntrackd,
    /// Nothing: shows that the connections do die.
    None,
}

/// Watches a firewall pair fail over, on the real kernel, in network namespaces.
#[derive(Parser, Debug)]
struct Arguments {
    /// What replicates between the firewalls.
    #[arg(long, value_enum, default_value = "ctsyncd")]
    peer: Peer,
    /// The ctsyncd to use.
    #[arg(long, default_value = "target/release/ctsyncd")]
    binary: PathBuf,
    /// TCP connections, half over IPv4 and half over IPv6.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(2..=5000))]
    connections: u16,
    /// Further flows in the table, made up, as on a firewall that has been up for a while.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    flows: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => signals::exit_code(&error, complain),
    }
}

/// True if what should happen happened.
fn run(arguments: &Arguments) -> Result<bool> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "the demo makes network namespaces and needs root: sudo make demo"
    );
    let missing = missing_packages();
    anyhow::ensure!(
        missing.is_empty(),
        "missing Debian packages: apt-get install {}",
        missing.join(" ")
    );
    anyhow::ensure!(
        arguments.peer != Peer::Ctsyncd || arguments.binary.is_file(),
        "no {}: build it first (make demo does)",
        arguments.binary.display()
    );
    signals::listen()?;
    story::tell(arguments)
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "demo: {text}");
}
