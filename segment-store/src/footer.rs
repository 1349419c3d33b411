//! The footer of a sealed segment: its index and sums, at the very end of the file. Owns its layout.
//!
//! With it, opening a log reads a sealed segment's header and footer and none of its frames. It is right-aligned and its room is
//! kept free while the segment fills, so writing it never touches a block that a frame lies in. A footer that is missing, torn
//! or stale costs a scan of that segment and nothing else. Must not know: when a segment is sealed.

use std::io;

use crate::contents::Contents;
use crate::format::{get_u32, get_u64, put_u32, put_u64};
use crate::fs::FsFile;
use crate::index::{IndexEntry, SparseIndex};
use crate::segment::{HEADER_PAGE, SegmentHeader};

/// Length of the fixed part, the last bytes of the file.
pub(crate) const TRAILER_LEN: usize = 128;

const MAGIC: &[u8; 8] = b"PLIMFOOT";
const VERSION: u32 = 1;
const ENTRY_LEN: usize = 32;
const RUN_LEN: usize = 16;
const MEMBERSHIP_LEN: usize = 8;

/// Length of a footer with that many parts, a multiple of 64.
pub(crate) fn footer_len(entries: usize, term_runs: usize, memberships: usize) -> u64 {
    let body = body_len(entries, term_runs, memberships);
    (body + TRAILER_LEN).next_multiple_of(64) as u64
}

fn body_len(entries: usize, term_runs: usize, memberships: usize) -> usize {
    entries * ENTRY_LEN + term_runs * RUN_LEN + memberships * MEMBERSHIP_LEN
}

/// The bytes of the footer; they end where the file ends. Entries of `index` past the contents' end (of frames cut off) are
/// left out.
pub(crate) fn encode(
    contents: &Contents,
    index: &SparseIndex,
    header: &SegmentHeader,
    segment_crc: u32,
) -> Vec<u8> {
    let mut entries = index.entries();
    entries.retain(|entry| entry.index <= contents.last_index);
    let (runs, memberships) = (&contents.term_runs, &contents.memberships);
    let total = footer_len(entries.len(), runs.len(), memberships.len());
    let total = usize::try_from(total).expect("a footer fits in memory");
    let body = body_len(entries.len(), runs.len(), memberships.len());
    let mut bytes = vec![0; total];
    let mut at = total - TRAILER_LEN - body;
    let mut put = |value: u64| {
        put_u64(&mut bytes, at, value);
        at += 8;
    };
    for entry in &entries {
        put(entry.index);
        put(entry.base_offset);
        put(entry.position);
        put(entry.max_timestamp);
    }
    for &(first, term) in runs {
        put(first);
        put(term);
    }
    for &membership in memberships {
        put(membership);
    }
    let body_crc = crc32fast::hash(&bytes[total - TRAILER_LEN - body..total - TRAILER_LEN]);
    let count = |n: usize| u32::try_from(n).expect("a segment has fewer than 2^32 frames");
    let trailer = &mut bytes[total - TRAILER_LEN..];
    trailer[..8].copy_from_slice(MAGIC);
    put_u32(trailer, 8, VERSION);
    put_u32(trailer, 16, body_crc);
    put_u32(trailer, 20, count(entries.len()));
    put_u32(trailer, 24, count(runs.len()));
    put_u32(trailer, 28, count(memberships.len()));
    put_u64(trailer, 32, header.identity.group);
    put_u64(trailer, 40, contents.base_index);
    put_u64(trailer, 48, contents.last_index);
    put_u64(trailer, 56, contents.end_position);
    put_u64(trailer, 64, contents.next_offset);
    put_u64(trailer, 72, contents.last_term);
    put_u64(trailer, 80, contents.max_timestamp);
    put_u32(trailer, 88, contents.last_header_crc);
    put_u32(trailer, 92, segment_crc);
    let crc = crate::format::crc_but(trailer, 12);
    put_u32(trailer, 12, crc);
    bytes
}

