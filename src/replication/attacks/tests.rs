//! Tests: what somebody on the link can do who has no key, but hears and records everything.

use crate::flow::tuple::TCP;
use crate::flow::{EventKind, Flow, FlowEvent, Present, Rare, Tuple};
use crate::replication::*;
use crate::wire::seal::ClusterKey;
use crate::wire::seal::SealError;
use crate::wire::{Epoch, Name, Versions};

const MILLI: Duration = Duration::from_millis(1);

/// A node: its end of the protocol, and its table.
struct Node {
    replication: Replication,
    local: Local,
}

impl Node {
    fn new(name: &str, epoch: u8, key: Option<u8>, now: Instant) -> Self {
        let key = key.map(|byte| ClusterKey::new([byte; 32]));
        let settings = ReplicationSettings {
            identity: Identity {
                name: Name::new(name.as_bytes()).expect("a literal name"),
                epoch: Epoch([epoch; 16]),
            },
            versions: Versions::OURS,
            keyring: key.map(|primary| Keyring {
                primary,
                other: None,
            }),
            secret: HashKey([u64::from(epoch), 7]),
            links: 2,
            window: 64,
            datagram_bytes_max: 600,
            flows_max: 100,
        };
        let mut local = Local::new(HashKey([1, 2]), 100, 100);
        let (client, server) = ([192, 0, 2, epoch].into(), [198, 51, 100, 1].into());
        let orig = Tuple::new(TCP, client, server, 1, 2);
        let flow = Flow {
            orig,
            reply: orig.inverse(),
            timeout_secs: 100,
            ..Flow::default()
        };
        let event = FlowEvent {
            kind: EventKind::New,
            flow,
            rare: Rare::default(),
            present: Present(Present::STATUS | Present::TIMEOUT),
            port_id: 0,
        };
        let circumstances = crate::cache::local::Circumstances {
            now: 0,
            listeners: 0,
            round: 0,
            era: 1,
            found_era: 0,
        };
        local.apply(&event, circumstances, |_, _| true);
        Self {
            replication: Replication::new(settings, now),
            local,
        }
    }

    /// Everything that it has to send now.
    fn send(&mut self, now: Instant) -> Vec<(Transmit, Vec<u8>)> {
        self.replication.handle_timeout(at(now), &mut self.local);
        let mut sent = Vec::new();
        let mut out = Vec::new();
        while let Some(transmit) =
            self.replication
                .poll_transmit(at(now), &mut self.local, &mut out)
        {
            sent.push((transmit, out.clone()));
        }
        sent
    }

    fn hear(&mut self, now: Instant, link: u8, from: SocketAddr, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        self.replication.handle_datagram(
            at(now),
            LinkId(link),
            from,
            &mut datagram,
            &mut self.local,
        );
    }

    /// All that is known of peers.
    fn known(&self) -> String {
        format!("{:?}", self.replication.peers)
    }

    fn address_of_first(&self, now: Instant) -> Vec<SocketAddr> {
        let carrying = self.replication.peers[0].carrying(now);
        carrying.into_iter().map(|(_, address)| address).collect()
    }
}

/// Two nodes and all they have sent on link 0.
struct Pair {
    nodes: [Node; 2],
    now: Instant,
    recorded: [Vec<Vec<u8>>; 2],
}

impl Pair {
    fn new(keys: [Option<u8>; 2]) -> Self {
        let now = start();
        Self {
            nodes: [
                Node::new("fw0", 1, keys[0], now),
                Node::new("fw1", 2, keys[1], now),
            ],
            now,
            recorded: [Vec::new(), Vec::new()],
        }
    }

    /// One more millisecond, nothing lost on link 0 and nothing heard on link 1.
    fn step(&mut self) {
        self.now += MILLI;
        for from in 0..2 {
            for (transmit, datagram) in self.nodes[from].send(self.now) {
                if transmit.link == LinkId(0) {
                    self.nodes[1 - from].hear(self.now, 0, address(from), &datagram);
                    self.recorded[from].push(datagram);
                }
            }
        }
    }

