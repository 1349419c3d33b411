//! The frame header, byte by byte, and what decoding refuses.

use super::*;

fn sample() -> FrameHeader {
    FrameHeader {
        kind: kind::RECORDS,
        codec: codec::ZSTD,
        flags: 0,
        index: 0x0102_0304_0506_0708,
        term: 0x1112_1314_1516_1718,
        base_offset: 0x2122_2324_2526_2728,
        max_timestamp: 0x3132_3334_3536_3738,
        payload_len: 0x4142_4344,
        payload_crc: 0x5152_5354,
        prev_header_crc: 0x6162_6364,
        record_count: 0x7172_7374,
        group: 0x8182_8384_8586_8788,
    }
}

/// Encodes without the checks, as a foreign program might.
fn with_crc(mut bytes: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    let crc = crc_but(&bytes, 4);
    put_u32(&mut bytes, 4, crc);
    bytes
}

#[test]
fn the_header_has_these_64_bytes() {
    #[rustfmt::skip]
    let golden: [u8; HEADER_LEN] = [
        1, 1, 2, 0,                                     // version, kind, codec, flags
        0x6b, 0xf8, 0x2c, 0xc7,                         // header_crc
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, // index
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, // term
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, // base_offset
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, // max_timestamp
        0x44, 0x43, 0x42, 0x41,                         // payload_len
        0x54, 0x53, 0x52, 0x51,                         // payload_crc
        0x64, 0x63, 0x62, 0x61,                         // prev_header_crc
        0x74, 0x73, 0x72, 0x71,                         // record_count
        0x88, 0x87, 0x86, 0x85, 0x84, 0x83, 0x82, 0x81, // group
    ];
    assert_eq!(sample().encode(), golden);
    assert_eq!(FrameHeader::decode(&golden), Ok((sample(), 0xc72c_f86b)));
}

#[test]
fn a_frame_is_header_payload_and_zeros_up_to_a_multiple_of_64() {
    for (payload_len, frame_len) in [(0, 64), (1, 128), (64, 128), (65, 192), (1_000, 1_088)] {
        let header = FrameHeader {
            payload_len,
            ..sample()
        };
        assert_eq!(header.frame_len(), frame_len);
    }
}

#[test]
fn a_flip_of_any_bit_of_the_header_is_noticed() {
    let bytes = sample().encode();
    for bit in 0..HEADER_LEN * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(FrameHeader::decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_header_cut_short_is_refused_at_every_length() {
    let bytes = sample().encode();
    for len in 0..HEADER_LEN {
        let short = FrameError::Short {
            need: HEADER_LEN,
            have: len,
        };
        assert_eq!(FrameHeader::decode(&bytes[..len]), Err(short));
    }
}

#[test]
fn unknown_versions_kinds_codecs_and_senseless_counts_are_refused() {
    let mut version = sample().encode();
    version[0] = 2;
    let version = FrameHeader::decode(&with_crc(version));
    assert_eq!(version, Err(FrameError::Version { version: 2 }));
    for kind in [0, kind::KAFKA_V2, 6, 255] {
        let bytes = FrameHeader { kind, ..sample() }.encode();
        assert_eq!(FrameHeader::decode(&bytes), Err(FrameError::Kind { kind }));
    }
    let bytes = FrameHeader {
        codec: 3,
        ..sample()
    }
    .encode();
    assert_eq!(
        FrameHeader::decode(&bytes),
        Err(FrameError::Codec { codec: 3 })
    );
    for (kind, count) in [(kind::RECORDS, 0), (kind::NOOP, 1), (kind::MEMBERSHIP, 9)] {
        let header = FrameHeader {
            kind,
            record_count: count,
            ..sample()
        };
        let refused = FrameError::RecordCount { kind, count };
        assert_eq!(FrameHeader::decode(&header.encode()), Err(refused));
    }
    let header = FrameHeader {
        base_offset: u64::MAX,
        ..sample()
    };
    assert_eq!(
        FrameHeader::decode(&header.encode()),
        Err(FrameError::Overflow)
    );
}

#[test]
fn zeros_are_no_header() {
    assert_eq!(
        FrameHeader::decode(&[0; HEADER_LEN]),
        Err(FrameError::Version { version: 0 })
    );
}
