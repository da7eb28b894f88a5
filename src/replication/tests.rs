//! Two nodes wired back to back: how they meet, whatever is lost, and which link carries.

use super::*;
use crate::flow::{EventKind, Flow, FlowEvent, Rare, Tuple};
use crate::wire::{Epoch, Hello, Name, PROTOCOL_VERSION, Versions};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Without a hello for this long a node without a common version is gone (docs/protocol.md, 14).
const INCOMPATIBLE_SHOWN: Duration = Duration::from_secs(10);

/// A datagram on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Datagram {
    link: LinkId,
    bytes: Vec<u8>,
}

impl Datagram {
    fn kind(&self) -> Kind {
        Header::parse(&self.bytes).expect("well-formed").0.kind
    }
}

struct Node {
    replication: Replication,
    local: Local,
    began: Instant,
    address: SocketAddr,
}

impl Node {
    fn new(name: &str, run: u8, links: u8, now: Instant) -> Self {
        let settings = ReplicationSettings {
            identity: identity(name, run),
            versions: Versions::OURS,
            keyring: None,
            secret: HashKey([u64::from(run), 77]),
            links,
            window: 64,
            datagram_bytes_max: 1400,
            flows_max: 1000,
        };
        Self {
            replication: Replication::new(settings, now),
            local: Local::new(HashKey([u64::from(run), 1]), 1000, 1000),
            began: now,
            address: SocketAddr::from(([192, 0, 2, run], 3780)),
        }
    }

    fn at(&self, now: Instant) -> Circumstances {
        let elapsed = now - self.began;
        Circumstances {
            now,
            secs: 1000,
            clock_micros: 1 + u64::try_from(elapsed.as_micros()).expect("a short test"),
            table_is_complete: true,
            table_is_whole: true,
            role: 0,
            term: 0,
            ready: false,
        }
    }

    fn drain(&mut self, now: Instant) -> Vec<Datagram> {
        let at = self.at(now);
        if self.replication.poll_timeout() <= now {
            self.replication.handle_timeout(at, &mut self.local);
        }
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        while let Some(transmit) = self
            .replication
            .poll_transmit(at, &mut self.local, &mut bytes)
        {
            let link = transmit.link;
            let bytes = bytes.clone();
            sent.push(Datagram { link, bytes });
        }
        sent
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &Datagram) {
        let at = self.at(now);
        let Datagram { link, bytes } = datagram;
        self.replication
            .handle_datagram(at, *link, from, &mut bytes.clone(), &mut self.local);
    }

    fn add_flow(&mut self, now: Instant, number: u16) {
        let orig = Tuple::new(17, [10, 0, 0, 1].into(), [192, 0, 2, 1].into(), number, 53);
        let event = FlowEvent {
            kind: EventKind::New,
            flow: Flow {
                orig,
                reply: orig.inverse(),
                timeout_secs: 120,
                ..Flow::default()
            },
            rare: Rare::default(),
            ..FlowEvent::default()
        };
        let change = crate::cache::local::Circumstances {
            now: 1000,
            listeners: self.replication.listeners(),
            round: 0,
            era: 0,
            found_era: 0,
        };
        self.local.apply(&event, change, |_, _| true);
        self.replication.handle_change(now);
    }

    fn session_with(&self, at: usize) -> bool {
        self.replication
            .peers()
            .get(at)
            .is_some_and(Peer::has_session)
    }

    fn notices(&mut self) -> Vec<PeerNotice> {
        std::iter::from_fn(|| self.replication.poll_notice()).collect()
    }
}

/// Two nodes, and what went over the links.
struct Pair {
    nodes: [Node; 2],
    now: Instant,
    /// Everything that was sent, with its sender.
    sent: Vec<(usize, Datagram)>,
    /// Senders that do not get through on a link.
    cut: Vec<(usize, LinkId)>,
    /// Position in `sent` of the one datagram that is lost.
    lost: Option<usize>,
    /// How long a datagram takes.
    delay: Duration,
    under_way: Vec<(Instant, usize, Datagram)>,
}

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "where virtual time starts does not matter"
    )]
    let now = Instant::now();
    now + SECOND
}

impl Pair {
    fn new(links: u8) -> Self {
        let now = start();
        Self {
            nodes: [
                Node::new("fw1", 1, links, now),
                Node::new("fw2", 2, links, now),
            ],
            now,
            sent: Vec::new(),
            cut: Vec::new(),
            lost: None,
            delay: MILLI,
            under_way: Vec::new(),
        }
    }

