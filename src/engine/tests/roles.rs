//! Roles: every input in every state, who is active beside us, and the hand-over.

use super::*;
use crate::engine::status::PastTransition;

/// What a role is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Input {
    Promote,
    Demote,
    /// keepalived about the instance that made the node active, by a script.
    Notify(InstanceState),
    /// Likewise, through the FIFO.
    Fifo(InstanceState),
    /// keepalived about another instance, which is not MASTER here.
    Other(InstanceState),
    /// The kernel has done what was asked.
    Answered,
    /// A peer was promoted, for the same instance.
    PeerPromoted,
}

/// Where a role comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    Standby,
    Promoting,
    Active,
    /// Active in an earlier run, and nobody has said so since.
    Remembered,
}

const ONE: (&str, &str) = ("INSTANCE", "one");

fn instance(via: Via, (kind, name): (&str, &str), state: InstanceState) -> Command {
    Command::Instance {
        via,
        instance: (kind.into(), name.into()),
        state,
    }
}

impl Start {
    fn world(self) -> World {
        let mut world = World::holding(&[flow(1)]);
        match self {
            Self::Standby => return world,
            Self::Remembered => {
                let mut settings = Node::settings("fw1", 9, 1000);
                (settings.role, settings.term) = (Role::Active, 3);
                settings.masters = vec![(ONE.0.into(), ONE.1.into())];
                world.nodes[0].engine = Engine::new(settings, world.now);
                world.run(4 * SECOND);
                return world;
            }
            Self::Promoting | Self::Active => {}
        }
        world.start(instance(Via::Notify, ONE, InstanceState::Master));
        if self == Self::Active {
            world.answer(&[]);
            world.echo(&[flow(1)]);
            world.run(SECOND);
        }
        world
    }
}

#[test]
fn every_input_in_every_state_leads_where_the_table_says() {
    use InstanceState::{Backup, Deleted, Fault, Master, Stop, Unchanged};
    use Role::{Active, Promoting, Standby};
    /// Role afterwards, whether the term has grown, and whether a commit was asked for.
    type End = (Role, bool, bool);
    let stays = |role| (role, false, false);
    let commits = |role| (role, false, true);
    let begins: End = (Promoting, true, true);
    let rows: [(Input, [End; 4]); 19] = [
        (
            Input::Promote,
            [begins, commits(Promoting), commits(Active), commits(Active)],
        ),
        (Input::Demote, [stays(Standby); 4]),
        (
            Input::Notify(Master),
            [begins, commits(Promoting), commits(Active), commits(Active)],
        ),
        (Input::Notify(Backup), [stays(Standby); 4]),
        (Input::Notify(Fault), [stays(Standby); 4]),
        (Input::Notify(Stop), [stays(Standby); 4]),
        (Input::Notify(Deleted), [stays(Standby); 4]),
        (
            Input::Notify(Unchanged),
            [
                stays(Standby),
                stays(Promoting),
                stays(Active),
                stays(Active),
            ],
        ),
        // The FIFO repeats itself, and nobody waits for an answer.
        (
            Input::Fifo(Master),
            [begins, stays(Promoting), stays(Active), stays(Active)],
        ),
        (Input::Fifo(Backup), [stays(Standby); 4]),
        (Input::Fifo(Fault), [stays(Standby); 4]),
        (Input::Fifo(Stop), [stays(Standby); 4]),
        (
            Input::Other(Master),
            [begins, commits(Promoting), commits(Active), commits(Active)],
        ),
        // While one instance is MASTER here, the node is active.
        (
            Input::Other(Backup),
            [
                stays(Standby),
                stays(Promoting),
                stays(Active),
                stays(Active),
            ],
        ),
        (
            Input::Other(Fault),
            [
                stays(Standby),
                stays(Promoting),
                stays(Active),
                stays(Active),
            ],
        ),
        (
            Input::Other(Deleted),
            [
                stays(Standby),
                stays(Promoting),
                stays(Active),
                stays(Active),
            ],
        ),
        (
            Input::Other(Unchanged),
            [
                stays(Standby),
                stays(Promoting),
                stays(Active),
                stays(Active),
            ],
        ),
        (
            Input::Answered,
            [stays(Standby), stays(Active), stays(Active), stays(Active)],
        ),
        // Only a role that nobody has confirmed gives way.
        (
            Input::PeerPromoted,
            [
                stays(Standby),
                stays(Promoting),
                stays(Active),
                stays(Standby),
            ],
        ),
    ];
    let starts = [
        Start::Standby,
        Start::Promoting,
        Start::Active,
        Start::Remembered,
    ];
    for (input, ends) in rows {
        for (start, end) in starts.into_iter().zip(ends) {
            let mut world = start.world();
            let now = world.now;
            let term = world.standby().engine.term();
            let command = match input {
                Input::Promote => Some(Command::Promote),
                Input::Demote => Some(Command::Demote),
                Input::Notify(state) => Some(instance(Via::Notify, ONE, state)),
                Input::Fifo(state) => Some(instance(Via::Fifo, ONE, state)),
                Input::Other(state) => Some(instance(Via::Notify, ("INSTANCE", "other"), state)),
                Input::Answered => {
                    if !world.standby().batches.is_empty() {
                        world.answer(&[]);
                    }
                    None
                }
                Input::PeerPromoted => {
                    let mut other = instance(Via::Notify, ONE, Master);
                    for _ in 0..4 {
                        world.nodes[1].engine.handle_command(now, other);
                        world.nodes[1].drain(now);
                        while !world.nodes[1].batches.is_empty() {
                            world.nodes[1].answer(now, &[], true);
                        }
                        let back = instance(Via::Notify, ONE, Backup);
                        world.nodes[1].engine.handle_command(now, back);
                        other = instance(Via::Notify, ONE, Master);
                    }
                    world.nodes[1].engine.handle_command(now, other);
                    world.run(SECOND);
                    None
                }
            };
            let reply = command.map(|command| world.standby().engine.handle_command(now, command));
            let asked = matches!(reply, Some(Reply::Started(_)));
            let engine = &world.standby().engine;
            // An empty commit is over at once.
            let role = engine.role();
            let grown = engine.term() > term;
            assert_eq!((role, grown, asked), end, "{start:?} on {input:?}");
        }
    }
}

