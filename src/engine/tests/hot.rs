//! Hot standby: what the keeper writes, and what it makes of the kernel's refusals.

use super::*;
use crate::flow::rare::HelperName;

/// The first node is in hot standby, the second active with these flows, which the first has
/// asked its kernel to create.
fn keeping(flows: &[Flow]) -> World {
    let mut world = World::new(2);
    let settings = EngineSettings {
        is_hot: true,
        ..world.nodes[0].engine.settings.clone()
    };
    world.nodes[0].engine = Engine::new(settings, world.now);
    world.run(SECOND);
    let now = world.now;
    world.nodes[1].started(now, Command::Promote);
    world.run(2 * SECOND);
    bear(&mut world, flows);
    world
}

/// Flows are born at the active node.
fn bear(world: &mut World, flows: &[Flow]) {
    let events: Vec<_> = flows
        .iter()
        .map(|&flow| told(EventKind::New, flow))
        .collect();
    world.tell(1, &events);
    world.run(50 * MILLI);
}

/// The kernel does what was asked, and its events come.
fn created(world: &mut World, flows: &[Flow]) {
    world.answer(&[]);
    let copy = |flow: &Flow| Flow {
        timeout_secs: 300,
        ..*flow
    };
    let copies: Vec<_> = flows.iter().map(copy).collect();
    world.echo(&copies);
    world.run(50 * MILLI);
}

fn hot(world: &World) -> status::HotStatus {
    let status = world.nodes[0].engine.status(world.now);
    status.hot.expect("the first node is in hot standby")
}

fn refused(errno: i32) -> Outcome {
    Outcome::Refused(errno)
}

#[test]
fn copies_follow_their_flows_and_are_not_told() {
    let mut world = keeping(&[flow(1), flow(2)]);
    assert_eq!(world.standby().asked(), [Create(1), Create(2)]);
    created(&mut world, &[flow(1), flow(2)]);
    assert_eq!((hot(&world).flows, hot(&world).created), (2, 2));
    assert_eq!(world.standby().engine.local().digest().flows(), 0);
    world.tell(1, &[told(EventKind::Destroy, flow(1))]);
    world.run(1100 * MILLI);
    assert_eq!(world.standby().asked(), [Delete(1)]);
}

#[test]
fn an_end_counts_when_its_peer_is_active_after_it() {
    let mut world = keeping(&[flow(1)]);
    created(&mut world, &[flow(1)]);
    // The address goes, and the flow with it, before the word on the role is here.
    world.tell(1, &[told(EventKind::Destroy, flow(1))]);
    let now = world.now;
    world.nodes[1].engine.handle_command(now, Command::Demote);
    world.run(3 * SECOND);
    assert!(world.standby().asked().is_empty());
    assert_eq!(hot(&world).flows, 1);
}

#[test]
fn a_flow_of_this_node_itself_is_not_deleted_on_a_peers_word() {
    let mut world = keeping(&[flow(1)]);
    created(&mut world, &[flow(1)]);
    let now = world.now;
    let own = vec![[10, 0, 0, 1].into()];
    world.standby().engine.handle_addresses(now, own);
    world.tell(1, &[told(EventKind::Destroy, flow(1))]);
    world.run(1100 * MILLI);
    assert!(world.standby().asked().is_empty());
    assert_eq!(hot(&world).flows, 0, "it is no copy any more");
}

#[test]
fn one_write_per_flow_is_under_way() {
    let mut world = keeping(&[flow(1)]);
    world.tell(1, &[told(EventKind::Destroy, flow(1))]);
    world.run(1100 * MILLI);
    assert_eq!(world.standby().asked(), [Create(1)], "its end waits");
    world.answer(&[]);
    world.run(50 * MILLI);
    assert!(world.standby().asked().is_empty(), "for the event as well");
    world.echo(&[flow(1)]);
    world.run(50 * MILLI);
    assert_eq!(world.standby().asked(), [Delete(1)]);
}

