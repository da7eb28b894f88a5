//! A look at the node's addresses in front of an event.
//!
//! When an address leaves, the kernel destroys what was masqueraded behind it. The address has left
//! before, but the notice of it goes through another thread, and may come after the events, as it
//! did when an interface went down on a busy machine.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::flow::FlowEvent;
use crate::kernel::{AddressList, KernelError, clock};

/// No more often than this, for flows are killed for other reasons too: some 50 µs each.
const INTERVAL: Duration = Duration::from_millis(10);

/// Who looks.
#[derive(Debug)]
pub(super) struct Look {
    list: AddressList,
    looked_at: Option<Instant>,
}

impl Look {
    /// Opens a socket for it.
    pub(super) fn new() -> Result<Self, KernelError> {
        Ok(Self {
            list: AddressList::open()?,
            looked_at: None,
        })
    }

    /// The addresses as they are now, if one of these events may come of one that has left. Without
    /// an answer of the system the notice has to do.
    pub(super) fn before(&mut self, events: &[FlowEvent]) -> Option<Vec<IpAddr>> {
        if !events.iter().any(FlowEvent::is_kill_of_translated) {
            return None;
        }
        let now = clock();
        if self.looked_at.is_some_and(|at| now < at + INTERVAL) {
            return None;
        }
        self.looked_at = Some(now);
        self.list.read().ok()
    }
}
