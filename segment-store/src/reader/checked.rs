//! Reading a log with every checksum looked at: for a replica that repairs its own log with this one, and for the search for rot.
//!
//! On the repair and scrub walks; everything here blocks. Must not know: who asks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::load::Wanted;
use super::{FrameRun, LogReader, SEEK_BYTES, Walk};
use crate::error::ReadError;
use crate::fault::Fault;
use crate::format::FrameHeader;
use crate::frame::Frame;
use crate::index::IndexEntry;
use crate::load_memory::LoadMemory;
use crate::segment::{HEADER_PAGE, SegmentHeader};
use crate::view::SegmentView;

impl LogReader {
    /// Whole frames that end with the one at `last` and do not begin before `first`: as many as fit into `bytes_max`, at least one, each
    /// checked in full. Empty if that entry is not in the log. Blocks.
    ///
    /// # Errors
    /// What lies there is damaged or cannot be read.
    pub fn read_before(&self, first: u64, last: u64, bytes_max: usize) -> Result<Bytes, ReadError> {
        let segment = match self.segment_of(last) {
            Ok(segment) if last <= self.shared.last_index() => segment,
            _ => return Ok(Bytes::new()),
        };
        let end = segment.end_position();
        let Some(near) = segment.index.floor(|entry| entry.index <= last) else {
            return Ok(Bytes::new());
        };
        let back = near.position.saturating_sub(bytes_max as u64);
        let accepts = |entry: &IndexEntry| entry.index <= first || entry.position <= back;
        let Some(mut walk) = Walk::to(&segment, end, accepts)
            .or_else(|| Walk::to(&segment, end, |entry| entry.index <= last))
        else {
            return Ok(Bytes::new());
        };
        let fault = |error| Fault::new("reading", &segment.path, error);
        let near_end = near.position.saturating_add(SEEK_BYTES).min(end);
        let headers = walk.position as usize..near_end as usize;
        segment.map.populate(headers).map_err(fault)?;
        let mut starts = VecDeque::new();
        while walk.index <= last {
            let (index, position) = (walk.index, walk.position);
            if walk.next()?.is_none() {
                return Ok(Bytes::new());
            }
            if index >= first {
                starts.push_back(position);
            }
            while starts.len() > 1 && walk.position - starts[0] > bytes_max as u64 {
                starts.pop_front();
            }
        }
        let Some(start) = starts.pop_front() else {
            return Ok(Bytes::new());
        };
        let range = start as usize..walk.position as usize;
        segment.map.populate(range).map_err(fault)?;
        let bytes = walk.slice_from(start);
        segment.check(&bytes, start)?;
        Ok(bytes)
    }

    /// Checks the frames from `from` to `last` in every respect, about `bytes_max` bytes of them, and the header page of a sealed segment that
    /// begins there. The value is the last index checked and the bytes read; `None` if there is no frame at `from`. Blocks. What is not in the page
    /// cache is read as [`LogReader::load`] does.
    pub(crate) fn check_from(
        &self,
        from: u64,
        last: u64,
        bytes_max: usize,
        memory: Option<&LoadMemory>,
    ) -> Result<Option<(u64, u64)>, ReadError> {
        let segment = self.segment_of(from)?;
        let mut page_bytes = 0;
        let is_tail = {
            let segments = self.shared.segments.load();
            segments.last().is_none_or(|tail| tail.base_index <= from)
        };
        if from == segment.base_index && !is_tail {
            segment.check_page(memory)?;
            page_bytes = HEADER_PAGE;
        }
        let wanted = Wanted {
            from,
            last,
            run_bytes_max: usize::MAX,
        };
        let runs = self.load_stretch(&wanted, bytes_max as u64, memory)?;
        // One, however long it is.
        let checked = runs.last();
        Ok(checked.map(|run| (run.last_index, run.bytes.len() as u64 + page_bytes)))
    }
}

impl SegmentView {
    /// Checks the header page of a sealed segment, which nobody writes any more.
    fn check_page(&self, memory: Option<&LoadMemory>) -> Result<(), ReadError> {
        let page = self.load(0..HEADER_PAGE, memory)?;
        match SegmentHeader::decode_page(&page, &self.path, None) {
            Ok((header, _)) if header.base_index == self.base_index => Ok(()),
            _ => Err(ReadError::Damaged {
                path: self.path.clone(),
                index: self.base_index,
                position: 0,
            }),
        }
    }

    /// Checks whole frames that lie at `position` in every respect.
    pub(crate) fn check(&self, frames: &Bytes, mut position: u64) -> Result<(), ReadError> {
        let mut rest = frames.clone();
        let mut expected = None;
        while !rest.is_empty() {
            let index = FrameHeader::decode(&rest).map_or(0, |(header, _)| header.index);
            let checked = Frame::split_from(&mut rest, usize::MAX, true)
                .ok()
                .filter(|frame| {
                    frame.header().group == self.group
                        && expected.is_none_or(|(index, link)| {
                            frame.header().index == index && frame.header().prev_header_crc == link
                        })
                });
            let Some(frame) = checked else {
                return Err(ReadError::Damaged {
                    path: self.path.clone(),
                    index: expected.map_or(index, |(index, _)| index),
                    position,
                });
            };
            position += frame.bytes().len() as u64;
            expected = Some((frame.header().index + 1, frame.header_crc()));
        }
        Ok(())
    }
}

impl FrameRun {
    /// Whether every frame is what was written, payloads too. Worth asking of what comes from the disk.
    pub fn is_whole(&self) -> bool {
        let mut rest = self.bytes.clone();
        while !rest.is_empty() {
            if Frame::split_from(&mut rest, usize::MAX, true).is_err() {
                return false;
            }
        }
        true
    }
}
