//! Reading a log through the map, without a lock. Owns the way from an index, an offset or a time to a run of frames.
//!
//! On the fetch and the replication walk. Headers are checked as they are passed; payloads are not touched here, whoever takes the
//! frames checks them. Must not know: who may see what (the caller bounds it by an index), sockets, commits.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::ReadError;
use crate::fault::Fault;
use crate::format::FrameHeader;
use crate::index::IndexEntry;
use crate::mutation;
use crate::segment::HEADER_PAGE;
use crate::view::{SegmentView, Shared};

mod checked;
mod load;

/// What was written to a log within its last so many bytes is taken to be in memory still.
pub(crate) const HOT_BYTES: u64 = 32 << 20;
/// Read ahead of a seek's target: the distance of index entries at its default.
const SEEK_BYTES: u64 = 64 << 10;

/// Reads a log: cheap to clone, goes to any thread, takes no lock and copies nothing.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
}

/// Whole consecutive frames as they lie in one segment.
#[derive(Clone, Debug)]
pub struct FrameRun {
    /// The frames, padding included; empty if there are none. Keeps the map alive.
    pub bytes: Bytes,
    /// Index of the first frame.
    pub first_index: u64,
    /// Index of the last frame (inclusive); `first_index - 1` if there is none.
    pub last_index: u64,
    /// Offset after the last record of the run; 0 if there is no frame.
    pub next_offset: u64,
    /// Whether the bytes may have to come from the disk; see [`LogReader::is_cold`].
    pub cold: bool,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> LogReader {
        LogReader { shared }
    }

    /// Longest run of whole frames from `from` on, within one segment, ending at or before `last` (inclusive): at least one
    /// frame if there is any, at most `bytes_max` bytes otherwise. Empty if `from` is past `last` or past what is written.
    ///
    /// Reads what may be on disk only, not in memory, if [`LogReader::is_cold`] says so.
    pub fn read(&self, from: u64, last: u64, bytes_max: usize) -> Result<FrameRun, ReadError> {
        let segment = self.segment_of(from)?;
        let end = match mutation::is("what lies behind the tail is read") {
            true => segment.file_len(),
            false => segment.end_position(),
        };
        if from > last || from > self.shared.last_index() {
            return Ok(FrameRun::empty(from));
        }
        let Some(mut walk) = Walk::to(&segment, end, |entry| entry.index <= from) else {
            return Ok(FrameRun::empty(from));
        };
        while walk.index < from {
            if walk.next()?.is_none() {
                return Ok(FrameRun::empty(from));
            }
        }
        let start = walk.position;
        let limit = start.saturating_add(bytes_max as u64);
        let mut next_offset = 0;
        if let Some(header) = walk.next()? {
            next_offset = header.next_offset();
        }
        // The index knows a frame far into the run, so most headers need not be touched.
        let far = segment.index.floor(|entry| {
            entry.position <= limit.min(end) && entry.index <= last.saturating_add(1)
        });
        if let Some(far) = far.filter(|far| far.position > walk.position) {
            walk.jump(&far);
            next_offset = far.base_offset;
        }
        while walk.index <= last {
            let before = walk.position;
            match walk.next()? {
                Some(header) if walk.position <= limit => next_offset = header.next_offset(),
                Some(_) => {
                    walk.back(before);
                    break;
                }
                None => break,
            }
        }
        Ok(FrameRun {
            bytes: walk.slice_from(start),
            first_index: from,
            last_index: walk.index - 1,
            next_offset,
            cold: self.is_cold_at(&segment, start),
        })
    }

    /// Whether reading `bytes_max` bytes from `from` on may wait for the disk: a guess from what was written when, which touches
    /// nothing. Then call [`LogReader::populate`] on a thread that may block, first.
    pub fn is_cold(&self, from: u64, bytes_max: usize) -> bool {
        let Ok(segment) = self.segment_of(from) else {
            return false;
        };
        let entry = segment.index.floor(|entry| entry.index <= from);
        entry.is_some_and(|entry| {
            let there = segment.end_position().saturating_sub(entry.position);
            // What lies later in the log was written later.
            there.min(bytes_max as u64) > 0 && self.is_cold_at(&segment, entry.position)
        })
    }

