//! Header page, marks and names, byte by byte, and what is refused.

use super::*;

fn identity() -> LogIdentity {
    LogIdentity {
        cluster: *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf",
        group: 0x0102_0304_0506_0708,
    }
}

fn sample() -> SegmentHeader {
    SegmentHeader {
        identity: identity(),
        generation: 0x1112,
        base_index: 0x2122,
        base_offset: 0x3132,
        prev_term: 0x4142,
        prev_header_crc: 0x5152_5354,
        file_len: 0x10_0000,
        anew: false,
        after_loss: false,
    }
}

fn decode(page: &[u8]) -> Result<(SegmentHeader, u32), OpenError> {
    SegmentHeader::decode(page, Path::new("x.segment"), 0x10_0000, Some(identity()))
}

/// Gives a changed page a checksum that fits.
fn with_crc(mut page: Vec<u8>) -> Vec<u8> {
    let crc = crc_but(&page[..HEADER_BYTES], 12);
    put_u32(&mut page, 12, crc);
    page
}

#[test]
fn the_header_page_has_these_bytes() {
    let (page, crc) = sample().encode();
    #[rustfmt::skip]
    let golden: [u8; 88] = [
        b'P', b'L', b'I', b'M', b'S', b'E', b'G', b'M',
        1, 0, 0, 0,                                     // version
        0x9d, 0x02, 0x57, 0xf6,                         // header_crc
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, // cluster
        0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, // group
        0x12, 0x11, 0, 0, 0, 0, 0, 0,                   // generation
        0x22, 0x21, 0, 0, 0, 0, 0, 0,                   // base_index
        0x32, 0x31, 0, 0, 0, 0, 0, 0,                   // base_offset
        0x42, 0x41, 0, 0, 0, 0, 0, 0,                   // prev_term
        0x54, 0x53, 0x52, 0x51, 0, 0, 0, 0,             // prev_header_crc, zero
        0, 0, 0x10, 0, 0, 0, 0, 0,                      // file_len
    ];
    assert_eq!(page[..88], golden);
    assert_eq!(page.len(), 4096);
    assert!(page[88..].iter().all(|&byte| byte == 0));
    assert_eq!(crc, 0xf657_029d);
    assert_eq!(decode(&page).unwrap(), (sample(), crc));
}

#[test]
fn the_header_page_of_a_log_that_starts_anew_says_so_at_76() {
    let header = SegmentHeader {
        anew: true,
        ..sample()
    };
    let (page, crc) = header.encode();
    assert_eq!(page[76..80], [1, 0, 0, 0]);
    assert_eq!(decode(&page).unwrap(), (header, crc));
    let mut unknown = page;
    unknown[76] = 2;
    assert!(matches!(
        decode(&with_crc(unknown)),
        Err(OpenError::DamagedHeader { .. })
    ));
}

#[test]
fn trim_marks_lie_at_560_and_584_and_the_older_one_is_written_over() {
    let (mut page, crc) = sample().encode();
    assert_eq!(TrimMarks::of_new(0, &mut page, crc), TrimMarks::default());
    assert_eq!(TrimMarks::decode(&page, crc).first(), 0);
    let mut marks = TrimMarks::of_new(0x0102, &mut page, crc);
    assert_eq!(
        page[560..572],
        [2, 1, 0, 0, 0, 0, 0, 0, 0x9d, 2, 0x57, 0xf6]
    );
    assert_eq!(TrimMarks::decode(&page, crc), marks);
    let places = [(0x0103, 584), (0x0103, 584), (0x0104, 560), (0x0109, 584)];
    for (first, place) in places {
        let (mark, at) = marks.renewed(first, crc);
        assert_eq!(at, place, "{first:#x}");
        page[at as usize..][..DURABLE_MARK_LEN].copy_from_slice(&mark);
        assert_eq!(TrimMarks::decode(&page, crc), marks);
        assert_eq!(marks.first(), first);
    }
    // One that is not whole leaves what the other says.
    page[584] ^= 1;
    assert_eq!(TrimMarks::decode(&page, crc).first(), 0x0104);
    assert_eq!(TrimMarks::decode(&page, crc ^ 1).first(), 0);
    assert_eq!(decode(&page).unwrap().0, sample());
}

