//! What is written into the log of group 0, and what its application answers: versioned rkyv, checked on the way in.
//!
//! Must not know how a command is carried out. On the walk of create and delete: handler -> here -> group 0 -> `state`.

use rkyv::{Archive, Deserialize, Serialize, rancor};

/// Version byte in front of every encoded command and outcome.
const VERSION: u8 = 1;

/// One entry of group 0's log.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes a topic and places its replicas.
    CreateTopic {
        /// The topic's name; checked again where it is applied.
        name: String,
        /// How many partitions, from 1.
        partitions: u32,
        /// How many replicas each partition has, from 1 to the number of `nodes`.
        replicas: u32,
        /// The nodes replicas may be placed on. Part of the command, so that all replicas of group 0 decide alike even while their
        /// configurations differ.
        nodes: Vec<u64>,
        /// Most partitions the cluster may have with this topic, as the proposing node is configured.
        partitions_max: u32,
        /// What the creator drew for this creation: repeated with it, the command finds its own topic.
        token: u64,
    },
    /// Removes a topic and, with it, the records of all its partitions.
    DeleteTopic {
        /// The topic's name.
        name: String,
    },
    /// Reserves producer ids that no other caller will ever get.
    AllocateProducerIds {
        /// How many consecutive ids.
        count: u64,
    },
}

/// What the application of a command answers to its proposer.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The topic exists from now on.
    TopicCreated {
        /// The new topic's number.
        topic: u64,
    },
    /// The topic is gone.
    TopicDeleted {
        /// The number it had.
        topic: u64,
    },
    /// Ids `first .. first + count` belong to the caller.
    ProducerIds {
        /// The first id of the block, from 1.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A topic of that name is there already.
    TopicExists,
    /// There is no topic of that name.
    UnknownTopic,
    /// The name is not allowed.
    InvalidTopic {
        /// The rule it breaks.
        reason: String,
    },
    /// A number is out of its range.
    InvalidRequest {
        /// Which, and what the range is.
        reason: String,
    },
}

/// Bytes that are no command or outcome of a version this node knows.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The version byte is not one of ours.
    #[error("version {0} of a controller message is not known here; upgrade this node")]
    UnknownVersion(u8),
    /// No bytes at all, or bytes that fail validation.
    #[error("a controller message is damaged")]
    Damaged,
}

/// Encodes a command: version byte, then the archive.
pub fn encode_command(command: &Command) -> Vec<u8> {
    let archive =
        rkyv::to_bytes::<rancor::Error>(command).expect("serialising into memory does not fail");
    versioned(&archive)
}

/// Decodes what `encode_command` made, with every byte checked.
///
/// # Errors
/// `CommandError` for anything else.
pub fn decode_command(bytes: &[u8]) -> Result<Command, CommandError> {
    rkyv::from_bytes::<Command, rancor::Error>(archive_of(bytes)?)
        .map_err(|_| CommandError::Damaged)
}

/// Encodes an outcome: version byte, then the archive.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let archive =
        rkyv::to_bytes::<rancor::Error>(outcome).expect("serialising into memory does not fail");
    versioned(&archive)
}

/// Decodes what `encode_outcome` made, with every byte checked.
///
/// # Errors
/// `CommandError` for anything else.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, CommandError> {
    rkyv::from_bytes::<Outcome, rancor::Error>(archive_of(bytes)?)
        .map_err(|_| CommandError::Damaged)
}

pub(super) fn versioned(archive: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + archive.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(archive);
    bytes
}

pub(super) fn archive_of(bytes: &[u8]) -> Result<&[u8], CommandError> {
    match bytes.split_first() {
        Some((&VERSION, archive)) => Ok(archive),
        Some((&other, _)) => Err(CommandError::UnknownVersion(other)),
        None => Err(CommandError::Damaged),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
