//! What a commit does beyond the flows themselves: order, room, one peer only, dry run, what is
//! missing, what goes on in the background.

use super::*;
use crate::ctnetlink::host::{Host, Room, Rules, Seen};
use crate::engine::status::Foreseen;
use crate::flow::proto::{TCP_ESTABLISHED, TcpInfo};
use crate::flow::rare::HelperName;

fn unassured(number: u16) -> Flow {
    let mut flow = flow(number);
    flow.status = Status(Status::CONFIRMED);
    flow
}

/// A flow that outlives the grace.
fn long(number: u16) -> Flow {
    Flow {
        timeout_secs: 3600,
        ..flow(number)
    }
}

fn commit() -> Command {
    Command::Commit { from: Vec::new() }
}

fn dry_run() -> Command {
    Command::DryRun { from: Vec::new() }
}

fn room(max: u32, count: u32) -> Host {
    Host {
        room: Some(Room { max, count }),
        ..Host::default()
    }
}

impl World {
    /// The second node has these flows with their rare attributes, and the first knows.
    fn holding_rare(flows: &[(Flow, Rare)]) -> Self {
        let mut world = Self::new(2);
        world.run(SECOND);
        let events = flows.iter().map(|&(flow, rare)| FlowEvent {
            rare,
            present: Present(u16::MAX),
            ..told(EventKind::New, flow)
        });
        world.tell(1, &events.collect::<Vec<_>>());
        world.run(SECOND);
        world
    }

    /// Answers every batch, with nothing to say.
    fn answer_all(&mut self) -> Vec<Asked> {
        let mut asked = Vec::new();
        while !self.standby().batches.is_empty() {
            asked.extend(self.standby().batches[0].asked.clone());
            self.answer(&[]);
        }
        asked
    }

    fn foreseen(&mut self, command: Command) -> Foreseen {
        let job = self.start(command);
        match self.standby().result(job) {
            Some(JobResult::Foreseen(foreseen)) => (**foreseen).clone(),
            result => panic!("{result:?}"),
        }
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = self.nodes[0].engine.stats();
        let found = stats.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("{name}")).1
    }
}

#[test]
fn what_is_worth_most_goes_first_and_children_last() {
    let child = Rare {
        master: Some(unassured(2).orig),
        ..Rare::default()
    };
    let mut unassured_nat = translated(3, 5003);
    unassured_nat.status = Status(Status::CONFIRMED);
    let mut world = World::holding_rare(&[
        (translated(1, 5001), child),
        (unassured(2), Rare::default()),
        (unassured_nat, Rare::default()),
        (flow(4), Rare::default()),
        (translated(5, 5005), Rare::default()),
    ]);
    world.start(commit());
    assert_eq!(
        world.standby().asked(),
        [Create(5), Create(4), Create(2), Create(3)]
    );
    world.answer(&[]);
    assert_eq!(world.standby().asked(), [Create(1)]);
}

#[test]
fn a_commit_stops_where_the_room_ends_and_says_what_to_set() {
    let mut world = World::holding(&[flow(1), flow(2), translated(3, 5003), unassured(4)]);
    world.standby().engine.handle_host(room(10, 8));
    let job = world.start(commit());
    assert_eq!(world.answer_all(), [Create(3), Create(1)]);
    let status = world.standby().committed(job);
    assert_eq!((status.created, status.total), (2, 4));
    assert_eq!(status.failed.len(), 1, "{status:?}");
    assert_eq!(status.failed[0].flows, 2);
    let reason = &status.failed[0].reason;
    assert!(reason.contains("nf_conntrack_max is 10;"), "{reason}");
    assert!(reason.contains("nf_conntrack_max=1000`"), "{reason}");
    // With room, a second commit does the rest.
    world.echo(&[flow(1), translated(3, 5003)]);
    world.standby().engine.handle_host(room(1000, 10));
    let job = world.start(commit());
    assert_eq!(world.answer_all(), [Create(2), Create(4)]);
    let status = world.standby().committed(job);
    assert_eq!((status.created, status.already), (2, 2));
    assert!(status.failed.is_empty());
}

