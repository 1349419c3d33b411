//! Topics as a client asks for them: who leads what, create, delete.
//!
//! Reads the controller's view; changes go through the controller's group. Must not know how replicas are placed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::controller::{CONTROLLER_GROUP, Command, Outcome, Topic};
use crate::wire::{ApiError, Metadata, NodeInfo, PartitionInfo, ReplicaRole, Reply, TopicInfo};

/// How long a creator waits for the new groups to be led. The topic is there in any case.
const LEADERS_WITHIN: Duration = Duration::from_secs(5);
/// How long the answer to a change waits for the other nodes to apply it too.
const ELSEWHERE_WITHIN: Duration = Duration::from_secs(1);
/// Pause before a node that has not applied it yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How long a change that is committed may take to be applied on this node.
const APPLIED_WITHIN: Duration = Duration::from_secs(10);

/// Nodes, topics and leaders; all topics, or those of the given names that exist.
///
/// That a topic is *not* there is never said from memory alone: a node that has just started, or lags, asks the controller's leader how far
/// it must have read first, and says `Unavailable` if there is none.
pub(super) async fn metadata(
    shared: &Shared,
    names: Option<&[String]>,
) -> Result<Metadata, ApiError> {
    let known = shared.view.state();
    if names.is_none_or(|names| names.iter().any(|name| known.topic(name).is_none())) {
        shared.catch_up_with_controller().await?;
    }
    let state = shared.view.state();
    let chosen: Vec<&Arc<Topic>> = match names {
        Some(names) => names.iter().filter_map(|name| state.topic(name)).collect(),
        None => state.topics().collect(),
    };
    let elsewhere = leaders_elsewhere(shared, &chosen).await;
    let topics = chosen
        .into_iter()
        .map(|topic| topic_info(shared, topic, &elsewhere))
        .collect();
    let nodes = shared.nodes().into_iter();
    let nodes = nodes.map(|(id, address)| NodeInfo { id, address });
    Ok(Metadata {
        cluster: shared.config.node.cluster.clone(),
        controller_leader: leader(shared, CONTROLLER_GROUP),
        nodes: nodes.collect(),
        topics,
    })
}

fn topic_info(shared: &Shared, topic: &Topic, elsewhere: &HashMap<u64, u64>) -> TopicInfo {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(partition, placed)| PartitionInfo {
            partition,
            group: placed.group,
            leader: leader(shared, placed.group).or(elsewhere.get(&placed.group).copied()),
            replicas: placed.replicas.clone(),
        });
    TopicInfo {
        name: topic.name.clone(),
        id: topic.id,
        partitions: partitions.collect(),
    }
}

/// Leaders of the groups that have no replica here, as the nodes that hold them report.
async fn leaders_elsewhere(shared: &Shared, topics: &[&Arc<Topic>]) -> HashMap<u64, u64> {
    let here = shared.config.node.id;
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let foreign = partitions.filter(|partition| !partition.holders.contains(&here));
    let holders: BTreeSet<u64> = foreign
        .flat_map(|partition| partition.holders.iter().copied())
        .collect();
    let mut leaders = HashMap::new();
    for holder in holders {
        let report = shared.peers.report_of(holder).await.unwrap_or_default();
        let led = report
            .replicas
            .iter()
            .filter(|replica| replica.role == ReplicaRole::Leader);
        leaders.extend(led.map(|replica| (replica.group, holder)));
    }
    leaders
}

/// The leader of a group, if a replica here knows it.
fn leader(shared: &Shared, group: u64) -> Option<u64> {
    shared.replicas.get(group)?.watermark().leader()
}

/// Makes a topic; answers once its groups are led, so that the client's first batch finds a leader.
pub(super) async fn create(
    shared: &Shared,
    name: String,
    partitions: u32,
    replicas: u32,
    token: u64,
) -> Result<Reply, ApiError> {
    let partitions_max = shared.config.limits.partitions_max;
    let command = Command::CreateTopic {
        name: name.clone(),
        partitions,
        replicas,
        partitions_max,
        token,
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
    applied_elsewhere(shared).await;
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
    applied_elsewhere(shared).await;
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

/// Gives the other nodes that are up a moment to apply what is applied here, so that whoever asks one of them next finds it done.
async fn applied_elsewhere(shared: &Shared) {
    let Some(controller) = shared.replicas.get(CONTROLLER_GROUP) else {
        return;
    };
    let index = controller.watermark().applied_index();
    let everywhere = async {
        for node in shared.nodes().into_keys() {
            while node != shared.config.node.id && shared.peers.is_up(node) {
                let report = shared.peers.report_of(node).await.unwrap_or_default();
                let controller = report
                    .replicas
                    .iter()
                    .find(|replica| replica.group == CONTROLLER_GROUP);
                if controller
                    .is_some_and(|replica| replica.commit_index.min(replica.durable_index) >= index)
                {
                    break;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    };
    // Past the limit the change stands all the same; a node that is slow to hear of it will.
    let _ = tokio::time::timeout(ELSEWHERE_WITHIN, everywhere).await;
}

/// Whether the topic has not been deleted, as far as this node knows.
fn is_there(shared: &Shared, topic: &Topic) -> bool {
    let state = shared.view.state();
    state
        .topic(&topic.name)
        .is_some_and(|now| now.id == topic.id)
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
        .filter(|partition| partition.holders.contains(&here))
    {
        let group = loop {
            let mut reconciled = shared.reconciled.subscribe();
            match shared.replicas.get(partition.group) {
                Some(group) => break group,
                // Deleted meanwhile: nobody will lead it.
                None if !is_there(shared, topic) => return,
                None if reconciled.changed().await.is_err() => return,
                None => {}
            }
        };
        if group.watermark().leader().is_none() {
            group.watermark().leader_changed(None).await;
        }
    }
}
