//! What a call needs to know about the node around it.

use std::time::Instant;

use crate::cache::Secs;

/// Circumstances of a call.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Now.
    pub now: Instant,
    /// Now, in what timeouts are counted in.
    pub secs: Secs,
    /// Now, in microseconds since the start; at least 1.
    pub clock_micros: u64,
    /// The first listing of the kernel's table is complete (rule J1).
    pub table_is_complete: bool,
    /// And nothing is known to be missing in it (rule M1).
    pub table_is_whole: bool,
    /// Own role, as a ping tells it.
    pub role: u8,
    /// Own term.
    pub term: u64,
    /// This node is ready, as a ping tells it.
    pub ready: bool,
}