#[test]
fn a_replacement_needs_no_room() {
    let mut world = World::holding(&[translated(1, 5000), flow(2)]);
    world.tell(0, &[told(EventKind::New, translated(1, 6000))]);
    world.standby().engine.handle_host(room(10, 10));
    let job = world.start(commit());
    assert_eq!(world.answer_all(), [Delete(1), Create(1)]);
    let status = world.standby().committed(job);
    assert_eq!((status.replaced, status.failed[0].flows), (1, 1));
}

#[test]
fn what_was_there_gives_its_room_to_the_next() {
    let flows: Vec<Flow> = (1..=70).map(flow).collect();
    let mut world = World::holding(&flows);
    // Room for 64. One of them turns out to be there.
    world.standby().engine.handle_host(room(64, 0));
    let job = world.start(commit());
    assert_eq!(world.standby().asked().len(), 64);
    world.answer(&[(0, Outcome::Refused(libc::EEXIST))]);
    world.answer(&[]);
    assert_eq!(world.standby().asked(), [Get]);
    world.answer(&[(0, found(flow(1)))]);
    let status = world.standby().committed(job);
    assert_eq!((status.created, status.already), (63, 1));
    // The six others were judged before that was known, and are told as left out.
    assert_eq!(status.failed[0].flows, 6);
    world.echo(&flows[1..64]);
    let job = world.start(commit());
    let asked = world.answer_all();
    assert_eq!(asked.len(), 1, "one fits: {asked:?}");
    assert_eq!(world.standby().committed(job).created, 1);
}

#[test]
fn one_enomem_is_enough() {
    let flows: Vec<Flow> = (1..=900).map(flow).collect();
    let mut world = World::holding(&flows);
    world.standby().engine.handle_host(room(100_000, 10));
    let job = world.start(commit());
    world.answer(&[(0, Outcome::Refused(libc::ENOMEM))]);
    let asked = world.answer_all();
    // What was under way already, and no more.
    assert!(asked.len() <= 8 * 64, "{} went on", asked.len());
    let status = world.standby().committed(job);
    assert_eq!(status.failed.len(), 1);
    assert_eq!(status.created + status.failed[0].flows, 900);
}

#[test]
fn a_standby_without_room_for_its_replicas_is_not_ready_and_says_what_to_set() {
    let mut world = World::holding(&[flow(1), flow(2)]);
    world.standby().engine.handle_host(room(10, 8));
    assert_eq!(world.cause(), None);
    world.standby().engine.handle_host(room(10, 9));
    world.run(10 * MILLI);
    let cause = world.cause().expect("no room");
    assert!(cause.contains("9 flows here and 2 of them"), "{cause}");
    assert!(cause.contains("nf_conntrack_max=1000`"), "{cause}");
    world.standby().engine.handle_host(Host::default());
    assert_eq!(world.cause(), None, "nobody can tell");
    // One of them is here already, left from an earlier term, and needs no room.
    world.standby().engine.handle_host(room(10, 9));
    world.tell(0, &[told(EventKind::New, flow(1))]);
    world.run(11 * SECOND);
    assert_eq!(world.cause(), None);
    world.tell(0, &[told(EventKind::Destroy, flow(1))]);
    world.run(11 * SECOND);
    assert!(world.cause().is_some());
}

