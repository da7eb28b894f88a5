//! A pretended kernel: a table, events out, listings that race with events, creates in.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

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
    listing: Option<Listing>,
    /// Something ended without an event, and no listing has been made since.
    has_unseen: bool,
    /// An address has left, and flows have ended of which the daemon need not tell at once.
    has_departed: bool,
    done: VecDeque<RequestDone>,
    lives: u32,
    /// Creates and deletes that a daemon has asked for.
    pub(crate) writes: u64,
}

/// A listing under way: what it has read waits in a buffer while events go on.
#[derive(Debug, Default)]
struct Listing {
    to_read: VecDeque<Key>,
    read: VecDeque<Flow>,
    /// It ends before its end.
    is_cut_short: bool,
    /// Something ended unseen since it began.
    is_behind: bool,
}

impl Kernel {
    /// One of `flows` flows is born, changes or ends.
    pub(crate) fn churn(&mut self, rng: &mut Rng, flows: u16) {
        let flow = numbered(rng.below(u64::from(flows)) as u16);
        let key = ordered(&flow.key());
        let is_taken = self.conflicts(&flow);
        match self.table.get_mut(&key) {
            // A packet of this flow belongs to the stray that has its tuple.
            None if is_taken => {}
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

    /// The first flow ends.
    pub(crate) fn end_first(&mut self) {
        if let Some(&key) = self.table.keys().next() {
            self.end(key, 0);
        }
    }

    /// A flow ends without an event.
    pub(crate) fn vanish_unseen(&mut self) {
        self.table.pop_first();
        self.has_unseen = true;
        if let Some(listing) = &mut self.listing {
            listing.is_behind = true;
        }
    }

    /// Flows that are masqueraded behind an address are born.
    pub(crate) fn masquerade(&mut self, address: IpAddr, flows: u16) {
        for number in 0..flows {
            // The IPv4 ones of them.
            let mut flow = numbered(number * 3 + 1);
            let reply = Tuple::new(17, flow.orig.dst_ip(), address, 53, flow.orig.src_id);
            flow.reply = reply;
            self.lives += 1;
            flow.id = self.lives;
            self.table.insert(ordered(&flow.key()), flow);
            self.tell(EventKind::New, flow, 0);
        }
    }

    /// An address leaves: the kernel destroys what was masqueraded behind it.
    pub(crate) fn lose_address(&mut self, address: IpAddr) {
        self.has_departed = true;
        let is_behind = |flow: &Flow| flow.is_snat() && flow.reply.dst_ip() == address;
        let behind: Vec<Key> = (self.table.iter())
            .filter(|(_, flow)| is_behind(flow))
            .map(|(key, _)| *key)
            .collect();
        for key in behind {
            if let Some(flow) = self.table.remove(&key) {
                let mut killed = event(EventKind::Destroy, flow, 0);
                killed.present.0 |= Present::TIMEOUT;
                self.events.push_back(killed);
            }
        }
    }

    /// A stray packet makes an entry that is in the way of one of `flows` flows: reversed, or as
    /// the owner of its reply tuple, or translated to somewhere else.
    pub(crate) fn stray(&mut self, rng: &mut Rng, flows: u16) {
        let flow = numbered(rng.below(u64::from(flows)) as u16);
        let mut stray = flow;
        match rng.below(3) {
            0 => (stray.orig, stray.reply) = (flow.reply, flow.orig),
            1 => stray.orig.src_id += 20_000,
            _ => stray.reply.dst_id += 20_000,
        }
        if !self.conflicts(&stray) {
            self.lives += 1;
            stray.id = self.lives;
            self.table.insert(ordered(&stray.key()), stray);
            self.tell(EventKind::New, stray, 0);
        }
    }

    /// True if one of the tuples of a flow is taken.
    fn conflicts(&self, flow: &Flow) -> bool {
        let taken = [flow.orig, flow.reply];
        self.table
            .values()
            .any(|held| taken.contains(&held.orig) || taken.contains(&held.reply))
    }

    /// True if a table that knows everything that was told must be this one.
    pub(crate) fn is_told(&self) -> bool {
        self.is_quiet() && !self.has_unseen && !self.has_departed
    }

    /// The node reboots: nothing is left.
    pub(crate) fn reboot(&mut self) {
        self.table.clear();
        self.has_unseen = false;
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
    pub(crate) fn request(&mut self, request: KernelRequest, bytes: &[u8], rng: &mut Rng) {
        match request {
            KernelRequest::Dump => {
                self.listing = Some(Listing {
                    to_read: self.table.keys().copied().collect(),
                    read: VecDeque::new(),
                    is_cut_short: rng.percent(5),
                    is_behind: false,
                });
            }
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
                // Now and then the answers are lost on their way.
                let complete = !rng.percent(5);
                if !complete {
                    answers.truncate(rng.below(answers.len() as u64 + 1) as usize);
                }
                self.done.push_back(RequestDone::Batch {
                    last_seq,
                    complete,
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
        let Self { listing, table, .. } = self;
        let running = listing.as_mut()?;
        if running.read.is_empty() && (running.to_read.is_empty() || running.is_cut_short) {
            let complete = running.to_read.is_empty();
            self.has_unseen &= !complete || running.is_behind;
            *listing = None;
            return Some(Delivery::Done(RequestDone::DumpEnded { complete }));
        }
        let up_to = |rng: &mut Rng, len: usize| rng.below(len as u64 + 1) as usize;
        let count = up_to(rng, running.to_read.len());
        let keys = running.to_read.drain(..count);
        running
            .read
            .extend(keys.filter_map(|key| table.get(&key).copied()));
        let count = up_to(rng, running.read.len());
        let listed = running.read.drain(..count);
        let listed = listed
            .map(|flow| event(EventKind::Listed, flow, 0))
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

    /// The flow that a GET asks for: the one about which we would ask in the same words. Like the
    /// kernel's table, it is found by either of its tuples.
    fn look_up(&self, get: &Message<'_>) -> Outcome {
        let is_asked_for = |flow: &Flow| {
            let mut asked = [Vec::new(), Vec::new()];
            encode::get(&mut asked[0], get.seq, Ack::None, flow);
            encode::get_by_reply(&mut asked[1], get.seq, Ack::None, flow);
            asked.iter().any(|asked| asked[8..] == get.bytes[8..])
        };
        let found = self.table.values().find(|flow| {
            let mut reversed = **flow;
            (reversed.orig, reversed.reply) = (flow.reply, flow.orig);
            is_asked_for(flow) || is_asked_for(&reversed)
        });
        found.map_or(Outcome::Refused(libc::ENOENT), |flow| {
            Outcome::Found(Box::new(event(EventKind::Listed, *flow, 0)))
        })
    }

    fn delete(&mut self, message: &Message<'_>) -> Result<(), i32> {
        self.writes += 1;
        let is_it = |flow: &&Flow| {
            [None, Some(flow.id)].iter().any(|&id| {
                let mut asked = Vec::new();
                encode::delete(&mut asked, message.seq, Ack::None, flow, id);
                asked[8..] == message.bytes[8..]
            })
        };
        let found = self.table.values().find(is_it);
        let key = ordered(&found.ok_or(libc::ENOENT)?.key());
        self.end(key, PORT_ID);
        Ok(())
    }

    fn create(&mut self, message: &Message<'_>) -> Result<(), i32> {
        self.writes += 1;
        let mut event = FlowEvent::default();
        decode_event(message.bytes, &mut event).expect("the engine writes flows");
        if self.conflicts(&event.flow) {
            return Err(libc::EEXIST);
        }
        self.lives += 1;
        let born = Flow {
            id: self.lives,
            ..event.flow
        };
        self.table.insert(ordered(&born.key()), born);
        self.tell(EventKind::New, born, PORT_ID);
        Ok(())
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

/// Flow by number: IPv4 and IPv6 take turns, so that records are of different sizes.
pub(crate) fn numbered(number: u16) -> Flow {
    let (client, server): (IpAddr, IpAddr) = if number.is_multiple_of(3) {
        (
            Ipv6Addr::new(0xfd00, 0, 0, 1, 2, 3, 4, 5).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 9, 8, 7, 6, 5).into(),
        )
    } else {
        ([10, 0, 0, 1].into(), [192, 0, 2, 1].into())
    };
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
    // What expires has no timeout any more.
    let present = match kind {
        EventKind::Destroy => Present(Present::STATUS),
        _ => Present(Present::STATUS | Present::TIMEOUT),
    };
    FlowEvent {
        kind,
        present,
        port_id,
        flow,
        rare: Rare::default(),
    }
}
