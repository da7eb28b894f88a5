//! The engine's requests, each to the thread that carries it out.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::KernelError;
use super::counters::Undecodable;
use super::dumper::Dumper;
use super::writer::Writer;
use crate::ctnetlink::request::{KernelRequest, RequestDone};

/// The thread has as much to do as it takes, or it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Busy {
    /// The bounded queue is full.
    #[error("the kernel is still busy with earlier requests")]
    Full,
    /// The thread has ended.
    #[error("the thread that talks to the kernel has ended")]
    Gone,
}

impl<T> From<TrySendError<T>> for Busy {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::Full,
            TrySendError::Closed(_) => Self::Gone,
        }
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct RequestCounters {
    /// Dumps that ended with `complete: false`.
    pub dumps_incomplete: AtomicU64,
    /// Batches that ended with `complete: false`.
    pub batches_incomplete: AtomicU64,
    /// Answers that are no flow to us.
    pub undecodable: Undecodable,
}

/// The dumper and the writer.
#[derive(Debug)]
pub struct Requests {
    dumper: Dumper,
    writer: Writer,
    counters: Arc<RequestCounters>,
}

impl Requests {
    /// Starts both threads; both answer through `to_engine` and wait when that is full.
    ///
    /// # Errors
    ///
    /// When a socket cannot be opened or a thread cannot be started.
    pub fn spawn(to_engine: Sender<RequestDone>) -> Result<Self, KernelError> {
        let counters = Arc::new(RequestCounters::default());
        Ok(Self {
            dumper: Dumper::spawn(to_engine.clone(), Arc::clone(&counters))?,
            writer: Writer::spawn(to_engine, Arc::clone(&counters))?,
            counters,
        })
    }

    /// The counters, which the threads go on to count in.
    #[must_use]
    pub fn counters(&self) -> &Arc<RequestCounters> {
        &self.counters
    }

    /// Port id of what our writes cause.
    #[must_use]
    pub fn port_id(&self) -> u32 {
        self.writer.port_id()
    }

    /// A cleared buffer for `Engine::poll_request`.
    #[must_use]
    pub fn take_buffer(&self) -> Vec<u8> {
        self.writer.take_buffer()
    }

    /// Batches that would be taken at this moment.
    #[must_use]
    pub fn room(&self) -> usize {
        self.writer.room()
    }

    /// Has a request carried out; `messages` is what the engine wrote with it. Never waits.
    ///
    /// # Errors
    ///
    /// When the thread has as much to do as it takes, or is gone.
    pub fn submit(&self, request: KernelRequest, messages: Vec<u8>) -> Result<(), Busy> {
        match request {
            KernelRequest::Dump => self.dumper.dump(),
            KernelRequest::Batch {
                first_seq,
                last_seq,
            } => self.writer.submit(first_seq, last_seq, messages),
        }
    }
}
