//! Two engines and a kernel that answers as it is told: promotion, commit, what status says.

use std::time::Duration;

mod commit_options;

use super::*;
use crate::cache::HashKey;
use crate::ctnetlink::cta::{IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET, NLM_F_CREATE};
use crate::ctnetlink::message::{MessageKind, messages};
use crate::ctnetlink::request::{Answer, Outcome};
use crate::engine::status::PeerState;
use crate::flow::filter::Policy;
use crate::flow::{EventKind, Flow, Present, Rare, Status, Tuple};
use crate::wire::{Epoch, Name, Versions};

mod roles;

mod hot;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn flow(number: u16) -> Flow {
    let orig = Tuple::new(17, [10, 0, 0, 1].into(), [192, 0, 2, 1].into(), number, 53);
    Flow {
        orig,
        reply: orig.inverse(),
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        timeout_secs: 120,
        ..Flow::default()
    }
}

fn translated(number: u16, port: u16) -> Flow {
    let mut flow = flow(number);
    flow.reply.dst_id = port;
    flow
}

fn told(kind: EventKind, flow: Flow) -> FlowEvent {
    FlowEvent {
        kind,
        present: Present(Present::STATUS | Present::TIMEOUT | Present::MASTER),
        port_id: 0,
        flow,
        rare: Rare::default(),
    }
}

/// A message that the engine wrote to the kernel, by the source port of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Create(u16),
    Delete(u16),
    Update(u16),
    Get,
}
use Asked::{Create, Delete, Get, Update};

/// A batch that waits for its answer.
#[derive(Debug)]
struct Batch {
    first_seq: u32,
    last_seq: u32,
    asked: Vec<Asked>,
}

struct Node {
    engine: Engine,
    address: SocketAddr,
    batches: Vec<Batch>,
    notices: Vec<Notice>,
    /// Listings that are asked for do not come.
    is_stuck: bool,
}

impl Node {
    fn settings(name: &str, run: u8, flows_max: u32) -> EngineSettings {
        EngineSettings {
            name: Name::new(name.as_bytes()).expect("a valid name"),
            epoch: Epoch([run; 16]),
            versions: Versions::OURS,
            hash_key: HashKey([u64::from(run), 1]),
            secret: HashKey([u64::from(run), 2]),
            policy: Policy::Everything,
            flows_max,
            tombstones_max: 100,
            links: vec!["sync".into()],
            window: 64,
            datagram_bytes_max: 1400,
            scrub_interval: 3600 * SECOND,
            grace: 180 * SECOND,
            tcp_liberal: true,
            is_hot: false,
            writer_port_id: 7,
            keyring: None,
            role: Role::Standby,
            term: 0,
            masters: Vec::new(),
        }
    }

    fn new(name: &str, run: u8, flows_max: u32, now: Instant) -> Self {
        Self {
            engine: Engine::new(Self::settings(name, run, flows_max), now),
            address: SocketAddr::from(([192, 0, 2, run], 3780)),
            batches: Vec::new(),
            notices: Vec::new(),
            is_stuck: false,
        }
    }

