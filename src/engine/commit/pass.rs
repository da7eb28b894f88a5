//! In what order the flows of a replica go.

use crate::flow::{Flow, Rare, Status};

/// Order in which the flows of a replica go: what is worth most first, for there may not be room
/// for all, and packets may not wait. A pass is a walk over the slab, some 2 ms for 200,000 flows
/// of which none is due.
pub(super) const PASSES: [Pass; 5] = [
    Pass::Translated,
    Pass::Plain,
    Pass::Unassured,
    Pass::Children,
    Pass::Expectations,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pass {
    /// Assured and translated flows without a master: without their entry they break at once.
    Translated,
    /// The other assured flows without a master.
    Plain,
    /// Flows without a master that have not been answered yet, or that the kernel would let go
    /// first.
    Unassured,
    /// Flows of an expectation, whose masters are there by now.
    Children,
    /// What the helpers of flows expect.
    Expectations,
}

impl Pass {
    pub(super) fn of(flow: &Flow, rare: Option<&Rare>) -> Self {
        if rare.is_some_and(|rare| rare.master.is_some()) {
            Self::Children
        } else if !flow.status.has(Status::ASSURED) {
            Self::Unassured
        } else if flow.is_nat() {
            Self::Translated
        } else {
            Self::Plain
        }
    }
}
