//! Every figure that ctsyncd is measured by, beside conntrackd's and beside the least that the kernel
//! allows, in one run on the same namespaces and loads. `make bench` runs it; docs/performance.md
//! says what the rows mean.
//!
//! `rows` says what is measured, `pair` has the daemons, `load` what they have to do, `harness::meter` what it
//! costs them, `report` the table. One pair runs at a time: a listener of events burdens the whole
//! kernel, in whatever namespace it listens.

#![expect(
    clippy::disallowed_methods,
    reason = "the laboratory lives in real time: it measures and awaits by the clock"
)]
#![cfg_attr(
    test,
    allow(dead_code, reason = "only the arithmetic is tested here, on no kernel")
)]

#[path = "../harness/mod.rs"]
mod harness;

mod load;
mod machine;
mod pair;
mod plot;
mod report;
mod rows;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use harness::meter;
use harness::room::Room;
use harness::{Result, ensure, missing_packages, signals, wait};
use machine::Machine;
use report::{Report, Row, Who};
use rows::{Group, Rounds};

/// Measures ctsyncd beside conntrackd.
#[derive(Parser, Clone, Debug)]
pub(crate) struct Arguments {
    /// The ctsyncd to measure.
    #[arg(long, default_value = "target/release/ctsyncd")]
    pub(crate) binary: PathBuf,
    /// The rows to measure, by name; all by default.
    #[arg(long, value_delimiter = ',')]
    pub(crate) rows: Vec<String>,
    /// Rounds; the table has their median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Sizes of the table, for the rows whose figure depends on it.
    #[arg(long, value_delimiter = ',', default_value = "200000,1000000",
          value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    pub(crate) flows: Vec<u32>,
    /// Everything that was measured, as one document of JSON, into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Plots, into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) svg: Option<PathBuf>,
}

/// A run: what was asked for, and what was measured.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) arguments: Arguments,
    pub(crate) report: Report,
    /// From 1.
    pub(crate) round: u32,
}

impl Bench {
    /// Measures conntrackd and ctsyncd in turn; who comes first changes from round to round. What
    /// cannot be measured of one does not cost the other's figure.
    ///
    /// # Errors
    ///
    /// Only when somebody pressed Ctrl-C.
    pub(crate) fn both(
        &mut self,
        what: &str,
        mut measure: impl FnMut(&mut Self, Who) -> Result<()>,
    ) -> Result<()> {
        let mut order = [Who::Conntrackd, Who::Ctsyncd];
        if self.round.is_multiple_of(2) {
            order.reverse();
        }
        for who in order {
            let result = measure(self, who);
            self.note_failure(what, Some(who), result)?;
        }
        Ok(())
    }

    /// Notes that something could not be measured.
    ///
    /// # Errors
    ///
    /// Only when somebody pressed Ctrl-C: then nothing more is to be measured.
    pub(crate) fn note_failure(
        &mut self,
        what: &str,
        who: Option<Who>,
        result: Result<()>,
    ) -> Result<()> {
        if let Err(why) = result {
            if wait::is_cancelled() {
                return Err(why);
            }
            self.report.fail(what, who, &format!("{why:#}"));
            // The programs that end now have nothing to add; those of later failures may.
            wait::forget_failure();
        }
        Ok(())
    }

    /// True if the row was asked for, by its own name or its group's, or nothing was.
    pub(crate) fn is_wanted(&self, row: &Row) -> bool {
        let wanted = &self.arguments.rows;
        let mut groups = rows::ALL.iter();
        let group = groups.find(|group| group.rows.iter().any(|it| it.name == row.name));
        let is_named =
            |name: &String| name == row.name || group.is_some_and(|group| name == group.name);
        wanted.is_empty() || wanted.iter().any(is_named)
    }

    fn run(&mut self) -> Result<()> {
        for round in 1..=self.arguments.rounds {
            self.round = round;
            self.report.begin_round(round);
            for group in rows::ALL {
                let is_due = round == 1 || group.rounds == Rounds::Every;
                if !is_due || !group.is_wanted(&self.arguments.rows) {
                    continue;
                }
                say(&format!("round {round}: {}", group.name));
                let result = (group.measure)(self);
                self.note_failure(group.name, None, result)?;
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match checked(&arguments) {
        Ok(()) => {}
        Err(error) => {
            say(&format!("{error:#}"));
            return ExitCode::from(2);
        }
    }
    let machine = Machine::look(&arguments.binary);
    print(&machine.words());
    let json = arguments.json.clone();
    let svg = arguments.svg.clone();
    let mut bench = Bench {
        arguments,
        report: Report::default(),
        round: 0,
    };
    let result = prepared(&mut bench);
    // Also what was measured before a Ctrl-C.
    bench.report.print();
    let written = json.map_or(Ok(()), |path| bench.report.write_json(&path, &machine));
    let drawn = svg.map_or(Ok(()), |folder| {
        rows::staleness::draw(&bench.report, &folder)
    });
    match result.and(written).and(drawn) {
        Ok(()) if bench.report.has_failures() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => signals::exit_code(&error, say),
    }
}

/// What must be right before anything is started.
fn checked(arguments: &Arguments) -> Result<()> {
    let names: Vec<&str> = rows::ALL.iter().flat_map(Group::names).collect();
    for name in &arguments.rows {
        ensure!(
            names.contains(&name.as_str()),
            "there is no row {name}; there are {}",
            names.join(", ")
        );
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "the bench makes network namespaces and needs root: sudo make bench"
    );
    let missing = missing_packages();
    ensure!(
        missing.is_empty(),
        "missing Debian packages: apt-get install {}",
        missing.join(" ")
    );
    ensure!(
        arguments.binary.is_file(),
        "there is no {}: cargo build --release",
        arguments.binary.display()
    );
    Ok(())
}

fn prepared(bench: &mut Bench) -> Result<()> {
    signals::listen()?;
    let most = bench.arguments.flows.iter().copied().max().unwrap_or(0);
    // Beside the table of a row, what lives for a moment and what the nodes themselves say.
    let _room = Room::make(u64::from(most) + 100_000)?;
    bench.run()
}

/// Tells how far it has come.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}

fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