    /// Lets time pass in steps of a millisecond.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            for from in [0, 1] {
                for datagram in self.nodes[from].drain(self.now) {
                    let is_lost = self.lost == Some(self.sent.len());
                    if !is_lost && !self.cut.contains(&(from, datagram.link)) {
                        let arrival = self.now + self.delay;
                        self.under_way.push((arrival, from, datagram.clone()));
                    }
                    self.sent.push((from, datagram));
                }
            }
            self.now += MILLI;
            let now = self.now;
            let arrived: Vec<_> = self
                .under_way
                .extract_if(.., |(arrival, ..)| *arrival <= now)
                .collect();
            for (_, from, datagram) in arrived {
                let address = self.nodes[from].address;
                self.nodes[1 - from].receive(now, address, &datagram);
            }
        }
    }

    /// Cuts a link in both directions.
    fn cut(&mut self, link: LinkId) {
        self.cut = vec![(0, link), (1, link)];
    }

    fn restart(&mut self, at: usize, run: u8, links: u8) {
        let name = self.nodes[at].replication.settings.identity.name;
        self.nodes[at] = Node::new(name.as_str(), run, links, self.now);
    }

    fn have_met(&self) -> bool {
        self.nodes.iter().all(|node| node.session_with(0))
    }

    fn is_equal(&self, holder: usize) -> bool {
        let peer = &self.nodes[holder].replication.peers()[0];
        let replica = peer.replica().expect("there is a session").digest();
        let table = self.nodes[1 - holder].local.digest();
        (replica.flows(), replica.root()) == (table.flows(), table.root())
            && peer.verdict() == Some(crate::wire::Outcome::Equal)
    }

    /// The number by which the second node addresses the first.
    fn session_towards_the_first(&self) -> u64 {
        let (_, data) = self
            .sent
            .iter()
            .rfind(|(from, datagram)| *from == 1 && datagram.kind() == Kind::Data)
            .expect("markers are sent");
        Header::parse(&data.bytes).expect("well-formed").0.session
    }

    fn carrier(&self, at: usize) -> Option<LinkId> {
        self.nodes[at].replication.peers()[0].link(self.now)
    }
}

#[test]
fn two_nodes_meet_within_a_few_datagrams() {
    let mut pair = Pair::new(1);
    pair.nodes[0].add_flow(pair.now, 1);
    pair.run(50 * MILLI);
    assert!(pair.have_met() && pair.is_equal(0) && pair.is_equal(1));
    let started = |notice: &PeerNotice| matches!(notice, PeerNotice::SessionStarted { .. });
    for node in &mut pair.nodes {
        let sessions = node.notices().iter().filter(|it| started(it)).count();
        assert_eq!(sessions, 1, "one session, whoever began");
        assert_eq!(node.replication.counters().unknown_session, 0);
    }
}

#[test]
fn they_meet_whatever_single_datagram_is_lost() {
    let mut undisturbed = Pair::new(1);
    undisturbed.run(30 * MILLI);
    for lost in 0..undisturbed.sent.len() {
        let mut pair = Pair::new(1);
        pair.nodes[0].add_flow(pair.now, 1);
        pair.lost = Some(lost);
        pair.run(3 * SECOND);
        assert!(pair.have_met(), "without datagram {lost}");
        assert!(
            pair.is_equal(0) && pair.is_equal(1),
            "without datagram {lost}"
        );
        for node in &mut pair.nodes {
            let started = |notice: &PeerNotice| matches!(notice, PeerNotice::SessionStarted { .. });
            let sessions = node.notices().iter().filter(|it| started(it)).count();
            assert_eq!(sessions, 1, "without datagram {lost}");
        }
    }
}

#[test]
fn a_hello_proves_nothing_and_ends_no_session() {
    let mut pair = Pair::new(1);
    pair.run(500 * MILLI);
    let before = pair.nodes[0].replication.peers()[0].high();
    // A stranger says that it is fw2, in a run that is not there.
    let mut stranger = Node::new("fw2", 9, 1, pair.now);
    let hello = stranger.drain(pair.now).remove(0);
    assert_eq!(hello.kind(), Kind::Hello);
    let from = stranger.address;
    pair.nodes[0].receive(pair.now, from, &hello);
    let answers = pair.nodes[0].drain(pair.now);
    assert_eq!(
        answers
            .iter()
            .filter(|it| it.kind() == Kind::Greeting)
            .count(),
        1
    );
    pair.nodes[0].receive(pair.now, from, &hello);
    let answers = pair.nodes[0].drain(pair.now);
    assert!(answers.is_empty(), "and costs an answer now and then only");
    pair.run(2 * SECOND);
    assert!(pair.have_met() && pair.is_equal(0) && pair.is_equal(1));
    assert!(
        pair.nodes[0].replication.peers()[0].high() > before,
        "it goes on"
    );
}