    /// Drains requests, an empty listing for each that is asked for, and notices.
    fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for _ in 0..100 {
            while let Some(request) = self.engine.poll_request(now, &mut out) {
                match request {
                    KernelRequest::Dump if self.is_stuck => {}
                    KernelRequest::Dump => {
                        let complete = true;
                        self.engine
                            .handle_done(now, RequestDone::DumpEnded { complete });
                    }
                    KernelRequest::Batch {
                        first_seq,
                        last_seq,
                    } => self.batches.push(Batch {
                        first_seq,
                        last_seq,
                        asked: read(&out, first_seq),
                    }),
                }
            }
            if self.engine.poll_timeout() > now {
                break;
            }
            self.engine.handle_timeout(now);
        }
        let mut sent = Vec::new();
        while self.engine.poll_transmit(now, &mut out).is_some() {
            sent.push(out.clone());
        }
        self.notices
            .extend(std::iter::from_fn(|| self.engine.poll_notice()));
        sent
    }

    /// The kernel has carried out the oldest batch; it refuses and finds what `answers` says, by
    /// position.
    fn answer(&mut self, now: Instant, answers: &[(usize, Outcome)], complete: bool) {
        let Batch {
            first_seq,
            last_seq,
            ..
        } = self.batches.remove(0);
        let answers = answers.iter().map(|(at, outcome)| Answer {
            seq: first_seq + *at as u32,
            outcome: outcome.clone(),
        });
        let answers = answers.collect();
        let done = RequestDone::Batch {
            last_seq,
            complete,
            answers,
        };
        self.engine.handle_done(now, done);
        self.drain(now);
    }

    fn asked(&self) -> Vec<Asked> {
        self.batches
            .iter()
            .flat_map(|batch| batch.asked.iter().copied())
            .collect()
    }

    fn started(&mut self, now: Instant, command: Command) -> JobId {
        match self.engine.handle_command(now, command) {
            Reply::Started(job) => {
                self.drain(now);
                job
            }
            reply => panic!("{reply:?}"),
        }
    }

    /// How a job ended, if it has.
    fn result(&self, of: JobId) -> Option<&JobResult> {
        self.notices.iter().find_map(|notice| match notice {
            Notice::JobDone { job, result } if *job == of => Some(result),
            _ => None,
        })
    }

    fn committed(&self, job: JobId) -> &status::CommitStatus {
        match self.result(job) {
            Some(JobResult::Committed(status)) => status,
            result => panic!("{result:?}"),
        }
    }

    fn cause(&self, now: Instant) -> Option<String> {
        let status = self.engine.status(now);
        assert_eq!(status.ready, status.cause.is_none());
        status.cause
    }
}

fn read(bytes: &[u8], first_seq: u32) -> Vec<Asked> {
    let asked = messages(bytes).enumerate().map(|(at, message)| {
        let message = message.expect("well-formed");
        assert_eq!(message.seq, first_seq + at as u32, "numbered without holes");
        match message.kind {
            MessageKind::Conntrack(IPCTNL_MSG_CT_GET) => Get,
            MessageKind::Conntrack(IPCTNL_MSG_CT_DELETE) => Delete(source_port(message.bytes)),
            _ if message.flags & NLM_F_CREATE == 0 => Update(source_port(message.bytes)),
            _ => Create(source_port(message.bytes)),
        }
    });
    asked.collect()
}

/// The first CTA_PROTO_SRC_PORT of a message: that of its original tuple.
fn source_port(message: &[u8]) -> u16 {
    let ([len_0, len_1], [kind_0, kind_1]) = (6u16.to_ne_bytes(), 2u16.to_ne_bytes());
    let at = message
        .windows(4)
        .position(|bytes| bytes == [len_0, len_1, kind_0, kind_1])
        .expect("a port");
    u16::from_be_bytes([message[at + 4], message[at + 5]])
}

/// Nodes on one link; the first is the standby that the tests look at.
struct World {
    nodes: Vec<Node>,
    now: Instant,
    /// A node that is cut off.
    cut: Option<usize>,
}

impl World {
    fn new(nodes: u8) -> Self {
        Self::with_room_for(nodes, 1000)
    }

