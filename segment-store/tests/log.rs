//! The log on the machine's own disk: what goes in comes out, by index, offset and time, across segments and openings.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use segment_store::fs::{Fs, RealFs, SimFs, ensure_dir};
use segment_store::{
    AppendError, Frame, Log, LogOptions, Preparer, PreparerOptions, ReadError, TailVerdict, kind,
};
use support::{Chain, bytes_of, identity, open, read_all, small};

fn real() -> (Arc<dyn Fs>, tempfile::TempDir) {
    (Arc::new(RealFs), tempfile::tempdir().unwrap())
}

/// Frames of mixed kinds and sizes, appended in groups of up to five and synced after each.
fn fill(log: &mut Log, count: usize) -> Vec<Frame> {
    let mut chain = Chain::after(log);
    let frames: Vec<Frame> = (0..count)
        .map(|n| match n % 7 {
            0 => chain.noop(),
            3 => chain.membership(),
            _ => chain.batch(40 + n * 37 % 900, n as u8),
        })
        .collect();
    for group in frames.chunks(5) {
        log.append(group).unwrap();
        assert_eq!(log.sync().unwrap(), group.last().unwrap().header().index);
    }
    frames
}

fn segment_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_log_is_empty_and_starts_at_index_one_and_offset_zero() {
    let (fs, dir) = real();
    let (log, recovered) = open(&fs, dir.path()).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (1, 0));
    assert_eq!((log.log_start(), log.next_offset()), (0, 0));
    assert_eq!(recovered.tail, TailVerdict::Clean);
    assert!(log.reader().read(1, u64::MAX, 100).unwrap().is_empty());
    drop(log);
    let (log, recovered) = open(&fs, dir.path()).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (1, 0));
    assert_eq!(recovered.tail, TailVerdict::Clean);
}

#[test]
fn frames_come_out_as_they_went_in_across_segments_and_openings() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let mut frames = fill(&mut log, 150);
    assert!(log.reader().segments() > 2, "the history must roll over");
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
    let before = (log.last_header_crc(), log.next_offset(), log.last_term());
    drop(log);
    let (mut log, recovered) = open(&fs, dir.path()).unwrap();
    assert_eq!(
        (log.last_header_crc(), log.next_offset(), log.last_term()),
        before
    );
    assert_eq!(recovered.tail, TailVerdict::Clean);
    assert_eq!(recovered.last_index, 150);
    let memberships: Vec<u64> = frames
        .iter()
        .filter(|frame| frame.header().kind == kind::MEMBERSHIP)
        .map(|frame| frame.header().index)
        .collect();
    assert_eq!(recovered.memberships, memberships);
    assert_eq!(recovered.term_runs, [(1, 1)]);
    frames.extend(fill(&mut log, 30));
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
}

#[test]
fn segments_grow_fourfold_up_to_the_maximum_and_a_large_frame_gets_one_of_its_own_size() {
    let (fs, dir) = real();
    let options = LogOptions {
        segment_bytes_max: 64 << 10,
        ..small()
    };
    let opened = Log::open(Arc::clone(&fs), dir.path(), identity(), options, None);
    let (mut log, _) = opened.unwrap();
    fill(&mut log, 300);
    let len = |name: &String| std::fs::metadata(dir.path().join(name)).unwrap().len();
    let lens: Vec<u64> = segment_files(dir.path()).iter().map(len).collect();
    assert_eq!(lens[..4], [12 << 10, 48 << 10, 64 << 10, 64 << 10]);
    let large = Chain::after(&log).batch(200_000, 9);
    log.append(std::slice::from_ref(&large)).unwrap();
    log.sync().unwrap();
    let lens: Vec<u64> = segment_files(dir.path()).iter().map(len).collect();
    assert!((200_000..220_000).contains(lens.last().unwrap()));
    let run = log.reader().read(301, u64::MAX, 10).unwrap();
    assert_eq!(run.bytes, large.bytes());
    // The one after it is of the usual size again.
    fill(&mut log, 10);
    let lens: Vec<u64> = segment_files(dir.path()).iter().map(len).collect();
    assert_eq!(lens.last(), Some(&(64 << 10)));
}

#[test]
fn a_first_segment_too_short_for_the_first_frame_is_replaced() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let frame = Chain::start().batch(50_000, 1);
    log.append(std::slice::from_ref(&frame)).unwrap();
    log.sync().unwrap();
    assert_eq!(segment_files(dir.path()).len(), 1);
    drop(log);
    let (log, recovered) = open(&fs, dir.path()).unwrap();
    assert_eq!(recovered.last_index, 1);
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&[frame]));
}

