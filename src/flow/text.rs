//! Flows for people and for scripts: one line in the words of `conntrack -L`, and a JSON object
//! ([`FlowJson`]).
//!
//! The line is the one that conntrack 1.4.7 prints for an entry without counters, time stamps and
//! security context, so that tools which read its output read ours. `tests/ctnetlink_kernel`
//! compares the two over one table.

use std::fmt::{self, Display, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::proto::{DCCP_STATES, SCTP_STATES, TCP_STATES};
use super::tuple::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use super::{Flow, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};

mod expectation;
mod json;

pub use expectation::{ExpectationJson, NatJson, write_expectation};
pub use json::{FlowJson, MasterJson, SctpJson, SeqAdjJson, SynProxyJson, TcpJson, TupleJson};

/// Appends the line of a flow, without a line break.
///
/// `timeout_left_secs` is what is left of its timeout now. Where the kernel would show how often an
/// entry is in use at the moment, the line says `use=1`, which it is at rest.
pub fn write_line(out: &mut String, flow: &Flow, rare: &Rare, timeout_left_secs: u32) {
    write_fields(out, flow, rare, timeout_left_secs).expect("a String takes all that is written");
}

fn write_fields(out: &mut String, flow: &Flow, rare: &Rare, timeout_left_secs: u32) -> fmt::Result {
    let protocol = flow.orig.protocol;
    let name = protocol_name(protocol);
    write!(out, "{name:<8} {protocol} {timeout_left_secs} ")?;
    if let Some(state) = state_name(&flow.proto) {
        write!(out, "{state} ")?;
    }
    write_tuple(out, &flow.orig)?;
    write_zone(out, "zone-orig", flow.zone, ZoneDir::Orig)?;
    if !flow.status.has(Status::SEEN_REPLY) {
        out.write_str("[UNREPLIED] ")?;
    }
    write_tuple(out, &flow.reply)?;
    write_zone(out, "zone-reply", flow.zone, ZoneDir::Reply)?;
    // One of the three at most, the most special first.
    if flow.status.has(Status::HW_OFFLOAD) {
        out.write_str("[HW_OFFLOAD] ")?;
    } else if flow.status.has(Status::OFFLOAD) {
        out.write_str("[OFFLOAD] ")?;
    } else if flow.status.has(Status::ASSURED) {
        out.write_str("[ASSURED] ")?;
    }
    write!(out, "mark={} ", flow.mark)?;
    write_zone(out, "zone", flow.zone, ZoneDir::Both)?;
    if let Some(helper) = &rare.helper {
        write!(out, "helper={} ", helper.as_str())?;
    }
    out.write_str("use=1")
}

fn write_tuple(out: &mut String, tuple: &Tuple) -> fmt::Result {
    let (src, dst) = (Address(tuple.src_ip()), Address(tuple.dst_ip()));
    write!(out, "src={src} dst={dst} ")?;
    match Ids::of(tuple) {
        Ids::Ports { sport, dport } => write!(out, "sport={sport} dport={dport} "),
        Ids::Icmp {
            icmp_type,
            code,
            id,
        } => {
            write!(out, "type={icmp_type} code={code} id={id} ")
        }
        Ids::Keys { srckey, dstkey } => write!(out, "srckey=0x{srckey:x} dstkey=0x{dstkey:x} "),
        Ids::None {} => Ok(()),
    }
}

fn write_zone(out: &mut String, word: &str, zone: Zone, dir: ZoneDir) -> fmt::Result {
    if zone.id != 0 && zone.dir == dir {
        write!(out, "{word}={} ", zone.id)?;
    }
    Ok(())
}

/// The protocol as conntrack calls it, `unknown` for those it has no name for.
#[must_use]
pub fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        ICMP => "icmp",
        TCP => "tcp",
        UDP => "udp",
        DCCP => "dccp",
        GRE => "gre",
        ICMPV6 => "icmpv6",
        SCTP => "sctp",
        UDPLITE => "udplite",
        _ => "unknown",
    }
}

/// The name of the protocol state, if the protocol has states; `NONE` for numbers that no state
/// has.
#[must_use]
pub fn state_name(proto: &ProtoInfo) -> Option<&'static str> {
    let (names, state) = match proto {
        ProtoInfo::None => return None,
        ProtoInfo::Tcp(info) => (&TCP_STATES, info.state),
        ProtoInfo::Sctp(info) => (&SCTP_STATES, info.state),
        ProtoInfo::Dccp(info) => (&DCCP_STATES, info.state),
    };
    Some(names.get(usize::from(state)).unwrap_or(&names[0]))
}

/// What tells flows of one protocol between two addresses apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum Ids {
    /// TCP, UDP, UDP-Lite, DCCP, SCTP.
    Ports {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Type; `type` in JSON.
        #[serde(rename = "type")]
        icmp_type: u8,
        /// Code.
        code: u8,
        /// Identifier.
        id: u16,
    },
    /// GRE.
    Keys {
        /// Source key.
        srckey: u16,
        /// Destination key.
        dstkey: u16,
    },
    /// Every other protocol: nothing.
    None {},
}

impl Ids {
    /// Reads them out of a tuple.
    #[must_use]
    pub fn of(tuple: &Tuple) -> Self {
        let (src, dst) = (tuple.src_id, tuple.dst_id);
        if tuple.has_ports() {
            return Self::Ports {
                sport: src,
                dport: dst,
            };
        }
        if tuple.is_icmp() {
            let [icmp_type, code] = dst.to_be_bytes();
            return Self::Icmp {
                icmp_type,
                code,
                id: src,
            };
        }
        if tuple.protocol == GRE {
            return Self::Keys {
                srckey: src,
                dstkey: dst,
            };
        }
        Self::None {}
    }
}

/// An address as inet_ntop(3) of glibc writes it: like Rust, but for IPv4-compatible addresses
/// (`::1.2.3.4`).
struct Address(IpAddr);

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => match ipv4_compatible(address) {
                Some(inner) => write!(f, "::{inner}"),
                None => address.fmt(f),
            },
        }
    }
}

fn ipv4_compatible(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0, 0, 0, 0, 0, 0, high, _] = address.segments() else {
        return None;
    };
    let [.., a, b, c, d] = address.octets();
    (high != 0).then(|| Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests;
