//! Damaged, cut, foreign and senseless files: every flipped byte is noticed or harmless, nothing panics, nothing is deleted.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use segment_store::fs::{Fs, SimFs, ensure_dir};
use segment_store::{
    Frame, Log, LogBase, LogIdentity, LogReader, OpenError, ReadError, Repair, TailVerdict, verify,
};
use support::{Chain, PAYLOAD_MAX, bytes_of, identity, open, read_all, small};

const DIR: &str = "/log";

/// A log's files, to be put on as many disks as it takes.
struct Files {
    files: Vec<(PathBuf, Vec<u8>)>,
    frames: Vec<Bytes>,
    /// How many of the frames were synced.
    acked: usize,
}

fn disk() -> (SimFs, Arc<dyn Fs>) {
    let sim = SimFs::new(1);
    ensure_dir(&sim, Path::new(DIR)).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    (sim, fs)
}

impl Files {
    /// A sealed segment and a tail: fifteen synced frames in three groups, `unsynced` more; closed in good order or killed.
    fn make(unsynced: usize, close: bool) -> Files {
        let (sim, fs) = disk();
        let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
        let mut chain = Chain::start();
        let mut frames = Vec::new();
        for n in 0..15 {
            frames.push(match n % 6 {
                2 => chain.noop(),
                4 => chain.membership(),
                _ => chain.batch(700 + n * 10, n as u8),
            });
        }
        for group in frames.chunks(5) {
            log.append(group).unwrap();
            log.sync().unwrap();
        }
        let acked = frames.len();
        let more: Vec<Frame> = (0..unsynced).map(|_| chain.batch(100, 77)).collect();
        if !more.is_empty() {
            log.append(&more).unwrap();
            frames.extend(more);
        }
        assert_eq!(log.reader().segments(), 2);
        if close {
            log.close().unwrap();
        } else {
            drop(log);
        }
        Files {
            files: read_files(&sim),
            frames: bytes_of(&frames),
            acked,
        }
    }

    fn planted(&self) -> (SimFs, Arc<dyn Fs>) {
        let (sim, fs) = disk();
        for (path, bytes) in &self.files {
            sim.plant(path, bytes.clone());
        }
        (sim, fs)
    }
}

fn read_files(sim: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    let names = sim.list(Path::new(DIR)).unwrap();
    let read = |name: String| {
        let path = Path::new(DIR).join(name);
        let file = sim.open_read(&path).unwrap();
        let mut bytes = vec![0; file.len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (path, bytes)
    };
    names.into_iter().map(read).collect()
}

/// Frames up to the first one that is refused, each checked as its consumer would.
fn read_until_refused(reader: &LogReader) -> (Vec<Bytes>, bool) {
    let mut frames = Vec::new();
    let mut next = reader.first_index();
    while next <= reader.last_index() {
        let Ok(run) = reader.read(next, u64::MAX, 2_000) else {
            return (frames, true);
        };
        let mut bytes = run.bytes;
        while !bytes.is_empty() {
            match Frame::split_from(&mut bytes, PAYLOAD_MAX, true) {
                Ok(frame) if frame.header().index == next => frames.push(frame.bytes().clone()),
                _ => return (frames, true),
            }
            next += 1;
        }
    }
    (frames, false)
}

/// Opens with one byte changed. Wrong frames must never come out, and synced ones must never be missing without a word.
fn check_flip(files: &Files, file: usize, position: usize, mask: u8) {
    let (sim, fs) = files.planted();
    let (path, bytes) = &files.files[file];
    let mut bytes = bytes.clone();
    bytes[position] ^= mask;
    sim.plant(path, bytes);
    let context = format!("{} byte {position} mask {mask:#x}", path.display());
    let before = read_files(&sim);
    let (log, recovered) = match open(&fs, Path::new(DIR)) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(error.to_string().contains(".segment"), "{context}: {error}");
            if error.is_damage() {
                let report = verify(&sim, Path::new(DIR)).unwrap();
                assert!(!report.is_sound(), "{context}");
            }
            assert_eq!(
                read_files(&sim),
                before,
                "{context}: nothing may be written"
            );
            return;
        }
    };
    let (found, refused) = read_until_refused(&log.reader());
    assert_eq!(found, files.frames[..found.len()], "{context}");
    let last = recovered.last_index as usize;
    assert!(
        last >= files.acked,
        "{context}: silently ends at {last}: {recovered:?}"
    );
    assert!(refused || found.len() == last, "{context}");
    let sound = verify(&sim, Path::new(DIR)).unwrap().is_sound();
    assert_eq!(sound, !refused, "{context}: verify and reading disagree");
}

#[test]
fn a_flip_of_any_byte_of_a_closed_log_is_noticed_or_harmless() {
    let files = Files::make(0, true);
    for file in 0..files.files.len() {
        for position in 0..files.files[file].1.len() {
            check_flip(&files, file, position, 1 << (position % 8));
        }
    }
}

