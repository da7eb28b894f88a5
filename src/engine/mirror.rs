//! The mirror of the kernel's table: events and listings into the local cache.
//!
//! A listing races with events. What an event touched since the listing began keeps the event's
//! word, an end included; what neither named is gone. Events that were missed make the table dirty
//! until a listing that nothing interrupted has repaired it.

use std::time::{Duration, Instant};

use hashbrown::HashTable;

use super::departed::Departed;
use super::hot::Writes;
use super::notice::Notice;
use super::reads::Reads;
use crate::cache::local::{AHEAD, Applied, Circumstances, Origin};
use crate::cache::{Local, Secs, Slot};
use crate::flow::filter::{LocalAddresses, Policy};
use crate::flow::{EventKind, FlowEvent};
use crate::rules::{Rule, holds};

mod copies;
mod expectations;
mod listing;

use expectations::Orphans;

/// Slots that a step of the sweep looks at: well under a millisecond.
const SWEEP_SLOTS: u32 = 16_384;
/// Ends remembered while a listing runs; one more makes the listing worthless, and it is repeated.
const GONE_MAX: usize = 1 << 20;
/// Listings start at least this far apart, so that one overrun after another does not turn into
/// one listing after another.
const LISTING_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// The local cache and what is known of its completeness.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) local: Local,
    policy: Policy,
    addresses: LocalAddresses,
    departed: Departed,
    own_port_id: u32,
    round: u8,
    /// How often this node has lost the active role, and one.
    era: u8,
    /// The flows that the kernel tracks are this node's own: it is active, or has committed since
    /// it last was not.
    is_owner: bool,
    /// Whose an entry is that is found or that our writer makes unasked by the keeper; `Own` in
    /// cold standby.
    finds: Origin,
    /// Packets that change a copy make it worth telling.
    shares: bool,
    /// Hashes of the keys whose end was told since a promotion that found everything in place, for
    /// a while: second looks do not bring them back.
    pub(super) ended: Option<HashTable<u64>>,
    /// What the keeper of hot standby has under way.
    pub(super) writes: Writes,
    listing: Listing,
    listing_began: Option<Instant>,
    /// Hashes of the keys whose end was told since the listing began.
    gone: HashTable<u64>,
    swept: u64,
    orphans: Orphans,
    reads: Reads,
    /// Hashes of the keys of flows that were read since the listing began.
    fresh: HashTable<u64>,
    scrub_interval: Duration,
    is_complete: bool,
    missed_events: bool,
    is_full: bool,
    full_since_listing: bool,
    has_filled: bool,
    pub(super) counters: MirrorCounters,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listing {
    /// The next one is due.
    DueAt(Instant),
    /// The kernel is listing; `is_worthless` if something was missed since it began.
    Running { is_worthless: bool },
    /// What was not named is being removed, from this slot on.
    Sweeping(Slot),
}

/// What the mirror has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct MirrorCounters {
    pub(super) events: u64,
    pub(super) echoes: u64,
    pub(super) held_ends: u64,
    pub(super) overruns: u64,
    pub(super) listings: u64,
    pub(super) listings_interrupted: u64,
    pub(super) refused_flows: u64,
    pub(super) swept_flows: u64,
    /// Events about expectations.
    pub(super) expectation_events: u64,
    /// Expectations of a flow that is not in the table, or has no helper.
    pub(super) expectations_without_master: u64,
    /// Expectations whose master is one of several with one tuple.
    pub(super) expectations_ambiguous: u64,
    /// Flows read because their helper may have shifted their sequence numbers.
    pub(super) reads: u64,
}

impl Mirror {
    pub(super) fn new(
        local: Local,
        policy: Policy,
        own_port_id: u32,
        scrub_interval: Duration,
        now: Instant,
    ) -> Self {
        Self {
            local,
            policy,
            addresses: LocalAddresses::default(),
            departed: Departed::new(now),
            own_port_id,
            round: 0,
            era: 1,
            is_owner: false,
            finds: Origin::Own,
            shares: false,
            ended: None,
            writes: Writes::default(),
            listing: Listing::DueAt(now),
            listing_began: None,
            gone: HashTable::new(),
            swept: 0,
            orphans: Orphans::default(),
            reads: Reads::new(),
            fresh: HashTable::new(),
            scrub_interval,
            is_complete: false,
            missed_events: false,
            is_full: false,
            full_since_listing: false,
            has_filled: false,
            counters: MirrorCounters::default(),
        }
    }

    /// The era in which a kernel entry is born now.
    pub(super) fn era(&self) -> u8 {
        self.era
    }

    /// From now on what the kernel is found to track is this node's own, and fresh.
    pub(super) fn take_ownership(&mut self) {
        self.is_owner = true;
        self.departed.on_role_taken();
    }

    /// From now on it is not, and what is there goes stale.
    pub(super) fn lose_ownership(&mut self) {
        self.is_owner = false;
        self.begin_era();
    }

    /// Some of what is there goes on elsewhere, and goes stale here; nobody knows which.
    pub(super) fn begin_era(&mut self) {
        self.era = self.era.wrapping_add(1);
        self.departed.on_role_lost();
    }

    /// True once after the table has filled up.
    pub(super) fn take_filled(&mut self) -> bool {
        std::mem::take(&mut self.has_filled)
    }

