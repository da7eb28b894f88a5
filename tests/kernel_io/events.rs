//! The event reader.

use std::fs;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ctsyncd::config::settings::KernelSettings;
use ctsyncd::flow::{EventKind, FlowEvent};
use ctsyncd::kernel::{EventReader, KernelError, KernelEvents};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::sync::mpsc::{Receiver, channel};
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
                let (reader, mut events) = reader(1 << 20, 16);
                let mut kernel = Kernel::new();
                let mut writes = Writes::new(1);
                writes.create(&flow_v4(1));
                writes.create(&flow_v4(2));
                writes.delete(&flow_v4(1));
                kernel.carry_out(writes).await;

                let seen = collect(&reader, &mut events, 3).await;

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
                assert_eq!(reader.counters().overruns.load(Ordering::Relaxed), 0);
            });
        },
    );
}

#[test]
fn emptied_batch_comes_back_filled() {
    as_root("emptied_batch_comes_back_filled", || {
        let namespace = Namespace::new();
        namespace.enter();
        block_on(async {
            let (reader, mut events) = reader(1 << 20, 16);
            let mut kernel = Kernel::new();
            let mut seen = Vec::new();
            for number in 1..=3 {
                let mut writes = Writes::new(number);
                writes.create(&flow_v4(number));
                kernel.carry_out(writes).await;
                let batch = batch(&mut events).await;
                seen.push(batch.as_ptr());
                reader.recycle(batch);
            }

            // The first was in the reader's hands already when nothing had come back yet.
            assert_eq!(seen[2], seen[0]);
        });
    });
}

#[test]
fn every_hole_in_the_events_is_told_after_what_is_older() {
    as_root(
        "every_hole_in_the_events_is_told_after_what_is_older",
        || {
            let namespace = Namespace::new();
            namespace.enter();
            block_on(async {
                // Room for some 25 events in the socket and one batch in the channel.
                let (reader, mut events) = reader(32 * 1024, 1);
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
                    holes.note(told(&mut events).await);
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
                        holes.note(told(&mut events).await);
                    }
                }
                while holes.untold {
                    holes.note(told(&mut events).await);
                }

                let counters = reader.counters();
                assert_eq!(counters.overruns.load(Ordering::Relaxed), holes.overruns);
                assert!(counters.engine_waits.load(Ordering::Relaxed) >= 1);
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
    fn note(&mut self, told: KernelEvents) {
        let KernelEvents::Batch(batch) = told else {
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
        let (to_engine, _events) = channel(1);

        let error = EventReader::spawn(&settings(1 << 20), to_engine).expect_err("may not join");

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

#[test]
fn dropped_reader_closes_the_channel() {
    as_root("dropped_reader_closes_the_channel", || {
        let namespace = Namespace::new();
        namespace.enter();
        block_on(async {
            let (reader, mut events) = reader(1 << 20, 1);
            drop(reader);

            let end = timeout(WAIT, events.recv()).await.expect("the thread ends");
            assert!(end.is_none(), "{end:?}");
        });
    });
}

#[test]
#[ignore = "measures; run alone, with --nocapture, in release"]
fn measure_the_cost_of_an_event() {
    as_root("measure_the_cost_of_an_event", || {
        let namespace = Namespace::new();
        namespace.enter();
        block_on(async {
            // Flows at once, how often, and the time from one to the next.
            for (at_once, rounds, pause) in [
                (64, 1_500, Duration::ZERO),
                (1, 25_000, Duration::ZERO),
                (1, 25_000, Duration::from_micros(100)),
                (64, 400, Duration::from_micros(12_800)),
            ] {
                let (reader, mut events) = reader(128 << 20, 4_096);
                let mut kernel = Kernel::new();
                let start = Instant::now();
                for round in 0..rounds {
                    let mut writes = Writes::new(1 + at_once * round);
                    for number in 0..at_once {
                        writes.create(&flow_v4(at_once * round + number));
                    }
                    kernel.carry_out(writes).await;
                    // Timers are too coarse for this, and an idle CPU would be measured too.
                    while start.elapsed() < pause * (round + 1) {
                        std::hint::spin_loop();
                    }
                }
                collect(&reader, &mut events, (at_once * rounds) as usize).await;
                let took = start.elapsed();
                let count = reader.counters().events.load(Ordering::Relaxed);
                eprintln!(
                    "{at_once} at once: {:.0}/s, {} ns of ct-rx each",
                    count as f64 / took.as_secs_f64(),
                    on_cpu_nanos("ct-rx") / count,
                );
                drop(reader);
                while timeout(WAIT, events.recv())
                    .await
                    .expect("it ends")
                    .is_some()
                {}
                for round in 0..rounds {
                    let mut writes = Writes::new(1 + at_once * round);
                    for number in 0..at_once {
                        writes.delete(&flow_v4(at_once * round + number));
                    }
                    kernel.carry_out(writes).await;
                }
            }
        });
    });
}

/// Time that the thread of that name spent on a CPU.
fn on_cpu_nanos(name: &str) -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let comm = fs::read_to_string(path.join("comm")).ok()?;
            let times = fs::read_to_string(path.join("schedstat")).ok()?;
            (comm.trim() == name).then(|| times.split(' ').next()?.parse::<u64>().ok())?
        })
        .sum()
}

fn settings(event_buffer_bytes: usize) -> KernelSettings {
    KernelSettings {
        event_buffer_bytes,
        scrub_interval: Duration::from_secs(60),
        set_events_sysctl: true,
    }
}

fn reader(buffer_bytes: usize, batches: usize) -> (EventReader, Receiver<KernelEvents>) {
    let (to_engine, events) = channel(batches);
    let reader = EventReader::spawn(&settings(buffer_bytes), to_engine).expect("root may join");
    assert_eq!(reader.buffer_bytes(), buffer_bytes);
    (reader, events)
}

async fn told(events: &mut Receiver<KernelEvents>) -> KernelEvents {
    timeout(WAIT, events.recv())
        .await
        .expect("events come")
        .expect("the reader runs")
}

async fn batch(events: &mut Receiver<KernelEvents>) -> Vec<FlowEvent> {
    match told(events).await {
        KernelEvents::Batch(batch) => batch,
        other @ (KernelEvents::Expectation(_) | KernelEvents::Overrun) => panic!("{other:?}"),
    }
}

async fn collect(
    reader: &EventReader,
    events: &mut Receiver<KernelEvents>,
    count: usize,
) -> Vec<FlowEvent> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = batch(events).await;
        seen.extend_from_slice(&batch);
        reader.recycle(batch);
    }
    seen
}
