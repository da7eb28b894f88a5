//! The world: nodes with their kernels, links between them, one clock, one seed, and the checkers.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ctsyncd::cache::{HashKey, Replica, Slot};
use ctsyncd::engine::status::{Role, Status};
use ctsyncd::engine::{Command, Engine, EngineSettings, JobId, Notice, Reply};
use ctsyncd::flow::filter::Policy;
use ctsyncd::flow::{Expectation, Flow, FlowKey};
use ctsyncd::replication::{Damage, LinkId, PeerNotice, ReconcileCounters, SenderCounters};
use ctsyncd::wire::header::Kind;
use ctsyncd::wire::seal::{ClusterKey, Keyring};
use ctsyncd::wire::{DATAGRAM_BYTES_MAX, Epoch, Header, Identity, Name, Record, Records, Versions};

use crate::kernel::{
    Delivery, Kernel, Lives, PORT_ID, Table, numbered, ordered, timeless, without_time,
};
use crate::links::{InFlight, Links};
use crate::release;
use crate::rng::Rng;

/// What a cluster is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) nodes: usize,
    pub(crate) flows: u16,
    pub(crate) window: u32,
    pub(crate) tombstones_max: u32,
    pub(crate) loss_percent: u32,
    pub(crate) duplicate_percent: u32,
    /// Datagrams of which a bit of the header's clear part is flipped, or of which little is left.
    pub(crate) corrupt_percent: u32,
    pub(crate) delay_ms_max: u64,
    pub(crate) links: u8,
    pub(crate) datagram_bytes_max: usize,
    /// Room in the tables of all nodes but the first.
    pub(crate) flows_max: u32,
    /// Datagrams on which a bit is flipped or whose end is missing; only with `is_sealed`.
    pub(crate) damage_percent: u32,
    /// The nodes share a cluster key.
    pub(crate) is_sealed: bool,
    /// The nodes are in hot standby.
    pub(crate) is_hot: bool,
    pub(crate) seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 2,
            flows: 20,
            window: 64,
            tombstones_max: 1000,
            loss_percent: 0,
            duplicate_percent: 0,
            corrupt_percent: 0,
            delay_ms_max: 2,
            links: 1,
            datagram_bytes_max: 200,
            flows_max: 1000,
            damage_percent: 0,
            is_sealed: true,
            is_hot: false,
            seed: 1,
        }
    }
}

/// Tables as they were when a marker was sent, remembered this many per sender.
const MARKED_MAX: usize = 5000;

#[derive(Debug)]
struct Node {
    engine: Option<Engine>,
    /// The engine of a process that is stopped (SIGSTOP, a suspended machine) and will go on.
    suspended: Option<Engine>,
    kernel: Kernel,
    name: Name,
    number: u8,
    runs: u64,
    /// Its release: what it speaks. Above [`Versions::OURS`] it is one that is not written yet.
    versions: Versions,
    /// Jobs of this run that have not ended.
    jobs: BTreeSet<JobId>,
    /// Highest term of this run.
    term: u64,
    /// (session, number) of each marker sent, and the table at that moment.
    marked: VecDeque<((u64, u64), Table)>,
}

impl Node {
    /// Of its present run.
    fn identity(&self) -> Identity {
        self.identity_of(self.runs)
    }

    fn identity_of(&self, run: u64) -> Identity {
        let mut epoch = [0; 16];
        epoch[..8].copy_from_slice(&u64::from(self.number).to_be_bytes());
        epoch[8..].copy_from_slice(&run.to_be_bytes());
        Identity {
            name: self.name,
            epoch: Epoch(epoch),
        }
    }
}

/// The world.
#[derive(Debug)]
pub(crate) struct Cluster {
    options: Options,
    rng: Rng,
    now: Instant,
    links: Links,
    nodes: Vec<Node>,
    different: u64,
    /// Reconciles that have ended, and what they cost.
    pub(crate) reconciled: Vec<ReconcileCounters>,
    /// Markers that were judged equal and compared flow by flow.
    judged: u64,
    /// Steps since the world began.
    steps: u64,
    /// The flows of `live_on`.
    pub(crate) lives: Lives,
}

