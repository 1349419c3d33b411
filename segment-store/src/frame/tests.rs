//! Frames in memory: splitting, stamping, and what is refused.

use super::*;
use crate::format::{codec, kind};
use proptest::prelude::*;

fn header() -> FrameHeader {
    FrameHeader {
        kind: kind::RECORDS,
        codec: codec::NONE,
        flags: 0,
        index: 0,
        term: 0,
        base_offset: 0,
        max_timestamp: 1_700_000_000_000,
        payload_len: 0,
        payload_crc: 0,
        prev_header_crc: 0,
        record_count: 4,
        group: 3,
    }
}

fn unstamped(payload: &[u8]) -> BytesMut {
    BytesMut::from(&Frame::build(header(), payload).bytes()[..])
}

#[test]
fn stamping_changes_the_header_alone_and_copies_nothing() {
    let bytes = unstamped(b"some records");
    let at = bytes.as_ptr();
    let frame = UnstampedFrame::parse(bytes, 100).unwrap();
    assert_eq!(frame.payload(), b"some records");
    let payload_crc = frame.header().payload_crc;
    let stamped = frame.stamp(41, 5, 1_000, 0xdead_beef);
    assert_eq!(stamped.bytes().as_ptr(), at);
    let (decoded, crc) = FrameHeader::decode(stamped.bytes()).unwrap();
    assert_eq!(&decoded, stamped.header());
    assert_eq!(crc, stamped.header_crc());
    assert_eq!(
        (decoded.index, decoded.term, decoded.base_offset),
        (41, 5, 1_000)
    );
    assert_eq!(decoded.prev_header_crc, 0xdead_beef);
    assert_eq!(decoded.payload_crc, payload_crc);
    assert_eq!(&stamped.payload()[..], b"some records");
    stamped.verify_payload().unwrap();
}

#[test]
fn frames_of_one_piece_are_stamped_where_they_lie_each_chained_to_the_one_before() {
    let mut bytes = BytesMut::new();
    for payload in [&[1; 10][..], &[2; 200], &[3; 64]] {
        bytes.extend_from_slice(&unstamped(payload));
    }
    let at = bytes.as_ptr();
    let run = UnstampedRun::parse(bytes.clone(), 200).unwrap();
    assert_eq!((run.count(), run.len_bytes()), (3, bytes.len()));
    let payloads: Vec<&[u8]> = run.batches().map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [&[1; 10][..], &[2; 200], &[3; 64]]);
    drop(run);
    let run = UnstampedRun::parse(bytes, 200).unwrap();
    let (frames, whole) = run.stamp(41, 5, 1_000, 0xdead_beef);
    let parts: Vec<&[u8]> = frames.iter().map(|frame| &frame.bytes()[..]).collect();
    assert_eq!(parts.concat(), whole);
    assert_eq!(frames[0].bytes().as_ptr(), at);
    let mut link = 0xdead_beef;
    for (frame, number) in frames.iter().zip(0..) {
        let header = frame.header();
        assert_eq!(
            FrameHeader::decode(frame.bytes()),
            Ok((*header, frame.header_crc()))
        );
        assert_eq!(
            (header.index, header.term, header.base_offset),
            (41 + number, 5, 1_000 + 4 * number)
        );
        assert_eq!(header.prev_header_crc, link);
        frame.verify_payload().unwrap();
        link = frame.header_crc();
    }
}

#[test]
fn one_bad_frame_spoils_what_lies_in_one_piece_with_it() {
    let good = unstamped(b"good");
    let mut flipped = unstamped(b"flip");
    flipped[HEADER_LEN] ^= 1;
    let cut = &unstamped(b"cut")[..100];
    for bad in [&flipped[..], cut, b"", &[0; 64]] {
        let mut bytes = good.clone();
        bytes.extend_from_slice(bad);
        let refused = UnstampedRun::parse(bytes, 100).is_err();
        assert_eq!(refused, !bad.is_empty());
        let alone = UnstampedRun::parse(BytesMut::from(bad), 100);
        assert!(alone.is_err(), "{bad:?}");
    }
}