#[test]
fn only_the_peers_that_are_named_are_committed() {
    let mut world = World::new(3);
    world.run(SECOND);
    world.tell(1, &[told(EventKind::New, flow(1))]);
    world.tell(2, &[told(EventKind::New, flow(2))]);
    world.run(2 * SECOND);
    let from = |names: &[&str]| Command::Commit {
        from: names.iter().map(|&name| name.into()).collect(),
    };
    let job = world.start(from(&["fw3", "fw3"]));
    assert_eq!(world.answer_all(), [Create(2)]);
    assert_eq!(world.standby().committed(job).total, 1);
    world.echo(&[flow(2)]);
    let job = world.start(from(&["fw2", "fw3"]));
    assert_eq!(world.answer_all(), [Create(1)]);
    assert_eq!(world.standby().committed(job).already, 1);
    let now = world.now;
    let refused = world.standby().engine.handle_command(now, from(&["fw4"]));
    let Reply::Refused(reason) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("known: fw2, fw3"), "{reason}");
}

#[test]
fn a_peer_that_was_left_behind_is_committed_when_it_is_named() {
    let mut world = World::holding(&[flow(1)]);
    world.start(Command::Promote);
    world.answer(&[]);
    world.run(2 * SECOND);
    world.start(commit());
    assert_eq!(world.standby().asked(), []);
    world.start(Command::Commit {
        from: vec!["fw2".into()],
    });
    assert_eq!(world.standby().asked(), [Create(1)]);
}

#[test]
fn a_dry_run_foresees_what_the_commit_then_does() {
    let mut world = World::holding(&[flow(1), flow(2), translated(3, 5003), translated(4, 5004)]);
    world.tell(0, &[told(EventKind::New, flow(1))]);
    // Translated otherwise; and a stray packet of the server has an entry that owns the reply tuple.
    world.tell(0, &[told(EventKind::New, translated(3, 6003))]);
    let stray = Flow {
        orig: translated(4, 5004).reply,
        reply: translated(4, 5004).reply.inverse(),
        ..flow(0)
    };
    world.tell(0, &[told(EventKind::New, stray)]);
    world.standby().engine.handle_host(room(100, 10));
    let before = world.stat("local.tracked");
    let foreseen = world.foreseen(dry_run());
    assert_eq!(world.standby().asked(), [], "nothing is asked");
    assert_eq!(world.stat("local.tracked"), before);
    assert_eq!(
        (
            foreseen.total,
            foreseen.create,
            foreseen.already,
            foreseen.replace
        ),
        (4, 1, 1, 2)
    );
    let conflicts: Vec<u64> = foreseen.conflicts.iter().map(|it| it.flows).collect();
    assert_eq!(conflicts, [1, 1], "{:?}", foreseen.conflicts);
    assert_eq!(foreseen.sources.len(), 1);
    assert_eq!(
        (&*foreseen.sources[0].peer, foreseen.sources[0].flows),
        ("fw2", 4)
    );
    let room = foreseen.room.expect("is known");
    assert_eq!((room.max, room.count, room.left_out), (100, 10, 0));
    assert_eq!(foreseen.estimated_ms, None);

    let job = world.start(commit());
    assert_eq!(
        world.standby().asked(),
        [Delete(3), Create(3), Create(4), Create(2)]
    );
    world.answer(&[(2, Outcome::Refused(libc::EEXIST))]);
    world.answer(&[(0, Outcome::Refused(libc::ENOENT))]);
    world.answer(&[(0, found(stray))]);
    world.answer(&[]);
    let status = world.standby().committed(job);
    assert_eq!(
        (status.created, status.already, status.replaced),
        (foreseen.create, foreseen.already, foreseen.replace)
    );
}

#[test]
fn a_dry_run_foresees_stale_entries_and_want_of_room() {
    let mut world = World::holding(&[flow(1), flow(2), flow(3)]);
    world.tell(0, &[told(EventKind::New, flow(1))]);
    world.start(Command::Promote);
    world.answer(&[]);
    let now = world.now;
    world.standby().engine.handle_command(now, Command::Demote);
    world.standby().engine.handle_host(room(5, 4));
    let foreseen = world.foreseen(dry_run());
    assert_eq!((foreseen.create, foreseen.replace), (2, 1));
    let room = foreseen.room.expect("is known");
    assert_eq!((room.left_out, room.wanted_max), (1, Some(1000)));
}

