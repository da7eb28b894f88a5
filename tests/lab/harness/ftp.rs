//! File transfers through the firewalls, in active and in passive mode, over IPv4 and IPv6.
//!
//! The names of files are their lengths: `RETR 1000000` is a million bytes, `RETR 1000000@200000`
//! the same at 200,000 bytes a second. Both ends know what byte stands where, so that one that is
//! lost, doubled or shifted is seen. A transfer runs beside the test, which watches its counter.
//!
//! The control connection says where the data connection goes: `PORT` names the client's address,
//! which a firewall that translates must replace by its own, of another length (`192,0,2,10` and
//! `198,51,100,1`). From then on its sequence numbers differ on the two sides.

mod server;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::namespace::Namespace;
use super::topology::Node;
use super::{Context as _, Result, bail, ensure};
#[allow(
    unused_imports,
    reason = "not every target that has the harness serves files"
)]
pub(crate) use server::FtpServer;

/// Port of the control connection.
pub(crate) const CONTROL_PORT: u16 = 21;
/// Longest wait for an answer, a connection, or the next byte: longer than a failover takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes written or read at once: at 200,000 bytes a second some 25 times a second.
const CHUNK: usize = 8 * 1024;
/// The bytes of a file repeat after so many: a prime, so that no segment's length fits.
const PERIOD: u64 = 251;

/// What gives the control connections of a firewall their helper, in every zone.
const RULES: &str = r#"
table inet ftp {
    ct helper ftp { type "ftp" protocol tcp; }
    chain before {
        type filter hook prerouting priority -150;
        tcp dport 21 ct helper set "ftp"
    }
}
"#;

/// Loads the rule that gives FTP control connections their helper.
pub(crate) fn add_helper(node: &Node) -> Result<()> {
    node.namespace().feed("nft", &["-f", "-"], RULES)?;
    Ok(())
}

/// How much is transferred, and how fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct File {
    /// Length, bytes.
    pub(crate) bytes: u64,
    /// Bytes a second at most; `None`: as fast as it goes.
    pub(crate) rate: Option<u64>,
}

impl File {
    /// A file that goes as fast as it can.
    pub(crate) fn fast(bytes: u64) -> Self {
        Self { bytes, rate: None }
    }

    /// A file that takes `bytes / rate` seconds.
    pub(crate) fn paced(bytes: u64, rate: u64) -> Self {
        Self {
            bytes,
            rate: Some(rate),
        }
    }

    fn name(self) -> String {
        match self.rate {
            None => self.bytes.to_string(),
            Some(rate) => format!("{}@{rate}", self.bytes),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (bytes, rate) = match name.split_once('@') {
            None => (name, None),
            Some((bytes, rate)) => (bytes, Some(rate.parse().ok()?)),
        };
        Some(Self {
            bytes: bytes.parse().ok()?,
            rate,
        })
    }
}

/// A control connection.
#[derive(Debug)]
pub(crate) struct FtpClient {
    control: BufReader<TcpStream>,
}

impl FtpClient {
    /// Connects from a namespace to a server and takes its greeting.
    pub(crate) fn connect(namespace: &Namespace, server: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(server, CONTROL_PORT);
        let control = namespace.with(move || connect(address))?;
        let mut client = Self {
            control: BufReader::new(control),
        };
        client.expect_code("220")?;
        Ok(client)
    }

