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
use crate::ctnetlink::{self, DecodeError, Message, MessageKind, cta, encode};
use crate::flow::FlowEvent;

const THREAD: &str = "ct-dump";
const PURPOSE: &str = "dumps";

/// Dumps that wait for the running one; an engine has no reason to ask for a second.
const WAITING_MAX: usize = 2;

/// Most flows of one part: some 64 KiB, below what malloc takes from the system each time.
pub const LISTED_FLOWS_MAX: usize = 256;

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

    fn dump(&mut self) -> Result<(), Incomplete> {
        self.seq = self.seq.wrapping_add(1);
        let mut request = Vec::new();
        encode::dump(&mut request, self.seq);
        self.socket.send(&request)?;
        let mut part = Vec::with_capacity(LISTED_FLOWS_MAX);
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
                    MessageKind::Conntrack(_) => {
                        list(&message, &mut part, &self.counters);
                        if part.len() >= LISTED_FLOWS_MAX {
                            let next = Vec::with_capacity(LISTED_FLOWS_MAX);
                            hand_over(&self.to_engine, mem::replace(&mut part, next))?;
                        }
                    }
                    MessageKind::Done | MessageKind::Error => {
                        if let Some((_, errno)) = ctnetlink::decode_error(&message) {
                            let source = io::Error::from_raw_os_error(errno);
                            return Err(Incomplete::Refused(source));
                        }
                        return hand_over(&self.to_engine, part);
                    }
                    MessageKind::Overrun => return Err(Incomplete::Overrun),
                    MessageKind::Other(_) => {}
                }
            }
        }
    }
}

/// A flow that we cannot read must not keep all others from being listed: it is counted, and
/// neither its events nor its entry are known to the mirror.
fn list(message: &Message<'_>, part: &mut Vec<FlowEvent>, counters: &RequestCounters) {
    part.push(FlowEvent::default());
    let event = part.last_mut().expect("was just pushed");
    if let Err(error) = ctnetlink::decode_listed(message.bytes, event) {
        part.pop();
        counters.undecodable.count(error);
    }
}

fn hand_over(to_engine: &Sender<RequestDone>, part: Vec<FlowEvent>) -> Result<(), Incomplete> {
    if part.is_empty() {
        return Ok(());
    }
    to_engine
        .blocking_send(RequestDone::Listed(part))
        .map_err(|_| Incomplete::EngineGone)
}
