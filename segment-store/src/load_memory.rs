//! Memory that frames are read into from the disk, past the page cache. Owns the blocks, and the limit on them.
//!
//! On the fetch walk, where a log is cold. A block is in use until the last slice of it is dropped, which may be when the other end of a
//! connection has acknowledged it. Must not know files, frames, who reads.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::{Advice, MmapMut};

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 4 << 20;
/// A block begins at a multiple of this and is made of pages of this size, if the system has any to give: what a device fills is then a few pieces
/// instead of a thousand, and comes three times as fast.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Blocks that are kept for the next reader when nobody reads.
const KEPT: usize = 4;

/// Blocks of memory for all readers of a node. Cheap to clone: clones share them.
#[derive(Clone, Debug)]
pub struct LoadMemory {
    blocks: Arc<Blocks>,
}

#[derive(Debug)]
struct Blocks {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<MmapMut>,
    used: usize,
}

impl LoadMemory {
    /// No more than `bytes_max` at a time.
    pub fn new(bytes_max: usize) -> LoadMemory {
        let blocks = Blocks {
            most: bytes_max / BLOCK_BYTES,
            state: Mutex::default(),
        };
        LoadMemory {
            blocks: Arc::new(blocks),
        }
    }

    /// A block that nobody uses; `None` if all are in use, or the system has no memory.
    pub(crate) fn take(&self) -> Option<Block> {
        let mut state = self.blocks.lock();
        if state.used == self.blocks.most {
            return None;
        }
        let map = match state.free.pop() {
            Some(map) => map,
            None => map_block().ok()?,
        };
        state.used += 1;
        drop(state);
        let start = map.as_ptr().align_offset(HUGE_PAGE_BYTES);
        Some(Block {
            start,
            map: Some(map),
            blocks: Arc::clone(&self.blocks),
        })
    }

    /// Blocks in use, and blocks that wait.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let state = self.blocks.lock();
        (state.used, state.free.len())
    }
}

/// With room to begin at a huge page. What is not touched takes no memory.
fn map_block() -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(BLOCK_BYTES + HUGE_PAGE_BYTES)?;
    // Advice: small pages do as well, slower.
    let _ = map.advise(Advice::HugePage);
    Ok(map)
}

impl Blocks {
    /// A panic of whoever held it leaves two counters and a list that are right.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`BLOCK_BYTES`] of memory, back with the others when dropped.
#[derive(Debug)]
pub(crate) struct Block {
    start: usize,
    map: Option<MmapMut>,
    blocks: Arc<Blocks>,
}

impl Block {
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let map = self.map.as_mut().expect("here until dropped");
        &mut map[self.start..self.start + BLOCK_BYTES]
    }

    /// To be read by anybody, and never written again while anybody does.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        let map = self.map.as_ref().expect("here until dropped");
        &map[self.start..self.start + BLOCK_BYTES]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.blocks.lock();
        state.used -= 1;
        state.free.extend(self.map.take());
        if state.used == 0 {
            state.free.truncate(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_blocks_are_given_than_there_may_be_and_a_dropped_one_is_given_again() {
        let memory = LoadMemory::new(2 * BLOCK_BYTES + 1);
        let mut first = memory.take().unwrap();
        let second = memory.take().unwrap();
        assert!(memory.take().is_none());
        first.bytes_mut()[BLOCK_BYTES - 1] = 7;
        let frozen = first.freeze();
        let slice = frozen.slice(BLOCK_BYTES - 1..);
        drop(frozen);
        assert!(memory.take().is_none(), "a slice keeps its block");
        assert_eq!(&slice[..], [7]);
        drop(slice);
        assert_eq!(memory.counts(), (1, 1));
        let again = memory.take().unwrap();
        assert_eq!(memory.counts(), (2, 0));
        drop((second, again));
    }

    #[test]
    fn few_blocks_are_kept_when_nobody_reads() {
        let memory = LoadMemory::new(10 * BLOCK_BYTES);
        let all: Vec<Block> = (0..10).map(|_| memory.take().unwrap()).collect();
        assert_eq!(memory.counts(), (10, 0));
        drop(all);
        assert_eq!(memory.counts(), (0, KEPT));
    }
}
