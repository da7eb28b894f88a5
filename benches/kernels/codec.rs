//! Bytes to values and back, without a table.

#[path = "../../tests/golden/message.rs"]
mod message;

use std::hint::black_box;

use ctsyncd::cache::{Digest, HashKey};
use ctsyncd::ctnetlink::encode::{self, Ack, Create, Helper};
use ctsyncd::ctnetlink::{decode_event, decode_listed, messages};
use ctsyncd::flow::filter::{Filters, LocalAddresses, Policy};
use ctsyncd::flow::{FlowEvent, Rare};
use ctsyncd::wire::record::{self, Record, Records};
use ctsyncd::wire::seal::ClusterKey;
use ctsyncd::wire::{Epoch, Header, Identity, Kind, Name};

use super::tables::flow;
use super::{Kernel, Run};
use message::golden;

/// Repetitions of one message in a run: one alone is less than a clock can tell.
const REPEATS: u64 = 64;
/// Messages of a datagram of a listing, and of a batch to the kernel.
const BATCH: u32 = 64;
/// A datagram of the sync link.
const DATAGRAM_BYTES: usize = 1_400;

pub(super) fn kernels() -> Vec<Kernel> {
    let event = |name, prepare| Kernel {
        name,
        items: REPEATS,
        bytes: REPEATS * golden(golden_of(name)).len() as u64,
        flows: 0,
        prepare,
    };
    let plain = |name, items, bytes: usize, prepare| Kernel {
        name,
        items,
        bytes: bytes as u64,
        flows: 0,
        prepare,
    };
    let batch = u64::from(BATCH);
    let decode: fn(&Kernel) -> Run = decode;
    vec![
        event("decode/new (SNAT, DNAT)", decode),
        event("decode/new (helper, labels)", decode),
        event("decode/update", decode),
        event("decode/destroy", decode),
        event("decode/IPv6", decode),
        plain("decode/listing", batch, listing().len(), decode_listing),
        plain("policy/filtered", batch, 0, policy),
        plain("hash/key", batch, 0, hash_keys),
        plain("hash/value", batch, 0, hash_values),
        plain("digest/replace", batch, 0, digest),
        plain("record/encode", batch, records().len(), encode_records),
        plain("record/decode", batch, records().len(), decode_records),
        plain("seal/datagram", 1, DATAGRAM_BYTES, seal),
        plain("seal+open/datagram", 1, DATAGRAM_BYTES, seal_and_open),
        plain(
            "commit/encode create",
            batch,
            creates().len(),
            encode_creates,
        ),
    ]
}

/// The message that a kernel of decoding reads.
fn golden_of(kernel: &str) -> &'static str {
    match kernel {
        "decode/new (SNAT, DNAT)" => "new_tcp_snat_dnat",
        "decode/new (helper, labels)" => "new_tcp_helper_labels",
        "decode/update" => "update_tcp_established",
        "decode/destroy" => "destroy_by_tool",
        "decode/IPv6" => "listed_tcp_ipv6",
        _ => panic!("{kernel} reads no message"),
    }
}

fn decode(kernel: &Kernel) -> Run {
    let message = golden(golden_of(kernel.name));
    let mut event = FlowEvent::default();
    Box::new(move || {
        for _ in 0..REPEATS {
            decode_event(black_box(&message), &mut event).expect("a real message");
            black_box(&event);
        }
    })
}

fn listing() -> Vec<u8> {
    golden("listed_tcp_helper_labels").repeat(BATCH as usize)
}

fn decode_listing(_: &Kernel) -> Run {
    let datagram = listing();
    let mut event = FlowEvent::default();
    Box::new(move || {
        for message in messages(black_box(&datagram)) {
            let message = message.expect("a real message");
            decode_listed(message.bytes, &mut event).expect("a real message");
            black_box(&event);
        }
    })
}

