//! Power cuts at every write and sync of a short history: whatever a sync acked is there afterwards, nothing else than what was appended is,
//! and the log goes on.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use segment_store::fs::{Fs, SimFs, ensure_dir};
use segment_store::{
    Frame, Log, OpenError, Preparer, PreparerOptions, Recovered, TailVerdict, verify,
};
use support::{Chain, identity, read_all, small};

const DIR: &str = "/log";
const POOL: &str = "/pool";

/// What the history did so far, as its author knows it.
#[derive(Clone, Debug, Default)]
struct Witness {
    /// Frames by index from 1, whether or not their append returned.
    appended: Vec<Bytes>,
    /// Everything up to here was acked by a sync, and not cut since.
    acked: usize,
    /// A truncation to this length was begun and did not return.
    cutting_to: Option<usize>,
    /// Entries before this index may be gone.
    trimmable: usize,
}

struct Scene {
    sim: SimFs,
    recycle: bool,
}

impl Scene {
    fn new(seed: u64, recycle: bool) -> Scene {
        let sim = SimFs::new(seed);
        ensure_dir(&sim, Path::new(DIR)).unwrap();
        ensure_dir(&sim, Path::new(POOL)).unwrap();
        Scene { sim, recycle }
    }

    fn open(&self) -> Result<(Log, Recovered), OpenError> {
        let fs: Arc<dyn Fs> = Arc::new(self.sim.clone());
        let preparer = self.recycle.then(|| {
            Preparer::inline(Arc::clone(&fs), Path::new(POOL), PreparerOptions::default())
        });
        let preparer = match preparer.transpose() {
            Ok(preparer) => preparer,
            Err(error) => {
                let path = Path::new(POOL);
                return Err(segment_store::Fault::new("opening", path, error).into());
            }
        };
        Log::open(fs, Path::new(DIR), identity(), small(), preparer)
    }
}

type Cut<T = ()> = Result<T, String>;

fn append(log: &mut Log, witness: &mut Witness, frames: &[Frame]) -> Cut {
    let whole = frames.iter().map(|frame| frame.bytes().clone());
    witness.appended.extend(whole);
    log.append(frames).map_err(|error| error.to_string())
}

fn sync(log: &mut Log, witness: &mut Witness) -> Cut {
    let durable = log.sync().map_err(|error| error.to_string())?;
    assert_eq!(durable, log.last_index());
    witness.acked = durable as usize;
    Ok(())
}

fn truncate(log: &mut Log, witness: &mut Witness, index: usize) -> Cut {
    witness.cutting_to = Some(index);
    log.truncate_after(index as u64)
        .map_err(|error| error.to_string())?;
    witness.cutting_to = None;
    witness.appended.truncate(index);
    witness.acked = index;
    Ok(())
}

