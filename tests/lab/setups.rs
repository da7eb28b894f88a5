//! The documented set-ups, `conf/examples/`: each as it stands, with real keepalived and traffic.
//!
//! Only the place of the cluster key is another one: a laboratory's nodes share the machine's `/etc`.

use std::time::Duration;

use crate::cluster::{CONVERGE, binary};
use crate::harness::ftp::{File, FtpClient, FtpServer};
use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use crate::harness::services::{Ctsyncd, SEALED, keepalived_with};
use crate::harness::topology::{Client, Lab, OUTSIDE_VIP, SERVER};
use crate::harness::traffic::{Kind, Outcome, PORT, Spec, Traffic};
use crate::harness::wait::await_until;
use crate::harness::{Result, ensure, turn};

/// Connections of a client, half of them over IPv6.
const CONNECTIONS: usize = 60;
/// How long connections get to come back: longer than the client's own timer waits.
const RETURN: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(15);
/// The line of the examples that names the cluster key.
const KEY_FILE: &str = r#"key_file = "/etc/ctsyncd/cluster.key""#;

/// Files of an example.
#[derive(Clone, Copy, Debug)]
struct Example {
    nodes: u8,
    keepalived: &'static str,
    ctsyncd: &'static str,
    rules: &'static str,
}

macro_rules! file {
    ($path:literal) => {
        include_str!(concat!("../../conf/examples/", $path))
    };
}

const ACTIVE_STANDBY: Example = Example {
    nodes: 2,
    keepalived: file!("active-standby/keepalived.conf"),
    ctsyncd: file!("active-standby/ctsyncd.toml"),
    rules: file!("active-standby/nftables.conf"),
};

const ACTIVE_ACTIVE: Example = Example {
    nodes: 2,
    keepalived: file!("active-active/keepalived.conf"),
    ctsyncd: file!("active-active/ctsyncd.toml"),
    rules: file!("active-active/nftables.conf"),
};

const THREE_NODES: Example = Example {
    nodes: 3,
    keepalived: file!("three-nodes/keepalived.conf"),
    ctsyncd: file!("three-nodes/ctsyncd.toml"),
    rules: file!("active-standby/nftables.conf"),
};

/// A set-up that runs. Programs end before the network goes.
#[derive(Debug)]
struct Site {
    keepalived: Vec<Process>,
    daemons: Vec<Ctsyncd>,
    lab: Lab,
}

impl Site {
    /// Starts an example: all daemons, then keepalived on one node after the other.
    fn start(example: Example) -> Result<Self> {
        let lab = Lab::new(example.nodes)?;
        ensure!(example.ctsyncd.contains(KEY_FILE), "it names {KEY_FILE}");
        let config = example.ctsyncd.replace(KEY_FILE, SEALED);
        let mut daemons = Vec::new();
        for node in lab.nodes() {
            node.load_rules(example.rules)?;
            daemons.push(Ctsyncd::start(binary(), node, &config)?);
        }
        let mut site = Self {
            keepalived: Vec::new(),
            daemons,
            lab,
        };
        for index in 1..=site.daemons.len() {
            let running = keepalived_with(site.lab.node(index), example.keepalived)?;
            site.keepalived.push(running);
            if index == 1 {
                site.await_address(1, OUTSIDE_VIP)?;
            }
        }
        Ok(site)
    }

    fn await_address(&self, index: usize, address: &str) -> Result<()> {
        let what = format!("fw{index} takes {address}");
        // A group that goes back waits for the `preempt_delay` of the example.
        await_until(&what, 2 * LIMIT, || self.lab.node(index).has(address))
    }

    /// Waits until a node says that it could take over, and holds at least `flows` of `of`.
    fn await_ready(&self, index: usize, of: usize, flows: usize) -> Result<()> {
        let daemon = &self.daemons[index - 1];
        let of = &self.lab.node(of).name;
        await_until(
            &format!("fw{index} holds the flows of {of}"),
            CONVERGE,
            || {
                let is_ready = daemon.status()?["ready"] == true;
                Ok(is_ready && daemon.replica_flows(of)? >= u64::try_from(flows)?)
            },
        )
    }

    fn talk(&self, client: &Namespace, port: u16) -> Result<Traffic> {
        let spec = Spec {
            kind: Kind::Tcp,
            connections: CONNECTIONS,
            every: Duration::from_millis(50),
        };
        Traffic::start_from(&self.lab, client, port, spec)
    }

    /// Pulls the cables of a node and looks what becomes of the connections.
    fn cut(&self, index: usize, of: &[&Traffic]) -> Result<Vec<Outcome>> {
        self.lab.cut(self.lab.node(index))?;
        of.iter().for_each(|traffic| traffic.mark());
        of.iter().map(|traffic| traffic.settle(RETURN)).collect()
    }

    #[track_caller]
    fn assert_alive(&self, what: &str, outcomes: &[Outcome]) {
        let is_alive = |outcome: &Outcome| outcome.alive == CONNECTIONS;
        let said: Vec<_> = self.keepalived.iter().map(Process::text).collect();
        let said = said.join("\n---\n");
        assert!(
            outcomes.iter().all(is_alive),
            "{what}: {outcomes:?}\n{said}"
        );
    }
}

#[test]
fn active_standby_fails_over() -> Result<()> {
    let Some(_turn) = turn("active_standby_fails_over") else {
        return Ok(());
    };
    let site = Site::start(ACTIVE_STANDBY)?;
    site.lab.await_path()?;
    let traffic = site.talk(site.lab.client(), PORT)?;
    site.await_ready(2, 1, CONNECTIONS)?;
    let outcomes = site.cut(1, &[&traffic])?;
    site.assert_alive("fw1 died", &outcomes);
    assert!(site.lab.node(2).has(OUTSIDE_VIP)?);
    Ok(())
}

