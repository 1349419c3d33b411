//! Tests of the machine's disk: system calls carried on, lengths kept, locks held, maps that outlive their file.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::past_cache::SCRATCH_BYTES;
use super::*;
use crate::fs::ensure_dir;

fn buffers<'a>(pieces: &'a [&'a [u8]]) -> Vec<IoSlice<'a>> {
    pieces.iter().map(|piece| IoSlice::new(piece)).collect()
}

#[test]
fn short_writes_and_interruptions_are_carried_on() {
    let mut written = Vec::new();
    let mut calls = 0;
    write_all(
        &buffers(&[b"abc", b"", b"defgh", b"i"]),
        100,
        |buffers, position| {
            calls += 1;
            assert_eq!(position, 100 + written.len() as u64);
            if calls % 2 == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let all: Vec<u8> = buffers
                .iter()
                .flat_map(|buffer| buffer.iter().copied())
                .collect();
            let count = all.len().min(2);
            written.extend_from_slice(&all[..count]);
            Ok(count)
        },
    )
    .unwrap();
    assert_eq!(written, b"abcdefghi");
}

/// Whatever a file system says of its holes, no byte that is not zero may lie in one; and where it says anything, what was never written is one.
#[test]
fn what_was_never_written_is_no_data_and_all_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let len = 1 << 20;
    let file = RealFs.create(&dir.path().join("file"), len).unwrap();
    assert_eq!(file.data_from(len).unwrap(), len..len);
    for synced in [false, true] {
        for position in [0, 300_000, 300_100, 1 << 19, len - 1] {
            file.write_all_at(b"x", position).unwrap();
            if synced {
                file.sync_data().unwrap();
            }
            for from in [0, position.saturating_sub(10_000), position] {
                let data = file.data_from(from).unwrap();
                assert!(from <= data.start && data.start <= position, "{data:?}");
                assert!(data.start < data.end && data.end <= len, "{data:?}");
            }
        }
    }
}

#[test]
fn a_write_that_makes_no_progress_is_an_error() {
    let error = write_all(&buffers(&[b"abc"]), 0, |_, _| Ok(0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn an_error_after_a_short_write_is_passed_on() {
    let mut calls = 0;
    let error = write_all(&buffers(&[b"abc"]), 0, |_, _| {
        calls += 1;
        if calls == 1 {
            Ok(1)
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    })
    .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn more_buffers_than_one_system_call_takes_are_all_written() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
    let pieces: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    let file = RealFs.create(&dir.path().join("a"), 3000).unwrap();
    file.write_vectored_at(&pieces, 0).unwrap();
    let mut read = vec![0; 3000];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn a_created_file_is_zeros_in_full_and_never_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let len = ZERO_BYTES as u64 + 12_345;
    let file = RealFs.create(&path, len).unwrap();
    assert_eq!(file.len(), len);
    assert_eq!(fs::read(&path).unwrap(), vec![0; ZERO_BYTES + 12_345]);
    for (bytes, position) in [(2, len - 1), (1, len), (1, u64::MAX)] {
        let error = file.write_all_at(&vec![1; bytes], position).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), len);
    file.sync_data().unwrap();
    RealFs.sync_dir(dir.path()).unwrap();
}

#[test]
fn creating_over_an_existing_file_is_refused_and_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, b"kept").unwrap();
    let error = RealFs.create(&path, 10).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"kept");
}