#[test]
fn a_flip_of_any_byte_of_a_killed_logs_tail_is_noticed_or_harmless() {
    for unsynced in [0, 3] {
        let files = Files::make(unsynced, false);
        let tail = files.files.len() - 1;
        for position in 0..files.files[tail].1.len() {
            check_flip(&files, tail, position, 0xff);
        }
    }
}

#[test]
fn a_log_damaged_in_the_middle_is_refused_and_left_as_it_is() {
    let files = Files::make(0, false);
    let (sim, fs) = files.planted();
    let tail = &files.files[1].0;
    sim.flip_bit(tail, 4096 + 70, 0);
    let before = read_files(&sim);
    let refused = open(&fs, Path::new(DIR)).unwrap_err();
    let OpenError::Damaged { path, index } = &refused else {
        panic!("{refused:?}");
    };
    assert!(refused.is_damage() && refused.to_string().contains("repair"));
    assert_eq!(path, tail);
    let report = verify(&sim, Path::new(DIR)).unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].index, *index);
    assert_eq!(report.problems[0].position, 4096);
    assert_eq!(read_files(&sim), before);
}

#[test]
fn a_missing_segment_is_damage_wherever_it_is_missing() {
    let (sim, fs) = disk();
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut chain = Chain::start();
    let frames: Vec<Frame> = (0..40).map(|n| chain.batch(2_000, n)).collect();
    log.append(&frames).unwrap();
    log.close().unwrap();
    let files = read_files(&sim);
    assert!(files.len() >= 4);
    for missing in 1..files.len() {
        let (sim, fs) = disk();
        for (at, (path, bytes)) in files.iter().enumerate() {
            if at != missing {
                sim.plant(path, bytes.clone());
            }
        }
        if missing + 1 < files.len() {
            let refused = open(&fs, Path::new(DIR)).unwrap_err();
            assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
            continue;
        }
        // Nothing says how far the last one went.
        let (_, recovered) = open(&fs, Path::new(DIR)).unwrap();
        assert_eq!(recovered.tail, TailVerdict::Lost);
        assert!(recovered.suspect_tail);
    }
}

#[test]
fn a_file_cut_at_any_length_is_refused_by_name() {
    let files = Files::make(2, false);
    for file in 0..files.files.len() {
        let (path, bytes) = &files.files[file];
        let lengths = (0..bytes.len()).filter(|len| len % 61 == 0 || *len < 200);
        for len in lengths.chain([4095, 4096, 4097, bytes.len() - 1]) {
            let (sim, fs) = files.planted();
            sim.plant(path, bytes[..len].to_vec());
            let error = open(&fs, Path::new(DIR)).unwrap_err();
            assert!(
                matches!(error, OpenError::Truncated { .. }),
                "{len}: {error}"
            );
            assert!(error.to_string().contains(".segment"), "{error}");
            assert_eq!(read_files(&sim)[file].1.len(), len);
        }
    }
}

#[test]
fn a_log_of_another_group_or_cluster_is_refused_and_left_alone() {
    let files = Files::make(0, true);
    let (sim, fs) = files.planted();
    for foreign in [
        LogIdentity {
            group: 8,
            ..identity()
        },
        LogIdentity {
            cluster: [9; 16],
            ..identity()
        },
    ] {
        let error = Log::open(Arc::clone(&fs), Path::new(DIR), foreign, small(), None).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }
    assert_eq!(read_files(&sim), files.files);
}

#[test]
fn a_segment_under_another_segments_name_is_refused() {
    let files = Files::make(0, true);
    let (_, fs) = files.planted();
    let strange = Path::new(DIR).join("00000000000000000077.segment");
    fs.rename(&files.files[1].0, &strange).unwrap();
    let error = open(&fs, Path::new(DIR)).unwrap_err();
    assert!(matches!(error, OpenError::Misnamed { .. }), "{error}");
    assert!(!error.is_damage());
}

