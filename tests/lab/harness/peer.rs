//! conntrackd on a firewall, for comparison: Debian's package with the settings of its FTFW
//! example, and a failover script that takes the steps of its `primary-backup.sh`.

use std::time::Duration;

use super::process::Process;
use super::topology::Node;
use super::wait::await_until;
use super::{Context as _, Result, bail};

/// What keepalived calls on a change of role: commit the replicas, forget them, read the kernel
/// again, and tell the other node everything.
const FAILOVER: &str = r#"#!/bin/sh
exec >> /run/failover.log 2>&1
ctd() { conntrackd -C /run/conntrackd.conf "$@"; }
case "$3" in
MASTER)
    ctd -c
    ctd -f
    ctd -R
    ctd -B
    ;;
BACKUP|FAULT)
    ctd -t
    [ "$3" = FAULT ] || ctd -n
    ;;
esac
"#;

/// A running conntrackd.
#[derive(Debug)]
pub(crate) struct Conntrackd {
    process: Process,
}

/// Flows of conntrackd's caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CacheCounts {
    /// What this node tracks.
    pub(crate) internal: u64,
    /// What the other node tracks.
    pub(crate) external: u64,
}

impl Conntrackd {
    /// Starts conntrackd on a node and waits until it answers.
    pub(crate) fn start(node: &Node, everything: bool) -> Result<Self> {
        Self::start_with(node, everything, "")
    }

    /// The same with further lines in the section of its mode.
    pub(crate) fn start_with(node: &Node, everything: bool, mode: &str) -> Result<Self> {
        let config = config(node, everything, mode);
        let path = node.write("conntrackd.conf", &config)?;
        node.install_script("failover", FAILOVER)?;
        let mut command = node.command("conntrackd");
        command.args(["-C", &path]);
        let mut process = Process::start(&format!("conntrackd on {}", node.name), &mut command)?;
        await_until("conntrackd answers", Duration::from_secs(10), || {
            if let Some(status) = process.ended()? {
                bail!("conntrackd ended with {status}:\n{}", process.text());
            }
            // Without an external cache there is only one to count.
            Ok(ask(node, &["-s"]).is_ok())
        })?;
        Ok(Self { process })
    }

    /// The running program.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

/// Runs a client command of conntrackd.
pub(crate) fn ask(node: &Node, arguments: &[&str]) -> Result<String> {
    let mut command = node.command("conntrackd");
    command.args(["-C", "/run/conntrackd.conf"]).args(arguments);
    super::namespace::run(&mut command)
}

/// The caches' sizes, from the statistics that `conntrackd -s` prints.
pub(crate) fn counts(node: &Node) -> Result<CacheCounts> {
    let text = ask(node, &["-s"])?;
    let mut numbers = text
        .lines()
        .filter_map(|line| line.strip_prefix("current active connections:"))
        .map(|rest| rest.trim().parse());
    let mut next = || -> Result<u64> {
        let number = numbers.next().context("conntrackd -s names both caches")?;
        Ok(number?)
    };
    Ok(CacheCounts {
        internal: next()?,
        external: next()?,
    })
}

fn config(node: &Node, everything: bool, mode: &str) -> String {
    let filter = if everything {
        ""
    } else {
        "    Filter From Userspace {
        Protocol Accept { TCP SCTP UDP ICMP }
        Address Ignore {
            IPv4_address 127.0.0.1
            IPv4_address 192.0.2.1
            IPv4_address 198.51.100.1
            IPv4_address 203.0.113.0/24
            IPv6_address ::1
            IPv6_address 2001:db8:3::/64
        }
    }"
    };
    format!(
        "Sync {{
    Mode FTFW {{
        ResendQueueSize 131072
        ACKWindowSize 300
        {mode}
    }}
    Multicast {{
        IPv4_address 225.0.0.50
        Group 3780
        IPv4_interface {address}
        Interface eth2
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    Systemd off
    HashSize 131072
    HashLimit 1048576
    LogFile off
    Syslog off
    LockFile /run/conntrackd.lock
    UNIX {{
        Path /run/conntrackd.ctl
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
{filter}
}}
",
        address = node.sync_address(false)
    )
}
