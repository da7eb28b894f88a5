//! One flow between two hosts: two sockets that talk to each other through the firewalls, in either
//! direction, and what each sees of the other.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::namespace::Namespace;
use crate::harness::{Context as _, Result, bail, ensure};

/// How long one word may take to arrive; a connection that fails takes longer.
const PATIENCE: Duration = Duration::from_secs(6);
/// Datagrams are said again after this long: the first one may wait for a neighbour.
const AGAIN: Duration = Duration::from_millis(700);
/// Types of ICMP messages: request and reply.
const ECHO: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);
const ICMP_HEADER: usize = 8;

/// What is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speech {
    Tcp,
    Udp,
    Echo,
}

/// Who says a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Caller,
    Callee,
}

/// One flow.
#[derive(Debug)]
pub(crate) struct Talk {
    sockets: Sockets,
    /// Where the callee's words go: the caller as the callee sees it; its port is the id of an echo.
    seen: SocketAddr,
}

#[derive(Debug)]
enum Sockets {
    Stream {
        caller: TcpStream,
        callee: TcpStream,
    },
    Datagrams {
        caller: UdpSocket,
        callee: UdpSocket,
    },
    /// A ping socket, and a raw one.
    Echo {
        caller: UdpSocket,
        callee: UdpSocket,
        types: (u8, u8),
    },
}

impl Talk {
    /// Calls `target`, which must reach `callee`, where `listen` is the socket's address; says the
    /// first word in both directions.
    pub(crate) fn start(
        speech: Speech,
        (caller, from): (&Namespace, IpAddr),
        (callee, listen): (&Namespace, SocketAddr),
        target: SocketAddr,
    ) -> Result<Self> {
        let sockets = match speech {
            Speech::Tcp => stream(caller, callee, listen, target)?,
            Speech::Udp => Sockets::Datagrams {
                callee: callee.with(move || datagrams(listen))?,
                caller: caller.with(move || {
                    let socket = UdpSocket::bind((from, 0))?;
                    socket.connect(target)?;
                    Ok(socket)
                })?,
            },
            Speech::Echo => Sockets::Echo {
                callee: callee.with(move || raw(listen))?,
                caller: caller.with(move || ping(from, target))?,
                types: if from.is_ipv4() { ECHO } else { ECHO_V6 },
            },
        };
        let seen = match &sockets {
            Sockets::Stream { callee, .. } => callee.peer_addr()?,
            Sockets::Datagrams { .. } | Sockets::Echo { .. } => SocketAddr::new(from, 0),
        };
        let mut talk = Self { sockets, seen };
        talk.seen = talk.say(End::Caller)?;
        if let Sockets::Datagrams { callee, .. } = &talk.sockets {
            // Another flow may have the same target: its words are for another socket.
            callee.connect(talk.seen)?;
        }
        talk.say(End::Callee)?;
        Ok(talk)
    }

    /// The caller as the callee sees it.
    pub(crate) fn seen(&self) -> SocketAddr {
        self.seen
    }

    /// The caller's own port, or id of its echo requests.
    pub(crate) fn caller_port(&self) -> Result<u16> {
        let address = match &self.sockets {
            Sockets::Stream { caller, .. } => caller.local_addr()?,
            Sockets::Datagrams { caller, .. } | Sockets::Echo { caller, .. } => {
                caller.local_addr()?
            }
        };
        Ok(address.port())
    }

