//! Tests of a data directory: whose it is, that it is held alone, and that no crash or flipped byte makes it another's.

use super::*;
use crate::BallotFile;
use crate::fs::{Injection, RealFs, SimFs, When, parent_of};

const CLUSTER: [u8; 16] = *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";

fn path() -> &'static Path {
    Path::new("/node-1")
}

fn identity_path() -> PathBuf {
    path().join(IDENTITY)
}

fn open(fs: &SimFs) -> Result<DataDir, DataDirError> {
    DataDir::open(Arc::new(fs.clone()), path(), CLUSTER, 1)
}

fn made(seed: u64) -> SimFs {
    let fs = SimFs::new(seed);
    open(&fs).unwrap();
    fs
}

fn names(fs: &SimFs) -> Vec<String> {
    fs.list(path()).unwrap()
}

#[test]
fn the_bytes_of_an_identity_are_pinned() {
    let identity = Identity {
        cluster: CLUSTER,
        node: 0x1122,
        replica: [0xee; 16],
    };
    let bytes = identity.encode();
    let mut golden = [0; SECTOR_BYTES];
    golden[..10].copy_from_slice(b"PLIMNODE\x01\0");
    golden[16..32].copy_from_slice(&CLUSTER);
    golden[32..34].copy_from_slice(b"\x22\x11");
    golden[40..56].fill(0xee);
    golden[4092..].copy_from_slice(&0x49cb_725d_u32.to_le_bytes());
    assert_eq!(bytes[..4092], golden[..4092]);
    assert_eq!(bytes[4092..], golden[4092..], "{:x?}", &bytes[4092..]);
    assert_eq!(Identity::decode(&golden).unwrap(), identity);
}

#[test]
fn what_stays_of_a_replica_that_went_elsewhere_is_its_highest_term() {
    for seed in 0..20 {
        let fs = made(seed);
        let dir = open(&fs).unwrap();
        assert_eq!(dir.left_group(7).unwrap(), None);
        for (term, kept) in [(5, 5), (3, 5), (9, 9)] {
            dir.ensure_group(7).unwrap();
            dir.leave_group(7, term).unwrap();
            fs.power_cycle();
            assert_eq!(dir.left_group(7).unwrap(), Some(kept), "seed {seed}");
            assert_eq!(dir.groups().unwrap(), Vec::<u64>::new());
            assert_eq!(dir.left_groups().unwrap(), [7]);
        }
        let page = path().join("groups/7.left");
        fs.flip_bit(&page, 30, 1);
        assert!(
            dir.left_group(7)
                .unwrap_err()
                .to_string()
                .contains("7.left")
        );
        dir.remove_group(7).unwrap();
        assert_eq!(dir.left_group(7).unwrap(), None);
    }
}

#[test]
fn a_new_directory_is_made_and_opens_again_as_the_same_replica() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/node-1");
    let first = DataDir::open(Arc::new(RealFs), &path, CLUSTER, 1).unwrap();
    let replica = first.replica();
    assert_ne!(replica, [0; 16]);
    assert_eq!(first.group_dir(7), path.join("groups/7"));
    drop(first);
    let second = DataDir::open(Arc::new(RealFs), &path, CLUSTER, 1).unwrap();
    assert_eq!(second.replica(), replica);
    assert!(second.pool_dir().is_dir());
}

#[test]
fn two_directories_are_two_replicas() {
    let (first, second) = (SimFs::new(1), SimFs::new(1));
    assert_ne!(
        open(&first).unwrap().replica(),
        open(&second).unwrap().replica()
    );
}

#[test]
fn a_directory_in_use_is_refused_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::open(Arc::new(RealFs), dir.path(), CLUSTER, 1).unwrap();
    let error = DataDir::open(Arc::new(RealFs), dir.path(), CLUSTER, 1).unwrap_err();
    assert!(matches!(error, DataDirError::InUse(_)), "{error}");
    drop(held);
    DataDir::open(Arc::new(RealFs), dir.path(), CLUSTER, 1).unwrap();
}

