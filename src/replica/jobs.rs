//! What goes to the disk thread, and what comes back. Owns the words of that exchange; between the turn of the loop and the write.
//!
//! Must not know how anything is written.

use std::path::PathBuf;

use segment_store::{BallotFile, Log};
use tokio::sync::oneshot;

use super::effects::DiskOp;
use crate::raft::Ballot;

/// The open files of one group.
#[derive(Debug)]
pub struct GroupFiles {
    /// The log.
    pub log: Log,
    /// Term and vote.
    pub ballot: BallotFile,
    /// The group's folder.
    pub dir: PathBuf,
}

/// Work for the disk.
#[derive(Debug)]
pub enum DiskJob {
    /// A group's files come under the thread's hand.
    Open {
        /// The group.
        group: u64,
        /// Its files.
        files: Box<GroupFiles>,
    },
    /// Operations of a group, in order of their numbers.
    Write {
        /// The group.
        group: u64,
        /// The newest ballot to save, if it changed.
        ballot: Option<Ballot>,
        /// Numbered operations.
        ops: Vec<(u64, DiskOp)>,
    },
    /// Drop a group's files; all its operations that have room are done before.
    Close {
        /// The group.
        group: u64,
        /// Told once the files are closed.
        done: oneshot::Sender<()>,
    },
}

/// What became of the work.
#[derive(Debug)]
pub enum DiskReport {
    /// All operations up to this number are done: durable, or written where acks do not wait for the disk.
    Done {
        /// The group.
        group: u64,
        /// The last number, inclusive.
        through: u64,
    },
    /// This ballot is durable.
    BallotDurable {
        /// The group.
        group: u64,
        /// The ballot.
        ballot: Ballot,
    },
    /// The group's operations wait for room (true), or have found it again (false).
    Full {
        /// The group.
        group: u64,
        /// Whether they wait.
        full: bool,
    },
    /// The machine broke a promise to this group.
    Fault {
        /// The group.
        group: u64,
        /// What happened.
        reason: String,
    },
}
