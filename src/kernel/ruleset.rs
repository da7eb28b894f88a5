//! Reads the packet filter's rules of this network namespace, as far as flows depend on them:
//! chains of `type nat`, rules that use conntrack, rules that use labels. Nothing is changed.
//!
//! nftables is asked over netlink (include/uapi/linux/netfilter/nf_tables.h); of the old
//! ip_tables only the names of its tables can be read. What cannot be looked into is in doubt, and
//! so is whatever else uses conntrack without rules (Open vSwitch, `act_ct` of tc).

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use super::KernelError;
use super::socket::{NetlinkSocket, READ_BYTES, Received};
use super::wake::wait_readable_for;
use crate::ctnetlink::attr::{Attr, Attrs};
use crate::ctnetlink::host::{Rules, Seen};
use crate::ctnetlink::message::NFGENMSG_LEN;
use crate::ctnetlink::{self, DecodeError, Message, MessageKind, cta};

/// The kernel answers each read at once.
const SILENCE_MAX: Duration = Duration::from_secs(2);

const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFT_MSG_GETCHAIN: u8 = 4;
const NFT_MSG_GETRULE: u8 = 7;
const NFT_MSG_GETGEN: u8 = 16;
const NFTA_GEN_ID: u16 = 1;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_CT_KEY: u16 = 2;
const NFT_CT_LABELS: u32 = 13;
/// `NFTA_MATCH_NAME` and `NFTA_TARGET_NAME`.
const NFTA_COMPAT_NAME: u16 = 1;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// Expressions that make the kernel track connections wherever they stand.
const TRACKING: [&[u8]; 7] = [
    b"ct",
    b"nat",
    b"masq",
    b"redir",
    b"connlimit",
    b"synproxy",
    b"flow_offload",
];
/// Matches and targets of ip_tables that do, in rules of `iptables-nft`.
const COMPAT_TRACKING: [&[u8]; 15] = [
    b"conntrack",
    b"state",
    b"connmark",
    b"connbytes",
    b"connlimit",
    b"connlabel",
    b"helper",
    b"CONNMARK",
    b"CONNSECMARK",
    b"MASQUERADE",
    b"SNAT",
    b"DNAT",
    b"REDIRECT",
    b"NETMAP",
    b"SYNPROXY",
];

/// Asks for the rules, and keeps what they said until they change.
pub(super) struct Ruleset {
    socket: NetlinkSocket,
    buffer: Box<[u8]>,
    seq: u32,
    known: Option<(u32, Found)>,
}

/// What nftables has.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Found {
    nat_v4: bool,
    nat_v6: bool,
    tracking: bool,
    labels: bool,
    /// There are expressions that may use conntrack or labels.
    has_opaque: bool,
}

/// Why the rules are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum RulesetError {
    #[error("the kernel refused it: {0}")]
    Refused(io::Error),
    #[error("they changed while they were listed")]
    Changed,
    #[error("an answer is not understood: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("answers were lost")]
    Lost,
    #[error("no answer within {SILENCE_MAX:?}")]
    Silence,
    #[error("netlink: {0}")]
    Socket(#[from] io::Error),
}

