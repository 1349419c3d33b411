//! The disk's work without its thread: group commit, want of room, broken promises.

use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use segment_store::fs::{Injection, SimFs, When};
use segment_store::{Frame, LogIdentity, LogOptions, kind};

use super::worker::lock;
use super::*;
use crate::raft::{Ballot, NodeId};
use crate::replica::jobs::GroupFiles;
use crate::replica::open::open_files;
use crate::replica::restart::Restart;
use crate::replica::writes::unstamped_header;

/// From what length on writes go past the page cache.
const PAST_CACHE_BYTES: u64 = 20_000;

struct Bench {
    fs: SimFs,
    worker: DiskWorker,
}

impl Bench {
    fn new(groups: u64) -> Bench {
        Bench::that_acks(groups, Durability::Fsync)
    }

    fn that_acks(groups: u64, durability: Durability) -> Bench {
        let fs = SimFs::new(1);
        let mut worker = DiskWorker::new(Arc::new(fs.clone()), Meters::default(), durability);
        for group in 1..=groups {
            let files = Box::new(files(&fs, group));
            worker.turn(vec![DiskJob::Open { group, files }]);
        }
        Bench { fs, worker }
    }

    /// Operations that a turn with `jobs` costs the disk.
    fn cost(&mut self, jobs: Vec<DiskJob>) -> u64 {
        let before = self.fs.operations();
        self.worker.turn(jobs);
        self.fs.operations() - before
    }
}

fn files(fs: &SimFs, group: u64) -> GroupFiles {
    fs.create_dir(Path::new(&format!("/{group}"))).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    reopened(&fs, group).0
}

fn reopened(fs: &Arc<dyn Fs>, group: u64) -> (GroupFiles, Restart) {
    opened_as(fs, group, Acks::default())
}

fn opened_as(fs: &Arc<dyn Fs>, group: u64, acks: Acks) -> (GroupFiles, Restart) {
    let dir = PathBuf::from(format!("/{group}"));
    let identity = LogIdentity {
        cluster: [1; 16],
        group,
    };
    let options = LogOptions {
        segment_bytes_first: 64 << 10,
        segment_bytes_max: 64 << 10,
        past_cache_bytes_min: PAST_CACHE_BYTES,
        ..LogOptions::default()
    };
    let voters: [NodeId; 1] = [1];
    let opened = open_files(fs, &dir, identity, &options, None, &voters, acks);
    opened.unwrap()
}

/// The frames `1..=count` of a group, each with a payload of `len` bytes.
fn frames(group: u64, count: u64, len: usize) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for index in 1..=count {
        let header = segment_store::FrameHeader {
            index,
            term: 1,
            prev_header_crc: frames.last().map_or(0, Frame::header_crc),
            ..unstamped_header(group, kind::CONTROLLER)
        };
        frames.push(Frame::build(header, &vec![1; len]));
    }
    frames
}

fn append(frames: Vec<Frame>) -> DiskOp {
    DiskOp::Append {
        frames,
        keep_cached: true,
    }
}

fn write(group: u64, ops: Vec<(u64, DiskOp)>) -> DiskJob {
    let ballot = None;
    DiskJob::Write { group, ballot, ops }
}

fn append_each(group: u64, frames: Vec<Frame>) -> Vec<DiskJob> {
    let jobs = (1..).zip(frames);
    jobs.map(|(number, frame)| write(group, vec![(number, append(vec![frame]))]))
        .collect()
}

#[test]
fn batches_that_arrive_together_share_one_write_and_one_sync() {
    let one = Bench::new(1).cost(append_each(1, frames(1, 1, 100)));
    let ten = Bench::new(1).cost(append_each(1, frames(1, 10, 100)));
    assert_eq!(one, ten);
    let mut bench = Bench::new(1);
    let reports = bench.worker.turn(append_each(1, frames(1, 10, 100)));
    let done = DiskReport::Done {
        group: 1,
        through: 10,
    };
    assert_eq!(format!("{reports:?}"), format!("{:?}", [done]));
}

