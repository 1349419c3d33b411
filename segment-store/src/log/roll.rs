//! Going on in another segment. Owns the birth of a segment file, and the order that makes a file's existence a promise.
//!
//! On the write walk, seldom. The order: the old segment is synced, the new one gets a durable header page, then its name, and only then the
//! old one its footer. So a segment that exists promises that all before it is durable, and a footer that a successor exists. Must not
//! know: why the log goes on elsewhere.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Log, LogOptions, Sealed};
use crate::contents::Contents;
use crate::error::AppendError;
use crate::fault::{Fault, is_no_space};
use crate::footer::TRAILER_LEN;
use crate::frame::Frame;
use crate::fs::{Fs, FsFile};
use crate::index::SparseIndex;
use crate::mutation;
use crate::prepare::Preparer;
use crate::segment::{EndMark, HEADER_PAGE, SegmentHeader, TrimMarks, segment_path, unborn_path};
use crate::tail::{Room, Tail};
use crate::view::SegmentView;

/// How much longer than the one before it a young segment is: a log at speed is soon in long ones, each of which costs several syncs to begin, and one
/// that holds little takes little room.
const GROWTH: u64 = 4;

/// A file written in full that is no segment yet: it has neither header page nor name.
#[derive(Debug)]
pub(super) struct Unborn {
    generation: u64,
    path: PathBuf,
    file: Arc<dyn FsFile>,
}

impl Unborn {
    /// Takes a prepared file, or makes one.
    pub(super) fn take(
        fs: &dyn Fs,
        dir: &Path,
        preparer: Option<&Preparer>,
        generation: u64,
        len: u64,
    ) -> io::Result<Unborn> {
        let path = unborn_path(dir, generation);
        let file = match preparer {
            Some(preparer) => preparer.take(len, &path)?,
            None => fs.create(&path, len)?,
        };
        Ok(Unborn {
            generation,
            path,
            file,
        })
    }

    /// Makes it the segment that goes on after `end`, durably, in a log that was trimmed before `trimmed_before`. On an error the file is
    /// gone, as far as that can be had.
    pub(super) fn bear(
        self,
        fs: &dyn Fs,
        dir: &Path,
        mut header: SegmentHeader,
        options: &LogOptions,
        written_at_start: u64,
        trimmed_before: u64,
    ) -> io::Result<Tail> {
        header.generation = self.generation;
        header.file_len = self.file.len();
        let path = segment_path(dir, self.generation);
        let born = self.name(fs, dir, &path, &header, trimmed_before);
        let (segment_crc, trim_marks, map) = match born {
            Ok(born) => born,
            Err(error) => {
                // Whatever is left is cleared away at the next opening; the first error says more than a second one.
                let _ = fs.remove(&self.path);
                return Err(error);
            }
        };
        let contents = Contents::empty(&header);
        let index = SparseIndex::for_segment(header.file_len, options.index_every_bytes);
        let view = SegmentView::new(
            path.clone(),
            &header,
            &contents,
            Arc::new(index),
            map,
            Some(written_at_start),
        );
        Ok(Tail {
            path,
            file: self.file,
            header,
            segment_crc,
            trim_marks,
            contents,
            view: Arc::new(view),
            index_every_bytes: options.index_every_bytes,
            ahead_bytes_max: options.ahead_bytes_max,
            past_cache_bytes_min: options.past_cache_bytes_min,
            past_cache: false,
            reached: 0,
            dirty: false,
            marked_position: HEADER_PAGE,
        })
    }

