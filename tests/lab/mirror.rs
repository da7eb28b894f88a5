//! The local cache is what the kernel says.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::harness::services::Link;
use crate::harness::table::kernel;
use crate::harness::traffic::{Kind, Spec, Traffic};
use crate::harness::{Result, netlink, netlink::cta, turn};
use crate::mix;

#[test]
fn mirror_equals_the_kernel_for_flows_of_every_protocol() -> Result<()> {
    let Some(_turn) = turn("mirror_equals_the_kernel_for_flows_of_every_protocol") else {
        return Ok(());
    };
    let cluster = Cluster::start(1, Link::Multicast, "")?;
    mix::by_hand(cluster.node(1))?;
    cluster.await_mirror(1, Some(2))?;
    let mirrored = cluster.local(1)?.len();
    assert!(mirrored >= mix::BY_HAND_COUNT, "only {mirrored} flows");

    // What changes and what ends is followed too.
    let namespace = cluster.node(1).namespace();
    namespace.output(
        "conntrack",
        &["-U", "-p", "tcp", "--dport", "80", "-f", "ipv4", "-m", "99"],
    )?;
    namespace.output(
        "conntrack",
        &["-D", "-p", "udp", "--dport", "53", "-f", "ipv6"],
    )?;
    cluster.await_mirror(1, Some(2))?;
    let local = cluster.local(1)?;
    assert!(local.values().any(|entry| entry.rest.contains("mark=99")));
    Ok(())
}

#[test]
fn mirror_equals_the_kernel_for_flows_older_than_the_daemon() -> Result<()> {
    let Some(_turn) = turn("mirror_equals_the_kernel_for_flows_older_than_the_daemon") else {
        return Ok(());
    };
    let mut cluster = Cluster::start(1, Link::Multicast, "")?;
    cluster.kill_daemon(1)?;
    mix::by_hand(cluster.node(1))?;
    cluster.start_daemon(1)?;
    cluster.await_mirror(1, Some(2))
}

#[test]
fn mirror_equals_the_kernel_under_real_traffic() -> Result<()> {
    let Some(_turn) = turn("mirror_equals_the_kernel_under_real_traffic") else {
        return Ok(());
    };
    let cluster = Cluster::start(1, Link::Multicast, "")?;
    let (lab, node) = (cluster.lab(), cluster.node(1));
    mix::add_rules(node)?;
    lab.give_addresses(node)?;
    lab.await_path()?;
    let spec = |kind| Spec {
        kind,
        connections: 20,
        every: Duration::from_millis(50),
    };
    let _tcp = Traffic::start(lab, spec(Kind::Tcp))?;
    let _udp = Traffic::start(lab, spec(Kind::Udp))?;
    let _ftp = mix::Ftp::open(lab)?;
    // Packets refresh timeouts without an event, so these are left out here.
    cluster.await_mirror(1, None)?;
    let table = kernel(node.namespace())?;
    let marked = table
        .values()
        .filter(|entry| entry.rest.contains("mark=42"));
    assert_eq!(marked.count(), 20, "the rules mark every TCP flow");

    // Labels do not show in lines; ours are told in JSON.
    let labelled = netlink::entries(node.namespace())?
        .values()
        .filter(|entry| entry.contains_key(&vec![cta::LABELS]))
        .count();
    let told = cluster
        .daemon(1)
        .ask(&["dump", "local", "--json"])?
        .lines()
        .filter(|line| line.contains("\"labels\":\""))
        .count();
    assert!(
        labelled >= 40,
        "the rules label every flow, but only {labelled} are"
    );
    assert_eq!(told, labelled);
    Ok(())
}
