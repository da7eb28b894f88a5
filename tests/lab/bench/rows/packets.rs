//! `packets-sender`, `packets-receiver`, `packets-wire`: real packets. Whole TCP connections through fw1,
//! with all their packets from SYN to the last ACK, paced; half a second after its last packet each is
//! deleted, as an expiry would. How many events a connection makes is measured by a counter that
//! listens alone, before the pairs, and not assumed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ctsyncd::ctnetlink::encode::{self, Ack};

use super::{Group, Rounds};
use crate::Bench;
use crate::harness::frames::{CONNECTION_PACKETS, Cables, Frame};
use crate::harness::namespace::Namespace;
use crate::harness::netlink::Writer;
use crate::harness::process::Process;
use crate::harness::wait::{self, await_until};
use crate::harness::{Result, bail, bulk, ensure};
use crate::meter::{self, WireBytes};
use crate::pair::{self, Pair, RECEIVER, SENDER};
use crate::report::{Aim, Figure, Row, Who};

/// CPU of the sender.
static SENDER_ROW: Row = Row {
    name: "packets-sender",
    unit: "µs/event",
    aim: Aim {
        at_most: Some(2.0),
        times_conntrackd: Some(0.35),
        ..Aim::NONE
    },
};

/// CPU of the receiver for each record that it was sent (of conntrackd, which does not count them: for
/// each event).
static RECEIVER_ROW: Row = Row {
    name: "packets-receiver",
    unit: "µs/record",
    aim: Aim {
        at_most: Some(0.6),
        times_conntrackd: Some(0.12),
        ..Aim::NONE
    },
};

/// Bytes on the sync segment.
static WIRE_ROW: Row = Row {
    name: "packets-wire",
    unit: "B/connection",
    aim: Aim::NONE,
};

/// All three.
pub(super) const GROUP: Group = Group {
    name: "packets",
    rows: &[&SENDER_ROW, &RECEIVER_ROW, &WIRE_ROW],
    rounds: Rounds::Every,
    measure,
};

/// Connections a second.
const RATES: [u32; 2] = [2_000, 5_000];
/// How long a load lasts, seconds.
const SECS: u32 = 4;
/// Made-up network of the connections, of those below 200.
const NETWORK: u8 = 50;
/// Connections that take the same step at once.
const GROUP_SIZE: u32 = 20;
/// Connections that are over before the first is deleted: half a second's.
const LINGER_DIVISOR: u32 = 2;
/// But no connection is deleted before its last packet; a multiple of the group.
const LINGER_MIN: u32 = 10 * GROUP_SIZE;
/// How long the last event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an event of every connection says once; the first and the last have no such word.
const STATES: [&str; 6] = [
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
];
/// Connections of the count of events.
const COUNTED: u32 = 200;

fn measure(bench: &mut Bench) -> Result<()> {
    let each = events_per_connection()?;
    bench.both("packets", |bench, who| {
        for rate in RATES {
            one(bench, who, rate, each)?;
        }
        Ok(())
    })
}

fn one(bench: &mut Bench, who: Who, rate: u32, each: u64) -> Result<()> {
    let pair = Pair::start(who, &bench.arguments.binary)?;
    let cables = Cables::take(pair.lab(), pair.node(SENDER))?;
    let count = rate * SECS;
    let events = u64::from(count) * each;
    let used = || -> Result<[Duration; 2]> {
        Ok([
            meter::cpu(pair.pid(SENDER))?,
            meter::cpu(pair.pid(RECEIVER))?,
        ])
    };
    let counts = pair.counts(SENDER)?;
    let (before, wire) = (used()?, WireBytes::of(pair.node(SENDER))?);
    let took = offer(&cables, pair.node(SENDER).namespace(), rate, count)?;
    let passed = pair.await_passed(counts, events, PATIENCE)?;
    let after = used()?;
    let bytes = WireBytes::of(pair.node(SENDER))?.both() - wire.both();
    let mut note = format!(
        "{} events seen of {events}, {each} a connection",
        passed.events
    );
    if passed.overruns > 0 {
        note.push_str(&format!(", {} overruns", passed.overruns));
    }
    let reached = f64::from(count) / took.as_secs_f64();
    if reached < f64::from(rate) * 0.98 {
        note.push_str(&format!(", {reached:.0} connections/s were reached"));
    }
    if who == Who::Ctsyncd {
        note.push_str(&format!(", {} records", passed.records));
    }
    let micros =
        |at: usize, count: u64| (after[at] - before[at]).as_secs_f64() * 1e6 / count as f64;
    let figures = [
        (&SENDER_ROW, micros(0, passed.events)),
        (&RECEIVER_ROW, micros(1, passed.records)),
        (&WIRE_ROW, bytes as f64 / f64::from(count)),
    ];
    for (row, value) in figures {
        if bench.is_wanted(row) || bench.arguments.rows.iter().any(|it| it == GROUP.name) {
            let figure = Figure::new(row, format!("{rate} TCP/s"), who, value);
            bench.report.add(figure.with_note(Some(note.clone())));
        }
    }
    Ok(())
}

