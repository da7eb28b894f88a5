//! A question about one flow, and its answer: `Request::Lookup`.
//!
//! A flow is named by its original direction and zone, in the words of [`FlowJson`]:
//!
//! ```text
//! {"command":"lookup","flow":{"protocol_number":6,"src":"10.0.0.1","dst":"192.0.2.1","sport":40000,"dport":443,"zone":0}}
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::flow::FlowKey;
use crate::flow::text::{FlowJson, Ids};
use crate::flow::tuple::{GRE, Tuple};

/// What names a flow. Which of the optional fields there must be depends on the protocol; others are
/// refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// `IPPROTO_*`.
    pub protocol_number: u8,
    /// Source of the original direction.
    pub src: IpAddr,
    /// Its destination, of the same family.
    pub dst: IpAddr,
    /// Source port of TCP, UDP, UDP-Lite, DCCP and SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Type of ICMP and ICMPv6.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// Code of ICMP and ICMPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Identifier of ICMP and ICMPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// Source key of GRE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srckey: Option<u16>,
    /// Destination key of GRE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dstkey: Option<u16>,
    /// Zone of the original direction; 0 is the default zone.
    #[serde(default)]
    pub zone: u16,
}

/// Why a question names no flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum QueryError {
    /// One address of each family.
    #[error("src and dst are of different families")]
    Families,
    /// What tells flows of the protocol apart is missing, or something else is there.
    #[error("a flow of protocol {protocol_number} is told by {wanted}, and by nothing else")]
    Ids {
        /// As it was asked.
        protocol_number: u8,
        /// The names of the fields.
        wanted: &'static str,
    },
}

impl FlowQuery {
    /// The question about a flow.
    #[must_use]
    pub fn of(key: &FlowKey) -> Self {
        let FlowKey { orig, zone } = *key;
        let query = Self {
            protocol_number: orig.protocol,
            src: orig.src_ip(),
            dst: orig.dst_ip(),
            sport: None,
            dport: None,
            icmp_type: None,
            code: None,
            id: None,
            srckey: None,
            dstkey: None,
            zone,
        };
        match Ids::of(&orig) {
            Ids::Ports { sport, dport } => Self {
                sport: Some(sport),
                dport: Some(dport),
                ..query
            },
            Ids::Icmp {
                icmp_type,
                code,
                id,
            } => Self {
                icmp_type: Some(icmp_type),
                code: Some(code),
                id: Some(id),
                ..query
            },
            Ids::Keys { srckey, dstkey } => Self {
                srckey: Some(srckey),
                dstkey: Some(dstkey),
                ..query
            },
            Ids::None {} => query,
        }
    }

    /// What the tables know it by.
    ///
    /// # Errors
    ///
    /// When no flow can be named so.
    pub fn key(&self) -> Result<FlowKey, QueryError> {
        if self.src.is_ipv4() != self.dst.is_ipv4() {
            return Err(QueryError::Families);
        }
        let mut orig = Tuple::new(self.protocol_number, self.src, self.dst, 0, 0);
        let icmp = self.icmp_type.zip(self.code).zip(self.id);
        let (ids, wanted) = if orig.has_ports() {
            (self.sport.zip(self.dport), "sport and dport")
        } else if orig.is_icmp() {
            let ids = icmp.map(|((kind, code), id)| (id, u16::from_be_bytes([kind, code])));
            (ids, "type, code and id")
        } else if orig.protocol == GRE {
            (self.srckey.zip(self.dstkey), "srckey and dstkey")
        } else {
            (Some((0, 0)), "its addresses and zone")
        };
        let refusal = QueryError::Ids {
            protocol_number: self.protocol_number,
            wanted,
        };
        (orig.src_id, orig.dst_id) = ids.ok_or(refusal)?;
        let key = FlowKey {
            orig,
            zone: self.zone,
        };
        // Whatever the protocol has no use for is not in the way back.
        if Self::of(&key) == *self {
            Ok(key)
        } else {
            Err(refusal)
        }
    }
}

/// The answer. The names of the fields are an interface: they are added to, never renamed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lookup {
    /// As this node's kernel tracks it; null if the local cache does not hold it. A flow that has
    /// ended is not held.
    pub local: Option<LocalEntry>,
    /// One for each peer of which there is a replica, by name.
    pub replicas: Vec<ReplicaEntry>,
}

/// A flow that the local cache holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LocalEntry {
    /// It goes to the peers. One that does not is too young for policy, or a copy of a peer's.
    pub replicates: bool,
    /// State, mark, timeout left and everything else.
    pub flow: Box<FlowJson>,
}

/// What is held of a peer's flows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReplicaEntry {
    /// The peer's name.
    pub peer: String,
    /// The flow as the peer told it last; null if the replica does not hold it.
    pub flow: Option<Box<FlowJson>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::Request;
    use crate::flow::tuple::{ICMP, TCP};

    fn key(protocol: u8, src_id: u16, dst_id: u16) -> FlowKey {
        let (src, dst) = ([10, 0, 0, 1].into(), [192, 0, 2, 1].into());
        FlowKey {
            orig: Tuple::new(protocol, src, dst, src_id, dst_id),
            zone: 7,
        }
    }

    #[test]
    fn every_protocol_is_told_by_its_own_fields_and_back() {
        for key in [
            key(TCP, 40_000, 443),
            key(ICMP, 77, 0x0800),
            key(GRE, 1, 2),
            key(89, 0, 0),
        ] {
            let flow = FlowQuery::of(&key);
            assert_eq!(flow.key(), Ok(key));
            let line = serde_json::to_vec(&Request::Lookup { flow }).expect("it serialises");
            assert_eq!(Request::parse(&line), Ok(Request::Lookup { flow }));
        }
    }

    #[test]
    fn a_line_names_a_flow_as_the_documentation_has_it() {
        let line = br#"{"command":"lookup","flow":{"protocol_number":6,"src":"10.0.0.1","dst":"192.0.2.1","sport":40000,"dport":443}}"#;
        let Ok(Request::Lookup { flow }) = Request::parse(line) else {
            panic!("{:?}", Request::parse(line));
        };
        let wanted = FlowKey {
            zone: 0,
            ..key(TCP, 40_000, 443)
        };
        assert_eq!(flow.key(), Ok(wanted));
    }

    #[test]
    fn what_names_no_flow_is_refused_with_what_is_missing() {
        let flow = FlowQuery::of(&key(TCP, 40_000, 443));
        let half = FlowQuery {
            dport: None,
            ..flow
        };
        let told = half.key().expect_err("no port").to_string();
        assert!(
            told.contains("protocol 6 is told by sport and dport"),
            "{told}"
        );
        let both = FlowQuery {
            id: Some(1),
            ..flow
        };
        assert!(both.key().is_err(), "a field that TCP does not have");
        let mixed = FlowQuery {
            dst: "2001:db8::1".parse().expect("a literal"),
            ..flow
        };
        assert_eq!(mixed.key(), Err(QueryError::Families));
    }
}
