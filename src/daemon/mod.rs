//! The process around the engine: start order, driver loop, signals, systemd.
//!
//! Threads: `main` answers the control socket, signals and the watchdog; `engine` runs the driver
//! and owns the engine, the event socket and the UDP sockets; `ct-dump`, `ct-tx`, `rt-addr`, `host`
//! and, if there is one, `gate` talk to the kernel. They share nothing but bounded channels.
//!
//! Start order: what can be refused comes first (capability, links, control socket), then the
//! event socket, then the listing of the kernel's table. So a start that fails has done nothing.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

mod answer;
mod driver;
mod fifo;
mod gate;
mod history;
mod identity;
pub mod key;
mod look;
mod orders;
mod port;
mod remember;
mod steps;
pub mod systemd;
mod tell;
mod told;
mod track;

use self::systemd::Systemd;
use crate::cache::HashKey;
use crate::config::settings::{Addressing, LinkSettings, Security, Settings};
use crate::control::server::ControlServer;
use crate::engine::status::{Role, Status};
use crate::engine::{Command, Engine, EngineSettings, Reply, Standing};
use crate::kernel::{AddressWatch, EventReader, HostWatch, Requests, capability, clock, sysctl};
use crate::net::Link;
use crate::wire::seal::Keyring;
use crate::wire::{Epoch, Name, Versions, WINDOW_MAX};
use answer::Desk;
use driver::Driver;
use fifo::Fifo;
use gate::Gate;
use history::History;
use look::Look;
use orders::Asker;
use port::Port;
use remember::{Memory, Remembered};
use told::Told;
use track::TrackFile;

