//! The exact text of `status` for a sample of each situation.

use super::*;
use crate::engine::status::{
    FailedFlows, KernelStatus, LinkStatus, LocalStatus, PathStatus, SplitBrainStatus, Transition,
    TransitionKind,
};

#[test]
fn hot_standby_has_a_line_of_its_own() {
    let mut status = standby();
    status.hot = Some(HotStatus {
        flows: 200_000,
        pending: 12,
        complete: true,
        rearmed: 1_234,
        refused: vec![FailedFlows {
            reason: "the kernel's table is full".into(),
            flows: 3,
        }],
        ..HotStatus::default()
    });
    let text = render(&status, Colour::Never);
    let line =
        "hot     200,000 flows of the peers in the kernel, complete, 12 on the way; 1,234 re-armed";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("3 flows refused: the kernel's table is full"),
        "{text}"
    );
    assert!(
        !render(&standby(), Colour::Never).contains("hot "),
        "cold says nothing of it"
    );
}

#[test]
fn a_ready_standby_fits_a_screen_and_says_so_first() {
    assert_eq!(
        render(&standby(), Colour::Never),
        "\
fw2  standby, term 0, ready: it can take over now
INSECURE: the links are neither encrypted nor authenticated

local   17 flows replicate, of 23 tracked
kernel  complete; 98,765 events, 0 overruns
link    eth2 225.0.0.50:3780: 1,234 sent, 45,678 received
commit  none since the daemon started

peer fw1  streaming over eth2, heard 120 ms ago
  replica  12,345 flows, in sync, proved 400 ms ago
  to it    it has all our changes
  from it  up to 12 changes behind, the oldest by 3 ms
"
    );
}

#[test]
fn an_active_in_trouble_shows_each_trouble() {
    assert_eq!(
        render(&active_in_trouble(), Colour::Never),
        "\
fw1  active, term 3, NOT READY: the kernel's table is being read

local   200,000 flows replicate, of 210,000 tracked; the end of 1 is still on its way to a peer
kernel  repairing: events were missed; 1 event, 1 overrun
link    eth2 225.0.0.50:3780: 0 sent, 0 received, 5 refused by the system
commit  500 flows: 480 created, 12 already there, 5 replaced; 3 failed; 12 ms
          3 failed: the kernel's table is full

peer fw2  SILENT, heard 2 min 5 s ago
  why      nothing heard since 00:14
  link     eth2 225.0.0.50:3780 SILENT
  link     eth3 225.0.0.51:3780 answers
  replica  1 flow, not in sync, last proved 3 h 20 min ago
  to it    up to 1,500 changes behind, the oldest by 4.0 s
  from it  it has sent all its changes
STRANGER fw3  it sends in the clear, and this node has a key: give it the key_file too
"
    );
}

#[test]
fn a_split_brain_stands_below_the_head_and_fails_the_check() {
    let mut status = standby();
    status.split_brain = vec![SplitBrainStatus {
        peer: "fw1".into(),
        instances: vec!["GROUP firewall".into()],
        since_ms: 125_000,
        cause: "fw1 is active for GROUP firewall as well: mend it".into(),
    }];
    let text = render(&status, Colour::Never);
    let line = "\nSPLIT BRAIN for 2 min 5 s: fw1 is active for GROUP firewall as well: mend it\n";
    assert!(text.contains(line), "{text}");
    assert_eq!(
        check_line(&status),
        "fw2: standby, split brain: fw1 is active for GROUP firewall as well: mend it"
    );
}

#[test]
fn the_last_promotion_is_one_line() {
    let mut status = standby();
    status.last_promotion = Some(PastTransition {
        at_ms: 1_795_579_514_088,
        run: "a".into(),
        transition: Transition {
            number: 1,
            kind: TransitionKind::Promotion,
            trigger: "command".into(),
            term: 4,
            peers: Vec::new(),
            commit_started_ms: Some(0),
            done_ms: Some(7),
            commit: None,
            failed: None,
        },
    });
    let text = render(&status, Colour::Never);
    let line = "\npromoted 2026-11-25T04:05:14.088Z, term 4, by command; commit began after 0 ms, \
                done after 7 ms\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn colours_change_nothing_but_the_colours() {
    for status in [standby(), active_in_trouble()] {
        let plain = render(&status, Colour::Never);
        let coloured = render(&status, Colour::Always);
        assert_ne!(coloured, plain);
        assert_eq!(without_escapes(&coloured), plain);
    }
}

#[test]
fn a_node_alone_says_that_no_peer_was_heard() {
    let mut status = standby();
    status.peers.clear();
    let text = render(&status, Colour::Never);
    assert!(
        text.ends_with("\nno peer has been heard since the daemon started\n"),
        "{text}"
    );
}

