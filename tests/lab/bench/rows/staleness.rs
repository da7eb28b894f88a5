//! `staleness`: from the event of fw1's kernel until fw2 has it, seen from outside while a load runs.
//!
//! A probe is a flow that the bench creates in fw1's kernel. Its clock starts before the write, within
//! which the event is made, and stops when an answer says that it is there: what the bench needs for
//! writing and asking counts as staleness, and the note tells how much that can be at most. Probes
//! come at moments that have nothing to do with the load's.
//!
//! Three measures, with p50, p99 and max each: `staleness` asks fw2's ctsyncd for its replica (conntrackd can only list a whole cache, so
//! there is none of it); `kernel-staleness` asks fw2's kernel, while ctsyncd is in hot standby and
//! conntrackd runs without its external cache; `ack-lag` is what ctsyncd's sender tells of itself.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use ctsyncd::control::client::Client;
use ctsyncd::control::lookup::FlowQuery;
use ctsyncd::control::message::Request;
use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::flow::{Flow, Rare};

use super::{Group, Rounds};
use crate::harness::netlink::Writer;
use crate::harness::wait;
use crate::harness::{Context as _, Result, bail, ensure};
use crate::load::{self, Shape};
use crate::pair::{Pair, RECEIVER, SENDER};
use crate::plot::{Plot, Series};
use crate::report::{Aim, Figure, Report, Row, Who};
use crate::{Bench, meter};

/// The least that is asked: p99 at 50,000 changes/s, and so at fewer.
const AIM: Aim = Aim {
    at_most: Some(5.0),
    ..Aim::NONE
};

/// Rows of one measure: p50, p99, max.
type Rows = [Row; 3];

