//! Flows written as text, held against what `conntrack -L` (1.4.7) prints for them.

use std::net::IpAddr;

use super::super::proto::{SctpInfo, TcpInfo};
use super::super::rare::{HelperName, SeqAdj};
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

fn flow(protocol: u8, src: &str, dst: &str, src_id: u16, dst_id: u16) -> Flow {
    let orig = Tuple::new(protocol, ip(src), ip(dst), src_id, dst_id);
    Flow {
        orig,
        reply: orig.inverse(),
        ..Flow::default()
    }
}

fn line(flow: &Flow, rare: &Rare, timeout_left_secs: u32) -> String {
    let mut out = String::new();
    write_line(&mut out, flow, rare, timeout_left_secs);
    out
}

// The lines that follow are the output of `conntrack -L` (1.4.7) for such entries, without the
// counters and times that were on when they were printed.

#[test]
fn a_translated_tcp_flow() {
    let mut flow = flow(TCP, "127.0.0.1", "127.0.0.5", 37752, 8080);
    flow.reply = Tuple::new(TCP, ip("127.0.0.1"), ip("127.0.0.77"), 9090, 6000);
    flow.status = Status(0x1be);
    flow.mark = 7;
    flow.proto = ProtoInfo::Tcp(TcpInfo {
        state: 7,
        ..TcpInfo::default()
    });
    assert_eq!(
        line(&flow, &Rare::default(), 119),
        "tcp      6 119 TIME_WAIT src=127.0.0.1 dst=127.0.0.5 sport=37752 dport=8080 \
         src=127.0.0.1 dst=127.0.0.77 sport=9090 dport=6000 [ASSURED] mark=7 use=1"
    );
}

#[test]
fn a_flow_with_a_helper() {
    let mut flow = flow(TCP, "127.0.0.1", "127.0.0.9", 55090, 2121);
    flow.status = Status(0x0e);
    flow.mark = 7;
    flow.proto = ProtoInfo::Tcp(TcpInfo {
        state: 3,
        ..TcpInfo::default()
    });
    let rare = Rare {
        helper: HelperName::new(b"ftp"),
        ..Rare::default()
    };
    assert_eq!(
        line(&flow, &rare, 431_999),
        "tcp      6 431999 ESTABLISHED src=127.0.0.1 dst=127.0.0.9 sport=55090 dport=2121 \
         src=127.0.0.9 dst=127.0.0.1 sport=2121 dport=55090 [ASSURED] mark=7 helper=ftp use=1"
    );
}

#[test]
fn zones_stand_where_they_apply() {
    let mut flow = flow(UDP, "127.0.0.1", "127.0.0.1", 6353, 5353);
    flow.status = Status(0x8);
    let mut lines = [ZoneDir::Both, ZoneDir::Orig, ZoneDir::Reply].map(|dir| {
        flow.zone = Zone { id: 5, dir };
        line(&flow, &Rare::default(), 29)
    });
    for line in &mut lines {
        *line = line.replace("127.0.0.1", "A");
    }
    assert_eq!(
        lines,
        [
            "udp      17 29 src=A dst=A sport=6353 dport=5353 [UNREPLIED] \
             src=A dst=A sport=5353 dport=6353 mark=0 zone=5 use=1",
            "udp      17 29 src=A dst=A sport=6353 dport=5353 zone-orig=5 [UNREPLIED] \
             src=A dst=A sport=5353 dport=6353 mark=0 use=1",
            "udp      17 29 src=A dst=A sport=6353 dport=5353 [UNREPLIED] \
             src=A dst=A sport=5353 dport=6353 zone-reply=5 mark=0 use=1",
        ]
    );
}

