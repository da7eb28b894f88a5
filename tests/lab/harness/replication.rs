//! What replicates between two firewalls, or nothing, behind one face: for the demo and the benches
//! that compare.

use std::path::Path;

use super::Result;
use super::peer::{self, Conntrackd};
use super::services::{self, Ctsyncd, Link, Notify};
use super::topology::{Lab, Node};

/// What to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What<'a> {
    /// ctsyncd.
    Ctsyncd {
        /// The program.
        binary: &'a Path,
        /// Further lines of its configuration.
        more: &'a str,
    },
    /// conntrackd.
    Conntrackd,
    /// Nothing.
    Nothing,
}

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
    Nothing,
}

/// What the firewalls know of the flows at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Entries of the kernels: of the node that tracks, and of the one that holds.
    pub(crate) kernel: [u64; 2],
    /// What the one has told of its flows, as it sees it.
    pub(crate) told: u64,
    /// What the other holds of them.
    pub(crate) held: u64,
}

impl Replication {
    /// Starts it on both firewalls.
    pub(crate) fn start(lab: &Lab, what: What<'_>) -> Result<Self> {
        let (one, two) = (lab.node(1), lab.node(2));
        match what {
            What::Ctsyncd { binary, more } => {
                let start = |node: &Node| {
                    let config = services::ctsyncd_config(node, lab.nodes(), Link::Multicast, more);
                    Ctsyncd::start(binary, node, &config)
                };
                Ok(Self::Ctsyncd([start(one)?, start(two)?]))
            }
            What::Conntrackd => Ok(Self::Conntrackd {
                _running: [
                    Conntrackd::start(one, false)?,
                    Conntrackd::start(two, false)?,
                ],
            }),
            What::Nothing => Ok(Self::Nothing),
        }
    }

    /// Whom keepalived tells.
    pub(crate) fn notify(&self) -> Notify {
        match self {
            Self::Ctsyncd(_) => Notify::Ctsyncd,
            Self::Conntrackd { .. } => Notify::Script,
            Self::Nothing => Notify::Nobody,
        }
    }

    /// The `ctsyncd` of firewall `index`, 1 or 2, if that is what runs.
    pub(crate) fn ctsyncd(&self, index: usize) -> Option<&Ctsyncd> {
        match self {
            Self::Ctsyncd(daemons) => daemons.get(index - 1),
            Self::Conntrackd { .. } | Self::Nothing => None,
        }
    }

    /// Asks both firewalls about the flows of number `of`, 1 or 2, and about what the other one holds
    /// of them.
    pub(crate) fn counts(&self, lab: &Lab, of: usize) -> Result<Counts> {
        let (of, holder) = (of, 3 - of);
        let (source, standby) = (lab.node(of), lab.node(holder));
        let kernel = [
            source.namespace().flow_count()?,
            standby.namespace().flow_count()?,
        ];
        let (told, held) = match self {
            Self::Ctsyncd(daemons) => (
                daemons[of - 1].local_flows()?,
                daemons[holder - 1].replica_flows(&source.name)?,
            ),
            Self::Conntrackd { .. } => (
                peer::counts(source)?.internal,
                peer::counts(standby)?.external,
            ),
            Self::Nothing => (kernel[0], 0),
        };
        Ok(Counts { kernel, told, held })
    }
}
