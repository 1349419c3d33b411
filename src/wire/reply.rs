//! What a node answers a client.
//!
//! Owns the replies and their caps. Walks: produce, fetch, administration.

use rkyv::{Archive, Deserialize, Serialize};

use super::error::ArchivedApiError;
use super::head::{at_most, kind, open, seal, text};
use super::{ApiError, REPLY_HEAD_BYTES_MAX, WireError};

/// Most nodes in one reply.
pub(super) const NODES_MAX: usize = 1024;
/// Most topics, partitions of a topic, or groups in one reply.
pub(super) const GROUPS_MAX: usize = 100_000;
/// Most produce requests acknowledged by one reply.
pub const ACKS_MAX: usize = 1024;
/// Most replicas of one group.
pub(super) const REPLICAS_MAX: usize = 64;

/// One reply; which request it answers follows from its stream and order, or from its correlation.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub enum Reply {
    /// The batches of these requests of the stream are committed: fsynced on a majority.
    Produced {
        /// At least one, in the order they came.
        acks: Vec<ProducedAck>,
    },
    /// Part of the answer to a fetch. The body is a run of whole frames as they lie in the log, perhaps none.
    Fetched {
        /// The partition's group.
        group: u64,
        /// First offset this part answers for. Records below it in the first frame were not asked for.
        first_offset: u64,
        /// End of what was committed at the time, exclusive.
        high_watermark: u64,
        /// First offset kept, inclusive.
        log_start: u64,
        /// Whether the fetch is over: it did not follow and has reached the high watermark.
        end: bool,
    },
    /// Who leads what.
    Metadata(Metadata),
    /// The topic exists now, on a majority of nodes.
    TopicCreated,
    /// The topic is gone.
    TopicDeleted,
    /// A fresh producer id.
    ProducerId {
        /// Never 0.
        id: u64,
        /// The epoch to begin with.
        epoch: u32,
    },
    /// The whole cluster, as the answering node sees it.
    ClusterStatus(ClusterStatus),
    /// End of the log, exclusive; every record acked before the request was sent lies below it.
    EndOffset {
        /// The offset the next record will get at the earliest.
        offset: u64,
    },
    /// Leadership is where it was asked to go.
    Transferred,
    /// The cluster is, or becomes, as it was asked to be; `ClusterStatus` shows how far it is.
    Changed {
        /// Replicas that are to move because of this request.
        moves: u64,
    },
    /// The request was refused or failed.
    Error {
        /// As the request said; 0 for requests without.
        correlation: u64,
        /// Why.
        error: ApiError,
    },
    /// What the answering node's process has used. Apart, so that it makes no other reply longer.
    Usage(Box<NodeUsage>),
}

/// The batches of one request are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct ProducedAck {
    /// As the request said.
    pub correlation: u64,
    /// Offset of the first record; the others follow without gaps, from batch to batch. A repeated batch gets the offset of the original.
    pub base_offset: u64,
}

/// Nodes, topics and who leads each partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct Metadata {
    /// Name of the cluster.
    pub cluster: String,
    /// Leader of group 0, where known.
    pub controller_leader: Option<u64>,
    /// Every node of the cluster.
    pub nodes: Vec<NodeInfo>,
    /// The topics asked for that exist, by name.
    pub topics: Vec<TopicInfo>,
}

/// A node and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct NodeInfo {
    /// Its number, from 1.
    pub id: u64,
    /// Its QUIC address, `host:port`.
    pub address: String,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its number, never used again after deletion.
    pub id: u64,
    /// Its partitions, ascending from 0 without gaps.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition, its group and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct PartitionInfo {
    /// Number within the topic, from 0.
    pub partition: u32,
    /// Its Raft group.
    pub group: u64,
    /// The leader as far as the answering node knows.
    pub leader: Option<u64>,
    /// The nodes that hold a replica; the first is the preferred leader.
    pub replicas: Vec<u64>,
}

/// What a node's process has used of its machine, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct NodeUsage {
    /// Drawn at random when the process first told its usage. Nodes that say the same share a process, and each tells the usage of all.
    pub process: u64,
    /// The moment, in nanoseconds of a clock that never steps. Its zero is the process's own.
    pub clock_ns: u64,
    /// CPU time so far, user and system, of all threads that are or were.
    pub cpu_ns: u64,
    /// Resident memory that is the process's own (RssAnon), in bytes.
    pub anonymous_bytes: u64,
    /// Resident memory that belongs to the page cache (RssFile): mapped segments and the program itself.
    pub file_bytes: u64,
}

/// Every node and every group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct ClusterStatus {
    /// Name of the cluster.
    pub cluster: String,
    /// Whether a majority confirmed that this is the latest; otherwise it is what the answering node knew last.
    pub current: bool,
    /// Every node.
    pub nodes: Vec<NodeStatus>,
    /// Every group, ascending; group 0 is the controller's.
    pub groups: Vec<GroupStatus>,
}

/// Whether a node can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct NodeStatus {
    /// Its number.
    pub id: u64,
    /// Its QUIC address.
    pub address: String,
    /// Whether the answering node is connected to it (true of itself).
    pub up: bool,
    /// Whether it gives its replicas away, to be removed.
    pub leaving: bool,
}

