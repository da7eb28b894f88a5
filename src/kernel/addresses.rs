//! The thread `rt-addr`: keeps the set of this node's own addresses current.
//!
//! A notice of rtnetlink only says "look again": the whole list is read anew each time, so a lost
//! notice (ENOBUFS, told by the kernel) costs nothing but one more look. An interface that is down
//! keeps its IPv4 addresses in the list, but packets to them are not for this node any more, and
//! what was masqueraded behind them is destroyed: they are left out.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use tokio::sync::watch;
use tracing::{error, warn};

use super::KernelError;
use super::socket::{NetlinkSocket, READ_BYTES, Received};
use super::wake::{StopSignal, wait_readable_for};
use crate::ctnetlink::{self, cta};

const THREAD: &str = "rt-addr";

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`, include/uapi/linux/rtnetlink.h.
const GROUPS: [u32; 3] = [1, 5, 9];

/// rtnetlink answers a read at once.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// After a list that failed the next try comes after this, not at once.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The running watch. Dropping it ends the thread.
#[derive(Debug)]
pub struct AddressWatch {
    current: watch::Receiver<Vec<IpAddr>>,
    stop: Arc<StopSignal>,
}

impl AddressWatch {
    /// Reads the addresses once, then follows them in a thread.
    ///
    /// # Errors
    ///
    /// When rtnetlink cannot be used or the thread cannot be started.
    pub fn spawn() -> Result<Self, KernelError> {
        // Join first, list then: what changes in between is a notice.
        let notices = NetlinkSocket::open_route("address notices")?;
        for group in GROUPS {
            notices.join(group).map_err(|source| KernelError::Option {
                option: "NETLINK_ADD_MEMBERSHIP",
                purpose: "address notices",
                source,
            })?;
        }
        let refused = |source| KernelError::Route {
            what: "the addresses of this node",
            source,
        };
        let mut watcher = Watcher {
            notices,
            list: AddressList::open()?,
            buffer: vec![0; READ_BYTES].into(),
        };
        let (changed, current) = watch::channel(watcher.list.read().map_err(refused)?);
        let start_thread = |source| KernelError::Thread {
            name: THREAD,
            source,
        };
        let stop = Arc::new(StopSignal::new().map_err(start_thread)?);
        let told = Arc::clone(&stop);
        thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || watcher.run(&told, &changed))
            .map_err(start_thread)?;
        Ok(Self { current, stop })
    }

    /// The addresses of all interfaces that are up, both families, sorted and without duplicates; changes
    /// arrive as whole sets, of which only the newest is kept. Addresses that go and come back
    /// faster than they are read may not be noticed.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<Vec<IpAddr>> {
        self.current.clone()
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Reads the addresses of this node, as they are at this moment.
pub struct AddressList {
    socket: NetlinkSocket,
    buffer: Box<[u8]>,
    seq: u32,
}

struct Watcher {
    notices: NetlinkSocket,
    list: AddressList,
    buffer: Box<[u8]>,
}

impl Watcher {
    fn run(mut self, stop: &StopSignal, changed: &watch::Sender<Vec<IpAddr>>) {
        loop {
            if let Err(error) = stop
                .wait_readable(&self.notices)
                .and_then(|()| self.skip_notices())
            {
                error!(%error, "changes of this node's addresses are no longer seen");
                return;
            }
            // A node without addresses is possible, a list that failed is told apart from it.
            loop {
                if stop.is_stopped() {
                    return;
                }
                match self.list.read() {
                    Ok(now) => {
                        changed.send_if_modified(|known| {
                            let differs = *known != now;
                            *known = now;
                            differs
                        });
                        break;
                    }
                    Err(error) => warn!(%error, "cannot list this node's addresses; trying again"),
                }
                thread::sleep(RETRY_AFTER);
            }
        }
    }

    fn skip_notices(&mut self) -> io::Result<()> {
        while !matches!(self.notices.receive(&mut self.buffer)?, Received::Empty) {}
        Ok(())
    }
}

impl AddressList {
    /// Opens a socket.
    ///
    /// # Errors
    ///
    /// When rtnetlink cannot be used.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: NetlinkSocket::open_route("addresses")?,
            buffer: vec![0; READ_BYTES].into(),
            seq: 0,
        })
    }

    /// The addresses of all interfaces that are up, sorted and without duplicates. The kernel
    /// answers at once: some 50 µs.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or its answer is lost.
    pub fn read(&mut self) -> io::Result<Vec<IpAddr>> {
        let mut down = BTreeSet::new();
        let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.ask(links, |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer
                && !link.header.flags.contains(LinkFlags::Up)
            {
                down.insert(link.header.index);
            }
        })?;
        let mut addresses = BTreeSet::new();
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.ask(all, |answer| {
            if let RouteNetlinkMessage::NewAddress(address) = answer
                && !down.contains(&address.header.index)
            {
                addresses.extend(own(&address));
            }
        })?;
        Ok(addresses.into_iter().collect())
    }

    /// Has something listed, and hands over each entry.
    fn ask(
        &mut self,
        what: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        self.socket.send(&list_request(what, self.seq))?;
        loop {
            let datagram = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(datagram) => datagram,
                Received::Foreign => continue,
                Received::Overrun | Received::Truncated => {
                    return Err(io::Error::other("an answer was lost"));
                }
                Received::Empty if wait_readable_for(&self.socket, SILENCE_MAX)? => continue,
                Received::Empty => return Err(io::ErrorKind::TimedOut.into()),
            };
            for message in ctnetlink::messages(datagram) {
                let message = message.map_err(io::Error::other)?;
                if message.seq != self.seq {
                    continue; // of a list that was given up
                }
                if message.flags & cta::NLM_F_DUMP_INTR != 0 {
                    // The change that interrupted it is a notice too, and has us look again.
                    continue;
                }
                match NetlinkMessage::deserialize(message.bytes)
                    .map_err(io::Error::other)?
                    .payload
                {
                    NetlinkPayload::InnerMessage(answer) => take(answer),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(refused) => return Err(refused.to_io()),
                    _ => {}
                }
            }
        }
    }
}

impl std::fmt::Debug for AddressList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressList").finish_non_exhaustive()
    }
}

/// `IFA_LOCAL` is ours; `IFA_ADDRESS` is the peer's on a point-to-point link, and ours where there
/// is no `IFA_LOCAL` (IPv6).
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(local) => Some(*local),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn list_request(what: RouteNetlinkMessage, seq: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = seq;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(what));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_end_of_a_point_to_point_link_is_taken() {
        let mut message = AddressMessage::default();
        let peer = "192.0.2.2".parse().expect("an address");
        let local = "192.0.2.1".parse().expect("an address");
        message.attributes = vec![
            AddressAttribute::Address(peer),
            AddressAttribute::Local(local),
        ];

        assert_eq!(own(&message), Some(local));
    }

    #[test]
    fn loopback_is_listed_if_it_is_up() {
        let watch = AddressWatch::spawn().expect("rtnetlink needs no capability");

        let addresses = watch.addresses().borrow().clone();
        let loopback_is_up = std::net::UdpSocket::bind("127.0.0.1:0").is_ok();
        assert_eq!(
            addresses.contains(&IpAddr::from([127, 0, 0, 1])),
            loopback_is_up
        );
    }
}