    /// The client's own end of the control connection.
    pub(crate) fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.control.get_ref().local_addr()?)
    }

    /// Logs in and asks for binary transfers.
    pub(crate) fn login(&mut self) -> Result<()> {
        self.command("USER anonymous", "331")?;
        self.command("PASS guest", "230")?;
        self.command("TYPE I", "200")?;
        Ok(())
    }

    /// Asks for nothing: shows that the control connection lives, in both directions, byte by byte.
    pub(crate) fn noop(&mut self) -> Result<()> {
        self.command("NOOP", "200").map(drop)
    }

    /// Begins to fetch a file over a data connection that the client opens.
    pub(crate) fn passive_get(&mut self, namespace: &Namespace, file: File) -> Result<Transfer> {
        let data = self.passive(namespace)?;
        self.begin(Direction::Get, file)?;
        Transfer::start(Direction::Get, file, data)
    }

    /// Begins to store a file over a data connection that the client opens.
    pub(crate) fn passive_put(&mut self, namespace: &Namespace, file: File) -> Result<Transfer> {
        let data = self.passive(namespace)?;
        self.begin(Direction::Put, file)?;
        Transfer::start(Direction::Put, file, data)
    }

    /// Begins to fetch a file over a data connection that the server opens.
    pub(crate) fn active_get(&mut self, namespace: &Namespace, file: File) -> Result<Transfer> {
        self.active(namespace, Direction::Get, file)
    }

    /// Begins to store a file over a data connection that the server opens.
    pub(crate) fn active_put(&mut self, namespace: &Namespace, file: File) -> Result<Transfer> {
        self.active(namespace, Direction::Put, file)
    }

    /// Waits for the end of a transfer and for what the server says of it. An error if a byte was
    /// wrong or missing on either side.
    pub(crate) fn finish(&mut self, transfer: Transfer) -> Result<()> {
        transfer.join()?;
        self.expect_code("226").map(drop)
    }

    /// Announces a listener without using it, so that the firewalls expect a connection to it.
    pub(crate) fn announce(&mut self, namespace: &Namespace) -> Result<TcpListener> {
        let address = self.local_address()?;
        let listener = namespace.with(move || listen(address.ip()))?;
        let at = listener.local_addr()?;
        let command = match at.ip() {
            IpAddr::V4(ip) => format!("PORT {}", host_and_port(ip, at.port())),
            IpAddr::V6(ip) => format!("EPRT |2|{ip}|{}|", at.port()),
        };
        self.command(&command, "200")?;
        Ok(listener)
    }

    /// Begins to fetch a file over a data connection that the server opens to a listener that was
    /// announced.
    pub(crate) fn get_announced(&mut self, listener: &TcpListener, file: File) -> Result<Transfer> {
        self.begin(Direction::Get, file)?;
        Transfer::start(Direction::Get, file, accept(listener)?)
    }

    /// Asks the server for a listener without using it; yields where it is.
    pub(crate) fn ask_passive(&mut self) -> Result<SocketAddr> {
        let server = self.control.get_ref().peer_addr()?;
        if server.is_ipv6() {
            let answer = self.command("EPSV", "229")?;
            let port = answer.split('|').nth(3).context("a port in |||port|")?;
            return Ok(SocketAddr::new(server.ip(), port.parse()?));
        }
        let answer = self.command("PASV", "227")?;
        let numbers = answer.split(['(', ')']).nth(1).context("(h,h,h,h,p,p)")?;
        parse_host_and_port(numbers)
    }

    fn passive(&mut self, namespace: &Namespace) -> Result<TcpStream> {
        let address = self.ask_passive()?;
        namespace.with(move || connect(address))
    }

    fn active(
        &mut self,
        namespace: &Namespace,
        direction: Direction,
        file: File,
    ) -> Result<Transfer> {
        let listener = self.announce(namespace)?;
        self.begin(direction, file)?;
        Transfer::start(direction, file, accept(&listener)?)
    }

    fn begin(&mut self, direction: Direction, file: File) -> Result<()> {
        let verb = match direction {
            Direction::Get => "RETR",
            Direction::Put => "STOR",
        };
        self.command(&format!("{verb} {}", file.name()), "150")
            .map(drop)
    }

    /// Says a line and yields the answer, which must begin with a code.
    fn command(&mut self, line: &str, code: &str) -> Result<String> {
        self.control
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .with_context(|| format!("saying {line}"))?;
        self.expect_code(code)
            .with_context(|| format!("after {line}"))
    }

    fn expect_code(&mut self, code: &str) -> Result<String> {
        let mut answer = String::new();
        let read = self.control.read_line(&mut answer);
        read.with_context(|| format!("waiting for {code}"))?;
        ensure!(answer.starts_with(code), "{answer:?} in place of {code}");
        Ok(answer)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    /// From the server to the client.
    Get,
    /// From the client to the server.
    Put,
}

