//! Two FTP transfers in the middle of which the firewall dies: one over a data connection that the
//! client opened, one over a connection that the server opened because the firewall's helper let it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::harness::ftp::{File, FtpClient, FtpServer, Transfer};
use super::harness::topology::{Lab, SERVER};
use super::harness::wait::pass;
use super::harness::{Context as _, Result, bail};
use super::report::Survival;

/// Bytes a second of a transfer: a chunk every 20 ms.
const RATE: u64 = 400_000;
/// Length of a transfer, without what a stall adds.
const LENGTH: Duration = Duration::from_secs(10);
/// How often the counter of a transfer is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// A transfer runs for this long before the cut, so that its flow has been replicated.
const BEFORE: Duration = Duration::from_millis(1500);
/// A file that opens the next data connection after the failover.
const NEXT: File = File {
    bytes: 100_000,
    rate: None,
};

#[derive(Clone, Copy, Debug)]
enum Way {
    Passive,
    Active,
}

/// The control connections.
#[derive(Debug)]
pub(crate) struct Sessions {
    _server: FtpServer,
    sessions: Vec<(Way, FtpClient)>,
}

/// Transfers under way, and who watches them.
#[derive(Debug)]
pub(crate) struct Running {
    mark: Arc<OnceLock<Instant>>,
    stop: Arc<AtomicBool>,
    watched: Vec<(Way, FtpClient, Option<JoinHandle<Watched>>)>,
    _server: FtpServer,
}

/// A transfer, and how it went since the mark.
#[derive(Debug)]
struct Watched {
    transfer: Transfer,
    longest_gap: Duration,
    moved_since: bool,
}

impl Sessions {
    /// Opens the control connections.
    pub(crate) fn open(lab: &Lab) -> Result<Self> {
        let address = SERVER[0].parse()?;
        let server = FtpServer::start(lab.server(), address)?;
        let mut sessions = Vec::new();
        for way in [Way::Passive, Way::Active] {
            let mut client = FtpClient::connect(lab.client(), address)?;
            client.login()?;
            sessions.push((way, client));
        }
        Ok(Self {
            _server: server,
            sessions,
        })
    }

    /// Starts the transfers.
    pub(crate) fn begin(self, lab: &Lab) -> Result<Running> {
        let mut running = Running {
            mark: Arc::default(),
            stop: Arc::default(),
            watched: Vec::new(),
            _server: self._server,
        };
        let file = File::paced(RATE * LENGTH.as_secs(), RATE);
        for (way, mut client) in self.sessions {
            let transfer = match way {
                Way::Passive => client.passive_get(lab.client(), file),
                Way::Active => client.active_get(lab.client(), file),
            };
            let transfer =
                transfer.with_context(|| format!("beginning an FTP transfer, {way:?}"))?;
            let (mark, stop) = (Arc::clone(&running.mark), Arc::clone(&running.stop));
            let thread = thread::Builder::new()
                .name("ftp-watch".to_owned())
                .spawn(move || watch(transfer, &mark, &stop))?;
            running.watched.push((way, client, Some(thread)));
        }
        pass(BEFORE)?;
        Ok(running)
    }
}

impl Running {
    /// Stalls count from now on.
    pub(crate) fn mark(&self) {
        // Only here, once.
        let _ = self.mark.set(Instant::now());
    }

    /// Waits for the end of the transfers and looks what came of them. Alive is who has transferred
    /// every byte and then another file, over a new data connection.
    pub(crate) fn settle(mut self, lab: &Lab, limit: Duration) -> Result<Survival> {
        let began = Instant::now();
        let is_over = |watched: &(Way, FtpClient, Option<JoinHandle<Watched>>)| {
            watched.2.as_ref().is_none_or(JoinHandle::is_finished)
        };
        while began.elapsed() < limit + LENGTH && !self.watched.iter().all(is_over) {
            pass(LOOK)?;
        }
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = Survival::default();
        for (way, client, thread) in &mut self.watched {
            let Some(Ok(watched)) = thread.take().map(JoinHandle::join) else {
                bail!("an FTP transfer's watch panicked");
            };
            outcome.connections += 1;
            let gap = super::site::millis(watched.longest_gap);
            let is_whole = watched.moved_since && watched.transfer.is_over();
            let went = if is_whole {
                let finished = client.finish(watched.transfer);
                finished.and_then(|()| next(lab, *way, client))
            } else {
                Err(super::harness::Error::msg("no byte came any more"))
            };
            match went {
                Ok(()) => {
                    outcome.alive += 1;
                    outcome.stall_ms = outcome.stall_ms.max(Some(gap));
                }
                Err(why) => {
                    super::say(&format!("FTP, {way:?}: {why:#}"));
                    outcome.silent += 1;
                }
            }
        }
        Ok(outcome)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (_, _, thread) in &mut self.watched {
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// The next file, over a new data connection.
fn next(lab: &Lab, way: Way, client: &mut FtpClient) -> Result<()> {
    client.noop()?;
    let transfer = match way {
        Way::Passive => client.passive_get(lab.client(), NEXT)?,
        Way::Active => client.active_get(lab.client(), NEXT)?,
    };
    client.finish(transfer)
}

fn watch(transfer: Transfer, mark: &OnceLock<Instant>, stop: &AtomicBool) -> Watched {
    let (mut bytes, mut grown) = (transfer.bytes(), Instant::now());
    let (mut longest_gap, mut moved_since) = (Duration::ZERO, false);
    while !stop.load(Ordering::Relaxed) && !transfer.is_over() {
        thread::sleep(LOOK);
        let now = transfer.bytes();
        if now > bytes {
            let before = std::mem::replace(&mut grown, Instant::now());
            bytes = now;
            if let Some(&mark) = mark.get() {
                // Zero is when the last cable is out: what was under way then still came.
                moved_since |= before > mark;
                longest_gap = longest_gap.max(grown - before);
            }
        }
    }
    Watched {
        transfer,
        longest_gap,
        moved_since,
    }
}
