//! Batches there and back, pinned bytes, and what must be refused.

use bytes::{Bytes, BytesMut};
use segment_store::{Frame, HEADER_LEN, UnstampedFrame};

use super::*;
use crate::wire::{ApiError, PushError};

pub(super) const GROUP: u64 = 9;
pub(super) const STAMP: ProducerStamp = ProducerStamp {
    id: 0x11,
    epoch: 0x22,
    first_sequence: 0x33,
};

/// The frame as a consumer receives it: stamped by a leader, with every check on the way.
pub(super) fn stamped(unstamped: &Bytes) -> Frame {
    let parsed = UnstampedFrame::parse(BytesMut::from(&unstamped[..]), usize::MAX).unwrap();
    parsed.stamp(7, 3, 1000, 0xabcd)
}

/// The same frame around another payload, its checksums put right: what a liar could send.
pub(super) fn with_payload(frame: &Frame, change: impl FnOnce(&mut Vec<u8>)) -> Frame {
    let mut payload = frame.payload().to_vec();
    change(&mut payload);
    Frame::build(*frame.header(), &payload)
}

pub(super) fn parse(frame: &Frame) -> Result<BatchReader, BatchError> {
    BatchReader::parse(frame, &BatchCaps::default())
}

pub(super) fn check(frame: &Frame) -> Result<BatchHead, BatchError> {
    check_batch(
        frame.header(),
        &frame.payload(),
        GROUP,
        &BatchCaps::default(),
    )
}

pub(super) fn builder() -> BatchBuilder {
    BatchBuilder::new(BATCH_BYTES_MAX, 1024)
}

/// Three records: key and headers; nothing at all; empty key and value.
pub(super) fn three(codec: Codec) -> Frame {
    let mut batch = builder();
    let headers: &[(&str, &[u8])] = &[("h1", b"v1"), ("", b"")];
    assert_eq!(batch.push(Some(b"k"), Some(b"value"), headers, 5000), Ok(0));
    assert_eq!(batch.push(None, None, &[], 5007), Ok(1));
    assert_eq!(batch.push(Some(b""), Some(b""), &[], 4990), Ok(2));
    stamped(&batch.build(STAMP, GROUP, codec))
}

/// Offset, timestamp, key, value, headers.
type Seen<'a> = (
    u64,
    u64,
    Option<&'a [u8]>,
    Option<&'a [u8]>,
    Vec<(&'a str, &'a [u8])>,
);

#[test]
fn records_come_back_as_they_were_pushed_under_every_codec() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let mut batch = builder();
        let filler = [b'x'; 500];
        batch
            .push(Some(b"k"), Some(&filler), &[("name", b"v"), ("", b"")], 50)
            .unwrap();
        batch.push(None, Some(b""), &[], 40).unwrap();
        batch.push(Some(b""), None, &[], 60).unwrap();
        let frame = stamped(&batch.build(STAMP, GROUP, codec));
        assert_eq!(frame.header().codec, codec.to_byte());
        assert_eq!(frame.header().max_timestamp, 60);
        let reader = parse(&frame).unwrap();
        let seen: Vec<_> = reader
            .records()
            .map(|r| {
                let headers: Vec<_> = r.headers.collect();
                (r.offset, r.timestamp_ms, r.key, r.value, headers)
            })
            .collect();
        let expected: [Seen<'_>; 3] = [
            (
                1000,
                50,
                Some(b"k"),
                Some(&filler),
                vec![("name", b"v"), ("", b"")],
            ),
            (1001, 40, None, Some(b""), vec![]),
            (1002, 60, Some(b""), None, vec![]),
        ];
        assert_eq!(seen, expected);
        assert_eq!(reader.next_offset(), 1003);
        assert_eq!(reader.head().producer_id, STAMP.id);
    }
}

#[test]
fn uncompressed_records_are_read_where_they_were_received() {
    let frame = three(Codec::None);
    let reader = parse(&frame).unwrap();
    let value = reader.record(0).value.unwrap();
    let within = frame.bytes().as_ptr_range();
    assert!(within.contains(&value.as_ptr()));
}

