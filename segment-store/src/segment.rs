//! The bytes of a segment file around its frames: header page, durable mark, end mark, file name. Owns their layout.
//!
//! On the write and recovery walks. Must not know: who writes when, what recovery concludes. The footer of a sealed segment
//! is in [`crate::footer`]; `docs/FORMAT.md` has the tables.

use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::format::{crc_but, get_u32, get_u64, put_u32, put_u64};
use crate::log::LogIdentity;

/// Length of the header page; the first frame starts here.
pub(crate) const HEADER_PAGE: u64 = 4096;
/// Length of an end mark, which follows the last frame of every write.
pub(crate) const END_MARK_LEN: usize = 64;
/// Where the durable mark lies in the header page: outside the part that the header checksum covers.
pub(crate) const DURABLE_MARK_AT: u64 = 512;
/// Length of the durable mark.
pub(crate) const DURABLE_MARK_LEN: usize = 24;
/// Where the trust mark lies: right behind the durable mark, and of the same layout.
pub(crate) const TRUST_MARK_AT: u64 = DURABLE_MARK_AT + DURABLE_MARK_LEN as u64;
/// Where the two trim marks lie: behind the trust mark, and of the same layout.
const TRIM_MARKS_AT: [u64; 2] = [
    TRUST_MARK_AT + DURABLE_MARK_LEN as u64,
    TRUST_MARK_AT + 2 * DURABLE_MARK_LEN as u64,
];

const MAGIC: &[u8; 8] = b"PLIMSEGM";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 512;
/// Flag of the header page: see [`SegmentHeader::anew`].
const ANEW: u32 = 1;
/// Starts with a byte that is no frame version, so that a mark never reads as a frame.
const END_MAGIC: &[u8; 4] = b"\0END";

const _: () = assert!(HEADER_PAGE.is_multiple_of(64) && HEADER_BYTES as u64 <= DURABLE_MARK_AT);

/// What a segment says about itself in its header page. Written once, before the file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: LogIdentity,
    /// Number of the file in its log, from 1, never reused. A later file overrides what earlier ones hold from its base on.
    pub(crate) generation: u64,
    /// Index of the first frame.
    pub(crate) base_index: u64,
    /// Offset of the first record.
    pub(crate) base_offset: u64,
    /// Term of the frame before the first.
    pub(crate) prev_term: u64,
    /// Header checksum of the frame before the first.
    pub(crate) prev_header_crc: u32,
    /// Length of the file.
    pub(crate) file_len: u64,
    /// The log starts anew here: whatever files of earlier generations hold does not count.
    pub(crate) anew: bool,
    /// What was before may have gone on further than it does: entries from `base_index` on may have been promised and lost. Holds
    /// until a trust mark says that the log has caught up.
    pub(crate) after_loss: bool,
}

