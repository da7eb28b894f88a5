//! A pretended kernel: a table, events out, listings that race with events, creates in.

use std::collections::{BTreeMap, VecDeque};

use ctsyncd::ctnetlink::cta::{IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET};
use ctsyncd::ctnetlink::decode::decode_event;
use ctsyncd::ctnetlink::encode::{self, Ack};
use ctsyncd::ctnetlink::message::{Message, MessageKind, messages};
use ctsyncd::ctnetlink::request::{Answer, KernelRequest, Outcome, RequestDone};
use ctsyncd::flow::{EventKind, Flow, FlowEvent, FlowKey, Present, Rare, Status, Tuple};

use crate::rng::Rng;

/// Netlink port id of the daemon's writer.
pub(crate) const PORT_ID: u32 = 4_242;

type Key = [u8; 40];

/// The table and what is on its way to the daemon.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    table: BTreeMap<Key, Flow>,
    events: VecDeque<FlowEvent>,
    overrun: bool,
    listing: Option<VecDeque<Key>>,
    done: VecDeque<RequestDone>,
    lives: u32,
    /// Creates and deletes that a daemon has asked for.
    pub(crate) writes: u64,
}

impl Kernel {
    /// One of `flows` flows is born, changes or ends.
    pub(crate) fn churn(&mut self, rng: &mut Rng, flows: u16) {
        let flow = numbered(rng.below(u64::from(flows)) as u16);
        let key = ordered(&flow.key());
        match self.table.get_mut(&key) {
            None => {
                self.lives += 1;
                // The kernel's ids tell two lives apart only now and then.
                let id = self.lives / 3;
                let born = Flow {
                    id,
                    mark: rng.below(3) as u32,
                    ..flow
                };
                self.table.insert(key, born);
                self.tell(EventKind::New, born, 0);
            }
            Some(held) if rng.percent(60) => {
                held.mark = rng.below(5) as u32;
                let held = *held;
                self.tell(EventKind::Update, held, 0);
            }
            Some(_) => self.end(key, 0),
        }
    }

    /// The event buffer is full: what is in it is delivered, then comes a gap.
    pub(crate) fn overrun(&mut self, rng: &mut Rng, flows: u16) {
        let before = self.events.len();
        for _ in 0..10 {
            self.churn(rng, flows);
        }
        self.events.truncate(before);
        self.overrun = true;
    }

    /// A flow ends without an event.
    pub(crate) fn vanish_unseen(&mut self) {
        self.table.pop_first();
    }

    /// The node reboots: nothing is left.
    pub(crate) fn reboot(&mut self) {
        self.table.clear();
        self.forget_daemon();
    }

    /// The daemon is gone, and its sockets with it.
    pub(crate) fn forget_daemon(&mut self) {
        self.events.clear();
        self.done.clear();
        self.listing = None;
        self.overrun = false;
    }

    /// Carries out a request; answers come later.
    pub(crate) fn request(&mut self, request: KernelRequest, bytes: &[u8]) {
        match request {
            KernelRequest::Dump => self.listing = Some(self.table.keys().copied().collect()),
            KernelRequest::Batch {
                first_seq,
                last_seq,
            } => {
                let mut answers = Vec::new();
                for (at, message) in messages(bytes).enumerate() {
                    let message = message.expect("the engine writes well-formed messages");
                    let seq = first_seq.wrapping_add(at as u32);
                    assert_eq!(message.seq, seq, "numbered without holes");
                    let outcome = match message.kind {
                        MessageKind::Conntrack(IPCTNL_MSG_CT_GET) => Some(self.look_up(&message)),
                        MessageKind::Conntrack(IPCTNL_MSG_CT_DELETE) => {
                            self.delete(&message).err().map(Outcome::Refused)
                        }
                        _ => self.create(&message).err().map(Outcome::Refused),
                    };
                    answers.extend(outcome.map(|outcome| Answer { seq, outcome }));
                }
                self.done.push_back(RequestDone::Batch {
                    last_seq,
                    complete: true,
                    answers,
                });
            }
        }
    }

    /// What reaches the daemon next: events in order, an overrun, answers, part of a listing.
    pub(crate) fn deliver(&mut self, rng: &mut Rng) -> Option<Delivery> {
        let choice = rng.below(3);
        if choice > 0 && !self.events.is_empty() {
            let count = 1 + rng.below(self.events.len() as u64) as usize;
            return Some(Delivery::Events(self.events.drain(..count).collect()));
        }
        if self.events.is_empty() && std::mem::take(&mut self.overrun) {
            return Some(Delivery::Overrun);
        }
        if let Some(done) = self.done.pop_front() {
            return Some(Delivery::Done(done));
        }
        let listing = self.listing.as_mut()?;
        if listing.is_empty() {
            self.listing = None;
            return Some(Delivery::Done(RequestDone::DumpEnded { complete: true }));
        }
        let count = 1 + rng.below(listing.len() as u64) as usize;
        let listed = listing
            .drain(..count)
            .filter_map(|key| self.table.get(&key));
        let listed = listed
            .map(|flow| event(EventKind::Listed, *flow, 0))
            .collect();
        Some(Delivery::Done(RequestDone::Listed(listed)))
    }

