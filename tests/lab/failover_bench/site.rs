//! The pair of firewalls, what runs on it, and what talks through it.

use std::time::{Duration, Instant};

use super::harness::process::Process;
use super::harness::replication::{Counts, Replication, What};
use super::harness::services::{Notify, keepalived};
use super::harness::topology::Lab;
use super::harness::traffic::{Kind, PORT, Spec, Traffic, Which};
use super::harness::wait::{await_some, await_until};
use super::harness::watch::Watch;
use super::harness::{Context as _, Result, bail, bulk, ensure, ftp};
use super::report::Survival;
use super::{Arguments, Mode, Ruleset, Via};

/// How long anything that does not depend on the size of the table may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the connections of a small table get to come back.
const RETURN: Duration = Duration::from_secs(8);

/// Everything that runs. Ends in this order: traffic, keepalived, daemons, network.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) tcp: Traffic,
    pub(crate) udp: Traffic,
    pub(crate) keepalived: [Process; 2],
    pub(crate) replication: Replication,
    pub(crate) lab: Lab,
    /// Flows that the standby must hold, and with it the kernel that took over.
    pub(crate) flows: u64,
}

/// A failover as it was seen from outside, and the time of its parts since the last cable was cut.
#[derive(Debug)]
pub(crate) struct Cut {
    at: Instant,
    filled: Watch,
}

/// When what happened, milliseconds since the cut; `None`: never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// keepalived on the standby said MASTER.
    pub(crate) detected: Option<u64>,
    /// The standby's kernel had all flows; 0 if it had them before.
    pub(crate) filled: Option<u64>,
    /// What the commit took, as ctsyncd tells it; for conntrackd from MASTER to the last flow.
    pub(crate) commit: Option<u64>,
}

impl Site {
    /// Builds it, fw1 active, and waits until fw2 holds everything.
    pub(crate) fn build(arguments: &Arguments, mode: Mode, flows: u32) -> Result<Self> {
        let lab = Lab::new(2)?;
        for node in lab.nodes() {
            if arguments.ruleset == Ruleset::Plain {
                node.load_rules("flush chain inet firewall input")?;
            }
            if !arguments.without_ftp {
                ftp::add_helper(node)?;
            }
        }
        let mut more = mode.config().unwrap_or_default().to_owned();
        // As conf/keepalived.conf names them.
        let told = match (arguments.switchover, arguments.via) {
            (false, Via::Script) => "",
            (true, Via::Script) => "[keepalived]\ntrack_file = \"/run/ctsyncd/track\"\n",
            (false, Via::Fifo) => "[keepalived]\nnotify_fifo = \"/run/ctsyncd/keepalived.fifo\"\n",
            (true, Via::Fifo) => {
                "[keepalived]\ntrack_file = \"/run/ctsyncd/track\"\n\
                 notify_fifo = \"/run/ctsyncd/keepalived.fifo\"\n"
            }
        };
        more.push_str(told);
        let what = match mode {
            Mode::None => What::Nothing,
            Mode::Conntrackd => What::Conntrackd,
            Mode::Cold | Mode::Gate | Mode::Hot => What::Ctsyncd {
                binary: &arguments.binary,
                more: &more,
            },
        };
        ensure!(
            mode.config().is_none() || arguments.binary.is_file(),
            "no {}: build it first (make bench-failover does)",
            arguments.binary.display()
        );
        let replication = Replication::start(&lab, what)?;
        let start = |index: usize| match replication.notify() {
            Notify::Ctsyncd if arguments.via == Via::Fifo => {
                keepalived(lab.node(index), Notify::Fifo)
            }
            notify => keepalived(lab.node(index), notify),
        };
        let first = start(1)?;
        await_until("fw1 takes the addresses", LIMIT, || {
            lab.node(1).has_address()
        })?;
        let second = start(2)?;
        await_until("fw2 becomes standby", LIMIT, || {
            Ok(second.has_said("Entering BACKUP STATE"))
        })?;
        lab.await_path()?;
        bulk::create(lab.node(1).namespace(), 1, flows)?;
        let every = arguments.every();
        let spec = |kind, connections: u16| Spec {
            kind,
            connections: connections.into(),
            every,
        };
        let tcp = Traffic::start(&lab, spec(Kind::Tcp, arguments.connections))?;
        let udp_from = lab.client();
        let udp = Traffic::start_from(&lab, udp_from, PORT, spec(Kind::Udp, arguments.udp))?;
        let flows = u64::from(flows) + u64::from(arguments.connections) + u64::from(arguments.udp);
        let site = Self {
            tcp,
            udp,
            keepalived: [first, second],
            replication,
            lab,
            flows,
        };
        site.await_agreement(1)?;
        Ok(site)
    }

