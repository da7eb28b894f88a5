//! The links to the peers: multicast and unicast UDP.
