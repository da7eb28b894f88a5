//! Datagrams of somebody without the key into an engine that has one: recorded, changed, reflected,
//! cut, or made up. Nothing that `status` shows and no flow may change, and afterwards the session
//! works as before.

use std::time::{Duration, Instant};

use ctsyncd::cache::Slot;
use ctsyncd::engine::status::Status;
use ctsyncd::engine::{Command, Notice, Reply};
use ctsyncd::flow::{EventKind, Flow, FlowEvent};
use ctsyncd::replication::{Peer, PeerNotice};

use super::pair::{PEER, Pair, STRANGER, listed};
use super::steps::{Steps, number, patch, push};

const RAW: u8 = 0;
const RAW_STRANGER: u8 = 1;
const RECORDED: u8 = 2;
const REFLECTED: u8 = 3;
const KINDS: u8 = 4;

/// Does any bytes as [steps](crate::steps) of somebody who hears everything and has no key; returns
/// how many were refused with a reason.
pub fn run(bytes: &[u8]) -> usize {
    let mut steps = Steps::new(bytes).peekable();
    if steps.peek().is_none() {
        return 0;
    }
    let mut pair = Pair::warm(Some(7));
    // Not to be taken for the silence of a moment ago.
    pair.now += Duration::from_millis(3);
    let before = View::of(&pair);
    let refused = refusals(&mut pair);
    for (kind, argument) in steps {
        let (from, mut datagram) = match kind % KINDS {
            RAW => (PEER, argument.to_vec()),
            RAW_STRANGER => (STRANGER, argument.to_vec()),
            kind => {
                let sent = if kind == RECORDED {
                    &pair.peer.sent
                } else {
                    &pair.us.sent
                };
                let (at, patches) = number(argument);
                let mut datagram = sent[at % sent.len()].clone();
                patch(&mut datagram, patches);
                (if at.is_multiple_of(2) { PEER } else { STRANGER }, datagram)
            }
        };
        pair.us.hear(pair.now, from, &mut datagram);
        let is_of_strangers =
            |notice: &Notice| matches!(notice, Notice::Peer(PeerNotice::Stranger { .. }));
        assert!(pair.us.notices.iter().all(is_of_strangers));
    }
    assert_eq!(View::of(&pair), before);
    let refused = refusals(&mut pair) - refused;
    goes_on(&mut pair);
    refused
}

/// What nobody without the key may change.
#[derive(PartialEq, Debug)]
struct View {
    status: Status,
    flows: Vec<(Flow, u64)>,
    proven: Vec<(u64, Option<Instant>)>,
}

impl View {
    fn of(pair: &Pair) -> Self {
        let engine = &pair.us.engine;
        let mut status = engine.status(pair.now);
        // Who cannot be understood is shown: that is what it is for.
        status.strangers.clear();
        Self {
            status,
            flows: engine.peers().iter().flat_map(replica).collect(),
            proven: engine
                .peers()
                .iter()
                .map(|peer| (peer.high(), peer.verified_at()))
                .collect(),
        }
    }
}

fn replica(peer: &Peer) -> Vec<(Flow, u64)> {
    let Some(replica) = peer.replica() else {
        return Vec::new();
    };
    let slots = (0..replica.slots()).map(Slot);
    slots
        .filter_map(|slot| Some((*replica.flow(slot)?.0, replica.stamp(slot))))
        .collect()
}

/// Everything that was counted for not being understood, or not again.
fn refusals(pair: &mut Pair) -> usize {
    let Reply::Stats(stats) = pair.us.engine.handle_command(pair.now, Command::Stats) else {
        panic!("counters are asked for and something else is answered");
    };
    let counted = stats.iter().filter(|(name, _)| {
        let name = name.strip_prefix("replication.").unwrap_or("");
        name.starts_with("un")
            || ["replays", "duplicates", "not_for_us", "beyond_window"].contains(&name)
    });
    counted.map(|&(_, count)| count as usize).sum()
}

/// A flow that begins now comes over, in the session of before.
fn goes_on(pair: &mut Pair) {
    let event = FlowEvent {
        kind: EventKind::New,
        ..listed(999)
    };
    pair.peer.engine.handle_events(pair.now, &[event]);
    for _ in 0..100 {
        pair.exchange();
        let peer = &pair.us.engine.peers()[0];
        let replica = peer.replica().expect("they have met");
        if replica.find(&event.flow.key()).is_some() {
            return;
        }
        pair.wait(Duration::from_millis(20));
    }
    panic!("somebody without the key has stopped the stream");
}

/// Steps to start from: each datagram again, changed, cut and reflected, and what is no datagram.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let pair = Pair::warm(Some(7));
    let mut seeds = Vec::new();
    for (at, datagram) in pair.peer.sent.iter().enumerate() {
        let at = u16::try_from(at).expect("a few").to_be_bytes();
        let mut out = Vec::new();
        push(&mut out, RECORDED, &at);
        push(&mut out, RECORDED, &[at[0], at[1], 0, 12, 1]);
        push(&mut out, RECORDED, &[at[0], at[1], 1]);
        push(&mut out, REFLECTED, &at);
        push(&mut out, RAW, &datagram[..8]);
        seeds.push((format!("again-{}", at[1]), out));
    }
    let clear = Pair::warm(None);
    let mut out = Vec::new();
    for datagram in clear.peer.sent.iter().take(6) {
        push(&mut out, RAW_STRANGER, datagram);
    }
    seeds.push(("in-the-clear".into(), out));
    seeds
}