#[test]
fn a_burst_of_lines_of_the_fifo_is_one_promotion() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    for line in [ONE, ("INSTANCE", "two"), ("GROUP", "both")] {
        let command = instance(Via::Fifo, line, InstanceState::Master);
        world.standby().engine.handle_command(now, command);
    }
    world.standby().drain(now);
    world.answer(&[]);
    assert_eq!(world.standby().engine.role(), Role::Active);
    assert_eq!(world.standby().engine.masters().len(), 3);
    let promotions = transitions(world.standby());
    assert_eq!(promotions.len(), 1, "{promotions:?}");
    // An instance that follows later is another matter: it may come from another node.
    world.run(SECOND);
    let now = world.now;
    let late = instance(Via::Fifo, ("INSTANCE", "late"), InstanceState::Master);
    let reply = world.standby().engine.handle_command(now, late);
    assert!(matches!(reply, Reply::Started(_)));
}

/// Transitions as they stand at the end, in order.
fn transitions(node: &Node) -> Vec<Transition> {
    let mut found: Vec<Transition> = Vec::new();
    for notice in &node.notices {
        if let Notice::Transition { transition, .. } = notice {
            match found.iter_mut().find(|one| one.number == transition.number) {
                Some(one) => *one = (**transition).clone(),
                None => found.push((**transition).clone()),
            }
        }
    }
    found
}

/// Both nodes are active, each for its instance.
fn two_actives(left: (&str, &str), right: (&str, &str)) -> World {
    let mut world = World::holding(&[flow(1)]);
    for (at, line) in [left, right].into_iter().enumerate() {
        let now = world.now;
        let command = instance(Via::Notify, line, InstanceState::Master);
        world.nodes[at].engine.handle_command(now, command);
        world.nodes[at].drain(now);
        world.settle(at);
        world.run(100 * MILLI);
    }
    world
}