#[test]
fn three_nodes_take_over_one_after_the_other() -> Result<()> {
    let Some(_turn) = turn("three_nodes_take_over_one_after_the_other") else {
        return Ok(());
    };
    let site = Site::start(THREE_NODES)?;
    site.lab.await_path()?;
    let traffic = site.talk(site.lab.client(), PORT)?;
    site.await_ready(2, 1, CONNECTIONS)?;
    let outcomes = site.cut(1, &[&traffic])?;
    site.assert_alive("fw1 died", &outcomes);
    let has = |index: usize| site.lab.node(index).has(OUTSIDE_VIP);
    assert!(has(2)? && !has(3)?, "priority decides");
    site.await_ready(3, 2, CONNECTIONS)?;
    let outcomes = site.cut(2, &[&traffic])?;
    site.assert_alive("fw2 died as well", &outcomes);
    assert!(has(3)?);
    assert_eq!(site.daemons[2].status()?["role"], "active");
    Ok(())
}

/// The outside address of group b.
const OUTSIDE_B: &str = "198.51.100.254";
/// A client of group b.
const CLIENT_B: Client = Client {
    v4: "192.0.2.200",
    v6: "2001:db8:1:0:8000::10",
    gateway_v4: "192.0.2.254",
    gateway_v6: "2001:db8:1::fe",
};

#[test]
fn active_active_goes_on_with_either_node_and_back() -> Result<()> {
    let Some(_turn) = turn("active_active_goes_on_with_either_node_and_back") else {
        return Ok(());
    };
    let site = Site::start(ACTIVE_ACTIVE)?;
    let client_b = site.lab.add_client("client-b", CLIENT_B)?;
    // fw1 was first and had both; group b goes to its own node when that has been up for a while.
    site.await_address(2, OUTSIDE_B)?;
    let has = |index: usize, address| site.lab.node(index).has(address);
    assert!(has(1, OUTSIDE_VIP)? && !has(1, OUTSIDE_B)? && !has(2, OUTSIDE_VIP)?);
    await_until("fw2 is active as well", LIMIT, || {
        Ok(site.daemons[1].status()?["role"] == "active")
    })?;
    site.lab.await_path()?;
    Lab::await_path_from(&client_b)?;
    let a = site.talk(site.lab.client(), PORT)?;
    let b = site.talk(&client_b, PORT + 1)?;
    let both = [&a, &b];
    for index in [1, 2] {
        let flows = site.lab.node(index).namespace().flow_count()?;
        let expected = u64::try_from(CONNECTIONS)?..2 * u64::try_from(CONNECTIONS)?;
        assert!(expected.contains(&flows), "each has one half: {flows}");
        assert_eq!(site.daemons[index - 1].status()?["role"], "active");
    }

    for (dead, lives, address) in [(1, 2, OUTSIDE_VIP), (2, 1, OUTSIDE_B)] {
        site.await_ready(lives, dead, CONNECTIONS)?;
        let outcomes = site.cut(dead, &both)?;
        site.assert_alive(&format!("fw{dead} died"), &outcomes);
        assert!(has(lives, OUTSIDE_VIP)? && has(lives, OUTSIDE_B)?);
        // It comes back, and with it its group.
        both.iter().for_each(|traffic| traffic.mark());
        site.lab.heal(site.lab.node(dead))?;
        site.await_address(dead, address)?;
        let outcomes: Result<Vec<_>> = both.iter().map(|it| it.settle(RETURN)).collect();
        site.assert_alive(&format!("fw{dead} came back"), &outcomes?);
    }
    Ok(())
}

#[test]
fn active_active_keeps_what_went_to_the_other_node_and_comes_back() -> Result<()> {
    let Some(_turn) = turn("active_active_keeps_what_went_to_the_other_node_and_comes_back") else {
        return Ok(());
    };
    let site = Site::start(ACTIVE_ACTIVE)?;
    site.await_address(2, OUTSIDE_B)?;
    // Group a goes to fw2, which is active already, and a transfer begins there.
    site.await_ready(2, 1, 0)?;
    site.lab.cut(site.lab.node(1))?;
    site.await_address(2, OUTSIDE_VIP)?;
    site.lab.await_path()?;
    let server = SERVER[0].parse()?;
    let _server = FtpServer::start(site.lab.server(), server)?;
    let mut client = FtpClient::connect(site.lab.client(), server)?;
    client.login()?;
    let transfer = client.passive_get(site.lab.client(), File::paced(60_000_000, 2_000_000))?;
    // Group b stays where it is all the time.
    let client_b = site.lab.add_client("client-b", CLIENT_B)?;
    Lab::await_path_from(&client_b)?;
    let b = site.talk(&client_b, PORT + 1)?;
    b.mark();
    // It moves to fw1, and megabytes go through there: what fw2 knows of its windows is old.
    site.lab.heal(site.lab.node(1))?;
    site.await_address(1, OUTSIDE_VIP)?;
    let on_time = transfer.bytes();
    await_until("it goes on through fw1", LIMIT, || {
        Ok(transfer.bytes() > on_time + 6_000_000)
    })?;
    site.await_ready(2, 1, 2)?;
    assert!(!transfer.is_over(), "it is still under way");
    site.lab.cut(site.lab.node(1))?;
    site.await_address(2, OUTSIDE_VIP)?;
    let cut_at = transfer.bytes();
    await_until("it goes on through fw2", LIMIT, || {
        Ok(transfer.bytes() > cut_at + 6_000_000)
    })?;
    client.finish(transfer)?;
    site.assert_alive("group b", &[b.settle(RETURN)?]);
    Ok(())
}