#[test]
fn a_greeting_without_the_challenge_is_not_believed() {
    let now = start();
    let mut node = Node::new("fw1", 1, 1, now);
    for echo in [None, Some(12345)] {
        let mut bytes = Vec::new();
        Header {
            kind: Kind::Greeting,
            seal: 0,
            session: 0,
            number: 1,
            floor: 0,
            sender: Some(identity("fw2", 2)),
        }
        .emit(&mut bytes);
        Greeting {
            to: node.replication.settings.identity,
            challenge: 5,
            echo,
            session: 6,
            have: 0,
            window: 64,
            flows: 0,
            hash_key: [1, 2],
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            features: 0,
        }
        .emit(&mut bytes);
        let link = LinkId(0);
        let from = SocketAddr::from(([192, 0, 2, 2], 3780));
        node.receive(now, from, &Datagram { link, bytes });
        assert!(!node.session_with(0));
    }
}

#[test]
fn recordings_of_an_epoch_that_was_left_change_nothing() {
    let mut pair = Pair::new(1);
    pair.run(100 * MILLI);
    pair.restart(1, 3, 1);
    pair.run(2 * SECOND);
    assert!(pair.have_met());
    let recorded: Vec<Datagram> = pair
        .sent
        .iter()
        .filter(|(from, _)| *from == 1)
        .map(|(_, datagram)| datagram.clone())
        .collect();
    pair.nodes[0].notices();
    let session = pair.session_towards_the_first();
    for datagram in &recorded {
        let from = pair.nodes[1].address;
        pair.nodes[0].receive(pair.now, from, datagram);
        let sent = pair.nodes[0].drain(pair.now);
        let is_greeting = |it: &Datagram| it.kind() == Kind::Greeting;
        assert!(!sent.iter().any(is_greeting), "not even an answer");
    }
    assert!(pair.nodes[0].replication.peers()[0].answers_to(session));
    let is_start = |it: &PeerNotice| matches!(it, PeerNotice::SessionStarted { .. });
    assert!(!pair.nodes[0].notices().iter().any(is_start));
}

#[test]
fn a_peer_that_restarts_gets_a_session_of_its_own() {
    let mut pair = Pair::new(1);
    for number in 1..=5 {
        pair.nodes[1].add_flow(pair.now, number);
    }
    pair.run(100 * MILLI);
    let old = pair.session_towards_the_first();
    pair.restart(1, 3, 1);
    pair.nodes[1].add_flow(pair.now, 1);
    pair.run(3 * SECOND);
    assert!(pair.have_met() && pair.is_equal(0) && pair.is_equal(1));
    let peers = pair.nodes[0].replication.peers();
    assert_eq!(peers.len(), 1, "the same peer by its name");
    assert!(!peers[0].answers_to(old));
    assert_ne!(
        old,
        pair.session_towards_the_first(),
        "session numbers are not used twice"
    );
}

#[test]
fn datagrams_of_a_session_that_is_not_ours_are_counted_and_dropped() {
    let mut pair = Pair::new(1);
    pair.run(100 * MILLI);
    let (_, data) = pair
        .sent
        .iter()
        .rfind(|(from, datagram)| *from == 1 && datagram.kind() == Kind::Data)
        .expect("markers are sent")
        .clone();
    let mut other = data;
    other.bytes[5] ^= 1; // the first byte of the session
    let from = pair.nodes[1].address;
    pair.now += SECOND;
    let silent = pair.nodes[0].replication.peers()[0].silent_for(pair.now);
    assert!(silent >= SECOND);
    pair.nodes[0].receive(pair.now, from, &other);
    assert_eq!(pair.nodes[0].replication.counters().unknown_session, 1);
    let after = pair.nodes[0].replication.peers()[0].silent_for(pair.now);
    assert_eq!(after, silent, "it is no sign of life");
}

#[test]
fn a_node_with_our_name_is_told_of_and_not_met() {
    let mut pair = Pair::new(1);
    pair.nodes[1] = Node::new("fw1", 2, 1, pair.now);
    pair.run(50 * MILLI);
    for node in &mut pair.nodes {
        assert!(node.replication.peers().is_empty());
        assert_eq!(node.replication.counters().own_name, 1);
        let name = node.replication.settings.identity.name;
        assert_eq!(node.notices(), [PeerNotice::DuplicateName { name }]);
    }
}

