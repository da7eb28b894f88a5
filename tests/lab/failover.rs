//! keepalived moves the addresses, as `conf/keepalived.conf` says, and real connections go on.

use std::time::Duration;

use crate::cluster::{CONVERGE, Cluster};
use crate::harness::process::Process;
use crate::harness::services::{Link, Notify, keepalived};
use crate::harness::traffic::{Kind, Outcome, Spec, Traffic};
use crate::harness::wait::await_until;
use crate::harness::{Result, turn};

/// Connections, half of them over IPv6.
pub(crate) const CONNECTIONS: usize = 120;
/// How long connections get to come back: longer than the client's own timer waits.
const RETURN: Duration = Duration::from_secs(8);
const LIMIT: Duration = Duration::from_secs(15);

/// A pair with keepalived, the first node active.
pub(crate) struct Pair {
    pub(crate) traffic: Traffic,
    pub(crate) keepalived: Vec<Process>,
    pub(crate) cluster: Cluster,
}

impl Pair {
    fn start(notify: Notify) -> Result<Self> {
        Self::start_with(notify, "", |_| Ok(()))
    }

    /// The same with further lines of configuration, and something done before there is traffic.
    pub(crate) fn start_with(
        notify: Notify,
        more: &str,
        prepare: impl FnOnce(&Cluster) -> Result<()>,
    ) -> Result<Self> {
        let cluster = Cluster::start(2, Link::Multicast, more)?;
        prepare(&cluster)?;
        let mut running = vec![keepalived(cluster.node(1), notify)?];
        await_until("fw1 takes the addresses", LIMIT, || {
            cluster.node(1).has_address()
        })?;
        running.push(keepalived(cluster.node(2), notify)?);
        await_until("fw2 becomes standby", LIMIT, || {
            Ok(running[1].has_said("Entering BACKUP STATE"))
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
        let pair = Self {
            traffic,
            keepalived: running,
            cluster,
        };
        pair.await_standby(1, 2)?;
        Ok(pair)
    }

    /// Waits until `standby` holds what `active` tracks.
    pub(crate) fn await_standby(&self, active: usize, standby: usize) -> Result<()> {
        let name = &self.cluster.node(active).name;
        let connections = u64::try_from(CONNECTIONS)?;
        self.cluster
            .daemon(active)
            .await_streaming(&self.cluster.node(standby).name)?;
        await_until("the standby holds the connections", CONVERGE, || {
            let held = self.cluster.daemon(standby).replica_flows(name)?;
            Ok(held >= connections && held == self.cluster.daemon(active).local_flows()?)
        })
    }

    /// Pulls the cables of the active node and looks what becomes of the connections.
    pub(crate) fn cut(&self, active: usize) -> Result<Outcome> {
        self.cluster.lab().cut(self.cluster.node(active))?;
        self.traffic.mark();
        self.traffic.settle(RETURN)
    }
}

#[track_caller]
fn assert_all_alive(outcome: &Outcome, pair: &Pair) {
    assert_eq!(
        outcome.alive,
        CONNECTIONS,
        "{outcome:?}\nkeepalived on fw2:\n{}",
        pair.keepalived[1].text()
    );
}

#[test]
fn failover_keeps_every_translated_connection() -> Result<()> {
    let Some(_turn) = turn("failover_keeps_every_translated_connection") else {
        return Ok(());
    };
    let pair = Pair::start(Notify::Ctsyncd)?;
    let outcome = pair.cut(1)?;
    assert_all_alive(&outcome, &pair);
    assert!(
        outcome.longest_stall < Duration::from_secs(2),
        "{outcome:?}"
    );
    let status = pair.cluster.daemon(2).status()?;
    assert_eq!(status["role"], "active", "{status}");
    Ok(())
}

#[test]
fn the_same_failover_without_commit_loses_them() -> Result<()> {
    let Some(_turn) = turn("the_same_failover_without_commit_loses_them") else {
        return Ok(());
    };
    let pair = Pair::start(Notify::Nobody)?;
    let outcome = pair.cut(1)?;
    assert!(
        pair.cluster.node(2).has_address()?,
        "keepalived did its part"
    );
    assert_eq!(outcome.alive, 0, "{outcome:?}");
    Ok(())
}

#[test]
fn failback_keeps_them_too() -> Result<()> {
    let Some(_turn) = turn("failback_keeps_them_too") else {
        return Ok(());
    };
    let pair = Pair::start(Notify::Ctsyncd)?;
    let there = pair.cut(1)?;
    assert_all_alive(&there, &pair);
    // fw1 comes back with the entries it had, whose windows are old by now.
    pair.cluster.lab().heal(pair.cluster.node(1))?;
    pair.await_standby(2, 1)?;
    await_until("fw1 is standby", LIMIT, || {
        Ok(pair.cluster.daemon(1).status()?["role"] == "standby")
    })?;
    await_until("fw1 gave the addresses up", LIMIT, || {
        Ok(!pair.cluster.node(1).has_address()?)
    })?;
    let back = pair.cut(2)?;
    assert!(pair.cluster.node(1).has_address()?);
    assert_all_alive(&back, &pair);
    Ok(())
}

#[test]
fn orderly_stop_of_keepalived_keeps_them() -> Result<()> {
    let Some(_turn) = turn("orderly_stop_of_keepalived_keeps_them") else {
        return Ok(());
    };
    let mut pair = Pair::start(Notify::Ctsyncd)?;
    pair.traffic.mark();
    // keepalived says goodbye with priority 0, so that the other node takes over at once.
    drop(pair.keepalived.remove(0));
    await_until("fw2 takes the addresses", LIMIT, || {
        pair.cluster.node(2).has_address()
    })?;
    let outcome = pair.traffic.settle(RETURN)?;
    assert_eq!(outcome.alive, CONNECTIONS, "{outcome:?}");
    Ok(())
}
