//! Frames come back as they were; what cannot be is refused, and nothing panics.

use proptest::prelude::*;

use super::*;
use crate::wire::codec::assert_same_as_wincode;
use crate::wire::seal::TAG_BYTES;
use crate::wire::{DATAGRAM_BYTES_MAX, Epoch, Identity, Name};

fn read(body: &[u8]) -> Vec<Result<Frame<'_>, WireError>> {
    Frames::new(body).collect()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a literal name")
}

fn identity(text: &str) -> Identity {
    Identity {
        name: name(text),
        epoch: Epoch([8; 16]),
    }
}

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 2,
        features: 0,
    }
}

fn greeting() -> Greeting {
    Greeting {
        to: identity("fw2"),
        challenge: 11,
        echo: Some(12),
        session: 13,
        have: 14,
        window: 15,
        flows: 16,
        hash_key: [17, 18],
        version_min: 1,
        version_max: 1,
        features: 0,
    }
}

fn ack() -> Ack {
    let mut bitmap = AckBitmap::EMPTY;
    bitmap.set(1);
    bitmap.set(9);
    Ack {
        next: 5,
        seen: 15,
        bitmap,
        verdict: Some(Verdict {
            marker: 4,
            outcome: Outcome::Equal,
        }),
        have: 3,
        echo_clock_micros: 99,
    }
}

fn ping() -> Ping {
    Ping {
        next: 15,
        lag_ms: 1,
        lag_records: 2,
        clock_micros: 99,
        role: 2,
        term: 4,
        flows: 5,
        ready: true,
        claims: Claims::of([6, 7]),
    }
}

fn ack_of(change: impl FnOnce(&mut Ack)) -> Vec<Result<Ack, WireError>> {
    let mut ack = ack();
    change(&mut ack);
    let mut body = Vec::new();
    ack.emit(&mut body);
    let acks = read(&body).into_iter().map(|frame| match frame? {
        Frame::Ack(ack) => Ok(ack),
        other => panic!("{other:?}"),
    });
    acks.collect()
}

#[test]
fn several_frames_share_a_datagram() {
    let mut body = Vec::new();
    hello().emit(&mut body);
    greeting().emit(&mut body);
    ack().emit(&mut body);
    ping().emit(&mut body);
    assert_eq!(
        read(&body),
        [
            Ok(Frame::Hello(hello())),
            Ok(Frame::Greeting(greeting())),
            Ok(Frame::Ack(ack())),
            Ok(Frame::Ping(ping())),
        ]
    );
}

#[test]
fn the_kinds_of_reconcile_are_stepped_over() {
    for kind in RECONCILE_RESERVED {
        let mut body = vec![kind, 0, 1, 0];
        ping().emit(&mut body);
        assert_eq!(
            read(&body),
            [Ok(Frame::Unknown(kind)), Ok(Frame::Ping(ping()))]
        );
    }
}

#[test]
fn the_largest_frames_fit_in_one_datagram_together() {
    let longest = identity(&"n".repeat(64));
    let mut body = Vec::new();
    let mut ack = ack();
    ack.bitmap = AckBitmap::from_words([u64::MAX; 64]);
    (ack.next, ack.seen) = (NUMBER_MAX, NUMBER_MAX);
    (ack.have, ack.echo_clock_micros) = (u64::MAX, u64::MAX);
    ack.emit(&mut body);
    Ping {
        next: NUMBER_MAX,
        lag_ms: u32::MAX,
        lag_records: u32::MAX,
        clock_micros: u64::MAX,
        role: u8::MAX,
        term: u64::MAX,
        flows: u64::MAX,
        ready: true,
        claims: Claims::of(u32::MAX - 63..=u32::MAX),
    }
    .emit(&mut body);
    Greeting {
        to: longest,
        have: u64::MAX,
        flows: u64::MAX,
        features: u32::MAX,
        ..greeting()
    }
    .emit(&mut body);
    assert!(read(&body).iter().all(Result::is_ok));
    assert!(CONTROL_HEADER_BYTES + body.len() + TAG_BYTES <= DATAGRAM_BYTES_MAX);
}

#[test]
fn the_ack_of_a_window_that_fits_fits() {
    assert_eq!(Ack::window_that_fits(DATAGRAM_BYTES_MAX), WINDOW_MAX);
    for datagram in [548, 200, 90] {
        let window = Ack::window_that_fits(datagram);
        let mut ack = ack();
        (ack.next, ack.seen) = (NUMBER_MAX, NUMBER_MAX);
        (ack.have, ack.echo_clock_micros) = (u64::MAX, u64::MAX);
        ack.verdict = ack.verdict.map(|verdict| Verdict {
            marker: NUMBER_MAX,
            ..verdict
        });
        ack.bitmap.set(u64::from(window) - 1);
        let mut body = Vec::new();
        ack.emit(&mut body);
        assert!(CONTROL_HEADER_BYTES + body.len() <= datagram);
        ack.bitmap.set(u64::from(window) + 31);
        body.clear();
        ack.emit(&mut body);
        assert!(
            CONTROL_HEADER_BYTES + body.len() + 4 >= datagram,
            "{datagram}: not wasteful"
        );
    }
}

