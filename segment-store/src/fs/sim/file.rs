//! An open file of the simulated disk, and its map. Owns what a handle may do; the model itself is in `content`.
//!
//! Must not know names: a file stays the same under any name, and without one.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::content::Content;
use super::names::FileCell;
use super::{Disk, Injection, SimFs, Subject, failed_sync, lock_cell, no_space, to_usize};
use crate::fs::real::check_inside;
use crate::fs::{FsFile, MapRead, SECTOR_BYTES};

#[derive(Debug)]
pub(super) struct SimFile {
    fs: SimFs,
    cell: FileCell,
    boot: u64,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(fs: SimFs, cell: FileCell, boot: u64, writable: bool) -> SimFile {
        SimFile {
            fs,
            cell,
            boot,
            writable,
        }
    }

    /// The disk, if it has power and this handle was opened since it was turned on.
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.fs.disk();
        disk.check_power()?;
        if disk.boot != self.boot {
            return Err(io::Error::other(
                "simulated disk: this handle is from before the power cycle",
            ));
        }
        Ok(disk)
    }
}

impl FsFile for SimFile {
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        check_inside(buffers, position, self.len())?;
        let mut disk = self.disk()?;
        let met = disk.begin(&Subject::Write(&self.cell))?;
        let mut content = lock_cell(&self.cell);
        let bytes = buffers.iter().map(|buffer| buffer.len()).sum();
        let position = to_usize(position);
        match met {
            None => content.write(buffers, position, bytes),
            Some(Injection::MisdirectedWrite) => {
                if let Some(position) = elsewhere(&content, position, bytes, &mut disk.rng) {
                    content.write(buffers, position, bytes);
                }
            }
            Some(Injection::ShortWrite) => {
                content.write(buffers, position, disk.rng.usize(0..bytes.max(1)));
                return Err(no_space());
            }
            Some(Injection::NoSpace | Injection::FailedSync) => return Err(no_space()),
        }
        Ok(())
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let _power = self.disk()?;
        let content = lock_cell(&self.cell);
        let start = to_usize(position);
        let range = start..start.saturating_add(buffer.len());
        if range.end > content.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.check_readable(range.clone())?;
        buffer.copy_from_slice(content.bytes(range));
        Ok(())
    }

    fn data_from(&self, position: u64) -> io::Result<Range<u64>> {
        let _power = self.disk()?;
        let data = lock_cell(&self.cell).data_from(to_usize(position));
        Ok(data.start as u64..data.end as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        let met = disk.begin(&Subject::Sync(&self.cell))?;
        let mut content = lock_cell(&self.cell);
        match met {
            None => content.sync(),
            Some(_) => {
                content.fail_sync();
                return Err(failed_sync());
            }
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        lock_cell(&self.cell).len() as u64
    }

    fn map(&self) -> io::Result<Arc<dyn MapRead>> {
        let _power = self.disk()?;
        Ok(Arc::new(SimMap {
            cell: Arc::clone(&self.cell),
        }))
    }
}

/// A map of a simulated file. A slice is a copy of what is visible when it is taken, which is all a caller may rely on.
#[derive(Debug)]
struct SimMap {
    cell: FileCell,
}

impl MapRead for SimMap {
    fn len(&self) -> usize {
        lock_cell(&self.cell).len()
    }

    fn slice(self: Arc<Self>, range: Range<usize>) -> Bytes {
        Bytes::copy_from_slice(lock_cell(&self.cell).bytes(range))
    }

    fn populate(&self, range: Range<usize>) -> io::Result<()> {
        lock_cell(&self.cell).check_readable(range)
    }
}

/// Another place in the file, whole sectors away, for a misdirected write; `None` if the file is too small for one.
fn elsewhere(
    content: &Content,
    position: usize,
    bytes: usize,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let within = position % SECTOR_BYTES;
    let places = (content.len().checked_sub(within + bytes)?) / SECTOR_BYTES + 1;
    let choice = rng.usize(0..places.checked_sub(1).filter(|others| *others > 0)?);
    let sector = choice + usize::from(choice >= position / SECTOR_BYTES);
    Some(sector * SECTOR_BYTES + within)
}
