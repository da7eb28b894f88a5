//! The loop around the engine: what arrives goes in, what comes out goes to where it belongs.
//!
//! One round takes a bounded share of each input, so that none starves another, and drains the
//! outputs, before it looks again.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::task::Poll;
use std::time::Instant;

use anyhow::Context;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, warn};

use super::gate::{self, Gate};
use super::look::Look;
use super::orders::{Answer, Order};
use super::port::Port;
use super::remember::Remembered;
use super::steps::{Share, Steps};
use super::tell::tell;
use crate::ctnetlink::host::Host;
use crate::ctnetlink::request::RequestDone;
use crate::engine::{Command, Engine, JobId, Notice, Reply, Standing, Transition};
use crate::kernel::{EventReader, KernelEvents, Requests, clock};
use crate::net::Destination;
use crate::net::link::DATAGRAM_BYTES_MAX;
use crate::replication::LinkId;

/// Event batches taken in a round.
const EVENT_BATCHES: usize = 8;
/// Answers of the kernel taken in a round.
const ANSWERS: usize = 8;
/// Datagrams taken from each link in a round.
const DATAGRAMS_IN: usize = 64;
/// Datagrams sent in a round.
const DATAGRAMS_OUT: usize = 128;
/// Orders taken in a round.
const ORDERS: usize = 4;

/// What the driver brings together.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) events: mpsc::Receiver<KernelEvents>,
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

mod stats;

/// The driver.
#[derive(Debug)]
pub(super) struct Driver {
    parts: Parts,
    /// Who waits for which job. Bounded by the jobs that the engine takes.
    waiting: BTreeMap<JobId, oneshot::Sender<Answer>>,
    datagram_in: Vec<u8>,
    datagram_out: Vec<u8>,
    messages: Vec<u8>,
    steps: Steps,
}

/// What ended the wait.
enum Woken {
    Events(Option<KernelEvents>),
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
            steps: Steps::new(),
        }
    }

    /// Runs until nobody gives orders any more.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let now = clock();
        let addresses = self.parts.addresses.borrow_and_update().clone();
        self.parts.engine.handle_addresses(now, addresses);
        self.take_host();
        let mut is_busy = true;
        loop {
            let mut began = clock();
            if is_busy {
                // Let the runtime look at timers and sockets before the next round.
                tokio::task::yield_now().await;
            } else {
                let woken = self.wait().await;
                began = clock();
                match woken {
                    Woken::Events(events) => {
                        self.on_events(events.context("the event reader has failed")?);
                    }
                    Woken::Done(done) => {
                        let done = done.context("the threads that talk to the kernel are gone")?;
                        self.parts.engine.handle_done(clock(), done);
                    }
                    Woken::Order(Some(order)) => self.on_order(order),
                    Woken::Order(None) => return Ok(()),
                    Woken::Addresses => self.on_addresses(),
                    Woken::Host => self.take_host(),
                    Woken::Readable | Woken::Time => {}
                }
            }
            let Some(took_all) = self.take_inputs() else {
                return Ok(());
            };
            if let Some(gate) = &self.parts.gate {
                gate.beat();
            }
            let now = clock();
            if self.parts.engine.poll_timeout() <= now {
                self.parts.engine.handle_timeout(now);
            }
            let is_drained = self.drain()?;
            is_busy = !is_drained || !took_all || self.parts.engine.poll_timeout() <= now;
            self.steps.count(began, clock());
        }
    }

    async fn wait(&mut self) -> Woken {
        let mut wake_at = self.parts.engine.poll_timeout();
        if self.parts.gate.is_some() {
            wake_at = wake_at.min(clock() + gate::BEAT);
        }
        let Parts {
            events,
            done,
            orders,
            addresses,
            host,
            ports,
            ..
        } = &mut self.parts;
        let readable = poll_fn(|context| {
            let is_ready = |port: &Port| port.link().poll_readable(context).is_ready();
            if ports.iter().any(is_ready) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            biased;
            // An event of a flow that ends because an address has left comes later than that.
            Ok(()) = addresses.changed() => Woken::Addresses,
            received = events.recv() => Woken::Events(received),
            () = readable => Woken::Readable,
            received = done.recv() => Woken::Done(received),
            order = orders.recv() => Woken::Order(order),
            Ok(()) = host.changed() => Woken::Host,
            () = sleep_until(wake_at.into()) => Woken::Time,
        }
    }

    /// Takes a share of what is there. False: there is more. `None`: nobody gives orders any more.
    fn take_inputs(&mut self) -> Option<bool> {
        if self.parts.addresses.has_changed().unwrap_or(false) {
            self.on_addresses();
        }
        let mut took_all = true;
        let mut share = Share::of(EVENT_BATCHES);
        while let Ok(events) = self.parts.events.try_recv() {
            self.on_events(events);
            if share.is_over() {
                took_all = false;
                break;
            }
        }
        let mut share = Share::of(ANSWERS);
        while let Ok(done) = self.parts.done.try_recv() {
            self.parts.engine.handle_done(clock(), done);
            if share.is_over() {
                took_all = false;
                break;
            }
        }
        for at in 0..self.parts.ports.len() {
            took_all &= self.take_datagrams(at);
        }
        for taken in 0..=ORDERS {
            match self.parts.orders.try_recv() {
                Ok(order) => self.on_order(order),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return None,
            }
            took_all &= taken < ORDERS;
        }
        Some(took_all)
    }

    fn take_host(&mut self) {
        let host = *self.parts.host.borrow_and_update();
        self.parts.engine.handle_host(host);
    }

    fn take_datagrams(&mut self, at: usize) -> bool {
        let link = LinkId(u8::try_from(at).expect("links are counted in a u8"));
        let now = clock();
        let mut share = Share::of(DATAGRAMS_IN);
        while !share.is_over() {
            let port = &mut self.parts.ports[at];
            match port.link().try_recv_from(&mut self.datagram_in) {
                Ok((len, from)) => {
                    port.count_received();
                    let datagram = &mut self.datagram_in[..len];
                    self.parts.engine.handle_datagram(now, link, from, datagram);
                }
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        debug!(link = port.link().name(), "cannot receive: {error}");
                    }
                    return true;
                }
            }
        }
        false
    }

    fn on_addresses(&mut self) {
        let addresses = self.parts.addresses.borrow_and_update().clone();
        if let Some(gate) = &self.parts.gate {
            gate.set_addresses(&addresses);
        }
        self.parts.engine.handle_addresses(clock(), addresses);
    }

    fn on_events(&mut self, events: KernelEvents) {
        match events {
            KernelEvents::Batch(batch) => {
                if let Some(addresses) = self.parts.look.before(&batch) {
                    self.parts.engine.handle_addresses(clock(), addresses);
                }
                self.parts.engine.handle_events(clock(), &batch);
                self.parts.reader.recycle(batch);
            }
            KernelEvents::Expectation(event) => {
                self.parts.engine.handle_expectation(clock(), &event);
            }
            KernelEvents::Overrun => self.parts.engine.handle_overrun(clock()),
        }
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
            let messages = std::mem::take(&mut self.messages);
            let submitted = self.parts.requests.submit(request, messages);
            submitted.context("cannot ask the kernel")?;
        }
        while let Some(notice) = self.parts.engine.poll_notice() {
            self.on_notice(notice);
        }
        for _ in 0..DATAGRAMS_OUT {
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
