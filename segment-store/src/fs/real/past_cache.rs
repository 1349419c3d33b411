//! Writes that leave the page cache out (O_DIRECT). Owns the second opening of a file, and the whole blocks that such a write needs.
//!
//! On the write walk, for long writes that nobody is expected to read soon. A copy in the page cache costs a page for each page written, and
//! letting go of it again costs once more; a write of whole blocks out of memory of our own costs neither. The device takes whole blocks
//! only, and no log is written in these: the block in which the write before ended is written again, with what it held. Must not know
//! what the files hold.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::fs::SECTOR_BYTES;
use crate::huge_memory::HugeMemory;

/// What position, length and memory are multiples of. Devices ask for their own block, which divides it, or refuse.
const BLOCK_BYTES: u64 = SECTOR_BYTES as u64;
/// Bytes in one call: two huge pages, since a group of writes is as long as what a producer has on its way.
pub(super) const SCRATCH_BYTES: usize = 4 << 20;
/// How much of the end of the last write is remembered: the next one begins before or behind a mark and its padding.
const EDGE_BYTES: u64 = 2 * BLOCK_BYTES;

thread_local! {
    /// Where a write is put together: one for each thread that writes so, of which a node has one.
    static SCRATCH: RefCell<Option<HugeMemory>> = const { RefCell::new(None) };
}

/// A file's way past the page cache.
#[derive(Debug)]
pub(super) struct PastCache {
    /// Opened for direct writes; `None` where the file system, or its device, takes none.
    file: Option<File>,
    /// What the last write left at its end, from a whole block on.
    edge: Vec<u8>,
    edge_at: u64,
}

impl PastCache {
    /// Opens `file` once more.
    pub(super) fn open(file: &File) -> PastCache {
        // By its descriptor: its name changes.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let direct = rustix::fs::open(path, flags, Mode::empty());
        PastCache {
            file: direct.ok().map(File::from),
            edge: Vec::new(),
            edge_at: 0,
        }
    }

    /// Somebody else writes `range`, through the page cache: what of the edge lies there is to be had from the file again.
    pub(super) fn forget(&mut self, range: Range<u64>) {
        if range.end > self.edge_at {
            self.edge.clear();
        }
    }

    /// Writes `buffers` from `position` on, up to the last end of a block that they reach; what they do not fill of the first block stays. The
    /// value is the bytes of theirs that were written, 0 where nothing can be written so.
    pub(super) fn write(
        &mut self,
        cached: &File,
        buffers: &[IoSlice<'_>],
        position: u64,
    ) -> io::Result<usize> {
        let bytes: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let end = down(position + bytes);
        let start = down(position);
        let Some(file) = self.file.as_ref().filter(|_| start < end) else {
            return Ok(0);
        };
        let mut held = match SCRATCH.take() {
            Some(scratch) => scratch,
            None => HugeMemory::new(SCRATCH_BYTES)?,
        };
        let scratch = held.bytes_mut();
        let head = (position - start) as usize;
        self.read_edge(cached, start, &mut scratch[..head])?;
        // No longer true once any of it is written.
        self.edge.clear();
        let mut pieces = Pieces { buffers, skip: 0 };
        let (mut at, mut filled) = (start, head);
        while at < end {
            let len = ((end - at) as usize).min(SCRATCH_BYTES);
            pieces.fill(&mut scratch[filled..len]);
            filled = 0;
            match write_blocks(file, &scratch[..len], at) {
                // Blocks of another length, or none at all: nothing was written.
                Err(Errno::INVAL) if at == start => {
                    self.file = None;
                    return Ok(0);
                }
                other => other?,
            }
            at += len as u64;
        }
        self.keep_edge(scratch, start..end);
        SCRATCH.set(Some(held));
        Ok((end - position) as usize)
    }

    /// What the file holds from `from` on, as far as `head` goes: less than a block.
    fn read_edge(&self, cached: &File, from: u64, head: &mut [u8]) -> io::Result<()> {
        let known = from.checked_sub(self.edge_at).map(|skip| skip as usize);
        match known.and_then(|skip| self.edge.get(skip..skip + head.len())) {
            Some(known) => head.copy_from_slice(known),
            None => cached.read_exact_at(head, from)?,
        }
        Ok(())
    }

    /// Remembers the end of what was written, of which `scratch` holds the last piece.
    fn keep_edge(&mut self, scratch: &[u8], written: Range<u64>) {
        let last = match (written.end - written.start) as usize % SCRATCH_BYTES {
            0 => SCRATCH_BYTES,
            len => len,
        };
        let kept = last.min(EDGE_BYTES as usize);
        self.edge.clear();
        self.edge.extend_from_slice(&scratch[last - kept..last]);
        self.edge_at = written.end - kept as u64;
    }
}

/// Writes whole blocks, going on after a short write or an interruption.
fn write_blocks(file: &File, blocks: &[u8], position: u64) -> rustix::io::Result<()> {
    let mut written = 0;
    while written < blocks.len() {
        match rustix::io::pwrite(file, &blocks[written..], position + written as u64) {
            // What is not a whole block is written again.
            Ok(count) if count as u64 >= BLOCK_BYTES => {
                written = down((written + count) as u64) as usize;
            }
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The start of the block that holds `position`.
fn down(position: u64) -> u64 {
    position - position % BLOCK_BYTES
}

/// What is left of some buffers.
struct Pieces<'a, 'b> {
    buffers: &'a [IoSlice<'b>],
    /// Bytes of the first one that are taken.
    skip: usize,
}

impl Pieces<'_, '_> {
    /// Fills `out` with the next bytes, of which there are enough.
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            let Some((first, rest)) = self.buffers.split_first() else {
                return;
            };
            let left = &first[self.skip..];
            let count = left.len().min(out.len());
            let (filled, more) = out.split_at_mut(count);
            filled.copy_from_slice(&left[..count]);
            out = more;
            self.skip += count;
            if self.skip == first.len() {
                (self.buffers, self.skip) = (rest, 0);
            }
        }
    }
}
