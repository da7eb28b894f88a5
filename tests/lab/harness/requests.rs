//! A counted stream of requests: each waits for its answer, and none may be lost. Some connections
//! live as long as the stream, others are made anew all the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::topology::{Lab, SERVER};
use super::{Context as _, Result, bail};

/// Port of the server; that of the traffic is another one.
const PORT: u16 = 7100;
/// Bytes of a request, and of its answer.
const REQUEST: usize = 64;
/// A request that is not answered by then is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between an answer and the next request of a connection.
const PAUSE: Duration = Duration::from_millis(10);
/// Requests of a connection that is made anew.
const SHORT: usize = 3;

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    answered: AtomicU64,
    connections: AtomicU64,
    longest: Mutex<Option<Wait>>,
    is_over: AtomicBool,
}

/// One wait for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// How long it was.
    pub(crate) took: Duration,
    /// For a new connection, and not for an answer.
    pub(crate) connecting: bool,
    /// Who was asked.
    pub(crate) server: SocketAddr,
}

/// A running stream.
#[derive(Debug)]
pub(crate) struct Requests {
    counts: Arc<Counts>,
    client: Option<JoinHandle<Result<()>>>,
    /// Ends with its sender.
    _server: tokio::sync::watch::Sender<()>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// Requests.
    pub(crate) asked: u64,
    /// Requests that were answered.
    pub(crate) answered: u64,
    /// Connections made.
    pub(crate) connections: u64,
    /// The longest wait.
    pub(crate) longest: Option<Wait>,
}

impl Requests {
    /// Starts the server, and a client with so many connections that stay, as many that are made
    /// anew again and again, half of each over IPv6.
    pub(crate) fn start(lab: &Lab, lasting: usize) -> Result<Self> {
        let (server, mut stopped) = tokio::sync::watch::channel(());
        let (ready, is_ready) = std::sync::mpsc::channel();
        lab.server().spawn(move || {
            block_on(async move {
                for address in SERVER {
                    let listener = TcpListener::bind((address, PORT)).await?;
                    tokio::spawn(async move {
                        while let Ok((stream, _)) = listener.accept().await {
                            tokio::spawn(echo(stream));
                        }
                    });
                }
                ready.send(())?;
                let _ = stopped.changed().await;
                Ok(())
            })
        })?;
        is_ready.recv().context("the server did not come up")?;
        let counts = Arc::new(Counts::default());
        let client = {
            let counts = Arc::clone(&counts);
            lab.client()
                .spawn(move || block_on(run_client(counts, lasting)))?
        };
        Ok(Self {
            counts,
            client: Some(client),
            _server: server,
        })
    }

    /// Answers so far.
    pub(crate) fn answered(&self) -> u64 {
        self.counts.answered.load(Relaxed)
    }

    /// Ends the stream: what was asked is still answered.
    pub(crate) fn finish(mut self) -> Result<Report> {
        self.counts.is_over.store(true, Relaxed);
        match self.client.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended?,
            Some(Err(_)) | None => bail!("the client has panicked"),
        }
        Ok(Report {
            asked: self.counts.asked.load(Relaxed),
            answered: self.answered(),
            connections: self.counts.connections.load(Relaxed),
            longest: *self
                .counts
                .longest
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.counts.is_over.store(true, Relaxed);
    }
}

fn block_on(future: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST];
    loop {
        stream.read_exact(&mut request).await?;
        stream.write_all(&request).await?;
    }
}

async fn run_client(counts: Arc<Counts>, lasting: usize) -> Result<()> {
    let mut tasks = Vec::new();
    for at in 0..2 * lasting {
        let server = SocketAddr::new(SERVER[at % SERVER.len()].parse()?, PORT);
        let requests = if at < lasting { usize::MAX } else { SHORT };
        let counts = Arc::clone(&counts);
        tasks.push(tokio::spawn(async move {
            while !counts.is_over.load(Relaxed) {
                connect_and_ask(&counts, server, requests).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// One connection. An error of it is a lost request: counted as asked and not as answered.
async fn connect_and_ask(counts: &Counts, server: SocketAddr, requests: usize) -> Result<()> {
    let began = Instant::now();
    let stream = timeout(PATIENCE, TcpStream::connect(server)).await;
    let Ok(Ok(mut stream)) = stream else {
        counts.asked.fetch_add(1, Relaxed);
        return Ok(());
    };
    note(counts, began, server, true);
    counts.connections.fetch_add(1, Relaxed);
    stream.set_nodelay(true)?;
    let mut answer = [0; REQUEST];
    for number in 0..requests {
        if counts.is_over.load(Relaxed) {
            break;
        }
        let request = [u8::try_from(number % 256)?; REQUEST];
        counts.asked.fetch_add(1, Relaxed);
        let began = Instant::now();
        let exchange = async {
            stream.write_all(&request).await?;
            stream.read_exact(&mut answer).await
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(_)) if answer == request => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        note(counts, began, server, false);
        counts.answered.fetch_add(1, Relaxed);
        sleep(PAUSE).await;
    }
    Ok(())
}

fn note(counts: &Counts, began: Instant, server: SocketAddr, connecting: bool) {
    let took = began.elapsed();
    let mut longest = counts
        .longest
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if longest.is_none_or(|longest| longest.took < took) {
        *longest = Some(Wait {
            took,
            connecting,
            server,
        });
    }
}
