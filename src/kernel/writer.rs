//! The thread `ct-tx`: carries out batches of creates, updates, deletes and gets.
//!
//! The kernel works through a whole send before `send` returns, and its answers wait in the
//! socket's buffer: failures and found flows as they come, and one acknowledgement, that of the
//! last message. If that one is missing the kernel stopped in the middle (a wrong length) or
//! answers were lost, and what became of the messages without an answer is not known.

use std::io;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{debug, warn};

use super::counters::add_one;
use super::reason::reason;
use super::requests::{Busy, RequestCounters};
use super::socket::{NetlinkSocket, READ_BYTES, Received};
use super::wake::wait_readable_for;
use super::{KernelError, clock};
use crate::ctnetlink::request::{Answer, Outcome, RequestDone};
use crate::ctnetlink::{self, DecodeError, Message, MessageKind};
use crate::flow::FlowEvent;

const THREAD: &str = "ct-tx";
const PURPOSE: &str = "writing flows";

/// Batches that wait for the running one.
const WAITING_MAX: usize = 10;

/// Longest buffer of one batch, bytes: some 2,000 creates of a few hundred bytes.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Room for the answers to one batch: a found flow takes up to 4,352 bytes of it, so 960 fit;
/// refusals take less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Longest wait for the next answer. All are there when `send` returns; this is for a kernel that
/// would do otherwise.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(500);

/// One batch on its way to the thread.
struct Batch {
    first_seq: u32,
    last_seq: u32,
    messages: Vec<u8>,
}

/// The running writer. Dropping it ends the thread after the batches that it was given.
#[derive(Debug)]
pub struct Writer {
    batches: Sender<Batch>,
    emptied: std_mpsc::Receiver<Vec<u8>>,
    port_id: u32,
}

impl Writer {
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
        let socket = NetlinkSocket::open_netfilter(PURPOSE)?;
        socket.set_receive_buffer(RECEIVE_BUFFER_BYTES)?;
        socket.set_send_buffer(2 * BATCH_BYTES_MAX)?;
        socket.set_terse_errors()?;
        let port_id = socket.port_id();
        let (batches, queue) = channel(WAITING_MAX);
        let (emptied_tx, emptied) = std_mpsc::sync_channel(WAITING_MAX);
        let worker = Worker {
            socket,
            buffer: vec![0; READ_BYTES].into(),
            to_engine,
            counters,
            emptied: emptied_tx,
        };
        thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || worker.run(queue))
            .map_err(|source| KernelError::Thread {
                name: THREAD,
                source,
            })?;
        Ok(Self {
            batches,
            emptied,
            port_id,
        })
    }

    /// Port id of the socket: the kernel puts it into the events that our writes cause.
    #[must_use]
    pub fn port_id(&self) -> u32 {
        self.port_id
    }

    /// Batches that [`Writer::submit`] takes at this moment.
    #[must_use]
    pub fn room(&self) -> usize {
        self.batches.capacity()
    }

    /// A cleared buffer to build the next batch in, one that was used before if there is one.
    #[must_use]
    pub fn take_buffer(&self) -> Vec<u8> {
        self.emptied.try_recv().unwrap_or_default()
    }

    /// Gives a batch to the thread, see `KernelRequest::Batch`; at most [`BATCH_BYTES_MAX`] bytes.
    /// One `RequestDone::Batch` comes back for each that was taken. Never waits.
    ///
    /// # Errors
    ///
    /// When as many as are taken are waiting, or the thread is gone.
    pub fn submit(&self, first_seq: u32, last_seq: u32, messages: Vec<u8>) -> Result<(), Busy> {
        Ok(self.batches.try_send(Batch {
            first_seq,
            last_seq,
            messages,
        })?)
    }
}

struct Worker {
    socket: NetlinkSocket,
    buffer: Box<[u8]>,
    to_engine: Sender<RequestDone>,
    counters: Arc<RequestCounters>,
    emptied: std_mpsc::SyncSender<Vec<u8>>,
}

