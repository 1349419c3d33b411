//! The writer of one group's log: append, sync, roll. Owned by the one thread that writes; readers go through [`LogReader`].
//!
//! On the write walk: frames of one group commit leave in one `pwritev`, are published to readers at once, and are durable after the
//! next `sync`. Must not know: why frames are written, what a term means, who reads. Opening is in `log/open.rs`, removing at either
//! end in `log/cut.rs`, starting anew in `log/reset.rs`, a new segment in `log/roll.rs`.

mod begun_sync;
mod cached;
mod cut;
mod open;
mod reset;
mod roll;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::cached::Cached;
use crate::contents::Contents;
use crate::error::AppendError;
use crate::fault::{Fault, is_no_space};
use crate::frame::Frame;
use crate::fs::{Fs, FsFile};
use crate::mutation;
use crate::prepare::Preparer;
use crate::reader::LogReader;
use crate::segment::SegmentHeader;
use crate::tail::Tail;
use crate::view::{SegmentView, Shared};

pub use begun_sync::{BegunSync, EndedSync};

/// Sizes of a log; all in bytes.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Largest segment (a single frame that needs more gets a segment of its own size).
    pub segment_bytes_max: u64,
    /// First segment of a log; each next one is twice as long, up to the maximum.
    pub segment_bytes_first: u64,
    /// Longest payload that `append` takes.
    pub payload_bytes_max: usize,
    /// Distance of entries in the sparse index: a seek reads at most about this much before it is there.
    pub index_every_bytes: u64,
    /// A short write that enters blocks never written before takes zeros for up to this many bytes along; 0: none.
    pub ahead_bytes_max: u64,
    /// A write of so many bytes goes past the page cache while no consumer reads the log; `u64::MAX`: none does.
    pub past_cache_bytes_min: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes_max: 128 << 20,
            segment_bytes_first: 1 << 20,
            payload_bytes_max: 8 << 20,
            index_every_bytes: 64 << 10,
            ahead_bytes_max: 256 << 10,
            past_cache_bytes_min: 64 << 10,
        }
    }
}

/// Whose log this is; every segment carries it, and a foreign one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster's UUID.
    pub cluster: [u8; 16],
    /// The Raft group.
    pub group: u64,
}

impl fmt::Display for LogIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = u128::from_be_bytes(self.cluster);
        write!(f, "cluster {cluster:032x}, group {}", self.group)
    }
}

/// What a log goes on from: the entry before its first one, which it need not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBase {
    /// Index of that entry; 0 before the first entry of all.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Checksum of its header: the link of the first entry.
    pub header_crc: u32,
    /// Offset that the first record gets.
    pub next_offset: u64,
}

/// The writer of one group's log.
///
/// Every method that writes ends in a [`Fault`] once and for all: after the first one the log is poisoned and refuses everything.
#[derive(Debug)]
pub struct Log {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    identity: LogIdentity,
    options: LogOptions,
    preparer: Option<Preparer>,
    shared: Arc<Shared>,
    /// Ascending; the tail goes on where the last one ends.
    sealed: Vec<Sealed>,
    tail: Tail,
    /// Everything up to here is on the disk (inclusive).
    durable_index: u64,
    /// Larger than that of any segment there is.
    next_generation: u64,
    /// Larger than that of any segment that was there at the opening: an earlier log of this process may have readers of those still.
    opened_generation: u64,
    /// Sealed segments whose footer is written but not synced.
    unsynced_footers: Vec<(PathBuf, Arc<dyn FsFile>)>,
    /// A sync was begun and has not ended.
    sync_begun: bool,
    /// A sync has ended of which no mark tells yet.
    unmarked: bool,
    /// The preparer was told about the tail's successor.
    hinted: bool,
    /// Every entry before this index was trimmed: every segment born now says so. 0 if nothing ever was.
    trimmed_before: u64,
    /// Entries after the end may have been promised and lost: every segment born now says so.
    suspect: bool,
    /// The tail ends in a write that was not finished, and there was no room yet for a fresh file to go on in.
    torn: bool,
    state: State,
    cached: Cached,
}

/// A segment that is never appended to again.
#[derive(Debug)]
struct Sealed {
    header: SegmentHeader,
    segment_crc: u32,
    contents: Contents,
    view: Arc<SegmentView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writable,
    Poisoned,
}

