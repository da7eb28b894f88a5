//! One direction of a flow: addresses, protocol, and what tells flows of that protocol apart.

use std::net::IpAddr;

/// Address family of a tuple, with the numbers of `AF_INET` and `AF_INET6`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 2,
    /// IPv6.
    V6 = 10,
}

/// One direction of a flow as ctnetlink's `CTA_TUPLE_*` describes it.
///
/// `src_id` and `dst_id` hold what tells flows of a protocol apart: ports for TCP, UDP, UDP-Lite
/// and SCTP, keys for GRE; for ICMP and ICMPv6 the id in `src_id`, type and code in the high and
/// low byte of `dst_id`; zero for everything else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tuple {
    /// Source address in network order; IPv4 in the first four bytes, the rest zero.
    pub src: [u8; 16],
    /// Destination address, in the same form.
    pub dst: [u8; 16],
    /// Source port, GRE key, or ICMP id.
    pub src_id: u16,
    /// Destination port, GRE key, or ICMP type and code.
    pub dst_id: u16,
    /// Address family.
    pub family: Family,
    /// `IPPROTO_*` number.
    pub protocol: u8,
}

impl Tuple {
    /// The source as an address.
    #[must_use]
    pub fn src_ip(&self) -> IpAddr {
        to_ip(self.family, &self.src)
    }

    /// The destination as an address.
    #[must_use]
    pub fn dst_ip(&self) -> IpAddr {
        to_ip(self.family, &self.dst)
    }
}

fn to_ip(family: Family, bytes: &[u8; 16]) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        Family::V6 => IpAddr::from(*bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_in_their_family() {
        let mut src = [0; 16];
        src[..4].copy_from_slice(&[192, 0, 2, 1]);
        let tuple = Tuple {
            src,
            dst: [0x20; 16],
            src_id: 1,
            dst_id: 2,
            family: Family::V4,
            protocol: 6,
        };
        assert_eq!(tuple.src_ip().to_string(), "192.0.2.1");
        assert_eq!(tuple.dst_ip().to_string(), "32.32.32.32");
    }
}
