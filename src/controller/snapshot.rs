//! The controller's state as bytes: versioned rkyv, checked and cross-checked on the way in.
//!
//! Must not know files: `replica` stores the bytes and hands them back.

use std::collections::BTreeSet;

use rkyv::{Archive, Deserialize, Serialize, rancor};

use super::command::{CommandError, archive_of, versioned};
use super::state::{Member, Partition, State, Topic};

/// Bytes that are no snapshot of the controller.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// Damaged, or written by a version this node does not know.
    #[error(transparent)]
    Unreadable(#[from] CommandError),
    /// Readable, but it contradicts itself.
    #[error("the controller's snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
}

#[derive(Archive, Serialize, Deserialize)]
struct Snapshot {
    next_group: u64,
    next_topic: u64,
    next_producer: u64,
    topics: Vec<StoredTopic>,
    nodes: Vec<StoredNode>,
    removed: Vec<u64>,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredNode {
    node: u64,
    address: String,
    leaving: bool,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredTopic {
    name: String,
    id: u64,
    token: u64,
    partitions: Vec<StoredPartition>,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredPartition {
    group: u64,
    founders: Vec<u64>,
    replicas: Vec<u64>,
    holders: Vec<u64>,
    version: u64,
    settled: bool,
}

/// The whole state as bytes; the same state gives the same bytes on every node.
pub(super) fn encode(state: &State) -> Vec<u8> {
    let topics = state
        .topics()
        .map(|topic| StoredTopic {
            name: topic.name.clone(),
            id: topic.id,
            token: topic.token,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| StoredPartition {
                    group: partition.group,
                    founders: partition.founders.clone(),
                    replicas: partition.replicas.clone(),
                    holders: partition.holders.clone(),
                    version: partition.version,
                    settled: partition.settled,
                })
                .collect(),
        })
        .collect();
    let nodes = state.nodes().map(|(node, member)| StoredNode {
        node,
        address: member.address.clone(),
        leaving: member.leaving,
    });
    let snapshot = Snapshot {
        next_group: state.next_group,
        next_topic: state.next_topic,
        next_producer: state.next_producer,
        topics,
        nodes: nodes.collect(),
        removed: state.removed.iter().copied().collect(),
    };
    versioned(
        &rkyv::to_bytes::<rancor::Error>(&snapshot).expect("serialising into memory does not fail"),
    )
}

/// The state that `encode` was given.
///
/// # Errors
/// `SnapshotError` when the bytes are damaged, of another version, or contradict themselves.
pub(super) fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    let snapshot = rkyv::from_bytes::<Snapshot, rancor::Error>(archive_of(bytes)?)
        .map_err(|_| CommandError::Damaged)?;
    let mut groups = BTreeSet::new();
    let mut state = State {
        next_group: snapshot.next_group,
        next_topic: snapshot.next_topic,
        next_producer: snapshot.next_producer,
        removed: snapshot.removed.into_iter().collect(),
        ..State::default()
    };
    for node in snapshot.nodes {
        let member = Member {
            address: node.address,
            leaving: node.leaving,
        };
        if state.removed.contains(&node.node) || state.nodes.insert(node.node, member).is_some() {
            return Err(SnapshotError::Inconsistent(
                "a node appears twice, or was removed",
            ));
        }
    }
    for topic in snapshot.topics {
        if topic.id >= snapshot.next_topic {
            return Err(SnapshotError::Inconsistent(
                "a topic's number is not below the next one",
            ));
        }
        if state.topic(&topic.name).is_some() {
            return Err(SnapshotError::Inconsistent("a topic appears twice"));
        }
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            if partition.group >= snapshot.next_group
                || !groups.insert(partition.group)
                || partition.group == 0
            {
                return Err(SnapshotError::Inconsistent(
                    "a group appears twice, is 0, or is not below the next one",
                ));
            }
            partitions.push(partition_of(partition)?);
        }
        state.insert(Topic {
            name: topic.name,
            id: topic.id,
            token: topic.token,
            partitions,
        });
    }
    Ok(state)
}

fn partition_of(stored: StoredPartition) -> Result<Partition, SnapshotError> {
    if stored.replicas.is_empty() || stored.founders.is_empty() {
        return Err(SnapshotError::Inconsistent("a partition has no replicas"));
    }
    if !stored
        .replicas
        .iter()
        .all(|node| stored.holders.contains(node))
    {
        return Err(SnapshotError::Inconsistent(
            "a partition shall be where it cannot be",
        ));
    }
    Ok(Partition {
        group: stored.group,
        founders: stored.founders,
        replicas: stored.replicas,
        holders: stored.holders,
        version: stored.version,
        settled: stored.settled,
    })
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
