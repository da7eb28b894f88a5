//! The conntrack event socket: read, decoded, told in the order in which it happened.
//!
//! One event is one datagram, so the cost of an event is a read and a decode. The engine's thread
//! reads them itself: what a thread of its own costs is a second wake-up for each handful of
//! events, and that is more than the events do (docs/architecture.md section 4).
//!
//! The kernel reports an overflow (ENOBUFS) ahead of what is queued, although that is older, and
//! drops every further event until the queue is empty (`NETLINK_S_CONGESTED`, net/netlink/
//! af_netlink.c). So the loss is told when the queue was read empty: a dump that begins
//! after that sees all that was lost, and no event that comes after it is older than the loss.
//!
//! When the engine does not keep up the socket's buffer overflows, the kernel drops events and says
//! so once (ENOBUFS), and the engine repairs the loss with a dump. That is the one place where a
//! bound turns into a loss.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::KernelError;
use super::counters::Undecodable;
use super::socket::{
    NetlinkSocket, QUEUED_MESSAGE_BYTES, QUEUED_MESSAGE_BYTES_MIN, READ_BYTES, Received,
};
use crate::config::settings::KernelSettings;
use crate::ctnetlink::{self, MessageKind, event_filter};
use crate::flow::filter::Protocols;
use crate::flow::{ExpectationEvent, FlowEvent};

const PURPOSE: &str = "conntrack events";

/// Most events of one batch: few enough for the cache, enough to make what is done once for each
/// batch cheap.
pub const BATCH_EVENTS_MAX: usize = 256;

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
pub enum KernelEvents<'a> {
    /// 1 to [`BATCH_EVENTS_MAX`] events.
    Batch(&'a [FlowEvent]),
    /// One event about an expectation: so few of all events are that they go one by one, each in
    /// its place among the others.
    Expectation(ExpectationEvent),
    /// Events were lost before now: dump the table. Every event that comes after this is newer than
    /// what was lost.
    Overrun,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    /// Events told.
    pub events: u64,
    /// Times at which the kernel said that it dropped events (ENOBUFS).
    pub overruns: u64,
    /// Events that are no flow to us.
    pub undecodable: Undecodable,
    /// Datagrams longer than the read buffer, told as an overrun.
    pub truncated: u64,
    /// Datagrams that did not come from the kernel.
    pub foreign: u64,
}

/// The open socket.
#[derive(Debug)]
pub struct EventReader {
    socket: AsyncFd<NetlinkSocket>,
    buffer: Box<[u8]>,
    batch: Vec<FlowEvent>,
    /// What comes behind the batch that was told last.
    next: Option<Next>,
    /// After a loss: how many datagrams may still be older than it. Without that bound a loss
    /// would not be told as long as events come faster than they are read.
    loss: Option<usize>,
    /// More datagrams than the socket's buffer holds.
    queued_max: usize,
    counters: ReaderCounters,
    buffer_bytes: usize,
    filtered: usize,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Expectation(ExpectationEvent),
    Overrun,
    Empty,
}

