//! Packets from nowhere: both ends of many connections, written as Ethernet frames onto the cables of
//! one firewall, whose kernel tracks them as any others. Nobody owns the addresses, so that no stack
//! answers, and one thread offers more new flows than sockets could open.
//!
//! [`Cables`] are taken out of the switch into namespaces of their own: the bridge costs nothing, and
//! a frame that the firewall forwards is counted by the other cable and ends there. Assumes IPv4;
//! packet(7) and RFC 9293, 768, 1071 are what to read first.

use std::fs;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ctsyncd::flow::Tuple;
use ctsyncd::flow::tuple::{TCP, UDP};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::namespace::Namespace;
use super::topology::{Lab, Node, SERVER};
use super::{Context as _, Result, bail};

/// Locally administered addresses (IEEE 802) that no interface has.
const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x10];
const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x20];
/// The router behind which all clients of the frames are.
const CLIENT_ROUTER: &str = "192.0.2.10";
const ETHERTYPE_IPV4: u16 = 0x0800;
/// `ETH_P_ALL`, include/uapi/linux/if_ether.h.
const ETH_P_ALL: u16 = 3;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// Hops left, as Linux starts.
const TTL: u8 = 64;
/// Bytes of a datagram's or a request's contents.
const PAYLOAD: [u8; 32] = [0x61; 32];
/// How long the first frame of a cable may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// TCP's flags, RFC 9293 section 3.1.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
/// What every Linux says in its SYN: MSS 1460, SACK permitted, window scale 7 (RFC 9293, 2018, 7323).
const SYN_OPTIONS: [u8; 12] = [2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 1, 1];
/// Initial sequence numbers of both ends.
const ISS: [u32; 2] = [1_000_000, 2_000_000];

/// From which side a frame comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// From the client, on the inside.
    Inside,
    /// From the server, on the outside.
    Outside,
}

/// The two cables of a firewall over which frames come and go.
#[derive(Debug)]
pub(crate) struct Cables {
    inside: Cable,
    outside: Cable,
}

/// One cable: the far end of a firewall's interface.
#[derive(Debug)]
struct Cable {
    namespace: Namespace,
    socket: Socket,
    at: SockAddr,
    /// From whom frames come, and the firewall's own address on that segment.
    macs: [[u8; 6]; 2],
}

impl Cables {
    /// Takes the inside and the outside cable of a firewall out of the switch. The clients `10.0.0.0/8`
    /// of [`super::bulk::flow`] are behind a router on the inside, and leave under the outside address.
    pub(crate) fn take(lab: &Lab, node: &Node) -> Result<Self> {
        let host = node.namespace();
        let [server, _] = SERVER;
        let cables = Self {
            inside: Cable::take(lab, node, "eth0", CLIENT_MAC)?,
            outside: Cable::take(lab, node, "eth1", SERVER_MAC)?,
        };
        host.ip(&format!(
            "neigh replace {CLIENT_ROUTER} lladdr {} dev eth0 nud permanent\n\
             neigh replace {server} lladdr {} dev eth1 nud permanent\n\
             route replace 10.0.0.0/8 via {CLIENT_ROUTER} dev eth0\n",
            text(CLIENT_MAC),
            text(SERVER_MAC),
        ))?;
        node.load_rules(
            "add rule inet firewall nat oifname \"eth1\" ip saddr 10.0.0.0/8 snat ip to 198.51.100.1\n",
        )?;
        Ok(cables)
    }

    /// Writes a frame without its Ethernet header's addresses onto a cable; the firewall has dealt with
    /// it, as far as it is dealt with in the sender's context, when this returns.
    pub(crate) fn send(&self, side: Side, frame: &mut Frame) -> Result<()> {
        let cable = match side {
            Side::Inside => &self.inside,
            Side::Outside => &self.outside,
        };
        let [from, to] = cable.macs;
        frame.bytes[..6].copy_from_slice(&to);
        frame.bytes[6..12].copy_from_slice(&from);
        let sent = cable.socket.send_to(&frame.bytes, &cable.at);
        sent.context("writing a frame")?;
        Ok(())
    }

