//! What to do about one flow: what a peer that carries traffic says of it beside what our kernel
//! has. Pure: the table of hot standby, with its reasons.
//!
//! | the peers say | our kernel has | | |
//! | --- | --- | --- | --- |
//! | a flow | nothing | create | |
//! | a flow | a copy | update what differs; create anew what no update can change | |
//! | a flow | an entry of ours from before a demotion | take it as the copy, or create it anew if its window went stale | |
//! | a flow | an entry of ours | the TCP life goes forward, never back | a standby replaces one that is translated otherwise |
//! | nothing | a copy | delete it if its owner ended it | an active looks whether packets use it here |
//! | nothing | an entry of ours from before a demotion | delete it once the new owner has told all | |

use super::Cause;
use crate::cache::local::Origin;
use crate::ctnetlink::encode::Update;
use crate::flow::proto::{TCP_CLOSE, TCP_ESTABLISHED, TCP_TIME_WAIT, TcpInfo};
use crate::flow::rare::SeqAdj;
use crate::flow::tuple::GRE;
use crate::flow::{Flow, ProtoInfo, Rare, Status};
use crate::rules::{Rule, holds};

/// `IP_CT_TCP_FLAG_BE_LIBERAL`.
const BE_LIBERAL: u8 = 0x08;
/// Status bits that an update can set, and none can take back.
const STATUS_UP: u32 = Status::SEEN_REPLY | Status::ASSURED;

/// What a peer that carries traffic says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want<'a> {
    pub(super) flow: &'a Flow,
    pub(super) rare: Option<&'a Rare>,
    /// What the kernel entry gets, seconds.
    pub(super) timeout_secs: u32,
    /// The peer lives.
    pub(super) is_living: bool,
}

/// What our kernel has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub(super) flow: &'a Flow,
    pub(super) rare: Option<&'a Rare>,
    pub(super) origin: Origin,
    /// Tracked since this node last lost the active role.
    pub(super) is_fresh: bool,
    /// The peers hear of it.
    pub(super) is_told: bool,
    /// What is left of its timeout, seconds.
    pub(super) left_secs: u32,
}

/// What this node is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours {
    /// It carries traffic.
    pub(super) is_active: bool,
    /// What it holds of others becomes its own.
    pub(super) claims: bool,
    /// What is in no replica is nobody's: the living have been proven for a while.
    pub(super) may_purge: bool,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Act {
    Nothing,
    Create,
    /// Delete it and create it anew.
    Replace,
    Update(Update),
    /// It is a peer's from now on; then look again.
    Adopt,
    /// It is ours from now on.
    Claim,
    Delete,
    /// Ask the kernel whether packets use it here.
    Ask,
}

/// What to do about a flow. `is_nowhere`: no replica of any peer has it.
pub(super) fn decide(
    want: Option<&Want<'_>>,
    held: Option<&Held<'_>>,
    cause: Cause,
    ours: Ours,
    is_nowhere: bool,
) -> Act {
    match (want, held) {
        (None, None) => Act::Nothing,
        (Some(_), None) => Act::Create,
        (None, Some(held)) => unwanted(held, cause, ours, is_nowhere),
        (Some(want), Some(held)) => {
            let is_right = is_right(held.flow, want.flow);
            match held.origin {
                Origin::Derived => copied(want, held, cause),
                Origin::Shared if !ours.is_active => Act::Adopt,
                Origin::Own if held.is_fresh && ours.is_active => forward(want, held),
                Origin::Shared => forward(want, held),
                Origin::Own if ours.is_active => Act::Nothing,
                // Born here while its peer is silent: the addresses have moved already.
                Origin::Own if held.is_fresh && is_right && !want.is_living => Act::Nothing,
                Origin::Found if ours.is_active && !is_right => Act::Claim,
                Origin::Own | Origin::Found if is_right && has_no_window(held.flow) => Act::Adopt,
                Origin::Own | Origin::Found => Act::Replace,
            }
        }
    }
}

fn unwanted(held: &Held<'_>, cause: Cause, ours: Ours, is_nowhere: bool) -> Act {
    let is_copy = held.origin.is_copy();
    let is_ended = matches!(cause, Cause::Gone) && is_copy;
    if is_ended || (is_copy && ours.may_purge && is_nowhere) {
        return match held.origin {
            Origin::Shared if ours.is_active && !is_over(held.flow) => Act::Claim,
            _ if ours.is_active => Act::Ask,
            _ => Act::Delete,
        };
    }
    // Told to whoever is active now, and not taken over, or ended there since.
    let is_left_behind = held.origin == Origin::Own && !held.is_fresh && held.is_told;
    if is_left_behind && ours.may_purge && !ours.is_active && holds(Rule::HotStale) {
        return Act::Delete;
    }
    let is_undecided = held.origin == Origin::Found;
    let claims = ours.claims && holds(Rule::HotClaim);
    if (claims && (is_copy || is_undecided))
        || (is_undecided && (ours.is_active || (ours.may_purge && is_nowhere)))
    {
        return Act::Claim;
    }
    Act::Nothing
}

