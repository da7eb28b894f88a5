//! Every attribute that the kernel lets one restore, from one kernel to the other through the
//! replica and a commit, compared field by field.
//!
//! `cases.rs` is the table. A case is created on the active; its kernel must say what the case says
//! (so that the encoder cannot leave the same thing out on both), and the standby's kernel must say
//! the same after the commit, in our words and in the bytes of every attribute.

mod cases;

use std::time::Duration;

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::flow::proto::TcpInfo;
use ctsyncd::flow::tuple::GRE;
use ctsyncd::flow::{Flow, FlowEvent, ProtoInfo, Status};

use crate::cluster::Cluster;
use crate::harness::namespace::Namespace;
use crate::harness::netlink::{self, cta};
use crate::harness::services::Link;
use crate::harness::wait::await_until;
use crate::harness::{Context as _, Result, ensure, turn};
use crate::mix;
use cases::Case;

/// `IP_CT_TCP_FLAG_BE_LIBERAL`: set in every TCP flow made through ctnetlink.
const BE_LIBERAL: u8 = 0x08;
/// The two tables are listed one after the other, on a busy machine.
const TICKS: u32 = 20;

#[test]
fn commit_restores_every_attribute() -> Result<()> {
    let Some(_turn) = turn("commit_restores_every_attribute") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    // Their label rules give flows room for labels.
    cluster.lab().nodes().iter().try_for_each(mix::add_rules)?;
    let mut cases = cases::all();
    let (active, standby) = (cluster.node(1).namespace(), cluster.node(2).namespace());
    let mut faults = Vec::new();
    cases.retain(|case| match create(active, case) {
        Ok(0) => true,
        // A kernel may lack a helper; the others must be there.
        Ok(libc::EOPNOTSUPP) if case.rare.helper.is_some() => {
            eprintln!("left out: {}: this kernel does not know it", case.name);
            false
        }
        outcome => {
            faults.push(format!("{}: creating it: {outcome:?}", case.name));
            false
        }
    });
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;

    let (of_active, of_standby) = (netlink::flows(active)?, netlink::flows(standby)?);
    for case in &cases {
        let name = &case.name;
        match (find(&of_active, &case.flow), find(&of_standby, &case.flow)) {
            (None, _) => faults.push(format!("{name}: the active does not list it")),
            (Some(_), None) => faults.push(format!("{name}: the standby does not have it")),
            (Some(there), Some(here)) => {
                let case_to_active = differences(&as_created(case), there, "case", "active");
                let active_to_standby = differences(there, here, "active", "standby");
                let timeout = timeout_fault(case, there, here);
                let found = case_to_active
                    .into_iter()
                    .chain(active_to_standby)
                    .chain(timeout);
                faults.extend(found.map(|fault| format!("{name}: {fault}")));
            }
        }
    }
    compare_bytes(active, standby, &mut faults)?;
    assert!(
        faults.is_empty(),
        "{} faults, as `case: field`:\n{}\n{}",
        faults.len(),
        faults.join("\n"),
        cluster.daemon(2).status()?["commit"]
    );
    Ok(())
}

#[test]
fn labels_are_all_that_is_lost_where_no_rule_uses_labels() -> Result<()> {
    let Some(_turn) = turn("labels_are_all_that_is_lost_where_no_rule_uses_labels") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    mix::add_rules(cluster.node(1))?;
    let (active, standby) = (cluster.node(1).namespace(), cluster.node(2).namespace());
    let cases = cases::all().into_iter();
    let cases: Vec<_> = cases.filter(|case| case.rare.labels.is_some()).collect();
    for case in &cases {
        ensure!(create(active, case)? == 0, "creating {}", case.name);
    }
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;
    let (of_active, of_standby) = (netlink::flows(active)?, netlink::flows(standby)?);
    for case in &cases {
        let there = find(&of_active, &case.flow).context("the active has it")?;
        let here = find(&of_standby, &case.flow);
        let here = here.with_context(|| format!("{}: the standby has it", case.name))?;
        assert!(there.rare.labels.is_some(), "{}", case.name);
        let mut without = *there;
        without.rare.labels = None;
        let found = differences(&without, here, "active", "standby");
        assert!(found.is_empty(), "{}: {found:?}", case.name);
    }
    Ok(())
}

