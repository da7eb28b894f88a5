//! Which flows replicate: `[replicate]` as the engine asks it.
//!
//! The question comes in two halves. [`Policy::tracks`] looks at the tuples and the zone only, which
//! never change in the life of a flow; [`Policy::replicates`] looks at what does change. So the
//! local cache can hold a flow before it is worth a datagram, and need not ask the kernel again
//! when it becomes so.

mod networks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

pub use networks::{LocalAddresses, Networks};

use super::proto::{ProtoInfo, TCP_CLOSE, TCP_ESTABLISHED, TCP_STATES};
use super::tuple::{self, Family};
use super::{Flow, Status};

/// What `[replicate]` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Policy {
    /// `all = true`: whatever the kernel confirms.
    Everything,
    /// Everything that passes all the filters.
    Filtered(Filters),
}

impl Default for Policy {
    fn default() -> Self {
        Self::Filtered(Filters::default())
    }
}

/// The filters of `[replicate]`; the default is what is worth saving on a firewall.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filters {
    /// `IPPROTO_*` numbers of the flows that replicate; `None` for all.
    pub protocols: Option<Protocols>,
    /// One end of the flow must be in here; `None` for anywhere.
    pub networks: Option<Networks>,
    /// No end of the flow may be in here.
    pub ignore: Networks,
    /// Zone numbers, sorted; empty for all.
    pub zones: Vec<u16>,
    /// One of these must fit; empty for any mark.
    pub marks: Vec<MarkMatch>,
    /// States in which a TCP flow replicates.
    pub tcp_states: TcpStates,
    /// Flows of other protocols (and TCP flows whose state the kernel has not told) must be ASSURED.
    pub assured: bool,
    /// A flow younger than this does not replicate yet, seconds.
    pub min_age_secs: u32,
    /// Also what this node itself originates or terminates.
    pub own: bool,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            protocols: None,
            networks: None,
            ignore: Networks::default(),
            zones: Vec::new(),
            marks: Vec::new(),
            tcp_states: TcpStates::default(),
            assured: true,
            min_age_secs: 0,
            own: false,
        }
    }
}

impl Policy {
    /// The protocols outside of which no flow is ever tracked; `None` if it may be any.
    #[must_use]
    pub fn protocols(&self) -> Option<Protocols> {
        match self {
            Self::Everything => None,
            Self::Filtered(filters) => filters.protocols,
        }
    }

    /// Decides by what never changes in the life of a flow: its tuples and its zone.
    ///
    /// # Errors
    ///
    /// The first reason for which the flow can never replicate.
    pub fn tracks(&self, flow: &Flow, local: &LocalAddresses) -> Result<(), Exclusion> {
        match self {
            Self::Everything => Ok(()),
            Self::Filtered(filters) => filters.tracks(flow, local),
        }
    }

    /// Decides by what changes: status, protocol state, mark, age. Whoever asks has asked
    /// [`Policy::tracks`] before, asks again at each change, and, where the answer was
    /// [`Exclusion::TooYoung`], when the flow has the age. Ends of flows are not asked about.
    ///
    /// # Errors
    ///
    /// The first reason for which the flow does not replicate as it is.
    pub fn replicates(&self, flow: &Flow, age_secs: u32) -> Result<(), Exclusion> {
        if !flow.status.has(Status::CONFIRMED) {
            return Err(Exclusion::Unconfirmed);
        }
        match self {
            Self::Everything => Ok(()),
            Self::Filtered(filters) => filters.replicates(flow, age_secs),
        }
    }
}

