//! A pretended kernel: a table, events out, listings that race with events, creates in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ctsyncd::ctnetlink::attr::Attrs;
use ctsyncd::ctnetlink::cta::{
    CTA_MARK, CTA_STATUS, CTA_TIMEOUT, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET, NLM_F_CREATE,
};
use ctsyncd::ctnetlink::decode::decode_event;
use ctsyncd::ctnetlink::encode::{self, Ack, Update};
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
    done: VecDeque<RequestDone>,
    lives: u32,
    /// Creates and deletes that a daemon has asked for.
    pub(crate) writes: u64,
    /// Packets keep the entries alive; otherwise they end in time.
    carries_traffic: bool,
    /// When entries end if no packet comes: those that a daemon made, and those from when this
    /// kernel carried traffic.
    expires: BTreeMap<Key, Instant>,
    now: Option<Instant>,
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

    /// The event buffer was full for a while: what is in it is lost.
    pub(crate) fn lose_events(&mut self) {
        self.events.clear();
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

    /// Time has passed: entries of a daemon's that no packet keeps alive end.
    pub(crate) fn age(&mut self, now: Instant) {
        self.now = Some(now);
        if self.carries_traffic {
            return;
        }
        let is_over = |(_, at): &(&Key, &Instant)| **at <= now;
        let over: Vec<Key> = self
            .expires
            .iter()
            .filter(is_over)
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.end(key, 0);
        }
    }

    /// From now on this kernel carries traffic, or does not.
    pub(crate) fn carry_traffic(&mut self, carries_traffic: bool) {
        if self.carries_traffic && !carries_traffic {
            let left: Vec<(Key, u32)> = self
                .table
                .iter()
                .map(|(key, flow)| (*key, flow.timeout_secs))
                .collect();
            for (key, timeout_secs) in left {
                self.expire(key, timeout_secs);
            }
        }
        self.carries_traffic = carries_traffic;
    }

    /// An entry of a daemon's ends early.
    pub(crate) fn expire_one(&mut self, rng: &mut Rng) {
        let at = rng.below(self.expires.len() as u64 + 1) as usize;
        if let Some(&key) = self.expires.keys().nth(at) {
            self.end(key, 0);
        }
    }

    /// Each flow that is born has a life of its own, which its mark tells.
    pub(crate) fn live(&mut self, rng: &mut Rng, flows: u16, lives: &mut Lives) {
        let flow = numbered(rng.below(u64::from(flows)) as u16);
        let key = ordered(&flow.key());
        match self.table.get_mut(&key) {
            None => {
                lives.born += 1;
                let born = Flow {
                    id: lives.born / 3,
                    mark: lives.born << LIFE_SHIFT,
                    ..flow
                };
                self.table.insert(key, born);
                self.tell(EventKind::New, born, 0);
            }
            Some(held) if rng.percent(60) => {
                held.mark = held.mark >> LIFE_SHIFT << LIFE_SHIFT | rng.below(4) as u32;
                let held = *held;
                self.tell(EventKind::Update, held, 0);
            }
            Some(held) => {
                lives.ended.insert(held.mark >> LIFE_SHIFT);
                self.end(key, 0);
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
        self.is_quiet() && !self.has_unseen
    }

    /// The node reboots: nothing is left.
    pub(crate) fn reboot(&mut self) {
        self.table.clear();
        self.expires.clear();
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
                        _ if message.flags & NLM_F_CREATE == 0 => {
                            self.update(&message).err().map(Outcome::Refused)
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
        let Self {
            listing,
            table,
            expires,
            now,
            ..
        } = self;
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
        running.read.extend(keys.filter_map(|key| {
            let flow = *table.get(&key)?;
            let left = expires
                .get(&key)
                .zip(*now)
                .map(|(at, now)| at.saturating_duration_since(now));
            let timeout_secs = left.map_or(flow.timeout_secs, |left| left.as_secs() as u32);
            Some(Flow {
                timeout_secs,
                ..flow
            })
        }));
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

    /// The table, in an order that two kernels share. Timeouts tick, and are left out.
    pub(crate) fn flows(&self) -> BTreeMap<Key, Flow> {
        let flows = self.table.iter();
        flows.map(|(key, flow)| (*key, timeless(flow))).collect()
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
        self.expire(ordered(&born.key()), born.timeout_secs);
        self.tell(EventKind::New, born, PORT_ID);
        Ok(())
    }

    /// Changes what the message names: timeout, mark, status.
    fn update(&mut self, message: &Message<'_>) -> Result<(), i32> {
        self.writes += 1;
        let is_it = |flow: &&Flow| {
            let mut asked = Vec::new();
            encode::update(&mut asked, message.seq, Ack::None, flow, Update::default());
            // Behind the length and the flags, which the rest of the message changes.
            message.bytes[8..].starts_with(&asked[8..])
        };
        let found = self.table.values().find(is_it);
        let key = ordered(&found.ok_or(libc::ENOENT)?.key());
        let held = self.table.get_mut(&key).expect("was just found");
        // The header of nfnetlink is behind that of netlink.
        for attr in Attrs::new(&message.bytes[20..]) {
            let attr = attr.expect("the engine writes well-formed messages");
            let value = attr.be32();
            match attr.kind {
                CTA_MARK => held.mark = value.expect("four bytes"),
                CTA_TIMEOUT => held.timeout_secs = value.expect("four bytes"),
                CTA_STATUS => {
                    let status = Status(value.expect("four bytes"));
                    let kept = held.status.0 & (Status::SEEN_REPLY | Status::ASSURED);
                    if !status.has(kept) {
                        return Err(libc::EBUSY);
                    }
                    held.status = status;
                }
                _ => {}
            }
        }
        let held = *held;
        self.expire(key, held.timeout_secs);
        self.tell(EventKind::Update, held, PORT_ID);
        Ok(())
    }

    fn expire(&mut self, key: Key, timeout_secs: u32) {
        if let Some(now) = self.now {
            let timeout = Duration::from_secs(u64::from(timeout_secs));
            self.expires.insert(key, now + timeout);
        }
    }

    fn end(&mut self, key: Key, port_id: u32) {
        self.expires.remove(&key);
        if let Some(flow) = self.table.remove(&key) {
            self.tell(EventKind::Destroy, flow, port_id);
        }
    }

    fn tell(&mut self, kind: EventKind, flow: Flow, port_id: u32) {
        self.events.push_back(event(kind, flow, port_id));
    }
}

/// Where the number of a life stands in the mark of its flow.
const LIFE_SHIFT: u32 = 2;

/// The lives of all flows of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    born: u32,
    ended: BTreeSet<u32>,
}

impl Lives {
    /// True if the flow that has this mark has ended.
    pub(crate) fn has_ended(&self, mark: u32) -> bool {
        self.ended.contains(&(mark >> LIFE_SHIFT))
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

/// A flow without its timeout.
pub(crate) fn timeless(flow: &Flow) -> Flow {
    Flow {
        timeout_secs: 0,
        ..*flow
    }
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
    let present = Present(Present::STATUS | Present::TIMEOUT);
    FlowEvent {
        kind,
        present,
        port_id,
        flow,
        rare: Rare::default(),
    }
}