#[test]
fn what_is_left_of_a_timeout_is_counted_from_when_the_kernel_told_it() -> Result<()> {
    let name = "what_is_left_of_a_timeout_is_counted_from_when_the_kernel_told_it";
    let Some(_turn) = turn(name) else {
        return Ok(());
    };
    let mut cluster = Cluster::start(2, Link::Multicast, "")?;
    let case = cases::all().into_iter();
    let case = case.filter(|case| case.name == "UDP over IPv4");
    let case = case.last().context("a case of the table")?;
    ensure!(
        create(cluster.node(1).namespace(), &case)? == 0,
        "creating {}",
        case.name
    );
    cluster.await_replicas(2)?;
    // Nobody says anything about the flow from now on; a daemon that begins hears of it late.
    cluster.kill_daemon(2)?;
    let aged = case.flow.timeout_secs - 4;
    await_until("the flow gets older", Duration::from_secs(20), || {
        let listed = netlink::flows(cluster.node(1).namespace())?;
        Ok(find(&listed, &case.flow).is_some_and(|there| there.flow.timeout_secs <= aged))
    })?;
    cluster.start_daemon(2)?;
    cluster.await_sessions()?;
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;
    let here = netlink::flows(cluster.node(2).namespace())?;
    let there = netlink::flows(cluster.node(1).namespace())?;
    let here = find(&here, &case.flow).context("the standby has it")?;
    let there = find(&there, &case.flow).context("the active has it")?;
    // A second is lost to rounding on the way, and none is won.
    let (here, there) = (here.flow.timeout_secs, there.flow.timeout_secs);
    assert!(
        here <= there + 1 && here + 3 >= there,
        "active {there}, standby {here}, created with {}",
        case.flow.timeout_secs
    );
    Ok(())
}

#[test]
fn a_child_of_a_child_keeps_its_master() -> Result<()> {
    let Some(_turn) = turn("a_child_of_a_child_keeps_its_master") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let (active, standby) = (cluster.node(1).namespace(), cluster.node(2).namespace());
    let cases = cases::all();
    let named = |name: &str| {
        let found = cases.iter().find(|case| case.name == name);
        found.with_context(|| format!("the table has {name}"))
    };
    // A flow that goes leaves its place in the replica to the next that comes, which is so found
    // before the one that it descends from: H.323 makes such chains.
    let place = named("UDP over IPv4")?;
    for case in [place, named("master")?, named("child")?] {
        ensure!(create(active, case)? == 0, "creating {}", case.name);
    }
    cluster.await_replicas(2)?;
    let mut message = Vec::new();
    encode::delete(&mut message, 1, Ack::Wanted, &place.flow, None);
    let (errors, _) = active.with(move || netlink::write(&[message]))?;
    ensure!(errors == 0, "deleting {}", place.name);
    cluster.await_replicas(2)?;
    let grandchild = named("child of a child")?;
    ensure!(
        create(active, grandchild)? == 0,
        "creating {}",
        grandchild.name
    );
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;
    let listed = netlink::flows(standby)?;
    let restored = find(&listed, &grandchild.flow).context("the standby has it")?;
    assert_eq!(restored.rare.master, grandchild.rare.master);
    Ok(())
}

/// Creates a case; yields the kernel's errno, 0 for success.
fn create(namespace: &Namespace, case: &Case) -> Result<i32> {
    let how = Create {
        timeout_secs: case.flow.timeout_secs,
        helper: Helper::Restore,
    };
    let mut message = Vec::new();
    encode::create(&mut message, 1, Ack::Wanted, &case.flow, &case.rare, how);
    let (_, errno) = namespace.with(move || netlink::write(&[message]))?;
    Ok(errno)
}

fn find<'a>(table: &'a [FlowEvent], flow: &Flow) -> Option<&'a FlowEvent> {
    table.iter().find(|event| event.flow.key() == flow.key())
}

/// What the kernel must list for a case: with the status bits that it sets by itself, and liberal.
fn as_created(case: &Case) -> FlowEvent {
    let (mut flow, rare) = (case.flow, case.rare);
    let mut set = |is_so: bool, bits: u32| flow.status.0 |= if is_so { bits } else { 0 };
    set(case.flow.is_snat(), Status::SRC_NAT);
    set(case.flow.is_dnat(), Status::DST_NAT);
    set(
        case.flow.is_nat(),
        Status::SRC_NAT_DONE | Status::DST_NAT_DONE,
    );
    set(case.flow.orig.protocol == GRE, Status::FIXED_TIMEOUT);
    set(rare.helper.is_some(), Status::HELPER);
    set(rare.seqadj_orig.is_some(), Status::SEQ_ADJUST);
    set(rare.master.is_some(), Status::EXPECTED);
    if let ProtoInfo::Tcp(info) = &mut flow.proto {
        info.flags_orig |= BE_LIBERAL;
        info.flags_reply |= BE_LIBERAL;
    }
    FlowEvent {
        flow,
        rare,
        ..FlowEvent::default()
    }
}

