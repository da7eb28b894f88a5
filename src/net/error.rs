//! Why a link cannot be opened, in the words of an operator.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::link::DATAGRAM_BYTES_MIN;

/// A link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No such interface.
    #[error(
        "cannot open the link {link}: there is no interface {interface}; create it or correct \
         `interface` (`ip -br link` lists them)"
    )]
    NoInterface {
        /// The link.
        link: String,
        /// The interface.
        interface: String,
    },
    /// The interface could not be looked up.
    #[error("cannot open the link {link}: cannot look up the interface {interface}")]
    Interface {
        /// The link.
        link: String,
        /// The interface.
        interface: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The interface carries too little.
    #[error(
        "cannot open the link {link}: the MTU of {interface} is {mtu}, which leaves less than \
         {DATAGRAM_BYTES_MIN} bytes; raise it (`ip link set {interface} mtu 1500`)"
    )]
    Mtu {
        /// The link.
        link: String,
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
    },
    /// The group is none.
    #[error("cannot open the link {link}: {group} is no multicast address (224.0.0.0/4, ff00::/8)")]
    NoGroup {
        /// The link.
        link: String,
        /// What should be a group.
        group: IpAddr,
    },
    /// A socket option was refused.
    #[error("cannot open the link {link}: {option} was refused")]
    Option {
        /// The link.
        link: String,
        /// The option.
        option: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The address is not there.
    #[error(
        "cannot open the link {link}: this node does not have the address {address}; add it to the \
         interface or correct `bind` (an IPv6 address that is still being checked for duplicates \
         is not there yet)"
    )]
    NoAddress {
        /// The link.
        link: String,
        /// The address.
        address: IpAddr,
    },
    /// Another socket has it.
    #[error(
        "cannot open the link {link}: {address} is in use; is another daemon running? \
         (`ss -ulpn` tells)"
    )]
    InUse {
        /// The link.
        link: String,
        /// Address and port.
        address: SocketAddr,
    },
    /// Binding failed otherwise.
    #[error("cannot open the link {link}: cannot bind {address}")]
    Bind {
        /// The link.
        link: String,
        /// Address and port.
        address: SocketAddr,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// Joining failed.
    #[error(
        "cannot open the link {link}: cannot join {group} on {interface}{}",
        join_hint(source)
    )]
    Join {
        /// The link.
        link: String,
        /// The group.
        group: IpAddr,
        /// The interface.
        interface: String,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
}

fn join_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOBUFS) => {
            "; raise net.ipv4.igmp_max_memberships (`sysctl -w net.ipv4.igmp_max_memberships=100`)"
        }
        Some(libc::ENODEV) => "; is the protocol enabled on the interface, does it do multicast?",
        _ => "",
    }
}
