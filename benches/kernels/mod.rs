//! The kernels: pieces of the data path, each over a fixed number of items, ready to be run again
//! and again in a steady state. `data_path.rs` times them, `instructions.rs` counts.
//!
//! Netlink messages are those of a real kernel (`tests/golden/ctnetlink.txt`). Flows are
//! established, translated TCP over IPv4, a client port each, as a firewall has most of.

use std::fmt;

mod codec;
mod pair;
mod tables;

/// A piece of the data path.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    /// `part/what`.
    pub(crate) name: &'static str,
    /// Items (events, records, flows, datagrams) of one run.
    pub(crate) items: u64,
    /// Bytes of messages or datagrams that one run reads or writes; 0 where that means nothing.
    pub(crate) bytes: u64,
    /// Flows of the tables, up to 1,000,000; 0 where there is none.
    pub(crate) flows: u32,
    /// Makes what a run needs.
    pub(crate) prepare: fn(&Kernel) -> Run,
}

/// One run over all items; keeps no trace, so that the next does the same.
pub(crate) type Run = Box<dyn FnMut()>;

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flows {
            0 => f.write_str(self.name),
            1_000_000 => write!(f, "{} 1M", self.name),
            flows if flows >= 1_000 => write!(f, "{} {}k", self.name, flows / 1_000),
            flows => write!(f, "{} {flows}", self.name),
        }
    }
}

/// Flows of the tables where only one run is wanted, to see that it goes.
pub(crate) const SMOKE: &[u32] = &[1_000];

/// All kernels; those that have a table once for each of `sizes`, flows.
pub(crate) fn all(sizes: &[u32]) -> Vec<Kernel> {
    let mut kernels = codec::kernels();
    kernels.extend(tables::kernels(sizes));
    kernels.extend(pair::kernels());
    kernels
}