impl EventReader {
    /// Joins the event groups in the calling thread's network namespace. From when this returns no
    /// event is missed untold. Must be called within a tokio runtime that has I/O enabled.
    ///
    /// With `protocols` the kernel drops what packets make of flows of any other protocol, their
    /// ends excepted ([`event_filter::program`]). Where it refuses that, or they are too many,
    /// everything comes.
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened, or may not join.
    pub fn open(
        settings: &KernelSettings,
        protocols: Option<Protocols>,
    ) -> Result<Self, KernelError> {
        let socket = NetlinkSocket::open_netfilter(PURPOSE)?;
        let buffer_bytes = socket.set_receive_buffer(settings.event_buffer_bytes)?;
        let filtered = protocols.map_or(0, |protocols| attach_filter(&socket, protocols));
        for group in GROUPS {
            socket
                .join(group)
                .map_err(|source| join_refused(group, source))?;
        }
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; the socket owns its descriptor and never changes it"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE).map_err(|source| {
            KernelError::Open {
                purpose: PURPOSE,
                source,
            }
        })?;
        Ok(Self {
            socket,
            buffer: vec![0; READ_BYTES].into(),
            batch: Vec::with_capacity(BATCH_EVENTS_MAX),
            next: None,
            loss: None,
            queued_max: buffer_bytes / QUEUED_MESSAGE_BYTES_MIN + 1,
            counters: ReaderCounters::default(),
            buffer_bytes,
            filtered,
        })
    }

    /// Protocols whose changes the filter in the kernel lets pass; 0: there is no filter.
    #[must_use]
    pub fn filtered_protocols(&self) -> usize {
        self.filtered
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &ReaderCounters {
        &self.counters
    }

    /// Receive buffer as granted, bytes; less than the setting without the capability to force it.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// True if the buffer has room for the events of a few milliseconds, so that whoever reads may
    /// let them gather.
    #[must_use]
    pub fn may_gather(&self) -> bool {
        self.buffer_bytes / QUEUED_MESSAGE_BYTES >= GATHER_ROOM_EVENTS_MIN
    }

    /// Polls for something that may have arrived since this last yielded; the task is woken when
    /// there is. Then [`read`](Self::read) until nothing is left.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_read_ready(context))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Reads on without waiting. `None`: nothing is left.
    ///
    /// # Errors
    ///
    /// When the socket is of no use any more.
    pub fn read(&mut self) -> io::Result<Option<KernelEvents<'_>>> {
        self.batch.clear();
        let next = match self.next.take() {
            Some(next) => Some(next),
            None => self.fill()?,
        };
        if !self.batch.is_empty() {
            self.next = next;
            self.counters.events += self.batch.len() as u64;
            return Ok(Some(KernelEvents::Batch(&self.batch)));
        }
        Ok(match next {
            Some(Next::Expectation(event)) => Some(KernelEvents::Expectation(event)),
            Some(Next::Overrun) => Some(KernelEvents::Overrun),
            Some(Next::Empty) | None => None,
        })
    }

    /// Reads until the batch is full or something has to be told behind it.
    fn fill(&mut self) -> io::Result<Option<Next>> {
        while self.batch.len() < BATCH_EVENTS_MAX {
            if self.loss == Some(0) {
                self.loss = None;
                return Ok(Some(Next::Overrun));
            }
            match self.socket.get_ref().receive(&mut self.buffer)? {
                Received::Datagram(datagram) => {
                    self.loss = self.loss.map(|older_max| older_max - 1);
                    let undecodable = &self.counters.undecodable;
                    if let Some(event) = decode(datagram, &mut self.batch, undecodable) {
                        self.counters.events += 1;
                        return Ok(Some(Next::Expectation(event)));
                    }
                }
                Received::Empty => {
                    return Ok(Some(match self.loss.take() {
                        Some(_) => Next::Overrun,
                        None => Next::Empty,
                    }));
                }
                Received::Overrun => {
                    self.counters.overruns += 1;
                    // A second one means that the queue was empty in between.
                    if self.loss.replace(self.queued_max).is_some() {
                        return Ok(Some(Next::Overrun));
                    }
                }
                Received::Truncated => {
                    self.counters.truncated += 1;
                    self.loss = Some(self.queued_max);
                }
                Received::Foreign => self.counters.foreign += 1,
            }
        }
        Ok(None)
    }
}

/// Yields the number of protocols that pass; 0 if nothing is attached, which costs time only.
fn attach_filter(socket: &NetlinkSocket, protocols: Protocols) -> usize {
    let protocols: Vec<u8> = protocols.iter().collect();
    let Some(program) = event_filter::program(&protocols) else {
        return 0;
    };
    match socket.attach_filter(&program) {
        Ok(()) => protocols.len(),
        Err(error) => {
            warn!(
                %error,
                "the kernel takes no filter on the event socket: events of protocols that are not \
                 in [replicate] protocols are read and dropped by the daemon, which costs CPU and \
                 buffer"
            );
            0
        }
    }
}

fn join_refused(group: u32, source: io::Error) -> KernelError {
    if source.raw_os_error() == Some(libc::EPERM) {
        KernelError::JoinDenied
    } else {
        KernelError::Join { group, source }
    }
}

/// Appends the events of one datagram, decoded in place; yields its event about an expectation. The
/// kernel sends each event in a datagram of its own, so nothing stands behind it.
fn decode(
    datagram: &[u8],
    batch: &mut Vec<FlowEvent>,
    undecodable: &Undecodable,
) -> Option<ExpectationEvent> {
    for message in ctnetlink::messages(datagram) {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                undecodable.count(error);
                return None;
            }
        };
        if let MessageKind::Expectation(_) = message.kind {
            let mut event = ExpectationEvent::default();
            match ctnetlink::decode_expectation_event(message.bytes, &mut event) {
                Ok(()) => return Some(event),
                Err(error) => undecodable.count(error),
            }
            continue;
        }
        batch.push(FlowEvent::default());
        let event = batch.last_mut().expect("was just pushed");
        if let Err(error) = ctnetlink::decode_event(message.bytes, event) {
            batch.pop();
            undecodable.count(error);
        }
    }
    None
}
