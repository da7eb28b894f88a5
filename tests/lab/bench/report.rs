//! What was measured: every round of every figure, one table for people, one document of JSON.
//!
//! A row has one figure for each load and each [`Who`]; the table shows the median of the rounds,
//! because what a shared machine does beside a round only ever adds, and a best of few rounds
//! favours whom the noise missed.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::harness::{Context as _, Result};
use super::machine::Machine;

/// Whose figure it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    /// Debian's conntrackd.
    Conntrackd,
    /// The least that the kernel allows: the same work with nothing around it.
    Limit,
    /// Ours.
    Ctsyncd,
}

impl Who {
    /// Its name in the table and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conntrackd => "conntrackd",
            Self::Limit => "limit",
            Self::Ctsyncd => "ctsyncd",
        }
    }
}

/// What must hold of ctsyncd's figure (design: "The numbers to reach"). What is `None` is not asked.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Aim {
    /// No more than this, in the row's unit.
    pub(crate) at_most: Option<f64>,
    /// No less than this, in the row's unit.
    pub(crate) at_least: Option<f64>,
    /// No more than so many times conntrackd's.
    pub(crate) times_conntrackd: Option<f64>,
    /// No more than so many times the limit.
    pub(crate) times_limit: Option<f64>,
    /// No less than so many times conntrackd's.
    pub(crate) at_least_times_conntrackd: Option<f64>,
}

impl Aim {
    /// Nothing is asked; for `..Aim::NONE` in constants.
    pub(crate) const NONE: Self = Self {
        at_most: None,
        at_least: None,
        times_conntrackd: None,
        times_limit: None,
        at_least_times_conntrackd: None,
    };

    /// In words, for the table.
    fn words(&self) -> String {
        let parts = [
            (self.at_most, "≤ ", ""),
            (self.at_least, "≥ ", ""),
            (self.times_conntrackd, "≤ ", "×"),
            (self.at_least_times_conntrackd, "≥ ", "×"),
            (self.times_limit, "≤ ", "× limit"),
        ];
        let told: Vec<_> = parts
            .into_iter()
            .filter_map(|(bound, before, after)| Some(format!("{before}{}{after}", bound?)))
            .collect();
        told.join(", ")
    }

    /// Whether it holds; `None` if nothing is asked, or what it is compared with is missing and
    /// nothing else is broken.
    fn holds(&self, cells: &Cells) -> Option<bool> {
        let ours = cells.of(Who::Ctsyncd)?;
        let times = |factor: Option<f64>, who| factor.map(|it| cells.of(who).map(|v| v * it));
        let checks = [
            self.at_most.map(|bound| Some(ours <= bound)),
            self.at_least.map(|bound| Some(ours >= bound)),
            times(self.times_conntrackd, Who::Conntrackd).map(|it| it.map(|bound| ours <= bound)),
            times(self.times_limit, Who::Limit).map(|it| it.map(|bound| ours <= bound)),
            times(self.at_least_times_conntrackd, Who::Conntrackd).map(|it| {
                let is_met = ours >= it?;
                match (cells.ctsyncd_is_least, cells.conntrackd_is_least) {
                    // Ours may be higher, or theirs.
                    (true, _) if !is_met => None,
                    (_, true) if is_met => None,
                    _ => Some(is_met),
                }
            }),
        ];
        let asked: Vec<Option<bool>> = checks.into_iter().flatten().collect();
        if asked.contains(&Some(false)) {
            return Some(false);
        }
        (!asked.is_empty() && !asked.contains(&None)).then_some(true)
    }
}

/// A row of the table: what is measured.
#[derive(Debug)]
pub(crate) struct Row {
    /// What `--rows` and the table call it.
    pub(crate) name: &'static str,
    /// Unit of all its figures.
    pub(crate) unit: &'static str,
    /// What must hold of it, whatever the load.
    pub(crate) aim: Aim,
}

/// One measured value.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Its row.
    pub(crate) row: &'static Row,
    /// What was done, in words; figures of the same load stand in one line.
    pub(crate) load: String,
    /// Whose.
    pub(crate) who: Who,
    /// In the row's unit.
    pub(crate) value: f64,
    /// What a reader must know beside it: losses, a pace that was not kept.
    pub(crate) note: Option<String>,
    /// The bench could no more: the true figure is this or higher.
    is_least: bool,
    /// Whether the row's aim is meant for this load.
    is_judged: bool,
}

impl Figure {
    /// A figure without a note.
    pub(crate) fn new(row: &'static Row, load: impl Into<String>, who: Who, value: f64) -> Self {
        Self {
            row,
            load: load.into(),
            who,
            value,
            note: None,
            is_least: false,
            is_judged: true,
        }
    }

