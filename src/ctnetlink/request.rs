//! What is asked of the kernel, and what comes back. The engine asks, `kernel` carries it out.

use crate::flow::{ExpectationEvent, FlowEvent};

/// A request to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelRequest {
    /// List the whole table, both families, and after it the expectations.
    Dump,
    /// The netlink messages in the buffer that goes with this, back to back, numbered
    /// `first_seq..=last_seq` without holes; only the last carries NLM_F_ACK.
    Batch {
        /// `nlmsg_seq` of the first message.
        first_seq: u32,
        /// `nlmsg_seq` of the last message.
        last_seq: u32,
    },
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestDone {
    /// Some flows of the running dump, as `EventKind::Listed`.
    Listed(Vec<FlowEvent>),
    /// Some expectations of the running dump, as `EventKind::Listed`. They come after all flows.
    ListedExpectations(Vec<ExpectationEvent>),
    /// The dump is over.
    DumpEnded {
        /// Nothing was lost on the way: the listing is complete.
        complete: bool,
    },
    /// A batch was carried out.
    Batch {
        /// `last_seq` of the request.
        last_seq: u32,
        /// Every message was looked at by the kernel: those without an answer below succeeded.
        /// False: replies were lost (ENOBUFS) or the last acknowledgement never came, and the
        /// outcome of messages without an answer is unknown.
        complete: bool,
        /// Refusals and found flows, in the order in which they came.
        answers: Vec<Answer>,
    },
}

/// The kernel's word on one message of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// `nlmsg_seq` of the message.
    pub seq: u32,
    /// What it said.
    pub outcome: Outcome,
}

/// Outcome of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Refused, with the positive errno.
    Refused(i32),
    /// A GET found this flow.
    Found(Box<FlowEvent>),
}
