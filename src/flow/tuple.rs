//! One direction of a flow: addresses, protocol, and what tells flows of that protocol apart.

use std::net::IpAddr;

/// `IPPROTO_ICMP`.
pub const ICMP: u8 = 1;
/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_DCCP`.
pub const DCCP: u8 = 33;
/// `IPPROTO_GRE`.
pub const GRE: u8 = 47;
/// `IPPROTO_ICMPV6`.
pub const ICMPV6: u8 = 58;
/// `IPPROTO_SCTP`.
pub const SCTP: u8 = 132;
/// `IPPROTO_UDPLITE`.
pub const UDPLITE: u8 = 136;

/// Address family of a tuple, with the numbers of `AF_INET` and `AF_INET6`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    #[default]
    V4 = 2,
    /// IPv6.
    V6 = 10,
}

/// One direction of a flow as ctnetlink's `CTA_TUPLE_*` describes it.
///
/// `src_id` and `dst_id` hold what tells flows of a protocol apart: ports for TCP, UDP, UDP-Lite,
/// DCCP and SCTP, keys for GRE; for ICMP and ICMPv6 the id in `src_id`, type and code in the high
/// and low byte of `dst_id`; zero for everything else. Both are in host order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
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
    /// A tuple from addresses of one family.
    ///
    /// # Panics
    ///
    /// When the addresses are of different families: such a tuple does not exist.
    #[must_use]
    pub fn new(protocol: u8, src: IpAddr, dst: IpAddr, src_id: u16, dst_id: u16) -> Self {
        let (family, src, dst) = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                (Family::V4, widen(src.octets()), widen(dst.octets()))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => (Family::V6, src.octets(), dst.octets()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("a tuple has addresses of one family")
            }
        };
        Self {
            src,
            dst,
            src_id,
            dst_id,
            family,
            protocol,
        }
    }

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

    /// True for protocols whose `src_id` and `dst_id` are ports.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        matches!(self.protocol, TCP | UDP | UDPLITE | DCCP | SCTP)
    }

    /// True for ICMP and ICMPv6.
    #[must_use]
    pub fn is_icmp(&self) -> bool {
        matches!(self.protocol, ICMP | ICMPV6)
    }

    /// What the answers to this direction look like when nothing is translated.
    ///
    /// Types of ICMP messages that have no answer stay as they are; the kernel never tracks those
    /// (net/netfilter/nf_conntrack_proto_icmp.c, `invmap`).
    #[must_use]
    pub fn inverse(&self) -> Self {
        let (src_id, dst_id) = match self.protocol {
            ICMP => (self.src_id, inverse_type(self.dst_id, ICMP_PAIRS)),
            ICMPV6 => (self.src_id, inverse_type(self.dst_id, ICMPV6_PAIRS)),
            _ => (self.dst_id, self.src_id),
        };
        Self {
            src: self.dst,
            dst: self.src,
            src_id,
            dst_id,
            ..*self
        }
    }
}

/// Echo, timestamp, information and address mask: request and reply.
const ICMP_PAIRS: &[(u16, u16)] = &[(8, 0), (13, 14), (15, 16), (17, 18)];
/// Echo and node information: request and reply.
const ICMPV6_PAIRS: &[(u16, u16)] = &[(128, 129), (139, 140)];

fn inverse_type(type_and_code: u16, pairs: &[(u16, u16)]) -> u16 {
    let (kind, code) = (type_and_code >> 8, type_and_code & 0xff);
    let inverse = pairs.iter().find_map(|&(request, reply)| match kind {
        k if k == request => Some(reply),
        k if k == reply => Some(request),
        _ => None,
    });
    inverse.unwrap_or(kind) << 8 | code
}

fn widen(address: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[..4].copy_from_slice(&address);
    wide
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

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a literal address")
    }

    #[test]
    fn addresses_read_back_in_their_family() {
        let tuple = Tuple::new(TCP, ip("192.0.2.1"), ip("198.51.100.7"), 1, 2);
        assert_eq!(tuple.src_ip(), ip("192.0.2.1"));
        assert_eq!(tuple.dst_ip(), ip("198.51.100.7"));
        let tuple = Tuple::new(TCP, ip("2001:db8::1"), ip("2001:db8::2"), 1, 2);
        assert_eq!(tuple.src_ip(), ip("2001:db8::1"));
    }

    #[test]
    fn the_inverse_swaps_ends_and_ports() {
        let tuple = Tuple::new(TCP, ip("192.0.2.1"), ip("198.51.100.7"), 40000, 80);
        assert_eq!(
            tuple.inverse(),
            Tuple::new(TCP, ip("198.51.100.7"), ip("192.0.2.1"), 80, 40000)
        );
        assert_eq!(tuple.inverse().inverse(), tuple);
    }

    #[test]
    fn the_inverse_of_an_echo_request_is_its_reply_with_the_same_id() {
        let request = Tuple::new(ICMP, ip("192.0.2.1"), ip("192.0.2.2"), 77, 8 << 8);
        assert_eq!(
            request.inverse(),
            Tuple::new(ICMP, ip("192.0.2.2"), ip("192.0.2.1"), 77, 0)
        );
        let request = Tuple::new(ICMPV6, ip("fd00::1"), ip("fd00::2"), 77, 128 << 8);
        assert_eq!(request.inverse().dst_id, 129 << 8);
        assert_eq!(request.inverse().inverse(), request);
    }
}