    /// The first listing is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The table is known to miss something.
    pub(super) fn is_dirty(&self) -> bool {
        self.missed_events || self.is_full
    }

    /// `flows_max` is reached.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Complete, and nothing is known to be missing.
    pub(super) fn is_whole(&self) -> bool {
        self.is_complete && !self.is_dirty()
    }

    /// Events, in order. True if the peers must hear of something.
    pub(super) fn on_events(
        &mut self,
        now: Instant,
        secs: Secs,
        events: &[FlowEvent],
        listeners: u8,
    ) -> bool {
        self.departed.tick(now);
        let mut has_changed = false;
        for (number, event) in events.iter().enumerate() {
            if number.is_multiple_of(AHEAD) {
                let ahead = events.len().min(number + AHEAD);
                self.local.warm(&events[number..ahead]);
            }
            self.counters.events += 1;
            let mut at = self.circumstances(secs, listeners);
            if event.port_id != 0 && event.port_id == self.own_port_id {
                self.counters.echoes += 1;
                self.on_echo(event, &mut at);
            }
            if self.departed.holds_end(event) {
                self.counters.held_ends += 1;
                continue;
            }
            if event.kind == EventKind::Destroy && self.listing_runs() && holds(Rule::ListingEnds) {
                self.remember_end(self.local.hash_key().of_key(&event.flow.key()));
            }
            if event.kind == EventKind::Destroy {
                self.forget_reads(&event.flow.key());
            }
            self.note_end(event);
            has_changed |= self.apply(event, at);
        }
        has_changed
    }

    /// Events were missed.
    pub(super) fn on_overrun(&mut self, now: Instant) -> Notice {
        self.counters.overruns += 1;
        self.missed_events = true;
        // Their ends may be among what was missed.
        self.orphans.clear();
        self.want_listing(now);
        Notice::Overrun
    }

    /// This node's own addresses have changed, and with them perhaps what replicates.
    pub(super) fn on_addresses(&mut self, now: Instant, addresses: LocalAddresses) {
        if addresses != self.addresses {
            self.departed.tick(now);
            self.departed.on_addresses(&self.addresses, &addresses);
            self.addresses = addresses;
            if self.policy != Policy::Everything {
                self.want_listing(now);
            }
        }
    }

    /// Forgets the table; a listing fills it again.
    pub(super) fn flush(&mut self, now: Instant) {
        self.local.clear();
        self.orphans.clear();
        self.is_complete = false;
        self.want_listing(now);
    }

    /// How many listings have been completed when the one that was just wanted is.
    pub(super) fn listings_until_fresh(&self) -> u64 {
        self.counters.listings + 1
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.listing {
            Listing::DueAt(_) => self.due_at(),
            Listing::Running { .. } => None,
            Listing::Sweeping(_) => self.listing_began,
        }
    }

    /// When the next listing begins, if none is under way.
    fn due_at(&self) -> Option<Instant> {
        let Listing::DueAt(at) = self.listing else {
            return None;
        };
        Some(
            self.departed
                .settles_at()
                .map_or(at, |settles| at.min(settles)),
        )
    }

    fn apply(&mut self, event: &FlowEvent, at: Circumstances) -> bool {
        let is_end = event.kind == EventKind::Destroy;
        let applied = if is_end
            || self.policy.tracks(&event.flow, &self.addresses).is_ok()
            || self.is_copy(event, at)
        {
            let policy = &self.policy;
            self.local
                .apply(event, at, |flow, age| policy.replicates(flow, age).is_ok())
        } else {
            // Policy has changed its mind: what was in goes out.
            let end = FlowEvent {
                kind: EventKind::Destroy,
                ..*event
            };
            self.local.apply(&end, at, |_, _| false)
        };
        let has_adopted = !self.orphans.is_empty()
            && event.rare.helper.is_some()
            && self.adopt(at.now, event, at.listeners);
        self.judge(applied) || has_adopted
    }

    /// True if the peers must hear of it.
    fn judge(&mut self, applied: Applied) -> bool {
        match applied {
            Applied::Changed => true,
            Applied::Same => false,
            Applied::Full => {
                self.counters.refused_flows += 1;
                self.has_filled |= !self.is_full;
                self.is_full = true;
                self.full_since_listing = true;
                false
            }
        }
    }

    fn remember_end(&mut self, hash: u64) {
        if self.gone.len() >= GONE_MAX {
            self.listing = Listing::Running { is_worthless: true };
        } else if self.gone.find(hash, |&gone| gone == hash).is_none() {
            self.gone.insert_unique(hash, hash, |&gone| gone);
        }
    }

    fn listing_runs(&self) -> bool {
        matches!(self.listing, Listing::Running { .. })
    }

    fn earliest(&self, now: Instant) -> Instant {
        self.listing_began
            .map_or(now, |began| now.max(began + LISTING_INTERVAL_MIN))
    }

    fn circumstances(&self, now: Secs, listeners: u8) -> Circumstances {
        // What is found and not told to be born may be of any age.
        let found_era = if self.is_owner {
            self.era
        } else {
            self.era.wrapping_sub(1)
        };
        Circumstances {
            now,
            listeners,
            round: self.round,
            era: self.era,
            found_era,
            born: Origin::Own,
            found: self.finds,
            shares: self.shares,
            is_echo: false,
        }
    }
}

#[cfg(test)]
mod tests;
