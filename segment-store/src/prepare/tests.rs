//! Tests of the preparer: what is ready, what is reused, what a crash or a full disk leaves.

use super::*;
use crate::fs::{RealFs, SimFs};

const LEN: u64 = 3 * SECTOR_BYTES as u64;

fn pool_dir() -> &'static Path {
    Path::new("/pool")
}

fn to(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

fn inline(fs: &SimFs) -> Preparer {
    Preparer::inline(Arc::new(fs.clone()), pool_dir(), PreparerOptions::default()).unwrap()
}

fn bytes_of(file: &dyn FsFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A file in use: named durably, every byte 7.
fn used(fs: &SimFs, preparer: &Preparer, name: &str) -> Arc<dyn FsFile> {
    let file = preparer.take(LEN, &to(name)).unwrap();
    file.write_all_at(&[7; LEN as usize], 0).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    file
}

#[test]
fn a_prepared_file_is_taken_without_writing_it_again() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    preparer.prepare(LEN);
    assert_eq!(preparer.size(), (1, LEN));
    let before = fs.operations();
    let file = preparer.take(LEN, &to("a")).unwrap();
    assert_eq!(fs.operations() - before, 1, "one renaming");
    assert_eq!(bytes_of(file.as_ref()), [0; LEN as usize]);
    assert_eq!(preparer.size(), (0, 0));
    assert!(fs.list(pool_dir()).unwrap().is_empty());
}

#[test]
fn without_a_ready_file_one_is_made_on_the_spot() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    preparer.prepare(LEN);
    let file = preparer.take(2 * LEN, &to("a")).unwrap();
    assert_eq!(file.len(), 2 * LEN);
    assert_eq!(preparer.size(), (1, LEN));
}

#[test]
fn a_name_in_use_is_not_taken_over() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    preparer.prepare(LEN);
    fs.create(&to("a"), 1).unwrap();
    let error = preparer.take(LEN, &to("a")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(preparer.size(), (1, LEN), "the ready file stays ready");
    assert_eq!(fs.open(&to("a")).unwrap().len(), 1);
}

#[test]
fn a_hint_is_served_by_a_recycled_file() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    let file = used(&fs, &preparer, "a");
    preparer.recycle(&to("a"), file.map().unwrap()).unwrap();
    preparer.prepare(LEN);
    assert_eq!(preparer.size(), (1, LEN));
}

#[test]
fn a_recycled_file_has_no_header_page_and_keeps_its_stale_rest() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    let file = used(&fs, &preparer, "a");
    preparer.recycle(&to("a"), file.map().unwrap()).unwrap();
    assert!(!fs.exists(&to("a")).unwrap());
    let again = preparer.take(LEN, &to("b")).unwrap();
    let bytes = bytes_of(again.as_ref());
    assert_eq!(bytes[..SECTOR_BYTES], [0; SECTOR_BYTES]);
    assert_eq!(bytes[SECTOR_BYTES..], [7; 2 * SECTOR_BYTES]);
}

#[test]
fn a_file_that_is_still_read_is_removed_and_never_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let pool = dir.path().join("pool");
    let preparer = Preparer::inline(Arc::new(RealFs), &pool, PreparerOptions::default()).unwrap();
    let path = dir.path().join("a");
    let file = preparer.take(LEN, &path).unwrap();
    file.write_all_at(&[7; LEN as usize], 0).unwrap();
    let map = file.map().unwrap();
    let slice = Arc::clone(&map).slice(0..4096);
    preparer.recycle(&path, map).unwrap();
    assert_eq!(preparer.size(), (0, 0));
    assert!(!path.exists());
    assert_eq!(slice, vec![7; 4096]);
}

#[test]
fn the_pool_is_bounded_in_files_and_bytes() {
    let fs = SimFs::new(1);
    for (files_max, bytes_max) in [(2, 100 * LEN), (100, 2 * LEN + 1)] {
        let options = PreparerOptions {
            files_max,
            bytes_max,
        };
        let preparer = Preparer::inline(Arc::new(fs.clone()), pool_dir(), options).unwrap();
        for _ in 0..5 {
            preparer.prepare(LEN);
        }
        assert_eq!(preparer.size(), (2, 2 * LEN));
        let name = format!("in-use-{files_max}");
        let file = fs.create(&to(&name), LEN).unwrap();
        preparer.recycle(&to(&name), file.map().unwrap()).unwrap();
        assert_eq!(preparer.size(), (2, 2 * LEN));
        assert!(!fs.exists(&to(&name)).unwrap(), "no room: removed");
        assert_eq!(fs.list(pool_dir()).unwrap().len(), 2);
    }
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    fs.set_capacity(Some(LEN));
    preparer.prepare(2 * LEN);
    assert_eq!(preparer.size(), (0, 0), "nothing is left of a failed try");
    let error = preparer.take(2 * LEN, &to("a")).unwrap_err();
    assert!(is_no_space(&error));
    fs.set_capacity(None);
    preparer.take(2 * LEN, &to("a")).unwrap();
    preparer.prepare(2 * LEN);
    assert_eq!(preparer.size(), (1, 2 * LEN));
}

