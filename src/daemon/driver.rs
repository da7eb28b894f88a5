//! The loop around the engine: what arrives goes in, what comes out goes to where it belongs.
//!
//! One round takes a bounded share of each input, so that none starves another, and drains the
//! outputs, before it looks again.

mod inputs;
mod stats;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::warn;

use super::gate::{self, Gate};
use super::look::Look;
use super::orders::{Answer, Order};
use super::port::Port;
use super::remember::Remembered;
use super::steps::{Share, Steps};
use super::tell::tell;
use crate::ctnetlink::host::Host;
use crate::ctnetlink::request::{KernelRequest, RequestDone};
use crate::engine::{Command, Engine, JobId, Notice, Reply, Standing, Transition};
use crate::kernel::{EventReader, Requests, clock};
use crate::net::Destination;
use crate::net::link::DATAGRAM_BYTES_MAX;
use inputs::Taken;

/// Two rounds begin at least this far apart while there is traffic,
const GATHER: Duration = Duration::from_millis(2);
/// or so far while the kernel has batches to carry out: one takes about as long.
const GATHER_WRITING: Duration = Duration::from_micros(250);
/// Datagrams sent in a round.
const DATAGRAMS_OUT: usize = 128;

/// What the driver brings together.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) done: mpsc::Receiver<RequestDone>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) reader: EventReader,
    pub(super) requests: Requests,
    pub(super) addresses: watch::Receiver<Vec<IpAddr>>,
    pub(super) host: watch::Receiver<Host>,
    pub(super) look: Look,
    pub(super) ports: Vec<Port>,
    pub(super) role: watch::Sender<Remembered>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) transitions: mpsc::Sender<(Instant, Transition)>,
    pub(super) gate: Option<Gate>,
}

/// The driver.
#[derive(Debug)]
pub(super) struct Driver {
    parts: Parts,
    /// Who waits for which job. Bounded by the jobs that the engine takes.
    waiting: BTreeMap<JobId, oneshot::Sender<Answer>>,
    datagram_in: Vec<u8>,
    datagram_out: Vec<u8>,
    messages: Vec<u8>,
    /// Batches that the kernel has not answered.
    writes: usize,
    steps: Steps,
}

/// When the next round is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// At once: there is more to do.
    Go,
    /// At that moment; what comes until then is gathered.
    Gather(Instant),
    /// When something comes, or the engine's time has come.
    Wait,
}