    /// Header page and first end mark, durable before the name; the name durable before anyone relies on it.
    fn name(
        &self,
        fs: &dyn Fs,
        dir: &Path,
        path: &Path,
        header: &SegmentHeader,
        trimmed_before: u64,
    ) -> io::Result<(u32, TrimMarks, Arc<dyn crate::fs::MapRead>)> {
        let map = self.file.map()?;
        let (mut page, segment_crc) = header.encode();
        let trim_marks = TrimMarks::of_new(trimmed_before, &mut page, segment_crc);
        let mark = EndMark {
            last_index: header.base_index - 1,
            durable_index: header.base_index - 1,
            last_header_crc: header.prev_header_crc,
        };
        let mark = mark.encode(&header.identity, segment_crc);
        self.file
            .write_vectored_at(&[IoSlice::new(&page), IoSlice::new(&mark)], 0)?;
        self.file.sync_data()?;
        fs.rename(&self.path, path)?;
        if mutation::is("names that are not synced") {
            return Ok((segment_crc, trim_marks, map));
        }
        if let Err(error) = fs.sync_dir(dir) {
            forget_name(fs, path);
            return Err(error);
        }
        Ok((segment_crc, trim_marks, map))
    }

    /// Gives the file up, unused.
    fn discard(self, fs: &dyn Fs) {
        if let Err(error) = fs.remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not remove an unused file");
        }
    }
}

