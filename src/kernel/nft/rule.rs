//! Rules of nftables: conditions and a verdict as expressions, and the counter of a rule that was
//! listed.

use netlink_packet_core::{NetlinkMessage, NetlinkPayload, Nla};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute, Verdict,
    VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};

/// `NF_DROP` and `NF_ACCEPT`, include/uapi/linux/netfilter.h. The crate has no names for them.
const DROP: Verdict = Verdict::Other(0);
pub(super) const ACCEPT: Verdict = Verdict::Other(1);
/// `NFT_LOOKUP_F_INV`: matches what is not in the set.
const LOOKUP_INVERTED: u32 = 1;
/// `NFT_CMP_GTE`, which the crate misspells.
const NOT_BELOW: Operator = Operator::GreatherThanEqual;
/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// The one register that every match uses; it holds 16 bytes.
const REGISTER: Register = Register::Reg1;
/// One condition of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::kernel) enum Match {
    /// The packet came in through this interface.
    Interface([u8; 16]),
    /// It came in through no interface of this set.
    NoInterfaceOf(&'static str),
    /// `NFPROTO_*`.
    Family(u8),
    /// `IPPROTO_*`, after extension headers.
    Protocol(u8),
    /// Bytes of the network header, under a mask.
    Network {
        /// From its beginning.
        offset: u32,
        /// One bit where it counts; as long as `value`.
        mask: Vec<u8>,
        /// What is expected there, 0 where the mask is.
        value: Vec<u8>,
    },
    /// Bytes of the network header that are in this set.
    NetworkIn {
        /// From the header's beginning.
        offset: u32,
        /// How many.
        len: u32,
        /// The set.
        set: &'static str,
    },
    /// Bytes of the transport header from `offset` on are within bounds, both of one length.
    Transport {
        /// From its beginning.
        offset: u32,
        /// The least, in the order of the wire.
        low: Vec<u8>,
        /// The largest.
        high: Vec<u8>,
    },
}

/// What becomes of a packet that a rule matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::kernel) enum Fate {
    /// It goes on.
    Accept,
    /// It vanishes and is counted.
    CountAndDrop,
}

/// The expressions of a rule.
pub(super) fn expressions(
    matches: &[Match],
    fate: Fate,
) -> Vec<ListAttribute<ExpressionAttribute>> {
    let mut expressions: Vec<Expressions> = matches.iter().flat_map(condition).collect();
    let verdict = match fate {
        Fate::Accept => ACCEPT,
        Fate::CountAndDrop => {
            expressions.push(Expressions::Other {
                expression_type: "counter".into(),
                attributes: Vec::new(),
            });
            DROP
        }
    };
    expressions.push(Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(
            verdict,
        )])),
    ]));
    expressions.into_iter().map(Into::into).collect()
}

/// The expressions that make up a condition.
fn condition(matched: &Match) -> Vec<Expressions> {
    match matched {
        Match::Interface(name) => vec![meta(MetaKey::Iifname), equals(name)],
        Match::NoInterfaceOf(set) => {
            vec![meta(MetaKey::Iifname), lookup(set, LOOKUP_INVERTED)]
        }
        Match::Family(family) => vec![meta(MetaKey::Nfproto), equals(&[*family])],
        Match::Protocol(protocol) => vec![meta(MetaKey::L4Proto), equals(&[*protocol])],
        Match::Network {
            offset,
            mask,
            value,
        } => vec![
            payload(NETWORK, *offset, len(value)),
            masked(mask),
            equals(value),
        ],
        Match::NetworkIn { offset, len, set } => {
            vec![payload(NETWORK, *offset, *len), lookup(set, 0)]
        }
        Match::Transport { offset, low, high } if low == high => {
            vec![payload(TRANSPORT, *offset, len(low)), equals(low)]
        }
        Match::Transport { offset, low, high } => vec![
            payload(TRANSPORT, *offset, len(low)),
            compare(NOT_BELOW, low),
            compare(Operator::LessThanEqual, high),
        ],
    }
}

fn meta(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(REGISTER)])
}

fn payload(base: u32, offset: u32, len: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(REGISTER),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(len),
    ])
}

fn masked(mask: &[u8]) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(REGISTER),
        Bitwise::DestinationRegister(REGISTER),
        Bitwise::Length(len(mask)),
        Bitwise::Mask(value(mask)),
        Bitwise::Xor(value(&vec![0; mask.len()])),
    ])
}

fn equals(bytes: &[u8]) -> Expressions {
    compare(Operator::Equal, bytes)
}

fn compare(operator: Operator, bytes: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(REGISTER),
        Cmp::Op(operator),
        Cmp::Data(value(bytes)),
    ])
}

fn lookup(set: &str, flags: u32) -> Expressions {
    Expressions::Lookup(vec![
        Lookup::Set(set.into()),
        Lookup::SourceRegister(REGISTER),
        Lookup::Flags(flags),
    ])
}

fn value(bytes: &[u8]) -> DataAttribute {
    DataAttribute::Value(bytes.to_vec())
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a match has a few bytes")
}

/// The packets that the counter of a listed rule has counted; 0 if it has none.
pub(in crate::kernel) fn counted(message: &[u8]) -> u64 {
    /// `NFTA_COUNTER_PACKETS`, a 64-bit number in network order.
    const PACKETS: u16 = 2;
    let Ok(message) = NetlinkMessage::<NetfilterMessage>::deserialize(message) else {
        return 0;
    };
    let NetlinkPayload::InnerMessage(NetfilterMessage {
        inner: NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)),
        ..
    }) = message.payload
    else {
        return 0;
    };
    let mut packets = 0;
    for attribute in &rule.attributes {
        let RuleAttribute::Expressions(expressions) = attribute else {
            continue;
        };
        for expression in expressions {
            let ListAttribute::Element(parts) = expression else {
                continue;
            };
            for part in parts {
                if let ExpressionAttribute::Data(Expressions::Other {
                    expression_type,
                    attributes,
                }) = part
                    && expression_type == "counter"
                {
                    for count in attributes.iter().filter(|count| count.kind() == PACKETS) {
                        let mut bytes = [0; 8];
                        if count.value_len() == bytes.len() {
                            count.emit_value(&mut bytes);
                            packets += u64::from_be_bytes(bytes);
                        }
                    }
                }
            }
        }
    }
    packets
}