impl Filters {
    fn tracks(&self, flow: &Flow, local: &LocalAddresses) -> Result<(), Exclusion> {
        let (orig, reply) = (&flow.orig, &flow.reply);
        if let Some(protocols) = &self.protocols
            && !protocols.contains(orig.protocol)
        {
            return Err(Exclusion::Protocol(orig.protocol));
        }
        if !self.zones.is_empty() && self.zones.binary_search(&flow.zone.id).is_err() {
            return Err(Exclusion::Zone(flow.zone.id));
        }
        // The client, what it talks to, and who answers. The fourth address, where answers go, is
        // the client again or one of the firewall's own that stands for it.
        let ends = [&orig.src, &orig.dst, &reply.src];
        let family = orig.family;
        if let Some(end) = ends.iter().find(|end| is_loopback(family, end)) {
            return Err(Exclusion::Loopback(tuple_ip(family, end)));
        }
        if is_multicast(family, &orig.dst) {
            return Err(Exclusion::Multicast(orig.dst_ip()));
        }
        if !self.own {
            if local.has(family, &orig.src) {
                return Err(Exclusion::OwnSource(orig.src_ip()));
            }
            if local.has(family, &reply.src) {
                return Err(Exclusion::OwnDestination(reply.src_ip()));
            }
        }
        if let Some(end) = ends.iter().find(|end| self.ignore.has(family, end)) {
            return Err(Exclusion::Ignored(tuple_ip(family, end)));
        }
        if let Some(networks) = &self.networks
            && !ends.iter().any(|end| networks.has(family, end))
        {
            return Err(Exclusion::Elsewhere);
        }
        Ok(())
    }

    fn replicates(&self, flow: &Flow, age_secs: u32) -> Result<(), Exclusion> {
        if !self.marks.is_empty() && !self.marks.iter().any(|wanted| wanted.fits(flow.mark)) {
            return Err(Exclusion::Mark(flow.mark));
        }
        match flow.proto {
            ProtoInfo::Tcp(tcp) => {
                if !self.tcp_states.contains(tcp.state) {
                    return Err(Exclusion::TcpState(tcp.state));
                }
            }
            ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => {
                if self.assured && !flow.status.has(Status::ASSURED) {
                    return Err(Exclusion::NotAssured);
                }
            }
        }
        if age_secs < self.min_age_secs {
            return Err(Exclusion::TooYoung {
                age_secs,
                min_age_secs: self.min_age_secs,
            });
        }
        Ok(())
    }
}

/// A set of `IPPROTO_*` numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protocols([u64; 4]);

impl Protocols {
    /// True if the set has `protocol`.
    #[must_use]
    pub fn contains(&self, protocol: u8) -> bool {
        self.0[usize::from(protocol >> 6)] >> (protocol & 63) & 1 == 1
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&protocol| self.contains(protocol))
    }
}

impl FromIterator<u8> for Protocols {
    fn from_iter<I: IntoIterator<Item = u8>>(protocols: I) -> Self {
        let mut words = [0; 4];
        for protocol in protocols {
            words[usize::from(protocol >> 6)] |= 1 << (protocol & 63);
        }
        Self(words)
    }
}

/// A set of TCP states, by the kernel's number (`enum tcp_conntrack`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpStates(u16);

impl Default for TcpStates {
    /// From ESTABLISHED on. CLOSE is in: it follows within the life of a flow, and to leave it out
    /// would only end the replica earlier, by the same datagram.
    fn default() -> Self {
        (TCP_ESTABLISHED..=TCP_CLOSE).collect()
    }
}

impl TcpStates {
    /// True if the set has `state`.
    #[must_use]
    pub fn contains(self, state: u8) -> bool {
        state < 16 && self.0 >> state & 1 == 1
    }
}

impl FromIterator<u8> for TcpStates {
    /// States above 15 do not exist and are passed over.
    fn from_iter<I: IntoIterator<Item = u8>>(states: I) -> Self {
        Self(
            states
                .into_iter()
                .filter(|&state| state < 16)
                .fold(0, |set, state| set | 1 << state),
        )
    }
}

/// A mark and the bits of it that count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkMatch {
    /// The bits that a mark must have; none outside of `mask`.
    pub value: u32,
    /// The bits that are looked at.
    pub mask: u32,
}

impl MarkMatch {
    fn fits(self, mark: u32) -> bool {
        mark & self.mask == self.value
    }
}

/// Why a flow does not replicate. Prints as the end of the sentence "does not replicate because …".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exclusion {
    /// Not one of `protocols`.
    Protocol(u8),
    /// Not one of `zones`.
    Zone(u16),
    /// An end is a loopback address.
    Loopback(IpAddr),
    /// Goes to a group or to everybody.
    Multicast(IpAddr),
    /// This node originates it.
    OwnSource(IpAddr),
    /// This node terminates it.
    OwnDestination(IpAddr),
    /// An end is in `ignore`.
    Ignored(IpAddr),
    /// No end is in `networks`.
    Elsewhere,
    /// The kernel has not put it into its table yet.
    Unconfirmed,
    /// None of `marks` fits.
    Mark(u32),
    /// Not in one of `tcp_states`.
    TcpState(u8),
    /// The kernel does not call it ASSURED.
    NotAssured,
    /// Younger than `min_age`.
    TooYoung {
        /// Its age, seconds.
        age_secs: u32,
        /// `min_age`, seconds.
        min_age_secs: u32,
    },
}

