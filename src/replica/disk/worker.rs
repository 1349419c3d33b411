//! The disk's work without its threads: which group is next. Owns the groups; it is what the simulator drives.
//!
//! On the produce and append walks. Must not know how a group's operations are carried out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use segment_store::fs::Fs;
use tokio::sync::oneshot;

use super::Durability;
use super::group::GroupDisk;
use crate::mutation;
use crate::raft::Ballot;
use crate::replica::jobs::{DiskJob, DiskReport};
use crate::replica::meters::Meters;

/// A group, shared with the loop where acks do not wait for syncs: then the loop makes small writes itself.
pub(super) type SharedGroup = Arc<Mutex<GroupDisk>>;

const PANICKED: &str = "a panic on the other side ends the node";

/// The groups of a node, and which of them have something to do.
#[derive(Debug)]
pub struct DiskWorker {
    pub(super) fs: Arc<dyn Fs>,
    meters: Meters,
    durability: Durability,
    groups: HashMap<u64, Slot>,
    /// The newest ballot of each group that has one to be saved.
    pub(super) ballots: BTreeMap<u64, Ballot>,
    /// Groups with work, in the order in which it came.
    ready: VecDeque<u64>,
    /// Groups whose operations wait for room.
    stalled: BTreeSet<u64>,
    /// Groups with writes that were reported and leave something to be done, and when, in about that order.
    left: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct Slot {
    disk: SharedGroup,
    is_ready: bool,
    /// Told once the files are closed, after all that has room is done.
    closing: Option<oneshot::Sender<()>>,
}

impl DiskWorker {
    /// No groups.
    pub fn new(fs: Arc<dyn Fs>, meters: Meters, durability: Durability) -> DiskWorker {
        DiskWorker {
            fs,
            meters,
            durability,
            groups: HashMap::new(),
            ballots: BTreeMap::new(),
            ready: VecDeque::new(),
            stalled: BTreeSet::new(),
            left: VecDeque::new(),
        }
    }

    /// Index up to which the log of `group` is durable (inclusive), for looking at.
    pub fn durable_index(&self, group: u64) -> Option<u64> {
        Some(lock(&self.groups.get(&group)?.disk).durable_index())
    }

    /// Whether operations wait for room.
    pub fn is_stalled(&self) -> bool {
        !self.stalled.is_empty() && !mutation::is("a full disk is never tried again")
    }

    /// Carries out `jobs` and reports, in order per group. Durable on return if acks wait for that, but for what waits for room.
    pub fn turn(&mut self, jobs: Vec<DiskJob>) -> Vec<DiskReport> {
        let mut reports = Vec::new();
        for job in jobs {
            self.take_in(job);
        }
        while self.work_once(&mut |report| reports.push(report)) {}
        // A turn takes no time, so what is left comes at its end.
        while self.durability == Durability::Fsync && !self.left.is_empty() {
            self.see_to_next(&mut |report| reports.push(report));
        }
        reports
    }

    /// Tries again what found no room.
    pub fn retry(&mut self) -> Vec<DiskReport> {
        self.try_again();
        self.turn(Vec::new())
    }

    /// Takes a job into the queue of its group.
    pub(super) fn take_in(&mut self, job: DiskJob) {
        match job {
            DiskJob::Open { group, files } => {
                let disk = GroupDisk::new(group, *files, self.durability);
                self.take_over(group, Arc::new(Mutex::new(disk)));
            }
            DiskJob::Write { group, ballot, ops } => {
                let Some(slot) = self.groups.get_mut(&group) else {
                    return;
                };
                let mut disk = lock(&slot.disk);
                disk.queue(ops);
                drop(disk);
                self.ballots.extend(ballot.map(|ballot| (group, ballot)));
                self.make_ready(group);
            }
            DiskJob::Close { group, done } => match self.groups.get_mut(&group) {
                Some(slot) => {
                    slot.closing = Some(done);
                    self.make_ready(group);
                }
                // Who asked may have given up waiting.
                None => drop(done.send(())),
            },
        }
    }