/// What ended the wait.
enum Woken {
    Done(Option<RequestDone>),
    Order(Option<Order>),
    Readable,
    Addresses,
    Host,
    Time,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            waiting: BTreeMap::new(),
            // One byte more than any datagram has: what fills it was cut.
            datagram_in: vec![0; DATAGRAM_BYTES_MAX + 1],
            datagram_out: Vec::with_capacity(2 * DATAGRAM_BYTES_MAX),
            messages: Vec::new(),
            writes: 0,
            steps: Steps::new(),
        }
    }

    /// Runs until nobody gives orders any more.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let now = clock();
        let addresses = self.parts.addresses.borrow_and_update().clone();
        self.parts.engine.handle_addresses(now, addresses);
        self.take_host();
        let mut pace = Pace::Go;
        loop {
            match pace {
                // Let the runtime look at timers and sockets before the next round.
                Pace::Go => tokio::task::yield_now().await,
                Pace::Gather(until) => {
                    // Of the thread, not of the task: a runtime that waits wakes for every event.
                    thread::sleep(until.saturating_duration_since(clock()));
                    tokio::task::yield_now().await;
                }
                Pace::Wait => match self.wait().await {
                    Woken::Done(done) => {
                        self.on_done(done.context("the threads that talk to the kernel are gone")?);
                    }
                    Woken::Order(Some(order)) => self.on_order(order),
                    Woken::Order(None) => return Ok(()),
                    Woken::Addresses => self.on_addresses(),
                    Woken::Host => self.take_host(),
                    Woken::Readable | Woken::Time => {}
                },
            }
            let began = clock();
            let taken = self.take_inputs()?;
            if taken.is_over {
                return Ok(());
            }
            if let Some(gate) = &self.parts.gate {
                gate.beat();
            }
            let now = clock();
            if self.parts.engine.poll_timeout() <= now {
                self.parts.engine.handle_timeout(now);
            }
            let is_drained = self.drain()?;
            let ended = clock();
            self.steps.count(began, ended);
            pace = self.pace(&taken, is_drained, began, ended);
        }
    }

    /// When the next round is due. Where there was traffic there will be more: waking for each bit
    /// of it costs more than the bit itself.
    fn pace(&self, taken: &Taken, is_drained: bool, began: Instant, now: Instant) -> Pace {
        let due = self.parts.engine.poll_timeout();
        if !is_drained || taken.is_more || due <= now {
            return Pace::Go;
        }
        if !taken.has_traffic || !self.parts.reader.may_gather() {
            return Pace::Wait;
        }
        let gather = if self.writes > 0 {
            GATHER_WRITING
        } else {
            GATHER
        };
        let until = due.min(began + gather);
        if until <= now {
            return Pace::Go;
        }
        Pace::Gather(until)
    }

    async fn wait(&mut self) -> Woken {
        let mut wake_at = self.parts.engine.poll_timeout();
        if self.parts.gate.is_some() {
            wake_at = wake_at.min(clock() + gate::BEAT);
        }
        let Parts {
            reader,
            done,
            orders,
            addresses,
            host,
            ports,
            ..
        } = &mut self.parts;
        let readable = poll_fn(|context| {
            // All of them: who is not polled does not wake.
            let mut is_ready = reader.poll_readable(context).is_ready();
            for port in ports.iter() {
                is_ready |= port.link().poll_readable(context).is_ready();
            }
            if is_ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            biased;
            // An event of a flow that ends because an address has left comes later than that.
            Ok(()) = addresses.changed() => Woken::Addresses,
            () = readable => Woken::Readable,
            received = done.recv() => Woken::Done(received),
            order = orders.recv() => Woken::Order(order),
            Ok(()) = host.changed() => Woken::Host,
            () = sleep_until(wake_at.into()) => Woken::Time,
        }
    }

    fn take_host(&mut self) {
        let host = *self.parts.host.borrow_and_update();
        self.parts.engine.handle_host(host);
    }

    fn on_addresses(&mut self) {
        let addresses = self.parts.addresses.borrow_and_update().clone();
        if let Some(gate) = &self.parts.gate {
            gate.set_addresses(&addresses);
        }
        self.parts.engine.handle_addresses(clock(), addresses);
    }

    fn on_order(&mut self, order: Order) {
        let Order { command, answer } = order;
        let is_instance = matches!(command, Command::Instance { .. });
        let reply = self.parts.engine.handle_command(clock(), command);
        if is_instance {
            self.remember();
        }
        let reply = match reply {
            Reply::Started(job) => {
                self.waiting.insert(job, answer);
                return;
            }
            Reply::Status(mut status) => {
                status.links = self.parts.ports.iter().map(Port::status).collect();
                status.gate = self.parts.gate.as_ref().map(|gate| gate.status(clock()));
                Reply::Status(status)
            }
            Reply::Stats(mut stats) => {
                stats.extend(self.edge_stats());
                Reply::Stats(stats)
            }
            reply => reply,
        };
        // Whoever asked may be gone; then nobody misses the answer.
        let _ = answer.send(Answer::Reply(reply));
    }

    /// Drains the engine. False: there is more to send.
    fn drain(&mut self) -> anyhow::Result<bool> {
        let now = clock();
        while self.parts.requests.room() > 0 {
            if self.messages.capacity() == 0 {
                self.messages = self.parts.requests.take_buffer();
            }
            let Some(request) = self.parts.engine.poll_request(now, &mut self.messages) else {
                break;
            };
            if let KernelRequest::Batch { .. } = request {
                self.writes += 1;
            }
            let messages = std::mem::take(&mut self.messages);
            let submitted = self.parts.requests.submit(request, messages);
            submitted.context("cannot ask the kernel")?;
        }
        while let Some(notice) = self.parts.engine.poll_notice() {
            self.on_notice(notice);
        }
        let mut share = Share::of(DATAGRAMS_OUT);
        while !share.is_over() {
            let out = &mut self.datagram_out;
            let Some(transmit) = self.parts.engine.poll_transmit(now, out) else {
                return Ok(true);
            };
            let to = transmit.to.map_or(Destination::All, Destination::Peer);
            self.parts.ports[usize::from(transmit.link.0)].send(now, out, to);
        }
        Ok(false)
    }

    fn on_notice(&mut self, notice: Notice) {
        // Before anything that takes time, the log included.
        if let (Notice::Role { to, .. }, Some(gate)) = (&notice, &self.parts.gate) {
            gate.set_role(*to, clock());
        }
        tell(&notice);
        match notice {
            Notice::JobDone { job, result } => {
                if let Some(answer) = self.waiting.remove(&job) {
                    // As above.
                    let _ = answer.send(Answer::Ended(result));
                }
            }
            Notice::Role { .. } => self.remember(),
            Notice::Standing(standing) => {
                self.parts.standing.send_replace(standing);
            }
            Notice::Transition { began, transition } => {
                if self
                    .parts
                    .transitions
                    .try_send((began, *transition))
                    .is_err()
                {
                    warn!("the history lacks a promotion or demotion: too many at once");
                }
            }
            Notice::Peer(_)
            | Notice::Committed(_)
            | Notice::Faded { .. }
            | Notice::MadeStrict { .. }
            | Notice::SplitBrain { .. }
            | Notice::SplitBrainOver { .. }
            | Notice::Overrun
            | Notice::TableWhole { .. }
            | Notice::TableFull => {}
        }
    }

    /// What a later run has to know of the role.
    fn remember(&self) {
        let now = Remembered::of(&self.parts.engine);
        self.parts.role.send_if_modified(|before| {
            let is_news = *before != now;
            *before = now;
            is_news
        });
    }
}
