//! Expectations: what a helper waits for on the active is known to the standby, is put into its
//! kernel by a commit, and ends there when it ends on the active.
//!
//! Two kernels are compared attribute by attribute, as they send them, without our decoder.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cluster::{CONVERGE, Cluster};
use crate::harness::ftp::{self, File, FtpClient, FtpServer};
use crate::harness::netlink::{Attributes, expect, expectations};
use crate::harness::services::{Link, number};
use crate::harness::topology::{Lab, Node, SERVER};
use crate::harness::wait::await_until;
use crate::harness::{Context as _, Result, turn};

/// Puts everything that the client and the server say into a zone.
const ZONE_RULES: &str = r#"
table inet zone {
    chain before {
        type filter hook prerouting priority -300;
        iifname { "eth0", "eth1" } ct zone set 7
    }
}
"#;

/// A firewall pair of which the first is active, and an FTP session through it.
struct Session {
    client: FtpClient,
    _server: FtpServer,
    cluster: Cluster,
}

impl Session {
    fn open(address: &str, rules: Option<&str>) -> Result<Self> {
        let cluster = Cluster::start(2, Link::Multicast, "")?;
        let lab = cluster.lab();
        for node in lab.nodes() {
            ftp::add_helper(node)?;
            if let Some(rules) = rules {
                node.namespace().feed("nft", &["-f", "-"], rules)?;
            }
        }
        lab.give_addresses(cluster.node(1))?;
        lab.await_path()?;
        let address: IpAddr = address.parse()?;
        let server = FtpServer::start(lab.server(), address)?;
        let mut client = FtpClient::connect(lab.client(), address)?;
        client.login()?;
        Ok(Self {
            client,
            _server: server,
            cluster,
        })
    }

    fn node(&self, index: usize) -> &Node {
        self.cluster.node(index)
    }

    /// The lines of `dump TABLE --expectations`, without what ticks.
    fn dumped(&self, index: usize, table: &str) -> Result<Vec<String>> {
        let text = self
            .cluster
            .daemon(index)
            .ask(&["dump", table, "--expectations"])?;
        let lines = text.lines();
        Ok(lines
            .map(|line| {
                line.split_once(' ')
                    .map_or(line, |(_, rest)| rest)
                    .to_owned()
            })
            .collect())
    }

    /// Waits until the standby's replica holds `count` expectations.
    fn await_replica(&self, count: usize) -> Result<()> {
        let what = format!("{count} expectations in the replica");
        await_until(&what, CONVERGE, || {
            Ok(self.dumped(2, "replica")?.len() == count)
        })
    }
}

#[test]
fn ftp_works_through_one_firewall() -> Result<()> {
    let Some(_turn) = turn("ftp_works_through_one_firewall") else {
        return Ok(());
    };
    let lab = Lab::new(1)?;
    ftp::add_helper(lab.node(1))?;
    lab.give_addresses(lab.node(1))?;
    lab.await_path()?;
    for address in SERVER {
        let _server = FtpServer::start(lab.server(), address.parse()?)?;
        let mut client = FtpClient::connect(lab.client(), address.parse()?)?;
        client.login()?;
        let file = File::paced(400_000, 2_000_000);
        let transfer = client.passive_get(lab.client(), file)?;
        client.finish(transfer)?;
        let transfer = client.passive_put(lab.client(), file)?;
        client.finish(transfer)?;
        client.noop()?;
        let transfer = client.active_get(lab.client(), file)?;
        client.finish(transfer)?;
        let transfer = client.active_put(lab.client(), File::fast(1_000_000))?;
        client.finish(transfer)?;
        client.noop()?;
    }
    Ok(())
}

#[test]
fn an_expectation_is_replicated_committed_and_ended() -> Result<()> {
    let Some(_turn) = turn("an_expectation_is_replicated_committed_and_ended") else {
        return Ok(());
    };
    replicate_commit_end(SERVER[0], None, "")?;
    replicate_commit_end(SERVER[1], None, "")
}

#[test]
fn an_expectation_in_a_zone_is_replicated_committed_and_ended() -> Result<()> {
    let Some(_turn) = turn("an_expectation_in_a_zone_is_replicated_committed_and_ended") else {
        return Ok(());
    };
    replicate_commit_end(SERVER[0], Some(ZONE_RULES), " zone=7")
}

