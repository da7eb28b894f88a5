//! `[gate]`: where it stands, and what passes it when it is closed.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::file::File;
use super::links::interface_name;
use super::replicate::network;
use super::settings::GateSettings;
use super::settle::{Check, secs};
use super::units::Period;

/// Interfaces: more are a mistake, and each is closed anew several times a second.
const INTERFACES_MAX: usize = 64;
/// Networks: each is a rule that every packet of a closed gate is compared with.
const ALLOW_MAX: usize = 64;
/// Below, a busy machine opens it by accident; above, a dead daemon is an outage.
const TIMEOUT: RangeInclusive<Period> = secs(1)..=secs(60);
/// Below, no commit is done; above, it is an outage in which nobody waits for flows.
const OPEN_AFTER: RangeInclusive<Period> = Period(Duration::from_millis(100))..=secs(300);

/// Settles the section; `None` without interfaces.
pub(super) fn settle(file: &File, check: &mut Check<'_>) -> Option<GateSettings> {
    let section = file.gate.as_ref()?;
    let given = section.get_ref();
    let timeout = check.period("timeout", &given.timeout, &TIMEOUT);
    let open_after = check.period("open_after", &given.open_after, &OPEN_AFTER);
    let allow: Vec<_> = given.allow.as_ref().map_or_else(Vec::new, |allow| {
        let nets = allow.get_ref();
        if let Some(excess) = nets.get(ALLOW_MAX) {
            let message = format!("allow: more than {ALLOW_MAX} networks");
            check.report.error(excess.span(), message);
        }
        let settled = nets.iter().filter_map(|one| match network(one.get_ref()) {
            Ok(net) => Some(net),
            Err((reason, help)) => {
                let message = format!("allow: {reason}");
                check.report.error_help(one.span(), message, help);
                None
            }
        });
        settled.collect()
    });
    let Some(names) = &given.interfaces else {
        if !check.broken.option("gate", 0, "interfaces") {
            let message = "[gate] has no interfaces: where does it stand?";
            let help = "name those that carry forwarded traffic: interfaces = [\"eth0\", \"eth1\"]; \
                        or leave the section out";
            check.report.error_help(section.span(), message, help);
        }
        return None;
    };
    let interfaces = interfaces(names.get_ref(), check);
    if names.get_ref().is_empty() {
        return None;
    }
    let mode = file
        .standby
        .as_ref()
        .and_then(|one| one.get_ref().mode.as_ref());
    if mode.is_some_and(|mode| mode.get_ref().eq_ignore_ascii_case("hot")) {
        let message = "[gate] beside [standby] mode = \"hot\"";
        let help = "a hot standby holds the flows in its kernel all along, so there is nothing to \
                    wait for, and a gate would drop what it could forward: leave [gate] out";
        check.report.error_help(names.span(), message, help);
    }
    Some(GateSettings {
        interfaces,
        allow,
        timeout: timeout.unwrap_or(GateSettings::TIMEOUT),
        open_after: open_after.unwrap_or(GateSettings::OPEN_AFTER),
    })
}

fn interfaces(names: &[Spanned<String>], check: &mut Check<'_>) -> Vec<String> {
    if let Some(excess) = names.get(INTERFACES_MAX) {
        let message = format!("interfaces: more than {INTERFACES_MAX}");
        check.report.error(excess.span(), message);
    }
    let mut interfaces: Vec<String> = Vec::with_capacity(names.len());
    for given in names {
        let Some(name) = interface_name(given, check) else {
            continue;
        };
        if name == "lo" {
            let message = "interfaces: lo carries no forwarded traffic";
            check
                .report
                .error_help(given.span(), message, "leave it out");
        } else if interfaces.contains(&name) {
            let message = format!("interfaces: {name:?} is in the list twice");
            check.report.error(given.span(), message);
        } else {
            interfaces.push(name);
        }
    }
    interfaces
}
