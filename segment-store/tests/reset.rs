//! A log that starts anew further on: what it then is, and that a power cut at any operation leaves the old log or the new one.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use segment_store::fs::{Fs, SimFs, ensure_dir};
use segment_store::{
    AppendError, Frame, Log, LogBase, OpenError, Preparer, PreparerOptions, ReadError, TailVerdict,
    verify,
};
use support::{Chain, bytes_of, identity, read_all, small};

const DIR: &str = "/log";
const POOL: &str = "/pool";

fn disk(seed: u64) -> SimFs {
    let sim = SimFs::new(seed);
    ensure_dir(&sim, Path::new(DIR)).unwrap();
    ensure_dir(&sim, Path::new(POOL)).unwrap();
    sim
}

fn open(sim: &SimFs) -> Result<Log, OpenError> {
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let options = PreparerOptions::default();
    let preparer = Preparer::inline(Arc::clone(&fs), Path::new(POOL), options);
    let preparer =
        preparer.map_err(|error| segment_store::Fault::new("opening", Path::new(POOL), error))?;
    let opened = Log::open(fs, Path::new(DIR), identity(), small(), Some(preparer));
    opened.map(|(log, recovered)| {
        assert!(recovered.tail != TailVerdict::Lost, "{recovered:?}");
        assert_eq!(recovered.first_index, log.first_index());
        log
    })
}

fn base(index: u64, term: u64) -> LogBase {
    LogBase {
        index,
        term,
        header_crc: 0xfeed_0000 | u32::try_from(index).unwrap(),
        next_offset: index * 2,
    }
}

fn frames(log: &Log, count: usize, len: usize, salt: u8) -> Vec<Frame> {
    let mut chain = Chain::after(log);
    (0..count)
        .map(|n| chain.batch(len + n * 500, salt))
        .collect()
}

/// Several segments, the last of them with entries that are not synced.
fn filled(sim: &SimFs) -> Log {
    let mut log = open(sim).unwrap();
    for salt in 0..3 {
        log.append(&frames(&log, 6, 4_000, salt)).unwrap();
        log.sync().unwrap();
    }
    log.append(&frames(&log, 2, 300, 9)).unwrap();
    log
}

#[test]
fn a_log_starts_anew_beyond_its_end_and_goes_on_from_there() {
    let sim = disk(1);
    let mut log = filled(&sim);
    let reader = log.reader();
    let old = reader.read(1, u64::MAX, 1 << 20).unwrap();
    let before = old.bytes.to_vec();
    let to = base(1_000, 7);
    log.reset(to).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (1_001, 1_000));
    assert_eq!((log.last_term(), log.durable_index()), (7, 1_000));
    assert_eq!((log.log_start(), log.next_offset()), (2_000, 2_000));
    assert_eq!((reader.base(), reader.last_index()), (to, 1_000));
    assert!(matches!(
        reader.read(5, u64::MAX, 100),
        Err(ReadError::Trimmed {
            first_index: 1_001,
            ..
        })
    ));
    assert!(reader.seek_offset(1_999).is_err());
    assert_eq!(reader.seek_offset(2_000).unwrap(), 1_001);
    let more = frames(&log, 5, 4_000, 40);
    log.append(&more).unwrap();
    log.sync().unwrap();
    assert_eq!(read_all(&reader).unwrap(), bytes_of(&more));
    // Whoever held a piece of the old log still holds what it was.
    assert_eq!(old.bytes, before);
    drop(log);
    sim.power_cycle();
    let log = open(&sim).unwrap();
    assert_eq!((log.reader().base(), log.last_index()), (to, 1_005));
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&more));
    assert!(verify(&sim, Path::new(DIR)).unwrap().is_sound());
}

#[test]
fn a_log_starts_anew_in_its_own_middle_where_others_hold_something_else() {
    let sim = disk(2);
    let mut log = filled(&sim);
    let to = base(10, 9);
    log.reset(to).unwrap();
    let more = frames(&log, 3, 100, 50);
    log.append(&more).unwrap();
    // Cut back to its very beginning, it still begins there.
    log.truncate_after(10).unwrap();
    assert_eq!((log.reader().base(), log.last_index()), (to, 10));
    drop(log);
    let log = open(&sim).unwrap();
    assert_eq!((log.reader().base(), log.last_index()), (to, 10));
}

