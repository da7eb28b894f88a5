//! What rtnetlink knows of an interface. `/sys/class/net` would be simpler, but shows the network
//! namespace in which `/sys` was mounted, not that of the calling thread.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// An interface as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    /// Its number; another one after it was deleted and created anew.
    pub(super) index: u32,
    /// Longest IP packet, bytes.
    pub(super) mtu: u32,
}

/// Looks an interface up by name. The answer of rtnetlink is there when the request was sent.
pub(super) fn look_up(name: &str) -> io::Result<Interface> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(name), 0)?;
    // A link with many virtual functions or statistics can be long; 64 KiB is what netlink gives.
    let mut buffer = vec![0; 64 * 1024];
    let len = socket.recv(&mut &mut buffer[..], libc::MSG_DONTWAIT)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&buffer[..len])
        .map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            let mtu = link
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            Ok(Interface {
                index: link.header.index,
                mtu: mtu.ok_or(io::ErrorKind::InvalidData)?,
            })
        }
        NetlinkPayload::Error(refused) => Err(refused.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn request(name: &str) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.into()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(
        header,
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(link)),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_index_and_mtu() {
        let lo = look_up("lo").expect("every namespace has one");

        assert_eq!(lo.index, 1);
        assert!(lo.mtu >= 1_280, "{lo:?}");
    }

    #[test]
    fn unknown_interface_is_enodev() {
        let error = look_up("nosuchif0").expect_err("refused");

        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
