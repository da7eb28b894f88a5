//! One link: a UDP socket towards the peers, multicast or unicast, IPv4 or IPv6.
//!
//! A multicast socket is bound to the group, not to an address of the node: what is not sent to
//! the group on this interface is not received, so nobody beyond the link can reach it. All
//! datagrams go to the group with a TTL of 1 and without a copy to this host.
//!
//! An interface that goes down and up keeps the membership, and with it the link: sends fail in
//! between. One that was deleted takes the membership with it; open the link anew when it is back
//! ([`Link::is_stale`] tells).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use rustix::net::sockopt;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::error::LinkError;
use super::interface::{self, Interface};
use crate::config::settings::{Addressing, LinkSettings};

/// Longest datagram on any link, bytes of UDP payload: fits an Ethernet frame with room for a
/// tunnel's header, so that nothing is fragmented.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;

/// A link must carry at least this, bytes of UDP payload: what the smallest MTU of IPv6 gives is
/// 1,232, and IPv4 hosts take 576 whole.
pub const DATAGRAM_BYTES_MIN: usize = 548;

const UDP_HEADER_BYTES: usize = 8;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;

/// Who is to receive a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The group, or each listed peer.
    All,
    /// One peer. On a multicast link that is the group again: peers listen to nothing else there,
    /// and a datagram names its receiver.
    Peer(SocketAddr),
}

/// An open link.
#[derive(Debug)]
pub struct Link {
    socket: UdpSocket,
    name: String,
    interface_name: String,
    interface: Interface,
    to: Recipients,
    datagram_bytes_max: usize,
    receive_buffer_bytes: usize,
    send_buffer_bytes: usize,
}

#[derive(Debug)]
enum Recipients {
    Group(SockAddr),
    Peers(Vec<SockAddr>),
}

impl Link {
    /// Opens the socket in the calling thread's network namespace. Must be called within a tokio
    /// runtime that has I/O enabled.
    ///
    /// # Errors
    ///
    /// When the interface, the address or the group cannot be had.
    pub fn open(settings: &LinkSettings) -> Result<Self, LinkError> {
        let opening = Opening {
            link: display_name(settings),
            interface: &settings.interface,
        };
        let interface = opening.look_up()?;
        let own = match &settings.addressing {
            Addressing::Multicast { group } => *group,
            Addressing::Unicast { bind, .. } => *bind,
        };
        let datagram_bytes_max = opening.datagram_bytes_max(own, interface)?;
        let socket = opening.socket(own)?;
        let receive_buffer_bytes = opening.set_receive_buffer(&socket, settings)?;
        let send_buffer_bytes = opening.set_send_buffer(&socket, settings)?;
        let to = match &settings.addressing {
            Addressing::Multicast { group } => {
                let group = scoped(*group, interface);
                opening.check_group(group)?;
                opening.bind(&socket, group, Sharing::Group)?;
                opening.join(&socket, group, interface)?;
                Recipients::Group(group.into())
            }
            Addressing::Unicast { bind, peers } => {
                opening.bind(&socket, scoped(*bind, interface), Sharing::None)?;
                Recipients::Peers(peers.iter().map(|p| scoped(*p, interface).into()).collect())
            }
        };
        let socket = UdpSocket::from_std(socket.into()).map_err(opening.refused("O_NONBLOCK"))?;
        Ok(Self {
            socket,
            name: opening.link,
            interface_name: settings.interface.clone(),
            interface,
            to,
            datagram_bytes_max,
            receive_buffer_bytes,
            send_buffer_bytes,
        })
    }

    /// Name for people: `eth2 225.0.0.50:3780`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Longest datagram that is not fragmented on the interface, bytes of UDP payload:
    /// [`DATAGRAM_BYTES_MIN`]..=[`DATAGRAM_BYTES_MAX`].
    #[must_use]
    pub fn datagram_bytes_max(&self) -> usize {
        self.datagram_bytes_max
    }