#[test]
fn two_actives_for_one_instance_are_a_split_brain_until_one_steps_down() {
    let mut world = two_actives(ONE, ONE);
    assert_eq!(
        world.split(0),
        None,
        "a hand-over looks like this for a moment"
    );
    world.run(4 * SECOND);
    let split = world.split(0).expect("is seen");
    assert_eq!(
        (split.peer.as_str(), split.instances.as_slice()),
        ("fw2", ["INSTANCE one".to_owned()].as_slice())
    );
    assert!(split.since_ms >= 2000 && split.cause.contains("fw2 is active for INSTANCE one"));
    assert!(world.split(1).is_some(), "and on the other side");
    let told = |world: &World, what: fn(&Notice) -> bool| {
        world.nodes[0]
            .notices
            .iter()
            .filter(|notice| what(notice))
            .count()
    };
    let is_split = |notice: &Notice| matches!(notice, Notice::SplitBrain { .. });
    let is_over = |notice: &Notice| matches!(notice, Notice::SplitBrainOver { .. });
    assert_eq!((told(&world, is_split), told(&world, is_over)), (1, 0));

    // The second one steps down; what it had lives here from now on.
    world.tell(1, &[super::told(EventKind::New, flow(7))]);
    world.run(SECOND);
    let now = world.now;
    world.nodes[1]
        .engine
        .handle_command(now, instance(Via::Notify, ONE, InstanceState::Backup));
    world.run(SECOND);
    assert_eq!(world.split(0), None);
    assert_eq!((told(&world, is_split), told(&world, is_over)), (1, 1));
    assert!(world.standby().asked().contains(&Create(7)));
    world.settle(0);
    world.run(5 * SECOND);
    let last = transitions(world.standby());
    let take_overs = last
        .iter()
        .filter(|one| one.kind == TransitionKind::TakeOver);
    assert_eq!(take_overs.count(), 1, "once: {last:?}");
}

#[test]
fn keepalived_s_fifo_confirms_a_remembered_role() {
    let mut world = Start::Remembered.world();
    let now = world.now;
    let line = instance(Via::Fifo, ONE, InstanceState::Master);
    world.nodes[0].engine.handle_command(now, line);
    let rival = instance(Via::Notify, ONE, InstanceState::Master);
    world.nodes[1].engine.handle_command(now, rival);
    world.nodes[1].drain(now);
    world.settle(1);
    world.run(4 * SECOND);
    assert!(world.nodes[1].engine.term() > world.nodes[0].engine.term());
    assert_eq!(world.nodes[0].engine.role(), Role::Active);
    assert!(world.split(0).is_some(), "both are, and it is told");
}

#[test]
fn a_promotion_finds_room_behind_a_full_queue() {
    let mut world = Start::Standby.world();
    let now = world.now;
    let engine = &mut world.nodes[0].engine;
    let refused = |reply: &Reply| matches!(reply, Reply::Refused(_));
    let flushes = (0..100).map(|_| engine.handle_command(now, Command::FlushKernel));
    assert!(flushes.filter(refused).count() > 50, "the queue is full");
    let line = instance(Via::Notify, ONE, InstanceState::Master);
    let reply = engine.handle_command(now, line);
    assert!(matches!(reply, Reply::Started(_)), "{reply:?}");
}

#[test]
fn whoever_had_the_lower_term_is_taken_over_too() {
    // The first was promoted first; by the rule for commits it has nothing to say to the second.
    let mut world = two_actives(ONE, ONE);
    world.tell(0, &[super::told(EventKind::New, flow(8))]);
    world.run(4 * SECOND);
    assert!(world.nodes[0].engine.term() < world.nodes[1].engine.term());
    let now = world.now;
    world.nodes[0].engine.handle_command(now, Command::Demote);
    world.run(SECOND);
    assert!(
        world.nodes[1].asked().contains(&Create(8)),
        "{:?}",
        world.nodes[1].asked()
    );
}

#[test]
fn actives_that_share_the_work_are_no_split_brain() {
    let mut world = two_actives(ONE, ("INSTANCE", "two"));
    world.run(5 * SECOND);
    assert_eq!((world.split(0), world.split(1)), (None, None));
    // Without an instance a promotion claims everything.
    let now = world.now;
    let none = instance(Via::Notify, ("INSTANCE", "two"), InstanceState::Backup);
    world.nodes[1].engine.handle_command(now, none);
    world.nodes[1].engine.handle_command(now, Command::Promote);
    world.run(5 * SECOND);
    let split = world.split(0).expect("is seen");
    assert_eq!(split.instances, Vec::<String>::new());
}

#[test]
fn a_predecessor_that_died_and_comes_back_is_not_taken_over() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    world.nodes[1].started(now, instance(Via::Notify, ONE, InstanceState::Master));
    world.run(SECOND);
    world.cut = Some(1);
    world.run(300 * MILLI);
    world.start(instance(Via::Notify, ONE, InstanceState::Master));
    world.settle(0);
    world.run(5 * SECOND);
    let now = world.now;
    world.nodes[1].engine.handle_command(now, Command::Demote);
    world.cut = None;
    world.run(5 * SECOND);
    // What it holds has lived, and perhaps ended, here.
    let found = transitions(world.standby());
    let kinds: Vec<_> = found.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [TransitionKind::Promotion], "{found:?}");
}