/// A group as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct GroupStatus {
    /// Its number.
    pub group: u64,
    /// The topic; `None` for the controller.
    pub topic: Option<String>,
    /// The partition; `None` for the controller.
    pub partition: Option<u32>,
    /// Its leader, where known.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// Last committed index, inclusive.
    pub commit_index: u64,
    /// End of what is committed, exclusive.
    pub high_watermark: u64,
    /// First offset kept.
    pub log_start: u64,
    /// Its replicas, those on the way in or out included.
    pub replicas: Vec<ReplicaStatus>,
    /// The nodes that shall hold it; the first is the preferred leader.
    pub shall: Vec<u64>,
    /// Whether it is where it shall be: false while a move is under way.
    pub settled: bool,
}

/// One replica of a group.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct ReplicaStatus {
    /// The node that holds it.
    pub node: u64,
    /// Its role, as far as known.
    pub role: ReplicaRole,
    /// Last index known to be durable there.
    pub match_index: u64,
    /// Its own high watermark, exclusive, as far as known.
    pub high_watermark: u64,
}

/// What a replica is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub enum ReplicaRole {
    /// Leads the group.
    Leader,
    /// Follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Receives, without a vote.
    Learner,
    /// Not known to the answering node.
    Unknown,
    /// Its log is damaged and being repaired from the others; it takes no part meanwhile.
    Damaged,
    /// Its log is damaged, and no replica has what is missing.
    Halted,
}

impl ReplicaRole {
    /// The word for it, as the command line prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Unknown => "unknown",
            Self::Damaged => "damaged",
            Self::Halted => "halted",
        }
    }
}

/// Kind byte and head of a reply.
pub fn encode_reply(reply: &Reply) -> (u8, Vec<u8>) {
    (kind::REPLY, seal(reply))
}

/// Reads a reply back, with all caps checked before anything is copied.
///
/// # Errors
/// [`WireError`] for another kind or version, a head or part over its cap, or an archive that does not validate.
pub fn decode_reply(kind: u8, head: &[u8]) -> Result<Reply, WireError> {
    open::<Reply>(
        kind,
        self::kind::REPLY,
        head,
        REPLY_HEAD_BYTES_MAX,
        |reply| match reply {
            ArchivedReply::Metadata(metadata) => check_metadata(metadata),
            ArchivedReply::ClusterStatus(status) => check_status(status),
            ArchivedReply::Error { error, .. } => check_error(error),
            ArchivedReply::Produced { acks } => at_most("list of acks", acks.len(), ACKS_MAX),
            ArchivedReply::Fetched { .. }
            | ArchivedReply::TopicCreated
            | ArchivedReply::TopicDeleted
            | ArchivedReply::ProducerId { .. }
            | ArchivedReply::EndOffset { .. }
            | ArchivedReply::Transferred
            | ArchivedReply::Changed { .. }
            | ArchivedReply::Usage(_) => Ok(()),
        },
    )
}

fn check_metadata(metadata: &ArchivedMetadata) -> Result<(), WireError> {
    text("cluster name", &metadata.cluster)?;
    at_most("list of nodes", metadata.nodes.len(), NODES_MAX)?;
    at_most("list of topics", metadata.topics.len(), GROUPS_MAX)?;
    metadata
        .nodes
        .iter()
        .try_for_each(|node| text("address", &node.address))?;
    for topic in metadata.topics.iter() {
        text("topic name", &topic.name)?;
        at_most("list of partitions", topic.partitions.len(), GROUPS_MAX)?;
        topic
            .partitions
            .iter()
            .try_for_each(|p| at_most("list of replicas", p.replicas.len(), REPLICAS_MAX))?;
    }
    Ok(())
}

fn check_status(status: &ArchivedClusterStatus) -> Result<(), WireError> {
    text("cluster name", &status.cluster)?;
    at_most("list of nodes", status.nodes.len(), NODES_MAX)?;
    at_most("list of groups", status.groups.len(), GROUPS_MAX)?;
    status
        .nodes
        .iter()
        .try_for_each(|node| text("address", &node.address))?;
    for group in status.groups.iter() {
        if let Some(topic) = group.topic.as_ref() {
            text("topic name", topic)?;
        }
        at_most("list of replicas", group.replicas.len(), REPLICAS_MAX)?;
        at_most("list of replicas", group.shall.len(), REPLICAS_MAX)?;
    }
    Ok(())
}

/// Measures the strings of an error; shared with the messages between nodes.
pub(super) fn check_error(error: &ArchivedApiError) -> Result<(), WireError> {
    match error {
        ArchivedApiError::NotLeader { leader } => match leader.as_ref() {
            Some(leader) => text("address", &leader.1),
            None => Ok(()),
        },
        ArchivedApiError::InvalidTopic { reason }
        | ArchivedApiError::CorruptBatch { reason }
        | ArchivedApiError::InvalidRequest { reason }
        | ArchivedApiError::NotYet { reason } => text("reason", reason),
        _ => Ok(()),
    }
}
