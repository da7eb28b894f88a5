//! Datagrams into an engine that has a session, in the clear, so that every byte reaches the inside:
//! a peer that says anything it likes, from inside of its session and from outside.

use std::time::Duration;

use ctsyncd::engine::{Command, FlowsFrom, Reply};
use ctsyncd::flow::{EventKind, FlowEvent};
use ctsyncd::wire::{Header, Kind, NUMBER_MAX};

use super::pair::{PEER, Pair, STRANGER, listed};
use super::steps::{Steps, number, patch, push};
use super::wire::can_be_told;

const RAW: u8 = 0;
const RAW_STRANGER: u8 = 1;
const RECORDED: u8 = 2;
const LIVE: u8 = 3;
const EXCHANGE: u8 = 4;
const WAIT: u8 = 5;
const CHURN: u8 = 6;
const COMMAND: u8 = 7;
const DATA: u8 = 8;
const CONTROL: u8 = 9;
const KINDS: u8 = 10;

/// Does any bytes as [steps](crate::steps) to a pair of engines.
pub fn run(bytes: &[u8]) -> usize {
    let mut steps = Steps::new(bytes).peekable();
    if steps.peek().is_none() {
        return 0;
    }
    let mut pair = Pair::warm(None);
    let before = pair.us.engine.peers()[0].high();
    for (kind, argument) in steps {
        step(&mut pair, kind % KINDS, argument);
        pair.us.settle(pair.now);
    }
    let understood = pair.us.engine.peers().iter().map(|peer| peer.high());
    let understood = understood.max().unwrap_or(0).saturating_sub(before);
    tell_all(&mut pair);
    pair.us.engine.handle_command(pair.now, Command::Promote);
    pair.us.settle(pair.now);
    pair.wait(Duration::from_secs(4));
    let status = pair.us.engine.status(pair.now);
    assert_eq!(status.peers.len(), pair.us.engine.peers().len());
    usize::try_from(understood).unwrap_or(usize::MAX)
}

fn step(pair: &mut Pair, kind: u8, argument: &[u8]) {
    let now = pair.now;
    match kind {
        RAW => pair.us.hear(now, PEER, &mut argument.to_vec()),
        RAW_STRANGER => pair.us.hear(now, STRANGER, &mut argument.to_vec()),
        RECORDED => {
            let (at, patches) = number(argument);
            let mut datagram = pair.peer.sent[at % pair.peer.sent.len()].clone();
            patch(&mut datagram, patches);
            pair.us.hear(now, PEER, &mut datagram);
        }
        LIVE => {
            pair.peer.settle(now);
            if let Some(mut datagram) = pair.next_of_peer() {
                patch(&mut datagram, argument);
                pair.us.hear(now, PEER, &mut datagram);
            }
        }
        EXCHANGE => pair.exchange(),
        WAIT => pair.wait(Duration::from_millis(number(argument).0 as u64)),
        CHURN => {
            let number = u16::from(argument.first().copied().unwrap_or(0));
            let kind = match argument.get(1).map_or(0, |byte| byte % 3) {
                0 => EventKind::New,
                1 => EventKind::Update,
                _ => EventKind::Destroy,
            };
            let event = FlowEvent {
                kind,
                ..listed(number)
            };
            pair.peer.engine.handle_events(now, &[event]);
        }
        COMMAND => {
            let commands = [
                Command::Commit { from: Vec::new() },
                Command::Promote,
                Command::Demote,
                Command::FlushReplicas,
                Command::FlushLocal,
                Command::ResyncPeers,
                Command::ResyncKernel,
                Command::Stats,
            ];
            let at = usize::from(argument.first().copied().unwrap_or(0));
            let command = commands[at % commands.len()].clone();
            pair.us.engine.handle_command(now, command);
        }
        DATA => forge(pair, Kind::Data, argument),
        _ => forge(pair, Kind::Control, argument),
    }
}

/// A datagram that continues the peer's session: how far its number is ahead, and a body.
fn forge(pair: &mut Pair, kind: Kind, argument: &[u8]) {
    let (ahead, body) = number(argument);
    let of_kind = |datagram: &Vec<u8>| {
        let (header, _) = Header::parse(datagram).expect("engines write headers well");
        (header.kind == kind).then_some(header)
    };
    let Some(mut header) = pair.peer.sent.iter().rev().find_map(of_kind) else {
        return;
    };
    header.number = (header.number + ahead as u64).min(NUMBER_MAX);
    let mut datagram = Vec::new();
    header.emit(&mut datagram);
    datagram.extend_from_slice(body);
    pair.us.hear(pair.now, PEER, &mut datagram);
}

/// Every flow that is held can be put into words and into requests.
fn tell_all(pair: &mut Pair) {
    let mut from = Some(FlowsFrom::Local(0));
    while let Some(next) = from {
        let command = Command::Flows {
            from: next,
            slots_max: 50,
        };
        let Reply::Flows { flows, next, .. } = pair.us.engine.handle_command(pair.now, command)
        else {
            panic!("flows are asked for and something else is answered");
        };
        for (flow, rare, left) in &flows {
            can_be_told(flow, rare, *left);
        }
        from = next;
    }
}

/// Steps to start from: what the peer sent, as it is, changed, live, and forged from its bodies.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let pair = Pair::warm(None);
    let mut seeds = Vec::new();
    for (at, datagram) in pair.peer.sent.iter().enumerate() {
        let (header, body) = Header::parse(datagram).expect("engines write headers well");
        let at = u16::try_from(at).expect("a few").to_be_bytes();
        let mut out = Vec::new();
        push(&mut out, RAW_STRANGER, datagram);
        push(&mut out, RECORDED, &[at[0], at[1], 0, 20, 1]);
        let mut forged = vec![0, 1];
        forged.extend_from_slice(body);
        let kind = if header.kind == Kind::Data {
            DATA
        } else {
            CONTROL
        };
        push(&mut out, kind, &forged);
        seeds.push((format!("{:?}-{}", header.kind, at[1]), out));
    }
    let mut life = Vec::new();
    for number in 0..6 {
        push(&mut life, CHURN, &[number, 0]);
        push(&mut life, LIVE, &[]);
        push(&mut life, CHURN, &[number, 2]);
        push(&mut life, WAIT, &[0, 30]);
        push(&mut life, EXCHANGE, &[]);
        push(&mut life, COMMAND, &[number]);
    }
    seeds.push(("life".into(), life));
    let mut raw = Vec::new();
    push(&mut raw, RAW, b"short");
    seeds.push(("raw".into(), raw));
    seeds
}
