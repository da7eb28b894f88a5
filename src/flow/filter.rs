//! Which flows replicate.

/// What `[replicate]` says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {}
