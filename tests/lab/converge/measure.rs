//! What a run is measured by: counters of the daemons, of the interfaces and of the processes, and
//! the proof that two tables are equal.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::meter::{self, WireBytes};
use crate::harness::services::{Ctsyncd, Link, ctsyncd_config, number, peer};
use crate::harness::topology::{Lab, Node};
use crate::harness::wait::await_some;
use crate::harness::{Context as _, Result, ensure};

/// How long a proof may take before the run is given up: longer than the longest wait between two
/// full passes that do not help.
const PATIENCE: Duration = Duration::from_secs(120);

/// Counters by name.
pub(crate) type Counters = BTreeMap<String, u64>;

/// Firewalls with a daemon on each that was not ended. Daemons end first.
#[derive(Debug)]
pub(crate) struct Site {
    daemons: Vec<Option<Ctsyncd>>,
    binary: PathBuf,
    lab: Lab,
}

impl Site {
    /// `count` firewalls on one multicast group, no daemon yet. Flows that are made before there is
    /// one will tell of their end all the same, as those of a daemon's earlier run do: it has set
    /// this sysctl. With the kernel's default only the next scrub would find them gone.
    pub(crate) fn new(count: u8, binary: &Path) -> Result<Self> {
        let lab = Lab::new(count)?;
        for node in lab.nodes() {
            let events = [("net/netfilter/nf_conntrack_events", "1")];
            node.namespace().sysctl(&events)?;
        }
        Ok(Self {
            daemons: (0..count).map(|_| None).collect(),
            binary: binary.to_owned(),
            lab,
        })
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
        let daemon = self.daemons[index - 1].as_ref();
        daemon.expect("the row has started it")
    }

    /// Starts the daemon of firewall `index`.
    pub(crate) fn start(&mut self, index: usize) -> Result<()> {
        self.start_with(index, "")
    }

    /// The same with further lines of configuration.
    pub(crate) fn start_with(&mut self, index: usize, more: &str) -> Result<()> {
        let node = self.lab.node(index);
        let config = ctsyncd_config(node, self.lab.nodes(), Link::Multicast, more);
        self.daemons[index - 1] = Some(Ctsyncd::start(&self.binary, node, &config)?);
        Ok(())
    }

    /// Kills the daemon of firewall `index` as a crash would.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        let daemon = self.daemons[index - 1].take();
        daemon.context("the row has started it")?.kill()
    }

    /// Waits until `holder` has proven, after `since`, that it holds exactly the `flows` flows that
    /// `owner` tracks, and `owner` knows of nothing that it has still to send. Yields how long after
    /// `since` that was; looks every 20 ms, as `wait` does.
    pub(crate) fn await_proof(
        &self,
        owner: usize,
        holder: usize,
        flows: u64,
        since: Instant,
    ) -> Result<Duration> {
        let (owner_name, holder_name) = (&self.node(owner).name, &self.node(holder).name);
        let what = format!("{holder_name} proves that it holds the {flows} flows of {owner_name}");
        await_some(&what, PATIENCE, || {
            let status = self.daemon(holder).status()?;
            let looked = since.elapsed();
            let Some(held) = peer(&status, owner_name) else {
                return Ok(None);
            };
            let is_fresh = held["replica"]["verified_age_ms"]
                .as_u64()
                .is_some_and(|age| Duration::from_millis(age + 1) < looked);
            let is_proven = held["replica"]["in_sync"] == true && is_fresh;
            if !is_proven || number(held, "/replica/flows")? != flows {
                return Ok(None);
            }
            let status = self.daemon(owner).status()?;
            let is_whole = number(&status, "/local/flows")? == flows;
            let is_sent = peer(&status, holder_name).is_some_and(|it| it["lag_records"] == 0);
            Ok((is_whole && is_sent).then_some(looked))
        })
        .with_context(|| self.situation(owner, holder))
    }

    /// What the two say of each other, for a proof that does not come.
    fn situation(&self, owner: usize, holder: usize) -> String {
        let say = |index: usize| {
            let daemon = self.daemon(index);
            let status = daemon.ask(&["status"]).unwrap_or_default();
            let stats = daemon.ask(&["stats"]).unwrap_or_default();
            let name = &self.node(index).name;
            format!("{name} says:\n{status}{stats}{}\n", daemon.process().text())
        };
        format!("{}{}", say(owner), say(holder))
    }

    /// Waits until the daemon of firewall `index` has listed its kernel's table; yields how long
    /// after `since` that was.
    pub(crate) fn await_listing(&self, index: usize, since: Instant) -> Result<Duration> {
        await_some("the kernel's table is listed", PATIENCE, || {
            let status = self.daemon(index).status()?;
            Ok((status["kernel"]["complete"] == true).then(|| since.elapsed()))
        })
    }

    /// Compares the dumps of both sides, flow by flow: a proof must be true.
    pub(crate) fn check_equal(&self, owner: usize, holder: usize, flows: u64) -> Result<()> {
        self.check_union(&[owner], holder, flows)
    }

    /// Compares the local caches of the owners with the replicas of `holder`, flow by flow.
    pub(crate) fn check_union(&self, owners: &[usize], holder: usize, flows: u64) -> Result<()> {
        let mut local = String::new();
        for &owner in owners {
            local.push_str(&self.daemon(owner).ask(&["dump", "local"])?);
        }
        let local = fingerprints(&local);
        let replica = fingerprints(&self.daemon(holder).ask(&["dump", "replica"])?);
        ensure!(
            local.len() as u64 == flows && local == replica,
            "{flows} flows were proven equal, and are not: {} flows in the local cache, {} in the replica",
            local.len(),
            replica.len()
        );
        Ok(())
    }

    /// Everything that is counted at firewall `index`: its daemon's `stats`, and as `wire.sent` and
    /// `wire.received` the bytes of its interface on the sync segment, headers included.
    pub(crate) fn counters(&self, index: usize) -> Result<Counters> {
        let mut counters = Counters::new();
        if self.daemons[index - 1].is_some() {
            for line in self.daemon(index).ask(&["stats"])?.lines() {
                let mut words = line.split_whitespace();
                if let (Some(name), Some(Ok(count))) = (words.next(), words.next().map(str::parse))
                {
                    counters.insert(name.to_owned(), count);
                }
            }
        }
        let wire = WireBytes::of(self.node(index))?;
        counters.insert("wire.received".to_owned(), wire.received);
        counters.insert("wire.sent".to_owned(), wire.sent);
        Ok(counters)
    }

    /// Resident memory of the daemon of firewall `index`, in bytes.
    pub(crate) fn resident_bytes(&self, index: usize) -> Result<u64> {
        meter::resident_bytes(self.daemon(index).process().id())
    }
}

/// What was counted since `before`. A daemon that was started meanwhile begins at 0.
pub(crate) fn since(before: &Counters, after: &Counters) -> Counters {
    let grown = |(name, &count): (&String, &u64)| {
        let start = before.get(name).copied().unwrap_or(0);
        (name.clone(), count.saturating_sub(start))
    };
    after.iter().map(grown).collect()
}

/// One number for each line of a dump, sorted; the ticking timeout, its third word, is left out.
fn fingerprints(dump: &str) -> Vec<u64> {
    let fingerprint = |line: &str| {
        let mut hasher = DefaultHasher::new();
        for (at, word) in line.split_whitespace().enumerate() {
            if at != 2 {
                word.hash(&mut hasher);
            }
        }
        hasher.finish()
    };
    let lines = dump.lines().filter(|line| !line.trim().is_empty());
    let mut numbers: Vec<u64> = lines.map(fingerprint).collect();
    numbers.sort_unstable();
    numbers
}
