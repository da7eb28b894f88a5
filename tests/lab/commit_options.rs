//! What a commit does beyond the flows themselves, on the real kernel: the dry run tells the truth
//! and changes nothing, what the rules lack is told, one peer only, strict TCP on living
//! connections, fading after a demotion.

use std::time::Duration;

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::flow::rare::HelperName;
use ctsyncd::flow::{Flow, ProtoInfo, Rare, Status};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::harness::namespace::Namespace;
use crate::harness::netlink::{self, Attributes, cta, entries};
use crate::harness::services::{Link, Notify, keepalived, number};
use crate::harness::topology::Node;
use crate::harness::traffic::{Kind, Spec, Traffic};
use crate::harness::wait::await_until;
use crate::harness::{Context as _, Result, bulk, turn};
use crate::mix;

const LIMIT: Duration = Duration::from_secs(20);
const BE_LIBERAL: u8 = 0x08;

fn foreseen(cluster: &Cluster, index: usize, arguments: &[&str]) -> Result<Value> {
    let arguments = [arguments, &["--dry-run", "--json"]].concat();
    let text = cluster.daemon(index).ask(&arguments)?;
    serde_json::from_str(&text).with_context(|| format!("reading the dry run: {text}"))
}

fn missing(foreseen: &Value) -> Vec<String> {
    let lines = foreseen["missing"].as_array().into_iter().flatten();
    lines
        .filter_map(|line| Some(line.as_str()?.to_owned()))
        .collect()
}

/// Waits until a dry run misses something that contains each of these, and nothing else.
fn await_missing(cluster: &Cluster, index: usize, expected: &[&str]) -> Result<()> {
    let mut seen = Vec::new();
    let told = await_until("the dry run tells what is missing", LIMIT, || {
        seen = missing(&foreseen(cluster, index, &["commit"])?);
        let has = |text: &&str| seen.iter().any(|line| line.contains(text));
        Ok(seen.len() == expected.len() && expected.iter().all(has))
    });
    told.with_context(|| format!("expected {expected:?}, it tells {seen:?}"))
}

#[test]
fn dry_run_foresees_what_the_promotion_does_and_changes_nothing() -> Result<()> {
    let Some(_turn) = turn("dry_run_foresees_what_the_promotion_does_and_changes_nothing") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    cluster.lab().nodes().iter().try_for_each(mix::add_rules)?;
    mix::by_hand(cluster.node(1))?;
    bulk::create(cluster.node(1).namespace(), 1, 3_000)?;
    // A stray packet's entry, which owns the reply tuple of one of them.
    let stray = "-I -t 60 -p udp -s 198.51.100.10 -d 198.51.100.1 --sport 53 --dport 2007";
    let standby = cluster.node(2).namespace();
    standby.output("conntrack", &stray.split(' ').collect::<Vec<_>>())?;
    cluster.await_replicas(2)?;
    cluster.await_mirror(2, None)?;

    let before = (entries(standby)?.len(), cluster.daemon(2).status()?);
    let seen = foreseen(&cluster, 2, &["promote"])?;
    let after = (entries(standby)?.len(), cluster.daemon(2).status()?);
    assert_eq!(before.0, after.0);
    for field in ["role", "term", "commit"] {
        assert_eq!(before.1[field], after.1[field], "{field}");
    }
    assert_eq!(number(&seen, "/conflicts/0/flows")?, 1, "{seen}");
    let limit = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    assert_eq!(
        number(&seen, "/room/max")?,
        limit.trim().parse::<u64>()?,
        "{seen}"
    );
    await_until("the room is counted", LIMIT, || {
        let seen = foreseen(&cluster, 2, &["promote"])?;
        Ok(number(&seen, "/room/count")? == standby.flow_count()?)
    })?;
    assert_eq!(missing(&seen), [""; 0]);
    assert_eq!(seen["estimated_ms"], Value::Null);
    assert_eq!(
        number(&seen, "/sources/0/flows")?,
        cluster.daemon(2).replica_flows("fw1")?
    );

    let text = cluster.daemon(2).ask(&["promote", "--json"])?;
    let done: Value = serde_json::from_str(&text)?;
    for (is, was) in [
        ("total", "total"),
        ("created", "create"),
        ("already", "already"),
        ("replaced", "replace"),
    ] {
        assert_eq!(done["commit"][is], seen[was], "{is}: {done}, {seen}");
    }
    // All is in place now, and the rate is known.
    cluster.await_mirror(2, None)?;
    let seen = foreseen(&cluster, 2, &["promote"])?;
    assert_eq!(number(&seen, "/create")? + number(&seen, "/replace")?, 0);
    assert!(seen["estimated_ms"].is_u64(), "{seen}");
    Ok(())
}

