//! The gate: an nftables table of our own that makes forwarded packets vanish before conntrack sees
//! them, for as long as this node must not carry traffic.
//!
//! ```text
//! table inet ctsyncd_gate {
//!   set closed { type ifname; flags timeout; }          # empty: the gate is open
//!   set own4 { type ipv4_addr; }  set own6 { type ipv6_addr; }
//!   chain before_conntrack { type filter hook prerouting priority -310; policy accept;
//!     iifname != @closed accept                         # all that an open gate costs
//!     …                                                 # what passes a closed one, see `passing`
//!     counter drop } }
//! ```
//!
//! The priority is after the reassembly of fragments (-400) and before `raw` (-300) and conntrack
//! (-200), so that no entry is ever born of a packet that is dropped. The elements of `closed` have
//! a timeout: whoever closed the gate closes it again and again, and when he is dead it opens.
//! Adding an element that is there does not prolong its life, so the set is emptied and filled in
//! one transaction, between the two of which no packet passes.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_netfilter::nftables::SetFlags;

use super::nft::{self, Fate, Key, Match, Transaction};
use super::socket::{NetlinkSocket, READ_BYTES, Received};
use super::wake::wait_readable_for;
use crate::config::settings::{GateSettings, LinkSettings};
use crate::ctnetlink::{self, MessageKind};

mod passing;

/// The table.
pub const TABLE: &str = "ctsyncd_gate";
const CHAIN: &str = "before_conntrack";
const CLOSED: &str = "closed";
const OWN4: &str = "own4";
const OWN6: &str = "own6";
const PRIORITY: i32 = -310;
const PURPOSE: &str = "the gate";
/// All answers are there when `send` returns; a list takes the kernel some microseconds.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(500);

/// The system has refused something of the gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// No socket, or no answer.
    #[error("the gate: cannot talk to nftables: {0}")]
    Socket(#[from] io::Error),
    /// The socket could not be set up.
    #[error("the gate: {0}")]
    Setup(#[from] super::KernelError),
    /// There is no nftables in this kernel.
    #[error(
        "the gate: this kernel has no nftables, or no table of family inet; run `modprobe \
         nf_tables`, or leave [gate] out"
    )]
    NoNftables,
    /// The capability is missing.
    #[error(
        "the gate: nftables refuses us: CAP_NET_ADMIN is missing; run as root or give the unit \
         AmbientCapabilities=CAP_NET_ADMIN"
    )]
    Denied,
    /// The table is gone.
    #[error("the gate: its table inet {TABLE} is gone; somebody has flushed the ruleset")]
    Gone,
    /// Refused for another reason.
    #[error("the gate: the kernel refused to {what} in table inet {TABLE}: {source}")]
    Refused {
        /// What was to be done.
        what: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The answer has not come, or was lost.
    #[error("the gate: the kernel has not answered; whether it is open or closed is not known")]
    Silence,
}

/// The table in the kernel. It stays when this is dropped: see [`GateTable::remove`].
pub struct GateTable {
    socket: NetlinkSocket,
    buffer: Box<[u8]>,
    seq: u32,
    interfaces: Vec<[u8; 16]>,
    timeout: Duration,
    passing: Vec<Vec<Match>>,
}

impl GateTable {
    /// Opens a socket. Nothing is in the kernel before [`GateTable::install`].
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened.
    pub fn new(settings: &GateSettings, links: &[LinkSettings]) -> Result<Self, GateError> {
        let socket = NetlinkSocket::open_netfilter(PURPOSE)?;
        socket.set_terse_errors()?;
        Ok(Self {
            socket,
            buffer: vec![0; READ_BYTES].into(),
            seq: 1,
            interfaces: settings.interfaces.iter().map(|name| key(name)).collect(),
            timeout: settings.timeout,
            passing: passing::rules(&settings.allow, links),
        })
    }

