//! The tables of flows: what this node's kernel tracks (`Local`), and what each peer's does
//! (`Replica`).
//!
//! An expectation is an entry of its own beside the flows, with a version or stamp and a place in the
//! digest like theirs. Both keep their flows in a slab of fixed-size records, in chunks, under a keyed index, with the rare
//! attributes in a table beside it, and both keep a digest: a count and 65,536 sums that two
//! tables with the same flows share.

pub mod changes;
mod chunks;
pub mod digest;
pub mod hash;
mod index;
mod list;
pub mod local;
mod rares;
pub mod replica;
mod slab;
mod slots;

pub use changes::Changes;
pub use digest::Digest;
pub use hash::HashKey;
pub use local::Local;
pub use replica::Replica;

/// Index of an entry in a table's slab.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Slot(pub u32);

/// "No slot" in links and indices.
pub(crate) const NIL: u32 = u32::MAX;

/// Whole seconds since the daemon's start: what timeouts are counted in. Monotonic.
pub type Secs = u32;
