//! nftables messages that the gate needs: a transaction, a table with sets and a chain, rules made
//! of a few matches. Read include/uapi/linux/netfilter/nf_tables.h first; what is sent here was
//! tried on a kernel before it was written down.

use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList,
    SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

mod rule;

pub(super) use rule::{Fate, Match, counted};

/// `NFNL_SUBSYS_NFTABLES`, include/uapi/linux/netfilter/nfnetlink.h: whose transaction it is.
const SUBSYSTEM: u16 = 10;
/// Elements of one message: 64 KiB, which is what a nested attribute may have, hold 1,600.
const ELEMENTS_MAX: usize = 512;

/// What the elements of a set are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// Name of an interface.
    Interface,
    /// IPv4 address.
    V4,
    /// IPv6 address.
    V6,
}

impl Key {
    /// Number by which `nft` knows the type when it lists the set, and its length in bytes.
    fn type_and_len(self) -> (u32, u32) {
        match self {
            Self::Interface => (41, 16),
            Self::V4 => (7, 4),
            Self::V6 => (8, 16),
        }
    }

    /// For `nft` alone, which shows names as nothing without it: libnftnl's
    /// `NFTNL_UDATA_SET_KEYBYTEORDER` (0), four bytes: 1 the machine's order, 2 that of the wire.
    fn byte_order(self) -> Vec<u8> {
        let order: u32 = match self {
            Self::Interface => 1,
            Self::V4 | Self::V6 => 2,
        };
        let mut data = vec![0, 4];
        data.extend_from_slice(&order.to_ne_bytes());
        data
    }
}

/// Messages that the kernel carries out as one, or not at all.
#[derive(Debug)]
pub(super) struct Transaction {
    table: &'static str,
    bytes: Vec<u8>,
    seq: u32,
    /// Where the last message begins that is not the end: it asks for an answer.
    last: usize,
}

impl Transaction {
    /// Begins one on a table of family `inet`; its messages are numbered from `seq` on.
    pub(super) fn begin(table: &'static str, seq: u32) -> Self {
        let mut transaction = Self {
            table,
            bytes: Vec::with_capacity(1024),
            seq,
            last: 0,
        };
        transaction.control(ControlMessage::BatchBegin);
        transaction
    }

    /// Ends it: the bytes to send, and the number of the message whose answer says that all is done.
    pub(super) fn end(mut self) -> (Vec<u8>, u32) {
        let answered = self.seq.wrapping_sub(1);
        // `nlmsg_flags` is at byte 6 of the header, in the machine's order.
        let at = self.last + 6;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | NLM_F_ACK;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        self.control(ControlMessage::BatchEnd);
        (self.bytes, answered)
    }

    /// Creates the table unless it is there.
    pub(super) fn add_table(&mut self) {
        let message = TableMessage {
            attributes: vec![TableAttribute::Name(self.table.into())],
        };
        self.push(NfTablesMessage::NewTable(message), NLM_F_CREATE);
    }

    /// Deletes the table with everything in it.
    pub(super) fn delete_table(&mut self) {
        let message = TableMessage {
            attributes: vec![TableAttribute::Name(self.table.into())],
        };
        self.push(NfTablesMessage::DeleteTable(message), 0);
    }

    /// Creates a set; `id` tells the sets of a transaction apart.
    pub(super) fn add_set(&mut self, name: &'static str, id: u32, key: Key, flags: SetFlags) {
        let (key_type, key_len) = key.type_and_len();
        let message = SetMessage {
            attributes: vec![
                SetAttribute::Table(self.table.into()),
                SetAttribute::Name(name.into()),
                SetAttribute::Flags(flags),
                SetAttribute::KeyType(key_type),
                SetAttribute::KeyLen(key_len),
                SetAttribute::Id(id),
                SetAttribute::UserData(key.byte_order()),
            ],
        };
        self.push(NfTablesMessage::NewSet(message), NLM_F_CREATE);
    }