    /// Receive buffer as granted, bytes as the kernel accounts them; less than the setting where
    /// `net.core.rmem_max` is lower and CAP_NET_ADMIN is missing.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> usize {
        self.receive_buffer_bytes
    }

    /// Send buffer as granted, likewise (`net.core.wmem_max`).
    #[must_use]
    pub fn send_buffer_bytes(&self) -> usize {
        self.send_buffer_bytes
    }

    /// True if the interface was deleted, or created anew, since the link was opened: nothing
    /// arrives any more, open it anew. False while it is merely down. Asks the kernel: not for
    /// every datagram.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match interface::look_up(&self.interface_name) {
            Ok(now) => now.index != self.interface.index,
            Err(error) => error.raw_os_error() == Some(libc::ENODEV),
        }
    }

    /// Polls for something that may have arrived; the task is woken when there is.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    /// Waits until something may have arrived.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes one datagram and who sent it. Give it more than [`DATAGRAM_BYTES_MAX`] bytes of room:
    /// a datagram that fills the buffer was cut.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there; others are worth counting, the link goes on.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.try_recv_from(buffer)
    }

    /// Sends one datagram, without waiting. To several peers, it is sent to each whatever becomes
    /// of the others.
    ///
    /// # Errors
    ///
    /// The first refusal: `WouldBlock` when the send buffer is full, `ENETUNREACH` or `ENETDOWN`
    /// while the interface is down, `ENODEV` when it is gone. To the protocol it is a loss like
    /// any other.
    pub fn send(&self, datagram: &[u8], to: Destination) -> io::Result<()> {
        match (&self.to, to) {
            (Recipients::Group(group), Destination::All | Destination::Peer(_)) => {
                self.send_to(datagram, group)
            }
            (Recipients::Peers(_), Destination::Peer(peer)) => {
                self.send_to(datagram, &scoped(peer, self.interface).into())
            }
            (Recipients::Peers(peers), Destination::All) => peers
                .iter()
                .map(|peer| self.send_to(datagram, peer))
                .fold(Ok(()), Result::and),
        }
    }

    /// Past tokio: its send wants to have heard from epoll first, which a new socket has not.
    fn send_to(&self, datagram: &[u8], to: &SockAddr) -> io::Result<()> {
        SockRef::from(&self.socket)
            .send_to(datagram, to)
            .map(|_whole| ())
    }
}

fn display_name(settings: &LinkSettings) -> String {
    match &settings.addressing {
        Addressing::Multicast { group } => format!("{} {group}", settings.interface),
        Addressing::Unicast { bind, .. } => format!("{} {bind}", settings.interface),
    }
}

/// A link-local address means nothing without its interface.
fn scoped(address: SocketAddr, interface: Interface) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) if v6.scope_id() == 0 && is_link_local(*v6.ip()) => {
            v6.set_scope_id(interface.index);
            v6.into()
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}

/// fe80::/10, and the multicast scopes interface-local (1) and link-local (2), RFC 4291.
fn is_link_local(ip: Ipv6Addr) -> bool {
    let first = ip.segments()[0];
    first & 0xffc0 == 0xfe80 || (first & 0xff00 == 0xff00 && matches!(first & 0xf, 1 | 2))
}

fn datagram_bytes(own: SocketAddr, mtu: u32) -> usize {
    let headers = match own {
        SocketAddr::V4(_) => IPV4_HEADER_BYTES + UDP_HEADER_BYTES,
        SocketAddr::V6(_) => IPV6_HEADER_BYTES + UDP_HEADER_BYTES,
    };
    (mtu as usize)
        .saturating_sub(headers)
        .min(DATAGRAM_BYTES_MAX)
}

/// Whether others may be bound to the same address and port.
#[derive(Clone, Copy)]
enum Sharing {
    /// Each member of the group gets its copy.
    Group,
    /// One of two sockets would get nothing.
    None,
}

/// The steps of opening, with what their errors name.
struct Opening<'a> {
    link: String,
    interface: &'a str,
}

