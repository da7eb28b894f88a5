//! Netlink sockets: the event reader, the dumper and the writer, and what else is asked of Linux.
//!
//! Three sockets: the engine's thread reads events, `ct-dump` lists and `ct-tx` writes, because both may
//! wait for the kernel for long, and a commit must never wait for a listing. `rt-addr` follows
//! the node's own addresses, `host` the room in the table and the rules. A socket belongs to the
//! network namespace of the thread that created it, and every `spawn` and `open` creates its socket
//! on the calling thread.

pub mod addresses;
pub mod capability;
mod counters;
pub mod dumper;
pub mod error;
pub mod gate;
pub mod host;
mod nft;
pub mod reader;
mod reason;
pub mod requests;
mod ruleset;
mod socket;
pub mod sysctl;
mod wake;
pub mod writer;

pub use addresses::{AddressList, AddressWatch};
pub use counters::Undecodable;
pub use error::KernelError;
pub use gate::{GateError, GateTable};
pub use host::HostWatch;
pub use reader::{EventReader, KernelEvents, ReaderCounters};
pub use requests::{Busy, RequestCounters, Requests};

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge is where time comes from; the core gets it as an argument"
)]
pub(crate) fn clock() -> std::time::Instant {
    std::time::Instant::now()
}