#[test]
fn ready_files_of_other_lengths_make_way_when_room_is_short() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    fs.set_capacity(Some(2 * LEN));
    preparer.prepare(LEN);
    preparer.take(2 * LEN, &to("a")).unwrap();
    assert_eq!(preparer.size(), (0, 0));
}

#[test]
fn the_pool_is_emptied_at_start() {
    let fs = SimFs::new(1);
    let preparer = inline(&fs);
    preparer.prepare(LEN);
    drop(preparer);
    let preparer = inline(&fs);
    assert_eq!(preparer.size(), (0, 0));
    assert!(fs.list(pool_dir()).unwrap().is_empty());
}

#[test]
fn a_power_cut_while_recycling_leaves_the_old_file_whole_or_gone() {
    let prepared = |seed| {
        let fs = SimFs::new(seed);
        let preparer = inline(&fs);
        let file = used(&fs, &preparer, "a");
        (fs, preparer, file)
    };
    let (fs, preparer, file) = prepared(0);
    let before = fs.operations();
    preparer.recycle(&to("a"), file.map().unwrap()).unwrap();
    for step in 0..=fs.operations() - before {
        for seed in 0..60 {
            let (fs, preparer, file) = prepared(seed);
            let map = file.map().unwrap();
            fs.cut_after(fs.operations() + step);
            let _ = preparer.recycle(&to("a"), map);
            fs.power_cycle();
            if fs.exists(&to("a")).unwrap() {
                let bytes = bytes_of(fs.open(&to("a")).unwrap().as_ref());
                assert_eq!(bytes, [7; LEN as usize], "step {step}, seed {seed}");
            }
        }
    }
}

#[test]
fn a_taken_file_stays_once_its_folder_is_synced() {
    for seed in 0..60 {
        let fs = SimFs::new(seed);
        let preparer = inline(&fs);
        preparer.prepare(LEN);
        let file = preparer.take(LEN, &to("a")).unwrap();
        file.write_all_at(b"header", 0).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        fs.power_cycle();
        let preparer = inline(&fs);
        assert_eq!(preparer.size(), (0, 0));
        let bytes = bytes_of(fs.open(&to("a")).unwrap().as_ref());
        assert_eq!(bytes.len() as u64, LEN);
        assert_eq!(&bytes[..6], b"header");
    }
}

#[test]
fn the_thread_makes_what_was_asked_for_and_ends_with_the_last_clone() {
    let dir = tempfile::tempdir().unwrap();
    let pool = dir.path().join("pool");
    let preparer = Preparer::start(Arc::new(RealFs), &pool, PreparerOptions::default()).unwrap();
    let clone = preparer.clone();
    clone.prepare(LEN);
    clone.prepare(LEN);
    while clone.pool.lock().lengths[&LEN].ready.len() < 2 {
        std::thread::yield_now();
    }
    let file = clone.take(LEN, &dir.path().join("a")).unwrap();
    clone
        .recycle(&dir.path().join("a"), file.map().unwrap())
        .unwrap();
    while clone.pool.lock().lengths[&LEN].under_way > 0 {
        std::thread::yield_now();
    }
    assert_eq!(clone.size(), (2, 2 * LEN));
    let shared = Arc::downgrade(&preparer.pool);
    drop((preparer, clone));
    assert!(
        shared.upgrade().is_none(),
        "the thread was joined and holds nothing"
    );
}

#[test]
fn a_thread_that_met_a_full_disk_goes_on_with_the_next_wish() {
    let fs = SimFs::new(1);
    fs.set_capacity(Some(LEN));
    let preparer =
        Preparer::start(Arc::new(fs.clone()), pool_dir(), PreparerOptions::default()).unwrap();
    preparer.prepare(2 * LEN);
    while preparer.size().0 > 0 {
        std::thread::yield_now();
    }
    preparer.prepare(LEN);
    while preparer.pool.lock().lengths[&LEN].ready.is_empty() {
        std::thread::yield_now();
    }
    preparer.take(LEN, &to("a")).unwrap();
}
