//! A damaged header page, made again from what repeats it: the first frame, marks, the footer, the file before. Owns the proof.
//!
//! On the repair walk. Marks and footer carry the checksum of the header they belong to, so a header that gives this checksum is the one that
//! was written. Without any of them the chain of frames is the proof, and the end of the file is not trusted. Must not know: what becomes
//! of the file.

use std::io;
use std::sync::Arc;

use crate::footer;
use crate::fs::FsFile;
use crate::lenient::Lenient;
use crate::log::LogIdentity;
use crate::scan::Scan;
use crate::segment::{HEADER_PAGE, SegmentHeader};

/// Terms that are tried for the frame before the first one, if no file says which it was.
const TERMS_TRIED: u64 = 1 << 16;

/// What a header says of the frame before the segment, besides its index and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) term: u64,
    pub(crate) next_offset: u64,
}

/// A header made again.
pub(crate) struct Rebuilt {
    pub(crate) header: SegmentHeader,
    pub(crate) crc: u32,
    /// It is the one that was written; else it is what the first frame there says, which may have landed there.
    pub(crate) proven: bool,
}

/// Where a segment may begin.
struct Start {
    base_index: u64,
    prev_header_crc: u32,
    base_offset: Option<u64>,
    /// No larger than the term of the first frame.
    term_max: u64,
}

/// The header of the file; `None` if nothing tells what it was. `find` looks for the entry of an index and a header
/// checksum in the files before.
pub(crate) fn rebuild(
    file: &Arc<Lenient>,
    generation: u64,
    identity: LogIdentity,
    find: impl Fn(u64, u32) -> io::Result<Option<Before>>,
) -> io::Result<Option<Rebuilt>> {
    let file_len = file
        .real_len()
        .max(2 * HEADER_PAGE)
        .next_multiple_of(HEADER_PAGE);
    let blank = SegmentHeader {
        identity,
        generation,
        base_index: 1,
        base_offset: 0,
        prev_term: 0,
        prev_header_crc: 0,
        file_len,
        anew: false,
        after_loss: false,
    };
    let mut scan = Scan::new(Arc::clone(file) as Arc<dyn FsFile>, blank, 0);
    let Some(start) = start_of(&mut scan, &identity)? else {
        return Ok(None);
    };
    let first_of_all = start.base_index == 1 && start.prev_header_crc == 0;
    let before = match first_of_all {
        true => Some(Before {
            term: 0,
            next_offset: 0,
        }),
        false => find(start.base_index - 1, start.prev_header_crc)?,
    };
    let base_offset = before
        .map(|before| before.next_offset)
        .or(start.base_offset)
        .unwrap_or(0);
    let header = SegmentHeader {
        base_index: start.base_index,
        base_offset,
        prev_header_crc: start.prev_header_crc,
        ..blank
    };
    let mut known = scan.segment_crcs(HEADER_PAGE)?;
    known.extend(footer::segment_crc(file.as_ref(), file_len, &header)?);
    if let Some((header, crc)) = find_known(&header, before, start.term_max, &known) {
        let proven = true;
        return Ok(Some(Rebuilt {
            header,
            crc,
            proven,
        }));
    }
    // The chain alone says where it belongs. Whether its end can be trusted is then not known.
    Ok(before.map(|before| {
        let header = SegmentHeader {
            prev_term: before.term,
            after_loss: true,
            ..header
        };
        Rebuilt {
            header,
            crc: header.crc(),
            proven: false,
        }
    }))
}

/// The one of all headers that differ from `header` in what nothing tells that has a checksum that is `known`.
fn find_known(
    header: &SegmentHeader,
    before: Option<Before>,
    term_max: u64,
    known: &[u32],
) -> Option<(SegmentHeader, u32)> {
    let terms = match before {
        Some(before) => before.term..=before.term,
        None => 0..=term_max.min(TERMS_TRIED),
    };
    for prev_term in terms {
        for (anew, after_loss) in [(false, false), (true, false), (false, true), (true, true)] {
            let candidate = SegmentHeader {
                prev_term,
                anew,
                after_loss,
                ..*header
            };
            let crc = candidate.crc();
            if known.contains(&crc) {
                return Some((candidate, crc));
            }
        }
    }
    None
}

/// What the first bytes behind the header page say.
fn start_of(scan: &mut Scan, identity: &LogIdentity) -> io::Result<Option<Start>> {
    if let Some((frame, _)) = scan.header_at(HEADER_PAGE)?
        && frame.group == identity.group
        && frame.index > 0
    {
        return Ok(Some(Start {
            base_index: frame.index,
            prev_header_crc: frame.prev_header_crc,
            base_offset: Some(frame.base_offset),
            term_max: frame.term,
        }));
    }
    let mark = scan.any_mark_at(HEADER_PAGE)?;
    Ok(mark.map(|(mark, _)| Start {
        base_index: mark.last_index.saturating_add(1),
        prev_header_crc: mark.last_header_crc,
        base_offset: None,
        term_max: 0,
    }))
}
