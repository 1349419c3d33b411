//! The preparer: keeps files ready before anyone needs them. Owns the pool folder and the thread that fills it.
//!
//! Beside the write path: a log that rolls over takes a ready file, whose room is reserved, or which was another segment before. Zeros are not
//! written beforehand: small syncs would take less time alone, but the disk and the processor have to do everything twice
//! (`docs/decisions`). Must not know what will be written into a file; only that its first sector is a header page.
//!
//! # Names and durability
//! A pool file counts as ready only when its content is synced. Its *name* in the pool need not be durable: the pool is
//! emptied at start. What must be durable is a name that leaves or enters a log's folder:
//! - [`Preparer::take`] renames a ready file into the log's folder; the log syncs that folder before it relies on the file.
//! - [`Preparer::recycle`] renames a freed file into the pool and **syncs the pool before rewriting a byte**. Otherwise a
//!   crash could bring the old name back with a header page of zeros under it.
//!
//! # Why a recycled file is safe
//! Its header page is zeroed, so it is no segment of anyone's. All else is stale and stays so: a frame from before shows
//! itself by another group, an index below the new base, or a chain that does not fit. A file is only reused once its map has
//! no other owner, because the bytes of a slice must never change (`map.rs`); else it is removed.
//!
//! # When there is no room
//! The thread forgets the wish and waits for the next one. `take` first gives up ready files of other lengths for the room
//! they hold, then says `StorageFull`. Nothing is remembered, so service resumes as soon as there is room.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::fault::is_no_space;
use crate::fs::{Fs, FsFile, MapRead, SECTOR_BYTES, ensure_dir};
use crate::view::is_last_reference;

/// How much may lie in the pool, ready or on the way there.
#[derive(Clone, Copy, Debug)]
pub struct PreparerOptions {
    /// At most this many files.
    pub files_max: usize,
    /// At most this many bytes in all.
    pub bytes_max: u64,
}

impl Default for PreparerOptions {
    fn default() -> PreparerOptions {
        PreparerOptions {
            files_max: 64,
            bytes_max: 1 << 30,
        }
    }
}

/// The pool of ready files of one node, shared by its logs. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct Preparer {
    pool: Arc<Pool>,
    /// `None`: the work is done inside the calls, in the same order every time, as the simulator needs it.
    worker: Option<Arc<Worker>>,
}

impl Preparer {
    /// Empties the folder `dir` (made if missing) and starts the thread that fills it.
    pub fn start(fs: Arc<dyn Fs>, dir: &Path, options: PreparerOptions) -> io::Result<Preparer> {
        let pool = Pool::empty(fs, dir, options)?;
        let shared = Arc::clone(&pool);
        let thread = std::thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(move || shared.work_until_stopped())?;
        let worker = Worker {
            pool: Arc::clone(&pool),
            thread: Some(thread),
        };
        Ok(Preparer {
            pool,
            worker: Some(Arc::new(worker)),
        })
    }

    /// The same without a thread: every call does its work before it returns.
    pub fn inline(fs: Arc<dyn Fs>, dir: &Path, options: PreparerOptions) -> io::Result<Preparer> {
        let pool = Pool::empty(fs, dir, options)?;
        Ok(Preparer { pool, worker: None })
    }

    /// Says that one more file of `len` bytes will be wanted soon. A hint: it may come to nothing.
    pub fn prepare(&self, len: u64) {
        let mut state = self.pool.lock();
        let count = state.lengths.entry(len).or_default();
        count.wanted += 1;
        if count.ready.len() + count.under_way < count.wanted
            && state.has_room(&self.pool.options, len)
        {
            state.begin(Job::Create { len });
        }
        drop(state);
        self.run();
    }