#[test]
fn a_greeting_without_session_or_with_an_impossible_window_is_refused() {
    let mut good = Vec::new();
    greeting().emit(&mut good);
    let session = good.len() - (8 + 1 + 1 + 1 + 16 + 3);
    assert_eq!(good[session + 7], 13);
    let mut body = good.clone();
    body[session + 7] = 0;
    assert_eq!(read(&body), [Err(WireError::Session)]);
    let window = session + 9;
    assert_eq!(good[window], 15);
    let mut body = good.clone();
    body[window] = 0;
    assert_eq!(read(&body), [Err(WireError::Range)]);
    // 251 introduces two little-endian bytes: 4,097 instead of 15.
    let mut body = good.clone();
    body.splice(window..=window, [251, 0x01, 0x10]);
    body[2] += 2;
    assert_eq!(read(&body), [Err(WireError::Range)]);
    body[window + 1] = 0;
    assert!(read(&body)[0].is_ok(), "4,096 is the widest window");
}

#[test]
fn an_empty_range_of_versions_is_refused() {
    let mut body = Vec::new();
    Hello {
        version_min: 3,
        ..hello()
    }
    .emit(&mut body);
    assert_eq!(read(&body), [Err(WireError::Range)]);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let mut body = Vec::new();
    greeting().emit(&mut body);
    body[5] = b' ';
    assert_eq!(read(&body), [Err(WireError::Name)]);
    body[3] = 0;
    assert_eq!(read(&body), [Err(WireError::Name)]);
    body[3] = 255;
    assert_eq!(read(&body), [Err(WireError::Truncated)]);
}

#[test]
fn an_ack_whose_numbers_cannot_be_is_refused() {
    assert!(ack_of(|_| ())[0].is_ok());
    assert_eq!(ack_of(|ack| ack.next = 0), [Err(WireError::Number)]);
    assert_eq!(ack_of(|ack| ack.seen = 4), [Err(WireError::Number)]);
    assert_eq!(
        ack_of(|ack| ack.seen = NUMBER_MAX + 2),
        [Err(WireError::Number)]
    );
    let no_marker = Some(Verdict {
        marker: 0,
        outcome: Outcome::Equal,
    });
    assert_eq!(
        ack_of(|ack| ack.verdict = no_marker),
        [Err(WireError::Number)]
    );
}

#[test]
fn an_unknown_outcome_is_refused() {
    let mut body = Vec::new();
    ack().emit(&mut body);
    // next, seen, the option's byte and the marker come before it.
    assert_eq!(body[3..8], [5, 15, 1, 4, Outcome::Equal as u8]);
    body[7] = 3;
    assert_eq!(read(&body), [Err(WireError::Malformed)]);
    body[5] = 2; // An option is there or not.
    assert_eq!(read(&body), [Err(WireError::Malformed)]);
}

#[test]
fn claims_in_another_order_or_cut_short_are_refused_and_unknown_flags_are_not() {
    let mut body = Vec::new();
    ping().emit(&mut body);
    let len = body.len();
    // The last eight bytes are the claims 6 and 7; their count and the flags come before.
    assert_eq!(body[len - 10..], [1, 2, 6, 0, 0, 0, 7, 0, 0, 0]);
    body[len - 10] = 0xfe;
    let not_ready = Ping {
        ready: false,
        ..ping()
    };
    assert_eq!(read(&body), [Ok(Frame::Ping(not_ready))]);
    body[len - 8] = 7;
    assert_eq!(read(&body), [Err(WireError::Malformed)]);
    body[len - 9] = 3;
    assert_eq!(read(&body), [Err(WireError::Truncated)]);
    body[len - 9] = 65;
    assert_eq!(read(&body), [Err(WireError::Range)]);
}

#[test]
fn a_ping_for_the_packet_before_the_first_is_refused() {
    let mut body = Vec::new();
    Ping { next: 0, ..ping() }.emit(&mut body);
    assert_eq!(read(&body), [Err(WireError::Number)]);
}

#[test]
fn every_cut_of_every_frame_is_refused() {
    let mut frames = vec![Vec::new(); 4];
    hello().emit(&mut frames[0]);
    greeting().emit(&mut frames[1]);
    ack().emit(&mut frames[2]);
    ping().emit(&mut frames[3]);
    for frame in frames {
        for len in 1..frame.len() {
            assert_eq!(read(&frame[..len]), [Err(WireError::Envelope)]);
        }
        for len in 3..frame.len() {
            let mut cut = frame[..len].to_vec();
            cut[1..3].copy_from_slice(&u16::try_from(len - 3).expect("short").to_be_bytes());
            assert_eq!(read(&cut), [Err(WireError::Truncated)]);
        }
    }
}

