//! The disk thread: one for all groups of a node. Owns the logs and ballot files, and group commit.
//!
//! It drains its queue, writes everything, syncs each touched log once, and reports: batches that arrive
//! during one sync share the next. It must not know the rules of consensus, nor who waits. It is the
//! middle of the produce and append walks: what it reports durable releases the acks.
//!
//! When there is no room, the group's operations stay queued in order and are tried again from time to
//! time; ballots are saved all the same, for their file never grows. A broken promise of the machine
//! ends the group: nothing of it is written any more, and nothing is retried.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::effects::DiskOp;
use super::jobs::{DiskJob, DiskReport, GroupFiles};
use super::meters::Meters;
use crate::mutation;
use crate::raft::Ballot;
use segment_store::fs::Fs;
use segment_store::snapshot::{self, WriteError};
use segment_store::{AppendError, Frame, Log};

/// How often operations that found no room are tried again.
const NO_SPACE_RETRY: Duration = Duration::from_millis(250);

/// The name of a replica's snapshot files in its folder.
pub(crate) const SNAPSHOT_NAME: &str = "replica";

/// The handle of the disk thread. Dropping it ends the thread once its queue is empty.
#[derive(Debug)]
pub(crate) struct Disk {
    jobs: Option<mpsc::Sender<Vec<DiskJob>>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread; `report` is called on it with what each turn brought.
    pub(crate) fn start(
        fs: Arc<dyn Fs>,
        meters: Meters,
        report: impl Fn(Vec<DiskReport>) + Send + 'static,
    ) -> std::io::Result<Disk> {
        let (jobs, queue) = mpsc::channel();
        let worker = DiskWorker::new(fs, meters);
        let thread = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || work(worker, &queue, report))?;
        Ok(Disk {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Queues the jobs of one turn of the loop.
    pub(crate) fn submit(&self, jobs: Vec<DiskJob>) {
        let sender = self.jobs.as_ref().expect("present until dropped");
        // The thread ends early only by a panic, which its owner sees when joining.
        let _ = sender.send(jobs);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the disk thread panicked");
        }
    }
}

fn work(
    mut worker: DiskWorker,
    queue: &mpsc::Receiver<Vec<DiskJob>>,
    report: impl Fn(Vec<DiskReport>),
) {
    loop {
        let timeout = if worker.is_stalled() {
            NO_SPACE_RETRY
        } else {
            // Nothing to retry: any wait will do.
            Duration::from_secs(3600)
        };
        let mut jobs = match queue.recv_timeout(timeout) {
            Ok(jobs) => jobs,
            Err(RecvTimeoutError::Timeout) => {
                let reports = worker.retry();
                if !reports.is_empty() {
                    report(reports);
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Group commit: whatever arrived while the last turn was syncing shares this one.
        while let Ok(more) = queue.try_recv() {
            jobs.extend(more);
        }
        let reports = worker.turn(jobs);
        if !reports.is_empty() {
            report(reports);
        }
        worker.let_go_cached();
    }
}

/// The work itself, without a thread: what the simulator drives.
#[derive(Debug)]
pub struct DiskWorker {
    fs: Arc<dyn Fs>,
    meters: Meters,
    groups: HashMap<u64, GroupDisk>,
    /// Groups that were synced, whose copy here nobody reads.
    unread: Vec<u64>,
}

#[derive(Debug)]
struct GroupDisk {
    files: GroupFiles,
    queue: VecDeque<(u64, DiskOp)>,
    stalled: bool,
    poisoned: bool,
}

/// What a group's turn came to before the sync.
#[derive(Debug, Default)]
struct Written {
    /// The last operation carried out.
    through: Option<u64>,
    /// Frames appended and not synced.
    frames: usize,
    /// What the last of them asks of the page cache.
    keep_cached: bool,
}

/// Why an operation was not carried out.
enum Stop {
    NoSpace,
    Fault(String),
}

impl DiskWorker {
    /// No groups.
    pub fn new(fs: Arc<dyn Fs>, meters: Meters) -> DiskWorker {
        DiskWorker {
            fs,
            meters,
            groups: HashMap::new(),
            unread: Vec::new(),
        }
    }

    /// The log of `group`, for looking at.
    pub fn log(&self, group: u64) -> Option<&Log> {
        Some(&self.groups.get(&group)?.files.log)
    }

    /// Whether operations wait for room.
    pub fn is_stalled(&self) -> bool {
        self.groups.values().any(|group| group.stalled)
            && !mutation::is("a full disk is never tried again")
    }

    /// Carries out `jobs` and reports, in order per group. Durable on return, but for what waits for room.
    pub fn turn(&mut self, jobs: Vec<DiskJob>) -> Vec<DiskReport> {
        self.unread.clear();
        let mut reports = Vec::new();
        let mut touched = Vec::new();
        let mut closing = Vec::new();
        for job in jobs {
            match job {
                DiskJob::Open { group, files } => self.open(group, *files),
                DiskJob::Write { group, ballot, ops } => {
                    let Some(disk) = self.groups.get_mut(&group) else {
                        continue;
                    };
                    disk.queue.extend(ops);
                    if let Some(ballot) = ballot {
                        disk.save_ballot(group, ballot, &mut reports);
                    }
                    touched.push(group);
                }
                DiskJob::Close { group, done } => closing.push((group, done)),
            }
        }
        touched.sort_unstable();
        touched.dedup();
        self.write(&touched, &mut reports);
        for (group, done) in closing {
            if let Some(disk) = self.groups.remove(&group) {
                disk.close(group, &mut reports);
            }
            // Who asked may have given up waiting.
            let _ = done.send(());
        }
        reports
    }

    /// Tries again what found no room.
    pub fn retry(&mut self) -> Vec<DiskReport> {
        let mut reports = Vec::new();
        let stalled = self.groups.iter().filter(|(_, group)| group.stalled);
        let mut stalled: Vec<u64> = stalled.map(|(group, _)| *group).collect();
        stalled.sort_unstable();
        self.write(&stalled, &mut reports);
        reports
    }

    /// Lets the page cache go of what was synced and is not read. For after the reports: nobody waits for it.
    pub fn let_go_cached(&mut self) {
        for group in self.unread.drain(..) {
            if let Some(disk) = self.groups.get_mut(&group) {
                disk.files.log.let_go_cached();
            }
        }
    }

    fn open(&mut self, group: u64, files: GroupFiles) {
        let disk = GroupDisk {
            files,
            queue: VecDeque::new(),
            stalled: false,
            poisoned: false,
        };
        let before = self.groups.insert(group, disk);
        assert!(before.is_none(), "group {group} was handed over twice");
    }

    /// Writes the queues of `groups`, then syncs each log that was written to.
    fn write(&mut self, groups: &[u64], reports: &mut Vec<DiskReport>) {
        let mut written = Vec::with_capacity(groups.len());
        for group in groups {
            if let Some(disk) = self.groups.get_mut(group) {
                let result = disk.write(self.fs.as_ref(), &self.meters, *group, reports);
                written.push((*group, result));
            }
        }
        for (group, written) in written {
            let Some(through) = written.through else {
                continue;
            };
            let disk = self.groups.get_mut(&group).expect("it was there above");
            if disk.poisoned {
                continue;
            }
            if written.frames > 0 {
                let started = Instant::now();
                if let Err(fault) = disk.files.log.sync() {
                    disk.poison(group, fault.to_string(), reports);
                    continue;
                }
                match written.keep_cached {
                    true => disk.files.log.keep_cached(),
                    false => self.unread.push(group),
                }
                self.meters.sync_seconds.record(started.elapsed());
                self.meters.batches_per_sync.record(written.frames as f64);
            }
            reports.push(DiskReport::Done { group, through });
        }
    }
}

impl GroupDisk {
    fn save_ballot(&mut self, group: u64, ballot: Ballot, reports: &mut Vec<DiskReport>) {
        if self.poisoned {
            return;
        }
        match self
            .files
            .ballot
            .save(ballot.term, ballot.vote.unwrap_or(0))
        {
            Ok(()) => reports.push(DiskReport::BallotDurable { group, ballot }),
            Err(_) if mutation::is("votes after a failed write") => {
                reports.push(DiskReport::BallotDurable { group, ballot });
            }
            Err(fault) => self.poison(group, fault.to_string(), reports),
        }
    }

    /// Carries out what is queued, up to the first operation that finds no room.
    fn write(
        &mut self,
        fs: &dyn Fs,
        meters: &Meters,
        group: u64,
        reports: &mut Vec<DiskReport>,
    ) -> Written {
        let mut written = Written::default();
        while let Some((number, op)) = self.next_op() {
            if self.poisoned {
                break;
            }
            match self.carry_out(fs, meters, &op, &mut written) {
                Ok(()) => written.through = Some(number),
                Err(Stop::NoSpace) => {
                    self.queue.push_front((number, op));
                    if !self.stalled {
                        self.stalled = true;
                        tracing::warn!(group, "no space on the disk: writes of this group wait");
                        reports.push(DiskReport::Full { group, full: true });
                    }
                    return written;
                }
                Err(Stop::Fault(reason)) => {
                    self.poison(group, reason, reports);
                    return written;
                }
            }
        }
        if self.stalled {
            self.stalled = false;
            tracing::info!(group, "there is space on the disk again");
            reports.push(DiskReport::Full { group, full: false });
        }
        written
    }

    /// The next operation; appends that follow each other become one.
    fn next_op(&mut self) -> Option<(u64, DiskOp)> {
        let (mut number, mut op) = self.queue.pop_front()?;
        if let DiskOp::Append {
            frames,
            keep_cached,
        } = &mut op
        {
            while let Some((
                next,
                DiskOp::Append {
                    frames: more,
                    keep_cached: keep,
                },
            )) = self
                .queue
                .pop_front_if(|(_, op)| matches!(op, DiskOp::Append { .. }))
            {
                number = next;
                *keep_cached = keep;
                frames.extend(more);
            }
        }
        Some((number, op))
    }

    fn carry_out(
        &mut self,
        fs: &dyn Fs,
        meters: &Meters,
        op: &DiskOp,
        written: &mut Written,
    ) -> Result<(), Stop> {
        match op {
            DiskOp::Append {
                frames,
                keep_cached,
            } => {
                self.append(frames, meters)?;
                written.frames += frames.len();
                written.keep_cached = *keep_cached;
            }
            DiskOp::Truncate { after } => self.files.log.truncate_after(*after)?,
            DiskOp::TrustTail => {
                let trusted = self.files.log.trust_tail();
                trusted.map_err(|fault| Stop::Fault(fault.to_string()))?;
            }
            DiskOp::Trim { before } => {
                let trimmed = self.files.log.trim_before(*before);
                trimmed.map_err(|fault| Stop::Fault(fault.to_string()))?;
            }
            DiskOp::Snapshot { index, term, bytes } => {
                let dir = &self.files.dir;
                snapshot::write(fs, dir, SNAPSHOT_NAME, *index, *term, bytes)?;
            }
            DiskOp::Install {
                index,
                term,
                bytes,
                base,
            } => {
                // In this order: once the snapshot is there, opening finishes what is interrupted here.
                let dir = &self.files.dir;
                snapshot::write(fs, dir, SNAPSHOT_NAME, *index, *term, bytes)?;
                self.files.log.reset(*base)?;
                meters.installs.increment(1);
            }
        }
        Ok(())
    }

    fn append(&mut self, frames: &[Frame], meters: &Meters) -> Result<(), Stop> {
        let started = Instant::now();
        self.files.log.append(frames)?;
        meters.append_seconds.record(started.elapsed());
        let bytes = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
        meters.append_bytes.increment(bytes);
        Ok(())
    }

    /// Closes the files; a log that is whole notes where it ends.
    fn close(self, group: u64, reports: &mut Vec<DiskReport>) {
        if self.poisoned {
            return;
        }
        if let Err(fault) = self.files.log.close() {
            let reason = fault.to_string();
            tracing::error!(group, reason, "the log could not be closed in order");
            reports.push(DiskReport::Fault { group, reason });
        }
    }

    fn poison(&mut self, group: u64, reason: String, reports: &mut Vec<DiskReport>) {
        if self.poisoned {
            return;
        }
        self.poisoned = true;
        self.stalled = false;
        self.queue.clear();
        tracing::error!(
            group,
            reason,
            "the disk broke a promise: this replica is poisoned"
        );
        reports.push(DiskReport::Fault { group, reason });
    }
}

impl From<AppendError> for Stop {
    fn from(error: AppendError) -> Stop {
        match error {
            AppendError::NoSpace => Stop::NoSpace,
            // A damaged log is never opened for writing, see `open`; so this is a promise broken since.
            AppendError::Fault(_) => Stop::Fault(error.to_string()),
        }
    }
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Stop {
        match error {
            WriteError::NoSpace => Stop::NoSpace,
            WriteError::Fault(fault) => Stop::Fault(fault.to_string()),
        }
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