    /// A file of `len` bytes at `to`: a ready one if there is one, else one made now. Its room is reserved. Its first sector is
    /// zeros, the rest anything. The name is durable once the caller has synced its folder.
    ///
    /// # Errors
    /// `StorageFull`: no room, nothing was left behind. `AlreadyExists` if there is something at `to`.
    pub fn take(&self, len: u64, to: &Path) -> io::Result<Arc<dyn FsFile>> {
        let fs = self.pool.fs.as_ref();
        if fs.exists(to)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let ready = self.pool.lock().take(len);
        if let Some((path, file)) = ready {
            return match fs.rename(&path, to) {
                Ok(()) => Ok(file),
                Err(error) => {
                    // It is counted no longer, so it must not stay; the first error says more than a second one.
                    let _ = fs.remove(&path);
                    Err(error)
                }
            };
        }
        match fs.create(to, len) {
            Err(error) if is_no_space(&error) && self.pool.give_up_room() => fs.create(to, len),
            other => other,
        }
    }

    /// Takes over the file at `path`, which no log knows any more, with its map. It is reused if there is room in the pool
    /// and `map` is the last reference, else removed. The caller syncs nothing: until this is done the old name may come back
    /// after a crash, with its old content.
    pub fn recycle(&self, path: &Path, mut map: Arc<dyn MapRead>) -> io::Result<()> {
        let len = map.len() as u64;
        // A reader may hold a slice for as long as a slow connection lasts; such a file is not waited for.
        let unread = is_last_reference(&mut map);
        drop(map);
        let fs = self.pool.fs.as_ref();
        let to = {
            let mut state = self.pool.lock();
            if !unread || !state.has_room(&self.pool.options, len) {
                drop(state);
                return fs.remove(path);
            }
            let to = self.pool.dir.join(state.next_name());
            state.reserve(len);
            to
        };
        if let Err(error) = fs.rename(path, &to) {
            self.pool.lock().release(len);
            return Err(error);
        }
        self.pool
            .lock()
            .jobs
            .push_back(Job::Rewrite { path: to, len });
        self.run();
        Ok(())
    }

    /// Files ready or on the way, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        let state = self.pool.lock();
        (state.files, state.bytes)
    }

    fn run(&self) {
        match self.worker {
            Some(_) => self.pool.wake.notify_one(),
            None => while self.pool.work_once() {},
        }
    }
}

/// The thread, joined when the last [`Preparer`] goes.
#[derive(Debug)]
struct Worker {
    pool: Arc<Pool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.pool.lock().stopping = true;
        self.pool.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // Nothing to do about a panic there: the pool is a convenience, and the panic has been printed.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Pool {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: PreparerOptions,
    state: Mutex<State>,
    wake: Condvar,
}

