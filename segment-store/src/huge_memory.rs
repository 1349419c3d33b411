//! Memory in huge pages, for what goes past the page cache. Owns where they begin. Must not know what lies in them.
//!
//! On the write and fetch walks. A device is told of each page by itself: of few huge ones instead of hundreds, which brings a read three times
//! as fast.

use std::io;

use memmap2::{Advice, MmapMut};

/// Length of a huge page, and what one begins at a multiple of.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Some bytes, zero at first, from the beginning of a huge page on. Where the system has none to give, small pages do as well, slower.
#[derive(Debug)]
pub(crate) struct HugeMemory {
    /// A page longer, so that one begins in it. What is not touched takes no memory.
    map: MmapMut,
    start: usize,
    len: usize,
}

impl HugeMemory {
    pub(crate) fn new(len: usize) -> io::Result<HugeMemory> {
        let map = MmapMut::map_anon(len + HUGE_PAGE_BYTES)?;
        // Advice, which may be refused.
        let _ = map.advise(Advice::HugePage);
        let start = map.as_ptr().align_offset(HUGE_PAGE_BYTES);
        Ok(HugeMemory { map, start, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_asked_for_and_begins_where_a_huge_page_does() {
        for len in [1, HUGE_PAGE_BYTES, 2 * HUGE_PAGE_BYTES + 1] {
            let mut memory = HugeMemory::new(len).unwrap();
            assert_eq!(memory.bytes().len(), len);
            assert!(
                memory
                    .bytes()
                    .as_ptr()
                    .addr()
                    .is_multiple_of(HUGE_PAGE_BYTES)
            );
            memory.bytes_mut()[len - 1] = 7;
            assert_eq!(memory.bytes()[len - 1], 7);
        }
    }
}