    /// How long a table of this size may take to cross the link.
    pub(crate) fn patience(&self) -> Duration {
        LIMIT + Duration::from_secs(self.flows / 20_000)
    }

    /// How long connections get to come back: longer than the client's own timer waits, and than
    /// anybody's commit of a table of this size takes.
    pub(crate) fn time_to_return(&self) -> Duration {
        RETURN + Duration::from_secs(self.flows / 40_000)
    }

    /// Waits until the other node could take over from number `of`.
    pub(crate) fn await_agreement(&self, of: usize) -> Result<()> {
        let holder = 3 - of;
        let mut last = Counts::default();
        let agreed = await_until("the standby holds the flows", self.patience(), || {
            last = self.replication.counts(&self.lab, of)?;
            let enough = last.held >= self.flows;
            Ok(match &self.replication {
                Replication::Nothing => true,
                // While packets go on, its two counts need not meet.
                Replication::Conntrackd { .. } => enough,
                Replication::Ctsyncd(daemons) => {
                    enough
                        && last.held == last.told
                        && daemons[holder - 1].status()?["ready"] == true
                }
            })
        });
        agreed.with_context(|| format!("fw{of} and fw{holder} do not agree: {last:?}"))
    }

    /// Waits until node `index` has come back as standby.
    pub(crate) fn await_standby(&self, index: usize) -> Result<()> {
        await_until("the node that died is standby again", LIMIT, || {
            let is_standby = match self.replication.ctsyncd(index) {
                Some(daemon) => daemon.status()?["role"] == "standby",
                None => true,
            };
            Ok(is_standby && !self.lab.node(index).has_address()?)
        })
    }

    /// Cuts all cables of node `index`; everything counts from here.
    pub(crate) fn cut(&self, index: usize) -> Result<Cut> {
        let standby = self.lab.node(3 - index).namespace();
        let filled = Watch::start(standby, self.flows)?;
        self.lab.cut(self.lab.node(index))?;
        // Zero is when the last cable is out: what was sent before may still be answered.
        let at = Instant::now();
        self.tcp.mark();
        self.udp.mark();
        Ok(Cut { at, filled })
    }

    /// Waits until every connection is back or dead, and looks what came of them.
    pub(crate) fn settle(&self) -> Result<[Survival; 3]> {
        let limit = self.time_to_return();
        self.tcp.settle(limit)?;
        self.udp.settle(Duration::from_secs(2))?;
        Ok([
            Survival::of(&self.tcp.outcome_of(Which::V4)),
            Survival::of(&self.tcp.outcome_of(Which::V6)),
            Survival::of(&self.udp.outcome()),
        ])
    }

    /// When what happened to the node that took over, number `index`.
    pub(crate) fn times(&self, cut: &Cut, index: usize) -> Result<Times> {
        let since = |at: Instant| millis(at.saturating_duration_since(cut.at));
        let master = self.keepalived[index - 1].find("Entering MASTER STATE", cut.at);
        let detected = master.map(|line| since(line.at));
        let filled = match self.replication {
            Replication::Nothing => None,
            Replication::Ctsyncd(_) | Replication::Conntrackd { .. } => {
                cut.filled.reached().map(since)
            }
        };
        let commit = match self.replication.ctsyncd(index) {
            Some(daemon) => daemon.status()?["commit"]["elapsed_ms"].as_u64(),
            // Nothing to be seen from outside if the flows are there from an earlier failover.
            None => filled
                .filter(|&filled| filled > 0)
                .zip(detected)
                .map(|(filled, detected)| filled.saturating_sub(detected)),
        };
        Ok(Times {
            detected,
            filled,
            commit,
        })
    }

    /// Waits until node `index` has the addresses.
    pub(crate) fn await_addresses(&self, index: usize) -> Result<()> {
        await_some("the addresses move", LIMIT, || {
            if self.lab.node(index).has_address()? {
                return Ok(Some(()));
            }
            if super::wait::is_cancelled() {
                bail!("interrupted");
            }
            Ok(None)
        })
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
