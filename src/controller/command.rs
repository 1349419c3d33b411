//! What is written into the log of group 0, and what its application answers: versioned rkyv, checked on the way in.
//!
//! Must not know how a command is carried out. On the walk of create and delete: handler -> here -> group 0 -> `state`.

use rkyv::{Archive, Deserialize, Serialize, rancor};

/// Version byte in front of every encoded command and outcome.
pub(super) const VERSION: u8 = 2;

/// One entry of group 0's log.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes a topic and places its replicas.
    CreateTopic {
        /// The topic's name; checked again where it is applied.
        name: String,
        /// How many partitions, from 1.
        partitions: u32,
        /// How many replicas each partition has, from 1 to the number of nodes; 0 for the default, as many as survive one failure.
        replicas: u32,
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
    /// Fills the registry of a new cluster with the nodes it was configured with. The first one counts; a later one changes nothing.
    Found {
        /// The nodes and the addresses they are dialed at.
        nodes: Vec<(u64, String)>,
    },
    /// Takes a node into the cluster. It gets replicas with the next topics, and with `Rebalance`.
    AddNode {
        /// Its number, which no node of this cluster ever had.
        node: u64,
        /// `host:port` of its QUIC endpoint.
        address: String,
    },
    /// Has a node give all its replicas to the others; it is forgotten once it has.
    RemoveNode {
        /// Its number.
        node: u64,
    },
    /// Has a new node take over all replicas of an old one, which is forgotten after that.
    ReplaceNode {
        /// The node that leaves, dead or alive.
        old: u64,
        /// The number of the one that takes its place.
        new: u64,
        /// `host:port` of its QUIC endpoint.
        address: String,
    },
    /// Evens out replicas and preferred leaders over the nodes.
    Rebalance,
    /// Makes a replica the preferred leader of its group.
    PreferLeader {
        /// The group.
        group: u64,
        /// The node of the replica.
        node: u64,
    },
    /// Says that groups have become what they shall be: the leader of each has seen that membership committed.
    Settle {
        /// Group, and the version of the target that it has reached.
        groups: Vec<(u64, u64)>,
    },
    /// Drops a node that leaves and holds nothing any more; its number is never used again.
    ForgetNode {
        /// Its number.
        node: u64,
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
    /// The cluster is, or becomes, as it was asked to be.
    Changed {
        /// Replicas that are to move to another node because of this command.
        moves: u64,
    },
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
    /// The nodes of the cluster cannot be changed like that.
    InvalidChange {
        /// Why, and what would do.
        reason: String,
    },
    /// The cluster has no nodes yet: its first leader has yet to say which they are.
    Unfounded,
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
