//! Removing entries at either end: conflict truncation at the back, trimming at the front. Owns the order of steps that makes each safe
//! to interrupt anywhere.
//!
//! On the append walk of a follower (truncate) and the retention walk (trim). Truncation edits no frame: it goes on in a fresh file whose
//! durable name is the moment it happened, because a later file overrides earlier ones from its base on. Must not know: why.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Log, Sealed, State};
use crate::error::AppendError;
use crate::fault::Fault;
use crate::fs::FsFile;
use crate::scan::Scan;
use crate::segment::SegmentHeader;
use crate::tail::write_footer;
use crate::view::{SegmentView, map_of_retired};

impl Log {
    /// Cuts every entry after `index`, durably; what stays is durable too. Nothing happens if there is none. The files cut off are removed,
    /// never recycled: their frames would chain.
    ///
    /// # Errors
    /// `NoSpace`: there is no room for the file to go on in; nothing changed.
    ///
    /// # Panics
    /// If `index` is before the one in front of the first entry kept: that was trimmed, so it was committed.
    pub fn truncate_after(&mut self, index: u64) -> Result<(), AppendError> {
        self.check_writable()?;
        assert!(
            index + 1 >= self.first_index(),
            "cannot cut after {index}: the log starts at {}",
            self.first_index()
        );
        if index >= self.last_index() {
            return Ok(());
        }
        self.sync()?;
        self.keep_cached();
        self.cut_off(index)
    }

    /// Goes on after `index` in a fresh file. Everything up to `index` is durable.
    pub(super) fn cut_off(&mut self, index: u64) -> Result<(), AppendError> {
        let kept = self.find_kept(index)?;
        let header = match &kept {
            Some(kept) => kept.next,
            None => SegmentHeader {
                base_index: index + 1,
                ..*self.first_header()
            },
        };
        let file = self.take_file(self.tail.header.file_len)?;
        // When this returns, the truncation has happened; all that follows is tidying, done at the next opening if not now.
        let tail = self.bear(file, header)?;
        let old_tail = std::mem::replace(&mut self.tail, tail);
        self.hinted = false;
        let mut segments = std::mem::take(&mut self.sealed);
        segments.push(Sealed {
            header: old_tail.header,
            segment_crc: old_tail.segment_crc,
            contents: old_tail.contents,
            view: old_tail.view,
        });
        let keep = segments.partition_point(|segment| segment.header.base_index <= index);
        let cut = segments.split_off(keep);
        self.sealed = segments;
        if let (Some(kept), Some(last)) = (kept, self.sealed.last_mut()) {
            last.contents = last.contents.cut_before(&kept.next, kept.end_position);
            last.view = Arc::new(last.view.cut(&last.contents));
            let written = write_footer(
                kept.file.as_ref(),
                &last.header,
                last.segment_crc,
                &last.contents,
                &last.view,
            );
            if let Err(error) = written.and_then(|()| kept.file.sync_data()) {
                return Err(self.poison("sealing", &kept.path, error).into());
            }
        }
        self.durable_index = index;
        self.publish_segments();
        self.shared.publish(&self.tail.contents, 0);
        for segment in cut {
            self.remove(&segment.view.path)?;
        }
        Ok(())
    }

