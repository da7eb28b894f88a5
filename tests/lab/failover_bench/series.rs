//! Failovers in a row, back and forth: the node that died comes back, is in sync, and then the other
//! one dies.

use super::harness::Result;
use super::report::{Kinds, Report, Row};
use super::site::Site;
use super::{Arguments, Mode};

/// Builds a pair and lets its nodes die in turn; a row for each time, so that what was measured is
/// not lost with a later one.
pub(crate) fn measure(
    arguments: &Arguments,
    mode: Mode,
    flows: u32,
    times: u32,
    report: &mut Report,
) -> Result<()> {
    let site = Site::build(arguments, mode, flows)?;
    let mut active = 1;
    for number in 1..=times {
        super::say(&format!("failover {number} of {times}: fw{active} dies"));
        let cut = site.cut(active)?;
        let [tcp4, tcp6, udp] = site.settle()?;
        let seen = site.times(&cut, 3 - active)?;
        let kinds = Kinds {
            tcp4,
            tcp6,
            udp: Some(udp),
            ftp: None,
        };
        let what = format!("failover {number}");
        report.add(Row::new(&what, mode, flows, arguments.ruleset, kinds).with_times(seen))?;
        if number < times {
            site.lab.heal(site.lab.node(active))?;
            site.await_standby(active)?;
            site.await_agreement(3 - active)?;
        }
        active = 3 - active;
    }
    Ok(())
}
