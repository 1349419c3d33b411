//! No room, failing writes and failing syncs: what can be tried again, and what ends a log.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use segment_store::fs::{Fs, Injection, SimFs, When, ensure_dir};
use segment_store::{AppendError, Frame, Log, OpenError, Preparer, PreparerOptions, verify};
use support::{Chain, bytes_of, identity, open, read_all, small};

const DIR: &str = "/log";

fn disk() -> (SimFs, Arc<dyn Fs>) {
    let sim = SimFs::new(3);
    ensure_dir(&sim, Path::new(DIR)).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    (sim, fs)
}

#[test]
fn an_append_without_room_changes_nothing_and_succeeds_once_there_is_room() {
    let (sim, fs) = disk();
    sim.set_capacity(Some(40 << 10));
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut frames = Vec::new();
    let refused = loop {
        let mut chain = Chain::after(&log);
        let group: Vec<Frame> = (0..4).map(|n| chain.batch(1_700, n)).collect();
        match log.append(&group) {
            Ok(()) => frames.extend(group),
            Err(AppendError::NoSpace) => break group,
            Err(error) => panic!("{error}"),
        }
    };
    for _ in 0..3 {
        assert!(matches!(log.append(&refused), Err(AppendError::NoSpace)));
        assert_eq!(log.last_index(), frames.len() as u64);
        assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
    }
    assert_eq!(log.sync().unwrap(), frames.len() as u64);
    sim.set_capacity(None);
    log.append(&refused).unwrap();
    frames.extend(refused);
    log.sync().unwrap();
    drop(log);
    sim.power_cycle();
    let (log, _) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
}

#[test]
fn a_truncation_without_room_changes_nothing() {
    let (sim, fs) = disk();
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut chain = Chain::start();
    let frames: Vec<Frame> = (0..8).map(|n| chain.batch(500, n)).collect();
    log.append(&frames).unwrap();
    sim.set_capacity(Some(13 << 10));
    assert!(matches!(log.truncate_after(3), Err(AppendError::NoSpace)));
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames));
    sim.set_capacity(None);
    log.truncate_after(3).unwrap();
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&frames[..3]));
}

#[test]
fn a_new_log_without_room_says_so() {
    let (sim, fs) = disk();
    sim.set_capacity(Some(1_000));
    let error = open(&fs, Path::new(DIR)).unwrap_err();
    assert!(matches!(error, OpenError::NoSpace { .. }), "{error}");
}

#[test]
fn a_write_that_stops_midway_is_forgotten_and_other_frames_may_follow() {
    let (sim, fs) = disk();
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut chain = Chain::start();
    let kept = chain.batch(300, 1);
    log.append(std::slice::from_ref(&kept)).unwrap();
    log.sync().unwrap();
    let mut lost = chain;
    let lost: Vec<Frame> = (0..3).map(|_| lost.batch(900, 2)).collect();
    sim.inject(When::Next, Injection::ShortWrite);
    assert!(matches!(log.append(&lost), Err(AppendError::NoSpace)));
    assert_eq!(log.last_index(), 1);
    chain.term = 2;
    let other = chain.batch(100, 3);
    log.append(std::slice::from_ref(&other)).unwrap();
    log.sync().unwrap();
    drop(log);
    sim.power_cycle();
    let (log, _) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&[kept, other]));
}

#[test]
fn a_failed_sync_ends_the_log_and_is_never_tried_again() {
    let (sim, fs) = disk();
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut chain = Chain::start();
    let acked = chain.batch(300, 1);
    log.append(std::slice::from_ref(&acked)).unwrap();
    log.sync().unwrap();
    let lost = chain.batch(300, 2);
    log.append(&[lost]).unwrap();
    sim.inject(When::Next, Injection::FailedSync);
    log.sync().unwrap_err();
    let operations = sim.operations();
    log.sync().unwrap_err();
    let next = chain.batch(10, 3);
    assert!(matches!(log.append(&[next]), Err(AppendError::Fault(_))));
    assert!(log.truncate_after(1).is_err());
    assert!(log.trim_before(1).is_err());
    assert_eq!(
        sim.operations(),
        operations,
        "nothing was written or synced"
    );
    assert_eq!(log.durable_index(), 1);
    drop(log);
    sim.power_cycle();
    let (log, _) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&[acked]));
}