/// Offers `count` connections, `rate` a second, and deletes each half a second after its beginning.
/// Yields from the first to the beginning of the last.
fn offer(cables: &Cables, host: &Namespace, rate: u32, count: u32) -> Result<Duration> {
    let start = Instant::now();
    let linger = rate / LINGER_DIVISOR;
    let mut writer = host.with(Writer::open)?;
    let (mut frame, mut batch) = (Frame::new(), Vec::new());
    let mut offered = Duration::ZERO;
    for first in (0..count + linger.max(LINGER_MIN)).step_by(usize::try_from(GROUP_SIZE)?) {
        if wait::is_cancelled() {
            bail!("interrupted");
        }
        let due = Duration::from_secs_f64(f64::from(first) / f64::from(rate));
        thread::sleep(due.saturating_sub(start.elapsed()));
        // Each group is one packet further than the one that began after it: between the packets of a
        // connection lies a round trip (4 ms at 5,000 a second), and no reader that gathers for less
        // can skip a part of its life.
        for (at, back) in (0..CONNECTION_PACKETS).zip((0..).step_by(usize::try_from(GROUP_SIZE)?)) {
            let Some(behind) = first.checked_sub(back) else {
                break;
            };
            for number in behind..(behind + GROUP_SIZE).min(count) {
                let flow = bulk::flow(NETWORK, number);
                let side = frame.of_connection(&flow.orig, &flow.reply, at)?;
                cables.send(side, &mut frame)?;
            }
        }
        if first < count {
            offered = start.elapsed();
        }
        let Some(ended) = first.checked_sub(linger.max(LINGER_MIN)) else {
            continue;
        };
        batch.clear();
        let last = (ended + GROUP_SIZE).min(count);
        for number in ended..last {
            let ack = if number + 1 == last {
                Ack::Wanted
            } else {
                Ack::None
            };
            encode::delete(&mut batch, number, ack, &bulk::flow(NETWORK, number), None);
        }
        writer.send(&batch)?;
    }
    let (refused, example) = writer.refused();
    ensure!(
        refused == 0,
        "{refused} of {count} connections were not there at their end, error {example}: the firewall \
         did not take their packets"
    );
    Ok(offered)
}

/// How many events of the kernel a connection makes, from its first packet to its deletion, as
/// `conntrack -E` counts them.
fn events_per_connection() -> Result<u64> {
    let lab = pair::lab()?;
    let node = lab.node(SENDER);
    let cables = Cables::take(&lab, node)?;
    let host = node.namespace();
    let listener = Process::start("conntrack -E", host.command("conntrack").arg("-E"))?;
    await_until("conntrack -E listens", PATIENCE, || {
        host.with(|| {
            // Protocol 12 is NETLINK_NETFILTER; the fourth column has the groups.
            let text = fs::read_to_string("/proc/thread-self/net/netlink")?;
            let mut sockets = text
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            Ok(sockets.any(|it| it.len() > 3 && it[1] == "12" && it[3] != "00000000"))
        })
    })?;
    offer(&cables, host, COUNTED, COUNTED)?;
    let count = |word: &str| {
        let lines = listener.lines();
        lines.iter().filter(|line| line.text.contains(word)).count()
    };
    let all = usize::try_from(COUNTED)?;
    await_until("every connection has ended", PATIENCE, || {
        Ok(count("[DESTROY]") == all)
    })?;
    let events = ["[NEW]", "[UPDATE]", "[DESTROY]"].map(count);
    let total: usize = events.iter().sum();
    ensure!(
        total.is_multiple_of(all) && events[0] == all,
        "{COUNTED} equal connections made {events:?} events (new, update, destroy)"
    );
    for state in STATES {
        let lines = listener.lines();
        let is_meant = |text: &str| text.contains("[UPDATE]") && text.contains(state);
        let seen = lines.iter().filter(|line| is_meant(&line.text)).count();
        ensure!(seen == all, "{seen} of {all} connections came to {state}");
    }
    Ok(u64::try_from(total / all)?)
}
