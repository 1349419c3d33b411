//! The end of the log: what may follow, what is held for sending, what may be cut.

use segment_store::kind;

use super::super::writes::unstamped_header;
use super::*;

/// The frame that follows the last one, with a payload of `len` bytes.
fn next(tail: &Tail, term: Term, len: usize) -> Frame {
    let last = tail.last();
    let header = segment_store::FrameHeader {
        index: last.id.index + 1,
        term,
        base_offset: last.next_offset,
        prev_header_crc: last.header_crc,
        ..unstamped_header(1, kind::CONTROLLER)
    };
    Frame::build(header, &vec![1; len])
}

fn tail_of(count: u64, len: usize) -> Tail {
    let mut tail = Tail::new(EntryMeta::default(), VecDeque::new());
    for _ in 0..count {
        let frame = next(&tail, 1, len);
        tail.push(frame);
    }
    tail
}

#[test]
#[should_panic(expected = "gap")]
fn frame_that_would_leave_a_gap_is_a_broken_assumption() {
    let ahead = tail_of(2, 10);
    let frame = next(&ahead, 1, 10);
    tail_of(1, 10).push(frame);
}

#[test]
#[should_panic(expected = "applied")]
fn applied_entries_are_never_cut() {
    let mut tail = tail_of(3, 10);
    while tail.apply_next(2).is_some() {}
    tail.truncate(1);
}

#[test]
fn frames_of_one_piece_are_taken_as_one_where_all_of_them_fit() {
    // Frames of 128 bytes; 2, 3 and 4 lie in one piece.
    let mut tail = tail_of(4, 10);
    let piece: Vec<u8> = (1..4)
        .flat_map(|at| tail.frames[at].bytes().to_vec())
        .collect();
    tail.note_run(3, Bytes::from(piece));
    let frame = next(&tail, 1, 10);
    tail.push(frame);
    let take = |tail: &Tail, first, last, bytes_max| {
        let mut frames = Vec::new();
        let (last, bytes) = tail.take_held(first, last, bytes_max, &mut frames);
        let lens: Vec<usize> = frames.iter().map(Bytes::len).collect();
        let expected: Vec<u8> = (first..=last)
            .flat_map(|index| {
                let at = (index - tail.first_held()) as usize;
                tail.frames[at].bytes().to_vec()
            })
            .collect();
        assert_eq!(frames.concat(), expected);
        (last, bytes, lens)
    };
    assert_eq!(take(&tail, 1, 5, 1_000), (5, 640, vec![128, 384, 128]));
    assert_eq!(take(&tail, 2, 5, 384), (4, 384, vec![384]));
    assert_eq!(take(&tail, 1, 3, 1_000), (3, 384, vec![128; 3]));
    assert_eq!(take(&tail, 2, 5, 300), (3, 256, vec![128; 2]));
    assert_eq!(take(&tail, 3, 5, 1_000), (5, 384, vec![128; 3]));
    tail.durable(2);
    assert_eq!(take(&tail, 3, 5, 1_000), (5, 384, vec![128; 3]));
    let mut cut = tail_of(3, 10);
    let piece: Vec<u8> = (0..3)
        .flat_map(|at| cut.frames[at].bytes().to_vec())
        .collect();
    cut.note_run(3, Bytes::from(piece));
    cut.truncate(2);
    assert_eq!(take(&cut, 1, 2, 1_000), (2, 256, vec![128; 2]));
}

#[test]
fn whole_frames_are_taken_up_to_the_limit_and_at_least_one() {
    // Frames of 128 bytes.
    let tail = tail_of(5, 10);
    let take = |first, last, bytes_max| {
        let mut frames = Vec::new();
        let (last, bytes) = tail.take_held(first, last, bytes_max, &mut frames);
        (last, bytes, frames.len())
    };
    assert_eq!(take(1, 5, 1_000), (5, 640, 5));
    assert_eq!(take(2, 5, 300), (3, 256, 2));
    assert_eq!(take(2, 5, 1), (2, 128, 1));
    assert_eq!(take(2, 3, 1_000), (3, 256, 2));
}

#[test]
fn frames_are_held_until_they_are_durable_or_cut() {
    let mut tail = tail_of(5, 10);
    tail.durable(2);
    assert_eq!((tail.first_held(), tail.held_bytes()), (3, 3 * 128));
    tail.truncate(3);
    assert_eq!((tail.first_held(), tail.held_bytes()), (3, 128));
    tail.durable(3);
    assert_eq!((tail.first_held(), tail.held_bytes()), (4, 0));
}

#[test]
fn lag_in_bytes_is_known_for_applied_entries_too() {
    let mut tail = tail_of(200, 10);
    assert_eq!(tail.bytes_after(150), 50 * 128);
    while tail.apply_next(190).is_some() {}
    assert_eq!(tail.bytes_after(195), 5 * 128);
    // The mark at 128 stands for the entries up to 191.
    assert_eq!(tail.bytes_after(130), 72 * 128);
    assert_eq!(tail.bytes_after(0), 200 * 128);
}
