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
/// What an operator is told of strangers in `TELL_INTERVAL`, all of them together: whoever makes
/// names up must not fill the log.
const TOLD_MAX: u8 = 8;
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
pub(super) struct Strangers {
    list: Vec<Stranger>,
    /// Since when is counted what was told, and how much it was.
    told: Option<(Instant, u8)>,
}

impl Strangers {
    /// Notes a stranger; says what an operator should hear about it, once a minute each.
    pub(super) fn hear(&mut self, now: Instant, name: Name, why: SealError) -> Option<PeerNotice> {
        let known = self
            .list
            .iter_mut()
            .find(|held| (held.name, held.why) == (name, why));
        let is_due = match known {
            Some(known) => {
                known.heard_at = now;
                let is_due = now >= known.told_at + TELL_INTERVAL;
                if is_due {
                    known.told_at = now;
                }
                is_due
            }
            None => {
                self.add(now, name, why);
                true
            }
        };
        (is_due && self.may_tell(now)).then_some(PeerNotice::Stranger { name, why })
    }

    fn add(&mut self, now: Instant, name: Name, why: SealError) {
        if self.list.len() == STRANGERS_MAX {
            let oldest = self
                .list
                .iter()
                .enumerate()
                .min_by_key(|(_, held)| held.heard_at);
            if let Some((at, _)) = oldest {
                self.list.swap_remove(at);
            }
        }
        self.list.push(Stranger {
            name,
            why,
            heard_at: now,
            told_at: now,
        });
    }

    fn may_tell(&mut self, now: Instant) -> bool {
        let (since, count) = match self.told {
            Some((since, count)) if now < since + TELL_INTERVAL => (since, count),
            Some(_) | None => (now, 0),
        };
        self.told = Some((since, count.saturating_add(1)));
        count < TOLD_MAX
    }

    /// Those that were heard lately.
    pub(super) fn recent(&self, now: Instant) -> impl Iterator<Item = &Stranger> {
        self.list
            .iter()
            .filter(move |held| now < held.heard_at + FORGET_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> Name {
        Name::new(format!("fw{number}").as_bytes()).expect("a valid name")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "where time starts does not matter"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_stranger_is_told_once_a_minute_and_forgotten_when_silent() {
        let (mut strangers, now) = (Strangers::default(), start());
        let why = SealError::InTheClear;
        let told = Some(PeerNotice::Stranger { name: name(1), why });
        assert_eq!(strangers.hear(now, name(1), why), told);
        for second in 1..60 {
            let now = now + Duration::from_secs(second);
            assert_eq!(strangers.hear(now, name(1), why), None);
        }
        let now = now + TELL_INTERVAL;
        assert_eq!(strangers.hear(now, name(1), why), told);
        assert_eq!(strangers.recent(now).count(), 1);
        assert_eq!(strangers.recent(now + FORGET_AFTER).count(), 0);
    }

    #[test]
    fn who_makes_names_up_fills_neither_the_list_nor_the_log() {
        let (mut strangers, now) = (Strangers::default(), start());
        let mut told = 0;
        for number in 0..10_000 {
            let now = now + Duration::from_millis(number);
            let number = u32::try_from(number).expect("small");
            told += u32::from(
                strangers
                    .hear(now, name(number), SealError::Forged)
                    .is_some(),
            );
        }
        assert_eq!(told, u32::from(TOLD_MAX));
        assert_eq!(strangers.list.len(), STRANGERS_MAX);
        let latest = strangers.recent(now).any(|held| held.name == name(9_999));
        assert!(latest, "the one heard last is shown");
    }
}
