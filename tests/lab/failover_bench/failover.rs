//! One failover: the active firewall loses all its cables.

use super::ftp::Sessions;
use super::harness::Result;
use super::report::{Kinds, Row};
use super::site::Site;
use super::{Arguments, Mode};

/// Builds a pair, kills its active node and counts.
pub(crate) fn measure(arguments: &Arguments, mode: Mode, flows: u32) -> Result<Row> {
    let site = Site::build(arguments, mode, flows)?;
    let transfers = match arguments.without_ftp {
        true => None,
        false => Some(Sessions::open(&site.lab)?.begin(&site.lab)?),
    };
    site.await_agreement(1)?;
    let cut = site.cut(1)?;
    if let Some(transfers) = &transfers {
        transfers.mark();
    }
    let [tcp4, tcp6, udp] = site.settle()?;
    let times = site.times(&cut, 2)?;
    let ftp = match transfers {
        Some(transfers) => Some(transfers.settle(&site.lab, site.time_to_return())?),
        None => None,
    };
    let kinds = Kinds {
        tcp4,
        tcp6,
        udp: Some(udp),
        ftp,
    };
    Ok(Row::new("failover", mode, flows, arguments.ruleset, kinds).with_times(times))
}
