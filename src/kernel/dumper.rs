//! The thread `ct-dump`: lists the kernel's table, one dump at a time.

use std::io;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::warn;

use super::KernelError;
use super::counters::add_one;
use super::requests::{Busy, RequestCounters};
use super::socket::{NetlinkSocket, READ_BYTES, Received};
use super::wake::wait_readable_for;
use crate::ctnetlink::request::RequestDone;
use crate::ctnetlink::{self, DecodeError, MessageKind, cta, encode};
use crate::flow::{ExpectationEvent, FlowEvent};

const THREAD: &str = "ct-dump";
const PURPOSE: &str = "dumps";

/// Dumps that wait for the running one; an engine has no reason to ask for a second.
const WAITING_MAX: usize = 2;

/// Most flows of one part: few, so that a queue of parts takes less than a megabyte and the engine is
/// soon done with each, and enough to make the hand-over cheap.
pub const LISTED_FLOWS_MAX: usize = 64;

/// The kernel fills the buffer up to here; a dump is slowed down, never cut, by a full one.
const RECEIVE_BUFFER_BYTES: usize = 1024 * 1024;

/// The kernel answers each read at once; a walk over a million empty buckets takes 0.2 s.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The running dumper. Dropping it ends the thread after the dump that it is busy with.
#[derive(Debug)]
pub struct Dumper {
    requests: Sender<()>,
}

impl Dumper {
    /// Opens the socket and starts the thread, which answers through `to_engine` and waits when
    /// that is full.
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened or the thread cannot be started.
    pub fn spawn(
        to_engine: Sender<RequestDone>,
        counters: Arc<RequestCounters>,
    ) -> Result<Self, KernelError> {
        let (requests, queue) = channel(WAITING_MAX);
        let worker = Worker {
            socket: open()?,
            seq: 0,
            buffer: vec![0; READ_BYTES].into(),
            to_engine,
            counters,
        };
        thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || worker.run(queue))
            .map_err(|source| KernelError::Thread {
                name: THREAD,
                source,
            })?;
        Ok(Self { requests })
    }

    /// Asks for a dump: any number of `Listed`, then one `DumpEnded`. Never waits.
    ///
    /// # Errors
    ///
    /// When as many as are taken are waiting, or the thread is gone.
    pub fn dump(&self) -> Result<(), Busy> {
        Ok(self.requests.try_send(())?)
    }
}

fn open() -> Result<NetlinkSocket, KernelError> {
    let socket = NetlinkSocket::open_netfilter(PURPOSE)?;
    socket.set_receive_buffer(RECEIVE_BUFFER_BYTES)?;
    Ok(socket)
}

struct Worker {
    socket: NetlinkSocket,
    seq: u32,
    buffer: Box<[u8]>,
    to_engine: Sender<RequestDone>,
    counters: Arc<RequestCounters>,
}

/// Why a dump is not complete.
#[derive(Debug, thiserror::Error)]
enum Incomplete {
    #[error("the kernel refused it: {0}")]
    Refused(io::Error),
    #[error("the table changed in a way that the kernel cannot list (NLM_F_DUMP_INTR)")]
    Interrupted,
    #[error("answers were lost (ENOBUFS)")]
    Overrun,
    #[error("an answer was cut")]
    Truncated,
    #[error("an answer is no netlink message: {0}")]
    Misframed(#[from] DecodeError),
    #[error("no answer within {SILENCE_MAX:?}")]
    Silence,
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
    #[error("nobody listens")]
    EngineGone,
}

impl Worker {
    fn run(mut self, mut queue: Receiver<()>) {
        while let Some(()) = queue.blocking_recv() {
            let complete = match self.dump() {
                Ok(()) => true,
                Err(Incomplete::EngineGone) => return,
                Err(reason) => {
                    add_one(&self.counters.dumps_incomplete);
                    warn!(%reason, "the dump of the kernel's table is incomplete");
                    self.reopen();
                    false
                }
            };
            let ended = RequestDone::DumpEnded { complete };
            if self.to_engine.blocking_send(ended).is_err() {
                return;
            }
        }
    }

