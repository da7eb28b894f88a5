//! Connections that talk all the time, and what a failover does to each of them.
//!
//! The client sends a line with its own clock on every connection, again and again, whether or not
//! the last was answered; the server echoes. One thread per end, inside its namespace.

mod ends;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::namespace::Namespace;
use super::topology::Lab;
use super::wait::{await_until, pass};
use super::{Context as _, Result};

/// Port of the server.
pub(crate) const PORT: u16 = 7000;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that has answered within this time is talking.
const TALKING: Duration = Duration::from_millis(1500);

/// What is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// TCP connections.
    Tcp,
    /// UDP streams.
    Udp,
}

/// Which of the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    /// All.
    All,
    /// Over IPv4.
    V4,
    /// Over IPv6.
    V6,
}

impl Which {
    /// True for the connection of a number: they take turns.
    fn has(self, number: usize) -> bool {
        match self {
            Self::All => true,
            Self::V4 => number.is_multiple_of(2),
            Self::V6 => !number.is_multiple_of(2),
        }
    }
}

/// How much is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// What.
    pub(crate) kind: Kind,
    /// Connections; every other one over IPv6.
    pub(crate) connections: usize,
    /// From line to line, on each.
    pub(crate) every: Duration,
}

/// One connection, as its client sees it. Times are microseconds since the start of the traffic.
#[derive(Debug, Default)]
struct Connection {
    state: AtomicU8,
    /// When the last answer came.
    answered: AtomicU64,
    /// Longest time between two answers since the mark.
    longest_gap: AtomicU64,
    /// When the first answer came to a line sent after the mark; 0: none yet.
    back: AtomicU64,
}

const CONNECTING: u8 = 0;
const OPEN: u8 = 1;
const ENDED: u8 = 2;

