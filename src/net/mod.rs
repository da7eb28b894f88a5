//! The links to the peers: multicast and unicast UDP.

mod interface;
pub mod link;

pub use link::{Destination, Link, LinkError};