/// Why the outcome of a batch is not known in full.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("it could not be sent: {0}")]
    Send(io::Error),
    #[error("answers were lost (ENOBUFS)")]
    Overrun,
    #[error("an answer was cut")]
    Truncated,
    #[error("an answer could not be decoded: {0}")]
    Undecodable(DecodeError),
    #[error("the last acknowledgement did not come")]
    Silence,
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
}

impl Worker {
    fn run(mut self, mut queue: Receiver<Batch>) {
        while let Some(mut batch) = queue.blocking_recv() {
            let mut answers = Vec::new();
            let complete = match self.carry_out(&batch, &mut answers) {
                Ok(()) => true,
                Err(reason) => {
                    add_one(&self.counters.batches_incomplete);
                    warn!(%reason, "the outcome of a batch of flows is not known in full");
                    false
                }
            };
            batch.messages.clear();
            // Enough are spare, or nobody wants them: freed here.
            let _spare = self.emptied.try_send(batch.messages);
            let done = RequestDone::Batch {
                last_seq: batch.last_seq,
                complete,
                answers,
            };
            if self.to_engine.blocking_send(done).is_err() {
                return;
            }
        }
    }

    fn carry_out(&mut self, batch: &Batch, answers: &mut Vec<Answer>) -> Result<(), Unknown> {
        self.socket.send(&batch.messages).map_err(Unknown::Send)?;
        let deadline = clock() + ANSWER_WAIT_MAX;
        let mut lost = None;
        loop {
            let datagram = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(datagram) => datagram,
                Received::Foreign => continue,
                Received::Overrun => {
                    lost = Some(Unknown::Overrun);
                    continue;
                }
                Received::Truncated => {
                    lost = Some(Unknown::Truncated);
                    continue;
                }
                // What was lost may have been the acknowledgement: no use in waiting for it.
                Received::Empty if lost.is_some() => return lost.map_or(Ok(()), Err),
                Received::Empty => {
                    let left = deadline.saturating_duration_since(clock());
                    if !wait_readable_for(&self.socket, left)? {
                        return Err(Unknown::Silence);
                    }
                    continue;
                }
            };
            for message in ctnetlink::messages(datagram) {
                let message = match message {
                    Ok(message) => message,
                    Err(error) => {
                        lost = Some(Unknown::Undecodable(error));
                        break;
                    }
                };
                if !batch.holds(message.seq) {
                    continue; // a late answer to a batch that was given up
                }
                match answer(&message) {
                    Ok(Some(answer)) => answers.push(answer),
                    Ok(None) => {}
                    Err(error) => {
                        self.counters.undecodable.count(error);
                        lost = Some(Unknown::Undecodable(error));
                    }
                }
                if message.kind == MessageKind::Error && message.seq == batch.last_seq {
                    return lost.map_or(Ok(()), Err);
                }
            }
        }
    }
}

impl Batch {
    /// True if `seq` is of this batch; sequence numbers wrap.
    fn holds(&self, seq: u32) -> bool {
        seq.wrapping_sub(self.first_seq) <= self.last_seq.wrapping_sub(self.first_seq)
    }
}

/// What a message says of the request of its number; `None` if that it succeeded.
fn answer(message: &Message<'_>) -> Result<Option<Answer>, DecodeError> {
    let seq = message.seq;
    let outcome = match message.kind {
        MessageKind::Error => match ctnetlink::decode_error(message) {
            Some((_, 0)) => return Ok(None),
            Some((_, errno)) => {
                if let Some(reason) = reason(message) {
                    let reason = String::from_utf8_lossy(reason);
                    debug!(seq, errno, %reason, "the kernel refused a flow");
                }
                Outcome::Refused(errno)
            }
            None => return Err(DecodeError::Truncated),
        },
        MessageKind::Conntrack(_) => {
            let mut event = Box::<FlowEvent>::default();
            ctnetlink::decode_listed(message.bytes, &mut event)?;
            Outcome::Found(event)
        }
        MessageKind::Expectation(_)
        | MessageKind::Done
        | MessageKind::Overrun
        | MessageKind::Other(_) => return Ok(None),
    };
    Ok(Some(Answer { seq, outcome }))
}
