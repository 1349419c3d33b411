//! The segment being written. Owns the writes: groups of frames, marks, footer.
//!
//! On the write walk. A write is one `pwritev` of the frames and the mark behind them; what is in memory changes only afterwards, so
//! a write that fails can be forgotten. Must not know: other segments, when to roll.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use crate::contents::Contents;
use crate::footer::{self, footer_len};
use crate::format::kind;
use crate::frame::Frame;
use crate::fs::{FsFile, SECTOR_BYTES};
use crate::segment::{
    DURABLE_MARK_AT, END_MARK_LEN, EndMark, HEADER_PAGE, SegmentHeader, TRUST_MARK_AT, TrimMarks,
    encode_durable_mark, encode_trust_mark,
};
use crate::view::SegmentView;

/// Room for the mark of the last write and the one behind it.
pub(crate) const END_MARKS_LEN: u64 = 2 * END_MARK_LEN as u64;
/// Synced bytes between two durable marks in the header page: they cost a block of their own each.
const DURABLE_MARK_EVERY_BYTES: u64 = 4 << 20;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn FsFile>,
    pub(crate) header: SegmentHeader,
    pub(crate) segment_crc: u32,
    pub(crate) trim_marks: TrimMarks,
    pub(crate) contents: Contents,
    pub(crate) view: Arc<SegmentView>,
    pub(crate) index_every_bytes: u64,
    pub(crate) ahead_bytes_max: u64,
    pub(crate) past_cache_bytes_min: u64,
    /// The last write went past the page cache.
    pub(crate) past_cache: bool,
    /// No write since the opening went further than here.
    pub(crate) reached: u64,
    /// Something was written since the last sync.
    pub(crate) dirty: bool,
    /// Where the frames ended that the durable mark in the header page speaks of.
    pub(crate) marked_position: u64,
}

impl Tail {
    /// How many of `frames` fit, with the mark behind them and the room kept for the footer.
    pub(crate) fn fitting(&self, frames: &[Frame]) -> usize {
        Room::of(self).take(frames)
    }

    /// Writes `frames` and the mark behind them: one call. Nothing is published. Many bytes go past the page cache unless the log `is_read`.
    pub(crate) fn write(
        &mut self,
        frames: &[Frame],
        durable_index: u64,
        is_read: bool,
    ) -> io::Result<()> {
        let Some(last) = frames.last() else {
            return Ok(());
        };
        let mark = EndMark {
            last_index: last.header().index,
            durable_index,
            last_header_crc: last.header_crc(),
        };
        let mark = mark.encode(&self.header.identity, self.segment_crc);
        let mut slices = Vec::with_capacity(frames.len() + 1);
        slices.extend(frames.iter().map(|frame| IoSlice::new(frame.bytes())));
        slices.push(IoSlice::new(&mark));
        let len: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let end = self.contents.end_position + len;
        self.past_cache = len >= self.past_cache_bytes_min && !is_read;
        let ahead = match self.past_cache {
            true => self.zeros_to_sector(end),
            false => self.zeros_ahead(len, end),
        };
        for zeros in zeros(ahead) {
            slices.push(IoSlice::new(zeros));
        }
        let position = self.contents.end_position;
        match self.past_cache {
            true => self.file.write_past_cache(&slices, position)?,
            false => self.file.write_vectored_at(&slices, position)?,
        }
        self.reached = self.reached.max(end + ahead);
        Ok(())
    }

    /// How many zeros a write up to `end` takes along that goes past the page cache, where only whole sectors are written: the second mark
    /// comes into one that is there.
    fn zeros_to_sector(&self, end: u64) -> u64 {
        let until = (end + END_MARK_LEN as u64).next_multiple_of(SECTOR_BYTES as u64);
        until.min(self.header.file_len) - end
    }

    /// How many zeros a write of `len` bytes up to `end` takes along.
    ///
    /// A block that was reserved and never written is noted as written with the first sync after, in the file system's journal, which takes
    /// longer than a short write itself and holds up every other sync of the disk. Written along with a block before, it costs next
    /// to nothing. The reach doubles, so that a log with few entries stays short; long writes go without, for to
    /// them the bytes are what counts.
    fn zeros_ahead(&self, len: u64, end: u64) -> u64 {
        if end + END_MARK_LEN as u64 <= self.reached || len > self.ahead_bytes_max / 4 {
            return 0;
        }
        let step = self.ahead_bytes_max.min(1 << end.ilog2());
        let until = (end + END_MARK_LEN as u64).next_multiple_of(step);
        until.min(self.header.file_len) - end
    }

    /// Takes written frames into the sums and lets readers see them. The value is their length in bytes.
    pub(crate) fn commit(&mut self, frames: &[Frame]) -> u64 {
        let before = self.contents.end_position;
        for frame in frames {
            self.contents.add(
                frame.header(),
                frame.header_crc(),
                &self.view.index,
                self.index_every_bytes,
            );
        }
        self.view.publish(&self.contents);
        self.dirty |= !frames.is_empty();
        self.contents.end_position - before
    }

    /// Notes after a sync that everything up to `durable_index` is durable: in a second mark behind the last write's, where the next write
    /// goes anyway, and now and then in the header page. Neither is synced for its own sake.
    pub(crate) fn mark_durable(&mut self, durable_index: u64) -> io::Result<()> {
        self.write_end_mark(durable_index)?;
        self.mark_header(durable_index)
    }

