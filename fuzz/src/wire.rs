//! A datagram, header and body, before anybody judges what it says.
//!
//! What can be read must be written again as it was, and a flow that a peer tells must be one that
//! a commit can put into a request and a listing into words.

use ctsyncd::ctnetlink::{decode_event, encode, messages};
use ctsyncd::flow::text::{FlowJson, write_line};
use ctsyncd::flow::{Flow, FlowEvent, Rare};
use ctsyncd::wire::{
    Frame, Frames, Header, Kind, Record, Records, emit_expectation, emit_flow, emit_marker,
    emit_tombstone,
};

/// Reads any bytes as a datagram in the clear.
pub fn run(bytes: &[u8]) -> usize {
    let Ok((header, body)) = Header::parse(bytes) else {
        return 0;
    };
    let mut again = Vec::new();
    header.emit(&mut again);
    assert_eq!(again.len(), header.bytes());
    again.extend_from_slice(body);
    assert_eq!(again, bytes);
    match header.kind {
        Kind::Data => Records::new(body).flatten().map(record).sum(),
        Kind::Hello | Kind::Greeting | Kind::Control => {
            Frames::new(body).flatten().map(frame).sum()
        }
    }
}

fn record(record: Record) -> usize {
    let mut out = Vec::new();
    match &record {
        Record::Flow {
            flow,
            rare,
            age_secs,
        } => {
            emit_flow(&mut out, flow, rare, *age_secs);
            can_be_told(flow, rare, *age_secs);
        }
        Record::Expectation {
            expectation,
            age_secs,
        } => emit_expectation(&mut out, expectation, *age_secs),
        Record::Tombstone { hash } => emit_tombstone(&mut out, *hash),
        Record::Marker(marker) => emit_marker(&mut out, marker),
        Record::Unknown(_) => return 0,
    }
    let again: Vec<_> = Records::new(&out).collect();
    assert_eq!(again, [Ok(record)]);
    1
}

fn frame(frame: Frame) -> usize {
    let mut out = Vec::new();
    if matches!(frame, Frame::Unknown(_)) {
        return 0;
    }
    frame.emit(&mut out);
    let again: Vec<_> = Frames::new(&out).collect();
    assert_eq!(again, [Ok(frame)]);
    1
}

/// To the kernel, as a create and a delete of this very flow, and to people.
pub(crate) fn can_be_told(flow: &Flow, rare: &Rare, timeout_secs: u32) {
    let how = encode::Create {
        timeout_secs,
        helper: encode::Helper::Restore,
    };
    let mut out = Vec::new();
    encode::create(&mut out, 1, encode::Ack::None, flow, rare, how);
    assert!(out.len() <= encode::MESSAGE_LEN_MAX);
    encode::delete(&mut out, 2, encode::Ack::Wanted, flow, Some(flow.id));
    assert_eq!(messages(&out).filter(Result::is_ok).count(), 2);
    let create = messages(&out).next().expect("one of two").expect("is well");
    let mut event = FlowEvent::default();
    decode_event(create.bytes, &mut event).expect("our own message");
    assert_eq!(event.flow.orig, flow.orig);
    assert_eq!(event.flow.key(), flow.key());

    let mut line = String::new();
    write_line(&mut line, flow, rare, timeout_secs);
    assert!(!line.contains(char::is_control), "{line:?}");
    let json = FlowJson::new(flow, rare, timeout_secs);
    serde_json::to_vec(&json).expect("plain values");
}
