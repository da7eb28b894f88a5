//! What passes a closed gate, whatever this node's role is.

use ipnet::IpNet;

use super::{Match, OWN4, OWN6, key};
use crate::config::settings::LinkSettings;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`, include/uapi/linux/netfilter.h.
const FAMILY4: u8 = 2;
const FAMILY6: u8 = 10;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// RFC 5798, section 5.1.1.4.
const VRRP: u8 = 112;
/// Router solicitation to redirect, RFC 4861, section 4.
const DISCOVERY: (u8, u8) = (133, 137);
/// Where an address stands in its header: source and destination.
const AT4: (u32, u32) = (12, 16);
const AT6: (u32, u32) = (8, 24);

/// What passes a closed gate, a rule each. Without VRRP there are two masters, without neighbour
/// discovery the node is gone for IPv6, without the links there is nothing to commit.
pub(super) fn rules(allow: &[IpNet], links: &[LinkSettings]) -> Vec<Vec<Match>> {
    let v4 = || Match::Family(FAMILY4);
    let v6 = || Match::Family(FAMILY6);
    let network = |offset, mask: &[u8], value: &[u8]| Match::Network {
        offset,
        mask: mask.into(),
        value: value.into(),
    };
    let mut rules = vec![
        vec![Match::Protocol(VRRP)],
        vec![
            v6(),
            Match::Protocol(ICMPV6),
            Match::Transport {
                offset: 0,
                low: vec![DISCOVERY.0],
                high: vec![DISCOVERY.1],
            },
        ],
        // What no router forwards: 224.0.0.0/24 (RFC 5771, section 4), groups of interface and
        // link scope (RFC 4291, section 2.7), and addresses of the link.
        vec![v4(), network(AT4.1, &[255; 3], &[224, 0, 0])],
        vec![v6(), network(AT6.1, &[0xff, 0x0f], &[0xff, 0x01])],
        vec![v6(), network(AT6.1, &[0xff, 0x0f], &[0xff, 0x02])],
        vec![v6(), network(AT6.1, &[0xff, 0xc0], &[0xfe, 0x80])],
    ];
    for link in links {
        let port = link.addressing.port().to_be_bytes();
        rules.push(vec![
            Match::Interface(key(&link.interface)),
            Match::Protocol(UDP),
            Match::Transport {
                offset: 2,
                low: port.into(),
                high: port.into(),
            },
        ]);
    }
    for net in allow {
        let rule = match net {
            IpNet::V4(net) => [
                v4(),
                network(AT4.0, &net.netmask().octets(), &net.network().octets()),
            ],
            IpNet::V6(net) => [
                v6(),
                network(AT6.0, &net.netmask().octets(), &net.network().octets()),
            ],
        };
        rules.push(rule.into());
    }
    for (family, offset, len, set) in [(FAMILY4, AT4.1, 4, OWN4), (FAMILY6, AT6.1, 16, OWN6)] {
        rules.push(vec![
            Match::Family(family),
            Match::NetworkIn { offset, len, set },
        ]);
    }
    rules
}