    /// Takes all elements out of a set; there may be none.
    pub(super) fn empty_set(&mut self, name: &'static str) {
        // A deletion that names no element means all.
        let message = SetElementMessage {
            attributes: vec![
                SetElementList::Table(self.table.into()),
                SetElementList::Set(name.into()),
            ],
        };
        self.push(NfTablesMessage::DeleteSetElement(message), 0);
    }

    /// Puts elements into a set, for a time or for ever.
    pub(super) fn add_elements<K: AsRef<[u8]>>(
        &mut self,
        name: &'static str,
        keys: &[K],
        timeout: Option<Duration>,
    ) {
        let element = |key: &K| {
            let mut element = vec![SetElementAttribute::Key(DataAttribute::Value(
                key.as_ref().to_vec(),
            ))];
            if let Some(timeout) = timeout {
                let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                element.push(SetElementAttribute::Timeout(millis));
            }
            ListAttribute::Element(element)
        };
        for keys in keys.chunks(ELEMENTS_MAX) {
            let message = SetElementMessage {
                attributes: vec![
                    SetElementList::Table(self.table.into()),
                    SetElementList::Set(name.into()),
                    SetElementList::Elements(keys.iter().map(element).collect()),
                ],
            };
            self.push(NfTablesMessage::NewSetElement(message), NLM_F_CREATE);
        }
    }

    /// Creates a chain before routing that lets everything through which no rule stops.
    pub(super) fn add_chain(&mut self, name: &'static str, priority: i32) {
        let message = ChainMessage {
            attributes: vec![
                ChainAttribute::Table(self.table.into()),
                ChainAttribute::Name(name.into()),
                ChainAttribute::Hook(vec![
                    Hook::Number(HookNumber::Inet(InetHookNumber::PreRouting)),
                    // The attribute is signed, the crate's is not.
                    Hook::Priority(priority.cast_unsigned()),
                ]),
                ChainAttribute::Policy(u32::from(rule::ACCEPT)),
                ChainAttribute::Type("filter".into()),
            ],
        };
        self.push(NfTablesMessage::NewChain(message), NLM_F_CREATE);
    }

    /// Appends a rule to a chain.
    pub(super) fn add_rule(&mut self, chain: &'static str, matches: &[Match], fate: Fate) {
        let message = RuleMessage {
            attributes: vec![
                RuleAttribute::Table(self.table.into()),
                RuleAttribute::Chain(chain.into()),
                RuleAttribute::Expressions(rule::expressions(matches, fate)),
            ],
        };
        self.push(
            NfTablesMessage::NewRule(message),
            NLM_F_CREATE | NLM_F_APPEND,
        );
    }

    fn push(&mut self, message: NfTablesMessage, flags: u16) {
        self.last = self.bytes.len();
        self.append(
            NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0),
            message.into(),
            flags,
        );
    }

    fn control(&mut self, message: ControlMessage) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
        self.append(header, message.into(), 0);
    }

    fn append(&mut self, header: NetfilterHeader, inner: NetfilterMessageInner, flags: u16) {
        let message = NetfilterMessage::new(header, inner);
        self.bytes
            .extend_from_slice(&serialise(message, NLM_F_REQUEST | flags, self.seq));
        self.seq = self.seq.wrapping_add(1);
    }
}

/// Asks for the rules of a chain.
pub(super) fn list_rules(table: &'static str, chain: &'static str, seq: u32) -> Vec<u8> {
    let message = RuleMessage {
        attributes: vec![
            RuleAttribute::Table(table.into()),
            RuleAttribute::Chain(chain.into()),
        ],
    };
    let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
    let message = NetfilterMessage::new(header, NfTablesMessage::GetRule(message));
    serialise(message, NLM_F_REQUEST | NLM_F_DUMP, seq)
}

fn serialise(message: NetfilterMessage, flags: u16, seq: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = seq;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
