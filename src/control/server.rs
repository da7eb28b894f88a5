//! The daemon's end of the control socket: binds it, accepts clients, turns lines into [`Call`]s.
//!
//! Who may ask is decided by the socket's mode (0660, so root and the socket's group); there is no
//! second check behind it. Everything a client may take up is bounded by [`Limits`]: a client that
//! says nothing, half a line or a gigabyte costs one slot for a while and disturbs nobody.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::message::{Request, Response};
use super::session;

/// Answers that wait between the daemon and one client; a daemon that lists faster than the client
/// reads waits in `reply.send`.
pub const REPLY_DEPTH: usize = 256;

/// Mode of the socket: connecting to a Unix socket takes the right to write to it.
const SOCKET_MODE: u32 = 0o660;
/// Mode of the directory, if we have to make it.
const DIRECTORY_MODE: u32 = 0o755;
/// Clients the kernel queues for us while we are busy.
const BACKLOG: i32 = 128;
/// Pause after an accept that the system refused (no file descriptors, most of all).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// One request and the way back to who asked.
///
/// The daemon sends any number of [`Response::Line`] and then one [`Response::Done`] or
/// [`Response::Failed`]; what follows that is dropped. A send that fails means that the client is
/// gone or was cut: the listing can stop there. Dropping `reply` without an ending is told to the
/// client as a failure.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes, [`REPLY_DEPTH`] deep.
    pub reply: mpsc::Sender<Response>,
}

/// What clients may take up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Clients at once; the next one gets a `Failed` line and is closed.
    pub clients_max: usize,
    /// Longest request, without its newline; a longer one gets a `Failed` line and is closed.
    pub line_bytes_max: usize,
    /// A complete line has to arrive within this time after the last answer.
    pub idle: Duration,
    /// The daemon has to take a request within this time, or the client is told that it is busy.
    pub take: Duration,
    /// A client has to take what we wrote (some 64 KiB at a time) within this time. Long enough
    /// for a person who pages through a listing.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 64,
            line_bytes_max: 64 * 1024,
            idle: Duration::from_secs(30),
            take: Duration::from_secs(10),
            stall: Duration::from_secs(60),
        }
    }
}

/// Why the socket could not be bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// A living daemon has it.
    #[error("another ctsyncd answers on {}", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there, and it is not ours to remove.
    #[error("{} is in the way and is not a socket", path.display())]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    System {
        /// What we tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The bound socket. Dropping it removes the socket from the file system.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    limits: Limits,
    path: PathBuf,
    /// Device and inode of the socket, so that we remove our own and nothing else.
    identity: (u64, u64),
    /// Held while we live. The kernel drops it with the process, so a crash leaves nothing behind
    /// that blocks, and of two daemons that start at once only one may clear a stale socket away.
    _lock: File,
}

impl ControlServer {
    /// Binds the socket with the default [`Limits`]. Has to be called within a tokio runtime.
    ///
    /// Makes the directory if it is missing, and removes a socket that a crash left behind.
    ///
    /// # Errors
    ///
    /// When another daemon answers there, something else is in the way, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Self::bind_with(path, Limits::default())
    }

    /// [`bind`](Self::bind) with limits of one's own.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_with(path: &Path, limits: Limits) -> Result<Self, BindError> {
        make_directory_of(path)?;
        let lock = lock_beside(path)?;
        clear_stale(path)?;
        let refused = |action| {
            move |source| BindError::System {
                action,
                path: path.to_owned(),
                source,
            }
        };

        // Nobody can connect before `listen`, so there is no moment with the wrong mode.
        let socket =
            Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused("make a socket for"))?;
        let address = SockAddr::unix(path).map_err(refused("bind"))?;
        socket.bind(&address).map_err(refused("bind"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
            .map_err(refused("set the mode of"))?;
        let metadata = fs::symlink_metadata(path).map_err(refused("look at"))?;
        socket.listen(BACKLOG).map_err(refused("listen on"))?;
        socket.set_nonblocking(true).map_err(refused("listen on"))?;
        let listener =
            UnixListener::from_std(StdUnixListener::from(socket)).map_err(refused("listen on"))?;

        Ok(Self {
            listener,
            limits,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            _lock: lock,
        })
    }

    /// Path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves clients until nobody receives calls any more, or until the future is dropped; both
    /// end every client and remove the socket.
    pub async fn serve(self, calls: mpsc::Sender<Call>) {
        let mut clients = JoinSet::new();
        let mut refusing = false;
        loop {
            tokio::select! {
                () = calls.closed() => return,
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        refusing = false;
                        while clients.try_join_next().is_some() {}
                        if clients.len() < self.limits.clients_max {
                            clients.spawn(session::run(stream, calls.clone(), self.limits));
                        } else {
                            debug!(clients = clients.len(), "control client refused");
                            refuse(stream, self.limits.clients_max);
                        }
                    }
                    Err(error) => {
                        if !refusing {
                            warn!(%error, "cannot accept control clients; will go on trying");
                        }
                        refusing = true;
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                }
            }
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

/// One line says why; a fresh socket has room for it, so nothing waits.
fn refuse(stream: UnixStream, clients_max: usize) {
    let answer = Response::Failed(format!(
        "{clients_max} clients are connected already, which is the most at once; try again"
    ));
    if let Ok(mut stream) = stream.into_std() {
        let _ = io::Write::write_all(&mut stream, &session::line_of(&answer));
    }
}

fn make_directory_of(path: &Path) -> Result<(), BindError> {
    let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|source| BindError::System {
            action: "make the directory",
            path: directory.to_owned(),
            source,
        })
}

/// The lock file stays when we go: removing it would let two daemons lock two files of one name.
fn lock_beside(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let refused = |action, source| BindError::System {
        action,
        path: lock_path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|source| refused("open", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BindError::Taken {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(refused("lock", source)),
    }
}

/// Removes a socket on which nobody answers.
fn clear_stale(path: &Path) -> Result<(), BindError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(BindError::System {
                action: "look at",
                path: path.to_owned(),
                source,
            });
        }
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::Occupied {
            path: path.to_owned(),
        });
    }
    if somebody_answers(path) {
        return Err(BindError::Taken {
            path: path.to_owned(),
        });
    }
    fs::remove_file(path).map_err(|source| BindError::System {
        action: "remove the stale socket",
        path: path.to_owned(),
        source,
    })
}

/// Only "connection refused" says that nobody is there; a full queue (`EAGAIN`) is a busy daemon.
fn somebody_answers(path: &Path) -> bool {
    let tried = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    });
    !matches!(tried, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}
