//! The netlink socket: open, join, buffers, and one read with everything that can go wrong told
//! apart. `netlink_sys::Socket` closes its descriptor when a clone is dropped, so it is never
//! cloned and never leaves this module.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;
use socket2::{SockFilter, SockRef};

use super::KernelError;
use crate::ctnetlink::event_filter::Instruction;

/// Bytes to read with, always: the kernel fits the datagrams of a dump to the largest buffer that a
/// socket was ever read with (32 KiB at most), and cuts them silently if a later one is smaller.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Buffer that one queued message takes whatever its size, up to about that size (measured).
pub(super) const QUEUED_MESSAGE_BYTES: usize = 1_280;

/// No queued message takes less: `struct sk_buff` and `struct skb_shared_info` alone are more.
pub(super) const QUEUED_MESSAGE_BYTES_MIN: usize = 512;

/// A bound netlink socket.
#[derive(Debug)]
pub(super) struct NetlinkSocket {
    socket: Socket,
    port_id: u32,
    purpose: &'static str,
}

/// Result of one read.
pub(super) enum Received<'a> {
    /// One or more messages of the kernel.
    Datagram(&'a [u8]),
    /// Nothing is there.
    Empty,
    /// ENOBUFS: at least one message was lost.
    Overrun,
    /// Longer than the buffer, hence lost.
    Truncated,
    /// Not from the kernel: any process may send to a port id.
    Foreign,
}

impl NetlinkSocket {
    pub(super) fn open_netfilter(purpose: &'static str) -> Result<Self, KernelError> {
        Self::open(NETLINK_NETFILTER, purpose)
    }

    pub(super) fn open_route(purpose: &'static str) -> Result<Self, KernelError> {
        Self::open(NETLINK_ROUTE, purpose)
    }

    fn open(protocol: isize, purpose: &'static str) -> Result<Self, KernelError> {
        let refused = |source| KernelError::Open { purpose, source };
        let mut socket = Socket::new(protocol).map_err(refused)?;
        // Port id 0 asks the kernel to choose.
        let port_id = socket.bind_auto().map_err(refused)?.port_number();
        Ok(Self {
            socket,
            port_id,
            purpose,
        })
    }

    /// What the kernel calls this socket: `nlmsg_pid` of the events that it causes.
    pub(super) fn port_id(&self) -> u32 {
        self.port_id
    }

    /// Lets a program decide what the socket takes; what it drops takes no room in the buffer. To
    /// be attached before a group is joined.
    pub(super) fn attach_filter(&self, program: &[Instruction]) -> io::Result<()> {
        let program: Vec<SockFilter> = program
            .iter()
            .map(|one| SockFilter::new(one.code, one.jt, one.jf, one.k))
            .collect();
        SockRef::from(&self.socket).attach_filter(&program)
    }

    pub(super) fn join(&self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }

    /// Short error messages (the request is not echoed) with the kernel's reason in words.
    pub(super) fn set_terse_errors(&self) -> Result<(), KernelError> {
        self.socket
            .set_cap_ack(true)
            .map_err(|source| self.option_refused("NETLINK_CAP_ACK", source))?;
        self.socket
            .set_ext_ack(true)
            .map_err(|source| self.option_refused("NETLINK_EXT_ACK", source))
    }

    /// Sets the receive buffer and returns what was granted, both in bytes as the kernel accounts
    /// them. Without CAP_NET_ADMIN no more than `net.core.rmem_max` is granted.
    pub(super) fn set_receive_buffer(&self, bytes: usize) -> Result<usize, KernelError> {
        // The kernel doubles what it is asked for (socket(7)).
        let asked = (bytes / 2).min(i32::MAX as usize / 2);
        sockopt::set_socket_recv_buffer_size_force(&self.socket, asked)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&self.socket, asked))
            .and_then(|()| sockopt::socket_recv_buffer_size(&self.socket))
            .map_err(|errno| self.option_refused("SO_RCVBUF", errno.into()))
    }

    /// Sets the send buffer: the kernel takes no datagram that is longer.
    pub(super) fn set_send_buffer(&self, bytes: usize) -> Result<(), KernelError> {
        let asked = bytes / 2;
        sockopt::set_socket_send_buffer_size_force(&self.socket, asked)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&self.socket, asked))
            .map_err(|errno| self.option_refused("SO_SNDBUF", errno.into()))
    }

    fn option_refused(&self, option: &'static str, source: io::Error) -> KernelError {
        KernelError::Option {
            option,
            purpose: self.purpose,
            source,
        }
    }

    /// Sends messages back to back to the kernel, which has carried them out when this returns.
    pub(super) fn send(&self, messages: &[u8]) -> io::Result<()> {
        let sent = self
            .socket
            .send_to(messages, &SocketAddr::new(0, 0), libc::MSG_DONTWAIT)?;
        debug_assert_eq!(
            sent,
            messages.len(),
            "a datagram is sent whole or not at all"
        );
        Ok(())
    }

    /// Reads one datagram without waiting. An error is one that waiting will not mend.
    pub(super) fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Received<'b>> {
        let room = buffer.len();
        // MSG_TRUNC: the real length is returned, not the length that was copied.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let (len, from) = loop {
            match self.socket.recv_from(&mut &mut *buffer, flags) {
                Ok(received) => break received,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => return Ok(Received::Empty),
                    Some(libc::ENOBUFS) => return Ok(Received::Overrun),
                    _ => return Err(error),
                },
            }
        };
        if from.port_number() != 0 {
            Ok(Received::Foreign)
        } else if len > room {
            Ok(Received::Truncated)
        } else {
            Ok(Received::Datagram(&buffer[..len]))
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// For the runtime, which registers it by its number.
impl AsRawFd for NetlinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
