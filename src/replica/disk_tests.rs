//! The disk's work without its thread: group commit, want of room, broken promises.

use std::path::Path;
use std::path::PathBuf;

use segment_store::fs::{Injection, SimFs, When};
use segment_store::{LogIdentity, LogOptions, kind};

use super::super::open::open_files;
use super::super::writes::unstamped_header;
use super::*;
use crate::raft::NodeId;

struct Bench {
    fs: SimFs,
    worker: DiskWorker,
}

impl Bench {
    fn new(groups: u64) -> Bench {
        let fs = SimFs::new(1);
        let mut worker = DiskWorker::new(Arc::new(fs.clone()), Meters::default());
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
    let dir = PathBuf::from(format!("/{group}"));
    fs.create_dir(&dir).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    let identity = LogIdentity {
        cluster: [1; 16],
        group,
    };
    let options = LogOptions {
        segment_bytes_first: 64 << 10,
        segment_bytes_max: 64 << 10,
        ..LogOptions::default()
    };
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let voters: [NodeId; 1] = [1];
    let opened = open_files(&fs, &dir, identity, &options, None, &voters);
    opened.unwrap().0
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