fn any_name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9_.-]{1,64}".prop_map(|text| name(&text))
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![1..300_u64, 1..=NUMBER_MAX]
}

fn versions() -> impl Strategy<Value = (u8, u8)> {
    any::<(u8, u8)>().prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn any_frame() -> impl Strategy<Value = Frame<'static>> {
    let hello = (versions(), any::<u32>()).prop_map(|((version_min, version_max), features)| {
        Frame::Hello(Hello {
            version_min,
            version_max,
            features,
        })
    });
    let greeting = (
        (any_name(), any::<[u8; 16]>(), versions()),
        any::<(u64, Option<u64>, u64, u64, [u64; 2], u32)>(),
        (1..=u64::MAX, 1..=WINDOW_MAX),
    )
        .prop_map(|((name, epoch, versions), free, (session, window))| {
            let (challenge, echo, have, flows, hash_key, features) = free;
            Frame::Greeting(Greeting {
                to: Identity {
                    name,
                    epoch: Epoch(epoch),
                },
                challenge,
                echo,
                session,
                have,
                window,
                flows,
                hash_key,
                version_min: versions.0,
                version_max: versions.1,
                features,
            })
        });
    let outcome = prop_oneof![Just(Outcome::Equal), Just(Outcome::Different)];
    let verdict = prop::option::of(
        (number(), outcome).prop_map(|(marker, outcome)| Verdict { marker, outcome }),
    );
    let bits = prop::collection::vec(0..u64::from(WINDOW_MAX), 0..200);
    let ack = (number(), number(), bits, verdict, any::<(u64, u64)>()).prop_map(
        |(a, b, bits, verdict, (have, echo_clock_micros))| {
            let mut bitmap = AckBitmap::EMPTY;
            bits.into_iter().for_each(|offset| bitmap.set(offset));
            Frame::Ack(Ack {
                next: a.min(b),
                seen: a.max(b),
                bitmap,
                verdict,
                have,
                echo_clock_micros,
            })
        },
    );
    let ping = (
        number(),
        any::<(u32, u32, u64, u8, u64, u64, bool)>(),
        proptest::collection::vec(any::<u32>(), 0..70),
    )
        .prop_map(
            |(next, (lag_ms, lag_records, clock_micros, role, term, flows, ready), claims)| {
                Frame::Ping(Ping {
                    next,
                    lag_ms,
                    lag_records,
                    clock_micros,
                    role,
                    term,
                    flows,
                    ready,
                    claims: Claims::of(claims),
                })
            },
        );
    prop_oneof![hello, greeting, ack, ping]
}

proptest! {
    #[test]
    fn any_frame_comes_back_as_it_was(frame in any_frame()) {
        let mut body = Vec::new();
        frame.emit(&mut body);
        prop_assert_eq!(read(&body), [Ok(frame)]);
    }

    #[test]
    fn a_damaged_frame_is_answered_with_a_possible_one(
        frame in any_frame(), at: prop::sample::Index, byte: u8,
    ) {
        let mut body = Vec::new();
        frame.emit(&mut body);
        let at = at.index(body.len());
        body[at] = byte;
        for frame in Frames::new(&body).flatten() {
            if let Frame::Unknown(_) = frame {
                continue;
            }
            let mut again = Vec::new();
            frame.emit(&mut again);
            prop_assert_eq!(read(&again), [Ok(frame)]);
        }
    }

    #[test]
    fn any_bytes_are_read_to_an_end(
        pieces in prop::collection::vec((30_u8..50, prop::collection::vec(any::<u8>(), 0..200)), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut body = Vec::new();
        for (kind, bytes) in &pieces {
            wrap(&mut body, *kind, |out| out.extend_from_slice(bytes));
        }
        body.extend_from_slice(&tail);
        prop_assert!(Frames::new(&body).count() <= pieces.len() + tail.len() / 3 + 1);
    }

    #[test]
    fn wincode_gives_the_same_bytes(
        a: u64, b: u64, shift in 0..64, c: u32, d: u16, e: u8, there: bool,
    ) {
        let verdict = there.then_some(VerdictV1 { marker: a >> shift, outcome: e });
        assert_same_as_wincode!(AckV1, AckV1 {
            next: a >> shift,
            seen: b,
            verdict,
            have: b >> shift,
            echo_clock_micros: a,
            bitmap_bytes: d >> (shift / 4),
        });
        assert_same_as_wincode!(PingV1, PingV1 {
            next: a >> shift,
            lag_ms: c,
            lag_records: c >> (shift / 2),
            clock_micros: b,
            role: e,
            term: b >> shift,
            flows: a,
            flags: e,
            claims: e >> 1,
        });
    }
}
