//! What is said within a session: data, acks and pings, in and out.

use super::{Peer, PeerNotice, Told};
use crate::cache::Local;
use crate::replication::reconcile::Question;
use crate::replication::sender::{self, Sender};
use crate::replication::session::{ACK_DELAY, SentPing, Session};
use crate::replication::{Circumstances, Counters, Origin, Transmit};
use crate::rules::{Rule, holds};
use crate::wire::{Ack, Claims, Frame, Frames, Header, Kind, Outcome, Ping};

impl Peer {
    /// A datagram of our session: nothing that does not open changes anything (rule S6).
    pub(in crate::replication) fn on_datagram(
        &mut self,
        at: Circumstances,
        origin: Origin,
        header: &Header,
        datagram: &mut [u8],
        local: &mut Local,
        counters: &mut Counters,
    ) {
        let Some(session) = &mut self.session else {
            return;
        };
        let body = match session.keys.open(header, datagram) {
            Ok(body) => body,
            Err(error) => return counters.refuse_seal(error),
        };
        if header.kind == Kind::Control && !session.replays.take(header.number) {
            counters.replays += 1;
            return;
        }
        if header.kind == Kind::Data {
            return self.on_data(at, origin, header, body, counters);
        }
        self.heard_at = Some(at.now);
        self.paths[usize::from(origin.link.0)].address = Some(origin.address);
        let mut answer_bytes = header.bytes() + body.len();
        for frame in Frames::new(body) {
            match frame {
                Ok(Frame::Ack(ack)) => self.on_ack(at, &ack, local, counters),
                Ok(Frame::Ping(ping)) => self.on_ping(at, origin, &ping),
                Ok(Frame::SumsQuestion(question)) => self.on_question(Question::Sums(question)),
                Ok(Frame::ListQuestion(question)) => self.on_question(Question::List(question)),
                Ok(Frame::Sums(sums)) => {
                    self.count_answers(&mut answer_bytes);
                    self.on_sums(at, &sums, local);
                }
                Ok(Frame::List(list)) => {
                    self.count_answers(&mut answer_bytes);
                    self.on_list(at, &list, local);
                }
                Ok(Frame::Hello(_) | Frame::Greeting(_) | Frame::Unknown(_)) => {
                    counters.unknown_frames += 1;
                }
                Err(error) => counters.refuse(error),
            }
        }
    }

    /// The next control datagram that is due: an ack, or a ping of some link.
    pub(in crate::replication) fn next_control(
        &mut self,
        at: Circumstances,
        claims: &Claims,
        local: &Local,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let carrying = self.carrying(at.now)?;
        self.let_news_rest(at.now);
        let replica = self.replica.as_ref()?;
        let session = self.session.as_mut()?;
        if let Some(answer) = session.take_due_ack(at.now) {
            let ack = session.receiver.ack(replica, answer.clock);
            Self::control(session, out, |_, out| ack.emit(out));
            let back = answer
                .link
                .and_then(|link| Some((link, self.paths[usize::from(link.0)].address?)));
            let (link, address) = back.unwrap_or(carrying);
            return Some(Transmit {
                link,
                to: Some(address),
            });
        }
        let (link, address) = self.next_ping(at.now, carrying)?;
        let (lag, lag_records) = (self.lag(at.now), self.lag_records(local));
        let session = self.session.as_mut()?;
        let clock = session.next_clock(at.clock_micros);
        self.paths[usize::from(link.0)].pinged_at = Some(at.now);

        session.note_ping(SentPing {
            clock,
            link,
            at: at.now,
        });
        let ping = Ping {
            next: session.sender.as_ref().map_or(1, Sender::next),
            lag_ms: u32::try_from(lag.as_millis()).unwrap_or(u32::MAX),
            lag_records: u32::try_from(lag_records).unwrap_or(u32::MAX),
            clock_micros: clock,
            role: at.role,
            term: at.term,
            flows: local.digest().flows(),
            ready: at.ready,
            claims: *claims,
        };
        Self::control(session, out, |_, out| ping.emit(out));
        Some(Transmit {
            link,
            to: Some(address),
        })
    }

    /// The next data datagram.
    pub(in crate::replication) fn next_data(
        &mut self,
        at: Circumstances,
        datagram_bytes_max: usize,
        local: &mut Local,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let (link, address) = self.carrying(at.now)?;
        let session = self.session.as_mut()?;
        let sender = session.sender.as_mut()?;
        let circumstances = sender::Circumstances {
            now: at.now,
            secs: at.secs,
            clock_micros: at.clock_micros,
            table_is_whole: at.table_is_whole,
            datagram_bytes_max: datagram_bytes_max - session.keys.tag_bytes(),
            session: session.theirs,
            seal: session.keys.id(),
        };
        let header = sender.fill(local, circumstances, out)?;
        session.keys.seal(&header, out);
        sender.counters.bytes += session.keys.tag_bytes() as u64;
        Some(Transmit {
            link,
            to: Some(address),
        })
    }