    /// The same as a lower bound: shown as such, and less than an aim it proves nothing.
    pub(crate) fn at_least(self) -> Self {
        Self {
            is_least: true,
            ..self
        }
    }

    /// The same at a load for which the row's aim is not meant.
    pub(crate) fn without_aim(self) -> Self {
        Self {
            is_judged: false,
            ..self
        }
    }

    /// The same with a note.
    pub(crate) fn with_note(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }
}

/// A figure as JSON has it.
#[derive(Debug, Serialize)]
struct Entry {
    row: &'static str,
    load: String,
    who: Who,
    /// From 1.
    round: u32,
    value: f64,
    unit: &'static str,
    note: Option<String>,
    is_least: bool,
    #[serde(skip)]
    aim: Aim,
}

/// What could not be measured.
#[derive(Debug, PartialEq, Serialize)]
struct Failure {
    rows: String,
    who: Option<Who>,
    round: u32,
    why: String,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Line {
    row: &'static str,
    load: String,
    unit: &'static str,
    #[serde(flatten)]
    cells: Cells,
    /// ctsyncd's by conntrackd's.
    ratio: Option<f64>,
    aim: Aim,
    holds: Option<bool>,
    #[serde(skip)]
    notes: Vec<String>,
}

/// Medians of the rounds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
struct Cells {
    conntrackd: Option<f64>,
    limit: Option<f64>,
    ctsyncd: Option<f64>,
    /// Every round's figure of conntrackd was a lower bound.
    conntrackd_is_least: bool,
    /// Likewise of ctsyncd.
    ctsyncd_is_least: bool,
}

impl Cells {
    fn of(&self, who: Who) -> Option<f64> {
        match who {
            Who::Conntrackd => self.conntrackd,
            Who::Limit => self.limit,
            Who::Ctsyncd => self.ctsyncd,
        }
    }

    fn ratio(&self) -> Option<f64> {
        let theirs = self.conntrackd.filter(|&it| it > 0.0)?;
        Some(self.ctsyncd? / theirs)
    }
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    entries: Vec<Entry>,
    failures: Vec<Failure>,
    round: u32,
}

impl Report {
    /// What comes now belongs to this round, from 1.
    pub(crate) fn begin_round(&mut self, round: u32) {
        self.round = round;
    }

    /// A figure is there.
    pub(crate) fn add(&mut self, figure: Figure) {
        let Figure {
            row,
            load,
            who,
            value,
            note,
            is_least,
            is_judged,
        } = figure;
        super::say(&format!(
            "  {} | {load} | {}: {}{} {}{}",
            row.name,
            who.name(),
            if is_least { "≥ " } else { "" },
            shown(value),
            row.unit,
            note.as_deref()
                .map_or_else(String::new, |it| format!(" ({it})"))
        ));
        self.entries.push(Entry {
            row: row.name,
            load,
            who,
            round: self.round,
            value,
            unit: row.unit,
            note,
            is_least,
            aim: if is_judged { row.aim } else { Aim::NONE },
        });
    }

    /// Something could not be measured; `who` is `None` if nobody's figure could.
    pub(crate) fn fail(&mut self, rows: &str, who: Option<Who>, why: &str) {
        let whose = who.map_or("all", Who::name);
        super::say(&format!("  {rows}: {whose}: not measured: {why}"));
        self.failures.push(Failure {
            rows: rows.to_owned(),
            who,
            round: self.round,
            why: why.to_owned(),
        });
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for entry in &self.entries {
            let is_there = |line: &Line| line.row == entry.row && line.load == entry.load;
            if lines.iter().any(is_there) {
                continue;
            }
            let same = |who| {
                (self.entries.iter())
                    .filter(move |it| (it.row, &it.load, it.who) == (entry.row, &entry.load, who))
            };
            let of = |who| median(same(who).map(|it| it.value).collect());
            let is_least = |who| same(who).count() > 0 && same(who).all(|it| it.is_least);
            let cells = Cells {
                conntrackd: of(Who::Conntrackd),
                limit: of(Who::Limit),
                ctsyncd: of(Who::Ctsyncd),
                conntrackd_is_least: is_least(Who::Conntrackd),
                ctsyncd_is_least: is_least(Who::Ctsyncd),
            };
            lines.push(Line {
                row: entry.row,
                load: entry.load.clone(),
                unit: entry.unit,
                cells,
                ratio: cells.ratio(),
                aim: entry.aim,
                holds: entry.aim.holds(&cells),
                notes: self.notes(entry),
            });
        }
        // In the order in which the rows came first, the loads of one together.
        let names: Vec<_> = lines.iter().map(|line| line.row).collect();
        lines.sort_by_key(|line| names.iter().position(|name| *name == line.row));
        lines
    }