    /// Brings what `read(from, _, bytes_max)` touches into memory; blocks. An unreadable sector is an error here, instead of a signal
    /// there. Gives how many bytes from `from` on are there for sure: fewer where a segment ends.
    pub fn populate(&self, from: u64, bytes_max: usize) -> Result<u64, ReadError> {
        let segment = self.segment_of(from)?;
        let Some(entry) = segment.index.floor(|entry| entry.index <= from) else {
            return Ok(0);
        };
        let end = segment.end_position();
        let until = entry.position.saturating_add(SEEK_BYTES);
        let until = until.saturating_add(bytes_max as u64).min(end);
        let start = entry.position.min(until);
        let populated = segment.map.populate(start as usize..until as usize);
        populated.map_err(|error| Fault::new("reading", &segment.path, error))?;
        // The frame at `from` may begin as far behind the index entry.
        Ok((until - start).saturating_sub(SEEK_BYTES))
    }

    /// Tells the log that a consumer reads it, so that it keeps in memory what is written: others will read it too.
    pub fn note_consumer(&self) {
        self.shared.note_consumer();
    }

    /// Gives up the memory that reading has mapped, for a log that nobody is expected to read soon. It stays in the page cache.
    pub fn unmap_pages(&self) {
        for segment in self.shared.segments.load().iter() {
            segment.map.unmap_pages();
        }
    }

    /// Index of the frame that holds the record at `offset`; `last_index + 1` if that is the next record to come. May wait for the
    /// disk.
    pub fn seek_offset(&self, offset: u64) -> Result<u64, ReadError> {
        // The end first: the list that is loaded after it holds every record before it.
        let next_offset = self.shared.next_offset();
        let segments = self.shared.segments.load_full();
        let log_start = segments[0].base_offset;
        if offset < log_start || offset > next_offset {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start,
                // The log may have started anew, further on, since the end was loaded.
                next_offset: next_offset.max(log_start),
            });
        }
        let at = segments.partition_point(|segment| segment.base_offset <= offset);
        let segment = &segments[at - 1];
        let end = segment.end_position();
        let Some(mut walk) = Walk::to(segment, end, |entry| entry.base_offset <= offset) else {
            return Ok(segment.base_index);
        };
        self.warm(&walk)?;
        while let Some(header) = walk.next()? {
            if header.next_offset() > offset {
                return Ok(header.index);
            }
        }
        Ok(walk.index)
    }

    /// Index of the first frame with a record at or after `timestamp_ms`; `last_index + 1` if there is none. May wait for the disk.
    pub fn seek_time(&self, timestamp_ms: u64) -> Result<u64, ReadError> {
        let segments = self.shared.segments.load_full();
        let mut next_index = segments[0].base_index;
        for segment in segments.iter() {
            // The end first: whoever sees it sees the timestamp of the frames before it.
            let end = segment.end_position();
            let before = |entry: &IndexEntry| {
                entry.index == segment.base_index || entry.max_timestamp < timestamp_ms
            };
            let last = segments.len() - 1;
            let is_tail = Arc::ptr_eq(segment, &segments[last]);
            if segment.max_timestamp() < timestamp_ms && !is_tail {
                continue;
            }
            next_index = segment.base_index;
            let Some(mut walk) = Walk::to(segment, end, before) else {
                continue;
            };
            self.warm(&walk)?;
            while let Some(header) = walk.next()? {
                if header.record_count > 0 && header.max_timestamp >= timestamp_ms {
                    return Ok(header.index);
                }
            }
            next_index = walk.index;
        }
        Ok(next_index)
    }

    /// Index of the first entry kept; `last_index + 1` if there is none.
    pub fn first_index(&self) -> u64 {
        self.shared.segments.load()[0].base_index
    }

    /// Index of the last entry written (not: durable).
    pub fn last_index(&self) -> u64 {
        self.shared.last_index()
    }

    /// First offset kept.
    pub fn log_start(&self) -> u64 {
        self.shared.segments.load()[0].base_offset
    }

    /// Offset after the last record written.
    pub fn next_offset(&self) -> u64 {
        self.shared.next_offset()
    }

    /// The segment that holds index `from`, or would.
    fn segment_of(&self, from: u64) -> Result<Arc<SegmentView>, ReadError> {
        let segments = self.shared.segments.load();
        let at = segments.partition_point(|segment| segment.base_index <= from);
        match at.checked_sub(1) {
            Some(at) => Ok(Arc::clone(&segments[at])),
            None => Err(ReadError::Trimmed {
                index: from,
                first_index: segments[0].base_index,
            }),
        }
    }

    /// Brings the headers that a search walks over into memory, so that an unreadable sector is an error here, instead of a signal.
    fn warm(&self, walk: &Walk<'_>) -> Result<(), ReadError> {
        let (segment, from) = (walk.segment, walk.position);
        if !self.is_cold_at(segment, from) {
            return Ok(());
        }
        let end = walk.window_at + walk.window.len() as u64;
        let until = from.saturating_add(SEEK_BYTES).min(end);
        let populated = segment.map.populate(from as usize..until as usize);
        Ok(populated.map_err(|error| Fault::new("searching", &segment.path, error))?)
    }

    fn is_cold_at(&self, segment: &SegmentView, position: u64) -> bool {
        segment.written_at_start.is_none_or(|start| {
            let written_at = start.saturating_add(position);
            written_at < self.shared.past_cache_until()
                || self.shared.written_bytes() > written_at.saturating_add(HOT_BYTES)
        })
    }
}