impl Log {
    /// Writes `frames`, consecutive and following the last one, with one call per segment touched, and publishes them to
    /// readers. They are durable after the next `sync`.
    ///
    /// # Panics
    /// If the frames do not follow the log and each other: index, link, offset, term, group; or pass `payload_bytes_max`.
    pub fn append(&mut self, frames: &[Frame]) -> Result<(), AppendError> {
        self.check_writable()?;
        self.assert_next(frames);
        self.leave_torn_tail()?;
        let fitting = self.tail.fitting(frames);
        let (here, rest) = frames.split_at(fitting);
        if !rest.is_empty() {
            return self.append_rolling(here, rest);
        }
        self.write(here)?;
        self.commit(here);
        self.hint();
        Ok(())
    }

    /// Makes all that was appended durable, with one `fdatasync` (and one for each segment sealed since the last time). The value is
    /// the durable index (inclusive). A sync that fails is never tried again.
    pub fn sync(&mut self) -> Result<u64, Fault> {
        let durable_index = self.sync_unmarked()?;
        self.mark_synced()?;
        Ok(durable_index)
    }

    /// The same without leaving a mark that says so, for whom somebody waits: [`Log::mark_synced`] is to follow, after this or a later one.
    pub fn sync_unmarked(&mut self) -> Result<u64, Fault> {
        self.check_not_poisoned()?;
        for (path, file) in std::mem::take(&mut self.unsynced_footers) {
            if let Err(error) = file.sync_data() {
                return Err(self.poison("syncing", &path, error));
            }
        }
        if self.tail.dirty {
            if mutation::is("the durable mark goes before the sync") {
                let marked = self.tail.mark_durable(self.tail.contents.last_index);
                marked.map_err(|error| self.poison_tail("writing", error))?;
            }
            self.sync_tail()?;
            self.durable_index = self.tail.contents.last_index;
            self.unmarked = true;
        }
        Ok(self.durable_index)
    }

    /// Leaves the mark that says what was synced, if none does yet.
    pub fn mark_synced(&mut self) -> Result<(), Fault> {
        self.check_not_poisoned()?;
        if !std::mem::take(&mut self.unmarked) {
            return Ok(());
        }
        let marked = self.tail.mark_durable(self.durable_index);
        marked.map_err(|error| self.poison_tail("writing", error))
    }

    /// Leaves a mark in the header page now and then, of what was synced, while [`Log::mark_synced`] waits for the writes to pause.
    pub fn mark_header(&mut self) -> Result<(), Fault> {
        self.check_not_poisoned()?;
        let marked = self.tail.mark_header(self.durable_index);
        marked.map_err(|error| self.poison_tail("writing", error))
    }

    /// Syncs, and leaves a durable note of it, so that the next opening can tell a damaged end from an unfinished one.
    pub fn close(mut self) -> Result<(), Fault> {
        if self.state != State::Writable || self.torn {
            return Ok(());
        }
        let durable_index = self.sync()?;
        if let Err(error) = self.tail.write_durable_mark(durable_index) {
            return Err(self.poison_tail("writing", error));
        }
        self.sync_tail()
    }

    /// Says that nothing promised is missing at the end any more, durably: the group has settled what the log holds, and the log holds it.
    /// Until then [`Recovered::suspect_tail`](crate::Recovered) comes up at every opening.
    pub fn trust_tail(&mut self) -> Result<(), Fault> {
        self.sync()?;
        if !std::mem::replace(&mut self.suspect, false) || !self.tail.header.after_loss {
            return Ok(());
        }
        let written = self.tail.write_trust_mark();
        written.map_err(|error| self.poison_tail("writing", error))?;
        self.sync_tail()
    }

    /// Says that entries after the end may have been promised and are gone, durably: until [`Log::trust_tail`] every opening tells.
    ///
    /// # Errors
    /// `NoSpace`: it is not durable yet; it will be with the first append that finds room.
    pub fn distrust_tail(&mut self) -> Result<(), AppendError> {
        self.check_writable()?;
        self.suspect = true;
        self.torn = true;
        self.leave_torn_tail()
    }

    /// Goes on in a fresh file if the tail's end is not to be written behind.
    fn leave_torn_tail(&mut self) -> Result<(), AppendError> {
        if self.torn {
            self.cut_off(self.last_index())?;
        }
        Ok(())
    }

    /// A reader, which may go to any thread and outlive the log.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Index of the first entry kept; `last_index + 1` if there is none.
    pub fn first_index(&self) -> u64 {
        self.first_header().base_index
    }