#[test]
fn ballot_is_saved_while_the_log_waits_for_room_and_the_log_goes_on_by_itself() {
    let mut bench = Bench::new(1);
    bench.fs.set_capacity(Some(1));
    let big = append(frames(1, 3, 30_000));
    let ballot = Ballot {
        term: 2,
        vote: Some(1),
    };
    let job = DiskJob::Write {
        group: 1,
        ballot: Some(ballot),
        ops: vec![(1, big)],
    };
    let reports = bench.worker.turn(vec![job]);
    assert!(
        matches!(
            reports[..],
            [
                DiskReport::BallotDurable { group: 1, .. },
                DiskReport::Full { full: true, .. }
            ]
        ),
        "{reports:?}"
    );
    assert!(bench.worker.is_stalled() && bench.worker.retry().is_empty());
    bench.fs.set_capacity(None);
    let reports = bench.worker.retry();
    assert!(
        matches!(
            reports[..],
            [
                DiskReport::Full { full: false, .. },
                DiskReport::Done { through: 1, .. }
            ]
        ),
        "{reports:?}"
    );
    assert!(!bench.worker.is_stalled());
}

#[test]
fn failed_sync_ends_one_group_and_leaves_the_others() {
    let mut bench = Bench::new(2);
    bench.fs.inject(When::Next, Injection::FailedSync);
    let mut jobs = append_each(1, frames(1, 1, 100));
    jobs.extend(append_each(2, frames(2, 1, 100)));
    let reports = bench.worker.turn(jobs);
    assert!(
        matches!(
            reports[..],
            [
                DiskReport::Fault { group: 1, .. },
                DiskReport::Done { group: 2, .. }
            ]
        ),
        "{reports:?}"
    );
    // Nothing of the failed group is tried again.
    let more = write(1, vec![(2, DiskOp::Truncate { after: 0 })]);
    assert_eq!(bench.cost(vec![more]), 0);
}

#[test]
fn what_is_synced_is_reported_before_the_mark_that_says_so_is_written() {
    let mut bench = Bench::new(1);
    for job in append_each(1, frames(1, 1, 100)) {
        bench.worker.take_in(job);
    }
    let fs = bench.fs.clone();
    let mut at_report = Vec::new();
    let worked = bench
        .worker
        .work_once(&mut |_| at_report.push(fs.operations()));
    assert!(worked);
    assert_eq!(at_report, [fs.operations() - 1]);
}

#[test]
fn mark_of_syncs_past_the_page_cache_is_left_once_when_no_write_follows() {
    let mut bench = Bench::new(1);
    let long = frames(1, 2, PAST_CACHE_BYTES as usize);
    let mut due = Vec::new();
    for job in append_each(1, long) {
        bench.worker.take_in(job);
        assert!(bench.worker.work_once(&mut |_| {}));
        due.extend(bench.worker.next_due());
    }
    let written = bench.fs.operations();
    bench.worker.see_to_next(&mut |_| {});
    assert_eq!(bench.fs.operations(), written, "a write has followed");
    due.extend(bench.worker.next_due());
    assert!(due[2] > due[0], "{due:?}");
    bench.worker.see_to_next(&mut |_| {});
    assert_eq!(bench.fs.operations(), written + 1);
    assert_eq!(bench.worker.next_due(), None);
}

#[test]
fn mark_that_cannot_be_written_ends_the_group_after_what_is_synced_was_reported() {
    let mut bench = Bench::new(1);
    // Behind the write and its sync.
    let mark = bench.fs.operations() + 3;
    bench.fs.inject(When::Operation(mark), Injection::NoSpace);
    let reports = bench.worker.turn(append_each(1, frames(1, 1, 100)));
    assert!(
        matches!(
            reports[..],
            [
                DiskReport::Done { through: 1, .. },
                DiskReport::Fault { group: 1, .. }
            ]
        ),
        "{reports:?}"
    );
}

#[test]
fn each_group_is_reported_before_the_next_one_is_synced() {
    let mut bench = Bench::new(2);
    for group in 1..=2 {
        for job in append_each(group, frames(group, 1, 100)) {
            bench.worker.take_in(job);
        }
    }
    for group in 1..=2 {
        let mut reports = Vec::new();
        assert!(bench.worker.work_once(&mut |report| reports.push(report)));
        let through = 1;
        let done = DiskReport::Done { group, through };
        assert_eq!(format!("{reports:?}"), format!("{:?}", [done]));
        assert_eq!(bench.worker.durable_index(3 - group), Some(group - 1));
    }
}

#[test]
fn where_acks_do_not_wait_a_write_is_reported_first_and_synced_when_it_is_due() {
    let mut bench = Bench::that_acks(1, Durability::PageCache);
    let reports = bench.worker.turn(append_each(1, frames(1, 3, 100)));
    assert!(
        matches!(reports[..], [DiskReport::Done { through: 3, .. }]),
        "{reports:?}"
    );
    assert_eq!(bench.worker.durable_index(1), Some(0));
    assert!(bench.worker.next_due().is_some());
    bench.worker.see_to_next(&mut |report| panic!("{report:?}"));
    assert_eq!(bench.worker.durable_index(1), Some(3));
    assert_eq!(bench.worker.next_due(), None);
}

