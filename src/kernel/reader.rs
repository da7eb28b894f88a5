//! The thread `ct-rx`: drains the conntrack event socket, decodes, hands batches to the engine.
//!
//! One event is one datagram, so the cost of an event is a read and a decode. A receiver that
//! wakes per event pays twice for it, so after a busy drain the next waits a millisecond
//! (`GATHER`), as NAPI does.
//!
//! The kernel reports an overflow (ENOBUFS) ahead of what is queued, although that is older, and
//! drops every further event until the queue is empty (`NETLINK_S_CONGESTED`, net/netlink/
//! af_netlink.c). So the loss is told when the queue was read empty: a dump that begins
//! after that sees all that was lost, and no event that comes after it is older than the loss.
//!
//! When the engine does not keep up the channel fills and this thread blocks in it; the socket's
//! buffer then overflows, the kernel drops events and says so once (ENOBUFS), and the engine
//! repairs the loss with a dump. That is the one place where a bound turns into a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use std::{io, mem};

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError as TokioTrySendError;
use tracing::error;

use super::counters::{Undecodable, add_one};
use super::socket::{
    NetlinkSocket, QUEUED_MESSAGE_BYTES, QUEUED_MESSAGE_BYTES_MIN, READ_BYTES, Received,
};
use super::wake::StopSignal;
use super::{KernelError, clock};
use crate::config::settings::KernelSettings;
use crate::ctnetlink::{self, MessageKind};
use crate::flow::{ExpectationEvent, FlowEvent};

const THREAD: &str = "ct-rx";
const PURPOSE: &str = "conntrack events";

/// Most events of one batch: enough to make the hand-over cheap, few enough for the cache.
pub const BATCH_EVENTS_MAX: usize = 256;

/// Emptied batches that wait to be filled again; those beyond are freed.
const SPARE_BATCHES_MAX: usize = 8;

/// Two drains are at least this far apart when events come faster than that.
const GATHER: Duration = Duration::from_millis(1);

/// With room for fewer events nothing is gathered: 2,000 in a millisecond is more than one kernel
/// was seen to make with all its cores.
const GATHER_ROOM_EVENTS_MIN: usize = 2_000;

const GROUP_NEW: u32 = libc::NFNLGRP_CONNTRACK_NEW as u32;
const GROUP_UPDATE: u32 = libc::NFNLGRP_CONNTRACK_UPDATE as u32;
const GROUP_DESTROY: u32 = libc::NFNLGRP_CONNTRACK_DESTROY as u32;
const GROUP_EXP_NEW: u32 = libc::NFNLGRP_CONNTRACK_EXP_NEW as u32;
const GROUP_EXP_DESTROY: u32 = libc::NFNLGRP_CONNTRACK_EXP_DESTROY as u32;
const GROUPS: [u32; 5] = [
    GROUP_NEW,
    GROUP_UPDATE,
    GROUP_DESTROY,
    GROUP_EXP_NEW,
    GROUP_EXP_DESTROY,
];

/// What the reader tells the engine, in the order in which it happened.
#[derive(Debug)]
pub enum KernelEvents {
    /// 1 to [`BATCH_EVENTS_MAX`] events. Give it back with [`EventReader::recycle`].
    Batch(Vec<FlowEvent>),
    /// One event about an expectation: so few of all events are that they go one by one, each in
    /// its place among the others.
    Expectation(ExpectationEvent),
    /// Events were lost before now: dump the table. Every event that comes after this is newer than
    /// what was lost.
    Overrun,
}

/// Counts since the start. Read at leisure; no two of them belong to the same moment.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    /// Events handed over.
    pub events: AtomicU64,
    /// Times at which the kernel said that it dropped events (ENOBUFS).
    pub overruns: AtomicU64,
    /// Events that are no flow to us.
    pub undecodable: Undecodable,
    /// Datagrams longer than the read buffer, told to the engine as an overrun.
    pub truncated: AtomicU64,
    /// Datagrams that did not come from the kernel.
    pub foreign: AtomicU64,
    /// Times at which the channel to the engine was full and the reader waited.
    pub engine_waits: AtomicU64,
}

