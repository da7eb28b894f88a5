//! Addresses that have left this node, and the ends of flows that come of it.
//!
//! When an address goes, or the interface that has it, the kernel destroys the masqueraded flows
//! behind it, 130 to 270 ms later (measured), and tells so with ordinary events: DESTROY, port id 0,
//! timeout present. With keepalived this is what a failover looks like on the node that is left,
//! while the flows are about to live on elsewhere. So such an end is this node's own affair: the
//! flow stays in the local cache until a listing, some time later, finds that it is still gone.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::flow::filter::LocalAddresses;
use crate::flow::{Flow, FlowEvent};
use crate::rules::{Rule, holds};

/// An end that comes this long after an address has left, or after the role has, is put down to
/// it.
const CAUSE_MAX: Duration = Duration::from_secs(10);
/// After this long a listing settles what is gone: the new active has committed by then, or there
/// is none.
const SETTLES_AFTER: Duration = Duration::from_secs(30);
/// Addresses remembered; when more leave at once, the ends of their flows count at once.
const ADDRESSES_MAX: usize = 256;

/// What has left, and when.
#[derive(Debug)]
pub(super) struct Departed {
    now: Instant,
    addresses: Vec<(IpAddr, Instant)>,
    role_lost: Option<Instant>,
    settles_at: Option<Instant>,
}

impl Departed {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now,
            addresses: Vec::new(),
            role_lost: None,
            settles_at: None,
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = now;
        self.addresses.retain(|(_, at)| now < *at + SETTLES_AFTER);
        self.role_lost = self.role_lost.filter(|at| now < *at + SETTLES_AFTER);
    }

    /// The addresses of this node were others before.
    pub(super) fn on_addresses(&mut self, before: &LocalAddresses, after: &LocalAddresses) {
        for address in before.missing_in(after) {
            self.addresses.retain(|(known, _)| *known != address);
            if self.addresses.len() < ADDRESSES_MAX {
                self.addresses.push((address, self.now));
                self.settles_at = Some(self.now + SETTLES_AFTER);
            }
        }
    }

    /// This node is no longer active.
    pub(super) fn on_role_lost(&mut self) {
        self.role_lost = Some(self.now);
        self.settles_at = Some(self.now + SETTLES_AFTER);
    }

    /// This node is about to be active.
    pub(super) fn on_role_taken(&mut self) {
        self.role_lost = None;
    }

    /// True if an event is the end of a flow that lives on elsewhere, or might.
    pub(super) fn holds_end(&self, event: &FlowEvent) -> bool {
        event.is_kill_of_translated()
            && self.concerns(&event.flow, CAUSE_MAX)
            && holds(Rule::HeldEnds)
    }

    /// True if a listing that does not name a flow says nothing of it: its end may be one of those
    /// that are held back, and not be told yet.
    pub(super) fn keeps(&self, flow: &Flow) -> bool {
        self.concerns(flow, SETTLES_AFTER) && holds(Rule::HeldEnds)
    }

    /// When a listing is due that settles what was held back.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }

    /// A listing begins.
    pub(super) fn on_listing(&mut self, now: Instant) {
        self.tick(now);
        self.settles_at = self.settles_at.filter(|at| *at > now);
    }

    fn concerns(&self, flow: &Flow, limit: Duration) -> bool {
        if self.addresses.is_empty() && self.role_lost.is_none() {
            return false;
        }
        let is_recent = |at: Instant| self.now < at + limit;
        flow.is_snat() && {
            let translated = flow.reply.dst_ip();
            self.role_lost.is_some_and(is_recent)
                || self
                    .addresses
                    .iter()
                    .any(|&(address, at)| address == translated && is_recent(at))
        }
    }
}