/// Answers of the kernel that wait for the engine; when they are full the dumper and the writer
/// wait.
const ANSWERS: usize = 32;
/// Orders that wait for the engine; when they are full, whoever asks waits.
const ORDERS: usize = 16;
/// Transitions that wait to be written down; the engine has no more under way at once.
const TRANSITIONS: usize = 64;
/// Calls of control clients that wait to be looked at.
const CALLS: usize = 16;
/// Buffer that the kernel takes for a datagram of up to 1,400 bytes (its skb and what goes with
/// it), with some to spare.
const DATAGRAM_COST_BYTES: usize = 2_560;
/// A multicast link is shared among this many senders when its buffer is: a cluster of four.
const MULTICAST_SENDERS: usize = 3;
/// The status text of the unit, and what wakes the watchdog, at least this often.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// The engine answers within this time, or it hangs.
const ENGINE_ANSWER_MAX: Duration = Duration::from_secs(10);

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// When a part cannot start: what, on which object, and how to mend it; or when one has failed for
/// good while it ran.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let keyring = load_keyring(&settings)?;
    capability::require_net_admin()?;
    let main = runtime()?;
    let engine_runtime = runtime()?;
    let links = {
        let _guard = engine_runtime.enter();
        let open = |link: &LinkSettings| Port::open(link.clone());
        settings
            .links
            .iter()
            .map(open)
            .collect::<Result<Vec<_>, _>>()?
    };
    let server = {
        let _guard = main.enter();
        ControlServer::bind(&settings.control.socket)?
    };
    let memory = Memory::beside(&settings.control.socket);
    let remembered = memory.read();
    // Both are there before keepalived is started, which follows our word that we are ready.
    let fifo = settings.keepalived.notify_fifo.as_deref().map(|path| {
        let _guard = main.enter();
        Fifo::open(path)
    });
    let fifo = fifo.transpose()?;
    let track_file = settings.keepalived.track_file.as_deref();
    let track = track_file.map(|path| TrackFile::new(path, settings.keepalived.unready_priority));
    let standing = match remembered.role {
        Role::Active => Standing::Full,
        Role::Standby | Role::Promoting => Standing::Unready,
    };
    if let Some(track) = &track {
        track.write(standing)?;
    }
    let (done_in, done) = mpsc::channel(ANSWERS);
    let (orders_in, orders) = mpsc::channel(ORDERS);
    let events_sysctl = sysctl::ensure_events(settings.kernel.set_events_sysctl)?;
    if let Some(warning) = events_sysctl.warning() {
        warn!("{warning}");
    }
    let (flows_max, conntrack_max) = (settings.cache.flows_max, sysctl::conntrack_max()?);
    if flows_max < conntrack_max {
        warn!(
            "[cache] flows_max is {flows_max}, and the kernel takes {conntrack_max} flows: what is \
             beyond it is not replicated; raise it on every node"
        );
    }
    // Subscribe first, list then: what changes in between is an event.
    let reader = {
        let _guard = engine_runtime.enter();
        EventReader::open(&settings.kernel, settings.heard_protocols())?
    };
    let requests = Requests::spawn(done_in)?;
    let addresses = AddressWatch::spawn()?;
    let host = HostWatch::spawn()?;
    if keyring.is_none() {
        warn!("insecure: the links are neither encrypted nor authenticated");
    }
    let port_id = requests.port_id();
    let engine_settings = engine_settings(&settings, keyring, &links, port_id, remembered.clone())?;
    let run = engine_settings.epoch.to_string();
    let engine = Engine::new(engine_settings, clock());
    let (role_in, role) = watch::channel(remembered);
    let (standing_in, standing) = watch::channel(standing);
    let (transitions_in, transitions) = mpsc::channel(TRANSITIONS);
    let gate = settings.gate.as_ref().map(|gate| {
        let there = addresses.addresses().borrow().clone();
        Gate::start(gate, &settings.links, engine.role(), &there)
    });
    let driver = Driver::new(driver::Parts {
        engine,
        done,
        orders,
        reader,
        requests,
        addresses: addresses.addresses(),
        host: host.host(),
        look: Look::new()?,
        ports: links,
        role: role_in,
        standing: standing_in,
        transitions: transitions_in,
        gate: gate.transpose()?,
    });
    let thread = thread::Builder::new().name("engine".into());
    let engine_thread = thread
        .spawn(move || engine_runtime.block_on(driver.run()))
        .context("cannot start the engine's thread")?;
    let desk = Desk {
        asker: Asker::new(orders_in),
        history: Arc::new(Mutex::new(History::beside(&settings.control.socket, run))),
        fifo: fifo.is_some().then(Arc::default),
        has_track_file: track.is_some(),
    };
    let told = Told {
        role,
        memory,
        standing,
        track,
        transitions,
    };
    let outcome = main.block_on(attend(server, desk, told, fifo));
    // With the runtime go the tasks that answer clients, and with them the last who could give
    // orders: the driver ends.
    drop(main);
    let driven = engine_thread.join();
    outcome?;
    driven.unwrap_or_else(|_| anyhow::bail!("the engine's thread has panicked"))
}

/// Answers clients, signals and the watchdog until one of them or the engine ends it.
async fn attend(
    server: ControlServer,
    desk: Desk,
    mut told: Told,
    fifo: Option<Fifo>,
) -> anyhow::Result<()> {
    let asker = desk.asker.clone();
    let (calls_in, mut calls) = mpsc::channel(CALLS);
    let mut stop = Stop::new()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let mut systemd = Systemd::new();
    let interval = systemd
        .watchdog_interval()
        .map_or(STATUS_INTERVAL, |at| at.min(STATUS_INTERVAL));
    let pulse = feel_pulse(&asker, interval);
    tokio::pin!(pulse);
    let socket = server.path().display().to_string();
    let serving = server.serve(calls_in);
    tokio::pin!(serving);
    if let (Some(fifo), Some(counters)) = (fifo, desk.fifo.clone()) {
        let asker = asker.clone();
        tokio::spawn(async move { fifo.listen(asker, &counters).await });
    }
    systemd.ready("listing the kernel's table");
    info!(socket, "ready");
    loop {
        tokio::select! {
            () = &mut serving => anyhow::bail!("the control socket {socket} has failed"),
            Some(call) = calls.recv() => {
                tokio::spawn(answer::answer(call, desk.clone()));
            }
            answered = &mut pulse => {
                match answered {
                    Pulse::Status(status) => {
                        systemd.status(&status_text(&status));
                        systemd.alive();
                        // Somebody may have removed the file.
                        told.write_standing();
                    }
                    Pulse::Silence => warn!("the engine has not answered for 10 s"),
                    Pulse::Gone => return Ok(()),
                }
                pulse.set(feel_pulse(&asker, interval));
            }
            changed = told.changed(&desk.history) => {
                if !changed {
                    return Ok(());
                }
            }
            name = stop.received() => {
                info!("{name}: stopping");
                systemd.stopping();
                told.on_stop();
                return Ok(());
            }
            _ = hangup.recv() => {
                warn!("SIGHUP: the configuration is read at start only; restart to apply changes");
            }
        }
    }
}