/// The running reader. Dropping it ends the thread at its next step; while the channel is full
/// that is when the engine's end takes something or goes away.
#[derive(Debug)]
pub struct EventReader {
    counters: Arc<ReaderCounters>,
    recycle: SyncSender<Vec<FlowEvent>>,
    stop: Arc<StopSignal>,
    buffer_bytes: usize,
}

impl EventReader {
    /// Joins the event groups and starts the thread. From when this returns no event is missed
    /// untold. The channel to the engine is closed if the socket fails for good.
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened, may not join, or the thread cannot be started.
    pub fn spawn(
        settings: &KernelSettings,
        to_engine: Sender<KernelEvents>,
    ) -> Result<Self, KernelError> {
        let socket = NetlinkSocket::open_netfilter(PURPOSE)?;
        let buffer_bytes = socket.set_receive_buffer(settings.event_buffer_bytes)?;
        for group in GROUPS {
            socket
                .join(group)
                .map_err(|source| join_refused(group, source))?;
        }
        let start_thread = |source| KernelError::Thread {
            name: THREAD,
            source,
        };
        let stop = Arc::new(StopSignal::new().map_err(start_thread)?);
        let counters = Arc::new(ReaderCounters::default());
        let (recycle, spare) = sync_channel(SPARE_BATCHES_MAX);
        let reader = Reader {
            socket,
            buffer: vec![0; READ_BYTES].into(),
            batch: Vec::with_capacity(BATCH_EVENTS_MAX),
            to_engine,
            spare,
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
            gathers: buffer_bytes / QUEUED_MESSAGE_BYTES >= GATHER_ROOM_EVENTS_MIN,
            queued_max: buffer_bytes / QUEUED_MESSAGE_BYTES_MIN + 1,
        };
        thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || reader.run())
            .map_err(start_thread)?;
        Ok(Self {
            counters,
            recycle,
            stop,
            buffer_bytes,
        })
    }

    /// Takes an emptied batch back, so that the next need not be allocated. Never waits.
    pub fn recycle(&self, mut batch: Vec<FlowEvent>) {
        batch.clear();
        match self.recycle.try_send(batch) {
            // Enough are spare, or the thread is gone: freed here.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// The counters, which the thread goes on to count in.
    #[must_use]
    pub fn counters(&self) -> &Arc<ReaderCounters> {
        &self.counters
    }

    /// Receive buffer as granted, bytes; less than the setting without the capability to force it.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

fn join_refused(group: u32, source: io::Error) -> KernelError {
    if source.raw_os_error() == Some(libc::EPERM) {
        KernelError::JoinDenied
    } else {
        KernelError::Join { group, source }
    }
}

struct Reader {
    socket: NetlinkSocket,
    buffer: Box<[u8]>,
    batch: Vec<FlowEvent>,
    to_engine: Sender<KernelEvents>,
    spare: Receiver<Vec<FlowEvent>>,
    counters: Arc<ReaderCounters>,
    stop: Arc<StopSignal>,
    gathers: bool,
    /// More datagrams than the socket's buffer holds.
    queued_max: usize,
}

/// Why the thread ends.
enum End {
    /// Nobody listens any more.
    EngineGone,
    /// The socket is of no use any more.
    SocketFailed(io::Error),
}

impl Reader {
    fn run(mut self) {
        match self.serve() {
            Ok(()) | Err(End::EngineGone) => {}
            Err(End::SocketFailed(error)) => error!(%error, "conntrack events cannot be read"),
        }
    }

    /// Returns when told to stop.
    fn serve(&mut self) -> Result<(), End> {
        let mut drained_at: Option<Instant> = None;
        loop {
            self.stop
                .wait_readable(&self.socket)
                .map_err(End::SocketFailed)?;
            if self.stop.is_stopped() {
                return Ok(());
            }
            if let Some(rest) =
                drained_at.and_then(|at| GATHER.checked_sub(clock().saturating_duration_since(at)))
                && self.gathers
            {
                thread::sleep(rest);
            }
            self.drain()?;
            drained_at = Some(clock());
        }
    }

    /// Reads until nothing is left.
    fn drain(&mut self) -> Result<(), End> {
        // After a loss: how many datagrams may still be older than it. Without that bound a loss
        // would not be told as long as events come faster than they are read.
        let mut loss: Option<usize> = None;
        while !self.stop.is_stopped() {
            match self.socket.receive(&mut self.buffer) {
                Ok(Received::Datagram(datagram)) => {
                    let expectation = decode(datagram, &mut self.batch, &self.counters);
                    if let Some(event) = expectation {
                        self.hand_over()?;
                        add_one(&self.counters.events);
                        self.send(KernelEvents::Expectation(event))?;
                    }
                    if self.batch.len() >= BATCH_EVENTS_MAX {
                        self.hand_over()?;
                    }
                    loss = match loss {
                        Some(0) => {
                            self.tell_loss()?;
                            None
                        }
                        _ => loss.map(|older_max| older_max - 1),
                    };
                }
                Ok(Received::Empty) => {
                    self.hand_over()?;
                    return loss.map_or(Ok(()), |_| self.tell_loss());
                }
                Ok(Received::Overrun) => {
                    add_one(&self.counters.overruns);
                    // A second one means that the queue was empty in between.
                    if loss.is_some() {
                        self.tell_loss()?;
                    }
                    loss = Some(self.queued_max);
                }
                Ok(Received::Truncated) => {
                    add_one(&self.counters.truncated);
                    loss = Some(self.queued_max);
                }
                Ok(Received::Foreign) => add_one(&self.counters.foreign),
                Err(error) => return Err(End::SocketFailed(error)),
            }
        }
        Ok(())
    }

    fn tell_loss(&mut self) -> Result<(), End> {
        self.hand_over()?;
        self.send(KernelEvents::Overrun)
    }

    fn hand_over(&mut self) -> Result<(), End> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let next = self
            .spare
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(BATCH_EVENTS_MAX));
        let full = mem::replace(&mut self.batch, next);
        self.counters
            .events
            .fetch_add(full.len() as u64, Ordering::Relaxed);
        self.send(KernelEvents::Batch(full))
    }

    fn send(&self, events: KernelEvents) -> Result<(), End> {
        match self.to_engine.try_send(events) {
            Ok(()) => Ok(()),
            Err(TokioTrySendError::Closed(_)) => Err(End::EngineGone),
            Err(TokioTrySendError::Full(events)) => {
                add_one(&self.counters.engine_waits);
                self.to_engine
                    .blocking_send(events)
                    .map_err(|_| End::EngineGone)
            }
        }
    }
}

/// Appends the events of one datagram, decoded in place; yields its event about an expectation. The
/// kernel sends each event in a datagram of its own, so nothing stands behind it.
fn decode(
    datagram: &[u8],
    batch: &mut Vec<FlowEvent>,
    counters: &ReaderCounters,
) -> Option<ExpectationEvent> {
    for message in ctnetlink::messages(datagram) {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                counters.undecodable.count(error);
                return None;
            }
        };
        if let MessageKind::Expectation(_) = message.kind {
            let mut event = ExpectationEvent::default();
            match ctnetlink::decode_expectation_event(message.bytes, &mut event) {
                Ok(()) => return Some(event),
                Err(error) => counters.undecodable.count(error),
            }
            continue;
        }
        batch.push(FlowEvent::default());
        let event = batch.last_mut().expect("was just pushed");
        if let Err(error) = ctnetlink::decode_event(message.bytes, event) {
            batch.pop();
            counters.undecodable.count(error);
        }
    }
    None
}
