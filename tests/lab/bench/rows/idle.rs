//! `idle`: CPU of a pair in sync in which nothing happens: heartbeats, timers, and what looks after the
//! table now and then.

use std::time::{Duration, Instant};

use super::{Group, Rounds};
use crate::harness::wait::pass;
use crate::load::{self, Shape, Step};
use crate::pair::{Pair, RECEIVER, SENDER};
use crate::report::{Aim, Figure, Row, Who};
use crate::{Bench, Result, meter};

static ROW: Row = Row {
    name: "idle",
    unit: "ms/s",
    aim: Aim::NONE,
};

/// The row.
pub(super) const GROUP: Group = Group {
    name: "idle",
    rows: &[&ROW],
    rounds: Rounds::Every,
    measure,
};

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(10);
/// Flows that are there meanwhile.
const FLOWS: u32 = 10_000;
const RATE: u32 = 20_000;
/// How long the last may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

fn measure(bench: &mut Bench) -> Result<()> {
    bench.both(ROW.name, one)
}

fn one(bench: &mut Bench, who: Who) -> Result<()> {
    let pair = Pair::start(who, &bench.arguments.binary)?;
    let steps = (0..FLOWS).map(Step::CreateEstablished);
    let node = pair.node(SENDER).namespace();
    load::write(node, 1, Shape::Snat, Some(RATE), steps)?;
    pair.await_held(FLOWS.into(), PATIENCE)?;
    let pids = [SENDER, RECEIVER].map(|index| pair.pid(index));
    let used = || -> Result<Vec<Duration>> { pids.iter().map(|&pid| meter::cpu(pid)).collect() };
    let (before, start) = (used()?, Instant::now());
    pass(QUIET)?;
    let (after, took) = (used()?, start.elapsed().as_secs_f64());
    for (name, at) in [("sender", 0), ("receiver", 1)] {
        let each = (after[at] - before[at]).as_secs_f64() * 1e3 / took;
        let load = format!("{name}, {FLOWS} flows");
        bench.report.add(Figure::new(&ROW, load, who, each));
    }
    Ok(())
}
