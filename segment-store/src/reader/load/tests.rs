//! Tests of stretches: from the disk and from the page cache alike, whole, in order, bounded, and never a frame that is not what was written.

use std::path::{Path, PathBuf};

use super::*;
use crate::format::kind;
use crate::fs::{Fs, RealFs, SimFs, ensure_dir};
use crate::segment::HEADER_PAGE;
use crate::{Log, LogIdentity, LogOptions};

const GROUP: u64 = 7;

fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Log {
    ensure_dir(fs.as_ref(), dir).unwrap();
    let identity = LogIdentity {
        cluster: [1; 16],
        group: GROUP,
    };
    let options = LogOptions {
        segment_bytes_max: 16 << 20,
        segment_bytes_first: 8 << 20,
        ..LogOptions::default()
    };
    let opened = Log::open(Arc::clone(fs), dir, identity, options, None);
    opened.unwrap().0
}

/// Appends frames with payloads of these lengths and syncs.
fn fill(log: &mut Log, lengths: &[usize]) {
    for (n, len) in lengths.iter().enumerate() {
        let header = FrameHeader {
            kind: kind::RECORDS,
            codec: 0,
            flags: 0,
            index: log.last_index() + 1,
            term: 1,
            base_offset: log.next_offset(),
            max_timestamp: 0,
            payload_len: 0,
            payload_crc: 0,
            prev_header_crc: log.last_header_crc(),
            record_count: 2,
            group: GROUP,
        };
        let frame = Frame::build(header, &vec![n as u8; *len]);
        log.append(&[frame]).unwrap();
    }
    log.sync().unwrap();
}

/// A log of small frames, of frames as long as a reply, and of one longer than a block.
fn filled(fs: &Arc<dyn Fs>, dir: &Path) -> Log {
    let mut log = open(fs, dir);
    let mut lengths = vec![1_000; 3_000];
    lengths.extend([1 << 20; 6]);
    lengths.push(5 << 20);
    lengths.extend([70_000; 60]);
    fill(&mut log, &lengths);
    log
}

/// The same on a real disk, in a folder that is kept as long as the first of these.
fn on_disk() -> (tempfile::TempDir, PathBuf, Arc<dyn Fs>, Log) {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("log");
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let log = filled(&fs, &dir);
    (keep, dir, fs, log)
}

/// Has nothing of the log in the page cache, as far as the file system keeps it elsewhere.
fn let_go(fs: &dyn Fs, dir: &Path) {
    for name in fs.list(dir).unwrap() {
        let file = fs.open(&dir.join(name)).unwrap();
        file.let_go(0..file.len());
    }
}

/// All frames, stretch by stretch.
fn load_all(reader: &LogReader, memory: Option<&LoadMemory>, run_bytes_max: usize) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::new(), 1);
    let (mut stretches, mut known) = (0, 0);
    while next <= reader.last_index() {
        let known_end = reader.stretch_end(next);
        let runs = reader.load(next, u64::MAX, run_bytes_max, memory).unwrap();
        let end = runs.last().unwrap().last_index + 1;
        assert!(known_end.is_none_or(|known| known == end));
        stretches += 1;
        known += usize::from(known_end.is_some());
        for run in runs {
            assert_eq!(run.first_index, next);
            let frames = run.last_index + 1 - run.first_index;
            assert!(frames == 1 || run.bytes.len() <= run_bytes_max);
            assert_eq!(run.next_offset, run.last_index * 2);
            bytes.extend_from_slice(&run.bytes);
            next = run.last_index + 1;
        }
    }
    // All but the longest frame and the end of the log.
    assert_eq!(known, stretches - 2);
    bytes
}

/// All frames, as they lie in the map.
fn read_all(reader: &LogReader) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::new(), 1);
    while next <= reader.last_index() {
        let run = reader.read(next, u64::MAX, 1 << 20).unwrap();
        bytes.extend_from_slice(&run.bytes);
        next = run.last_index + 1;
    }
    bytes
}

#[test]
fn stretches_from_the_disk_and_from_the_page_cache_are_the_frames_that_were_written() {
    let (_keep, dir, fs, log) = on_disk();
    let reader = log.reader();
    let expected = read_all(&reader);
    let memory = LoadMemory::new(2 * BLOCK_BYTES);
    reader.unmap_pages();
    let_go(fs.as_ref(), &dir);
    let first = Arc::clone(&reader.shared.segments.load()[0]);
    let range = SECTOR_BYTES..1 << 20;
    let on_disk_alone = !first.map.is_resident(range.clone());
    for run_bytes_max in [1, 100_000, 1 << 20] {
        assert!(load_all(&reader, Some(&memory), run_bytes_max) == expected);
    }
    if on_disk_alone {
        assert!(!first.map.is_resident(range.clone()), "read past the cache");
    }
    assert!(load_all(&reader, None, 1 << 20) == expected);
    assert!(first.map.is_resident(range), "read through the cache");
}

