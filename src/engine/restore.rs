//! One flow on its way from a replica into the kernel: which messages it takes, and what the
//! kernel's answers mean.
//!
//! What is already right is left alone. A refusal is looked into before anything is deleted: an
//! EEXIST means that the flow is there, perhaps the other way round, or that another entry owns
//! its reply tuple (measured; docs/operations.md tells the reasons as an operator meets them).

use crate::ctnetlink::encode::{self, Ack, Create, Helper};
use crate::ctnetlink::request::{Answer, Outcome};
use crate::flow::proto::{
    SCTP_ESTABLISHED, TCP_CLOSE, TCP_ESTABLISHED, TCP_SYN_RECV, TCP_SYN_SENT,
};
use crate::flow::rare::HelperName;
use crate::flow::tuple::{GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use crate::flow::{Flow, ProtoInfo, Rare, Status};

use super::batch::Writing;
use super::expect::Expect;
use super::needs::MayBeLost;
use super::room::{RoomLeft, max_for};

/// A flow is tried this often, conflicts and lost answers included. The longest way without a lost
/// answer takes six: its tuple is taken, the reply tuple of the one that replaces it is too.
const ATTEMPTS_MAX: u8 = 8;
/// GRE entries made through ctnetlink cannot be refreshed by packets: they get this long, seconds.
const GRE_TIMEOUT: u32 = 3_600;

/// A flow to restore, and how far it has got.
#[derive(Clone, Debug)]
pub(super) struct Restore {
    flow: Flow,
    rare: Rare,
    timeout_secs: u32,
    step: Step,
    attempts: u8,
    replaces: bool,
    /// Room was taken for it: it was not known to be there.
    takes_room: bool,
    helper: Helper,
    /// The name of the helper that it goes without.
    lost_helper: Option<HelperName>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Create it.
    Create,
    /// Delete what is in its place, then create it.
    Replace { blocker: Flow, id: Option<u32> },
    /// See what has its original tuple.
    Look,
    /// See what has its reply tuple.
    LookAtReply,
}

/// What a message was for.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large one; the others wait in room that is there anyway"
)]
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// The deletion that goes before a creation, which tells how it all went.
    Clear,
    /// The message whose answer decides about the flow.
    Decide(Restore),
    /// A look at a flow that was created: whether it has its labels.
    Look,
    /// A step of an expectation.
    Expect(Box<Expect>),
}

/// What an answer means.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It is in the kernel now.
    Created,
    /// Likewise, and something else had to go.
    Replaced,
    /// Likewise, without its helper.
    WithoutHelper,
    /// It was there already.
    Already,
    /// Something else has to be tried.
    Again(Restore),
    /// Its master is not in the kernel: not yet, or it has ended.
    Orphan(Restore),
    /// It is not in the kernel.
    Failed(Failure),
}

/// Why a flow is not in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Failure {
    /// Its tuples stay taken.
    Conflict,
    /// `nf_conntrack_max` is reached.
    TableFull,
    /// The kernel's answers were lost.
    NoAnswer,
    /// Any other errno.
    Refused(i32),
}

impl Failure {
    /// In words, for so many flows.
    pub(super) fn reason(self, room: &RoomLeft, flows: u64) -> String {
        match self {
            Self::Conflict => "another flow holds its addresses and ports".into(),
            Self::TableFull => match (room.max(), room.count()) {
                (Some(max), Some(count)) => format!(
                    "the kernel's table is full: net.netfilter.nf_conntrack_max is {max}; run \
                     `sysctl -w net.netfilter.nf_conntrack_max={}` on every node, then `ctsyncd \
                     commit`",
                    max_for(count.max(max).saturating_add(flows))
                ),
                _ => "the kernel's table is full: raise net.netfilter.nf_conntrack_max".into(),
            },
            Self::NoAnswer => "the kernel's answers were lost".into(),
            Self::Refused(errno) => {
                format!(
                    "refused by the kernel: {}",
                    std::io::Error::from_raw_os_error(errno)
                )
            }
        }
    }
}

impl Restore {
    /// A flow with what is left of its timeout. It gets at least `grace` until its first packet,
    /// but no more than a flow of its kind and state ever has.
    pub(super) fn new(flow: &Flow, rare: Option<&Rare>, left_secs: u32, grace_secs: u32) -> Self {
        Self {
            flow: *flow,
            rare: rare.copied().unwrap_or_default(),
            timeout_secs: timeout(flow, left_secs, grace_secs),
            step: Step::Create,
            attempts: 0,
            replaces: false,
            takes_room: false,
            helper: Helper::Restore,
            lost_helper: None,
        }
    }

    /// The same, for which room was taken.
    pub(super) fn taking_room(mut self) -> Self {
        self.takes_room = true;
        self
    }

    /// Room was taken for it.
    pub(super) fn takes_room(&self) -> bool {
        self.takes_room
    }

    /// What of it the kernel may drop.
    pub(super) fn what_may_be_lost(&self) -> MayBeLost {
        let has_labels = self.rare.labels.is_some_and(|labels| labels != [0; 16]);
        MayBeLost {
            labelled: has_labels.then_some(self.flow),
            helper: self.lost_helper,
        }
    }

    /// The same, in the place of an entry of ours that is stale or different.
    pub(super) fn replacing(mut self, stale: &Flow) -> Self {
        self.step = Step::Replace {
            blocker: *stale,
            id: None,
        };
        self
    }