    fn with_room_for(nodes: u8, flows_max: u32) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "where virtual time starts does not matter"
        )]
        let now = Instant::now();
        let node = |run: u8| {
            let flows_max = if run == 1 { flows_max } else { 1000 };
            Node::new(&format!("fw{run}"), run, flows_max, now)
        };
        Self {
            nodes: (1..=nodes).map(node).collect(),
            now,
            cut: None,
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let sent: Vec<_> = self
                .nodes
                .iter_mut()
                .map(|node| node.drain(self.now))
                .collect();
            self.now += MILLI;
            for (from, datagrams) in sent.iter().enumerate() {
                for to in 0..self.nodes.len() {
                    if from == to || self.cut == Some(from) || self.cut == Some(to) {
                        continue;
                    }
                    let address = self.nodes[from].address;
                    for datagram in datagrams {
                        self.nodes[to].engine.handle_datagram(
                            self.now,
                            LinkId(0),
                            address,
                            &mut datagram.clone(),
                        );
                    }
                }
            }
        }
    }

    fn tell(&mut self, node: usize, events: &[FlowEvent]) {
        self.nodes[node].engine.handle_events(self.now, events);
    }

    /// The second node has these flows, and the first knows.
    fn holding(flows: &[Flow]) -> Self {
        let mut world = Self::new(2);
        world.run(SECOND);
        let events: Vec<FlowEvent> = flows
            .iter()
            .map(|&flow| told(EventKind::New, flow))
            .collect();
        world.tell(1, &events);
        world.run(SECOND);
        assert_eq!(world.cause(), None);
        world
    }

    fn standby(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    fn cause(&self) -> Option<String> {
        self.nodes[0].cause(self.now)
    }

    fn start(&mut self, command: Command) -> JobId {
        let now = self.now;
        self.standby().started(now, command)
    }

    fn answer(&mut self, answers: &[(usize, Outcome)]) {
        let now = self.now;
        self.standby().answer(now, answers, true);
    }

    /// The kernel tells of the flows that a commit created, as echoes.
    fn echo(&mut self, flows: &[Flow]) {
        let events: Vec<FlowEvent> = flows
            .iter()
            .map(|&flow| FlowEvent {
                port_id: 7,
                ..told(EventKind::New, flow)
            })
            .collect();
        self.tell(0, &events);
    }
}

fn found(flow: Flow) -> Outcome {
    Outcome::Found(Box::new(told(EventKind::Listed, flow)))
}

#[test]
fn a_commit_creates_translated_flows_first_and_children_when_their_masters_are_settled() {
    let child = FlowEvent {
        rare: Rare {
            master: Some(flow(2).orig),
            ..Rare::default()
        },
        ..told(EventKind::New, flow(1))
    };
    let mut world = World::new(2);
    world.run(SECOND);
    let events = [
        child,
        told(EventKind::New, flow(2)),
        told(EventKind::New, translated(3, 5000)),
    ];
    world.tell(1, &events);
    world.run(SECOND);
    let job = world.start(Command::Commit { from: Vec::new() });
    assert_eq!(world.standby().asked(), [Create(3), Create(2)]);
    // The master meets a conflict: the child waits until that is over.
    world.answer(&[(1, Outcome::Refused(libc::EEXIST))]);
    assert_eq!(world.standby().asked(), [Get]);
    world.answer(&[(0, found(translated(2, 9)))]);
    assert_eq!(world.standby().asked(), [Delete(2), Create(2)]);
    world.answer(&[]);
    assert_eq!(world.standby().asked(), [Create(1)]);
    world.answer(&[]);
    let status = world.standby().committed(job);
    assert_eq!((status.total, status.created, status.replaced), (3, 2, 1));
}

#[test]
fn a_listing_that_comes_due_waits_until_the_commit_is_over() {
    let mut world = World::holding(&[flow(1)]);
    let job = world.start(Command::Commit { from: Vec::new() });
    world.now += SECOND;
    let now = world.now;
    world.standby().engine.handle_overrun(now);
    world.standby().drain(now);
    // A listing would have repaired it: the node answers each at once.
    assert!(world.cause().expect("is dirty").contains("missed"));
    world.answer(&[]);
    assert_eq!(world.standby().committed(job).created, 1);
    assert_eq!(world.cause(), None);
}

#[test]
fn a_second_commit_changes_nothing() {
    let flows = [flow(1), translated(2, 5000)];
    let mut world = World::holding(&flows);
    world.start(Command::Commit { from: Vec::new() });
    world.answer(&[]);
    world.echo(&flows);
    let job = world.start(Command::Commit { from: Vec::new() });
    assert_eq!(world.standby().asked(), []);
    assert_eq!(world.standby().committed(job).already, 2);
}