impl Ruleset {
    pub(super) fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: NetlinkSocket::open_netfilter("the ruleset")?,
            buffer: vec![0; READ_BYTES].into(),
            seq: 0,
            known: None,
        })
    }

    /// What the rules make of flows now. Lists them only when they have changed.
    ///
    /// # Errors
    ///
    /// When nftables cannot be asked.
    pub(super) fn look(&mut self) -> Result<Rules, RulesetError> {
        let generation = self.generation()?;
        let found = match self.known {
            Some((known, found)) if known == generation => found,
            _ => {
                let mut found = Found::default();
                self.dump(NFT_MSG_GETCHAIN, |family, attributes| {
                    found.chain(family, attributes)
                })?;
                self.dump(NFT_MSG_GETRULE, |_, attributes| found.rule(attributes))?;
                // What was listed in part before a change is worth nothing.
                if self.generation()? != generation {
                    return Err(RulesetError::Changed);
                }
                self.known = Some((generation, found));
                found
            }
        };
        Ok(judge(
            found,
            legacy("ip_tables_names"),
            legacy("ip6_tables_names"),
            has_other_users(),
        ))
    }

    /// A number that grows with each change of the rules.
    fn generation(&mut self) -> Result<u32, RulesetError> {
        let mut generation = None;
        self.ask(NFT_MSG_GETGEN, 0, |_, attributes| {
            for attr in attributes {
                let attr = attr?;
                if attr.kind == NFTA_GEN_ID {
                    generation = Some(attr.be32()?);
                }
            }
            Ok(())
        })?;
        generation.ok_or(RulesetError::Undecodable(DecodeError::Truncated))
    }

    fn dump(
        &mut self,
        action: u8,
        take: impl FnMut(u8, Attrs<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), RulesetError> {
        self.ask(action, cta::NLM_F_DUMP, take)
    }

    /// Asks, and hands each answer's family and attributes to `take`.
    fn ask(
        &mut self,
        action: u8,
        flags: u16,
        mut take: impl FnMut(u8, Attrs<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), RulesetError> {
        self.seq = self.seq.wrapping_add(1);
        self.socket.send(&request(action, flags, self.seq))?;
        loop {
            let datagram = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(datagram) => datagram,
                Received::Foreign => continue,
                Received::Overrun | Received::Truncated => return Err(RulesetError::Lost),
                Received::Empty if wait_readable_for(&self.socket, SILENCE_MAX)? => continue,
                Received::Empty => return Err(RulesetError::Silence),
            };
            for message in ctnetlink::messages(datagram) {
                let message = message?;
                if message.seq != self.seq {
                    continue;
                }
                if message.flags & cta::NLM_F_DUMP_INTR != 0 {
                    return Err(RulesetError::Changed);
                }
                match message.kind {
                    MessageKind::Done | MessageKind::Error => {
                        return match ctnetlink::decode_error(&message) {
                            Some((_, errno)) if errno != 0 => {
                                Err(RulesetError::Refused(io::Error::from_raw_os_error(errno)))
                            }
                            _ => Ok(()),
                        };
                    }
                    MessageKind::Overrun => return Err(RulesetError::Lost),
                    MessageKind::Other(_) => {
                        let (family, attributes) = body(&message)?;
                        take(family, attributes)?;
                        if flags & cta::NLM_F_DUMP == 0 {
                            return Ok(());
                        }
                    }
                    MessageKind::Conntrack(_) | MessageKind::Expectation(_) => {}
                }
            }
        }
    }
}

/// A request of nftables without attributes, for all families.
fn request(action: u8, flags: u16, seq: u32) -> Vec<u8> {
    let kind = u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, action]);
    let len = ctnetlink::message::HEADER_LEN + NFGENMSG_LEN;
    let mut bytes = u32::try_from(len).expect("20").to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(cta::NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&seq.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0, cta::NFNETLINK_V0, 0, 0]);
    bytes
}

fn body<'a>(message: &Message<'a>) -> Result<(u8, Attrs<'a>), DecodeError> {
    let payload = message.payload();
    let (nfgenmsg, attributes) = payload
        .split_first_chunk::<NFGENMSG_LEN>()
        .ok_or(DecodeError::Truncated)?;
    Ok((nfgenmsg[0], Attrs::new(attributes)))
}

impl Found {
    fn chain(&mut self, family: u8, attributes: Attrs<'_>) -> Result<(), DecodeError> {
        let (mut is_nat, mut has_hook) = (false, false);
        for attr in attributes {
            let attr = attr?;
            match attr.kind {
                NFTA_CHAIN_TYPE => is_nat = text(&attr) == b"nat",
                NFTA_CHAIN_HOOK => has_hook = true,
                _ => {}
            }
        }
        if is_nat && has_hook {
            self.nat_v4 |= matches!(family, NFPROTO_IPV4 | NFPROTO_INET);
            self.nat_v6 |= matches!(family, NFPROTO_IPV6 | NFPROTO_INET);
        }
        Ok(())
    }

