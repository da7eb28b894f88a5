//! The virtual addresses moved by hand: what keepalived does, one step at a time.

use crate::cluster::Cluster;
use crate::harness::Result;
use crate::harness::namespace::Namespace;
use crate::harness::topology::Node;

/// The virtual addresses, as `Lab::give_addresses` gives them.
const ADDRESSES: [(&str, &str); 4] = [
    ("192.0.2.1/24", "eth0"),
    ("2001:db8:1::1/64", "eth0"),
    ("198.51.100.1/24", "eth1"),
    ("2001:db8:2::1/64", "eth1"),
];

/// Takes the virtual addresses away from a firewall.
pub(crate) fn take_addresses(node: &Node) -> Result<()> {
    let lines: String = ADDRESSES
        .iter()
        .map(|(address, interface)| format!("address del {address} dev {interface}\n"))
        .collect();
    node.namespace().ip(&lines)
}

/// The neighbours look for the virtual addresses anew, as after the gratuitous ARP of a new master.
pub(crate) fn forget_neighbours(cluster: &Cluster) -> Result<()> {
    let forget = |host: &Namespace| host.ip("neigh flush dev eth0");
    forget(cluster.lab().client())?;
    forget(cluster.lab().server())
}

/// The active node loses its power, and the other one takes over: commit first, then the addresses.
pub(crate) fn fail_over(cluster: &Cluster, from: usize, to: usize) -> Result<()> {
    cluster.lab().cut(cluster.node(from))?;
    cluster.daemon(to).ask(&["promote"])?;
    cluster.lab().give_addresses(cluster.node(to))?;
    forget_neighbours(cluster)
}

/// A node that was cut off comes back as a standby, with the entries that it had, and hears what
/// `active` tracks.
pub(crate) fn come_back(cluster: &Cluster, node: usize, active: usize) -> Result<()> {
    take_addresses(cluster.node(node))?;
    cluster.daemon(node).ask(&["demote"])?;
    cluster.lab().heal(cluster.node(node))?;
    let name = |index| &cluster.node(index).name;
    cluster.daemon(active).await_streaming(name(node))?;
    cluster.daemon(node).await_streaming(name(active))?;
    cluster.await_replicas(node)
}
