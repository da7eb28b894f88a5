//! Who opens and closes the gate: a thread of its own, told of every change of role.
//!
//! Closed while this node is standby or being promoted, open while it is active. A change of
//! nftables waits for whatever else changes the ruleset at that moment, so the engine's thread never
//! makes one itself. It gives a sign of life instead: without one the thread opens the gate, as the
//! timeout of its elements does when the whole daemon has died.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{info, warn};

mod own;
mod wanted;

use crate::config::settings::{GateSettings, LinkSettings};
use crate::engine::status::{GateState, GateStatus, Role};
use crate::kernel::{GateError, GateTable, clock};
use own::OwnAddresses;
use wanted::{Beat, wanted};

/// The engine's thread gives a sign of life at least this often.
pub(super) const BEAT: Duration = Duration::from_millis(250);
/// The closed gate is prolonged this many times within its timeout.
const REFRESHES: u32 = 4;
/// What the system refuses is tried again this often.
const RETRY: Duration = Duration::from_secs(5);

/// The gate, as the driver sees it. Dropping it takes the gate away.
#[derive(Debug)]
pub(super) struct Gate {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the driver and the thread share.
#[derive(Debug)]
struct Shared {
    /// Grows with each round of the engine.
    beats: AtomicU64,
    told: Mutex<Told>,
    /// Something was told.
    news: Condvar,
    seen: Mutex<Seen>,
}

/// What the thread has not looked at yet. Only the newest counts, so nothing queues.
#[derive(Debug, Default)]
struct Told {
    /// The role, and when it changed.
    role: Option<(Role, Instant)>,
    /// When a promotion began.
    promoting_since: Option<Instant>,
    addresses: Option<Vec<IpAddr>>,
    is_over: bool,
}

/// What the gate does, since when and why.
#[derive(Clone, Debug)]
struct Seen {
    state: GateState,
    since: Instant,
    why: String,
    dropped: u64,
}

impl Gate {
    /// Puts the gate into the kernel, closed unless this node is active, and starts the thread.
    /// What the system refuses is told and tried again: a node without a gate is better than none.
    pub(super) fn start(
        settings: &GateSettings,
        links: &[LinkSettings],
        role: Role,
        addresses: &[IpAddr],
    ) -> anyhow::Result<Self> {
        let now = clock();
        let table = GateTable::new(settings, links)?;
        let shared = Arc::new(Shared {
            beats: AtomicU64::new(0),
            told: Mutex::default(),
            news: Condvar::new(),
            seen: Mutex::new(Seen {
                state: GateState::Open,
                since: now,
                why: String::new(),
                dropped: 0,
            }),
        });
        let mut keeper = Keeper {
            table,
            settings: settings.clone(),
            own: OwnAddresses::new(now, addresses, role == Role::Standby),
            own_told: Vec::new(),
            role,
            promoting_since: now,
            is_overdue: false,
            beat: Beat::new(now),
            next_look: now,
            dropped_before: 0,
            shared: Arc::clone(&shared),
        };
        keeper.begin(now);
        let thread = thread::Builder::new()
            .name("gate".into())
            .spawn(move || keeper.run())
            .context("cannot start the gate's thread")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The role has changed, at this moment.
    pub(super) fn set_role(&self, role: Role, at: Instant) {
        self.tell(|told| {
            told.role = Some((role, at));
            if role == Role::Promoting {
                told.promoting_since = Some(at);
            }
        });
    }

    /// The node's addresses have changed.
    pub(super) fn set_addresses(&self, addresses: &[IpAddr]) {
        self.tell(|told| told.addresses = Some(addresses.to_vec()));
    }

    /// The engine's thread lives.
    pub(super) fn beat(&self) {
        self.shared.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// What the gate does.
    pub(super) fn status(&self, now: Instant) -> GateStatus {
        let seen = self.shared.seen().clone();
        let since = now.saturating_duration_since(seen.since);
        GateStatus {
            state: seen.state,
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            why: seen.why,
            dropped: seen.dropped,
        }
    }

    fn tell(&self, what: impl FnOnce(&mut Told)) {
        what(&mut self.shared.told());
        self.shared.news.notify_one();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.tell(|told| told.is_over = true);
        if let Some(thread) = self.thread.take() {
            // If it has panicked, the gate opens by its timeout.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news, at most so long, and takes them.
    fn await_told(&self, limit: Duration) -> Told {
        let nothing =
            |told: &mut Told| told.role.is_none() && told.addresses.is_none() && !told.is_over;
        let waited = self.news.wait_timeout_while(self.told(), limit, nothing);
        let (mut told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *told)
    }
}

/// The thread.
struct Keeper {
    table: GateTable,
    settings: GateSettings,
    own: OwnAddresses,
    /// What the kernel was told last.
    own_told: Vec<IpAddr>,
    role: Role,
    /// When the last promotion began.
    promoting_since: Instant,
    /// This promotion has lasted longer than `open_after`.
    is_overdue: bool,
    beat: Beat,
    /// When the gate is looked at without being told to.
    next_look: Instant,
    /// Packets that the counters of earlier tables have counted.
    dropped_before: u64,
    shared: Arc<Shared>,
}

impl Keeper {
    /// The first look, before the thread is there: nothing passes between.
    fn begin(&mut self, now: Instant) {
        if let Err(error) = self.install(now) {
            self.complain(now, &error);
            return;
        }
        self.look(now, now);
        let seen = self.shared.seen().clone();
        info!(state = ?seen.state, "the gate is in place: {}", seen.why);
    }

    fn run(mut self) {
        loop {
            let left = self.next_look.saturating_duration_since(clock());
            let told = self.shared.await_told(left);
            if told.is_over {
                break;
            }
            if let Some(since) = told.promoting_since {
                self.promoting_since = since;
                self.is_overdue = false;
            }
            let now = clock();
            if let Some(addresses) = told.addresses {
                self.own.on_addresses(now, &addresses);
            }
            let at = told.role.map_or(now, |(_, at)| at);
            if let Some((role, at)) = told.role {
                self.role = role;
                self.own.on_role(at, role == Role::Standby);
            }
            self.look(now, at);
        }
        if let Err(error) = self.table.remove() {
            warn!("{error}");
        }
    }

    /// Makes the gate what it should be, and keeps it so. `told` is when that came up.
    fn look(&mut self, now: Instant, told: Instant) {
        let overdue_at = self.promoting_since + self.settings.open_after;
        if self.role == Role::Promoting && now >= overdue_at && !self.is_overdue {
            self.is_overdue = true;
            let after = self.settings.open_after;
            warn!("the gate opens before the commit is done: it takes longer than {after:?}");
        }
        let lives = self
            .beat
            .lives(now, self.shared.beats.load(Ordering::Relaxed));
        let (state, why) = wanted(self.role, self.is_overdue, lives);
        match self.apply(now, state) {
            Ok(()) => self.settle(now, told, state, why),
            Err(GateError::Gone) => {
                warn!("{}; putting it back", GateError::Gone);
                self.dropped_before = self.shared.seen().dropped;
                match self.install(now).and_then(|()| self.apply(now, state)) {
                    Ok(()) => self.settle(now, told, state, why),
                    Err(error) => self.complain(now, &error),
                }
            }
            Err(error) => self.complain(now, &error),
        }
    }

    fn install(&mut self, now: Instant) -> Result<(), GateError> {
        let own = self.own.own(now);
        self.table.install(&own)?;
        self.own_told = own;
        Ok(())
    }

    fn apply(&mut self, now: Instant, state: GateState) -> Result<(), GateError> {
        match state {
            GateState::Closed => self.table.close()?,
            // Each look is one transaction, and an open gate is looked at when something changes.
            GateState::Open | GateState::Unavailable => self.table.open()?,
        }
        let own = self.own.own(now);
        if own != self.own_told {
            self.table.set_own(&own)?;
            self.own_told = own;
        }
        Ok(())
    }

    /// The gate is what it should be.
    fn settle(&mut self, now: Instant, told: Instant, state: GateState, why: &str) {
        let done = clock();
        // What cannot be counted is no reason to do anything.
        let dropped = self
            .table
            .dropped()
            .map(|count| self.dropped_before + count);
        let shared = Arc::clone(&self.shared);
        let mut seen = shared.seen();
        if let Ok(dropped) = dropped {
            seen.dropped = dropped;
        }
        let was = std::mem::replace(&mut seen.state, state);
        if was != state {
            seen.since = done;
        }
        if seen.why != why {
            seen.why = why.to_owned();
        }
        let dropped = seen.dropped;
        drop(seen);
        match (was, state) {
            (GateState::Closed, GateState::Open | GateState::Unavailable) => {
                let micros = done.saturating_duration_since(told).as_micros();
                let promotion = done.saturating_duration_since(self.promoting_since);
                let promotion_ms = promotion.as_millis();
                info!(promotion_ms, micros, dropped, "the gate is open: {why}");
            }
            (GateState::Open | GateState::Unavailable, GateState::Closed) => {
                info!("the gate is closed: {why}");
            }
            (
                GateState::Open | GateState::Unavailable,
                GateState::Open | GateState::Unavailable,
            )
            | (GateState::Closed, GateState::Closed) => {}
        }
        self.next_look = self.next_look_after(now, state);
    }

    fn next_look_after(&self, now: Instant, state: GateState) -> Instant {
        let refresh = now + self.settings.timeout / REFRESHES;
        let mut next = match state {
            GateState::Closed => refresh,
            // The engine may come back, and the table may be gone.
            GateState::Open | GateState::Unavailable => now + RETRY,
        };
        if self.role == Role::Promoting && !self.is_overdue {
            next = next.min(self.promoting_since + self.settings.open_after);
        }
        self.own.poll_timeout(now).map_or(next, |own| next.min(own))
    }

    /// The system has refused something: told once, tried again, and everything passes meanwhile
    /// (a gate that was closed opens by its timeout).
    fn complain(&mut self, now: Instant, error: &impl Display) {
        let why = error.to_string();
        let shared = Arc::clone(&self.shared);
        let mut seen = shared.seen();
        if seen.state != GateState::Unavailable || seen.why != why {
            warn!("{why}; going on without a gate");
            *seen = Seen {
                state: GateState::Unavailable,
                since: now,
                why,
                dropped: seen.dropped,
            };
        }
        drop(seen);
        self.next_look = now + RETRY;
    }
}
