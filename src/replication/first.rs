//! What is said before there is a session: hellos and greetings, in and out. Each is sealed under a
//! key of its own kind; what they mean to one peer is in `peer/meet.rs`.

use super::peer::{PeerSettings, Who};
use super::{
    Circumstances, GREETINGS_MAX, LinkId, Origin, PEERS_MAX, Peer, PeerNotice, Replication,
    Transmit, keys, push_notice,
};
use crate::cache::Local;
use crate::wire::seal::SealError;
use crate::wire::{Frame, Frames, Greeting, Header, Hello, Identity, Kind, Versions};

impl Replication {
    /// A hello or greeting: what is said before there is a session.
    pub(super) fn on_first(
        &mut self,
        at: Circumstances,
        origin: Origin,
        header: &Header,
        datagram: &mut [u8],
        local: &mut Local,
    ) {
        let Some(sender) = header.sender else { return };
        let ours = self.settings.identity;
        if sender == ours {
            // Our own datagram, come back.
            return;
        }
        let keyring = self.settings.keyring.as_ref();
        let opened = keys::open_first(keyring, header, datagram, |key| match header.kind {
            Kind::Greeting => key.greeting(&sender, &ours),
            Kind::Hello | Kind::Control | Kind::Data => key.hello(&sender),
        });
        let body = match opened {
            Ok(body) => body,
            // A greeting between two others is sealed for them.
            Err(SealError::Forged) if header.kind == Kind::Greeting => {
                self.counters.not_for_us += 1;
                return;
            }
            Err(why) => {
                self.counters.refuse_seal(why);
                if let Some(notice) = self.strangers.hear(at.now, sender.name, why) {
                    push_notice(&mut self.notices, notice);
                }
                return;
            }
        };
        let number = header.number;
        for frame in Frames::new(body) {
            match frame {
                Ok(Frame::Hello(hello)) if header.kind == Kind::Hello => {
                    let who = Who {
                        epoch: sender.epoch,
                        versions: Versions {
                            min: hello.version_min,
                            max: hello.version_max,
                        },
                        number,
                    };
                    self.on_hello(at, origin, sender, who, local);
                }
                Ok(Frame::Greeting(greeting)) if header.kind == Kind::Greeting => {
                    let who = Who {
                        epoch: sender.epoch,
                        versions: Versions {
                            min: greeting.version_min,
                            max: greeting.version_max,
                        },
                        number,
                    };
                    self.on_greeting(at, origin, sender, who, &greeting, local);
                }
                Ok(_) => self.counters.unknown_frames += 1,
                Err(error) => self.counters.refuse(error),
            }
        }
    }

    pub(super) fn next_greeting(&mut self, out: &mut Vec<u8>) -> Option<Transmit> {
        let (transmit, greeting) = self.greetings.pop_front()?;
        self.greeting_number += 1;
        let header = self.first_header(Kind::Greeting, self.greeting_number);
        header.emit(out);
        greeting.emit(out);
        let ours = self.settings.identity;
        keys::seal_first(self.settings.keyring.as_ref(), &header, out, |ring| {
            ring.primary.greeting(&ours, &greeting.to)
        });
        Some(transmit)
    }

    pub(super) fn next_hello(&mut self, out: &mut Vec<u8>) -> Option<Transmit> {
        let link = LinkId(self.hellos.next()?);
        self.hello_number += 1;
        let header = self.first_header(Kind::Hello, self.hello_number);
        header.emit(out);
        let hello = Hello {
            version_min: self.settings.versions.min,
            version_max: self.settings.versions.max,
            features: 0,
        };
        hello.emit(out);
        let ours = self.settings.identity;
        keys::seal_first(self.settings.keyring.as_ref(), &header, out, |ring| {
            ring.primary.hello(&ours)
        });
        Some(Transmit { link, to: None })
    }

    fn first_header(&self, kind: Kind, number: u64) -> Header {
        let seal = self
            .settings
            .keyring
            .as_ref()
            .map_or(0, |ring| ring.primary.id());
        let sender = Some(self.settings.identity);
        Header {
            kind,
            seal,
            session: 0,
            number,
            floor: 0,
            sender,
        }
    }

    /// Rules S2, S3: a hello proves nothing and is answered with a greeting.
    fn on_hello(
        &mut self,
        at: Circumstances,
        origin: Origin,
        sender: Identity,
        who: Who,
        local: &mut Local,
    ) {
        let Some(index) = self.admit(at, sender, local) else {
            return;
        };
        let peer = &mut self.peers[index];
        if let Some(greeting) = peer.on_hello(at, origin, who, local) {
            self.greet(origin, greeting);
        }
        Self::collect(&mut self.notices, &mut self.peers[index]);
    }

    /// Rules S3 to S5.
    fn on_greeting(
        &mut self,
        at: Circumstances,
        origin: Origin,
        sender: Identity,
        who: Who,
        greeting: &Greeting,
        local: &mut Local,
    ) {
        if greeting.to != self.settings.identity {
            self.counters.not_for_us += 1;
            return;
        }
        let Some(index) = self.admit(at, sender, local) else {
            return;
        };
        let peer = &mut self.peers[index];
        if !peer.is_new_greeting(who) {
            self.counters.replays += 1;
            return;
        }
        if let Some(answer) = peer.on_greeting(at, origin, who, greeting, local) {
            self.greet(origin, answer);
        }
        Self::collect(&mut self.notices, &mut self.peers[index]);
    }

    fn greet(&mut self, origin: Origin, greeting: Greeting) {
        if self.greetings.len() < GREETINGS_MAX {
            let transmit = Transmit {
                link: origin.link,
                to: Some(origin.address),
            };
            self.greetings.push_back((transmit, greeting));
        } else {
            self.counters.greetings_dropped += 1;
        }
    }

    /// The peer of a name; room is made for a new one by forgetting one that never had a session
    /// and is silent.
    fn admit(&mut self, at: Circumstances, who: Identity, local: &mut Local) -> Option<usize> {
        if who.name == self.settings.identity.name {
            self.counters.own_name += 1;
            self.tell_seldom(at.now, PeerNotice::DuplicateName { name: who.name });
            return None;
        }
        if let Some(index) = self.peers.iter().position(|peer| peer.name() == who.name) {
            return Some(index);
        }
        if self.peers.len() == PEERS_MAX {
            let forgotten = self
                .peers
                .iter()
                .position(|peer| peer.is_forgettable(at.now));
            let Some(forgotten) = forgotten else {
                self.counters.peers_full += 1;
                self.tell_seldom(at.now, PeerNotice::NoRoom { name: who.name });
                return None;
            };
            self.peers.remove(forgotten).close(local);
        }
        let used = self.peers.iter().fold(0, |mask, peer| mask | peer.bit());
        let settings = PeerSettings {
            bit: 1 << (!used).trailing_zeros(),
            replication: self.settings.clone(),
        };
        self.peers.push(Peer::new(who.name, settings, at.now));
        Some(self.peers.len() - 1)
    }
}
