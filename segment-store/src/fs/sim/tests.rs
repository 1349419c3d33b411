//! Tests of the disk model: it does what its text says, and over many seeds it does all of it.

use super::*;
use crate::fs::SECTOR_BYTES;

const SEEDS: u64 = 200;

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

/// A disk with a durable file `/a` of `sectors` sectors of ones.
fn disk_with_ones(seed: u64, sectors: usize) -> (SimFs, Arc<dyn FsFile>) {
    let fs = SimFs::new(seed);
    let file = fs
        .create(&path("a"), (sectors * SECTOR_BYTES) as u64)
        .unwrap();
    file.write_all_at(&vec![1; sectors * SECTOR_BYTES], 0)
        .unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(&path("")).unwrap();
    (fs, file)
}

fn content(fs: &SimFs, name: &str) -> Vec<u8> {
    let file = fs.open(&path(name)).unwrap();
    let mut bytes = vec![0; to_usize(file.len())];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn sectors(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(SECTOR_BYTES)
}

#[test]
fn end_of_the_process_keeps_what_was_written_and_makes_none_of_it_durable() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 1);
        file.write_all_at(&[2; 100], 0).unwrap();
        fs.cut_after(fs.operations());
        file.sync_data().unwrap_err();
        fs.end_process();
        file.sync_data().unwrap_err();
        assert_eq!(content(&fs, "a")[0], 2, "the page cache is there");
        fs.power_cycle();
        lost += usize::from(content(&fs, "a")[0] == 1);
    }
    assert!(lost > 0, "nothing synced it");
}

#[test]
fn synced_bytes_survive_every_crash() {
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 3);
        file.write_all_at(&[2; 5000], 1000).unwrap();
        file.sync_data().unwrap();
        let before = content(&fs, "a");
        fs.power_cycle();
        assert_eq!(content(&fs, "a"), before);
        fs.power_cycle();
        assert_eq!(
            content(&fs, "a"),
            before,
            "a crash of a disk at rest changes nothing"
        );
    }
}

#[test]
fn unsynced_sectors_survive_in_any_subset_and_at_most_one_is_torn() {
    let mut subsets = BTreeSet::new();
    let (mut torn_seen, mut garbage_seen) = (false, false);
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 3);
        file.write_all_at(&[2; 3 * SECTOR_BYTES], 0).unwrap();
        assert_eq!(content(&fs, "a"), [2; 3 * SECTOR_BYTES], "visible at once");
        fs.power_cycle();
        let survived = content(&fs, "a");
        let mut torn = 0;
        let mut subset = Vec::new();
        for sector in sectors(&survived) {
            let whole = sector.iter().all(|byte| *byte == sector[0]) && [1, 2].contains(&sector[0]);
            torn += usize::from(!whole);
            subset.push(if whole { sector[0] } else { 0 });
            garbage_seen |= sector.iter().any(|byte| ![1, 2].contains(byte));
        }
        assert!(torn <= 1);
        torn_seen |= torn == 1;
        if torn == 0 {
            subsets.insert(subset);
        }
    }
    assert_eq!(subsets.len(), 8, "every subset of three sectors occurs");
    assert!(torn_seen && garbage_seen);
}

#[test]
fn bytes_a_write_leaves_as_they_were_keep_their_value_even_in_a_torn_sector() {
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 1);
        let mut sector = vec![1; SECTOR_BYTES];
        sector[1000..1100].fill(7);
        file.write_all_at(&sector, 0).unwrap();
        fs.power_cycle();
        let survived = content(&fs, "a");
        assert!(
            survived[..1000]
                .iter()
                .chain(&survived[1100..])
                .all(|byte| *byte == 1)
        );
    }
}

#[test]
fn an_earlier_one_of_several_unsynced_writes_may_be_what_survives() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 1);
        for value in 2..5 {
            file.write_all_at(&[value; SECTOR_BYTES], 0).unwrap();
        }
        fs.power_cycle();
        let survived = content(&fs, "a");
        if survived.iter().all(|byte| *byte == survived[0]) {
            seen.insert(survived[0]);
        }
    }
    assert!(seen.is_superset(&BTreeSet::from([1, 2, 3, 4])), "{seen:?}");
}

