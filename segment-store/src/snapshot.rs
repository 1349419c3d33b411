//! Snapshots of a state machine: one file each, whole or absent. Owns their bytes and their names.
//!
//! On the walk that lets a log forget its prefix: a snapshot is durable here before the log is trimmed. Must not know what
//! the state is.
//!
//! A snapshot is written under a temporary name, synced, renamed and made durable by syncing its folder; a crash leaves the
//! old ones untouched, and a half-written file is never taken for a snapshot. A name whose sync failed before its giver was killed is
//! seen and may never become durable, so whoever loads a snapshot names it anew: it has two names, and either is right. The newest two are kept. If the newest turns
//! out damaged the older one is loaded instead, which is right only if the log still reaches back to it: trim no further
//! than the older one's index ([`indexes`]), or find the gap when opening.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::fault::{Fault, is_no_space};
use crate::fs::Fs;
use crate::repair::keep_aside;

const MAGIC: [u8; 8] = *b"PLIMSNAP";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
/// Header CRC, after the fields it covers.
const HEADER_CRC_AT: usize = 60;
/// How many snapshots of one name are kept.
const KEPT: usize = 2;
const SUFFIX: &str = ".snapshot";
/// End of the other name of the same file.
const OTHER_SUFFIX: &str = ".again.snapshot";

/// The state after applying the entries up to `index`, inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Index of the last entry that is part of the state.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// The state, as it was given.
    pub bytes: Bytes,
}

/// Why a snapshot was not written. Older ones are untouched.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No room; may be tried again later.
    #[error("no space for a snapshot")]
    NoSpace,
    /// The disk failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why no snapshot could be loaded although there are some. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Every snapshot kept is damaged.
    #[error(
        "every snapshot of {name} in {} is damaged ({detail}): restore one from a backup, or keep this replica stopped; the others go on without it",
        dir.display()
    )]
    Damaged {
        /// Where they lie.
        dir: PathBuf,
        /// Their common name.
        name: String,
        /// What is wrong with the newest.
        detail: String,
    },
    /// A later Plimsoll wrote the newest snapshot.
    #[error("{} has version {version}, this program knows up to {VERSION}: run the newer one", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The disk failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Writes the snapshot `name` of the state at (`index`, `term`) into `dir`, durable on return, and removes those it makes
/// superfluous.
pub fn write(
    fs: &dyn Fs,
    dir: &Path,
    name: &str,
    index: u64,
    term: u64,
    state: &[u8],
) -> Result<(), WriteError> {
    let temporary = dir.join(format!("{name}{SUFFIX}.tmp"));
    let before = files(fs, dir, name)?;
    // Under the name of the one it replaces, if there is one.
    let path = before.iter().find(|(of, _)| *of == index);
    let path = path.map_or_else(
        || dir.join(file_name(name, index)),
        |(_, path)| path.clone(),
    );
    if crate::mutation::is("the old snapshot goes before the new one is there") {
        for (_, old) in before {
            fs.remove(&old)
                .map_err(|error| Fault::new("removing", &old, error))?;
        }
    }
    match write_file(fs, &temporary, index, term, state) {
        Ok(()) => {}
        Err(error) if is_no_space(&error) => return Err(WriteError::NoSpace),
        Err(error) => return Err(Fault::new("writing", &temporary, error).into()),
    }
    fs.rename(&temporary, &path)
        .and_then(|()| fs.sync_dir(dir))
        .map_err(|error| Fault::new("naming", &path, error))?;
    let mut kept = files(fs, dir, name)?;
    while kept.len() > KEPT {
        // Oldest first; a removal that a crash undoes is done again by the next snapshot.
        let (_, oldest) = kept.remove(0);
        fs.remove(&oldest)
            .map_err(|error| Fault::new("removing", &oldest, error))?;
    }
    Ok(())
}

/// Moves every damaged snapshot `name` in `dir` out of the way, into `damaged/`, so that none counts as one of those that are kept. Says
/// how many.
///
/// # Errors
/// [`LoadError::Version`], with nothing moved after it; a [`Fault`] of the disk.
pub fn set_damaged_aside(fs: &dyn Fs, dir: &Path, name: &str) -> Result<usize, LoadError> {
    let mut moved = 0;
    for (index, path) in files(fs, dir, name)? {
        match load_file(fs, &path, index) {
            Ok(_) => {}
            Err(FileError::Version(version)) => return Err(LoadError::Version { path, version }),
            Err(FileError::Damaged(detail)) => {
                tracing::error!(path = %path.display(), detail, "a snapshot is damaged");
                keep_aside(fs, dir, &path)?;
                moved += 1;
            }
        }
    }
    Ok(moved)
}

