//! What is known of one flow: a hash lookup in the local cache and in each replica, and no listing.

use std::time::Instant;

use super::Engine;
use crate::cache::Secs;
use crate::flow::{Flow, FlowKey, Rare};
use crate::wire::Name;

/// What this node knows of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// As the local cache has it, if it does. A flow that has ended is not there, also while its
    /// tombstone waits for a peer.
    pub local: Option<FoundLocal>,
    /// A word on each peer whose replica is kept, in the order of their names.
    pub replicas: Vec<FoundReplica>,
}

/// A flow as one table has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The flow; its timeout is as the source told it.
    pub flow: Flow,
    /// Its rare attributes.
    pub rare: Rare,
    /// What is left of its timeout.
    pub timeout_left: Secs,
}

/// A flow in the local cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundLocal {
    /// The flow.
    pub entry: Entry,
    /// It goes to the peers. One that does not is younger than policy wants, not worth it, or a
    /// copy of a peer's flow.
    pub replicates: bool,
}

/// What the replica of a peer's flows has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundReplica {
    /// The peer's name.
    pub peer: Name,
    /// The flow, if the replica has it.
    pub entry: Option<Entry>,
}

impl Engine {
    /// Looks a flow up everywhere.
    #[must_use]
    pub fn lookup(&self, now: Instant, key: &FlowKey) -> Found {
        let secs = self.secs(now);
        let local = self.local();
        let found = local.find(key).and_then(|slot| {
            let entry = Entry {
                flow: *local.flow(slot)?,
                rare: local.rare(slot).copied().unwrap_or_default(),
                timeout_left: local.timeout_left(slot, secs),
            };
            let replicates = local.replicates(slot);
            Some(FoundLocal { entry, replicates })
        });
        let mut replicas: Vec<_> = (self.peers().iter())
            .filter_map(|peer| {
                let replica = peer.replica()?;
                let entry = replica.find(key).and_then(|slot| {
                    let (flow, rare) = replica.flow(slot)?;
                    Some(Entry {
                        flow: *flow,
                        rare: rare.copied().unwrap_or_default(),
                        timeout_left: replica.timeout_left(slot, secs),
                    })
                });
                let peer = peer.name();
                Some(FoundReplica { peer, entry })
            })
            .collect();
        replicas.sort_by(|one, other| one.peer.as_str().cmp(other.peer.as_str()));
        Found {
            local: found,
            replicas,
        }
    }
}
