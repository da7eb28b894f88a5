//! Both ends of the traffic: the server that echoes, and the client that never stops talking.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, interval_at, timeout};

use super::super::Result;
use super::super::topology::SERVER;
use super::{CONNECT, Connection, ENDED, Kind, OPEN, Shared, Spec};

/// Length of a line: microseconds in digits, and a line feed.
const LINE: usize = 16;
/// Bytes read at once, at most.
const READ: usize = 64 * LINE;

/// Runs an end on the current thread; an end that fails is noted.
pub(super) fn run(shared: &Shared, end: impl Future<Output = Result<()>>) -> Result<()> {
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

/// Echoes until told to stop.
pub(super) async fn serve(
    kind: Kind,
    port: u16,
    ready: std::sync::mpsc::Sender<()>,
    mut stopped: watch::Receiver<()>,
) -> Result<()> {
    for address in SERVER {
        let address = SocketAddr::new(address.parse::<IpAddr>()?, port);
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

/// Talks on every connection until told to stop.
pub(super) async fn call(
    spec: Spec,
    port: u16,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) -> Result<()> {
    for index in 0..spec.connections {
        let shared = Arc::clone(&shared);
        let server = SocketAddr::new(SERVER[index % SERVER.len()].parse::<IpAddr>()?, port);
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
                    if shared.paused.load(Ordering::Relaxed) {
                        continue;
                    }
                    (outgoing, written) = (line(shared.now()), 0);
                }
                // A stalled connection fills its buffer; then a line is left out, not waited for.
                match writing.try_write(&outgoing[written..]) {
                    Ok(length) => {
                        written += length;
                        if written == LINE {
                            shared.sent.fetch_add(1, Ordering::Relaxed);
                        }
                    }
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
                if shared.paused.load(Ordering::Relaxed) {
                    continue;
                }
                if socket.try_send(&line(shared.now())).is_ok() {
                    shared.sent.fetch_add(1, Ordering::Relaxed);
                }
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