    /// Frames that the firewall has sent to a side so far.
    pub(crate) fn received(&self, side: Side) -> Result<u64> {
        let cable = match side {
            Side::Inside => &self.inside,
            Side::Outside => &self.outside,
        };
        cable.namespace.with(|| {
            let text = fs::read_to_string("/proc/thread-self/net/dev")?;
            let lines = text.lines().filter_map(|line| line.trim().split_once(':'));
            let mut ours = lines.filter(|(name, _)| name.starts_with("fw"));
            let (_, numbers) = ours.next().context("the cable in /proc/net/dev")?;
            // proc(5): bytes received, then packets.
            let packets = numbers.split_whitespace().nth(1).context("packets")?;
            Ok(packets.parse()?)
        })
    }
}

impl Cable {
    fn take(lab: &Lab, node: &Node, interface: &str, from: [u8; 6]) -> Result<Self> {
        let namespace = lab.take_cable(node, interface)?;
        let to = address_of(node, interface)?;
        // An address of packet(7) is made by no safe function, but a frame that comes in brings one:
        // that of the only interface that is here.
        let listener = namespace.with(|| packet_socket(ETH_P_ALL))?;
        listener.set_read_timeout(Some(PATIENCE))?;
        let asked = if interface == "eth0" {
            "192.0.2.250"
        } else {
            "198.51.100.250"
        };
        let mut ping = node.namespace().command("ping");
        // Nobody has that address: the question for it is the frame.
        let mut ping = ping.args(["-c", "1", "-W", "1", asked]).spawn()?;
        let mut buffer = [MaybeUninit::uninit(); 256];
        let heard = listener.recv_from(&mut buffer);
        let _ = ping.kill();
        ping.wait()?;
        let (_, at) = heard.context("waiting for a first frame on the cable")?;
        let socket = namespace.with(|| packet_socket(0))?;
        Ok(Self {
            namespace,
            socket,
            at,
            macs: [from, to],
        })
    }
}

/// A packet socket; of protocol 0 it hears nothing.
fn packet_socket(protocol: u16) -> Result<Socket> {
    let protocol = Protocol::from(i32::from(protocol.to_be()));
    Ok(Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?)
}

/// The hardware address of a firewall's interface.
fn address_of(node: &Node, interface: &str) -> Result<[u8; 6]> {
    let output = node
        .namespace()
        .output("ip", &["-oneline", "link", "show", "dev", interface])?;
    let mut words = output.split_whitespace();
    words.find(|word| *word == "link/ether");
    let text = words
        .next()
        .context("link/ether in the output of ip link")?;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<std::result::Result<_, _>>()?;
    bytes.try_into().ok().context("six bytes of an address")
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One frame, reused: no memory is asked for per packet.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

/// What a segment says, beside its ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    side: Side,
    flags: u8,
    seq: u32,
    ack: u32,
    payload: bool,
}

/// Packets of a whole TCP connection, from SYN to the last ACK: the client asks, is answered, and closes
/// first. The kernel's tracker passes SYN_SENT, SYN_RECV, ESTABLISHED (assured), FIN_WAIT, CLOSE_WAIT,
/// LAST_ACK, TIME_WAIT.
pub(crate) const CONNECTION_PACKETS: usize = 9;

fn connection() -> [Segment; CONNECTION_PACKETS] {
    let data = u32::try_from(PAYLOAD.len()).unwrap_or(0);
    let [client, server] = ISS;
    let segment = |side, flags, sent, heard, payload| {
        let (seq, ack) = match side {
            Side::Inside => (client + sent, server + heard),
            Side::Outside => (server + sent, client + heard),
        };
        let ack = if flags & ACK == 0 { 0 } else { ack };
        Segment {
            side,
            flags,
            seq,
            ack,
            payload,
        }
    };
    use Side::{Inside, Outside};
    [
        segment(Inside, SYN, 0, 0, false),
        segment(Outside, SYN | ACK, 0, 1, false),
        segment(Inside, ACK, 1, 1, false),
        segment(Inside, PSH | ACK, 1, 1, true),
        segment(Outside, PSH | ACK, 1, 1 + data, true),
        segment(Inside, FIN | ACK, 1 + data, 1 + data, false),
        segment(Outside, ACK, 1 + data, 2 + data, false),
        segment(Outside, FIN | ACK, 1 + data, 2 + data, false),
        segment(Inside, ACK, 2 + data, 2 + data, false),
    ]
}

