//! Reading what may not be in memory: a stretch of a log at a time, checked in every respect.
//!
//! On the fetch and scrub walks; everything here blocks. What is in the page cache is taken from there, through the map. What is not is read past it, into memory of
//! its own, so that old records cost neither pages nor what they push out. Must not know: who reads, how fast the disk is.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{FrameRun, LogReader};
use crate::error::ReadError;
use crate::fault::Fault;
use crate::format::FrameHeader;
use crate::frame::Frame;
use crate::fs::SECTOR_BYTES;
use crate::index::IndexEntry;
use crate::load_memory::{BLOCK_BYTES, LoadMemory};
use crate::view::SegmentView;

/// Bytes of a stretch, unless a single frame is longer; it fits a block wherever in a sector it begins.
const STRETCH_BYTES: u64 = BLOCK_BYTES as u64 - 2 * SECTOR_BYTES as u64;

/// Whole frames in a segment, none of which is wanted before `from`.
struct Stretch {
    /// Where it begins, a little before what is wanted.
    entry: IndexEntry,
    /// Where it ends.
    until: u64,
}

impl LogReader {
    /// The frames from `from` on, some MiB of them and one at least if there is any, as runs of `run_bytes_max` (of one frame, if that is
    /// longer), each checked in every respect; none after `last` (inclusive). Blocks.
    ///
    /// What is not in the page cache is read past it, into `memory`; through it if `memory` is `None` or used up, or the file system has no other
    /// way.
    ///
    /// # Errors
    /// What lies there is damaged or cannot be read, or is trimmed.
    pub fn load(
        &self,
        from: u64,
        last: u64,
        run_bytes_max: usize,
        memory: Option<&LoadMemory>,
    ) -> Result<Vec<FrameRun>, ReadError> {
        let wanted = Wanted {
            from,
            last,
            run_bytes_max,
        };
        self.load_stretch(&wanted, STRETCH_BYTES, memory)
    }

    /// [`LogReader::load`] of about `stretch_bytes`, a frame at least.
    pub(super) fn load_stretch(
        &self,
        wanted: &Wanted,
        stretch_bytes: u64,
        memory: Option<&LoadMemory>,
    ) -> Result<Vec<FrameRun>, ReadError> {
        // Held until the bytes have been read, so that its file is not used again meanwhile.
        let segment = self.segment_of(wanted.from)?;
        let end = segment.end_position();
        if wanted.from > wanted.last.min(self.shared.last_index()) {
            return Ok(Vec::new());
        }
        let Some(stretch) = stretch_of(&segment, wanted.from, end, stretch_bytes) else {
            return Ok(Vec::new());
        };
        let bytes = segment.load(stretch.entry.position..stretch.until, memory)?;
        wanted.cut(&segment, &bytes, stretch.entry)
    }

    /// The index behind the stretch that [`LogReader::load`] begins with `from`, where that is known without reading.
    pub fn stretch_end(&self, from: u64) -> Option<u64> {
        let segments = self.shared.segments.load();
        let behind = segments.partition_point(|segment| segment.base_index <= from);
        let segment = &segments[behind.checked_sub(1)?];
        let end = segment.end_position();
        let entry = near(segment, from, end)?;
        match end <= entry.position + STRETCH_BYTES {
            true => segments.get(behind).map(|next| next.base_index),
            false => far(segment, &entry, from, STRETCH_BYTES).map(|far| far.index),
        }
    }
}

/// The last frame in the index of `segment`, published up to `end`, that is not behind `from`.
fn near(segment: &SegmentView, from: u64, end: u64) -> Option<IndexEntry> {
    let accepts = |entry: &IndexEntry| entry.position < end && entry.index <= from;
    segment.index.floor(accepts)
}

/// The last frame in the index behind `from` up to which a stretch of `bytes` may go that begins with `entry`. The index has an entry for each frame of its
/// distance or more, so this leaves out little.
fn far(segment: &SegmentView, entry: &IndexEntry, from: u64, bytes: u64) -> Option<IndexEntry> {
    let limit = entry.position + bytes;
    let far = segment.index.floor(|far| far.position <= limit);
    far.filter(|far| far.index > from)
}