/// More steps than any life of a minute takes: a world that turns in circles.
const STEPS_MAX: u64 = 3_000_000;
/// More datagrams than any engine has to send at one moment.
const SENT_AT_ONCE_MAX: u32 = 20_000;

impl Cluster {
    pub(crate) fn new(options: Options) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let nodes = (0..options.nodes).map(|at| Node {
            engine: None,
            suspended: None,
            kernel: Kernel::default(),
            name: Name::new(format!("fw{at}").as_bytes()).expect("a valid name"),
            number: at as u8 + 1,
            runs: 0,
            versions: Versions::OURS,
            jobs: BTreeSet::new(),
            term: 0,
            marked: VecDeque::new(),
        });
        let mut cluster = Self {
            options,
            rng: Rng::new(options.seed),
            now,
            links: Links::default(),
            nodes: nodes.collect(),
            different: 0,
            reconciled: Vec::new(),
            judged: 0,
            steps: 0,
            lives: Lives::default(),
        };
        for node in 0..options.nodes {
            cluster.start(node);
        }
        cluster
    }

    pub(crate) fn kernel(&self, node: usize) -> &Kernel {
        &self.nodes[node].kernel
    }

    pub(crate) fn kernel_mut(&mut self, node: usize) -> &mut Kernel {
        &mut self.nodes[node].kernel
    }

    /// Verdicts "different" so far.
    pub(crate) fn different_verdicts(&self) -> u64 {
        self.different
    }

    /// Full passes of a node's streams in their present sessions.
    pub(crate) fn passes(&self, node: usize) -> u64 {
        let engine = self.nodes[node].engine.as_ref().expect("runs");
        engine
            .peers()
            .iter()
            .map(|peer| peer.sender_counters().passes)
            .sum()
    }

    /// What a node's streams have sent in their present sessions.
    pub(crate) fn sent(&self, node: usize) -> Vec<SenderCounters> {
        let engine = self.nodes[node].engine.as_ref().expect("runs");
        let peers = engine.peers().iter();
        peers.map(|peer| peer.sender_counters()).collect()
    }

    /// A replica that a node holds loses a flow, or gets one wrong, or one that never was.
    pub(crate) fn damage(&mut self, node: usize) {
        let number = self.rng.below(u64::from(self.options.flows)) as u16;
        let wrong = Flow {
            mark: self.rng.below(9) as u32,
            ..numbered(number)
        };
        let damage = if self.rng.percent(50) {
            Damage::Lose(wrong)
        } else {
            Damage::Write(wrong)
        };
        let peer = self.rng.below(self.options.nodes as u64) as usize;
        if let Some(engine) = &mut self.nodes[node].engine {
            engine.damage_replica(peer, damage);
        }
    }

    pub(crate) fn churn(&mut self, node: usize, times: u64) {
        for _ in 0..times {
            self.nodes[node]
                .kernel
                .churn(&mut self.rng, self.options.flows);
        }
    }

    /// Flows of a node are born, change and end, each with a life of its own.
    pub(crate) fn live_on(&mut self, node: usize, times: u64) {
        for _ in 0..times {
            let Self {
                nodes,
                rng,
                lives,
                options,
                ..
            } = self;
            nodes[node].kernel.live(rng, options.flows, lives);
        }
    }

    /// The traffic goes through this node from now on.
    pub(crate) fn route_to(&mut self, node: usize) {
        for (at, held) in self.nodes.iter_mut().enumerate() {
            held.kernel.carry_traffic(at == node);
        }
    }

    /// An entry that a node's daemon made ends early.
    pub(crate) fn expire_one(&mut self, node: usize) {
        let Self { nodes, rng, .. } = self;
        nodes[node].kernel.expire_one(rng);
    }

    /// A node's engine, which runs.
    pub(crate) fn engine(&self, node: usize) -> &Engine {
        self.nodes[node].engine.as_ref().expect("runs")
    }

    /// What this world is made from.
    pub(crate) fn seed(&self) -> u64 {
        self.options.seed
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// A standby node reboots.
    pub(crate) fn reboot_standby(&mut self, node: usize, active: usize) {
        if node != active {
            self.reboot(node);
        }
    }

    /// The events that a node has not heard yet are lost.
    pub(crate) fn overrun_nothing(&mut self, node: usize) {
        self.nodes[node].kernel.lose_events();
    }

    /// True if a node's daemon runs.
    pub(crate) fn runs(&self, node: usize) -> bool {
        self.nodes[node].engine.is_some()
    }

    /// Cuts one direction of all links.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        for link in 0..self.options.links {
            self.links.cut(from, to, link);
        }
    }

    /// Cuts one direction of one link.
    pub(crate) fn cut_link(&mut self, from: usize, to: usize, link: u8) {
        self.links.cut(from, to, link);
    }

    /// A stray packet reaches a node's kernel.
    pub(crate) fn stray(&mut self, node: usize) {
        let flows = self.options.flows;
        self.nodes[node].kernel.stray(&mut self.rng, flows);
    }

    pub(crate) fn promote(&mut self, node: usize) {
        self.command(node, Command::Promote);
    }

    pub(crate) fn demote(&mut self, node: usize) {
        self.nodes[node].kernel.lose_role();
        self.command(node, Command::Demote);
    }

    pub(crate) fn status(&self, node: usize) -> Status {
        let engine = self.nodes[node].engine.as_ref().expect("runs");
        engine.status(self.now)
    }

    pub(crate) fn heal(&mut self) {
        self.links.heal();
    }

    /// Links stop to lose, double and delay.
    pub(crate) fn end_of_faults(&mut self) {
        self.options.corrupt_percent = 0;
        self.options.loss_percent = self.options.loss_percent.min(10);
        for node in 0..self.options.nodes {
            if self.nodes[node].engine.is_none() {
                self.start(node);
            }
        }
    }

    pub(crate) fn overrun(&mut self, node: usize) {
        let flows = self.options.flows;
        self.nodes[node].kernel.overrun(&mut self.rng, flows);
    }

    pub(crate) fn expire_silently(&mut self, node: usize) {
        self.nodes[node].kernel.vanish_unseen();
    }

    /// The daemon stands still and hears nothing; its kernel goes on, and so does the time.
    pub(crate) fn suspend(&mut self, node: usize) {
        self.nodes[node].suspended = self.nodes[node].engine.take();
    }

    /// The daemon goes on where it stood: to it the clock has jumped.
    pub(crate) fn resume(&mut self, node: usize) {
        self.nodes[node].engine = self.nodes[node].suspended.take();
    }

    /// The daemon dies; its kernel goes on.
    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].engine = None;
        self.nodes[node].kernel.forget_daemon();
    }

    pub(crate) fn restart(&mut self, node: usize) {
        self.stop(node);
        self.start(node);
    }

    /// Another release is installed on a node, and the daemon is started anew.
    pub(crate) fn install(&mut self, node: usize, versions: Versions) {
        self.stop(node);
        self.nodes[node].versions = versions;
        self.start(node);
    }

    /// The version that a node speaks with another, if there is a session.
    pub(crate) fn version(&self, node: usize, other: usize) -> Option<u8> {
        let engine = self.nodes[node].engine.as_ref().expect("runs");
        let name = self.nodes[other].name;
        let mut peers = engine.peers().iter();
        peers.find(|peer| peer.name() == name)?.version()
    }

    /// What a node holds of another is that one's table.
    pub(crate) fn holds(&self, holder: usize, source: usize) -> bool {
        let engine = self.nodes[holder].engine.as_ref().expect("runs");
        let name = self.nodes[source].name;
        let peer = engine.peers().iter().find(|peer| peer.name() == name);
        let replica = peer.and_then(|peer| peer.replica());
        replica.is_some_and(|replica| replica_table(replica) == self.nodes[source].kernel.table())
    }

    /// The whole node is gone for good: nothing leaves it any more.
    pub(crate) fn crash(&mut self, node: usize) {
        self.stop(node);
        for other in 0..self.options.nodes {
            self.cut(other, node);
            self.cut(node, other);
        }
    }

    pub(crate) fn reboot(&mut self, node: usize) {
        self.nodes[node].kernel.reboot();
        self.restart(node);
    }

    pub(crate) fn flush_replicas(&mut self, node: usize) {
        self.command(node, Command::FlushReplicas);
    }

    pub(crate) fn flush_local(&mut self, node: usize) {
        self.command(node, Command::FlushLocal);
    }

    pub(crate) fn resync_peers(&mut self, node: usize) {
        self.command(node, Command::ResyncPeers);
    }

    pub(crate) fn commit(&mut self, node: usize) {
        self.command(node, Command::Commit { from: Vec::new() });
    }

    /// An attacker plays recorded datagrams again.
    pub(crate) fn replay(&mut self, times: u64) {
        for _ in 0..times {
            if let Some(recorded) = self.links.recorded(self.rng.below(1 << 30) as usize) {
                self.links.send(self.now, recorded);
            }
        }
    }

    /// An attacker plays everything that it has recorded again.
    pub(crate) fn replay_everything(&mut self) {
        for recorded in self.links.recordings() {
            self.links.send(self.now, recorded);
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step(end);
        }
    }

    /// Lets time pass until every replica equals its source, and stays so; panics if that takes
    /// longer than `limit`.
    pub(crate) fn run_until_at_rest(&mut self, limit: Duration) {
        let end = self.now + limit;
        let mut since = self.now;
        loop {
            self.run(Duration::from_millis(100));
            match self.unrest(since) {
                None => return,
                Some(what) => {
                    assert!(
                        self.now < end,
                        "seed {}: not at rest: {what}",
                        self.options.seed
                    );
                    if !self.nodes.iter().all(|node| node.kernel.is_quiet()) {
                        since = self.now;
                    }
                }
            }
        }
    }

    /// A node has these addresses and no others.
    pub(crate) fn set_addresses(&mut self, node: usize, addresses: &[IpAddr]) {
        if let Some(engine) = &mut self.nodes[node].engine {
            engine.handle_addresses(self.now, addresses.to_vec());
            self.drain(node);
        }
    }

    /// The first flow of a node's kernel ends.
    pub(crate) fn end_one(&mut self, node: usize) {
        self.nodes[node].kernel.end_first();
    }

    /// Everything that a node holds of another is so in that one's kernel.
    pub(crate) fn replica_is_part_of_its_source(&self, holder: usize, source: usize) -> bool {
        let engine = self.nodes[holder].engine.as_ref().expect("runs");
        let name = self.nodes[source].name;
        let peer = engine.peers().iter().find(|peer| peer.name() == name);
        let replica = peer.and_then(|peer| peer.replica()).expect("has met it");
        let of_kernel = self.nodes[source].kernel.table();
        let held = replica_table(replica);
        let flows_are_true = held
            .flows
            .iter()
            .all(|(key, flow)| of_kernel.flows.get(key) == Some(flow));
        let expectations_are_true = held
            .expectations
            .iter()
            .all(|(key, held)| of_kernel.expectations.get(key) == Some(held));
        flows_are_true && expectations_are_true
    }

    /// What keeps the cluster from being at rest: replicas must be equal, and proven equal by a
    /// marker since `since`.
    fn unrest(&self, since: Instant) -> Option<String> {
        let all_run = self.nodes.iter().all(|node| node.engine.is_some());
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(engine) = &node.engine else { continue };
            if !node.jobs.is_empty() {
                return Some(format!("jobs of fw{at} have not ended"));
            }
            let status = engine.status(self.now);
            if all_run && !status.ready {
                return Some(format!("fw{at} is not ready: {:?}", status.cause));
            }
            if all_run && engine.local().tombstones() > 0 {
                return Some(format!("fw{at} keeps tombstones that nobody waits for"));
            }
            let local = local_table(engine);
            if local != node.kernel.table() {
                let differs = difference(&local, &node.kernel.table());
                return Some(format!(
                    "the local cache of fw{at} is not its kernel's table: {differs}"
                ));
            }
            let local = told_table(engine);
            for (other_at, other) in self.nodes.iter().enumerate() {
                let Some(other_engine) = other.engine.as_ref().filter(|_| other_at != at) else {
                    continue;
                };
                let peer = other_engine
                    .peers()
                    .iter()
                    .find(|peer| peer.name() == node.name);
                let replica = peer.and_then(|peer| peer.replica());
                if replica.map(replica_table) != Some(local.clone()) {
                    return Some(format!("fw{other_at} does not hold the flows of fw{at}"));
                }
                let verified = peer.and_then(|peer| peer.verified_at());
                if verified.is_none_or(|verified| verified < since) {
                    return Some(format!("fw{other_at} has no proof about fw{at}"));
                }
            }
        }
        None
    }

    fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.runs += 1;
        node.jobs.clear();
        node.term = 0;
        let epoch = node.identity().epoch;
        let settings = EngineSettings {
            name: node.name,
            epoch,
            versions: node.versions,
            hash_key: HashKey([self.rng.next(), 1]),
            secret: HashKey([self.rng.next(), 2]),
            policy: Policy::Everything,
            flows_max: if at == 0 {
                1000
            } else {
                self.options.flows_max
            },
            tombstones_max: self.options.tombstones_max,
            links: (0..self.options.links)
                .map(|link| format!("sync{link}"))
                .collect(),
            window: self.options.window,
            datagram_bytes_max: self.options.datagram_bytes_max,
            scrub_interval: Duration::from_secs(60),
            grace: Duration::from_secs(180),
            tcp_liberal: true,
            is_hot: self.options.is_hot,
            writer_port_id: PORT_ID,
            keyring: self.options.is_sealed.then(|| Keyring {
                primary: cluster_key(),
                other: None,
            }),
            role: Role::Standby,
            term: 0,
            masters: Vec::new(),
        };
        node.engine = Some(Engine::new(settings, self.now));
        self.drain(at);
    }

    fn command(&mut self, at: usize, command: Command) {
        if let Some(engine) = &mut self.nodes[at].engine {
            match engine.handle_command(self.now, command) {
                Reply::Started(job) => {
                    self.nodes[at].jobs.insert(job);
                }
                Reply::Done | Reply::FlowsForgotten(_) | Reply::Refused(_) => {}
                reply => panic!("no question was asked: {reply:?}"),
            }
            self.drain(at);
        }
    }

    /// Goes to the next moment at which something happens.
    fn step(&mut self, end: Instant) {
        self.steps += 1;
        let seed = self.options.seed;
        assert!(self.steps < STEPS_MAX, "seed {seed}: turns in circles");
        let timers = self
            .nodes
            .iter()
            .filter_map(|node| Some(node.engine.as_ref()?.poll_timeout()));
        let busy = self
            .nodes
            .iter()
            .any(|node| node.engine.is_some() && !node.kernel.is_quiet());
        let kernels = busy.then(|| self.now + Duration::from_micros(1 + self.rng.below(3000)));
        let next = timers
            .chain(self.links.next_at())
            .chain(kernels)
            .min()
            .unwrap_or(end);
        self.now = next.max(self.now + Duration::from_micros(1)).min(end);
        while let Some(arrived) = self.links.arrived(self.now) {
            self.receive(arrived);
        }
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.kernel.age(self.now);
            let Some(engine) = &mut node.engine else {
                continue;
            };
            match node.kernel.deliver(&mut self.rng) {
                Some(Delivery::Events(events)) => engine.handle_events(self.now, &events),
                Some(Delivery::Expectation(event)) => {
                    engine.handle_expectation(self.now, &event);
                }
                Some(Delivery::Overrun) => engine.handle_overrun(self.now),
                Some(Delivery::Done(done)) => engine.handle_done(self.now, done),
                None => {}
            }
            if engine.poll_timeout() <= self.now {
                engine.handle_timeout(self.now);
            }
            self.drain(at);
        }
    }

    fn receive(&mut self, arrived: InFlight) {
        if self.rng.percent(self.options.corrupt_percent) {
            self.receive_corrupted(&arrived);
        }
        let InFlight {
            from,
            to,
            link,
            mut datagram,
        } = arrived;
        if release::speaks_2(self.nodes[to].versions) {
            self.read_version_2(from, to, &mut datagram);
        }
        let name = self.nodes[from].name;
        let Some(engine) = &mut self.nodes[to].engine else {
            return;
        };
        let proofs = |engine: &Engine| {
            let peer = engine.peers().iter().find(|peer| peer.name() == name);
            peer.map(|peer| (peer.verified_at(), peer.high()))
        };
        let before = proofs(engine);
        let header = Header::parse(&datagram).map(|(header, _)| header);
        let address = address(from, link);
        engine.handle_datagram(self.now, LinkId(link), address, &mut datagram);
        let after = proofs(engine);
        let is_proven = after.map(|(verified, _)| verified) != before.map(|(verified, _)| verified);
        if let (Some((_, old)), Some((_, new))) = (before, after) {
            assert!(old <= new, "seed {}: stamps only grow", self.options.seed);
        }
        if is_proven {
            let header = header.expect("was just judged");
            self.check_proof(from, to, (header.session, header.number));
        }
        self.drain(to);
    }

    /// What a node of the next release does before its core sees a datagram.
    fn read_version_2(&self, from: usize, to: usize, datagram: &mut Vec<u8>) {
        let (from, to) = (&self.nodes[from], self.nodes[to].identity());
        // It may be from a run that is over.
        let runs = (1..=from.runs).rev();
        let keys = runs.map(|run| cluster_key().session(&from.identity_of(run), &to));
        release::read(keys, datagram);
    }

    /// A datagram that the network has damaged before it comes whole: it must change nothing.
    fn receive_corrupted(&mut self, arrived: &InFlight) {
        let mut datagram = arrived.datagram.clone();
        if self.rng.percent(50) {
            datagram.truncate(self.rng.below(20) as usize);
        } else {
            // Magic, version, kind and session. What follows is trusted without a cipher.
            let at = self
                .rng
                .below(12)
                .min(datagram.len().saturating_sub(1) as u64) as usize;
            if datagram.is_empty() {
                return;
            }
            datagram[at] ^= 1 << self.rng.below(8);
        }
        let Some(engine) = &mut self.nodes[arrived.to].engine else {
            return;
        };
        let state = |engine: &Engine| {
            let peers = engine.peers().iter();
            let peers: Vec<_> = peers
                .map(|peer| {
                    (
                        peer.high(),
                        peer.verified_at(),
                        peer.has_session(),
                        peer.told(),
                    )
                })
                .collect();
            (peers, engine.local().tail(), engine.local().tombstones())
        };
        let before = state(engine);
        let from = address(arrived.from, arrived.link);
        engine.handle_datagram(self.now, LinkId(arrived.link), from, &mut datagram);
        let seed = self.options.seed;
        assert_eq!(state(engine), before, "seed {seed}: {datagram:?} counts");
    }

    /// "Equal" must be true, flow by flow, for the table as it was when the marker was sent.
    fn check_proof(&mut self, from: usize, to: usize, key: (u64, u64)) {
        let marked = self.nodes[from]
            .marked
            .iter()
            .find(|(marked, _)| *marked == key);
        let Some((_, table)) = marked else { return };
        let engine = self.nodes[to].engine.as_ref().expect("has just judged");
        let peer = engine
            .peers()
            .iter()
            .find(|peer| peer.name() == self.nodes[from].name);
        let replica = peer
            .and_then(|peer| peer.replica())
            .expect("has just been judged");
        let seed = self.options.seed;
        assert_eq!(
            &replica_table(replica),
            table,
            "seed {seed}: called equal, but is not"
        );
        self.judged += 1;
    }

    fn drain(&mut self, at: usize) {
        let mut out = Vec::new();
        let identities: Vec<_> = std::iter::once(at)
            .chain((0..self.nodes.len()).filter(|&other| other != at))
            .map(|node| self.nodes[node].identity())
            .collect();
        let others: Vec<_> = (self.nodes.iter().enumerate())
            .filter(|&(other, _)| other != at)
            .map(|(_, node)| (node.identity(), node.versions))
            .collect();
        let seed = self.options.seed;
        let node = &mut self.nodes[at];
        let Some(engine) = &mut node.engine else {
            return;
        };
        while let Some(request) = engine.poll_request(self.now, &mut out) {
            node.kernel.request(request, &out, &mut self.rng);
        }
        // A multicast link: everybody gets everything and drops what is not for it.
        let mut sent = 0;
        while let Some(transmit) = engine.poll_transmit(self.now, &mut out) {
            sent += 1;
            assert!(sent < SENT_AT_ONCE_MAX, "seed {seed}: never falls silent");
            check_window(&out, self.options);
            assert!(out.len() <= DATAGRAM_BYTES_MAX, "seed {seed}: too long");
            let has_marker = note_marker(&mut node.marked, engine, &out, &identities);
            if has_marker && node.kernel.is_told() {
                let [told, true_one] = [local_table(engine), node.kernel.table()]
                    .map(|table| node.kernel.without_unread(table));
                assert!(
                    told == true_one,
                    "seed {seed}: a marker tells what the kernel does not: {}",
                    difference(&told, &true_one)
                );
            }
            if release::speaks_2(node.versions) {
                let partners = others.iter().filter_map(|&(identity, versions)| {
                    let mut peers = engine.peers().iter();
                    let peer = peers.find(|peer| peer.name() == identity.name)?;
                    let key = cluster_key().session(&identities[0], &identity);
                    (peer.version() == Some(2)).then_some((key, versions))
                });
                release::write(partners, &mut out);
            }
            for to in (0..self.options.nodes).filter(|&to| to != at) {
                let copies = 1 + u32::from(self.rng.percent(self.options.duplicate_percent));
                for _ in 0..copies {
                    if !self.rng.percent(self.options.loss_percent) {
                        let delay = Duration::from_micros(
                            50 + self.rng.below(self.options.delay_ms_max * 1000),
                        );
                        let mut datagram = out.clone();
                        if self.rng.percent(self.options.damage_percent) {
                            damage(&mut self.rng, &mut datagram);
                        }
                        let datagram = InFlight {
                            from: at,
                            to,
                            link: transmit.link.0,
                            datagram,
                        };
                        self.links.send(self.now + delay, datagram);
                    }
                }
            }
        }
        while let Some(notice) = engine.poll_notice() {
            match notice {
                Notice::Peer(PeerNotice::Different { .. }) => self.different += 1,
                Notice::Peer(PeerNotice::Reconciled { cost, .. }) => self.reconciled.push(cost),
                Notice::JobDone { job, .. } => {
                    node.jobs.remove(&job);
                }
                _ => {}
            }
        }
        let term = engine.term();
        assert!(term >= node.term, "seed {seed}: terms only grow");
        node.term = term;
        let tombstones = engine.local().tombstones();
        assert!(
            tombstones <= self.options.tombstones_max,
            "seed {seed}: tombstones are bounded"
        );
    }
}