#[test]
fn what_the_kernel_tracked_before_the_last_demotion_is_made_anew() {
    let mut world = World::holding(&[flow(1), flow(2)]);
    world.tell(0, &[told(EventKind::New, flow(1))]);
    let job = world.start(Command::Promote);
    world.answer(&[]);
    assert_eq!(world.standby().committed(job).already, 1);
    world.echo(&[flow(2)]);
    let now = world.now;
    world.standby().engine.handle_command(now, Command::Demote);
    world.tell(0, &[told(EventKind::New, flow(2))]);
    world.start(Command::Promote);
    assert_eq!(
        world.standby().asked(),
        [Delete(1), Create(1)],
        "2 was born since"
    );
}

#[test]
fn an_entry_that_differs_is_replaced() {
    let mut world = World::holding(&[translated(1, 5000)]);
    world.tell(0, &[told(EventKind::New, translated(1, 6000))]);
    let job = world.start(Command::Commit { from: Vec::new() });
    assert_eq!(world.standby().asked(), [Delete(1), Create(1)]);
    world.answer(&[(0, Outcome::Refused(libc::ENOENT))]);
    assert_eq!(world.standby().committed(job).replaced, 1);
}

#[test]
fn refusals_are_counted_by_their_reason() {
    let mut world = World::holding(&[flow(1), flow(2), flow(3), flow(4)]);
    let job = world.start(Command::Commit { from: Vec::new() });
    world.answer(&[
        (0, Outcome::Refused(libc::ENOMEM)),
        (1, Outcome::Refused(libc::ENOMEM)),
        (2, Outcome::Refused(libc::EINVAL)),
    ]);
    let status = world.standby().committed(job);
    assert_eq!(status.created, 1);
    let failed: Vec<u64> = status.failed.iter().map(|failed| failed.flows).collect();
    assert_eq!(failed, [2, 1]);
    assert!(status.failed[0].reason.contains("nf_conntrack_max"));
}

#[test]
fn lost_answers_are_asked_for_again_and_counted_in_the_end() {
    let mut world = World::holding(&[flow(1)]);
    let job = world.start(Command::Commit { from: Vec::new() });
    let now = world.now;
    let mut tries = 0;
    while !world.standby().batches.is_empty() {
        tries += 1;
        assert!(tries < 50, "tries are bounded");
        assert_eq!(world.standby().asked(), [Create(1)]);
        world.standby().answer(now, &[], false);
    }
    let status = world.standby().committed(job);
    assert_eq!((status.created, status.failed[0].flows), (0, 1));
    assert!(status.failed[0].reason.contains("lost"));
}

#[test]
fn commits_queue_and_each_is_told_of_its_own_end() {
    let mut world = World::holding(&[flow(1)]);
    let first = world.start(Command::Commit { from: Vec::new() });
    let second = world.start(Command::Commit { from: Vec::new() });
    assert_eq!(world.standby().asked(), [Create(1)], "one at a time");
    assert_eq!(world.standby().result(second), None);
    world.answer(&[]);
    assert_eq!(world.standby().committed(first).created, 1);
    world.answer(&[(0, Outcome::Refused(libc::EEXIST))]);
    world.answer(&[(0, found(flow(1)))]);
    assert_eq!(world.standby().committed(second).already, 1);
}

#[test]
fn jobs_that_wait_are_bounded() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    let mut replies = (0..30).map(|_| {
        let engine = &mut world.nodes[0].engine;
        engine.handle_command(now, Command::Commit { from: Vec::new() })
    });
    assert!(replies.any(|reply| matches!(reply, Reply::Refused(_))));
}

#[test]
fn a_promotion_commits_and_then_the_node_is_active() {
    let mut world = World::holding(&[flow(1)]);
    let job = world.start(Command::Promote);
    let standby = world.standby();
    assert_eq!(
        (standby.engine.role(), standby.engine.term()),
        (Role::Promoting, 1)
    );
    assert_eq!(world.cause().as_deref(), Some("the commit is running"));
    world.answer(&[]);
    assert_eq!(world.standby().engine.role(), Role::Active);
    assert_eq!(world.standby().committed(job).created, 1);
    assert_eq!(world.cause(), None);
    let now = world.now;
    let flows = [flow(1)];
    world.echo(&flows);
    let job = world.standby().started(now, Command::Promote);
    assert_eq!(world.standby().committed(job).created, 0, "all is in place");
    assert_eq!(world.standby().engine.term(), 1);
}

