//! Large buffers, used again once nobody holds what was in them.
//!
//! Owns the buffers that wait, and the limit on them. Knows nothing of what is in them. On the produce, append and fetch walks, wherever a body
//! or a batch gets its memory.
//!
//! An allocator takes a buffer of this size from the kernel and gives it back, each time: every page of it is faulted in and cleared before the
//! copy into it begins, which costs as much as the copy. A buffer of the pool keeps its pages. The pool holds an empty remnant of each buffer
//! it gave out; once that is the only handle left, the whole buffer can be had again. Nobody needs to give anything back.

use std::cell::RefCell;

use bytes::BytesMut;

/// Shorter buffers are left to the allocator, which keeps them by itself.
const POOLED_BYTES_MIN: usize = 64 << 10;
/// Lengths are rounded up to this, so that buffers of about one size stand in for each other.
const ROUND_BYTES: usize = 64 << 10;
/// Bytes of a thread's pool.
const THREAD_BYTES_MAX: usize = 32 << 20;

/// Buffers that are in use or wait to be used again.
#[derive(Debug)]
pub struct BufferPool {
    slots: Vec<Slot>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Slot {
    /// Empty; shares the buffer with whoever holds what is in it.
    remnant: BytesMut,
    capacity: usize,
}

impl BufferPool {
    /// A pool that knows of buffers of `bytes_max` bytes at most. What it gives out beyond that is not used again.
    pub const fn new(bytes_max: usize) -> BufferPool {
        BufferPool {
            slots: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// An empty buffer with room for `len` bytes at least.
    pub fn take(&mut self, len: usize) -> BytesMut {
        self.reuse(len).unwrap_or_else(|| {
            let mut buffer = BytesMut::with_capacity(rounded(len));
            self.adopt(&mut buffer);
            buffer
        })
    }

    /// The same, if there is one whose memory is there already.
    pub(crate) fn reuse(&mut self, len: usize) -> Option<BytesMut> {
        if len < POOLED_BYTES_MIN {
            return None;
        }
        for slot in &mut self.slots {
            if slot.remnant.try_reclaim(len) {
                return Some(slot.give());
            }
        }
        None
    }

    /// Has the memory of `buffer` used again when everyone is done with it, if there is room for that here.
    pub(crate) fn adopt(&mut self, buffer: &mut BytesMut) {
        let capacity = buffer.capacity();
        if !(POOLED_BYTES_MIN..=self.bytes_max).contains(&capacity) {
            return;
        }
        self.make_room(capacity);
        if self.bytes + capacity <= self.bytes_max {
            self.bytes += capacity;
            let remnant = buffer.split_off(capacity);
            self.slots.push(Slot { remnant, capacity });
        }
    }

    /// Lets go of buffers that nobody uses, oldest first, until one of `capacity` may be added. They are too short, or they would have been
    /// taken.
    fn make_room(&mut self, capacity: usize) {
        let mut excess = (self.bytes + capacity).saturating_sub(self.bytes_max);
        self.slots.retain_mut(|slot| {
            if excess == 0 || !slot.remnant.try_reclaim(slot.capacity) {
                return true;
            }
            excess = excess.saturating_sub(slot.capacity);
            self.bytes -= slot.capacity;
            false
        });
    }
}

impl Slot {
    /// The whole buffer, which is here; what stays is its end, of no bytes.
    fn give(&mut self) -> BytesMut {
        let mut buffer = std::mem::take(&mut self.remnant);
        self.remnant = buffer.split_off(buffer.capacity());
        buffer
    }
}

thread_local! {
    static POOL: RefCell<BufferPool> = const { RefCell::new(BufferPool::new(THREAD_BYTES_MAX)) };
}

/// [`BufferPool::reuse`] of this thread's pool, which all streams received on the thread share.
pub(crate) fn reuse(len: usize) -> Option<BytesMut> {
    POOL.with_borrow_mut(|pool| pool.reuse(len))
}

/// [`BufferPool::adopt`] of this thread's pool.
pub(crate) fn adopt(buffer: &mut BytesMut) {
    POOL.with_borrow_mut(|pool| pool.adopt(buffer));
}

/// The length that room is made for where `len` bytes are to come: large ones in steps, so that they stand in for each other.
pub(crate) fn rounded(len: usize) -> usize {
    match len < POOLED_BYTES_MIN {
        true => len,
        false => len.next_multiple_of(ROUND_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pool: &mut BufferPool, len: usize) -> (BytesMut, *const u8) {
        let mut buffer = pool.take(len);
        assert!(buffer.is_empty() && buffer.capacity() >= len);
        buffer.resize(len, 7);
        let at = buffer.as_ptr();
        (buffer, at)
    }

    #[test]
    fn buffer_is_used_again_once_the_last_slice_of_it_is_gone() {
        let mut pool = BufferPool::new(1 << 20);
        let (buffer, first) = fill(&mut pool, 200_000);
        let slice = buffer.freeze().slice(5..10);
        let (other, second) = fill(&mut pool, 200_000);
        assert_ne!(first, second, "a slice is still held");
        assert_eq!(slice[..], [7; 5]);
        drop(slice);
        let (_, third) = fill(&mut pool, 150_000);
        assert_eq!(first, third);
        drop(other);
        assert_eq!(pool.slots.len(), 2);
    }

    #[test]
    fn pool_keeps_to_its_limit_and_prefers_what_is_asked_for_now() {
        let mut pool = BufferPool::new(512 << 10);
        let held: Vec<BytesMut> = (0..4).map(|_| pool.take(128 << 10)).collect();
        let beyond = pool.take(128 << 10);
        assert!(beyond.capacity() >= 128 << 10);
        assert_eq!((pool.slots.len(), pool.bytes), (4, 512 << 10));
        drop(held);
        let _large = pool.take(300 << 10);
        assert!(pool.bytes <= pool.bytes_max);
        assert_eq!(pool.slots.last().unwrap().capacity, 320 << 10);
        let _giant = pool.take(1 << 20);
        assert!(pool.bytes <= pool.bytes_max);
    }

    #[test]
    fn small_buffers_are_not_pooled() {
        let mut pool = BufferPool::new(1 << 20);
        let _small = pool.take(1_000);
        assert!(pool.slots.is_empty());
    }
}
