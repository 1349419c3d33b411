//! A sync that the log does not wait for: what counts as durable before, while and after, and what a failure of it means.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use segment_store::fs::{Fs, Injection, SimFs, When, ensure_dir};
use segment_store::{AppendError, Frame, Log};
use support::{Chain, identity, small};

const DIR: &str = "/log";

fn disk(seed: u64) -> SimFs {
    let sim = SimFs::new(seed);
    ensure_dir(&sim, Path::new(DIR)).unwrap();
    sim
}

fn open(sim: &SimFs) -> Log {
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let opened = Log::open(fs, Path::new(DIR), identity(), small(), None);
    opened.unwrap().0
}

fn frames(log: &Log, count: usize) -> Vec<Frame> {
    let mut chain = Chain::after(log);
    (0..count).map(|_| chain.batch(300, 7)).collect()
}

fn append(log: &mut Log, count: usize) {
    let frames = frames(log, count);
    log.append(&frames).unwrap();
}

#[test]
fn nothing_counts_as_durable_before_the_end_of_the_sync_was_told() {
    let sim = disk(1);
    let mut log = open(&sim);
    append(&mut log, 3);
    let begun = log.begin_sync().unwrap().unwrap();
    assert_eq!(log.durable_index(), 0);
    let ended = begun.carry_out();
    assert_eq!(log.durable_index(), 0);
    assert_eq!(log.end_sync(ended).unwrap(), 3);
    assert!(log.begin_sync().unwrap().is_none(), "all is durable");
}

#[test]
fn what_is_appended_meanwhile_waits_for_the_next_sync() {
    for seed in 0..40 {
        let sim = disk(seed);
        let mut log = open(&sim);
        append(&mut log, 3);
        let begun = log.begin_sync().unwrap().unwrap();
        let ended = begun.carry_out();
        append(&mut log, 2);
        assert_eq!(log.end_sync(ended).unwrap(), 3);
        assert_eq!((log.durable_index(), log.last_index()), (3, 5));
        sim.power_cycle();
        assert!(open(&sim).last_index() >= 3, "seed {seed}");
    }
}

#[test]
fn plain_sync_after_a_begun_one_covers_what_came_in_between() {
    for seed in 0..40 {
        let sim = disk(seed);
        let mut log = open(&sim);
        append(&mut log, 3);
        let ended = log.begin_sync().unwrap().unwrap().carry_out();
        append(&mut log, 2);
        log.end_sync(ended).unwrap();
        assert_eq!(log.sync().unwrap(), 5);
        sim.power_cycle();
        assert_eq!(open(&sim).last_index(), 5, "seed {seed}");
    }
}

#[test]
fn a_begun_sync_that_fails_ends_the_log() {
    let sim = disk(1);
    let mut log = open(&sim);
    append(&mut log, 3);
    let begun = log.begin_sync().unwrap().unwrap();
    sim.inject(When::Next, Injection::FailedSync);
    let ended = begun.carry_out();
    log.end_sync(ended).unwrap_err();
    assert_eq!(log.durable_index(), 0);
    let more = frames(&log, 1);
    assert!(matches!(
        log.append(&more).unwrap_err(),
        AppendError::Fault(_)
    ));
    log.begin_sync().unwrap_err();
}

#[test]
fn room_is_told_before_a_new_segment_is_needed() {
    let sim = disk(1);
    let mut log = open(&sim);
    let mut rolled = 0;
    for _ in 0..200 {
        let more = frames(&log, 1);
        let fits = log.has_room_for(&more);
        let files = sim.list(Path::new(DIR)).unwrap().len();
        log.append(&more).unwrap();
        let grew = sim.list(Path::new(DIR)).unwrap().len() > files;
        assert_eq!(fits, !grew);
        rolled += usize::from(grew);
    }
    assert!(rolled > 0);
}