#[test]
fn a_demotion_during_a_promotion_wins_and_whoever_waits_hears_of_it() {
    let mut world = World::holding(&[flow(1)]);
    let job = world.start(Command::Promote);
    let now = world.now;
    world.standby().engine.handle_command(now, Command::Demote);
    assert_eq!(world.standby().engine.role(), Role::Standby);
    world.answer(&[]);
    assert_eq!(world.standby().engine.role(), Role::Standby);
    assert!(matches!(
        world.standby().result(job),
        Some(JobResult::Failed(_))
    ));
}

#[test]
fn a_promotion_called_off_while_it_waits_for_a_listing_leaves_nothing_due() {
    let mut world = World::holding(&[flow(1)]);
    world.standby().is_stuck = true;
    world.start(Command::FlushLocal);
    let job = world.start(Command::Promote);
    let now = world.now;
    world.standby().engine.handle_command(now, Command::Demote);
    world.run(11 * SECOND);
    assert!(matches!(
        world.standby().result(job),
        Some(JobResult::Failed(_))
    ));
    let now = world.now;
    world.standby().drain(now);
    assert!(world.standby().engine.poll_timeout() > now, "always busy");
    // The next one waits for the listing again, and not since the first began.
    world.start(Command::Promote);
    world.run(9 * SECOND);
    assert!(world.standby().batches.is_empty());
    world.run(2 * SECOND);
    assert!(!world.standby().batches.is_empty());
}

#[test]
fn a_promotion_after_a_demotion_has_a_commit_of_its_own() {
    let mut world = World::holding(&[flow(1)]);
    let first = world.start(Command::Promote);
    let now = world.now;
    world.standby().engine.handle_command(now, Command::Demote);
    // Meanwhile the other node carries the traffic, and a flow is born there.
    world.run(2 * SECOND);
    let now = world.now;
    world.nodes[1].started(now, Command::Promote);
    world.tell(1, &[told(EventKind::New, flow(2))]);
    world.run(2 * SECOND);
    let now = world.now;
    world.nodes[1].engine.handle_command(now, Command::Demote);
    world.run(2 * SECOND);
    let second = world.start(Command::Promote);
    assert_eq!(world.standby().engine.term(), 3);
    // Only now the kernel answers what the first promotion had asked for.
    world.answer(&[]);
    assert!(matches!(
        world.standby().result(first),
        Some(JobResult::Failed(_))
    ));
    assert_eq!(
        world.standby().engine.role(),
        Role::Promoting,
        "the first commit is not that of this promotion"
    );
    let mut asked = Vec::new();
    while !world.standby().batches.is_empty() {
        asked.extend(world.standby().asked());
        world.answer(&[]);
    }
    assert!(asked.contains(&Create(2)), "{asked:?}");
    assert_eq!(world.standby().engine.role(), Role::Active);
    assert!(world.standby().result(second).is_some());
}

#[test]
fn the_term_grows_above_every_term_heard_of() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    for _ in 0..3 {
        let job = world.nodes[1].started(now, Command::Promote);
        assert!(world.nodes[1].result(job).is_some());
        world.nodes[1].engine.handle_command(now, Command::Demote);
    }
    assert_eq!(world.nodes[1].engine.term(), 3);
    world.run(2 * SECOND);
    world.start(Command::Promote);
    assert_eq!(world.standby().engine.term(), 4);
}

#[test]
fn where_two_peers_have_a_flow_the_word_of_the_active_one_counts() {
    let mut world = World::new(3);
    world.run(SECOND);
    world.tell(1, &[told(EventKind::New, translated(1, 6000))]);
    world.tell(2, &[told(EventKind::New, translated(1, 5000))]);
    let now = world.now;
    world.nodes[2].started(now, Command::Promote);
    // fw3 would commit fw2's flow; its kernel refuses nothing, and it is not looked at here.
    while !world.nodes[2].batches.is_empty() {
        world.nodes[2].answer(now, &[], true);
    }
    world.run(3 * SECOND);
    world.cut = Some(2);
    let job = world.start(Command::Promote);
    assert_eq!(world.standby().asked(), [Create(1)]);
    world.answer(&[]);
    assert_eq!(world.standby().asked(), [], "fw2's word on it is not asked");
    let status = world.standby().committed(job);
    assert_eq!((status.created, status.already, status.replaced), (1, 1, 0));
}