    /// Index of the last entry written; `first_index - 1` if there is none.
    pub fn last_index(&self) -> u64 {
        self.tail.contents.last_index
    }

    /// Index up to which everything is durable (inclusive).
    pub fn durable_index(&self) -> u64 {
        self.durable_index
    }

    /// Term of the last entry (of the one before the first, if the log is empty).
    pub fn last_term(&self) -> u64 {
        self.tail.contents.last_term
    }

    /// Offset that the next record gets.
    pub fn next_offset(&self) -> u64 {
        self.tail.contents.next_offset
    }

    /// Header checksum of the last entry: the link of the next one.
    pub fn last_header_crc(&self) -> u32 {
        self.tail.contents.last_header_crc
    }

    /// First offset kept.
    pub fn log_start(&self) -> u64 {
        self.first_header().base_offset
    }

    fn first_header(&self) -> &SegmentHeader {
        self.sealed
            .first()
            .map_or(&self.tail.header, |first| &first.header)
    }

    /// Whether the last write went past the page cache, which is not to be asked for its block at once.
    pub fn wrote_past_cache(&self) -> bool {
        self.tail.past_cache
    }

    /// Writes into the tail without publishing. No room is an answer; any other failure is a fault.
    fn write(&mut self, frames: &[Frame]) -> Result<(), AppendError> {
        let is_read = self.is_consumed();
        match self.tail.write(frames, self.durable_index, is_read) {
            Ok(()) => {
                if self.tail.past_cache {
                    let bytes = frames.iter().map(|frame| frame.bytes().len() as u64);
                    self.shared.note_past_cache(bytes.sum());
                }
                Ok(())
            }
            // The blocks exist already, so this is rare (a file system that copies on write). What was written lies behind
            // the end of the log, and the next write goes over it.
            Err(error) if is_no_space(&error) => Err(AppendError::NoSpace),
            Err(error) => Err(self.poison_tail("writing", error).into()),
        }
    }

    /// Takes written frames into the log and shows them to readers.
    fn commit(&mut self, frames: &[Frame]) {
        let written_bytes = self.tail.commit(frames);
        self.shared.publish(&self.tail.contents, written_bytes);
    }

    fn sync_tail(&mut self) -> Result<(), Fault> {
        assert!(!self.sync_begun, "two syncs of a log at a time");
        if mutation::is("a log that is not synced") {
            self.tail.dirty = false;
            return Ok(());
        }
        match self.tail.file.sync_data() {
            Err(_) if mutation::is("success after a failed sync") => Ok(()),
            Ok(()) => {
                self.tail.dirty = false;
                Ok(())
            }
            Err(error) => Err(self.poison_tail("syncing", error)),
        }
    }

    fn assert_next(&self, frames: &[Frame]) {
        let contents = &self.tail.contents;
        let mut next = (
            contents.last_index + 1,
            contents.last_header_crc,
            contents.next_offset,
            contents.last_term,
        );
        for frame in frames {
            let header = frame.header();
            let (index, link, offset, term) = next;
            assert!(
                header.index == index
                    && header.prev_header_crc == link
                    && header.base_offset == offset
                    && header.term >= term
                    && header.group == self.identity.group,
                "{header:?} cannot follow index {}, link {link:08x}, offset {offset}, term {term} of {}",
                index - 1,
                self.identity
            );
            assert!(
                header.payload_len as usize <= self.options.payload_bytes_max,
                "payload of {} bytes passes the log's limit",
                header.payload_len
            );
            next = (
                index + 1,
                frame.header_crc(),
                header.next_offset(),
                header.term,
            );
        }
    }

    fn check_writable(&self) -> Result<(), AppendError> {
        match self.state {
            State::Writable => Ok(()),
            State::Poisoned => Err(self.poisoned().into()),
        }
    }

    fn check_not_poisoned(&self) -> Result<(), Fault> {
        match self.state {
            State::Poisoned => Err(self.poisoned()),
            State::Writable => Ok(()),
        }
    }

    fn poisoned(&self) -> Fault {
        Fault::damaged("writing", &self.dir, "an earlier fault ended this log")
    }

    /// Ends the log: nothing is written any more.
    fn poison(&mut self, what: &'static str, path: &Path, error: std::io::Error) -> Fault {
        self.state = State::Poisoned;
        Fault::new(what, path, error)
    }

    fn poison_tail(&mut self, what: &'static str, error: std::io::Error) -> Fault {
        let path = self.tail.path.clone();
        self.poison(what, &path, error)
    }
}