#[test]
fn a_dry_run_asks_for_helpers_in_a_way_that_creates_nothing() {
    let with_helper = |name: &[u8]| Rare {
        helper: HelperName::new(name),
        ..Rare::default()
    };
    let mut world = World::holding_rare(&[
        (flow(1), with_helper(b"ftp")),
        (flow(2), with_helper(b"ftp")),
        (flow(3), with_helper(b"sip")),
    ]);
    let job = world.start(dry_run());
    assert_eq!(world.standby().asked().len(), 2, "one for each helper");
    // The master that they name does not exist; the helper is looked for first.
    world.answer(&[
        (0, Outcome::Refused(libc::ENOENT)),
        (1, Outcome::Refused(libc::EOPNOTSUPP)),
    ]);
    let Some(JobResult::Foreseen(foreseen)) = world.standby().result(job) else {
        panic!("it is done");
    };
    assert_eq!(foreseen.missing.len(), 1, "{:?}", foreseen.missing);
    assert!(
        foreseen.missing[0].contains("\"sip\""),
        "{:?}",
        foreseen.missing
    );
}

#[test]
fn a_commit_does_not_wait_for_a_dry_run() {
    let with_helper = Rare {
        helper: HelperName::new(b"ftp"),
        ..Rare::default()
    };
    let mut world = World::holding_rare(&[(flow(1), with_helper)]);
    let running = world.start(dry_run());
    let waiting = world.start(dry_run());
    assert_eq!(
        world.standby().asked().len(),
        1,
        "the first asks for the helper"
    );
    let job = world.start(Command::Promote);
    for overtaken in [running, waiting] {
        let result = world.standby().result(overtaken);
        assert!(matches!(result, Some(JobResult::Failed(_))), "{result:?}");
    }
    // The answer to the dry run's question is nobody's any more.
    world.answer(&[(0, Outcome::Refused(libc::EOPNOTSUPP))]);
    assert_eq!(world.answer_all(), [Create(1)]);
    assert_eq!(world.standby().committed(job).created, 1);
}

#[test]
fn a_commit_tells_what_the_rules_do_not_give() {
    let mut world = World::holding(&[translated(1, 5001), flow(2)]);
    world.standby().engine.handle_host(Host {
        rules: Rules {
            nat_v4: Seen::No,
            nat_v6: Seen::No,
            tracking: Seen::Yes,
            labels: Seen::No,
        },
        ..Host::default()
    });
    let foreseen = world.foreseen(dry_run());
    let job = world.start(commit());
    world.answer_all();
    let missing = &world.standby().committed(job).missing;
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        missing[0].contains("no chain of type nat sees IPv4"),
        "{missing:?}"
    );
    assert_eq!(*missing, foreseen.missing);
}

#[test]
fn labels_are_read_back_once_after_a_commit() {
    let labelled = Rare {
        labels: Some([1; 16]),
        ..Rare::default()
    };
    for (kept, lost) in [(labelled, 0), (Rare::default(), 2)] {
        let mut world = World::holding_rare(&[
            (flow(1), labelled),
            (flow(2), labelled),
            (flow(3), Rare::default()),
        ]);
        let job = world.start(commit());
        assert_eq!(world.standby().asked(), [Create(1), Create(2), Create(3)]);
        world.answer(&[]);
        assert_eq!(world.standby().asked(), [Get]);
        let Outcome::Found(mut found) = found(flow(1)) else {
            panic!("a flow is found");
        };
        found.rare = kept;
        world.answer(&[(0, Outcome::Found(found))]);
        let status = world.standby().committed(job);
        assert_eq!((status.created, status.without_labels), (3, lost));
    }
}

