//! Finding the cluster: one connection to each node, who leads what, requests that are tried again.
//!
//! Owns connections and what is known of leaders. Knows messages and transport, nothing of records. On every walk of the
//! client. Connections are dialed when they are first needed and again after they were lost; what is known of leaders is a
//! hint that an answer `NotLeader`, a refusal or silence puts right.

mod call;
mod node;
mod reach;
mod silence;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use transport::{Connection, Credentials, Endpoint, RecvHalf, SendHalf, TransportOptions};

use self::node::{Node, open};
pub(super) use self::reach::{Role, Unreached, Wanted};
use super::ClientError;
use super::admin::unexpected;
use super::backoff::Backoff;
use crate::config::{ClientConfig, NodeAddress};
use crate::wire::{ApiError, Metadata, Reply, Request, TopicInfo};

/// Time for finding the first node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one attempt at a request, before another node is tried.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one question about leaders: it is asked of all nodes at once.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// What was learned less than this ago is not asked again.
const METADATA_FRESH: Duration = Duration::from_millis(20);

/// Whom a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Whoever answers.
    Any,
    /// The leader of group 0, or whoever answers while it is not known.
    Controller,
    /// The leader of a group, or whoever answers while it is not known.
    Leader(u64),
}

/// What is shared by everything a client does.
#[derive(Debug)]
pub(super) struct Cluster {
    endpoint: Endpoint,
    nodes: Mutex<BTreeMap<u64, Arc<Node>>>,
    /// The nodes of the settings.
    seeds: BTreeSet<u64>,
    known: Mutex<Known>,
    /// Held while leaders are asked for, so that many who need to know ask once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    controller: Option<u64>,
    topics: HashMap<String, (Arc<TopicInfo>, Instant)>,
    /// Leaders by group, from metadata and from hints.
    leaders: HashMap<u64, u64>,
}