#[test]
fn an_active_node_does_not_take_back_what_a_peer_left_behind_still_holds() {
    let mut world = World::holding(&[flow(1)]);
    world.start(Command::Promote);
    world.answer(&[]);
    world.run(2 * SECOND);
    let job = world.start(Command::Commit { from: Vec::new() });
    assert_eq!(world.standby().asked(), []);
    assert_eq!(world.standby().committed(job).total, 0);
    world.cut = Some(1);
    world.run(4 * SECOND);
    let job = world.start(Command::Commit { from: Vec::new() });
    assert_eq!(world.standby().asked(), [], "nor what a dead one held");
    assert_eq!(world.standby().committed(job).total, 0);
}

#[test]
fn of_two_active_nodes_the_one_that_died_long_ago_is_taken_over_as_well() {
    // fw2 is active for its own flows, then this node for others.
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    world.nodes[1].started(now, Command::Promote);
    world.run(2 * SECOND);
    world.start(Command::Promote);
    world.answer(&[]);
    world.echo(&[flow(1)]);
    world.tell(1, &[told(EventKind::New, flow(2))]);
    world.run(2 * SECOND);
    // With adverts of a second keepalived notices it later than we do.
    world.cut = Some(1);
    world.run(5 * SECOND);
    let job = world.start(Command::Promote);
    assert_eq!(world.standby().asked(), [Create(2)]);
    world.answer(&[]);
    assert_eq!(world.standby().committed(job).created, 1);
    world.echo(&[flow(2)]);
    let job = world.start(Command::Commit { from: Vec::new() });
    assert_eq!(world.standby().committed(job).created, 0, "once");
}

#[test]
fn flows_of_an_instance_that_went_away_and_came_back_are_put_anew() {
    let instance = |name: &str, is_master| Command::Instance {
        via: Via::Notify,
        instance: ("GROUP".into(), name.into()),
        state: if is_master {
            InstanceState::Master
        } else {
            InstanceState::Backup
        },
    };
    let mut world = World::holding(&[]);
    let now = world.now;
    for name in ["a", "b"] {
        world.start(instance(name, true));
    }
    assert_eq!(world.standby().engine.role(), Role::Active);
    // Born here under a, and fw2 took it over: what our kernel knows of its windows gets old.
    world.tell(0, &[told(EventKind::New, flow(1))]);
    world
        .standby()
        .engine
        .handle_command(now, instance("a", false));
    assert_eq!(world.standby().engine.role(), Role::Active, "b is here");
    world.run(SECOND);
    let now = world.now;
    world.nodes[1].started(now, Command::Promote);
    while !world.nodes[1].batches.is_empty() {
        world.nodes[1].answer(now, &[], true);
    }
    world.tell(1, &[told(EventKind::New, flow(1))]);
    world.run(2 * SECOND);
    world.start(instance("a", true));
    assert_eq!(world.standby().asked(), [Delete(1), Create(1)]);
    world.answer(&[]);
    // Told once more that b is here, or that c is not: nothing went away.
    let now = world.now;
    world
        .standby()
        .engine
        .handle_command(now, instance("c", false));
    world.echo(&[flow(1)]);
    let job = world.start(instance("b", true));
    assert_eq!(world.standby().committed(job).already, 1);
}

#[test]
fn what_comes_in_while_a_commit_runs_goes_as_well() {
    let mut world = World::holding(&[flow(1)]);
    let flows: Vec<FlowEvent> = (10..310).map(|at| told(EventKind::New, flow(at))).collect();
    world.tell(1, &flows);
    world.run(SECOND);
    let job = world.start(Command::Commit { from: Vec::new() });
    world.tell(1, &[told(EventKind::New, flow(2))]);
    world.run(SECOND);
    let mut asked = Vec::new();
    while !world.standby().batches.is_empty() {
        asked.extend(world.standby().asked());
        world.answer(&[]);
    }
    assert!(asked.contains(&Create(2)));
    let status = world.standby().committed(job);
    assert_eq!((status.total, status.failed.len()), (302, 0));
}