#[test]
fn a_running_commit_says_how_far_it_is_and_how_long_it_takes_on() {
    let flows: Vec<Flow> = (1..=300).map(flow).collect();
    let mut world = World::holding(&flows);
    world.start(commit());
    world.now += 200 * MILLI;
    world.answer(&[]);
    let now = world.now;
    let status = world.standby().engine.status(now).commit.expect("it runs");
    assert!(status.running);
    assert_eq!((status.total, status.done()), (300, 63));
    assert_eq!(status.remaining_ms(), Some(200 * (300 - 63) / 63));
    world.answer_all();
    let status = world.standby().engine.status(now).commit.expect("it ran");
    assert_eq!((status.done(), status.remaining_ms()), (300, None));
}

/// The first node was active, and the second is now; both have these flows.
fn taken_over(flows: &[Flow]) -> World {
    let mut world = World::holding(flows);
    world.start(Command::Promote);
    world.answer_all();
    world.echo(flows);
    world.run(SECOND);
    let now = world.now;
    world.standby().engine.handle_command(now, Command::Demote);
    world.run(SECOND);
    assert_eq!(world.standby().asked(), [], "nobody is active");
    let now = world.now;
    world.nodes[1].started(now, Command::Promote);
    while !world.nodes[1].batches.is_empty() {
        world.nodes[1].answer(now, &[], true);
    }
    world
}

#[test]
fn after_a_demotion_what_the_new_active_has_is_shortened_and_nothing_else() {
    let mut fixed = long(4);
    fixed.status.0 |= Status::FIXED_TIMEOUT;
    let short = flow(5);
    let mut world = taken_over(&[long(1), long(2), long(3), fixed, short]);
    // The new active's flow 2 has another translation; 3 has ended there; 6 is only here, and 7 was
    // born here since.
    let mut other = long(2);
    other.reply.dst_id = 777;
    world.tell(1, &[told(EventKind::New, other)]);
    world.tell(1, &[told(EventKind::Destroy, long(3))]);
    world.tell(1, &[told(EventKind::New, long(7))]);
    world.tell(0, &[told(EventKind::Listed, long(6))]);
    world.tell(0, &[told(EventKind::New, long(7))]);
    world.run(4 * SECOND);
    assert_eq!(world.standby().asked(), [Update(1)]);
    world.answer(&[]);
    world.run(SECOND);
    assert_eq!(world.standby().asked(), [], "once is enough");
    assert_eq!(world.stat("background.faded"), 1);
    let told = world.standby().notices.iter();
    let told = told.filter(|notice| matches!(notice, Notice::Faded { shortened: 1 }));
    assert_eq!(told.count(), 1);
}

#[test]
fn nothing_fades_while_the_new_active_is_not_proven_or_silent() {
    let mut world = taken_over(&[long(1)]);
    world.cut = Some(1);
    world.run(10 * SECOND);
    assert_eq!(world.standby().asked(), [], "it is silent");
    world.cut = None;
    world.run(4 * SECOND);
    assert_eq!(world.standby().asked(), [Update(1)]);
}

#[test]
fn a_flap_finds_everything_restorable_as_before() {
    let flows = [long(1), long(2)];
    let mut world = taken_over(&flows);
    world.run(4 * SECOND);
    assert_eq!(world.standby().asked(), [Update(1), Update(2)]);
    // The echo of the first comes, and the role is back before the answer to the batch.
    let shortened = Flow {
        timeout_secs: 180,
        ..long(1)
    };
    let echo = FlowEvent {
        port_id: 7,
        ..told(EventKind::Update, shortened)
    };
    world.tell(0, &[echo]);
    let job = world.start(Command::Promote);
    world.answer(&[]);
    assert_eq!(
        world.answer_all(),
        [Delete(1), Create(1), Delete(2), Create(2)]
    );
    let status = world.standby().committed(job);
    assert_eq!((status.replaced, status.failed.len()), (2, 0));
    world.run(5 * SECOND);
    assert_eq!(world.standby().asked(), [], "an active node fades nothing");
}