/// Remembers the table if the datagram carries a marker; says whether it does. `identities`: the
/// sender's, then those of the others.
fn note_marker(
    marked: &mut VecDeque<((u64, u64), Table)>,
    engine: &Engine,
    datagram: &[u8],
    identities: &[Identity],
) -> bool {
    let (header, body) = Header::parse(datagram).expect("engines send well-formed datagrams");
    if header.kind != Kind::Data {
        return false;
    }
    let mut bodies = match header.seal {
        0 => vec![body.to_vec()],
        _ => identities[1..]
            .iter()
            .filter_map(|to| {
                let key = cluster_key().session(&identities[0], to);
                let mut sealed = datagram.to_vec();
                Some(key.open(&header, &mut sealed).ok()?.to_vec())
            })
            .collect(),
    };
    // What goes to a run that has ended meanwhile is sealed for that, and nobody judges it.
    let body = bodies.pop().unwrap_or_default();
    let is_marker = |record| matches!(record, Ok(Record::Marker(_)));
    let has_marker = Records::new(&body).any(is_marker);
    if has_marker {
        if marked.len() == MARKED_MAX {
            marked.pop_front();
        }
        marked.push_back(((header.session, header.number), told_table(engine)));
    }
    has_marker
}

/// No more numbers are waited for than the receiver has room for.
fn check_window(datagram: &[u8], options: Options) {
    let (header, _) = Header::parse(datagram).expect("engines send well-formed datagrams");
    let seed = options.seed;
    assert!(
        header.kind != Kind::Data || header.number - header.floor < u64::from(options.window),
        "seed {seed}: beyond the window"
    );
}