/// What the engine's thread shows of life.
enum Pulse {
    Status(Box<Status>),
    /// It has not answered in time.
    Silence,
    Gone,
}

/// Asks the engine for its status after a while.
async fn feel_pulse(asker: &Asker, after: Duration) -> Pulse {
    tokio::time::sleep(after).await;
    let asked = tokio::time::timeout(ENGINE_ANSWER_MAX, asker.ask(Command::Status));
    match asked.await {
        Ok(Some(Reply::Status(status))) => Pulse::Status(status),
        Ok(_) => Pulse::Gone,
        Err(_) => Pulse::Silence,
    }
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
        })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// The cluster's keys; none: the links are insecure.
fn load_keyring(settings: &Settings) -> anyhow::Result<Option<Keyring>> {
    match &settings.security {
        Security::Insecure => Ok(None),
        Security::Sealed {
            key_file,
            other_key_file,
        } => Ok(Some(key::load_ring(key_file, other_key_file.as_deref())?)),
    }
}

fn engine_settings(
    settings: &Settings,
    keyring: Option<Keyring>,
    links: &[Port],
    writer_port_id: u32,
    remembered: Remembered,
) -> anyhow::Result<EngineSettings> {
    // With a cluster key all runs hash alike, so that no replica has to be hashed anew.
    let hash_key = match &keyring {
        Some(ring) => ring.primary.hash_key(),
        None => identity::random_words()?,
    };
    let datagram_bytes_max = links
        .iter()
        .map(|port| port.link().datagram_bytes_max())
        .min();
    Ok(EngineSettings {
        name: Name::new(settings.node.name.as_bytes()).context("[node] name is not valid")?,
        epoch: Epoch(identity::random()?),
        versions: Versions::OURS,
        hash_key: HashKey(hash_key),
        secret: HashKey(identity::random_words()?),
        policy: settings.policy.clone(),
        flows_max: settings.cache.flows_max,
        tombstones_max: settings.cache.tombstones_max,
        links: links
            .iter()
            .map(|port| port.link().name().to_owned())
            .collect(),
        window: settings
            .links
            .iter()
            .zip(links)
            .map(window)
            .min()
            .unwrap_or(WINDOW_MAX),
        datagram_bytes_max: datagram_bytes_max.context("no link is configured")?,
        scrub_interval: settings.kernel.scrub_interval,
        grace: settings.commit.grace,
        tcp_liberal: settings.commit.tcp_liberal,
        is_hot: settings.standby.is_hot,
        writer_port_id,
        keyring,
        role: remembered.role,
        term: remembered.term,
        masters: remembered.masters,
    })
}

/// What fits in the receive buffer of a link when all its peers send at once (rule W1).
fn window((settings, port): (&LinkSettings, &Port)) -> u32 {
    let senders = match &settings.addressing {
        Addressing::Multicast { .. } => MULTICAST_SENDERS,
        Addressing::Unicast { peers, .. } => peers.len().max(1),
    };
    let link: &Link = port.link();
    let fitting = link.receive_buffer_bytes() / DATAGRAM_COST_BYTES / senders;
    u32::try_from(fitting)
        .unwrap_or(WINDOW_MAX)
        .clamp(1, WINDOW_MAX)
}

fn status_text(status: &Status) -> String {
    let state = status
        .cause
        .as_deref()
        .map_or_else(|| "ready".to_owned(), |cause| format!("not ready: {cause}"));
    let role = serde_json::to_value(status.role).unwrap_or_default();
    let role = role.as_str().unwrap_or_default().to_owned();
    format!(
        "{role}, {state}; {} flows, {} peers",
        status.local.flows,
        status.peers.len()
    )
}