impl Exclusion {
    /// A short fixed name, for counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol(_) => "protocol",
            Self::Zone(_) => "zone",
            Self::Loopback(_) => "loopback",
            Self::Multicast(_) => "multicast",
            Self::OwnSource(_) => "own-source",
            Self::OwnDestination(_) => "own-destination",
            Self::Ignored(_) => "ignored",
            Self::Elsewhere => "elsewhere",
            Self::Unconfirmed => "unconfirmed",
            Self::Mark(_) => "mark",
            Self::TcpState(_) => "tcp-state",
            Self::NotAssured => "not-assured",
            Self::TooYoung { .. } => "too-young",
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Protocol(number) => match tuple_name(number) {
                Some(name) => write!(f, "its protocol {name} is not in [replicate] protocols"),
                None => write!(f, "its protocol {number} is not in [replicate] protocols"),
            },
            Self::Zone(zone) => write!(f, "its zone {zone} is not in [replicate] zones"),
            Self::Loopback(end) => write!(f, "its end {end} is a loopback address"),
            Self::Multicast(to) => write!(f, "its destination {to} is a group, not one host"),
            Self::OwnSource(end) => {
                write!(f, "its source {end} is one of this node's own addresses")
            }
            Self::OwnDestination(end) => {
                write!(
                    f,
                    "{end}, which answers it, is one of this node's own addresses"
                )
            }
            Self::Ignored(end) => write!(f, "its end {end} is in [replicate] ignore"),
            Self::Elsewhere => write!(f, "none of its ends is in [replicate] networks"),
            Self::Unconfirmed => write!(f, "the kernel has not confirmed it yet"),
            Self::Mark(mark) => write!(f, "its mark {mark:#x} fits none of [replicate] marks"),
            Self::TcpState(state) => match TCP_STATES.get(usize::from(state)) {
                Some(name) => write!(f, "its TCP state {name} is not in [replicate] tcp_states"),
                None => write!(f, "its TCP state {state} is not in [replicate] tcp_states"),
            },
            Self::NotAssured => write!(f, "the kernel does not call it ASSURED"),
            Self::TooYoung {
                age_secs,
                min_age_secs,
            } => write!(
                f,
                "it is {age_secs} s old and [replicate] min_age is {min_age_secs} s"
            ),
        }
    }
}

/// Names of the protocols that the kernel tracks in detail, as `[replicate] protocols` and
/// `conntrack -L` write them.
pub const PROTOCOL_NAMES: [(&str, u8); 8] = [
    ("tcp", tuple::TCP),
    ("udp", tuple::UDP),
    ("udplite", tuple::UDPLITE),
    ("icmp", tuple::ICMP),
    ("icmpv6", tuple::ICMPV6),
    ("sctp", tuple::SCTP),
    ("dccp", tuple::DCCP),
    ("gre", tuple::GRE),
];

fn tuple_name(protocol: u8) -> Option<&'static str> {
    PROTOCOL_NAMES
        .iter()
        .find_map(|&(name, number)| (number == protocol).then_some(name))
}

/// 127.0.0.0/8 and ::1.
fn is_loopback(family: Family, address: &[u8; 16]) -> bool {
    match family {
        Family::V4 => address[0] == 127,
        Family::V6 => u128::from_be_bytes(*address) == 1,
    }
}

/// 224.0.0.0/4 and ff00::/8; also 255.255.255.255, which goes to everybody on the wire.
fn is_multicast(family: Family, address: &[u8; 16]) -> bool {
    match family {
        Family::V4 => address[0] & 0xf0 == 0xe0 || address[..4] == [255; 4],
        Family::V6 => address[0] == 0xff,
    }
}

fn tuple_ip(family: Family, address: &[u8; 16]) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([address[0], address[1], address[2], address[3]]),
        Family::V6 => IpAddr::from(*address),
    }
}