/// The fields that differ, in words.
fn differences(left: &FlowEvent, right: &FlowEvent, of_left: &str, of_right: &str) -> Vec<String> {
    let sides = fields(left).into_iter().zip(fields(right));
    sides
        .filter(|((_, left), (_, right))| left != right)
        .map(|((field, left), (_, right))| format!("{field}: {of_left} {left}, {of_right} {right}"))
        .collect()
}

/// Everything that two kernels can agree on, by name.
fn fields(event: &FlowEvent) -> Vec<(&'static str, String)> {
    let (flow, rare) = (&event.flow, &event.rare);
    let mut fields = vec![
        ("family", format!("{:?}", flow.orig.family)),
        ("protocol", flow.orig.protocol.to_string()),
        ("zone", format!("{:?}", flow.zone)),
        ("status", format!("{:#x}", flow.status.0)),
        ("mark", format!("{:#x}", flow.mark)),
        (
            "helper",
            format!("{:?}", rare.helper.map(|name| name.as_str().to_owned())),
        ),
        ("labels", format!("{:x?}", rare.labels)),
        ("seqadj of the original", format!("{:?}", rare.seqadj_orig)),
        ("seqadj of the reply", format!("{:?}", rare.seqadj_reply)),
        ("synproxy", format!("{:?}", rare.synproxy)),
        ("master", format!("{:?}", rare.master)),
    ];
    for (tuple, names) in [
        (
            &flow.orig,
            [
                "orig src",
                "orig dst",
                "orig src port, key or id",
                "orig dst port, key or type",
            ],
        ),
        (
            &flow.reply,
            [
                "reply src",
                "reply dst",
                "reply src port, key or id",
                "reply dst port, key or type",
            ],
        ),
    ] {
        let values = [
            tuple.src_ip().to_string(),
            tuple.dst_ip().to_string(),
            tuple.src_id.to_string(),
            tuple.dst_id.to_string(),
        ];
        fields.extend(names.into_iter().zip(values));
    }
    match flow.proto {
        ProtoInfo::Tcp(TcpInfo {
            state,
            wscale_orig,
            wscale_reply,
            flags_orig,
            flags_reply,
        }) => fields.extend([
            ("TCP state", state.to_string()),
            ("TCP scale of the original", wscale_orig.to_string()),
            ("TCP scale of the reply", wscale_reply.to_string()),
            ("TCP flags of the original", format!("{flags_orig:#x}")),
            ("TCP flags of the reply", format!("{flags_reply:#x}")),
        ]),
        ProtoInfo::Sctp(info) => fields.extend([
            ("SCTP state", info.state.to_string()),
            ("SCTP tag of the original", format!("{:#x}", info.vtag_orig)),
            ("SCTP tag of the reply", format!("{:#x}", info.vtag_reply)),
        ]),
        ProtoInfo::None | ProtoInfo::Dccp(_) => fields.push(("state", format!("{:?}", flow.proto))),
    }
    fields
}

fn timeout_fault(case: &Case, there: &FlowEvent, here: &FlowEvent) -> Option<String> {
    let expected = case.restored_secs.unwrap_or(there.flow.timeout_secs);
    let found = here.flow.timeout_secs;
    let is_right = found <= expected + 2 && found + TICKS >= expected;
    (!is_right).then(|| format!("timeout: expected {expected}, standby {found}"))
}

/// What both kernels say without our decoder, so that a field which it does not know cannot get
/// lost unseen.
fn compare_bytes(active: &Namespace, standby: &Namespace, faults: &mut Vec<String>) -> Result<()> {
    // What ticks, counts, or belongs to one kernel's memory.
    let own = [
        cta::TIMEOUT,
        cta::USE,
        cta::ID,
        cta::COUNTERS_ORIG,
        cta::COUNTERS_REPLY,
        cta::SECCTX,
        cta::TIMESTAMP,
    ];
    let of_standby = netlink::entries(standby)?;
    for (key, there) in netlink::entries(active)? {
        let Some(here) = of_standby.get(&key) else {
            faults.push(format!("{key:x?}: the standby lacks this original tuple"));
            continue;
        };
        let paths = there
            .keys()
            .chain(here.keys().filter(|path| !there.contains_key(*path)));
        for path in paths.filter(|path| !own.contains(&path[0])) {
            if there.get(path) != here.get(path) {
                faults.push(format!(
                    "{key:x?}: attribute {path:?}: active {:x?}, standby {:x?}",
                    there.get(path),
                    here.get(path)
                ));
            }
        }
    }
    Ok(())
}
