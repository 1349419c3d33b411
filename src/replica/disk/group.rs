//! One group's files on a disk thread: its queue of operations, group commit, want of room, broken promises. Owns the log and the
//! ballot file.
//!
//! On the produce and append walks. When there is no room, the group's operations stay queued in order and are tried again from time
//! to time; ballots are saved all the same, for their file never grows. A broken promise of the machine ends the group: nothing
//! of it is written any more, and nothing is retried. Must not know other groups.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use segment_store::fs::Fs;
use segment_store::snapshot::{self, WriteError};
use segment_store::{AppendError, BegunSync, EndedSync, Fault, Frame, Save, unsynced};

use super::Durability;
use crate::mutation;
use crate::raft::Ballot;
use crate::replica::effects::DiskOp;
use crate::replica::jobs::{DiskReport, GroupFiles};
use crate::replica::meters::Meters;

/// What a report may leave to be done later. Where acks do not wait for it, that is the sync: the first byte written waits this long for it,
const SYNC_AFTER: Duration = Duration::from_millis(100);
/// or until this many bytes wait with it.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;
/// Else it is the mark that tells of the sync, after a write past the page cache: its block has to be read again. A write that follows brings
/// a mark along that tells of it, too; so it is left when none has followed for this long.
const MARK_AFTER: Duration = Duration::from_millis(10);

/// What stays in memory of a log that this node leads and nobody consumes: who begins to, not far behind, meets it there. Of one that is consumed
/// all stays, as long as the system has room.
const LED_BYTES_KEPT: u64 = 128 << 20;

/// The name of a replica's snapshot files in its folder.
pub(crate) const SNAPSHOT_NAME: &str = "replica";

/// A group's files, and what is to be done with them.
#[derive(Debug)]
pub(super) struct GroupDisk {
    group: u64,
    files: GroupFiles,
    durability: Durability,
    queue: VecDeque<(u64, DiskOp)>,
    /// The last operation that was carried out and reported.
    done_through: u64,
    /// What is reported and not seen to.
    left: Option<Left>,
    /// What the last frames ask of the page cache: somebody reads this copy.
    keep_cached: bool,
    stalled: bool,
    poisoned: bool,
}

/// Writes that were reported and leave something to be done.
#[derive(Clone, Copy, Debug)]
struct Left {
    due: Instant,
    bytes: u64,
    /// The thread that is to do it knows.
    told: bool,
}

/// What a group's queue came to before the sync.
#[derive(Debug, Default)]
struct Written {
    /// The last operation carried out.
    through: Option<u64>,
    /// Frames appended and not synced, and their bytes.
    frames: usize,
    bytes: u64,
}

/// Why an operation was not carried out.
enum Stop {
    NoSpace,
    Fault(String),
}

/// Where reports go.
type Report<'a> = &'a mut dyn FnMut(DiskReport);

impl GroupDisk {
    pub(super) fn new(group: u64, files: GroupFiles, durability: Durability) -> GroupDisk {
        GroupDisk {
            group,
            files,
            durability,
            queue: VecDeque::new(),
            done_through: 0,
            left: None,
            keep_cached: true,
            stalled: false,
            poisoned: false,
        }
    }

    pub(super) fn durable_index(&self) -> u64 {
        self.files.log.durable_index()
    }

