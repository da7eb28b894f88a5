//! The end of the story in a few lines: who lived, and what happened in which millisecond.

use std::time::Duration;

use serde_json::Value;

use super::Peer;
use super::harness::Result;
use super::harness::replication::Replication;
use super::harness::services::number;
use super::harness::traffic::Outcome;
use super::view::put;

/// One moment after the cut.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Since the cut; `None` if it never came.
    pub(crate) after: Option<Duration>,
    /// What happened.
    pub(crate) what: String,
}

/// Prints the verdict; true if what should happen happened.
pub(crate) fn pronounce(
    peer: Peer,
    outcome: &Outcome,
    every: Duration,
    mut moments: Vec<Moment>,
) -> bool {
    let all = outcome.alive == outcome.connections;
    let mut text = String::from("\n");
    if all {
        text.push_str(&format!("  All {} connections lived.", outcome.connections));
    } else {
        text.push_str(&format!(
            "  {} of {} connections lived; {} were reset, {} fell silent.",
            outcome.alive, outcome.connections, outcome.reset, outcome.silent
        ));
    }
    if outcome.alive > 0 {
        text.push_str(&format!(
            " Longest stall {:.2} s (an answer comes every {} ms).",
            outcome.longest_stall.as_secs_f64(),
            every.as_millis()
        ));
    }
    text.push_str("\n\n");
    moments.sort_by_key(|moment| moment.after.unwrap_or(Duration::MAX));
    for Moment { after, what } in &moments {
        let after = after.map_or_else(
            || "      –".to_owned(),
            |after| format!("{:>7}", after.as_millis()),
        );
        text.push_str(&format!("  {after} ms  {what}\n"));
    }
    let right = match peer {
        Peer::Ctsyncd => all,
        // A comparison: what it does is what it does.
        Peer::Conntrackd => true,
        // Without replication somebody who lives would mean that the demo proves nothing.
        Peer::None => outcome.alive == 0,
    };
    if peer == Peer::None && right {
        text.push_str("\n  As it must be: without replication every connection dies.\n");
    }
    text.push('\n');
    put(&text);
    right
}

/// What fw2 did when it was told to take over, in words.
pub(crate) fn takeover(replication: &Replication) -> Result<String> {
    Ok(match replication {
        Replication::Ctsyncd([_, two]) => committed(&two.status()?),
        Replication::Conntrackd { .. } => "fw2's kernel has the flows (conntrackd -c)".to_owned(),
        Replication::Nothing => "fw2's kernel never has the flows: nobody told it".to_owned(),
    })
}

/// The outcome of the last commit, from a status.
fn committed(status: &Value) -> String {
    let commit = |field: &str| number(status, &format!("/commit/{field}")).unwrap_or(0);
    let failed: u64 = status["commit"]["failed"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|failed| failed["flows"].as_u64())
        .sum();
    let mut text = format!(
        "fw2's kernel has the flows: commit took {} ms, {} created",
        commit("elapsed_ms"),
        commit("created")
    );
    for (flows, what) in [
        (commit("replaced"), "replaced"),
        (commit("already"), "already right"),
        (failed, "failed"),
    ] {
        if flows > 0 {
            text.push_str(&format!(", {flows} {what}"));
        }
    }
    text
}
