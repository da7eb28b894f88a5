//! A change of the table: under which circumstances, and what came of it.

use super::Origin;
use crate::cache::Secs;

/// Circumstances of a change.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Now.
    pub now: Secs,
    /// The peers whose stream runs, a bit each: who must hear of an end.
    pub listeners: u8,
    /// Number of the current (or last) listing of the kernel's table.
    pub round: u8,
    /// The era in which a kernel entry that is told to be born is born: how often this node has
    /// lost the active role.
    pub era: u8,
    /// The era of an entry that is only found to be there.
    pub found_era: u8,
    /// Whose an entry is that is told to be born.
    pub born: Origin,
    /// Whose an entry is that is only found to be there.
    pub found: Origin,
    /// Packets that change a copy of a peer's flow make it worth telling.
    pub shares: bool,
    /// The change is what our own writer was told to do, and no news to whoever told it.
    pub is_echo: bool,
}

/// What a change did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Something that the peers hear of.
    Changed,
    /// Nothing that the peers hear of.
    Same,
    /// `flows_max` is reached: the flow is not in the table, which is incomplete from now on.
    Full,
}