    fn rule(&mut self, attributes: Attrs<'_>) -> Result<(), DecodeError> {
        for attr in attributes {
            let attr = attr?;
            if attr.kind == NFTA_RULE_EXPRESSIONS {
                for element in attr.nest() {
                    self.expression(element?.nest())?;
                }
            }
        }
        Ok(())
    }

    fn expression(&mut self, attributes: Attrs<'_>) -> Result<(), DecodeError> {
        let (mut name, mut data) = (&[][..], None);
        for attr in attributes {
            let attr = attr?;
            match attr.kind {
                NFTA_EXPR_NAME => name = text(&attr),
                NFTA_EXPR_DATA => data = Some(attr),
                _ => {}
            }
        }
        self.tracking |= TRACKING.contains(&name);
        match (name, data) {
            (b"ct", Some(data)) => {
                for attr in data.nest() {
                    let attr = attr?;
                    self.labels |= attr.kind == NFTA_CT_KEY && attr.be32()? == NFT_CT_LABELS;
                }
            }
            (b"match" | b"target", Some(data)) => {
                self.has_opaque = true;
                for attr in data.nest() {
                    let attr = attr?;
                    if attr.kind == NFTA_COMPAT_NAME {
                        let name = text(&attr);
                        self.tracking |= COMPAT_TRACKING.contains(&name);
                        self.labels |= name == b"connlabel";
                    }
                }
            }
            // References to objects, among them helpers and timeouts of conntrack.
            (b"objref", _) => self.has_opaque = true,
            _ => {}
        }
        Ok(())
    }
}

fn text<'a>(attr: &Attr<'a>) -> &'a [u8] {
    attr.payload.strip_suffix(&[0]).unwrap_or(attr.payload)
}

/// The tables of the old ip_tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Legacy {
    /// None.
    Absent,
    /// Some, `nat` not among them.
    Some,
    /// Some, `nat` among them.
    Nat,
    /// Nobody may look.
    Hidden,
}

fn legacy(name: &str) -> Legacy {
    match fs::read_to_string(Path::new("/proc/thread-self/net").join(name)) {
        Ok(tables) if tables.lines().any(|table| table == "nat") => Legacy::Nat,
        Ok(tables) if tables.trim().is_empty() => Legacy::Absent,
        Ok(_) => Legacy::Some,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Legacy::Absent,
        Err(_) => Legacy::Hidden,
    }
}

/// Users of conntrack that have no rules to look at.
fn has_other_users() -> bool {
    ["openvswitch", "act_ct"]
        .iter()
        .any(|module| Path::new("/sys/module").join(module).exists())
}

