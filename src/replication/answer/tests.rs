//! Answers hold what the replica holds, fit where they must, and say how far they reach.

use super::*;
use crate::cache::HashKey;
use crate::flow::{Flow, Rare};
use crate::wire::{Frame, Frames, Level, WireError};

const KEY: HashKey = HashKey([1, 2]);
const LEAF_END: u64 = u64::MAX >> 16;

fn replica(flows: u16) -> Replica {
    let mut replica = Replica::new(KEY, 100_000);
    for number in 0..flows {
        let mut flow = Flow::default();
        flow.orig.src_id = number;
        let hash = KEY.of_key(&flow.key());
        replica.store(hash, &flow, &Rare::default(), 1, 0);
    }
    replica
}

fn sums(level: Level, first: u16, count: u16) -> Question {
    Question::Sums(SumsQuestion {
        round: 5,
        level,
        first,
        count,
    })
}

fn list(from: u64, to: u64) -> Question {
    Question::List(ListQuestion { round: 5, from, to })
}

fn frames(body: &[u8]) -> Vec<Frame<'_>> {
    let frames: Result<Vec<_>, WireError> = Frames::new(body).collect();
    frames.expect("answers are well-formed")
}

/// Hashes of a list and where it ends.
fn listed(body: &[u8]) -> (Vec<u64>, u64) {
    match frames(body)[..] {
        [Frame::List(list)] => (list.entries().map(|(hash, _)| hash).collect(), list.to),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn sums_add_up_to_the_root_at_either_level() {
    let replica = replica(500);
    for (level, step) in [(Level::Inner, 128), (Level::Leaf, 128)] {
        let (mut root, mut answerer) = (0u64, Answerer::default());
        for first in (0..level.count()).step_by(step) {
            answerer.on_question(sums(level, first as u16, step as u16));
            let mut body = Vec::new();
            answerer.answer(&replica, 1400, &mut body);
            let [Frame::Sums(answer)] = frames(&body)[..] else {
                panic!("one question has one answer");
            };
            assert_eq!((answer.first, answer.sums().len()), (first as u16, step));
            root = answer.sums().fold(root, u64::wrapping_add);
        }
        assert_eq!(root, replica.digest().root());
    }
}

#[test]
fn answers_never_exceed_their_room_and_what_is_cut_is_asked_again() {
    let replica = replica(40_000);
    let mut answerer = Answerer::default();
    for room in [60, 200, 1400] {
        let (mut first, mut told) = (0u16, 0);
        while told < 256 {
            answerer.on_question(sums(Level::Inner, first, 256 - first));
            let mut body = Vec::new();
            answerer.answer(&replica, room, &mut body);
            assert!(body.len() <= room);
            let [Frame::Sums(answer)] = frames(&body)[..] else {
                panic!("one question has one answer");
            };
            told += answer.sums().len();
            first = told.min(255) as u16;
        }
        assert_eq!(told, 256);
    }
}

#[test]
fn a_list_is_complete_for_the_range_it_names() {
    // Leaves of 100,000 flows hold one or two; a range of one is cut only by a tiny room.
    let replica = replica(60_000);
    let mut leaf = (0..u16::MAX)
        .map(|leaf| {
            let mut hashes = Vec::new();
            replica.visit_leaf(leaf, |hash, _| hashes.push(hash));
            hashes
        })
        .max_by_key(Vec::len)
        .expect("there are leaves");
    leaf.sort_unstable();
    assert!(leaf.len() >= 4, "some leaf has several");
    let first = leaf[0] & !LEAF_END;
    let mut answerer = Answerer::default();
    let room = ANSWER_HEAD_BYTES_MAX + 2 * LIST_ENTRY_BYTES;
    let (mut from, mut seen) = (first, Vec::new());
    loop {
        answerer.on_question(list(from, first | LEAF_END));
        let mut body = Vec::new();
        answerer.answer(&replica, room, &mut body);
        assert!(body.len() <= room);
        let (hashes, to) = listed(&body);
        assert!(hashes.len() <= 2);
        seen.extend(hashes);
        if to == first | LEAF_END {
            break;
        }
        assert_eq!(seen.last(), Some(&to));
        from = to + 1;
    }
    assert_eq!(seen, leaf);
    answerer.on_question(list(leaf[1], leaf[2]));
    let mut body = Vec::new();
    answerer.answer(&replica, 1400, &mut body);
    assert_eq!(listed(&body), (leaf[1..=2].to_vec(), leaf[2]));
}

#[test]
fn several_small_answers_share_a_datagram_and_a_large_one_waits_for_the_next() {
    let replica = replica(10);
    let mut answerer = Answerer::default();
    for leaf in 0..3u64 {
        answerer.on_question(list(leaf << 48, leaf << 48 | LEAF_END));
    }
    answerer.on_question(sums(Level::Leaf, 0, 128));
    let mut body = Vec::new();
    answerer.answer(&replica, 1000, &mut body);
    assert_eq!(frames(&body).len(), 3);
    assert!(answerer.has_answers());
    body.clear();
    answerer.answer(&replica, 1100, &mut body);
    assert_eq!(frames(&body).len(), 1);
    assert!(!answerer.has_answers());
    assert_eq!(answerer.counters.answers, 4);
}

#[test]
fn a_flood_of_questions_is_bounded_and_repeats_wait_once() {
    let mut answerer = Answerer::default();
    for _ in 0..3 {
        answerer.on_question(sums(Level::Inner, 0, 128));
    }
    assert_eq!(
        (answerer.waiting.len(), answerer.counters.questions),
        (1, 1)
    );
    for first in 0..200 {
        answerer.on_question(sums(Level::Leaf, first, 1));
    }
    assert_eq!(answerer.waiting.len(), WAITING_MAX);
    assert_eq!(answerer.counters.dropped, 200 - (WAITING_MAX as u64 - 1));
}
