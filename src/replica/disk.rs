//! The disk thread: one for all groups of a node. Owns the hand-over to it and back.
//!
//! It takes what is queued into the groups, then writes and syncs one of them after another, and reports each as soon as it is
//! durable: batches of a group that arrive before its turn share one sync. Must not know the rules of consensus, nor who waits. It is
//! the middle of the produce and append walks: what it reports durable releases the acks.
//!
//! The work itself is in [`worker`], what becomes of one group's in [`group`], and votes in [`ballots`].

mod ballots;
mod group;
mod worker;

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use segment_store::fs::Fs;

use super::effects::DiskOp;
use super::jobs::{DiskJob, DiskReport};
use super::meters::Meters;

use group::GroupDisk;
pub(crate) use group::SNAPSHOT_NAME;
pub use worker::DiskWorker;
use worker::SharedGroup;

/// How often operations that found no room are tried again.
const NO_SPACE_RETRY: Duration = Duration::from_millis(250);

/// Where an ack does not wait for the disk, a write of up to this many bytes takes less time than handing it over does.
const SMALL_WRITE_BYTES: u64 = 64 << 10;

/// When what was appended counts as kept by this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is synced: a power cut takes nothing away.
    #[default]
    Fsync,
    /// When it is written: the end of the process takes nothing away, and a power cut what was not synced yet, a moment later.
    PageCache,
}

/// When acks of a node go out, and in which of its machine's starts that is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acks {
    /// What they wait for.
    pub durability: Durability,
    /// Another number each time the machine starts: between two of them a power cut may lie.
    pub machine_start: u128,
}

/// The handle of the disk thread. Dropping it ends the thread once its queue is empty.
#[derive(Debug)]
pub(crate) struct Disk {
    durability: Durability,
    meters: Meters,
    work: Option<mpsc::Sender<Vec<Work>>>,
    thread: Option<JoinHandle<()>>,
    /// The groups, where the loop makes small writes itself.
    shared: HashMap<u64, SharedGroup>,
}

/// What the disk thread is told.
#[derive(Debug)]
enum Work {
    Job(DiskJob),
    /// A group that the loop writes to as well.
    Shared {
        group: u64,
        disk: SharedGroup,
    },
    /// The loop has written, and that is to be synced.
    Unsynced {
        group: u64,
        due: Instant,
    },
}

impl Disk {
    /// Starts the thread; `report` is called on it with each thing that is done.
    pub(crate) fn start(
        fs: &Arc<dyn Fs>,
        meters: &Meters,
        durability: Durability,
        mut report: impl FnMut(DiskReport) + Send + 'static,
    ) -> std::io::Result<Disk> {
        let (work, queue) = mpsc::channel();
        let worker = DiskWorker::new(Arc::clone(fs), meters.clone(), durability);
        let thread = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || run(worker, &queue, &mut report))?;
        Ok(Disk {
            durability,
            meters: meters.clone(),
            work: Some(work),
            thread: Some(thread),
            shared: HashMap::new(),
        })
    }

    /// Queues the jobs of one turn of the loop. Where an ack does not wait for the disk, small writes are made at once instead, on the
    /// caller's thread: the value is what came of them.
    pub(crate) fn submit(&mut self, jobs: Vec<DiskJob>) -> Vec<DiskReport> {
        let mut reports = Vec::new();
        let mut left = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.durability {
                Durability::Fsync => left.push(Work::Job(job)),
                Durability::PageCache => left.extend(self.share(job, &mut reports)),
            }
        }
        if !left.is_empty() {
            let work = self.work.as_ref().expect("present until dropped");
            // The thread ends early only by a panic, which its owner sees when joining.
            let _ = work.send(left);
        }
        reports
    }

    /// What is left of `job` for the thread, where the loop makes small writes itself.
    fn share(&mut self, job: DiskJob, reports: &mut Vec<DiskReport>) -> Option<Work> {
        match job {
            DiskJob::Open { group, files } => {
                let disk = GroupDisk::new(group, *files, self.durability);
                let disk = Arc::new(Mutex::new(disk));
                self.shared.insert(group, Arc::clone(&disk));
                Some(Work::Shared { group, disk })
            }
            DiskJob::Write { group, ballot, ops } => {
                if ballot.is_none()
                    && let [(number, op @ DiskOp::Append { .. })] = &ops[..]
                    && op.bytes() <= SMALL_WRITE_BYTES
                    && let Some(disk) = self.shared.get(&group)
                    // Held while the thread does something longer.
                    && let Ok(mut disk) = disk.try_lock()
                    && disk.write_at_once(*number, op, &self.meters, &mut |report| reports.push(report))
                {
                    let due = disk.tell_left()?;
                    return Some(Work::Unsynced { group, due });
                }
                Some(Work::Job(DiskJob::Write { group, ballot, ops }))
            }
            DiskJob::Close { group, .. } => {
                self.shared.remove(&group);
                Some(Work::Job(job))
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.clear();
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the disk thread panicked");
        }
    }
}

fn run(
    mut worker: DiskWorker,
    queue: &mpsc::Receiver<Vec<Work>>,
    report: &mut dyn FnMut(DiskReport),
) {
    loop {
        // Group commit: whatever arrived for a group before its turn shares one sync.
        while let Ok(works) = queue.try_recv() {
            take_in(&mut worker, works);
        }
        if worker.next_due().is_some_and(|due| due <= Instant::now()) {
            worker.see_to_next(report);
            continue;
        }
        if worker.work_once(report) {
            continue;
        }
        match queue.recv_timeout(idle_time(&worker)) {
            Ok(works) => take_in(&mut worker, works),
            Err(RecvTimeoutError::Timeout) => worker.try_again(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// How long a worker without work may sleep.
fn idle_time(worker: &DiskWorker) -> Duration {
    let retry = match worker.is_stalled() {
        true => NO_SPACE_RETRY,
        // Nothing to retry: any wait will do.
        false => Duration::from_secs(3600),
    };
    match worker.next_due() {
        Some(due) => retry.min(due.saturating_duration_since(Instant::now())),
        None => retry,
    }
}

fn take_in(worker: &mut DiskWorker, works: Vec<Work>) {
    for work in works {
        match work {
            Work::Job(job) => worker.take_in(job),
            Work::Shared { group, disk } => worker.take_over(group, disk),
            Work::Unsynced { group, due } => worker.note_left(group, due),
        }
    }
}

#[cfg(test)]
mod tests;