fn trim(log: &mut Log, witness: &mut Witness, index: usize) -> Cut {
    witness.trimmable = witness.trimmable.max(index);
    log.trim_before(index as u64)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn group(log: &Log, term: u64, count: usize, len: usize, salt: u8) -> Vec<Frame> {
    let mut chain = Chain::after(log);
    chain.term = term.max(log.last_term());
    (0..count)
        .map(|n| match n % 4 {
            2 => chain.membership(),
            _ => chain.batch(len + n * 700, salt),
        })
        .collect()
}

/// Every kind of step: groups, unsynced groups, rolls, a group over two segments, both truncations, trims, openings.
fn history(scene: &Scene, witness: &mut Witness) -> Cut {
    let (mut log, _) = scene.open().map_err(|error| error.to_string())?;
    for round in 0..3 {
        let term = round + 1;
        let frames = group(&log, term, 4, 300, 1);
        append(&mut log, witness, &frames)?;
        sync(&mut log, witness)?;
        let frames = group(&log, term, 1, 40, 2);
        append(&mut log, witness, &frames)?;
        let frames = group(&log, term, 3, 3_000, 3);
        append(&mut log, witness, &frames)?;
        sync(&mut log, witness)?;
        // Rolls over, perhaps twice.
        let frames = group(&log, term, 6, 5_000, 4);
        append(&mut log, witness, &frames)?;
        let frames = group(&log, term, 2, 100, 5);
        append(&mut log, witness, &frames)?;
        if round == 1 {
            // Into the unsynced part, then deep into the sealed one.
            let last = log.last_index() as usize;
            truncate(&mut log, witness, last - 1)?;
            truncate(&mut log, witness, last - 9)?;
            let frames = group(&log, term, 3, 900, 6);
            append(&mut log, witness, &frames)?;
        }
        sync(&mut log, witness)?;
        let middle = log.last_index() as usize - 4;
        trim(&mut log, witness, middle)?;
        if round == 0 {
            log.close().map_err(|error| error.to_string())?;
        }
        (log, _) = scene.open().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Opens after a power cut and checks what is found against what was done. The value is the length of the log.
fn check(scene: &Scene, witness: &Witness, context: &str) -> usize {
    let (log, recovered) = scene
        .open()
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_ne!(recovered.tail, TailVerdict::Lost, "{context}: {witness:?}");
    let (first, last) = (log.first_index() as usize, log.last_index() as usize);
    assert!(
        first <= witness.trimmable.max(1),
        "{context}: first {first}"
    );
    assert!(
        last >= witness.acked || Some(last) == witness.cutting_to,
        "{context}: ends at {last}, {} were acked",
        witness.acked
    );
    assert!(last <= witness.appended.len(), "{context}: ends at {last}");
    assert_eq!(log.durable_index() as usize, last, "{context}");
    let found = read_all(&log.reader()).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(found, witness.appended[first - 1..last], "{context}");
    drop(log);
    let report = verify(&scene.sim, Path::new(DIR)).unwrap();
    assert!(report.is_sound(), "{context}: {:?}", report.problems);
    last
}

/// After the cut: check, go on writing, lose power again, check again.
fn check_and_go_on(scene: &Scene, witness: &mut Witness, context: &str) {
    let last = check(scene, witness, context);
    let (mut log, _) = scene.open().unwrap();
    witness.appended.truncate(last);
    witness.acked = last;
    witness.cutting_to = None;
    for salt in [200, 201] {
        let frames = group(&log, 9, 3, 2_000, salt);
        append(&mut log, witness, &frames).unwrap();
        sync(&mut log, witness).unwrap();
    }
    drop(log);
    scene.sim.power_cycle();
    let again = check(scene, witness, context);
    assert_eq!(again, witness.appended.len(), "{context}");
}

fn operations(recycle: bool) -> u64 {
    let scene = Scene::new(0, recycle);
    let mut witness = Witness::default();
    history(&scene, &mut witness).unwrap();
    check(&scene, &witness, "uncut");
    scene.sim.operations()
}

#[test]
fn a_power_cut_after_any_operation_loses_nothing_that_was_acked() {
    for recycle in [false, true] {
        let operations = operations(recycle);
        for cut in 3..=operations {
            for seed in 0..3 {
                let scene = Scene::new(seed * 1_000 + cut, recycle);
                scene.sim.cut_after(cut);
                let mut witness = Witness::default();
                let _ = history(&scene, &mut witness);
                scene.sim.power_cycle();
                let context = format!("cut {cut} of {operations}, seed {seed}, recycle {recycle}");
                check_and_go_on(&scene, &mut witness, &context);
            }
        }
    }
}

#[test]
fn a_second_power_cut_during_recovery_loses_nothing_either() {
    let operations = operations(true);
    for cut in (3..=operations).step_by(3) {
        for again in [1, 2, 3, 5, 8] {
            let scene = Scene::new(cut * 31 + again, true);
            scene.sim.cut_after(cut);
            let mut witness = Witness::default();
            let _ = history(&scene, &mut witness);
            scene.sim.power_cycle();
            scene.sim.cut_after(scene.sim.operations() + again);
            drop(scene.open());
            scene.sim.power_cycle();
            let context = format!("cut {cut}, then after {again} more");
            check_and_go_on(&scene, &mut witness, &context);
        }
    }
}

#[test]
fn a_process_killed_after_any_operation_may_go_on_and_then_lose_power() {
    for recycle in [false, true] {
        let operations = operations(recycle);
        for kill in 3..=operations {
            let scene = Scene::new(kill * 7, recycle);
            scene.sim.cut_after(kill);
            let mut witness = Witness::default();
            let _ = history(&scene, &mut witness);
            // The next process finds the page cache as it was, synced or not.
            scene.sim.cut_after(u64::MAX);
            let context = format!("killed after {kill} of {operations}, recycle {recycle}");
            check_and_go_on(&scene, &mut witness, &context);
        }
    }
}

/// After a sync only the mark behind the last frame is written again, and nobody waits for that.
#[test]
fn a_power_cut_at_rest_leaves_no_end_to_suspect() {
    for seed in 0..200 {
        let scene = Scene::new(seed, false);
        let (mut log, _) = scene.open().unwrap();
        for salt in 0..3 {
            log.append(&group(&log, 1, 2, 700, salt)).unwrap();
            log.sync().unwrap();
        }
        drop(log);
        scene.sim.power_cycle();
        let (log, recovered) = scene.open().unwrap();
        assert!(!recovered.suspect_tail, "seed {seed}: {recovered:?}");
        assert_eq!((log.last_index(), recovered.tail), (6, TailVerdict::Clean));
    }
}

#[test]
fn a_killed_process_loses_nothing_it_wrote() {
    // Without a power cut, what was written stays in the page cache: the whole history is there, acked or not.
    let scene = Scene::new(1, false);
    let mut witness = Witness::default();
    let (mut log, _) = scene.open().unwrap();
    let frames = group(&log, 1, 5, 2_000, 1);
    append(&mut log, &mut witness, &frames).unwrap();
    drop(log);
    assert_eq!(check(&scene, &witness, "killed"), 5);
    // Opening made it durable, for the next opener acks it.
    scene.sim.power_cycle();
    witness.acked = 5;
    check(&scene, &witness, "killed, then cut");
}

/// Bugs that other systems had, each to be caught by a test of this file.
#[cfg(plimsoll_mutations)]
#[test]
fn mutations_are_caught() {
    use segment_store::mutation::{Bug, assert_each_is_caught};

    let caught = assert_each_is_caught(&[
        Bug {
            name: "the durable mark goes before the sync",
            real: "60",
            test: "a_power_cut_after_any_operation_loses_nothing_that_was_acked",
        },
        Bug {
            name: "names that are not synced",
            real: "56",
            test: "a_power_cut_after_any_operation_loses_nothing_that_was_acked",
        },
        Bug {
            name: "a log that is not synced",
            real: "57",
            test: "a_power_cut_after_any_operation_loses_nothing_that_was_acked",
        },
    ]);
    eprintln!("{caught}");
}
