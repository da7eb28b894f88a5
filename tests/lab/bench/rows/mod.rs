//! What is measured: groups of rows that come from the same run, in the order of the table.

mod cpu;
mod gather;
mod idle;
mod memory;
mod rate;
pub(crate) mod staleness;
mod wire;

use super::report::Row;
use super::{Bench, Result};

/// In how many rounds a group is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rounds {
    /// In all.
    Every,
    /// In the first only: what takes long and hardly varies.
    First,
}

/// Rows that one run yields.
#[derive(Debug)]
pub(crate) struct Group {
    /// What `--rows` knows all of it by.
    pub(crate) name: &'static str,
    /// Its rows, each of which `--rows` knows too.
    pub(crate) rows: &'static [&'static Row],
    /// When.
    pub(crate) rounds: Rounds,
    /// Measures one round and adds its figures to the report. An error says why nobody's figure
    /// could be measured; that of one daemon belongs to [`Bench::both`].
    pub(crate) measure: fn(&mut Bench) -> Result<()>,
}

impl Group {
    /// What `--rows` may say to mean it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let of_rows = self.rows.iter().map(|row| row.name);
        std::iter::once(self.name).chain(of_rows.filter(|name| *name != self.name))
    }

    /// True if it or one of its rows is among `wanted`, or nothing is.
    pub(crate) fn is_wanted(&self, wanted: &[String]) -> bool {
        wanted.is_empty() || self.names().any(|name| wanted.iter().any(|it| it == name))
    }
}

/// All of them.
pub(crate) const ALL: &[Group] = &[
    cpu::GROUP,
    rate::GROUP,
    wire::GROUP,
    memory::GROUP,
    idle::GROUP,
    staleness::GROUP,
];
