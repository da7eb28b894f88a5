//! ctnetlink without our own decoder: attributes as the kernel sends them, so that two kernels can
//! be compared in everything they say, and a writer for many entries.

use std::collections::BTreeMap;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use ctsyncd::ctnetlink::decode_listed;
use ctsyncd::flow::FlowEvent;

use super::namespace::Namespace;
use super::{Context as _, Result, bail, ensure};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const CT_GET: u16 = 0x101;
/// `NFNL_SUBSYS_CTNETLINK_EXP << 8 | IPCTNL_MSG_EXP_GET`.
const EXP_GET: u16 = 0x201;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// Netlink header and `struct nfgenmsg`.
const HEADERS: usize = 20;
/// The kernel fits dump datagrams to at most 32 KiB; a smaller buffer would cut them silently.
const READ: usize = 64 * 1024;

/// Attribute numbers, include/uapi/linux/netfilter/nfnetlink_conntrack.h, `enum ctattr_type`.
pub(crate) mod cta {
    pub(crate) const TUPLE_ORIG: u16 = 1;
    pub(crate) const STATUS: u16 = 3;
    pub(crate) const PROTOINFO: u16 = 4;
    pub(crate) const HELP: u16 = 5;
    pub(crate) const TIMEOUT: u16 = 7;
    pub(crate) const MARK: u16 = 8;
    pub(crate) const COUNTERS_ORIG: u16 = 9;
    pub(crate) const COUNTERS_REPLY: u16 = 10;
    pub(crate) const USE: u16 = 11;
    pub(crate) const ID: u16 = 12;
    pub(crate) const TUPLE_MASTER: u16 = 14;
    pub(crate) const ZONE: u16 = 18;
    pub(crate) const SECCTX: u16 = 19;
    pub(crate) const TIMESTAMP: u16 = 20;
    pub(crate) const LABELS: u16 = 22;
    pub(crate) const SYNPROXY: u16 = 24;
    /// Inside PROTOINFO: `CTA_PROTOINFO_TCP`, then its flags.
    pub(crate) const TCP: u16 = 1;
    pub(crate) const TCP_FLAGS_ORIG: u16 = 4;
    pub(crate) const TCP_FLAGS_REPLY: u16 = 5;
}

/// Attribute numbers of expectations, `enum ctattr_expect`.
pub(crate) mod expect {
    pub(crate) const TIMEOUT: u16 = 4;
    pub(crate) const ID: u16 = 5;
}

/// One entry: the path of each attribute through the nests, and its bytes.
pub(crate) type Attributes = BTreeMap<Vec<u16>, Vec<u8>>;

/// All entries of a namespace, by the attributes that tell them apart.
pub(crate) fn entries(namespace: &Namespace) -> Result<BTreeMap<Vec<u8>, Attributes>> {
    namespace.with(|| {
        let mut table = BTreeMap::new();
        for message in dump(CT_GET)? {
            let mut entry = Attributes::new();
            flatten(&message[HEADERS..], &mut Vec::new(), &mut entry)?;
            let key = entry
                .iter()
                .filter(|(path, _)| path[0] == cta::TUPLE_ORIG || path[0] == cta::ZONE)
                .flat_map(|(_, bytes)| bytes.iter().copied())
                .collect();
            table.insert(key, entry);
        }
        Ok(table)
    })
}

/// All entries of a namespace, decoded.
pub(crate) fn flows(namespace: &Namespace) -> Result<Vec<FlowEvent>> {
    namespace.with(|| {
        let decode = |message: Vec<u8>| {
            let mut event = FlowEvent::default();
            decode_listed(&message, &mut event).context("decoding an entry")?;
            Ok(event)
        };
        dump(CT_GET)?.into_iter().map(decode).collect()
    })
}

/// All expectations of a namespace, in the order of their attributes.
pub(crate) fn expectations(namespace: &Namespace) -> Result<Vec<Attributes>> {
    namespace.with(|| {
        let mut table = Vec::new();
        for message in dump(EXP_GET)? {
            let mut entry = Attributes::new();
            flatten(&message[HEADERS..], &mut Vec::new(), &mut entry)?;
            table.push(entry);
        }
        table.sort();
        Ok(table)
    })
}

