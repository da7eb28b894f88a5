//! Two firewalls with the same daemon on both, and how to ask either kind the same questions. fw1 has
//! the flows, fw2 their replica.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::harness::peer::{self, Conntrackd};
use super::harness::services::{self, Ctsyncd, Link, ctsyncd_config};
use super::harness::topology::{Lab, Node};
use super::harness::wait::{await_some, await_until};
use super::harness::{Context as _, Result, bail};
use super::report::Who;

/// The firewall that has the flows.
pub(crate) const SENDER: usize = 1;
/// The firewall that holds their replica.
pub(crate) const RECEIVER: usize = 2;

#[derive(Debug)]
enum Daemons {
    Ctsyncd([Ctsyncd; 2]),
    Conntrackd([Conntrackd; 2]),
}

/// What a daemon has counted since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Events read from the kernel.
    pub(crate) events: u64,
    /// Times at which the kernel told of events that it had to drop.
    pub(crate) overruns: u64,
    /// Records sent to the other node. conntrackd does not count them: its events.
    pub(crate) records: u64,
}

/// A laboratory of two firewalls on which a pair runs. The daemons end first.
#[derive(Debug)]
pub(crate) struct Pair {
    daemons: Daemons,
    lab: Lab,
}

/// Two firewalls on which nothing runs yet. The kernel tells of every flow, whether or not somebody
/// listened when it was born.
pub(crate) fn lab() -> Result<Lab> {
    let lab = Lab::new(2)?;
    for node in lab.nodes() {
        let events = [("net/netfilter/nf_conntrack_events", "1")];
        node.namespace().sysctl(&events)?;
    }
    Ok(lab)
}

impl Pair {
    /// Starts the daemons of `who` on two new firewalls, everything replicated over one multicast
    /// group, sealed where the daemon can, and waits until they know each other.
    pub(crate) fn start(who: Who, binary: &Path) -> Result<Self> {
        Self::start_with(who, binary, "")
    }

    /// The same with further lines in ctsyncd's configuration.
    pub(crate) fn start_with(who: Who, binary: &Path, more: &str) -> Result<Self> {
        Self::start_on(lab()?, who, binary, more)
    }

    /// Starts daemons whose standby writes what it hears into its kernel at once: ctsyncd's hot standby,
    /// conntrackd without its external cache.
    pub(crate) fn start_hot(who: Who, binary: &Path) -> Result<Self> {
        let lab = lab()?;
        if who == Who::Ctsyncd {
            let pair = Self::start_on(lab, who, binary, "[standby]\nmode = \"hot\"")?;
            // Copies are kept of what an active has.
            let sender = pair.ctsyncd(SENDER).context("it was just started")?;
            sender.ask(&["promote"])?;
            return Ok(pair);
        }
        let start = |node| Conntrackd::start_with(node, true, "DisableExternalCache On");
        let daemons = Daemons::Conntrackd([start(lab.node(SENDER))?, start(lab.node(RECEIVER))?]);
        Ok(Self { daemons, lab })
    }

    /// The same on a laboratory that is there.
    pub(crate) fn start_on(lab: Lab, who: Who, binary: &Path, more: &str) -> Result<Self> {
        let [one, two] = [SENDER, RECEIVER].map(|index| lab.node(index));
        let daemons = match who {
            Who::Ctsyncd => {
                let start = |node: &Node| {
                    let config = ctsyncd_config(node, lab.nodes(), Link::Multicast, more);
                    Ctsyncd::start(binary, node, &config)
                };
                Daemons::Ctsyncd([start(one)?, start(two)?])
            }
            Who::Conntrackd => {
                let start = |node| Conntrackd::start(node, true);
                Daemons::Conntrackd([start(one)?, start(two)?])
            }
            Who::Limit => bail!("a limit is no daemon"),
        };
        if let Daemons::Ctsyncd([first, second]) = &daemons {
            first.await_streaming(&two.name)?;
            second.await_streaming(&one.name)?;
        }
        Ok(Self { daemons, lab })
    }

    /// The network.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Firewall `index`, from 1.
    pub(crate) fn node(&self, index: usize) -> &Node {
        self.lab.node(index)
    }

    /// The daemon of firewall `index`, if it is ctsyncd.
    pub(crate) fn ctsyncd(&self, index: usize) -> Option<&Ctsyncd> {
        match &self.daemons {
            Daemons::Ctsyncd(daemons) => Some(&daemons[index - 1]),
            Daemons::Conntrackd(_) => None,
        }
    }

    /// Process id of the daemon of firewall `index`.
    pub(crate) fn pid(&self, index: usize) -> u32 {
        match &self.daemons {
            Daemons::Ctsyncd(daemons) => daemons[index - 1].process().id(),
            Daemons::Conntrackd(daemons) => daemons[index - 1].process().id(),
        }
    }