impl World {
    /// The kernel of a node answers all that it was asked.
    fn settle(&mut self, at: usize) {
        let now = self.now;
        while !self.nodes[at].batches.is_empty() {
            self.nodes[at].answer(now, &[], true);
        }
    }

    fn split(&self, at: usize) -> Option<status::SplitBrainStatus> {
        let status = self.nodes[at].engine.status(self.now);
        assert!(status.split_brain.len() <= 1);
        status.split_brain.into_iter().next()
    }

    /// The second node is active, the first ready.
    fn ready_for_switchover() -> Self {
        let mut world = World::holding(&[flow(1)]);
        let now = world.now;
        world.nodes[1].started(now, instance(Via::Fifo, ONE, InstanceState::Master));
        world.run(5 * SECOND);
        assert_eq!(world.standings(), [Standing::Full, Standing::Full]);
        world
    }

    fn standings(&self) -> [Standing; 2] {
        [0, 1].map(|at| self.nodes[at].engine.standing())
    }

    fn switch_over(&mut self, seconds: u32) -> JobId {
        let now = self.now;
        let timeout = seconds * SECOND;
        self.nodes[1].started(now, Command::Switchover { timeout })
    }

    fn keepalived(&mut self, at: usize, state: InstanceState) {
        let now = self.now;
        let command = instance(Via::Fifo, ONE, state);
        self.nodes[at].engine.handle_command(now, command);
        self.nodes[at].drain(now);
    }
}

#[test]
fn keepalived_hears_of_readiness_after_three_seconds_and_of_its_end_at_once() {
    let mut world = World::holding(&[flow(1)]);
    let began = world.now;
    while world.standings()[0] == Standing::Unready {
        world.run(100 * MILLI);
        assert!(world.now < began + 4 * SECOND);
    }
    assert!(world.now - began > SECOND, "ready for a while first");
    let now = world.now;
    world.standby().is_stuck = true;
    world.standby().engine.handle_overrun(now);
    world.run(20 * MILLI);
    assert_eq!(world.standings()[0], Standing::Unready);
    // An active node has its priority, whatever its state.
    world.start(instance(Via::Fifo, ONE, InstanceState::Master));
    assert_eq!(world.standings()[0], Standing::Full);
}

#[test]
fn a_switchover_where_the_peer_preempts_never_lets_go() {
    let mut world = World::ready_for_switchover();
    let job = world.switch_over(30);
    world.run(100 * MILLI);
    assert_eq!(world.standings()[1], Standing::LastChoice);
    world.keepalived(0, InstanceState::Master);
    world.run(10 * MILLI);
    world.keepalived(1, InstanceState::Backup);
    world.run(50 * MILLI);
    assert_eq!(world.nodes[1].result(job), None, "the peer commits");
    world.settle(0);
    world.run(50 * MILLI);
    let Some(JobResult::SwitchedOver(done)) = world.nodes[1].result(job).cloned() else {
        panic!("{:?}", world.nodes[1].result(job));
    };
    assert_eq!((done.peer.as_str(), done.let_go), ("fw1", false));
    // It stays the last choice: else keepalived would bring everything back at once.
    world.run(10 * SECOND);
    assert_eq!(world.standings(), [Standing::Full, Standing::LastChoice]);
    // Until the other one is gone.
    world.cut = Some(0);
    world.run(4 * SECOND);
    assert_ne!(world.standings()[1], Standing::LastChoice);
}

#[test]
fn a_switchover_where_nobody_preempts_lets_go_after_a_second() {
    let mut world = World::ready_for_switchover();
    let job = world.switch_over(30);
    world.run(1500 * MILLI);
    assert_eq!(world.standings()[1], Standing::LetGo);
    world.keepalived(1, InstanceState::Fault);
    world.run(20 * MILLI);
    assert_eq!(
        world.standings()[1],
        Standing::LastChoice,
        "and out of FAULT again"
    );
    world.keepalived(0, InstanceState::Master);
    world.settle(0);
    world.run(100 * MILLI);
    match world.nodes[1].result(job) {
        Some(JobResult::SwitchedOver(done)) => assert!(done.let_go),
        result => panic!("{result:?}"),
    }
    // And back: the last choice ends with the promotion.
    world.keepalived(0, InstanceState::Fault);
    world.keepalived(1, InstanceState::Master);
    world.settle(1);
    world.run(100 * MILLI);
    assert_eq!(world.standings()[1], Standing::Full);
}

