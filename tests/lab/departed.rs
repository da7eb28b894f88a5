//! The active loses its addresses, and the kernel destroys what was masqueraded behind them: the
//! flows live on at the other node.

use std::time::Duration;

use crate::cluster::{CONVERGE, Cluster};
use crate::harness::services::Link;
use crate::harness::topology::{Node, OUTSIDE_VIP};
use crate::harness::traffic::{Kind, Spec, Traffic};
use crate::harness::wait::await_until;
use crate::harness::{Context as _, Result, turn};

const CONNECTIONS: usize = 40;
const LIMIT: Duration = Duration::from_secs(10);
const OUTSIDE_VIP6: &str = "2001:db8:2::1";

/// Masquerades on the outside, where the moving addresses are the only ones: it translates to the
/// first.
fn masquerade(node: &Node) -> Result<()> {
    let last = node.index + 1;
    node.namespace().ip(&format!(
        "address del 198.51.100.{last}/24 dev eth1\n\
         address del 2001:db8:2::{last}/64 dev eth1\n"
    ))?;
    let rules = "flush chain inet firewall nat\n\
                 add rule inet firewall nat oifname eth1 masquerade\n";
    node.namespace().feed("nft", &["-f", "-"], rules)?;
    Ok(())
}

/// TCP flows of a node's kernel that are translated to the moving addresses.
fn translated(node: &Node) -> Result<usize> {
    let mut count = 0;
    for (family, address) in [("ipv4", OUTSIDE_VIP), ("ipv6", OUTSIDE_VIP6)] {
        let arguments = ["-L", "-p", "tcp", "-f", family];
        let text = node.namespace().output("conntrack", &arguments)?;
        let to = format!("dst={address} ");
        count += text.lines().filter(|line| line.contains(&to)).count();
    }
    Ok(count)
}

fn held_ends(cluster: &Cluster, index: usize) -> Result<u64> {
    let text = cluster.daemon(index).ask(&["stats", "--json"])?;
    let stats: serde_json::Value = serde_json::from_str(&text)?;
    stats["kernel"]["held_ends"].as_u64().context("a counter")
}

/// How the addresses go from the first node: what the kernel does then is the same.
fn lose_and_survive(name: &str, lose: &str) -> Result<()> {
    let Some(_turn) = turn(name) else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let (old, new) = (cluster.node(1), cluster.node(2));
    masquerade(old)?;
    masquerade(new)?;
    cluster.lab().give_addresses(old)?;
    cluster.daemon(1).ask(&["promote"])?;
    cluster.lab().await_path()?;
    let spec = Spec {
        kind: Kind::Tcp,
        connections: CONNECTIONS,
        every: Duration::from_millis(50),
    };
    let traffic = Traffic::start(cluster.lab(), spec)?;
    assert_eq!(translated(old)?, CONNECTIONS);
    cluster.await_replicas(2)?;

    traffic.mark();
    old.namespace().ip(lose)?;
    await_until("the kernel destroys the flows", LIMIT, || {
        Ok(translated(old)? == 0)
    })?;
    await_until("their ends are held back", LIMIT, || {
        Ok(held_ends(&cluster, 1)? >= u64::try_from(CONNECTIONS)?)
    })?;
    // Whatever was sent since is there when this node's stream to the other is at its end.
    cluster.daemon(1).await_streaming(&new.name)?;
    let held = cluster.daemon(2).replica_flows(&old.name)?;
    assert!(held >= u64::try_from(CONNECTIONS)?, "only {held} flows");

    cluster.lab().give_addresses(new)?;
    cluster.daemon(2).ask(&["promote"])?;
    cluster.daemon(1).ask(&["demote"])?;
    for host in [cluster.lab().client(), cluster.lab().server()] {
        host.ip("neigh flush dev eth0\n")?;
    }
    let outcome = traffic.settle(CONVERGE)?;
    assert_eq!(outcome.alive, CONNECTIONS, "{outcome:?}");
    assert_eq!(translated(new)?, CONNECTIONS);
    Ok(())
}

#[test]
fn masqueraded_flows_survive_that_their_address_leaves() -> Result<()> {
    lose_and_survive(
        "masqueraded_flows_survive_that_their_address_leaves",
        "address del 192.0.2.1/24 dev eth0\n\
         address del 2001:db8:1::1/64 dev eth0\n\
         address del 198.51.100.1/24 dev eth1\n\
         address del 2001:db8:2::1/64 dev eth1\n",
    )
}

#[test]
fn masqueraded_flows_survive_that_their_interface_goes_down() -> Result<()> {
    lose_and_survive(
        "masqueraded_flows_survive_that_their_interface_goes_down",
        "link set eth1 down\nlink set eth0 down\n",
    )
}