#[test]
fn another_cluster_or_node_is_refused_and_named() {
    let fs = made(1);
    let mut other = CLUSTER;
    other[15] = 0xff;
    let error = DataDir::open(Arc::new(fs.clone()), path(), other, 1).unwrap_err();
    assert!(matches!(error, DataDirError::OtherCluster { .. }));
    assert!(
        error
            .to_string()
            .contains("01020304-0506-0708-090a-0b0c0d0e0f10"),
        "{error}"
    );
    let error = DataDir::open(Arc::new(fs.clone()), path(), CLUSTER, 2).unwrap_err();
    assert!(
        matches!(
            error,
            DataDirError::OtherNode {
                found: 1,
                wanted: 2,
                ..
            }
        ),
        "{error}"
    );
    open(&fs).expect("a refusal leaves the lock free and changes nothing");
}

#[test]
fn a_directory_with_files_of_somebody_else_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letters.txt"), b"dear").unwrap();
    let error = DataDir::open(Arc::new(RealFs), dir.path(), CLUSTER, 1).unwrap_err();
    assert!(matches!(error, DataDirError::Foreign(_)), "{error}");
    assert_eq!(RealFs.list(dir.path()).unwrap(), ["letters.txt"]);
}

#[test]
fn a_directory_whose_identity_is_gone_is_refused() {
    let fs = made(1);
    fs.remove(&identity_path()).unwrap();
    assert!(matches!(open(&fs).unwrap_err(), DataDirError::Foreign(_)));
}

#[test]
fn a_power_cut_at_any_operation_of_making_it_leaves_it_usable() {
    let operations = made(0).operations();
    for cut in 0..=operations {
        for seed in 0..40 {
            let fs = SimFs::new(seed);
            fs.cut_after(cut);
            let told = open(&fs).ok().map(|dir| dir.replica());
            fs.power_cycle();
            let found = open(&fs).expect("usable").replica();
            if let Some(told) = told {
                assert_eq!(found, told);
            }
        }
    }
}

