//! `sender` and `receiver`: CPU of the whole daemon for each event on the node that has the flows, and
//! for each record on the node that holds the replica. New, established, destroyed: three events a
//! flow, at a pace, and as fast as the kernel takes them.

use std::time::Duration;

use super::gather::Gather;
use super::{Group, Rounds};
use crate::harness::wait::await_until;
use crate::load::{self, Shape};
use crate::pair::{self, Counts, Pair, RECEIVER, SENDER};
use crate::report::{Aim, Figure, Row, Who};
use crate::{Bench, Result, meter};

/// CPU of the sender.
static SENDER_ROW: Row = Row {
    name: "sender",
    unit: "µs/event",
    aim: Aim {
        at_most: Some(2.0),
        times_conntrackd: Some(0.35),
        ..Aim::NONE
    },
};

/// CPU of the receiver.
static RECEIVER_ROW: Row = Row {
    name: "receiver",
    unit: "µs/record",
    aim: Aim {
        at_most: Some(0.6),
        times_conntrackd: Some(0.12),
        ..Aim::NONE
    },
};

/// Both rows.
pub(super) const GROUP: Group = Group {
    name: "cpu",
    rows: &[&SENDER_ROW, &RECEIVER_ROW],
    rounds: Rounds::Every,
    measure,
};

/// Events a second; `None` is as fast as the kernel takes them.
const RATES: [Option<u32>; 3] = [Some(20_000), Some(50_000), None];
/// How long a paced load lasts, seconds.
const SECS: u32 = 3;
/// Flows of the load without a pace.
const UNPACED_FLOWS: u32 = 100_000;
/// Births between a flow's birth and its change, and between that and its end: at least 0.1 s at any
/// rate that two cores reach.
const LAG: u32 = 5_000;
/// How long the last event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

fn measure(bench: &mut Bench) -> Result<()> {
    bench.both("cpu", |bench, who| {
        for rate in RATES {
            one(bench, who, rate)?;
        }
        Ok(())
    })?;
    if bench.is_wanted(&SENDER_ROW) {
        for rate in RATES {
            let result = limit(bench, rate);
            bench.note_failure(SENDER_ROW.name, Some(Who::Limit), result)?;
        }
    }
    Ok(())
}

fn flows_at(rate: Option<u32>) -> u32 {
    rate.map_or(UNPACED_FLOWS, |rate| rate * SECS / 3)
}

fn load_name(rate: Option<u32>) -> String {
    rate.map_or_else(|| "unpaced".to_owned(), |rate| format!("{rate}/s"))
}

fn one(bench: &mut Bench, who: Who, rate: Option<u32>) -> Result<()> {
    let pair = Pair::start(who, &bench.arguments.binary)?;
    let used = || -> Result<[Duration; 2]> {
        Ok([
            meter::cpu(pair.pid(SENDER))?,
            meter::cpu(pair.pid(RECEIVER))?,
        ])
    };
    let counts = pair.counts(SENDER)?;
    let before = used()?;
    let node = pair.node(SENDER).namespace();
    let ran = load::write(node, 1, Shape::Snat, rate, load::lives(flows_at(rate), LAG))?;
    let passed = pair.await_passed(counts, ran.events, PATIENCE)?;
    let after = used()?;
    let note = note(passed, ran.events, ran.rate(), rate);
    let figures = [
        (&SENDER_ROW, 0, passed.events),
        (&RECEIVER_ROW, 1, passed.records),
    ];
    for (row, at, count) in figures {
        if bench.is_wanted(row) {
            let each = (after[at] - before[at]).as_secs_f64() * 1e6 / count as f64;
            let figure = Figure::new(row, load_name(rate), who, each);
            bench.report.add(figure.with_note(note.clone()));
        }
    }
    Ok(())
}

/// The same load before a listener that does nothing with it.
fn limit(bench: &mut Bench, rate: Option<u32>) -> Result<()> {
    let lab = pair::lab()?;
    let node = lab.node(SENDER).namespace();
    let gather = Gather::start(node)?;
    let ran = load::write(node, 1, Shape::Snat, rate, load::lives(flows_at(rate), LAG))?;
    await_until("the bare listener has read all", PATIENCE, || {
        Ok(gather.events() >= ran.events)
    })?;
    let each = gather.end()?.as_secs_f64() * 1e6 / ran.events as f64;
    let figure = Figure::new(&SENDER_ROW, load_name(rate), Who::Limit, each);
    bench.report.add(figure);
    Ok(())
}

/// What a reader must know: losses, and a pace that was not kept.
fn note(passed: Counts, events: u64, reached: f64, rate: Option<u32>) -> Option<String> {
    let mut told = Vec::new();
    if passed.overruns > 0 {
        let missed = events.saturating_sub(passed.events);
        told.push(format!(
            "{} overruns, {missed} of {events} events lost",
            passed.overruns
        ));
    }
    if rate.is_none_or(|rate| reached < f64::from(rate) * 0.98) {
        told.push(format!("{reached:.0} events/s were reached"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}
