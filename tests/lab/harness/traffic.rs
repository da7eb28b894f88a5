//! Connections that talk all the time, and what a failover does to each of them.
//!
//! The client sends a line with its own clock on every connection, again and again, whether or not
//! the last was answered; the server echoes. One thread per end, inside its namespace.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, interval_at, timeout};

use super::topology::{Lab, SERVER};
use super::wait::{await_until, pass};
use super::{Context as _, Result};

/// Port of the server.
pub(crate) const PORT: u16 = 7000;
/// Length of a line: microseconds in digits, and a line feed.
const LINE: usize = 16;
/// Lines read at once, at most.
const READ: usize = 64 * LINE;
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
    /// The moment from which gaps and returns count; 0: none.
    mark: AtomicU64,
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
        let traffic = Self::launch(lab, spec)?;
        await_until("every connection talks", CONNECT * 2, || {
            anyhow::ensure!(
                !traffic.shared.failed.load(Ordering::Relaxed),
                "an end failed"
            );
            Ok(traffic.talking() == spec.connections)
        })?;
        Ok(traffic)
    }

    /// Starts the server and the client.
    pub(crate) fn launch(lab: &Lab, spec: Spec) -> Result<Self> {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            connections: (0..spec.connections)
                .map(|_| Connection::default())
                .collect(),
            answers: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let server = {
            let (stopped, shared) = (stopped.clone(), Arc::clone(&shared));
            lab.server()
                .spawn(move || run(&shared, serve(spec.kind, ready, stopped)))?
        };
        // The listeners stand before the first client calls.
        is_ready.recv().context("the server did not come up")?;
        let client = {
            let shared = Arc::clone(&shared);
            lab.client()
                .spawn(move || run(&shared, call(spec, Arc::clone(&shared), stopped)))?
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
        let mark = self.shared.mark.load(Ordering::Relaxed);
        let since = self.shared.now().saturating_sub(micros(TALKING));
        let mut outcome = Outcome {
            connections: self.shared.connections.len(),
            alive: 0,
            reset: 0,
            silent: 0,
            longest_stall: Duration::ZERO,
            first_back: None,
            last_back: None,
        };
        for connection in &self.shared.connections {
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

fn run(shared: &Shared, end: impl Future<Output = Result<()>>) -> Result<()> {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(end));
    if result.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
    }
    result
}

async fn serve(
    kind: Kind,
    ready: std::sync::mpsc::Sender<()>,
    mut stopped: watch::Receiver<()>,
) -> Result<()> {
    for address in SERVER {
        let address = SocketAddr::new(address.parse::<IpAddr>()?, PORT);
        match kind {
            Kind::Tcp => {
                let listener = TcpListener::bind(address).await?;
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(echo(stream));
                    }
                });
            }
            Kind::Udp => {
                let socket = UdpSocket::bind(address).await?;
                tokio::spawn(async move {
                    let mut line = [0; LINE];
                    loop {
                        // An ICMP error about an earlier answer shows here; the next line may pass.
                        if let Ok((length, from)) = socket.recv_from(&mut line).await {
                            let _ = socket.send_to(&line[..length], from).await;
                        }
                    }
                });
            }
        }
    }
    ready.send(())?;
    // An error: the sender is gone, which is the sign.
    let _ = stopped.changed().await;
    Ok(())
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; READ];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

async fn call(spec: Spec, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) -> Result<()> {
    for index in 0..spec.connections {
        let shared = Arc::clone(&shared);
        let server = SocketAddr::new(SERVER[index % SERVER.len()].parse::<IpAddr>()?, PORT);
        tokio::spawn(async move {
            let connection = &shared.connections[index];
            // Spread over the interval, so that the load is even and not a burst.
            let phase = spec.every * u32::try_from(index).unwrap_or(0)
                / u32::try_from(spec.connections).unwrap_or(1);
            let result = match spec.kind {
                Kind::Tcp => talk(&shared, connection, server, phase, spec.every).await,
                Kind::Udp => stream(&shared, connection, server, phase, spec.every).await,
            };
            if result.is_err() {
                connection.state.store(ENDED, Ordering::Relaxed);
            }
        });
    }
    let _ = stopped.changed().await;
    Ok(())
}

async fn talk(
    shared: &Shared,
    connection: &Connection,
    server: SocketAddr,
    phase: Duration,
    every: Duration,
) -> Result<()> {
    let stream = timeout(CONNECT, TcpStream::connect(server)).await??;
    stream.set_nodelay(true)?;
    connection.state.store(OPEN, Ordering::Relaxed);
    let (mut reading, writing) = stream.into_split();
    let mut ticks = interval_at(tokio::time::Instant::now() + phase, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = [0; READ];
    let mut filled = 0;
    let (mut outgoing, mut written) = ([0; LINE], LINE);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if written == LINE {
                    (outgoing, written) = (line(shared.now()), 0);
                }
                // A stalled connection fills its buffer; then a line is left out, not waited for.
                match writing.try_write(&outgoing[written..]) {
                    Ok(length) => written += length,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            length = reading.read(&mut buffer[filled..]) => {
                let length = length?;
                anyhow::ensure!(length > 0, "closed by the server");
                filled += length;
                let whole = filled - filled % LINE;
                for line in buffer[..whole].chunks_exact(LINE) {
                    shared.on_answer(connection, sent(line)?);
                }
                buffer.copy_within(whole..filled, 0);
                filled -= whole;
            }
        }
    }
}

async fn stream(
    shared: &Shared,
    connection: &Connection,
    server: SocketAddr,
    phase: Duration,
    every: Duration,
) -> Result<()> {
    let any: IpAddr = if server.is_ipv4() { "0.0.0.0" } else { "::" }.parse()?;
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    connection.state.store(OPEN, Ordering::Relaxed);
    tokio::time::sleep(phase).await;
    let mut ticks = interval(every);
    let mut buffer = [0; LINE];
    loop {
        // A refusal that ICMP brought belongs to an earlier line; UDP goes on.
        tokio::select! {
            _ = ticks.tick() => {
                let _ = socket.try_send(&line(shared.now()));
            }
            length = socket.recv(&mut buffer) => {
                if length.is_ok_and(|length| length == LINE) {
                    shared.on_answer(connection, sent(&buffer)?);
                }
            }
        }
    }
}

fn line(now: u64) -> [u8; LINE] {
    let mut line = [b'\n'; LINE];
    let mut rest = now;
    for digit in line[..LINE - 1].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    line
}

fn sent(line: &[u8]) -> Result<u64> {
    Ok(std::str::from_utf8(&line[..LINE - 1])?.parse()?)
}