    fn on_data(
        &mut self,
        at: Circumstances,
        origin: Origin,
        header: &Header,
        body: &[u8],
        counters: &mut Counters,
    ) {
        let (Some(session), Some(replica)) = (&mut self.session, &mut self.replica) else {
            return;
        };
        let received = session.receiver.on_data(header, body, replica, at.secs);
        self.high = self.high.max(session.receiver.high());
        if !received.duplicate && !received.beyond {
            // A recording proves nothing about who lives, and where.
            self.heard_at = Some(at.now);
            self.paths[usize::from(origin.link.0)].address = Some(origin.address);
        }
        counters.duplicates += u64::from(received.duplicate);
        counters.beyond_window += u64::from(received.beyond);
        counters.records += u64::from(received.records);
        counters.unreadable_records += u64::from(received.unreadable);
        counters.refused_flows += u64::from(received.refused);
        self.refused_flows += u64::from(received.refused);
        let is_urgent = received.gap || received.judged.is_some();
        session.ack_by(if is_urgent {
            at.now
        } else {
            at.now + ACK_DELAY
        });
        if let Some(outcome) = received.judged {
            self.on_judged(at, outcome);
        }
    }

    /// Goes on with what takes several steps: a sweep, and giving memory back.
    pub(super) fn go_on(&mut self, at: Circumstances) {
        let Some(replica) = &mut self.replica else {
            return;
        };
        replica.free_doomed();
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(outcome) = session.receiver.go_on(replica) {
            session.ack_by(at.now);
            self.on_judged(at, outcome);
        }
    }

    /// A marker was judged.
    fn on_judged(&mut self, at: Circumstances, outcome: Outcome) {
        let flows = (self.replica.as_ref()).map_or(0, |replica| replica.digest().flows());
        let is_news = self.verdict != Some(outcome);
        match outcome {
            Outcome::Equal => {
                if is_news {
                    self.notify(PeerNotice::InSync {
                        name: self.name,
                        flows,
                    });
                }
                self.verified_at = Some(at.now);
                // Whatever was refused has been sent again since, or has ended.
                self.refused_flows = 0;
            }
            Outcome::Different if is_news => {
                self.notify(PeerNotice::Different { name: self.name });
            }
            Outcome::Different => {}
        }
        self.verdict = Some(outcome);
    }

    fn on_ack(&mut self, at: Circumstances, ack: &Ack, local: &mut Local, counters: &mut Counters) {
        let Some(session) = &mut self.session else {
            return;
        };
        // One answer is one measurement.
        if let Some(ping) = session.take_answered(ack.echo_clock_micros) {
            let path = &mut self.paths[usize::from(ping.link.0)];
            path.answered_at = path.answered_at.max(Some(ping.at));
            if let Some(sender) = &mut session.sender {
                sender.on_round_trip(at.now.saturating_duration_since(ping.at));
            }
        }
        let Some(sender) = &mut session.sender else {
            return;
        };
        if sender.on_ack(ack, local, at.now) {
            sender.on_verdict(ack, local, at.table_is_whole, at.now);
            self.tell_repaired();
        } else {
            counters.impossible_acks += 1;
        }
    }

    fn on_ping(&mut self, at: Circumstances, origin: Origin, ping: &Ping) {
        let carrying = self.carrying(at.now).map(|(link, _)| link);
        let Some(session) = &mut self.session else {
            return;
        };
        session.receiver.on_ping(ping.next, ping.clock_micros);
        if holds(Rule::A6Answer) {
            session.owe_answer(ping.clock_micros, origin.link, carrying);
        }
        self.told_by = Some((session.epoch, at.now));
        self.told = Some(Told {
            role: ping.role,
            term: ping.term,
            flows: ping.flows,
            lag_ms: ping.lag_ms,
            lag_records: ping.lag_records,
            ready: ping.ready,
        });
        self.claims = ping.claims;
    }

    /// Writes a control datagram around what `emit` writes.
    pub(super) fn control(
        session: &mut Session,
        out: &mut Vec<u8>,
        emit: impl FnOnce(&mut Session, &mut Vec<u8>),
    ) {
        session.number += 1;
        let header = Header {
            kind: Kind::Control,
            seal: session.keys.id(),
            session: session.theirs,
            number: session.number,
            floor: 0,
            sender: None,
        };
        header.emit(out);
        emit(session, out);
        session.keys.seal(&header, out);
    }
}
