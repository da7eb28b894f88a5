//! The three ways to replicate, or not, behind one face for the story.

use std::path::Path;

use serde_json::Value;

use super::Peer;
use super::harness::Result;
use super::harness::peer::{self, Conntrackd};
use super::harness::services::{self, Ctsyncd, Link, Notify, number};
use super::harness::topology::{Lab, Node};

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

    /// What fw2 did when it was told to take over, in words.
    pub(crate) fn takeover(&self) -> Result<String> {
        Ok(match self {
            Self::Ctsyncd([_, two]) => committed(&two.status()?),
            Self::Conntrackd { .. } => "fw2's kernel has the flows (conntrackd -c)".to_owned(),
            Self::None => "fw2's kernel never has the flows: nobody told it".to_owned(),
        })
    }
}

/// The outcome of the last commit, from a status.
fn committed(status: &Value) -> String {
    let commit = |field: &str| number(status, &format!("/commit/{field}")).unwrap_or(0);
    let failed: u64 = status["commit"]["failed"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|failed| failed["flows"].as_u64())
        .sum();
    let mut text = format!(
        "fw2's kernel has the flows: commit took {} ms, {} created",
        commit("elapsed_ms"),
        commit("created")
    );
    for (flows, what) in [
        (commit("replaced"), "replaced"),
        (commit("already"), "already right"),
        (failed, "failed"),
    ] {
        if flows > 0 {
            text.push_str(&format!(", {flows} {what}"));
        }
    }
    text
}
