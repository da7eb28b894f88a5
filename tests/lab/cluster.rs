//! Firewalls with ctsyncd on each, and the questions that tests ask of them.

use std::path::Path;
use std::time::Duration;

use crate::harness::services::{Ctsyncd, Link, ctsyncd_config};
use crate::harness::table::{Table, assert_equal, differences, kernel, parse};
use crate::harness::topology::{Lab, Node};
use crate::harness::wait::await_until;
use crate::harness::{Context as _, Result, ensure};

/// How long two tables may take to become equal.
pub(crate) const CONVERGE: Duration = Duration::from_secs(10);

/// The program under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ctsyncd"))
}

/// The network, and a daemon on each firewall that has not been killed. Daemons end first.
#[derive(Debug)]
pub(crate) struct Cluster {
    daemons: Vec<Option<Ctsyncd>>,
    configs: Vec<String>,
    lab: Lab,
}

impl Cluster {
    /// Starts `count` firewalls that replicate to each other over `link`; `more` is appended to
    /// their configuration.
    pub(crate) fn start(count: u8, link: Link, more: &str) -> Result<Self> {
        let lab = Lab::new(count)?;
        let configs: Vec<_> = lab
            .nodes()
            .iter()
            .map(|node| ctsyncd_config(node, lab.nodes(), link, more))
            .collect();
        let mut cluster = Self {
            daemons: (0..count).map(|_| None).collect(),
            configs,
            lab,
        };
        for index in 1..=usize::from(count) {
            cluster.start_daemon(index)?;
        }
        cluster.await_sessions()?;
        Ok(cluster)
    }

    /// Replaces a daemon by one whose configuration has `to` in the place of `from`.
    pub(crate) fn restart_with(&mut self, index: usize, from: &str, to: &str) -> Result<()> {
        let config = &mut self.configs[index - 1];
        ensure!(config.contains(from), "{from:?} is in {config}");
        *config = config.replace(from, to);
        self.kill_daemon(index)?;
        self.start_daemon(index)
    }

    /// The network.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Firewall `index`, from 1.
    pub(crate) fn node(&self, index: usize) -> &Node {
        self.lab.node(index)
    }

    /// The daemon of firewall `index`, from 1.
    pub(crate) fn daemon(&self, index: usize) -> &Ctsyncd {
        self.daemons[index - 1]
            .as_ref()
            .expect("the test has not killed it")
    }

    /// Kills a daemon as a crash would.
    pub(crate) fn kill_daemon(&mut self, index: usize) -> Result<()> {
        self.daemons[index - 1].take().context("it runs")?.kill()
    }

    /// Ends a daemon as systemd would.
    pub(crate) fn stop_daemon(&mut self, index: usize) -> Result<()> {
        drop(self.daemons[index - 1].take().context("it runs")?);
        Ok(())
    }

    /// Starts a daemon, also one that was killed.
    pub(crate) fn start_daemon(&mut self, index: usize) -> Result<()> {
        let daemon = Ctsyncd::start(binary(), self.lab.node(index), &self.configs[index - 1])?;
        self.daemons[index - 1] = Some(daemon);
        Ok(())
    }

    /// Waits until every daemon streams to every other.
    pub(crate) fn await_sessions(&self) -> Result<()> {
        for index in 1..=self.daemons.len() {
            for peer in self.lab.nodes() {
                if self.node(index).name != peer.name {
                    self.daemon(index).await_streaming(&peer.name)?;
                }
            }
        }
        Ok(())
    }

    /// The local cache of firewall `index`.
    pub(crate) fn local(&self, index: usize) -> Result<Table> {
        parse(&self.daemon(index).dump("local")?)
    }

    /// All replicas of firewall `index`.
    pub(crate) fn replica(&self, index: usize) -> Result<Table> {
        parse(&self.daemon(index).dump("replica")?)
    }

    /// Waits until the local cache of `index` is what its kernel says; panics with what differs.
    pub(crate) fn await_mirror(&self, index: usize, slack: Option<u64>) -> Result<()> {
        let namespace = self.node(index).namespace();
        let look = || Ok((kernel(namespace)?, self.local(index)?));
        await_equal(("the kernel", "the local cache"), slack, look)
    }

    /// Waits until `holder` holds exactly what the others track; panics with what differs.
    pub(crate) fn await_replicas(&self, holder: usize) -> Result<()> {
        let look = || {
            let mut union = Table::new();
            for index in (1..=self.daemons.len()).filter(|&index| index != holder) {
                union.extend(self.local(index)?);
            }
            Ok((union, self.replica(holder)?))
        };
        await_equal(("the others", "the replica"), None, look)
    }
}

/// Waits until two tables are equal; panics with what differs when they do not become so.
pub(crate) fn await_equal(
    names: (&str, &str),
    slack: Option<u64>,
    mut look: impl FnMut() -> Result<(Table, Table)>,
) -> Result<()> {
    let equal = await_until("two tables become equal", CONVERGE, || {
        let (left, right) = look()?;
        Ok(differences((names.0, &left), (names.1, &right), slack).is_empty())
    });
    if equal.is_err() {
        let (left, right) = look()?;
        assert_equal((names.0, &left), (names.1, &right), slack);
    }
    equal
}