#[test]
fn a_flush_of_the_kernel_deletes_what_is_in_the_cache_and_nothing_else() {
    let mut world = World::holding(&[flow(9)]);
    world.tell(
        0,
        &[told(EventKind::New, flow(1)), told(EventKind::New, flow(2))],
    );
    let job = world.start(Command::FlushKernel);
    assert_eq!(world.standby().asked(), [Delete(1), Delete(2)]);
    world.answer(&[
        (0, Outcome::Refused(libc::ENOENT)),
        (1, Outcome::Refused(libc::EPERM)),
    ]);
    let expected = JobResult::Flushed {
        deleted: 1,
        failed: 1,
    };
    assert_eq!(world.standby().result(job), Some(&expected));
}

#[test]
fn a_resync_ends_when_the_peers_have_everything_or_are_gone() {
    let mut world = World::holding(&[]);
    world.tell(0, &[told(EventKind::New, flow(1))]);
    let job = world.start(Command::ResyncPeers);
    assert_eq!(world.standby().result(job), None);
    world.run(SECOND);
    assert_eq!(world.standby().result(job), Some(&JobResult::Done));
    let listing = world.start(Command::ResyncKernel);
    world.run(SECOND);
    assert_eq!(world.standby().result(listing), Some(&JobResult::Done));
    world.cut = Some(1);
    let job = world.start(Command::ResyncPeers);
    world.run(SECOND);
    assert_eq!(world.standby().result(job), None);
    world.run(130 * SECOND);
    assert!(
        world.standby().result(job).is_some(),
        "it is not waited for for ever"
    );
}

#[test]
fn a_standby_without_a_listing_or_a_peer_is_not_ready_and_says_so() {
    let mut world = World::new(1);
    let cause = world.cause().expect("not listed yet");
    assert!(cause.contains("not been listed"), "{cause}");
    world.run(SECOND);
    let cause = world.cause().expect("nobody met");
    assert!(cause.contains("no peer"), "{cause}");
}

#[test]
fn an_overrun_is_a_cause_until_a_listing_has_repaired_it() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    world.nodes[0].engine.handle_overrun(now);
    let cause = world.cause().expect("events were missed");
    assert!(cause.contains("missed"), "{cause}");
    world.run(SECOND);
    assert_eq!(world.cause(), None);
}

#[test]
fn a_replica_that_is_not_proven_yet_is_a_cause() {
    let mut world = World::new(2);
    let is_unproven =
        |cause: &String| cause.contains("not been compared") || cause.contains("no session");
    for _ in 0..100 {
        world.run(MILLI);
        let peers = world.nodes[0].engine.status(world.now).peers;
        let in_sync = peers.first().is_some_and(|peer| peer.replica.in_sync);
        match world.cause() {
            None => assert!(in_sync, "ready is proven"),
            Some(cause) if !peers.is_empty() => {
                assert!(is_unproven(&cause) || cause.contains("no peer"), "{cause}");
                assert!(!in_sync);
            }
            Some(_) => {}
        }
    }
    assert_eq!(world.cause(), None);
}

#[test]
fn a_flushed_replica_is_not_called_in_sync() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    world
        .standby()
        .engine
        .handle_command(now, Command::FlushReplicas);
    let status = world.nodes[0].engine.status(now);
    assert!(!status.ready && !status.peers[0].replica.in_sync);
    world.cut = Some(1);
    world.run(10 * SECOND);
    assert!(
        world.cause().is_some(),
        "an empty replica of a dead node is nothing to take over with"
    );
    world.cut = None;
    world.run(5 * SECOND);
    assert_eq!(world.cause(), None);
}

