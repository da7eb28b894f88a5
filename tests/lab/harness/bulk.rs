//! Many flows at once, made from nothing: what a firewall looks like that has been up for a while.

use std::net::{IpAddr, Ipv4Addr};

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::flow::proto::{TCP_ESTABLISHED, TcpInfo};
use ctsyncd::flow::tuple::TCP;
use ctsyncd::flow::{Flow, ProtoInfo, Rare, Status, Tuple};

use super::namespace::Namespace;
use super::netlink;
use super::topology::{OUTSIDE_VIP, SERVER};
use super::{Result, ensure};

/// Messages in one send: more gains nothing (the kernel was measured).
const BATCH: u32 = 64;
/// Ports used of each made-up client.
const PORTS: u32 = 50_000;
/// Established flows that nobody refreshes live this long.
const TIMEOUT_SECS: u32 = 3600;

/// Flow `number` of the made-up clients of `network`, a number below 200.
pub(crate) fn flow(network: u8, number: u32) -> Flow {
    let client = IpAddr::V4(Ipv4Addr::new(
        10,
        network,
        0,
        u8::try_from(number / PORTS + 1).unwrap_or(u8::MAX),
    ));
    let port = u16::try_from(number % PORTS + 1024).unwrap_or(u16::MAX);
    let server: IpAddr = SERVER[0].parse().expect("a literal");
    let outside: IpAddr = OUTSIDE_VIP.parse().expect("a literal");
    // The translated port must tell apart what the clients' addresses did, so the server's differs.
    let service = 10_000 + u16::from(network) * 100 + u16::try_from(number / PORTS).unwrap_or(0);
    let orig = Tuple::new(TCP, client, server, port, service);
    Flow {
        orig,
        reply: Tuple::new(TCP, server, outside, service, port),
        status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED),
        timeout_secs: TIMEOUT_SECS,
        proto: ProtoInfo::Tcp(TcpInfo {
            state: TCP_ESTABLISHED,
            wscale_orig: 7,
            wscale_reply: 7,
            flags_orig: 0x03,
            flags_reply: 0x03,
        }),
        ..Flow::default()
    }
}

/// Creates `count` established, translated TCP flows in a namespace.
pub(crate) fn create(namespace: &Namespace, network: u8, count: u32) -> Result<()> {
    send(namespace, creates(network, count))
}

/// The messages that create `count` flows, in batches that each ask for one answer.
pub(crate) fn creates(network: u8, count: u32) -> Vec<Vec<u8>> {
    let how = Create {
        timeout_secs: TIMEOUT_SECS,
        helper: Helper::Restore,
    };
    batches(count, |out, number, ack| {
        encode::create(
            out,
            number,
            ack,
            &flow(network, number),
            &Rare::default(),
            how,
        );
    })
}

/// Deletes the flows `from..to` that [`create`] made.
pub(crate) fn delete(namespace: &Namespace, network: u8, count: u32) -> Result<()> {
    let batches = batches(count, |out, number, ack| {
        encode::delete(out, number, ack, &flow(network, number), None);
    });
    send(namespace, batches)
}

fn batches(count: u32, mut fill: impl FnMut(&mut Vec<u8>, u32, Ack)) -> Vec<Vec<u8>> {
    let numbers: Vec<_> = (0..count).collect();
    let encode = |chunk: &[u32]| {
        let mut out = Vec::new();
        for (index, &number) in chunk.iter().enumerate() {
            let is_last = index + 1 == chunk.len();
            fill(
                &mut out,
                number,
                if is_last { Ack::Wanted } else { Ack::None },
            );
        }
        out
    };
    numbers
        .chunks(usize::try_from(BATCH).expect("fits"))
        .map(encode)
        .collect()
}

/// Sends batches to the kernel of a namespace, one after the other; none may be refused.
pub(crate) fn send(namespace: &Namespace, batches: Vec<Vec<u8>>) -> Result<()> {
    let (errors, example) = namespace.with(move || netlink::write(&batches))?;
    ensure!(
        errors == 0,
        "{errors} requests were refused, for example with {}",
        std::io::Error::from_raw_os_error(example)
    );
    Ok(())
}