    /// The notes to the figures of one line, each with whose it is and in which round.
    fn notes(&self, of: &Entry) -> Vec<String> {
        let same = (self.entries.iter()).filter(|it| it.row == of.row && it.load == of.load);
        let told = same.filter_map(|it| {
            let note = it.note.as_ref()?;
            Some(format!("{}, round {}: {note}", it.who.name(), it.round))
        });
        told.collect()
    }

    /// The table, the notes, and what is missing.
    pub(crate) fn table(&self) -> String {
        const HEADS: [&str; 9] = [
            "row",
            "load",
            "unit",
            "conntrackd",
            "limit",
            "ctsyncd",
            "ratio",
            "aim",
            "holds",
        ];
        let lines = self.lines();
        let mut table = vec![HEADS.map(str::to_owned)];
        let cell = |value: Option<f64>, is_least| {
            let sign = if is_least { "≥ " } else { "" };
            value.map_or_else(|| "–".to_owned(), |value| format!("{sign}{}", shown(value)))
        };
        for line in &lines {
            table.push([
                line.row.to_owned(),
                line.load.clone(),
                line.unit.to_owned(),
                cell(line.cells.conntrackd, line.cells.conntrackd_is_least),
                cell(line.cells.limit, false),
                cell(line.cells.ctsyncd, line.cells.ctsyncd_is_least),
                line.ratio
                    .map_or_else(|| "–".to_owned(), |it| format!("{it:.2}")),
                line.aim.words(),
                match line.holds {
                    Some(true) => "yes".to_owned(),
                    Some(false) => "NO".to_owned(),
                    None => "–".to_owned(),
                },
            ]);
        }
        let mut text = aligned(&table);
        for line in &lines {
            for note in &line.notes {
                text.push_str(&format!("{}, {}: {note}\n", line.row, line.load));
            }
        }
        for Failure {
            rows,
            who,
            round,
            why,
        } in &self.failures
        {
            let whose = who.map_or("", Who::name);
            text.push_str(&format!(
                "not measured: {rows} {whose}, round {round}: {why}\n"
            ));
        }
        text
    }

    /// The median of the rounds of one figure, if it was measured.
    pub(crate) fn value(&self, row: &Row, load: &str, who: Who) -> Option<f64> {
        let of = |entry: &&Entry| entry.row == row.name && entry.load == load && entry.who == who;
        median(
            (self.entries.iter().filter(of))
                .map(|it| it.value)
                .collect(),
        )
    }

    /// True if something could not be measured.
    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Prints the table. A reader that has gone away is not our problem.
    pub(crate) fn print(&self) {
        if !self.entries.is_empty() || self.has_failures() {
            let _ = std::io::stdout().lock().write_all(self.table().as_bytes());
        }
    }

    /// Writes everything as one document of JSON, in place of what was in the file.
    pub(crate) fn write_json(&self, path: &Path, machine: &Machine) -> Result<()> {
        let document = serde_json::json!({
            "machine": machine,
            "figures": self.entries,
            "table": self.lines(),
            "failures": self.failures,
        });
        fs::write(path, format!("{document:#}\n"))
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// The middle value, of an even number the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[half - 1], upper))
}

/// Three digits that count, and no more than there are.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => {
            let digits = format!("{:.0}", value.abs());
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", grouped(&digits))
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Digits in groups of three.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns of equal width, two spaces apart.
fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in table {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in table {
        let padded: Vec<_> = (line.iter().zip(widths))
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROW: Row = Row {
        name: "sender",
        unit: "µs/event",
        aim: Aim {
            at_most: Some(2.0),
            times_conntrackd: Some(0.35),
            ..Aim::NONE
        },
    };

    fn report(rounds: &[(f64, f64)]) -> Report {
        let mut report = Report::default();
        for (round, &(theirs, ours)) in (1..).zip(rounds) {
            report.begin_round(round);
            report.add(Figure::new(&ROW, "paced", Who::Conntrackd, theirs));
            report.add(Figure::new(&ROW, "paced", Who::Ctsyncd, ours));
        }
        report
    }

    #[test]
    fn the_table_has_the_median_of_the_rounds() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        let lines = report(&[(6.0, 1.8), (60.0, 1.9), (5.0, 18.0)]).lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].cells.conntrackd, Some(6.0));
        assert_eq!(lines[0].cells.ctsyncd, Some(1.9));
        assert_eq!(lines[0].ratio, Some(1.9 / 6.0));
    }