impl SegmentHeader {
    /// The header page and the header's checksum, by which marks and footer are bound to this very segment.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut page = vec![0; HEADER_PAGE as usize];
        page[..8].copy_from_slice(MAGIC);
        put_u32(&mut page, 8, VERSION);
        page[16..32].copy_from_slice(&self.identity.cluster);
        put_u64(&mut page, 32, self.identity.group);
        put_u64(&mut page, 40, self.generation);
        put_u64(&mut page, 48, self.base_index);
        put_u64(&mut page, 56, self.base_offset);
        put_u64(&mut page, 64, self.prev_term);
        put_u32(&mut page, 72, self.prev_header_crc);
        put_u32(&mut page, 76, if self.anew { ANEW } else { 0 });
        put_u64(&mut page, 80, self.file_len);
        put_u32(&mut page, 88, u32::from(self.after_loss));
        let crc = crc_but(&page[..HEADER_BYTES], 12);
        put_u32(&mut page, 12, crc);
        (page, crc)
    }

    /// The header's checksum alone.
    pub(crate) fn crc(&self) -> u32 {
        self.encode().1
    }

    /// Reads the header page of the file at `path`, which is `actual_len` bytes long; `identity` is whose log it should be,
    /// if that is known. The second value is the header's checksum.
    pub(crate) fn decode(
        page: &[u8],
        path: &Path,
        actual_len: u64,
        identity: Option<LogIdentity>,
    ) -> Result<(SegmentHeader, u32), OpenError> {
        let (header, crc) = SegmentHeader::decode_page(page, path, identity)?;
        if actual_len != header.file_len {
            return Err(OpenError::Truncated {
                path: path.to_owned(),
                expected: header.file_len,
                actual: actual_len,
            });
        }
        Ok((header, crc))
    }

    /// [`SegmentHeader::decode`], however long the file is.
    pub(crate) fn decode_page(
        page: &[u8],
        path: &Path,
        identity: Option<LogIdentity>,
    ) -> Result<(SegmentHeader, u32), OpenError> {
        let path = path.to_owned();
        if page.len() < HEADER_PAGE as usize {
            return Err(OpenError::Truncated {
                path,
                expected: HEADER_PAGE,
                actual: page.len() as u64,
            });
        }
        if page[..8] != *MAGIC {
            return Err(OpenError::NotASegment { path });
        }
        let crc = get_u32(page, 12);
        if crc_but(&page[..HEADER_BYTES], 12) != crc {
            return Err(OpenError::DamagedHeader { path });
        }
        let version = get_u32(page, 8);
        if version != VERSION {
            return Err(OpenError::FutureVersion { path, version });
        }
        if get_u64(page, 48) == 0 || get_u32(page, 76) & !ANEW != 0 {
            return Err(OpenError::DamagedHeader { path });
        }
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&page[16..32]);
        let header = SegmentHeader {
            identity: LogIdentity {
                cluster,
                group: get_u64(page, 32),
            },
            generation: get_u64(page, 40),
            base_index: get_u64(page, 48),
            base_offset: get_u64(page, 56),
            prev_term: get_u64(page, 64),
            prev_header_crc: get_u32(page, 72),
            file_len: get_u64(page, 80),
            anew: get_u32(page, 76) & ANEW != 0,
            after_loss: get_u32(page, 88) != 0,
        };
        if let Some(expected) = identity.filter(|expected| *expected != header.identity) {
            return Err(OpenError::Foreign {
                path,
                found: header.identity.to_string(),
                expected: expected.to_string(),
            });
        }
        Ok((header, crc))
    }
}

/// The durable mark: everything up to an index was synced before this was written. Written now and then, never synced for
/// its own sake, so it lags; what it says is true for ever.
pub(crate) fn encode_durable_mark(durable_index: u64, segment_crc: u32) -> [u8; DURABLE_MARK_LEN] {
    let mut bytes = [0; DURABLE_MARK_LEN];
    put_u64(&mut bytes, 0, durable_index);
    put_u32(&mut bytes, 8, segment_crc);
    let crc = crc_but(&bytes, 12);
    put_u32(&mut bytes, 12, crc);
    bytes
}

/// The index in the durable mark of a header page; 0 if there is none that is whole and of this segment.
pub(crate) fn decode_durable_mark(page: &[u8], segment_crc: u32) -> u64 {
    decode_mark(page, DURABLE_MARK_AT, segment_crc)
}

/// The trust mark: what the log lacked after a loss has come from elsewhere since. `through` is the last index at that time.
pub(crate) fn encode_trust_mark(through: u64, segment_crc: u32) -> [u8; DURABLE_MARK_LEN] {
    // Never zero, which stands for no mark.
    encode_durable_mark(through.max(1), segment_crc)
}

/// Whether a header page has a trust mark.
pub(crate) fn has_trust_mark(page: &[u8], segment_crc: u32) -> bool {
    decode_mark(page, TRUST_MARK_AT, segment_crc) != 0
}

/// What the trim marks of a header page say: every entry before an index was trimmed. There are two, written in turn, so that one is whole
/// while the other is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrimMarks([u64; 2]);

impl TrimMarks {
    /// Those of a segment born in a log that was trimmed before `first`, 0 if it never was; `page` is its header page.
    pub(crate) fn of_new(first: u64, page: &mut [u8], segment_crc: u32) -> TrimMarks {
        let mut marks = TrimMarks::default();
        if first > 0 {
            let (mark, at) = marks.renewed(first, segment_crc);
            page[at as usize..][..DURABLE_MARK_LEN].copy_from_slice(&mark);
        }
        marks
    }

    pub(crate) fn decode(page: &[u8], segment_crc: u32) -> TrimMarks {
        TrimMarks(TRIM_MARKS_AT.map(|at| decode_mark(page, at, segment_crc)))
    }

    /// First index that was not trimmed, as far as these marks know; 0 if they say nothing.
    pub(crate) fn first(self) -> u64 {
        self.0[0].max(self.0[1])
    }

