//! The three ways to replicate, or not, behind one face for the story.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::Peer;
use super::harness::peer::{self, Conntrackd};
use super::harness::services::{self, Ctsyncd, Link, Notify, number};
use super::harness::topology::{Lab, Node};
use super::harness::{Context as _, Result};

/// What runs on both firewalls.
#[derive(Debug)]
pub(crate) enum Replication {
    /// ctsyncd on fw1 and fw2.
    Ctsyncd([Ctsyncd; 2]),
    /// conntrackd on fw1 and fw2.
    Conntrackd {
        /// They only have to stay alive.
        _running: [Conntrackd; 2],
    },
    /// Nothing.
    None,
}

/// What the firewalls know of the flows at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Entries of fw1's kernel.
    pub(crate) kernel: [u64; 2],
    /// What fw1 has told of its flows, as it sees it.
    pub(crate) told: u64,
    /// What fw2 holds of them.
    pub(crate) held: u64,
}

/// How the flows came into the kernel of fw2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Takeover {
    /// When it was complete, since the cut.
    pub(crate) after: Option<Duration>,
    /// In words.
    pub(crate) what: String,
}

impl Replication {
    /// Starts it on both firewalls.
    pub(crate) fn start(lab: &Lab, kind: Peer, binary: &Path) -> Result<Self> {
        let (one, two) = (lab.node(1), lab.node(2));
        match kind {
            Peer::Ctsyncd => {
                let start = |node: &Node| {
                    let config = services::ctsyncd_config(node, lab.nodes(), Link::Multicast, "");
                    Ctsyncd::start(binary, node, &config)
                };
                Ok(Self::Ctsyncd([start(one)?, start(two)?]))
            }
            Peer::Conntrackd => Ok(Self::Conntrackd {
                _running: [
                    Conntrackd::start(one, false)?,
                    Conntrackd::start(two, false)?,
                ],
            }),
            Peer::None => Ok(Self::None),
        }
    }

    /// Whom keepalived tells.
    pub(crate) fn notify(&self) -> Notify {
        match self {
            Self::Ctsyncd(_) => Notify::Ctsyncd,
            Self::Conntrackd { .. } => Notify::Script,
            Self::None => Notify::Nobody,
        }
    }

    /// Asks both firewalls.
    pub(crate) fn counts(&self, lab: &Lab) -> Result<Counts> {
        let kernel = [
            lab.node(1).namespace().flow_count()?,
            lab.node(2).namespace().flow_count()?,
        ];
        let (told, held) = match self {
            Self::Ctsyncd([one, two]) => (one.local_flows()?, two.replica_flows("fw1")?),
            Self::Conntrackd { .. } => (
                peer::counts(lab.node(1))?.internal,
                peer::counts(lab.node(2))?.external,
            ),
            Self::None => (kernel[0], 0),
        };
        Ok(Counts { kernel, told, held })
    }

    /// What fw2 did when it was told to take over.
    pub(crate) fn takeover(
        &self,
        lab: &Lab,
        cut: Instant,
        cut_clock: SystemTime,
    ) -> Result<Takeover> {
        match self {
            Self::Ctsyncd([_, two]) => ctsyncd_takeover(two, cut),
            Self::Conntrackd { .. } => Ok(Takeover {
                after: conntrackd_step(lab.node(2), cut_clock)?,
                what: "commit done by conntrackd -c".to_owned(),
            }),
            Self::None => Ok(Takeover {
                after: None,
                what: "nothing is committed: nothing was replicated".to_owned(),
            }),
        }
    }
}

/// The commit's outcome from the status; its end from the daemon's own log line.
fn ctsyncd_takeover(daemon: &Ctsyncd, cut: Instant) -> Result<Takeover> {
    let status = daemon.status()?;
    let commit = |field: &str| number(&status, &format!("/commit/{field}")).unwrap_or(0);
    let failed: u64 = status["commit"]["failed"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|failed| failed["flows"].as_u64())
        .sum();
    let what = format!(
        "commit done in {} ms: {} flows, {} created, {} replaced, {} already right, {failed} failed",
        commit("elapsed_ms"),
        commit("total"),
        commit("created"),
        commit("replaced"),
        commit("already"),
    );
    let line = ["commit complete", "commit done", "committed", "promoted"]
        .iter()
        .find_map(|text| daemon.process().find(text, cut));
    Ok(Takeover {
        after: line.map(|line| line.at - cut),
        what,
    })
}

fn conntrackd_step(node: &Node, cut: SystemTime) -> Result<Option<Duration>> {
    let Some(nanos) = peer::step(node, "committed") else {
        return Ok(None);
    };
    let cut = cut.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let after = u64::try_from(nanos.saturating_sub(cut)).context("a step in this century")?;
    Ok(Some(Duration::from_nanos(after)))
}
