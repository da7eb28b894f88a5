//! The bytes of protocol version 1, fixed: one file in `tests/golden/wire-v1/` per datagram.
//!
//! A node of this build has to talk to nodes of other builds, so a byte may not move under a kind
//! that is already in use. When a kind is added, or before the first release when a byte is meant
//! to move, write the files anew and look at the difference in the commit:
//!
//! ```text
//! BLESS=1 cargo test --test wire_golden
//! ```
//!
//! `BLESS` is refused where `CI` is set.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::{env, fs};

use ctsyncd::flow::expectation::{ExpectationNat, FunctionName, SourceMask};
use ctsyncd::flow::proto::{DccpInfo, SctpInfo, TcpInfo};
use ctsyncd::flow::rare::{HelperName, SeqAdj, SynProxy};
use ctsyncd::flow::tuple::{DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP};
use ctsyncd::flow::{Expectation, Flow, ProtoInfo, Rare, Status, Tuple, Zone, ZoneDir};
use ctsyncd::wire::reconcile::list_entry;
use ctsyncd::wire::seal::{ClusterKey, SealKey};
use ctsyncd::wire::{
    Ack, AckBitmap, Claims, Epoch, Frame, Frames, Greeting, Header, Hello, Identity, Kind, Level,
    List, ListQuestion, Marker, Name, Outcome, Ping, Record, Records, Sums, SumsQuestion, Verdict,
    claim_of, emit_expectation, emit_flow, emit_marker, emit_tombstone,
};

