//! The network: a client, firewalls, a server, and the switch between them.
//!
//! ```text
//!              inside                     outside
//!   client ──┬── eth0  fw1  eth1 ──┬── server
//!      .10   ├── eth0  fw2  eth1 ──┤      .10
//!            └── eth0  fw3  eth1 ──┘
//!                       eth2 ── sync ── (all firewalls)
//! ```
//!
//! The switch is a namespace with one bridge per segment, so that a firewall's cables can be pulled
//! from outside, as a power cut would. Interface names and addresses are those of
//! `conf/keepalived.conf`.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::namespace::{Folder, Namespace, next_number};
use super::wait::await_until;
use super::{Context as _, Result};

/// The inside address that moves, IPv4.
pub(crate) const INSIDE_VIP: &str = "192.0.2.1";
/// The outside address that moves, IPv4: what the server sees.
pub(crate) const OUTSIDE_VIP: &str = "198.51.100.1";
/// The server's addresses.
pub(crate) const SERVER: [&str; 2] = ["198.51.100.10", "2001:db8:2::10"];

/// Segments: bridge in the switch, interface of the firewalls.
const SEGMENTS: [(&str, &str); 3] = [("inside", "eth0"), ("outside", "eth1"), ("sync", "eth2")];

/// How the client's TCP behaves: it goes on sending new lines for seconds before its own timer makes
/// it wait, so that the first line that passes ends a stall. With Linux's 200 ms a stall is rounded
/// up to the next retransmission (0.2, 0.6, 1.4 or 3 s), whoever replicates, and says nothing about
/// the firewalls. The server keeps Linux's timer.
const CLIENT_TCP: &str = "rto_min 5s initcwnd 64";

/// What makes a command one of a machine of its own: its folder, its name, then the command.
const MACHINE: &str = r#"mount --bind "$0" /run && echo "$1" > /proc/sys/kernel/hostname \
    && shift && exec "$@""#;

/// Drop by default, new flows only from the inside, nothing that the tracker calls invalid (in
/// `input` as well: between the move of the addresses and the end of the commit the segments of
/// living flows reach this node's own stack, which would reset them), and everything leaves under
/// the outside address. What the firewalls say to each other is not tracked.
const RULES: &str = r#"
table inet firewall {
    chain incoming {
        type filter hook prerouting priority raw;
        iifname "eth2" notrack
        ip daddr 224.0.0.0/4 notrack
        ip6 daddr ff00::/8 notrack
    }
    chain outgoing {
        type filter hook output priority raw;
        oifname "eth2" notrack
        ip daddr 224.0.0.0/4 notrack
        ip6 daddr ff00::/8 notrack
    }
    chain input {
        type filter hook input priority filter;
        ct state invalid drop
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname "eth0" oifname "eth1" ct state new accept
    }
    chain nat {
        type nat hook postrouting priority srcnat;
        oifname "eth1" ip saddr 192.0.2.0/24 snat ip to 198.51.100.1
        oifname "eth1" ip6 saddr 2001:db8:1::/64 snat ip6 to 2001:db8:2::1
    }
}
"#;

/// A firewall.
#[derive(Debug)]
pub(crate) struct Node {
    /// `fw1`, `fw2`, `fw3`: its name everywhere, also for `keepalived -i`.
    pub(crate) name: String,
    /// 1, 2, 3.
    pub(crate) index: u8,
    namespace: Namespace,
    folder: PathBuf,
}

impl Node {
    /// Its network namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What its programs see as `/run`.
    pub(crate) fn run_folder(&self) -> &Path {
        &self.folder
    }

    /// The control socket of its `ctsyncd`, seen from here.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("ctsyncd/control.sock")
    }

    /// Its address on the sync segment.
    pub(crate) fn sync_address(&self, v6: bool) -> IpAddr {
        let last = self.index + 1;
        let text = if v6 {
            format!("2001:db8:3::{last}")
        } else {
            format!("203.0.113.{last}")
        };
        text.parse().expect("built from literals")
    }

    /// A command on this node as on a machine of its own: its network, its host name, and its own
    /// `/run`, whose `bin` comes first in the path.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.namespace.command("unshare");
        command
            .args(["--mount", "--uts", "--propagation", "private", "--"])
            .args(["sh", "-c", MACHINE])
            .arg(&self.folder)
            .args([&self.name, program])
            .env(
                "PATH",
                "/run/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        command
    }

    /// Puts a program into this node's path, owned by root and in no folder that others may
    /// write to: keepalived runs nothing else.
    pub(crate) fn install(&self, name: &str, program: &Path) -> Result<()> {
        let to = self.folder.join("bin").join(name);
        fs::copy(program, &to).with_context(|| format!("copying {}", program.display()))?;
        Ok(())
    }

    /// Puts a shell script into this node's path.
    pub(crate) fn install_script(&self, name: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let to = self.folder.join("bin").join(name);
        fs::write(&to, text)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Writes a file into this node's `/run` and yields its path as the node sees it.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String> {
        fs::write(self.folder.join(name), text)?;
        Ok(format!("/run/{name}"))
    }

    /// Writes a file that only its owner may read, unless it is there.
    pub(crate) fn write_secret(&self, name: &str, text: &str) -> Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.folder.join(name);
        if !path.exists() {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// Loads a ruleset.
    pub(crate) fn load_rules(&self, text: &str) -> Result<()> {
        self.namespace.feed("nft", &["-f", "-"], text)?;
        Ok(())
    }

    /// True if the node has the outside address.
    pub(crate) fn has_address(&self) -> Result<bool> {
        self.has(OUTSIDE_VIP)
    }

    /// True if the node has an outside address.
    pub(crate) fn has(&self, address: &str) -> Result<bool> {
        let text = self
            .namespace
            .output("ip", &["-brief", "address", "show", "dev", "eth1"])?;
        Ok(text.contains(&format!("{address}/")))
    }
}

