//! `Fault`: a promise the machine broke. Owns the one error after which a replica is poisoned.
//!
//! It is no answer to expect (those are small enums, one per operation): a failed sync, a failed write that is not
//! for want of space, a damaged file that had been durable. Whoever receives one stops voting, acking and writing, and
//! the process exits; nothing is retried, because a kernel marks the pages of a failed sync clean.

use std::io;
use std::path::{Path, PathBuf};

/// The machine broke a promise: what was being done, to which file, and what came back.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {source}; the disk can no longer be trusted, this process must stop", path.display())]
pub struct Fault {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Fault {
    /// A fault from a failed system call; `what` reads as the start of a sentence: "syncing".
    pub fn new(what: &'static str, path: &Path, source: io::Error) -> Fault {
        Fault {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// A fault from bytes that had been durable and are no longer what was written.
    pub fn damaged(what: &'static str, path: &Path, detail: impl Into<String>) -> Fault {
        let source = io::Error::new(io::ErrorKind::InvalidData, detail.into());
        Fault::new(what, path, source)
    }

    /// Whether there was just no room, which a caller that can wait need not take for a broken disk.
    pub fn is_no_space(&self) -> bool {
        is_no_space(&self.source)
    }

    /// Whether the bytes are there and cannot be had, or are not what was written: damage of one place, which says nothing of the rest.
    pub fn is_unreadable(&self) -> bool {
        is_unreadable(&self.source) || self.source.kind() == io::ErrorKind::InvalidData
    }

    /// The file or directory concerned.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Tells whether an IO error is that of a sector that the disk cannot read.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Tells whether an IO error means "no room" rather than a broken disk: such an operation may be tried again later.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