#[test]
fn cutting_a_log_that_started_anew_keeps_what_lies_before_the_cut() {
    let sim = disk(3);
    let mut log = filled(&sim);
    log.reset(base(100, 3)).unwrap();
    let more = frames(&log, 8, 4_000, 60);
    log.append(&more).unwrap();
    log.sync().unwrap();
    log.truncate_after(102).unwrap();
    drop(log);
    sim.power_cycle();
    let log = open(&sim).unwrap();
    assert_eq!(read_all(&log.reader()).unwrap(), bytes_of(&more[..2]));
}

#[test]
fn starting_anew_where_the_log_begins_empty_changes_nothing() {
    let sim = disk(4);
    let mut log = filled(&sim);
    log.reset(base(100, 3)).unwrap();
    let operations = sim.operations();
    log.reset(base(100, 3)).unwrap();
    assert_eq!(sim.operations(), operations);
}

#[test]
fn no_room_for_the_new_file_leaves_the_old_log_as_it_was() {
    let sim = disk(5);
    let mut log = filled(&sim);
    let all = read_all(&log.reader()).unwrap();
    sim.set_capacity(Some(1));
    let refused = log.reset(base(100, 3));
    assert!(matches!(refused, Err(AppendError::NoSpace)), "{refused:?}");
    sim.set_capacity(None);
    assert_eq!(read_all(&log.reader()).unwrap(), all);
    log.reset(base(100, 3)).unwrap();
    log.append(&frames(&log, 1, 10, 1)).unwrap();
    assert_eq!(log.sync().unwrap(), 101);
}

/// What the history was about to do when the power went.
#[derive(Debug, Default)]
struct Witness {
    /// Where the log began, and its frames since, whether or not their append returned.
    base: LogBase,
    appended: Vec<Bytes>,
    acked: u64,
    resetting_to: Option<LogBase>,
}

/// Fills, starts anew three times (twice beyond the end, once in the middle), trims in between.
fn history(sim: &SimFs, witness: &mut Witness) -> Result<(), String> {
    let mut log = open(sim).map_err(|error| error.to_string())?;
    for round in 1..=3_u64 {
        for step in 0..3 {
            let group = frames(&log, 4, 3_500, (round * 10 + step) as u8);
            witness.appended.extend(bytes_of(&group));
            log.append(&group).map_err(|error| error.to_string())?;
            if step < 2 {
                witness.acked = log.sync().map_err(|error| error.to_string())?;
            }
        }
        let to = match round {
            2 => base(log.last_index() - 3, log.last_term() + 1),
            _ => base(log.last_index() + round * 50, log.last_term() + 1),
        };
        witness.resetting_to = Some(to);
        log.reset(to).map_err(|error| error.to_string())?;
        *witness = Witness {
            base: to,
            acked: to.index,
            ..Witness::default()
        };
    }
    let group = frames(&log, 3, 2_000, 99);
    witness.appended.extend(bytes_of(&group));
    log.append(&group).map_err(|error| error.to_string())?;
    witness.acked = log.sync().map_err(|error| error.to_string())?;
    Ok(())
}

fn check(sim: &SimFs, witness: &Witness, context: &str) {
    let log = open(sim).unwrap_or_else(|error| panic!("{context}: {error}"));
    let reader = log.reader();
    if Some(reader.base()) == witness.resetting_to {
        assert_eq!(log.last_index(), reader.base().index, "{context}");
        assert_eq!(log.durable_index(), log.last_index(), "{context}");
    } else {
        assert_eq!(reader.base(), witness.base, "{context}");
        assert!(log.last_index() >= witness.acked, "{context}: {witness:?}");
        let found = read_all(&reader).unwrap();
        assert_eq!(found, witness.appended[..found.len()], "{context}");
    }
    drop(log);
    let report = verify(sim, Path::new(DIR)).unwrap();
    assert!(report.is_sound(), "{context}: {:?}", report.problems);
    assert!(report.leftovers.is_empty(), "{context}: {report:?}");
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_log_or_the_new_one() {
    let whole = disk(0);
    history(&whole, &mut Witness::default()).unwrap();
    let operations = whole.operations();
    for cut in 3..=operations {
        for seed in 0..2 {
            let sim = disk(seed * 1_000 + cut);
            sim.cut_after(cut);
            let mut witness = Witness::default();
            let _ = history(&sim, &mut witness);
            sim.power_cycle();
            // And again, while it is opened.
            sim.cut_after(sim.operations() + 1 + cut % 5);
            drop(open(&sim));
            sim.power_cycle();
            let context = format!("cut {cut} of {operations}, seed {seed}");
            check(&sim, &witness, &context);
        }
    }
}
