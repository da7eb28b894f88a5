//! What helpers do: expect, adjust, and take back, as the one of FTP.

use ctsyncd::ctnetlink::cta::{IPCTNL_MSG_EXP_NEW, NLM_F_CREATE, NLM_F_EXCL};
use ctsyncd::ctnetlink::decode_listed_expectation;
use ctsyncd::ctnetlink::message::{Message, MessageKind};
use ctsyncd::ctnetlink::request::{Outcome, RequestDone};
use ctsyncd::flow::expectation::{ExpectationNat, SourceMask};
use ctsyncd::flow::rare::{HelperName, SeqAdj};
use ctsyncd::flow::{EventKind, Expectation, ExpectationEvent, FlowKey, Status, Tuple};

use super::{Delivery, Event, Kernel, Key, PORT_ID, is_master, ordered};
use crate::rng::Rng;

/// Seconds that the helper gives an expectation.
const TIMEOUT_SECS: u32 = 300;

impl Kernel {
    /// The helper of a flow expects another; what it expected before it drops.
    pub(super) fn expect_something(&mut self, rng: &mut Rng, key: Key) {
        let Some(&master) = self.table.get(&key) else {
            return;
        };
        self.end_expectation(key, 0);
        self.lives += 1;
        let orig = master.orig;
        let nat = ExpectationNat {
            direction: 1,
            address: [0; 16],
            id: orig.src_id,
        };
        let expectation = Expectation {
            tuple: Tuple {
                src: orig.dst,
                dst: orig.src,
                src_id: 0,
                dst_id: (orig.src_id - 1000) * 4 + rng.below(3) as u16,
                ..orig
            },
            mask: SourceMask {
                address: std::array::from_fn(|at| if at < 4 { 0xff } else { 0 }),
                id: 0,
            },
            master: orig,
            id: self.lives / 3,
            nat: Some(nat),
            helper: HelperName::new(b"ftp"),
            timeout_secs: TIMEOUT_SECS,
            ..Expectation::default()
        };
        self.expected.insert(key, expectation);
        self.tell_expectation(EventKind::New, expectation, 0);
    }

    /// The helper of a flow shifts its sequence numbers, and tells nobody.
    pub(super) fn adjust(&mut self, rng: &mut Rng, key: Key) {
        let Some(flow) = self.table.get_mut(&key) else {
            return;
        };
        flow.status.0 |= Status::SEQ_ADJUST;
        let before = self.adjusted.get(&key).copied().unwrap_or_default();
        let adjustment = SeqAdj {
            correction_pos: before.correction_pos + 1 + rng.below(100) as u32,
            offset_before: before.offset_after,
            offset_after: before.offset_after + rng.below(3) as u32,
        };
        self.adjusted.insert(key, adjustment);
        self.note_unread(key);
    }

    /// Nobody knows how a flow is adjusted until it is read from now on.
    fn note_unread(&mut self, key: Key) {
        self.unread.insert(key);
        if let Some(listing) = &mut self.listing {
            listing.unread.remove(&key);
        }
    }

    /// What a flow expected it does not expect any more.
    pub(super) fn end_expectation(&mut self, master: Key, port_id: u32) {
        if let Some(expectation) = self.expected.remove(&master) {
            self.tell_expectation(EventKind::Destroy, expectation, port_id);
        }
    }

    /// Creates an expectation, or sets the timeout of one.
    pub(super) fn write_expectation(&mut self, message: &Message<'_>) -> Result<(), i32> {
        assert_eq!(
            message.kind,
            MessageKind::Expectation(IPCTNL_MSG_EXP_NEW),
            "the engine asks for nothing else"
        );
        if message.flags & NLM_F_CREATE == 0 {
            // The timeout is set without an event, and does not tick here.
            return Ok(());
        }
        self.writes += 1;
        assert!(message.flags & NLM_F_EXCL != 0, "never over another one");
        let mut event = ExpectationEvent::default();
        decode_listed_expectation(message.bytes, &mut event).expect("the engine writes them whole");
        let told = event.expectation;
        if self.expected.values().any(|held| held.tuple == told.tuple) {
            return Err(libc::EEXIST);
        }
        let master = self.table.values().find(|flow| flow.orig == told.master);
        let master = *master.ok_or(libc::ENOENT)?;
        if !is_master(&master) {
            return Err(libc::EOPNOTSUPP);
        }
        let key = ordered(&master.key());
        self.end_expectation(key, 0);
        self.lives += 1;
        let expectation = Expectation {
            id: self.lives,
            helper: HelperName::new(b"ftp"),
            ..told
        };
        self.expected.insert(key, expectation);
        self.tell_expectation(EventKind::New, expectation, PORT_ID);
        Ok(())
    }

    /// The next events: of flows some at once, of expectations each alone.
    pub(super) fn deliver_events(&mut self, rng: &mut Rng, first: Event) -> Delivery {
        let first = match first {
            Event::Expectation(event) => {
                // What was read before it may have been of another life of the flow.
                let master = FlowKey {
                    orig: event.expectation.master,
                    zone: 0,
                };
                let key = ordered(&master);
                if event.kind == EventKind::New && self.adjusted.contains_key(&key) {
                    self.note_unread(key);
                }
                return Delivery::Expectation(event);
            }
            Event::Flow(event) => event,
        };
        let mut events = vec![first];
        for _ in 0..rng.below(self.events.len() as u64 + 1) {
            let Some(Event::Flow(next)) = self.events.front() else {
                break;
            };
            events.push(*next);
            self.events.pop_front();
        }
        Delivery::Events(events)
    }

    /// What an answer tells is known.
    pub(super) fn note_read(&mut self, done: &RequestDone) {
        if let RequestDone::Batch { answers, .. } = done {
            for answer in answers {
                if let Outcome::Found(found) = &answer.outcome {
                    let key = ordered(&found.flow.key());
                    let told = found.rare.seqadj_orig;
                    // The daemon cannot know yet whose life it was that was read.
                    let is_early = self.losses != self.repaired
                        || self.events.iter().any(|event| {
                            matches!(event, Event::Flow(event)
                                if event.kind != EventKind::Update && ordered(&event.flow.key()) == key)
                        });
                    if told == self.adjusted.get(&key).copied() && !is_early {
                        self.unread.remove(&key);
                    }
                }
            }
        }
    }

    fn tell_expectation(&mut self, kind: EventKind, expectation: Expectation, port_id: u32) {
        self.events.push_back(Event::Expectation(ExpectationEvent {
            kind,
            port_id,
            expectation,
        }));
    }
}
