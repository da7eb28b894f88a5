//! Questions and answers come back as they were; what cannot be is refused, and nothing panics.

use proptest::prelude::*;

use super::*;
use crate::wire::codec::assert_same_as_wincode;
use crate::wire::header::CONTROL_HEADER_BYTES;
use crate::wire::{DATAGRAM_BYTES_MAX, Frame, Frames};

const LEAF: u64 = 0xabcd << 48;

fn read(body: &[u8]) -> Vec<Result<Frame<'_>, WireError>> {
    Frames::new(body).collect()
}

fn emitted(emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    emit(&mut body);
    body
}

fn sums_question(level: Level, first: u16, count: u16) -> Vec<u8> {
    let question = SumsQuestion {
        round: 7,
        level,
        first,
        count,
    };
    emitted(|out| question.emit(out))
}

fn list_question(from: u64, to: u64) -> Vec<u8> {
    let question = ListQuestion { round: 7, from, to };
    emitted(|out| question.emit(out))
}

fn list(from: u64, to: u64, hashes: &[u64]) -> Vec<u8> {
    let entries: Vec<_> = hashes.iter().map(|&hash| list_entry(hash, 1)).collect();
    emitted(|out| List::new(7, from, to, &entries).emit(out))
}

#[test]
fn sums_beyond_the_last_are_refused() {
    for (level, last) in [(Level::Inner, 255), (Level::Leaf, u16::MAX)] {
        assert!(read(&sums_question(level, last, 1))[0].is_ok());
        assert_eq!(
            read(&sums_question(level, last, 2)),
            [Err(WireError::Range)]
        );
        assert_eq!(read(&sums_question(level, 0, 0)), [Err(WireError::Range)]);
        let answer =
            |count: usize| emitted(|out| Sums::new(7, level, last, &vec![[1; 8]; count]).emit(out));
        assert!(read(&answer(1))[0].is_ok());
        assert_eq!(read(&answer(2)), [Err(WireError::Range)]);
        assert_eq!(read(&answer(0)), [Err(WireError::Range)]);
    }
    assert_eq!(
        read(&sums_question(Level::Inner, 300, 1)),
        [Err(WireError::Range)]
    );
}

#[test]
fn an_unknown_level_is_refused() {
    let mut body = sums_question(Level::Leaf, 3, 4);
    assert_eq!(body[3..], [7, 1, 3, 4]);
    body[4] = 2;
    assert_eq!(read(&body), [Err(WireError::Malformed)]);
}

#[test]
fn a_range_that_is_none_or_of_two_leaves_is_refused() {
    let end = LEAF | BELOW_LEAF;
    for body in [list_question, |from, to| list(from, to, &[])] {
        assert!(read(&body(LEAF, end))[0].is_ok());
        assert!(read(&body(end, end))[0].is_ok());
        assert_eq!(read(&body(end, LEAF)), [Err(WireError::Range)]);
        assert_eq!(read(&body(LEAF, end + 1)), [Err(WireError::Range)]);
        assert_eq!(read(&body(LEAF - 1, end)), [Err(WireError::Range)]);
        assert_eq!(read(&body(0, u64::MAX)), [Err(WireError::Range)]);
    }
}

#[test]
fn a_list_out_of_order_or_beyond_its_range_is_refused() {
    let of = |hashes: &[u64]| {
        let body = list(LEAF + 5, LEAF + 9, hashes);
        read(&body)[0].is_ok()
    };
    assert!(of(&[LEAF + 5, LEAF + 7, LEAF + 7, LEAF + 9]));
    assert!(!of(&[LEAF + 4]));
    assert!(!of(&[LEAF + 10]));
    assert!(!of(&[LEAF + 7, LEAF + 6]));
}

