//! The footer, byte by byte, and when it does not count.

use std::sync::Arc;

use super::*;
use crate::fs::{Fs, RealFs};
use crate::log::LogIdentity;

const FILE_LEN: u64 = 16 << 10;
const SEGMENT_CRC: u32 = 0xbaad_f00d;

fn header() -> SegmentHeader {
    SegmentHeader {
        identity: LogIdentity {
            cluster: [1; 16],
            group: 0x0102,
        },
        generation: 3,
        base_index: 10,
        base_offset: 100,
        prev_term: 1,
        prev_header_crc: 2,
        file_len: FILE_LEN,
        anew: false,
        after_loss: false,
    }
}

fn contents() -> Contents {
    Contents {
        base_index: 10,
        last_index: 14,
        last_term: 5,
        last_header_crc: 0x5152_5354,
        next_offset: 0x2222,
        end_position: 0x1240,
        max_timestamp: 0x3333,
        term_runs: vec![(10, 4), (13, 5)],
        memberships: vec![12],
    }
}

fn index() -> SparseIndex {
    let entry = |index, position| IndexEntry {
        index,
        base_offset: index * 10,
        position,
        max_timestamp: 0x44,
    };
    // The second entry is of a frame that was cut off: it is not stored.
    SparseIndex::of(&[entry(10, 4096), entry(15, 0x1240)])
}

#[test]
fn the_footer_has_these_bytes() {
    let bytes = encode(&contents(), &index(), &header(), SEGMENT_CRC);
    let mut golden = vec![0; 56];
    let words = [10, 100, 4096, 0x44, 10, 4, 13, 5, 12];
    golden.extend(words.iter().flat_map(|word: &u64| word.to_le_bytes()));
    golden.extend(b"PLIMFOOT");
    let numbers: [u32; 6] = [1, 0x9f236308, 0x14592078, 1, 2, 1];
    golden.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    let words: [u64; 7] = [0x0102, 10, 14, 0x1240, 0x2222, 5, 0x3333];
    golden.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    golden.extend([0x54, 0x53, 0x52, 0x51, 0x0d, 0xf0, 0xad, 0xba]);
    golden.resize(golden.len() + 32, 0);
    assert_eq!(bytes.len() % 64, 0);
    assert_eq!(bytes, golden);
}

fn planted(bytes: &[u8]) -> (tempfile::TempDir, Arc<dyn FsFile>) {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create(&dir.path().join("f"), FILE_LEN).unwrap();
    file.write_all_at(bytes, FILE_LEN - bytes.len() as u64)
        .unwrap();
    (dir, file)
}

#[test]
fn a_footer_comes_back_without_the_entries_of_frames_cut_off() {
    let bytes = encode(&contents(), &index(), &header(), SEGMENT_CRC);
    let (_dir, file) = planted(&bytes);
    let (found, entries) = read(file.as_ref(), &header(), SEGMENT_CRC)
        .unwrap()
        .unwrap();
    assert_eq!(found, contents());
    assert_eq!(entries.entries(), index().entries()[..1]);
}

#[test]
fn a_footer_with_any_byte_changed_does_not_count() {
    let bytes = encode(&contents(), &index(), &header(), SEGMENT_CRC);
    let (_dir, file) = planted(&bytes);
    // The 56 bytes in front only fill up to a multiple of 64.
    for at in 56..bytes.len() {
        let position = FILE_LEN - (bytes.len() - at) as u64;
        file.write_all_at(&[bytes[at] ^ 0x10], position).unwrap();
        let found = read(file.as_ref(), &header(), SEGMENT_CRC).unwrap();
        assert!(found.is_none(), "byte {at}");
        file.write_all_at(&bytes[at..=at], position).unwrap();
    }
}

#[test]
fn the_footer_of_a_recycled_files_former_life_does_not_count() {
    let bytes = encode(&contents(), &index(), &header(), SEGMENT_CRC);
    let (_dir, file) = planted(&bytes);
    let other_life = read(file.as_ref(), &header(), SEGMENT_CRC ^ 1).unwrap();
    assert!(other_life.is_none());
    let later = SegmentHeader {
        base_index: 11,
        ..header()
    };
    assert!(read(file.as_ref(), &later, SEGMENT_CRC).unwrap().is_none());
}

#[test]
fn counts_that_pass_the_file_are_refused_before_anything_is_allocated() {
    let mut bytes = encode(&contents(), &index(), &header(), SEGMENT_CRC);
    let trailer = bytes.len() - TRAILER_LEN;
    for at in [20, 24, 28] {
        let mut bomb = bytes.split_off(trailer);
        let kept = bomb.clone();
        put_u32(&mut bomb, at, u32::MAX);
        let crc = crate::format::crc_but(&bomb, 12);
        put_u32(&mut bomb, 12, crc);
        let (_dir, file) = planted(&bomb);
        assert!(
            read(file.as_ref(), &header(), SEGMENT_CRC)
                .unwrap()
                .is_none()
        );
        bytes.extend(kept);
    }
}
