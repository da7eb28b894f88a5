//! How a peer is met: hellos, greetings, and the session that comes of them.
//!
//! A greeting is believed when it echoes the challenge that we would give now: the challenge is a
//! keyed hash of the peer's name and epoch and of how many of its sessions we have accepted, so
//! that there is no state to exhaust and no recording to play back (rules S3, S4).

use std::hash::Hasher;
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use super::paths::Path;
use super::{Peer, PeerNotice, Who};
use crate::cache::{HashKey, Local, Replica};
use crate::replication::keys::SessionKeys;
use crate::replication::session::{Session, Terms};
use crate::replication::{Circumstances, Origin, TELL_INTERVAL};
use crate::rules::{Rule, holds};
use crate::wire::{Epoch, Greeting, Identity};

/// Epochs that were left and are never accepted again (rule S4).
pub(super) const RETIRED_MAX: usize = 64;
/// Hellos of one run are answered at most this often.
const GREETING_INTERVAL: Duration = Duration::from_millis(100);
/// And those of this many runs of one name: who plays back hellos of a few dead runs keeps nobody
/// from meeting the living one, and who has many brings no more answers than this.
pub(super) const GREETED_MAX: usize = 8;

impl Peer {
    /// Answers a hello with a greeting, unless there is a session with that run.
    pub(in crate::replication) fn on_hello(
        &mut self,
        at: Circumstances,
        origin: Origin,
        who: Who,
        local: &Local,
    ) -> Option<Greeting> {
        // What a run that was left says, or a recording of it, counts for nothing.
        if self.is_retired(at.now, who.epoch) {
            return None;
        }
        self.common_version(at.now, who)?;
        let current = self.session.as_mut().filter(|held| held.epoch == who.epoch);
        if let Some(session) = current {
            // Known on another link: from now on that link is watched as well. A recording cannot
            // lead us astray, at least not for longer than until the next hello.
            if who.number > session.hello_number {
                session.hello_number = who.number;
                let path = &mut self.paths[usize::from(origin.link.0)];
                if !path.is_alive(at.now) {
                    path.address = Some(origin.address);
                }
            }
            return None;
        }
        self.greeted
            .retain(|&(_, greeted)| at.now < greeted + GREETING_INTERVAL);
        let is_greeted = self.greeted.iter().any(|&(epoch, _)| epoch == who.epoch);
        if is_greeted || self.greeted.len() == GREETED_MAX {
            return None;
        }
        self.greeted.push((who.epoch, at.now));
        Some(self.greeting(who.epoch, None, local))
    }

    /// Takes a greeting's number in. False: it or a later one of that run was here before. What is
    /// dropped so by being late is made good by the next hello.
    pub(in crate::replication) fn is_new_greeting(&mut self, who: Who) -> bool {
        let is_new = self
            .greeting_number
            .is_none_or(|(epoch, number)| epoch != who.epoch || number < who.number);
        if is_new {
            self.greeting_number = Some((who.epoch, who.number));
        }
        is_new
    }

    /// Accepts a session if the greeting echoes the challenge; says what to answer.
    pub(in crate::replication) fn on_greeting(
        &mut self,
        at: Circumstances,
        origin: Origin,
        who: Who,
        greeting: &Greeting,
        local: &mut Local,
    ) -> Option<Greeting> {
        if self.is_retired(at.now, who.epoch) {
            return None;
        }
        let version = self.common_version(at.now, who)?;
        let is_current = self
            .session
            .as_ref()
            .is_some_and(|held| held.epoch == who.epoch);
        let is_echo = greeting.echo == Some(self.token(Token::Challenge, who.epoch))
            || !holds(Rule::S4Challenge);
        let is_accepted = is_echo && !is_current;
        if is_accepted {
            self.accept(at, origin, (who.epoch, version), greeting, local);
        }
        (is_accepted || greeting.echo.is_none())
            .then(|| self.greeting(who.epoch, Some(greeting.challenge), local))
    }

