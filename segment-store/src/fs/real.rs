//! `RealFs`: the machine's disk. Owns the system calls for files; on the write path of every walk that needs durability.
//!
//! Must not know what the files hold. Interrupted and short writes are carried on here, so nobody above ever sees one.

mod past_cache;

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{Advice, FlockOperation};

use self::past_cache::PastCache;
use super::{Fs, FsFile, Lock, MapRead, sync_in_turn};
use crate::map::FileMap;

/// Zeros are written in pieces of this many bytes where a file system cannot reserve room.
const ZERO_BYTES: usize = 1 << 20;

/// Linux takes at most this many buffers in one `pwritev`.
const BUFFERS_MAX: usize = 1024;

/// Syncs that are under way at a time, where there are many to do: they wait for the disk and share its journal's commits. Eight of them take a
/// third of the time, and more take more of the processor.
const SYNCS_MAX: usize = 8;

/// Fewer syncs are done before a further thread has begun with them.
const SYNCS_A_THREAD: usize = 4;

static ZEROS: [u8; ZERO_BYTES] = [0; ZERO_BYTES];

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn FsFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        if let Err(error) = reserve(&file, len) {
            // A half-made file would hold the room that is short; if it cannot be removed, this error still says more.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Arc::new(RealFile::new(file, len)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        RealFile::open(OpenOptions::new().read(true).write(true), path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        RealFile::open(OpenOptions::new().read(true), path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours; shown in replacement, it matches no pattern of ours either.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(rustix::fs::fsync(File::open(dir)?)?)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn sync_all(&self, files: &[&dyn FsFile]) -> Vec<io::Result<()>> {
        let threads = (files.len() / SYNCS_A_THREAD).min(SYNCS_MAX);
        if threads < 2 {
            return sync_in_turn(files);
        }
        let done: Vec<OnceLock<io::Result<()>>> = files.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let sync_some = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(at) else { return };
                let fresh = done[at].set(file.sync_data());
                assert!(fresh.is_ok(), "each file is synced by one thread");
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where a thread cannot be had, the others do its part.
                let _ = std::thread::Builder::new()
                    .name("sync".to_owned())
                    .spawn_scoped(scope, sync_some);
            }
            sync_some();
        });
        let done = done.into_iter().map(OnceLock::into_inner);
        done.map(|synced| synced.expect("no thread left one out"))
            .collect()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // flock, not fcntl: it belongs to this open file, so a second opening in the same process is refused too.
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Lock::new(file))
    }
}

/// An open file of the machine's.
#[derive(Debug)]
struct RealFile {
    file: File,
    len: u64,
    /// Opened with the first write that goes past the page cache.
    past_cache: OnceLock<Mutex<PastCache>>,
}

impl RealFile {
    fn new(file: File, len: u64) -> RealFile {
        RealFile {
            file,
            len,
            past_cache: OnceLock::new(),
        }
    }

    fn open(options: &OpenOptions, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let len = metadata.len();
        Ok(Arc::new(RealFile::new(file, len)))
    }
}

impl FsFile for RealFile {
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes = check_inside(buffers, position, self.len)?;
        if let Some(past_cache) = self.past_cache.get() {
            lock(past_cache).forget(position..position + bytes);
        }
        write_all(buffers, position, |buffers, position| {
            Ok(rustix::io::pwritev(&self.file, buffers, position)?)
        })
    }

    fn write_past_cache(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        check_inside(buffers, position, self.len)?;
        let past_cache = self
            .past_cache
            .get_or_init(|| Mutex::new(PastCache::open(&self.file)));
        let written = lock(past_cache).write(&self.file, buffers, position)?;
        // The usual case: whole sectors to the end.
        if written == buffers.iter().map(|buffer| buffer.len()).sum() {
            return Ok(());
        }
        self.write_vectored_at(&skip(buffers, written), position + written as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    /// Room that was reserved and never written is no data; what is in the page cache is, on the disk or not. Nothing else uses the file's own
    /// position, which this moves.
    fn data_from(&self, position: u64) -> io::Result<Range<u64>> {
        use rustix::fs::{SeekFrom, seek};
        use rustix::io::Errno;
        let start = match seek(&self.file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => self.len,
            // Where the file system does not tell, all may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(position.min(self.len)..self.len),
            Err(error) => return Err(error.into()),
        };
        if start >= self.len {
            return Ok(self.len..self.len);
        }
        let end = seek(&self.file, SeekFrom::Hole(start))?;
        Ok(start..end.min(self.len))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn let_go(&self, range: Range<u64>) {
        let len = NonZeroU64::new(range.end.saturating_sub(range.start));
        if let Some(len) = len {
            // Advice: where it is not taken, the pages stay until the system wants them.
            let _ = rustix::fs::fadvise(&self.file, range.start, Some(len), Advice::DontNeed);
        }
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn map(&self) -> io::Result<Arc<dyn MapRead>> {
        Ok(Arc::new(FileMap::new(&self.file)?))
    }
}

/// No panic leaves what it guards half done: it is set up anew by each write.
fn lock(past_cache: &Mutex<PastCache>) -> MutexGuard<'_, PastCache> {
    past_cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses a write that would make the file longer: rule 1 of [`super`]. Gives its bytes.
pub(super) fn check_inside(buffers: &[IoSlice<'_>], position: u64, len: u64) -> io::Result<u64> {
    let bytes: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
    match position.checked_add(bytes) {
        Some(end) if end <= len => Ok(bytes),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{bytes} bytes at {position} pass the end of a file of {len}"),
        )),
    }
}

/// Gives the file its length and its room. Where the file system cannot reserve, the zeros are written.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, 0, len),
        other => Ok(other?),
    }
}

fn write_zeros(file: &File, mut position: u64, len: u64) -> io::Result<()> {
    let end = position + len;
    while position < end {
        let piece = (end - position).min(ZERO_BYTES as u64);
        let zeros = &ZEROS[..usize::try_from(piece).expect("at most ZERO_BYTES")];
        write_all(&[IoSlice::new(zeros)], position, |buffers, position| {
            Ok(rustix::io::pwritev(file, buffers, position)?)
        })?;
        position += piece;
    }
    Ok(())
}

/// Calls `write` until every buffer is written, going on after a short write or an interruption.
fn write_all(
    buffers: &[IoSlice<'_>],
    mut position: u64,
    mut write: impl FnMut(&[IoSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    for group in buffers.chunks(BUFFERS_MAX) {
        let mut left: usize = group.iter().map(|buffer| buffer.len()).sum();
        // Copied only after a short write: the usual case is one call, with the caller's own buffers.
        let mut rest: Option<Vec<IoSlice<'_>>> = None;
        while left > 0 {
            match write(rest.as_deref().unwrap_or(group), position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    left -= written;
                    if crate::mutation::is("a short write is taken for the whole") {
                        left = 0;
                    }
                    if left > 0 {
                        rest = Some(skip(rest.as_deref().unwrap_or(group), written));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// `buffers` without their first `written` bytes.
fn skip<'a>(buffers: &[IoSlice<'a>], written: usize) -> Vec<IoSlice<'a>> {
    let mut rest = buffers.to_vec();
    let mut slices = rest.as_mut_slice();
    IoSlice::advance_slices(&mut slices, written);
    slices.to_vec()
}

#[cfg(test)]
mod tests;