    /// Puts the open gate into the kernel, in the place of what an earlier run has left.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn install(&mut self, own: &[IpAddr]) -> Result<(), GateError> {
        let mut change = self.begin();
        // What is not there cannot be deleted; what was just added can.
        change.add_table();
        change.delete_table();
        change.add_table();
        change.add_set(CLOSED, 1, Key::Interface, SetFlags::Timeout);
        change.add_set(OWN4, 2, Key::V4, SetFlags::empty());
        change.add_set(OWN6, 3, Key::V6, SetFlags::empty());
        add_own(&mut change, own);
        change.add_chain(CHAIN, PRIORITY);
        change.add_rule(CHAIN, &[Match::NoInterfaceOf(CLOSED)], Fate::Accept);
        for matches in &self.passing {
            change.add_rule(CHAIN, matches, Fate::Accept);
        }
        change.add_rule(CHAIN, &[], Fate::CountAndDrop);
        self.carry_out(change, "install the gate")
    }

    /// Closes the gate, or keeps it closed, until `timeout` from now.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; [`GateError::Gone`] if the table is not there any more.
    pub fn close(&mut self) -> Result<(), GateError> {
        let mut change = self.begin();
        change.empty_set(CLOSED);
        change.add_elements(CLOSED, &self.interfaces, Some(self.timeout));
        self.carry_out(change, "close the gate")
    }

    /// Opens the gate: it is open when this returns.
    ///
    /// # Errors
    ///
    /// As [`GateTable::close`].
    pub fn open(&mut self) -> Result<(), GateError> {
        let mut change = self.begin();
        change.empty_set(CLOSED);
        self.carry_out(change, "open the gate")
    }

    /// Says which addresses are this node's own: packets to them pass a closed gate.
    ///
    /// # Errors
    ///
    /// As [`GateTable::close`].
    pub fn set_own(&mut self, own: &[IpAddr]) -> Result<(), GateError> {
        let mut change = self.begin();
        change.empty_set(OWN4);
        change.empty_set(OWN6);
        add_own(&mut change, own);
        self.carry_out(change, "change the own addresses")
    }

    /// Packets dropped since the table was installed.
    ///
    /// # Errors
    ///
    /// When the kernel refuses or does not answer.
    pub fn dropped(&mut self) -> Result<u64, GateError> {
        let seq = self.next_seq();
        self.socket.send(&nft::list_rules(TABLE, CHAIN, seq))?;
        let mut dropped = 0;
        loop {
            let datagram = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(datagram) => datagram,
                Received::Foreign => continue,
                Received::Overrun | Received::Truncated => return Err(GateError::Silence),
                Received::Empty if wait_readable_for(&self.socket, ANSWER_WAIT_MAX)? => continue,
                Received::Empty => return Err(GateError::Silence),
            };
            for message in ctnetlink::messages(datagram) {
                let message = message.map_err(io::Error::other)?;
                if message.seq != seq {
                    continue;
                }
                match message.kind {
                    MessageKind::Done => return Ok(dropped),
                    MessageKind::Error => {
                        let errno = ctnetlink::decode_error(&message).map_or(0, |(_, errno)| errno);
                        return Err(refusal("count packets", errno));
                    }
                    _ => dropped += nft::counted(message.bytes),
                }
            }
        }
    }

    /// Takes the table out of the kernel; it may be gone already.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn remove(&mut self) -> Result<(), GateError> {
        let mut change = self.begin();
        change.delete_table();
        match self.carry_out(change, "remove the gate") {
            Err(GateError::Gone) => Ok(()),
            outcome => outcome,
        }
    }

    fn begin(&self) -> Transaction {
        Transaction::begin(TABLE, self.seq)
    }

    fn next_seq(&mut self) -> u32 {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        seq
    }

    /// Sends a transaction. The kernel has carried it out when `send` returns, and its answers
    /// wait: the refusals, and the one that was asked for.
    fn carry_out(&mut self, change: Transaction, what: &'static str) -> Result<(), GateError> {
        let first = self.seq;
        let (bytes, answered) = change.end();
        // The last message, which ends the transaction, has a number too.
        self.seq = answered.wrapping_add(2);
        self.socket.send(&bytes)?;
        let mut is_done = false;
        loop {
            let datagram = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(datagram) => datagram,
                Received::Foreign => continue,
                Received::Overrun | Received::Truncated => return Err(GateError::Silence),
                Received::Empty if is_done => return Ok(()),
                Received::Empty if wait_readable_for(&self.socket, ANSWER_WAIT_MAX)? => continue,
                Received::Empty => return Err(GateError::Silence),
            };
            for message in ctnetlink::messages(datagram) {
                let message = message.map_err(io::Error::other)?;
                if message.seq.wrapping_sub(first) > answered.wrapping_sub(first) {
                    continue; // a late answer to what was given up
                }
                match ctnetlink::decode_error(&message) {
                    Some((_, 0)) => is_done |= message.seq == answered,
                    Some((_, errno)) => return Err(refusal(what, errno)),
                    None => {}
                }
            }
        }
    }
}

impl std::fmt::Debug for GateTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateTable")
            .field("interfaces", &self.interfaces.len())
            .finish_non_exhaustive()
    }
}

fn refusal(what: &'static str, errno: i32) -> GateError {
    match errno {
        libc::EPERM => GateError::Denied,
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT => GateError::NoNftables,
        libc::ENOENT => GateError::Gone,
        errno => GateError::Refused {
            what,
            source: io::Error::from_raw_os_error(errno),
        },
    }
}

fn add_own(change: &mut Transaction, own: &[IpAddr]) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in own {
        match address {
            IpAddr::V4(address) => v4.push(address.octets()),
            IpAddr::V6(address) => v6.push(address.octets()),
        }
    }
    change.add_elements(OWN4, &v4, None);
    change.add_elements(OWN6, &v6, None);
}

/// The name of an interface as nftables compares it: 16 bytes, zeros behind it.
fn key(interface: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(interface.bytes()) {
        *to = from;
    }
    key
}
