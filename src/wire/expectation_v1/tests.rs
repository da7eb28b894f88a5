//! Any expectation comes back as it was, any bytes are answered without a panic, and nothing is
//! longer than it says.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::flow::tuple::{TCP, UDP};
use crate::wire::codec::assert_same_as_wincode;
use crate::wire::emit_expectation;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

fn of_ftp() -> Expectation {
    Expectation {
        tuple: Tuple::new(TCP, ip("10.10.2.2"), ip("10.10.2.1"), 0, 40_545),
        mask: SourceMask {
            address: [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            id: 0,
        },
        master: Tuple::new(TCP, ip("10.10.1.2"), ip("10.10.2.2"), 55_660, 21),
        zone: 0,
        id: 0xdead_beef,
        nat: Some(ExpectationNat {
            direction: 1,
            address: [0; 16],
            id: 40_545,
        }),
        class: 0,
        flags: 0,
        helper: HelperName::new(b"ftp"),
        function: FunctionName::new(b"nat-follow-master"),
        timeout_secs: 300,
    }
}

fn record(expectation: &Expectation, age_secs: u32) -> Vec<u8> {
    let mut out = Vec::new();
    emit_expectation(&mut out, expectation, age_secs);
    out
}

fn decoded(record: &[u8]) -> Result<(Expectation, u32), WireError> {
    decode(&record[ENVELOPE_BYTES..])
}

#[test]
fn what_ftp_expects_takes_75_bytes() {
    let record = record(&of_ftp(), 9);
    assert_eq!(record.len(), 75);
    assert_eq!(decoded(&record), Ok((of_ftp(), 9)));
}

#[test]
fn the_longest_expectation_is_as_long_as_the_bound() {
    let wide = ip("2001:db8::1");
    let longest = Expectation {
        tuple: Tuple::new(UDP, wide, wide, 1, 2),
        master: Tuple::new(UDP, wide, wide, 3, 4),
        zone: 7,
        nat: Some(ExpectationNat {
            direction: u32::MAX,
            address: [1; 16],
            id: 5,
        }),
        class: u32::MAX,
        flags: u32::MAX,
        helper: HelperName::new(&[b'h'; HELPER_NAME_MAX]),
        function: FunctionName::new(&[b'f'; FUNCTION_NAME_MAX]),
        timeout_secs: u32::MAX,
        ..of_ftp()
    };
    let record = record(&longest, u32::MAX);
    assert_eq!(record.len(), EXPECTATION_RECORD_BYTES_MAX);
    assert_eq!(decoded(&record), Ok((longest, u32::MAX)));
}

#[test]
fn what_cannot_be_is_refused() {
    let good = record(&of_ftp(), 0);
    let refused = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        decoded(&bad)
    };
    assert_eq!(refused(ENVELOPE_BYTES, 0xff), Err(WireError::Attribute));
    // The name of the function ends the record; its length stands before it.
    let length = good.len() - "nat-follow-master".len() - 1;
    assert_eq!(refused(length, 16), Err(WireError::Trailing));
    assert_eq!(refused(length, 18), Err(WireError::Truncated));
    assert_eq!(refused(length + 1, b'\n'), Err(WireError::Attribute));
    assert_eq!(decoded(&good[..good.len() - 1]), Err(WireError::Truncated));
}

#[test]
fn wincode_writes_the_same_bytes() {
    assert_same_as_wincode!(
        ExpectationHeadV1,
        ExpectationHeadV1 {
            shape: 0x1f,
            protocol: 6,
            src_id: [1, 2],
            dst_id: [3, 4],
            mask_id: [5, 6],
            master_protocol: 17,
            master_src_id: [7, 8],
            master_dst_id: [9, 10],
            id: [11, 12, 13, 14],
            class: 251,
            flags: 65_536,
            timeout_secs: u32::MAX,
            age_secs: 0,
        }
    );
    assert_same_as_wincode!(
        ExpectationNatV1,
        ExpectationNatV1 {
            direction: 1,
            id: [1, 2],
        }
    );
}

fn any_tuple(v6: bool) -> impl Strategy<Value = Tuple> {
    (
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
        any::<[u16; 2]>(),
        any::<u8>(),
    )
        .prop_map(move |(mut src, mut dst, [src_id, dst_id], protocol)| {
            if !v6 {
                src[4..].fill(0);
                dst[4..].fill(0);
            }
            Tuple {
                src,
                dst,
                src_id,
                dst_id,
                family: if v6 { Family::V6 } else { Family::V4 },
                protocol,
            }
        })
}

fn any_expectation() -> impl Strategy<Value = Expectation> {
    any::<bool>()
        .prop_flat_map(|v6| (any_tuple(v6), any_tuple(v6), any_tuple(v6), any_tuple(v6)))
        .prop_flat_map(|(tuple, master, mask, nat)| {
            (
                any::<(u16, u32, u32, u32, u32)>(),
                proptest::option::of(any::<u32>()),
                proptest::option::of("[!-~]{1,15}"),
                proptest::option::of("[!-~]{1,31}"),
            )
                .prop_map(move |(numbers, direction, helper, function)| {
                    let (zone, id, class, flags, timeout_secs) = numbers;
                    Expectation {
                        tuple,
                        mask: SourceMask {
                            address: mask.src,
                            id: mask.src_id,
                        },
                        master,
                        zone,
                        id,
                        nat: direction.map(|direction| ExpectationNat {
                            direction,
                            address: nat.src,
                            id: nat.src_id,
                        }),
                        class,
                        flags,
                        helper: helper.and_then(|name| HelperName::new(name.as_bytes())),
                        function: function.and_then(|name| FunctionName::new(name.as_bytes())),
                        timeout_secs,
                    }
                })
        })
}

proptest! {
    #[test]
    fn any_expectation_comes_back(expectation in any_expectation(), age in any::<u32>()) {
        let record = record(&expectation, age);
        prop_assert!(record.len() <= EXPECTATION_RECORD_BYTES_MAX);
        prop_assert_eq!(decoded(&record), Ok((expectation, age)));
    }

    /// What is read from any bytes is written back as the same bytes' meaning.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((expectation, age)) = decode(&bytes) {
            let record = record(&expectation, age);
            prop_assert_eq!(decoded(&record), Ok((expectation, age)));
        }
    }
}