#[test]
fn a_peer_that_shares_the_work_has_not_taken_over_until_it_claims_ours() {
    // The peer was promoted last, for its own instance: its term is the higher one.
    let mut world = two_actives(ONE, ("INSTANCE", "two"));
    world.run(5 * SECOND);
    let now = world.now;
    let timeout = 30 * SECOND;
    world.nodes[0].started(now, Command::Switchover { timeout });
    world.run(1500 * MILLI);
    assert_eq!(world.standings()[0], Standing::LetGo, "nobody preempts");
}

#[test]
fn a_switchover_that_nobody_answers_puts_the_priority_back() {
    let mut world = World::ready_for_switchover();
    let job = world.switch_over(30);
    world.run(5 * SECOND);
    let failed = world.nodes[1].result(job).cloned();
    assert!(
        matches!(&failed, Some(JobResult::Failed(why)) if why.contains("keepalived has not let go")),
        "{failed:?}"
    );
    assert_eq!(world.standings(), [Standing::Full, Standing::Full]);
    assert_eq!(world.nodes[1].engine.role(), Role::Active);
    // keepalived lets go, nobody takes the addresses, it takes them again.
    let job = world.switch_over(30);
    world.run(1500 * MILLI);
    world.keepalived(1, InstanceState::Fault);
    world.run(20 * MILLI);
    world.keepalived(1, InstanceState::Master);
    world.run(50 * MILLI);
    let failed = world.nodes[1].result(job).cloned();
    assert!(
        matches!(&failed, Some(JobResult::Failed(why)) if why.contains("taken them again")),
        "{failed:?}"
    );
}

#[test]
fn a_switchover_is_refused_with_the_reason() {
    let refusal = |world: &mut World, at: usize| {
        let now = world.now;
        let timeout = 30 * SECOND;
        match world.nodes[at]
            .engine
            .handle_command(now, Command::Switchover { timeout })
        {
            Reply::Refused(why) => why,
            reply => panic!("{reply:?}"),
        }
    };
    let mut world = World::ready_for_switchover();
    assert!(refusal(&mut world, 0).contains("not active"));
    let now = world.now;
    world.standby().is_stuck = true;
    world.standby().engine.handle_overrun(now);
    world.run(50 * MILLI);
    assert!(refusal(&mut world, 1).contains("no peer is ready"));
    world.cut = Some(0);
    world.run(4 * SECOND);
    assert!(refusal(&mut world, 1).contains("no peer to hand over to"));
    let mut world = two_actives(ONE, ONE);
    world.run(5 * SECOND);
    assert!(refusal(&mut world, 1).starts_with("split brain"));
}

#[test]
fn a_transition_tells_why_how_long_each_step_took_and_what_came_of_it() {
    let mut world = World::holding(&[flow(1)]);
    let now = world.now;
    world.standby().is_stuck = true;
    world
        .standby()
        .engine
        .handle_command(now, Command::FlushLocal);
    world.start(instance(Via::Fifo, ONE, InstanceState::Master));
    world.run(10 * SECOND + 5 * MILLI);
    world.answer(&[]);
    let now = world.now;
    world.standby().engine.handle_command(now, Command::Demote);
    world.standby().drain(now);
    let [promotion, demotion] = transitions(world.standby()).try_into().expect("two");
    assert_eq!(promotion.kind, TransitionKind::Promotion);
    assert_eq!(promotion.trigger, "fifo INSTANCE one MASTER");
    assert_eq!((promotion.term, promotion.peers[0].active), (1, false));
    assert!(promotion.commit_started_ms >= Some(10_000), "{promotion:?}");
    assert!(promotion.done_ms >= promotion.commit_started_ms);
    assert_eq!(
        promotion.commit.as_ref().map(|commit| commit.created),
        Some(1)
    );
    assert_eq!(
        (demotion.kind, demotion.trigger.as_str(), demotion.done_ms),
        (TransitionKind::Demotion, "command", Some(0))
    );
    let past = PastTransition {
        at_ms: 1,
        run: "a".into(),
        transition: promotion,
    };
    let text = serde_json::to_string(&past).expect("plain");
    assert_eq!(
        serde_json::from_str::<PastTransition>(&text).ok(),
        Some(past)
    );
}