#[test]
fn one_append_may_span_several_segments() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let mut chain = Chain::start();
    let frames: Vec<Frame> = (0..90).map(|n| chain.batch(1_500, n)).collect();
    log.append(&frames).unwrap();
    assert_eq!(log.sync().unwrap(), 90);
    assert!(log.reader().segments() >= 4);
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
}

#[test]
fn reads_stay_within_last_index_and_byte_limit_but_give_at_least_one_frame() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let frames = fill(&mut log, 100);
    let reader = log.reader();
    for from in 1..=100 {
        for (last, bytes_max) in [
            (u64::MAX, 0),
            (from, 9_999),
            (from + 4, 2_000),
            (100, 1 << 20),
        ] {
            let run = reader.read(from, last, bytes_max).unwrap();
            assert!(run.last_index >= from && run.last_index <= last);
            assert!(run.bytes.len() <= bytes_max || run.last_index == from);
            let expected: Vec<u8> = frames[from as usize - 1..run.last_index as usize]
                .iter()
                .flat_map(|frame| frame.bytes().to_vec())
                .collect();
            assert_eq!(run.bytes, expected);
            let end = frames[run.last_index as usize - 1].header().next_offset();
            assert_eq!(run.next_offset, end);
        }
    }
    assert!(reader.read(5, 4, 1_000).unwrap().is_empty());
    assert!(reader.read(101, u64::MAX, 1_000).unwrap().is_empty());
    assert!(reader.read(u64::MAX, u64::MAX, 1_000).unwrap().is_empty());
    assert!(matches!(
        reader.read(0, 5, 10),
        Err(ReadError::Trimmed {
            index: 0,
            first_index: 1
        })
    ));
}

#[test]
fn every_offset_is_found_in_the_frame_that_holds_it() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let frames = fill(&mut log, 120);
    let reader = log.reader();
    for offset in 0..log.next_offset() {
        let holds = |frame: &&Frame| {
            let header = frame.header();
            (header.base_offset..header.next_offset()).contains(&offset)
        };
        let holder = frames.iter().find(holds).unwrap();
        assert_eq!(reader.seek_offset(offset).unwrap(), holder.header().index);
    }
    let end = log.next_offset();
    assert_eq!(reader.seek_offset(end).unwrap(), log.last_index() + 1);
    assert!(matches!(
        reader.seek_offset(end + 1),
        Err(ReadError::OffsetOutOfRange { log_start: 0, next_offset, .. }) if next_offset == end
    ));
}

#[test]
fn a_time_is_found_even_if_timestamps_go_back() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let mut chain = Chain::start();
    let frames: Vec<Frame> = (0..200u64)
        .map(|n| match n % 5 {
            4 => chain.noop(),
            _ => chain.frame(kind::RECORDS, 1, 1_000 + n * 10 - n % 3 * 25, &[7; 300]),
        })
        .collect();
    log.append(&frames).unwrap();
    let reader = log.reader();
    for time in (0..3_200).step_by(5) {
        let naive = frames
            .iter()
            .map(Frame::header)
            .find(|header| header.record_count > 0 && header.max_timestamp >= time)
            .map_or(201, |header| header.index);
        assert_eq!(reader.seek_time(time).unwrap(), naive, "time {time}");
    }
}

#[test]
fn a_truncated_log_goes_on_from_the_cut_in_a_fresh_file() {
    for index in [0, 1, 17, 60, 99, 100] {
        let (fs, dir) = real();
        let (mut log, _) = open(&fs, dir.path()).unwrap();
        let mut frames = fill(&mut log, 100);
        log.truncate_after(index).unwrap();
        frames.truncate(index as usize);
        assert_eq!((log.last_index(), log.durable_index()), (index, index));
        assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
        let mut chain = Chain::after(&log);
        chain.term = 2;
        let more: Vec<Frame> = (0..40).map(|n| chain.batch(333, 100 + n)).collect();
        log.append(&more).unwrap();
        log.sync().unwrap();
        frames.extend(more);
        assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
        drop(log);
        let (log, recovered) = open(&fs, dir.path()).unwrap();
        assert_eq!(recovered.tail, TailVerdict::Clean);
        let runs = if index == 0 {
            vec![(1, 2)]
        } else {
            vec![(1, 1), (index + 1, 2)]
        };
        assert_eq!(recovered.term_runs, runs);
        assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
    }
}

