//! What can be wrong with a message, a batch or a record, and what a node answers.
//!
//! Owns the error enums of this room. [`ApiError`] is itself sent: its layout is pinned by golden bytes.

use rkyv::{Archive, Deserialize, Serialize};

/// A head that cannot be understood. Nothing was done with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The preamble's kind byte is none this side takes on this stream.
    #[error("message kind {kind} is unknown here")]
    UnknownKind {
        /// The byte as received.
        kind: u8,
    },
    /// The head is of a version this build does not speak.
    #[error(
        "message version {version} is not spoken here, only version 1 is: upgrade the older side"
    )]
    Version {
        /// The byte as received.
        version: u8,
    },
    /// A head, list or string is over its cap.
    #[error("{what} of {len} is over the cap of {max}")]
    TooLong {
        /// What was measured.
        what: &'static str,
        /// Its length, in bytes or elements.
        len: usize,
        /// The longest accepted.
        max: usize,
    },
    /// The archive does not validate.
    #[error("message is malformed")]
    Malformed,
    /// The lengths in the head do not add up to the body.
    #[error("message body has {len} bytes where its head says {expected}")]
    BodyLength {
        /// Bytes received.
        len: usize,
        /// Bytes the head speaks of.
        expected: u64,
    },
}

/// A payload that is no valid batch of records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The frame is of another kind.
    #[error("frame kind {kind} holds no records")]
    NotRecords {
        /// The header's kind byte.
        kind: u8,
    },
    /// No such compression.
    #[error("codec {codec} is unknown")]
    UnknownCodec {
        /// The header's codec byte.
        codec: u8,
    },
    /// The payload is shorter than the batch head.
    #[error("payload of {len} bytes is shorter than a batch head")]
    Short {
        /// Payload bytes.
        len: usize,
    },
    /// The batch was made for another group: a buffer was mixed up on the way.
    #[error("batch was made for group {found}, not for group {expected}")]
    ForeignGroup {
        /// The group in the batch head or frame header.
        found: u64,
        /// The group it was offered to.
        expected: u64,
    },
    /// A batch of no records.
    #[error("batch holds no records")]
    Empty,
    /// Header, head and table disagree about the number of records.
    #[error("frame header says {header} records, the table holds {table}")]
    RecordCount {
        /// As the frame header says.
        header: u32,
        /// As the table says, or the most it could hold.
        table: u64,
    },
    /// More bytes than the caller accepts.
    #[error("records of {len} bytes are over the cap of {max}")]
    TooLarge {
        /// Uncompressed bytes.
        len: usize,
        /// The cap.
        max: usize,
    },
    /// The records are not as long as the head says, before or after decompression.
    #[error("records have {len} bytes where the batch head says {expected}")]
    Length {
        /// As found.
        len: usize,
        /// As the head says.
        expected: usize,
    },
    /// The compressed bytes do not decompress.
    #[error("records do not decompress")]
    Decompress,
    /// The archive does not validate.
    #[error("records are malformed")]
    Malformed,
    /// An entry of the table points backwards, outside the blob, or says absent where there are bytes.
    #[error("record {record} has a table entry outside the blob or out of order")]
    Table {
        /// Position of the record in its batch.
        record: u32,
    },
    /// The headers of a record do not fill their range exactly, or a name is no UTF-8.
    #[error("record {record} has malformed headers")]
    Headers {
        /// Position of the record in its batch.
        record: u32,
    },
    /// A timestamp is out of range, or the header's maximum is not the records' maximum.
    #[error("timestamps of the batch do not add up")]
    Timestamp,
}

/// A record that could not be put into a batch. The batch is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The record fits a batch, but not this one any more: build it and start the next.
    #[error("the batch is full")]
    BatchFull,
    /// The record alone is over the cap of a batch.
    #[error("record of {bytes} bytes is larger than a batch may be ({bytes_max} bytes)")]
    TooLarge {
        /// Bytes the record would take in a batch of its own.
        bytes: usize,
        /// The cap.
        bytes_max: usize,
    },
    /// A header name is longer than 65,535 bytes.
    #[error("header name of {bytes} bytes is longer than 65535")]
    HeaderName {
        /// Its length.
        bytes: usize,
    },
}

