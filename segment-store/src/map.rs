//! The map of a file: the only `unsafe` of the whole workspace. Owns one mapping, the slices that keep it alive, and
//! what of it is in memory.
//!
//! On the fetch walk: a run of frames leaves for the network as [`Bytes`] that point into the page cache. Must not know:
//! frames, who reads, how files are written.
//!
//! # What makes it sound
//! Rust asks of a `&[u8]` that its bytes stay mapped and do not change while it lives.
//!
//! *Mapped:* the slice owns an [`Arc`] of the mapping. The file keeps its length for life ([`crate::fs`], rule 1: `Fs` has no
//! operation that truncates) and is retired by unlinking, which leaves mapped pages alone. That nobody else truncates the
//! files is what the directory lock ([`crate::data_dir`]) stands for; a program that ignores it gives SIGBUS, a stop, not a
//! wrong read.
//!
//! *Unchanging:* a reference is made only over the range asked for, never over the whole map, because the rest of a tail
//! segment is still to be written. The caller of `slice` promises that the range was written before and is never written
//! again while the slice lives ([`crate::fs::MapRead`]). A log's reader keeps it: it slices below the published end of the
//! segment, loaded with Acquire; the writer stores that end with Release after `pwritev` returned; frames are never
//! edited, truncation goes on in a fresh file and recycling takes only files that no map is left of.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use crate::fs::MapRead;
use crate::fs::read_past_cache::{self, FileId};

/// A read-only, shared map of a whole file.
#[derive(Debug)]
pub(crate) struct FileMap {
    map: MmapRaw,
    /// `None` for a map without a file.
    id: Option<FileId>,
}

impl FileMap {
    /// Maps the whole of `file`, which is at least a byte long.
    pub(crate) fn new(file: &File) -> io::Result<FileMap> {
        let map = MmapOptions::new().map_raw_read_only(file)?;
        let id = Some(FileId::of(file)?);
        Ok(FileMap { map, id })
    }
}

impl MapRead for FileMap {
    fn len(&self) -> usize {
        self.map.len()
    }

    fn slice(self: Arc<Self>, range: Range<usize>) -> Bytes {
        assert!(
            range.start <= range.end && range.end <= self.map.len(),
            "slice {range:?} of a map of {} bytes",
            self.map.len()
        );
        if range.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(MappedRange { map: self, range })
    }

    fn populate(&self, range: Range<usize>) -> io::Result<()> {
        if range.start > range.end || range.end > self.map.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("populate {range:?} of a map of {} bytes", self.map.len()),
            ));
        }
        if range.is_empty() {
            return Ok(());
        }
        self.map
            .advise_range(Advice::PopulateRead, range.start, range.len())
    }

    fn is_resident(&self, range: Range<usize>) -> bool {
        let page = rustix::param::page_size();
        let start = range.start - range.start % page;
        if range.is_empty() || range.end > self.map.len() {
            return true;
        }
        let len = range.end - start;
        // What is on the disk alone seldom has its first page in memory, and to look at one is quicker than to look at a thousand.
        if len > page && !self.is_resident(start..start + page) {
            return false;
        }
        let mut pages = vec![0_u8; len.div_ceil(page)];
        // SAFETY: start and length lie inside the map, which lives as long as `self`, and the start is a multiple of the page size, as the
        // map's own is. One byte is written for each page or part of one: as many as `pages` has.
        let asked = unsafe {
            let start = self.map.as_mut_ptr().add(start);
            libc::mincore(start.cast(), len, pages.as_mut_ptr())
        };
        asked != 0 || pages.iter().all(|page| page & 1 == 1)
    }

    fn read_past_cache(&self, path: &Path, buffer: &mut [u8], position: u64) -> io::Result<bool> {
        match self.id {
            Some(id) => read_past_cache::read(path, id, buffer, position),
            None => Ok(false),
        }
    }

    fn unmap_pages(&self) {
        // SAFETY: what makes this advice unchecked is that it drops the content of private and anonymous pages. The map is a shared one of
        // a file, made by `new` alone: its bytes are the file's before and after, and slices that live meet them again.
        let unmapped = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        if let Err(error) = unmapped {
            tracing::debug!(%error, "pages of a map stay mapped");
        }
    }
}

/// A range of a map that was written and stays as it is; checked to lie inside the map when made.
struct MappedRange {
    map: Arc<FileMap>,
    range: Range<usize>,
}

impl AsRef<[u8]> for MappedRange {
    fn as_ref(&self) -> &[u8] {
        let base = self.map.map.as_ptr();
        // SAFETY: `slice`, the only maker of this type, checked that the range lies inside the map, so pointer and length
        // stay within one mapping, which `self.map` keeps mapped for as long as the reference lives; it is far below
        // `isize::MAX`, being a mapping. That its bytes neither change nor vanish is promised by the caller of `slice` and
        // by the files' fixed length (module documentation: who guarantees it, and where).
        unsafe { std::slice::from_raw_parts(base.add(self.range.start), self.range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map without a file: what Miri can follow.
    fn map_of(bytes: &[u8]) -> Arc<FileMap> {
        let mut map = memmap2::MmapMut::map_anon(bytes.len()).expect("memory");
        map.copy_from_slice(bytes);
        let map = map.into();
        Arc::new(FileMap { map, id: None })
    }

    #[test]
    fn slices_outlive_the_map_and_go_to_other_threads() {
        let map = map_of(b"frames of a segment");
        let first = Arc::clone(&map).slice(0..6);
        let last = Arc::clone(&map).slice(12..19);
        drop(map);
        let part = last.slice(1..4);
        drop(last);
        let reader = std::thread::spawn(move || part.to_vec());
        assert_eq!(&first[..], b"frames");
        assert_eq!(reader.join().expect("it reads"), b"egm");
    }

    #[test]
    fn empty_slice_holds_no_map_and_the_whole_map_is_a_slice() {
        let map = map_of(b"bytes");
        assert!(Arc::clone(&map).slice(5..5).is_empty());
        assert_eq!(Arc::strong_count(&map), 1);
        assert_eq!(&Arc::clone(&map).slice(0..5)[..], b"bytes");
    }

    #[test]
    #[should_panic(expected = "of a map of 5 bytes")]
    fn slice_past_the_end_is_refused() {
        let _ = map_of(b"bytes").slice(3..6);
    }
}