fn identity(name: &str, run: u8) -> Identity {
    let name = Name::new(name.as_bytes()).expect("a valid name");
    let epoch = Epoch([run; 16]);
    Identity { name, epoch }
}

fn hello(name: &str, run: u8, versions: (u8, u8)) -> Datagram {
    let mut bytes = Vec::new();
    Header {
        kind: Kind::Hello,
        seal: 0,
        session: 0,
        number: 1,
        floor: 0,
        sender: Some(identity(name, run)),
    }
    .emit(&mut bytes);
    Hello {
        version_min: versions.0,
        version_max: versions.1,
        features: 0,
    }
    .emit(&mut bytes);
    let link = LinkId(0);
    Datagram { link, bytes }
}

#[test]
fn a_node_that_speaks_other_versions_is_told_of_once_and_not_met() {
    let now = start();
    let mut node = Node::new("fw1", 1, 1, now);
    let from = SocketAddr::from(([192, 0, 2, 2], 3780));
    let versions = (PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 2);
    for _ in 0..3 {
        node.receive(now, from, &hello("fw2", 2, versions));
    }
    let name = node.replication.peers()[0].name();
    assert_eq!(
        node.notices(),
        [PeerNotice::Incompatible { name, versions }]
    );
    let peer = &node.replication.peers()[0];
    let (min, max) = versions;
    assert_eq!(peer.incompatible(now), Some(Versions { min, max }));
    let gone = now + INCOMPATIBLE_SHOWN;
    assert_eq!(peer.incompatible(gone), None, "no longer heard");
    let sent = node.drain(now);
    assert!(sent.iter().all(|datagram| datagram.kind() == Kind::Hello));
    node.receive(now, from, &hello("fw2", 2, (PROTOCOL_VERSION, 9)));
    let peer = &node.replication.peers()[0];
    assert_eq!(peer.incompatible(now), None, "upgraded");
}

#[test]
fn a_run_without_a_common_version_says_nothing_about_one_that_is_heard() {
    let mut pair = Pair::new(1);
    pair.run(SECOND);
    let from = SocketAddr::from(([192, 0, 2, 99], 3780));
    let newer = (PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 1);
    let other = hello("fw2", 99, newer);
    pair.nodes[0].notices();
    for _ in 0..5 {
        pair.nodes[0].receive(pair.now, from, &other);
        pair.run(SECOND);
    }
    let (node, now) = (&mut pair.nodes[0], pair.now);
    assert_eq!(node.replication.peers()[0].incompatible(now), None);
    assert_eq!(node.notices(), []);
    assert!(pair.have_met() && pair.is_equal(0));
    // It is silent: then what is heard under its name is what it has become.
    pair.now += 5 * SECOND;
    let (node, now) = (&mut pair.nodes[0], pair.now);
    node.receive(now, from, &other);
    assert!(node.replication.peers()[0].incompatible(now).is_some());
    let is_told = |notice: &PeerNotice| matches!(notice, PeerNotice::Incompatible { .. });
    assert!(node.notices().iter().any(is_told));
    pair.run(2 * SECOND);
    let (node, now) = (&pair.nodes[0], pair.now);
    assert_eq!(
        node.replication.peers()[0].incompatible(now),
        None,
        "it is back"
    );
}

#[test]
fn who_changes_its_versions_all_the_time_is_told_of_once_a_minute() {
    let now = start();
    let mut node = Node::new("fw1", 1, 1, now);
    let from = SocketAddr::from(([192, 0, 2, 2], 3780));
    for second in 0..61 {
        let lowest = PROTOCOL_VERSION + 1 + second % 2;
        let hello = hello("fw2", second, (lowest, lowest));
        node.receive(now + SECOND * u32::from(second), from, &hello);
    }
    assert_eq!(node.notices().len(), 2);
}