    /// The mark that says `first`, and where it goes: where it is already, or over the older one.
    pub(crate) fn renewed(
        &mut self,
        first: u64,
        segment_crc: u32,
    ) -> ([u8; DURABLE_MARK_LEN], u64) {
        let slot = match self.0 {
            [one, _] if one == first => 0,
            [_, other] if other == first => 1,
            [one, other] => usize::from(other < one),
        };
        self.0[slot] = first;
        (encode_durable_mark(first, segment_crc), TRIM_MARKS_AT[slot])
    }
}

fn decode_mark(page: &[u8], at: u64, segment_crc: u32) -> u64 {
    let at = at as usize;
    let bytes = &page[at..at + DURABLE_MARK_LEN];
    let whole = crc_but(bytes, 12) == get_u32(bytes, 12) && get_u32(bytes, 8) == segment_crc;
    if whole { get_u64(bytes, 0) } else { 0 }
}

/// Follows the last frame of every write, and is overwritten by the next one. It says where a write ended and what had been
/// durable by then; after a sync another one is written behind it. No extra block is touched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndMark {
    /// Index of the frame before the mark.
    pub(crate) last_index: u64,
    /// Everything up to this index had been synced when the mark was written.
    pub(crate) durable_index: u64,
    /// Header checksum of the frame before the mark.
    pub(crate) last_header_crc: u32,
}

impl EndMark {
    /// The 64 bytes. The cluster's id is in it so that nobody who only writes payloads could forge one.
    pub(crate) fn encode(&self, identity: &LogIdentity, segment_crc: u32) -> [u8; END_MARK_LEN] {
        let mut bytes = [0; END_MARK_LEN];
        bytes[..4].copy_from_slice(END_MAGIC);
        put_u64(&mut bytes, 8, self.last_index);
        put_u64(&mut bytes, 16, self.durable_index);
        put_u64(&mut bytes, 24, identity.group);
        put_u32(&mut bytes, 32, self.last_header_crc);
        put_u32(&mut bytes, 36, segment_crc);
        bytes[40..56].copy_from_slice(&identity.cluster);
        let crc = crc_but(&bytes, 4);
        put_u32(&mut bytes, 4, crc);
        bytes
    }

    /// The mark at the front of `block`, if it is one, whole, and of this segment.
    pub(crate) fn decode(
        block: &[u8],
        identity: &LogIdentity,
        segment_crc: u32,
    ) -> Option<EndMark> {
        EndMark::decode_any(block, identity)
            .filter(|&(_, of)| of == segment_crc)
            .map(|(mark, _)| mark)
    }

    /// The mark at the front of `block`, if it is one, whole, and of any segment of this log, which comes with it as its checksum.
    pub(crate) fn decode_any(block: &[u8], identity: &LogIdentity) -> Option<(EndMark, u32)> {
        let bytes = block.first_chunk::<END_MARK_LEN>()?;
        let ours = bytes[..4] == *END_MAGIC
            && bytes[40..56] == identity.cluster
            && get_u64(bytes, 24) == identity.group
            && get_u32(bytes, 4) == crc_but(bytes, 4);
        ours.then(|| {
            let mark = EndMark {
                last_index: get_u64(bytes, 8),
                durable_index: get_u64(bytes, 16),
                last_header_crc: get_u32(bytes, 32),
            };
            (mark, get_u32(bytes, 36))
        })
    }
}

/// Path of the segment with this generation.
pub(crate) fn segment_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:020}.segment"))
}

/// Where a segment lies while its header page is not yet durable.
pub(crate) fn unborn_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:020}.segment.tmp"))
}

/// The name of a repaired segment until the damaged one is out of its way.
pub(crate) fn repaired_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{generation:020}.segment.repaired"))
}

/// Where fetched frames wait until a range is whole.
pub(crate) fn fetched_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.fetched"))
}

/// What a file name in a log's directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    /// A segment, by its generation.
    Segment(u64),
    /// A segment whose creation was not finished, or frames fetched for a repair that was not: holds nothing that counts.
    Unborn,
    /// A segment that was repaired and takes the place of the one of the same generation.
    Repaired(u64),
    /// Not a file of the log.
    Other,
}

impl FileName {
    pub(crate) fn parse(name: &str) -> FileName {
        let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok()).flatten();
        if let Some(digits) = name.strip_suffix(".segment") {
            number(digits).map_or(FileName::Other, FileName::Segment)
        } else if let Some(digits) = name.strip_suffix(".segment.repaired") {
            number(digits).map_or(FileName::Other, FileName::Repaired)
        } else if name.ends_with(".segment.tmp") || name.ends_with(".fetched") {
            FileName::Unborn
        } else {
            FileName::Other
        }
    }
}

#[cfg(test)]
mod tests;
