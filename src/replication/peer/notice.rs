//! What an operator should hear about a peer.

use std::time::Duration;

use crate::replication::ReconcileCounters;
use crate::wire::seal::SealError;
use crate::wire::{Epoch, Name};

/// Something an operator should hear about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerNotice {
    /// A session began: the peer is new, or it or we have restarted.
    SessionStarted {
        /// The peer.
        name: Name,
        /// Its run.
        epoch: Epoch,
    },
    /// A marker proved the replica equal after it was not, or for the first time.
    InSync {
        /// The peer.
        name: Name,
        /// Flows.
        flows: u64,
    },
    /// A marker found the replica different.
    Different {
        /// The peer.
        name: Name,
    },
    /// Our replica at a peer was found different, and what differs has been found and is sent.
    Reconciled {
        /// The peer.
        name: Name,
        /// What it took and did; `unanswered` if the peer did not answer to the end.
        cost: ReconcileCounters,
        /// How long it took.
        took: Duration,
    },
    /// Our replica at a peer still differs, whatever was done about it.
    Unrepaired {
        /// The peer.
        name: Name,
        /// Attempts in a row.
        attempts: u32,
        /// Time until the next.
        wait: Duration,
    },
    /// The peer speaks other versions of the protocol.
    Incompatible {
        /// The peer.
        name: Name,
        /// Lowest and highest version it speaks.
        versions: (u8, u8),
    },
    /// A run that was left has been heard again: two nodes may have this name.
    Retired {
        /// The peer.
        name: Name,
    },
    /// A node was heard and is ignored: there is no room for another peer.
    NoRoom {
        /// The node.
        name: Name,
    },
    /// Somebody is heard who has no key of ours, or we none of theirs.
    Stranger {
        /// Who they say they are.
        name: Name,
        /// What is wrong.
        why: SealError,
    },
    /// Another node has our name.
    DuplicateName {
        /// The name.
        name: Name,
    },
}
