//! The sparse index of one segment: every so many bytes, which frame lies where. Owns an append-only table that one writer
//! extends while any number of readers search it without a lock.
//!
//! On the write walk (push) and the fetch walk (search). Must not know: files, how an entry is stored.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// One frame in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// The frame's index.
    pub(crate) index: u64,
    /// The frame's base offset.
    pub(crate) base_offset: u64,
    /// Where it starts in the file.
    pub(crate) position: u64,
    /// Largest timestamp of all records before it in the segment: never falls, so it can be searched although timestamps
    /// of records may go back.
    pub(crate) max_timestamp: u64,
}

/// Entries ascending in all four fields. The capacity is fixed when made: a segment's length bounds what it can hold.
#[derive(Debug)]
pub(crate) struct SparseIndex {
    slots: Box<[Slot]>,
    /// Slots below this are written and never change again.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Slot {
    index: AtomicU64,
    base_offset: AtomicU64,
    position: AtomicU64,
    max_timestamp: AtomicU64,
}

impl SparseIndex {
    /// Room for every entry that a segment of `file_len` bytes may need.
    pub(crate) fn for_segment(file_len: u64, every_bytes: u64) -> SparseIndex {
        let capacity = file_len / every_bytes.max(1) + 2;
        let capacity = usize::try_from(capacity).expect("a segment is far smaller than memory");
        SparseIndex {
            slots: (0..capacity).map(|_| Slot::default()).collect(),
            len: AtomicUsize::new(0),
        }
    }

    /// Exactly these entries.
    pub(crate) fn of(entries: &[IndexEntry]) -> SparseIndex {
        let slots = entries.iter().map(Slot::holding).collect();
        SparseIndex {
            slots,
            len: AtomicUsize::new(entries.len()),
        }
    }

    /// Adds an entry. One writer only: the log's.
    pub(crate) fn push(&self, entry: IndexEntry) {
        let len = self.len.load(Ordering::Relaxed);
        self.slots[len].store(&entry);
        // Release: whoever sees the new length sees the slot.
        self.len.store(len + 1, Ordering::Release);
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<IndexEntry> {
        let len = self.len();
        (len > 0).then(|| self.slots[len - 1].load())
    }

    /// The last entry that `accepts`, which must hold for a prefix of the entries.
    pub(crate) fn floor(&self, accepts: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        let count = self.count(accepts);
        count.checked_sub(1).map(|at| self.slots[at].load())
    }

    /// The first entry that does not fulfil `accepts`, which must hold for a prefix of the entries.
    pub(crate) fn after(&self, accepts: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        let len = self.len();
        let count = self.count(accepts);
        (count < len).then(|| self.slots[count].load())
    }

    /// How many entries `accepts` holds for.
    fn count(&self, accepts: impl Fn(&IndexEntry) -> bool) -> usize {
        self.slots[..self.len()].partition_point(|slot| accepts(&slot.load()))
    }

    /// A copy of the entries.
    pub(crate) fn entries(&self) -> Vec<IndexEntry> {
        self.slots[..self.len()].iter().map(Slot::load).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }
}

impl Slot {
    fn holding(entry: &IndexEntry) -> Slot {
        let slot = Slot::default();
        slot.store(entry);
        slot
    }

    // Relaxed: `SparseIndex::len` orders the slots.
    fn store(&self, entry: &IndexEntry) {
        self.index.store(entry.index, Ordering::Relaxed);
        self.base_offset.store(entry.base_offset, Ordering::Relaxed);
        self.position.store(entry.position, Ordering::Relaxed);
        self.max_timestamp
            .store(entry.max_timestamp, Ordering::Relaxed);
    }

    fn load(&self) -> IndexEntry {
        IndexEntry {
            index: self.index.load(Ordering::Relaxed),
            base_offset: self.base_offset.load(Ordering::Relaxed),
            position: self.position.load(Ordering::Relaxed),
            max_timestamp: self.max_timestamp.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> IndexEntry {
        IndexEntry {
            index: n,
            base_offset: n * 10,
            position: 4096 + n * 64,
            max_timestamp: n / 2,
        }
    }

    #[test]
    fn floor_is_the_last_entry_at_or_before_what_is_sought_and_the_one_after_it_is_known() {
        let index = SparseIndex::of(&[entry(2), entry(5), entry(9)]);
        let floor = |n: u64| index.floor(|e| e.index <= n).map(|e| e.index);
        assert_eq!(floor(1), None);
        assert_eq!(floor(2), Some(2));
        assert_eq!(floor(8), Some(5));
        assert_eq!(floor(u64::MAX), Some(9));
        let after = |n: u64| index.after(|e| e.index <= n).map(|e| e.index);
        assert_eq!((after(1), after(5), after(9)), (Some(2), Some(9), None));
    }

    #[test]
    fn pushed_entries_come_back_and_an_empty_index_has_no_last() {
        let index = SparseIndex::for_segment(1 << 20, 1 << 16);
        assert_eq!(index.last(), None);
        for n in 1..=17 {
            index.push(entry(n));
        }
        assert_eq!(index.entries(), (1..=17).map(entry).collect::<Vec<_>>());
        assert_eq!(index.last(), Some(entry(17)));
    }

    #[test]
    fn a_reader_beside_the_writer_only_sees_whole_entries() {
        let index = SparseIndex::for_segment(1 << 20, 1 << 10);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=1000 {
                    index.push(entry(n));
                }
            });
            while index.len() < 1000 {
                if let Some(last) = index.last() {
                    assert_eq!(last, entry(last.index));
                }
            }
        });
    }
}
