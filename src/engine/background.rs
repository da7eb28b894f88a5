//! What is put right in the kernel while nothing else is to be done there: fading after a demotion,
//! strict TCP after a commit. Jobs go first.

use std::time::Instant;

use super::commit::Around;
use super::fade::Fade;
use super::jobs::Work;
use super::status::Role;
use super::strict::Strict;
use super::{Engine, Notice};
use crate::cache::HashKey;
use crate::ctnetlink::request::{Answer, KernelRequest};

/// The work that runs, and what came of it so far.
#[derive(Debug, Default)]
pub(super) struct Background {
    fade: Option<Fade>,
    strict: Option<Strict>,
    counters: BackgroundCounters,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct BackgroundCounters {
    /// Entries that were shortened after a demotion.
    pub(super) faded: u64,
    /// TCP flows that were made strict.
    pub(super) made_strict: u64,
    /// TCP flows that were made liberal again.
    pub(super) set_back: u64,
}

impl Background {
    pub(super) fn counters(&self) -> BackgroundCounters {
        let mut counters = self.counters;
        if let Some(fade) = &self.fade {
            counters.faded += fade.shortened;
        }
        if let Some(strict) = &self.strict {
            counters.made_strict += strict.cleared;
            counters.set_back += strict.set_back;
        }
        counters
    }

    /// When a step is due.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let fade = self.fade.as_ref().and_then(|fade| fade.due(now));
        let strict = self.strict.as_ref().and_then(|strict| strict.due(now));
        [fade, strict].into_iter().flatten().min()
    }

    /// Takes the next step, if one is due.
    pub(super) fn step(
        &mut self,
        around: &Around<'_>,
        next_seq: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<KernelRequest> {
        let fade = self.fade.as_mut();
        let request = fade.and_then(|fade| fade.step(around, next_seq, out));
        let strict = self.strict.as_mut();
        request.or_else(|| strict.and_then(|strict| strict.step(around, next_seq, out)))
    }

    /// The kernel has answered; gives the answers back if they are not for the background.
    pub(super) fn on_done(
        &mut self,
        now: Instant,
        key: HashKey,
        last_seq: u32,
        is_answered: bool,
        answers: Vec<Answer>,
    ) -> Option<Vec<Answer>> {
        if let Some(fade) = self.fade.as_mut().filter(|fade| fade.owns(last_seq)) {
            fade.on_done(last_seq, answers);
        } else if let Some(strict) = self.strict.as_mut().filter(|it| it.owns(last_seq)) {
            strict.on_done(now, key, last_seq, is_answered, answers);
        } else {
            return Some(answers);
        }
        None
    }

    /// Forgets a fade, done or not.
    fn end_fade(&mut self) -> Option<u64> {
        let fade = self.fade.take()?;
        self.counters.faded += fade.shortened;
        Some(fade.shortened)
    }

    fn end_strict(&mut self) -> Option<(u64, u64)> {
        let strict = self.strict.take()?;
        self.counters.made_strict += strict.cleared;
        self.counters.set_back += strict.set_back;
        Some((strict.cleared, strict.set_back))
    }
}

impl Engine {
    /// The kernel has done a batch: of the background, or of the running job.
    pub(super) fn on_batch_done(
        &mut self,
        now: Instant,
        last_seq: u32,
        is_answered: bool,
        answers: Vec<Answer>,
    ) {
        let key = self.mirror.local.hash_key();
        let background = &mut self.background;
        let others = background.on_done(now, key, last_seq, is_answered, answers);
        if let Some(answers) = others {
            self.jobs
                .on_done(last_seq, is_answered, answers, &mut self.room);
        }
    }

    /// This node has lost the active role: its entries fade, and their windows are nobody's concern.
    pub(super) fn begin_fading(&mut self) {
        self.background.end_strict();
        self.background.end_fade();
        self.background.fade = Some(Fade::new());
    }

    /// This node is wanted again: what has not faded yet stays as it is.
    pub(super) fn stop_fading(&mut self) {
        self.background.end_fade();
    }

    /// A commit has ended.
    pub(super) fn begin_strict(&mut self, work: Work) {
        let is_commit = matches!(work, Work::Commit | Work::Promotion);
        if self.settings.tcp_liberal || !is_commit || self.role == Role::Standby {
            return;
        }
        match &mut self.background.strict {
            Some(strict) => strict.renew(),
            none => *none = Some(Strict::new()),
        }
    }

    /// Ends what is done.
    pub(super) fn settle_background(&mut self) {
        if self.background.fade.as_ref().is_some_and(Fade::is_done)
            && let Some(shortened) = self.background.end_fade()
        {
            self.notify(Notice::Faded { shortened });
        }
        if self.background.strict.as_ref().is_some_and(Strict::is_done)
            && let Some((cleared, set_back)) = self.background.end_strict()
        {
            self.notify(Notice::MadeStrict { cleared, set_back });
        }
    }
}