#[test]
fn what_the_rules_of_a_standby_lack_is_told_before_and_after() -> Result<()> {
    let Some(_turn) = turn("what_the_rules_of_a_standby_lack_is_told_before_and_after") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    mix::add_rules(cluster.node(1))?;
    let active = cluster.node(1).namespace();
    // Translated and labelled, which conntrack -I cannot do.
    let labelled = Rare {
        labels: Some([1; 16]),
        ..Rare::default()
    };
    create(active, &bulk::flow(3, 1), &labelled)?;
    create(active, &bulk::flow(3, 2), &Rare::default())?;
    cluster.await_replicas(2)?;
    await_missing(&cluster, 2, &["ct label"])?;

    let standby = cluster.node(2).namespace();
    standby.feed("nft", &["-f", "-"], "delete chain inet firewall nat")?;
    await_missing(&cluster, 2, &["ct label", "type nat sees IPv4"])?;
    let done: Value = serde_json::from_str(&cluster.daemon(2).ask(&["commit", "--json"])?)?;
    assert_eq!(number(&done, "/created")?, 2, "{done}");
    assert_eq!(number(&done, "/without_labels")?, 1, "{done}");
    assert_eq!(missing(&done).len(), 2, "{done}");
    let text = cluster.daemon(2).ask(&["commit"])?;
    assert!(
        text.contains("missing: no chain of type nat sees IPv4"),
        "{text}"
    );

    standby.feed("nft", &["-f", "-"], "flush ruleset")?;
    await_missing(
        &cluster,
        2,
        &["ct label", "type nat sees IPv4", "uses conntrack"],
    )?;
    // The mend, as it is told: an empty chain is enough to translate.
    let lines = missing(&foreseen(&cluster, 2, &["commit"])?);
    let mend = lines.iter().find_map(|line| {
        let (_, rest) = line.split_once("`nft '")?;
        rest.split_once("'`")
    });
    let (mend, _) = mend.with_context(|| format!("a command in {lines:?}"))?;
    standby.output("nft", &[mend])?;
    mix::add_rules(cluster.node(2))?;
    await_missing(&cluster, 2, &[])?;
    cluster.daemon(2).ask(&["flush", "kernel"])?;
    let done: Value = serde_json::from_str(&cluster.daemon(2).ask(&["commit", "--json"])?)?;
    assert_eq!(number(&done, "/created")?, 2, "{done}");
    assert_eq!(number(&done, "/without_labels")?, 0, "{done}");
    assert_eq!(missing(&done), [""; 0]);
    Ok(())
}

#[test]
fn kernel_tells_which_helpers_it_knows_without_an_entry() -> Result<()> {
    let Some(_turn) = turn("kernel_tells_which_helpers_it_knows_without_an_entry") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let namespace = cluster.node(1).namespace();
    let ask = |helper: &str| -> Result<i32> {
        let mut orig = bulk::flow(3, 1).orig;
        (orig.src, orig.dst) = ([0; 16], [0; 16]);
        let mut master = orig;
        (master.src_id, master.dst_id) = (0, 0);
        let flow = Flow {
            orig,
            reply: orig.inverse(),
            status: Status(Status::CONFIRMED),
            proto: ProtoInfo::None,
            ..Flow::default()
        };
        let rare = Rare {
            helper: HelperName::new(helper.as_bytes()),
            master: Some(master),
            ..Rare::default()
        };
        let mut batch = Vec::new();
        encode::create(&mut batch, 1, Ack::Wanted, &flow, &rare, how(1));
        Ok(namespace.with(move || netlink::write(&[batch]))?.1)
    };
    let before = namespace.flow_count()?;
    assert_eq!(ask("ftp")?, libc::ENOENT, "no such master");
    assert_eq!(ask("nosuchhelper")?, libc::EOPNOTSUPP, "no such helper");
    assert_eq!(namespace.flow_count()?, before);
    // A flow with the helper, as the standby sees it.
    let helped = Rare {
        helper: HelperName::new(b"ftp"),
        ..Rare::default()
    };
    create(namespace, &bulk::flow(3, 2), &helped)?;
    cluster.await_replicas(2)?;
    let standby = cluster.node(2).namespace();
    let count = entries(standby)?.len();
    let seen = foreseen(&cluster, 2, &["commit"])?;
    assert_eq!(number(&seen, "/create")?, 1, "{seen}");
    assert_eq!(missing(&seen), [""; 0]);
    assert_eq!(entries(standby)?.len(), count);
    Ok(())
}