    fn run(&mut self, millis: u32) {
        (0..millis).for_each(|_| self.step());
    }

    fn recorded(&self, from: usize, kind: Kind) -> Vec<Vec<u8>> {
        let of_kind =
            |bytes: &&Vec<u8>| Header::parse(bytes).is_ok_and(|(header, _)| header.kind == kind);
        self.recorded[from]
            .iter()
            .filter(of_kind)
            .cloned()
            .collect()
    }

    fn sessions(&self) -> usize {
        let has = |node: &&Node| node.replication.peers.iter().any(Peer::has_session);
        self.nodes.iter().filter(has).count()
    }
}

#[test]
fn two_nodes_with_one_key_meet_and_prove_their_tables() {
    let mut pair = Pair::new([Some(1), Some(1)]);
    pair.run(1500);
    for node in &pair.nodes {
        let peer = &node.replication.peers[0];
        assert!(peer.verified_at().is_some());
        assert_eq!(
            peer.replica().map(|replica| replica.digest().flows()),
            Some(1)
        );
    }
}

#[test]
fn with_another_key_or_none_they_do_not_meet_and_say_why() {
    for (keys, why) in [
        ([Some(1), Some(2)], [SealError::UnknownKey; 2]),
        ([Some(1), None], [SealError::InTheClear, SealError::Sealed]),
    ] {
        let mut pair = Pair::new(keys);
        pair.run(1500);
        assert_eq!(pair.sessions(), 0);
        for (node, why) in pair.nodes.iter().zip(why) {
            assert!(node.replication.peers.is_empty(), "takes no peer's place");
            let told: Vec<_> = node.replication.strangers(pair.now).collect();
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].why, why);
        }
    }
}

#[test]
fn no_forged_datagram_changes_what_is_known_of_peers() {
    let mut pair = Pair::new([Some(1), Some(1)]);
    pair.run(1500);
    // A datagram of each kind that has not arrived, so that only the seal stands between it and us.
    pair.now += Duration::from_secs(1);
    let mut fresh = pair.nodes[0].send(pair.now);
    fresh.extend(
        pair.recorded(0, Kind::Greeting)
            .into_iter()
            .chain(pair.recorded(0, Kind::Data))
            .map(|bytes| {
                (
                    Transmit {
                        link: LinkId(0),
                        to: None,
                    },
                    bytes,
                )
            }),
    );
    let kinds: std::collections::BTreeSet<u8> =
        fresh.iter().map(|(_, datagram)| datagram[3]).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    let before = pair.nodes[1].known();
    for (_, datagram) in &fresh {
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 1 << (at % 8);
            pair.nodes[1].hear(pair.now, 0, attacker(), &changed);
            pair.nodes[1].hear(pair.now, 0, attacker(), &datagram[..at]);
        }
    }
    assert_eq!(pair.nodes[1].known(), before);
}

#[test]
fn no_recording_of_the_session_changes_what_is_known_of_peers() {
    let mut pair = Pair::new([Some(1), Some(1)]);
    pair.run(1500);
    let recorded = pair.recorded[0].clone();
    pair.now += 10 * MILLI;
    let known = |pair: &Pair| {
        let peer = &pair.nodes[1].replication.peers[0];
        (
            peer.silent_for(pair.now),
            peer.high(),
            peer.verified_at(),
            pair.nodes[1].address_of_first(pair.now),
        )
    };
    let before = known(&pair);
    for datagram in &recorded {
        pair.nodes[1].hear(pair.now, 0, attacker(), datagram);
    }
    assert_eq!(known(&pair), before);
    let answers = pair.nodes[1].send(pair.now);
    let greetings = answers.iter().filter(|(_, datagram)| datagram[3] == 2);
    assert_eq!(greetings.count(), 0, "no recorded greeting is answered");
}