fn cluster_key() -> ClusterKey {
    ClusterKey::new([0x5a; 32])
}

/// Flips a bit, or cuts the end off.
fn damage(rng: &mut Rng, datagram: &mut Vec<u8>) {
    let at = rng.below(datagram.len() as u64) as usize;
    if rng.percent(50) {
        datagram[at] ^= 1 << rng.below(8);
    } else {
        datagram.truncate(at);
    }
}

/// The first thing in which two tables differ.
fn difference(one: &Table, other: &Table) -> String {
    let keys = one.flows.keys().chain(other.flows.keys());
    for key in keys {
        let (one, other) = (one.flows.get(key), other.flows.get(key));
        if one != other {
            return format!("{one:?} and {other:?}");
        }
    }
    let keys = one.expectations.keys().chain(other.expectations.keys());
    for key in keys {
        let (one, other) = (one.expectations.get(key), other.expectations.get(key));
        if one != other {
            return format!("{one:?} and {other:?}");
        }
    }
    "nothing".into()
}

fn local_table(engine: &Engine) -> Table {
    let local = engine.local();
    let mut table = Table::default();
    for slot in (0..local.slots()).map(Slot) {
        if let Some(flow) = local.flow(slot) {
            let rare = local.rare(slot).copied().unwrap_or_default();
            let flow = without_time(flow);
            table.flows.insert(ordered(&flow.key()), (flow, rare));
        }
        let expectation = local.expectation(slot).copied();
        table.expectations.extend(expectation.map(timeless));
    }
    table
}

/// What of it the peers hear of.
fn told_table(engine: &Engine) -> Table {
    let local = engine.local();
    let mut table = local_table(engine);
    let is_told = |key: &FlowKey| local.find(key).is_some_and(|slot| local.replicates(slot));
    table.flows.retain(|_, (flow, _)| is_told(&flow.key()));
    let has_told_master = |expectation: &Expectation| {
        is_told(&FlowKey {
            orig: expectation.master,
            zone: expectation.zone,
        })
    };
    table
        .expectations
        .retain(|_, expectation| has_told_master(expectation));
    table
}

fn replica_table(replica: &Replica) -> Table {
    let mut table = Table::default();
    for slot in (0..replica.slots()).map(Slot) {
        if let Some((flow, rare)) = replica.flow(slot) {
            let rare = rare.copied().unwrap_or_default();
            let flow = without_time(flow);
            table.flows.insert(ordered(&flow.key()), (flow, rare));
        }
        let expectation = replica.expectation(slot).copied();
        table.expectations.extend(expectation.map(timeless));
    }
    table
}

fn address(node: usize, link: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, link, node as u8], 3780))
}