fn dump(kind: u16) -> Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let mut request = Vec::with_capacity(HEADERS);
    request.extend_from_slice(&u32::try_from(HEADERS)?.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&DUMP.to_ne_bytes());
    request.extend_from_slice(&[0; 12]);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut messages = Vec::new();
    let mut buffer = Vec::with_capacity(READ);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = &buffer[..];
        while rest.len() >= 16 {
            let length = usize::try_from(u32::from_ne_bytes(first(rest)?))?;
            ensure!(
                (16..=rest.len()).contains(&length),
                "a message within its datagram"
            );
            match u16::from_ne_bytes(first(&rest[4..])?) {
                NLMSG_DONE => return Ok(messages),
                NLMSG_ERROR => bail!("the kernel refused a dump"),
                _ => messages.push(rest[..length].to_vec()),
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

fn flatten(mut bytes: &[u8], path: &mut Vec<u16>, into: &mut Attributes) -> Result<()> {
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes(first(bytes)?));
        let kind = u16::from_ne_bytes(first(&bytes[2..])?);
        ensure!(
            (4..=bytes.len()).contains(&length),
            "an attribute within its message"
        );
        path.push(kind & NLA_TYPE_MASK);
        if kind & NLA_F_NESTED == 0 {
            into.insert(path.clone(), bytes[4..length].to_vec());
        } else {
            flatten(&bytes[4..length], path, into)?;
        }
        path.pop();
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    Ok(())
}

fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    Ok(*bytes.first_chunk().context("a message was cut")?)
}

/// Sends batches of messages to the kernel; the last message of each asks for an answer. Yields
/// how many answers were errors, and the first error number.
pub(crate) fn write(batches: &[Vec<u8>]) -> Result<(usize, i32)> {
    let mut writer = Writer::open()?;
    for batch in batches {
        writer.send(batch)?;
    }
    Ok(writer.refused())
}

/// Writes to the kernel of the namespace it was opened in, batch by batch.
pub(crate) struct Writer {
    socket: Socket,
    buffer: Vec<u8>,
    errors: usize,
    example: i32,
}

impl Writer {
    /// Opens its socket.
    pub(crate) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(READ),
            errors: 0,
            example: 0,
        })
    }

    /// How many answers so far were errors, and an error number among them.
    pub(crate) fn refused(&self) -> (usize, i32) {
        (self.errors, self.example)
    }

    /// Asks for one entry; yields whether it is there. `request` is one message that wants an answer.
    pub(crate) fn finds(&mut self, request: &[u8]) -> Result<bool> {
        self.socket.send_to(request, &SocketAddr::new(0, 0), 0)?;
        let mut is_there = false;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            let mut rest = &self.buffer[..];
            while let Some(answer) = next_answer(&mut rest)? {
                // The end of the answer: `ENOENT` where there was no entry.
                if u16::from_ne_bytes(first(&answer[4..])?) == NLMSG_ERROR {
                    let error = i32::from_ne_bytes(first(&answer[16..])?);
                    ensure!(
                        error == 0 || -error == libc::ENOENT,
                        "the kernel refused a look: {}",
                        std::io::Error::from_raw_os_error(-error)
                    );
                    return Ok(is_there);
                }
                is_there = true;
            }
        }
    }

    /// Sends messages whose last asks for an answer, and waits for that.
    pub(crate) fn send(&mut self, batch: &[u8]) -> Result<()> {
        self.socket.send_to(batch, &SocketAddr::new(0, 0), 0)?;
        let last = last_sequence(batch)?;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            let mut rest = &self.buffer[..];
            while let Some(answer) = next_answer(&mut rest)? {
                let sequence = u32::from_ne_bytes(first(&answer[8..])?);
                let error = i32::from_ne_bytes(first(&answer[16..])?);
                if error != 0 {
                    self.errors += 1;
                    self.example = -error;
                }
                if sequence == last {
                    return Ok(());
                }
            }
        }
    }
}

/// Takes the next message off what was read, without what fills it up; none if nothing is left.
fn next_answer<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    if rest.len() < HEADERS {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_ne_bytes(first(rest)?))?;
    ensure!(
        (HEADERS..=rest.len()).contains(&length),
        "an answer that is whole"
    );
    let answer = &rest[..length];
    *rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    Ok(Some(answer))
}

fn last_sequence(batch: &[u8]) -> Result<u32> {
    let (mut rest, mut last) = (batch, 0);
    while rest.len() >= 16 {
        let length = usize::try_from(u32::from_ne_bytes(first(rest)?))?;
        last = u32::from_ne_bytes(first(&rest[8..])?);
        rest = &rest[length.next_multiple_of(4).clamp(16, rest.len())..];
    }
    Ok(last)
}