fn replicate_commit_end(address: &str, rules: Option<&str>, zone: &str) -> Result<()> {
    let mut session = Session::open(address, rules)?;
    let namespace = session.cluster.lab().client();
    let listener = session.client.announce(namespace)?;

    session.await_replica(1)?;
    let replica = session.dumped(2, "replica")?;
    assert_eq!(replica, session.dumped(1, "local")?);
    // What conntrack shows, then what only we show.
    let of_kernel = listed(session.node(1))?;
    let shown = of_kernel.first().context("fw1 expects")?;
    let rest = replica[0]
        .strip_prefix(shown.as_str())
        .with_context(|| format!("{replica:?} begins with {shown}"))?;
    assert!(
        rest.starts_with(" fn=nat-follow-master nat-dir=1 nat-src="),
        "{rest}"
    );
    assert!(rest.ends_with(zone), "{rest}");

    // The adjustment of the control connection makes no event; EXP_NEW is the cue to read it.
    if address == SERVER[0] {
        await_until("the adjustment is known to the standby", CONVERGE, || {
            let text = session
                .cluster
                .daemon(2)
                .ask(&["dump", "replica", "--json"])?;
            Ok(text.contains("\"seqadj_orig\""))
        })?;
    }

    session.cluster.daemon(2).ask(&["commit"])?;
    let (active, standby) = (stable(session.node(1))?, stable(session.node(2))?);
    assert_eq!(active.len(), 1);
    assert_eq!(active, standby);
    let left = |node: &Node| -> Result<u32> {
        let of_one = expectations(node.namespace())?.into_iter().next();
        let bytes = of_one.context("it expects")?.remove(&vec![expect::TIMEOUT]);
        let bytes = bytes.and_then(|bytes| bytes.first_chunk().copied());
        Ok(u32::from_be_bytes(bytes.context("a timeout")?))
    };
    let (here, there) = (left(session.node(1))?, left(session.node(2))?);
    assert!(here.abs_diff(there) <= 3, "{here} s and {there} s left");
    assert_committed(&session, "created")?;

    // A second commit finds it, and lets it be.
    let before = expectations(session.node(2).namespace())?;
    session.cluster.daemon(2).ask(&["commit"])?;
    assert_committed(&session, "already")?;
    let id = |table: &[Attributes]| table[0].get(&vec![expect::ID]).cloned();
    let after = expectations(session.node(2).namespace())?;
    assert_eq!(id(&before), id(&after));

    // The flow that was expected comes, and nothing is expected any more.
    let begun = session
        .client
        .get_announced(&listener, File::fast(10_000))?;
    session.client.finish(begun)?;
    session.await_replica(0)?;
    assert_eq!(session.dumped(1, "local")?, Vec::<String>::new());
    Ok(())
}

/// All expectations of the last commit came to one end.
fn assert_committed(session: &Session, end: &str) -> Result<()> {
    let status = session.cluster.daemon(2).status()?;
    assert_eq!(
        number(&status, "/commit/expectations/total")?,
        1,
        "{status}"
    );
    let pointer = format!("/commit/expectations/{end}");
    assert_eq!(number(&status, &pointer)?, 1, "{status}");
    Ok(())
}

/// `conntrack -L expect`, without what ticks.
fn listed(node: &Node) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let arguments = ["-L", "expect", "-f", family];
        let text = node.namespace().output("conntrack", &arguments)?;
        lines.extend(text.lines().filter_map(|line| {
            let (_, rest) = line.split_once(' ')?;
            Some(rest.trim_end().to_owned())
        }));
    }
    Ok(lines)
}

/// The expectations of a kernel as it sends them, but for what ticks or belongs to its memory.
fn stable(node: &Node) -> Result<Vec<BTreeMap<Vec<u16>, Vec<u8>>>> {
    let mut table = expectations(node.namespace())?;
    for entry in &mut table {
        entry.retain(|path, _| !matches!(path[0], expect::TIMEOUT | expect::ID));
    }
    Ok(table)
}