#[test]
fn terms_of_entries_that_were_cut_off_are_forgotten() {
    for (index, runs) in [
        (4, vec![(1, 1), (4, 2), (5, 5)]),
        (3, vec![(1, 1), (4, 5)]),
        (2, vec![(1, 1), (3, 5)]),
    ] {
        let (fs, dir) = real();
        let (mut log, _) = open(&fs, dir.path()).unwrap();
        let mut chain = Chain::start();
        let mut frames: Vec<Frame> = (0..3).map(|n| chain.batch(100, n)).collect();
        chain.term = 2;
        frames.extend((3..6).map(|n| chain.batch(100, n)));
        log.append(&frames).unwrap();
        log.sync().unwrap();
        log.truncate_after(index).unwrap();
        let mut chain = Chain::after(&log);
        chain.term = 5;
        log.append(&[chain.batch(100, 9)]).unwrap();
        log.sync().unwrap();
        drop(log);
        let (_, recovered) = open(&fs, dir.path()).unwrap();
        assert_eq!(recovered.term_runs, runs, "cut after {index}");
    }
}

#[test]
fn trimming_removes_whole_segments_and_a_slice_outlives_them() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let frames = fill(&mut log, 150);
    let reader = log.reader();
    let held = reader.read(1, u64::MAX, 4_000).unwrap();
    let files = segment_files(dir.path()).len();
    assert_eq!(log.trim_before(1).unwrap(), 1);
    let first = log.trim_before(100).unwrap();
    assert!(first > 1 && first <= 100);
    assert!(segment_files(dir.path()).len() < files);
    assert_eq!(reader.first_index(), first);
    assert_eq!(
        reader.log_start(),
        frames[first as usize - 1].header().base_offset
    );
    assert!(matches!(
        reader.read(1, 10, 100),
        Err(ReadError::Trimmed { first_index, .. }) if first_index == first
    ));
    assert!(matches!(
        reader.seek_offset(0),
        Err(ReadError::OffsetOutOfRange { .. })
    ));
    assert_eq!(held.bytes[..64], frames[0].bytes()[..64]);
    let kept = bytes_of(&frames[first as usize - 1..]);
    assert_eq!(read_all(&reader).unwrap(), kept);
    drop(log);
    let (log, recovered) = open(&fs, dir.path()).unwrap();
    assert_eq!(recovered.first_index, first);
    assert_eq!(recovered.prev_term, 1);
    assert_eq!(read_all(&log.reader()).unwrap(), kept);
}

#[test]
#[should_panic(expected = "cannot follow")]
fn a_frame_that_leaves_a_gap_is_never_written() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let mut chain = Chain::start();
    chain.noop();
    let gap = chain.noop();
    let _: Result<(), AppendError> = log.append(&[gap]);
}

#[test]
fn readers_on_other_threads_see_only_whole_frames_while_the_log_grows_and_is_trimmed() {
    let (fs, dir) = real();
    let (mut log, _) = open(&fs, dir.path()).unwrap();
    let reader = log.reader();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut chain = Chain::start();
            for n in 0..600u64 {
                let group: Vec<Frame> = (0..3).map(|k| chain.batch(200, k)).collect();
                log.append(&group).unwrap();
                if n % 100 == 99 {
                    log.trim_before(n).unwrap();
                }
            }
        });
        let mut next = 1;
        while next <= 1_800 {
            match reader.read(next, u64::MAX, 5_000) {
                Ok(run) => {
                    let mut bytes = run.bytes.clone();
                    while !bytes.is_empty() {
                        let frame = Frame::split_from(&mut bytes, 1_000, true).unwrap();
                        assert_eq!(frame.header().index, next);
                        next += 1;
                    }
                }
                Err(ReadError::Trimmed { first_index, .. }) => next = first_index,
                Err(error) => panic!("{error}"),
            }
        }
        writer.join().unwrap();
    });
}

/// A log whose first segment is a recycled file, full of bytes that are not zero; and what is in that file.
fn log_in_a_recycled_file() -> (Log, impl Fn() -> Vec<u8>) {
    const STALE: u8 = 0xEE;
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
    let (dir, pool, used) = (Path::new("/log"), Path::new("/pool"), Path::new("/used"));
    ensure_dir(fs.as_ref(), dir).unwrap();
    let preparer = Preparer::inline(Arc::clone(&fs), pool, PreparerOptions::default()).unwrap();
    let len = small().segment_bytes_first;
    let file = fs.create(used, len).unwrap();
    file.write_all_at(&vec![STALE; len as usize], 0).unwrap();
    preparer.recycle(used, file.map().unwrap()).unwrap();
    let opened = Log::open(Arc::clone(&fs), dir, identity(), small(), Some(preparer));
    let content = move || {
        let file = fs.open(&dir.join("00000000000000000001.segment")).unwrap();
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes.last(), Some(&STALE), "the file is a recycled one");
        bytes
    };
    (opened.unwrap().0, content)
}

