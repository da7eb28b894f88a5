//! The links to the peers: multicast and unicast UDP.

pub mod error;
mod interface;
pub mod link;

pub use error::LinkError;
pub use link::{Destination, Link};
