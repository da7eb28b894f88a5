//! `wire`: bytes on the sync segment for each new flow: all that the sender's interface sends and
//! receives, from the Ethernet header on, acks and heartbeats included. ctsyncd's links are sealed.

use std::time::Duration;

use super::{Group, Rounds};
use crate::load::{self, Shape, Step};
use crate::meter::WireBytes;
use crate::pair::{Pair, SENDER};
use crate::report::{Aim, Figure, Row, Who};
use crate::{Bench, Result};

static ROW: Row = Row {
    name: "wire",
    unit: "B/flow",
    aim: Aim {
        at_most: Some(50.0),
        ..Aim::NONE
    },
};

/// The row. Bytes hardly vary from run to run.
pub(super) const GROUP: Group = Group {
    name: "wire",
    rows: &[&ROW],
    rounds: Rounds::First,
    measure,
};

/// New flows a second.
const RATE: u32 = 10_000;
/// New flows.
const FLOWS: u32 = 30_000;
/// How long the last may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

fn measure(bench: &mut Bench) -> Result<()> {
    bench.both(ROW.name, |bench, who| {
        for shape in [Shape::Plain, Shape::Snat] {
            let bytes = one(bench, who, shape)?;
            let load = format!("{RATE} new/s, {}", shape.name());
            let each = bytes as f64 / f64::from(FLOWS);
            bench.report.add(Figure::new(&ROW, load, who, each));
        }
        Ok(())
    })
}

fn one(bench: &Bench, who: Who, shape: Shape) -> Result<u64> {
    let pair = Pair::start(who, &bench.arguments.binary)?;
    let node = pair.node(SENDER);
    let before = WireBytes::of(node)?.both();
    let steps = (0..FLOWS).map(Step::CreateEstablished);
    load::write(node.namespace(), 1, shape, Some(RATE), steps)?;
    pair.await_held(FLOWS.into(), PATIENCE)?;
    Ok(WireBytes::of(node)?.both() - before)
}
