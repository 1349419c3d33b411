//! Memory that frames are read into from the disk, past the page cache. Owns the blocks, and the limit on them.
//!
//! On the fetch and scrub walks, where a log is cold. A block is in use until the last slice of it is dropped, which may be when the other end of a
//! connection has acknowledged it. Must not know files, frames, who reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::huge_memory::HugeMemory;

/// Bytes of a block: four batches of 1 MiB with what their frames have beside the records.
pub(crate) const BLOCK_BYTES: usize = (4 << 20) + (64 << 10);
/// Blocks that are kept for the next reader when nobody reads: what one at full speed uses. A huge page that is given back and fetched anew costs more
/// than all else that is done with its bytes.
const KEPT: usize = 8;

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
    free: Vec<HugeMemory>,
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
        let memory = match state.free.pop() {
            Some(memory) => memory,
            None => HugeMemory::new(BLOCK_BYTES).ok()?,
        };
        state.used += 1;
        Some(Block {
            memory: Some(memory),
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

impl Blocks {
    /// A panic of whoever held it leaves two counters and a list that are right.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`BLOCK_BYTES`] of memory, back with the others when dropped.
#[derive(Debug)]
pub(crate) struct Block {
    memory: Option<HugeMemory>,
    blocks: Arc<Blocks>,
}

impl Block {
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let memory = self.memory.as_mut();
        memory.expect("here until dropped").bytes_mut()
    }

    /// To be read by anybody, and never written again while anybody does.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        let memory = self.memory.as_ref();
        memory.expect("here until dropped").bytes()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.blocks.lock();
        state.used -= 1;
        state.free.extend(self.memory.take());
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