/// A transfer that runs.
#[derive(Debug)]
pub(crate) struct Transfer {
    moved: Arc<AtomicU64>,
    of: u64,
    data: TcpStream,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Transfer {
    fn start(direction: Direction, file: File, data: TcpStream) -> Result<Self> {
        let moved = Arc::new(AtomicU64::new(0));
        let mut stream = data.try_clone()?;
        let thread = {
            let moved = Arc::clone(&moved);
            thread::Builder::new()
                .name("ftp-data".into())
                .spawn(move || match direction {
                    Direction::Get => receive(&mut stream, file.bytes, &moved),
                    Direction::Put => send(&mut stream, file, &moved),
                })?
        };
        Ok(Self {
            moved,
            of: file.bytes,
            data,
            thread: Some(thread),
        })
    }

    /// Bytes that the client has received, or handed to its kernel, so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Length of the file.
    pub(crate) fn total(&self) -> u64 {
        self.of
    }

    /// True when the client's end is done, well or not.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(mut self) -> Result<()> {
        let thread = self.thread.take().context("it runs")?;
        match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the transfer panicked"),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.data.shutdown(std::net::Shutdown::Both);
            let _ = thread.join();
        }
    }
}

/// Sends a file and closes the connection's own direction.
fn send(stream: &mut TcpStream, file: File, moved: &AtomicU64) -> Result<()> {
    let began = Instant::now();
    let mut at = 0;
    let mut chunk = [0; CHUNK];
    while at < file.bytes {
        if let Some(rate) = file.rate {
            let due = Duration::from_micros(at.saturating_mul(1_000_000) / rate.max(1));
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let length = usize::try_from((file.bytes - at).min(CHUNK as u64))?;
        fill(&mut chunk[..length], at);
        stream
            .write_all(&chunk[..length])
            .with_context(|| format!("sending after {at} bytes"))?;
        at += length as u64;
        moved.store(at, Ordering::Relaxed);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(())
}

/// Receives a file up to the end of the connection; every byte must be in its place.
fn receive(stream: &mut TcpStream, bytes: u64, moved: &AtomicU64) -> Result<()> {
    let mut at = 0;
    let (mut chunk, mut expected) = ([0; CHUNK], [0; CHUNK]);
    loop {
        let length = stream
            .read(&mut chunk)
            .with_context(|| format!("receiving after {at} bytes"))?;
        if length == 0 {
            ensure!(at == bytes, "{at} bytes of {bytes} came");
            return Ok(());
        }
        fill(&mut expected[..length], at);
        ensure!(
            chunk[..length] == expected[..length],
            "a wrong byte after {at}"
        );
        at += length as u64;
        moved.store(at, Ordering::Relaxed);
    }
}

/// What stands in a file from `at` on.
fn fill(chunk: &mut [u8], at: u64) {
    for (byte, at) in chunk.iter_mut().zip(at..) {
        *byte = u8::try_from(at % PERIOD).expect("below 251");
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("connecting to {address}"))?;
    set_patience(&stream)?;
    Ok(stream)
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (data, _) = listener.accept().context("the server's data connection")?;
    set_patience(&data)?;
    Ok(data)
}

/// A listener at a port of the kernel's choice, which does not wait for ever either.
fn listen(ip: IpAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind((ip, 0)).with_context(|| format!("listening at {ip}"))?;
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
    Ok(listener)
}

fn set_patience(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(())
}

/// `h1,h2,h3,h4,p1,p2` of RFC 959.
fn host_and_port(ip: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = ip.octets();
    let [high, low] = port.to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

fn parse_host_and_port(text: &str) -> Result<SocketAddr> {
    let numbers: Result<Vec<u8>, _> = text.trim().split(',').map(str::parse).collect();
    let Ok(&[a, b, c, d, high, low]) = numbers.as_deref() else {
        bail!("{text:?} is no h,h,h,h,p,p");
    };
    let ip = Ipv4Addr::new(a, b, c, d);
    Ok(SocketAddr::new(ip.into(), u16::from_be_bytes([high, low])))
}
