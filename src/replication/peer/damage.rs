//! Damage to a replica, for simulations: what a defect, or a removal of its own (rule R6), would
//! leave behind. Nothing in the daemon does this.

use super::Peer;
use crate::cache::replica::Stored;
use crate::flow::Flow;

/// What to damage.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Damage {
    /// A flow goes missing.
    Lose(Flow),
    /// A flow gets other values, or is there although the peer never had it.
    Write(Flow),
}

impl Peer {
    /// Damages the replica of the peer's flows. False if there is nothing to damage.
    pub fn damage_replica(&mut self, damage: Damage) -> bool {
        let Some(replica) = &mut self.replica else {
            return false;
        };
        let (Damage::Lose(flow) | Damage::Write(flow)) = damage;
        let hash = replica.hash_key().of_key(&flow.key());
        let stamp = replica
            .find(&flow.key())
            .map_or(1, |slot| replica.stamp(slot));
        let removed = replica.remove(hash, u64::MAX);
        match damage {
            Damage::Lose(_) => removed > 0,
            Damage::Write(_) => {
                let rare = crate::flow::Rare::default();
                replica.store(hash, &flow, &rare, stamp, 0) == Stored::Yes
            }
        }
    }
}
