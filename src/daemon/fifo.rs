//! The FIFO to which keepalived writes its changes of state, in order and without a process for
//! each: keepalived.conf(5), `vrrp_notify_fifo`. A line is `INSTANCE "VI_1" MASTER 150`.
//!
//! keepalived opens the FIFO to read and write, so nothing that it writes is lost while the daemon
//! restarts, and writes a line at a time. Where there is none it makes one and removes it when it
//! ends; so the FIFO is opened anew, and made anew, whenever the last writer has gone.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tracing::{debug, warn};

use super::orders::{Answer, Asker};
use crate::engine::{Command, InstanceState, Reply, Via};

/// Longest line. A name of keepalived is far shorter; what is longer is dropped up to its end.
const LINE_BYTES_MAX: usize = 512;
/// A FIFO that cannot be opened is tried again this often.
const MEND_INTERVAL: Duration = Duration::from_secs(1);

/// Why a line is none of keepalived's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
enum Refusal {
    /// The writer has gone in the middle of it.
    HalfLine,
    /// Longer than any of keepalived's.
    TooLong,
    /// Not UTF-8.
    NotText,
    /// About something else than an instance or a group, for example a virtual server.
    OtherKind,
    /// No name in quotes.
    NoName,
    /// No state that we know.
    UnknownState,
}

const REFUSALS: [(Refusal, &str); 6] = [
    (Refusal::HalfLine, "half_line"),
    (Refusal::TooLong, "too_long"),
    (Refusal::NotText, "not_text"),
    (Refusal::OtherKind, "other_kind"),
    (Refusal::NoName, "no_name"),
    (Refusal::UnknownState, "unknown_state"),
];

/// What was read.
#[derive(Debug, Default)]
pub(super) struct FifoCounters {
    lines: AtomicU64,
    opened: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
}

impl FifoCounters {
    /// Every counter by name.
    pub(super) fn list(&self) -> Vec<(String, u64)> {
        let mut stats = vec![
            ("fifo.lines".to_owned(), self.lines.load(Relaxed)),
            ("fifo.opened".to_owned(), self.opened.load(Relaxed)),
        ];
        for (refusal, name) in REFUSALS {
            let count = self.refused[refusal as usize].load(Relaxed);
            stats.push((format!("fifo.refused.{name}"), count));
        }
        stats
    }

    fn refuse(&self, refusal: Refusal, line: &[u8]) {
        self.refused[refusal as usize].fetch_add(1, Relaxed);
        let line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]);
        debug!(?refusal, line = %line.escape_debug(), "a line of the FIFO is not understood");
    }
}

/// The open FIFO.
#[derive(Debug)]
pub(super) struct Fifo {
    path: PathBuf,
    receiver: pipe::Receiver,
    line: Vec<u8>,
    /// The rest of the present line is dropped.
    is_dropping: bool,
}

impl Fifo {
    /// Opens the FIFO, and makes it if there is none. To be called within a runtime.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            receiver: receiver(path)?,
            path: path.to_owned(),
            line: Vec::with_capacity(LINE_BYTES_MAX),
            is_dropping: false,
        })
    }

    /// Reads lines and gives the orders that follow from them, for ever.
    pub(super) async fn listen(mut self, asker: Asker, counters: &FifoCounters) {
        let mut chunk = [0; 4096];
        counters.opened.fetch_add(1, Relaxed);
        loop {
            let read = self.receiver.read(&mut chunk).await;
            match read {
                Ok(0) => self.reopen(counters).await,
                Ok(count) => {
                    for byte in &chunk[..count] {
                        if let Some(command) = self.take(*byte, counters) {
                            order(&asker, command).await;
                        }
                    }
                }
                Err(error) => {
                    warn!("cannot read {}: {error}", self.path.display());
                    tokio::time::sleep(MEND_INTERVAL).await;
                    self.reopen(counters).await;
                }
            }
        }
    }

    /// The last writer has gone: what follows comes from another one.
    async fn reopen(&mut self, counters: &FifoCounters) {
        if !self.line.is_empty() || self.is_dropping {
            counters.refuse(Refusal::HalfLine, &self.line);
            self.line.clear();
            self.is_dropping = false;
        }
        let mut is_told = false;
        loop {
            // The new one is open before the old one is closed: what is written meanwhile stays.
            match receiver(&self.path) {
                Ok(receiver) => {
                    self.receiver = receiver;
                    counters.opened.fetch_add(1, Relaxed);
                    return;
                }
                Err(error) if !is_told => {
                    is_told = true;
                    warn!("keepalived is not heard: {error:#}");
                }
                Err(_) => {}
            }
            tokio::time::sleep(MEND_INTERVAL).await;
        }
    }

    /// Takes a byte; at the end of a line, what it orders.
    fn take(&mut self, byte: u8, counters: &FifoCounters) -> Option<Command> {
        if byte != b'\n' {
            if self.line.len() < LINE_BYTES_MAX {
                self.line.push(byte);
            } else {
                self.is_dropping = true;
            }
            return None;
        }
        counters.lines.fetch_add(1, Relaxed);
        let parsed = if std::mem::take(&mut self.is_dropping) {
            Err(Refusal::TooLong)
        } else {
            parse(&self.line)
        };
        let command = match parsed {
            Ok(command) => Some(command),
            Err(refusal) => {
                counters.refuse(refusal, &self.line);
                None
            }
        };
        self.line.clear();
        command
    }
}

/// Gives an order. Nobody waits for its end: the next line may be the one that ends it.
async fn order(asker: &Asker, command: Command) {
    let Some(answer) = asker.order_only(command).await else {
        return;
    };
    tokio::spawn(async move {
        if let Ok(Answer::Reply(Reply::Refused(why))) = answer.await {
            warn!("keepalived's word is not followed: {why}");
        }
    });
}

fn receiver(path: &Path) -> anyhow::Result<pipe::Receiver> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_fifo() => {}
        Ok(_) => bail!(
            "{} is there and is no FIFO: remove it, or name another path with [keepalived] \
             notify_fifo",
            path.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, path, FileType::Fifo, mode, 0)
                .with_context(|| format!("cannot make the FIFO {}", path.display()))?;
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look at {}", path.display()));
        }
    }
    pipe::OpenOptions::new()
        .open_receiver(path)
        .with_context(|| format!("cannot open the FIFO {}", path.display()))
}

/// Reads a line without its newline.
fn parse(line: &[u8]) -> Result<Command, Refusal> {
    let line = std::str::from_utf8(line).map_err(|_| Refusal::NotText)?;
    let (kind, rest) = line.split_once(' ').ok_or(Refusal::OtherKind)?;
    if !matches!(kind, "INSTANCE" | "GROUP") {
        return Err(Refusal::OtherKind);
    }
    // The name may hold spaces, and nothing says that it holds no quotes.
    let quoted = rest.strip_prefix('"').ok_or(Refusal::NoName)?;
    let (name, rest) = quoted.rsplit_once('"').ok_or(Refusal::NoName)?;
    if name.is_empty() {
        return Err(Refusal::NoName);
    }
    let state = rest.split_ascii_whitespace().next();
    let state = state
        .and_then(InstanceState::parse)
        .ok_or(Refusal::UnknownState)?;
    Ok(Command::Instance {
        via: Via::Fifo,
        instance: (kind.to_owned(), name.to_owned()),
        state,
    })
}

#[cfg(test)]
mod tests;