#[test]
fn the_bytes_of_a_batch_are_pinned() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let payload = three(Codec::None).payload();
    let (head, records) = payload.split_at(BATCH_HEAD_LEN);
    assert_eq!(
        hex(head),
        concat!(
            "1100000000000000", // producer id
            "3300000000000000", // first sequence
            "8813000000000000", // base timestamp
            "0900000000000000", // group
            "22000000",         // producer epoch
            "56000000",         // length of the records
        )
    );
    assert_eq!(
        hex(records),
        concat!(
            "6b76616c7565", // k, value
            "0200020000006831",
            "7631",                             // h1: v1
            "000000000000",                     // the empty header
            "01000080060000801600000000000000", // record 0
            "16000000160000001600000007000000", // record 1: absent, absent
            "160000801600008016000000f6ffffff", // record 2: empty, empty
            "baffffff16000000",                 // root: the blob, 70 bytes back, 22 long
            "c8ffffff03000000",                 // root: the table, 56 bytes back, 3 long
        )
    );
}

#[test]
fn one_record_makes_a_batch() {
    let mut batch = builder();
    batch.push(None, Some(b"only"), &[], 1).unwrap();
    let reader = parse(&stamped(&batch.build(STAMP, GROUP, Codec::None))).unwrap();
    assert_eq!(reader.record_count(), 1);
    assert_eq!(reader.record(0).value, Some(&b"only"[..]));
}

#[test]
fn a_hundred_thousand_records_make_a_batch() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let mut batch = builder();
        for i in 0..100_000_u32 {
            batch
                .push(None, Some(&i.to_le_bytes()), &[], u64::from(i))
                .unwrap();
        }
        let frame = stamped(&batch.build(STAMP, GROUP, codec));
        assert_eq!(check(&frame).unwrap().group, GROUP);
        let reader = parse(&frame).unwrap();
        assert_eq!(reader.record_count(), 100_000);
        for (i, record) in (0..100_000_u32).zip(reader.records()) {
            assert_eq!(record.value, Some(&i.to_le_bytes()[..]));
            assert_eq!(record.timestamp_ms, u64::from(i));
        }
    }
}

#[test]
fn what_does_not_get_shorter_is_not_compressed() {
    let mut rng = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..1000).map(|_| rng.u8(..)).collect();
    for codec in [Codec::Lz4, Codec::Zstd] {
        let mut batch = builder();
        batch.push(None, Some(&noise), &[], 1).unwrap();
        let frame = stamped(&batch.build(STAMP, GROUP, codec));
        assert_eq!(frame.header().codec, Codec::None.to_byte());
        assert_eq!(parse(&frame).unwrap().record(0).value, Some(&noise[..]));
    }
}

#[test]
fn a_record_larger_than_a_batch_is_refused_and_the_batch_is_as_it_was() {
    let mut batch = BatchBuilder::new(300, 0);
    batch.push(None, Some(b"small"), &[], 1).unwrap();
    let before = batch.len_bytes();
    let refused = batch.push(Some(b"k"), Some(&[0; 300]), &[], 2);
    assert_eq!(
        refused,
        Err(PushError::TooLarge {
            bytes: 373,
            bytes_max: 300
        })
    );
    assert_eq!(
        batch.push(None, Some(&[0; 220]), &[], 2),
        Err(PushError::BatchFull)
    );
    assert_eq!(batch.len_bytes(), before);
    assert_eq!(batch.record_count(), 1);
}

#[test]
fn the_largest_record_fits_exactly() {
    let fixed = BATCH_HEAD_LEN + ENTRY_LEN + ROOT_LEN;
    let mut batch = BatchBuilder::new(fixed + 100, 0);
    assert!(matches!(
        batch.push(None, Some(&[1; 101]), &[], 1),
        Err(PushError::TooLarge { .. })
    ));
    assert_eq!(batch.push(None, Some(&[1; 100]), &[], 1), Ok(0));
    assert_eq!(batch.len_bytes(), fixed + 100);
    let frame = stamped(&batch.build(STAMP, GROUP, Codec::None));
    assert_eq!(frame.header().payload_len as usize, fixed + 100);
}