#[test]
fn a_recorded_hello_leads_a_second_link_astray_for_a_second_only() {
    let mut pair = Pair::new([Some(1), Some(1)]);
    pair.run(1100);
    let hello = pair.recorded(0, Kind::Hello).pop().expect("one a second");
    let on_second = |sent: Vec<(Transmit, Vec<u8>)>| {
        let second = sent
            .into_iter()
            .filter(|(transmit, _)| transmit.link == LinkId(1));
        second.filter_map(|(transmit, _)| transmit.to).next()
    };
    pair.nodes[1].hear(pair.now, 1, attacker(), &hello);
    pair.now += Duration::from_secs(1);
    let next = pair.nodes[0].send(pair.now);
    let next = next.iter().filter(|(transmit, datagram)| {
        transmit.link == LinkId(1) && datagram[3] == Kind::Hello as u8
    });
    for (_, hello) in next {
        pair.nodes[1].hear(pair.now, 1, address(0), hello);
        pair.nodes[1].hear(pair.now, 1, attacker(), hello);
    }
    let sent = pair.nodes[1].send(pair.now);
    assert_eq!(on_second(sent), Some(address(0)));
}

#[test]
fn recorded_hellos_of_dead_runs_do_not_keep_the_living_one_out() {
    let dead = ["fw1", "fw0"].map(|name| {
        let runs = (10..15).map(|epoch| Node::new(name, epoch, Some(1), start()));
        let sent = runs.flat_map(|mut run| run.send(start() + MILLI));
        sent.map(|(_, hello)| hello).collect::<Vec<_>>()
    });
    let mut pair = Pair::new([Some(1), Some(1)]);
    for _ in 0..1500 {
        for (node, dead) in pair.nodes.iter_mut().zip(&dead) {
            for hello in dead {
                node.hear(pair.now + MILLI, 0, attacker(), hello);
            }
        }
        pair.step();
    }
    assert_eq!(pair.sessions(), 2);
}

#[test]
fn a_session_number_that_was_told_stays_true() {
    let now = start();
    let mut node = Node::new("fw0", 1, Some(1), now);
    // A run of fw1 greets, and is answered late, when it has been replaced.
    let told = |node: &mut Node, epoch: u8, now: Instant| {
        let mut other = Node::new("fw1", epoch, Some(1), now);
        for (_, hello) in other.send(now) {
            node.hear(now, 0, address(1), &hello);
        }
        let answers = node.send(now);
        let greeting = answers.into_iter().find(|(_, datagram)| datagram[3] == 2);
        (other, greeting.expect("a hello is answered").1)
    };
    let (mut first, to_first) = told(&mut node, 2, now);
    let (mut second, to_second) = told(&mut node, 3, now);
    // The first run's answer arrives only now, and is accepted; then the second's.
    for (other, greeting) in [(&mut first, to_first), (&mut second, to_second)] {
        other.hear(now, 0, address(0), &greeting);
        for (_, answer) in other.send(now) {
            node.hear(now, 0, address(1), &answer);
        }
        for (_, datagram) in node.send(now + MILLI) {
            other.hear(now, 0, address(0), &datagram);
        }
    }
    let mut later = now;
    for _ in 0..3000 {
        later += MILLI;
        for (_, datagram) in second.send(later) {
            node.hear(later, 0, address(1), &datagram);
        }
        for (_, datagram) in node.send(later) {
            second.hear(later, 0, address(0), &datagram);
        }
    }
    assert!(node.replication.peers[0].verified_at().is_some());
    assert!(second.replication.peers[0].verified_at().is_some());
}

#[expect(
    clippy::disallowed_methods,
    reason = "where time starts does not matter"
)]
fn start() -> Instant {
    Instant::now()
}

fn at(now: Instant) -> Circumstances {
    Circumstances {
        now,
        secs: 0,
        clock_micros: 1,
        table_is_complete: true,
        table_is_whole: true,
        role: 0,
        term: 0,
        ready: false,
    }
}

fn address(node: usize) -> SocketAddr {
    let last = if node == 0 { 10 } else { 11 };
    SocketAddr::from(([192, 0, 2, last], 3780))
}

fn attacker() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 66], 3780))
}
