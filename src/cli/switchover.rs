//! `switchover`: another node becomes active, planned, and nothing is lost.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::text::span;
use super::{CliError, Exit};
use crate::control::client::Client;
use crate::control::message::Request;
use crate::engine::status::Switchover;

#[derive(Debug, Args)]
pub(super) struct SwitchoverArgs {
    /// How long it may take, in all
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    timeout: Duration,
}

/// A duration that is not over at once.
fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(timeout) if timeout >= Duration::from_secs(1) => Ok(timeout),
        Ok(_) => Err("no switchover is done within a second: give it more".into()),
        Err(error) => Err(format!(
            "{error}: a time is a number with a unit, as in \"30s\""
        )),
    }
}

pub(super) fn execute(
    args: &SwitchoverArgs,
    client: &mut Client,
    out: &mut impl Write,
) -> Result<Exit, CliError> {
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let value = client.call(&Request::Switchover { timeout_ms }, |_| Ok(()))?;
    let done = Switchover::deserialize(&value).map_err(CliError::Answer)?;
    write!(out, "{}", render(&done))?;
    Ok(Exit::Done)
}

fn render(done: &Switchover) -> String {
    let how = if done.let_go {
        "keepalived was told to let go, as nobody preempts"
    } else {
        "the peer took the addresses from us"
    };
    format!(
        "{} is active, term {}; this node is standby\n  \
         {:>8}  until the peers had all our changes\n  \
         {:>8}  until this node was standby: {how}\n  \
         {:>8}  until the peer was active\n",
        done.peer,
        done.term,
        span(done.drained_ms),
        span(done.demoted_ms),
        span(done.active_ms),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switchover_tells_who_is_active_and_what_took_how_long() {
        let done = Switchover {
            peer: "fw2".into(),
            term: 5,
            drained_ms: 12,
            demoted_ms: 1_020,
            active_ms: 180,
            let_go: true,
        };
        assert_eq!(
            render(&done),
            "fw2 is active, term 5; this node is standby\n     \
             12 ms  until the peers had all our changes\n     \
             1.0 s  until this node was standby: keepalived was told to let go, as nobody preempts\n    \
             180 ms  until the peer was active\n"
        );
    }

    #[test]
    fn a_time_has_a_unit_and_is_no_less_than_a_second() {
        assert_eq!(timeout("30s"), Ok(Duration::from_secs(30)));
        for wrong in ["30", "0s", "soon"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }
}
