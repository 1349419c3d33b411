//! Tests of the ballot file: golden bytes, a cut at every operation, every byte flipped, every sector gone.

use std::sync::Arc;

use super::*;
use crate::fs::{Injection, RealFs, SimFs, When};

fn path() -> PathBuf {
    PathBuf::from("/ballot")
}

/// A short life: what is saved, in order.
const HISTORY: [(u64, u64); 4] = [(1, 0), (1, 3), (2, 2), (7, 1)];

/// The last ballot acknowledged, and the one that was being saved when something failed.
type Outcome = (Option<(u64, u64)>, Option<(u64, u64)>);

/// Opens and saves until the history is done or something fails.
fn live(fs: &SimFs, history: &[(u64, u64)]) -> Outcome {
    let Ok((mut ballot, mut last)) = BallotFile::open(fs, &path()) else {
        return (None, None);
    };
    for &(term, vote) in history {
        if ballot.save(term, vote).is_err() {
            return (Some(last), Some((term, vote)));
        }
        last = (term, vote);
    }
    (Some(last), None)
}

fn reopened(fs: &SimFs) -> (u64, u64) {
    BallotFile::open(fs, &path())
        .expect("a crash alone never makes a ballot unusable")
        .1
}

fn operations_of_history() -> u64 {
    let fs = SimFs::new(0);
    assert_eq!(live(&fs, &HISTORY), (Some((7, 1)), None));
    fs.operations()
}

/// The file after saving (5, 2) and then (6, 3), at rest.
fn disk_at_rest() -> SimFs {
    let fs = SimFs::new(1);
    assert_eq!(live(&fs, &[(5, 2), (6, 3)]).0, Some((6, 3)));
    fs
}

fn bytes_of(fs: &SimFs) -> Vec<u8> {
    let file = fs.open(&path()).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn the_bytes_of_a_slot_are_pinned() {
    let slot = Slot {
        sequence: 0x0102,
        term: 0x0304,
        vote: 0x0506,
        birthplace: 0x0708,
    };
    let bytes = slot.encode().seal();
    let mut golden = [0; SECTOR_BYTES];
    golden[..48].copy_from_slice(
        b"PLIMVOTE\x01\0\0\0\0\0\0\0\
          \x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0\x06\x05\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0",
    );
    golden[4092..].copy_from_slice(&0x3e3b_3562_u32.to_le_bytes());
    assert_eq!(bytes[..48], golden[..48]);
    assert_eq!(bytes[48..4092], golden[48..4092]);
    assert_eq!(bytes[4092..], golden[4092..], "{:x?}", &bytes[4092..]);
    assert_eq!(Slot::decode(&golden).unwrap(), slot);
}

#[test]
fn a_new_ballot_is_term_zero_without_a_vote_and_remembers_what_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ballot");
    let (mut ballot, first) = BallotFile::open(&RealFs, &path).unwrap();
    assert_eq!(first, (0, 0));
    ballot.save(3, 0).unwrap();
    ballot.save(3, 2).unwrap();
    ballot.save(3, 2).unwrap();
    drop(ballot);
    let (_, last) = BallotFile::open(&RealFs, &path).unwrap();
    assert_eq!(last, (3, 2));
    assert_eq!(RealFs.list(dir.path()).unwrap(), ["ballot"]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8192);
}

#[test]
fn saving_the_same_ballot_again_costs_nothing() {
    let fs = disk_at_rest();
    let (mut ballot, _) = BallotFile::open(&fs, &path()).unwrap();
    let before = fs.operations();
    ballot.save(6, 3).unwrap();
    assert_eq!(fs.operations(), before);
}

#[test]
#[should_panic(expected = "cannot become")]
fn a_second_vote_in_one_term_is_never_written() {
    let fs = disk_at_rest();
    let (mut ballot, _) = BallotFile::open(&fs, &path()).unwrap();
    let _ = ballot.save(6, 1);
}

#[test]
#[should_panic(expected = "cannot become")]
fn a_vote_is_never_erased_within_its_term() {
    let fs = disk_at_rest();
    let (mut ballot, _) = BallotFile::open(&fs, &path()).unwrap();
    let _ = ballot.save(6, 0);
}

