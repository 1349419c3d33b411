//! How much a log holds: where it begins, its bytes and segments. Owns the sums over segments that a reader can ask for.
//!
//! On no walk: for retention, catching up and metrics. Nothing is read, only the list of segments is looked at. Must not know: what is
//! done about the answers.

use crate::log::LogBase;
use crate::reader::LogReader;
use crate::segment::HEADER_PAGE;

impl LogReader {
    /// What the log goes on from: the entry before the first one kept.
    pub fn base(&self) -> LogBase {
        let first = &self.shared.segments.load()[0];
        LogBase {
            index: first.base_index - 1,
            term: first.prev_term,
            header_crc: first.prev_header_crc,
            next_offset: first.base_offset,
        }
    }

    /// Bytes of disk that the log's segments take.
    pub fn disk_bytes(&self) -> u64 {
        let segments = self.shared.segments.load();
        segments.iter().map(|segment| segment.file_len()).sum()
    }

    /// Bytes of the frames from index `from` on, to within the distance of index entries; counted from the end, and no
    /// further than until they pass `enough`.
    pub fn bytes_from(&self, from: u64, enough: u64) -> u64 {
        let mut bytes = 0;
        for segment in self.shared.segments.load().iter().rev() {
            let end = segment.end_position();
            let entry = segment.index.floor(|entry| entry.index <= from);
            let start = match entry {
                Some(entry) if segment.base_index <= from => entry.position,
                _ => HEADER_PAGE,
            };
            bytes += end.saturating_sub(start);
            if segment.base_index <= from || bytes > enough {
                break;
            }
        }
        bytes
    }

    /// The first index that must stay so that the segments kept hold `bytes` of frames or more: whole segments before it may go.
    pub fn first_index_of_last(&self, bytes: u64) -> u64 {
        let segments = self.shared.segments.load();
        let mut kept = 0;
        for segment in segments.iter().rev() {
            kept += segment.end_position().saturating_sub(HEADER_PAGE);
            if kept >= bytes {
                return segment.base_index;
            }
        }
        segments[0].base_index
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.shared.segments.load().len()
    }
}
