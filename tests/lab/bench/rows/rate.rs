//! `rate`: the highest rate of events at which the daemon of the sender reads all of them, each daemon
//! with the buffers that it comes with. The rate is raised step by step until one is lost; where the
//! writer ends first, the figure is a lower bound and shown as such.

use std::time::Duration;

use super::{Group, Rounds};
use crate::load::{self, Shape};
use crate::pair::{Pair, SENDER};
use crate::report::{Aim, Figure, Row, Who};
use crate::{Bench, Result};

static ROW: Row = Row {
    name: "rate",
    unit: "events/s",
    aim: Aim {
        at_least_times_conntrackd: Some(1.0),
        ..Aim::NONE
    },
};

/// The row.
pub(super) const GROUP: Group = Group {
    name: "rate",
    rows: &[&ROW],
    rounds: Rounds::Every,
    measure,
};

/// Events a second, and at last as fast as the kernel takes them.
const STEPS: [Option<u32>; 4] = [Some(60_000), Some(100_000), Some(150_000), None];
/// How long a step lasts, seconds: ctsyncd's buffer, the larger one, holds a fifth of the first.
const SECS: u32 = 2;
/// Flows of the step without a pace.
const UNPACED_FLOWS: u32 = 200_000;
/// Births between a flow's birth and its change, and between that and its end.
const LAG: u32 = 5_000;
/// A step whose pace was missed by more than this shows what the writer can.
const KEPT: f64 = 0.95;
/// How long what was read may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

fn measure(bench: &mut Bench) -> Result<()> {
    bench.both(ROW.name, |bench, who| {
        let figure = climb(bench, who)?;
        bench.report.add(figure);
        Ok(())
    })
}

fn climb(bench: &Bench, who: Who) -> Result<Figure> {
    let mut best = 0.0_f64;
    let figure = |best| Figure::new(&ROW, "new, update, destroy", who, best);
    for rate in STEPS {
        // A new pair for each: conntrackd's buffer grows with what it has lost.
        let pair = Pair::start(who, &bench.arguments.binary)?;
        let flows = rate.map_or(UNPACED_FLOWS, |rate| rate * SECS / 3);
        let before = pair.counts(SENDER)?;
        let steps = load::lives(flows, LAG);
        let ran = load::write(pair.node(SENDER).namespace(), 1, Shape::Snat, rate, steps)?;
        let passed = pair.await_passed(before, ran.events, PATIENCE)?;
        if passed.overruns > 0 {
            let at = format!("at {:.0} events/s some were lost", ran.rate());
            return Ok(figure(best).with_note(Some(at)));
        }
        best = best.max(ran.rate());
        if rate.is_some_and(|rate| ran.rate() < f64::from(rate) * KEPT) {
            break;
        }
    }
    // The writer can no more, and nothing was lost.
    Ok(figure(best).at_least())
}