#[test]
fn peers_are_bounded_and_one_that_never_had_a_session_makes_room() {
    let mut pair = Pair::new(1);
    pair.run(50 * MILLI);
    let from = SocketAddr::from(([192, 0, 2, 99], 3780));
    let versions = (PROTOCOL_VERSION, PROTOCOL_VERSION);
    for run in 10..10 + 2 * PEERS_MAX as u8 {
        let hello = hello(&format!("x{run}"), run, versions);
        pair.nodes[0].receive(pair.now, from, &hello);
    }
    let replication = &pair.nodes[0].replication;
    assert_eq!(replication.peers().len(), PEERS_MAX);
    assert_eq!(replication.counters().peers_full, PEERS_MAX as u64 + 1);
    let bits = replication.peers().iter().fold(0, |mask, peer| {
        assert_eq!(mask & peer.bit(), 0, "each has a bit of its own");
        mask | peer.bit()
    });
    assert_eq!(bits.count_ones() as usize, PEERS_MAX);

    pair.run(4 * SECOND);
    pair.nodes[0].receive(pair.now, from, &hello("late", 200, versions));
    let peers = pair.nodes[0].replication.peers();
    assert_eq!(peers.len(), PEERS_MAX);
    let names: Vec<Name> = peers.iter().map(Peer::name).collect();
    let held = |name: &str| names.iter().any(|it| it.as_str() == name);
    assert!(held("late") && held("fw2"), "{names:?}");
    assert!(pair.have_met(), "who has a session stays");
    pair.run(2 * SECOND);
    assert!(pair.is_equal(0) && pair.is_equal(1));
}

#[test]
fn of_two_links_the_first_carries_the_second_takes_over_and_gives_back() {
    let (first, second) = (LinkId(0), LinkId(1));
    let mut pair = Pair::new(2);
    pair.run(2 * SECOND);
    assert_eq!(
        (pair.carrier(0), pair.carrier(1)),
        (Some(first), Some(first))
    );
    pair.cut(first);
    for number in 0..20 {
        pair.nodes[0].add_flow(pair.now, number);
        pair.run(100 * MILLI);
    }
    assert_eq!(
        (pair.carrier(0), pair.carrier(1)),
        (Some(second), Some(second))
    );
    assert!(pair.is_equal(1), "nothing is lost");
    let passes = pair.nodes[0].replication.peers()[0]
        .sender_counters()
        .passes;
    assert_eq!(
        passes, 1,
        "and nothing is sent twice for it but what was under way"
    );
    pair.cut.clear();
    pair.run(SECOND);
    assert_eq!(
        (pair.carrier(0), pair.carrier(1)),
        (Some(first), Some(first))
    );
    assert!(pair.is_equal(0) && pair.is_equal(1));
    pair.cut(second);
    pair.nodes[0].add_flow(pair.now, 100);
    pair.run(2 * SECOND);
    assert_eq!(
        pair.carrier(0),
        Some(first),
        "the other's silence is nothing to it"
    );
    assert!(pair.is_equal(1));
}

#[test]
fn a_pair_that_is_cut_off_goes_on_in_the_same_session() {
    let mut pair = Pair::new(1);
    pair.run(SECOND);
    pair.cut(LinkId(0));
    for number in 0..100 {
        pair.nodes[0].add_flow(pair.now, number);
        pair.run(100 * MILLI);
    }
    assert!(pair.nodes[1].replication.peers()[0].is_silent(pair.now));
    pair.nodes.iter_mut().for_each(|node| drop(node.notices()));
    pair.cut.clear();
    pair.run(2 * SECOND);
    assert!(pair.is_equal(0) && pair.is_equal(1));
    let is_start = |it: &PeerNotice| matches!(it, PeerNotice::SessionStarted { .. });
    assert!(!pair.nodes[1].notices().iter().any(is_start));
}

#[test]
fn of_two_links_each_good_in_one_direction_only_each_carries_its_own() {
    let mut pair = Pair::new(2);
    pair.run(2 * SECOND);
    for cut in [
        [(0, LinkId(0)), (1, LinkId(1))],
        [(0, LinkId(1)), (1, LinkId(0))],
    ] {
        pair.cut = cut.into();
        pair.nodes[0].add_flow(pair.now, 1);
        pair.nodes[1].add_flow(pair.now, 1);
        pair.run(3 * SECOND);
        assert!(pair.is_equal(0) && pair.is_equal(1), "{cut:?}");
        let carriers = [cut[1].1, cut[0].1];
        assert_eq!([0, 1].map(|at| pair.carrier(at)), carriers.map(Some));
        pair.cut.clear();
        pair.run(2 * SECOND);
    }
}

#[test]
fn a_round_trip_longer_than_the_time_between_pings_is_no_silence() {
    let mut pair = Pair::new(2);
    pair.delay = 60 * MILLI;
    pair.run(3 * SECOND);
    for number in 0..300 {
        pair.nodes[0].add_flow(pair.now, number);
        pair.run(10 * MILLI);
        assert_eq!(pair.carrier(0), Some(LinkId(0)), "with flow {number}");
    }
    pair.run(SECOND);
    assert!(pair.is_equal(1));
}
