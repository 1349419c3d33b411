//! What a segment holds, in a few numbers: where its frames end, its runs of terms, its membership entries. Owns the sums that
//! the writer keeps, recovery rebuilds and the footer stores.
//!
//! Must not know: files, bytes, the index entries (those are shared with readers, see [`crate::index`]).

use crate::format::{FrameHeader, kind};
use crate::index::{IndexEntry, SparseIndex};
use crate::segment::{HEADER_PAGE, SegmentHeader};

/// The sums over the frames of one segment, from its base to `last_index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) base_index: u64,
    /// Index of the last frame (inclusive); `base_index - 1` if there is none.
    pub(crate) last_index: u64,
    /// Term of the last frame; of the one before the segment if there is none.
    pub(crate) last_term: u64,
    /// Header checksum of the last frame; of the one before the segment if there is none.
    pub(crate) last_header_crc: u32,
    /// Offset after the last record.
    pub(crate) next_offset: u64,
    /// Where the last frame ends.
    pub(crate) end_position: u64,
    /// At least the largest timestamp of any record; exactly that unless frames were cut off.
    pub(crate) max_timestamp: u64,
    /// `(first index, term)` of each run of frames of one term, ascending.
    pub(crate) term_runs: Vec<(u64, u64)>,
    /// Indexes of membership frames, ascending.
    pub(crate) memberships: Vec<u64>,
}

impl Contents {
    /// Of a segment without frames.
    pub(crate) fn empty(header: &SegmentHeader) -> Contents {
        Contents {
            base_index: header.base_index,
            last_index: header.base_index - 1,
            last_term: header.prev_term,
            last_header_crc: header.prev_header_crc,
            next_offset: header.base_offset,
            end_position: HEADER_PAGE,
            max_timestamp: 0,
            term_runs: Vec::new(),
            memberships: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last_index < self.base_index
    }

    /// Whether a frame with this header may come next: the rules of a log, on which reading and recovery rely.
    pub(crate) fn admits(&self, header: &FrameHeader) -> bool {
        header.index == self.last_index.wrapping_add(1)
            && header.prev_header_crc == self.last_header_crc
            && header.base_offset == self.next_offset
            && header.term >= self.last_term
    }

    /// Counts a frame in, and enters it into `index` if it is time for an entry again.
    pub(crate) fn add(
        &mut self,
        header: &FrameHeader,
        header_crc: u32,
        index: &SparseIndex,
        index_every_bytes: u64,
    ) {
        debug_assert!(self.admits(header));
        let due = index
            .last()
            .is_none_or(|last| self.end_position - last.position >= index_every_bytes);
        if due {
            index.push(IndexEntry {
                index: header.index,
                base_offset: header.base_offset,
                position: self.end_position,
                max_timestamp: self.max_timestamp,
            });
        }
        if self
            .term_runs
            .last()
            .is_none_or(|&(_, term)| term != header.term)
        {
            self.term_runs.push((header.index, header.term));
        }
        if header.kind == kind::MEMBERSHIP {
            self.memberships.push(header.index);
        }
        if header.record_count > 0 {
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        }
        self.last_index = header.index;
        self.last_term = header.term;
        self.last_header_crc = header_crc;
        self.next_offset = header.next_offset();
        self.end_position += header.frame_len() as u64;
    }

    /// The part before the segment `next`, which goes on where frames of this one were cut off; the last frame kept ends at
    /// `end_position`.
    pub(crate) fn cut_before(&self, next: &SegmentHeader, end_position: u64) -> Contents {
        let keep = |index: u64| index < next.base_index;
        Contents {
            base_index: self.base_index,
            last_index: next.base_index - 1,
            last_term: next.prev_term,
            last_header_crc: next.prev_header_crc,
            next_offset: next.base_offset,
            end_position,
            max_timestamp: self.max_timestamp,
            term_runs: self
                .term_runs
                .iter()
                .copied()
                .filter(|run| {
                    keep(run.0) || crate::mutation::is("terms of what was cut stay in the footer")
                })
                .collect(),
            memberships: self
                .memberships
                .iter()
                .copied()
                .filter(|&at| keep(at))
                .collect(),
        }
    }

    /// Whether `next` goes on exactly where this ends.
    pub(crate) fn joins(&self, next: &SegmentHeader) -> bool {
        next.base_index == self.last_index.wrapping_add(1)
            && next.prev_header_crc == self.last_header_crc
            && next.prev_term == self.last_term
            && next.base_offset == self.next_offset
    }
}