impl Frame {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(128),
        }
    }

    /// Makes it a UDP datagram from a tuple's source to its destination.
    ///
    /// # Errors
    ///
    /// When the tuple is not IPv4.
    pub(crate) fn datagram(&mut self, tuple: &Tuple) -> Result<()> {
        let length = 8 + PAYLOAD.len();
        self.begin(tuple, UDP, length)?;
        self.bytes.extend(tuple.src_id.to_be_bytes());
        self.bytes.extend(tuple.dst_id.to_be_bytes());
        self.bytes.extend(short(length)?.to_be_bytes());
        self.bytes.extend([0; 2]);
        self.bytes.extend(PAYLOAD);
        self.end(UDP, 6)
    }

    /// Makes it the first packet of a TCP connection.
    ///
    /// # Errors
    ///
    /// When the tuple is not IPv4.
    pub(crate) fn syn(&mut self, orig: &Tuple) -> Result<()> {
        let [first, ..] = connection();
        self.segment(orig, first)
    }

    /// Makes it packet `at`, below [`CONNECTION_PACKETS`], of the connection of `orig`, whose server sees
    /// and answers it as `reply`. Yields from which side it comes.
    ///
    /// # Errors
    ///
    /// When the tuples are not IPv4.
    pub(crate) fn of_connection(&mut self, orig: &Tuple, reply: &Tuple, at: usize) -> Result<Side> {
        let segment = connection()[at];
        match segment.side {
            Side::Inside => self.segment(orig, segment)?,
            Side::Outside => self.segment(reply, segment)?,
        }
        Ok(segment.side)
    }

    fn segment(&mut self, tuple: &Tuple, segment: Segment) -> Result<()> {
        let options: &[u8] = if segment.flags & SYN == 0 {
            &[]
        } else {
            &SYN_OPTIONS
        };
        let payload: &[u8] = if segment.payload { &PAYLOAD } else { &[] };
        let header = 20 + options.len();
        self.begin(tuple, TCP, header + payload.len())?;
        self.bytes.extend(tuple.src_id.to_be_bytes());
        self.bytes.extend(tuple.dst_id.to_be_bytes());
        self.bytes.extend(segment.seq.to_be_bytes());
        self.bytes.extend(segment.ack.to_be_bytes());
        let words = u8::try_from(header / 4)?;
        self.bytes.extend([words << 4, segment.flags]);
        self.bytes.extend(u16::MAX.to_be_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(options);
        self.bytes.extend(payload);
        self.end(TCP, 16)
    }

    /// Ethernet and IPv4 headers in front of `length` bytes.
    fn begin(&mut self, tuple: &Tuple, protocol: u8, length: usize) -> Result<()> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (tuple.src_ip(), tuple.dst_ip()) else {
            bail!("frames are IPv4");
        };
        self.bytes.clear();
        self.bytes.resize(ETHERNET - 2, 0);
        self.bytes.extend(ETHERTYPE_IPV4.to_be_bytes());
        self.bytes.extend([0x45, 0]);
        self.bytes.extend(short(IPV4 + length)?.to_be_bytes());
        // No identification, not to be fragmented.
        self.bytes.extend([0, 0, 0x40, 0, TTL, protocol, 0, 0]);
        self.bytes.extend(Ipv4Addr::octets(&src));
        self.bytes.extend(Ipv4Addr::octets(&dst));
        let sum = checksum(0, &self.bytes[ETHERNET..]);
        self.bytes[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    /// The checksum of all that follows IPv4's header, with its pseudo header, into its place there.
    fn end(&mut self, protocol: u8, place: usize) -> Result<()> {
        let at = ETHERNET + IPV4;
        let addresses = &self.bytes[at - 8..at];
        let length = u32::from(short(self.bytes.len() - at)?);
        let pseudo = words(addresses) + u32::from(protocol) + length;
        let sum = match checksum(pseudo, &self.bytes[at..]) {
            // 0 means "none" in UDP, RFC 768; the same number otherwise.
            0 if protocol == UDP => 0xffff,
            sum => sum,
        };
        self.bytes[at + place..at + place + 2].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }
}

fn short(length: usize) -> Result<u16> {
    Ok(u16::try_from(length)?)
}

/// The Internet checksum (RFC 1071) of `bytes` and of what was summed before.
fn checksum(before: u32, bytes: &[u8]) -> u16 {
    let mut sum = before + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

/// The sum of all 16-bit words; frames are far too short for it to overflow.
fn words(bytes: &[u8]) -> u32 {
    let mut chunks = bytes.chunks_exact(2);
    let sum: u32 = chunks
        .by_ref()
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let odd = chunks.remainder().first();
    sum + odd.map_or(0, |&byte| u32::from(byte) << 8)
}

#[cfg(test)]
mod tests;