#[test]
fn what_goes_past_the_cache_is_read_back_whatever_goes_through_it_in_between() {
    const LEN: usize = 64 << 10;
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let file = RealFs
            .create(&dir.path().join("a"), SCRATCH_BYTES as u64 + LEN as u64)
            .unwrap();
        let map = file.map().unwrap();
        let mut expected = vec![0; SCRATCH_BYTES + LEN];
        let mut position = 0;
        for step in 0..60 {
            // Mostly on from where the last one ended, or from a little before, as a log goes on over its mark.
            if rng.u8(..8) == 0 {
                position = rng.usize(..LEN);
            }
            let most = if rng.u8(..16) == 0 {
                SCRATCH_BYTES
            } else {
                20_000
            };
            let len = rng.usize(1..most).min(expected.len() - position);
            let bytes: Vec<u8> = (0..len).map(|n| (n + step) as u8 ^ seed as u8).collect();
            let (one, other) = bytes.split_at(rng.usize(..=len));
            let pieces = [IoSlice::new(one), IoSlice::new(other)];
            match rng.u8(..4) {
                0 => file.write_vectored_at(&pieces, position as u64).unwrap(),
                _ => file.write_past_cache(&pieces, position as u64).unwrap(),
            }
            expected[position..position + len].copy_from_slice(&bytes);
            let seen = rng.usize(..expected.len());
            let seen = seen..(seen + 9_000).min(expected.len());
            let mapped = Arc::clone(&map).slice(seen.clone());
            assert_eq!(mapped, expected[seen], "seed {seed}, step {step}");
            position = (position + len - rng.usize(..len.min(128))) % LEN;
        }
        let mut read = vec![0; expected.len()];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == expected, "seed {seed}");
    }
}

#[test]
fn readers_of_the_map_see_what_was_written_past_the_cache_and_no_sync_fails_for_it() {
    const LEN: usize = 4 << 20;
    let byte_at = |position: usize| (position / 7) as u8;
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create(&dir.path().join("a"), LEN as u64).unwrap();
    let map = file.map().unwrap();
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (map, written) = (&map, &written);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                loop {
                    let end = written.load(Ordering::Acquire);
                    let start = rng.usize(..=end).max(end.saturating_sub(20_000));
                    let seen = Arc::clone(map).slice(start..end);
                    let wrong = (start..end).find(|&at| seen[at - start] != byte_at(at));
                    assert_eq!(wrong, None, "of what ends at {end}");
                    if end == LEN {
                        return;
                    }
                }
            });
        }
        let mut rng = fastrand::Rng::with_seed(7);
        let mut position = 0;
        while position < LEN {
            let len = rng.usize(1..40_000).min(LEN - position);
            let bytes: Vec<u8> = (position..position + len).map(byte_at).collect();
            file.write_past_cache(&buffers(&[&bytes]), position as u64)
                .unwrap();
            position += len;
            written.store(position, Ordering::Release);
            file.sync_data().unwrap();
        }
    });
}

#[test]
fn a_write_past_the_cache_stays_inside_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create(&dir.path().join("a"), 8192).unwrap();
    let error = file
        .write_past_cache(&buffers(&[&[1; 8000], &[2; 193]]), 0)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let mut read = vec![1; 8192];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, vec![0; 8192]);
}

#[test]
fn a_file_opened_for_reading_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, b"kept").unwrap();
    let file = RealFs.open_read(&path).unwrap();
    assert!(file.write_all_at(b"x", 0).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"kept");
}

#[test]
fn a_folder_is_not_opened_as_a_file() {
    let dir = tempfile::tempdir().unwrap();
    assert!(RealFs.open_read(dir.path()).is_err());
}

#[test]
fn reading_past_the_end_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create(&dir.path().join("a"), 10).unwrap();
    let error = file.read_exact_at(&mut [0; 4], 8).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_lock_is_refused_to_a_second_holder_until_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("LOCK");
    let held = RealFs.lock(&path).unwrap();
    let error = RealFs.lock(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(held);
    RealFs.lock(&path).unwrap();
}

#[test]
fn names_are_listed_sorted_and_missing_folders_made() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x/y/z");
    ensure_dir(&RealFs, &deep).unwrap();
    ensure_dir(&RealFs, &deep).unwrap();
    for name in ["b", "a", "c"] {
        RealFs.create(&deep.join(name), 0).unwrap();
    }
    RealFs.rename(&deep.join("c"), &deep.join("a")).unwrap();
    assert_eq!(RealFs.list(&deep).unwrap(), ["a", "b"]);
    assert!(RealFs.exists(&deep).unwrap());
    RealFs.remove(&deep.join("a")).unwrap();
    RealFs.remove_dir_all(&dir.path().join("x")).unwrap();
    assert!(!RealFs.exists(&deep).unwrap());
}

