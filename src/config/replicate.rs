//! `[replicate]`: the policy.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;

use super::diagnostic::one_of;
use super::file::{Given, Replicate};
use super::settle::Check;
use super::units::Period;
use crate::flow::filter::{
    Filters, MarkMatch, Networks, PROTOCOL_NAMES, Policy, Protocols, TcpStates,
};
use crate::flow::proto::TCP_STATES;

/// Older flows than a day are rare enough; a longer minimum is a mistake.
const MIN_AGE: RangeInclusive<Period> =
    Period(Duration::ZERO)..=Period(Duration::from_secs(86_400));
/// Numbers of zones, `u16`.
const ZONES: RangeInclusive<i64> = 0..=65_535;

/// Settles the section.
pub(super) fn settle(section: Option<&Spanned<Replicate>>, check: &mut Check<'_>) -> Policy {
    let Some(section) = section.map(Spanned::get_ref) else {
        return Policy::default();
    };
    let filters = filters(section, check);
    if section.all.as_ref().is_some_and(|all| *all.get_ref()) {
        refuse_filters(section, check);
        return Policy::Everything;
    }
    Policy::Filtered(filters)
}

fn filters(section: &Replicate, check: &mut Check<'_>) -> Filters {
    let default = Filters::default();
    let flag = |given: &Given<bool>, default| given.as_ref().map_or(default, |on| *on.get_ref());
    Filters {
        protocols: (section.protocols.as_ref())
            .filter(|given| !given.get_ref().is_empty())
            .map(|given| protocols(given.get_ref(), check)),
        networks: (section.networks.as_ref())
            .filter(|given| !given.get_ref().is_empty())
            .map(|given| networks("networks", given.get_ref(), check)),
        ignore: (section.ignore.as_ref())
            .map(|given| networks("ignore", given.get_ref(), check))
            .unwrap_or_default(),
        zones: (section.zones.as_ref())
            .map(|given| zones(given.get_ref(), check))
            .unwrap_or_default(),
        marks: (section.marks.as_ref())
            .map(|given| marks(given.get_ref(), check))
            .unwrap_or_default(),
        tcp_states: (section.tcp_states.as_ref())
            .map(|given| tcp_states(given, check))
            .unwrap_or_default(),
        assured: flag(&section.assured, default.assured),
        min_age_secs: check
            .period("min_age", &section.min_age, &MIN_AGE)
            .map_or(default.min_age_secs, whole_secs),
        own: flag(&section.own, default.own),
    }
}

/// A filter beside `all = true` would have no effect, which nobody can have meant.
fn refuse_filters(section: &Replicate, check: &mut Check<'_>) {
    let given = [
        ("protocols", section.protocols.as_ref().map(Spanned::span)),
        ("networks", section.networks.as_ref().map(Spanned::span)),
        ("ignore", section.ignore.as_ref().map(Spanned::span)),
        ("zones", section.zones.as_ref().map(Spanned::span)),
        ("marks", section.marks.as_ref().map(Spanned::span)),
        ("tcp_states", section.tcp_states.as_ref().map(Spanned::span)),
        ("assured", section.assured.as_ref().map(Spanned::span)),
        ("min_age", section.min_age.as_ref().map(Spanned::span)),
        ("own", section.own.as_ref().map(Spanned::span)),
    ];
    for (option, span) in given {
        if let Some(span) = span {
            let message = format!("{option} has no effect beside all = true");
            let help = "take one of the two out";
            check.report.error_help(span, message, help);
        }
    }
}

/// Rounded up: a flow must have the whole age.
fn whole_secs(age: Duration) -> u32 {
    let partial = u64::from(age.subsec_nanos() > 0);
    u32::try_from(age.as_secs() + partial).expect("the bounds are below 2^32")
}