/// Yes where something was found; no only where nothing can be hidden.
fn judge(found: Found, v4: Legacy, v6: Legacy, has_other_users: bool) -> Rules {
    let seen = |is_there: bool, may_be_hidden: bool| match (is_there, may_be_hidden) {
        (true, _) => Seen::Yes,
        (false, true) => Seen::Unknown,
        (false, false) => Seen::No,
    };
    let has_legacy = v4 != Legacy::Absent || v6 != Legacy::Absent;
    let has_legacy_nat = v4 == Legacy::Nat || v6 == Legacy::Nat;
    let may_be_hidden = has_legacy || found.has_opaque || has_other_users;
    Rules {
        nat_v4: seen(
            found.nat_v4 || v4 == Legacy::Nat,
            v4 == Legacy::Hidden || has_other_users,
        ),
        nat_v6: seen(
            found.nat_v6 || v6 == Legacy::Nat,
            v6 == Legacy::Hidden || has_other_users,
        ),
        tracking: seen(found.tracking || has_legacy_nat, may_be_hidden),
        labels: seen(found.labels, may_be_hidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Found = Found {
        nat_v4: true,
        nat_v6: true,
        tracking: true,
        labels: true,
        has_opaque: false,
    };

    #[test]
    fn only_what_cannot_be_hidden_is_called_absent() {
        let nothing = Found::default();
        let absent = judge(nothing, Legacy::Absent, Legacy::Absent, false);
        assert_eq!(
            [absent.nat_v4, absent.nat_v6, absent.tracking, absent.labels],
            [Seen::No; 4]
        );
        let opaque = Found {
            has_opaque: true,
            ..nothing
        };
        let doubt = judge(opaque, Legacy::Absent, Legacy::Absent, false);
        assert_eq!(
            [doubt.nat_v4, doubt.tracking, doubt.labels],
            [Seen::No, Seen::Unknown, Seen::Unknown]
        );
        let hidden = judge(nothing, Legacy::Hidden, Legacy::Hidden, false);
        let other = judge(nothing, Legacy::Absent, Legacy::Absent, true);
        for rules in [hidden, other] {
            assert_eq!(rules, Rules::default());
        }
        let all = judge(EVERYTHING, Legacy::Hidden, Legacy::Hidden, true);
        assert_eq!(
            [all.nat_v4, all.nat_v6, all.tracking, all.labels],
            [Seen::Yes; 4]
        );
    }

    #[test]
    fn a_legacy_nat_table_translates_its_family() {
        let rules = judge(Found::default(), Legacy::Nat, Legacy::Some, false);
        assert_eq!(
            [rules.nat_v4, rules.nat_v6, rules.tracking, rules.labels],
            [Seen::Yes, Seen::No, Seen::Yes, Seen::Unknown]
        );
    }

    /// An attribute.
    fn attr(kind: u16, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(payload.len() + 4).expect("short");
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The attributes of a rule with one expression.
    fn rule(name: &[u8], data: &[u8]) -> Vec<u8> {
        let expression = [attr(NFTA_EXPR_NAME, name), attr(NFTA_EXPR_DATA, data)].concat();
        attr(NFTA_RULE_EXPRESSIONS, &attr(1, &expression))
    }

    fn found_in(bytes: &[u8]) -> Found {
        let mut found = Found::default();
        found.rule(Attrs::new(bytes)).expect("well-formed");
        found
    }

    #[test]
    fn rules_show_what_they_use() {
        let labels = found_in(&rule(
            b"ct\0",
            &attr(NFTA_CT_KEY, &NFT_CT_LABELS.to_be_bytes()),
        ));
        assert!(labels.tracking && labels.labels && !labels.has_opaque);
        let state = found_in(&rule(b"ct\0", &attr(NFTA_CT_KEY, &0_u32.to_be_bytes())));
        assert!(state.tracking && !state.labels);
        let compat = found_in(&rule(b"match\0", &attr(NFTA_COMPAT_NAME, b"connlabel\0")));
        assert!(compat.tracking && compat.labels && compat.has_opaque);
        let limit = found_in(&rule(b"match\0", &attr(NFTA_COMPAT_NAME, b"limit\0")));
        assert!(!limit.tracking && limit.has_opaque);
        assert_eq!(found_in(&rule(b"notrack\0", &[])), Found::default());
    }

    #[test]
    fn cut_answers_are_errors() {
        let bytes = rule(b"ct\0", &attr(NFTA_CT_KEY, &13_u32.to_be_bytes()));
        for end in 1..bytes.len() {
            let mut found = Found::default();
            assert!(found.rule(Attrs::new(&bytes[..end])).is_err(), "{end}");
        }
    }

    #[test]
    fn a_chain_of_type_nat_counts_where_it_is_hooked() {
        let hooked = [attr(NFTA_CHAIN_TYPE, b"nat\0"), attr(NFTA_CHAIN_HOOK, &[])].concat();
        for (family, expected) in [
            (NFPROTO_IPV4, (true, false)),
            (NFPROTO_IPV6, (false, true)),
            (NFPROTO_INET, (true, true)),
            (7, (false, false)),
        ] {
            let mut found = Found::default();
            found
                .chain(family, Attrs::new(&hooked))
                .expect("well-formed");
            assert_eq!((found.nat_v4, found.nat_v6), expected, "{family}");
        }
        let mut found = Found::default();
        let filter = [
            attr(NFTA_CHAIN_TYPE, b"filter\0"),
            attr(NFTA_CHAIN_HOOK, &[]),
        ]
        .concat();
        found
            .chain(NFPROTO_INET, Attrs::new(&filter))
            .expect("well-formed");
        assert_eq!(found, Found::default());
    }
}