#[test]
fn a_file_is_lost_with_its_name_unless_the_folder_was_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let fs = SimFs::new(seed);
        let file = fs.create(&path("a"), 10).unwrap();
        file.sync_data().unwrap();
        fs.power_cycle();
        outcomes.insert(fs.exists(&path("a")).unwrap());
    }
    assert_eq!(outcomes.len(), 2, "kept sometimes, lost sometimes");
}

#[test]
fn a_file_never_synced_may_come_back_with_any_length() {
    let mut lengths = BTreeSet::new();
    for seed in 0..SEEDS {
        let fs = SimFs::new(seed);
        fs.create(&path("a"), 100).unwrap();
        fs.sync_dir(&path("")).unwrap();
        fs.power_cycle();
        lengths.insert(fs.open(&path("a")).unwrap().len());
    }
    assert!(lengths.contains(&0) && lengths.contains(&100) && lengths.len() > 3);
}

#[test]
fn a_rename_between_folders_leaves_the_old_name_or_the_new_never_both_never_none() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let (fs, _) = disk_with_ones(seed, 1);
        fs.create_dir(&path("b")).unwrap();
        fs.sync_dir(&path("")).unwrap();
        fs.rename(&path("a"), &path("b/c")).unwrap();
        assert!(!fs.exists(&path("a")).unwrap());
        if seed % 2 == 0 {
            fs.sync_dir(&path("b")).unwrap();
        }
        fs.power_cycle();
        let (old, new) = (
            fs.exists(&path("a")).unwrap(),
            fs.exists(&path("b/c")).unwrap(),
        );
        assert_ne!(old, new);
        if seed % 2 == 0 {
            assert!(new, "the folder it moved into was synced");
        } else {
            outcomes.insert(new);
        }
        assert_eq!(
            content(&fs, if new { "b/c" } else { "a" }),
            [1; SECTOR_BYTES]
        );
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn a_file_created_and_renamed_without_a_sync_has_one_name_or_none() {
    for seed in 0..SEEDS {
        let fs = SimFs::new(seed);
        fs.create_dir(&path("b")).unwrap();
        fs.sync_dir(&path("")).unwrap();
        fs.create(&path("a"), 1).unwrap();
        fs.rename(&path("a"), &path("b/a")).unwrap();
        fs.sync_dir(&path("b")).unwrap();
        fs.sync_dir(&path("")).unwrap();
        assert!(!fs.exists(&path("a")).unwrap());
        fs.power_cycle();
        assert!(fs.exists(&path("b/a")).unwrap() && !fs.exists(&path("a")).unwrap());
    }
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let (fs, _) = disk_with_ones(seed, 1);
        let file = fs.create(&path("tmp"), 1).unwrap();
        file.sync_data().unwrap();
        fs.rename(&path("tmp"), &path("a")).unwrap();
        fs.power_cycle();
        outcomes.insert(content(&fs, "a").len());
    }
    assert_eq!(outcomes, BTreeSet::from([1, SECTOR_BYTES]));
}

#[test]
fn a_removed_name_may_come_back_until_the_folder_is_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let (fs, _) = disk_with_ones(seed, 1);
        fs.remove(&path("a")).unwrap();
        assert!(fs.list(&path("")).unwrap().is_empty());
        if seed % 2 == 0 {
            fs.sync_dir(&path("")).unwrap();
        }
        fs.power_cycle();
        let back = fs.exists(&path("a")).unwrap();
        assert!(!back || seed % 2 == 1);
        outcomes.insert(back);
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn a_folder_can_be_renamed_and_removed_with_all_in_it() {
    let fs = SimFs::new(1);
    crate::fs::ensure_dir(&fs, &path("x/y")).unwrap();
    fs.create(&path("x/y/a"), 1).unwrap();
    fs.sync_dir(&path("x/y")).unwrap();
    fs.rename(&path("x"), &path("z")).unwrap();
    fs.sync_dir(&path("")).unwrap();
    fs.power_cycle();
    assert!(fs.exists(&path("z/y/a")).unwrap());
    fs.remove_dir_all(&path("z")).unwrap();
    fs.sync_dir(&path("")).unwrap();
    fs.power_cycle();
    assert!(fs.list(&path("")).unwrap().is_empty());
}