#[test]
fn icmp_gre_sctp_and_protocols_without_a_name() {
    let mut echo = flow(ICMPV6, "::1", "::1", 13909, 128 << 8);
    echo.status = Status(0xa);
    echo.mark = 7;
    assert_eq!(
        line(&echo, &Rare::default(), 29),
        "icmpv6   58 29 src=::1 dst=::1 type=128 code=0 id=13909 \
         src=::1 dst=::1 type=129 code=0 id=13909 mark=7 use=1"
    );
    let gre = flow(GRE, "10.0.0.1", "10.0.0.2", 300, 21);
    assert_eq!(
        line(&gre, &Rare::default(), 1047),
        "gre      47 1047 src=10.0.0.1 dst=10.0.0.2 srckey=0x12c dstkey=0x15 [UNREPLIED] \
         src=10.0.0.2 dst=10.0.0.1 srckey=0x15 dstkey=0x12c mark=0 use=1"
    );
    let mut sctp = flow(SCTP, "10.0.0.1", "10.0.0.2", 300, 21);
    sctp.proto = ProtoInfo::Sctp(SctpInfo::default());
    assert_eq!(
        line(&sctp, &Rare::default(), 1131),
        "sctp     132 1131 NONE src=10.0.0.1 dst=10.0.0.2 sport=300 dport=21 [UNREPLIED] \
         src=10.0.0.2 dst=10.0.0.1 sport=21 dport=300 mark=0 use=1"
    );
    let mut esp = flow(50, "::1.2.3.4", "fe80::1", 0, 0);
    esp.status = Status(0xe);
    assert_eq!(
        line(&esp, &Rare::default(), 1049),
        "unknown  50 1049 src=::1.2.3.4 dst=fe80::1 src=fe80::1 dst=::1.2.3.4 [ASSURED] \
         mark=0 use=1"
    );
}

#[test]
fn addresses_are_written_as_glibc_does() {
    // Printed by `conntrack -L` for these very sources.
    for text in [
        "0:0:1::",
        "1:0:2:0:3:0:4:0",
        "1::",
        "1::2:0:0:3:4",
        "::",
        "::0.1.0.2",
        "::1",
        "::1.2.3.4",
        "::1:2:3:4",
        "::5:0:0",
        "::fffe:1:1",
        "::ffff:0:102:304",
        "::ffff:1.2.3.4",
    ] {
        assert_eq!(Address(ip(text)).to_string(), text);
    }
}

#[test]
fn a_state_that_no_kernel_has_is_shown_as_none() {
    let proto = ProtoInfo::Tcp(TcpInfo {
        state: 200,
        ..TcpInfo::default()
    });
    assert_eq!(state_name(&proto), Some("NONE"));
}

#[test]
fn json_has_the_documented_names() {
    let mut flow = flow(ICMP, "10.0.0.1", "10.0.0.2", 77, 8 << 8);
    flow.status = Status(0x0e);
    let rare = Rare {
        labels: Some([0xab; 16]),
        seqadj_orig: Some(SeqAdj {
            correction_pos: 1,
            offset_before: 0,
            offset_after: u32::MAX,
        }),
        master: Some(Tuple::new(TCP, ip("10.0.0.1"), ip("10.0.0.2"), 1, 2)),
        ..Rare::default()
    };
    assert_eq!(
        serde_json::to_value(FlowJson::new(&flow, &rare, 9)).expect("plain values"),
        serde_json::json!({
            "family": "ipv4",
            "protocol": "icmp",
            "protocol_number": 1,
            "timeout": 9,
            "orig": { "src": "10.0.0.1", "dst": "10.0.0.2", "type": 8, "code": 0, "id": 77 },
            "reply": { "src": "10.0.0.2", "dst": "10.0.0.1", "type": 0, "code": 0, "id": 77 },
            "zone": 0,
            "zone_direction": "both",
            "status": ["seen_reply", "assured", "confirmed"],
            "assured": true,
            "replied": true,
            "mark": 0,
            "labels": "abababababababababababababababab",
            "seqadj_orig": { "correction_pos": 1, "offset_before": 0, "offset_after": -1 },
            "master": {
                "protocol": "tcp", "protocol_number": 6,
                "src": "10.0.0.1", "dst": "10.0.0.2", "sport": 1, "dport": 2,
            },
        })
    );
}
