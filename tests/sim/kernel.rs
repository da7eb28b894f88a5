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
use ctsyncd::flow::rare::{HelperName, SeqAdj};
use ctsyncd::flow::{
    EventKind, Expectation, ExpectationEvent, Family, Flow, FlowEvent, FlowKey, Present, Rare,
    Status, Tuple,
};

use crate::rng::Rng;

/// Netlink port id of the daemon's writer.
pub(crate) const PORT_ID: u32 = 4_242;

mod expecting;

type Key = [u8; 40];

/// What a table holds, in an order that two of them share: flows with their rare attributes, and
/// expectations without their timeouts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Table {
    pub(crate) flows: BTreeMap<Key, (Flow, Rare)>,
    pub(crate) expectations: BTreeMap<Key, Expectation>,
}

/// The table and what is on its way to the daemon.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    table: BTreeMap<Key, Flow>,
    /// What the helpers of flows expect, by the flow: one thing each, as with FTP.
    expected: BTreeMap<Key, Expectation>,
    /// Sequence adjustments of flows.
    adjusted: BTreeMap<Key, SeqAdj>,
    /// Flows that were adjusted since anybody has read them.
    unread: BTreeSet<Key>,
    /// How often events were lost, and how often that was when the last complete listing began.
    losses: u32,
    repaired: u32,
    events: VecDeque<Event>,
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
    read: VecDeque<FlowEvent>,
    /// The same of expectations, once all flows are read.
    expectations: Option<(VecDeque<Key>, VecDeque<ExpectationEvent>)>,
    /// It ends before its end.
    is_cut_short: bool,
    /// Something ended unseen since it began.
    is_behind: bool,
    /// Adjusted flows that it shows as they are.
    unread: BTreeSet<Key>,
    /// How often events had been lost when it began.
    losses: u32,
}

impl Table {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.flows.len() + self.expectations.len()
    }

    /// Number of entries that are not the same in both.
    pub(crate) fn differences(&self, other: &Self) -> usize {
        differences(&self.flows, &other.flows)
            + differences(&self.expectations, &other.expectations)
    }
}

fn differences<T: PartialEq>(one: &BTreeMap<Key, T>, other: &BTreeMap<Key, T>) -> usize {
    let missing = other.keys().filter(|key| !one.contains_key(*key)).count();
    let is_other = |(key, value): &(&Key, &T)| other.get(*key) != Some(*value);
    one.iter().filter(is_other).count() + missing
}

