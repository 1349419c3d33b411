//! `SimFs`: a disk that loses, tears and spoils whatever a real one may, on request and from a seed.
//!
//! Owns the disk model of the project's reliability notes: writes are pending until a sync of their file, per sector of
//! 4 KiB; a crash keeps a random subset, and may tear one sector or fill it with garbage, though bytes that a write leaves as
//! they were keep their value; names are durable only after a sync of their directory; a failed sync loses the pending
//! pages *and marks them clean*. Must not know what any file is for.
//!
//! Every operation that changes the disk or syncs it has a number, from 1. A test runs a history once to learn how many
//! there are ([`SimFs::operations`]), then once for each cut: [`SimFs::cut_after`], run until it fails, [`SimFs::power_cycle`],
//! open again. The same seed and the same calls give the same disk.

mod content;
mod file;
mod names;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::content::Content;
use self::file::SimFile;
use self::names::{FileCell, Names};
use super::{Fs, FsFile, Lock};

/// What free space is reported on a disk without a set capacity.
const UNBOUNDED_BYTES: u64 = 1 << 40;

/// A failure to inject into one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// A creation, a write or a change of names fails with `StorageFull` and changes nothing.
    NoSpace,
    /// A write stops somewhere in its middle with `StorageFull`.
    ShortWrite,
    /// A write reports success, but its bytes went to another sector of the same file.
    MisdirectedWrite,
    /// A sync of a file or directory fails; what was pending is lost and counts as clean.
    FailedSync,
}

/// Which operation an [`Injection`] meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The one of this number; nothing happens if it is of another kind.
    Operation(u64),
    /// The next one it can happen to.
    Next,
    /// The next one it can happen to on the file or directory that now has this path.
    NextOn(PathBuf),
}

/// A simulated disk. Clones share it; handles from before a [`SimFs::power_cycle`] or [`SimFs::end_process`] are dead.
#[derive(Clone, Debug)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug)]
struct Disk {
    names: Names,
    rng: fastrand::Rng,
    operations: u64,
    cut_after: Option<u64>,
    /// Rises with each power cycle; handles carry the one they were made in.
    boot: u64,
    capacity_bytes: Option<u64>,
    injections: Vec<(Target, Injection)>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Debug)]
enum Target {
    Operation(u64),
    Any,
    File(FileCell),
    Dir(PathBuf),
}

