//! Damage on purpose, for simulations.

use super::Engine;
use crate::replication::Damage;

impl Engine {
    /// Damages the replica of a peer's flows, by the peer's place in `peers`. False if there was
    /// nothing to damage. Nothing in the daemon calls this.
    pub fn damage_replica(&mut self, peer: usize, damage: Damage) -> bool {
        let peer = self.replication.peers_mut().get_mut(peer);
        peer.is_some_and(|peer| peer.damage_replica(damage))
    }
}