    /// Flows that fw1's daemon knows as its own.
    pub(crate) fn tracked(&self) -> Result<u64> {
        match &self.daemons {
            Daemons::Ctsyncd([sender, _]) => sender.local_flows(),
            Daemons::Conntrackd(_) => Ok(peer::counts(self.node(SENDER))?.internal),
        }
    }

    /// Flows of fw1 that fw2 holds.
    pub(crate) fn held(&self) -> Result<u64> {
        match &self.daemons {
            Daemons::Ctsyncd([_, receiver]) => receiver.replica_flows(&self.node(SENDER).name),
            Daemons::Conntrackd(_) => Ok(peer::counts(self.node(RECEIVER))?.external),
        }
    }

    /// Waits until both sides have exactly `flows` flows of fw1 and nothing that is known to wait.
    pub(crate) fn await_held(&self, flows: u64, limit: Duration) -> Result<()> {
        let is_done = || -> Result<bool> {
            Ok(self.tracked()? == flows && self.held()? == flows && self.has_sent_all()?)
        };
        let what = format!("fw2 holds the {flows} flows of fw1");
        await_until(&what, limit, is_done)
            .with_context(|| format!("{:?} tracked, {:?} held", self.tracked(), self.held()))
    }

    /// Waits until fw1 has read `events` events since `before` or tells that it lost some, both sides
    /// agree on the number of flows, and nothing is known to wait: a load has passed through, and what
    /// was counted belongs to it. Yields what was counted meanwhile.
    pub(crate) fn await_passed(
        &self,
        before: Counts,
        events: u64,
        limit: Duration,
    ) -> Result<Counts> {
        await_some("the load has passed through", limit, || {
            let now = self.counts(SENDER)?.since(before);
            let is_read = now.events >= events || now.overruns > 0;
            let is_held = is_read && self.has_sent_all()? && self.tracked()? == self.held()?;
            Ok(is_held.then_some(now))
        })
        .with_context(|| format!("{:?} tracked, {:?} held", self.tracked(), self.held()))
    }

    fn has_sent_all(&self) -> Result<bool> {
        let Daemons::Ctsyncd([sender, _]) = &self.daemons else {
            return Ok(true);
        };
        let status = sender.status()?;
        let peer = services::peer(&status, &self.node(RECEIVER).name);
        Ok(peer.is_some_and(|peer: &Value| peer["lag_records"] == 0))
    }

    /// What the daemon of firewall `index` has counted.
    pub(crate) fn counts(&self, index: usize) -> Result<Counts> {
        let node = self.node(index);
        match &self.daemons {
            Daemons::Ctsyncd(daemons) => {
                let text = daemons[index - 1].ask(&["stats"])?;
                let count = |name: &str| counter(&text, |line| line.strip_prefix(name));
                Ok(Counts {
                    events: count("reader.events ")?,
                    overruns: count("reader.overruns ")?,
                    records: records(&text),
                })
            }
            Daemons::Conntrackd(_) => {
                let text = peer::ask(node, &["-s", "runtime"])?;
                let count = |name: &str| counter(&text, |line| line.strip_prefix(name));
                let events = count("events received:")?;
                Ok(Counts {
                    events,
                    overruns: count("netlink overrun:")?,
                    records: events,
                })
            }
        }
    }
}

impl Counts {
    /// What was counted since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            events: self.events.saturating_sub(before.events),
            overruns: self.overruns.saturating_sub(before.overruns),
            records: self.records.saturating_sub(before.records),
        }
    }
}

/// The first number after a name, in a text of one counter a line.
fn counter<'a>(text: &'a str, name: impl Fn(&'a str) -> Option<&'a str>) -> Result<u64> {
    let rest = text.lines().find_map(|line| name(line.trim()));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(word
        .with_context(|| format!("a counter in {text}"))?
        .parse()?)
}

/// `peer.NAME.sent.records` of all peers.
fn records(stats: &str) -> u64 {
    let of_peer = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let is_meant = name.starts_with("peer.") && name.ends_with(".sent.records");
        is_meant.then(|| words.next()?.parse::<u64>().ok())?
    };
    stats.lines().filter_map(of_peer).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "  netlink stats:\n\tevents received:\t\t\t  17\n\tnetlink overrun: 2\n";
        let count = |name: &str| counter(text, |line| line.strip_prefix(name)).ok();
        assert_eq!(count("events received:"), Some(17));
        assert_eq!(count("netlink overrun:"), Some(2));
        assert_eq!(count("events lost:"), None);
        let stats = "peer.fw2.sent.records 5\npeer.fw3.sent.records 6\npeer.fw2.sent.bytes 900\n";
        assert_eq!(records(stats), 11);
    }
}