    /// A group comes under this worker's hand.
    pub(super) fn take_over(&mut self, group: u64, disk: SharedGroup) {
        let slot = Slot {
            disk,
            is_ready: false,
            closing: None,
        };
        let before = self.groups.insert(group, slot);
        assert!(before.is_none(), "group {group} was handed over twice");
    }

    /// Has what found no room tried again by the next calls of [`DiskWorker::work_once`].
    pub(super) fn try_again(&mut self) {
        for group in self.stalled.clone() {
            self.make_ready(group);
        }
    }

    /// Saves the ballots that are queued, which never wait for a log; without any, does all that one group has queued. False if no group has
    /// anything.
    pub(super) fn work_once(&mut self, report: &mut dyn FnMut(DiskReport)) -> bool {
        if self.save_ballots(report) {
            return true;
        }
        let Some(group) = self.ready.pop_front() else {
            return false;
        };
        let Some(slot) = self.groups.get_mut(&group) else {
            return true;
        };
        slot.is_ready = false;
        let mut disk = lock(&slot.disk);
        disk.work(self.fs.as_ref(), &self.meters, report);
        match disk.is_stalled() {
            true => self.stalled.insert(group),
            false => self.stalled.remove(&group),
        };
        if let Some(done) = slot.closing.take() {
            drop(disk);
            self.close(group, done, report);
            return true;
        }
        let (due, much) = (disk.tell_left(), disk.has_much_left());
        drop(disk);
        if let Some(due) = due {
            self.note_left(group, due);
        }
        if much {
            self.see_to(group, report);
        }
        true
    }

    /// Writes of `group` were reported and leave something to be done at `due`.
    pub(super) fn note_left(&mut self, group: u64, due: Instant) {
        self.left.push_back((due, group));
    }

    /// When the next group is to be seen to.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.left.front().map(|(due, _)| *due)
    }

    /// Sees to the next group, unless it has been put off since.
    pub(super) fn see_to_next(&mut self, report: &mut dyn FnMut(DiskReport)) {
        let Some((due, group)) = self.left.pop_front() else {
            return;
        };
        let slot = self.groups.get(&group);
        match slot.and_then(|slot| lock(&slot.disk).left_due()) {
            Some(later) if later > due => self.note_left(group, later),
            _ => self.see_to(group, report),
        }
    }

    /// Sees to what was left of `group`. While it syncs, the group is not held.
    fn see_to(&mut self, group: u64, report: &mut dyn FnMut(DiskReport)) {
        let Some(slot) = self.groups.get(&group) else {
            return;
        };
        let begun = lock(&slot.disk).see_to_left(report);
        if let Some(begun) = begun {
            let started = Instant::now();
            let ended = begun.carry_out();
            self.meters.sync_seconds.record(started.elapsed());
            lock(&slot.disk).end_sync(ended, report);
        }
    }

    fn close(&mut self, group: u64, done: oneshot::Sender<()>, report: &mut dyn FnMut(DiskReport)) {
        self.stalled.remove(&group);
        if let Some(slot) = self.groups.remove(&group) {
            let disk = Arc::into_inner(slot.disk).expect("the loop has let go of it");
            disk.into_inner()
                .expect(PANICKED)
                .close(self.fs.as_ref(), report);
        }
        // Who asked may have given up waiting.
        let _ = done.send(());
    }

    /// The groups of these that are here, held.
    pub(super) fn hold<T>(
        &self,
        groups: impl IntoIterator<Item = (u64, T)>,
    ) -> Vec<(T, MutexGuard<'_, GroupDisk>)> {
        let held = groups.into_iter().filter_map(|(group, with)| {
            let slot = self.groups.get(&group)?;
            Some((with, lock(&slot.disk)))
        });
        held.collect()
    }

    fn make_ready(&mut self, group: u64) {
        if let Some(slot) = self.groups.get_mut(&group)
            && !std::mem::replace(&mut slot.is_ready, true)
        {
            self.ready.push_back(group);
        }
    }
}

pub(super) fn lock(disk: &SharedGroup) -> MutexGuard<'_, GroupDisk> {
    disk.lock().expect(PANICKED)
}