#[test]
fn a_header_name_over_65535_bytes_is_refused() {
    let name = "n".repeat(65_536);
    let refused = builder().push(None, None, &[(&name, b"")], 1);
    assert_eq!(refused, Err(PushError::HeaderName { bytes: 65_536 }));
}

#[test]
fn a_timestamp_too_far_from_the_first_starts_another_batch() {
    let mut batch = builder();
    batch.push(None, None, &[], 0).unwrap();
    let far = i32::MAX as u64;
    assert_eq!(
        batch.push(None, None, &[], far + 1),
        Err(PushError::BatchFull)
    );
    assert_eq!(batch.push(None, None, &[], far), Ok(1));
    let mut latest = builder();
    assert_eq!(latest.push(None, None, &[], u64::MAX), Ok(0));
    parse(&stamped(&latest.build(STAMP, GROUP, Codec::None))).unwrap();
}

#[test]
#[should_panic(expected = "at least one record")]
fn an_empty_batch_cannot_be_built() {
    builder().build(STAMP, GROUP, Codec::None);
}

#[test]
fn a_batch_of_no_records_is_refused() {
    let frame = three(Codec::None);
    let header = FrameHeader {
        record_count: 0,
        ..*frame.header()
    };
    let empty = Frame::build(header, &frame.payload());
    assert_eq!(check(&empty), Err(BatchError::Empty));
    assert!(matches!(parse(&empty), Err(BatchError::Empty)));
}

#[test]
fn a_wrong_record_count_is_refused() {
    let frame = three(Codec::None);
    for record_count in [1, 2, 4, u32::MAX] {
        let header = FrameHeader {
            record_count,
            ..*frame.header()
        };
        let lying = Frame::build(header, &frame.payload());
        assert!(
            matches!(check(&lying), Err(BatchError::RecordCount { header, .. }) if header == record_count)
        );
    }
}

#[test]
fn a_batch_for_another_group_is_refused() {
    let frame = three(Codec::None);
    let elsewhere = check_batch(frame.header(), &frame.payload(), 8, &BatchCaps::default());
    assert_eq!(
        elsewhere,
        Err(BatchError::ForeignGroup {
            found: GROUP,
            expected: 8
        })
    );
    // The header alone was changed on the way: the payload still knows.
    let header = FrameHeader {
        group: 8,
        ..*frame.header()
    };
    let mixed_up = Frame::build(header, &frame.payload());
    let checked = check_batch(
        mixed_up.header(),
        &mixed_up.payload(),
        8,
        &BatchCaps::default(),
    );
    assert!(matches!(checked, Err(BatchError::ForeignGroup { .. })));
    assert!(matches!(
        parse(&mixed_up),
        Err(BatchError::ForeignGroup { .. })
    ));
}

#[test]
fn a_table_that_points_outside_its_blob_or_backwards_is_refused() {
    // The blob has 22 bytes; entry i begins at 22 + 16 * i.
    let table = BATCH_HEAD_LEN + 22;
    for (at, value) in [
        (0, 0x8000_0017_u32),
        (4, 0x8000_0000),
        (8, 23),
        (8, 5),
        (24, 21),
        (40, 21),
        (40, u32::MAX),
    ] {
        let lying = with_payload(&three(Codec::None), |payload| {
            payload[table + at..table + at + 4].copy_from_slice(&value.to_le_bytes());
        });
        assert!(
            matches!(
                check(&lying),
                Err(BatchError::Table { .. } | BatchError::Headers { .. })
            ),
            "{at} {value:#x}: {:?}",
            check(&lying)
        );
        assert!(parse(&lying).is_err());
    }
}

#[test]
fn an_absent_key_with_bytes_is_refused() {
    let lying = with_payload(&three(Codec::None), |payload| {
        payload[BATCH_HEAD_LEN + 22 + 3] = 0;
    });
    assert_eq!(check(&lying), Err(BatchError::Table { record: 0 }));
}

#[test]
fn headers_that_do_not_fill_their_range_or_are_no_utf8_are_refused() {
    for (at, byte) in [(6, 3), (8, 1), (12, 0xff)] {
        let lying = with_payload(&three(Codec::None), |payload| {
            payload[BATCH_HEAD_LEN + at] = byte;
        });
        assert_eq!(check(&lying), Err(BatchError::Headers { record: 0 }));
    }
}

