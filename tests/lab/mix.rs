//! Flows of every kind: some made by hand, some by real traffic with marks, labels, a helper and an
//! expected child.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::harness::topology::{Lab, Node, SERVER};
use crate::harness::{Context as _, Result};

/// Flows made by hand, as arguments of `conntrack -I`. Protocol 99 has no tracker of its own.
const BY_HAND: &[&str] = &[
    "-t 3000 -u SEEN_REPLY,ASSURED -p tcp -s 192.0.2.20 -d 198.51.100.10 --sport 1001 --dport 80 --state ESTABLISHED",
    "-t 100 -u SEEN_REPLY,ASSURED -p tcp -s 192.0.2.20 -d 198.51.100.10 --sport 1002 --dport 80 --state CLOSE_WAIT -m 7",
    "-t 100 -u SEEN_REPLY,ASSURED -p tcp -s 192.0.2.20 -d 198.51.100.10 --sport 1003 --dport 80 --state TIME_WAIT",
    "-t 3000 -u SEEN_REPLY,ASSURED -p tcp -s 192.0.2.20 -d 198.51.100.10 --sport 1004 --dport 80 --state ESTABLISHED -n 198.51.100.1:2004",
    "-t 3000 -u SEEN_REPLY,ASSURED -p tcp -s 198.51.100.77 -d 198.51.100.1 --sport 1005 --dport 443 --state ESTABLISHED -g 192.0.2.80:8443",
    "-t 3000 -u SEEN_REPLY,ASSURED -p tcp -s 2001:db8:1::20 -d 2001:db8:2::10 --sport 1006 --dport 80 --state ESTABLISHED",
    "-t 150 -u SEEN_REPLY,ASSURED -p udp -s 192.0.2.20 -d 198.51.100.10 --sport 1007 --dport 53 -n 198.51.100.1:2007",
    "-t 150 -p udp -s 2001:db8:1::20 -d 2001:db8:2::10 --sport 1008 --dport 53 -m 4294967295",
    "-t 150 -u SEEN_REPLY -p udplite -s 192.0.2.20 -d 198.51.100.10 --sport 1009 --dport 9",
    "-t 150 -p icmp -s 192.0.2.20 -d 198.51.100.10 --icmp-type 8 --icmp-code 0 --icmp-id 77",
    "-t 150 -p icmpv6 -s 2001:db8:1::20 -d 2001:db8:2::10 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78",
    "-t 150 -u SEEN_REPLY,ASSURED -p sctp -s 192.0.2.20 -d 198.51.100.10 --sport 1010 --dport 5060 --state ESTABLISHED --orig-vtag 4660 --reply-vtag 22136",
    "-t 600 -u SEEN_REPLY,ASSURED -p gre -s 192.0.2.20 -d 198.51.100.10 --srckey 5 --dstkey 6",
    "-t 600 -u SEEN_REPLY -p 99 -s 192.0.2.20 -d 198.51.100.10",
    "-t 150 -u SEEN_REPLY,ASSURED -p udp -s 192.0.2.20 -d 198.51.100.10 --sport 1011 --dport 53 --zone 9",
    "-t 150 -u SEEN_REPLY,ASSURED -p udp -s 192.0.2.20 -d 198.51.100.10 --sport 1011 --dport 53 --zone 10",
    "-t 150 -u SEEN_REPLY,ASSURED -p udp -s 192.0.2.20 -d 198.51.100.10 --sport 1012 --dport 53 --orig-zone 11",
    "-t 150 -u SEEN_REPLY,ASSURED -p udp -s 192.0.2.20 -d 198.51.100.10 --sport 1013 --dport 53 --reply-zone 12",
];

/// How many flows [`by_hand`] makes.
pub(crate) const BY_HAND_COUNT: usize = BY_HAND.len();

/// Rules that give real traffic what only rules can give. The kernel drops labels that a standby is
/// to restore unless rules there use labels too, so they belong on every firewall.
const RULES: &str = r#"
table inet mix {
    ct helper ftp { type "ftp" protocol tcp; }
    chain before {
        type filter hook prerouting priority -150;
        tcp dport 21 ct helper set "ftp"
        tcp dport 7000 ct mark set 0x2a
        tcp dport 7000 ct label set 5
        udp dport 7000 ct label set 77
    }
}
"#;

/// Loads the rules for marks, labels and helpers.
pub(crate) fn add_rules(node: &Node) -> Result<()> {
    node.namespace().feed("nft", &["-f", "-"], RULES)?;
    Ok(())
}

/// Makes the flows that need no packets.
pub(crate) fn by_hand(node: &Node) -> Result<()> {
    for line in BY_HAND {
        let mut arguments = vec!["-I"];
        arguments.extend(line.split(' '));
        node.namespace().output("conntrack", &arguments)?;
    }
    Ok(())
}

/// An FTP session in passive mode, as far as a firewall looks: a control connection with a helper,
/// and a data connection that the helper expected. Both stay open with the value.
#[derive(Debug)]
pub(crate) struct Ftp {
    _connections: [TcpStream; 4],
}

impl Ftp {
    /// Opens it from the client to the server.
    pub(crate) fn open(lab: &Lab) -> Result<Self> {
        let control_address: SocketAddr = format!("{}:21", SERVER[0]).parse()?;
        let data_address: SocketAddr = format!("{}:5001", SERVER[0]).parse()?;
        let (control, data) = lab.server().with(move || {
            Ok((
                TcpListener::bind(control_address)?,
                TcpListener::bind(data_address)?,
            ))
        })?;
        let mut client = connect(lab, control_address)?;
        let (mut server, _) = control.accept()?;
        // The helper looks only at lines that follow one that it has seen.
        server.write_all(b"220 ready\r\n")?;
        line(&client)?;
        client.write_all(b"PASV\r\n")?;
        line(&server)?;
        // 5001 is 19 * 256 + 137.
        server.write_all(b"227 Entering Passive Mode (198,51,100,10,19,137)\r\n")?;
        line(&client)?;
        let client_data = connect(lab, data_address)?;
        let (server_data, _) = data.accept()?;
        Ok(Self {
            _connections: [client, server, client_data, server_data],
        })
    }
}

fn connect(lab: &Lab, address: SocketAddr) -> Result<TcpStream> {
    lab.client().with(move || {
        TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .with_context(|| format!("connecting to {address}"))
    })
}

fn line(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    BufReader::new(stream).read_line(&mut String::new())?;
    Ok(())
}
