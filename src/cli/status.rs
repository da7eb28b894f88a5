//! `status`: one screen that a tired person understands, JSON for machines, and a yes or no for
//! scripts.

use std::io::Write;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::history::{moment, steps};
use super::outcome::{commit_lines, role_word};
use super::text::{self, Colour, Tone, counted, grouped, span};
use super::{CliError, Exit, progress};
use crate::control::client::Client;
use crate::control::message::Request;
use crate::engine::status::{
    CommitStatus, GateState, GateStatus, HotStatus, PastTransition, PathState, PeerState,
    PeerStatus, ReplicaStatus, Role, Status, StrangerStatus,
};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// As one JSON object
    #[arg(long)]
    json: bool,
    /// One line; succeeds only if the node is ready
    #[arg(long)]
    check: bool,
}

pub(super) fn execute(
    args: StatusArgs,
    client: &mut Client,
    out: &mut impl Write,
    colour: Colour,
) -> Result<Exit, CliError> {
    let value = client.call(&Request::Status, |_| Ok(()))?;
    if args.json {
        // As it came: a daemon of another version may say more than we know of, or less.
        text::write_json(&value, out)?;
        let ready = value.get("ready").and_then(Value::as_bool) == Some(true);
        let splits = value.get("split_brain").and_then(Value::as_array);
        let is_split = splits.is_some_and(|splits| !splits.is_empty());
        return Ok(verdict(args.check, ready && !is_split));
    }
    let status = Status::deserialize(&value).map_err(CliError::Answer)?;
    if args.check {
        writeln!(out, "{}", check_line(&status))?;
    } else {
        write!(out, "{}", render(&status, colour))?;
    }
    Ok(verdict(
        args.check,
        status.ready && status.split_brain.is_empty(),
    ))
}

