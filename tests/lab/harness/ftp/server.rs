//! The server: one thread for each control connection, inside its namespace.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::{
    CONTROL_PORT, File, connect, host_and_port, listen, parse_host_and_port, receive, send,
    set_patience,
};
use crate::harness::namespace::Namespace;
use crate::harness::{Context as _, Result, bail};

/// How often a thread that waits looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(200);
/// Longest line of a control connection; whoever says more is no FTP client.
const LINE_MAX: usize = 512;

/// A running server; drop ends it after what its sessions are at.
#[derive(Debug)]
pub(crate) struct FtpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl FtpServer {
    /// Starts a server at an address of a namespace.
    pub(crate) fn start(namespace: &Namespace, ip: IpAddr) -> Result<Self> {
        let listener = namespace.with(move || {
            TcpListener::bind((ip, CONTROL_PORT)).with_context(|| format!("listening at {ip}"))
        })?;
        SockRef::from(&listener).set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // Its sessions inherit the namespace.
        let thread = namespace.spawn(move || accept(&listener, &stopped))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for FtpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let control = match listener.accept() {
            Ok((control, _)) => control,
            Err(error) if is_timeout(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let stop = Arc::clone(stop);
        thread::Builder::new()
            .name("ftp-session".into())
            .spawn(move || {
                // What went wrong the client sees as a connection that ends.
                let _ = Session::new(control).and_then(|mut session| session.serve(&stop));
            })?;
    }
    Ok(())
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Where the next data connection goes.
enum Data {
    Unknown,
    /// The client listens.
    Active(SocketAddr),
    /// The client will call.
    Passive(TcpListener),
}

struct Session {
    control: BufReader<TcpStream>,
    data: Data,
}

impl Session {
    fn new(control: TcpStream) -> Result<Self> {
        set_patience(&control)?;
        control.set_read_timeout(Some(LOOK))?;
        Ok(Self {
            control: BufReader::new(control),
            data: Data::Unknown,
        })
    }

    fn serve(&mut self, stop: &AtomicBool) -> Result<()> {
        self.say("220 ready")?;
        let mut line = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match self.control.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) if line.ends_with(b"\n") => {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    line.clear();
                    self.obey(&text)?;
                }
                Ok(_) => {}
                // What has come of the line stays in it.
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if line.len() > LINE_MAX {
                bail!("a line without an end");
            }
        }
        Ok(())
    }

    fn obey(&mut self, line: &str) -> Result<()> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "USER" => self.say("331 any password"),
            "PASS" => self.say("230 welcome"),
            "TYPE" | "NOOP" => self.say("200 fine"),
            "PORT" => self.on_port(parse_host_and_port(argument).ok()),
            "EPRT" => self.on_port(extended(argument)),
            "PASV" | "EPSV" => self.on_passive(),
            "RETR" | "STOR" => self.on_transfer(verb, argument),
            _ => self.say("500 unknown"),
        }
    }

    fn on_port(&mut self, address: Option<SocketAddr>) -> Result<()> {
        match address {
            None => self.say("501 no address"),
            Some(address) => {
                self.data = Data::Active(address);
                self.say("200 fine")
            }
        }
    }

    fn on_passive(&mut self) -> Result<()> {
        let own = self.control.get_ref().local_addr()?;
        let listener = listen(own.ip())?;
        let port = listener.local_addr()?.port();
        self.data = Data::Passive(listener);
        match own.ip() {
            IpAddr::V4(ip) => self.say(&format!(
                "227 Entering Passive Mode ({})",
                host_and_port(ip, port)
            )),
            IpAddr::V6(_) => self.say(&format!("229 Entering Extended Passive Mode (|||{port}|)")),
        }
    }

    fn on_transfer(&mut self, verb: &str, name: &str) -> Result<()> {
        let Some(file) = File::parse(name) else {
            return self.say("550 a file's name is its length");
        };
        let data = std::mem::replace(&mut self.data, Data::Unknown);
        if matches!(data, Data::Unknown) {
            return self.say("425 where to?");
        }
        self.say("150 here it comes")?;
        match transfer(verb, file, data) {
            Ok(()) => self.say("226 all of it"),
            Err(error) => self.say(&format!("426 {error:#}")),
        }
    }

    fn say(&mut self, line: &str) -> Result<()> {
        self.control
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())?;
        Ok(())
    }
}

fn transfer(verb: &str, file: File, data: Data) -> Result<()> {
    let mut stream = match data {
        Data::Unknown => bail!("no data connection"),
        Data::Active(address) => connect(address)?,
        Data::Passive(listener) => {
            let (stream, _) = listener.accept().context("the client's data connection")?;
            set_patience(&stream)?;
            stream
        }
    };
    let moved = AtomicU64::new(0);
    match verb {
        "RETR" => send(&mut stream, file, &moved),
        _ => receive(&mut stream, file.bytes, &moved),
    }
}

/// `|family|address|port|` of RFC 2428.
fn extended(argument: &str) -> Option<SocketAddr> {
    let mut parts = argument.split('|').skip(2);
    let ip = parts.next()?.parse().ok()?;
    let port = parts.next()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}
