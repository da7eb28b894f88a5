//! One expectation on its way from a replica into the kernel.
//!
//! A helper keeps a number of expectations for a flow (that of FTP one), and one more drops the
//! oldest without a word. So nothing is created where the kernel has it already, nor where the
//! helper has expected something newer here meanwhile.

use super::batch::Writing;
use super::restore::Message;
use crate::cache::{Local, Replica};
use crate::ctnetlink::encode::Ack;
use crate::ctnetlink::expectation;
use crate::ctnetlink::request::{Answer, Outcome};
use crate::flow::{Expectation, FlowKey};

/// An expectation is tried this often when answers are lost.
const ATTEMPTS_MAX: u8 = 8;

/// What the local cache says about an expectation of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// It is not there.
    Missing,
    /// It is there, told since this node last lost the active role.
    Already,
    /// Its master expects something newer.
    Superseded,
}

/// Looks for `expectation` of `replica` in the local cache; `era` is the one that counts.
pub(super) fn look(local: &Local, era: u8, replica: &Replica, expectation: &Expectation) -> Look {
    let held = local.find_expectation(&expectation.key());
    if held.is_some_and(|slot| local.era(slot) == era) {
        return Look::Already;
    }
    let Some(master) = local.find(&master_key(expectation)) else {
        return Look::Missing;
    };
    let mut is_superseded = false;
    local.visit_expectations(master, |slot, other| {
        is_superseded |= other.class == expectation.class
            && local.era(slot) == era
            && replica.find_expectation(&other.key()).is_none();
    });
    if is_superseded {
        Look::Superseded
    } else {
        Look::Missing
    }
}

/// What tells the master of an expectation apart.
pub(super) fn master_key(expectation: &Expectation) -> FlowKey {
    FlowKey {
        orig: expectation.master,
        zone: expectation.zone,
    }
}

/// An expectation to restore, and how far it has got.
#[derive(Clone, Debug)]
pub(super) struct Expect {
    expectation: Expectation,
    timeout_secs: u32,
    step: Step,
    attempts: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Create it; the kernel gives it the timeout of its helper.
    Create,
    /// Give it its own.
    SetTimeout,
}

/// What an answer means.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It is in the kernel now.
    Created,
    /// It was there already.
    Already,
    /// Something else has to be done.
    Again(Box<Expect>),
    /// It is not in the kernel.
    Failed(Failure),
}

/// Why an expectation is not in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Failure {
    /// Its master is not in the kernel.
    NoMaster,
    /// Its master has no helper, or the kernel does not know it.
    NoHelper,
    /// Another one waits for part of the same.
    Conflict,
    /// `nf_conntrack_expect_max` is reached.
    TooMany,
    /// The kernel's answers were lost.
    NoAnswer,
    /// Any other errno.
    Refused(i32),
}

impl Failure {
    /// In words.
    pub(super) fn reason(self) -> String {
        match self {
            Self::NoMaster => "the flow that expects it is not in the kernel".into(),
            Self::NoHelper => {
                "the flow that expects it has no helper here: load the helper's module".into()
            }
            Self::Conflict => "another expectation waits for the same flow".into(),
            Self::TooMany => "the kernel expects as many flows as it may: raise \
                              net.netfilter.nf_conntrack_expect_max"
                .into(),
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

impl Expect {
    /// An expectation with what is left of its timeout: at least `grace`, but not more than the
    /// kernel told when it told it.
    pub(super) fn new(expectation: &Expectation, left_secs: u32, grace_secs: u32) -> Self {
        Self {
            expectation: *expectation,
            timeout_secs: left_secs.max(grace_secs.min(expectation.timeout_secs)),
            step: Step::Create,
            attempts: 0,
        }
    }

    /// Writes the next step.
    pub(super) fn write(self, batch: &mut Writing<'_, Message>) {
        let (expectation, timeout_secs, step) = (self.expectation, self.timeout_secs, self.step);
        batch.push(Message::Expect(Box::new(self)), |out, seq| match step {
            Step::Create => expectation::create(out, seq, Ack::None, &expectation),
            Step::SetTimeout => {
                expectation::update_timeout(out, seq, Ack::None, &expectation, timeout_secs);
            }
        });
    }

    /// What the kernel's answer means; without one all is well if the batch was answered in full.
    pub(super) fn judge(mut self: Box<Self>, answer: Option<Answer>, is_answered: bool) -> Verdict {
        let errno = match answer.map(|answer| answer.outcome) {
            Some(Outcome::Refused(errno)) => errno,
            None if !is_answered => {
                self.attempts += 1;
                return if self.attempts >= ATTEMPTS_MAX {
                    Verdict::Failed(Failure::NoAnswer)
                } else {
                    Verdict::Again(self)
                };
            }
            None | Some(Outcome::Found(_)) => 0,
        };
        match (self.step, errno) {
            // A create whose answer was lost may have made it.
            (Step::Create, libc::EEXIST) if self.attempts == 0 => Verdict::Already,
            (Step::Create, 0 | libc::EEXIST) => {
                self.step = Step::SetTimeout;
                Verdict::Again(self)
            }
            (Step::Create, libc::ENOENT) => Verdict::Failed(Failure::NoMaster),
            (Step::Create, libc::EOPNOTSUPP) => Verdict::Failed(Failure::NoHelper),
            (Step::Create, libc::EBUSY) => Verdict::Failed(Failure::Conflict),
            (Step::Create, libc::EMFILE) => Verdict::Failed(Failure::TooMany),
            (Step::Create, errno) => Verdict::Failed(Failure::Refused(errno)),
            // Whatever is said of its timeout: it was made, and may have been used already.
            (Step::SetTimeout, _) => Verdict::Created,
        }
    }
}

#[cfg(test)]
mod tests;