#[test]
fn what_was_acked_before_its_sync_failed_ends_the_group() {
    let mut bench = Bench::that_acks(1, Durability::PageCache);
    bench.worker.turn(append_each(1, frames(1, 1, 100)));
    bench.fs.inject(When::Next, Injection::FailedSync);
    let mut reports = Vec::new();
    bench.worker.see_to_next(&mut |report| reports.push(report));
    assert!(
        matches!(reports[..], [DiskReport::Fault { group: 1, .. }]),
        "{reports:?}"
    );
    let more = write(1, vec![(2, DiskOp::Truncate { after: 0 })]);
    assert_eq!(bench.cost(vec![more]), 0);
}

#[test]
fn closing_syncs_what_was_acked_before() {
    let mut bench = Bench::that_acks(1, Durability::PageCache);
    bench.worker.turn(append_each(1, frames(1, 2, 100)));
    let (done, mut told) = oneshot::channel();
    bench.worker.turn(vec![DiskJob::Close { group: 1, done }]);
    told.try_recv().unwrap();
    bench.fs.power_cycle();
    let fs: Arc<dyn Fs> = Arc::new(bench.fs.clone());
    let (files, _) = reopened(&fs, 1);
    assert_eq!(files.log.last_index(), 2);
}

#[test]
fn ballot_is_synced_before_it_is_reported_however_acks_go() {
    let mut bench = Bench::that_acks(1, Durability::PageCache);
    let ballot = Ballot {
        term: 2,
        vote: Some(1),
    };
    let job = DiskJob::Write {
        group: 1,
        ballot: Some(ballot),
        ops: Vec::new(),
    };
    let reports = bench.worker.turn(vec![job]);
    assert!(
        matches!(reports[..], [DiskReport::BallotDurable { .. }]),
        "{reports:?}"
    );
    bench.fs.power_cycle();
    let fs: Arc<dyn Fs> = Arc::new(bench.fs.clone());
    let path = Path::new("/1/ballot");
    let (_, saved) = segment_store::BallotFile::open(fs.as_ref(), path).unwrap();
    assert_eq!(saved, (2, 1));
}

#[test]
fn ballots_of_many_groups_are_durable_before_any_is_told_and_leave_before_any_append() {
    let mut bench = Bench::new(3);
    let ballot = |term| Ballot {
        term,
        vote: Some(1),
    };
    let save = |group, term| DiskJob::Write {
        group,
        ballot: Some(ballot(term)),
        ops: Vec::new(),
    };
    bench
        .worker
        .take_in(write(3, vec![(1, append(frames(3, 1, 100)))]));
    for group in 1..=3 {
        bench.worker.take_in(save(group, 1));
    }
    bench.worker.take_in(save(2, 5));
    let mut reports = Vec::new();
    assert!(bench.worker.work_once(&mut |report| reports.push(report)));
    let told = [(1, 1), (2, 5), (3, 1)].map(|(group, term)| DiskReport::BallotDurable {
        group,
        ballot: ballot(term),
    });
    assert_eq!(format!("{reports:?}"), format!("{told:?}"));
    bench.fs.power_cycle();
    let fs: Arc<dyn Fs> = Arc::new(bench.fs.clone());
    for (group, term) in [(1, 1), (2, 5), (3, 1)] {
        let path = PathBuf::from(format!("/{group}/ballot"));
        let (_, saved) = segment_store::BallotFile::open(fs.as_ref(), &path).unwrap();
        assert_eq!(saved, (term, 1));
    }
}

#[test]
fn ballot_whose_sync_fails_is_never_told_and_harms_no_other_group() {
    let mut bench = Bench::new(3);
    bench.fs.inject(
        When::NextOn(PathBuf::from("/2/ballot")),
        Injection::FailedSync,
    );
    let ballot = Ballot {
        term: 1,
        vote: Some(1),
    };
    let jobs = (1..=3).map(|group| DiskJob::Write {
        group,
        ballot: Some(ballot),
        ops: Vec::new(),
    });
    let reports = bench.worker.turn(jobs.collect());
    assert!(
        matches!(
            reports[..],
            [
                DiskReport::BallotDurable { group: 1, .. },
                DiskReport::Fault { group: 2, .. },
                DiskReport::BallotDurable { group: 3, .. }
            ]
        ),
        "{reports:?}"
    );
}

