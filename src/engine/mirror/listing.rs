//! A listing of the kernel's table from its beginning to its end: what it names goes in unless an
//! event knew better, what neither named is swept out.

use std::time::Instant;

use super::{Listing, Mirror, SWEEP_SLOTS};
use crate::cache::local::{AHEAD, Origin};
use crate::cache::{Secs, Slot};
use crate::engine::notice::Notice;
use crate::flow::{Flow, FlowEvent};
use crate::rules::{Rule, holds};

impl Mirror {
    /// True if the kernel must be asked for a listing now, which begins with this.
    pub(in crate::engine) fn begin_listing(&mut self, now: Instant) -> bool {
        let is_due = self.due_at().is_some_and(|at| at <= now);
        if is_due {
            self.departed.on_listing(now);
            self.round = self.round.wrapping_add(1);
            self.gone.clear();
            self.fresh.clear();
            self.swept = 0;
            self.full_since_listing = false;
            self.listing_began = Some(now);
            self.listing = Listing::Running {
                is_worthless: false,
            };
        }
        is_due
    }

    /// A listing that has not begun yet is due now; one that runs is repeated.
    pub(in crate::engine) fn want_listing(&mut self, now: Instant) {
        self.listing = match self.listing {
            Listing::Running { .. } => Listing::Running { is_worthless: true },
            Listing::DueAt(_) | Listing::Sweeping(_) => Listing::DueAt(self.earliest(now)),
        };
    }

    /// Part of the running listing.
    pub(in crate::engine) fn on_listed(
        &mut self,
        secs: Secs,
        flows: &[FlowEvent],
        listeners: u8,
    ) -> bool {
        let mut has_changed = false;
        if self.listing_runs() {
            for (number, event) in flows.iter().enumerate() {
                if number.is_multiple_of(AHEAD) {
                    let ahead = flows.len().min(number + AHEAD);
                    self.local.warm(&flows[number..ahead]);
                }
                let hash = self.local.hash_key().of_key(&event.flow.key());
                if self.gone.find(hash, |&gone| gone == hash).is_some() {
                    continue;
                }
                let mut at = self.circumstances(secs, listeners);
                if self.writes.creates(hash, &event.flow.key()) {
                    at.found = Origin::Derived;
                }
                has_changed |= if self.fresh.find(hash, |&fresh| fresh == hash).is_some() {
                    self.apply(&self.with_later_adjustment(event), at)
                } else {
                    self.apply(event, at)
                };
            }
        }
        has_changed
    }

    /// The listing is over.
    pub(in crate::engine) fn on_listing_ended(&mut self, now: Instant, is_complete: bool) {
        if let Listing::Running { is_worthless } = self.listing {
            self.listing = if (is_complete && !is_worthless) || !holds(Rule::ListingWhole) {
                Listing::Sweeping(Slot(0))
            } else {
                self.counters.listings_interrupted += 1;
                Listing::DueAt(self.earliest(now))
            };
        }
    }

    /// Goes on with the sweep. True if the peers must hear of something; a notice when the table
    /// became whole.
    pub(in crate::engine) fn on_timeout(
        &mut self,
        now: Instant,
        secs: Secs,
        listeners: u8,
    ) -> (bool, Option<Notice>) {
        self.departed.tick(now);
        let Listing::Sweeping(from) = self.listing else {
            return (false, None);
        };
        let at = self.circumstances(secs, listeners);
        let departed = &self.departed;
        let keeps = |flow: &Flow| departed.keeps(flow);
        let (swept, next) = self.local.sweep(from, SWEEP_SLOTS, at, keeps);
        self.swept += u64::from(swept);
        if let Some(next) = next {
            self.listing = Listing::Sweeping(next);
            return (swept > 0, None);
        }
        self.counters.swept_flows += self.swept;
        self.counters.listings += 1;
        self.writes.on_listing(self.round);
        self.listing = Listing::DueAt(now + self.scrub_interval);
        let was_whole = self.is_whole();
        self.is_complete = true;
        self.missed_events = false;
        self.is_full = self.full_since_listing;
        let notice = Notice::TableWhole {
            tracked: self.local.tracked(),
            swept: self.swept,
        };
        (swept > 0, (!was_whole && self.is_whole()).then_some(notice))
    }
}
