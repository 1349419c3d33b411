//! The mark of a log that is written without waiting for syncs: an empty file whose name tells the machine's start. Owns that name.
//!
//! On the recovery walk. What such a log has acknowledged may be gone after a power cut, and nothing in the log itself says so: its frames
//! end in order, only too early. A mark of another start of the machine is what tells, and then the end of the log is not to be trusted
//! ([`crate::Log::distrust_tail`]). Must not know who counts the machine's starts.

use std::io;
use std::path::Path;

use crate::error::AppendError;
use crate::fault::{Fault, is_no_space};
use crate::fs::Fs;

const PREFIX: &str = "unsynced-";

/// Whether the log in `dir` was written so before the machine's present start, and not closed in order since.
pub fn is_of_another_start(fs: &dyn Fs, dir: &Path, machine_start: u128) -> Result<bool, Fault> {
    let own = name(machine_start);
    let marks = marks(fs, dir).map_err(|error| Fault::new("listing", dir, error))?;
    Ok(marks.iter().any(|mark| *mark != own))
}

/// Marks the log in `dir`, durably, before it is written so. Marks of other starts go: what they say has been seen to.
///
/// # Errors
/// `NoSpace`: there is no room for the name.
pub fn mark(fs: &dyn Fs, dir: &Path, machine_start: u128) -> Result<(), AppendError> {
    let own = name(machine_start);
    let change = || {
        let found = marks(fs, dir)?;
        if !found.contains(&own) {
            fs.create(&dir.join(&own), 0)?;
        }
        for other in found.iter().filter(|mark| **mark != own) {
            fs.remove(&dir.join(other))?;
        }
        fs.sync_dir(dir)
    };
    change().map_err(|error| match is_no_space(&error) {
        true => AppendError::NoSpace,
        false => Fault::new("marking", dir, error).into(),
    })
}

/// Removes the marks, durably: all that was acknowledged is synced.
pub fn unmark(fs: &dyn Fs, dir: &Path) -> Result<(), Fault> {
    let change = || {
        let found = marks(fs, dir)?;
        if found.is_empty() {
            return Ok(());
        }
        for mark in found {
            fs.remove(&dir.join(mark))?;
        }
        fs.sync_dir(dir)
    };
    change().map_err(|error: io::Error| Fault::new("unmarking", dir, error))
}

fn marks(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<String>> {
    let mut names = fs.list(dir)?;
    names.retain(|name| name.starts_with(PREFIX));
    Ok(names)
}

fn name(machine_start: u128) -> String {
    format!("{PREFIX}{machine_start:032x}")
}
