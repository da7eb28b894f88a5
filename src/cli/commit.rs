//! `commit` and `promote`: what they do, and with `--dry-run` what they would do.

use std::io::Write;

use clap::Args;
use serde::Deserialize;

use super::text::{self, counted, grouped, span};
use super::{CliError, Exit, Place, outcome};
use crate::control::message::Request;
use crate::engine::status::{Foreseen, ForeseenRoom};

#[derive(Debug, Args)]
pub(super) struct CommitArgs {
    /// Only the replica of this peer; may be given several times
    #[arg(long, value_name = "NAME")]
    from: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

impl CommitArgs {
    pub(super) fn execute(self, place: &Place, out: &mut impl Write) -> Result<Exit, CliError> {
        let Self { from, how } = self;
        if how.dry_run {
            return foresee("commit", from, how.json, place, out);
        }
        outcome::execute("commit", &Request::Commit { from }, how.json, place, out)
    }
}

impl PromoteArgs {
    pub(super) fn execute(self, place: &Place, out: &mut impl Write) -> Result<Exit, CliError> {
        if self.how.dry_run {
            return foresee("promotion", Vec::new(), self.how.json, place, out);
        }
        outcome::execute("promote", &Request::Promote, self.how.json, place, out)
    }
}

/// A dry run has done what it was asked, whatever it foresees.
fn foresee(
    what: &str,
    from: Vec<String>,
    json: bool,
    place: &Place,
    out: &mut impl Write,
) -> Result<Exit, CliError> {
    let value = place
        .connect()?
        .call(&Request::DryRun { from }, |_| Ok(()))?;
    if json {
        text::write_json(&value, out)?;
    } else {
        let foreseen = Foreseen::deserialize(&value).map_err(CliError::Answer)?;
        write!(out, "{}", render(what, &foreseen))?;
    }
    Ok(Exit::Done)
}

fn render(what: &str, foreseen: &Foreseen) -> String {
    let Foreseen {
        total,
        create,
        already,
        replace,
        expired,
        sources,
        conflicts,
        room,
        missing,
        estimated_ms,
    } = foreseen;
    let mut text = format!(
        "dry run, nothing was changed: a {what} now would go through {}\n",
        counted(*total, "flow", "flows")
    );
    let line = |create: u64, already: u64, replace: u64, expired: u64| {
        let mut line = format!(
            "{} to create, {} already there, {} to replace",
            grouped(create),
            grouped(already),
            grouped(replace)
        );
        if expired > 0 {
            line += &format!(
                ", {} to leave out: their owner has been silent for longer than they live",
                grouped(expired)
            );
        }
        line
    };
    text += &format!(
        "flows     {}\n",
        line(*create, *already, *replace, *expired)
    );
    if sources.is_empty() {
        text += "from      nobody: there is no replica to take flows from\n";
    }
    for source in sources {
        text += &format!(
            "from {}  {}: {}\n",
            source.peer,
            counted(source.flows, "flow", "flows"),
            line(
                source.create,
                source.already,
                source.replace,
                source.expired
            )
        );
    }
    for conflict in conflicts {
        text += &format!(
            "in place  {} {}\n",
            grouped(conflict.flows),
            conflict.reason
        );
    }
    text += &match room {
        Some(room) => room_line(room, *create),
        None => "room      not known\n".to_owned(),
    };
    if missing.is_empty() {
        text += "missing   nothing that is known\n";
    }
    for missing in missing {
        text += &format!("MISSING   {missing}\n");
    }
    text += &match estimated_ms {
        Some(ms) => format!("time      {}, as fast as the last commit\n", span(*ms)),
        None => "time      not known: no commit of a hundred flows or more yet\n".to_owned(),
    };
    text
}

fn room_line(room: &ForeseenRoom, create: u64) -> String {
    let used = format!(
        "{} of net.netfilter.nf_conntrack_max, {}, are used",
        grouped(room.count),
        grouped(room.max)
    );
    match room.wanted_max {
        None => format!("room      {used}; {} more fit\n", grouped(create)),
        Some(wanted) => format!(
            "NO ROOM   {used}; {} would be left out; run `sysctl -w \
             net.netfilter.nf_conntrack_max={wanted}` on every node\n",
            counted(room.left_out, "flow", "flows")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::status::{ForeseenConflict, ForeseenSource};

    #[test]
    fn a_dry_run_says_what_would_be_and_what_is_missing() {
        let foreseen = Foreseen {
            total: 1234,
            create: 1200,
            already: 20,
            replace: 10,
            expired: 4,
            sources: vec![ForeseenSource {
                peer: "fw1".into(),
                flows: 1234,
                create: 1200,
                already: 20,
                replace: 10,
                expired: 4,
            }],
            conflicts: vec![ForeseenConflict {
                reason: "entries of an earlier term".into(),
                flows: 10,
            }],
            room: Some(ForeseenRoom {
                max: 1000,
                count: 100,
                left_out: 300,
                wanted_max: Some(2000),
            }),
            missing: vec!["no chain".into()],
            estimated_ms: Some(1500),
        };
        let counts = "1,200 to create, 20 already there, 10 to replace, 4 to leave out: their owner \
                      has been silent for longer than they live";
        assert_eq!(
            render("promotion", &foreseen),
            format!(
                "dry run, nothing was changed: a promotion now would go through 1,234 flows\n\
                 flows     {counts}\n\
                 from fw1  1,234 flows: {counts}\n\
                 in place  10 entries of an earlier term\n\
                 NO ROOM   100 of net.netfilter.nf_conntrack_max, 1,000, are used; 300 flows would \
                 be left out; run `sysctl -w net.netfilter.nf_conntrack_max=2000` on every node\n\
                 MISSING   no chain\n\
                 time      1.5 s, as fast as the last commit\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_said_to_be() {
        let text = render("commit", &Foreseen::default());
        for line in [
            "from      nobody",
            "room      not known",
            "missing   nothing that is known",
            "time      not known",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