impl Opening<'_> {
    fn look_up(&self) -> Result<Interface, LinkError> {
        interface::look_up(self.interface).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV) => LinkError::NoInterface {
                link: self.link.clone(),
                interface: self.interface.into(),
            },
            _ => LinkError::Interface {
                link: self.link.clone(),
                interface: self.interface.into(),
                source,
            },
        })
    }

    fn datagram_bytes_max(
        &self,
        own: SocketAddr,
        interface: Interface,
    ) -> Result<usize, LinkError> {
        let bytes = datagram_bytes(own, interface.mtu);
        if bytes < DATAGRAM_BYTES_MIN {
            return Err(LinkError::Mtu {
                link: self.link.clone(),
                interface: self.interface.into(),
                mtu: interface.mtu,
            });
        }
        Ok(bytes)
    }

    fn socket(&self, own: SocketAddr) -> Result<Socket, LinkError> {
        let socket = Socket::new(Domain::for_address(own), Type::DGRAM, Some(Protocol::UDP))
            .map_err(self.refused("socket"))?;
        socket
            .set_nonblocking(true)
            .map_err(self.refused("O_NONBLOCK"))?;
        socket
            .bind_device(Some(self.interface.as_bytes()))
            .map_err(self.refused("SO_BINDTODEVICE"))?;
        if own.is_ipv6() {
            socket
                .set_only_v6(true)
                .map_err(self.refused("IPV6_V6ONLY"))?;
        }
        Ok(socket)
    }

    /// Sizes are as the kernel accounts them: it doubles what it is asked for (socket(7)).
    fn set_receive_buffer(
        &self,
        socket: &Socket,
        settings: &LinkSettings,
    ) -> Result<usize, LinkError> {
        let asked = settings.receive_buffer_bytes / 2;
        sockopt::set_socket_recv_buffer_size_force(socket, asked)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, asked))
            .and_then(|()| sockopt::socket_recv_buffer_size(socket))
            .map_err(|errno| self.refused("SO_RCVBUF")(errno.into()))
    }

    fn set_send_buffer(
        &self,
        socket: &Socket,
        settings: &LinkSettings,
    ) -> Result<usize, LinkError> {
        let asked = settings.send_buffer_bytes / 2;
        sockopt::set_socket_send_buffer_size_force(socket, asked)
            .or_else(|_| sockopt::set_socket_send_buffer_size(socket, asked))
            .and_then(|()| sockopt::socket_send_buffer_size(socket))
            .map_err(|errno| self.refused("SO_SNDBUF")(errno.into()))
    }

    fn check_group(&self, group: SocketAddr) -> Result<(), LinkError> {
        if group.ip().is_multicast() {
            return Ok(());
        }
        Err(LinkError::NoGroup {
            link: self.link.clone(),
            group: group.ip(),
        })
    }

    fn bind(&self, socket: &Socket, own: SocketAddr, sharing: Sharing) -> Result<(), LinkError> {
        if let Sharing::Group = sharing {
            socket
                .set_reuse_address(true)
                .map_err(self.refused("SO_REUSEADDR"))?;
        }
        socket
            .bind(&own.into())
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => LinkError::NoAddress {
                    link: self.link.clone(),
                    address: own.ip(),
                },
                Some(libc::EADDRINUSE) => LinkError::InUse {
                    link: self.link.clone(),
                    address: own,
                },
                _ => LinkError::Bind {
                    link: self.link.clone(),
                    address: own,
                    source,
                },
            })
    }

    fn join(
        &self,
        socket: &Socket,
        group: SocketAddr,
        interface: Interface,
    ) -> Result<(), LinkError> {
        let join_refused = |source| LinkError::Join {
            link: self.link.clone(),
            group: group.ip(),
            interface: self.interface.into(),
            source,
        };
        let index = interface.index;
        match group.ip() {
            IpAddr::V4(ip) => {
                socket
                    .join_multicast_v4_n(&ip, &InterfaceIndexOrAddress::Index(index))
                    .map_err(join_refused)?;
                // By index alone; the address only chooses a source.
                sockopt::set_ip_multicast_if_with_ifindex(
                    socket,
                    &Ipv4Addr::UNSPECIFIED,
                    &Ipv4Addr::UNSPECIFIED,
                    index,
                )
                .map_err(|errno| self.refused("IP_MULTICAST_IF")(errno.into()))?;
                socket
                    .set_multicast_loop_v4(false)
                    .map_err(self.refused("IP_MULTICAST_LOOP"))?;
                socket
                    .set_multicast_ttl_v4(1)
                    .map_err(self.refused("IP_MULTICAST_TTL"))?;
                // Without it the socket also gets what any other socket of this host joined.
                socket
                    .set_multicast_all_v4(false)
                    .map_err(self.refused("IP_MULTICAST_ALL"))
            }
            IpAddr::V6(ip) => {
                socket.join_multicast_v6(&ip, index).map_err(join_refused)?;
                socket
                    .set_multicast_if_v6(index)
                    .map_err(self.refused("IPV6_MULTICAST_IF"))?;
                socket
                    .set_multicast_loop_v6(false)
                    .map_err(self.refused("IPV6_MULTICAST_LOOP"))?;
                socket
                    .set_multicast_hops_v6(1)
                    .map_err(self.refused("IPV6_MULTICAST_HOPS"))?;
                socket
                    .set_multicast_all_v6(false)
                    .map_err(self.refused("IPV6_MULTICAST_ALL"))
            }
        }
    }

    fn refused(&self, option: &'static str) -> impl Fn(io::Error) -> LinkError {
        move |source| LinkError::Option {
            link: self.link.clone(),
            option,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERFACE: Interface = Interface {
        index: 7,
        mtu: 1500,
    };

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn datagrams_fit_the_interface_and_never_exceed_the_common_limit() {
        assert_eq!(
            datagram_bytes(address("225.0.0.50:3780"), 9_000),
            DATAGRAM_BYTES_MAX
        );
        assert_eq!(datagram_bytes(address("225.0.0.50:3780"), 1_300), 1_272);
        assert_eq!(datagram_bytes(address("[ff15::50]:3780"), 1_300), 1_252);
        assert_eq!(datagram_bytes(address("[ff15::50]:3780"), 10), 0);
    }

    #[test]
    fn only_link_local_addresses_get_the_interface() {
        for (text, scope_id) in [
            ("[fe80::1]:3780", 7),
            ("[ff02::50]:3780", 7),
            ("[ff12::50]:3780", 7),
            ("[ff15::50]:3780", 0),
            ("[fd00::1]:3780", 0),
        ] {
            let SocketAddr::V6(scoped) = scoped(address(text), INTERFACE) else {
                panic!("{text} is IPv6");
            };
            assert_eq!(scoped.scope_id(), scope_id, "{text}");
        }
    }
}
