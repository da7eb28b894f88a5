//! What the kernel cannot be given back: the map of calls of PPTP. Pinned here so that a kernel which
//! learns it is noticed (docs/operations.md section 7 tells operators).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::flow::tuple::GRE;
use ctsyncd::flow::{Flow, Rare, Status, Tuple};

use crate::cluster::Cluster;
use crate::harness::netlink;
use crate::harness::services::Link;
use crate::harness::topology::{OUTSIDE_VIP, SERVER};
use crate::harness::wait::await_until;
use crate::harness::{Result, ensure, turn};

const CLIENT: &str = "192.0.2.10";
/// The calls as each side numbers them; a packet carries the number of the side that it goes to.
const CLIENT_CALL: u16 = 300;
const SERVER_CALL: u16 = 21;

#[test]
fn the_keys_of_pptp_come_back_and_its_packets_miss_them() -> Result<()> {
    let Some(_turn) = turn("the_keys_of_pptp_come_back_and_its_packets_miss_them") else {
        return Ok(());
    };
    let cluster = Cluster::start(2, Link::Multicast, "")?;
    let call = call()?;
    let how = Create {
        timeout_secs: 600,
        helper: Helper::Restore,
    };
    let mut message = Vec::new();
    encode::create(&mut message, 1, Ack::Wanted, &call, &Rare::default(), how);
    let active = cluster.node(1).namespace();
    let (errors, _) = active.with(move || netlink::write(&[message]))?;
    ensure!(errors == 0, "creating the call");
    cluster.await_replicas(2)?;
    cluster.daemon(2).ask(&["commit"])?;
    let standby = cluster.node(2).namespace();
    let of_keys = |src_id: u16, dst_id: u16| -> Result<bool> {
        let listed = netlink::flows(standby)?;
        let is_it =
            |orig: Tuple| orig.protocol == GRE && (orig.src_id, orig.dst_id) == (src_id, dst_id);
        Ok(listed.iter().any(|event| is_it(event.flow.orig)))
    };
    ensure!(of_keys(CLIENT_CALL, SERVER_CALL)?, "the call is restored");

    cluster.lab().give_addresses(cluster.node(2))?;
    cluster.lab().await_path()?;
    let client = cluster.lab().client().with(|| raw(CLIENT, SERVER[0]))?;
    await_until(
        "a packet begins a flow of its own",
        Duration::from_secs(5),
        || {
            client.send(&packet(SERVER_CALL))?;
            of_keys(0, SERVER_CALL)
        },
    )
}

/// The flow of a call through SNAT, as the helper makes it.
fn call() -> Result<Flow> {
    let (client, server): (IpAddr, IpAddr) = (CLIENT.parse()?, SERVER[0].parse()?);
    let outside = OUTSIDE_VIP.parse()?;
    Ok(Flow {
        orig: Tuple::new(GRE, client, server, CLIENT_CALL, SERVER_CALL),
        reply: Tuple::new(GRE, server, outside, SERVER_CALL, CLIENT_CALL),
        status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED),
        ..Flow::default()
    })
}

fn raw(from: &str, to: &str) -> Result<UdpSocket> {
    let address = |text: &str| -> Result<SocketAddr> { Ok(SocketAddr::new(text.parse()?, 0)) };
    let protocol = Protocol::from(i32::from(GRE));
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
    socket.bind(&address(from)?.into())?;
    socket.connect(&address(to)?.into())?;
    Ok(socket.into())
}

/// A packet of GRE version 1 (RFC 2637): key and sequence number present, PPP, four bytes of it.
fn packet(call: u16) -> Vec<u8> {
    let mut packet = vec![0x30, 0x01, 0x88, 0x0b, 0, 4];
    packet.extend_from_slice(&call.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 1]);
    packet.extend_from_slice(b"PPP.");
    packet
}