impl Log {
    /// Appends `here` to the tail and `rest` to as many new segments as it takes. All files are there before the first byte is written, so
    /// that no room means nothing changed.
    pub(super) fn append_rolling<'a>(
        &mut self,
        mut here: &'a [Frame],
        mut rest: &'a [Frame],
    ) -> Result<(), AppendError> {
        let files = self.take_files_for(rest)?;
        let mut first = true;
        for (file, count) in files {
            let done = self.write(here).and_then(|()| self.roll(file, here));
            match done {
                Err(AppendError::NoSpace) if !first => {
                    let error = io::ErrorKind::StorageFull.into();
                    return Err(self.poison_tail("rolling over from", error).into());
                }
                other => other?,
            }
            first = false;
            (here, rest) = rest.split_at(count);
        }
        debug_assert!(rest.is_empty());
        match self.write(here) {
            Err(AppendError::NoSpace) => {
                let error = io::ErrorKind::StorageFull.into();
                return Err(self.poison_tail("writing", error).into());
            }
            other => other?,
        }
        self.commit(here);
        Ok(())
    }

    /// A file for each segment that `frames` need, and how many frames go there.
    fn take_files_for(
        &mut self,
        mut frames: &[Frame],
    ) -> Result<Vec<(Unborn, usize)>, AppendError> {
        let mut files = Vec::new();
        let mut len = self.tail.header.file_len;
        while let Some(frame) = frames.first() {
            len = self
                .successor_len(len)
                .max(Room::shortest_for(frame, self.options.index_every_bytes));
            let count = Room::empty(len, self.options.index_every_bytes).take(frames);
            match self.take_file(len) {
                Ok(file) => files.push((file, count)),
                Err(error) => {
                    for (file, _) in files {
                        file.discard(self.fs.as_ref());
                    }
                    return Err(error);
                }
            }
            frames = &frames[count..];
        }
        Ok(files)
    }

    pub(super) fn take_file(&mut self, len: u64) -> Result<Unborn, AppendError> {
        let generation = self.next_generation;
        self.next_generation += 1;
        let preparer = self.preparer.as_ref();
        let taken = Unborn::take(self.fs.as_ref(), &self.dir, preparer, generation, len);
        taken.map_err(|error| self.no_space_or_fault("creating a segment in", error))
    }

    /// Makes `file` the tail, after `here` has been written to the old one.
    fn roll(&mut self, file: Unborn, here: &[Frame]) -> Result<(), AppendError> {
        // `here` is not committed yet, so the tail does not know that it is dirty.
        self.tail.dirty |= !here.is_empty();
        if self.tail.dirty {
            self.sync_tail()?;
        }
        let contents = &self.tail.contents;
        let mut header = SegmentHeader {
            identity: self.identity,
            generation: 0,
            base_index: contents.last_index + 1,
            base_offset: contents.next_offset,
            prev_term: contents.last_term,
            prev_header_crc: contents.last_header_crc,
            file_len: 0,
            anew: false,
            after_loss: false,
        };
        if let Some(last) = here.last() {
            header.base_index = last.header().index + 1;
            if !mutation::is("a new segment begins at an offset that is taken") {
                header.base_offset = last.header().next_offset();
            }
            header.prev_term = last.header().term;
            header.prev_header_crc = last.header_crc();
        }
        let tail = self.bear(file, header)?;
        self.commit(here);
        self.tail.dirty = false;
        self.durable_index = self.tail.contents.last_index;
        let old = std::mem::replace(&mut self.tail, tail);
        self.hinted = false;
        if old.contents.is_empty() {
            // Too short for its first frame; the new one has the same base and overrides it.
            self.remove(&old.path)?;
        } else {
            if let Err(error) = old.write_footer() {
                return Err(self.poison("writing", &old.path, error).into());
            }
            self.unsynced_footers.push((old.path, old.file));
            self.sealed.push(Sealed {
                header: old.header,
                segment_crc: old.segment_crc,
                contents: old.contents,
                view: old.view,
            });
        }
        self.publish_segments();
        Ok(())
    }

    pub(super) fn bear(
        &mut self,
        file: Unborn,
        mut header: SegmentHeader,
    ) -> Result<Tail, AppendError> {
        header.after_loss = self.suspect;
        let written = self.shared.written_bytes();
        let born = file.bear(
            self.fs.as_ref(),
            &self.dir,
            header,
            &self.options,
            written,
            self.trimmed_before,
        );
        let tail = born.map_err(|error| self.no_space_or_fault("creating a segment in", error))?;
        self.torn = false;
        Ok(tail)
    }

    /// Shows readers the present list of segments.
    pub(super) fn publish_segments(&self) {
        let mut views: Vec<_> = Vec::with_capacity(self.sealed.len() + 1);
        views.extend(self.sealed.iter().map(|sealed| Arc::clone(&sealed.view)));
        views.push(Arc::clone(&self.tail.view));
        self.shared.segments.store(Arc::new(views));
    }

    /// Removes a segment file, durably.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), Fault> {
        let removed = self.fs.remove(path);
        let removed = removed.and_then(|()| self.fs.sync_dir(&self.dir));
        removed.map_err(|error| self.poison("removing", path, error))
    }

    /// Has the successor of a tail that is half full prepared.
    pub(super) fn hint(&mut self) {
        if self.hinted || self.tail.contents.end_position < self.tail.header.file_len / 2 {
            return;
        }
        self.hinted = true;
        if let Some(preparer) = &self.preparer {
            preparer.prepare(self.successor_len(self.tail.header.file_len));
        }
    }

    /// Length of the segment after one of `len` bytes: [`GROWTH`] times as long, up to the maximum.
    fn successor_len(&self, len: u64) -> u64 {
        let max = segment_len(self.options.segment_bytes_max);
        segment_len(len.saturating_mul(GROWTH)).min(max)
    }

    fn no_space_or_fault(&mut self, what: &'static str, error: io::Error) -> AppendError {
        if is_no_space(&error) {
            return AppendError::NoSpace;
        }
        let dir = self.dir.clone();
        self.poison(what, &dir, error).into()
    }
}

/// A length that a segment can have: whole pages, at least the header page and one with room for an end mark and a footer.
pub(super) fn segment_len(wanted: u64) -> u64 {
    const { assert!(TRAILER_LEN + 64 < HEADER_PAGE as usize) };
    wanted
        .clamp(2 * HEADER_PAGE, 1 << 40)
        .next_multiple_of(HEADER_PAGE)
}

/// A name whose sync failed is seen and may never become durable, not even by a later sync that succeeds: the next process must not
/// find it and build on it. Nothing relies on the file yet.
fn forget_name(fs: &dyn Fs, path: &Path) {
    if mutation::is("names whose sync failed stay") {
        return;
    }
    if let Err(error) = fs.remove(path) {
        tracing::error!(path = %path.display(), %error, "could not remove a segment whose name may not be durable");
    }
}
