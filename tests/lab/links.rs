//! Two links between two nodes: the first that works carries, whatever breaks where.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::harness::services::{Link, peer};
use crate::harness::wait::await_until;
use crate::harness::{Context as _, Result, bulk, turn};

/// The second link, over the inside segment.
const SECOND: &str = "[[link]]\ninterface = \"eth0\"\nmulticast = \"225.0.0.50:3780\"\n";
/// The first link as the status names it, and the second.
const NAMES: [&str; 2] = ["eth2 225.0.0.50:3780", "eth0 225.0.0.50:3780"];
/// A link is left 0.7 s after the last answer and taken again within a ping of 0.2 s; the rest is
/// for a busy machine.
const CHANGE_OVER: Duration = Duration::from_secs(5);
/// Flows that come at each look.
const STEP: u32 = 100;
/// Networks of made-up clients that one test may use.
const STEPS_MAX: u8 = 199;

/// A pair with two links, and flows that keep coming to its first node.
struct Pair {
    cluster: Cluster,
    step: u8,
}

impl Pair {
    fn start() -> Result<Self> {
        let cluster = Cluster::start(2, Link::Multicast, SECOND)?;
        let mut pair = Self { cluster, step: 0 };
        pair.await_carriers([0, 0])?;
        Ok(pair)
    }

    /// Waits until fw1 and fw2 name these links as carrying, while flows come and go.
    fn await_carriers(&mut self, wanted: [usize; 2]) -> Result<()> {
        let names = wanted.map(|at| NAMES[at]);
        let what = format!("the carriers are {names:?}");
        await_until(&what, CHANGE_OVER, || {
            if self.step < STEPS_MAX {
                let kernel = self.cluster.node(1).namespace();
                bulk::create(kernel, self.step, STEP)?;
                if self.step % 3 == 2 {
                    bulk::delete(kernel, self.step, STEP)?;
                }
                self.step += 1;
            }
            let carriers = [self.carrier(1, "fw2")?, self.carrier(2, "fw1")?];
            Ok(carriers == names.map(|name| Some(name.to_owned())))
        })
        .with_context(|| {
            format!(
                "fw1: {:?}, fw2: {:?}",
                self.carrier(1, "fw2"),
                self.carrier(2, "fw1")
            )
        })
    }

    fn carrier(&self, index: usize, of: &str) -> Result<Option<String>> {
        let status = self.cluster.daemon(index).status()?;
        let link = peer(&status, of).map(|peer| &peer["link"]);
        Ok(link.and_then(|link| Some(link.as_str()?.to_owned())))
    }

    /// Both hold what the other tracks, and it has been proven again, without a full pass.
    fn await_equal(&self) -> Result<()> {
        self.cluster.await_replicas(2)?;
        self.cluster.await_replicas(1)?;
        await_until("the replica is in sync", CHANGE_OVER, || {
            let status = self.cluster.daemon(2).status()?;
            Ok(peer(&status, "fw1").is_some_and(|peer| peer["replica"]["in_sync"] == true))
        })?;
        let stats = self.cluster.daemon(1).ask(&["stats"])?;
        let passes = stats
            .lines()
            .find_map(|line| line.strip_prefix("peer.fw2.sent.passes"))
            .context("a counter of full passes")?;
        assert_eq!(passes.trim(), "1", "only what was under way is sent again");
        Ok(())
    }
}

#[test]
fn a_broken_switch_is_noticed_and_the_other_link_carries_until_it_is_mended() -> Result<()> {
    let test = "a_broken_switch_is_noticed_and_the_other_link_carries_until_it_is_mended";
    let Some(_turn) = turn(test) else {
        return Ok(());
    };
    let mut pair = Pair::start()?;
    pair.await_equal()?;
    pair.cluster.lab().segment("sync", "down")?;
    for index in [1, 2] {
        let kernel = pair.cluster.node(index).namespace();
        let shown = kernel.output("ip", &["link", "show", "dev", "eth2"])?;
        assert!(shown.contains("LOWER_UP"), "nobody sees it here: {shown}");
    }
    pair.await_carriers([1, 1])?;
    pair.await_equal()?;

    pair.cluster.lab().segment("sync", "up")?;
    pair.await_carriers([0, 0])?;
    pair.await_equal()
}

#[test]
fn an_interface_that_is_down_is_left_and_taken_again() -> Result<()> {
    let Some(_turn) = turn("an_interface_that_is_down_is_left_and_taken_again") else {
        return Ok(());
    };
    let mut pair = Pair::start()?;
    pair.cluster.node(1).namespace().ip("link set eth2 down")?;
    pair.await_carriers([1, 1])?;
    pair.await_equal()?;

    pair.cluster.node(1).namespace().ip("link set eth2 up")?;
    pair.await_carriers([0, 0])?;
    pair.await_equal()
}

/// What fw2 no longer hears over the first link.
const DEAF: &str = r#"
table inet deaf {
    chain arriving {
        type filter hook prerouting priority -400;
        iifname "eth2" drop
    }
}
"#;

#[test]
fn a_link_that_is_broken_in_one_direction_carries_the_other() -> Result<()> {
    let test = "a_link_that_is_broken_in_one_direction_carries_the_other";
    let Some(_turn) = turn(test) else {
        return Ok(());
    };
    let mut pair = Pair::start()?;
    let deaf = pair.cluster.node(2).namespace();
    deaf.feed("nft", &["-f", "-"], DEAF)?;
    pair.await_carriers([1, 0])?;
    pair.await_equal()?;

    let deaf = pair.cluster.node(2).namespace();
    deaf.output("nft", &["delete", "table", "inet", "deaf"])?;
    pair.await_carriers([0, 0])?;
    pair.await_equal()
}