    /// Goes without its master, which has ended: a child lives on as the flow that it is.
    pub(super) fn leave_master(&mut self) {
        self.rare.master = None;
    }

    /// Writes the next step.
    pub(super) fn write(mut self, batch: &mut Writing<'_, Message>) {
        if let Step::Replace { blocker, id } = self.step {
            batch.push(Message::Clear, |out, seq| {
                encode::delete(out, seq, Ack::None, &blocker, id);
            });
            self.replaces = true;
        }
        let (flow, rare, step) = (self.flow, self.rare, self.step);
        let how = Create {
            timeout_secs: self.timeout_secs,
            helper: self.helper,
        };
        batch.push(Message::Decide(self), |out, seq| match step {
            Step::Create | Step::Replace { .. } => {
                encode::create(out, seq, Ack::None, &flow, &rare, how);
            }
            Step::Look => encode::get(out, seq, Ack::None, &flow),
            Step::LookAtReply => encode::get_by_reply(out, seq, Ack::None, &flow),
        });
    }

    /// What the kernel's answer means; without one all is well if the batch was answered in full.
    pub(super) fn judge(mut self, answer: Option<Answer>, is_answered: bool) -> Verdict {
        let outcome = answer.map(|answer| answer.outcome);
        match (self.step, outcome) {
            // Every step can be taken twice. A creation in the place of another entry stays one: that
            // entry may still be there.
            (step, None) if !is_answered => self.again(step, Failure::NoAnswer),
            (Step::Create | Step::Replace { .. }, None | Some(Outcome::Found(_))) => {
                match (self.helper, self.replaces) {
                    (Helper::Leave, _) => Verdict::WithoutHelper,
                    (Helper::Restore, true) => Verdict::Replaced,
                    (Helper::Restore, false) => Verdict::Created,
                }
            }
            (Step::Create | Step::Replace { .. }, Some(Outcome::Refused(errno))) => match errno {
                libc::EEXIST => self.again(Step::Look, Failure::Conflict),
                libc::ENOMEM => Verdict::Failed(Failure::TableFull),
                libc::EOPNOTSUPP if self.rare.helper.is_some() => {
                    self.lost_helper = self.rare.helper.take();
                    self.helper = Helper::Leave;
                    self.again(Step::Create, Failure::Refused(errno))
                }
                // What was in its place is gone by now.
                libc::ENOENT if self.rare.master.is_some() => {
                    self.step = Step::Create;
                    Verdict::Orphan(self)
                }
                errno => Verdict::Failed(Failure::Refused(errno)),
            },
            (Step::Look, Some(Outcome::Found(found))) => {
                let found = found.flow;
                if found.orig == self.flow.orig && found.reply == self.flow.reply {
                    return Verdict::Already;
                }
                let step = Step::Replace {
                    blocker: found,
                    id: Some(found.id),
                };
                self.again(step, Failure::Conflict)
            }
            (Step::Look, None | Some(Outcome::Refused(libc::ENOENT))) => {
                self.again(Step::LookAtReply, Failure::Conflict)
            }
            (Step::LookAtReply, Some(Outcome::Found(found))) => {
                let found = found.flow;
                let step = Step::Replace {
                    blocker: found,
                    id: Some(found.id),
                };
                self.again(step, Failure::Conflict)
            }
            (Step::LookAtReply, None | Some(Outcome::Refused(libc::ENOENT))) => {
                self.again(Step::Create, Failure::Conflict)
            }
            (Step::Look | Step::LookAtReply, Some(Outcome::Refused(errno))) => {
                Verdict::Failed(Failure::Refused(errno))
            }
        }
    }

    fn again(mut self, step: Step, otherwise: Failure) -> Verdict {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS_MAX {
            return Verdict::Failed(otherwise);
        }
        self.step = step;
        Verdict::Again(self)
    }
}

/// At least the grace, at most what the kernel gives a flow of this kind and state; what is left of
/// its own timeout if that is more.
fn timeout(flow: &Flow, left_secs: u32, grace_secs: u32) -> u32 {
    if flow.orig.protocol == GRE {
        return left_secs.max(GRE_TIMEOUT);
    }
    // Somebody wants it to end then, packets or not.
    if flow.status.has(Status::FIXED_TIMEOUT) {
        return left_secs.max(1);
    }
    left_secs.max(grace_secs.min(usual_timeout(flow)))
}

/// The kernel's default timeouts, seconds (net/netfilter/nf_conntrack_proto_*.c). Where they were
/// set higher, the first packet puts that right.
fn usual_timeout(flow: &Flow) -> u32 {
    match (flow.orig.protocol, flow.proto) {
        (TCP, ProtoInfo::Tcp(tcp)) => match tcp.state {
            TCP_SYN_SENT => 120,
            TCP_SYN_RECV => 60,
            TCP_ESTABLISHED => 432_000,
            4 => 120,
            5 => 60,
            6 => 30,
            7 => 120,
            TCP_CLOSE => 10,
            _ => 120,
        },
        (SCTP, ProtoInfo::Sctp(sctp)) => match sctp.state {
            1 => 10,
            SCTP_ESTABLISHED => 210,
            8 => 30,
            // The handshake and the shutdown.
            _ => 3,
        },
        (UDP | UDPLITE, _) if flow.status.has(Status::ASSURED) => 120,
        (UDP | UDPLITE | ICMP | ICMPV6, _) => 30,
        _ => 600,
    }
}

#[cfg(test)]
mod tests;
