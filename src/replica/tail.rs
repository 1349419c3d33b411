//! The end of a group's log as the shell needs it: owns what is known of each entry that is not applied
//! yet, and the frames that are not durable yet.
//!
//! It must not know who leads or who waits. On the produce walk it says what the next frame is stamped
//! with; on the append walk it is what arriving frames must chain to; for sending, it holds the frames
//! that the log on disk may not hold yet.

use std::collections::VecDeque;

use bytes::Bytes;
use segment_store::Frame;

use crate::raft::{Index, LogId, Term};

/// What the shell keeps of an entry: where the next one goes on, and what it chains to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryMeta {
    /// Identity of the entry.
    pub(crate) id: LogId,
    /// Offset of the first record after it.
    pub(crate) next_offset: u64,
    /// CRC of its header, which the next frame repeats.
    pub(crate) header_crc: u32,
    /// Kind of its frame.
    pub(crate) kind: u8,
    /// Bytes of its frame.
    pub(crate) frame_len: u32,
}

impl EntryMeta {
    /// The entry that `frame` holds.
    pub(crate) fn of(frame: &Frame) -> EntryMeta {
        let header = frame.header();
        EntryMeta {
            id: LogId {
                term: header.term,
                index: header.index,
            },
            next_offset: header.next_offset(),
            header_crc: frame.header_crc(),
            kind: header.kind,
            frame_len: u32::try_from(frame.bytes().len())
                .expect("a frame is capped far below 4 GiB"),
        }
    }
}

/// Entries from the last applied one to the last one, and frames from the first not durable one.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The last applied entry: everything at or below it is settled.
    base: EntryMeta,
    /// The entries after `base`, without gaps.
    entries: VecDeque<EntryMeta>,
    /// The last frames of the log, without gaps: those not known to be durable here.
    frames: VecDeque<Frame>,
    /// Several of `frames` each that lie in one piece, ascending.
    runs: VecDeque<Run>,
    /// Bytes of `frames`.
    held_bytes: u64,
    /// Bytes of all entries appended since the start (cut ones excluded).
    total_bytes: u64,
    /// (index, `total_bytes` up to and including it), ascending and sparse: how far behind a peer is.
    marks: VecDeque<(Index, u64)>,
}

/// Frames that lie one behind the other in memory: sent as one.
#[derive(Debug)]
struct Run {
    first: Index,
    last: Index,
    bytes: Bytes,
}

/// Distance of `Tail::marks` in entries, and how many are kept.
const MARK_EVERY: u64 = 64;
const MARKS_MAX: usize = 4096;

impl Tail {
    /// A log that ends with `entries`, all durable; `base` is the last applied one.
    pub(crate) fn new(base: EntryMeta, entries: VecDeque<EntryMeta>) -> Tail {
        Tail {
            base,
            entries,
            frames: VecDeque::new(),
            runs: VecDeque::new(),
            held_bytes: 0,
            total_bytes: 0,
            marks: VecDeque::new(),
        }
    }

    /// The last entry.
    pub(crate) fn last(&self) -> &EntryMeta {
        self.entries.back().unwrap_or(&self.base)
    }

    /// The last applied entry.
    pub(crate) fn base(&self) -> &EntryMeta {
        &self.base
    }

    /// The entry at `index`; `None` below the last applied and above the last one.
    pub(crate) fn get(&self, index: Index) -> Option<&EntryMeta> {
        match index.checked_sub(self.base.id.index)? {
            0 => Some(&self.base),
            distance => self.entries.get(usize::try_from(distance - 1).ok()?),
        }
    }

