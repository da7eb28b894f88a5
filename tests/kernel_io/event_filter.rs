//! The filter on the event socket, with real packets: what a write causes passes it in any case.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Instant;

use ctsyncd::flow::tuple::{TCP, UDP};
use ctsyncd::flow::{EventKind, FlowEvent};
use ctsyncd::kernel::{EventReader, KernelEvents};
use rustix::time::{ClockId, clock_gettime};

use crate::events::{Told, settings, told};
use crate::namespace::{Namespace, as_root, block_on};
use crate::requests::WAIT;

/// Any rule that asks for the state of a flow makes the kernel track them.
const TRACK: &str = "add table inet t
add chain inet t out { type filter hook output priority 0; }
add rule inet t out ct state invalid counter
";
const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn of_other_protocols_only_ends_and_writes_arrive() {
    as_root("of_other_protocols_only_ends_and_writes_arrive", || {
        let namespace = tracking();
        block_on(async {
            let mut reader = reader(1 << 20, Some(TCP));
            assert_eq!(reader.filtered_protocols(), 1);
            run(
                "sysctl",
                &["-qw", "net.netfilter.nf_conntrack_udp_timeout=1"],
            );

            send_udp(3);
            let connection = connect();
            let seen = until(&mut reader, |event| is_tcp_state(event, 3)).await;
            assert!(seen.iter().all(is_tcp), "{seen:?}");
            assert!(seen.len() >= 3, "NEW, SYN_RECV, ESTABLISHED: {seen:?}");

            let write = "-I -p udp -s 10.9.9.1 -d 10.9.9.2 --sport 7 --dport 8 -t 60";
            run("conntrack", &write.split(' ').collect::<Vec<_>>());
            let seen = until(&mut reader, |event| event.port_id != 0).await;
            let written = seen.last().expect("at least one");
            assert_eq!(
                (written.kind, written.flow.orig.protocol),
                (EventKind::New, UDP)
            );

            // A listing takes out what has expired.
            let deadline = Instant::now() + WAIT;
            let mut ends = 0;
            while ends < 3 {
                assert!(Instant::now() < deadline, "{ends} ends");
                run("conntrack", &["-L", "-p", "udp"]);
                while let Some(events) = reader.read().expect("the socket is sound") {
                    let KernelEvents::Batch(batch) = events else {
                        panic!("{events:?}");
                    };
                    for event in batch.iter().filter(|event| !is_tcp(event)) {
                        assert_eq!(event.kind, EventKind::Destroy, "{event:?}");
                        ends += usize::from(event.port_id == 0);
                    }
                }
            }
            drop(connection);
        });
        drop(namespace);
    });
}

#[test]
fn events_of_other_protocols_take_no_room_in_the_buffer() {
    as_root("events_of_other_protocols_take_no_room", || {
        let namespace = tracking();
        block_on(async {
            // Room for some 25 events.
            let mut reader = reader(32 * 1024, Some(TCP));

            send_udp(1_000);
            let connection = connect();
            until(&mut reader, |event| is_tcp_state(event, 3)).await;

            assert_eq!(reader.counters().overruns, 0);
            drop(connection);
        });
        drop(namespace);
    });
}

/// `cargo test --test kernel_io -- --ignored --nocapture what_an_ignored_event_costs`
#[test]
#[ignore = "a measurement: it prints and judges nothing"]
fn what_an_ignored_event_costs() {
    const EVENTS: u32 = 20_000;
    as_root("what_an_ignored_event_costs", || {
        for round in 0..5 {
            for protocols in [None, Some(TCP)] {
                let namespace = tracking();
                let [reading, sending] = block_on(async {
                    let mut reader = reader(64 << 20, protocols);
                    let before = cpu_ns();
                    send_udp(EVENTS);
                    let sent = cpu_ns();
                    let connection = connect();
                    let connected = cpu_ns();
                    until(&mut reader, |event| is_tcp_state(event, 3)).await;
                    let read = cpu_ns();
                    drop(connection);
                    [read - connected, sent - before].map(|ns| ns / u64::from(EVENTS))
                });
                drop(namespace);
                eprintln!(
                    "round {round}: filter {}: {reading} ns to read, {sending} ns to send",
                    protocols.is_some()
                );
            }
        }
    });
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("no time before the start")
}

/// A namespace that tracks connections; the calling thread is in it.
fn tracking() -> Namespace {
    let namespace = Namespace::new();
    namespace.enter();
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft can be started");
    let mut input = nft.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, TRACK.as_bytes()).expect("nft reads");
    drop(input);
    assert!(nft.wait().expect("nft ends").success());
    namespace
}

/// In the namespace of the calling thread.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.expect("the program can be started");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

fn reader(buffer_bytes: usize, protocol: Option<u8>) -> EventReader {
    let protocols = protocol.map(|protocol| [protocol].into_iter().collect());
    EventReader::open(&settings(buffer_bytes), protocols).expect("root may join")
}

/// One packet of each of so many flows.
fn send_udp(flows: u32) {
    let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = server.local_addr().expect("is bound").port();
    let client = UdpSocket::bind((SERVER, 0)).expect("a free port");
    for number in 0..flows {
        let to = Ipv4Addr::from_bits(0x7f01_0000 + number);
        client.send_to(b"x", (to, port)).expect("loopback carries");
    }
}

fn connect() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind((SERVER, 0)).expect("a free port");
    let to = listener.local_addr().expect("is bound");
    let stream = TcpStream::connect(to).expect("loopback carries");
    (listener, stream)
}

fn is_tcp(event: &FlowEvent) -> bool {
    event.flow.orig.protocol == TCP
}

fn is_tcp_state(event: &FlowEvent, state: u8) -> bool {
    matches!(event.flow.proto, ctsyncd::flow::ProtoInfo::Tcp(tcp) if tcp.state == state)
}

/// Everything up to the batch with an event that is meant.
async fn until(reader: &mut EventReader, is_it: impl Fn(&FlowEvent) -> bool) -> Vec<FlowEvent> {
    let mut seen = Vec::new();
    while !seen.iter().any(&is_it) {
        match told(reader).await {
            Told::Batch(batch) => seen.extend_from_slice(&batch),
            other @ (Told::Expectation | Told::Overrun) => panic!("{other:?}"),
        }
    }
    seen
}
