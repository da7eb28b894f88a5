//! What reconcile costs, counted.

/// What reconciles have cost and done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReconcileCounters {
    /// Begun.
    pub reconciles: u64,
    /// Ended because the peer did not answer.
    pub unanswered: u64,
    /// Questions asked, repeats included.
    pub questions: u64,
    /// Bytes of datagrams with questions.
    pub question_bytes: u64,
    /// Bytes of datagrams with answers.
    pub answer_bytes: u64,
    /// Answers to what was not, or no longer, asked.
    pub stale_answers: u64,
    /// Sums compared.
    pub sums: u64,
    /// Flows listed by the peer.
    pub list_entries: u64,
    /// Flows sent again because the peer lacks them or has them otherwise.
    pub touched: u64,
    /// Flows ended that only the peer has.
    pub buried: u64,
}

impl ReconcileCounters {
    /// What was added since an earlier look.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            reconciles: self.reconciles - before.reconciles,
            unanswered: self.unanswered - before.unanswered,
            questions: self.questions - before.questions,
            question_bytes: self.question_bytes - before.question_bytes,
            answer_bytes: self.answer_bytes - before.answer_bytes,
            stale_answers: self.stale_answers - before.stale_answers,
            sums: self.sums - before.sums,
            list_entries: self.list_entries - before.list_entries,
            touched: self.touched - before.touched,
            buried: self.buried - before.buried,
        }
    }
}