/// Only a check fails for what it finds.
fn verdict(check: bool, ready: bool) -> Exit {
    if check && !ready {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn check_line(status: &Status) -> String {
    let ready = match (status.ready, &status.cause) {
        _ if !status.split_brain.is_empty() => {
            format!("split brain: {}", status.split_brain[0].cause)
        }
        (true, _) => "ready".to_owned(),
        (false, Some(cause)) => format!("not ready: {cause}"),
        (false, None) => "not ready".to_owned(),
    };
    format!("{}: {}, {ready}", status.node, role_word(status.role))
}

fn render(status: &Status, colour: Colour) -> String {
    let mut text = headline(status, colour);
    if status.insecure {
        let word = colour.paint(Tone::Bad, "INSECURE");
        text += &format!("{word}: the links are neither encrypted nor authenticated\n");
    }
    for split in &status.split_brain {
        let word = colour.paint(Tone::Bad, "SPLIT BRAIN");
        let since = span(split.since_ms);
        text += &format!("{word} for {since}: {}\n", split.cause);
    }
    text.push('\n');
    text += &own_lines(status, colour);
    for link in &status.links {
        text += &format!(
            "link    {}: {} sent, {} received",
            link.name,
            grouped(link.sent),
            grouped(link.received)
        );
        if link.send_errors > 0 {
            let errors = format!("{} refused by the system", grouped(link.send_errors));
            text += &format!(", {}", colour.paint(Tone::Bad, &errors));
        }
        text.push('\n');
    }
    if let Some(gate) = &status.gate {
        text += &gate_line(gate, colour);
    }
    text += &status
        .hot
        .as_ref()
        .map_or_else(String::new, |hot| hot_block(hot, colour));
    text += &match &status.commit {
        Some(commit) => commit_block(commit),
        None => "commit  none since the daemon started\n".to_owned(),
    };
    if let Some(last) = &status.last_promotion {
        text += &last_promotion_line(last);
    }
    text.push('\n');
    if status.peers.is_empty() {
        let nobody = colour.paint(Tone::Bad, "no peer");
        text += &format!("{nobody} has been heard since the daemon started\n");
    }
    for peer in &status.peers {
        text += &peer_block(peer, colour);
    }
    for StrangerStatus { name, cause } in &status.strangers {
        let word = colour.paint(Tone::Bad, "STRANGER");
        text += &format!("{word} {name}  {cause}\n");
    }
    text
}

/// Hot standby: what the kernel holds of the peers.
fn hot_block(hot: &HotStatus, colour: Colour) -> String {
    let state = match (hot.complete, hot.pending) {
        (true, 0) => colour.paint(Tone::Good, "complete"),
        (true, pending) => format!("complete, {} on the way", grouped(pending)),
        (false, pending) => format!("not complete, {} on the way", grouped(pending)),
    };
    let mut text = format!(
        "hot     {} of the peers in the kernel, {state}; {} re-armed\n",
        counted(hot.flows, "flow", "flows"),
        grouped(hot.rearmed)
    );
    for failed in &hot.refused {
        let flows = counted(failed.flows, "flow", "flows");
        let word = colour.paint(Tone::Bad, &format!("{flows} refused"));
        text += &format!("        {word}: {}\n", failed.reason);
    }
    text
}

/// Who this is, and whether anything is wrong: the line that has to be enough.
fn headline(status: &Status, colour: Colour) -> String {
    let role = colour.paint(Tone::Bold, role_word(status.role));
    let ready = if status.ready {
        let meaning = match status.role {
            Role::Standby => "it can take over now",
            Role::Promoting => "the flows are on their way into the kernel",
            Role::Active => "it owns its flows",
        };
        format!("{}: {meaning}", colour.paint(Tone::Good, "ready"))
    } else {
        let cause = status.cause.as_deref().unwrap_or("no cause is given");
        format!("{}: {cause}", colour.paint(Tone::Bad, "NOT READY"))
    };
    format!("{}  {role}, term {}, {ready}\n", status.node, status.term)
}

fn own_lines(status: &Status, colour: Colour) -> String {
    let (local, kernel) = (&status.local, &status.kernel);
    let mut text = format!(
        "local   {} replicate, of {} tracked",
        counted(local.flows, "flow", "flows"),
        grouped(local.tracked)
    );
    if local.tombstones > 0 {
        text += &format!(
            "; the end of {} still on its way to a peer",
            match local.tombstones {
                1 => "1 is".to_owned(),
                many => format!("{} are", grouped(many)),
            }
        );
    }
    let state = match (kernel.complete, kernel.dirty) {
        (true, false) => colour.paint(Tone::Good, "complete"),
        (true, true) => colour.paint(Tone::Bad, "repairing: events were missed"),
        (false, _) => colour.paint(Tone::Bad, "reading the table for the first time"),
    };
    text += &format!(
        "\nkernel  {state}; {}, {}\n",
        counted(kernel.events, "event", "events"),
        counted(kernel.overruns, "overrun", "overruns")
    );
    text
}

fn gate_line(gate: &GateStatus, colour: Colour) -> String {
    let since = span(gate.since_ms);
    let state = match gate.state {
        GateState::Open => format!("open for {since}"),
        GateState::Closed => format!("closed for {since}"),
        GateState::Unavailable => {
            let word = colour.paint(Tone::Bad, "NOT THERE");
            format!("{word} for {since}, everything passes")
        }
    };
    let dropped = counted(gate.dropped, "packet", "packets");
    format!("gate    {state}: {}; {dropped} dropped\n", gate.why)
}

fn commit_block(commit: &CommitStatus) -> String {
    let lines = commit_lines(commit, grouped).replace("\n  ", "\n          ");
    if commit.running {
        format!("commit  running: {}; {lines}", progress::line(commit))
    } else {
        format!("commit  {lines}")
    }
}

fn last_promotion_line(last: &PastTransition) -> String {
    let transition = &last.transition;
    format!(
        "promoted {}, term {}, by {}; {}\n",
        moment(last.at_ms),
        transition.term,
        transition.trigger,
        steps(transition).unwrap_or_default()
    )
}

fn peer_block(peer: &PeerStatus, colour: Colour) -> String {
    let name = colour.paint(Tone::Bold, &peer.name);
    let tone = match peer.state {
        PeerState::Streaming => Tone::Good,
        PeerState::Greeting | PeerState::Joining | PeerState::Silent | PeerState::Incompatible => {
            Tone::Bad
        }
    };
    let state = colour.paint(tone, peer_state_words(peer.state));
    let link = match &peer.link {
        Some(link) => format!(" over {link}"),
        None => String::new(),
    };
    let heard = span(peer.silent_ms);
    let mut text = format!("peer {name}  {state}{link}, heard {heard} ago\n");
    if let Some(cause) = &peer.cause {
        text += &format!("  why      {cause}\n");
    }
    // One link needs no list: the head says what it does.
    if peer.links.len() > 1 {
        for path in &peer.links {
            text += &format!(
                "  link     {} {}\n",
                path.name,
                path_words(path.state, colour)
            );
        }
    }
    text += &format!("  replica  {}\n", replica_words(&peer.replica, colour));
    text += &match (peer.lag_records, peer.lag_ms) {
        (0, 0) => "  to it    it has all our changes\n".to_owned(),
        (records, ms) => format!("  to it    {}\n", behind(records, ms)),
    };
    text += &match (peer.replica.lag_records, peer.replica.lag_ms) {
        (0, 0) => "  from it  it has sent all its changes\n".to_owned(),
        (records, ms) => format!("  from it  {}\n", behind(records, ms)),
    };
    text
}

fn path_words(state: PathState, colour: Colour) -> String {
    match state {
        PathState::Carrying => colour.paint(Tone::Good, "carries"),
        PathState::Answers => "answers".into(),
        PathState::Silent => colour.paint(Tone::Bad, "SILENT"),
    }
}

fn peer_state_words(state: PeerState) -> &'static str {
    match state {
        PeerState::Greeting => "greeting",
        PeerState::Joining => "joining",
        PeerState::Streaming => "streaming",
        PeerState::Silent => "SILENT",
        PeerState::Incompatible => "INCOMPATIBLE",
    }
}

/// What we hold, and what is known about it: only a comparison proves that it is right.
fn replica_words(replica: &ReplicaStatus, colour: Colour) -> String {
    let flows = counted(replica.flows, "flow", "flows");
    let proof = match (replica.in_sync, replica.verified_age_ms) {
        (true, Some(age)) => {
            let word = colour.paint(Tone::Good, "in sync");
            format!("{word}, proved {} ago", span(age))
        }
        (true, None) => colour.paint(Tone::Good, "in sync"),
        (false, Some(age)) => {
            let word = colour.paint(Tone::Bad, "not in sync");
            format!("{word}, last proved {} ago", span(age))
        }
        (false, None) => "not proved to be in sync yet".to_owned(),
    };
    format!("{flows}, {proof}")
}

fn behind(records: u64, ms: u64) -> String {
    format!(
        "up to {} behind, the oldest by {}",
        counted(records, "change", "changes"),
        span(ms)
    )
}

#[cfg(test)]
mod tests;