#[test]
#[should_panic(expected = "cannot become")]
fn the_term_never_goes_back() {
    let fs = disk_at_rest();
    let (mut ballot, _) = BallotFile::open(&fs, &path()).unwrap();
    let _ = ballot.save(5, 2);
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_or_the_new_ballot() {
    for cut in 0..=operations_of_history() {
        for seed in 0..40 {
            let fs = SimFs::new(seed);
            fs.cut_after(cut);
            let (acknowledged, under_way) = live(&fs, &HISTORY);
            fs.power_cycle();
            let found = reopened(&fs);
            match acknowledged {
                Some(last) => assert!(
                    found == last || Some(found) == under_way,
                    "cut {cut} seed {seed}: {found:?} after {last:?}, saving {under_way:?}"
                ),
                None => assert_eq!(found, (0, 0)),
            }
        }
    }
}

#[test]
fn a_power_cut_while_opening_after_a_cut_or_a_kill_loses_nothing() {
    for power_lost_first in [true, false] {
        for cut in 0..=operations_of_history() {
            for second in 1..8 {
                let fs = SimFs::new(cut * 8 + second);
                fs.cut_after(cut);
                let (acknowledged, under_way) = live(&fs, &HISTORY);
                if power_lost_first {
                    fs.power_cycle();
                } else {
                    // The process was killed: what it wrote is still in memory, unsynced.
                    fs.cut_after(u64::MAX);
                }
                fs.cut_after(fs.operations() + second);
                let seen = BallotFile::open(&fs, &path())
                    .ok()
                    .map(|(_, ballot)| ballot);
                fs.power_cycle();
                let found = reopened(&fs);
                if let Some(seen) = seen {
                    assert_eq!(
                        found, seen,
                        "what an opening told must last: a vote may rest on it"
                    );
                }
                let last = acknowledged.unwrap_or((0, 0));
                assert!(found == last || Some(found) == under_way);
            }
        }
    }
}

#[test]
fn a_vote_saved_after_a_kill_at_any_operation_survives_the_next_power_cut() {
    for cut in 0..=operations_of_history() {
        for seed in 0..20 {
            let fs = SimFs::new(seed);
            fs.cut_after(cut);
            live(&fs, &HISTORY);
            // Killed, not cut: names and bytes that no sync has made durable are still seen.
            fs.cut_after(u64::MAX);
            assert_eq!(live(&fs, &[(9, 1)]).0, Some((9, 1)));
            fs.power_cycle();
            assert_eq!(reopened(&fs), (9, 1));
        }
    }
}

#[test]
fn a_failed_sync_is_a_fault_and_costs_no_acknowledged_vote() {
    for operation in 1..=operations_of_history() {
        for seed in 0..10 {
            let fs = SimFs::new(seed);
            fs.inject(When::Operation(operation), Injection::FailedSync);
            let (acknowledged, under_way) = live(&fs, &HISTORY);
            // The process ends, and starts again with the cache as it was.
            let seen = BallotFile::open(&fs, &path()).map(|(_, ballot)| ballot);
            fs.power_cycle();
            let found = reopened(&fs);
            let last = acknowledged.unwrap_or((0, 0));
            assert!(
                found == last || Some(found) == under_way,
                "{operation}: {found:?}, {last:?}"
            );
            if let (Ok(seen), Some(_)) = (seen, acknowledged) {
                assert_eq!(found, seen);
            }
        }
    }
}

#[test]
fn what_an_opening_tells_after_syncs_that_failed_in_two_lives_survives_the_power() {
    for first in 1..=operations_of_history() {
        for second in 1..=8 {
            let fs = SimFs::new(first * 8 + second);
            fs.inject(When::Operation(first), Injection::FailedSync);
            let (acknowledged, _) = live(&fs, &HISTORY);
            // The process ends twice, and starts again with the cache as it was: pages whose sync failed are marked clean.
            let operation = fs.operations() + second;
            fs.inject(When::Operation(operation), Injection::FailedSync);
            if BallotFile::open(&fs, &path()).is_ok() {
                continue;
            }
            let seen = reopened(&fs);
            fs.power_cycle();
            assert_eq!(reopened(&fs), seen, "operations {first} and {operation}");
            assert!(acknowledged.is_none_or(|last| seen >= last));
        }
    }
}

#[test]
fn no_space_at_any_operation_is_an_error_and_the_ballot_stays() {
    for operation in 1..=operations_of_history() {
        for injection in [Injection::NoSpace, Injection::ShortWrite] {
            let fs = SimFs::new(operation);
            fs.inject(When::Operation(operation), injection);
            let (acknowledged, under_way) = live(&fs, &HISTORY);
            let found = reopened(&fs);
            let last = acknowledged.unwrap_or((0, 0));
            assert!(found == last || Some(found) == under_way);
        }
    }
}

#[test]
fn a_full_disk_is_told_when_a_ballot_is_created() {
    let fs = SimFs::new(1);
    fs.set_capacity(Some(100));
    let error = BallotFile::open(&fs, &path()).unwrap_err();
    assert!(matches!(error, BallotError::NoSpace(_)), "{error}");
    fs.set_capacity(None);
    assert_eq!(reopened(&fs), (0, 0));
}

#[test]
fn any_flipped_byte_at_rest_costs_nothing_and_is_repaired() {
    let clean = bytes_of(&disk_at_rest());
    for position in 0..2 * SECTOR_BYTES {
        let fs = disk_at_rest();
        for bit in 0..8 {
            fs.flip_bit(&path(), position as u64, bit);
        }
        assert_eq!(reopened(&fs), (6, 3), "byte {position}");
        assert_eq!(bytes_of(&fs), clean, "byte {position}");
    }
}

#[test]
fn any_flipped_bit_of_the_meaningful_bytes_costs_nothing() {
    for position in (0..64).chain(4088..4160).chain(8184..8192) {
        for bit in 0..8 {
            let fs = disk_at_rest();
            fs.flip_bit(&path(), position, bit);
            assert_eq!(reopened(&fs), (6, 3));
        }
    }
}

#[test]
fn one_unreadable_sector_costs_nothing_and_is_rewritten() {
    for sector in 0..2 {
        let fs = disk_at_rest();
        fs.make_unreadable(&path(), sector * SECTOR_BYTES as u64);
        assert_eq!(reopened(&fs), (6, 3));
        bytes_of(&fs);
    }
}

#[test]
fn a_save_that_went_to_the_wrong_slot_costs_nothing() {
    for which in 0..2 {
        let fs = disk_at_rest();
        let (mut ballot, _) = BallotFile::open(&fs, &path()).unwrap();
        fs.inject(
            When::Operation(fs.operations() + 1 + 2 * which),
            Injection::MisdirectedWrite,
        );
        ballot.save(8, 1).unwrap();
        fs.power_cycle();
        assert_eq!(reopened(&fs), (8, 1));
    }
}

#[test]
fn damage_in_both_slots_is_refused_and_nothing_changed() {
    let fs = disk_at_rest();
    fs.flip_bit(&path(), 30, 1);
    fs.flip_bit(&path(), SECTOR_BYTES as u64 + 90, 0);
    let before = bytes_of(&fs);
    let error = BallotFile::open(&fs, &path()).unwrap_err();
    assert!(matches!(error, BallotError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("must not vote"));
    assert_eq!(bytes_of(&fs), before);
}

#[test]
fn any_other_length_is_refused() {
    let whole = bytes_of(&disk_at_rest());
    for len in [0, 1, 4095, 4096, 8191] {
        let fs = disk_at_rest();
        fs.plant(&path(), whole[..len].to_vec());
        let error = BallotFile::open(&fs, &path()).unwrap_err();
        assert!(matches!(error, BallotError::Damaged { .. }), "{error}");
    }
    let fs = disk_at_rest();
    fs.plant(&path(), [&whole[..], &[0]].concat());
    assert!(BallotFile::open(&fs, &path()).is_err());
}

#[test]
fn a_slot_of_a_later_version_is_never_overruled_by_an_older_one() {
    for number in 0..2 {
        let fs = disk_at_rest();
        let mut bytes = bytes_of(&fs);
        let later = SealedPage::new(MAGIC, VERSION + 1).seal();
        bytes[number * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(&later);
        fs.plant(&path(), bytes);
        let error = BallotFile::open(&fs, &path()).unwrap_err();
        assert!(
            matches!(error, BallotError::Version { version: 2, .. }),
            "{error}"
        );
    }
}

#[test]
fn a_page_of_another_kind_is_refused() {
    let fs = disk_at_rest();
    let page = SealedPage::new(*b"PLIMNODE", 1).seal();
    fs.plant(&path(), [page, page].concat());
    let error = BallotFile::open(&fs, &path()).unwrap_err();
    assert!(matches!(error, BallotError::Foreign(_)), "{error}");
}

/// One slot of a ballot file is overwritten with `page`.
fn with_slot(number: usize, page: &[u8; SECTOR_BYTES]) -> SimFs {
    let fs = disk_at_rest();
    let mut bytes = bytes_of(&fs);
    bytes[number * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(page);
    fs.plant(&path(), bytes);
    fs
}

#[test]
fn a_write_that_was_meant_for_another_file_costs_nothing() {
    let other = Slot {
        sequence: 77,
        term: 9,
        vote: 1,
        birthplace: birthplace(Path::new("/other/ballot")),
    };
    let pages = [
        other.encode().seal(),
        SealedPage::new(*b"PLIMNODE", 1).seal(),
    ];
    for page in &pages {
        for number in 0..2 {
            let fs = with_slot(number, page);
            assert_eq!(reopened(&fs), (6, 3));
            let bytes = bytes_of(&fs);
            assert_eq!(bytes[..SECTOR_BYTES], bytes[SECTOR_BYTES..]);
        }
    }
}

#[test]
fn slots_of_two_files_in_one_that_was_moved_are_refused() {
    let elsewhere = |vote, place| Slot {
        sequence: 7,
        term: 9,
        vote,
        birthplace: birthplace(Path::new(place)),
    };
    let slots = [elsewhere(1, "/one/ballot"), elsewhere(2, "/two/ballot")];
    let fs = disk_at_rest();
    fs.plant(&path(), slots.map(|slot| slot.encode().seal()).concat());
    let error = BallotFile::open(&fs, &path()).unwrap_err();
    assert!(matches!(error, BallotError::Damaged { .. }), "{error}");
}

#[test]
fn a_ballot_missing_from_a_folder_in_use_is_refused() {
    let fs = Arc::new(SimFs::new(1));
    fs.create(Path::new("/00000000000000000001.segment"), 4096)
        .unwrap();
    let error = BallotFile::open(fs.as_ref(), &path()).unwrap_err();
    assert!(matches!(error, BallotError::Missing(_)), "{error}");
    assert!(!fs.exists(&path()).unwrap());
}
