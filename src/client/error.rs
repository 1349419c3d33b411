//! What a user of the client is told when something cannot be done.
//!
//! Owns the client's error enums: one for connecting and administration, one per record sent, one for consuming.

use std::sync::Arc;
use std::time::Duration;

use transport::{CredentialsError, EndpointError};

use crate::wire::{ApiError, PushError};

/// Why connecting or an administrative request failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A certificate or key is of no use.
    #[error(transparent)]
    Credentials(Arc<CredentialsError>),
    /// No socket could be had.
    #[error(transparent)]
    Endpoint(Arc<EndpointError>),
    /// None of the nodes answered.
    #[error("no node of the cluster answered: {tried}")]
    NoNode {
        /// Each node and what happened, as a sentence.
        tried: String,
    },
    /// The answer is no.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// It took too long. Whether a change took effect is not known.
    #[error("no success within {after:?}; last seen: {last}")]
    Timeout {
        /// How long was tried.
        after: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// A node broke the protocol.
    #[error("node {node} broke the protocol: {reason}")]
    Protocol {
        /// The node.
        node: u64,
        /// How.
        reason: String,
    },
    /// The topic has no such partition.
    #[error("topic has {partitions} partitions, there is no partition {partition}")]
    UnknownPartition {
        /// The one asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// An option cannot be.
    #[error("invalid option: {reason}")]
    InvalidOption {
        /// What to change.
        reason: String,
    },
}

/// Why a record was not acked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The record fits no batch. It was not sent.
    #[error(transparent)]
    Record(#[from] PushError),
    /// The topic has no such partition. It was not sent.
    #[error("topic has {partitions} partitions, there is no partition {partition}")]
    UnknownPartition {
        /// The one asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The cluster refused its batch. It was not written.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The delivery timeout passed. Whether it was written is not known.
    #[error("not acked within {after:?}, whether it was written is not known; last seen: {last}")]
    Timeout {
        /// The producer's delivery timeout.
        after: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// A batch before it on the same partition failed while this one was on its way; it was given up to keep the order.
    /// Whether it was written is not known.
    #[error("given up to keep the order, because a batch before it failed: {earlier}")]
    EarlierFailed {
        /// What went wrong with the earlier one.
        earlier: String,
    },
    /// The producer is closed. It was not sent.
    #[error("the producer is closed")]
    Closed,
}

/// Why a consumer cannot go on with a partition.
#[derive(Debug, Clone, thiserror::Error)]
#[error("partition {partition}: {reason}")]
pub struct ConsumeError {
    /// The partition concerned; the others go on.
    pub partition: u32,
    /// What happened.
    pub reason: ConsumeReason,
}

/// What happened to a partition that is consumed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeReason {
    /// The cluster's answer is no: an offset out of range, a deleted topic.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// Nothing could be reached for too long.
    #[error("no progress within {after:?}; last seen: {last}")]
    Timeout {
        /// How long was tried.
        after: Duration,
        /// The last thing that went wrong.
        last: String,
    },
    /// What was received is damaged, and was again when asked for once more.
    #[error("records at offset {offset} are damaged: {reason}")]
    Damaged {
        /// Next offset that was expected.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
}

impl From<CredentialsError> for ClientError {
    fn from(error: CredentialsError) -> Self {
        Self::Credentials(Arc::new(error))
    }
}

impl From<EndpointError> for ClientError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(Arc::new(error))
    }
}
