//! What runs on the firewalls: keepalived, and `ctsyncd` or conntrackd beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::topology::Node;
use super::wait::await_until;
use super::{Context as _, Result, ensure};

/// keepalived's configuration, the example that we ship.
const KEEPALIVED: &str = include_str!("../../../conf/keepalived.conf");
/// The line of it that calls us.
const NOTIFY: &str = r#"notify "ctsyncd --socket /run/ctsyncd/control.sock notify""#;
/// How long a program may take to come up on a busy machine.
const START: Duration = Duration::from_secs(10);

/// Whom keepalived tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Notify {
    /// `ctsyncd`: the example as it is.
    Ctsyncd,
    /// `ctsyncd`, through its FIFO.
    Fifo,
    /// Likewise, and the node with the highest priority takes the addresses at once.
    FifoPreempt,
    /// A script `failover` in the node's path, in place of `ctsyncd notify`.
    Script,
    /// Nobody.
    Nobody,
}

/// Starts keepalived on a node.
pub(crate) fn keepalived(node: &Node, notify: Notify) -> Result<Process> {
    ensure!(
        KEEPALIVED.contains(NOTIFY),
        "conf/keepalived.conf calls {NOTIFY}"
    );
    ensure!(
        KEEPALIVED.contains("#vrrp_notify_fifo") && KEEPALIVED.contains("    nopreempt\n"),
        "conf/keepalived.conf shows the FIFO, and does not preempt"
    );
    let text = match notify {
        Notify::Ctsyncd => KEEPALIVED.to_owned(),
        Notify::Fifo => with_fifo(),
        Notify::FifoPreempt => with_fifo().replace("    nopreempt\n", ""),
        Notify::Script => KEEPALIVED.replace(NOTIFY, r#"notify "failover""#),
        Notify::Nobody => KEEPALIVED.replace(NOTIFY, ""),
    };
    keepalived_with(node, &text)
}

/// Starts keepalived on a node with a configuration.
pub(crate) fn keepalived_with(node: &Node, text: &str) -> Result<Process> {
    let path = node.write("keepalived.conf", text)?;
    let mut command = node.command("keepalived");
    command
        .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"])
        .args(["-i", &node.name, "-f", &path]);
    Process::start(&format!("keepalived on {}", node.name), &mut command)
}

/// The example with the FIFO that it shows in place of the script.
fn with_fifo() -> String {
    KEEPALIVED
        .replace(NOTIFY, "")
        .replace("#vrrp_notify_fifo", "vrrp_notify_fifo")
}

/// How the nodes reach each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// An IPv4 group.
    Multicast,
    /// An IPv6 group.
    Multicast6,
    /// Listed IPv4 addresses.
    Unicast,
    /// Listed IPv6 addresses.
    Unicast6,
}

/// The line of the configuration that seals the links; a test may put another in its place.
pub(crate) const SEALED: &str = r#"key_file = "/run/cluster.key""#;
/// What is in that file, on every node.
const KEY: &str = "4f1d";

/// A key file's line made of four digits.
pub(crate) fn key_line(digits: &str) -> String {
    format!("{}\n", digits.repeat(16))
}

/// A running `ctsyncd` and how to ask it.
#[derive(Debug)]
pub(crate) struct Ctsyncd {
    process: Process,
    binary: PathBuf,
    socket: PathBuf,
}

/// The configuration of a node's `ctsyncd`: the link, everything replicated, and further lines.
pub(crate) fn ctsyncd_config(node: &Node, peers: &[Node], link: Link, more: &str) -> String {
    let v6 = matches!(link, Link::Multicast6 | Link::Unicast6);
    let endpoint = |node: &Node| format!("{:?}", endpoint(node, v6));
    let addressing = match link {
        Link::Multicast => r#"multicast = "225.0.0.50:3780""#.to_owned(),
        Link::Multicast6 => r#"multicast = "[ff12::50]:3780""#.to_owned(),
        Link::Unicast | Link::Unicast6 => {
            let peers: Vec<_> = peers
                .iter()
                .filter(|peer| peer.name != node.name)
                .map(endpoint)
                .collect();
            format!("bind = {}\npeers = [{}]", endpoint(node), peers.join(", "))
        }
    };
    let name = &node.name;
    format!(
        "[node]\nname = \"{name}\"\n\
         [control]\nsocket = \"/run/ctsyncd/control.sock\"\n\
         [security]\n{SEALED}\n\
         [[link]]\ninterface = \"eth2\"\n{addressing}\n\
         [replicate]\nall = true\n\
         {more}\n"
    )
}

