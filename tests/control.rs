//! The control socket against clients that behave, and clients that do not.

#![expect(clippy::disallowed_methods, reason = "tests wait in real time")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ctsyncd::control::client::{Client, ClientError};
use ctsyncd::control::message::{DumpFormat, DumpTable, Request, Response};
use ctsyncd::control::server::{BindError, Call, ControlServer, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What takes longer than this here, hangs.
const HANGS: Duration = Duration::from_secs(20);

const STATUS: &[u8] = b"{\"command\":\"status\"}\n";
const DUMP: &[u8] = b"{\"command\":\"dump\",\"table\":\"local\",\"format\":\"text\"}\n";

#[tokio::test]
async fn a_request_is_answered_and_the_connection_takes_the_next_one() {
    let daemon = Daemon::start(Limits::default());
    let mut client = daemon.connect().await;

    client.send(STATUS).await;
    assert_eq!(client.answer().await, status());
    client.send(b"\n").await;
    client.send(STATUS).await;
    assert_eq!(client.answer().await, status());
}

#[tokio::test]
async fn a_request_whose_newline_never_comes_is_answered_when_the_client_closes_its_half() {
    let daemon = Daemon::start(Limits::default());
    let mut client = daemon.connect().await;

    client.send(STATUS.trim_ascii_end()).await;
    client.stream.shutdown().await.expect("shut down");
    assert_eq!(client.answer().await, status());
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_silent_client_disturbs_nobody_and_is_closed_when_its_time_is_over() {
    let daemon = Daemon::start(Limits {
        idle: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut silent = daemon.connect().await;

    assert!(daemon.answers().await);
    assert!(silent.is_closed().await);
}

#[tokio::test]
async fn half_a_line_disturbs_nobody_and_is_told_what_is_missing() {
    let daemon = Daemon::start(Limits {
        idle: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut half = daemon.connect().await;

    half.send(b"{\"command\":").await;
    assert!(daemon.answers().await);
    let why = half.refusal().await;
    assert!(why.contains("no complete line"), "{why}");
    assert!(half.is_closed().await);
}

#[tokio::test]
async fn a_client_that_sends_without_end_is_cut_at_the_longest_line() {
    let daemon = Daemon::start(Limits::default());
    let client = daemon.connect().await;
    let (read, mut write) = client.stream.into_inner().into_split();

    // Until the daemon closes; a daemon that read on would take the gigabyte.
    let flood = timeout(HANGS, async {
        let mut sent = 0_usize;
        while sent < 1 << 30 && write.write_all(&[b'x'; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    });
    let sent = flood.await.expect("the flood ends");

    assert!(sent < 4 << 20, "{sent} bytes were taken");
    let mut answer = String::new();
    let _ = BufReader::new(read).read_line(&mut answer).await;
    assert!(answer.contains("longer than 65536 bytes"), "{answer}");
    assert!(daemon.answers().await);
}

#[tokio::test]
async fn garbage_is_answered_with_what_is_wrong_and_the_next_line_is_served() {
    let daemon = Daemon::start(Limits::default());
    let mut client = daemon.connect().await;

    for (line, expected) in [
        (&b"status\n"[..], "not a request: expected value"),
        (b"{\"command\":\"reboot\"}\n", "unknown variant `reboot`"),
        (b"{\"comand\":\"status\"}\n", "missing field `command`"),
        (
            b"{\"command\":\"flush\",\"what\":\"all\"}\n",
            "unknown variant `all`",
        ),
        (b"\xff\xfe\x00\n", "not a request"),
        (b"[[[[[[[[[[[[[[[[[[[[[[[[\n", "not a request"),
    ] {
        client.send(line).await;
        let why = client.refusal().await;
        assert!(why.contains(expected), "{why}");
    }
    client.send(STATUS).await;
    assert_eq!(client.answer().await, status());
}

#[tokio::test]
async fn a_long_unknown_command_is_not_quoted_back_in_full() {
    let daemon = Daemon::start(Limits::default());
    let mut client = daemon.connect().await;

    let line = format!("{{\"command\":\"{}\"}}\n", "x".repeat(60_000));
    client.send(line.as_bytes()).await;
    assert!(client.refusal().await.len() < 1_000);
}

#[tokio::test]
async fn of_a_hundred_clients_at_once_sixty_four_are_served_and_the_others_told_so() {
    let daemon = Daemon::start(Limits::default());
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(daemon.connect().await);
    }

    for client in &mut clients[64..] {
        let why = client.refusal().await;
        assert!(why.contains("64 clients are connected"), "{why}");
        assert!(client.is_closed().await);
    }
    for client in &mut clients[..64] {
        client.send(STATUS).await;
        assert_eq!(client.answer().await, status());
    }

    // A place that is left is given to the next one.
    drop(clients);
    assert!(daemon.answers_before_long().await);
}

#[tokio::test]
async fn a_slow_reader_of_a_long_listing_holds_the_daemon_back_and_gets_all_of_it() {
    let daemon = Daemon::start(Limits::default());
    let mut client = daemon.connect().await;

    client.send(DUMP).await;
    let produced = daemon.produced_at_rest().await;
    assert!(
        produced < LISTING / 4,
        "{produced} lines wait for a client that reads none"
    );

    for number in 0..LISTING {
        assert_eq!(client.answer().await, Response::Line(listed(number)));
    }
    assert_eq!(client.answer().await, Response::Done(Value::Null));
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_and_the_daemon_hears_of_it() {
    let mut daemon = Daemon::start(Limits {
        stall: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut client = daemon.connect().await;

    client.send(DUMP).await;
    let listed = timeout(HANGS, daemon.listings.recv()).await;
    assert_eq!(listed.expect("the listing ends"), Some(Listed::Cut));
}

#[tokio::test]
async fn a_request_that_the_daemon_drops_is_a_failure_in_words() {
    let daemon = Daemon::start(Limits::default());
    let mut client = daemon.connect().await;

    client.send(b"{\"command\":\"demote\"}\n").await;
    let why = client.refusal().await;
    assert!(why.contains("dropped the request"), "{why}");
}

#[tokio::test]
async fn a_daemon_that_takes_no_request_is_reported_as_such() {
    let place = Place::new();
    let limits = Limits {
        take: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = ControlServer::bind_with(&place.socket(), limits).expect("bind");
    let (calls, _never_read) = mpsc::channel(1);
    tokio::spawn(server.serve(calls));

    let mut first = Connection::open(&place.socket()).await;
    first.send(STATUS).await;
    let mut second = Connection::open(&place.socket()).await;
    second.send(STATUS).await;

    // One of them fills the queue, the other finds it full.
    let why = tokio::select! {
        why = first.refusal() => why,
        why = second.refusal() => why,
    };
    assert!(why.contains("took no request"), "{why}");
}

#[tokio::test]
async fn when_nobody_takes_calls_any_more_the_server_ends_and_its_clients_with_it() {
    let place = Place::new();
    let server = ControlServer::bind(&place.socket()).expect("bind");
    let (calls, mut receiver) = mpsc::channel(1);
    let serving = tokio::spawn(server.serve(calls));
    let mut client = Connection::open(&place.socket()).await;
    client.send(STATUS).await;
    let _unanswered = receiver.recv().await.expect("the request arrives");

    drop(receiver);
    timeout(HANGS, serving)
        .await
        .expect("it ends")
        .expect("it does not panic");
    assert!(client.is_closed().await);
    assert!(!place.socket().exists());
}

#[tokio::test]
async fn what_a_crash_left_behind_does_not_block_the_next_start() {
    let place = Place::made();
    drop(std::os::unix::net::UnixListener::bind(place.socket()).expect("bind"));
    std::fs::write(place.lock(), "").expect("leave a lock file");
    assert!(place.socket().exists(), "a stale socket is there");

    let daemon = Daemon::start_in(place, Limits::default());
    assert!(daemon.answers().await);
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_one_goes_on() {
    let daemon = Daemon::start(Limits::default());
    let socket = daemon.place.socket();

    let error = ControlServer::bind(&socket).expect_err("it is taken");
    assert!(matches!(error, BindError::Taken { .. }));
    assert_eq!(
        error.to_string(),
        format!("another ctsyncd answers on {}", socket.display())
    );
    assert!(daemon.answers().await);
}

#[tokio::test]
async fn a_listener_without_our_lock_is_not_pushed_aside() {
    let place = Place::made();
    let _foreign = std::os::unix::net::UnixListener::bind(place.socket()).expect("bind");

    let error = ControlServer::bind(&place.socket()).expect_err("it is taken");
    assert!(matches!(error, BindError::Taken { .. }));
    assert!(place.socket().exists());
}

#[tokio::test]
async fn a_file_in_the_way_is_left_alone() {
    let place = Place::made();
    std::fs::write(place.socket(), "precious").expect("write");

    let error = ControlServer::bind(&place.socket()).expect_err("it is occupied");
    assert!(matches!(error, BindError::Occupied { .. }));
    assert_eq!(std::fs::read(place.socket()).expect("read"), b"precious");
}

#[tokio::test]
async fn the_directory_and_the_socket_have_their_modes_and_the_socket_goes_with_the_daemon() {
    let place = Place::new();
    let server = ControlServer::bind(&place.socket()).expect("bind");

    assert_eq!(mode(&place.0), 0o755);
    assert_eq!(mode(&place.socket()), 0o660);
    drop(server);
    assert!(!place.socket().exists());
}

#[tokio::test]
async fn the_blocking_client_gets_lines_values_and_failures() {
    let daemon = Daemon::start(Limits::default());
    let socket = daemon.place.socket();

    let asked = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&socket).expect("connect");
        let mut lines = 0;
        let dump = Request::Dump {
            table: DumpTable::Local,
            format: DumpFormat::Text,
            expectations: false,
        };
        let dumped = client.call(&dump, |line| {
            assert_eq!(line, listed(lines));
            lines += 1;
            Ok(())
        });
        let status = client.call(&Request::Status, |_| Ok(()));
        let refused = client.call(&Request::Stats, |_| Ok(()));
        (lines, dumped, status, refused)
    });
    let (lines, dumped, status, refused) = asked.await.expect("the client does not panic");

    assert_eq!(lines, LISTING);
    assert_eq!(dumped.expect("dump"), Value::Null);
    assert_eq!(status.expect("status"), json!({"node": "fw1"}));
    assert!(matches!(refused, Err(ClientError::Failed(why)) if why == "not today"));
}

#[test]
fn without_a_daemon_the_client_names_the_socket() {
    let place = Place::new();
    let error = Client::connect(&place.socket()).expect_err("nobody is there");

    assert!(matches!(error, ClientError::NoDaemon { .. }));
    assert!(
        error
            .to_string()
            .contains(&place.socket().display().to_string())
    );
}

/// Lines of the pretend daemon's listing: more than all buffers on the way hold.
const LISTING: usize = 50_000;

fn listed(number: usize) -> String {
    format!("tcp      6 431999 ESTABLISHED src=192.0.2.1 dst=198.51.100.1 sport={number} dport=443")
}

fn status() -> Response {
    Response::Done(json!({"node": "fw1"}))
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("it exists");
    metadata.permissions().mode() & 0o7777
}

/// How a listing of the pretend daemon ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listed {
    Whole,
    Cut,
}

/// A server and a pretend daemon behind it: `status` and `dump` work, `stats` is refused, the rest
/// is dropped.
struct Daemon {
    place: Place,
    tasks: [JoinHandle<()>; 2],
    produced: Arc<AtomicU32>,
    listings: mpsc::Receiver<Listed>,
}

impl Daemon {
    fn start(limits: Limits) -> Self {
        Self::start_in(Place::new(), limits)
    }

    fn start_in(place: Place, limits: Limits) -> Self {
        let server = ControlServer::bind_with(&place.socket(), limits).expect("bind");
        let (calls_in, calls) = mpsc::channel(4);
        let (ended, listings) = mpsc::channel(4);
        let produced = Arc::new(AtomicU32::new(0));
        let answering = tokio::spawn(answer(calls, produced.clone(), ended));
        Self {
            tasks: [tokio::spawn(server.serve(calls_in)), answering],
            place,
            produced,
            listings,
        }
    }

    async fn connect(&self) -> Connection {
        Connection::open(&self.place.socket()).await
    }

    /// True if a fresh client gets its status.
    async fn answers(&self) -> bool {
        let mut client = self.connect().await;
        client.send(STATUS).await;
        client.answer().await == status()
    }

    /// As [`answers`](Self::answers), with the time the server may need to notice who left.
    async fn answers_before_long(&self) -> bool {
        let deadline = Instant::now() + HANGS;
        while Instant::now() < deadline {
            if self.answers().await {
                return true;
            }
        }
        false
    }

    /// Lines produced once no more are; other clients are served meanwhile, so time passes.
    async fn produced_at_rest(&self) -> usize {
        let mut before = 0;
        let mut same = 0;
        while same < 20 {
            assert!(self.answers().await);
            let now = self.produced.load(Ordering::Relaxed);
            same = if now == before && now > 0 {
                same + 1
            } else {
                0
            };
            before = now;
        }
        before as usize
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn answer(
    mut calls: mpsc::Receiver<Call>,
    produced: Arc<AtomicU32>,
    ended: mpsc::Sender<Listed>,
) {
    while let Some(Call { request, reply }) = calls.recv().await {
        match request {
            Request::Status => drop(reply.send(status()).await),
            Request::Stats => drop(reply.send(Response::Failed("not today".into())).await),
            Request::Dump { .. } => {
                let (produced, ended) = (produced.clone(), ended.clone());
                tokio::spawn(async move {
                    let listed = list(reply, &produced).await;
                    let _ = ended.send(listed).await;
                });
            }
            _ => drop(reply),
        }
    }
}

async fn list(reply: mpsc::Sender<Response>, produced: &AtomicU32) -> Listed {
    for number in 0..LISTING {
        if reply.send(Response::Line(listed(number))).await.is_err() {
            return Listed::Cut;
        }
        produced.fetch_add(1, Ordering::Relaxed);
    }
    let _ = reply.send(Response::Done(Value::Null)).await;
    Listed::Whole
}

struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    async fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.expect("connect");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The other end may be gone already; what it said before is read all the same.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    async fn answer(&mut self) -> Response {
        let mut line = String::new();
        timeout(HANGS, self.stream.read_line(&mut line))
            .await
            .expect("an answer comes")
            .expect("the socket works");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    async fn refusal(&mut self) -> String {
        match self.answer().await {
            Response::Failed(why) => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = timeout(HANGS, self.stream.read_to_end(&mut rest)).await;
        matches!(read.expect("the end comes"), Ok(0))
    }
}

/// A directory of its own, not made yet; it goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("ctsyncd-control-{}-{number}", process::id())))
    }

    fn made() -> Self {
        let place = Self::new();
        std::fs::create_dir_all(&place.0).expect("make the directory");
        place
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn lock(&self) -> PathBuf {
        self.0.join("control.sock.lock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