    /// Its second half alone.
    pub(crate) fn mark_header(&mut self, durable_index: u64) -> io::Result<()> {
        match self.contents.end_position - self.marked_position >= DURABLE_MARK_EVERY_BYTES {
            true => self.write_durable_mark(durable_index),
            false => Ok(()),
        }
    }

    fn write_end_mark(&self, durable_index: u64) -> io::Result<()> {
        let mark = EndMark {
            last_index: self.contents.last_index,
            durable_index,
            last_header_crc: self.contents.last_header_crc,
        };
        self.file.write_all_at(
            &mark.encode(&self.header.identity, self.segment_crc),
            // Behind the mark that was synced with the frames: that one stays whole if the power goes during this.
            self.contents.end_position + END_MARK_LEN as u64,
        )
    }

    /// Writes the durable mark in the header page.
    pub(crate) fn write_durable_mark(&mut self, durable_index: u64) -> io::Result<()> {
        let mark = encode_durable_mark(durable_index, self.segment_crc);
        self.file.write_all_at(&mark, DURABLE_MARK_AT)?;
        self.marked_position = self.contents.end_position;
        Ok(())
    }

    /// Writes the trust mark in the header page. The caller syncs.
    pub(crate) fn write_trust_mark(&self) -> io::Result<()> {
        let mark = encode_trust_mark(self.contents.last_index, self.segment_crc);
        self.file.write_all_at(&mark, TRUST_MARK_AT)
    }

    /// Writes the trim mark in the header page. The caller syncs.
    pub(crate) fn write_trim_mark(&mut self, first: u64) -> io::Result<()> {
        let (mark, at) = self.trim_marks.renewed(first, self.segment_crc);
        self.file.write_all_at(&mark, at)
    }

    /// Writes the footer, behind all frames. The caller syncs the file, sooner or later.
    pub(crate) fn write_footer(&self) -> io::Result<()> {
        write_footer(
            self.file.as_ref(),
            &self.header,
            self.segment_crc,
            &self.contents,
            &self.view,
        )
    }
}

/// So many zeros, in pieces.
fn zeros(len: u64) -> impl Iterator<Item = &'static [u8]> {
    let piece = ZEROS.len() as u64;
    (0..len.div_ceil(piece)).map(move |n| &ZEROS[..(len - n * piece).min(piece) as usize])
}

/// Writes the footer of a segment whose frames end with `contents`.
pub(crate) fn write_footer(
    file: &dyn FsFile,
    header: &SegmentHeader,
    segment_crc: u32,
    contents: &Contents,
    view: &SegmentView,
) -> io::Result<()> {
    let bytes = footer::encode(contents, &view.index, header, segment_crc);
    let frames_end = contents.end_position + END_MARKS_LEN;
    match header.file_len.checked_sub(bytes.len() as u64) {
        Some(at) if at >= frames_end => file.write_all_at(&bytes, at),
        // The index was denser (another setting) than when room for the footer was kept: without one, opening scans.
        _ => Ok(()),
    }
}

/// What is left of a segment, so that frames, mark and the footer they will need all fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    file_len: u64,
    end_position: u64,
    index_every_bytes: u64,
    last_entry_at: Option<u64>,
    last_term: Option<u64>,
    entries: usize,
    term_runs: usize,
    memberships: usize,
}

impl Room {
    fn of(tail: &Tail) -> Room {
        Room {
            file_len: tail.header.file_len,
            end_position: tail.contents.end_position,
            index_every_bytes: tail.index_every_bytes,
            last_entry_at: tail.view.index.last().map(|entry| entry.position),
            last_term: tail.contents.term_runs.last().map(|&(_, term)| term),
            entries: tail.view.index.len(),
            term_runs: tail.contents.term_runs.len(),
            memberships: tail.contents.memberships.len(),
        }
    }

    /// Of a new segment.
    pub(crate) fn empty(file_len: u64, index_every_bytes: u64) -> Room {
        Room {
            file_len,
            end_position: HEADER_PAGE,
            index_every_bytes,
            last_entry_at: None,
            last_term: None,
            entries: 0,
            term_runs: 0,
            memberships: 0,
        }
    }

    /// How many of `frames` fit one after another; they are counted as taken.
    pub(crate) fn take(&mut self, frames: &[Frame]) -> usize {
        frames
            .iter()
            .take_while(|frame| {
                let after = self.with(frame);
                let fits = after.needs() <= after.file_len;
                if fits {
                    *self = after;
                }
                fits
            })
            .count()
    }

    /// Length of the shortest file that holds this frame alone.
    pub(crate) fn shortest_for(frame: &Frame, index_every_bytes: u64) -> u64 {
        Room::empty(0, index_every_bytes)
            .with(frame)
            .needs()
            .next_multiple_of(HEADER_PAGE)
    }

    fn with(&self, frame: &Frame) -> Room {
        let header = frame.header();
        let mut after = *self;
        let due = self
            .last_entry_at
            .is_none_or(|at| self.end_position - at >= self.index_every_bytes);
        if due {
            after.entries += 1;
            after.last_entry_at = Some(self.end_position);
        }
        if self.last_term != Some(header.term) {
            after.term_runs += 1;
            after.last_term = Some(header.term);
        }
        if header.kind == kind::MEMBERSHIP {
            after.memberships += 1;
        }
        after.end_position += header.frame_len() as u64;
        after
    }

    fn needs(&self) -> u64 {
        let footer = footer_len(self.entries, self.term_runs, self.memberships);
        self.end_position + END_MARKS_LEN + footer
    }
}
