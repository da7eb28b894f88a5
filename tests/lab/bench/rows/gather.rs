//! The limit of a sender: a thread that waits for events, gathers for 1 ms, reads all of them into one
//! buffer and looks at none. Whoever listens to the kernel pays at least that.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::harness::namespace::Namespace;
use crate::harness::{Context as _, Result, bail};
use crate::meter;

/// NFNLGRP_CONNTRACK_NEW, _UPDATE and _DESTROY, include/uapi/linux/netfilter/nfnetlink_compat.h.
const GROUPS: [u32; 3] = [1, 2, 3];
/// From one drained queue to the next read.
const GATHER: Duration = Duration::from_millis(1);
/// As ctsyncd's by default, which the kernel doubles.
const BUFFER_BYTES: usize = 16 << 20;
/// Longest wait for an event before the thread looks whether it shall end.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
const READ_BYTES: usize = 64 * 1024;

/// The thread; drop ends it.
#[derive(Debug)]
pub(super) struct Gather {
    stop: Arc<AtomicBool>,
    events: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Duration>>>,
}

impl Gather {
    /// Listens in a namespace from when this returns.
    pub(super) fn start(namespace: &Namespace) -> Result<Self> {
        let (stop, events) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (ready, listens) = channel();
        let thread = {
            let (stop, events) = (Arc::clone(&stop), Arc::clone(&events));
            namespace.spawn(move || {
                let socket = open()?;
                let _ = ready.send(());
                gather(&socket, &stop, &events)
            })?
        };
        let gather = Self {
            stop,
            events,
            thread: Some(thread),
        };
        if listens.recv().is_err() {
            gather.end().context("the bare listener")?;
            bail!("the bare listener ended");
        }
        Ok(gather)
    }

    /// Events read so far.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Ends it and yields the CPU that it has used since it listened.
    pub(super) fn end(mut self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(used)) => used,
            Some(Err(_)) | None => bail!("the bare listener panicked"),
        }
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn open() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

fn gather(socket: &Socket, stop: &AtomicBool, events: &AtomicU64) -> Result<Duration> {
    let mut buffer = vec![0; READ_BYTES];
    let before = meter::cpu_of_this_thread()?;
    let mut drained: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        if poll(
            &mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)],
            Some(&LOOK),
        )? == 0
        {
            continue;
        }
        if let Some(rest) = drained.and_then(|at| GATHER.checked_sub(at.elapsed())) {
            thread::sleep(rest);
        }
        loop {
            match socket.recv(&mut &mut buffer[..], libc::MSG_DONTWAIT) {
                // One event is one datagram.
                Ok(_) => {
                    events.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => break,
                Err(error) => return Err(error).context("reading events"),
            }
        }
        drained = Some(Instant::now());
    }
    Ok(meter::cpu_of_this_thread()?.saturating_sub(before))
}