    /// Term of the entry at `index`, if it is kept here.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        self.get(index).map(|entry| entry.id.term)
    }

    /// Appends a stamped frame, which is on its way to the disk.
    ///
    /// # Panics
    /// If the frame does not follow the last one: the log would have a gap, or a broken chain.
    pub(crate) fn push(&mut self, frame: Frame) {
        let last = self.last();
        let header = frame.header();
        assert_eq!(header.index, last.id.index + 1, "a frame would leave a gap");
        assert_eq!(
            header.prev_header_crc, last.header_crc,
            "the chain would break at {}",
            header.index
        );
        assert_eq!(
            header.base_offset, last.next_offset,
            "offsets would not be dense at {}",
            header.index
        );
        let entry = EntryMeta::of(&frame);
        self.entries.push_back(entry);
        self.held_bytes += u64::from(entry.frame_len);
        self.total_bytes += u64::from(entry.frame_len);
        if entry.id.index.is_multiple_of(MARK_EVERY) {
            self.marks.push_back((entry.id.index, self.total_bytes));
            if self.marks.len() > MARKS_MAX {
                self.marks.pop_front();
            }
        }
        self.frames.push_back(frame);
    }

    /// Says that the last `count` frames lie in one piece.
    pub(crate) fn note_run(&mut self, count: u64, bytes: Bytes) {
        if count > 1 {
            let last = self.last().id.index;
            let first = last + 1 - count;
            self.runs.push_back(Run { first, last, bytes });
        }
    }

    /// Drops the entries above `after`.
    ///
    /// # Panics
    /// If an applied entry would be dropped.
    pub(crate) fn truncate(&mut self, after: Index) {
        let applied = self.base.id.index;
        assert!(
            after >= applied,
            "entries up to {applied} are applied, cannot cut after {after}"
        );
        while self.last().id.index > after {
            let cut = self.entries.pop_back().map_or(0, |entry| entry.frame_len);
            // Entries from before the start were never counted.
            self.total_bytes = self.total_bytes.saturating_sub(u64::from(cut));
        }
        while self.marks.back().is_some_and(|(index, _)| *index > after) {
            self.marks.pop_back();
        }
        while self.runs.back().is_some_and(|run| run.last > after) {
            self.runs.pop_back();
        }
        while let Some(frame) = self.frames.back() {
            if frame.header().index <= after {
                break;
            }
            self.held_bytes -= frame.bytes().len() as u64;
            self.frames.pop_back();
        }
    }

    /// Forgets the frames up to `index` (inclusive): the log on disk has them.
    pub(crate) fn durable(&mut self, index: Index) {
        while self.runs.front().is_some_and(|run| run.first <= index) {
            self.runs.pop_front();
        }
        while let Some(frame) = self.frames.front() {
            if frame.header().index > index {
                break;
            }
            self.held_bytes -= frame.bytes().len() as u64;
            self.frames.pop_front();
        }
    }

    /// Bytes of the frames that are not known to be durable here.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Bytes of the entries after `index`: exact for those not applied yet, to within some sixty entries
    /// for older ones; those appended before the start, or very long ago, are left out.
    pub(crate) fn bytes_after(&self, index: Index) -> u64 {
        if let Some(skip) = index.checked_sub(self.base.id.index) {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let lens = self.entries.iter().skip(skip);
            return lens.map(|entry| u64::from(entry.frame_len)).sum();
        }
        let below = self.marks.partition_point(|(at, _)| *at <= index);
        let before = below.checked_sub(1).map_or(0, |at| self.marks[at].1);
        self.total_bytes.saturating_sub(before)
    }

    /// Takes the next entry at or below `through` as applied.
    pub(crate) fn apply_next(&mut self, through: Index) -> Option<EntryMeta> {
        if self.entries.front()?.id.index > through {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.base = entry;
        Some(entry)
    }

    /// Index of the first frame held here; one past the last entry if none is.
    pub(crate) fn first_held(&self) -> Index {
        match self.frames.front() {
            Some(frame) => frame.header().index,
            None => self.last().id.index + 1,
        }
    }

    /// The frames from `first` to at most `last`: whole ones, at least one, then as many as fit in
    /// `bytes_max`; those that lie in one piece as one. Returns the index of the last one taken and the bytes in all.
    ///
    /// # Panics
    /// If the frame at `first` is not held here.
    pub(crate) fn take_held(
        &self,
        first: Index,
        last: Index,
        bytes_max: u64,
        out: &mut Vec<Bytes>,
    ) -> (Index, u64) {
        let skip = first
            .checked_sub(self.first_held())
            .expect("the frame is held");
        let mut at = usize::try_from(skip).expect("positions of held frames fit in memory");
        let mut taken = (first - 1, 0);
        let at_run = self.runs.partition_point(|run| run.first < first);
        let mut runs = self.runs.range(at_run..).peekable();
        while let Some(frame) = self.frames.get(at) {
            let index = frame.header().index;
            let run = runs.next_if(|run| run.first == index);
            let fits =
                |run: &&Run| run.last <= last && taken.1 + run.bytes.len() as u64 <= bytes_max;
            let (through, bytes) = match run.filter(fits) {
                Some(run) => (run.last, &run.bytes),
                None => (index, frame.bytes()),
            };
            let len = bytes.len() as u64;
            if index > last || (index > first && taken.1 + len > bytes_max) {
                break;
            }
            out.push(bytes.clone());
            at += (through + 1 - index) as usize;
            taken = (through, taken.1 + len);
        }
        assert!(taken.0 >= first, "frame {first} is held");
        taken
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