#[test]
fn only_a_peer_that_is_named_is_committed() -> Result<()> {
    let Some(_turn) = turn("only_a_peer_that_is_named_is_committed") else {
        return Ok(());
    };
    let cluster = Cluster::start(3, Link::Multicast, "")?;
    bulk::create(cluster.node(1).namespace(), 1, 300)?;
    bulk::create(cluster.node(2).namespace(), 2, 200)?;
    cluster.await_replicas(3)?;
    let daemon = cluster.daemon(3);
    let unknown = daemon.command(&["commit", "--from", "wf1"]).output()?;
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&unknown.stderr),
        "ctsyncd: no peer is called \"wf1\"; known: fw1, fw2; did you mean \"fw1\"?\n"
    );
    let text = daemon.ask(&["commit", "--from", "fw2"])?;
    assert!(text.starts_with("200 flows: 200 created,"), "{text}");
    assert_eq!(cluster.node(3).namespace().flow_count()?, 200);
    // Several at once queue up, and what one has done the next finds.
    let mut both: Vec<_> = (0..2)
        .map(|_| {
            daemon
                .command(&["commit", "--from", "fw1", "--from", "fw2"])
                .stdout(std::process::Stdio::null())
                .spawn()
        })
        .collect::<std::io::Result<_>>()?;
    for child in &mut both {
        assert!(child.wait()?.success());
    }
    assert_eq!(cluster.node(3).namespace().flow_count()?, 500);
    let status = daemon.status()?;
    assert_eq!(number(&status, "/commit/already")?, 500, "{status}");
    Ok(())
}

#[test]
fn living_connections_become_strict_where_that_is_wanted() -> Result<()> {
    const CONNECTIONS: usize = 40;
    let Some(_turn) = turn("living_connections_become_strict_where_that_is_wanted") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "[commit]\ntcp_liberal = false\n")?;
    let first = keepalived(cluster.node(1), Notify::Ctsyncd)?;
    await_until("fw1 takes the addresses", LIMIT, || {
        cluster.node(1).has_address()
    })?;
    let second = keepalived(cluster.node(2), Notify::Ctsyncd)?;
    await_until("fw2 becomes standby", LIMIT, || {
        Ok(second.has_said("Entering BACKUP STATE"))
    })?;
    cluster.lab().await_path()?;
    let traffic = Traffic::start(
        cluster.lab(),
        Spec {
            kind: Kind::Tcp,
            connections: CONNECTIONS,
            every: Duration::from_millis(50),
        },
    )?;
    // The control: an established flow without traffic, whose flags say that nothing was judged.
    let silent = bulk::flow(3, 1);
    create(cluster.node(1).namespace(), &silent, &Rare::default())?;
    await_until("fw2 holds the connections", LIMIT, || {
        let held = cluster.daemon(2).replica_flows("fw1")?;
        let enough = held > u64::try_from(CONNECTIONS)?;
        Ok(enough && held == cluster.daemon(1).local_flows()?)
    })?;
    cluster.lab().cut(cluster.node(1))?;
    traffic.mark();
    assert_eq!(traffic.settle(LIMIT)?.alive, CONNECTIONS);

    let standby = cluster.node(2).namespace();
    await_until("the connections are strict", 2 * LIMIT, || {
        Ok(liberal(standby, talking)? == (0, CONNECTIONS))
    })?;
    let stats = || -> Result<Value> {
        Ok(serde_json::from_str(
            &cluster.daemon(2).ask(&["stats", "--json"])?,
        )?)
    };
    await_until("each was looked at again", LIMIT, || {
        let stats = stats()?;
        let made = number(&stats, "/background/made_strict")?;
        Ok(made + number(&stats, "/background/set_back")? >= u64::try_from(CONNECTIONS)?)
    })?;
    // They go on, strict.
    traffic.mark();
    let before = traffic.answers();
    let outcome = traffic.settle(LIMIT)?;
    assert_eq!(outcome.alive, CONNECTIONS, "{outcome:?}");
    await_until("they go on", LIMIT, || {
        Ok(traffic.answers() > before + 100 * u64::try_from(CONNECTIONS)?)
    })?;
    assert_eq!(traffic.ended(), 0);
    let shown = stats()?;
    let set_back = number(&shown, "/background/set_back")?;
    assert_eq!(
        liberal(standby, talking)?,
        (0, CONNECTIONS),
        "{set_back} set back"
    );
    assert_eq!(liberal(standby, |entry| !talking(entry))?, (1, 0));
    drop(first);
    Ok(())
}