/// What an operation is about, to match injections.
enum Subject<'a> {
    Create,
    Rename,
    Write(&'a FileCell),
    Sync(&'a FileCell),
    SyncDir(&'a Path),
}

impl SimFs {
    /// An empty disk, holding nothing but `/`.
    pub fn new(seed: u64) -> SimFs {
        let disk = Disk {
            names: Names::new(),
            rng: fastrand::Rng::with_seed(seed),
            operations: 0,
            cut_after: None,
            boot: 0,
            capacity_bytes: None,
            injections: Vec::new(),
            locks: BTreeSet::new(),
        };
        SimFs {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// How many operations there have been since the disk was made.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Cuts the power once `operations` operations are done in all: whatever comes after fails, reads too.
    pub fn cut_after(&self, operations: u64) {
        self.disk().cut_after = Some(operations);
    }

    /// Cuts the power if it is still on, decides what survived, and turns it on again. Locks, injections and cuts are gone.
    pub fn power_cycle(&self) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        disk.names.crash(&mut disk.rng);
        for cell in disk.names.files() {
            lock_cell(&cell).crash(&mut disk.rng);
        }
        disk.boot += 1;
        disk.cut_after = None;
        disk.injections.clear();
        disk.locks.clear();
    }

    /// Ends the process that used the disk, at once: what it wrote stays seen and stays pending, its handles are dead, its
    /// locks, injections and cuts are gone.
    pub fn end_process(&self) {
        let mut disk = self.disk();
        disk.boot += 1;
        disk.cut_after = None;
        disk.injections.clear();
        disk.locks.clear();
    }

    /// Asks for a failure. A path in `when` must exist.
    pub fn inject(&self, when: When, injection: Injection) {
        let mut disk = self.disk();
        let target = match when {
            When::Operation(number) => Target::Operation(number),
            When::Next => Target::Any,
            When::NextOn(path) => match disk.names.find(&path) {
                Ok(names::Kind::File(cell)) => Target::File(cell),
                Ok(names::Kind::Dir(_)) => Target::Dir(path),
                Err(error) => panic!("no {} to inject into: {error}", path.display()),
            },
        };
        disk.injections.push((target, injection));
    }

    /// Limits the sum of all files' lengths; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity_bytes = bytes;
    }

    /// Flips one bit (0 to 7) of the byte at `position`, on the platter and in memory.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) {
        let cell = self.existing(path);
        lock_cell(&cell).flip_bit(to_usize(position), bit);
    }

    /// Lets bytes that were meant for elsewhere land at `position`, on the platter and in memory; what is behind the end of the file is lost.
    pub fn overwrite(&self, path: &Path, position: u64, bytes: &[u8]) {
        let cell = self.existing(path);
        lock_cell(&cell).overwrite(to_usize(position), bytes);
    }

    /// Makes the sector that holds `position` unreadable until it is written again.
    pub fn make_unreadable(&self, path: &Path, position: u64) {
        let cell = self.existing(path);
        lock_cell(&cell).make_unreadable(to_usize(position));
    }

    /// Puts a durable file of these bytes at `path`, replacing any: what a tampering hand or a restored backup does.
    pub fn plant(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let content = Content::durable(bytes);
        if let Ok(cell) = disk.names.find_file(path) {
            *lock_cell(&cell) = content;
            return;
        }
        let planted = disk.names.add_file(path, content);
        planted
            .and_then(|_| disk.names.sync_dir(super::parent_of(path)))
            .expect("the directory of a planted file exists");
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk
            .lock()
            .expect("no test panics while it holds this lock")
    }

    fn existing(&self, path: &Path) -> FileCell {
        match self.disk().names.find_file(path) {
            Ok(cell) => cell,
            Err(error) => panic!("no file {}: {error}", path.display()),
        }
    }

    fn handle(&self, cell: FileCell, boot: u64, writable: bool) -> Arc<dyn FsFile> {
        Arc::new(SimFile::new(self.clone(), cell, boot, writable))
    }
}

impl Disk {
    fn check_power(&self) -> io::Result<()> {
        match self.cut_after {
            Some(cut) if self.operations >= cut => {
                Err(io::Error::other("simulated disk: the power is cut"))
            }
            _ => Ok(()),
        }
    }

    /// Numbers an operation and tells which failure it meets, if any.
    fn begin(&mut self, subject: &Subject<'_>) -> io::Result<Option<Injection>> {
        self.check_power()?;
        self.operations += 1;
        let number = self.operations;
        let met = self.injections.iter().position(|(target, injection)| {
            suits(*injection, subject)
                && match (target, subject) {
                    (Target::Operation(wanted), _) => *wanted == number,
                    (Target::Any, _) => true,
                    (Target::File(file), Subject::Write(cell) | Subject::Sync(cell)) => {
                        Arc::ptr_eq(file, cell)
                    }
                    (Target::Dir(dir), Subject::SyncDir(path)) => dir == path,
                    _ => false,
                }
        });
        Ok(met.map(|at| self.injections.remove(at).1))
    }

    /// Begins a change of names, which can only fail for want of space.
    fn begin_change(&mut self, subject: &Subject<'_>) -> io::Result<()> {
        match self.begin(subject)? {
            Some(_) => Err(no_space()),
            None => Ok(()),
        }
    }

    fn free_bytes(&self) -> u64 {
        let Some(capacity) = self.capacity_bytes else {
            return UNBOUNDED_BYTES;
        };
        let files = self.names.files();
        let used: u64 = files.iter().map(|cell| lock_cell(cell).len() as u64).sum();
        capacity.saturating_sub(used)
    }
}

fn suits(injection: Injection, subject: &Subject<'_>) -> bool {
    match subject {
        Subject::Create | Subject::Rename => injection == Injection::NoSpace,
        Subject::Write(_) => injection != Injection::FailedSync,
        Subject::Sync(_) | Subject::SyncDir(_) => injection == Injection::FailedSync,
    }
}

impl Fs for SimFs {
    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn FsFile>> {
        let mut disk = self.disk();
        disk.begin_change(&Subject::Create)?;
        if disk.free_bytes() < len {
            return Err(no_space());
        }
        let content = Content::zeros(to_usize(len));
        let cell = disk.names.add_file(path, content)?;
        Ok(self.handle(cell, disk.boot, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let disk = self.disk();
        disk.check_power()?;
        let cell = disk.names.find_file(path)?;
        Ok(self.handle(cell, disk.boot, true))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        let disk = self.disk();
        disk.check_power()?;
        let cell = disk.names.find_file(path)?;
        Ok(self.handle(cell, disk.boot, false))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_change(&Subject::Rename)?;
        disk.names.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check_power()?;
        disk.operations += 1;
        disk.names.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        disk.check_power()?;
        disk.names.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_change(&Subject::Create)?;
        disk.names.add_dir(dir)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.check_power()?;
        disk.operations += 1;
        disk.names.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.begin(&Subject::SyncDir(dir))? {
            Some(_) => {
                disk.names.fail_sync_dir(dir)?;
                Err(failed_sync())
            }
            None => disk.names.sync_dir(dir),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let disk = self.disk();
        disk.check_power()?;
        match disk.names.find(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let disk = self.disk();
        disk.check_power()?;
        disk.names.find(path)?;
        Ok(disk.free_bytes())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut disk = self.disk();
        disk.check_power()?;
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Lock::new(SimLock {
            fs: self.clone(),
            path: path.to_owned(),
            boot: disk.boot,
        }))
    }
}

struct SimLock {
    fs: SimFs,
    path: PathBuf,
    boot: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.fs.disk();
        // A lock from before a power cycle is nobody's: the path may be locked anew by now.
        if disk.boot == self.boot {
            disk.locks.remove(&self.path);
        }
    }
}

fn lock_cell(cell: &FileCell) -> MutexGuard<'_, Content> {
    cell.lock()
        .expect("no test panics while it holds this lock")
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("64-bit machine")
}

fn no_space() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "simulated disk: no space")
}

fn failed_sync() -> io::Error {
    io::Error::other("simulated disk: the sync failed")
}

#[cfg(test)]
mod tests;