#[test]
fn frames_whose_sync_failed_in_a_former_life_are_written_again_before_they_are_acked() {
    // The kernel marks the pages of a failed sync clean: they read well, and are not on the disk.
    let (sim, fs) = disk();
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut chain = Chain::start();
    let frames: Vec<Frame> = (0..4).map(|n| chain.batch(1_400, n)).collect();
    log.append(&frames).unwrap();
    sim.inject(When::Next, Injection::FailedSync);
    log.sync().unwrap_err();
    drop(log);
    let (log, _) = open(&fs, Path::new(DIR)).unwrap();
    let found = read_all(&log.reader()).unwrap();
    assert_eq!(found, bytes_of(&frames), "they are in the page cache");
    assert_eq!(log.durable_index(), 4);
    drop(log);
    sim.power_cycle();
    let (log, _) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(read_all(&log.reader()).unwrap(), found);
}

#[test]
fn a_fault_at_any_operation_loses_nothing_acked_and_stops_the_log() {
    for operation in 3.. {
        let (sim, fs) = disk();
        sim.inject(When::Operation(operation), Injection::FailedSync);
        let mut acked = Vec::new();
        let mut failed = false;
        if let Ok((mut log, _)) = open(&fs, Path::new(DIR)) {
            for n in 0..6 {
                let mut chain = Chain::after(&log);
                let group: Vec<Frame> = (0..3).map(|_| chain.batch(1_500, n)).collect();
                if log.append(&group).is_err() || log.sync().is_err() {
                    failed = true;
                    break;
                }
                acked.extend(bytes_of(&group));
            }
        } else {
            failed = true;
        }
        if !failed && sim.operations() < operation {
            return;
        }
        sim.power_cycle();
        let (log, _) = open(&fs, Path::new(DIR)).unwrap();
        let found = read_all(&log.reader()).unwrap();
        assert!(found.len() >= acked.len(), "operation {operation}");
        assert_eq!(found[..acked.len()], acked, "operation {operation}");
    }
}

#[test]
fn what_the_process_after_a_fault_acks_survives_a_power_cut_too() {
    goes_on_after_a_fault(false);
}

#[test]
fn what_is_acked_after_a_kill_at_the_moment_of_a_fault_survives_a_power_cut_too() {
    goes_on_after_a_fault(true);
}

/// One process meets a failed sync at each operation in turn, and may be killed there; the next one goes on.
fn goes_on_after_a_fault(killed: bool) {
    for operation in 3.. {
        let (sim, fs) = disk();
        sim.inject(When::Operation(operation), Injection::FailedSync);
        if killed {
            sim.cut_after(operation);
        }
        let mut failed = true;
        if let Ok((mut log, _)) = open(&fs, Path::new(DIR)) {
            failed = (0..6).any(|n| {
                let mut chain = Chain::after(&log);
                let group: Vec<Frame> = (0..3).map(|_| chain.batch(1_500, n)).collect();
                log.append(&group).is_err() || log.sync().is_err()
            });
        }
        if !failed && sim.operations() < operation {
            return;
        }
        sim.end_process();
        let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
        let mut chain = Chain::after(&log);
        log.append(&[chain.batch(1_500, 9)]).unwrap();
        log.sync().unwrap();
        let acked = read_all(&log.reader()).unwrap();
        drop(log);
        sim.power_cycle();
        let (log, _) = open(&fs, Path::new(DIR)).unwrap();
        let found = read_all(&log.reader()).unwrap();
        assert_eq!(found, acked, "operation {operation}");
    }
}

#[test]
fn what_was_trimmed_never_counts_again_wherever_a_removal_was_not_durable() {
    for recycle in [false, true] {
        for operation in 3.. {
            if !trims_on_after_a_fault(operation, recycle) {
                break;
            }
        }
    }
}