/// A loop's end of the threads, with one group whose acks do not wait.
fn loops_end(fs: &SimFs) -> (Disk, mpsc::Receiver<DiskReport>) {
    let (report, reports) = mpsc::channel();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let report = move |done| report.send(done).expect("the test listens");
    let mut disk = Disk::start(&shared, &Meters::default(), Durability::PageCache, report).unwrap();
    let files = Box::new(files(fs, 1));
    assert!(
        disk.submit(vec![DiskJob::Open { group: 1, files }])
            .is_empty()
    );
    (disk, reports)
}

#[test]
fn small_write_is_made_at_once_and_one_that_follows_a_queued_one_is_queued_behind_it() {
    let fs = SimFs::new(1);
    let (mut disk, reports) = loops_end(&fs);
    let mut all = frames(1, 4, 100).into_iter();
    let mut next = |number| write(1, vec![(number, append(all.next().into_iter().collect()))]);
    let first = disk.submit(vec![next(1)]);
    assert!(
        matches!(first[..], [DiskReport::Done { through: 1, .. }]),
        "{first:?}"
    );
    // Held as the thread holds it while it does something longer.
    let group = Arc::clone(&disk.shared[&1]);
    let held = lock(&group);
    assert!(disk.submit(vec![next(2)]).is_empty());
    drop(held);
    drop(group);
    let second = reports.recv().unwrap();
    assert!(
        matches!(second, DiskReport::Done { through: 2, .. }),
        "{second:?}"
    );
    let group = Arc::clone(&disk.shared[&1]);
    let gap = lock(&group).write_at_once(4, &append(Vec::new()), &Meters::default(), &mut |_| ());
    assert!(!gap, "number 3 has not been here yet");
    drop(group);
    let third = disk.submit(vec![next(3)]);
    assert!(
        matches!(third[..], [DiskReport::Done { through: 3, .. }]),
        "{third:?}"
    );
}

#[test]
fn write_that_needs_a_new_segment_is_left_to_the_thread() {
    let fs = SimFs::new(1);
    let (mut disk, reports) = loops_end(&fs);
    let all = frames(1, 4, 20_000);
    let ops = (1..).zip(all);
    let made = ops.map(|(number, frame)| {
        let made = disk.submit(vec![write(1, vec![(number, append(vec![frame]))])]);
        if made.is_empty() {
            reports.recv().unwrap();
        }
        made.len()
    });
    assert_eq!(made.collect::<Vec<_>>(), [1, 1, 1, 0]);
}

/// How acks go in the `start`th start of a machine, if they do not wait.
fn unsynced_in(machine_start: u128) -> Acks {
    let durability = Durability::PageCache;
    Acks {
        durability,
        machine_start,
    }
}

#[test]
fn end_of_a_log_is_suspect_if_the_machine_was_started_anew_since_it_was_acked_unsynced() {
    let sim = SimFs::new(1);
    files(&sim, 1);
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let is_suspect = |acks| opened_as(&fs, 1, acks).1.restored.suspect_tail;
    assert!(!is_suspect(unsynced_in(1)));
    sim.end_process();
    assert!(!is_suspect(unsynced_in(1)), "only the process ended");
    sim.power_cycle();
    assert!(is_suspect(unsynced_in(2)));
    sim.power_cycle();
    assert!(is_suspect(Acks::default()), "until the log is settled");
    sim.power_cycle();
    let (mut files, _) = opened_as(&fs, 1, Acks::default());
    files.log.trust_tail().unwrap();
    drop(files);
    assert!(!is_suspect(unsynced_in(3)));
}

#[test]
fn log_that_was_closed_in_order_is_trusted_whenever_the_machine_was_started() {
    let sim = SimFs::new(1);
    drop(files(&sim, 1));
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let mut worker = DiskWorker::new(Arc::clone(&fs), Meters::default(), Durability::PageCache);
    let files = Box::new(opened_as(&fs, 1, unsynced_in(1)).0);
    let mut jobs = vec![DiskJob::Open { group: 1, files }];
    jobs.extend(append_each(1, frames(1, 2, 100)));
    worker.turn(jobs);
    let (done, _) = oneshot::channel();
    worker.turn(vec![DiskJob::Close { group: 1, done }]);
    sim.power_cycle();
    let (files, restart) = opened_as(&fs, 1, unsynced_in(2));
    assert!(!restart.restored.suspect_tail);
    assert_eq!(files.log.last_index(), 2);
}