/// Loads the newest whole snapshot `name` in `dir`, whose name is durable then; `None` if there never was one.
pub fn load_latest(fs: &dyn Fs, dir: &Path, name: &str) -> Result<Option<Snapshot>, LoadError> {
    let mut newest_detail = None;
    for (index, path) in files(fs, dir, name)?.into_iter().rev() {
        match load_file(fs, &path, index) {
            Ok(snapshot) => {
                let named = name_again(fs, dir, &path);
                named.map_err(|error| Fault::new("naming", &path, error))?;
                return Ok(Some(snapshot));
            }
            Err(FileError::Version(version)) => return Err(LoadError::Version { path, version }),
            Err(FileError::Damaged(detail)) => {
                tracing::warn!(path = %path.display(), detail, "a snapshot is damaged; trying the one before it");
                newest_detail.get_or_insert(detail);
            }
        }
    }
    match newest_detail {
        None => Ok(None),
        Some(detail) => Err(LoadError::Damaged {
            dir: dir.to_owned(),
            name: name.to_owned(),
            detail,
        }),
    }
}

/// The indexes of the snapshots `name` kept in `dir`, ascending, whole or not.
pub fn indexes(fs: &dyn Fs, dir: &Path, name: &str) -> Result<Vec<u64>, Fault> {
    let files = files(fs, dir, name)?;
    Ok(files.into_iter().map(|(index, _)| index).collect())
}

/// The files of the snapshots `name` in `dir`, by their index, ascending.
pub fn files(fs: &dyn Fs, dir: &Path, name: &str) -> Result<Vec<(u64, PathBuf)>, Fault> {
    let names = fs
        .list(dir)
        .map_err(|error| Fault::new("listing", dir, error))?;
    let mut files: Vec<(u64, PathBuf)> = names
        .iter()
        .filter_map(|file| Some((index_of(name, file)?, dir.join(file))))
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// Makes a name durable that may be one whose sync failed before its giver was killed, which no later sync makes durable: gives the file its
/// other one. A power cut leaves either.
fn name_again(fs: &dyn Fs, dir: &Path, path: &Path) -> io::Result<()> {
    if !crate::mutation::is("found names are trusted") {
        let file = path.to_string_lossy();
        let other = match file.strip_suffix(OTHER_SUFFIX) {
            Some(stem) => format!("{stem}{SUFFIX}"),
            None => format!("{}{OTHER_SUFFIX}", file.trim_end_matches(SUFFIX)),
        };
        fs.rename(path, Path::new(&other))?;
    }
    fs.sync_dir(dir)
}

/// Twenty digits, so that names sort as their indexes do; read back as a number all the same.
fn file_name(name: &str, index: u64) -> String {
    format!("{name}-{index:020}{SUFFIX}")
}

fn index_of(name: &str, file: &str) -> Option<u64> {
    let digits = file.strip_prefix(name)?.strip_prefix('-')?;
    let digits = digits
        .strip_suffix(OTHER_SUFFIX)
        .or_else(|| digits.strip_suffix(SUFFIX))?;
    let index = digits.parse().ok()?;
    (format!("{index:020}") == digits).then_some(index)
}

fn write_file(fs: &dyn Fs, path: &Path, index: u64, term: u64, state: &[u8]) -> io::Result<()> {
    if fs.exists(path)? {
        fs.remove(path)?;
    }
    let header = encode_header(index, term, state);
    let len = (HEADER_BYTES + state.len()) as u64;
    let file = fs.create(path, len)?;
    let buffers = [io::IoSlice::new(&header), io::IoSlice::new(state)];
    file.write_vectored_at(&buffers, 0)?;
    file.sync_data()
}

fn encode_header(index: u64, term: u64, state: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&index.to_le_bytes());
    header[24..32].copy_from_slice(&term.to_le_bytes());
    header[32..40].copy_from_slice(&(state.len() as u64).to_le_bytes());
    header[40..44].copy_from_slice(&crc32fast::hash(state).to_le_bytes());
    let crc = crc32fast::hash(&header[..HEADER_CRC_AT]);
    header[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    header
}

enum FileError {
    Damaged(String),
    Version(u16),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> FileError {
        FileError::Damaged(format!("unreadable: {error}"))
    }
}

fn load_file(fs: &dyn Fs, path: &Path, index: u64) -> Result<Snapshot, FileError> {
    let damaged = |detail: &str| Err(FileError::Damaged(detail.to_owned()));
    let file = fs.open_read(path)?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    if header[HEADER_CRC_AT..] != crc32fast::hash(&header[..HEADER_CRC_AT]).to_le_bytes() {
        return damaged("header checksum does not match");
    }
    if header[..8] != MAGIC {
        return damaged("another kind of file");
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(FileError::Version(version));
    }
    if u64_at(16) != index {
        return damaged("its name says another index");
    }
    // The file's own length bounds what is allocated.
    if u64_at(32) != file.len() - HEADER_BYTES as u64 {
        return damaged("cut short or grown");
    }
    let len = usize::try_from(u64_at(32)).expect("64-bit machine");
    let mut state = vec![0; len];
    file.read_exact_at(&mut state, HEADER_BYTES as u64)?;
    if header[40..44] != crc32fast::hash(&state).to_le_bytes() {
        return damaged("checksum of the state does not match");
    }
    Ok(Snapshot {
        index,
        term: u64_at(24),
        bytes: state.into(),
    })
}

#[cfg(test)]
mod tests;
