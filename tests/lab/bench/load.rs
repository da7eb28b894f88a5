//! Loads through ctnetlink: flows that are born, change and die at a chosen rate. The writer lives in
//! the bench's own process, so that its CPU is nobody's figure.

use std::thread;
use std::time::{Duration, Instant};

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper, Update};
use ctsyncd::flow::proto::{TCP_ESTABLISHED, TcpInfo};
use ctsyncd::flow::{Flow, ProtoInfo, Rare, Status};

use super::harness::namespace::Namespace;
use super::harness::netlink::Writer;
use super::harness::{Result, bail, bulk, ensure, wait};

/// Messages in one send: more gains nothing (the kernel was measured).
const BATCH: usize = 64;
/// A paced load sends what is due this often.
const TICK: Duration = Duration::from_millis(1);
/// A flow that is not yet established, seconds: longer than any load.
const YOUNG_SECS: u32 = 600;
/// An established one that nobody refreshes, seconds.
const GROWN_SECS: u32 = 3600;
/// `TCP_CONNTRACK_SYN_RECV`, include/uapi/linux/netfilter/nf_conntrack_tcp.h.
const TCP_SYN_RECV: u8 = 2;

/// How the flows of a load look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// Source-translated IPv4 TCP: what most firewalls have most of.
    Snat,
    /// The same without translation.
    Plain,
}

impl Shape {
    /// Its name in a load's words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Snat => "SNAT",
            Self::Plain => "plain",
        }
    }
}

/// One message, and one event of the kernel: about flow `number`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It is born, answered but not yet established.
    Create(u32),
    /// It becomes established and assured: news for every replica.
    Establish(u32),
    /// It is born established.
    CreateEstablished(u32),
    /// It ends.
    Delete(u32),
}

/// Births, changes and ends of `flows` flows, three events each. A flow changes when `lag` further
/// ones were born, and ends when `lag` more were: no reader that gathers for less than that time
/// can skip a part of its life.
pub(crate) fn lives(flows: u32, lag: u32) -> impl Iterator<Item = Step> + Send {
    (0..flows + 2 * lag).flat_map(move |turn| {
        let of = |behind: u32| turn.checked_sub(behind).filter(|&it| it < flows);
        [
            of(0).map(Step::Create),
            of(lag).map(Step::Establish),
            of(2 * lag).map(Step::Delete),
        ]
        .into_iter()
        .flatten()
    })
}

/// What a load was.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Ran {
    /// Messages written, each of which made one event.
    pub(crate) events: u64,
    /// From the first to the end of the last.
    pub(crate) took: Duration,
}

impl Ran {
    /// Events per second.
    pub(crate) fn rate(self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }
}

/// Writes `steps` in a namespace, `rate` a second (`None`: as fast as the kernel takes them), and waits
/// for the end. Flows of different `network`s (below 200) differ.
///
/// # Errors
///
/// When the kernel refuses one, or somebody pressed Ctrl-C.
pub(crate) fn write(
    namespace: &Namespace,
    network: u8,
    shape: Shape,
    rate: Option<u32>,
    steps: impl Iterator<Item = Step> + Send + 'static,
) -> Result<Ran> {
    namespace.with(move || Pace::new(rate).write(network, shape, steps))
}

