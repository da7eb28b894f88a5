//! The rows: a table for people, lines of JSON for machines.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::harness::traffic::Outcome;
use super::harness::{Context as _, Result};
use super::site::{Times, millis};
use super::{Mode, Ruleset};

/// What became of the connections of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Survival {
    /// All.
    pub(crate) connections: usize,
    /// Went on.
    pub(crate) alive: usize,
    /// Ended by a reset or an error.
    pub(crate) reset: usize,
    /// Were not answered any more.
    pub(crate) silent: usize,
    /// Longest stall of one that went on, milliseconds.
    pub(crate) stall_ms: Option<u64>,
}

impl Survival {
    /// From an outcome of the traffic.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        Self {
            connections: outcome.connections,
            alive: outcome.alive,
            reset: outcome.reset,
            silent: outcome.silent,
            stall_ms: (outcome.alive > 0).then(|| millis(outcome.longest_stall)),
        }
    }

    /// Survivors and longest stall, for the table.
    fn cell(self) -> String {
        let stall = self
            .stall_ms
            .map_or_else(|| "–".to_owned(), |stall| stall.to_string());
        format!("{}/{} {stall}", self.alive, self.connections)
    }
}

/// The kinds of connections.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Kinds {
    pub(crate) tcp4: Survival,
    pub(crate) tcp6: Survival,
    pub(crate) udp: Option<Survival>,
    pub(crate) ftp: Option<Survival>,
}

/// One line of the result. Times are milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// `failover`, `failover 3` or `switchover`.
    what: String,
    mode: &'static str,
    flows: u32,
    ruleset: &'static str,
    /// From the cut to keepalived's MASTER on the standby.
    detected_ms: Option<u64>,
    commit_ms: Option<u64>,
    /// From the cut until the standby's kernel had all flows; 0 if it had them before.
    filled_ms: Option<u64>,
    #[serde(flatten)]
    kinds: Kinds,
    /// Requests sent and lost, and how long the command took; of a switchover only.
    requests: Option<u64>,
    lost: Option<u64>,
    took_ms: Option<u64>,
    /// Why it could not be measured.
    error: Option<String>,
}

impl Row {
    /// A row without times.
    pub(crate) fn new(what: &str, mode: Mode, flows: u32, ruleset: Ruleset, kinds: Kinds) -> Self {
        Self {
            what: what.to_owned(),
            mode: mode.name(),
            flows,
            ruleset: ruleset.name(),
            detected_ms: None,
            commit_ms: None,
            filled_ms: None,
            kinds,
            requests: None,
            lost: None,
            took_ms: None,
            error: None,
        }
    }

    /// With the times of a failover.
    pub(crate) fn with_times(self, times: Times) -> Self {
        Self {
            detected_ms: times.detected,
            commit_ms: times.commit,
            filled_ms: times.filled,
            ..self
        }
    }

    /// With the requests of a switchover.
    pub(crate) fn with_requests(self, requests: u64, lost: u64, took_ms: u64) -> Self {
        Self {
            requests: Some(requests),
            lost: Some(lost),
            took_ms: Some(took_ms),
            ..self
        }
    }

    fn cells(&self) -> Vec<String> {
        let shown =
            |number: Option<u64>| number.map_or_else(|| "–".to_owned(), |it| it.to_string());
        let mut cells = vec![
            self.what.clone(),
            self.mode.to_owned(),
            self.flows.to_string(),
            self.ruleset.to_owned(),
        ];
        if let Some(error) = &self.error {
            let words: Vec<_> = error.split_whitespace().collect();
            cells.push(words.join(" ").chars().take(ERROR_MAX).collect());
            return cells;
        }
        cells.extend([self.detected_ms, self.commit_ms, self.filled_ms].map(shown));
        let Kinds {
            tcp4,
            tcp6,
            udp,
            ftp,
        } = self.kinds;
        cells.extend(
            [Some(tcp4), Some(tcp6), udp, ftp]
                .map(|kind| kind.map_or_else(|| "–".to_owned(), Survival::cell)),
        );
        cells.extend([self.requests, self.lost, self.took_ms].map(shown));
        cells
    }
}

/// The heads of the columns. A kind's cell is who went on, of how many, and the longest stall in ms.
const HEADS: [&str; 14] = [
    "what",
    "mode",
    "flows",
    "rules",
    "VRRP ms",
    "commit ms",
    "filled ms",
    "TCP/IPv4",
    "TCP/IPv6",
    "UDP",
    "FTP",
    "requests",
    "lost",
    "took ms",
];

/// Letters shown of why a row is missing; the line of JSON has all of it.
const ERROR_MAX: usize = 240;

/// All rows so far.
#[derive(Debug)]
pub(crate) struct Report {
    json: Option<PathBuf>,
    rows: Vec<Row>,
}

impl Report {
    /// Nothing yet; rows go to `json` as well.
    pub(crate) fn new(json: Option<PathBuf>) -> Self {
        Self {
            json,
            rows: Vec::new(),
        }
    }

    /// A row is there: it is told, and written.
    pub(crate) fn add(&mut self, row: Row) -> Result<()> {
        super::say(&row.cells().join("  "));
        if let Some(path) = &self.json {
            let line = serde_json::to_string(&row)?;
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| writeln!(file, "{line}"))
                .with_context(|| format!("writing to {}", path.display()))?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// A row that could not be measured.
    pub(crate) fn fail(
        &mut self,
        mode: Mode,
        flows: u32,
        ruleset: Ruleset,
        why: &str,
    ) -> Result<()> {
        let mut row = Row::new("not measured", mode, flows, ruleset, Kinds::default());
        row.error = Some(why.to_owned());
        self.add(row)
    }

    /// Prints the table. A reader that has gone away is not our problem.
    pub(crate) fn print(&self) {
        if self.rows.is_empty() {
            return;
        }
        let heads = HEADS.map(str::to_owned).to_vec();
        let lines: Vec<Vec<String>> = std::iter::once(heads)
            .chain(self.rows.iter().map(Row::cells))
            .collect();
        // What a failed row says takes no column of its own.
        let whole = lines.iter().filter(|line| line.len() == HEADS.len());
        let widths = whole.fold([0; HEADS.len()], |mut widths, line| {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
            widths
        });
        let mut text = String::new();
        for line in &lines {
            let cells = line.iter().zip(widths);
            let padded: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            text.push_str(padded.join("  ").trim_end());
            text.push('\n');
        }
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}