#[test]
fn a_failed_sync_loses_the_pages_and_marks_them_clean() {
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 2);
        file.write_all_at(&[2; SECTOR_BYTES], 0).unwrap();
        fs.inject(When::NextOn(path("a")), Injection::FailedSync);
        assert!(file.sync_data().is_err());
        file.sync_data().expect("nothing is dirty any more");
        assert_eq!(
            content(&fs, "a")[0],
            2,
            "the cache still shows what the disk never got"
        );
        fs.power_cycle();
        assert_eq!(content(&fs, "a"), [1; 2 * SECTOR_BYTES]);
    }
}

#[test]
fn a_page_lost_by_a_failed_sync_reaches_the_disk_once_it_is_written_again() {
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 1);
        file.write_all_at(&[2; 100], 0).unwrap();
        fs.inject(When::Next, Injection::FailedSync);
        assert!(file.sync_data().is_err());
        file.write_all_at(&[3; 100], 200).unwrap();
        file.sync_data().unwrap();
        fs.power_cycle();
        let bytes = content(&fs, "a");
        assert_eq!(
            (bytes[0], bytes[150], bytes[200]),
            (2, 1, 3),
            "pages are written whole"
        );
    }
}

#[test]
fn a_failed_sync_of_a_folder_loses_its_names() {
    let fs = SimFs::new(1);
    fs.create(&path("a"), 1).unwrap();
    fs.inject(When::NextOn(path("")), Injection::FailedSync);
    assert!(fs.sync_dir(&path("")).is_err());
    fs.sync_dir(&path("")).unwrap();
    fs.power_cycle();
    assert!(!fs.exists(&path("a")).unwrap());
}

#[test]
fn after_the_cut_everything_fails_until_the_power_is_back() {
    let (fs, file) = disk_with_ones(1, 1);
    let done = fs.operations();
    fs.cut_after(done + 1);
    file.write_all_at(b"x", 0)
        .expect("the last operation before the cut");
    assert!(file.write_all_at(b"y", 0).is_err());
    assert!(file.sync_data().is_err());
    assert!(file.read_exact_at(&mut [0], 0).is_err());
    assert!(file.map().is_err());
    assert!(fs.open(&path("a")).is_err() && fs.list(&path("")).is_err());
    assert!(fs.exists(&path("a")).is_err() && fs.remove(&path("a")).is_err());
    assert_eq!(fs.operations(), done + 1);
    fs.power_cycle();
    fs.open(&path("a")).unwrap().write_all_at(b"z", 0).unwrap();
    assert!(file.write_all_at(b"y", 0).is_err(), "a handle from before");
}

#[test]
fn no_space_is_met_on_request_and_by_capacity_and_goes_away() {
    let (fs, file) = disk_with_ones(1, 1);
    let full = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::StorageFull;
    fs.set_capacity(Some(SECTOR_BYTES as u64 + 10));
    assert_eq!(fs.free_bytes(&path("")).unwrap(), 10);
    assert!(full(fs.create(&path("b"), 11).map(drop)));
    assert!(!fs.exists(&path("b")).unwrap());
    fs.create(&path("b"), 10).unwrap();
    fs.remove(&path("b")).unwrap();
    assert_eq!(fs.free_bytes(&path("")).unwrap(), 10);
    fs.inject(When::Operation(fs.operations() + 2), Injection::NoSpace);
    file.write_all_at(b"xy", 0).unwrap();
    assert!(full(file.write_all_at(b"zz", 0)));
    assert_eq!(content(&fs, "a")[..2], *b"xy");
}

