//! Reading a segment file frame by frame, trusting nothing. Owns the walk along the chain and the search for life beyond its end.
//!
//! On the recovery walk and in the offline tools. It reads through the file, not the map, so that a bad sector is an error. Must
//! not know: what a broken chain means; [`crate::recover`] judges.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::contents::Contents;
use crate::format::{FRAME_ALIGN, FRAME_VERSION, FrameHeader, HEADER_LEN};
use crate::frame::{check_padding, check_payload_crc};
use crate::fs::FsFile;
use crate::index::SparseIndex;
use crate::segment::{END_MARK_LEN, EndMark, HEADER_PAGE, SegmentHeader};

/// Bytes read at a time; frames longer than this are read whole.
const WINDOW_BYTES: usize = 256 << 10;
/// Different segments that the marks of one file may speak of: its own, and those of its former lives.
const SEGMENT_CRCS_MAX: usize = 16;

/// A segment file open for scanning, with a window of its bytes.
#[derive(Debug)]
pub(crate) struct Scan {
    file: Arc<dyn FsFile>,
    header: SegmentHeader,
    segment_crc: u32,
    /// Nothing is looked for from here on: the end of the segment, or of the file if that is shorter.
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// The stretch of the file last asked for that may hold anything but zeros.
    data: Range<u64>,
}

/// What follows the end of the chain in a segment that was not sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beyond {
    /// Right at the end lies the mark of the write that ended there.
    pub(crate) ended_here: bool,
    /// Largest index that any whole mark in this segment says had been durable.
    pub(crate) durable_index: u64,
    /// Where the last thing ends that was written in this file's present life after the end; `None` if there is nothing.
    pub(crate) written_until: Option<u64>,
    /// Nothing but zeros to the end of the file.
    pub(crate) blank: bool,
}

impl Scan {
    pub(crate) fn new(file: Arc<dyn FsFile>, header: SegmentHeader, segment_crc: u32) -> Self {
        Scan {
            file,
            end: header.file_len,
            header,
            segment_crc,
            window: Vec::new(),
            window_at: 0,
            data: 0..0,
        }
    }

    /// The same of a file that is `real_len` bytes long, whatever its header says: what it claims to have beyond costs neither time nor memory.
    pub(crate) fn within(mut self, real_len: u64) -> Self {
        self.end = self.end.min(real_len);
        self
    }

    /// Follows the chain from the first frame, up to index `last` at most, and stops before the first frame that is not whole
    /// or does not fit. Calls `each` with every frame's header, its checksum and its position.
    pub(crate) fn chain(
        &mut self,
        last: u64,
        index_every_bytes: u64,
        mut each: impl FnMut(&FrameHeader, u32, u64),
    ) -> io::Result<(Contents, SparseIndex)> {
        let mut contents = Contents::empty(&self.header);
        let index = SparseIndex::for_segment(self.end, index_every_bytes);
        while contents.last_index < last {
            let position = contents.end_position;
            let Some((header, crc)) = self.frame_at(position)? else {
                break;
            };
            if header.group != self.header.identity.group || !contents.admits(&header) {
                break;
            }
            each(&header, crc, position);
            contents.add(&header, crc, &index, index_every_bytes);
        }
        Ok((contents, index))
    }

    /// Looks at everything after the contents' end for what this segment's writer left there.
    pub(crate) fn beyond(&mut self, contents: &Contents) -> io::Result<Beyond> {
        let mut found = Beyond {
            blank: true,
            ..Beyond::default()
        };
        let (identity, segment_crc) = (self.header.identity, self.segment_crc);
        let mut position = contents.end_position;
        loop {
            position = self.skip_blank(position)?;
            let Some(block) = self.bytes(position, FRAME_ALIGN)? else {
                break;
            };
            let first_byte = block[0];
            found.blank &= block.iter().all(|&byte| byte == 0);
            let mut next = position + FRAME_ALIGN as u64;
            if let Some(mark) = EndMark::decode(block, &identity, segment_crc) {
                if position == contents.end_position && mark.last_index == contents.last_index {
                    found.ended_here = mark.last_header_crc == contents.last_header_crc;
                    found.durable_index = found.durable_index.max(mark.durable_index);
                } else if mark.last_index == contents.last_index {
                    found.durable_index = found.durable_index.max(mark.durable_index);
                } else if mark.last_index > contents.last_index {
                    found.durable_index = found.durable_index.max(mark.durable_index);
                    found.written_until = Some(position + END_MARK_LEN as u64);
                }
            } else if first_byte == FRAME_VERSION
                && let Ok((header, _)) = FrameHeader::decode(block)
                && header.group == identity.group
                && header.index > contents.last_index
            {
                // What a whole frame carries is a producer's; it is not searched for marks.
                if self.frame_at(position)?.is_some() {
                    next = position + header.frame_len() as u64;
                }
                found.written_until = Some(next);
            }
            position = next;
        }
        Ok(found)
    }