#[test]
fn free_space_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    assert!(RealFs.free_bytes(dir.path()).unwrap() > 0);
}

#[test]
fn a_slice_shows_what_was_written_after_mapping_and_outlives_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let file = RealFs.create(&path, 3 * 4096).unwrap();
    let map = file.map().unwrap();
    file.write_all_at(b"later", 5000).unwrap();
    let slice = Arc::clone(&map).slice(5000..5005);
    map.populate(4096..8192).unwrap();
    drop(file);
    RealFs.remove(&path).unwrap();
    assert_eq!(map.len(), 3 * 4096);
    drop(map);
    assert_eq!(&slice[..], b"later");
    let part = slice.slice(1..3);
    drop(slice);
    assert_eq!(&part[..], b"at");
}

#[test]
fn a_slice_copies_nothing_and_holds_the_map() {
    let dir = tempfile::tempdir().unwrap();
    let file = RealFs.create(&dir.path().join("a"), 8192).unwrap();
    let mut map = file.map().unwrap();
    let first = Arc::clone(&map).slice(0..8192);
    let second = Arc::clone(&map).slice(4096..8192);
    assert_eq!(first[4096..].as_ptr(), second.as_ptr());
    assert!(Arc::get_mut(&mut map).is_none());
    drop((first, second));
    assert!(Arc::get_mut(&mut map).is_some());
}

#[test]
fn an_empty_slice_is_empty_and_populating_nothing_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let map = RealFs
        .create(&dir.path().join("a"), 4096)
        .unwrap()
        .map()
        .unwrap();
    map.populate(4096..4096).unwrap();
    assert!(map.slice(4096..4096).is_empty());
}

#[test]
#[should_panic(expected = "of a map of 4096 bytes")]
fn slicing_past_the_end_of_a_map_panics() {
    let dir = tempfile::tempdir().unwrap();
    let map = RealFs
        .create(&dir.path().join("a"), 4096)
        .unwrap()
        .map()
        .unwrap();
    map.slice(4000..4097);
}

#[test]
fn populating_past_the_end_of_a_map_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let map = RealFs
        .create(&dir.path().join("a"), 4096)
        .unwrap()
        .map()
        .unwrap();
    assert!(map.populate(0..4097).is_err());
}

/// A file of which only the sync matters.
#[derive(Debug)]
struct Synced {
    times: AtomicUsize,
    fails: bool,
}

impl FsFile for Synced {
    fn write_vectored_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        unreachable!("nothing is written")
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        unreachable!("nothing is read")
    }

    fn sync_data(&self) -> io::Result<()> {
        self.times.fetch_add(1, Ordering::Relaxed);
        match self.fails {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }

    fn len(&self) -> u64 {
        0
    }

    fn map(&self) -> io::Result<Arc<dyn MapRead>> {
        unreachable!("nothing is mapped")
    }
}

#[test]
fn syncs_side_by_side_reach_every_file_once_and_each_result_is_its_own() {
    for count in [0, 1, SYNCS_A_THREAD * 2 - 1, SYNCS_A_THREAD * 2, 333] {
        let file = |number| Synced {
            times: AtomicUsize::new(0),
            fails: number % 7 == 3,
        };
        let files: Vec<Synced> = (0..count).map(file).collect();
        let told: Vec<&dyn FsFile> = files.iter().map(|file| -> &dyn FsFile { file }).collect();
        let results = RealFs.sync_all(&told);
        assert_eq!(results.len(), count);
        for (file, result) in files.iter().zip(results) {
            assert_eq!(file.times.load(Ordering::Relaxed), 1);
            assert_eq!(result.is_err(), file.fails);
        }
    }
}
