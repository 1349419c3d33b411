//! What can go wrong in this room: owns the errors that are not answers to a client.

use segment_store::ballot::BallotError;
use segment_store::snapshot::LoadError;
use segment_store::{Fault, ReadError};

/// Why a group was not opened on this node.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is open.
    #[error("group {0} is open already")]
    AlreadyOpen(u64),
    /// The node is going down.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The log.
    #[error("group {group}: {source}")]
    Log {
        /// The group.
        group: u64,
        /// What is wrong.
        source: segment_store::OpenError,
    },
    /// The log is damaged: the replica must neither vote nor lead until it is repaired from others. Nothing was changed.
    #[error("group {group}: {what}; it is to be repaired from other replicas")]
    Damaged {
        /// The group.
        group: u64,
        /// What is wrong.
        what: String,
    },
    /// The ballot file.
    #[error("group {group}: {source}")]
    Ballot {
        /// The group.
        group: u64,
        /// What is wrong.
        source: BallotError,
    },
    /// The snapshot file.
    #[error("group {group}: {source}")]
    Snapshot {
        /// The group.
        group: u64,
        /// What is wrong.
        source: LoadError,
    },
    /// Snapshot, log and membership do not fit together.
    #[error(
        "group {group}: {what}; the others go on without this replica; give the node's replicas to a new node (`plimsoll cluster replace-node`): neither an old copy nor an empty folder is safe under the same node id"
    )]
    Inconsistent {
        /// The group.
        group: u64,
        /// What does not fit.
        what: String,
    },
    /// The log could not be read.
    #[error("group {group}: {source}")]
    Read {
        /// The group.
        group: u64,
        /// What is wrong.
        source: ReadError,
    },
    /// The machine broke a promise.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A group whose disk broke a promise; it asserts nothing any more, and the process must stop.
#[derive(Debug, thiserror::Error)]
#[error("group {group}: {reason}")]
pub struct Poisoned {
    /// The group.
    pub group: u64,
    /// What happened.
    pub reason: String,
}