/// One process meets a failed sync, the next one trims further and loses power at each operation in turn. False if no sync was met.
fn trims_on_after_a_fault(operation: u64, recycle: bool) -> bool {
    let mut cut = 0;
    loop {
        let (sim, fs) = disk();
        ensure_dir(&sim, Path::new("/pool")).unwrap();
        let open = || {
            let options = PreparerOptions::default();
            let preparer =
                recycle.then(|| Preparer::inline(Arc::clone(&fs), Path::new("/pool"), options));
            let preparer = preparer.transpose().map_err(|error| error.to_string())?;
            let fs = Arc::clone(&fs);
            let opened = Log::open(fs, Path::new(DIR), identity(), small(), preparer);
            opened.map_err(|error| error.to_string())
        };
        let context = format!("sync {operation}, cut {cut}, recycle {recycle}");
        sim.inject(When::Operation(operation), Injection::FailedSync);
        let (mut appended, mut trimmable) = (Vec::new(), 0);
        if let Ok((mut log, _)) = open() {
            let _ = grow_and_trim(&mut log, &mut appended, &mut trimmable);
        }
        if sim.operations() < operation {
            return false;
        }
        sim.end_process();
        let Ok((mut log, _)) = open() else {
            panic!("{context}: the disk is well");
        };
        appended.truncate(log.last_index() as usize);
        sim.cut_after(sim.operations() + cut);
        let acked = log.last_index();
        let done = grow_and_trim(&mut log, &mut appended, &mut trimmable);
        let uncut = done.is_ok();
        let acked = done.unwrap_or(acked);
        drop(log);
        sim.power_cycle();
        let (log, _) = open().unwrap_or_else(|error| panic!("{context}: {error}"));
        let (first, last) = (log.first_index(), log.last_index());
        assert!(
            first <= trimmable.max(1) && last >= acked,
            "{context}: {first} to {last}"
        );
        let found = read_all(&log.reader()).unwrap();
        assert_eq!(
            found,
            appended[first as usize - 1..last as usize],
            "{context}"
        );
        drop(log);
        let report = verify(&sim, Path::new(DIR)).unwrap();
        assert!(
            report.is_sound() && report.leftovers.is_empty(),
            "{context}: {report:?}"
        );
        if uncut {
            return true;
        }
        cut += 1;
    }
}

/// Fills a few segments and trims, twice. The value is the last index that was acked.
fn grow_and_trim(
    log: &mut Log,
    appended: &mut Vec<Bytes>,
    trimmable: &mut u64,
) -> Result<u64, String> {
    for salt in 0..2 {
        for _ in 0..3 {
            let mut chain = Chain::after(log);
            let group: Vec<Frame> = (0..6).map(|_| chain.batch(2_000, salt)).collect();
            appended.extend(bytes_of(&group));
            log.append(&group).map_err(|error| error.to_string())?;
            log.sync().map_err(|error| error.to_string())?;
        }
        *trimmable = log.last_index();
        let trimmed = log.trim_before(*trimmable);
        trimmed.map_err(|error| error.to_string())?;
    }
    log.sync().map_err(|error| error.to_string())
}

#[test]
fn a_segment_that_is_missing_behind_what_was_trimmed_is_damage() {
    let (sim, fs) = disk();
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let (mut appended, mut trimmable) = (Vec::new(), 0);
    grow_and_trim(&mut log, &mut appended, &mut trimmable).unwrap();
    for _ in 0..4 {
        let mut chain = Chain::after(&log);
        let group: Vec<Frame> = (0..6).map(|_| chain.batch(2_000, 7)).collect();
        log.append(&group).unwrap();
    }
    log.close().unwrap();
    let mut names = sim.list(Path::new(DIR)).unwrap();
    names.retain(|name| name.ends_with(".segment"));
    assert!(names.len() > 2, "{names:?}");
    sim.remove(&Path::new(DIR).join(&names[1])).unwrap();
    let error = open(&fs, Path::new(DIR)).unwrap_err();
    assert!(error.is_damage(), "{error}");
}

/// Bugs that other systems had, each to be caught by a test of this file.
#[cfg(plimsoll_mutations)]
#[test]
fn mutations_are_caught() {
    use segment_store::mutation::{Bug, assert_each_is_caught};

    let caught = assert_each_is_caught(&[
        Bug {
            name: "success after a failed sync",
            real: "55",
            test: "a_failed_sync_ends_the_log_and_is_never_tried_again",
        },
        Bug {
            name: "names whose sync failed stay",
            real: "56",
            test: "what_the_process_after_a_fault_acks_survives_a_power_cut_too",
        },
        Bug {
            name: "the page cache taken for the disk",
            real: "55",
            test: "frames_whose_sync_failed_in_a_former_life_are_written_again_before_they_are_acked",
        },
    ]);
    eprintln!("{caught}");
}