    /// The segment that keeps the frame at `index`, and the header of one that goes on after it; `None` if no frame is kept.
    fn find_kept(&mut self, index: u64) -> Result<Option<Kept>, AppendError> {
        if index < self.first_index() {
            return Ok(None);
        }
        let at = self
            .sealed
            .partition_point(|segment| segment.header.base_index <= index);
        let in_tail = self.tail.header.base_index <= index;
        let (view, header, segment_crc) = match at.checked_sub(1) {
            Some(at) if !in_tail => {
                let sealed = &self.sealed[at];
                (&sealed.view, sealed.header, sealed.segment_crc)
            }
            _ => (&self.tail.view, self.tail.header, self.tail.segment_crc),
        };
        let path = view.path.clone();
        let found = self.fs.open(&path).and_then(|file| {
            let scan = Scan::new(Arc::clone(&file), header, segment_crc);
            let next = frame_end(scan, &header, view, index)?;
            Ok((file, next))
        });
        match found {
            Ok((file, Some((next, end_position)))) => Ok(Some(Kept {
                path,
                file,
                next,
                end_position,
            })),
            Ok((_, None)) => {
                self.state = State::Poisoned;
                let detail = format!("the frame at index {index} is not what was written");
                Err(Fault::damaged("cutting", &path, detail).into())
            }
            Err(error) => Err(self.poison("reading", &path, error).into()),
        }
    }

    /// Removes the segments that hold only entries before `index`; the tail always stays. The value is the new first index.
    ///
    /// The tail's trim mark is durable before the first file goes. So it does not matter which of them a crash brings back, nor one whose
    /// removal never became durable because a sync of the directory failed.
    pub fn trim_before(&mut self, index: u64) -> Result<u64, Fault> {
        self.check_not_poisoned()?;
        if self.state != State::Writable {
            return Ok(self.first_index());
        }
        let count = self
            .sealed
            .partition_point(|segment| segment.contents.last_index < index);
        if count == 0 {
            return Ok(self.first_index());
        }
        self.keep_cached();
        let trimmed: Vec<Sealed> = self.sealed.drain(..count).collect();
        self.trimmed_before = self.first_index();
        self.publish_segments();
        // Not the log's own sync: an end that is torn must not get another mark.
        let marked = self.tail.write_trim_mark(self.trimmed_before);
        let marked = marked.and_then(|()| self.tail.file.sync_data());
        marked.map_err(|error| self.poison_tail("writing", error))?;
        for segment in trimmed {
            self.unsynced_footers
                .retain(|(path, _)| *path != segment.view.path);
            self.retire(segment)?;
        }
        Ok(self.first_index())
    }

    /// Removes a trimmed segment's file, or lets it be used again if no reader holds a piece of a map of it.
    fn retire(&mut self, segment: Sealed) -> Result<(), Fault> {
        let path = segment.view.path.clone();
        let is_own = segment.header.generation >= self.opened_generation;
        let Some(preparer) = self.preparer.as_ref().filter(|_| is_own) else {
            return self.remove(&path);
        };
        // A reader that still looks at the segment keeps its map from being the last reference, and so the file from reuse.
        let map = map_of_retired(segment.view);
        let retired = preparer.recycle(&path, map);
        let retired = retired.and_then(|()| self.fs.sync_dir(&self.dir));
        retired.map_err(|error| self.poison("removing", &path, error))
    }
}

/// The segment in which a truncation ends.
struct Kept {
    path: PathBuf,
    file: Arc<dyn FsFile>,
    /// Header of the segment that goes on; its generation and length are not set yet.
    next: SegmentHeader,
    end_position: u64,
}

/// Finds the frame at `index`: the header of a segment that goes on after it, and where it ends.
fn frame_end(
    mut scan: Scan,
    header: &SegmentHeader,
    view: &SegmentView,
    index: u64,
) -> std::io::Result<Option<(SegmentHeader, u64)>> {
    let Some(entry) = view.index.floor(|entry| entry.index <= index) else {
        return Ok(None);
    };
    let (mut position, mut expected) = (entry.position, entry.index);
    while let Some((frame, crc)) = scan.frame_at(position)? {
        if frame.index != expected || frame.group != header.identity.group {
            return Ok(None);
        }
        position += frame.frame_len() as u64;
        expected += 1;
        if frame.index == index {
            let next = SegmentHeader {
                base_index: index + 1,
                base_offset: frame.next_offset(),
                prev_term: frame.term,
                prev_header_crc: crc,
                anew: false,
                ..*header
            };
            return Ok(Some((next, position)));
        }
    }
    Ok(None)
}