/// One attempt at a request failed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The node could not be reached, or went away, or was silent.
    Unreachable(String),
    /// The node answered with an error.
    Refused(ApiError),
    /// The node answered nonsense.
    Protocol(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(reason) | Self::Protocol(reason) => f.write_str(reason),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl Cluster {
    /// Loads certificates, opens a socket, and asks the nodes of `config` until one answers.
    pub(super) async fn connect(config: &ClientConfig) -> Result<Self, ClientError> {
        let credentials = Credentials::load(&config.ca, &config.cert, &config.key)?;
        let options = TransportOptions {
            idle_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(2),
            ..TransportOptions::default()
        };
        let mtu_max = config.mtu_max.and_then(|bytes| u16::try_from(bytes).ok());
        let options = options.with_mtu_max(mtu_max.unwrap_or(u16::MAX));
        let cluster = Self::new(Endpoint::client(&credentials, &options)?, &config.nodes);
        let (deadline, mut backoff) = (Instant::now() + CONNECT_TIMEOUT, Backoff::new());
        loop {
            match cluster.ask_all(Some(Vec::new()), None).await {
                Ok(_) => return Ok(cluster),
                Err(tried) if Instant::now() >= deadline => {
                    return Err(ClientError::NoNode { tried });
                }
                Err(_) => tokio::time::sleep(backoff.pause()).await,
            }
        }
    }

    /// Knows `nodes`, and is connected to none of them yet.
    fn new(endpoint: Endpoint, nodes: &[NodeAddress]) -> Self {
        let known = nodes
            .iter()
            .map(|node| (node.id, Node::new(node.id, node.address.clone())));
        Self {
            seeds: nodes.iter().map(|node| node.id).collect(),
            endpoint,
            nodes: Mutex::new(known.collect()),
            known: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) async fn close(&self) {
        self.endpoint
            .close(transport::close::STOPPING, "the client is done")
            .await;
    }

    fn node(&self, node: u64) -> Result<Arc<Node>, Failure> {
        let found = lock(&self.nodes).get(&node).cloned();
        found.ok_or_else(|| Failure::Unreachable(format!("node {node} is not known")))
    }

    /// A new stream to `node`, and the connection it is on, dialed if need be.
    pub(super) async fn open(
        &self,
        node: u64,
    ) -> Result<(Connection, SendHalf, RecvHalf), Failure> {
        let connection = self.node(node)?.connection(&self.endpoint).await?;
        let (send, recv) = open(&connection).await?;
        Ok((connection, send, recv))
    }

    /// The others say that `node` is there, and nothing comes on `silent`: dials it anew, aside from everything else. Once it has answered,
    /// the silent connection is closed, and whoever is on it finds the new one.
    pub(super) fn dial_beside(&self, node: u64, silent: &Connection) {
        if let Ok(found) = self.node(node) {
            let (endpoint, silent) = (self.endpoint.clone(), silent.clone());
            tokio::spawn(async move { found.dial_beside(&endpoint, &silent).await });
        }
    }

    /// One request to one node, on a stream of its own.
    pub(super) async fn request(
        &self,
        node: u64,
        request: &Request,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let found = self.node(node)?;
        found.ask(&self.endpoint, request, limit).await
    }

    /// A topic as it was last seen, or asked for if it was not.
    pub(super) async fn topic(&self, name: &str) -> Result<Arc<TopicInfo>, ClientError> {
        let seen = lock(&self.known)
            .topics
            .get(name)
            .map(|(topic, _)| Arc::clone(topic));
        match seen {
            Some(topic) => Ok(topic),
            None => self.refresh(name, None).await,
        }
    }

    /// Asks for a topic's leaders anew, of any node but `avoid`.
    pub(super) async fn refresh(
        &self,
        name: &str,
        avoid: Option<u64>,
    ) -> Result<Arc<TopicInfo>, ClientError> {
        let _one_at_a_time = self.asking.lock().await;
        if let Some((topic, at)) = lock(&self.known).topics.get(name)
            && at.elapsed() < METADATA_FRESH
        {
            return Ok(Arc::clone(topic));
        }
        self.ask_all(Some(vec![name.to_owned()]), avoid)
            .await
            .map_err(|tried| ClientError::NoNode { tried })?;
        let seen = lock(&self.known)
            .topics
            .get(name)
            .map(|(topic, _)| Arc::clone(topic));
        seen.ok_or(ClientError::Refused(ApiError::UnknownTopic))
    }

    /// A topic that may have been made a moment ago: nodes that have not heard of it yet get a second to do so.
    pub(super) async fn young_topic(&self, name: &str) -> Result<Arc<TopicInfo>, ClientError> {
        let mut backoff = Backoff::new();
        for _ in 0..6 {
            match self.topic(name).await {
                Err(ClientError::Refused(ApiError::UnknownTopic) | ClientError::NoNode { .. }) => {}
                other => return other,
            }
            tokio::time::sleep(backoff.pause()).await;
        }
        self.topic(name).await
    }

    /// Waits until every partition of a topic that was just made has a leader, or it was deleted again, or until `deadline`.
    pub(super) async fn wait_for_leaders(&self, name: &str, deadline: Instant) {
        let mut backoff = Backoff::new();
        while Instant::now() < deadline {
            let is_led = |topic: &TopicInfo| topic.partitions.iter().all(|p| p.leader.is_some());
            match self.refresh(name, None).await {
                Ok(topic) if is_led(&topic) => return,
                // That it is not there is never said from memory, so somebody has deleted it.
                Err(ClientError::Refused(ApiError::UnknownTopic)) => return,
                _ => {}
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// A producer id and its epoch.
    pub(super) async fn producer_id(&self, limit: Duration) -> Result<(u64, u32), ClientError> {
        match self.call(Target::Any, &Request::ProducerId, limit).await? {
            (_, Reply::ProducerId { id, epoch }) => Ok((id, epoch)),
            (node, other) => Err(unexpected(node, &other)),
        }
    }

    /// Takes in who leads a group, as a node said.
    pub(super) fn learn_leader(&self, group: u64, leader: u64, address: &str) {
        self.learn_node(leader, address);
        lock(&self.known).leaders.insert(group, leader);
    }

    /// Forgets that `node` leads a group: it turned out not to.
    pub(super) fn forget_leader(&self, group: u64, node: u64) {
        let mut known = lock(&self.known);
        if known.leaders.get(&group) == Some(&node) {
            known.leaders.remove(&group);
        }
    }

    /// Who leads a group, as far as is known.
    pub(super) fn leader(&self, group: u64) -> Option<u64> {
        lock(&self.known).leaders.get(&group).copied()
    }

    /// Takes in where a node listens; an address that a node did not know is empty.
    fn learn_node(&self, id: u64, address: &str) {
        if address.is_empty() {
            return;
        }
        lock(&self.nodes)
            .entry(id)
            .or_insert_with(|| Node::new(id, address.to_owned()));
    }

    /// Takes in the nodes of the cluster, and lets go of those that are in it no more; the ones of the settings stay in any case.
    fn keep_nodes(&self, metadata: &Metadata) {
        for node in &metadata.nodes {
            self.learn_node(node.id, &node.address);
        }
        let known = |id: &u64| metadata.nodes.iter().any(|node| node.id == *id);
        lock(&self.nodes).retain(|id, _| known(id) || self.seeds.contains(id));
    }

    fn preferred(&self, target: Target) -> Option<u64> {
        match target {
            Target::Any => None,
            Target::Controller => lock(&self.known).controller,
            Target::Leader(group) => self.leader(group),
        }
    }

    /// Asks all nodes but `avoid` at once for metadata, and takes the first answer in. Else each node's failure.
    async fn ask_all(&self, topics: Option<Vec<String>>, avoid: Option<u64>) -> Result<(), String> {
        let asked = topics.clone().unwrap_or_default();
        let nodes: Vec<Arc<Node>> = lock(&self.nodes)
            .values()
            .filter(|node| Some(node.id) != avoid)
            .cloned()
            .collect();
        let mut attempts = JoinSet::new();
        for node in nodes {
            let (endpoint, request) = (
                self.endpoint.clone(),
                Request::Metadata {
                    topics: topics.clone(),
                },
            );
            attempts.spawn(async move {
                (
                    node.id,
                    node.ask(&endpoint, &request, METADATA_TIMEOUT).await,
                )
            });
        }
        let mut tried = Vec::new();
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok((_, Ok(Reply::Metadata(metadata)))) => {
                    self.take_in(metadata, &asked);
                    return Ok(());
                }
                Ok((id, Ok(_))) => tried.push(format!("node {id} answered another question")),
                Ok((id, Err(failure))) => tried.push(format!("node {id}: {failure}")),
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(tried.join("; "))
    }

    fn take_in(&self, metadata: Metadata, asked: &[String]) {
        self.keep_nodes(&metadata);
        let mut known = lock(&self.known);
        known.controller = metadata.controller_leader.or(known.controller);
        for name in asked {
            known.topics.remove(name);
        }
        let now = Instant::now();
        for topic in metadata.topics {
            for partition in &topic.partitions {
                match partition.leader {
                    Some(leader) => known.leaders.insert(partition.group, leader),
                    None => known.leaders.remove(&partition.group),
                };
            }
            known
                .topics
                .insert(topic.name.clone(), (Arc::new(topic), now));
        }
    }
}

/// Anything that went wrong between here and a node.
pub(super) fn unreachable(error: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(error.to_string())
}

/// The lock; what it guards stays sound if a holder panicked, since every change is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "link/silent_tests.rs"]
mod tests;