/// Where a client lives: its own addresses and its gateways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// IPv4 address, inside.
    pub(crate) v4: &'static str,
    /// IPv6 address, inside.
    pub(crate) v6: &'static str,
    /// IPv4 gateway.
    pub(crate) gateway_v4: &'static str,
    /// IPv6 gateway.
    pub(crate) gateway_v6: &'static str,
}

/// The client that every laboratory has.
const CLIENT: Client = Client {
    v4: "192.0.2.10",
    v6: "2001:db8:1::10",
    gateway_v4: INSIDE_VIP,
    gateway_v6: "2001:db8:1::1",
};

/// The whole network. Fields drop in this order: nodes end before the switch goes.
#[derive(Debug)]
pub(crate) struct Lab {
    nodes: Vec<Node>,
    client: Namespace,
    server: Namespace,
    switch: Namespace,
    folder: Folder,
    number: u32,
}

impl Lab {
    /// Builds a network with `count` firewalls, none of which has a virtual address yet.
    pub(crate) fn new(count: u8) -> Result<Self> {
        let number = next_number();
        let folder = Folder::create(number)?;
        let switch = Namespace::create(number, "lan")?;
        let server = Namespace::create(number, "srv")?;
        prepare_switch(&switch)?;

        let client = client(number, "client", &switch, CLIENT)?;
        prepare_host(&server)?;
        plug(&switch, "outside", "server", &server, "eth0")?;
        server.ip("address add 198.51.100.10/24 dev eth0\n\
             address add 2001:db8:2::10/64 dev eth0 nodad\n")?;

        let mut nodes = Vec::with_capacity(usize::from(count));
        for index in 1..=count {
            nodes.push(firewall(number, index, &switch, folder.path())?);
        }
        Ok(Self {
            nodes,
            client,
            server,
            switch,
            folder,
            number,
        })
    }

    /// A further client, under a name of at most 11 letters.
    pub(crate) fn add_client(&self, name: &str, at: Client) -> Result<Namespace> {
        client(self.number, name, &self.switch, at)
    }

    /// The firewalls, in order.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Firewall `index`, from 1.
    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.nodes[index - 1]
    }

    /// The client's namespace.
    pub(crate) fn client(&self) -> &Namespace {
        &self.client
    }

    /// The server's namespace.
    pub(crate) fn server(&self) -> &Namespace {
        &self.server
    }

    /// Pulls all cables of a firewall at once: what its neighbours see of a power cut.
    pub(crate) fn cut(&self, node: &Node) -> Result<()> {
        self.cables(node, &SEGMENTS, "down")
    }

    /// Plugs them in again.
    pub(crate) fn heal(&self, node: &Node) -> Result<()> {
        self.cables(node, &SEGMENTS, "up")
    }

    /// Pulls or plugs in the cable of the sync segment only.
    pub(crate) fn sync_cable(&self, node: &Node, state: &str) -> Result<()> {
        self.cables(node, &SEGMENTS[2..], state)
    }

    /// Breaks or mends a segment in the middle: its switch is dead, and every cable has a carrier.
    pub(crate) fn segment(&self, bridge: &str, state: &str) -> Result<()> {
        self.switch.ip(&format!("link set {bridge} {state}"))
    }

    /// Puts a queue (arguments of `tc qdisc`) on the cable to `client` or `server`, in the direction
    /// to it.
    pub(crate) fn queue(&self, port: &str, qdisc: &str) -> Result<()> {
        let mut arguments = vec!["qdisc", "add", "dev", port, "root"];
        arguments.extend(qdisc.split(' '));
        self.switch.output("tc", &arguments)?;
        Ok(())
    }

    fn cables(&self, node: &Node, segments: &[(&str, &str)], state: &str) -> Result<()> {
        let lines: String = segments
            .iter()
            .map(|(_, interface)| format!("link set {}-{interface} {state}\n", node.name))
            .collect();
        self.switch.ip(&lines)
    }

    /// Moves the far end of a firewall's cable out of the switch into a namespace where nothing else is
    /// and no stack answers. The firewall loses the interface with it.
    pub(crate) fn take_cable(&self, node: &Node, interface: &str) -> Result<Namespace> {
        let cable = format!("{}-{interface}", node.name);
        let end = Namespace::create(self.number, &format!("{cable}-end"))?;
        end.sysctl(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        self.switch.ip(&format!(
            "link set {cable} nomaster\nlink set {cable} netns {}\n",
            end.name()
        ))?;
        end.ip(&format!("link set {cable} up"))?;
        Ok(end)
    }

    /// Gives a firewall the virtual addresses by hand, for tests without keepalived.
    pub(crate) fn give_addresses(&self, node: &Node) -> Result<()> {
        node.namespace.ip("address add 192.0.2.1/24 dev eth0\n\
             address add 2001:db8:1::1/64 dev eth0 nodad\n\
             address add 198.51.100.1/24 dev eth1\n\
             address add 2001:db8:2::1/64 dev eth1 nodad\n")
    }

    /// Waits until the client reaches the server through whoever is active.
    pub(crate) fn await_path(&self) -> Result<()> {
        Self::await_path_from(&self.client)
    }

    /// Waits until a client reaches the server through whoever is active for it.
    pub(crate) fn await_path_from(client: &Namespace) -> Result<()> {
        for address in SERVER {
            await_until(
                "the client reaches the server",
                Duration::from_secs(10),
                || {
                    let arguments = ["-n", "-c", "1", "-W", "1", "-i", "0.1", address];
                    Ok(client.output("ping", &arguments).is_ok())
                },
            )?;
        }
        Ok(())
    }
}

