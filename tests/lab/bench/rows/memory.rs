//! `memory-sender`, `memory-receiver`: resident memory of the daemons by flows, all in (program, buffers,
//! index), at the sizes of `--flows`; and how much of that came with the flows.

use std::time::Duration;

use super::{Group, Rounds};
use crate::harness::wait::await_until;
use crate::load::{self, Shape, Step};
use crate::pair::{Pair, RECEIVER, SENDER};
use crate::report::{Aim, Figure, Row, Who};
use crate::{Bench, Result, meter};

const AIM: Aim = Aim {
    at_most: Some(160.0),
    ..Aim::NONE
};

static SENDER_ROW: Row = Row {
    name: "memory-sender",
    unit: "B/flow",
    aim: AIM,
};
static RECEIVER_ROW: Row = Row {
    name: "memory-receiver",
    unit: "B/flow",
    aim: AIM,
};

/// Both rows. Memory hardly varies from run to run.
pub(super) const GROUP: Group = Group {
    name: "memory",
    rows: &[&SENDER_ROW, &RECEIVER_ROW],
    rounds: Rounds::First,
    measure,
};

/// All in, fewer flows than this say more about the program than about the flows.
const JUDGED_FROM: u32 = 200_000;
/// New flows a second: conntrackd's standby keeps up with these.
const RATE: u32 = 40_000;
/// How long the last may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

fn measure(bench: &mut Bench) -> Result<()> {
    for flows in bench.arguments.flows.clone() {
        bench.both(GROUP.name, |bench, who| one(bench, who, flows))?;
    }
    Ok(())
}

fn one(bench: &mut Bench, who: Who, flows: u32) -> Result<()> {
    let pair = Pair::start(who, &bench.arguments.binary)?;
    let resident = || -> Result<[u64; 2]> {
        Ok([
            meter::resident_bytes(pair.pid(SENDER))?,
            meter::resident_bytes(pair.pid(RECEIVER))?,
        ])
    };
    let empty = resident()?;
    let steps = (0..flows).map(Step::CreateEstablished);
    let node = pair.node(SENDER).namespace();
    load::write(node, 1, Shape::Snat, Some(RATE), steps)?;
    await_until("fw1's daemon has all flows", PATIENCE, || {
        Ok(pair.tracked()? == u64::from(flows))
    })?;
    // A standby that never gets there costs only its own figure.
    let held = pair.await_held(flows.into(), PATIENCE);
    let full = resident()?;
    for (row, at) in [(&SENDER_ROW, 0), (&RECEIVER_ROW, 1)] {
        if !bench.is_wanted(row) {
            continue;
        }
        if let (1, Err(why)) = (at, &held) {
            bench.report.fail(row.name, Some(who), &format!("{why:#}"));
            continue;
        }
        let values = [
            ("all in", full[at]),
            ("growth", full[at].saturating_sub(empty[at])),
        ];
        for (what, bytes) in values {
            let each = bytes as f64 / f64::from(flows);
            let load = format!("{flows} flows, {what}");
            let figure = Figure::new(row, load, who, each);
            // A small table is hidden by what the program takes anyway.
            let is_judged = what == "growth" || flows >= JUDGED_FROM;
            bench.report.add(if is_judged {
                figure
            } else {
                figure.without_aim()
            });
        }
    }
    Ok(())
}