#[test]
fn other_files_in_the_folder_are_left_alone_and_unfinished_ones_cleared_away() {
    let files = Files::make(0, true);
    let (sim, fs) = files.planted();
    let ballot = Path::new(DIR).join("ballot");
    let unborn = Path::new(DIR).join("00000000000000000009.segment.tmp");
    sim.plant(&ballot, vec![1; 100]);
    sim.plant(&unborn, vec![1; 100]);
    let (_, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(recovered.tail, TailVerdict::Clean);
    assert!(fs.exists(&ballot).unwrap());
    assert!(!fs.exists(&unborn).unwrap());
}

#[test]
fn opening_reads_no_frame_of_a_sealed_segment() {
    let (sim, fs) = disk();
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut chain = Chain::start();
    let frames: Vec<Frame> = (0..60).map(|n| chain.batch(2_000, n)).collect();
    log.append(&frames).unwrap();
    log.close().unwrap();
    let files = read_files(&sim);
    let (tail, sealed) = files.split_last().unwrap();
    assert!(sealed.len() >= 3);
    for (path, bytes) in sealed {
        // All but the header page and the sector of the footer.
        for sector in 1..bytes.len() / 4096 - 1 {
            sim.make_unreadable(path, sector as u64 * 4096);
        }
    }
    let (log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(recovered.last_index, 60);
    let reader = log.reader();
    assert!(reader.is_cold(1, 1_000));
    assert!(matches!(
        reader.populate(1, 1_000),
        Err(ReadError::Fault(_))
    ));
    let last = reader.read(60, 60, 1).unwrap();
    assert!(!last.cold && last.bytes == frames[59].bytes());
    drop(log);
    // And the tail is read: the same fault there keeps the log from opening.
    sim.make_unreadable(&tail.0, 4096);
    assert!(matches!(
        open(&fs, Path::new(DIR)),
        Err(OpenError::Fault(_))
    ));
}

#[test]
fn a_search_that_meets_an_unreadable_sector_is_an_error_and_not_a_signal() {
    let files = Files::make(0, true);
    let (sim, fs) = files.planted();
    let (log, _) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(log.reader().seek_offset(0).unwrap(), 1);
    let (sealed, _) = &files.files[0];
    sim.make_unreadable(sealed, 4096);
    let by_offset = log.reader().seek_offset(0);
    assert!(matches!(by_offset, Err(ReadError::Fault(_))));
    let by_time = log.reader().seek_time(0);
    assert!(matches!(by_time, Err(ReadError::Fault(_))));
}

#[test]
fn a_lost_footer_costs_a_scan_and_is_written_again() {
    let files = Files::make(0, true);
    let (sim, fs) = files.planted();
    let (path, bytes) = &files.files[0];
    sim.flip_bit(path, bytes.len() as u64 - 50, 3);
    let (log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(recovered.tail, TailVerdict::Clean);
    assert_eq!(read_all(&log.reader()).unwrap(), files.frames);
    assert_eq!(&read_files(&sim)[0].1, bytes);
}

#[test]
fn a_header_page_that_claims_a_length_beyond_all_measure_costs_no_time_and_no_memory() {
    let files = Files::make(1, false);
    for file in 0..files.files.len() {
        let (sim, fs) = files.planted();
        let (path, bytes) = &files.files[file];
        let mut bytes = bytes.clone();
        bytes[80..88].copy_from_slice(&(u64::MAX >> 1).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&bytes[16..512]);
        bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
        sim.plant(path, bytes);
        let report = verify(&sim, Path::new(DIR));
        assert!(report.is_err() || report.is_ok_and(|report| !report.is_sound()));
        let base = LogBase::default();
        let repair = Repair::examine(Arc::clone(&fs), Path::new(DIR), identity(), small(), &base);
        if let Ok(repair) = repair {
            for index in 1..=files.frames.len() as u64 {
                let frame = repair.read_before(index, index, 1).unwrap();
                assert!(frame.is_empty() || frame == files.frames[index as usize - 1]);
            }
        }
        assert!(open(&fs, Path::new(DIR)).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_in_a_segment_file_make_opening_panic(
        start in 0usize..12_000,
        noise in proptest::collection::vec(any::<u8>(), 1..2_000),
        file in 0usize..2,
        repair in any::<bool>(),
    ) {
        let files = Files::make(1, false);
        let (sim, fs) = files.planted();
        let (path, bytes) = &files.files[file];
        let mut bytes = bytes.clone();
        let end = (start + noise.len()).min(bytes.len());
        bytes[start..end].copy_from_slice(&noise[..end - start]);
        if repair {
            // A header page that is whole but says anything at all.
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[..12]);
            crc.update(&bytes[16..512]);
            bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
        }
        sim.plant(path, bytes);
        let _ = verify(&sim, Path::new(DIR));
        if let Ok(repair) = Repair::examine(Arc::clone(&fs), Path::new(DIR), identity(), small(), &LogBase::default()) {
            for index in 1..=files.frames.len() as u64 {
                let frame = repair.read_before(index, index, 1).unwrap();
                prop_assert!(frame.is_empty() || frame == files.frames[index as usize - 1]);
            }
        }
        if let Ok((log, _)) = open(&fs, Path::new(DIR)) {
            let (found, _) = read_until_refused(&log.reader());
            prop_assert_eq!(&found[..], &files.frames[..found.len()]);
            let _ = log.reader().seek_offset(3);
            let _ = log.reader().seek_time(1_050);
        }
    }
}

/// Bugs that other systems had, each to be caught by a test of this file.
#[cfg(plimsoll_mutations)]
#[test]
fn mutations_are_caught() {
    use segment_store::mutation::{Bug, assert_each_is_caught};

    let caught = assert_each_is_caught(&[
        Bug {
            name: "a hole between segments is passed over",
            real: "61",
            test: "a_missing_segment_is_damage_wherever_it_is_missing",
        },
        Bug {
            name: "rot is taken for an unfinished write",
            real: "64",
            test: "a_flip_of_any_byte_of_a_killed_logs_tail_is_noticed_or_harmless",
        },
    ]);
    eprintln!("{caught}");
}
