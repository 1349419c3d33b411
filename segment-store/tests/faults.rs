//! No room, failing writes and failing syncs: what can be tried again, and what ends a log.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use segment_store::fs::{Fs, Injection, SimFs, When, ensure_dir};
use segment_store::{AppendError, Frame, OpenError};
use support::{Chain, bytes_of, open, read_all};

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