    /// Nothing is on its way to the daemon.
    pub(crate) fn is_quiet(&self) -> bool {
        self.events.is_empty() && self.done.is_empty() && self.listing.is_none() && !self.overrun
    }

    /// The table, in an order that two kernels share.
    pub(crate) fn flows(&self) -> BTreeMap<Key, Flow> {
        self.table.clone()
    }

    /// What tells the flows apart.
    pub(crate) fn tuples(&self) -> Vec<Key> {
        self.table.keys().copied().collect()
    }

    /// What a GET finds.
    fn look_up(&self, get: &Message<'_>) -> Outcome {
        let by_orig = |out: &mut Vec<u8>, flow: &Flow| encode::get(out, get.seq, Ack::None, flow);
        let by_reply =
            |out: &mut Vec<u8>, flow: &Flow| encode::get_by_reply(out, get.seq, Ack::None, flow);
        let found = self
            .meant(get, by_orig)
            .or_else(|| self.meant(get, by_reply));
        found.map_or(Outcome::Refused(libc::ENOENT), |flow| {
            Outcome::Found(Box::new(event(EventKind::Listed, flow, 0)))
        })
    }

    fn delete(&mut self, delete: &Message<'_>) -> Result<(), i32> {
        self.writes += 1;
        let seq = delete.seq;
        let plain =
            |out: &mut Vec<u8>, flow: &Flow| encode::delete(out, seq, Ack::None, flow, None);
        let with_id = |out: &mut Vec<u8>, flow: &Flow| {
            encode::delete(out, seq, Ack::None, flow, Some(flow.id));
        };
        let found = self
            .meant(delete, plain)
            .or_else(|| self.meant(delete, with_id));
        self.end(ordered(&found.ok_or(libc::ENOENT)?.key()), PORT_ID);
        Ok(())
    }

    fn create(&mut self, create: &Message<'_>) -> Result<(), i32> {
        self.writes += 1;
        let mut event = FlowEvent::default();
        decode_event(create.bytes, &mut event).expect("the engine creates flows");
        let key = ordered(&event.flow.key());
        if self.table.contains_key(&key) {
            return Err(libc::EEXIST);
        }
        self.lives += 1;
        let born = Flow {
            id: self.lives,
            ..event.flow
        };
        self.table.insert(key, born);
        self.tell(EventKind::New, born, PORT_ID);
        Ok(())
    }

    /// The flow that a message names: the one that we would name in the same words. Length and
    /// flags of the header are passed over.
    fn meant(&self, message: &Message<'_>, name: impl Fn(&mut Vec<u8>, &Flow)) -> Option<Flow> {
        let is_it = |flow: &&Flow| {
            let mut named = Vec::new();
            name(&mut named, flow);
            named[8..] == message.bytes[8..]
        };
        self.table.values().find(is_it).copied()
    }

    fn end(&mut self, key: Key, port_id: u32) {
        if let Some(flow) = self.table.remove(&key) {
            self.tell(EventKind::Destroy, flow, port_id);
        }
    }

    fn tell(&mut self, kind: EventKind, flow: Flow, port_id: u32) {
        self.events.push_back(event(kind, flow, port_id));
    }
}

/// What reaches a daemon.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// Events.
    Events(Vec<FlowEvent>),
    /// Some were dropped.
    Overrun,
    /// An answer.
    Done(RequestDone),
}

/// Bytes in whose order flows are listed.
pub(crate) fn ordered(key: &FlowKey) -> Key {
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&key.orig.src);
    bytes[16..32].copy_from_slice(&key.orig.dst);
    bytes[32..34].copy_from_slice(&key.orig.src_id.to_be_bytes());
    bytes[34..36].copy_from_slice(&key.orig.dst_id.to_be_bytes());
    bytes[36..38].copy_from_slice(&[key.orig.family as u8, key.orig.protocol]);
    bytes[38..].copy_from_slice(&key.zone.to_be_bytes());
    bytes
}

/// One of the flows there can be.
pub(crate) fn numbered(number: u16) -> Flow {
    let client = [10, 0, 0, 1].into();
    let server = [192, 0, 2, 1].into();
    let orig = Tuple::new(17, client, server, 1000 + number, 53);
    let status = Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED);
    Flow {
        orig,
        reply: orig.inverse(),
        status,
        timeout_secs: 120,
        ..Flow::default()
    }
}

fn event(kind: EventKind, flow: Flow, port_id: u32) -> FlowEvent {
    let present = Present(Present::STATUS | Present::TIMEOUT);
    FlowEvent {
        kind,
        present,
        port_id,
        flow,
        rare: Rare::default(),
    }
}
