//! A sync that the log does not wait for: begun here, carried out by whoever has the time, on another thread too, and ended here.
//!
//! On the write walk of a node that acknowledges what is written before it is synced. Owns the rule that nothing counts as durable before the
//! end was told. Must not know when it is time to sync.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Log;
use crate::fault::Fault;
use crate::fs::FsFile;

/// A sync that was begun: the files it is about.
#[derive(Debug)]
#[must_use = "what was begun has to be carried out, and its end told to the log"]
pub struct BegunSync {
    files: Vec<(PathBuf, Arc<dyn FsFile>)>,
    through: u64,
    /// Where that ends in the tail.
    position: u64,
}

/// A sync that was carried out, well or not.
#[derive(Debug)]
#[must_use = "the log has to be told"]
pub struct EndedSync {
    through: u64,
    position: u64,
    failed: Option<(PathBuf, io::Error)>,
}

impl BegunSync {
    /// Syncs, blocking.
    pub fn carry_out(self) -> EndedSync {
        let mut failed = None;
        for (path, file) in self.files {
            if let Err(error) = file.sync_data() {
                failed = Some((path, error));
                break;
            }
        }
        EndedSync {
            through: self.through,
            position: self.position,
            failed,
        }
    }
}

impl Log {
    /// Begins a sync of all that was appended so far. Until [`Log::end_sync`] frames may be appended that fit into the tail
    /// ([`Log::has_room_for`]), and nothing else may be done. `None` if all is durable.
    pub fn begin_sync(&mut self) -> Result<Option<BegunSync>, Fault> {
        self.check_not_poisoned()?;
        if self.durable_index == self.last_index() {
            return Ok(None);
        }
        let mut files = std::mem::take(&mut self.unsynced_footers);
        files.push((self.tail.path.clone(), Arc::clone(&self.tail.file)));
        // Another sync in between could meet the error that this one is to hear of, or be told of none because this one was.
        self.sync_begun = true;
        Ok(Some(BegunSync {
            files,
            through: self.last_index(),
            position: self.tail.contents.end_position,
        }))
    }

    /// Takes in what came of a sync that was begun. The value is the durable index (inclusive). A sync that failed ends the log.
    pub fn end_sync(&mut self, ended: EndedSync) -> Result<u64, Fault> {
        self.sync_begun = false;
        self.check_not_poisoned()?;
        if let Some((path, error)) = ended.failed {
            return Err(self.poison("syncing", &path, error));
        }
        self.tail.dirty = self.last_index() > ended.through;
        self.durable_index = ended.through;
        self.note_cached(ended.position);
        if let Err(error) = self.tail.mark_durable(self.durable_index) {
            return Err(self.poison_tail("writing", error));
        }
        Ok(self.durable_index)
    }

    /// Whether `frames` can be appended without a new segment, which takes several syncs.
    pub fn has_room_for(&self, frames: &[crate::frame::Frame]) -> bool {
        !self.torn && self.tail.fitting(frames) == frames.len()
    }
}