/// Same ways, same translation. The keys of translated GRE flows cannot be restored.
fn is_right(held: &Flow, want: &Flow) -> bool {
    let same_reply = if want.orig.protocol == GRE {
        (held.reply.src, held.reply.dst) == (want.reply.src, want.reply.dst)
    } else {
        held.reply == want.reply
    };
    same_reply && held.zone == want.zone
}

/// True if there is no window that could have gone stale, or any packet passes.
fn has_no_window(flow: &Flow) -> bool {
    match flow.proto {
        ProtoInfo::Tcp(tcp) => tcp.flags_orig & tcp.flags_reply & BE_LIBERAL != 0,
        ProtoInfo::None | ProtoInfo::Sctp(_) | ProtoInfo::Dccp(_) => true,
    }
}

/// A flow of which nothing more is to come.
fn is_over(flow: &Flow) -> bool {
    matches!(flow.proto, ProtoInfo::Tcp(tcp) if tcp.state == TCP_TIME_WAIT || tcp.state == TCP_CLOSE)
}

/// A copy follows its flow.
fn copied(want: &Want<'_>, held: &Held<'_>, cause: Cause) -> Act {
    let missing = held.flow.status.0 & STATUS_UP & !want.flow.status.0;
    let is_back = rank(want.flow.proto) < rank(held.flow.proto);
    let is_told = matches!(cause, Cause::Told);
    if !is_right(held.flow, want.flow) || is_back || missing != 0 {
        return Act::Replace;
    }
    // Labels that did not stick would not stick again.
    let (wanted, kept) = (sequence(want.rare), sequence(held.rare));
    if is_told && wanted != kept {
        return Act::Replace;
    }
    let is_old = held.left_secs < want.timeout_secs / 2;
    if is_old && held.flow.status.has(Status::FIXED_TIMEOUT) {
        return Act::Replace;
    }
    let mut update = Update::default();
    if differs(want.flow.proto, held.flow.proto) {
        update.proto = Some(want.flow.proto);
    }
    if want.flow.mark != held.flow.mark {
        update.mark = Some(want.flow.mark);
    }
    if want.flow.status.0 & STATUS_UP & !held.flow.status.0 != 0 {
        update.status = Some(Status(held.flow.status.0 | want.flow.status.0 & STATUS_UP));
    }
    let is_due = is_old && (is_told || holds(Rule::HotRearm));
    if update != Update::default() || is_due {
        if !held.flow.status.has(Status::FIXED_TIMEOUT) {
            update.timeout_secs = Some(want.timeout_secs);
        }
        return Act::Update(update);
    }
    Act::Nothing
}

/// Both nodes see packets of the flow, perhaps each one direction: its life goes forward, never
/// back, so that two words never chase each other; and one that is just being set up is not closed
/// by the word on an earlier life.
fn forward(want: &Want<'_>, held: &Held<'_>) -> Act {
    if !want.is_living || !is_right(held.flow, want.flow) {
        return Act::Nothing;
    }
    let (wanted, kept) = (rank(want.flow.proto), rank(held.flow.proto));
    let established = rank(ProtoInfo::Tcp(TcpInfo {
        state: TCP_ESTABLISHED,
        ..TcpInfo::default()
    }));
    let is_other_life = kept < established && wanted > established;
    let mut update = Update::default();
    if wanted > kept && !is_other_life {
        update.proto = Some(want.flow.proto);
    }
    if want.flow.status.0 & STATUS_UP & !held.flow.status.0 != 0 && !is_other_life {
        update.status = Some(Status(held.flow.status.0 | want.flow.status.0 & STATUS_UP));
    }
    if update == Update::default() {
        return Act::Nothing;
    }
    if held.left_secs < want.timeout_secs {
        update.timeout_secs = Some(want.timeout_secs);
    }
    Act::Update(update)
}

/// How far a connection has got: states in the order in which they are passed through.
fn rank(proto: ProtoInfo) -> u8 {
    match proto {
        ProtoInfo::None => 0,
        // SYN_SENT2 (9) comes between SYN_SENT and SYN_RECV.
        ProtoInfo::Tcp(tcp) => match tcp.state {
            0 | 1 => 2 * tcp.state,
            9 => 3,
            state => 2 * state,
        },
        // The heartbeats (8, 9) come before ESTABLISHED (4).
        ProtoInfo::Sctp(sctp) => match sctp.state {
            8 => 3,
            9 => 5,
            state => 2 * state,
        },
        ProtoInfo::Dccp(dccp) => dccp.state,
    }
}

/// True if an update would change what the kernel keeps. BE_LIBERAL is ours.
fn differs(want: ProtoInfo, held: ProtoInfo) -> bool {
    match (want, held) {
        (ProtoInfo::Tcp(want), ProtoInfo::Tcp(held)) => {
            want.state != held.state
                || (want.wscale_orig, want.wscale_reply) != (held.wscale_orig, held.wscale_reply)
        }
        (ProtoInfo::None, _) => false,
        (want, held) => want != held,
    }
}

/// What an update would have to change and cannot.
fn sequence(rare: Option<&Rare>) -> [Option<SeqAdj>; 2] {
    rare.map_or([None; 2], |rare| [rare.seqadj_orig, rare.seqadj_reply])
}

#[cfg(test)]
mod tests;