/// When what is due.
struct Pace {
    rate: Option<f64>,
    start: Instant,
    written: u64,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        Self {
            rate: rate.map(f64::from),
            start: Instant::now(),
            written: 0,
        }
    }

    fn write(
        mut self,
        network: u8,
        shape: Shape,
        mut steps: impl Iterator<Item = Step>,
    ) -> Result<Ran> {
        let mut writer = Writer::open()?;
        let mut messages = Vec::new();
        loop {
            if wait::is_cancelled() {
                bail!("interrupted");
            }
            let room = self.await_due();
            let batch: Vec<Step> = steps.by_ref().take(room).collect();
            let Some(last) = batch.len().checked_sub(1) else {
                break;
            };
            messages.clear();
            for (index, &step) in batch.iter().enumerate() {
                let ack = if index == last {
                    Ack::Wanted
                } else {
                    Ack::None
                };
                let sequence = u32::try_from(index + 1)?;
                encode(&mut messages, sequence, ack, network, shape, step);
            }
            writer.send(&messages)?;
            self.written += batch.len() as u64;
        }
        let took = self.start.elapsed();
        let (errors, example) = writer.refused();
        ensure!(
            errors == 0,
            "{errors} requests were refused, for example with {}",
            std::io::Error::from_raw_os_error(example)
        );
        Ok(Ran {
            events: self.written,
            took,
        })
    }

    /// How many messages may go now, at least one.
    fn await_due(&self) -> usize {
        let Some(rate) = self.rate else {
            return BATCH;
        };
        loop {
            let due = self.start.elapsed().as_secs_f64() * rate - self.written as f64;
            if due >= 1.0 {
                // Truncation is meant: a message is due as a whole or not yet.
                return (due as usize).min(BATCH);
            }
            thread::sleep(TICK);
        }
    }
}

fn encode(out: &mut Vec<u8>, sequence: u32, ack: Ack, network: u8, shape: Shape, step: Step) {
    match step {
        Step::Create(number) => {
            let flow = young(network, shape, number);
            create(out, sequence, ack, &flow, YOUNG_SECS);
        }
        Step::CreateEstablished(number) => {
            let flow = flow(network, shape, number);
            create(out, sequence, ack, &flow, GROWN_SECS);
        }
        Step::Establish(number) => {
            let flow = flow(network, shape, number);
            let change = Update {
                timeout_secs: Some(GROWN_SECS),
                status: Some(flow.status),
                proto: Some(flow.proto),
                ..Update::default()
            };
            encode::update(out, sequence, ack, &flow, change);
        }
        Step::Delete(number) => {
            encode::delete(out, sequence, ack, &flow(network, shape, number), None);
        }
    }
}

fn create(out: &mut Vec<u8>, sequence: u32, ack: Ack, flow: &Flow, timeout_secs: u32) {
    let how = Create {
        timeout_secs,
        helper: Helper::Restore,
    };
    encode::create(out, sequence, ack, flow, &Rare::default(), how);
}

/// Flow `number`, established.
pub(crate) fn flow(network: u8, shape: Shape, number: u32) -> Flow {
    let flow = bulk::flow(network, number);
    match shape {
        Shape::Snat => flow,
        Shape::Plain => Flow {
            reply: flow.orig.inverse(),
            ..flow
        },
    }
}

/// The same before it is established.
fn young(network: u8, shape: Shape, number: u32) -> Flow {
    Flow {
        status: Status(Status::SEEN_REPLY | Status::CONFIRMED),
        proto: ProtoInfo::Tcp(TcpInfo {
            state: TCP_SYN_RECV,
            ..established()
        }),
        ..flow(network, shape, number)
    }
}

fn established() -> TcpInfo {
    TcpInfo {
        state: TCP_ESTABLISHED,
        wscale_orig: 7,
        wscale_reply: 7,
        flags_orig: 0x03,
        flags_reply: 0x03,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_is_born_changes_and_ends_in_that_order() {
        let steps: Vec<Step> = lives(5, 2).collect();
        assert_eq!(steps.len(), 15);
        let at = |wanted: Step| steps.iter().position(|step| *step == wanted);
        for number in 0..5 {
            let life = [
                Step::Create(number),
                Step::Establish(number),
                Step::Delete(number),
            ]
            .map(at);
            assert!(life[0].is_some(), "{number} is born");
            assert!(life.is_sorted(), "{number}: {life:?}");
        }
    }

    #[test]
    fn a_pace_is_kept() {
        let pace = Pace {
            start: Instant::now()
                .checked_sub(Duration::from_millis(10))
                .expect("the machine is up for longer"),
            ..Pace::new(Some(1000))
        };
        let due = pace.await_due();
        assert!((10..BATCH).contains(&due), "{due}");
        assert_eq!(Pace::new(None).await_due(), BATCH);
    }
}