/// The stretch of `segment`, published up to `end`, that holds the frame `from`: of `bytes`, or longer if the index knows no shorter one.
fn stretch_of(segment: &SegmentView, from: u64, end: u64, bytes: u64) -> Option<Stretch> {
    let entry = near(segment, from, end)?;
    let until = if end <= entry.position + bytes {
        end
    } else {
        far(segment, &entry, from, bytes)
            .or_else(|| segment.index.after(|next| next.index <= from))
            .map_or(end, |behind| behind.position.min(end))
    };
    Some(Stretch { entry, until })
}

impl SegmentView {
    /// The bytes of `range`: out of the page cache, or from the disk into `memory`, or through the page cache. Blocks.
    pub(super) fn load(
        &self,
        range: Range<u64>,
        memory: Option<&LoadMemory>,
    ) -> Result<Bytes, ReadError> {
        let mapped = range.start as usize..range.end as usize;
        let fault = |error| Fault::new("reading", &self.path, error);
        if let Some(memory) = memory
            && !self.map.is_resident(mapped.clone())
            && let Some(bytes) = self.read_past_cache(range, memory).map_err(fault)?
        {
            return Ok(bytes);
        }
        self.map.populate(mapped.clone()).map_err(fault)?;
        Ok(Arc::clone(&self.map).slice(mapped))
    }

    /// The bytes of `range`, from the disk; `None` if they do not fit a block, there is none, or it cannot be done.
    fn read_past_cache(&self, range: Range<u64>, memory: &LoadMemory) -> io::Result<Option<Bytes>> {
        let sector = SECTOR_BYTES as u64;
        let first = range.start - range.start % sector;
        let len = (range.end - first).next_multiple_of(sector) as usize;
        if len > BLOCK_BYTES {
            return Ok(None);
        }
        let Some(mut block) = memory.take() else {
            return Ok(None);
        };
        let buffer = &mut block.bytes_mut()[..len];
        let read = self.map.read_past_cache(&self.path, buffer, first)?;
        let wanted = (range.start - first) as usize..(range.end - first) as usize;
        Ok(read.then(|| block.freeze().slice(wanted)))
    }
}

/// What of a stretch is asked for.
pub(super) struct Wanted {
    pub(super) from: u64,
    /// Inclusive.
    pub(super) last: u64,
    pub(super) run_bytes_max: usize,
}

impl Wanted {
    /// Checks the frames of a stretch that begins with `entry`, and cuts it into runs.
    fn cut(
        &self,
        segment: &SegmentView,
        stretch: &Bytes,
        entry: IndexEntry,
    ) -> Result<Vec<FrameRun>, ReadError> {
        let mut runs: Vec<FrameRun> = Vec::new();
        let mut rest = stretch.clone();
        let (mut index, mut link, mut begins) = (entry.index, None, 0);
        while !rest.is_empty() && index <= self.last {
            let at = stretch.len() - rest.len();
            let is_wanted = index >= self.from;
            let frame = Frame::split_from(&mut rest, usize::MAX, is_wanted)
                .ok()
                .filter(|frame| follows(frame.header(), segment.group, index, link));
            let frame = frame.ok_or_else(|| ReadError::Damaged {
                path: segment.path.clone(),
                index,
                position: entry.position + at as u64,
            })?;
            link = Some(frame.header_crc());
            index += 1;
            if !is_wanted {
                continue;
            }
            let ends = stretch.len() - rest.len();
            match runs.last_mut() {
                Some(run) if ends - begins <= self.run_bytes_max => {
                    run.bytes = stretch.slice(begins..ends);
                    run.last_index = frame.header().index;
                    run.next_offset = frame.header().next_offset();
                }
                _ => {
                    begins = at;
                    runs.push(FrameRun {
                        bytes: stretch.slice(begins..ends),
                        first_index: frame.header().index,
                        last_index: frame.header().index,
                        next_offset: frame.header().next_offset(),
                        cold: false,
                    });
                }
            }
        }
        Ok(runs)
    }
}

fn follows(header: &FrameHeader, group: u64, index: u64, link: Option<u32>) -> bool {
    header.group == group
        && header.index == index
        && link.is_none_or(|link| header.prev_header_crc == link)
}

#[cfg(test)]
mod tests;
