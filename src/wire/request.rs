//! What a client asks of a node.
//!
//! Owns the requests and their caps. Walks: produce, fetch, administration. A stream carries requests of one use: produces,
//! or one fetch, or one control request after another.

use rkyv::{Archive, Deserialize, Serialize};

use super::head::{at_most, kind, open, seal, text};
use super::{REQUEST_HEAD_BYTES_MAX, WireError};

/// Longest body of a produce request that holds more than one frame.
pub const PRODUCE_MERGED_BYTES_MAX: usize = 128 << 10;
/// Most topics named in one metadata request.
pub(super) const METADATA_TOPICS_MAX: usize = 4096;

/// One request. `Produce` may be pipelined on its stream and is answered by correlation; the others are answered in the
/// order they were sent, and an [`Error`](super::Reply::Error) to them has correlation 0.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub enum Request {
    /// Append what the body holds: one unstamped frame of kind records, or several of one producer, one behind the other, which are
    /// answered together. Of several, sequences follow each other without gaps, none was ever sent before, and all together have no
    /// more than [`PRODUCE_MERGED_BYTES_MAX`] bytes. If several are refused, send them again one to a request: that tells which of
    /// them it is, or what became of each.
    Produce {
        /// Given back with the answer.
        correlation: u64,
        /// The partition's group.
        group: u64,
        /// Whether a replica that does not lead passes the batch on to the leader, instead of answering
        /// [`NotLeader`](super::ApiError::NotLeader). Of one batch only.
        forward: bool,
    },
    /// Send committed frames from a place on, one reply after another.
    Fetch {
        /// The partition's group.
        group: u64,
        /// Where to start.
        from: FetchFrom,
        /// Most bytes in one reply's body; at least one frame is sent in any case.
        max_bytes: u32,
        /// Whether to wait at the high watermark for more, for ever.
        follow: bool,
    },
    /// Who leads what.
    Metadata {
        /// The topics asked for; `None` for all. Topics that do not exist are left out of the answer.
        topics: Option<Vec<String>>,
    },
    /// Make a topic.
    CreateTopic {
        /// Its name; see [`topic_name`](super::topic_name).
        name: String,
        /// Number of partitions, at least 1.
        partitions: u32,
        /// Replicas of each; 0 for the cluster's default.
        replicas: u32,
        /// A number drawn at random for this creation. Sent again with the same number, after a lost answer, it is answered as if for the
        /// first time; with any other, a topic of that name exists.
        token: u64,
    },
    /// Delete a topic with all its records.
    DeleteTopic {
        /// Its name.
        name: String,
    },
    /// A producer id that nobody else has or ever had.
    ProducerId,
    /// Everything `plimsoll cluster status` shows.
    ClusterStatus,
    /// How far the log is, linearizable.
    EndOffset {
        /// The partition's group.
        group: u64,
    },
    /// Hand leadership of a group to another of its voters.
    TransferLeader {
        /// The group.
        group: u64,
        /// The node that should lead.
        to: u64,
    },
    /// Make a replica the one that leads its group whenever it can.
    PreferLeader {
        /// The group.
        group: u64,
        /// The node of the replica.
        to: u64,
    },
    /// Take a node into the cluster.
    AddNode {
        /// Its number, never used in this cluster before.
        node: u64,
        /// `host:port` of its QUIC endpoint.
        address: String,
    },
    /// Have a node give its replicas to the others, and forget it then.
    RemoveNode {
        /// Its number.
        node: u64,
    },
    /// Have a new node take the place of another.
    ReplaceNode {
        /// The node that leaves, dead or alive.
        old: u64,
        /// The number of the new one, never used in this cluster before.
        new: u64,
        /// `host:port` of its QUIC endpoint.
        address: String,
    },
    /// Even out replicas and preferred leaders over the nodes.
    Rebalance,
    /// What the answering node's process has used of its machine.
    Usage,
}

/// Where a fetch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub enum FetchFrom {
    /// At this offset, between log_start and high_watermark, both inclusive.
    Offset(u64),
    /// At log_start.
    Start,
    /// At the high watermark: only what comes from now on.
    End,
    /// At the first frame that holds a record of this time (milliseconds since 1970) or later.
    Time(u64),
}

/// Kind byte and head of a request.
pub fn encode_request(request: &Request) -> (u8, Vec<u8>) {
    (kind::REQUEST, seal(request))
}

/// Reads a request back, with all caps checked before anything is copied.
///
/// # Errors
/// [`WireError`] for another kind or version, a head or part over its cap, or an archive that does not validate.
pub fn decode_request(kind: u8, head: &[u8]) -> Result<Request, WireError> {
    open::<Request>(
        kind,
        self::kind::REQUEST,
        head,
        REQUEST_HEAD_BYTES_MAX,
        |request| match request {
            ArchivedRequest::Metadata { topics } => {
                let Some(topics) = topics.as_ref() else {
                    return Ok(());
                };
                at_most("list of topics", topics.len(), METADATA_TOPICS_MAX)?;
                topics.iter().try_for_each(|name| text("topic name", name))
            }
            ArchivedRequest::CreateTopic { name, .. } | ArchivedRequest::DeleteTopic { name } => {
                text("topic name", name)
            }
            ArchivedRequest::Produce { .. }
            | ArchivedRequest::Fetch { .. }
            | ArchivedRequest::ProducerId
            | ArchivedRequest::ClusterStatus
            | ArchivedRequest::EndOffset { .. }
            | ArchivedRequest::TransferLeader { .. }
            | ArchivedRequest::PreferLeader { .. }
            | ArchivedRequest::RemoveNode { .. }
            | ArchivedRequest::Rebalance
            | ArchivedRequest::Usage => Ok(()),
            ArchivedRequest::AddNode { address, .. }
            | ArchivedRequest::ReplaceNode { address, .. } => text("address", address),
        },
    )
}
