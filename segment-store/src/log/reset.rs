//! Starting a log anew behind a point far ahead of its end, or beside its end: what a replica does with what lies before is not to keep it.
//! Owns the order of steps that makes it safe to interrupt anywhere.
//!
//! On the walk of a follower that lacks entries nobody keeps any more. As with a truncation, nothing is edited: a fresh file says in its header
//! page that no earlier one counts, and its durable name is the moment it happened. Must not know: why, nor what stands for the entries that
//! are skipped.

use std::path::PathBuf;

use super::roll::segment_len;
use super::{Log, LogBase};
use crate::error::AppendError;
use crate::segment::SegmentHeader;

impl Log {
    /// Drops every entry and goes on behind `base`, durably. Nothing happens if the log is empty there already. The files dropped are
    /// removed, never recycled: frames of theirs may have an index that comes again.
    ///
    /// Readers that hold a piece of the old log keep it.
    ///
    /// # Errors
    /// `NoSpace`: there is no room for the file to go on in; nothing changed.
    ///
    /// # Panics
    /// If `base` is before the entry in front of the first one kept: what was trimmed does not come back.
    pub fn reset(&mut self, base: LogBase) -> Result<(), AppendError> {
        self.check_writable()?;
        assert!(
            base.index + 1 >= self.first_index(),
            "cannot start anew after {}: the log starts at {}",
            base.index,
            self.first_index()
        );
        let header = SegmentHeader {
            identity: self.identity,
            generation: 0,
            base_index: base.index + 1,
            base_offset: base.next_offset,
            prev_term: base.term,
            prev_header_crc: base.header_crc,
            file_len: 0,
            anew: true,
            after_loss: false,
        };
        if self.is_empty_after(&header) {
            return Ok(());
        }
        self.keep_cached();
        let options = &self.options;
        let len = segment_len(options.segment_bytes_first.min(options.segment_bytes_max));
        let file = self.take_file(len)?;
        // When this returns, the log has started anew; all that follows is tidying, done at the next opening if not now.
        let tail = self.bear(file, header)?;
        let old_tail = std::mem::replace(&mut self.tail, tail);
        let dropped = std::mem::take(&mut self.sealed);
        let dropped = dropped.into_iter().map(|sealed| sealed.view.path.clone());
        let dropped: Vec<PathBuf> = dropped.chain([old_tail.path]).collect();
        self.unsynced_footers.clear();
        self.hinted = false;
        self.durable_index = base.index;
        self.publish_segments();
        self.shared.publish(&self.tail.contents, 0);
        for path in dropped {
            self.remove(&path)?;
        }
        Ok(())
    }

    /// Whether the log holds nothing and goes on from exactly what `header` names.
    fn is_empty_after(&self, header: &SegmentHeader) -> bool {
        let there = &self.tail.header;
        self.sealed.is_empty()
            && self.tail.contents.is_empty()
            && (there.base_index, there.base_offset) == (header.base_index, header.base_offset)
            && (there.prev_term, there.prev_header_crc)
                == (header.prev_term, header.prev_header_crc)
    }
}
