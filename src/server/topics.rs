//! Topics as a client asks for them: who leads what, create, delete.
//!
//! Reads the controller's view; changes go through the controller's group. Must not know how replicas are placed.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::controller::{CONTROLLER_GROUP, Command, Outcome, Topic};
use crate::wire::{ApiError, Metadata, NodeInfo, PartitionInfo, Reply, TopicInfo};

/// Replicas of a partition when the client leaves it to the cluster: as many as survive one failure.
const REPLICAS_DEFAULT: usize = 3;
/// How long a creator waits for the new groups to be led. The topic is there in any case.
const LEADERS_WITHIN: Duration = Duration::from_secs(5);
/// How long a change that is committed may take to be applied on this node.
const APPLIED_WITHIN: Duration = Duration::from_secs(10);

/// Nodes, topics and leaders, as known here; all topics, or those of the given names that exist.
pub(super) async fn metadata(shared: &Shared, names: Option<&[String]>) -> Metadata {
    let state = shared.view.state();
    let chosen: Vec<&Arc<Topic>> = match names {
        Some(names) => names.iter().filter_map(|name| state.topic(name)).collect(),
        None => state.topics().collect(),
    };
    let topics = chosen
        .into_iter()
        .map(|topic| topic_info(shared, topic))
        .collect();
    let nodes = shared.config.nodes.iter().map(|node| NodeInfo {
        id: node.id,
        address: node.address.clone(),
    });
    Metadata {
        cluster: shared.config.node.cluster.clone(),
        controller_leader: leader(shared, CONTROLLER_GROUP),
        nodes: nodes.collect(),
        topics,
    }
}

fn topic_info(shared: &Shared, topic: &Topic) -> TopicInfo {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(partition, placed)| PartitionInfo {
            partition,
            group: placed.group,
            leader: leader(shared, placed.group),
            replicas: placed.replicas.clone(),
        });
    TopicInfo {
        name: topic.name.clone(),
        id: topic.id,
        partitions: partitions.collect(),
    }
}

/// The leader of a group, if a replica here knows it. For a group that has no replica here, its preferred leader is not guessed.
fn leader(shared: &Shared, group: u64) -> Option<u64> {
    shared.replicas.get(group)?.watermark().leader()
}

/// Makes a topic; answers once its groups are led, so that the client's first batch finds a leader.
pub(super) async fn create(
    shared: &Shared,
    name: String,
    partitions: u32,
    replicas: u32,
) -> Result<Reply, ApiError> {
    let nodes: Vec<u64> = shared.config.nodes.iter().map(|node| node.id).collect();
    let replicas = match replicas {
        0 => nodes.len().min(REPLICAS_DEFAULT) as u32,
        given => given,
    };
    let partitions_max = shared.config.limits.partitions_max;
    let command = Command::CreateTopic {
        name: name.clone(),
        partitions,
        replicas,
        nodes,
        partitions_max,
    };
    let created = shared.command(&command).await?;
    tracing::info!(
        topic = name,
        partitions,
        replicas,
        ?created,
        "topic created"
    );
    let Outcome::TopicCreated { topic: id } = created else {
        return Err(ApiError::Internal);
    };
    applied(shared, |state| state.has_made(id)).await?;
    if tokio::time::timeout(LEADERS_WITHIN, led(shared, &name))
        .await
        .is_err()
    {
        tracing::warn!(
            topic = name,
            "the topic was created, but not all of its partitions have a leader yet"
        );
    }
    Ok(Reply::TopicCreated)
}

/// Deletes a topic with all its records; answers once this node has forgotten it.
pub(super) async fn delete(shared: &Shared, name: String) -> Result<Reply, ApiError> {
    let deleted = shared
        .command(&Command::DeleteTopic { name: name.clone() })
        .await?;
    tracing::info!(topic = name, ?deleted, "topic deleted");
    let Outcome::TopicDeleted { topic: id } = deleted else {
        return Err(ApiError::Internal);
    };
    applied(shared, |state| {
        state.has_made(id) && state.topic(&name).is_none_or(|topic| topic.id != id)
    })
    .await?;
    Ok(Reply::TopicDeleted)
}

/// Waits until the state applied here satisfies `done`.
async fn applied(
    shared: &Shared,
    done: impl Fn(&crate::controller::State) -> bool,
) -> Result<(), ApiError> {
    let mut changes = shared.view.subscribe();
    let wait = async {
        while !done(&shared.view.state()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(APPLIED_WITHIN, wait)
        .await
        .map_err(|_| ApiError::Timeout)
}

/// Waits until each group of the topic that has a replica here is open and knows its leader.
async fn led(shared: &Shared, name: &str) {
    let here = shared.config.node.id;
    let state = shared.view.state();
    let Some(topic) = state.topic(name) else {
        return;
    };
    for partition in topic
        .partitions
        .iter()
        .filter(|partition| partition.replicas.contains(&here))
    {
        let group = loop {
            let mut reconciled = shared.reconciled.subscribe();
            match shared.replicas.get(partition.group) {
                Some(group) => break group,
                None if reconciled.changed().await.is_err() => return,
                None => {}
            }
        };
        if group.watermark().leader().is_none() {
            group.watermark().leader_changed(None).await;
        }
    }
}
