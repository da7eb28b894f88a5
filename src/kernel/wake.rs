//! Wakes a thread that waits in `poll`, so that it can end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Set once, seen by the thread at its next step or out of its wait.
#[derive(Debug)]
pub(super) struct StopSignal {
    stopped: AtomicBool,
    wake: OwnedFd,
}

impl StopSignal {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            stopped: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // An eventfd takes a write unless its counter is full, and then it is readable anyway.
        let _full = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until `socket` has something to read (an error counts) or the signal is given.
    pub(super) fn wait_readable(&self, socket: &impl AsFd) -> io::Result<()> {
        let mut fds = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Waits until `socket` has something to read (an error counts); false after `limit`.
pub(super) fn wait_readable_for(socket: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(limit).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            // Starts the wait anew; signals are rare and handled elsewhere.
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
