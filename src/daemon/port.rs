//! A link in operation: what it has sent and received, and how it comes back when its interface
//! was deleted and made anew.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::settings::LinkSettings;
use crate::engine::status::LinkStatus;
use crate::net::{Destination, Link, LinkError};

/// A link whose sends fail is looked at this often, and its failure is told this often.
const MEND_INTERVAL: Duration = Duration::from_secs(1);

/// An open link with its counters.
#[derive(Debug)]
pub(super) struct Port {
    settings: LinkSettings,
    link: Link,
    sent: u64,
    received: u64,
    send_errors: u64,
    mended_at: Option<Instant>,
    is_failing: bool,
}

impl Port {
    pub(super) fn open(settings: LinkSettings) -> Result<Self, LinkError> {
        let link = Link::open(&settings)?;
        Ok(Self {
            settings,
            link,
            sent: 0,
            received: 0,
            send_errors: 0,
            mended_at: None,
            is_failing: false,
        })
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Counts a received datagram.
    pub(super) fn count_received(&mut self) {
        self.received += 1;
    }

    /// Sends a datagram. A refusal is a loss like any other: counted, told when it begins and
    /// when it ends, and left to the protocol.
    pub(super) fn send(&mut self, now: Instant, datagram: &[u8], to: Destination) {
        match self.link.send(datagram, to) {
            Ok(()) => {
                self.sent += 1;
                if std::mem::take(&mut self.is_failing) {
                    info!(link = self.link.name(), "link sends again");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.send_errors += 1,
            Err(error) => {
                self.send_errors += 1;
                if !self.is_failing {
                    warn!(link = self.link.name(), "link does not send: {error}");
                    self.is_failing = true;
                }
                self.mend(now);
            }
        }
    }

    pub(super) fn status(&self) -> LinkStatus {
        LinkStatus {
            name: self.link.name().to_owned(),
            sent: self.sent,
            received: self.received,
            send_errors: self.send_errors,
        }
    }

    fn mend(&mut self, now: Instant) {
        if self.mended_at.is_some_and(|at| now < at + MEND_INTERVAL) {
            return;
        }
        self.mended_at = Some(now);
        if self.link.is_stale()
            && let Ok(link) = Link::open(&self.settings)
        {
            info!(
                link = link.name(),
                "link opened anew: its interface is another one"
            );
            self.link = link;
        }
    }
}
