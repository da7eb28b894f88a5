//! Which addresses are this node's own, and not those that move with the active role.
//!
//! keepalived adds the addresses before it says that this node is master. So an address counts as
//! own only after it has been there for some time on a standby: by then somebody would have said
//! so. What was there when the daemon started counts at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// keepalived's word comes milliseconds after the addresses, on a busy machine after a second.
const SETTLES_AFTER: Duration = Duration::from_secs(5);

/// The addresses of this node.
#[derive(Debug)]
pub(super) struct OwnAddresses {
    /// Each with the moment from which it counts; none while it cannot.
    addresses: BTreeMap<IpAddr, Option<Instant>>,
    is_standby: bool,
}

impl OwnAddresses {
    /// What was there at the start.
    pub(super) fn new(now: Instant, addresses: &[IpAddr], is_standby: bool) -> Self {
        Self {
            addresses: addresses.iter().map(|&one| (one, Some(now))).collect(),
            is_standby,
        }
    }

    /// All addresses that are there now.
    pub(super) fn on_addresses(&mut self, now: Instant, there: &[IpAddr]) {
        self.addresses.retain(|address, _| there.contains(address));
        let counts_from = self.is_standby.then_some(now + SETTLES_AFTER);
        for &address in there {
            self.addresses.entry(address).or_insert(counts_from);
        }
    }

    /// The role has changed. What has come and was not own yet may move with it.
    pub(super) fn on_role(&mut self, now: Instant, is_standby: bool) {
        self.is_standby = is_standby;
        let counts_from = is_standby.then_some(now + SETTLES_AFTER);
        for from in self.addresses.values_mut() {
            if from.is_none_or(|from| from > now) {
                *from = counts_from;
            }
        }
    }

    /// The addresses that count.
    pub(super) fn own(&self, now: Instant) -> Vec<IpAddr> {
        let counts = |from: &Option<Instant>| from.is_some_and(|from| from <= now);
        let own = self.addresses.iter().filter(|(_, from)| counts(from));
        own.map(|(&address, _)| address).collect()
    }

    /// When the next one counts.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let later = self.addresses.values().flatten();
        later.copied().filter(|&from| from > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_keepalived_adds_is_not_own_when_its_word_comes() {
        let now = start();
        let mut own = OwnAddresses::new(now, &[address(2)], true);
        own.on_addresses(now, &[address(1), address(2)]);
        own.on_role(now + Duration::from_millis(20), false);
        let later = now + 10 * SETTLES_AFTER;
        assert_eq!(own.own(later), [address(2)]);
        assert_eq!(own.poll_timeout(now), None);
    }

    #[test]
    fn an_address_that_stays_on_a_standby_becomes_own() {
        let now = start();
        let mut own = OwnAddresses::new(now, &[], true);
        own.on_addresses(now, &[address(3)]);
        assert!(own.own(now + SETTLES_AFTER / 2).is_empty());
        assert_eq!(own.poll_timeout(now), Some(now + SETTLES_AFTER));
        assert_eq!(own.own(now + SETTLES_AFTER), [address(3)]);
    }

    #[test]
    fn what_came_while_active_counts_some_time_after_the_demotion() {
        let now = start();
        let mut own = OwnAddresses::new(now, &[address(2)], false);
        own.on_addresses(now, &[address(1), address(2), address(3)]);
        let demoted = now + Duration::from_secs(60);
        own.on_addresses(demoted, &[address(2), address(3)]);
        own.on_role(demoted, true);
        assert_eq!(own.own(demoted), [address(2)]);
        assert_eq!(own.own(demoted + SETTLES_AFTER), [address(2), address(3)]);
    }

    #[test]
    fn an_address_that_went_has_to_settle_again() {
        let now = start();
        let mut own = OwnAddresses::new(now, &[address(2)], true);
        own.on_addresses(now, &[]);
        own.on_addresses(now, &[address(2)]);
        assert!(own.own(now).is_empty());
    }
}