    /// Whether operations wait for room.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    pub(super) fn queue(&mut self, ops: Vec<(u64, DiskOp)>) {
        self.queue.extend(ops);
    }

    /// Carries out what is queued, syncs it if acks wait for that, and says so.
    pub(super) fn work(&mut self, fs: &dyn Fs, meters: &Meters, report: Report<'_>) {
        let written = self.write(fs, meters, report);
        let Some(through) = written.through else {
            return;
        };
        if self.poisoned {
            return;
        }
        match self.durability {
            Durability::Fsync if written.frames > 0 => {
                let started = Instant::now();
                if let Err(fault) = self.files.log.sync_unmarked() {
                    return self.poison(fault.to_string(), report);
                }
                meters.sync_seconds.record(started.elapsed());
                meters.batches_per_sync.record(written.frames as f64);
            }
            Durability::Fsync | Durability::PageCache => {}
        }
        self.done(through, report);
        let is_synced = self.durability == Durability::Fsync;
        if written.frames > 0 && is_synced && !self.files.log.wrote_past_cache() {
            self.tidy(report);
        } else if written.frames > 0 {
            self.leave(written.bytes);
            if is_synced && let Err(fault) = self.files.log.mark_header() {
                self.poison(fault.to_string(), report);
            }
        }
    }

    /// What is to be done after a sync, or after several, as nobody waits for it: one mark tells of all of them.
    fn tidy(&mut self, report: Report<'_>) {
        match self.files.log.mark_synced() {
            Ok(()) => self.let_go_cached(),
            Err(fault) => self.poison(fault.to_string(), report),
        }
    }

    /// Lets the page cache go of what is synced and not read.
    fn let_go_cached(&mut self) {
        let log = &mut self.files.log;
        match self.keep_cached {
            true if log.is_consumed() => log.keep_cached(),
            true => log.let_go_cached(LED_BYTES_KEPT),
            false => log.let_go_cached(0),
        }
    }

    fn done(&mut self, through: u64, report: Report<'_>) {
        self.done_through = through;
        let group = self.group;
        report(DiskReport::Done { group, through });
    }

    fn leave(&mut self, bytes: u64) {
        let due = Instant::now()
            + match self.durability {
                Durability::Fsync => MARK_AFTER,
                Durability::PageCache => SYNC_AFTER,
            };
        let left = self.left.get_or_insert(Left {
            due,
            bytes: 0,
            told: false,
        });
        // A sync is due when the first byte has waited for long enough; a mark, when the last one has.
        if self.durability == Durability::Fsync {
            left.due = due;
        }
        left.bytes += bytes;
    }

    /// Appends what `op`, of the given number, says, on the caller's thread, if that takes no time worth mentioning: nothing is
    /// waited for, not even a sync. False if it cannot be done so, and then nothing is changed.
    pub(super) fn write_at_once(
        &mut self,
        number: u64,
        op: &DiskOp,
        meters: &Meters,
        report: Report<'_>,
    ) -> bool {
        let DiskOp::Append {
            frames,
            keep_cached,
        } = op
        else {
            return false;
        };
        let is_next = self.queue.is_empty() && number == self.done_through + 1;
        if self.durability != Durability::PageCache
            || self.poisoned
            || !is_next
            || !self.files.log.has_room_for(frames)
        {
            return false;
        }
        match self.append(frames, meters) {
            Ok(bytes) => {
                self.keep_cached = *keep_cached;
                self.leave(bytes);
                self.done(number, report);
            }
            // The thread meets it again, and knows what to do.
            Err(Stop::NoSpace) => return false,
            Err(Stop::Fault(reason)) => self.poison(reason, report),
        }
        true
    }

    /// When what is reported is to be seen to. `None`: there is nothing, or the thread was told before.
    pub(super) fn tell_left(&mut self) -> Option<Instant> {
        let left = self.left.as_mut()?;
        (!std::mem::replace(&mut left.told, true)).then_some(left.due)
    }

    /// When what is left is due, if anything is.
    pub(super) fn left_due(&self) -> Option<Instant> {
        Some(self.left?.due)
    }

    /// Whether so much is unsynced that it is time.
    pub(super) fn has_much_left(&self) -> bool {
        let much = |left: Left| left.bytes >= UNSYNCED_BYTES_MAX;
        self.durability == Durability::PageCache && self.left.is_some_and(much)
    }

    /// Sees to what was reported before. A sync is only begun, to be carried out without holding the group, so that small writes go on
    /// meanwhile.
    pub(super) fn see_to_left(&mut self, report: Report<'_>) -> Option<BegunSync> {
        self.left = None;
        if self.poisoned {
            return None;
        }
        if self.durability == Durability::Fsync {
            self.tidy(report);
            return None;
        }
        match self.files.log.begin_sync() {
            Ok(begun) => begun,
            Err(fault) => {
                self.poison(fault.to_string(), report);
                None
            }
        }
    }

    pub(super) fn end_sync(&mut self, ended: EndedSync, report: Report<'_>) {
        match self.files.log.end_sync(ended) {
            Ok(_) => self.let_go_cached(),
            Err(_) if self.poisoned => {}
            Err(fault) => self.poison(fault.to_string(), report),
        }
    }

    /// Whether nothing of the group is written any more.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// What saves `ballot`; [`GroupDisk::ballot_saved`] is to follow.
    pub(super) fn save_ballot(&mut self, ballot: Ballot) -> Save<'_> {
        Save {
            file: &mut self.files.ballot,
            term: ballot.term,
            vote: ballot.vote.unwrap_or(0),
        }
    }

    pub(super) fn ballot_saved(
        &mut self,
        ballot: Ballot,
        saved: Result<(), Fault>,
        report: Report<'_>,
    ) {
        let group = self.group;
        match saved {
            Ok(()) => report(DiskReport::BallotDurable { group, ballot }),
            Err(_) if mutation::is("votes after a failed write") => {
                report(DiskReport::BallotDurable { group, ballot });
            }
            Err(fault) => self.poison(fault.to_string(), report),
        }
    }

    /// Carries out what is queued, up to the first operation that finds no room.
    fn write(&mut self, fs: &dyn Fs, meters: &Meters, report: Report<'_>) -> Written {
        let group = self.group;
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
                        report(DiskReport::Full { group, full: true });
                    }
                    return written;
                }
                Err(Stop::Fault(reason)) => {
                    self.poison(reason, report);
                    return written;
                }
            }
        }
        if self.stalled {
            self.stalled = false;
            tracing::info!(group, "there is space on the disk again");
            report(DiskReport::Full { group, full: false });
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
                written.bytes += self.append(frames, meters)?;
                written.frames += frames.len();
                self.keep_cached = *keep_cached;
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

    /// The value is the bytes written.
    fn append(&mut self, frames: &[Frame], meters: &Meters) -> Result<u64, Stop> {
        let started = Instant::now();
        self.files.log.append(frames)?;
        meters.append_seconds.record(started.elapsed());
        let bytes: u64 = frames.iter().map(|frame| frame.bytes().len() as u64).sum();
        meters.append_bytes.increment(bytes);
        Ok(bytes)
    }

    /// Closes the files; a log that is whole notes where it ends.
    pub(super) fn close(self, fs: &dyn Fs, report: Report<'_>) {
        if self.poisoned {
            return;
        }
        let group = self.group;
        let dir = self.files.dir;
        let closed = self.files.log.close();
        let closed = closed.and_then(|()| match self.durability {
            Durability::Fsync => Ok(()),
            Durability::PageCache => unsynced::unmark(fs, &dir),
        });
        if let Err(fault) = closed {
            let reason = fault.to_string();
            tracing::error!(group, reason, "the log could not be closed in order");
            report(DiskReport::Fault { group, reason });
        }
    }

    fn poison(&mut self, reason: String, report: Report<'_>) {
        if self.poisoned {
            return;
        }
        let group = self.group;
        self.poisoned = true;
        self.stalled = false;
        self.queue.clear();
        tracing::error!(
            group,
            reason,
            "the disk broke a promise: this replica is poisoned"
        );
        report(DiskReport::Fault { group, reason });
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