/// Something that happened.
#[derive(Debug)]
enum Event {
    Flow(FlowEvent),
    Expectation(ExpectationEvent),
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
                // A helper looks at the first packet of a flow before the flow is in the table.
                if is_master(&born) && rng.percent(30) {
                    self.expect_something(rng, key);
                }
                self.tell(EventKind::New, born, 0);
            }
            Some(held) if is_master(held) && rng.percent(40) => {
                if self.expected.contains_key(&key) && rng.percent(50) {
                    self.end_expectation(key, 0);
                } else {
                    self.expect_something(rng, key);
                    self.adjust(rng, key);
                }
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
        self.losses += 1;
    }

    /// The event buffer was full for a while: what is in it is lost.
    pub(crate) fn lose_events(&mut self) {
        self.events.clear();
        self.overrun = true;
        self.losses += 1;
    }

    /// The first flow ends.
    pub(crate) fn end_first(&mut self) {
        if let Some(&key) = self.table.keys().next() {
            self.end(key, 0);
        }
    }

    /// A flow ends without an event.
    pub(crate) fn vanish_unseen(&mut self) {
        if let Some((key, _)) = self.table.pop_first() {
            self.expected.remove(&key);
            self.adjusted.remove(&key);
            self.unread.remove(&key);
        }
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
                let mut killed = self.event(EventKind::Destroy, flow, 0);
                killed.present.0 |= Present::TIMEOUT;
                self.events.push_back(Event::Flow(killed));
                self.forget(key);
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

    /// True if a table that knows everything that was told must be this one, but for what
    /// [`Kernel::without_unread`] takes out.
    pub(crate) fn is_told(&self) -> bool {
        self.is_quiet() && !self.has_unseen
    }

    /// The node reboots: nothing is left.
    pub(crate) fn reboot(&mut self) {
        self.table.clear();
        self.expires.clear();
        self.expected.clear();
        self.adjusted.clear();
        self.unread.clear();
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
                    expectations: None,
                    is_cut_short: rng.percent(5),
                    is_behind: false,
                    unread: self.unread.clone(),
                    losses: self.losses,
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
                        MessageKind::Expectation(_) => {
                            self.write_expectation(&message).err().map(Outcome::Refused)
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
        if choice > 0
            && let Some(first) = self.events.pop_front()
        {
            return Some(self.deliver_events(rng, first));
        }
        if self.events.is_empty() && std::mem::take(&mut self.overrun) {
            return Some(Delivery::Overrun);
        }
        if let Some(done) = self.done.pop_front() {
            self.note_read(&done);
            return Some(Delivery::Done(done));
        }
        let mut running = self.listing.take()?;
        let up_to = |rng: &mut Rng, len: usize| rng.below(len as u64 + 1) as usize;
        let done =
            if !running.read.is_empty() || (!running.to_read.is_empty() && !running.is_cut_short) {
                let count = up_to(rng, running.to_read.len());
                for key in running.to_read.drain(..count) {
                    let flow = self.table.get(&key).map(|flow| self.with_time_left(*flow));
                    running
                        .read
                        .extend(flow.map(|flow| self.event(EventKind::Listed, flow, 0)));
                }
                let count = up_to(rng, running.read.len());
                RequestDone::Listed(running.read.drain(..count).collect())
            } else if running.is_cut_short {
                let complete = running.to_read.is_empty();
                if !complete {
                    return Some(Delivery::Done(RequestDone::DumpEnded { complete }));
                }
                running.is_cut_short = false;
                RequestDone::Listed(Vec::new())
            } else {
                let (to_read, read) = running.expectations.get_or_insert_with(|| {
                    (self.expected.keys().copied().collect(), VecDeque::new())
                });
                if to_read.is_empty() && read.is_empty() {
                    self.has_unseen &= running.is_behind;
                    self.repaired = running.losses;
                    self.unread.retain(|key| !running.unread.contains(key));
                    return Some(Delivery::Done(RequestDone::DumpEnded { complete: true }));
                }
                let count = up_to(rng, to_read.len());
                for key in to_read.drain(..count) {
                    let expected = self.expected.get(&key).copied();
                    read.extend(expected.map(|expectation| ExpectationEvent {
                        kind: EventKind::Listed,
                        port_id: 0,
                        expectation,
                    }));
                }
                let count = up_to(rng, read.len());
                RequestDone::ListedExpectations(read.drain(..count).collect())
            };
        self.listing = Some(running);
        Some(Delivery::Done(done))
    }

    /// As a listing shows it.
    fn with_time_left(&self, flow: Flow) -> Flow {
        let at = self.expires.get(&ordered(&flow.key()));
        let left = at
            .zip(self.now)
            .map(|(at, now)| at.saturating_duration_since(now));
        Flow {
            timeout_secs: left.map_or(flow.timeout_secs, |left| left.as_secs() as u32),
            ..flow
        }
    }

    /// Nothing is on its way to the daemon.
    pub(crate) fn is_quiet(&self) -> bool {
        self.events.is_empty() && self.done.is_empty() && self.listing.is_none() && !self.overrun
    }

    /// The table, in an order that two kernels share. Timeouts tick, and are left out.
    pub(crate) fn flows(&self) -> BTreeMap<Key, Flow> {
        let flows = self.table.iter();
        flows
            .map(|(key, flow)| (*key, without_time(flow)))
            .collect()
    }

    /// Everything that a cache of the table must hold.
    pub(crate) fn table(&self) -> Table {
        let flows = self.table.iter();
        Table {
            flows: flows
                .map(|(key, flow)| {
                    let rare = self.event(EventKind::Listed, *flow, 0).rare;
                    (*key, (without_time(flow), rare))
                })
                .collect(),
            expectations: self.expected.values().copied().map(timeless).collect(),
        }
    }

    /// The node has lost its role: its daemon need not tell at once that translated flows have ended.
    pub(crate) fn lose_role(&mut self) {
        self.has_departed = true;
    }

    /// A table without the adjustments that nobody has read, and without the flows whose ends may be
    /// held back.
    pub(crate) fn without_unread(&self, mut table: Table) -> Table {
        for key in &self.unread {
            if let Some((flow, rare)) = table.flows.get_mut(key) {
                flow.status.0 &= !Status::SEQ_ADJUST;
                rare.seqadj_orig = None;
            }
        }
        if self.has_departed {
            table.flows.retain(|_, (flow, _)| !flow.is_snat());
            table.expectations.clear();
        }
        table
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
            Outcome::Found(Box::new(self.event(EventKind::Listed, *flow, 0)))
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
        let mut born = Flow {
            id: self.lives,
            ..event.flow
        };
        let key = ordered(&born.key());
        if let Some(adjustment) = event.rare.seqadj_orig {
            self.adjusted.insert(key, adjustment);
            born.status.0 |= Status::SEQ_ADJUST;
        }
        self.table.insert(key, born);
        self.expire(key, born.timeout_secs);
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

    /// A flow is gone, and with it what hangs on it.
    fn forget(&mut self, key: Key) {
        self.expires.remove(&key);
        self.end_expectation(key, 0);
        self.adjusted.remove(&key);
        self.unread.remove(&key);
    }

    fn end(&mut self, key: Key, port_id: u32) {
        self.expires.remove(&key);
        if let Some(flow) = self.table.remove(&key) {
            self.tell(EventKind::Destroy, flow, port_id);
            self.forget(key);
        }
    }

    fn tell(&mut self, kind: EventKind, flow: Flow, port_id: u32) {
        let event = self.event(kind, flow, port_id);
        self.events.push_back(Event::Flow(event));
    }

    /// What is said of a flow: its adjustment only where somebody asks, or where it was born so.
    fn event(&self, kind: EventKind, flow: Flow, port_id: u32) -> FlowEvent {
        let mut event = FlowEvent {
            kind,
            // What expires has no timeout any more.
            present: match kind {
                EventKind::Destroy => Present(Present::STATUS),
                _ => Present(Present::STATUS | Present::TIMEOUT),
            },
            port_id,
            flow,
            rare: Rare::default(),
        };
        if is_master(&flow) {
            event.rare.helper = HelperName::new(b"ftp");
            event.present.0 |= Present::HELPER;
        }
        let is_told = matches!(kind, EventKind::Listed | EventKind::New);
        if let Some(adjustment) = self.adjusted.get(&ordered(&flow.key())).filter(|_| is_told) {
            event.rare.seqadj_orig = Some(*adjustment);
            event.present.0 |= Present::SEQADJ;
        }
        event
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
    /// Events about flows.
    Events(Vec<FlowEvent>),
    /// An event about an expectation.
    Expectation(ExpectationEvent),
    /// Some were dropped.
    Overrun,
    /// An answer.
    Done(RequestDone),
}

/// An expectation by what tells it apart, without its timeout.
pub(crate) fn timeless(expectation: Expectation) -> (Key, Expectation) {
    let key = FlowKey {
        orig: expectation.tuple,
        zone: expectation.zone,
    };
    let timeless = Expectation {
        timeout_secs: 0,
        ..expectation
    };
    (ordered(&key), timeless)
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
pub(crate) fn without_time(flow: &Flow) -> Flow {
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

/// True for flows that have a helper. Over IPv6 none has: what it would expect does not fit in the
/// datagrams of the smallest worlds.
fn is_master(flow: &Flow) -> bool {
    flow.orig.dst_id == 53 && flow.orig.src_id % 2 == 1 && flow.orig.family == Family::V4
}
