//! The command line's end of the control socket: blocking, one request at a time.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::message::{Request, Response};

/// A look at the daemon is answered at once; one that is not, is a daemon that hangs, and whoever
/// watches it has to be told.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);
/// A million flows take seconds to commit and requests queue behind each other; this is far beyond.
const WORK_PATIENCE: Duration = Duration::from_secs(600);

/// Why a request was not carried out.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error(
        "no daemon answers on {}: {source}; start it, or name its socket with --socket",
        path.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is there and could not be used.
    #[error("cannot talk to the daemon on {}: {source}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon did not answer in time.
    #[error("the daemon on {} did not answer within {} s", path.display(), patience.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long we waited.
        patience: Duration,
    },
    /// The connection ended before the answer did.
    #[error("the daemon on {} closed the connection before its answer was complete", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// The answer is none.
    #[error("what answers on {} does not speak our language: {source}", path.display())]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The listing could not be passed on.
    #[error("cannot write the listing: {0}")]
    Output(#[source] io::Error),
    /// The daemon refused, or failed; its own words.
    #[error("{0}")]
    Failed(String),
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoDaemon`] when there is no socket or nobody behind it, and
    /// [`ClientError::System`] when it may not be used.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Self {
                path: path.to_owned(),
                stream: BufReader::new(stream),
            }),
            Err(source) => {
                let path = path.to_owned();
                Err(match source.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                        ClientError::NoDaemon { path, source }
                    }
                    _ => ClientError::System { path, source },
                })
            }
        }
    }

    /// Sends a request and waits for its end, handing each line of a listing to `on_line`.
    ///
    /// # Errors
    ///
    /// The daemon's refusal as [`ClientError::Failed`], what went wrong on the way, or what `on_line`
    /// failed with: the rest of the listing is then not read, and the connection is of no more use.
    pub fn call(
        &mut self,
        request: &Request,
        mut on_line: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<Value, ClientError> {
        let patience = patience_for(request);
        self.send(request, patience)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            match self.stream.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {}
                Ok(_) => {
                    return Err(ClientError::Closed {
                        path: self.path.clone(),
                    });
                }
                Err(error) => return Err(self.lost(error, patience)),
            }
            match serde_json::from_slice(&line) {
                Ok(Response::Line(text)) => on_line(&text).map_err(ClientError::Output)?,
                Ok(Response::Done(value)) => return Ok(value),
                Ok(Response::Failed(why)) => return Err(ClientError::Failed(why)),
                Err(source) => {
                    return Err(ClientError::Garbled {
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
    }

    fn send(&mut self, request: &Request, patience: Duration) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request)
            .expect("a request holds only strings and numbers, which always serialise");
        line.push(b'\n');
        let stream = self.stream.get_mut();
        let sent = stream
            .set_read_timeout(Some(patience))
            .and_then(|()| stream.set_write_timeout(Some(patience)))
            .and_then(|()| stream.write_all(&line));
        match sent {
            Ok(()) => Ok(()),
            // The daemon turned us away before it read anything; its reason is there to be read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(self.lost(error, patience)),
        }
    }

    fn lost(&self, error: io::Error, patience: Duration) -> ClientError {
        let path = self.path.clone();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent { path, patience },
            ErrorKind::ConnectionReset => ClientError::Closed { path },
            _ => ClientError::System {
                path,
                source: error,
            },
        }
    }
}

fn patience_for(request: &Request) -> Duration {
    match request {
        Request::Status | Request::Stats | Request::History | Request::Lookup { .. } => {
            LOOK_PATIENCE
        }
        // The daemon ends it in time, and a little later that is a hang.
        Request::Switchover { timeout_ms } => {
            WORK_PATIENCE.max(Duration::from_millis(*timeout_ms).saturating_add(LOOK_PATIENCE))
        }
        Request::Commit { .. }
        | Request::DryRun { .. }
        | Request::Promote
        | Request::Demote
        | Request::Notify { .. }
        | Request::Flush { .. }
        | Request::Resync { .. }
        | Request::Dump { .. } => WORK_PATIENCE,
    }
}
