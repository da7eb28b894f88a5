//! `sync`, `sync-live`: a standby that has nothing gets the whole table of a node that has it already.
//! From the order to send it until the
//! standby holds every flow; ctsyncd's says so when that is proven.
//! In `sync-live` flows come and go meanwhile, and no event may be lost.

use std::thread;
use std::time::{Duration, Instant};

use super::{Group, Rounds};
use crate::harness::peer;
use crate::harness::wait::await_some;
use crate::harness::{Context as _, ensure};
use crate::load::{self, Shape, Step, lives};
use crate::pair::{Pair, RECEIVER, SENDER};
use crate::report::{Aim, Figure, Row, Who};
use crate::{Bench, Result};

/// Design section 9 has it for 1,000,000 flows; fewer must not take longer.
const AIM: Aim = Aim {
    at_most: Some(0.8),
    ..Aim::NONE
};

static ROW: Row = Row {
    name: "sync",
    unit: "s",
    aim: AIM,
};

static LIVE_ROW: Row = Row {
    name: "sync-live",
    unit: "s",
    aim: AIM,
};

/// Both rows.
pub(super) const GROUP: Group = Group {
    name: "sync",
    rows: &[&ROW, &LIVE_ROW],
    rounds: Rounds::Every,
    measure,
};

/// New flows a second while the table is filled: conntrackd's standby keeps up with these.
const FILL_RATE: u32 = 40_000;
/// How long the last of them may take to arrive.
const FILLED: Duration = Duration::from_secs(60);
/// How long a full sync may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Changes a second in `sync-live`,
const LIVE_RATE: u32 = 10_000;
/// so many of them,
const LIVE_FLOWS: u32 = 10_000;
/// each flow's next change so many flows later.
const LIVE_LAG: u32 = 300;
/// How far the live changes are when the replica is forgotten.
const LIVE_BEFORE: Duration = Duration::from_millis(500);

fn measure(bench: &mut Bench) -> Result<()> {
    for flows in bench.arguments.flows.clone() {
        bench.both(GROUP.name, |bench, who| one(bench, who, flows))?;
    }
    Ok(())
}

fn one(bench: &mut Bench, who: Who, flows: u32) -> Result<()> {
    let pair = Pair::start(who, &bench.arguments.binary)?;
    let steps = (0..flows).map(Step::CreateEstablished);
    let node = pair.node(SENDER).namespace();
    load::write(node, 1, Shape::Snat, Some(FILL_RATE), steps)?;
    pair.await_held(flows.into(), FILLED)?;
    let load = format!("{flows} flows");
    if bench.is_wanted(&ROW) {
        let took = sync(&pair, flows)?;
        bench
            .report
            .add(Figure::new(&ROW, load.clone(), who, took.as_secs_f64()));
    }
    if bench.is_wanted(&LIVE_ROW) {
        let before = pair.counts(SENDER)?;
        let took = thread::scope(|scope| -> Result<Duration> {
            let changes = lives(LIVE_FLOWS, LIVE_LAG);
            let live = scope.spawn(|| load::write(node, 2, Shape::Snat, Some(LIVE_RATE), changes));
            thread::sleep(LIVE_BEFORE);
            let took = sync(&pair, flows);
            let live = live.join().ok().context("the live load has panicked")?;
            live.context("the live load")?;
            took
        })?;
        let lost = pair.counts(SENDER)?.since(before).overruns;
        ensure!(lost == 0, "events were lost during the sync, {lost} times");
        bench
            .report
            .add(Figure::new(&LIVE_ROW, load, who, took.as_secs_f64()));
    }
    Ok(())
}

/// Has the standby forget what it holds, and waits until it holds at least `flows` flows again.
fn sync(pair: &Pair, flows: u32) -> Result<Duration> {
    let what = format!("fw2 holds {flows} flows again");
    let Some(receiver) = pair.ctsyncd(RECEIVER) else {
        let node = pair.node(RECEIVER);
        peer::ask(node, &["-f", "external"])?;
        ensure!(pair.held()? < u64::from(flows) / 2, "the replica is empty");
        let start = Instant::now();
        peer::ask(node, &["-n"])?;
        return await_some(&what, PATIENCE, || {
            let is_there = pair.held()? >= u64::from(flows);
            Ok(is_there.then(|| start.elapsed()))
        });
    };
    let sender = pair.ctsyncd(SENDER).context("both are the same")?;
    receiver.ask(&["flush", "replica"])?;
    let start = Instant::now();
    // Returns when fw2 has proven that it holds the table.
    sender.ask(&["resync", "peers"])?;
    let took = start.elapsed();
    let held = pair.held()?;
    ensure!(
        held >= u64::from(flows),
        "{held} of {flows} flows are proven"
    );
    Ok(took)
}
