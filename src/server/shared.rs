//! What every handler of a node needs: handles on the other rooms, the settings, and the budget of bytes in flight.
//!
//! Must not decide anything. On every walk, as the thing passed along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use segment_store::LoadMemory;
use tokio::sync::{Semaphore, watch};

use super::metrics::Metrics;
use super::peer::Peers;
use super::producer_ids::ProducerIds;
use super::reconcile::Reconciled;
use super::repair::Repairs;
use crate::config::Config;
use crate::controller::{
    CONTROLLER_GROUP, Command, ControllerView, Outcome, Refusal, decode_outcome, encode_command,
};
use crate::replica::{Group, Replicas};
use crate::wire::{ApiError, BatchCaps};

/// How long a command to the controller may take, an election included.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);
/// Pause before a command that found no leader is tried again.
const COMMAND_RETRY: Duration = Duration::from_millis(50);
/// Bytes of [`Shared::load_memory`]: a consumer that reads as fast as it can takes a third of it. Who finds none left reads through the page cache.
pub(super) const LOAD_BYTES_MAX: usize = 100 << 20;

/// One per node, behind an `Arc`.
pub(super) struct Shared {
    pub(super) config: Config,
    /// The nodes that the cluster was founded with.
    pub(super) founders: Vec<u64>,
    pub(super) replicas: Replicas,
    pub(super) view: ControllerView,
    pub(super) peers: Arc<Peers>,
    pub(super) metrics: Metrics,
    pub(super) producer_ids: ProducerIds,
    /// One permit per byte of batches accepted and not yet answered (`limits.produce_in_flight_bytes_max`).
    pub(super) produce_bytes: Arc<Semaphore>,
    /// What consumers of old records are sent from.
    pub(super) load_memory: LoadMemory,
    pub(super) clients: AtomicU64,
    pub(super) stopping: AtomicBool,
    pub(super) repairs: Repairs,
    /// How far the open groups match the controller's view.
    pub(super) reconciled: watch::Sender<Reconciled>,
}

impl Shared {
    /// Whether the node is going down: nothing new is begun.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The replica of `group` on this node.
    pub(super) fn group(&self, group: u64) -> Result<Group, ApiError> {
        if self.is_stopping() {
            return Err(ApiError::ShuttingDown);
        }
        self.replicas.get(group).ok_or_else(|| {
            // Another replica serves meanwhile, and this one when it is repaired.
            match self.replicas.repair(group) {
                Some(_) => ApiError::Unavailable,
                None => ApiError::UnknownGroup,
            }
        })
    }

    /// Sends the caller to the leader of `group`, as far as it is known here.
    pub(super) fn not_leader(&self, group: &Group) -> ApiError {
        let leader = group
            .watermark()
            .leader()
            .filter(|leader| *leader != self.config.node.id);
        ApiError::NotLeader {
            leader: leader.and_then(|leader| Some((leader, self.address_of(leader)?))),
        }
    }

    /// The nodes of the cluster and their addresses: those that the controller knows, or until it does, those of the settings.
    pub(super) fn nodes(&self) -> BTreeMap<u64, String> {
        let state = self.view.state();
        let known = state.nodes();
        let known: BTreeMap<u64, String> = known
            .map(|(node, member)| (node, member.address.clone()))
            .collect();
        if !known.is_empty() {
            return known;
        }
        let configured = self.config.nodes.iter();
        configured
            .map(|node| (node.id, node.address.clone()))
            .collect()
    }

    /// The QUIC address of a node.
    pub(super) fn address_of(&self, node: u64) -> Option<String> {
        let state = self.view.state();
        let configured = self.config.nodes.iter().find(|other| other.id == node);
        configured
            .map(|other| other.address.clone())
            .or_else(|| Some(state.node(node)?.address.clone()))
    }

    /// Fills in the address that the room below does not know.
    pub(super) fn with_address(&self, error: ApiError) -> ApiError {
        match error {
            ApiError::NotLeader {
                leader: Some((leader, _)),
            } => ApiError::NotLeader {
                leader: self.address_of(leader).map(|address| (leader, address)),
            },
            other => other,
        }
    }

    /// The caps on a batch from a client.
    pub(super) fn batch_caps(&self) -> BatchCaps {
        let bytes_max = self.config.limits.batch_bytes_max as usize;
        BatchCaps {
            payload_bytes_max: bytes_max,
            records_bytes_max: bytes_max,
        }
    }

    /// Has the controller carry out a command, from whichever node; tries again while there is no leader.
    pub(super) async fn command(&self, command: &Command) -> Result<Outcome, ApiError> {
        let bytes = encode_command(command);
        let attempt = async {
            loop {
                match self.command_once(bytes.clone()).await {
                    Err(ApiError::NotLeader { .. } | ApiError::Unavailable) => {
                        tokio::time::sleep(COMMAND_RETRY).await;
                    }
                    done => return done,
                }
            }
        };
        tokio::time::timeout(COMMAND_WITHIN, attempt)
            .await
            .map_err(|_| ApiError::Timeout)?
    }

    async fn command_once(&self, bytes: Vec<u8>) -> Result<Outcome, ApiError> {
        let answer = self.group(CONTROLLER_GROUP)?.command(bytes).await?;
        match decode_outcome(&answer) {
            Ok(Outcome::Refused(refusal)) => Err(refused(refusal)),
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                tracing::error!(%error, "the controller's answer cannot be read");
                Err(ApiError::Internal)
            }
        }
    }

    /// Makes sure that this node has applied what the controller had agreed on at the time of the call.
    pub(super) async fn catch_up_with_controller(&self) -> Result<(), ApiError> {
        let read = self.group(CONTROLLER_GROUP)?.read_index().await;
        read.map(drop).map_err(|_| ApiError::Unavailable)
    }
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::TopicExists => ApiError::TopicExists,
        Refusal::UnknownTopic => ApiError::UnknownTopic,
        Refusal::InvalidTopic { reason } => ApiError::InvalidTopic { reason },
        Refusal::InvalidRequest { reason } | Refusal::InvalidChange { reason } => {
            ApiError::InvalidRequest { reason }
        }
        // Its first leader is about to found it.
        Refusal::Unfounded => ApiError::Unavailable,
    }
}

/// The word under which a refused request is counted.
pub(super) fn reason(error: &ApiError) -> &'static str {
    match error {
        ApiError::NotLeader { .. } => "not_leader",
        ApiError::UnknownTopic => "unknown_topic",
        ApiError::UnknownGroup => "unknown_group",
        ApiError::TopicExists => "topic_exists",
        ApiError::InvalidTopic { .. } => "invalid_topic",
        ApiError::OffsetOutOfRange { .. } => "offset_out_of_range",
        ApiError::BatchTooLarge { .. } => "batch_too_large",
        ApiError::CorruptBatch { .. } => "corrupt_batch",
        ApiError::OutOfOrderSequence { .. } => "out_of_order_sequence",
        ApiError::ProducerFenced { .. } => "producer_fenced",
        ApiError::Overloaded => "overloaded",
        ApiError::DiskFull => "disk_full",
        ApiError::Unavailable => "unavailable",
        ApiError::ShuttingDown => "shutting_down",
        ApiError::Timeout => "timeout",
        ApiError::InvalidRequest { .. } => "invalid_request",
        ApiError::Unsupported { .. } => "unsupported",
        ApiError::Internal => "internal",
        ApiError::NotYet { .. } => "not_yet",
    }
}