#[test]
fn a_short_write_leaves_a_prefix_and_an_error() {
    let mut lengths = BTreeSet::new();
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 1);
        fs.inject(When::Next, Injection::ShortWrite);
        assert!(file.write_all_at(&[2; 10], 5).is_err());
        let bytes = content(&fs, "a");
        let written = bytes.iter().filter(|byte| **byte == 2).count();
        assert!(bytes[5..5 + written].iter().all(|byte| *byte == 2) && written < 10);
        lengths.insert(written);
    }
    assert!(lengths.len() > 3);
}

#[test]
fn a_misdirected_write_lands_in_another_sector_and_reports_success() {
    for seed in 0..SEEDS {
        let (fs, file) = disk_with_ones(seed, 4);
        fs.inject(When::Next, Injection::MisdirectedWrite);
        file.write_all_at(&[2; 10], SECTOR_BYTES as u64 + 5)
            .unwrap();
        let bytes = content(&fs, "a");
        let at = bytes.iter().position(|byte| *byte == 2).unwrap();
        assert!(at % SECTOR_BYTES == 5 && at / SECTOR_BYTES != 1);
    }
}

#[test]
fn a_flipped_bit_stays_flipped_in_memory_and_on_disk() {
    let (fs, file) = disk_with_ones(1, 1);
    fs.flip_bit(&path("a"), 17, 3);
    assert_eq!(content(&fs, "a")[17], 1 ^ 8);
    assert_eq!(file.map().unwrap().slice(17..18)[0], 1 ^ 8);
    fs.power_cycle();
    assert_eq!(content(&fs, "a")[17], 1 ^ 8);
}

#[test]
fn an_unreadable_sector_is_an_error_until_it_is_written_again() {
    let (fs, file) = disk_with_ones(1, 3);
    fs.make_unreadable(&path("a"), SECTOR_BYTES as u64 + 1);
    let map = file.map().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    assert!(
        file.read_exact_at(&mut byte, 2 * SECTOR_BYTES as u64 - 1)
            .is_err()
    );
    assert!(map.populate(0..SECTOR_BYTES + 1).is_err());
    map.populate(0..SECTOR_BYTES).unwrap();
    file.write_all_at(&[1; SECTOR_BYTES], SECTOR_BYTES as u64)
        .unwrap();
    file.read_exact_at(&mut byte, 2 * SECTOR_BYTES as u64 - 1)
        .unwrap();
    map.populate(0..3 * SECTOR_BYTES).unwrap();
}

#[test]
fn locks_exclude_each_other_and_end_with_the_power() {
    let fs = SimFs::new(1);
    let held = fs.lock(&path("LOCK")).unwrap();
    let error = fs.lock(&path("LOCK")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    fs.power_cycle();
    let again = fs.lock(&path("LOCK")).unwrap();
    drop(held);
    assert!(
        fs.lock(&path("LOCK")).is_err(),
        "the stale guard must not release the new lock"
    );
    drop(again);
    fs.lock(&path("LOCK")).unwrap();
}

#[test]
fn the_same_seed_and_calls_give_the_same_disk() {
    let run = |seed| {
        let (fs, file) = disk_with_ones(seed, 8);
        file.write_all_at(&[2; 8 * SECTOR_BYTES], 0).unwrap();
        fs.power_cycle();
        content(&fs, "a")
    };
    assert_eq!(run(7), run(7));
    assert!((0..20).any(|seed| run(seed) != run(7)));
}

#[test]
fn a_file_keeps_its_length_and_a_reader_may_not_write() {
    let (fs, file) = disk_with_ones(1, 1);
    let error = file
        .write_all_at(&[2; 2], SECTOR_BYTES as u64 - 1)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let reader = fs.open_read(&path("a")).unwrap();
    assert!(reader.write_all_at(b"x", 0).is_err());
    assert_eq!(content(&fs, "a"), [1; SECTOR_BYTES]);
}