/// Reads the footer of the segment; `None` if there is none that is whole and belongs to this very segment.
pub(crate) fn read(
    file: &dyn FsFile,
    header: &SegmentHeader,
    segment_crc: u32,
) -> io::Result<Option<(Contents, SparseIndex)>> {
    let mut trailer = [0; TRAILER_LEN];
    let Some(trailer_at) = header.file_len.checked_sub(TRAILER_LEN as u64) else {
        return Ok(None);
    };
    file.read_exact_at(&mut trailer, trailer_at)?;
    let ours = trailer[..8] == *MAGIC
        && get_u32(&trailer, 12) == crate::format::crc_but(&trailer, 12)
        && get_u32(&trailer, 8) == VERSION
        && get_u64(&trailer, 32) == header.identity.group
        && get_u64(&trailer, 40) == header.base_index
        && get_u32(&trailer, 92) == segment_crc;
    if !ours {
        return Ok(None);
    }
    let counts = [20, 24, 28].map(|at| get_u32(&trailer, at) as usize);
    let body = body_len(counts[0], counts[1], counts[2]);
    let end_position = get_u64(&trailer, 56);
    // The checksum holds, so this is what a writer wrote; still, no allocation beyond what the file has room for.
    let Some(body_at) = trailer_at
        .checked_sub(body as u64)
        .filter(|&at| at >= HEADER_PAGE && end_position <= at)
    else {
        return Ok(None);
    };
    let mut bytes = vec![0; body];
    file.read_exact_at(&mut bytes, body_at)?;
    if crc32fast::hash(&bytes) != get_u32(&trailer, 16)
        && !crate::mutation::is("an index is believed unchecked")
    {
        return Ok(None);
    }
    let (entries, rest) = bytes.split_at(counts[0] * ENTRY_LEN);
    let (runs, memberships) = rest.split_at(counts[1] * RUN_LEN);
    let entries: Vec<IndexEntry> = entries
        .chunks_exact(ENTRY_LEN)
        .map(|entry| IndexEntry {
            index: get_u64(entry, 0),
            base_offset: get_u64(entry, 8),
            position: get_u64(entry, 16),
            max_timestamp: get_u64(entry, 24),
        })
        .collect();
    let contents = Contents {
        base_index: header.base_index,
        last_index: get_u64(&trailer, 48),
        last_term: get_u64(&trailer, 72),
        last_header_crc: get_u32(&trailer, 88),
        next_offset: get_u64(&trailer, 64),
        end_position,
        max_timestamp: get_u64(&trailer, 80),
        term_runs: runs
            .chunks_exact(RUN_LEN)
            .map(|run| (get_u64(run, 0), get_u64(run, 8)))
            .collect(),
        memberships: memberships
            .chunks_exact(MEMBERSHIP_LEN)
            .map(|at| get_u64(at, 0))
            .collect(),
    };
    Ok(Some((contents, SparseIndex::of(&entries))))
}

/// The checksum of the segment's header, as the footer at the end of a file of this length repeats it; `None` if there is no footer that is
/// whole and may belong to a segment with this group and base.
pub(crate) fn segment_crc(
    file: &dyn FsFile,
    file_len: u64,
    header: &SegmentHeader,
) -> io::Result<Option<u32>> {
    let mut trailer = [0; TRAILER_LEN];
    let Some(trailer_at) = file_len.checked_sub(TRAILER_LEN as u64) else {
        return Ok(None);
    };
    file.read_exact_at(&mut trailer, trailer_at)?;
    let whole = trailer[..8] == *MAGIC
        && get_u32(&trailer, 12) == crate::format::crc_but(&trailer, 12)
        && get_u64(&trailer, 32) == header.identity.group
        && get_u64(&trailer, 40) == header.base_index;
    Ok(whole.then(|| get_u32(&trailer, 92)))
}

#[cfg(test)]
mod tests;