/// What both ends and the owner share.
#[derive(Debug)]
struct Shared {
    start: Instant,
    connections: Vec<Connection>,
    answers: AtomicU64,
    /// Lines sent in full.
    sent: AtomicU64,
    /// The moment from which gaps and returns count; 0: none.
    mark: AtomicU64,
    /// Nothing is said for now.
    paused: AtomicBool,
    failed: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        // Never 0, which means "not yet".
        micros(self.start.elapsed()).max(1)
    }

    /// An answer to a line that was sent at `sent`.
    fn on_answer(&self, connection: &Connection, sent: u64) {
        let now = self.now();
        self.answers.fetch_add(1, Ordering::Relaxed);
        let before = connection.answered.swap(now, Ordering::Relaxed);
        let mark = self.mark.load(Ordering::Relaxed);
        if mark == 0 {
            return;
        }
        connection
            .longest_gap
            .fetch_max(now - before.min(now), Ordering::Relaxed);
        if sent > mark {
            let _ = connection
                .back
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Running traffic; drop ends it.
#[derive(Debug)]
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    /// Both ends stop when this is dropped.
    stop: Option<watch::Sender<()>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What became of the connections since the mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// All.
    pub(crate) connections: usize,
    /// Answered after the mark, and until now.
    pub(crate) alive: usize,
    /// Ended by a reset or an error.
    pub(crate) reset: usize,
    /// Neither.
    pub(crate) silent: usize,
    /// Longest time between two answers of a living connection.
    pub(crate) longest_stall: Duration,
    /// From the mark to the first answer to a line sent after it.
    pub(crate) first_back: Option<Duration>,
    /// From the mark until every living connection had such an answer.
    pub(crate) last_back: Option<Duration>,
}

impl Traffic {
    /// Starts the server and the client, and waits until every connection has been answered.
    pub(crate) fn start(lab: &Lab, spec: Spec) -> Result<Self> {
        Self::start_from(lab, lab.client(), PORT, spec)
    }

    /// Likewise, from another client and to another port of the server.
    pub(crate) fn start_from(lab: &Lab, client: &Namespace, port: u16, spec: Spec) -> Result<Self> {
        let traffic = Self::launch(lab, client, port, spec)?;
        await_until("every connection talks", CONNECT * 2, || {
            anyhow::ensure!(
                !traffic.shared.failed.load(Ordering::Relaxed),
                "an end failed"
            );
            Ok(traffic.talking() == spec.connections)
        })?;
        Ok(traffic)
    }

    fn launch(lab: &Lab, client: &Namespace, port: u16, spec: Spec) -> Result<Self> {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            connections: (0..spec.connections)
                .map(|_| Connection::default())
                .collect(),
            answers: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let server = {
            let (stopped, shared) = (stopped.clone(), Arc::clone(&shared));
            lab.server()
                .spawn(move || ends::run(&shared, ends::serve(spec.kind, port, ready, stopped)))?
        };
        // The listeners stand before the first client calls.
        is_ready.recv().context("the server did not come up")?;
        let client = {
            let shared = Arc::clone(&shared);
            client.spawn(move || {
                ends::run(
                    &shared,
                    ends::call(spec, port, Arc::clone(&shared), stopped),
                )
            })?
        };
        Ok(Self {
            shared,
            stop: Some(stop),
            threads: vec![server, client],
        })
    }

    /// Gaps and returns count from now on.
    pub(crate) fn mark(&self) {
        for connection in &self.shared.connections {
            connection.longest_gap.store(0, Ordering::Relaxed);
            connection.back.store(0, Ordering::Relaxed);
        }
        self.shared.mark.store(self.shared.now(), Ordering::Relaxed);
    }

    /// Answers so far.
    pub(crate) fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Says nothing from now on; answers still come.
    pub(crate) fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
    }

    /// Lines sent so far, whether or not they were answered.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Connections that were answered a moment ago.
    pub(crate) fn talking(&self) -> usize {
        self.answered_within(TALKING)
    }

    /// Connections that were answered within the last `span`.
    pub(crate) fn answered_within(&self, span: Duration) -> usize {
        let since = self.shared.now().saturating_sub(micros(span));
        let is_talking = |connection: &&Connection| {
            let answered = connection.answered.load(Ordering::Relaxed);
            connection.state.load(Ordering::Relaxed) == OPEN && answered > 0 && answered >= since
        };
        self.shared.connections.iter().filter(is_talking).count()
    }

    /// Connections that ended.
    pub(crate) fn ended(&self) -> usize {
        let ended = |connection: &&Connection| connection.state.load(Ordering::Relaxed) == ENDED;
        self.shared.connections.iter().filter(ended).count()
    }

    /// Connections that have been answered since the mark.
    pub(crate) fn back(&self) -> usize {
        let is_back = |connection: &&Connection| connection.back.load(Ordering::Relaxed) > 0;
        self.shared.connections.iter().filter(is_back).count()
    }

    /// What became of the connections since the mark.
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome_of(Which::All)
    }

    /// What became of some of the connections since the mark.
    pub(crate) fn outcome_of(&self, which: Which) -> Outcome {
        let all = self.shared.connections.iter().enumerate();
        let connections = || {
            let some = all.clone().filter(|&(number, _)| which.has(number));
            some.map(|(_, connection)| connection)
        };
        let mark = self.shared.mark.load(Ordering::Relaxed);
        let since = self.shared.now().saturating_sub(micros(TALKING));
        let mut outcome = Outcome {
            connections: connections().count(),
            alive: 0,
            reset: 0,
            silent: 0,
            longest_stall: Duration::ZERO,
            first_back: None,
            last_back: None,
        };
        for connection in connections() {
            let back = connection.back.load(Ordering::Relaxed);
            if connection.state.load(Ordering::Relaxed) == ENDED {
                outcome.reset += 1;
            } else if back == 0 || connection.answered.load(Ordering::Relaxed) < since {
                outcome.silent += 1;
            } else {
                outcome.alive += 1;
                let gap = connection.longest_gap.load(Ordering::Relaxed);
                let gap = Duration::from_micros(gap);
                let back = Duration::from_micros(back - mark.min(back));
                outcome.longest_stall = outcome.longest_stall.max(gap);
                outcome.first_back = Some(outcome.first_back.map_or(back, |first| first.min(back)));
                outcome.last_back = outcome.last_back.max(Some(back));
            }
        }
        outcome
    }

    /// Waits until every connection is either back or ended, at most `limit`, and a little longer
    /// so that one that dies late is not counted as alive.
    pub(crate) fn settle(&self, limit: Duration) -> Result<Outcome> {
        let start = Instant::now();
        while start.elapsed() < limit {
            let outcome = self.outcome();
            if outcome.alive + outcome.reset == outcome.connections {
                break;
            }
            pass(Duration::from_millis(50))?;
        }
        pass(TALKING)?;
        Ok(self.outcome())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            // An end that failed has said so through `failed`.
            let _ = thread.join();
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