/// What the body of a datagram holds.
enum Content {
    Frames(Vec<Frame<'static>>),
    Records(Vec<Record>),
}

/// One file: its name, what it shows, and the datagram as values.
struct Golden {
    file: &'static str,
    shows: &'static str,
    header: Header,
    content: Content,
}

#[test]
fn every_datagram_has_the_bytes_it_always_had_and_they_read_back() {
    let bless = env::var_os("BLESS").is_some();
    assert!(
        !(bless && env::var_os("CI").is_some()),
        "BLESS in CI would make this test unable to fail"
    );
    for golden in all() {
        let path = folder().join(golden.file);
        let text = text(&golden);
        if bless {
            fs::write(&path, &text).expect("tests/golden/wire-v1 can be written");
        }
        let kept = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; see tests/wire_golden.rs", golden.file));
        assert_eq!(
            kept, text,
            "{} moved; see the head of tests/wire_golden.rs",
            golden.file
        );
        assert_reads_back(&golden, &bytes(&kept));
    }
}

#[test]
fn no_file_is_left_that_nothing_compares() {
    let known: BTreeSet<_> = all().iter().map(|golden| golden.file.to_owned()).collect();
    let kept: BTreeSet<_> = fs::read_dir(folder())
        .expect("tests/golden/wire-v1")
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    assert_eq!(kept, known);
}

fn assert_reads_back(golden: &Golden, datagram: &[u8]) {
    let (header, body) = Header::parse(datagram).expect("a golden header");
    assert_eq!(header, golden.header, "{}", golden.file);
    let mut opened = datagram.to_vec();
    let body = match header.seal {
        0 => body,
        _ => seal_key(header.kind)
            .open(&header, &mut opened)
            .expect("sealed with the key of the golden files"),
    };
    match &golden.content {
        Content::Frames(frames) => {
            let read: Vec<_> = Frames::new(body).collect();
            let kept: Vec<_> = frames.iter().copied().map(Ok).collect();
            assert_eq!(read, kept, "{}", golden.file);
        }
        Content::Records(records) => {
            let read: Vec<_> = Records::new(body).collect();
            let kept: Vec<_> = records.iter().copied().map(Ok).collect();
            assert_eq!(read, kept, "{}", golden.file);
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire-v1")
}

/// A comment, the header on a line of its own, then the body, 16 bytes to a line.
fn text(golden: &Golden) -> String {
    let mut datagram = Vec::new();
    golden.header.emit(&mut datagram);
    let body = datagram.len();
    match &golden.content {
        Content::Frames(frames) => frames.iter().for_each(|frame| match frame {
            Frame::Unknown(kind) => datagram.extend_from_slice(&[*kind, 0, 1, 0xff]),
            known => known.emit(&mut datagram),
        }),
        Content::Records(records) => records.iter().for_each(|record| match record {
            Record::Flow {
                flow,
                rare,
                age_secs,
            } => emit_flow(&mut datagram, flow, rare, *age_secs),
            Record::Expectation {
                expectation,
                age_secs,
            } => emit_expectation(&mut datagram, expectation, *age_secs),
            Record::Tombstone { hash } => emit_tombstone(&mut datagram, *hash),
            Record::Marker(marker) => emit_marker(&mut datagram, marker),
            Record::Unknown(kind) => datagram.extend_from_slice(&[*kind, 0, 1, 0xff]),
        }),
    }
    if golden.header.seal != 0 {
        seal_key(golden.header.kind).seal(&golden.header, &mut datagram);
    }
    let mut text = format!("# {}\n", golden.shows);
    for line in std::iter::once(&datagram[..body]).chain(datagram[body..].chunks(16)) {
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{}", hex.join(" ")).expect("a String takes every byte");
    }
    text
}

fn bytes(text: &str) -> Vec<u8> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect()
}

fn all() -> Vec<Golden> {
    let clear = || {
        let mut clear = sessions();
        clear.extend(reconcile());
        clear.extend(flows());
        clear.extend(other_records());
        clear
    };
    let mut all = clear();
    all.extend(sealed(clear()));
    all
}

fn sessions() -> Vec<Golden> {
    let greeting = |echo| Greeting {
        to: fw2(),
        challenge: 0x1122_3344_5566_7788,
        echo,
        session: SESSION,
        have: 70_000,
        window: 4_096,
        flows: 250,
        hash_key: [0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f],
        version_min: 1,
        version_max: 1,
        features: 0,
    };
    let mut bitmap = AckBitmap::EMPTY;
    for offset in [1, 2, 3, 9] {
        bitmap.set(offset);
    }
    let ack = Ack {
        next: 300,
        seen: 310,
        bitmap,
        verdict: Some(Verdict {
            marker: 250,
            outcome: Outcome::Equal,
        }),
        have: 70_000,
        echo_clock_micros: 5_000_000_000,
    };
    let quiet = Ack {
        next: 1,
        seen: 1,
        bitmap: AckBitmap::EMPTY,
        verdict: None,
        have: 0,
        echo_clock_micros: 0,
    };
    let ping = Ping {
        next: 310,
        lag_ms: 12,
        lag_records: 251,
        clock_micros: 5_000_000_000,
        role: 2,
        term: 3,
        flows: 70_001,
        ready: true,
        claims: Claims::of([claim_of("INSTANCE", "VI_1"), claim_of("GROUP", "G")]),
    };
    let mut full = quiet;
    let mut words = [u64::MAX; 64];
    words[0] = !1;
    full.bitmap = AckBitmap::from_words(words);
    full.seen = 4_097;
    full.verdict = Some(Verdict {
        marker: 1,
        outcome: Outcome::Different,
    });
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        features: 0,
    };
    let frames = |file, shows, kind, frames| Golden {
        file,
        shows,
        header: header(kind),
        content: Content::Frames(frames),
    };
    vec![
        frames(
            "hello.hex",
            "hello of fw1",
            Kind::Hello,
            vec![Frame::Hello(hello)],
        ),
        frames(
            "greeting-first.hex",
            "greeting of fw1 to fw2, echoing nothing",
            Kind::Greeting,
            vec![Frame::Greeting(greeting(None))],
        ),
        frames(
            "greeting-echo.hex",
            "greeting of fw1 to fw2 with an echo",
            Kind::Greeting,
            vec![Frame::Greeting(greeting(Some(0x99aa_bbcc_ddee_ff00)))],
        ),
        frames(
            "control-ack-ping.hex",
            "ack with a gap and a verdict, ping, and a kind of reconcile that is stepped over",
            Kind::Control,
            vec![Frame::Ack(ack), Frame::Ping(ping), Frame::Unknown(47)],
        ),
        frames(
            "control-ack-first.hex",
            "ack before the first data",
            Kind::Control,
            vec![Frame::Ack(quiet)],
        ),
        frames(
            "control-ack-full.hex",
            "ack of a full window whose first datagram is missing",
            Kind::Control,
            vec![Frame::Ack(full)],
        ),
    ]
}

fn reconcile() -> Vec<Golden> {
    let ask = |level, first, count| {
        Frame::SumsQuestion(SumsQuestion {
            round: 3,
            level,
            first,
            count,
        })
    };
    let (from, to) = (0xabcd << 48, 0xabcd_ffff_ffff_ffff);
    let list = [
        list_entry(0xabcd_0000_0000_0001, 0x1122_3344_5566_7788),
        list_entry(0xabcd_8000_0000_0000, 0x99aa_bbcc_ddee_ff00),
    ];
    let list: &'static [_] = Box::leak(Box::new(list));
    let frames = |file, shows, frames| Golden {
        file,
        shows,
        header: header(Kind::Control),
        content: Content::Frames(frames),
    };
    vec![
        frames(
            "control-questions.hex",
            "half of the inner sums, half of the leaf sums below inner sum 0xab, a leaf's list",
            vec![
                ask(Level::Inner, 0, 128),
                ask(Level::Leaf, 0xab80, 128),
                Frame::ListQuestion(ListQuestion { round: 3, from, to }),
            ],
        ),
        frames(
            "control-answers.hex",
            "two leaf sums, a list that is cut, an empty list",
            vec![
                Frame::Sums(Sums::new(
                    3,
                    Level::Leaf,
                    0xab80,
                    &[[0; 8], [1, 2, 3, 4, 5, 6, 7, 8]],
                )),
                Frame::List(List::new(3, from, 0xabcd_8000_0000_0000, list)),
                Frame::List(List::new(3, 0xabcd_8000_0000_0001, to, &[])),
            ],
        ),
    ]
}

fn flows() -> Vec<Golden> {
    let tcp = Flow {
        id: 0xdead_beef,
        timeout_secs: 432_000,
        proto: ProtoInfo::Tcp(TcpInfo {
            state: 3,
            wscale_orig: 7,
            wscale_reply: 14,
            flags_orig: 0x23,
            flags_reply: 0x2b,
        }),
        ..plain(TCP, "192.0.2.1", "198.51.100.7", 40_000, 443)
    };
    let translated = Flow {
        reply: Tuple::new(TCP, ip("10.0.0.5"), ip("203.0.113.1"), 8_443, 61_000),
        zone: Zone {
            id: 5,
            dir: ZoneDir::Both,
        },
        status: Status(Status::REPLICATED & !Status::EXPECTED),
        mark: 0x0001_0000,
        ..tcp
    };
    let udp6 = Flow {
        timeout_secs: 30,
        ..plain(UDP, "2001:db8::1", "2001:db8::53", 5_353, 53)
    };
    let icmp = plain(ICMP, "192.0.2.1", "198.51.100.7", 77, 8 << 8);
    let icmp6 = plain(ICMPV6, "fd00::1", "fd00::2", 77, 128 << 8);
    let sctp = Flow {
        proto: ProtoInfo::Sctp(SctpInfo {
            state: 4,
            vtag_orig: 0x0102_0304,
            vtag_reply: 0x0506_0708,
        }),
        ..plain(SCTP, "192.0.2.1", "198.51.100.7", 36_412, 36_412)
    };
    let dccp = Flow {
        proto: ProtoInfo::Dccp(DccpInfo {
            state: 4,
            role: 1,
            handshake_seq: [1, 2, 3, 4, 5, 6, 7, 8],
        }),
        ..plain(DCCP, "192.0.2.1", "198.51.100.7", 5_001, 5_001)
    };
    let gre = plain(GRE, "192.0.2.1", "198.51.100.7", 0, 0x1234);
    let generic = Flow {
        zone: Zone {
            id: 0x0102,
            dir: ZoneDir::Reply,
        },
        ..plain(89, "192.0.2.1", "198.51.100.7", 0, 0)
    };
    let rare = Rare {
        labels: Some([0xa5; 16]),
        helper: HelperName::new(b"ftp"),
        seqadj_orig: Some(SeqAdj {
            correction_pos: 1_000_000,
            offset_before: 0,
            offset_after: 4,
        }),
        seqadj_reply: Some(SeqAdj {
            correction_pos: 2_000_000,
            offset_before: u32::MAX,
            offset_after: 1,
        }),
        synproxy: Some(SynProxy {
            isn: 0x0a0b_0c0d,
            its: 9,
            tsoff: 251,
        }),
        master: Some(Tuple::new(
            TCP,
            ip("192.0.2.1"),
            ip("198.51.100.7"),
            39_999,
            21,
        )),
    };
    vec![
        data("flow-tcp.hex", "plain IPv4 TCP", vec![flow(tcp)]),
        data(
            "flow-tcp-nat.hex",
            "IPv4 TCP, both ends translated, in a zone, with a mark",
            vec![flow(translated)],
        ),
        data(
            "flow-protocols.hex",
            "UDP over IPv6, ICMP, ICMPv6, SCTP, DCCP, GRE, OSPF with a zone of one direction",
            [udp6, icmp, icmp6, sctp, dccp, gre, generic]
                .map(flow)
                .to_vec(),
        ),
        data(
            "flow-rare.hex",
            "IPv4 TCP with every rare attribute",
            vec![Record::Flow {
                flow: tcp,
                rare,
                age_secs: 300,
            }],
        ),
    ]
}

fn other_records() -> Vec<Golden> {
    let marker = |since| {
        Record::Marker(Marker {
            flows: 70_001,
            root: 0x0102_0304_0506_0708,
            since,
            clock_micros: 5_000_000_000,
        })
    };
    let tombstone = Record::Tombstone {
        hash: 0xfedc_ba98_7654_3210,
    };
    vec![
        data(
            "tombstone-marker.hex",
            "tombstone, unknown kind, marker",
            vec![tombstone, Record::Unknown(200), marker(None)],
        ),
        data(
            "marker-since.hex",
            "marker that ends a full pass",
            vec![marker(Some(251))],
        ),
        data(
            "expectations.hex",
            "what FTP expects through NAT, and with everything over IPv6 in a zone",
            expectations()
                .map(|expectation| Record::Expectation {
                    expectation,
                    age_secs: 9,
                })
                .to_vec(),
        ),
        data("empty.hex", "data that carries the floor only", vec![]),
    ]
}

fn expectations() -> [Expectation; 2] {
    let full = |len: usize| std::array::from_fn(|at| if at < len { 0xff } else { 0 });
    let of_ftp = Expectation {
        tuple: Tuple::new(TCP, ip("198.51.100.7"), ip("203.0.113.1"), 0, 40_545),
        mask: SourceMask {
            address: full(4),
            id: 0,
        },
        master: Tuple::new(TCP, ip("192.0.2.1"), ip("198.51.100.7"), 55_660, 21),
        id: 0x0a0b_0c0d,
        nat: Some(ExpectationNat {
            direction: 1,
            address: [0; 16],
            id: 40_545,
        }),
        helper: HelperName::new(b"ftp"),
        function: FunctionName::new(b"nat-follow-master"),
        timeout_secs: 300,
        ..Expectation::default()
    };
    let of_sip = Expectation {
        tuple: Tuple::new(UDP, ip("2001:db8::1"), ip("2001:db8::2"), 7, 30_000),
        mask: SourceMask {
            address: full(16),
            id: 0xffff,
        },
        master: Tuple::new(UDP, ip("2001:db8::3"), ip("2001:db8::4"), 5060, 5061),
        zone: 300,
        class: 1,
        flags: 3,
        helper: HelperName::new(b"sip"),
        function: FunctionName::new(b"sip"),
        ..of_ftp
    };
    [of_ftp, of_sip]
}

const SESSION: u64 = 0x0123_4567_89ab_cdef;

fn header(kind: Kind) -> Header {
    let (session, floor) = match kind {
        Kind::Hello | Kind::Greeting => (0, 0),
        Kind::Control => (SESSION, 0),
        Kind::Data => (SESSION, 300),
    };
    let sender = match kind {
        Kind::Hello | Kind::Greeting => Some(fw1()),
        Kind::Control | Kind::Data => None,
    };
    Header {
        kind,
        seal: 0,
        session,
        number: 310,
        floor,
        sender,
    }
}

fn fw1() -> Identity {
    Identity {
        name: name("fw1"),
        epoch: epoch(0x10),
    }
}

fn fw2() -> Identity {
    Identity {
        name: name("fw2"),
        epoch: epoch(0x80),
    }
}

/// The cluster key of the sealed files: the bytes 0 to 31.
fn cluster_key() -> ClusterKey {
    ClusterKey::new(std::array::from_fn(|at| {
        u8::try_from(at).expect("32 bytes")
    }))
}

/// The key that seals a kind, from fw1 to fw2.
fn seal_key(kind: Kind) -> SealKey {
    let key = cluster_key();
    match kind {
        Kind::Hello => key.hello(&fw1()),
        Kind::Greeting => key.greeting(&fw1(), &fw2()),
        Kind::Control | Kind::Data => key.session(&fw1(), &fw2()),
    }
}

/// One datagram of each kind, sealed with the cluster key above.
fn sealed(clear: Vec<Golden>) -> Vec<Golden> {
    let name_and_show = |file| match file {
        "hello.hex" => Some(("sealed-hello.hex", "hello.hex, sealed")),
        "greeting-echo.hex" => Some(("sealed-greeting.hex", "greeting-echo.hex, sealed")),
        "control-ack-ping.hex" => Some(("sealed-control.hex", "control-ack-ping.hex, sealed")),
        "flow-tcp.hex" => Some(("sealed-data.hex", "flow-tcp.hex, sealed")),
        "empty.hex" => Some(("sealed-empty.hex", "empty.hex, sealed: nothing but a tag")),
        _ => None,
    };
    clear
        .into_iter()
        .filter_map(|mut golden| {
            (golden.file, golden.shows) = name_and_show(golden.file)?;
            golden.header.seal = cluster_key().id();
            Some(golden)
        })
        .collect()
}

fn data(file: &'static str, shows: &'static str, records: Vec<Record>) -> Golden {
    Golden {
        file,
        shows,
        header: header(Kind::Data),
        content: Content::Records(records),
    }
}

fn flow(flow: Flow) -> Record {
    Record::Flow {
        flow,
        rare: Rare::default(),
        age_secs: 9,
    }
}

fn plain(protocol: u8, src: &str, dst: &str, src_id: u16, dst_id: u16) -> Flow {
    let orig = Tuple::new(protocol, ip(src), ip(dst), src_id, dst_id);
    Flow {
        orig,
        reply: orig.inverse(),
        id: 0x0a0b_0c0d,
        status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED),
        timeout_secs: 180,
        ..Flow::default()
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a literal name")
}

fn epoch(first: u8) -> Epoch {
    Epoch(std::array::from_fn(|at| {
        first + u8::try_from(at).expect("16 bytes")
    }))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}
