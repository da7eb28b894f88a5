//! Who is heard and cannot be understood: a node with another key, or with none.
//!
//! Their names are what they say of themselves, so they are shown and nothing else: a stranger takes
//! no peer's place.

use std::time::{Duration, Instant};

use super::TELL_INTERVAL;
use super::peer::PeerNotice;
use crate::wire::Name;
use crate::wire::seal::SealError;

/// Strangers that are remembered; one more pushes out the one that was heard longest ago.
const STRANGERS_MAX: usize = 8;
/// A stranger that was not heard for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// Somebody who cannot be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stranger {
    /// Who they say they are.
    pub name: Name,
    /// What is wrong.
    pub why: SealError,
    /// When they were heard last.
    pub heard_at: Instant,
    told_at: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Strangers(Vec<Stranger>);

impl Strangers {
    /// Notes a stranger; says what an operator should hear about it, once a minute each.
    pub(super) fn hear(&mut self, now: Instant, name: Name, why: SealError) -> Option<PeerNotice> {
        let notice = Some(PeerNotice::Stranger { name, why });
        let known = self
            .0
            .iter_mut()
            .find(|held| (held.name, held.why) == (name, why));
        if let Some(known) = known {
            known.heard_at = now;
            let is_due = now >= known.told_at + TELL_INTERVAL;
            if is_due {
                known.told_at = now;
            }
            return notice.filter(|_| is_due);
        }
        if self.0.len() == STRANGERS_MAX {
            let oldest = self
                .0
                .iter()
                .enumerate()
                .min_by_key(|(_, held)| held.heard_at);
            if let Some((at, _)) = oldest {
                self.0.swap_remove(at);
            }
        }
        self.0.push(Stranger {
            name,
            why,
            heard_at: now,
            told_at: now,
        });
        notice
    }

    /// Those that were heard lately.
    pub(super) fn recent(&self, now: Instant) -> impl Iterator<Item = &Stranger> {
        self.0
            .iter()
            .filter(move |held| now < held.heard_at + FORGET_AFTER)
    }
}
