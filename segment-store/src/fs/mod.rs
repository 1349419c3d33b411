//! `Fs`: what this crate asks of a file system, and nothing more. Owns the traits; the disk itself is behind them.
//!
//! Two implementations: [`RealFs`] is the machine's disk, [`SimFs`] a model of one that loses, tears and spoils
//! whatever a real one may. Nothing outside this folder calls the operating system for files, so the code that ships is
//! the code the simulator cuts the power under. Must not know: frames, segments, what any file is for.
//!
//! Three rules hold for every file, and the rest of the crate leans on them:
//! 1. **A file has one length for life.** `create` writes it in full, with zeros; later writes stay inside. So a map
//!    covers the file for ever, and a write needs no change of metadata (a durable 4 KiB append costs half).
//! 2. **Content is durable after `sync_data`, names after `sync_dir`.** Neither implies the other.
//! 3. **A failed sync is final.** The pages may be lost and marked clean, so a second sync that succeeds proves nothing.

pub(crate) mod read_past_cache;
mod real;
mod sim;

pub use real::RealFs;
pub use sim::{Injection, SimFs, When};

use std::any::Any;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// What is assumed to reach the disk whole or not at all, at best: tearing happens between sectors and inside one.
pub const SECTOR_BYTES: usize = 4096;

/// A file system. Shared between threads; paths are absolute or relative to the process, as given.
pub trait Fs: Send + Sync + Debug {
    /// Creates a file of exactly `len` bytes that reads as zeros, which must not exist yet. Its room is reserved: no later
    /// write inside it fails for want of room. Neither content nor name is durable before `sync_data` and `sync_dir`.
    ///
    /// # Errors
    /// `StorageFull` when there is no room, and then no file is left behind; `AlreadyExists`; any other IO error.
    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn FsFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;

    /// Opens an existing file for reading only; a write to it is an error. For offline tools.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>>;

    /// Renames atomically, replacing `to`; the directories may differ. Durable once the directory of `to` is synced (and
    /// until then the old name may come back, never both).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file. Open handles and maps keep the content readable.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, files and directories alike, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates one directory in an existing one. Durable once its parent is synced; see [`ensure_dir`].
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes a directory and all in it. Durable once its parent is synced; a crash before may leave any part.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes every creation, renaming and removal of a name in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Bytes an unprivileged process may still write on the disk that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Calls [`FsFile::sync_data`] of each, all of them whatever becomes of one; side by side where that takes less time.
    fn sync_all(&self, files: &[&dyn FsFile]) -> Vec<io::Result<()>> {
        sync_in_turn(files)
    }

    /// Takes the exclusive lock of the file `path`, creating it if needed; dropping the result releases it, and so does
    /// the end of the process, however it ends.
    ///
    /// # Errors
    /// `WouldBlock` when another process, or another part of this one, holds it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// An open file. Positions are bytes from its start.
pub trait FsFile: Send + Sync + Debug {
    /// Writes the buffers one after another from `position` on, all of them or an error (then any part may be written).
    ///
    /// # Errors
    /// `InvalidInput`, with nothing written, if the bytes would pass the end of the file.
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<()>;

    /// The same for bytes that nobody is expected to read soon: where the system has a way past the page cache, they are not kept in memory,
    /// which costs the less the more they are.
    fn write_past_cache(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.write_vectored_at(buffers, position)
    }

    /// Writes `bytes` from `position` on, as [`FsFile::write_vectored_at`] does.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(bytes)], position)
    }

    /// Fills `buffer` from `position` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the range passes the end of the file; an unreadable sector is an error of the system's.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;

    /// The next stretch, from `position` on, that may hold anything but zeros: what lies before it reads as zeros, and need not be read to know that.
    /// It may hold nothing but zeros itself; it is empty, at the end of the file, if there is none. Here nothing is known.
    fn data_from(&self, position: u64) -> io::Result<Range<u64>> {
        Ok(position.min(self.len())..self.len())
    }

    /// Makes all that was written before the call durable (fdatasync). An error is final: never call it again.
    fn sync_data(&self) -> io::Result<()>;

    /// Advice: what of `range` is durable need not stay in memory. Pages that a map has in use stay. Nothing that is read changes.
    fn let_go(&self, _range: Range<u64>) {}

    /// Length in bytes, fixed since creation.
    fn len(&self) -> u64;

    /// Whether the file has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Maps the whole file for reading; what is written later shows in slices taken later.
    fn map(&self) -> io::Result<Arc<dyn MapRead>>;
}

/// A read-only map of a whole file, which stays readable after the file is closed and removed.
///
/// **Whoever slices promises** that the range has been written already and is never written again while the slice
/// lives. A log keeps it by publishing positions only after the write (Release/Acquire) and by never editing a frame.
pub trait MapRead: Send + Sync + Debug {
    /// Length of the map in bytes: the file's.
    fn len(&self) -> usize;

    /// Whether the map covers no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, without a copy; they keep the map alive. Panics if the range passes the end.
    fn slice(self: Arc<Self>, range: Range<usize>) -> Bytes;

    /// Brings `range` into memory, blocking, so that reading it neither waits for the disk nor meets a bad sector.
    ///
    /// # Errors
    /// An unreadable sector, which would be a SIGBUS to a plain read of the slice.
    fn populate(&self, range: Range<usize>) -> io::Result<()>;

    /// Whether all of `range` is in memory, where the system can tell; else true.
    fn is_resident(&self, _range: Range<usize>) -> bool {
        true
    }

    /// Fills `buffer` from the disk itself, from `position` of the file on, and leaves the page cache as it is; blocks. The buffer's start
    /// and length and the position are multiples of [`SECTOR_BYTES`]; the file was last known under `path`. False, with anything in the buffer,
    /// where that cannot be done.
    ///
    /// # Errors
    /// An unreadable sector.
    fn read_past_cache(
        &self,
        _path: &Path,
        _buffer: &mut [u8],
        _position: u64,
    ) -> io::Result<bool> {
        Ok(false)
    }

    /// Takes the pages that reading has mapped out of the process's tables again. Slices stay good: the pages are in the page cache, or
    /// on the disk.
    fn unmap_pages(&self) {}
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl Lock {
    fn new(guard: impl Any + Send + Sync) -> Lock {
        Lock(Box::new(guard))
    }
}

/// Creates `dir` and whatever is missing above it, and makes the new names durable.
pub fn ensure_dir(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    let parent = parent_of(dir);
    if fs.exists(dir)? {
        // Whoever created it may have been killed before the name was durable. A parent that may not even be opened is
        // none of ours, and neither is the name in it.
        return match fs.sync_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    ensure_dir(fs, parent)?;
    match fs.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    fs.sync_dir(parent).inspect_err(|_| {
        // The name may never become durable: whoever comes next must not find it and build on it.
        let _ = fs.remove_dir_all(dir);
    })
}

/// Like [`ensure_dir`], for a directory that nobody but this process may fill. One that is empty is made anew: its name may be one
/// whose sync failed before its maker was killed, which no later sync makes durable. One that is not empty was synced before
/// anything was put there.
pub fn ensure_own_dir(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    if fs.exists(dir)? && fs.list(dir)?.is_empty() {
        fs.remove_dir_all(dir)?;
    }
    ensure_dir(fs, dir)
}

/// What [`Fs::sync_all`] does, one after another.
pub(crate) fn sync_in_turn(files: &[&dyn FsFile]) -> Vec<io::Result<()>> {
    files.iter().map(|file| file.sync_data()).collect()
}

/// The directory a path lies in; `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
