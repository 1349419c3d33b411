//! What the files before a damaged one say of it. Owns the search in them.
//!
//! On the repair walk. Must not know: how a header is made again.

use std::io;

use super::Sheet;
use crate::header_rebuild::Before;
use crate::segment::{HEADER_PAGE, SegmentHeader};

/// Whether a file with this header cuts entries off that files before it hold. What lands on the first sector of a file may be another one's
/// beginning; that the log was cut there is believed of a header alone.
pub(super) fn overrides(before: &[Sheet], header: &SegmentHeader) -> io::Result<bool> {
    for sheet in before.iter().rev() {
        let runs = sheet.runs(HEADER_PAGE, sheet.header.base_index - 1, u64::MAX, None)?;
        if runs.iter().any(|run| run.last >= header.base_index) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The entry at `index` in the files before, if it is there and has this header checksum.
pub(super) fn find(before: &[Sheet], index: u64, crc: u32) -> io::Result<Option<Before>> {
    let Some(sheet) = before
        .iter()
        .rev()
        .find(|sheet| sheet.header.base_index <= index + 1)
    else {
        return Ok(None);
    };
    if sheet.header.base_index == index + 1 {
        let header = &sheet.header;
        return Ok((header.prev_header_crc == crc).then_some(Before {
            term: header.prev_term,
            next_offset: header.base_offset,
        }));
    }
    let mut found = None;
    for run in sheet.runs(HEADER_PAGE, sheet.header.base_index - 1, index, None)? {
        if run.last == index && run.last_crc == crc {
            found = Some(Before {
                term: run.last_term,
                next_offset: run.next_offset,
            });
        }
    }
    Ok(found)
}