#[test]
fn entries_of_the_old_active_fade_and_a_flap_has_them_back() -> Result<()> {
    let Some(_turn) = turn("entries_of_the_old_active_fade_and_a_flap_has_them_back") else {
        return Ok(());
    };
    const GRACE: u64 = 180;
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let old = cluster.node(1);
    cluster.daemon(1).ask(&["promote"])?;
    bulk::create(old.namespace(), 1, 1_000)?;
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["promote"])?;
    // The new active hears of this one when the other steps down, and takes it over: before the
    // entries fade, or after.
    cluster.lab().sync_cable(old, "down")?;
    bulk::create(old.namespace(), 2, 1)?;
    cluster.await_mirror(1, Some(2))?;
    cluster.daemon(1).ask(&["demote"])?;
    cluster.lab().sync_cable(old, "up")?;
    await_until("the entries are shortened", LIMIT, || {
        Ok(longer_than(old, GRACE)? <= 1)
    })?;
    assert_eq!(old.namespace().flow_count()?, 1_001, "nothing is flushed");
    let stats: Value = serde_json::from_str(&cluster.daemon(1).ask(&["stats", "--json"])?)?;
    let faded = number(&stats, "/background/faded")?;
    assert!((1_000..=1_001).contains(&faded), "{stats}");
    // The new active has lost nothing by it.
    await_until("the new active has taken over", LIMIT, || {
        Ok(longer_than(cluster.node(2), GRACE)? == 1_001)
    })?;

    cluster.daemon(1).ask(&["promote"])?;
    let status = cluster.daemon(1).status()?;
    assert_eq!(number(&status, "/commit/replaced")?, 1_001, "{status}");
    assert_eq!(longer_than(old, GRACE)?, 1_001);
    assert_eq!(old.namespace().flow_count()?, 1_001);
    Ok(())
}

fn how(timeout_secs: u32) -> Create {
    Create {
        timeout_secs,
        helper: Helper::Restore,
    }
}

fn create(namespace: &Namespace, flow: &Flow, rare: &Rare) -> Result<()> {
    let mut batch = Vec::new();
    encode::create(&mut batch, 1, Ack::Wanted, flow, rare, how(3600));
    let (errors, errno) = namespace.with(move || netlink::write(&[batch]))?;
    assert_eq!(errors, 0, "{}", std::io::Error::from_raw_os_error(errno));
    Ok(())
}

/// How many entries live longer than so many seconds without a packet.
fn longer_than(node: &Node, secs: u64) -> Result<usize> {
    let table = crate::harness::table::kernel(node.namespace())?;
    Ok(table.values().filter(|entry| entry.timeout > secs).count())
}

/// An entry of TCP that is established, and refreshed all the time.
fn talking(entry: &Attributes) -> bool {
    let timeout = entry.get(&vec![cta::TIMEOUT]);
    let timeout = timeout.and_then(|bytes| Some(u32::from_be_bytes(*bytes.first_chunk()?)));
    // The silent flow was given an hour; packets give five days, or five minutes while unacked.
    timeout.is_some_and(|secs| secs > 3600 || (200..=300).contains(&secs))
}

/// How many entries of TCP are liberal in a direction, and how many in none.
fn liberal(namespace: &Namespace, which: impl Fn(&Attributes) -> bool) -> Result<(usize, usize)> {
    let table = entries(namespace)?;
    let flags = |entry: &Attributes| {
        let of = |direction| entry.get(&vec![cta::PROTOINFO, cta::TCP, direction]);
        let (orig, reply) = (of(cta::TCP_FLAGS_ORIG)?, of(cta::TCP_FLAGS_REPLY)?);
        Some(orig[0] | reply[0])
    };
    let flags: Vec<u8> = table
        .values()
        .filter(|entry| which(entry))
        .filter_map(flags)
        .collect();
    let liberal = flags.iter().filter(|&&flags| flags & BE_LIBERAL != 0);
    let liberal = liberal.count();
    Ok((liberal, flags.len() - liberal))
}
