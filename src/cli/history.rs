//! `history`: every promotion and demotion of a node, and how long each took.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::text::{self, grouped, span};
use super::{CliError, Exit};
use crate::control::client::Client;
use crate::control::message::Request;
use crate::engine::status::{PastTransition, Transition, TransitionKind};

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(
    args: &HistoryArgs,
    client: &mut Client,
    out: &mut impl Write,
) -> Result<Exit, CliError> {
    let value = client.call(&Request::History, |_| Ok(()))?;
    if args.json {
        text::write_json(&value, out)?;
        return Ok(Exit::Done);
    }
    let entries = value.get("entries").cloned().unwrap_or_default();
    let entries = Vec::<PastTransition>::deserialize(entries).map_err(CliError::Answer)?;
    for entry in &entries {
        write!(out, "{}", render(entry))?;
    }
    if entries.is_empty() {
        writeln!(out, "no promotion and no demotion since the last reboot")?;
    }
    if let Some(skipped @ 1..) = value.get("skipped").and_then(Value::as_u64) {
        writeln!(out, "{skipped} lines of the history could not be read")?;
    }
    Ok(Exit::Done)
}

/// When and what, then a line for each thing that is known of it.
fn render(entry: &PastTransition) -> String {
    let Transition {
        kind,
        trigger,
        term,
        peers,
        ..
    } = &entry.transition;
    let mut text = format!(
        "{}  {}, term {term}, by {trigger}\n",
        moment(entry.at_ms),
        kind_word(*kind)
    );
    for peer in peers {
        let active = if peer.active { "active, " } else { "" };
        let silent = span(peer.silent_ms);
        text += &format!("  peer {}  {active}heard {silent} before\n", peer.name);
    }
    if let Some(steps) = steps(&entry.transition) {
        text += &format!("  {steps}\n");
    }
    text
}

/// The steps of a transition that has a commit, in one line.
pub(super) fn steps(transition: &Transition) -> Option<String> {
    if transition.kind == TransitionKind::Demotion {
        return None;
    }
    let started = match transition.commit_started_ms {
        Some(ms) => format!("commit began after {}", span(ms)),
        None => "commit not begun".into(),
    };
    let done = match (transition.done_ms, &transition.failed) {
        (Some(ms), None) => format!("done after {}", span(ms)),
        (Some(ms), Some(why)) => format!("ended after {}: {why}", span(ms)),
        (None, _) => "not done".into(),
    };
    let flows = transition.commit.as_ref().map(|commit| {
        let failed: u64 = commit.failed.iter().map(|group| group.flows).sum();
        format!(
            "; {} flows: {} created, {} already there, {} replaced, {} failed",
            grouped(commit.total),
            grouped(commit.created),
            grouped(commit.already),
            grouped(commit.replaced),
            grouped(failed)
        )
    });
    Some(format!("{started}, {done}{}", flows.unwrap_or_default()))
}

pub(super) fn kind_word(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::Promotion => "promotion",
        TransitionKind::TakeOver => "take-over",
        TransitionKind::Demotion => "demotion",
    }
}

/// Milliseconds of Unix time as people write them, in UTC.
pub(super) fn moment(at_ms: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(at_ms));
    match at {
        // Later than the year 9999 is what the formatter refuses.
        Some(at) if at_ms < 253_402_300_800_000 => humantime::format_rfc3339_millis(at).to_string(),
        Some(_) | None => format!("{at_ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::status::{CommitStatus, PeerThen};

    pub(crate) fn promotion() -> PastTransition {
        PastTransition {
            at_ms: 1_795_579_514_088,
            run: "a".into(),
            transition: Transition {
                number: 1,
                kind: TransitionKind::Promotion,
                trigger: "fifo GROUP firewall MASTER".into(),
                term: 4,
                peers: vec![PeerThen {
                    name: "fw1".into(),
                    silent_ms: 340,
                    active: true,
                }],
                commit_started_ms: Some(1),
                done_ms: Some(1_240),
                commit: Some(CommitStatus {
                    total: 200_000,
                    created: 199_990,
                    already: 10,
                    ..CommitStatus::default()
                }),
                failed: None,
            },
        }
    }

    #[test]
    fn a_promotion_tells_who_was_silent_for_how_long_and_what_came_of_it() {
        assert_eq!(
            render(&promotion()),
            "2026-11-25T04:05:14.088Z  promotion, term 4, by fifo GROUP firewall MASTER\n  \
             peer fw1  active, heard 340 ms before\n  \
             commit began after 1 ms, done after 1.2 s; 200,000 flows: 199,990 created, 10 already \
             there, 0 replaced, 0 failed\n"
        );
    }

    #[test]
    fn what_has_not_ended_and_what_has_failed_say_so() {
        let mut running = promotion().transition;
        (running.done_ms, running.commit) = (None, None);
        assert_eq!(
            steps(&running).as_deref(),
            Some("commit began after 1 ms, not done")
        );
        running.done_ms = Some(20);
        running.failed = Some("this node was demoted".into());
        assert_eq!(
            steps(&running).as_deref(),
            Some("commit began after 1 ms, ended after 20 ms: this node was demoted")
        );
        running.kind = TransitionKind::Demotion;
        assert_eq!(steps(&running), None);
    }

    #[test]
    fn a_moment_beyond_all_calendars_is_a_number() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(u64::MAX), "18446744073709551615 ms");
    }
}