#[test]
fn a_file_that_readers_of_an_earlier_log_may_hold_is_not_written_again() {
    let (fs, dir) = real();
    let (log_dir, pool) = (dir.path().join("log"), dir.path().join("pool"));
    ensure_dir(fs.as_ref(), &log_dir).unwrap();
    let preparer = Preparer::inline(Arc::clone(&fs), &pool, PreparerOptions::default()).unwrap();
    let open = || {
        let preparer = Some(preparer.clone());
        Log::open(Arc::clone(&fs), &log_dir, identity(), small(), preparer)
            .unwrap()
            .0
    };
    let mut log = open();
    let frames = fill(&mut log, 100);
    let held = log.reader().read(40, u64::MAX, 1).unwrap().bytes;
    log.close().unwrap();

    let mut log = open();
    fill(&mut log, 100);
    log.trim_before(100).unwrap();
    assert!(log.first_index() > 40, "its file is trimmed");
    // As many segments as there were, in whatever files there are.
    fill(&mut log, 200);
    assert_eq!(held, frames[39].bytes());
}

/// The length of a mark behind the last frame.
const MARK: usize = 64;

#[test]
fn a_short_write_takes_zeros_along_up_to_a_boundary_and_the_next_ones_need_none() {
    let (mut log, content) = log_in_a_recycled_file();
    let mut chain = Chain::start();
    let (first, second) = (chain.batch(300, 1), chain.batch(300, 2));
    log.append(std::slice::from_ref(&first)).unwrap();
    let end = 4096 + first.bytes().len() + MARK;
    let before = content();
    assert!(before[end..8192].iter().all(|byte| *byte == 0));
    assert!(before[8192..].iter().all(|byte| *byte != 0));
    log.append(std::slice::from_ref(&second)).unwrap();
    let after = content();
    assert_ne!(before[..8192], after[..8192]);
    assert_eq!(before[8192..], after[8192..]);
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&[first, second]));
}

#[test]
fn a_long_write_takes_no_zeros_along() {
    let (mut log, content) = log_in_a_recycled_file();
    let frame = Chain::start().batch(small().ahead_bytes_max as usize / 4, 1);
    log.append(std::slice::from_ref(&frame)).unwrap();
    let end = 4096 + frame.bytes().len() + MARK;
    assert!(content()[end..].iter().all(|byte| *byte != 0));
}

#[test]
fn a_write_past_the_page_cache_takes_zeros_to_the_end_of_a_sector_and_is_cold() {
    let (mut log, content) = log_in_a_recycled_file();
    let mut chain = Chain::start();
    let first = chain.batch(small().past_cache_bytes_min as usize, 1);
    log.append(std::slice::from_ref(&first)).unwrap();
    let end = 4096 + first.bytes().len() + MARK;
    assert!(end < 8192);
    assert!(content()[end..8192].iter().all(|byte| *byte == 0));
    assert!(content()[8192..].iter().all(|byte| *byte != 0));
    let reader = log.reader();
    assert!(reader.is_cold(1, usize::MAX));

    // Whoever begins to read finds what comes after in memory.
    reader.note_consumer();
    let second = chain.batch(small().past_cache_bytes_min as usize, 1);
    log.append(std::slice::from_ref(&second)).unwrap();
    assert!(reader.is_cold(1, usize::MAX));
    assert!(!reader.is_cold(2, usize::MAX));
    assert_eq!(read_all(&reader).unwrap(), bytes_of(&[first, second]));
}

/// Bugs that other systems had, each to be caught by a test of this file.
#[cfg(plimsoll_mutations)]
#[test]
fn mutations_are_caught() {
    use segment_store::mutation::{Bug, assert_each_is_caught};

    let caught = assert_each_is_caught(&[
        Bug {
            name: "what lies behind the tail is read",
            real: "66",
            test: "frames_come_out_as_they_went_in_across_segments_and_openings",
        },
        Bug {
            name: "a new segment begins at an offset that is taken",
            real: "59",
            test: "frames_come_out_as_they_went_in_across_segments_and_openings",
        },
        Bug {
            name: "terms of what was cut stay in the footer",
            real: "63",
            test: "terms_of_entries_that_were_cut_off_are_forgotten",
        },
    ]);
    eprintln!("{caught}");
}