    /// What is left of a broken dump would make the next one fail (EBUSY).
    fn reopen(&mut self) {
        match open() {
            Ok(socket) => self.socket = socket,
            Err(error) => warn!(%error, "keeping the old socket"),
        }
    }

    /// The flows, then the expectations: so each of these comes after its master.
    fn dump(&mut self) -> Result<(), Incomplete> {
        let mut request = Vec::new();
        let mut flows = Part::new(RequestDone::Listed);
        self.seq = self.seq.wrapping_add(1);
        encode::dump(&mut request, self.seq);
        self.read_all(&request, &mut flows, |message, listed: &mut FlowEvent| {
            ctnetlink::decode_listed(message, listed)
        })?;
        request.clear();
        let mut expectations = Part::new(RequestDone::ListedExpectations);
        self.seq = self.seq.wrapping_add(1);
        ctnetlink::expectation::dump(&mut request, self.seq);
        self.read_all(
            &request,
            &mut expectations,
            |message, listed: &mut ExpectationEvent| {
                ctnetlink::decode_listed_expectation(message, listed)
            },
        )
    }

    /// Carries out one dump and hands over what it lists.
    fn read_all<T: Default>(
        &mut self,
        request: &[u8],
        part: &mut Part<T>,
        decode: impl Fn(&[u8], &mut T) -> Result<(), DecodeError>,
    ) -> Result<(), Incomplete> {
        self.socket.send(request)?;
        loop {
            let datagram = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(datagram) => datagram,
                Received::Foreign => continue,
                Received::Overrun => return Err(Incomplete::Overrun),
                Received::Truncated => return Err(Incomplete::Truncated),
                Received::Empty if wait_readable_for(&self.socket, SILENCE_MAX)? => continue,
                Received::Empty => return Err(Incomplete::Silence),
            };
            for message in ctnetlink::messages(datagram) {
                let message = message?;
                if message.seq != self.seq {
                    continue;
                }
                if message.flags & cta::NLM_F_DUMP_INTR != 0 {
                    return Err(Incomplete::Interrupted);
                }
                match message.kind {
                    MessageKind::Conntrack(_) | MessageKind::Expectation(_) => {
                        // One that we cannot read must not keep all others from being listed: it is
                        // counted, and neither its events nor its entry are known to the mirror.
                        let mut listed = T::default();
                        match decode(message.bytes, &mut listed) {
                            Ok(()) => part.listed.push(listed),
                            Err(error) => self.counters.undecodable.count(error),
                        }
                        if part.listed.len() >= LISTED_FLOWS_MAX {
                            part.hand_over(&self.to_engine)?;
                        }
                    }
                    MessageKind::Done | MessageKind::Error => {
                        if let Some((_, errno)) = ctnetlink::decode_error(&message) {
                            let source = io::Error::from_raw_os_error(errno);
                            return Err(Incomplete::Refused(source));
                        }
                        return part.hand_over(&self.to_engine);
                    }
                    MessageKind::Overrun => return Err(Incomplete::Overrun),
                    MessageKind::Other(_) => {}
                }
            }
        }
    }
}

/// What was listed and not yet handed over.
struct Part<T> {
    listed: Vec<T>,
    wrap: fn(Vec<T>) -> RequestDone,
}

impl<T> Part<T> {
    fn new(wrap: fn(Vec<T>) -> RequestDone) -> Self {
        Self {
            listed: Vec::new(),
            wrap,
        }
    }

    fn hand_over(&mut self, to_engine: &Sender<RequestDone>) -> Result<(), Incomplete> {
        if self.listed.is_empty() {
            return Ok(());
        }
        let next = Vec::with_capacity(LISTED_FLOWS_MAX);
        let part = (self.wrap)(mem::replace(&mut self.listed, next));
        to_engine
            .blocking_send(part)
            .map_err(|_| Incomplete::EngineGone)
    }
}