#[test]
fn names_whose_sync_failed_before_their_maker_was_killed_are_made_anew() {
    let operations = {
        let fs = SimFs::new(1);
        fs.create_dir(Path::new("/node-1")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        open(&fs).unwrap().ensure_group(7).unwrap();
        fs.operations()
    };
    for failing in 3..=operations {
        let fs = SimFs::new(failing);
        fs.create_dir(Path::new("/node-1")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        fs.inject(When::Operation(failing), Injection::FailedSync);
        fs.cut_after(failing);
        // Fails if the operation is a sync; the process is killed right after it anyway.
        let _ = open(&fs).and_then(|dir| Ok(dir.ensure_group(7)?));
        fs.end_process();
        let made = open(&fs).unwrap();
        let file = made.ensure_group(7).unwrap().join("log");
        fs.create(&file, 1).unwrap().sync_data().unwrap();
        fs.sync_dir(parent_of(&file)).unwrap();
        let replica = made.replica();
        fs.power_cycle();
        let again = open(&fs).unwrap();
        assert_eq!(again.replica(), replica, "operation {failing}");
        assert!(fs.exists(&file).unwrap(), "operation {failing}");
    }
}

#[test]
fn any_flipped_byte_of_the_identity_is_refused() {
    for position in 0..SECTOR_BYTES {
        let fs = made(1);
        fs.flip_bit(&identity_path(), position as u64, (position % 8) as u8);
        let error = open(&fs).unwrap_err();
        assert!(
            matches!(error, DataDirError::Damaged { .. }),
            "byte {position}: {error}"
        );
    }
}

#[test]
fn a_shortened_foreign_or_later_identity_is_refused() {
    let fs = made(1);
    fs.plant(&identity_path(), vec![0; 100]);
    assert!(matches!(
        open(&fs).unwrap_err(),
        DataDirError::Damaged { .. }
    ));
    let later = SealedPage::new(MAGIC, 2).seal();
    fs.plant(&identity_path(), later.to_vec());
    let error = open(&fs).unwrap_err();
    assert!(
        matches!(error, DataDirError::Version { version: 2, .. }),
        "{error}"
    );
    let foreign = SealedPage::new(*b"PLIMVOTE", 1).seal();
    fs.plant(&identity_path(), foreign.to_vec());
    assert!(matches!(open(&fs).unwrap_err(), DataDirError::Foreign(_)));
}

#[test]
fn a_full_disk_is_told_and_making_it_succeeds_later() {
    let fs = SimFs::new(1);
    fs.set_capacity(Some(10));
    let error = open(&fs).unwrap_err();
    assert!(matches!(error, DataDirError::NoSpace(_)), "{error}");
    fs.set_capacity(None);
    open(&fs).unwrap();
    assert_eq!(names(&fs), [GROUPS, IDENTITY, POOL]);
}

#[test]
fn groups_are_listed_by_number_and_other_names_ignored() {
    let fs = made(1);
    let dir = open(&fs).unwrap();
    for group in [10, 9, 0] {
        dir.ensure_group(group).unwrap();
        dir.ensure_group(group).unwrap();
    }
    for name in ["007", "x", "-1"] {
        fs.create_dir(&path().join(GROUPS).join(name)).unwrap();
    }
    assert_eq!(dir.groups().unwrap(), [0, 9, 10]);
}

#[test]
fn a_made_group_survives_a_crash() {
    for seed in 0..40 {
        let fs = made(seed);
        open(&fs).unwrap().ensure_group(3).unwrap();
        fs.power_cycle();
        assert_eq!(open(&fs).unwrap().groups().unwrap(), [3]);
    }
}

#[test]
fn a_power_cut_while_a_group_is_removed_leaves_all_of_it_or_nothing() {
    let prepared = |seed| {
        let fs = made(seed);
        let group = open(&fs).unwrap().ensure_group(3).unwrap();
        for name in ["ballot", "segment"] {
            fs.create(&group.join(name), 1)
                .unwrap()
                .sync_data()
                .unwrap();
        }
        fs.sync_dir(&group).unwrap();
        fs
    };
    let fs = prepared(0);
    let dir = open(&fs).unwrap();
    let before = fs.operations();
    dir.remove_group(3).unwrap();
    dir.remove_group(3).unwrap();
    for step in 0..=fs.operations() - before {
        for seed in 0..40 {
            let fs = prepared(seed);
            let dir = open(&fs).unwrap();
            fs.cut_after(fs.operations() + step);
            let removed = dir.remove_group(3).is_ok();
            fs.power_cycle();
            let dir = open(&fs).unwrap();
            let groups = dir.groups().unwrap();
            if groups == [3] {
                assert!(!removed);
                assert_eq!(fs.list(&dir.group_dir(3)).unwrap(), ["ballot", "segment"]);
            } else {
                assert_eq!(groups, []);
                assert!(
                    fs.list(&path().join(GROUPS)).unwrap().is_empty(),
                    "nothing left aside"
                );
            }
        }
    }
}

/// A node's first start up to its first vote, as far as the disk lets it.
fn vote(fs: &SimFs) -> Option<()> {
    let data_dir = open(fs).ok()?;
    let group = data_dir.ensure_group(7).ok()?;
    let (mut ballot, _) = BallotFile::open(fs, &group.join("ballot")).ok()?;
    ballot.save(3, 2).ok()
}

#[test]
fn a_vote_outlives_the_power_although_the_first_start_was_killed_at_a_sync_that_failed() {
    let operations = {
        let fs = SimFs::new(0);
        vote(&fs).unwrap();
        fs.operations()
    };
    for operation in 1..=operations {
        for seed in 0..20 {
            let fs = SimFs::new(seed);
            fs.inject(When::Operation(operation), Injection::FailedSync);
            fs.cut_after(operation);
            let done = vote(&fs).is_some();
            fs.end_process();
            if !done {
                vote(&fs).unwrap();
            }
            fs.power_cycle();
            let group = open(&fs).unwrap().ensure_group(7).unwrap();
            let (_, ballot) = BallotFile::open(&fs, &group.join("ballot")).unwrap();
            assert_eq!(ballot, (3, 2), "operation {operation}, seed {seed}");
        }
    }
}