#[test]
fn an_unstamped_frame_with_any_bit_flipped_is_refused() {
    let bytes = unstamped(b"ten bytes!");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(UnstampedFrame::parse(flipped, 100).is_err(), "bit {bit}");
    }
}

#[test]
fn an_unstamped_frame_cut_short_or_with_bytes_behind_it_is_refused() {
    let bytes = unstamped(&[9; 100]);
    for len in 0..bytes.len() {
        let cut = UnstampedFrame::parse(BytesMut::from(&bytes[..len]), 100);
        assert!(matches!(cut, Err(FrameError::Short { .. })), "length {len}");
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[0; 64]);
    let longer = UnstampedFrame::parse(longer, 100).unwrap_err();
    assert_eq!(longer, FrameError::TrailingBytes { extra: 64 });
}

#[test]
fn a_producer_cannot_choose_its_place_in_the_log() {
    for place in 0..4 {
        let mut header = header();
        match place {
            0 => header.index = 1,
            1 => header.term = 1,
            2 => header.base_offset = 1,
            _ => header.prev_header_crc = 1,
        }
        let bytes = BytesMut::from(&Frame::build(header, b"x").bytes()[..]);
        let refused = UnstampedFrame::parse(bytes, 100).unwrap_err();
        assert_eq!(refused, FrameError::AlreadyStamped);
    }
}

#[test]
fn a_length_over_the_cap_is_refused_before_anything_else_is_believed() {
    let claim = FrameHeader {
        payload_len: u32::MAX,
        ..header()
    };
    let mut bytes = Bytes::copy_from_slice(&claim.encode());
    let refused = Frame::split_from(&mut bytes, 8 << 20, true).unwrap_err();
    assert_eq!(
        refused,
        FrameError::TooLong {
            payload_len: u32::MAX,
            max: 8 << 20
        }
    );
    assert_eq!(bytes.len(), HEADER_LEN);
}

#[test]
fn frames_split_off_one_after_another_share_the_message() {
    let first = Frame::build(header(), &[1; 10]);
    let second = Frame::build(header(), &[2; 200]);
    let mut message = BytesMut::from(&first.bytes()[..]);
    message.extend_from_slice(second.bytes());
    let mut message = message.freeze();
    let at = message.as_ptr();
    let one = Frame::split_from(&mut message, 1_000, true).unwrap();
    let two = Frame::split_from(&mut message, 1_000, true).unwrap();
    assert!(message.is_empty());
    assert_eq!(one.bytes(), first.bytes());
    assert_eq!(two.bytes(), second.bytes());
    assert_eq!(one.bytes().as_ptr(), at);
}

#[test]
fn a_spoilt_payload_passes_only_if_it_was_not_to_be_checked() {
    let mut bytes = unstamped(b"payload");
    bytes[HEADER_LEN] ^= 1;
    let bytes = bytes.freeze();
    let unchecked = Frame::split_from(&mut bytes.clone(), 100, false).unwrap();
    assert_eq!(unchecked.verify_payload(), Err(FrameError::PayloadCrc));
    let refused = Frame::split_from(&mut bytes.clone(), 100, true).unwrap_err();
    assert_eq!(refused, FrameError::PayloadCrc);
}

proptest! {
    #[test]
    fn what_is_built_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..700), index in 1u64.., term in 1u64..) {
        let built = Frame::build(FrameHeader { index, term, ..header() }, &payload);
        let mut bytes = built.bytes().clone();
        let frame = Frame::split_from(&mut bytes, 700, true).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(frame.header(), built.header());
        prop_assert_eq!(frame.header_crc(), built.header_crc());
        prop_assert_eq!(&frame.payload()[..], &payload[..]);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = UnstampedFrame::parse(BytesMut::from(&bytes[..]), 100);
        let _ = UnstampedRun::parse(BytesMut::from(&bytes[..]), 100);
        let _ = Frame::split_from(&mut Bytes::from(bytes), 100, true);
    }
}
