//! What writer and readers of a log share: the list of segments and how far each is written. Owns the publication order.
//!
//! On the write walk (publish) and the fetch walk (look up). Nothing here is locked: the list is swapped whole, the ends only grow, and
//! a position is stored with Release after the bytes before it were written. Must not know: how a segment is written.

use std::path::PathBuf;
use std::sync::Arc;

use crate::contents::Contents;
use crate::fs::MapRead;
use crate::index::SparseIndex;
use crate::segment::SegmentHeader;
use crate::sync::{ArcSwap, AtomicU64, Ordering};

/// One segment as readers see it.
#[derive(Debug)]
pub(crate) struct SegmentView {
    pub(crate) path: PathBuf,
    pub(crate) base_index: u64,
    pub(crate) base_offset: u64,
    /// Term of the frame before the first.
    pub(crate) prev_term: u64,
    /// Header checksum of the frame before the first.
    pub(crate) prev_header_crc: u32,
    pub(crate) group: u64,
    pub(crate) map: Arc<dyn MapRead>,
    pub(crate) index: Arc<SparseIndex>,
    /// Frames before this position are written and never change.
    end_position: AtomicU64,
    /// At least the largest timestamp before `end_position`.
    max_timestamp: AtomicU64,
    /// [`Shared::written_bytes`] at position 0, if this process wrote (or scanned) the segment; tells how recently a position
    /// was written.
    pub(crate) written_at_start: Option<u64>,
}

impl SegmentView {
    pub(crate) fn new(
        path: PathBuf,
        header: &SegmentHeader,
        contents: &Contents,
        index: Arc<SparseIndex>,
        map: Arc<dyn MapRead>,
        written_at_start: Option<u64>,
    ) -> SegmentView {
        SegmentView {
            path,
            base_index: header.base_index,
            base_offset: header.base_offset,
            prev_term: header.prev_term,
            prev_header_crc: header.prev_header_crc,
            group: header.identity.group,
            map,
            index,
            end_position: AtomicU64::new(contents.end_position),
            max_timestamp: AtomicU64::new(contents.max_timestamp),
            written_at_start,
        }
    }

    /// The same file, ending where `contents` ends: what is left of it after a truncation. Readers that hold the old view keep
    /// it; what they may read there is bounded by the commit index, which no truncation passes.
    pub(crate) fn cut(&self, contents: &Contents) -> SegmentView {
        let mut entries = self.index.entries();
        entries.retain(|entry| entry.index <= contents.last_index);
        SegmentView {
            path: self.path.clone(),
            base_index: self.base_index,
            base_offset: self.base_offset,
            prev_term: self.prev_term,
            prev_header_crc: self.prev_header_crc,
            group: self.group,
            map: Arc::clone(&self.map),
            index: Arc::new(SparseIndex::of(&entries)),
            end_position: AtomicU64::new(contents.end_position),
            max_timestamp: AtomicU64::new(contents.max_timestamp),
            written_at_start: self.written_at_start,
        }
    }

    /// Lets readers see everything up to the contents' end, which has been written.
    pub(crate) fn publish(&self, contents: &Contents) {
        self.max_timestamp
            .store(contents.max_timestamp, Ordering::Relaxed);
        // Release: whoever sees the new end sees the bytes, the index entries and the timestamp before it.
        self.end_position
            .store(contents.end_position, Ordering::Release);
    }

    pub(crate) fn end_position(&self) -> u64 {
        self.end_position.load(Ordering::Acquire)
    }

    pub(crate) fn max_timestamp(&self) -> u64 {
        self.max_timestamp.load(Ordering::Relaxed)
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.map.len() as u64
    }
}

/// The map of a segment that has left the list; whoever still looks at the segment shares it.
pub(crate) fn map_of_retired(view: Arc<SegmentView>) -> Arc<dyn MapRead> {
    match Arc::try_unwrap(view) {
        Ok(view) => view.map,
        Err(view) => Arc::clone(&view.map),
    }
}

/// Whether nobody holds the map but the caller: then nobody can, and its file may be written again.
pub(crate) fn is_last_reference(map: &mut Arc<dyn MapRead>) -> bool {
    Arc::get_mut(map).is_some()
}

/// What the writer of a log shares with its readers.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Ascending by base index, gapless; the last one is the tail. Never empty.
    pub(crate) segments: ArcSwap<Vec<Arc<SegmentView>>>,
    last_index: AtomicU64,
    next_offset: AtomicU64,
    /// Bytes written to the log since it was opened.
    written_bytes: AtomicU64,
    /// [`Shared::written_bytes`] up to which some were written past the page cache.
    past_cache_until: AtomicU64,
    /// [`Shared::written_bytes`] when a consumer last read; 0 if none has.
    consumed_at: AtomicU64,
}

impl Shared {
    pub(crate) fn new(segments: Vec<Arc<SegmentView>>, end: &Contents) -> Shared {
        Shared {
            segments: ArcSwap::from_pointee(segments),
            last_index: AtomicU64::new(end.last_index),
            next_offset: AtomicU64::new(end.next_offset),
            written_bytes: AtomicU64::new(end.end_position),
            past_cache_until: AtomicU64::new(0),
            consumed_at: AtomicU64::new(0),
        }
    }

    /// Moves the end of the log; the segments' own ends have been published before.
    pub(crate) fn publish(&self, end: &Contents, written_bytes: u64) {
        self.written_bytes
            .fetch_add(written_bytes, Ordering::Relaxed);
        self.next_offset.store(end.next_offset, Ordering::Release);
        self.last_index.store(end.last_index, Ordering::Release);
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.last_index.load(Ordering::Acquire)
    }

    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset.load(Ordering::Acquire)
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// The next `bytes`, which are written and not published yet, are in no page cache.
    pub(crate) fn note_past_cache(&self, bytes: u64) {
        // Seen by whoever sees them: they are published after.
        self.past_cache_until
            .store(self.written_bytes() + bytes, Ordering::Relaxed);
    }

    pub(crate) fn past_cache_until(&self) -> u64 {
        self.past_cache_until.load(Ordering::Relaxed)
    }

    /// A consumer reads.
    pub(crate) fn note_consumer(&self) {
        self.consumed_at
            .store(self.written_bytes(), Ordering::Relaxed);
    }

    /// Whether a consumer has read since the last `bytes` were written.
    pub(crate) fn is_consumed_within(&self, bytes: u64) -> bool {
        let consumed_at = self.consumed_at.load(Ordering::Relaxed);
        consumed_at > 0 && self.written_bytes() - consumed_at < bytes
    }
}
