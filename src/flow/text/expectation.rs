//! An expectation as the line of `conntrack -L expect`, and as a JSON object.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::json::{MasterJson, TupleJson};
use super::{Ids, protocol_name};
use crate::flow::{Expectation, Family, Tuple};

/// `NF_CT_EXPECT_*` of include/uapi/linux/netfilter/nf_conntrack_common.h and their names.
const FLAGS: [(u32, &str); 3] = [(1, "PERMANENT"), (2, "INACTIVE"), (4, "USERSPACE")];

/// Appends the line of an expectation, without a line break; `timeout_left_secs` is what is left of
/// its timeout now.
///
/// After what conntrack 1.4.7 prints come the translation and the zone, which it does not show.
pub fn write_expectation(out: &mut String, expectation: &Expectation, timeout_left_secs: u32) {
    write_fields(out, expectation, timeout_left_secs).expect("a String takes all that is written");
}

fn write_fields(out: &mut String, expectation: &Expectation, left: u32) -> fmt::Result {
    let Expectation { tuple, master, .. } = expectation;
    write!(out, "{left} proto={} ", tuple.protocol)?;
    write_tuple(out, "", tuple)?;
    write_tuple(out, "mask-", &expectation.mask.as_tuple(tuple))?;
    write_tuple(out, "master-", master)?;
    let mut flags = FLAGS.iter().filter(|(bit, _)| expectation.flags & bit != 0);
    if let Some((_, first)) = flags.next() {
        out.write_str(first)?;
        for (_, name) in flags {
            write!(out, ",{name}")?;
        }
        out.write_str(" ")?;
    }
    write!(out, "class={}", expectation.class)?;
    if let Some(helper) = &expectation.helper {
        write!(out, " helper={}", helper.as_str())?;
    }
    if let Some(function) = &expectation.function {
        write!(out, " fn={}", function.as_str())?;
    }
    if let Some(nat) = &expectation.nat {
        let source = nat_source(expectation, nat.address, nat.id);
        write!(out, " nat-dir={} nat-", nat.direction)?;
        write!(out, "src={}", super::Address(source.src_ip()))?;
        if source.has_ports() {
            write!(out, " nat-sport={}", source.src_id)?;
        }
    }
    if expectation.zone != 0 {
        write!(out, " zone={}", expectation.zone)?;
    }
    Ok(())
}

fn write_tuple(out: &mut String, prefix: &str, tuple: &Tuple) -> fmt::Result {
    let (src, dst) = (
        super::Address(tuple.src_ip()),
        super::Address(tuple.dst_ip()),
    );
    write!(out, "{prefix}src={src} {prefix}dst={dst} ")?;
    match Ids::of(tuple) {
        Ids::Ports { sport, dport } => write!(out, "sport={sport} dport={dport} "),
        Ids::Icmp {
            icmp_type,
            code,
            id,
        } => write!(out, "type={icmp_type} code={code} id={id} "),
        Ids::Keys { srckey, dstkey } => write!(out, "srckey=0x{srckey:x} dstkey=0x{dstkey:x} "),
        Ids::None {} => Ok(()),
    }
}

fn nat_source(expectation: &Expectation, address: [u8; 16], id: u16) -> Tuple {
    Tuple {
        src: address,
        src_id: id,
        ..expectation.tuple
    }
}

/// An expectation as a JSON object. The names of the fields are an interface: they are added to,
/// never renamed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ExpectationJson {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Of the expected flow.
    pub protocol: &'static str,
    /// `IPPROTO_*`.
    pub protocol_number: u8,
    /// Seconds left.
    pub timeout: u32,
    /// The original direction of the expected flow, where `mask` counts.
    pub tuple: TupleJson,
    /// Which bits of `tuple` must match.
    pub mask: TupleJson,
    /// The original direction of the flow that expects.
    pub master: MasterJson,
    /// Zone; 0 is the default zone.
    pub zone: u16,
    /// What the translation is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatJson>,
    /// Class.
    pub class: u32,
    /// `NF_CT_EXPECT_*` bits.
    pub flags: u32,
    /// Helper of the flow that expects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// What sets the expected flow up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// `CTA_EXPECT_NAT`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NatJson {
    /// 0: the way of the master, 1: the other.
    pub direction: u32,
    /// Address before the translation.
    pub src: String,
    /// Port, or its like, before the translation.
    pub sport: u16,
}

impl ExpectationJson {
    /// Puts an expectation; `timeout_left_secs` is what is left of its timeout now.
    #[must_use]
    pub fn new(expectation: &Expectation, timeout_left_secs: u32) -> Self {
        let tuple = &expectation.tuple;
        Self {
            family: match tuple.family {
                Family::V4 => "ipv4",
                Family::V6 => "ipv6",
            },
            protocol: protocol_name(tuple.protocol),
            protocol_number: tuple.protocol,
            timeout: timeout_left_secs,
            tuple: TupleJson::new(tuple),
            mask: TupleJson::new(&expectation.mask.as_tuple(tuple)),
            master: MasterJson::new(&expectation.master),
            zone: expectation.zone,
            nat: expectation.nat.map(|nat| {
                let source = nat_source(expectation, nat.address, nat.id);
                NatJson {
                    direction: nat.direction,
                    src: super::Address(source.src_ip()).to_string(),
                    sport: nat.id,
                }
            }),
            class: expectation.class,
            flags: expectation.flags,
            helper: expectation.helper.map(|name| name.as_str().to_owned()),
            function: expectation.function.map(|name| name.as_str().to_owned()),
        }
    }
}