/// docs/protocol.md orders the words on one flow, not those on two: the next owner of a translated
/// port may be told before the end of the last.
#[test]
fn a_flow_whose_reply_tuple_is_taken_by_a_copy_waits_for_its_end() {
    let (one, other) = (translated(1, 5000), translated(2, 5000));
    let mut world = keeping(&[one]);
    created(&mut world, &[one]);
    bear(&mut world, &[other]);
    assert_eq!(world.standby().asked(), [Create(2)]);
    world.answer(&[(0, refused(libc::EEXIST))]);
    assert_eq!(world.standby().asked(), [Get]);
    world.answer(&[(0, refused(libc::ENOENT))]);
    assert_eq!(world.standby().asked(), [Get], "by its reply tuple");
    world.answer(&[(0, found(one))]);
    assert!(world.standby().asked().is_empty(), "a peer has that");
    assert_eq!(hot(&world).pending, 1);
    world.run(300 * MILLI);
    assert_eq!(world.standby().asked(), [Create(2)], "and again");
    world.tell(1, &[told(EventKind::Destroy, one)]);
    world.run(1100 * MILLI);
    assert_eq!(world.standby().asked(), [Create(2), Delete(1)]);
}

/// An entry that a flow's replies make where the flow itself is missing.
fn born_of_replies(of: Flow) -> Flow {
    Flow {
        orig: of.reply,
        reply: of.reply.inverse(),
        ..flow(1)
    }
}

#[test]
fn a_stray_in_the_way_of_a_copy_goes() {
    let mut world = keeping(&[translated(1, 5000)]);
    let stray = born_of_replies(translated(1, 5000));
    world.answer(&[(0, refused(libc::EEXIST))]);
    world.answer(&[(0, refused(libc::ENOENT))]);
    world.answer(&[(0, found(stray))]);
    assert_eq!(world.standby().asked(), [Delete(53), Create(1)]);
}

#[test]
fn a_stray_that_packets_bring_back_at_once_is_not_replaced_for_ever() {
    let mut world = keeping(&[translated(1, 5000)]);
    let stray = born_of_replies(translated(1, 5000));
    world.answer(&[(0, refused(libc::EEXIST))]);
    let mut replaced = 0;
    while world.standby().asked() == [Get] {
        world.answer(&[(0, refused(libc::ENOENT))]);
        world.answer(&[(0, found(stray))]);
        if world.standby().asked() == [Delete(53), Create(1)] {
            replaced += 1;
            assert!(replaced < 100, "at the speed of netlink");
            world.answer(&[(1, refused(libc::EEXIST))]);
        }
    }
    assert!(replaced > 1);
    let conflicts = hot(&world).refused.iter().map(|it| it.flows).sum::<u64>();
    assert_eq!(conflicts, 1, "{:?}", hot(&world).refused);
}

#[test]
fn a_full_kernel_is_no_standby_and_is_tried_again() {
    let mut world = keeping(&[flow(1)]);
    world.answer(&[(0, refused(libc::ENOMEM))]);
    let cause = world.cause().expect("it is not ready");
    assert!(cause.contains("nf_conntrack_max"), "{cause}");
    assert_eq!(hot(&world).refused[0].flows, 1);
    world.run(4 * SECOND);
    assert!(world.standby().asked().is_empty(), "not at once");
    world.run(2 * SECOND);
    assert_eq!(world.standby().asked(), [Create(1)]);
    created(&mut world, &[flow(1)]);
    world.run(SECOND);
    assert_eq!(world.cause(), None);
}

#[test]
fn a_helper_that_the_kernel_does_not_know_is_left_out() {
    let mut world = keeping(&[]);
    let mut event = told(EventKind::New, flow(1));
    event.present.0 |= Present::HELPER;
    event.rare.helper = HelperName::new(b"ftp");
    world.tell(1, &[event]);
    world.run(50 * MILLI);
    world.answer(&[(0, refused(libc::EOPNOTSUPP))]);
    assert_eq!(world.standby().asked(), [Create(1)]);
    created(&mut world, &[flow(1)]);
    assert_eq!((hot(&world).flows, hot(&world).without_helper), (1, 1));
    world.run(70 * SECOND);
    assert!(world.standby().asked().is_empty(), "and not tried for ever");
}

#[test]
fn a_standby_that_is_behind_is_promoted_by_a_commit() {
    let mut world = keeping(&[flow(1)]);
    world.run(2 * SECOND);
    let cause = world.cause().expect("it is not ready");
    assert!(cause.contains("still being put into the kernel"), "{cause}");
    let job = world.start(Command::Promote);
    assert_eq!(world.standby().engine.role(), Role::Promoting);
    assert_eq!(world.standby().result(job), None);
}

#[test]
fn answers_that_were_lost_are_made_good_by_a_listing() {
    let mut world = keeping(&[flow(1)]);
    let now = world.now;
    world.standby().answer(now, &[], false);
    world.run(2 * SECOND);
    // The listing of this kernel is empty: it was not created.
    assert_eq!(world.standby().asked(), [Create(1)]);
}