fn prepare_switch(switch: &Namespace) -> Result<()> {
    // Frames between bridge ports are nobody's flows. The file is there only where the kernel can
    // show bridged packets to netfilter at all.
    if Path::new("/proc/sys/net/bridge").exists() {
        switch.sysctl(&[
            ("net/bridge/bridge-nf-call-iptables", "0"),
            ("net/bridge/bridge-nf-call-ip6tables", "0"),
        ])?;
    }
    let lines: String = SEGMENTS
        .iter()
        .map(|(bridge, _)| {
            format!(
                "link add {bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
                 link set {bridge} up\n"
            )
        })
        .collect();
    switch.ip(&lines)
}

/// Connects `interface` of `host` to a bridge.
fn plug(
    switch: &Namespace,
    bridge: &str,
    port: &str,
    host: &Namespace,
    interface: &str,
) -> Result<()> {
    switch.ip(&format!(
        "link add {port} type veth peer name {interface} netns {}\n\
         link set {port} master {bridge}\n\
         link set {port} up\n",
        host.name()
    ))?;
    host.ip(&format!("link set {interface} up"))
}

fn prepare_host(host: &Namespace) -> Result<()> {
    host.sysctl(&[
        ("net/ipv6/conf/all/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
    ])
}

fn client(number: u32, name: &str, switch: &Namespace, at: Client) -> Result<Namespace> {
    let client = Namespace::create(number, name)?;
    prepare_host(&client)?;
    plug(switch, "inside", name, &client, "eth0")?;
    let Client {
        v4,
        v6,
        gateway_v4,
        gateway_v6,
    } = at;
    client.ip(&format!(
        "address add {v4}/24 dev eth0\n\
         address add {v6}/64 dev eth0 nodad\n\
         route add default via {gateway_v4} {CLIENT_TCP}\n\
         route add default via {gateway_v6} {CLIENT_TCP}\n"
    ))?;
    Ok(client)
}

fn firewall(number: u32, index: u8, switch: &Namespace, folder: &Path) -> Result<Node> {
    let name = format!("fw{index}");
    let namespace = Namespace::create(number, &name)?;
    let folder = folder.join(&name);
    for part in ["", "bin", "ctsyncd"] {
        fs::create_dir(folder.join(part))?;
    }
    prepare_host(&namespace)?;
    for (bridge, interface) in SEGMENTS {
        plug(
            switch,
            bridge,
            &format!("{name}-{interface}"),
            &namespace,
            interface,
        )?;
    }
    let last = index + 1;
    namespace.ip(&format!(
        "address add 192.0.2.{last}/24 dev eth0\n\
         address add 2001:db8:1::{last}/64 dev eth0 nodad\n\
         address add 198.51.100.{last}/24 dev eth1\n\
         address add 2001:db8:2::{last}/64 dev eth1 nodad\n\
         address add 203.0.113.{last}/24 dev eth2\n\
         address add 2001:db8:3::{last}/64 dev eth2 nodad\n"
    ))?;
    // The rules first: they make the kernel track connections here, which brings the sysctls.
    namespace.feed("nft", &["-f", "-"], RULES)?;
    namespace.sysctl(&[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/netfilter/nf_conntrack_tcp_loose", "0"),
    ])?;
    Ok(Node {
        name,
        index,
        namespace,
        folder,
    })
}