#[test]
fn every_cut_of_every_frame_is_refused_or_is_a_shorter_answer() {
    let frames = [
        sums_question(Level::Leaf, 300, 128),
        emitted(|out| Sums::new(7, Level::Leaf, 300, &[[1; 8], [2; 8]]).emit(out)),
        list_question(LEAF, LEAF + 9),
        list(LEAF, LEAF + 9, &[LEAF + 5, LEAF + 7]),
    ];
    for frame in frames {
        for len in 3..frame.len() {
            let mut cut = frame[..len].to_vec();
            cut[1..3].copy_from_slice(&u16::try_from(len - 3).expect("short").to_be_bytes());
            for read in read(&cut).into_iter().flatten() {
                match read {
                    Frame::Sums(sums) => assert_eq!(sums.sums().len(), 1),
                    Frame::List(list) => assert!(list.entries().len() < 2),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn the_largest_questions_have_the_size_they_state_and_halves_of_an_inner_node_fit() {
    let question = ListQuestion {
        round: u32::MAX,
        from: u64::MAX,
        to: u64::MAX,
    };
    assert_eq!(emitted(|out| question.emit(out)).len(), QUESTION_BYTES_MAX);
    let answer = emitted(|out| {
        Sums::new(u32::MAX, Level::Leaf, u16::MAX - 127, &[[1; 8]; 128]).emit(out);
    });
    assert!(answer.len() <= ANSWER_HEAD_BYTES_MAX + 128 * SUM_BYTES);
    assert!(CONTROL_HEADER_BYTES + answer.len() <= DATAGRAM_BYTES_MAX);
}

proptest! {
    #[test]
    fn any_question_and_answer_comes_back_as_it_was(
        round: u32, is_leaf: bool, first: u16, count: u16, from: u64, length: u64,
        sums in prop::collection::vec(any::<[u8; 8]>(), 1..128),
        mut entries in prop::collection::vec(any::<(u64, u64)>(), 0..80),
    ) {
        let level = if is_leaf { Level::Leaf } else { Level::Inner };
        let first = u16::try_from(u32::from(first) % level.count()).expect("16 bits");
        let room = level.count() - u32::from(first);
        let count = u16::try_from((u32::from(count) % room).max(1)).expect("16 bits");
        let sums = &sums[..sums.len().min(room as usize)];
        let to = from | (length & BELOW_LEAF);
        entries.sort_unstable();
        let entries: Vec<_> = entries
            .iter()
            .map(|&(hash, value)| (from & !BELOW_LEAF | hash & BELOW_LEAF, value))
            .filter(|(hash, _)| (from..=to).contains(hash))
            .collect();
        let mut entries: Vec<_> = entries.iter().map(|&(hash, value)| list_entry(hash, value)).collect();
        entries.sort_unstable();
        let frames = [
            Frame::SumsQuestion(SumsQuestion { round, level, first, count }),
            Frame::Sums(Sums::new(round, level, first, sums)),
            Frame::ListQuestion(ListQuestion { round, from, to }),
            Frame::List(List::new(round, from, to, &entries)),
        ];
        let mut body = Vec::new();
        frames.iter().for_each(|frame| frame.emit(&mut body));
        prop_assert_eq!(read(&body), frames.map(Ok));
    }

    #[test]
    fn a_damaged_frame_is_answered_with_a_possible_one(
        which in 0..4_usize, at: prop::sample::Index, byte: u8, hashes in prop::collection::vec(0..9_u64, 0..8),
    ) {
        let mut hashes: Vec<_> = hashes.iter().map(|low| LEAF + low).collect();
        hashes.sort_unstable();
        let mut body = match which {
            0 => sums_question(Level::Leaf, 300, 128),
            1 => emitted(|out| Sums::new(7, Level::Inner, 250, &[[1; 8]; 6]).emit(out)),
            2 => list_question(LEAF, LEAF + 9),
            _ => list(LEAF, LEAF + 9, &hashes),
        };
        let at = at.index(body.len());
        body[at] = byte;
        for frame in read(&body).into_iter().flatten() {
            if let Frame::Unknown(_) = frame {
                continue;
            }
            let again = emitted(|out| frame.emit(out));
            prop_assert_eq!(read(&again), [Ok(frame)]);
        }
    }

    #[test]
    fn wincode_gives_the_same_bytes(round: u32, shift in 0..32, a: u16, b: u16, e: u8, hash: [u8; 8]) {
        let round = round >> shift;
        assert_same_as_wincode!(SumsQuestionV1, SumsQuestionV1 { round, level: e, first: a, count: b });
        assert_same_as_wincode!(SumsV1, SumsV1 { round, level: e, first: a });
        assert_same_as_wincode!(ListV1, ListV1 { round, from: hash, to: hash });
    }
}