    /// Says a word that was not said before and hears it at the other end; yields who the callee
    /// sees (for its own words: whom it speaks to).
    pub(crate) fn say(&mut self, end: End) -> Result<SocketAddr> {
        // Raw sockets hear the words of all flows.
        static WORDS: AtomicU32 = AtomicU32::new(0);
        let number = WORDS.fetch_add(1, Ordering::Relaxed);
        let word = format!("word {number:08} of the {end:?}");
        let said = match &mut self.sockets {
            Sockets::Stream { caller, callee } => {
                let (from, to) = match end {
                    End::Caller => (caller, callee),
                    End::Callee => (callee, caller),
                };
                say_on_stream(from, to, word.as_bytes()).map(|()| self.seen)
            }
            Sockets::Datagrams { caller, callee } => match end {
                End::Caller => {
                    let send = || caller.send(word.as_bytes());
                    hear(callee, send, |heard, from| {
                        (heard == word.as_bytes()).then_some(from)
                    })
                }
                End::Callee => {
                    let send = || callee.send_to(word.as_bytes(), self.seen);
                    let seen = self.seen;
                    hear(caller, send, |heard, _| {
                        (heard == word.as_bytes()).then_some(seen)
                    })
                }
            },
            Sockets::Echo {
                caller,
                callee,
                types,
            } => {
                let (request, reply) = *types;
                match end {
                    End::Caller => {
                        // The kernel puts the id and the checksum.
                        let message = echo(request, 0, word.as_bytes(), false);
                        let is_v4 = self.seen.is_ipv4();
                        hear(
                            callee,
                            || caller.send(&message),
                            |heard, from| {
                                let message = if is_v4 { without_ip(heard)? } else { heard };
                                let header = message.first_chunk::<ICMP_HEADER>()?;
                                let id = u16::from_be_bytes([header[4], header[5]]);
                                let is_it = header[0] == request
                                    && &message[ICMP_HEADER..] == word.as_bytes();
                                is_it.then(|| SocketAddr::new(from.ip(), id))
                            },
                        )
                    }
                    End::Callee => {
                        let seen = self.seen;
                        let message = echo(reply, seen.port(), word.as_bytes(), seen.is_ipv4());
                        let to = SocketAddr::new(seen.ip(), 0);
                        hear(
                            caller,
                            || callee.send_to(&message, to),
                            |heard, _| {
                                let said = heard.get(ICMP_HEADER..)?;
                                (said == word.as_bytes()).then_some(seen)
                            },
                        )
                    }
                }
            }
        };
        said.with_context(|| format!("a word of the {end:?} does not arrive"))
    }
}

fn stream(
    caller: &Namespace,
    callee: &Namespace,
    listen: SocketAddr,
    target: SocketAddr,
) -> Result<Sockets> {
    let listener = callee.with(move || {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    let caller = caller.with(move || {
        TcpStream::connect_timeout(&target, PATIENCE)
            .with_context(|| format!("connecting to {target}"))
    })?;
    let (callee, _) = listener.accept().context("accepting what is connected")?;
    callee.set_nonblocking(false)?;
    for end in [&caller, &callee] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(PATIENCE))?;
    }
    Ok(Sockets::Stream { caller, callee })
}

fn say_on_stream(from: &mut TcpStream, to: &mut TcpStream, word: &[u8]) -> Result<()> {
    from.write_all(word)?;
    let mut heard = vec![0; word.len()];
    to.read_exact(&mut heard)?;
    ensure!(heard == word, "heard {:?}", String::from_utf8_lossy(&heard));
    Ok(())
}

/// Sends until `is_it` finds what was sent among what `socket` hears.
fn hear(
    socket: &UdpSocket,
    send: impl Fn() -> std::io::Result<usize>,
    is_it: impl Fn(&[u8], SocketAddr) -> Option<SocketAddr>,
) -> Result<SocketAddr> {
    let start = Instant::now();
    socket.set_read_timeout(Some(AGAIN))?;
    let mut buffer = [0; 2048];
    while start.elapsed() < PATIENCE {
        // A refusal by ICMP belongs to an earlier word.
        let _ = send();
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(seen) = is_it(&buffer[..length], from) {
                return Ok(seen);
            }
        }
    }
    bail!("not within {PATIENCE:?}")
}

fn datagrams(listen: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// A socket for echo requests; its port is their id.
fn ping(from: IpAddr, target: SocketAddr) -> Result<UdpSocket> {
    let (domain, protocol) = icmp(from);
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&SocketAddr::new(target.ip(), 0).into())?;
    Ok(socket.into())
}

fn raw(listen: SocketAddr) -> Result<UdpSocket> {
    let (domain, protocol) = icmp(listen.ip());
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.bind(&SocketAddr::new(listen.ip(), 0).into())?;
    Ok(socket.into())
}

fn icmp(of: IpAddr) -> (Domain, Protocol) {
    if of.is_ipv4() {
        (Domain::IPV4, Protocol::ICMPV4)
    } else {
        (Domain::IPV6, Protocol::ICMPV6)
    }
}

/// What a raw IPv4 socket hears begins with the IP header.
fn without_ip(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first()? & 0x0f;
    packet.get(usize::from(words) * 4..)
}

fn echo(kind: u8, id: u16, word: &[u8], with_checksum: bool) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message.extend_from_slice(word);
    if with_checksum {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}