impl Pool {
    fn empty(fs: Arc<dyn Fs>, dir: &Path, options: PreparerOptions) -> io::Result<Arc<Pool>> {
        ensure_dir(fs.as_ref(), dir)?;
        for name in fs.list(dir)? {
            fs.remove(&dir.join(name))?;
        }
        fs.sync_dir(dir)?;
        Ok(Arc::new(Pool {
            fs,
            dir: dir.to_owned(),
            options,
            state: Mutex::default(),
            wake: Condvar::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn work_until_stopped(&self) {
        loop {
            let mut state = self.lock();
            while state.jobs.is_empty() && !state.stopping {
                state = self
                    .wake
                    .wait(state)
                    .expect("no code panics while it holds this lock");
            }
            if state.stopping {
                return;
            }
            drop(state);
            self.work_once();
        }
    }

    /// Does the next job, outside the lock. False if there was none.
    fn work_once(&self) -> bool {
        let (job, path) = {
            let mut state = self.lock();
            let Some(job) = state.jobs.pop_front() else {
                return false;
            };
            let path = match &job {
                Job::Create { .. } => self.dir.join(state.next_name()),
                Job::Rewrite { path, .. } => path.clone(),
            };
            (job, path)
        };
        let result = match job {
            Job::Create { len } => self.create(&path, len),
            Job::Rewrite { .. } => self.rewrite(&path),
        };
        let len = job.len();
        match result {
            Ok(file) => self.lock().finish(len, path, file),
            Err(error) => {
                self.lock().release(len);
                // Not a fault: nothing relies on a file that is not ready. Whoever needs one makes it, and meets the error.
                tracing::warn!(path = %path.display(), len, %error, "could not prepare a file");
                let _ = self.fs.remove(&path);
            }
        }
        true
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn FsFile>> {
        let file = self.fs.create(path, len)?;
        file.sync_data()?;
        Ok(file)
    }

    fn rewrite(&self, path: &Path) -> io::Result<Arc<dyn FsFile>> {
        self.fs.sync_dir(&self.dir)?;
        let file = self.fs.open(path)?;
        let header_bytes = file.len().min(SECTOR_BYTES as u64);
        let zeros = [0; SECTOR_BYTES];
        let header_bytes = usize::try_from(header_bytes).expect("at most a sector");
        file.write_all_at(&zeros[..header_bytes], 0)?;
        file.sync_data()?;
        Ok(file)
    }

    /// Removes every ready file, for the room. False if there was none.
    fn give_up_room(&self) -> bool {
        let files = self.lock().take_all();
        for path in &files {
            if let Err(error) = self.fs.remove(path) {
                tracing::warn!(path = %path.display(), %error, "could not remove a ready file");
            }
        }
        !files.is_empty()
    }
}

#[derive(Debug)]
enum Job {
    Create { len: u64 },
    Rewrite { path: PathBuf, len: u64 },
}

impl Job {
    fn len(&self) -> u64 {
        match self {
            Job::Create { len } | Job::Rewrite { len, .. } => *len,
        }
    }
}

/// What the pool holds. `files` and `bytes` count ready files and those on the way.
#[derive(Debug, Default)]
struct State {
    lengths: BTreeMap<u64, Files>,
    jobs: VecDeque<Job>,
    files: usize,
    bytes: u64,
    names_given: u64,
    stopping: bool,
}

/// The files of one length.
#[derive(Debug, Default)]
struct Files {
    ready: Vec<(PathBuf, Arc<dyn FsFile>)>,
    under_way: usize,
    /// Hints not yet followed by a `take`.
    wanted: usize,
}

impl State {
    fn has_room(&self, options: &PreparerOptions, len: u64) -> bool {
        self.files < options.files_max && self.bytes.saturating_add(len) <= options.bytes_max
    }

    fn next_name(&mut self) -> String {
        self.names_given += 1;
        format!("ready-{}", self.names_given)
    }

    fn begin(&mut self, job: Job) {
        self.reserve(job.len());
        self.jobs.push_back(job);
    }

    fn reserve(&mut self, len: u64) {
        self.files += 1;
        self.bytes += len;
        self.lengths.entry(len).or_default().under_way += 1;
    }

    fn release(&mut self, len: u64) {
        self.files -= 1;
        self.bytes -= len;
        let files = self.lengths.entry(len).or_default();
        files.under_way -= 1;
    }

    fn finish(&mut self, len: u64, path: PathBuf, file: Arc<dyn FsFile>) {
        let files = self.lengths.entry(len).or_default();
        files.under_way -= 1;
        files.ready.push((path, file));
    }

    fn take(&mut self, len: u64) -> Option<(PathBuf, Arc<dyn FsFile>)> {
        let files = self.lengths.get_mut(&len)?;
        files.wanted = files.wanted.saturating_sub(1);
        let taken = files.ready.pop()?;
        self.files -= 1;
        self.bytes -= len;
        Some(taken)
    }

    fn take_all(&mut self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for (len, files) in &mut self.lengths {
            for (path, _) in files.ready.drain(..) {
                self.files -= 1;
                self.bytes -= len;
                paths.push(path);
            }
        }
        paths
    }
}

#[cfg(test)]
mod tests;
