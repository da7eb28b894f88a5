//! What a round takes in: a share of each input, so that none starves another.

use anyhow::Context;
use tokio::sync::mpsc::error::TryRecvError;
use tracing::debug;

use super::{Driver, Parts};
use crate::ctnetlink::request::RequestDone;
use crate::daemon::steps::Share;
use crate::kernel::{KernelEvents, clock};
use crate::replication::LinkId;

/// Event batches taken in a round.
const EVENT_BATCHES: usize = 8;
/// Answers of the kernel taken in a round.
const ANSWERS: usize = 8;
/// Datagrams taken from each link in a round.
const DATAGRAMS_IN: usize = 64;
/// Orders taken in a round.
const ORDERS: usize = 4;

/// What a round has taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// There is more.
    pub(super) is_more: bool,
    /// Events, datagrams or the answers to writes were among it.
    pub(super) has_traffic: bool,
    /// Nobody gives orders any more.
    pub(super) is_over: bool,
}

impl Driver {
    /// Takes a share of what is there.
    pub(super) fn take_inputs(&mut self) -> anyhow::Result<Taken> {
        let mut taken = Taken::default();
        if self.parts.addresses.has_changed().unwrap_or(false) {
            self.on_addresses();
        }
        self.take_events(&mut taken)
            .context("the conntrack events cannot be read")?;
        let mut share = Share::of(ANSWERS);
        while let Ok(done) = self.parts.done.try_recv() {
            taken.has_traffic |= matches!(done, RequestDone::Batch { .. });
            self.on_done(done);
            if share.is_over() {
                taken.is_more = true;
                break;
            }
        }
        for at in 0..self.parts.ports.len() {
            self.take_datagrams(at, &mut taken);
        }
        for count in 0..=ORDERS {
            match self.parts.orders.try_recv() {
                Ok(order) => self.on_order(order),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    taken.is_over = true;
                    break;
                }
            }
            taken.is_more |= count == ORDERS;
        }
        Ok(taken)
    }

    fn take_events(&mut self, taken: &mut Taken) -> std::io::Result<()> {
        let Parts {
            reader,
            engine,
            look,
            ..
        } = &mut self.parts;
        let mut share = Share::of(EVENT_BATCHES);
        while !share.is_over() {
            let Some(events) = reader.read()? else {
                return Ok(());
            };
            taken.has_traffic = true;
            match events {
                KernelEvents::Batch(batch) => {
                    if let Some(addresses) = look.before(batch) {
                        engine.handle_addresses(clock(), addresses);
                    }
                    engine.handle_events(clock(), batch);
                }
                KernelEvents::Expectation(event) => engine.handle_expectation(clock(), &event),
                KernelEvents::Overrun => engine.handle_overrun(clock()),
            }
        }
        taken.is_more = true;
        Ok(())
    }

    fn take_datagrams(&mut self, at: usize, taken: &mut Taken) {
        let link = LinkId(u8::try_from(at).expect("links are counted in a u8"));
        let now = clock();
        let mut share = Share::of(DATAGRAMS_IN);
        while !share.is_over() {
            let port = &mut self.parts.ports[at];
            match port.link().try_recv_from(&mut self.datagram_in) {
                Ok((len, from)) => {
                    taken.has_traffic = true;
                    port.count_received();
                    let datagram = &mut self.datagram_in[..len];
                    self.parts.engine.handle_datagram(now, link, from, datagram);
                }
                Err(error) => {
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        debug!(link = port.link().name(), "cannot receive: {error}");
                    }
                    return;
                }
            }
        }
        taken.is_more = true;
    }

    pub(super) fn on_done(&mut self, done: RequestDone) {
        if let RequestDone::Batch { .. } = done {
            self.writes -= 1;
        }
        self.parts.engine.handle_done(clock(), done);
    }
}
