//! The keeper's notes: why a key is looked at, what a message to the kernel was for, and what has
//! to be tried again.

use std::time::Instant;

use crate::ctnetlink::encode::Helper;
use crate::flow::{Flow, FlowKey};

/// Why a key is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Cause {
    /// Its copy in our kernel was changed, and not by us.
    Changed,
    /// Half of its timeout is over.
    Rearm,
    /// A walk has come by.
    Walk,
    /// A peer has told of it.
    Told,
    /// Its copy ended in our kernel, and not by us.
    Ended,
    /// A peer that carries traffic has ended it.
    Gone,
}

impl Cause {
    /// Of two causes the weightier one is kept.
    pub(super) fn weight(self) -> u8 {
        self as u8
    }
}

/// What a message to the kernel was for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Purpose {
    /// The deletion before a creation, which tells how it all went.
    Clear,
    Create(Attempt),
    Update(FlowKey),
    Delete(FlowKey),
    /// See whether packets use a copy here before it is deleted.
    Ask(FlowKey),
    /// See what has the original tuple of a flow that was refused.
    Look(Attempt),
    /// See what has its reply tuple.
    LookAtReply(Attempt),
}

/// A creation and how far it has got.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Attempt {
    pub(super) key: FlowKey,
    pub(super) helper: Helper,
    pub(super) without_master: bool,
    pub(super) step: Step,
    /// How often it has been put off.
    pub(super) retries: u8,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Step {
    Create,
    /// In the place of this entry.
    Replace(Flow, Option<u32>),
    Look,
    LookAtReply,
}

impl Attempt {
    pub(super) fn new(key: FlowKey, step: Step, retries: u8) -> Self {
        Self {
            key,
            retries,
            helper: Helper::Restore,
            without_master: false,
            step,
        }
    }
}

/// A key to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) key: FlowKey,
    pub(super) cause: Cause,
    pub(super) retries: u8,
}

impl Next {
    pub(super) fn new(key: FlowKey, cause: Cause) -> Self {
        Self {
            key,
            cause,
            retries: 0,
        }
    }
}

/// A flow to try again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later {
    pub(super) due: Instant,
    pub(super) key: FlowKey,
    pub(super) cause: Cause,
    pub(super) retries: u8,
    /// Only if the peer that has it has told its role after this.
    pub(super) told_after: Option<Instant>,
}

/// A peer that carries traffic has ended a flow, as far as we know: it may have lost its role with
/// its address, and the flow for that reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) key: FlowKey,
    /// The peer by its place.
    pub(super) peer: usize,
    /// When we heard of it. It counts once the peer has told its role after this.
    pub(super) heard: Instant,
}
