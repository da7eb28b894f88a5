//! Events as the kernel sends them: real messages, each with the addresses of a flow of its own and
//! a mark that changes.

#[path = "../golden/message.rs"]
mod message;

use ctsyncd::ctnetlink::cta::{
    CTA_MARK, IPCTNL_MSG_CT_DELETE, NLM_F_CREATE, NLM_F_EXCL, NLM_F_MULTI,
};
use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::ctnetlink::{decode_event, messages};
use ctsyncd::flow::proto::{TCP_ESTABLISHED, TcpInfo};
use ctsyncd::flow::rare::{HelperName, SeqAdj, SynProxy};
use ctsyncd::flow::{EventKind, Family, Flow, FlowEvent, ProtoInfo, Rare, Status, Tuple};
use message::golden;

/// The flags of a message, after its length and type.
const TYPE_AT: usize = 4;
const FLAGS_AT: usize = 6;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS_LEN: usize = 20;
/// The headers of `CTA_TUPLE_*`, `CTA_TUPLE_IP` and an address.
const ADDRESS_AT: usize = 12;

/// A message, and where in it stands what differs from flow to flow.
struct Template {
    bytes: Vec<u8>,
    /// Where the last two bytes of the client's address are.
    client: [usize; 2],
    mark: usize,
}

/// The messages of all kinds of flows; flow number `n` is of kind `n % KINDS`.
pub(crate) struct Messages {
    kinds: [Template; KINDS],
    /// The datagram that the reader's buffer would hold.
    datagram: Vec<u8>,
}

pub(crate) const KINDS: usize = 5;

impl Messages {
    pub(crate) fn new() -> Self {
        Self {
            kinds: [
                Template::new(golden("new_tcp_snat_dnat"), true),
                Template::new(golden("new_tcp_helper_labels"), false),
                Template::new(golden("listed_tcp_ipv6"), false),
                Template::new(golden("new_udp_zone"), false),
                Template::new(everything_rare(), false),
            ],
            datagram: Vec::with_capacity(1024),
        }
    }

    /// An event of a flow, out of its bytes as the reader gets it.
    pub(crate) fn read(
        &mut self,
        kind: EventKind,
        number: u16,
        mark: u32,
        events: &mut Vec<FlowEvent>,
    ) {
        let template = &self.kinds[usize::from(number) % KINDS];
        self.datagram.clear();
        self.datagram.extend(&template.bytes);
        let datagram = &mut self.datagram[..];
        for at in template.client {
            datagram[at..at + 2].copy_from_slice(&number.to_be_bytes());
        }
        datagram[template.mark..template.mark + 4].copy_from_slice(&mark.to_be_bytes());
        let flags = match kind {
            EventKind::New => NLM_F_CREATE | NLM_F_EXCL,
            EventKind::Update | EventKind::Destroy => 0,
            EventKind::Listed => NLM_F_MULTI,
        };
        datagram[FLAGS_AT..FLAGS_AT + 2].copy_from_slice(&flags.to_ne_bytes());
        if kind == EventKind::Destroy {
            datagram[TYPE_AT] = IPCTNL_MSG_CT_DELETE;
        }
        for message in messages(datagram) {
            let message = message.expect("a whole message");
            events.push(FlowEvent::default());
            let event = events.last_mut().expect("was just pushed");
            decode_event(message.bytes, event).expect("an event");
        }
    }
}

/// The number of the flow that a message to the kernel is about.
pub(crate) fn number_of(message: &[u8]) -> u16 {
    let end = HEADERS_LEN + ADDRESS_AT + address_len(message);
    u16::from_be_bytes([message[end - 2], message[end - 1]])
}

impl Template {
    fn new(bytes: Vec<u8>, is_translated: bool) -> Self {
        let (mut at, mut ends, mut mark) = (HEADERS_LEN, Vec::new(), None);
        let address_len = address_len(&bytes);
        while at < bytes.len() {
            let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
            if ends.len() < 2 {
                ends.push(at + ADDRESS_AT + address_len);
            }
            if half(at + 2) == CTA_MARK {
                mark = Some(at + 4);
            }
            at += usize::from(half(at)).next_multiple_of(4);
        }
        // The second address of the reply tuple, behind its header; a translated client is not
        // there.
        let reply = if is_translated {
            ends[0]
        } else {
            ends[1] + 4 + address_len
        };
        Self {
            client: [ends[0] - 2, reply - 2],
            mark: mark.expect("it has a mark"),
            bytes,
        }
    }
}

fn address_len(message: &[u8]) -> usize {
    if message[16] == Family::V4 as u8 {
        4
    } else {
        16
    }
}

/// What no message of the golden ones has: sequence adjustments, a SYN proxy, a master.
fn everything_rare() -> Vec<u8> {
    let orig = Tuple::new(6, [10, 0, 0, 1].into(), [192, 0, 2, 1].into(), 2000, 20);
    let tcp = TcpInfo {
        state: TCP_ESTABLISHED,
        ..TcpInfo::default()
    };
    let flow = Flow {
        orig,
        reply: orig.inverse(),
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        proto: ProtoInfo::Tcp(tcp),
        mark: 1,
        ..Flow::default()
    };
    let rare = Rare {
        labels: Some([3; 16]),
        helper: HelperName::new(b"ftp"),
        seqadj_orig: Some(SeqAdj {
            correction_pos: 1,
            offset_before: 2,
            offset_after: 3,
        }),
        seqadj_reply: Some(SeqAdj {
            correction_pos: 4,
            offset_before: 5,
            offset_after: 6,
        }),
        synproxy: Some(SynProxy {
            isn: 7,
            its: 8,
            tsoff: 9,
        }),
        master: Some(Tuple { dst_id: 21, ..orig }),
    };
    let how = Create {
        timeout_secs: 120,
        helper: Helper::Restore,
    };
    let mut message = Vec::new();
    encode::create(&mut message, 0, Ack::None, &flow, &rare, how);
    message
}
