//! The event reader.

use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;

use ctsyncd::config::settings::KernelSettings;
use ctsyncd::flow::{EventKind, FlowEvent};
use ctsyncd::kernel::{EventReader, KernelError, KernelEvents};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::time::timeout;

use crate::namespace::{Namespace, as_root, block_on};
use crate::requests::{Kernel, WAIT, Writes, flow_v4};

#[test]
fn lives_of_our_flows_arrive_in_order_with_our_port_id() {
    as_root(
        "lives_of_our_flows_arrive_in_order_with_our_port_id",
        || {
            let namespace = Namespace::new();
            namespace.enter();
            block_on(async {
                let mut reader = reader(1 << 20);
                let mut kernel = Kernel::new();
                let mut writes = Writes::new(1);
                writes.create(&flow_v4(1));
                writes.create(&flow_v4(2));
                writes.delete(&flow_v4(1));
                kernel.carry_out(writes).await;

                let seen = collect(&mut reader, 3).await;

                let told: Vec<_> = seen
                    .iter()
                    .map(|e| (e.kind, e.flow.key(), e.port_id))
                    .collect();
                let ours = kernel.requests.port_id();
                assert_ne!(ours, 0);
                assert_eq!(
                    told,
                    [
                        (EventKind::New, flow_v4(1).key(), ours),
                        (EventKind::New, flow_v4(2).key(), ours),
                        (EventKind::Destroy, flow_v4(1).key(), ours),
                    ]
                );
                assert_eq!(reader.counters().undecodable.total(), 0);
                assert_eq!(reader.counters().overruns, 0);
            });
        },
    );
}

#[test]
fn every_hole_in_the_events_is_told_after_what_is_older() {
    as_root(
        "every_hole_in_the_events_is_told_after_what_is_older",
        || {
            let namespace = Namespace::new();
            namespace.enter();
            block_on(async {
                // Room for some 25 events.
                let mut reader = reader(32 * 1024);
                let mut kernel = Kernel::new();
                let written = 20 * 256;
                for first in (0..written).step_by(256) {
                    let mut writes = Writes::new(first);
                    for number in first..first + 256 {
                        writes.create(&flow_v4(number));
                    }
                    kernel.carry_out(writes).await;
                }

                let mut holes = Holes::default();
                while holes.overruns == 0 {
                    holes.note(told(&mut reader).await);
                }
                assert!(holes.events > 0 && holes.events < written, "{holes:?}");
                // What is written from here on comes, or its loss is told.
                let mut number = written;
                while holes.next != number + 1 {
                    number += 1;
                    let mut writes = Writes::new(number);
                    writes.create(&flow_v4(number));
                    kernel.carry_out(writes).await;
                    let overruns = holes.overruns;
                    while holes.next != number + 1 && holes.overruns == overruns {
                        holes.note(told(&mut reader).await);
                    }
                }
                while holes.untold {
                    holes.note(told(&mut reader).await);
                }

                assert_eq!(reader.counters().overruns, holes.overruns);
            });
        },
    );
}

/// Flows are created in the order of their numbers, so a number left out is an event lost.
#[derive(Default, Debug)]
struct Holes {
    next: u32,
    events: u32,
    overruns: u64,
    told_since_last: bool,
    untold: bool,
}

impl Holes {
    fn note(&mut self, told: Told) {
        let Told::Batch(batch) = told else {
            self.overruns += 1;
            self.told_since_last = true;
            self.untold = false;
            return;
        };
        for event in batch {
            let number = event.flow.key().orig;
            let IpAddr::V4(source) = number.src_ip() else {
                panic!("{event:?}");
            };
            let number = source.to_bits() - 0x0a00_0000;
            if number != self.next && !self.told_since_last {
                self.untold = true;
            }
            self.told_since_last = false;
            self.events += 1;
            self.next = number + 1;
        }
    }
}

#[test]
fn joining_without_the_capability_names_it() {
    as_root("joining_without_the_capability_names_it", || {
        // Of this thread only.
        let mut sets = capabilities(None).expect("capget works");
        sets.effective -= CapabilitySet::NET_ADMIN;
        set_capabilities(None, sets).expect("giving up is allowed");

        let error = EventReader::open(&settings(1 << 20), None).expect_err("may not join");

        assert!(matches!(error, KernelError::JoinDenied), "{error:?}");
        assert!(
            error.to_string().contains("CAP_NET_ADMIN is missing"),
            "{error}"
        );
        let error = ctsyncd::kernel::capability::require_net_admin().expect_err("missing");
        assert!(
            error.to_string().contains("CAP_NET_ADMIN is missing"),
            "{error}"
        );
    });
}

pub(crate) fn settings(event_buffer_bytes: usize) -> KernelSettings {
    KernelSettings {
        event_buffer_bytes,
        scrub_interval: Duration::from_secs(60),
        set_events_sysctl: true,
    }
}

fn reader(buffer_bytes: usize) -> EventReader {
    let reader = EventReader::open(&settings(buffer_bytes), None).expect("root may join");
    assert_eq!(reader.buffer_bytes(), buffer_bytes);
    reader
}

/// What a reader tells, to be kept.
#[derive(Debug)]
pub(crate) enum Told {
    Batch(Vec<FlowEvent>),
    Expectation,
    Overrun,
}

/// What is told next; waits for it.
pub(crate) async fn told(reader: &mut EventReader) -> Told {
    loop {
        match reader.read().expect("the socket is sound") {
            Some(KernelEvents::Batch(batch)) => return Told::Batch(batch.to_vec()),
            Some(KernelEvents::Expectation(_)) => return Told::Expectation,
            Some(KernelEvents::Overrun) => return Told::Overrun,
            None => {}
        }
        timeout(WAIT, poll_fn(|context| reader.poll_readable(context)))
            .await
            .expect("events come")
            .expect("the runtime runs");
    }
}

async fn collect(reader: &mut EventReader, count: usize) -> Vec<FlowEvent> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match told(reader).await {
            Told::Batch(batch) => seen.extend_from_slice(&batch),
            other @ (Told::Expectation | Told::Overrun) => panic!("{other:?}"),
        }
    }
    seen
}
