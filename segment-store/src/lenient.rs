//! Files read whatever state they are in.
//!
//! On the repair walk. Must not know: what is in them.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::fault::is_unreadable;
use crate::fs::{FsFile, MapRead, SECTOR_BYTES};

/// A file that is read whatever state it is in: what is cut off or cannot be read is zeros, which are no frame and no mark.
#[derive(Debug)]
pub(crate) struct Lenient {
    file: Arc<dyn FsFile>,
    len: AtomicU64,
    failed: AtomicBool,
}

impl Lenient {
    pub(crate) fn new(file: Arc<dyn FsFile>) -> Lenient {
        let len = file.len();
        Lenient {
            file,
            len: len.into(),
            failed: AtomicBool::new(false),
        }
    }

    /// How long it really is.
    pub(crate) fn real_len(&self) -> u64 {
        self.file.len()
    }

    /// How long it should be.
    pub(crate) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Relaxed);
    }

    /// Whether any sector could not be read so far.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn read_sectors(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut at = 0;
        while at < buffer.len() {
            let sector_end = (position + at as u64 + 1).next_multiple_of(SECTOR_BYTES as u64);
            let until = buffer.len().min((sector_end - position) as usize);
            match self
                .file
                .read_exact_at(&mut buffer[at..until], position + at as u64)
            {
                Ok(()) => {}
                Err(error) if is_unreadable(&error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    buffer[at..until].fill(0);
                }
                Err(error) => return Err(error),
            }
            at = until;
        }
        Ok(())
    }
}

impl FsFile for Lenient {
    fn write_vectored_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let there = self.file.len().saturating_sub(position);
        let there = usize::try_from(there)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let (head, rest) = buffer.split_at_mut(there);
        rest.fill(0);
        if head.is_empty() {
            return Ok(());
        }
        match self.file.read_exact_at(head, position) {
            Err(error) if is_unreadable(&error) => self.read_sectors(head, position),
            other => other,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    fn map(&self) -> io::Result<Arc<dyn MapRead>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A file that is gone.
#[derive(Debug)]
pub(crate) struct Nothing;

impl FsFile for Nothing {
    fn write_vectored_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        0
    }

    fn map(&self) -> io::Result<Arc<dyn MapRead>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