fn protocols(given: &[Spanned<String>], check: &mut Check<'_>) -> Protocols {
    let mut numbers = Vec::with_capacity(given.len());
    for one in given {
        match one.get_ref().parse::<u8>() {
            Ok(number) => numbers.push(number),
            Err(_) if one.get_ref().bytes().all(|byte| byte.is_ascii_digit()) => {
                let message = format!("protocols: {:?} is not 0 to 255", one.get_ref());
                check.report.error(one.span(), message);
            }
            Err(_) => numbers.extend(check.word("protocols", one, &PROTOCOL_NAMES)),
        }
    }
    numbers.into_iter().collect()
}

fn networks(option: &str, given: &[Spanned<String>], check: &mut Check<'_>) -> Networks {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for one in given {
        match network(one.get_ref()) {
            Ok(IpNet::V4(net)) => v4.push((net.network(), net.broadcast())),
            Ok(IpNet::V6(net)) => v6.push((net.network(), net.broadcast())),
            Err((reason, help)) => {
                let message = format!("{option}: {reason}");
                check.report.error_help(one.span(), message, help);
            }
        }
    }
    Networks::new(v4, v6)
}

/// A network or a single address; the reason and the advice if it is neither. The crate's own
/// message is the same for every mistake.
pub(super) fn network(text: &str) -> Result<IpNet, (String, String)> {
    const EXAMPLES: &str = "write for example \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.1\"";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let Ok(address) = address.parse::<IpAddr>() else {
        let reason = format!("{text:?} is not a network or an address");
        return Err((reason, EXAMPLES.to_owned()));
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let Some(net) = length
        .parse::<u8>()
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
    else {
        let reason = format!("the prefix length of {text:?} is not 0 to {longest}, as in {family}");
        return Err((reason, EXAMPLES.to_owned()));
    };
    if net.trunc() != net {
        let reason = format!("{text:?} has bits behind its prefix");
        let help = format!(
            "the network is \"{}\", the host is \"{address}\"",
            net.trunc()
        );
        return Err((reason, help));
    }
    Ok(net)
}

fn zones(given: &[Spanned<i64>], check: &mut Check<'_>) -> Vec<u16> {
    let mut zones: Vec<u16> = given
        .iter()
        .filter_map(|one| check.within("zones", one, &ZONES))
        .map(|zone| u16::try_from(zone).expect("within the bounds"))
        .collect();
    zones.sort_unstable();
    zones.dedup();
    zones
}

fn marks(given: &[Spanned<String>], check: &mut Check<'_>) -> Vec<MarkMatch> {
    let mut marks = Vec::with_capacity(given.len());
    for one in given {
        let text = one.get_ref();
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (number(value), number(mask)),
            None => (number(text), Some(u32::MAX)),
        };
        let (Some(value), Some(mask)) = (value, mask) else {
            let message = format!("marks: {text:?} is not a mark");
            let help = "write value/mask or a value, for example \"0x10/0xf0\" or \"7\"";
            check.report.error_help(one.span(), message, help);
            continue;
        };
        if value & !mask != 0 {
            let message =
                format!("marks: {text:?} fits no mark: the value has bits outside of the mask");
            check.report.error(one.span(), message);
            continue;
        }
        marks.push(MarkMatch { value, mask });
    }
    marks
}

/// A number as nft and conntrack take it: decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

fn tcp_states(given: &Spanned<Vec<Spanned<String>>>, check: &mut Check<'_>) -> TcpStates {
    let names: Vec<String> = TCP_STATES[1..]
        .iter()
        .map(|name| name.to_ascii_lowercase())
        .collect();
    let words: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(1..).collect();
    if given.get_ref().is_empty() {
        let names: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        let help = format!(
            "list states, of {}, or leave tcp out of protocols",
            one_of(&names)
        );
        let message = "tcp_states: with no state in the list no TCP flow would replicate";
        check.report.error_help(given.span(), message, help);
    }
    given
        .get_ref()
        .iter()
        .filter_map(|one| check.word("tcp_states", one, &words))
        .collect()
}
