//! Tests of snapshots: golden bytes, a cut at every operation, every byte flipped, every length cut.

use super::*;
use crate::fs::{FsFile, Injection, RealFs, SimFs, When};

const NAME: &str = "state";

fn root() -> &'static Path {
    Path::new("/")
}

fn path_of(index: u64) -> PathBuf {
    root().join(file_name(NAME, index))
}

fn latest(fs: &SimFs) -> Option<(u64, u64, Vec<u8>)> {
    let snapshot = load_latest(fs, root(), NAME).unwrap();
    snapshot.map(|snapshot| (snapshot.index, snapshot.term, snapshot.bytes.to_vec()))
}

fn disk_with(indexes: &[u64]) -> SimFs {
    let fs = SimFs::new(1);
    for index in indexes {
        write(
            &fs,
            root(),
            NAME,
            *index,
            2,
            format!("state {index}").as_bytes(),
        )
        .unwrap();
    }
    fs
}

fn bytes_of(file: &dyn FsFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn the_bytes_of_a_snapshot_are_pinned() {
    let dir = tempfile::tempdir().unwrap();
    write(&RealFs, dir.path(), "producers", 0x1122, 0x33, b"abc").unwrap();
    let bytes = std::fs::read(dir.path().join("producers-00000000000000004386.snapshot")).unwrap();
    let mut golden = vec![0; 67];
    golden[..40].copy_from_slice(
        b"PLIMSNAP\x01\0\0\0\0\0\0\0\x22\x11\0\0\0\0\0\0\x33\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0",
    );
    golden[40..44].copy_from_slice(&0x3524_41c2_u32.to_le_bytes());
    golden[60..64].copy_from_slice(&0xf0e9_e111_u32.to_le_bytes());
    golden[64..].copy_from_slice(b"abc");
    assert_eq!(bytes, golden, "{:x?}", &bytes[60..64]);
}

#[test]
fn the_newest_snapshot_is_loaded_and_two_are_kept() {
    let fs = disk_with(&[5, 9, 30, 200]);
    assert_eq!(latest(&fs), Some((200, 2, b"state 200".to_vec())));
    assert_eq!(indexes(&fs, root(), NAME).unwrap(), [30, 200]);
    assert_eq!(fs.list(root()).unwrap().len(), 2);
}

#[test]
fn there_may_be_none_and_an_empty_state_is_one() {
    let fs = SimFs::new(1);
    assert_eq!(latest(&fs), None);
    write(&fs, root(), NAME, 1, 1, b"").unwrap();
    assert_eq!(latest(&fs), Some((1, 1, Vec::new())));
}

#[test]
fn names_of_others_are_left_alone() {
    let fs = disk_with(&[5]);
    for other in [
        "state-7.snapshot",
        "state-x.snapshot",
        "state-00000000000000000009.againsnapshot",
        "stateful-00000000000000000009.snapshot",
        "state.snapshot.tmp",
    ] {
        fs.plant(&root().join(other), b"other".to_vec());
    }
    assert_eq!(latest(&fs).unwrap().0, 5);
    write(&fs, root(), NAME, 6, 2, b"").unwrap();
    write(&fs, root(), NAME, 7, 2, b"").unwrap();
    assert!(
        fs.exists(Path::new("/stateful-00000000000000000009.snapshot"))
            .unwrap()
    );
    assert!(fs.exists(Path::new("/state-7.snapshot")).unwrap());
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_or_the_new_snapshot() {
    let history = |fs: &SimFs| -> (u64, u64) {
        for index in 1..5 {
            if write(fs, root(), NAME, index, 1, &vec![index as u8; 9000]).is_err() {
                return (index - 1, index);
            }
        }
        (4, 4)
    };
    let fs = SimFs::new(0);
    assert_eq!(history(&fs), (4, 4));
    for cut in 0..fs.operations() {
        for seed in 0..20 {
            let fs = SimFs::new(seed);
            fs.cut_after(cut);
            let (acknowledged, under_way) = history(&fs);
            fs.power_cycle();
            let found = latest(&fs);
            let index = found.as_ref().map_or(0, |found| found.0);
            assert!(
                index == acknowledged || index == under_way,
                "cut {cut} seed {seed}"
            );
            if let Some((index, _, state)) = found {
                assert_eq!(state, vec![index as u8; 9000]);
            }
            write(&fs, root(), NAME, 9, 1, b"goes on").unwrap();
            assert_eq!(latest(&fs).unwrap().0, 9);
        }
    }
}

#[test]
fn a_failure_at_any_operation_is_told_and_the_old_snapshot_stays() {
    for injection in [
        Injection::NoSpace,
        Injection::ShortWrite,
        Injection::FailedSync,
    ] {
        // Creation, write, sync, renaming, sync of the folder.
        for step in 1..=5 {
            let fs = disk_with(&[1, 2]);
            fs.inject(When::Operation(fs.operations() + step), injection);
            let result = write(&fs, root(), NAME, 3, 1, &[7; 5000]);
            let index = latest(&fs).unwrap().0;
            match result {
                Ok(()) => assert_eq!(index, 3),
                Err(_) => assert!(index == 2 || index == 3),
            }
        }
    }
}

#[test]
fn a_snapshot_that_was_loaded_survives_the_power_although_the_sync_of_its_name_had_failed() {
    for killed in [false, true] {
        for seed in 0..10 {
            let fs = SimFs::new(seed);
            write(&fs, root(), NAME, 5, 2, b"old").unwrap();
            // Creation, write, sync, renaming, sync of the folder.
            let sync = fs.operations() + 5;
            fs.inject(When::Operation(sync), Injection::FailedSync);
            if killed {
                fs.cut_after(sync);
            }
            write(&fs, root(), NAME, 9, 2, b"new").unwrap_err();
            fs.end_process();
            assert_eq!(latest(&fs).unwrap().0, 9, "it is in the page cache");
            fs.power_cycle();
            assert_eq!(latest(&fs), Some((9, 2, b"new".to_vec())), "seed {seed}");
        }
    }
}

#[test]
fn a_power_cut_while_a_snapshot_is_loaded_loses_none_and_it_is_written_anew_under_whichever_name() {
    for cut in 0..3 {
        for seed in 0..10 {
            let fs = SimFs::new(seed);
            for index in [5, 9] {
                write(&fs, root(), NAME, index, 2, b"once").unwrap();
            }
            for again in 0..2 {
                fs.cut_after(fs.operations() + cut);
                let _ = load_latest(&fs, root(), NAME);
                fs.power_cycle();
                assert_eq!(latest(&fs).unwrap().0, 9, "cut {cut} seed {seed}");
                write(&fs, root(), NAME, 9, 2, &[again]).unwrap();
                assert_eq!(latest(&fs), Some((9, 2, vec![again])));
                assert_eq!(indexes(&fs, root(), NAME).unwrap(), [5, 9]);
            }
        }
    }
}

#[test]
fn a_full_disk_is_no_fault_and_the_snapshot_succeeds_once_there_is_room() {
    let fs = disk_with(&[1]);
    fs.set_capacity(Some(1000));
    let error = write(&fs, root(), NAME, 2, 1, &[7; 5000]).unwrap_err();
    assert!(matches!(error, WriteError::NoSpace), "{error}");
    assert_eq!(latest(&fs).unwrap().0, 1);
    fs.set_capacity(None);
    write(&fs, root(), NAME, 2, 1, &[7; 5000]).unwrap();
    assert_eq!(latest(&fs).unwrap().0, 2);
}

#[test]
fn any_flipped_byte_of_the_newest_falls_back_to_the_one_before() {
    let len = bytes_of(disk_with(&[5, 9]).open(&path_of(9)).unwrap().as_ref()).len();
    for position in (0..44).chain(60..len) {
        for bit in 0..8 {
            let fs = disk_with(&[5, 9]);
            fs.flip_bit(&path_of(9), position as u64, bit);
            assert_eq!(
                latest(&fs),
                Some((5, 2, b"state 5".to_vec())),
                "byte {position} bit {bit}"
            );
        }
    }
}

#[test]
fn any_shortened_or_lengthened_newest_falls_back_to_the_one_before() {
    let whole = bytes_of(disk_with(&[5, 9]).open(&path_of(9)).unwrap().as_ref());
    for len in 0..whole.len() {
        let fs = disk_with(&[5, 9]);
        fs.plant(&path_of(9), whole[..len].to_vec());
        assert_eq!(latest(&fs).unwrap().0, 5, "cut to {len}");
    }
    let fs = disk_with(&[5, 9]);
    fs.plant(&path_of(9), [&whole[..], b"x"].concat());
    assert_eq!(latest(&fs).unwrap().0, 5);
}

#[test]
fn a_snapshot_under_another_index_is_not_believed() {
    let fs = disk_with(&[5, 9]);
    let bytes = bytes_of(fs.open(&path_of(9)).unwrap().as_ref());
    fs.plant(&path_of(12), bytes);
    assert_eq!(latest(&fs).unwrap().0, 9);
}

#[test]
fn all_damaged_is_an_error_and_not_none() {
    let fs = disk_with(&[5, 9]);
    fs.flip_bit(&path_of(5), 64, 0);
    fs.make_unreadable(&path_of(9), 0);
    let error = load_latest(&fs, root(), NAME).unwrap_err();
    assert!(matches!(error, LoadError::Damaged { .. }), "{error}");
    assert!(
        error.to_string().contains("unreadable"),
        "the newest one's trouble is told"
    );
}

#[test]
fn a_later_version_is_told_apart_from_damage() {
    let fs = disk_with(&[5, 9]);
    let mut bytes = bytes_of(fs.open(&path_of(9)).unwrap().as_ref());
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs.plant(&path_of(9), bytes);
    let error = load_latest(&fs, root(), NAME).unwrap_err();
    assert!(
        matches!(error, LoadError::Version { version: 2, .. }),
        "{error}"
    );
}
