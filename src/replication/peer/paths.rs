//! The ways to a peer: every link is watched by pings, the first that answers carries (rule W2).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Peer, SILENCE};
use crate::replication::LinkId;
use crate::replication::sender::Sender;
use crate::replication::session::{PING_AT_REST, PING_OF_MANY, PING_WHILE_OPEN};
use crate::rules::{Rule, holds};

/// A link whose ping was not answered for this long does not carry: three pings of many.
const LINK_SILENCE: Duration = Duration::from_millis(700);

/// A way to the peer over one link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    pub(super) address: Option<SocketAddr>,
    /// When a ping sent on it was last answered.
    pub(super) answered_at: Option<Instant>,
    pub(super) pinged_at: Option<Instant>,
}

impl Path {
    /// True if a ping sent on it was answered lately.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.is_answered_within(LINK_SILENCE, now)
    }

    fn is_answered_within(&self, silence: Duration, now: Instant) -> bool {
        self.answered_at
            .is_some_and(|answered| now < answered + silence)
    }
}

impl Peer {
    /// For every link in order: does the peer answer over it now?
    pub fn answers(&self, now: Instant) -> impl Iterator<Item = bool> {
        // The only link is pinged less often than one of many.
        let silence = if self.paths.len() == 1 {
            SILENCE
        } else {
            LINK_SILENCE
        };
        self.paths
            .iter()
            .map(move |path| path.is_answered_within(silence, now))
    }

    /// The first link whose pings are answered; before any answer, or when none is, the first
    /// over which the peer was heard.
    pub(in crate::replication) fn carrying(&self, now: Instant) -> Option<(LinkId, SocketAddr)> {
        let is_alive = |path: &&Path| path.is_alive(now);
        let chosen = self.paths.iter().find(is_alive).or_else(|| {
            let latest = self.paths.iter().filter_map(|path| path.answered_at).max();
            self.paths
                .iter()
                .find(|path| path.address.is_some() && path.answered_at == latest)
        });
        let address = chosen?.address?;
        let at = self
            .paths
            .iter()
            .position(|path| std::ptr::eq(path, chosen.expect("is some")))?;
        Some((
            LinkId(u8::try_from(at).expect("links are counted in a u8")),
            address,
        ))
    }

    /// What we tell of ourselves has changed: every link is pinged now.
    pub(in crate::replication) fn tell_role(&mut self) {
        for path in &mut self.paths {
            path.pinged_at = None;
        }
    }

    pub(super) fn next_ping(
        &self,
        now: Instant,
        carrying: (LinkId, SocketAddr),
    ) -> Option<(LinkId, SocketAddr)> {
        (0..self.paths.len()).find_map(|at| {
            let link = LinkId(u8::try_from(at).expect("links are counted in a u8"));
            let due = self.ping_due(link, Some(carrying.0))?;
            (due <= now).then_some((link, self.paths[at].address?))
        })
    }

    pub(super) fn ping_due(&self, link: LinkId, carrying: Option<LinkId>) -> Option<Instant> {
        let path = &self.paths[usize::from(link.0)];
        path.address?;
        let is_open = self.sender().is_some_and(Sender::is_open);
        if is_open && !holds(Rule::A6Ping) {
            return None;
        }
        let interval = match (Some(link) == carrying && is_open, self.paths.len()) {
            (true, _) => PING_WHILE_OPEN,
            (false, 1) => PING_AT_REST,
            (false, _) => PING_OF_MANY,
        };
        Some(
            path.pinged_at
                .map_or(self.known_since, |pinged| pinged + interval),
        )
    }
}