#[test]
fn another_maximum_of_the_timestamps_is_refused() {
    let frame = three(Codec::None);
    for max_timestamp in [0, 5006, 5008, u64::MAX] {
        let header = FrameHeader {
            max_timestamp,
            ..*frame.header()
        };
        let lying = Frame::build(header, &frame.payload());
        assert_eq!(check(&lying), Err(BatchError::Timestamp));
    }
    let overflowing = with_payload(&frame, |payload| payload[16..24].fill(0xff));
    assert_eq!(check(&overflowing), Err(BatchError::Timestamp));
}

#[test]
fn an_unknown_codec_or_kind_is_refused() {
    let frame = three(Codec::None);
    let header = FrameHeader {
        codec: 3,
        ..*frame.header()
    };
    assert_eq!(
        check_batch(&header, &frame.payload(), GROUP, &BatchCaps::default()),
        Err(BatchError::UnknownCodec { codec: 3 })
    );
    let header = FrameHeader {
        kind: segment_store::kind::NOOP,
        ..*frame.header()
    };
    assert_eq!(
        check_batch(&header, &frame.payload(), GROUP, &BatchCaps::default()),
        Err(BatchError::NotRecords { kind: 2 })
    );
}

#[test]
fn a_payload_over_the_cap_is_refused_and_says_the_cap() {
    let frame = three(Codec::None);
    let caps = BatchCaps {
        payload_bytes_max: 100,
        records_bytes_max: 100,
    };
    let refused = check_batch(frame.header(), &frame.payload(), GROUP, &caps).unwrap_err();
    assert!(matches!(refused, BatchError::TooLarge { max: 100, .. }));
    assert_eq!(
        ApiError::from(refused),
        ApiError::BatchTooLarge { max: 100 }
    );
}

fn compressible(codec: Codec) -> Frame {
    let mut batch = builder();
    batch.push(None, Some(&[7; 100_000]), &[], 1).unwrap();
    stamped(&batch.build(STAMP, GROUP, codec))
}

#[test]
fn a_decompression_bomb_is_refused_before_anything_is_allocated() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        let frame = compressible(codec);
        let caps = BatchCaps {
            payload_bytes_max: BATCH_BYTES_MAX,
            records_bytes_max: 50_000,
        };
        assert!(frame.payload().len() < 10_000);
        assert!(matches!(
            BatchReader::parse(&frame, &caps),
            Err(BatchError::TooLarge { max: 50_000, .. })
        ));
        assert!(check_batch(frame.header(), &frame.payload(), GROUP, &caps).is_err());
    }
}

#[test]
fn records_of_another_length_than_the_head_says_are_refused() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        for len in [33_u32, 99_999, 100_031, 100_033, 8 << 20] {
            let lying = with_payload(&compressible(codec), |payload| {
                payload[36..40].copy_from_slice(&len.to_le_bytes());
            });
            assert!(
                matches!(
                    parse(&lying),
                    Err(BatchError::Length { .. } | BatchError::Decompress)
                ),
                "{codec:?} {len}"
            );
        }
    }
}

#[test]
fn a_payload_cut_anywhere_is_refused() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let frame = compressible(codec);
        for len in 0..frame.payload().len().min(600) {
            let cut = with_payload(&frame, |payload| payload.truncate(len));
            assert!(parse(&cut).is_err(), "{codec:?} {len}");
        }
    }
}

#[test]
fn offsets_that_would_pass_the_end_are_refused() {
    let frame = three(Codec::None);
    let header = FrameHeader {
        base_offset: u64::MAX - 1,
        ..*frame.header()
    };
    assert!(parse(&Frame::build(header, &frame.payload())).is_err());
}

#[test]
fn every_flipped_bit_of_a_frame_is_noticed() {
    let unstamped = three(Codec::None);
    let good = unstamped.bytes().clone();
    for at in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[at / 8] ^= 1 << (at % 8);
        let mut bad = Bytes::from(bad);
        let noticed = Frame::split_from(&mut bad, BATCH_BYTES_MAX, true).is_err();
        assert!(noticed, "bit {at} (the header has {} bytes)", HEADER_LEN);
    }
}