    /// The frame at `position`, if one is there with all its checksums right.
    pub(crate) fn frame_at(&mut self, position: u64) -> io::Result<Option<(FrameHeader, u32)>> {
        let Some(block) = self.bytes(position, HEADER_LEN)? else {
            return Ok(None);
        };
        let Ok((header, crc)) = FrameHeader::decode(block) else {
            return Ok(None);
        };
        // A frame longer than what is left of the file is none; so no length is believed beyond the file's own.
        let Some(frame) = self.bytes(position, header.frame_len())? else {
            return Ok(None);
        };
        let whole =
            check_payload_crc(frame, &header).is_ok() && check_padding(frame, &header).is_ok();
        Ok(whole.then_some((header, crc)))
    }

    /// The frame header at `position`, if its own checksum is right and the file is long enough for the frame; what follows it is not
    /// looked at.
    pub(crate) fn header_at(&mut self, position: u64) -> io::Result<Option<(FrameHeader, u32)>> {
        let left = self.end.saturating_sub(position);
        let Some(block) = self.bytes(position, HEADER_LEN)? else {
            return Ok(None);
        };
        let decoded = FrameHeader::decode(block).ok();
        Ok(decoded.filter(|(header, _)| header.frame_len() as u64 <= left))
    }

    /// The bytes of the whole frame at `position`, which was found there.
    pub(crate) fn frame_bytes(&mut self, position: u64, len: usize) -> io::Result<Option<&[u8]>> {
        self.bytes(position, len)
    }

    /// The mark at `position`, of whichever segment of this log, with the segment's checksum.
    pub(crate) fn any_mark_at(&mut self, position: u64) -> io::Result<Option<(EndMark, u32)>> {
        let identity = self.header.identity;
        let block = self.bytes(position, END_MARK_LEN)?;
        Ok(block.and_then(|block| EndMark::decode_any(block, &identity)))
    }

    /// Every end mark of this segment from `position` on, with its place.
    pub(crate) fn end_marks(&mut self, position: u64) -> io::Result<Vec<(u64, EndMark)>> {
        let mut marks = Vec::new();
        let segment_crc = self.segment_crc;
        self.each_mark(position, |at, mark, of| {
            if of == segment_crc {
                marks.push((at, mark));
            }
        })?;
        Ok(marks)
    }

    /// The checksums of segments that marks from `position` on speak of.
    pub(crate) fn segment_crcs(&mut self, position: u64) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        self.each_mark(position, |_, _, of| {
            if !found.contains(&of) && found.len() < SEGMENT_CRCS_MAX {
                found.push(of);
            }
        })?;
        Ok(found)
    }

    fn each_mark(
        &mut self,
        mut position: u64,
        mut each: impl FnMut(u64, EndMark, u32),
    ) -> io::Result<()> {
        let identity = self.header.identity;
        loop {
            position = self.skip_blank(position)?;
            let Some(block) = self.bytes(position, END_MARK_LEN)? else {
                return Ok(());
            };
            if let Some((mark, of)) = EndMark::decode_any(block, &identity) {
                each(position, mark, of);
            }
            position += END_MARK_LEN as u64;
        }
    }

    /// The first place from `position` on, in steps of a frame's alignment, where anything may lie: most of a young segment was never written, and to
    /// read that is what opening thousands of groups would spend its time with.
    fn skip_blank(&mut self, position: u64) -> io::Result<u64> {
        let seen = self.window_at..self.window_at + self.window.len() as u64;
        if seen.contains(&position) {
            return Ok(position);
        }
        self.ask_for_data(position)?;
        let blank = self.data.start.min(self.end).saturating_sub(position);
        let step = FRAME_ALIGN as u64;
        Ok(position + blank / step * step)
    }

    /// Learns which stretch of the file from `position` on may hold anything but zeros, unless `position` lies in the one last asked for.
    fn ask_for_data(&mut self, position: u64) -> io::Result<()> {
        if !self.data.contains(&position) {
            self.data = self.file.data_from(position)?;
        }
        Ok(())
    }

    /// `len` bytes from `position` on; `None` if the file ends before.
    fn bytes(&mut self, position: u64, len: usize) -> io::Result<Option<&[u8]>> {
        debug_assert!(position >= HEADER_PAGE);
        let Some(left) = self.end.checked_sub(position) else {
            return Ok(None);
        };
        if left < len as u64 {
            return Ok(None);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if position < self.window_at || position + len as u64 > window_end {
            self.ask_for_data(position)?;
            let data = match self.data.contains(&position) {
                true => self.data.end - position,
                false => 0,
            };
            let wanted = data.min(WINDOW_BYTES as u64).max(len as u64).min(left);
            let wanted = usize::try_from(wanted).expect("a window fits in memory");
            self.window.resize(wanted, 0);
            self.window_at = position;
            if let Err(error) = self.file.read_exact_at(&mut self.window, position) {
                self.window.clear();
                return Err(error);
            }
        }
        let at = usize::try_from(position - self.window_at).expect("inside the window");
        Ok(Some(&self.window[at..at + len]))
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