    fn accept(
        &mut self,
        at: Circumstances,
        origin: Origin,
        (epoch, version): (Epoch, u8),
        greeting: &Greeting,
        local: &mut Local,
    ) {
        self.end_session(local);
        let key = HashKey(greeting.hash_key);
        match &mut self.replica {
            Some(replica) => replica.rehash(key),
            None => self.replica = Some(Replica::new(key, self.settings.replication.flows_max)),
        }
        let terms = Terms {
            epoch,
            ours: self.token(Token::Session, epoch),
            theirs: greeting.session,
            have: greeting.have,
            window: greeting.window,
            version,
        };
        self.accepted += 1;
        let replication = &self.settings.replication;
        let theirs = Identity {
            name: self.name,
            epoch,
        };
        let keys = SessionKeys::new(replication.keyring.as_ref(), &replication.identity, &theirs);
        let session = Session::new(terms, keys, self.high);
        self.session = Some(session);
        self.paths.fill(Path::default());
        self.paths[usize::from(origin.link.0)].address = Some(origin.address);
        self.heard_at = Some(at.now);
        (self.verdict, self.refused_flows) = (None, 0);
        self.notify(PeerNotice::SessionStarted {
            name: self.name,
            epoch,
        });
        self.on_timeout(at, local);
    }

    pub(super) fn end_session(&mut self, local: &mut Local) {
        let Some(session) = self.session.take() else {
            return;
        };
        if let Some(sender) = session.sender {
            sender.close(local);
        }
        if self.retired.len() == RETIRED_MAX {
            self.retired.pop_front();
        }
        self.retired.push_back(session.epoch);
    }

    fn greeting(&self, to_epoch: Epoch, echo: Option<u64>, local: &Local) -> Greeting {
        let ours = &self.settings.replication;
        let session = match &self.session {
            Some(session) if session.epoch == to_epoch => session.ours,
            Some(_) | None => self.token(Token::Session, to_epoch),
        };
        Greeting {
            to: Identity {
                name: self.name,
                epoch: to_epoch,
            },
            challenge: self.token(Token::Challenge, to_epoch),
            echo,
            session,
            have: self
                .replica
                .as_ref()
                .map_or(0, |replica| replica.digest().flows()),
            window: ours.window,
            flows: local.digest().flows(),
            hash_key: local.hash_key().0,
            version_min: ours.versions.min,
            version_max: ours.versions.max,
            features: 0,
        }
    }

    /// A number that only we can make. A challenge is another one after every session accepted
    /// from this name; a session's number is one for a pair of runs, for a greeting that was sent
    /// stays true whatever is accepted until it arrives.
    fn token(&self, token: Token, epoch: Epoch) -> u64 {
        let secret = self.settings.replication.secret.0;
        let mut hasher = SipHasher13::new_with_keys(secret[0], secret[1]);
        hasher.write(&[token as u8]);
        hasher.write(self.name.as_str().as_bytes());
        hasher.write(&epoch.0);
        match token {
            Token::Challenge if holds(Rule::S3Count) => {
                hasher.write(&self.accepted.to_be_bytes());
            }
            Token::Challenge | Token::Session => {}
        }
        // Zero means "no session".
        hasher.finish().max(1)
    }

    /// A run that was left is never accepted again. Its hellos say that two nodes have one name,
    /// or that somebody plays back a recording.
    fn is_retired(&mut self, now: Instant, epoch: Epoch) -> bool {
        let is_retired = self.retired.contains(&epoch) && holds(Rule::S4Retired);
        let is_told = self
            .retired_told_at
            .is_some_and(|told| now < told + TELL_INTERVAL);
        if is_retired && !is_told {
            self.retired_told_at = Some(now);
            self.notify(PeerNotice::Retired { name: self.name });
        }
        is_retired
    }

    /// The version to use with a run; `None` if there is none, which is remembered for `status` and
    /// told now and then.
    ///
    /// While the session with another run is heard, that one is the peer: a hello of a run that was
    /// tried and taken back, or a recording of it, says nothing about it.
    fn common_version(&mut self, now: Instant, who: Who) -> Option<u8> {
        let ours = self.settings.replication.versions;
        let common = ours.highest_common(who.versions);
        if common.is_some() {
            self.incompatible = None;
        } else if self.session.is_none() || self.is_silent(now) {
            self.incompatible = Some((who.versions, now));
            let is_told = self
                .incompatible_told_at
                .is_some_and(|told| now < told + TELL_INTERVAL);
            if !is_told {
                self.incompatible_told_at = Some(now);
                let versions = (who.versions.min, who.versions.max);
                self.notify(PeerNotice::Incompatible {
                    name: self.name,
                    versions,
                });
            }
        }
        common
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Token {
    Challenge = 1,
    Session = 2,
}