impl FrameRun {
    fn empty(from: u64) -> FrameRun {
        FrameRun {
            bytes: Bytes::new(),
            first_index: from,
            last_index: from.saturating_sub(1),
            next_offset: 0,
            cold: false,
        }
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Steps from frame to frame through the published part of a segment.
struct Walk<'a> {
    segment: &'a SegmentView,
    /// The segment's bytes from `window_at` to the published end.
    window: Bytes,
    window_at: u64,
    position: u64,
    /// Index of the frame at `position`.
    index: u64,
}

impl<'a> Walk<'a> {
    /// Starts at the last index entry that `accepts` (which holds for a prefix); `None` if the segment has no frame yet.
    fn to(
        segment: &'a SegmentView,
        end: u64,
        accepts: impl Fn(&IndexEntry) -> bool,
    ) -> Option<Walk<'a>> {
        // An entry may be there before its frame is published.
        let entry = segment
            .index
            .floor(|entry| entry.position < end && accepts(entry))?;
        let in_file = entry.position >= HEADER_PAGE && end <= segment.file_len();
        if !in_file || entry.position > end {
            return None;
        }
        let range = entry.position as usize..end as usize;
        Some(Walk {
            segment,
            window: Arc::clone(&segment.map).slice(range),
            window_at: entry.position,
            position: entry.position,
            index: entry.index,
        })
    }

    /// The header of the frame here, and on to the next one; `None` at the published end.
    fn next(&mut self) -> Result<Option<FrameHeader>, ReadError> {
        let at = (self.position - self.window_at) as usize;
        if at == self.window.len() {
            return Ok(None);
        }
        let left = self.window.get(at..).unwrap_or_default();
        match FrameHeader::decode(left) {
            Ok((header, _))
                if header.index == self.index
                    && header.group == self.segment.group
                    && header.frame_len() <= left.len() =>
            {
                self.position += header.frame_len() as u64;
                self.index += 1;
                Ok(Some(header))
            }
            _ => Err(ReadError::Damaged {
                path: self.segment.path.clone(),
                index: self.index,
                position: self.position,
            }),
        }
    }

    fn jump(&mut self, entry: &IndexEntry) {
        self.position = entry.position;
        self.index = entry.index;
    }

    /// Undoes the last step.
    fn back(&mut self, position: u64) {
        self.position = position;
        self.index -= 1;
    }

    fn slice_from(&self, start: u64) -> Bytes {
        let (from, to) = (start - self.window_at, self.position - self.window_at);
        self.window.slice(from as usize..to as usize)
    }
}
