//! `commit`, `promote`, `demote`, `notify`, `flush` and `resync`: carried out by the daemon, and
//! reported here with what came of it.
//!
//! The daemon yields an object of which every field may be missing: `role` (of
//! [`Role`]), `term`, `commit` (a [`CommitStatus`]) and `flows` (how many were affected). A
//! bare [`CommitStatus`] is understood too.

use std::io::Write;

use serde::Deserialize;
use serde_json::Value;

use super::progress::Progress;
use super::{CliError, Exit, Place, text};
use crate::control::message::Request;
use crate::engine::status::{CommitStatus, Role};

/// A commit that leaves flows out of the kernel has not done what it was asked, and exits so,
/// whoever asked for it; the role has changed all the same.
pub(super) fn execute(
    name: &str,
    request: &Request,
    json: bool,
    place: &Place,
    out: &mut impl Write,
) -> Result<Exit, CliError> {
    let mut client = place.connect()?;
    let progress = match request {
        Request::Commit { .. } | Request::Promote | Request::Notify { .. } => {
            Some(Progress::show(place))
        }
        _ => None,
    };
    let called = client.call(request, |_| Ok(()));
    drop(progress);
    let value = called?;
    let outcome = Outcome::of(&value);
    if json {
        text::write_json(&value, out)?;
    } else {
        write!(out, "{}", outcome.render(name))?;
    }
    let failed = outcome.commit.as_ref().map_or(0, failed);
    Ok(if failed > 0 { Exit::Failed } else { Exit::Done })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    role: Option<Role>,
    term: Option<u64>,
    commit: Option<CommitStatus>,
    flows: Option<u64>,
}

impl Outcome {
    fn of(value: &Value) -> Self {
        if let Ok(commit) = CommitStatus::deserialize(value) {
            return Self {
                commit: Some(commit),
                ..Self::default()
            };
        }
        Self::deserialize(value).unwrap_or_default()
    }

    fn render(&self, name: &str) -> String {
        let mut text = String::new();
        if let Some(role) = self.role {
            text += role_word(role);
            if let Some(term) = self.term {
                text += &format!(", term {term}");
            }
            text.push('\n');
        }
        if let Some(commit) = &self.commit {
            text += &commit_lines(commit, |number| number.to_string());
        }
        if let Some(flows) = self.flows {
            text += &format!("{name}: {flows} flows\n");
        }
        if text.is_empty() {
            text = format!("{name}: done\n");
        }
        text
    }
}

pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Standby => "standby",
        Role::Promoting => "promoting",
        Role::Active => "active",
    }
}

/// How many flows came to which end, then a line for each reason why some did not make it.
pub(super) fn commit_lines(commit: &CommitStatus, number: impl Fn(u64) -> String) -> String {
    let mut text = format!(
        "{} flows: {} created, {} already there, {} replaced; {} failed; {} ms\n",
        number(commit.total),
        number(commit.created),
        number(commit.already),
        number(commit.replaced),
        number(failed(commit)),
        number(commit.elapsed_ms),
    );
    if commit.without_helper > 0 {
        text += &format!(
            "  {} created without the helper, which this kernel does not know\n",
            number(commit.without_helper)
        );
    }
    if commit.expired > 0 {
        text += &format!(
            "  {} left out: their owner has been silent for longer than they live\n",
            number(commit.expired)
        );
    }
    if commit.without_labels > 0 {
        text += &format!(
            "  {} created without their labels, which this kernel drops: no rule of this node uses \
             `ct label`\n",
            number(commit.without_labels)
        );
    }
    for group in &commit.failed {
        text += &format!("  {} failed: {}\n", number(group.flows), group.reason);
    }
    for missing in &commit.missing {
        text += &format!("  missing: {missing}\n");
    }
    text
}

fn failed(commit: &CommitStatus) -> u64 {
    commit.failed.iter().map(|group| group.flows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_commit_says_how_many_of_each_outcome() {
        let value = json!({
            "running": false, "elapsed_ms": 12, "total": 500, "created": 480, "already": 12,
            "replaced": 5, "without_helper": 2, "expired": 1,
            "failed": [{"reason": "the kernel's table is full", "flows": 3}],
        });
        let expected = "500 flows: 480 created, 12 already there, 5 replaced; 3 failed; 12 ms\n  \
                        2 created without the helper, which this kernel does not know\n  \
                        1 left out: their owner has been silent for longer than they live\n  \
                        3 failed: the kernel's table is full\n";

        assert_eq!(Outcome::of(&value).render("commit"), expected);
        let promoted = json!({"role": "active", "term": 4, "commit": value});
        assert_eq!(
            Outcome::of(&promoted).render("promote"),
            format!("active, term 4\n{expected}")
        );
    }

    #[test]
    fn what_yields_nothing_is_done_and_what_counts_flows_counts_them() {
        assert_eq!(Outcome::of(&Value::Null).render("demote"), "demote: done\n");
        assert_eq!(
            Outcome::of(&json!({"flows": 7})).render("flush local"),
            "flush local: 7 flows\n"
        );
    }
}