fn tcp(number: u16) -> Flow {
    let orig = Tuple::new(6, [10, 0, 0, 1].into(), [192, 0, 2, 1].into(), number, 80);
    Flow {
        orig,
        reply: orig.inverse(),
        timeout_secs: 1000,
        proto: crate::flow::ProtoInfo::Tcp(TcpInfo {
            state: TCP_ESTABLISHED,
            flags_orig: 0x0b,
            flags_reply: 0x0b,
            ..TcpInfo::default()
        }),
        ..flow(number)
    }
}

/// A GET finds it with this timeout; packets of both directions were judged, or of one.
fn seen(flow: Flow, timeout_secs: u32, both: bool) -> Outcome {
    let reply = if both { Present::REPLY_JUDGED } else { 0 };
    Outcome::Found(Box::new(FlowEvent {
        present: Present(Present::TIMEOUT | Present::PROTOINFO | Present::ORIG_JUDGED | reply),
        ..told(
            EventKind::Listed,
            Flow {
                timeout_secs,
                ..flow
            },
        )
    }))
}

/// The first node has taken over flow 1, and makes committed flows strict if that is wanted.
fn promoted(tcp_liberal: bool) -> World {
    let mut world = World::holding(&[tcp(1)]);
    world.standby().engine.settings.tcp_liberal = tcp_liberal;
    world.start(Command::Promote);
    world.answer_all();
    world.echo(&[tcp(1)]);
    world.run(11 * SECOND);
    world
}

#[test]
fn flows_stay_liberal_unless_it_is_wanted_otherwise() {
    assert_eq!(promoted(true).standby().asked(), []);
}

#[test]
fn a_flow_that_talks_both_ways_becomes_strict() {
    let mut world = promoted(false);
    assert_eq!(world.standby().asked(), [Get]);
    world.answer(&[(0, seen(tcp(1), 1000, false))]);
    world.run(9 * SECOND);
    assert_eq!(world.standby().asked(), [], "one direction was not judged");
    world.run(2 * SECOND);
    assert_eq!(world.standby().asked(), [Get]);
    world.answer(&[(0, seen(tcp(1), 1000, true))]);
    world.run(10 * MILLI);
    assert_eq!(world.standby().asked(), [Update(1)]);
    world.answer(&[]);
    world.run(2 * SECOND);
    assert_eq!(world.standby().asked(), []);
    world.run(2 * SECOND);
    assert_eq!(world.standby().asked(), [Get], "it is looked again");
    world.answer(&[(0, seen(tcp(1), 1000, true))]);
    assert_eq!(world.standby().asked(), [], "packets have passed since");
    assert_eq!(world.stat("background.made_strict"), 1);
    assert_eq!(world.stat("background.set_back"), 0);
}

#[test]
fn a_flow_whose_timeout_only_ticks_is_made_liberal_again_and_left_alone() {
    let mut world = promoted(false);
    world.answer(&[(0, seen(tcp(1), 1000, true))]);
    world.run(10 * MILLI);
    world.answer(&[]);
    world.run(4 * SECOND);
    let elapsed = 3;
    world.answer(&[(0, seen(tcp(1), 1000 - elapsed, true))]);
    world.run(10 * MILLI);
    assert_eq!(world.standby().asked(), [Update(1)], "set back");
    world.answer(&[]);
    world.run(30 * SECOND);
    assert_eq!(world.standby().asked(), [], "left alone");
    assert_eq!(world.stat("background.set_back"), 1);
    assert_eq!(world.stat("background.made_strict"), 0);
}

#[test]
fn the_work_for_strictness_ends() {
    let mut world = promoted(false);
    let mut looks = 0;
    for _ in 0..60 {
        if !world.standby().batches.is_empty() {
            looks += 1;
            world.answer(&[(0, seen(tcp(1), 1000, false))]);
        }
        world.run(10 * SECOND);
    }
    assert!((20..=30).contains(&looks), "{looks}");
    let mut notices = world.standby().notices.iter();
    assert!(notices.any(|it| matches!(it, Notice::MadeStrict { .. })));
}
