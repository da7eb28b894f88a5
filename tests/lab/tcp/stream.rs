//! Connections that carry as much as the line takes, in one direction or in both at once, and a
//! record of how much arrived when.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::topology::{Lab, SERVER};
use crate::harness::{Context as _, Result};

/// Port of the server.
const PORT: u16 = 7200;
/// Bytes written and read at once.
const CHUNK: usize = 64 * 1024;
/// How often what has arrived is written down.
const EVERY: Duration = Duration::from_millis(10);
/// A congestion control that fills a queue, so that windows become as large as it.
const FILLS_QUEUES: &[u8] = b"cubic";
const CONNECT: Duration = Duration::from_secs(10);

/// Which way bytes go, as the client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Up,
    Down,
}

/// One direction of one connection.
#[derive(Debug)]
struct Direction {
    name: String,
    way: Way,
    /// Bytes that have arrived.
    arrived: AtomicU64,
    ended: AtomicBool,
}

/// What had arrived at a moment: all that went up, all that went down.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    arrived: [u64; 2],
}

/// Running transfers; drop ends them.
#[derive(Debug)]
pub(crate) struct Streams {
    directions: Vec<Arc<Direction>>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
    samples: Arc<std::sync::Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
}

impl Streams {
    /// Connects a connection for each item, every other one over IPv6, and lets bytes flow the ways
    /// that it names.
    pub(crate) fn start(lab: &Lab, connections: &[&[Way]]) -> Result<Self> {
        let mut listeners = Vec::new();
        for address in SERVER {
            let address = SocketAddr::new(address.parse()?, PORT);
            listeners.push((
                address,
                lab.server().with(move || Ok(TcpListener::bind(address)?))?,
            ));
        }
        let mut streams = Self {
            directions: Vec::new(),
            sockets: Vec::new(),
            threads: Vec::new(),
            samples: Arc::default(),
            stop: Arc::default(),
        };
        for (index, ways) in connections.iter().enumerate() {
            let (address, listener) = &listeners[index % listeners.len()];
            let address = *address;
            let client = lab.client().with(move || {
                TcpStream::connect_timeout(&address, CONNECT)
                    .with_context(|| format!("connecting to {address}"))
            })?;
            let (server, _) = listener.accept()?;
            for end in [&client, &server] {
                socket2::SockRef::from(end).set_tcp_congestion(FILLS_QUEUES)?;
            }
            for &way in *ways {
                let (from, to) = match way {
                    Way::Up => (&client, &server),
                    Way::Down => (&server, &client),
                };
                let name = format!("connection {index} to {address}, {way:?}");
                streams.add(name, way, from.try_clone()?, to.try_clone()?)?;
            }
            streams.sockets.extend([client, server]);
        }
        streams.record()?;
        Ok(streams)
    }

    fn add(
        &mut self,
        name: String,
        way: Way,
        mut from: TcpStream,
        mut to: TcpStream,
    ) -> Result<()> {
        let direction = Arc::new(Direction {
            name,
            way,
            arrived: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        self.directions.push(Arc::clone(&direction));
        let spawn = |body| thread::Builder::new().name("bulk".to_owned()).spawn(body);
        let writer: Box<dyn FnOnce() + Send> = {
            let direction = Arc::clone(&direction);
            Box::new(move || {
                let chunk = vec![0x5a; CHUNK];
                while from.write_all(&chunk).is_ok() {}
                direction.ended.store(true, Ordering::Relaxed);
            })
        };
        self.threads.push(spawn(writer)?);
        let reader: Box<dyn FnOnce() + Send> = Box::new(move || {
            let mut chunk = vec![0; CHUNK];
            while let Ok(length @ 1..) = to.read(&mut chunk) {
                direction
                    .arrived
                    .fetch_add(length as u64, Ordering::Relaxed);
            }
            direction.ended.store(true, Ordering::Relaxed);
        });
        self.threads.push(spawn(reader)?);
        Ok(())
    }

    fn record(&mut self) -> Result<()> {
        let (directions, samples) = (self.directions.clone(), Arc::clone(&self.samples));
        let stop = Arc::clone(&self.stop);
        let recorder = thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let of = |way| {
                        let of_way = directions.iter().filter(|direction| direction.way == way);
                        of_way
                            .map(|direction| direction.arrived.load(Ordering::Relaxed))
                            .sum()
                    };
                    let sample = Sample {
                        at: Instant::now(),
                        arrived: [of(Way::Up), of(Way::Down)],
                    };
                    samples.lock().expect("nobody panics with it").push(sample);
                    thread::sleep(EVERY);
                }
            })?;
        self.threads.push(recorder);
        Ok(())
    }

    /// Bytes that arrived in a span of time, per way.
    pub(crate) fn arrived(&self, from: Instant, to: Instant) -> [u64; 2] {
        let samples = self.samples.lock().expect("nobody panics with it");
        let at = |moment: Instant| {
            let before = samples.iter().rev().find(|sample| sample.at <= moment);
            before.map_or([0; 2], |sample| sample.arrived)
        };
        let (from, to) = (at(from), at(to));
        [to[0] - from[0], to[1] - from[1]]
    }

    /// When something first arrived both ways that was not there at `moment`.
    pub(crate) fn went_on(&self, moment: Instant) -> Option<Instant> {
        let samples = self.samples.lock().expect("nobody panics with it");
        let then = samples.iter().rev().find(|sample| sample.at <= moment)?;
        let is_on = |sample: &&Sample| {
            sample.at > moment && (0..2).all(|way| sample.arrived[way] > then.arrived[way])
        };
        samples.iter().find(is_on).map(|sample| sample.at)
    }

    /// What has arrived of each direction.
    pub(crate) fn progress(&self) -> Vec<u64> {
        let arrived = |direction: &Arc<Direction>| direction.arrived.load(Ordering::Relaxed);
        self.directions.iter().map(arrived).collect()
    }

    /// The directions that have ended, and those of which no more than `then` has arrived.
    pub(crate) fn stuck(&self, then: &[u64]) -> Vec<String> {
        let directions = self.directions.iter().zip(then);
        directions
            .filter_map(|(direction, &then)| {
                if direction.ended.load(Ordering::Relaxed) {
                    Some(format!("{}: ended", direction.name))
                } else if direction.arrived.load(Ordering::Relaxed) <= then {
                    Some(format!("{}: stands still", direction.name))
                } else {
                    None
                }
            })
            .collect()
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
