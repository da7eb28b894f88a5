//! Runs of records: what is whole is yielded, what is not is named, and reading ends.

use proptest::prelude::*;

use super::super::flow_v1::tests::{flow, rare};
use super::*;
use crate::wire::DATAGRAM_BYTES_MAX;
use crate::wire::codec::assert_same_as_wincode;

const MARKER: Marker = Marker {
    flows: 3,
    root: 0x0102_0304_0506_0708,
    since: None,
    clock_micros: 77,
};

fn read(body: &[u8]) -> Vec<Result<Record, WireError>> {
    Records::new(body).collect()
}

#[test]
fn an_unknown_kind_is_stepped_over() {
    let mut body = vec![200, 0, 2, 0xaa, 0xbb];
    emit_tombstone(&mut body, 7);
    assert_eq!(
        read(&body),
        [Ok(Record::Unknown(200)), Ok(Record::Tombstone { hash: 7 })]
    );
}

#[test]
fn a_bad_record_does_not_take_the_next_one_with_it() {
    let mut body = Vec::new();
    emit_tombstone(&mut body, 6);
    body[2] = 7; // One byte of the hash is now the kind of the next envelope.
    body.truncate(ENVELOPE_BYTES + 7);
    emit_tombstone(&mut body, 7);
    assert_eq!(
        read(&body),
        [Err(WireError::Truncated), Ok(Record::Tombstone { hash: 7 })]
    );
    let long = [TOMBSTONE_V1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2];
    assert_eq!(read(&long), [Err(WireError::Trailing)]);
}

#[test]
fn an_envelope_that_promises_too_much_is_the_last_error() {
    let mut body = Vec::new();
    emit_tombstone(&mut body, 7);
    let whole = body.len();
    emit_tombstone(&mut body, 8);
    for len in whole + 1..body.len() {
        assert_eq!(
            read(&body[..len]),
            [Ok(Record::Tombstone { hash: 7 }), Err(WireError::Envelope)],
            "{len}"
        );
    }
}

#[test]
fn nothing_may_follow_a_marker() {
    let mut body = Vec::new();
    emit_tombstone(&mut body, 7);
    emit_marker(&mut body, &MARKER);
    let both = [
        Ok(Record::Tombstone { hash: 7 }),
        Ok(Record::Marker(MARKER)),
    ];
    assert_eq!(read(&body), both);
    emit_tombstone(&mut body, 8);
    let records = read(&body);
    assert_eq!(records[..2], both);
    assert_eq!(records[2..], [Err(WireError::Trailing)]);
}

#[test]
fn the_longest_marker_is_as_long_as_the_bound() {
    let mut body = Vec::new();
    let marker = Marker {
        flows: u64::MAX,
        root: u64::MAX,
        since: Some(NUMBER_MAX),
        clock_micros: u64::MAX,
    };
    emit_marker(&mut body, &marker);
    assert_eq!(body.len(), MARKER_RECORD_BYTES_MAX);
    assert_eq!(read(&body), [Ok(Record::Marker(marker))]);
}

#[test]
fn a_since_that_is_no_packet_number_is_refused() {
    for since in [0, NUMBER_MAX + 1] {
        let mut body = Vec::new();
        let marker = Marker {
            since: Some(since),
            ..MARKER
        };
        emit_marker(&mut body, &marker);
        assert_eq!(read(&body), [Err(WireError::Number)]);
    }
}

/// A record that owned memory could not be `Copy`: what a stranger sends cannot make us allocate.
#[test]
fn records_and_frames_own_no_memory() {
    fn owns_nothing<T: Copy>() {}
    owns_nothing::<Result<Record, WireError>>();
    owns_nothing::<Result<crate::wire::Frame, WireError>>();
}

proptest! {
    #[test]
    fn a_run_of_records_comes_back_as_it_was(
        flows in prop::collection::vec((flow(), rare(), any::<u32>()), 0..5),
        hashes in prop::collection::vec(any::<u64>(), 0..5),
        marker in prop::option::of((any::<u64>(), any::<u64>(), prop::option::of(1..=NUMBER_MAX), any::<u64>())),
    ) {
        let mut body = Vec::new();
        let mut records = Vec::new();
        for (flow, rare, age_secs) in flows {
            emit_flow(&mut body, &flow, &rare, age_secs);
            records.push(Ok(Record::Flow { flow, rare, age_secs }));
        }
        for hash in hashes {
            emit_tombstone(&mut body, hash);
            records.push(Ok(Record::Tombstone { hash }));
        }
        if let Some((flows, root, since, clock_micros)) = marker {
            let marker = Marker { flows, root, since, clock_micros };
            emit_marker(&mut body, &marker);
            records.push(Ok(Record::Marker(marker)));
        }
        prop_assert_eq!(read(&body), records);
    }

    #[test]
    fn any_bytes_are_read_to_an_end(body in prop::collection::vec(any::<u8>(), 0..DATAGRAM_BYTES_MAX)) {
        prop_assert!(Records::new(&body).count() <= body.len() / ENVELOPE_BYTES + 1);
    }

    #[test]
    fn bytes_that_look_like_records_are_read_to_an_end(
        pieces in prop::collection::vec((1_u8..5, prop::collection::vec(any::<u8>(), 0..80)), 0..12),
    ) {
        let mut body = Vec::new();
        for (kind, bytes) in &pieces {
            wrap(&mut body, *kind, |out| out.extend_from_slice(bytes));
        }
        prop_assert!(Records::new(&body).count() <= pieces.len());
    }

    #[test]
    fn wincode_gives_the_same_bytes(flows: u64, shift in 0..64, since: Option<u64>, root: [u8; 8]) {
        assert_same_as_wincode!(MarkerV1, MarkerV1 {
            flows: flows >> shift,
            root,
            since: since.map(|since| since >> shift),
            clock_micros: flows,
        });
    }
}