/// Whose step is far shorter than a block, and than some frames: no more is read at a time than it looks at, for acks wait for the same disk.
#[test]
fn search_for_damage_meets_every_frame_in_short_steps_and_leaves_the_page_cache_as_it_is() {
    const STEP_BYTES: usize = 100_000;
    let (_keep, dir, fs, log) = on_disk();
    let reader = log.reader();
    let memory = LoadMemory::new(BLOCK_BYTES);
    let first = Arc::clone(&reader.shared.segments.load()[0]);
    let frames = SECTOR_BYTES..(3 << 20) + (1 << 19);
    let_go(fs.as_ref(), &dir);
    let on_disk_alone = !first.map.is_resident(frames.clone());
    let mut next = 1;
    while next <= reader.last_index() {
        let checked = reader.check_from(next, u64::MAX, STEP_BYTES, Some(&memory));
        let (last, bytes) = checked.unwrap().unwrap();
        // The short frames; a long one is read whole, with what lies between it and the index entry before it.
        let fits = bytes <= STEP_BYTES as u64 + HEADER_PAGE;
        assert!(fits || last > 3_000, "{bytes} bytes in a step");
        next = last + 1;
    }
    assert_eq!(next, reader.last_index() + 1);
    if on_disk_alone {
        assert!(!first.map.is_resident(frames), "read past the cache");
    }
    let behind = reader.check_from(next, u64::MAX, STEP_BYTES, None);
    assert!(behind.unwrap().is_none());
}

#[test]
fn a_load_goes_through_the_page_cache_when_the_memory_is_used_up() {
    let (_keep, dir, fs, log) = on_disk();
    let reader = log.reader();
    let memory = LoadMemory::new(BLOCK_BYTES);
    let block = memory.take().unwrap();
    reader.unmap_pages();
    let_go(fs.as_ref(), &dir);
    let runs = reader.load(1, u64::MAX, 1 << 20, Some(&memory)).unwrap();
    assert_eq!(runs[0].first_index, 1);
    let first = Arc::clone(&reader.shared.segments.load()[0]);
    assert!(first.map.is_resident(SECTOR_BYTES..1 << 20));
    drop(block);
}

#[test]
fn nothing_after_the_last_index_allowed_is_loaded_and_past_the_end_is_nothing() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new(7));
    let dir = Path::new("log");
    let mut log = open(&fs, dir);
    fill(&mut log, &[500; 40]);
    let reader = log.reader();
    let runs = reader.load(5, 9, 1 << 20, None).unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].first_index, runs[0].last_index), (5, 9));
    assert!(reader.load(10, 9, 1 << 20, None).unwrap().is_empty());
    assert!(reader.load(41, 50, 1 << 20, None).unwrap().is_empty());
}

#[test]
fn a_file_that_took_another_ones_name_is_not_read_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let file = RealFs.create(&path, 4 * SECTOR_BYTES as u64).unwrap();
    file.write_all_at(&[1; SECTOR_BYTES], 0).unwrap();
    file.sync_data().unwrap();
    let map = file.map().unwrap();
    let memory = LoadMemory::new(BLOCK_BYTES);
    let mut block = memory.take().unwrap();
    let buffer = &mut block.bytes_mut()[..SECTOR_BYTES];
    if map.read_past_cache(&path, buffer, 0).unwrap() {
        assert!(buffer.iter().all(|byte| *byte == 1));
    }
    RealFs.rename(&path, &dir.path().join("b")).unwrap();
    assert!(!map.read_past_cache(&path, buffer, 0).unwrap());
    let other = RealFs.create(&path, 4 * SECTOR_BYTES as u64).unwrap();
    other.sync_data().unwrap();
    assert!(!map.read_past_cache(&path, buffer, 0).unwrap());
    assert!(
        !map.read_past_cache(&dir.path().join("b"), buffer, 16 * 4096)
            .unwrap()
    );
}

#[test]
fn a_frame_that_rotted_is_damage_and_an_unreadable_sector_an_error() {
    let sim = SimFs::new(7);
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let dir = Path::new("log");
    let mut log = open(&fs, dir);
    fill(&mut log, &[5_000; 40]);
    let reader = log.reader();
    let name = fs
        .list(dir)
        .unwrap()
        .into_iter()
        .find(|name| fs.open(&dir.join(name)).unwrap().len() == 8 << 20);
    let path = dir.join(name.unwrap());
    let file = fs.open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    let rotted = |from| reader.load(from, u64::MAX, 1 << 20, None);
    assert!(matches!(
        rotted(1),
        Err(ReadError::Damaged { index: 19, .. })
    ));
    // What begins behind it does not meet it.
    assert_eq!(rotted(30).unwrap()[0].first_index, 30);

    sim.make_unreadable(&path, 3 * SECTOR_BYTES as u64);
    let unreadable = reader.load(1, u64::MAX, 1 << 20, None).unwrap_err();
    assert!(matches!(unreadable, ReadError::Fault(_)) && unreadable.is_damage());
}