/// What a node answers instead of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
#[non_exhaustive]
pub enum ApiError {
    /// Another replica leads the group, or none does that this node knows of.
    #[error("not the leader{}", .leader.as_ref().map_or_else(|| String::from(" and none is known"), |(id, address)| format!(": node {id} at {address} is")))]
    NotLeader {
        /// Node and QUIC address of the leader, where known.
        leader: Option<(u64, String)>,
    },
    /// No topic of that name.
    #[error("no such topic")]
    UnknownTopic,
    /// This node holds no replica of that group.
    #[error("no such group on this node")]
    UnknownGroup,
    /// The name is taken.
    #[error("the topic exists already")]
    TopicExists,
    /// The name or the numbers cannot be.
    #[error("invalid topic: {reason}")]
    InvalidTopic {
        /// What to change.
        reason: String,
    },
    /// The offset is not in the log.
    #[error(
        "offset is out of range: the log holds {log_start} up to, not including, {high_watermark}"
    )]
    OffsetOutOfRange {
        /// First offset kept, inclusive.
        log_start: u64,
        /// End of what is committed, exclusive.
        high_watermark: u64,
    },
    /// The batch is over the node's cap.
    #[error("batch is larger than {max} bytes")]
    BatchTooLarge {
        /// Largest payload taken, in bytes.
        max: u64,
    },
    /// The batch failed a check.
    #[error("batch refused: {reason}")]
    CorruptBatch {
        /// Which check.
        reason: String,
    },
    /// A sequence number was skipped: an earlier batch is missing.
    #[error("sequence out of order: {expected} is next")]
    OutOfOrderSequence {
        /// First sequence the group would take.
        expected: u64,
    },
    /// A newer epoch of this producer id has written.
    #[error("producer fenced: epoch {epoch} has taken over")]
    ProducerFenced {
        /// The newest epoch seen.
        epoch: u32,
    },
    /// Too much is waiting. Try again.
    #[error("overloaded: too many bytes wait already")]
    Overloaded,
    /// The disk is full. Reads go on; service resumes by itself.
    #[error("disk full: writes are refused until there is space")]
    DiskFull,
    /// No leader, or no majority, at the moment.
    #[error("unavailable: no leader with a majority at the moment")]
    Unavailable,
    /// The node is going down. Try another.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// It took too long; whether it happened is not known.
    #[error("timed out: whether it took effect is not known")]
    Timeout,
    /// The request makes no sense.
    #[error("invalid request: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// The request's version is not spoken here.
    #[error("message version {version} is not supported")]
    Unsupported {
        /// As received.
        version: u8,
    },
    /// The node failed in a way it did not expect; its log says more.
    #[error("internal error of the node: see its log")]
    Internal,
    /// The group must first come to the end of something else. Try again.
    #[error("not yet: {reason}")]
    NotYet {
        /// What it waits for.
        reason: String,
    },
}

impl ApiError {
    /// Whether the same request may succeed later or elsewhere, without a change by the caller.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::UnknownGroup
            | Self::Overloaded
            | Self::DiskFull
            | Self::Unavailable
            | Self::ShuttingDown
            | Self::Timeout
            | Self::NotYet { .. } => true,
            Self::UnknownTopic
            | Self::TopicExists
            | Self::InvalidTopic { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::BatchTooLarge { .. }
            | Self::CorruptBatch { .. }
            | Self::OutOfOrderSequence { .. }
            | Self::ProducerFenced { .. }
            | Self::InvalidRequest { .. }
            | Self::Unsupported { .. }
            | Self::Internal => false,
        }
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::TooLarge { max, .. } => Self::BatchTooLarge { max: max as u64 },
            other => Self::CorruptBatch {
                reason: other.to_string(),
            },
        }
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Version { version } => Self::Unsupported { version },
            other => Self::InvalidRequest {
                reason: other.to_string(),
            },
        }
    }
}