    #[test]
    fn an_aim_holds_only_if_each_of_its_parts_does() {
        let verdict = |theirs, ours| report(&[(theirs, ours)]).lines()[0].holds;
        assert_eq!(verdict(6.0, 1.9), Some(true));
        assert_eq!(verdict(6.0, 2.1), Some(false), "the bound");
        assert_eq!(verdict(5.0, 1.9), Some(false), "the ratio");
        assert_eq!(verdict(0.0, 1.9), Some(false), "nothing is not less");
    }

    #[test]
    fn what_cannot_be_compared_is_no_success() {
        let mut report = Report::default();
        report.add(Figure::new(&ROW, "paced", Who::Ctsyncd, 1.9));
        assert_eq!(report.lines()[0].holds, None);
        assert_eq!(report.lines()[0].ratio, None);
        let mut report = Report::default();
        report.add(Figure::new(&ROW, "paced", Who::Ctsyncd, 2.1));
        assert_eq!(report.lines()[0].holds, Some(false), "broken all the same");
        let mut report = Report::default();
        report.add(Figure::new(&ROW, "paced", Who::Conntrackd, 2.1));
        assert_eq!(report.lines()[0].holds, None);
    }

    #[test]
    fn a_limit_and_a_least_are_judged_too() {
        let cells = Cells {
            conntrackd: Some(100.0),
            limit: Some(10.0),
            ctsyncd: Some(12.0),
            ..Cells::default()
        };
        let limit = |times_limit| Aim {
            times_limit: Some(times_limit),
            ..Aim::NONE
        };
        assert_eq!(limit(1.2).holds(&cells), Some(true));
        assert_eq!(limit(1.1).holds(&cells), Some(false));
        let least = Aim {
            at_least: Some(12.0),
            ..Aim::NONE
        };
        assert_eq!(least.holds(&cells), Some(true));
        let least = Aim {
            at_least_times_conntrackd: Some(1.0),
            ..Aim::NONE
        };
        assert_eq!(least.holds(&cells), Some(false));
        assert_eq!(Aim::NONE.holds(&cells), None);
    }

    #[test]
    fn a_lower_bound_proves_only_what_it_can() {
        let least = Aim {
            at_least_times_conntrackd: Some(1.0),
            ..Aim::NONE
        };
        let verdict = |theirs, conntrackd_is_least, ctsyncd_is_least| {
            least.holds(&Cells {
                conntrackd: Some(theirs),
                ctsyncd: Some(100.0),
                conntrackd_is_least,
                ctsyncd_is_least,
                limit: None,
            })
        };
        assert_eq!(verdict(90.0, false, true), Some(true));
        assert_eq!(verdict(110.0, false, true), None, "ours may be more");
        assert_eq!(verdict(90.0, true, false), None, "theirs may be more");
        assert_eq!(verdict(110.0, true, false), Some(false));
        assert_eq!(verdict(90.0, true, true), None, "either may be more");
    }

    #[test]
    fn a_load_that_is_not_judged_has_no_verdict() {
        let mut report = Report::default();
        report.add(Figure::new(&ROW, "few", Who::Ctsyncd, 9.0).without_aim());
        assert_eq!(report.lines()[0].holds, None);
        report.add(Figure::new(&ROW, "many", Who::Ctsyncd, 9.0).at_least());
        assert_eq!(report.lines()[1].holds, Some(false));
        assert!(report.table().contains("≥ 9.00"));
    }

    #[test]
    fn lines_of_a_row_stand_together_and_failures_below() {
        let mut report = report(&[(6.0, 1.8)]);
        static OTHER: Row = Row {
            name: "wire",
            unit: "B",
            aim: Aim::NONE,
        };
        report.add(Figure::new(&OTHER, "paced", Who::Ctsyncd, 1234.5));
        let figure = Figure::new(&ROW, "unpaced", Who::Ctsyncd, 1.0);
        report.add(figure.with_note(Some("2 overruns".to_owned())));
        report.fail("memory", Some(Who::Conntrackd), "it ended");
        let table = report.table();
        let firsts: Vec<_> = (table.lines())
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(
            firsts,
            ["row", "sender", "sender", "wire", "sender,", "not"]
        );
        assert!(table.contains("1,234") || table.contains("1,235"));
        assert!(table.contains("unpaced: ctsyncd, round 1: 2 overruns"));
        assert!(table.contains("memory conntrackd, round 1: it ended"));
    }

    #[test]
    fn numbers_are_shown_with_what_counts() {
        let all = [0.1234, 1.234, 12.34, 123.4, 1234567.0, -1234.0].map(shown);
        assert_eq!(all, ["0.123", "1.23", "12.3", "123", "1,234,567", "-1,234"]);
    }
}
