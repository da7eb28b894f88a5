//! One client of the control socket, from its first line until it closes or is cut.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

use super::line::{LineEnd, read_line};
use super::message::{Request, Response};
use super::server::{Call, Limits, REPLY_DEPTH};

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The client closed.
    Closed,
    /// No complete line in time.
    Idle,
    /// A line longer than allowed.
    TooLong,
    /// The client does not read what it asked for.
    Stalled,
    /// The daemon is stopping.
    Stopping,
    /// The socket failed.
    Broken(io::ErrorKind),
}

/// Serves one client: a request, its answer, the next request.
pub(super) async fn run(mut stream: UnixStream, calls: mpsc::Sender<Call>, limits: Limits) {
    let end = serve(&mut stream, &calls, &limits).await;
    debug!(?end, "control client gone");
}

async fn serve(stream: &mut UnixStream, calls: &mpsc::Sender<Call>, limits: &Limits) -> End {
    let (read, mut write) = stream.split();
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = timeout(
            limits.idle,
            read_line(&mut reader, &mut line, limits.line_bytes_max),
        );
        let last = match read.await {
            Ok(Ok(LineEnd::Complete)) => false,
            // A request without a newline, from a client that wrote it and closed its half.
            Ok(Ok(LineEnd::Closed)) => true,
            Ok(Ok(LineEnd::TooLong)) => {
                let why = format!(
                    "the line is longer than {} bytes, which no request is",
                    limits.line_bytes_max
                );
                return fail(&mut write, why, limits).await.unwrap_or(End::TooLong);
            }
            Ok(Err(error)) => return End::Broken(error.kind()),
            Err(_) if line.is_empty() => return End::Idle,
            Err(_) => {
                let why = format!("no complete line within {:?}", limits.idle);
                return fail(&mut write, why, limits).await.unwrap_or(End::Idle);
            }
        };
        if !line.trim_ascii().is_empty() {
            let ended = match Request::parse(&line) {
                Ok(request) => answer(request, &mut write, calls, limits).await,
                Err(why) => fail(&mut write, why, limits).await,
            };
            if let Some(end) = ended {
                return end;
            }
        }
        if last {
            return End::Closed;
        }
    }
}

/// Hands the request to the daemon and its answer to the client; `Some` ends the session.
async fn answer<W: AsyncWrite + Unpin>(
    request: Request,
    write: &mut W,
    calls: &mpsc::Sender<Call>,
    limits: &Limits,
) -> Option<End> {
    let (reply, mut answers) = mpsc::channel(REPLY_DEPTH);
    match timeout(limits.take, calls.send(Call { request, reply })).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => {
            let why = "the daemon is stopping".to_owned();
            return Some(fail(write, why, limits).await.unwrap_or(End::Stopping));
        }
        Err(_) => {
            let why = format!("the daemon took no request for {:?}", limits.take);
            return fail(write, why, limits).await;
        }
    }

    let mut batch = Vec::with_capacity(REPLY_DEPTH);
    let mut bytes = Vec::new();
    loop {
        let received = answers.recv_many(&mut batch, REPLY_DEPTH).await;
        if received == 0 {
            let why = "the daemon dropped the request without an answer".to_owned();
            return fail(write, why, limits).await;
        }
        bytes.clear();
        let mut done = false;
        for response in batch.drain(..) {
            if !done {
                bytes.extend_from_slice(&line_of(&response));
                done = !matches!(response, Response::Line(_));
            }
        }
        // Dropping `answers` is how the daemon learns that nobody reads any more.
        let end = put(write, &bytes, limits).await;
        if end.is_some() || done {
            return end;
        }
    }
}

async fn fail<W: AsyncWrite + Unpin>(write: &mut W, why: String, limits: &Limits) -> Option<End> {
    put(write, &line_of(&Response::Failed(why)), limits).await
}

/// Writes all of it in time; `Some` ends the session.
async fn put<W: AsyncWrite + Unpin>(write: &mut W, bytes: &[u8], limits: &Limits) -> Option<End> {
    match timeout(limits.stall, write.write_all(bytes)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(End::Broken(error.kind())),
        Err(_) => Some(End::Stalled),
    }
}

/// The answer as it goes over the socket.
pub(super) fn line_of(response: &Response) -> Vec<u8> {
    let mut line = serde_json::to_vec(response)
        .expect("an answer holds only strings and JSON values, which always serialise");
    line.push(b'\n');
    line
}