#[test]
fn a_replica_without_proof_is_never_called_in_sync() {
    let mut status = standby();
    status.peers[0].replica.in_sync = false;
    status.peers[0].replica.verified_age_ms = None;
    let text = render(&status, Colour::Never);
    assert!(
        text.contains("12,345 flows, not proved to be in sync yet"),
        "{text}"
    );
}

#[test]
fn the_gate_is_shown_where_there_is_one() {
    let mut status = standby();
    assert!(!render(&status, Colour::Never).contains("\ngate "));
    status.gate = Some(GateStatus {
        state: GateState::Closed,
        since_ms: 3_000,
        why: "this node is standby".into(),
        dropped: 1_234,
    });
    let text = render(&status, Colour::Never);
    assert!(
        text.contains("\ngate    closed for 3.0 s: this node is standby; 1,234 packets dropped\n"),
        "{text}"
    );
}

#[test]
fn the_check_is_one_line_with_the_cause() {
    assert_eq!(check_line(&standby()), "fw2: standby, ready");
    assert_eq!(
        check_line(&active_in_trouble()),
        "fw1: active, not ready: the kernel's table is being read"
    );
}

fn without_escapes(text: &str) -> String {
    let mut plain = String::new();
    for (index, piece) in text.split('\x1b').enumerate() {
        let visible = match index {
            0 => piece,
            _ => piece.split_once('m').map_or(piece, |(_, rest)| rest),
        };
        plain.push_str(visible);
    }
    plain
}

fn standby() -> Status {
    Status {
        version: 1,
        node: "fw2".into(),
        role: Role::Standby,
        term: 0,
        insecure: true,
        ready: true,
        cause: None,
        local: LocalStatus {
            flows: 17,
            expectations: 0,
            tracked: 23,
            tombstones: 0,
        },
        kernel: KernelStatus {
            complete: true,
            dirty: false,
            events: 98_765,
            echoes: 0,
            overruns: 0,
            dumps: 1,
        },
        links: vec![LinkStatus {
            name: "eth2 225.0.0.50:3780".into(),
            sent: 1_234,
            received: 45_678,
            send_errors: 0,
        }],
        peers: vec![PeerStatus {
            name: "fw1".into(),
            state: PeerState::Streaming,
            cause: None,
            version: Some(1),
            link: Some("eth2".into()),
            links: vec![],
            silent_ms: 120,
            lag_ms: 0,
            lag_records: 0,
            replica: ReplicaStatus {
                flows: 12_345,
                expectations: 0,
                in_sync: true,
                verified_age_ms: Some(400),
                lag_ms: 3,
                lag_records: 12,
            },
        }],
        strangers: Vec::new(),
        split_brain: Vec::new(),
        last_promotion: None,
        commit: None,
        gate: None,
        hot: None,
    }
}

fn active_in_trouble() -> Status {
    let mut status = standby();
    status.node = "fw1".into();
    status.role = Role::Active;
    status.term = 3;
    status.insecure = false;
    status.ready = false;
    status.cause = Some("the kernel's table is being read".into());
    status.local = LocalStatus {
        flows: 200_000,
        expectations: 0,
        tracked: 210_000,
        tombstones: 1,
    };
    status.kernel.dirty = true;
    status.kernel.events = 1;
    status.kernel.overruns = 1;
    status.links[0].sent = 0;
    status.links[0].received = 0;
    status.links[0].send_errors = 5;
    status.peers[0] = PeerStatus {
        name: "fw2".into(),
        state: PeerState::Silent,
        cause: Some("nothing heard since 00:14".into()),
        version: Some(1),
        link: None,
        links: [
            ("eth2 225.0.0.50:3780", PathState::Silent),
            ("eth3 225.0.0.51:3780", PathState::Answers),
        ]
        .map(|(name, state)| PathStatus {
            name: name.into(),
            state,
        })
        .into(),
        silent_ms: 125_000,
        lag_ms: 4_000,
        lag_records: 1_500,
        replica: ReplicaStatus {
            flows: 1,
            expectations: 0,
            in_sync: false,
            verified_age_ms: Some(12_000_000),
            lag_ms: 0,
            lag_records: 0,
        },
    };
    status.strangers = vec![StrangerStatus {
        name: "fw3".into(),
        cause: "it sends in the clear, and this node has a key: give it the key_file too".into(),
    }];
    status.commit = Some(CommitStatus {
        running: false,
        elapsed_ms: 12,
        total: 500,
        created: 480,
        already: 12,
        replaced: 5,
        without_helper: 0,
        expired: 0,
        failed: vec![FailedFlows {
            reason: "the kernel's table is full".into(),
            flows: 3,
        }],
        ..CommitStatus::default()
    });
    status
}