#[test]
fn a_full_replica_is_a_cause_until_it_is_proven_equal_again() {
    let mut world = World::with_room_for(2, 2);
    world.run(SECOND);
    let flows: Vec<FlowEvent> = (1..=3).map(|at| told(EventKind::New, flow(at))).collect();
    world.tell(1, &flows);
    world.run(2 * SECOND);
    let cause = world.cause().expect("one does not fit");
    assert!(cause.contains("full"), "{cause}");
    world.tell(1, &[told(EventKind::Destroy, flow(1))]);
    world.run(100 * SECOND);
    assert_eq!(world.cause(), None);
}

#[test]
fn a_local_cache_that_is_full_is_a_cause() {
    let mut world = World::with_room_for(2, 2);
    world.run(SECOND);
    let flows: Vec<FlowEvent> = (1..=3).map(|at| told(EventKind::New, flow(at))).collect();
    world.tell(0, &flows);
    let cause = world.cause().expect("one does not fit");
    assert!(cause.contains("local cache is full"), "{cause}");
}

#[test]
fn a_standby_that_was_ready_stays_ready_when_the_active_dies_but_is_not_in_sync() {
    let mut world = World::holding(&[flow(1)]);
    world.cut = Some(1);
    world.run(60 * SECOND);
    let status = world.nodes[0].engine.status(world.now);
    assert!(status.ready, "{:?}", status.cause);
    assert!(!status.peers[0].replica.in_sync);
    assert_eq!(status.peers[0].state, PeerState::Silent);
    assert!(status.peers[0].replica.verified_age_ms >= Some(59_000));
}

#[test]
fn a_proof_that_fails_to_come_from_a_living_peer_is_a_cause() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    // It cannot list its table: it pings, and proves nothing.
    world.nodes[1].is_stuck = true;
    world.nodes[1].engine.handle_overrun(now);
    world.run(3 * SECOND);
    assert_eq!(world.cause(), None, "not yet");
    world.run(4 * SECOND);
    let cause = world.cause().expect("no proof came");
    assert!(cause.contains("last proven equal"), "{cause}");
}

#[test]
fn the_tables_are_told_in_pieces() {
    let mut world = World::holding(&[flow(1), flow(2), flow(3)]);
    world.tell(0, &[told(EventKind::New, flow(4))]);
    let now = world.now;
    let mut from = Some(FlowsFrom::Replica(0, 0));
    let mut seen = Vec::new();
    while let Some(at) = from {
        let slots_max = 2;
        let command = Command::Flows {
            from: at,
            slots_max,
        };
        let Reply::Flows { flows, next, .. } = world.nodes[0].engine.handle_command(now, command)
        else {
            panic!("flows are told");
        };
        assert!(flows.len() <= 2);
        seen.extend(flows.iter().map(|(flow, ..)| flow.orig.src_id));
        from = next;
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn a_lookup_tells_which_tables_have_a_flow_and_how_it_is_there() {
    let mut world = World::holding(&[flow(1)]);
    let marked = Flow { mark: 7, ..flow(4) };
    world.tell(0, &[told(EventKind::New, marked)]);
    let look = |world: &mut World, flow: Flow| {
        let (now, command) = (world.now, Command::Lookup(flow.key()));
        match world.nodes[0].engine.handle_command(now, command) {
            Reply::Found(found) => *found,
            reply => panic!("{reply:?}"),
        }
    };
    let theirs = look(&mut world, flow(1));
    assert_eq!(theirs.local, None);
    let [replica] = &theirs.replicas[..] else {
        panic!("{theirs:?}");
    };
    assert_eq!(replica.peer.as_str(), "fw2");
    assert_eq!(
        replica.entry.as_ref().map(|it| it.flow.orig),
        Some(flow(1).orig)
    );
    let ours = look(&mut world, flow(4));
    let local = ours.local.expect("it was told");
    assert!(local.replicates);
    assert_eq!((local.entry.flow.mark, local.entry.timeout_left), (7, 120));
    assert_eq!(ours.replicas[0].entry, None, "the peer does not track it");

    world.tell(0, &[told(EventKind::Destroy, marked)]);
    assert_eq!(
        look(&mut world, flow(4)).local,
        None,
        "a tombstone is no flow"
    );
}