/// A firewall with eight addresses of its own, and the filters as they come.
fn policy(_: &Kernel) -> Run {
    let own = (1..=8).map(|host| [198, 51, 100, host].into()).collect();
    let local = LocalAddresses::new(own);
    let policy = Policy::Filtered(Filters::default());
    let flows: Vec<_> = (0..BATCH).map(flow).collect();
    Box::new(move || {
        for flow in black_box(&flows) {
            black_box(policy.tracks(flow, &local)).expect("it is to be tracked");
            black_box(policy.replicates(flow, 1)).expect("it is established");
        }
    })
}

const KEY: HashKey = HashKey([1, 2]);

fn hash_keys(_: &Kernel) -> Run {
    let keys: Vec<_> = (0..BATCH).map(|number| flow(number).key()).collect();
    Box::new(move || {
        for key in black_box(&keys) {
            black_box(KEY.of_key(key));
        }
    })
}

fn hash_values(_: &Kernel) -> Run {
    let flows: Vec<_> = (0..BATCH).map(flow).collect();
    Box::new(move || {
        for flow in black_box(&flows) {
            black_box(KEY.of_value(7, flow, None));
        }
    })
}

fn digest(_: &Kernel) -> Run {
    let hashes: Vec<_> = (0..BATCH).map(|n| KEY.of_key(&flow(n).key())).collect();
    let mut digest = Digest::default();
    for &hash in &hashes {
        digest.add(hash, 0);
    }
    let mut value = 0;
    Box::new(move || {
        for &hash in black_box(&hashes) {
            digest.replace(hash, value, value + 1);
        }
        value += 1;
        black_box(&digest);
    })
}

fn records() -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..BATCH {
        record::emit_flow(&mut out, &flow(number), &Rare::default(), 1);
    }
    out
}

fn encode_records(_: &Kernel) -> Run {
    let flows: Vec<_> = (0..BATCH).map(flow).collect();
    let mut out = records();
    Box::new(move || {
        out.clear();
        for flow in black_box(&flows) {
            record::emit_flow(&mut out, flow, &Rare::default(), 1);
        }
        black_box(&out);
    })
}

fn decode_records(_: &Kernel) -> Run {
    let body = records();
    Box::new(move || {
        for record in Records::new(black_box(&body)) {
            let record = record.expect("we have made it");
            assert!(matches!(black_box(record), Record::Flow { .. }));
        }
    })
}

fn identity(name: &str) -> Identity {
    Identity {
        name: Name::new(name.as_bytes()).expect("a valid name"),
        epoch: Epoch([7; 16]),
    }
}

fn seal(_: &Kernel) -> Run {
    sealing(false)
}

fn seal_and_open(_: &Kernel) -> Run {
    sealing(true)
}

fn sealing(opens: bool) -> Run {
    let key = ClusterKey::new([7; 32]).session(&identity("fw1"), &identity("fw2"));
    let mut header = Header {
        kind: Kind::Data,
        seal: key.id(),
        session: 5,
        number: 1,
        floor: 1,
        sender: None,
    };
    let mut datagram = Vec::with_capacity(2 * DATAGRAM_BYTES);
    Box::new(move || {
        datagram.clear();
        header.emit(&mut datagram);
        datagram.resize(DATAGRAM_BYTES - ctsyncd::wire::seal::TAG_BYTES, 1);
        key.seal(&header, &mut datagram);
        if opens {
            let opened = key.open(&header, &mut datagram);
            black_box(opened.expect("we have sealed it"));
        }
        black_box(&datagram);
        header.number += 1;
    })
}

fn creates() -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..BATCH {
        create(&mut out, number, &flow(number));
    }
    out
}

fn create(out: &mut Vec<u8>, seq: u32, flow: &ctsyncd::flow::Flow) {
    let how = Create {
        timeout_secs: flow.timeout_secs,
        helper: Helper::Restore,
    };
    encode::create(out, seq, Ack::None, flow, &Rare::default(), how);
}

fn encode_creates(_: &Kernel) -> Run {
    let flows: Vec<_> = (0..BATCH).map(flow).collect();
    let mut out = creates();
    Box::new(move || {
        out.clear();
        for (seq, flow) in (0..).zip(black_box(&flows)) {
            create(&mut out, seq, flow);
        }
        black_box(&out);
    })
}
