//! The kernel's own bytes are read, and what is written reads back.

use std::net::IpAddr;

use super::*;
use crate::ctnetlink::message::messages;
use crate::flow::tuple::{TCP, UDP};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

fn of_ftp() -> Expectation {
    Expectation {
        tuple: Tuple::new(TCP, ip("10.10.2.2"), ip("10.10.2.1"), 0, 40_545),
        mask: SourceMask {
            address: std::array::from_fn(|at| if at < 4 { 0xff } else { 0 }),
            id: 0,
        },
        master: Tuple::new(TCP, ip("10.10.1.2"), ip("10.10.2.2"), 55_660, 21),
        nat: Some(ExpectationNat {
            direction: 1,
            address: [0; 16],
            id: 40_545,
        }),
        helper: HelperName::new(b"ftp"),
        function: FunctionName::new(b"nat-follow-master"),
        timeout_secs: 299,
        ..Expectation::default()
    }
}

/// A message that the real kernel sent, by its name.
fn captured(name: &str) -> Vec<u8> {
    let text = include_str!("../../../tests/golden/ctnetlink_expectations.txt");
    let found = text.lines().find_map(|line| {
        let (found, digits) = line.split_once(' ')?;
        (found == name).then_some(digits)
    });
    let digits = found.expect("it was captured");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn what_the_kernel_sends_about_ftp_is_read_in_full() {
    let mut event = ExpectationEvent::default();
    for (name, kind) in [
        ("exp_new", EventKind::New),
        ("exp_destroy", EventKind::Destroy),
    ] {
        let read = decode_expectation_event(&captured(name), &mut event);
        assert_eq!((read, event.kind), (Ok(()), kind), "{name}");
    }
    let read = decode_listed_expectation(&captured("exp_listed"), &mut event);
    assert_eq!((read, event.kind), (Ok(()), EventKind::Listed));
    let told = event.expectation;
    let expected = Expectation {
        tuple: Tuple::new(TCP, ip("10.2.0.2"), ip("10.2.0.1"), 0, 40_000),
        master: Tuple::new(TCP, ip("10.1.0.2"), ip("10.2.0.2"), told.master.src_id, 21),
        nat: Some(ExpectationNat {
            direction: 1,
            address: [0; 16],
            id: 40_000,
        }),
        id: told.id,
        timeout_secs: told.timeout_secs,
        ..of_ftp()
    };
    assert_eq!(told, expected);
    assert!(
        told.id != 0 && (299..=300).contains(&told.timeout_secs),
        "{told:?}"
    );
}

fn created(expectation: &Expectation) -> Vec<u8> {
    let mut out = Vec::new();
    create(&mut out, 7, Ack::None, expectation);
    out
}

fn kinds(message: &[u8]) -> Vec<u16> {
    Attrs::new(&message[20..])
        .map(|attr| attr.expect("well formed").kind)
        .collect()
}

#[test]
fn what_is_created_reads_back_but_for_the_name_of_the_helper() {
    for expectation in [
        of_ftp(),
        Expectation {
            tuple: Tuple::new(UDP, ip("fd00::1"), ip("fd00::2"), 5, 6),
            master: Tuple::new(TCP, ip("fd00::3"), ip("fd00::4"), 7, 8),
            mask: SourceMask {
                address: [0xff; 16],
                id: 0xffff,
            },
            nat: None,
            flags: 3,
            function: None,
            ..of_ftp()
        },
    ] {
        let message = created(&expectation);
        let mut event = ExpectationEvent::default();
        assert_eq!(decode_expectation_event(&message, &mut event), Ok(()));
        assert_eq!(event.kind, EventKind::New);
        let without_helper = Expectation {
            helper: None,
            ..expectation
        };
        assert_eq!(event.expectation, without_helper);
        assert_eq!(decode_listed_expectation(&message, &mut event), Ok(()));
        assert_eq!(event.kind, EventKind::Listed);
    }
}

#[test]
fn the_helper_of_the_expected_flow_is_named_only_where_it_has_one() {
    let has_name = |expectation: &Expectation| {
        kinds(&created(expectation)).contains(&cta::CTA_EXPECT_HELP_NAME)
    };
    assert!(!has_name(&of_ftp()));
    let sip = Expectation {
        helper: HelperName::new(b"sip"),
        ..of_ftp()
    };
    assert!(has_name(&sip));
    // Older kernels take a class only with a helper.
    assert!(has_name(&Expectation {
        class: 1,
        ..of_ftp()
    }));
}

#[test]
fn every_request_has_a_tuple_and_the_zone() {
    let zoned = Expectation {
        zone: 7,
        ..of_ftp()
    };
    let mut out = created(&zoned);
    update_timeout(&mut out, 8, Ack::None, &zoned, 60);
    delete(&mut out, 9, Ack::Wanted, &zoned);
    let written: Vec<_> = messages(&out)
        .map(|message| message.expect("whole messages"))
        .collect();
    assert_eq!(written.len(), 3);
    for message in &written {
        let kinds = kinds(message.bytes);
        assert!(kinds.contains(&cta::CTA_EXPECT_TUPLE), "{kinds:?}");
        assert!(kinds.contains(&cta::CTA_EXPECT_ZONE), "{kinds:?}");
    }
    let create = cta::NLM_F_CREATE | cta::NLM_F_EXCL;
    assert_eq!(written[0].flags & create, create);
    assert_eq!(written[1].flags & create, 0);
    let actions = written.iter().map(|message| message.kind);
    let expected = [
        cta::IPCTNL_MSG_EXP_NEW,
        cta::IPCTNL_MSG_EXP_NEW,
        cta::IPCTNL_MSG_EXP_DELETE,
    ];
    assert!(actions.eq(expected.map(MessageKind::Expectation)));
}

#[test]
fn bytes_that_are_no_expectation_are_refused() {
    let good = created(&of_ftp());
    let mut event = ExpectationEvent::default();
    let mut refused = |bytes: &[u8]| decode_expectation_event(bytes, &mut event).err();
    assert_eq!(refused(&good), None);
    let mut flow = good.clone();
    flow[5] = cta::NFNL_SUBSYS_CTNETLINK;
    assert_eq!(refused(&flow), Some(DecodeError::NotAFlow));
    let mut family = good.clone();
    family[16] = 99;
    assert_eq!(refused(&family), Some(DecodeError::Family));
    // The message says IPv6, its tuples do not.
    family[16] = Family::V6 as u8;
    assert_eq!(refused(&family), Some(DecodeError::TuplesDiffer));
    // Without the master, which comes first.
    let master = usize::from(u16::from_ne_bytes([good[20], good[21]]));
    let mut orphan = good[..20].to_vec();
    orphan.extend_from_slice(&good[20 + master..]);
    let len = u32::try_from(orphan.len()).expect("short");
    orphan[..4].copy_from_slice(&len.to_ne_bytes());
    assert_eq!(refused(&orphan), Some(DecodeError::IncompleteTuple));
    for end in 0..good.len() {
        assert!(refused(&good[..end]).is_some(), "cut at {end}");
    }
}

#[test]
fn a_translation_of_another_family_is_refused() {
    let mut message = created(&Expectation {
        nat: None,
        ..of_ftp()
    });
    let mut nat = Vec::new();
    let mut builder = Builder::expectation(&mut nat, 0, 0, 0, 0);
    builder.nest(cta::CTA_EXPECT_NAT, |nest| {
        nest.be32(cta::CTA_EXPECT_NAT_DIR, 0);
        nest.nest(cta::CTA_EXPECT_NAT_TUPLE, |nest| {
            encode::tuple(nest, &Tuple::new(TCP, ip("fd00::1"), ip("fd00::2"), 0, 0));
        });
    });
    builder.finish();
    message.extend_from_slice(&nat[20..]);
    let len = u32::try_from(message.len()).expect("short");
    message[..4].copy_from_slice(&len.to_ne_bytes());
    let mut event = ExpectationEvent::default();
    let refused = decode_expectation_event(&message, &mut event);
    assert_eq!(refused, Err(DecodeError::TuplesDiffer));
}