const fn rows([p50, p99, max]: [&'static str; 3], aim: Aim) -> Rows {
    [row(p50, Aim::NONE), row(p99, aim), row(max, Aim::NONE)]
}

const fn row(name: &'static str, aim: Aim) -> Row {
    Row {
        name,
        unit: "ms",
        aim,
    }
}

/// fw2's replica.
static REPLICA: Rows = rows(["staleness-p50", "staleness-p99", "staleness-max"], AIM);
/// fw2's kernel.
static KERNEL: Rows = rows(
    [
        "kernel-staleness-p50",
        "kernel-staleness-p99",
        "kernel-staleness-max",
    ],
    Aim::NONE,
);
/// What fw1's daemon tells.
static ACK_LAG: Rows = rows(["ack-lag-p50", "ack-lag-p99", "ack-lag-max"], Aim::NONE);

/// All of them.
pub(super) const GROUP: Group = Group {
    name: "staleness",
    rows: &[
        &REPLICA[0],
        &REPLICA[1],
        &REPLICA[2],
        &KERNEL[0],
        &KERNEL[1],
        &KERNEL[2],
        &ACK_LAG[0],
        &ACK_LAG[1],
        &ACK_LAG[2],
    ],
    rounds: Rounds::Every,
    measure,
};

/// Changes a second.
const RATES: [u32; 3] = [1_000, 10_000, 50_000];
/// How long a load lasts, seconds: some thousand probes.
const SECS: u32 = 8;
/// Probes begin when the load has settled.
const SETTLE: Duration = Duration::from_millis(500);
/// From one probe to the next at least, and by how much it varies.
const PAUSE: Duration = Duration::from_millis(3);
const PAUSE_VARIES: Duration = Duration::from_millis(3);
/// From one question to the next: what staleness is rounded up to. Shorter would burden the daemon.
const ASK_EVERY: Duration = Duration::from_micros(100);
/// A probe that takes longer is given up, and counts as this.
const LIMIT: Duration = Duration::from_secs(2);
/// Fewer probes have no p99 to speak of.
const PROBES_MIN: usize = 200;
/// The network of the probes; the load has another.
const NETWORK: u8 = 190;
/// Longer than any run, seconds.
const PROBE_SECS: u32 = 600;

fn measure(bench: &mut Bench) -> Result<()> {
    if wants(bench, &REPLICA) || wants(bench, &ACK_LAG) {
        for rate in RATES {
            let result = of_replica(bench, rate);
            bench.note_failure(GROUP.name, Some(Who::Ctsyncd), result)?;
        }
    }
    if wants(bench, &KERNEL) {
        bench.both("kernel-staleness", |bench, who| {
            RATES
                .iter()
                .try_for_each(|&rate| of_kernel(bench, who, rate))
        })?;
    }
    Ok(())
}

fn wants(bench: &Bench, rows: &[Row]) -> bool {
    let has_asked = bench.arguments.rows.iter().any(|it| it == GROUP.name);
    has_asked || rows.iter().any(|row| bench.is_wanted(row))
}

/// Until fw2's daemon has it in its replica.
fn of_replica(bench: &mut Bench, rate: u32) -> Result<()> {
    let pair = Pair::start(Who::Ctsyncd, &bench.arguments.binary)?;
    let mut client = Client::connect(&pair.node(RECEIVER).socket())?;
    let is_there = move |flow: &Flow| {
        let flow = FlowQuery::of(&flow.key());
        let answer = client.call(&Request::Lookup { flow }, |_| Ok(()))?;
        let replica = &answer["replicas"][0];
        ensure!(replica.is_object(), "no replica in {answer}");
        Ok(!replica["flow"].is_null())
    };
    let probed = probe(&pair, rate, is_there)?;
    probed.report(bench, &REPLICA, Who::Ctsyncd, rate);

    let mut client = Client::connect(&pair.node(SENDER).socket())?;
    let stats = client.call(&Request::Stats, |_| Ok(()))?;
    let lag = &stats["peer"][&pair.node(RECEIVER).name]["ack_lag"];
    for (row, name) in ACK_LAG.iter().zip(["p50_us", "p99_us", "max_us"]) {
        let micros = lag[name].as_f64();
        let millis = micros.with_context(|| format!("{name} in {lag}"))? / 1e3;
        (bench.report).add(Figure::new(row, load_name(rate), Who::Ctsyncd, millis));
    }
    Ok(())
}

/// Until fw2's kernel has it.
fn of_kernel(bench: &mut Bench, who: Who, rate: u32) -> Result<()> {
    let pair = Pair::start_hot(who, &bench.arguments.binary)?;
    let mut kernel = pair.node(RECEIVER).namespace().with(Writer::open)?;
    let mut request = Vec::new();
    let is_there = move |flow: &Flow| {
        request.clear();
        encode::get(&mut request, 1, Ack::Wanted, flow);
        kernel.finds(&request)
    };
    let probed = probe(&pair, rate, is_there)?;
    probed.report(bench, &KERNEL, who, rate);
    Ok(())
}

/// What a run of probes has found.
#[derive(Debug)]
struct Probed {
    /// Staleness, in order.
    took: Vec<Duration>,
    /// Longest time for which a figure may be too high: the write and the last two questions, at
    /// the median.
    excess: Duration,
    given_up: usize,
    questions: usize,
    /// Of one core, by the probes themselves.
    cpu_share: f64,
    /// Events a second that the load reached.
    reached: f64,
    overruns: u64,
}

/// Runs the load and the probes beside it.
fn probe(
    pair: &Pair,
    rate: u32,
    is_there: impl FnMut(&Flow) -> Result<bool> + Send,
) -> Result<Probed> {
    let sender = pair.node(SENDER).namespace();
    let mut writer = sender.with(Writer::open)?;
    let counts = pair.counts(SENDER)?;
    let mut probed = thread::scope(|scope| {
        let lag = (rate / 30).max(1);
        let steps = load::lives(rate * SECS / 3, lag);
        let load = scope.spawn(move || load::write(sender, 1, Shape::Snat, Some(rate), steps));
        let probing = probe_until(&mut writer, is_there, || load.is_finished());
        let Ok(ran) = load.join() else {
            bail!("the load panicked");
        };
        let mut probed = probing?;
        probed.reached = ran?.rate();
        Ok(probed)
    })?;
    probed.overruns = pair.counts(SENDER)?.since(counts).overruns;
    ensure!(
        probed.took.len() >= PROBES_MIN,
        "{} probes are too few",
        probed.took.len()
    );
    Ok(probed)
}

fn probe_until(
    writer: &mut Writer,
    mut is_there: impl FnMut(&Flow) -> Result<bool>,
    is_over: impl Fn() -> bool,
) -> Result<Probed> {
    let (began, cpu) = (Instant::now(), meter::cpu_of_this_thread()?);
    let how = Create {
        timeout_secs: PROBE_SECS,
        helper: Helper::Restore,
    };
    let (mut took, mut excesses) = (Vec::new(), Vec::new());
    let (mut given_up, mut questions) = (0, 0);
    thread::sleep(SETTLE);
    let mut message = Vec::new();
    for number in 0.. {
        if is_over() || wait::is_cancelled() {
            break;
        }
        let flow = load::flow(NETWORK, Shape::Snat, number);
        message.clear();
        encode::create(&mut message, 1, Ack::Wanted, &flow, &Rare::default(), how);
        let written_at = Instant::now();
        writer.send(&message)?;
        let mut last_no = Instant::now();
        let seen_after = loop {
            questions += 1;
            let asked_at = Instant::now();
            let found = is_there(&flow)?;
            let answered_at = Instant::now();
            if found {
                // It was not there when the last "no" was asked for, and is now.
                let wrote = last_no.saturating_duration_since(written_at);
                let took = answered_at - written_at;
                excesses.push(took.saturating_sub(wrote));
                break took;
            }
            last_no = asked_at;
            if answered_at - written_at > LIMIT {
                given_up += 1;
                break LIMIT;
            }
            thread::sleep(ASK_EVERY);
        };
        took.push(seen_after);
        // The golden ratio: every phase alike, and none twice.
        let phase = (f64::from(number) * 0.618_033_988_75).fract();
        thread::sleep(PAUSE + PAUSE_VARIES.mul_f64(phase));
    }
    let (errors, example) = writer.refused();
    ensure!(
        errors == 0,
        "{errors} probes were refused, for example with {}",
        std::io::Error::from_raw_os_error(example)
    );
    let cpu = meter::cpu_of_this_thread()?.saturating_sub(cpu);
    took.sort_unstable();
    excesses.sort_unstable();
    Ok(Probed {
        excess: quantile(&excesses, 0.5),
        took,
        given_up,
        questions,
        cpu_share: cpu.as_secs_f64() / began.elapsed().as_secs_f64(),
        reached: 0.0,
        overruns: 0,
    })
}

impl Probed {
    fn report(&self, bench: &mut Bench, rows: &'static Rows, who: Who, rate: u32) {
        let mut note = format!(
            "{} probes, {} questions, too high by {} µs at most (median), {:.0} % of a core for asking",
            self.took.len(),
            self.questions,
            self.excess.as_micros(),
            self.cpu_share * 100.0,
        );
        if self.given_up > 0 {
            note += &format!("; {} never seen in {LIMIT:?}", self.given_up);
        }
        if self.reached < f64::from(rate) * 0.98 {
            note += &format!("; {:.0} changes/s were reached", self.reached);
        }
        if self.overruns > 0 {
            note += &format!("; {} overruns", self.overruns);
        }
        let mut note = Some(note);
        for (row, share) in rows.iter().zip([0.5, 0.99, 1.0]) {
            let millis = quantile(&self.took, share).as_secs_f64() * 1e3;
            let figure = Figure::new(row, load_name(rate), who, millis);
            bench.report.add(figure.with_note(note.take()));
        }
    }
}

fn load_name(rate: u32) -> String {
    format!("{rate} changes/s")
}

/// The least that a share of the sorted values does not exceed; zero of none.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let at = rank.saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// Draws what was measured, a file for each measure.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn draw(report: &Report, folder: &Path) -> Result<()> {
    let ours = curves(report, &REPLICA, Who::Ctsyncd, "");
    let hot = curves(report, &KERNEL, Who::Ctsyncd, "ctsyncd ");
    let theirs = curves(report, &KERNEL, Who::Conntrackd, "conntrackd ");
    let plots = [
        (
            "staleness",
            "until the standby's ctsyncd has a change",
            ours,
            AIM.at_most,
        ),
        (
            "kernel-staleness",
            "until the standby's kernel has a change",
            [hot, theirs].concat(),
            None,
        ),
    ];
    for (name, title, series, aim) in plots {
        if series.is_empty() {
            continue;
        }
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let plot = Plot {
            title: format!("Staleness: {title}"),
            x: "changes per second",
            y: "milliseconds",
            aim,
            series,
        };
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, plot.svg()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn curves(report: &Report, rows: &Rows, who: Who, prefix: &str) -> Vec<Series> {
    let curve = |(row, part): (&Row, &str)| {
        let of = |&rate: &u32| {
            let value = report.value(row, &load_name(rate), who)?;
            Some((f64::from(rate), value))
        };
        Series {
            name: format!("{prefix}{part}"),
            points: RATES.iter().filter_map(of).collect(),
        }
    };
    let all = rows.iter().zip(["p50", "p99", "max"]).map(curve);
    all.filter(|series| !series.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_least_that_the_share_does_not_exceed() {
        let sorted: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        let told = [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&sorted, share).as_millis());
        assert_eq!(told, [1, 100, 198, 200]);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
