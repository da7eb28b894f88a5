//! Rules that the simulator can take out, to see that a checker notices.
//!
//! `holds` stands at the one place where a rule lives. Without the feature `broken-rules` it is
//! constantly true and the compiler forgets it; with the feature a test may turn a switch of its
//! own thread. `tests/sim/rules.rs` takes each rule out in turn. The letters are those of
//! docs/protocol.md, where a rule is stated; what stands behind them tells parts of one rule apart.
//!
//! This is a file and no folder: whatever has rules may use it, and it uses nothing.

#[cfg(feature = "broken-rules")]
use std::cell::Cell;

/// A rule that can be taken out. Each line says what happens then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Rule {
    /// Challenges do not count the sessions accepted.
    S3Count,
    /// A greeting's echo is not compared with the challenge.
    S4Challenge,
    /// Epochs that were left are accepted again.
    S4Retired,
    /// Datagrams of any session are taken.
    S6Session,
    /// Ends leave no tombstones.
    C2,
    /// A flow that is created leaves the tombstone of its hash where it is.
    C3,
    /// The floor passes what is neither acked nor lost.
    E1Floor,
    /// A repair is sent although its slot has changed.
    E3,
    /// The live cursor leaves tombstones out.
    E4,
    /// The window bounds nothing.
    E6,
    /// What was lost is not sent again.
    A4Repair,
    /// What was lost keeps its place, and the floor waits for it.
    A4Floor,
    /// No pings while anything is open.
    A6Ping,
    /// Pings are not answered.
    A6Answer,
    /// A tombstone is gone for a peer once it was sent.
    T1Sent,
    /// A tombstone is gone once any one peer has acked it.
    T1Every,
    /// Tombstones go on waiting for a peer whose session has ended.
    T3,
    /// A tombstone that overtook something is forgotten.
    T4Dead,
    /// A tombstone removes what is newer as well.
    T4Older,
    /// The receiver waits for what the sender does not wait for.
    R1,
    /// Numbers received are applied again.
    R2,
    /// An older stamp wins.
    R3Stamp,
    /// A flow that is told again unchanged keeps its stamp.
    R3Renew,
    /// A marker is sent while the table is incomplete or dirty.
    M1Whole,
    /// A marker is sent before the live cursor is at the end.
    M1Live,
    /// A marker is sent while a backfill runs.
    M1Backfill,
    /// A marker is sent while repairs wait.
    M1Repairs,
    /// A marker is judged although something is missing below it.
    M2Next,
    /// A marker is judged although it is not the newest.
    M2Top,
    /// Nothing is swept after a full pass.
    M3,
    /// A stream starts before the table is complete.
    J1,
    /// Stamps of a new session start at 1.
    J3,
    /// What the peer lacks is not touched.
    D4Touch,
    /// What only the peer has is not buried.
    D4Bury,
    /// There is no wait after repairs that did not help.
    D7Hold,
    /// A listing overwrites what an event has told since it began.
    ListingLate,
    /// A listing brings back what has ended since it began.
    ListingEnds,
    /// A listing that was interrupted ends what it has not named.
    ListingWhole,
    /// Copies of a peer's flows are told to the peers as our own.
    HotTold,
    /// What a listing finds on a standby is our own at once.
    HotFound,
    /// The end of a flow at a peer that is not active ends our copy.
    HotStandbyEnds,
    /// A copy that expires here is not created again.
    HotExpired,
    /// Copies are not re-armed.
    HotRearm,
    /// Our own entries from before a demotion that the new owner does not have stay.
    HotStale,
    /// Copies do not become ours when we are promoted.
    HotClaim,
    /// Ends that come of an address that has left are told at once.
    HeldEnds,
}

/// True unless a test has taken the rule out on this thread.
#[cfg(not(feature = "broken-rules"))]
#[inline(always)]
pub(crate) const fn holds(_rule: Rule) -> bool {
    true
}

/// True unless a test has taken the rule out on this thread.
#[cfg(feature = "broken-rules")]
pub(crate) fn holds(rule: Rule) -> bool {
    OUT.get() != Some(rule)
}

#[cfg(feature = "broken-rules")]
thread_local! {
    static OUT: Cell<Option<Rule>> = const { Cell::new(None) };
}

/// Does something on this thread without a rule. The rule is back afterwards, after a panic too.
#[cfg(feature = "broken-rules")]
pub fn without<T>(rule: Rule, f: impl FnOnce() -> T) -> T {
    struct Back(Option<Rule>);
    impl Drop for Back {
        fn drop(&mut self) {
            OUT.set(self.0);
        }
    }
    let _back = Back(OUT.replace(Some(rule)));
    f()
}