fn endpoint(node: &Node, v6: bool) -> String {
    std::net::SocketAddr::new(node.sync_address(v6), 3780).to_string()
}

impl Ctsyncd {
    /// Starts `binary run` on a node and waits until it answers.
    pub(crate) fn start(binary: &Path, node: &Node, config: &str) -> Result<Self> {
        let path = node.write("ctsyncd.toml", config)?;
        node.write_secret("cluster.key", &key_line(KEY))?;
        if !node.run_folder().join("bin/ctsyncd").exists() {
            node.install("ctsyncd", binary)?;
        }
        let mut command = node.command("ctsyncd");
        command.args(["run", "-c", &path]);
        let process = Process::start(&format!("ctsyncd on {}", node.name), &mut command)?;
        let mut daemon = Self {
            process,
            binary: binary.to_owned(),
            socket: node.socket(),
        };
        await_until("ctsyncd answers", START, || {
            if let Some(status) = daemon.process.ended()? {
                anyhow::bail!("ctsyncd ended with {status}:\n{}", daemon.process.text());
            }
            Ok(daemon.status().is_ok())
        })?;
        Ok(daemon)
    }

    /// The running program.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// A command line of `ctsyncd` towards this daemon.
    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(&self.binary);
        command.arg("--socket").arg(&self.socket).args(arguments);
        command
    }

    /// Runs a command and yields what it printed; a refusal is an error.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        super::namespace::run(&mut self.command(arguments))
    }

    /// `status --json`.
    pub(crate) fn status(&self) -> Result<Value> {
        let text = self.ask(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("reading the status: {text}"))
    }

    /// The cause that it names for the stranger `name`.
    pub(crate) fn stranger(&self, name: &str) -> Result<Option<String>> {
        let status = self.status()?;
        let strangers = status["strangers"].as_array();
        let found = strangers
            .into_iter()
            .flatten()
            .find(|stranger| stranger["name"] == name);
        Ok(found.and_then(|stranger| Some(stranger["cause"].as_str()?.to_owned())))
    }

    /// Flows of the local cache.
    pub(crate) fn local_flows(&self) -> Result<u64> {
        number(&self.status()?, "/local/flows")
    }

    /// Flows held of the peer `name`; 0 before it was heard of.
    pub(crate) fn replica_flows(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        match peer(&status, name) {
            Some(peer) => number(peer, "/replica/flows"),
            None => Ok(0),
        }
    }

    /// Waits until the session with the peer `name` runs and nothing waits to be sent to it.
    pub(crate) fn await_streaming(&self, name: &str) -> Result<()> {
        await_until(&format!("streaming to {name}"), START, || {
            let status = self.status()?;
            let Some(peer) = peer(&status, name) else {
                return Ok(false);
            };
            Ok(peer["state"] == "streaming" && peer["lag_records"] == 0)
        })
    }

    /// `dump local` or `dump replica`, line by line.
    pub(crate) fn dump(&self, table: &str) -> Result<Vec<String>> {
        Ok(self
            .ask(&["dump", table])?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(self) -> Result<()> {
        self.process.kill()
    }
}

/// The entry of a peer in a status.
pub(crate) fn peer<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    let peers = status["peers"].as_array()?;
    peers.iter().find(|peer| peer["name"] == name)
}

/// A number in a status, by JSON pointer.
pub(crate) fn number(status: &Value, pointer: &str) -> Result<u64> {
    status
        .pointer(pointer)
        .and_then(Value::as_u64)
        .with_context(|| format!("{pointer} is a number in {status}"))
}
