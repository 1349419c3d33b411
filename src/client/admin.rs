//! Topics, status, leadership.
//!
//! Owns the administrative calls. Knows the link to the cluster, nothing of producers and consumers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ClientError;
use super::link::{Cluster, Failure, Target};
use crate::wire::{ApiError, ClusterStatus, Metadata, NodeUsage, Reply, Request, TopicInfo};

/// Time given to an administrative call unless set otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Administrative calls. Each is tried again, on other nodes too, until it is answered or its time is over.
#[derive(Debug, Clone)]
pub struct Admin {
    cluster: Arc<Cluster>,
    timeout: Duration,
}

impl Admin {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            timeout: TIMEOUT,
        }
    }

    /// Gives each call this much time instead of ten seconds.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Makes a topic, and waits until each of its partitions has a leader or the time is over. `replicas` 0 stands for the
    /// cluster's default. A topic that an earlier attempt of the same call has made, whose answer was lost, is not in its own way.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the name or the numbers cannot be or the topic exists; [`ClientError::Timeout`].
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        replicas: u32,
    ) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.timeout;
        let request = Request::CreateTopic {
            name: name.to_owned(),
            partitions,
            replicas,
            token: fastrand::u64(..),
        };
        match self
            .cluster
            .call(Target::Controller, &request, self.timeout)
            .await?
        {
            (_, Reply::TopicCreated) => self.cluster.wait_for_leaders(name, deadline).await,
            (node, other) => return Err(unexpected(node, &other)),
        }
        Ok(())
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is none of that name; [`ClientError::Timeout`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = Request::DeleteTopic {
            name: name.to_owned(),
        };
        match self
            .cluster
            .call(Target::Controller, &request, self.timeout)
            .await?
        {
            (_, Reply::TopicDeleted) => Ok(()),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub async fn list_topics(&self) -> Result<Vec<TopicInfo>, ClientError> {
        Ok(self.metadata(None).await?.topics)
    }

    /// One topic.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is none of that name; [`ClientError::Timeout`].
    pub async fn describe_topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let metadata = self.metadata(Some(vec![name.to_owned()])).await?;
        let found = metadata.topics.into_iter().find(|topic| topic.name == name);
        found.ok_or(ClientError::Refused(ApiError::UnknownTopic))
    }

    /// Nodes, topics and leaders as some node sees them. `None` asks for all topics.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub async fn metadata(&self, topics: Option<Vec<String>>) -> Result<Metadata, ClientError> {
        match self
            .cluster
            .call(Target::Any, &Request::Metadata { topics }, self.timeout)
            .await?
        {
            (_, Reply::Metadata(metadata)) => Ok(metadata),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    /// Every node and every group with its replicas.
    ///
    /// # Errors
    /// [`ClientError::Timeout`].
    pub async fn status(&self) -> Result<ClusterStatus, ClientError> {
        match self
            .cluster
            .call(Target::Any, &Request::ClusterStatus, self.timeout)
            .await?
        {
            (_, Reply::ClusterStatus(status)) => Ok(status),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    /// End of a partition, exclusive, linearizable: every record acked before this call lies below it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such topic, [`ClientError::UnknownPartition`], [`ClientError::Timeout`].
    pub async fn end_offset(&self, topic: &str, partition: u32) -> Result<u64, ClientError> {
        let group = self.group(topic, partition).await?;
        match self
            .cluster
            .call(
                Target::Leader(group),
                &Request::EndOffset { group },
                self.timeout,
            )
            .await?
        {
            (_, Reply::EndOffset { offset }) => Ok(offset),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    /// Hands leadership of a partition to the replica on node `to`.
    ///
    /// # Errors
    /// As [`end_offset`](Self::end_offset); [`ClientError::Refused`] if that node holds no replica.
    pub async fn transfer_leader(
        &self,
        topic: &str,
        partition: u32,
        to: u64,
    ) -> Result<(), ClientError> {
        let group = self.group(topic, partition).await?;
        let request = Request::TransferLeader { group, to };
        match self
            .cluster
            .call(Target::Leader(group), &request, self.timeout)
            .await?
        {
            (_, Reply::Transferred) => Ok(()),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    /// Makes the replica on node `to` the one that leads a partition whenever it can.
    ///
    /// # Errors
    /// As [`end_offset`](Self::end_offset); [`ClientError::Refused`] if that node holds no replica.
    pub async fn prefer_leader(
        &self,
        topic: &str,
        partition: u32,
        to: u64,
    ) -> Result<(), ClientError> {
        let group = self.group(topic, partition).await?;
        self.change(Request::PreferLeader { group, to }).await?;
        Ok(())
    }

    /// Hands leadership of the controller's group to node `to`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if that node has no vote in it; [`ClientError::Timeout`].
    pub async fn transfer_controller(&self, to: u64) -> Result<(), ClientError> {
        let request = Request::TransferLeader { group: 0, to };
        match self
            .cluster
            .call(Target::Controller, &request, self.timeout)
            .await?
        {
            (_, Reply::Transferred) => Ok(()),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    /// Takes a node into the cluster, which it joins as soon as it runs. It gets replicas of topics made from now on, and those that
    /// [`rebalance`](Self::rebalance) moves to it. Asking again for the same is no error, here and in the calls below.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the number or the address is taken, or was used before; [`ClientError::Timeout`].
    pub async fn add_node(&self, node: u64, address: &str) -> Result<(), ClientError> {
        let address = address.to_owned();
        self.change(Request::AddNode { node, address }).await?;
        Ok(())
    }

    /// Has a node give its replicas to the others; gives how many have to move. The node is forgotten once they have, which
    /// [`status`](Self::status) shows.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such node, it is the last one, or a topic has as many replicas as there are nodes;
    /// [`ClientError::Timeout`].
    pub async fn remove_node(&self, node: u64) -> Result<u64, ClientError> {
        self.change(Request::RemoveNode { node }).await
    }

    /// Has a new node take the place of another, dead or alive; gives how many replicas have to move.
    ///
    /// # Errors
    /// As [`add_node`](Self::add_node) and [`remove_node`](Self::remove_node).
    pub async fn replace_node(
        &self,
        old: u64,
        new: u64,
        address: &str,
    ) -> Result<u64, ClientError> {
        let address = address.to_owned();
        self.change(Request::ReplaceNode { old, new, address })
            .await
    }

    /// Evens out replicas and preferred leaders over the nodes; gives how many replicas have to move.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if a partition would come to stand on dead nodes; [`ClientError::Timeout`].
    pub async fn rebalance(&self) -> Result<u64, ClientError> {
        self.change(Request::Rebalance).await
    }

    /// What the process of a node has used of its machine. Asked once, of that node alone.
    ///
    /// # Errors
    /// [`ClientError::NoNode`] if it does not answer, [`ClientError::Refused`].
    pub async fn usage(&self, node: u64) -> Result<NodeUsage, ClientError> {
        let answer = self.cluster.request(node, &Request::Usage, self.timeout);
        match answer.await {
            Ok(Reply::Usage(usage)) => Ok(*usage),
            Ok(other) => Err(unexpected(node, &other)),
            Err(Failure::Refused(error)) => Err(ClientError::Refused(error)),
            Err(Failure::Protocol(reason)) => Err(ClientError::Protocol { node, reason }),
            Err(Failure::Unreachable(reason)) => Err(ClientError::NoNode {
                tried: format!("node {node}: {reason}"),
            }),
        }
    }

    async fn change(&self, request: Request) -> Result<u64, ClientError> {
        match self
            .cluster
            .call(Target::Controller, &request, self.timeout)
            .await?
        {
            (_, Reply::Changed { moves }) => Ok(moves),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    async fn group(&self, topic: &str, partition: u32) -> Result<u64, ClientError> {
        let info = self.describe_topic(topic).await?;
        let partitions = info.partitions.len() as u32;
        let found = info.partitions.iter().find(|p| p.partition == partition);
        found.map(|p| p.group).ok_or(ClientError::UnknownPartition {
            partition,
            partitions,
        })
    }
}

/// The error for a reply that answers another question.
pub(super) fn unexpected(node: u64, reply: &Reply) -> ClientError {
    match reply {
        Reply::Error { error, .. } => ClientError::Refused(error.clone()),
        _ => ClientError::Protocol {
            node,
            reason: String::from("it answered another question"),
        },
    }
}