#[test]
fn the_marks_have_these_bytes() {
    #[rustfmt::skip]
    let durable: [u8; DURABLE_MARK_LEN] = [
        0x34, 0x12, 0, 0, 0, 0, 0, 0, // durable_index
        0x0d, 0xf0, 0xad, 0xba,       // segment_crc
        0xe1, 0x1b, 0x74, 0x4a,       // crc
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(encode_durable_mark(0x1234, 0xbaad_f00d), durable);
    let mark = EndMark {
        last_index: 0x1234,
        durable_index: 0x1230,
        last_header_crc: 0x5152_5354,
    };
    #[rustfmt::skip]
    let end: [u8; END_MARK_LEN] = [
        0, b'E', b'N', b'D',
        0x9c, 0x8a, 0x2d, 0x38,                         // crc
        0x34, 0x12, 0, 0, 0, 0, 0, 0,                   // last_index
        0x30, 0x12, 0, 0, 0, 0, 0, 0,                   // durable_index
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, // group
        0x54, 0x53, 0x52, 0x51,                         // last_header_crc
        0x0d, 0xf0, 0xad, 0xba,                         // segment_crc
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, // cluster
        0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let encoded = mark.encode(&identity(), 0xbaad_f00d);
    assert_eq!(encoded, end);
    let decoded = EndMark::decode(&encoded, &identity(), 0xbaad_f00d);
    assert_eq!(decoded, Some(mark));
}

#[test]
fn a_durable_mark_counts_only_if_it_is_whole_and_of_this_segment() {
    let (mut page, crc) = sample().encode();
    assert_eq!(decode_durable_mark(&page, crc), 0);
    let at = DURABLE_MARK_AT as usize;
    page[at..at + DURABLE_MARK_LEN].copy_from_slice(&encode_durable_mark(77, crc));
    assert_eq!(decode_durable_mark(&page, crc), 77);
    assert_eq!(decode(&page).unwrap().0, sample());
    assert_eq!(decode_durable_mark(&page, crc ^ 1), 0);
    for bit in 0..DURABLE_MARK_LEN * 8 {
        let mut flipped = page.clone();
        flipped[at + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode_durable_mark(&flipped, crc), 0, "bit {bit}");
    }
}

#[test]
fn an_end_mark_counts_only_if_it_is_whole_and_of_this_segment() {
    let mark = EndMark {
        last_index: 9,
        durable_index: 8,
        last_header_crc: 7,
    };
    let bytes = mark.encode(&identity(), 5);
    assert_eq!(EndMark::decode(&bytes, &identity(), 6), None);
    let other_group = LogIdentity {
        group: 1,
        ..identity()
    };
    assert_eq!(EndMark::decode(&bytes, &other_group, 5), None);
    assert_eq!(EndMark::decode(&bytes[..63], &identity(), 5), None);
    for bit in 0..END_MARK_LEN * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(EndMark::decode(&flipped, &identity(), 5), None, "bit {bit}");
    }
}

#[test]
fn a_flip_of_any_bit_of_the_header_is_noticed() {
    let (page, _) = sample().encode();
    for bit in 0..HEADER_BYTES * 8 {
        let mut flipped = page.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn foreign_newer_and_cut_files_are_refused_by_name_with_what_to_do() {
    let (page, _) = sample().encode();
    let mut newer = page.clone();
    newer[8] = 2;
    let newer = decode(&with_crc(newer)).unwrap_err().to_string();
    assert!(
        newer.contains("x.segment") && newer.contains("version 2") && newer.contains("upgrade")
    );
    for at in [16, 32] {
        let mut foreign = page.clone();
        foreign[at] ^= 1;
        let foreign = decode(&with_crc(foreign)).unwrap_err();
        assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    }
    let cut = SegmentHeader::decode(&page, Path::new("x"), 0xf_f000, None).unwrap_err();
    assert!(matches!(
        cut,
        OpenError::Truncated {
            expected: 0x10_0000,
            actual: 0xf_f000,
            ..
        }
    ));
    for len in [0, 1, 511, 4095] {
        let short = SegmentHeader::decode(&page[..len], Path::new("x"), len as u64, None);
        assert!(matches!(short, Err(OpenError::Truncated { .. })));
    }
    let text = decode(&[b'#'; 4096]).unwrap_err();
    assert!(matches!(text, OpenError::NotASegment { .. }));
    let mut no_base = page;
    no_base[48..56].fill(0);
    let no_base = decode(&with_crc(no_base)).unwrap_err();
    assert!(matches!(no_base, OpenError::DamagedHeader { .. }));
}

#[test]
fn names_of_segments_sort_by_generation_and_nothing_else_is_taken_for_one() {
    let path = segment_path(Path::new("d"), 12);
    assert_eq!(path, Path::new("d/00000000000000000012.segment"));
    let parse = FileName::parse;
    assert_eq!(parse("00000000000000000012.segment"), FileName::Segment(12));
    let unborn = unborn_path(Path::new(""), 12);
    assert_eq!(parse(unborn.to_str().unwrap()), FileName::Unborn);
    for other in [
        "ballot",
        "12.segment",
        ".segment",
        "0000000000000000001x.segment",
        "99999999999999999999.segment",
    ] {
        assert_eq!(parse(other), FileName::Other, "{other}");
    }
}
