//! What a consumer takes from a node, and what it does not.

use bytes::BytesMut;
use segment_store::{FrameHeader, UnstampedFrame};

use super::*;
use crate::wire::{BatchBuilder, Codec, ProducerStamp};

const GROUP: u64 = 4;

fn cursor(next: Option<u64>) -> Cursor {
    Cursor {
        partition: 0,
        group: GROUP,
        next,
        not_before_ms: None,
    }
}

/// A frame of `count` records from `base_offset` on; record i has the time 100 * offset.
fn frame(group: u64, base_offset: u64, count: u64) -> Vec<u8> {
    let mut batch = BatchBuilder::new(1 << 20, 0);
    for offset in base_offset..base_offset + count {
        let value = offset.to_string();
        batch
            .push(None, Some(value.as_bytes()), &[], 100 * offset)
            .unwrap();
    }
    let bytes = batch.build(ProducerStamp::default(), group, Codec::None);
    let unstamped = UnstampedFrame::parse(BytesMut::from(&bytes[..]), 1 << 20).unwrap();
    let stamped = unstamped.stamp(base_offset + 1, 1, base_offset, 0);
    stamped.bytes().to_vec()
}

fn noop(base_offset: u64) -> Vec<u8> {
    let header = FrameHeader {
        kind: kind::NOOP,
        codec: 0,
        flags: 0,
        index: 9,
        term: 2,
        base_offset,
        max_timestamp: 0,
        payload_len: 0,
        payload_crc: 0,
        prev_header_crc: 0,
        record_count: 0,
        group: GROUP,
    };
    Frame::build(header, &[]).bytes().to_vec()
}

fn take(cursor: &mut Cursor, first_offset: u64, frames: &[Vec<u8>]) -> Result<Vec<u64>, String> {
    let batches = cursor.take_in(first_offset, Bytes::from(frames.concat()))?;
    let offsets = |batch: &Batch| batch.records().map(|r| r.offset).collect::<Vec<_>>();
    Ok(batches.iter().flat_map(offsets).collect())
}

#[test]
fn records_before_the_offset_asked_for_are_dropped() {
    let mut cursor = cursor(None);
    let taken = take(&mut cursor, 12, &[frame(GROUP, 10, 5), frame(GROUP, 15, 2)]);
    assert_eq!(taken, Ok((12..17).collect()));
    assert_eq!(cursor.next, Some(17));
}

#[test]
fn frames_received_again_are_dropped() {
    let mut cursor = cursor(Some(12));
    let frames = [frame(GROUP, 5, 5), frame(GROUP, 10, 5)];
    assert_eq!(take(&mut cursor, 5, &frames), Ok(vec![12, 13, 14]));
    assert_eq!(take(&mut cursor, 5, &frames), Ok(vec![]));
    assert_eq!(cursor.next, Some(15));
}

#[test]
fn frames_without_records_are_passed_over() {
    let mut cursor = cursor(None);
    let frames = [noop(0), frame(GROUP, 0, 2), noop(2), frame(GROUP, 2, 1)];
    assert_eq!(take(&mut cursor, 0, &frames), Ok(vec![0, 1, 2]));
}

#[test]
fn a_gap_between_frames_is_noticed() {
    let mut cursor = cursor(Some(0));
    let error = take(&mut cursor, 0, &[frame(GROUP, 0, 2), frame(GROUP, 3, 1)]).unwrap_err();
    assert!(error.contains("offset 2 is missing"), "{error}");
    assert_eq!(cursor.next, Some(0));
}

#[test]
fn a_frame_of_another_group_is_refused() {
    let mut cursor = cursor(Some(0));
    assert!(take(&mut cursor, 0, &[frame(GROUP + 1, 0, 2)]).is_err());
    assert_eq!(cursor.next, Some(0));
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let good = frame(GROUP, 0, 3);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(take(&mut cursor(Some(0)), 0, &[bad]).is_err(), "byte {at}");
        let cut = good[..at].to_vec();
        assert!(
            at == 0 || take(&mut cursor(Some(0)), 0, &[cut]).is_err(),
            "cut {at}"
        );
    }
}

#[test]
fn records_before_the_time_asked_for_are_dropped_up_to_the_first_that_is_not() {
    let mut cursor = cursor(None);
    cursor.not_before_ms = Some(1250);
    let frames = [frame(GROUP, 10, 2), frame(GROUP, 12, 3)];
    assert_eq!(take(&mut cursor, 10, &frames), Ok(vec![13, 14]));
    // A later record with an earlier time is not before the place any more.
    assert_eq!(cursor.not_before_ms, None);
}
