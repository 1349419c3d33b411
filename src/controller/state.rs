//! The controller's state and the one function that changes it. Deterministic: the same commands give the same state on every node.
//!
//! Must not know logs, nodes' configurations or the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Command, Outcome, Refusal};
use super::placement::{self, Load};
use crate::wire::topic_name;

/// Most partitions one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 1_024;
/// Most producer ids one command may take.
pub const PRODUCER_ID_BLOCK_MAX: u64 = 1 << 20;
/// Most nodes a command may name: far above any cluster, far below what would hurt.
const NODES_MAX: usize = 1_000;

/// A topic as group 0 knows it. Never changed once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name, unique among the topics that exist.
    pub name: String,
    /// Its number, never used again after it is deleted.
    pub id: u64,
    /// What its creator drew; see [`Command::CreateTopic`].
    pub token: u64,
    /// Its partitions; partition `p` is at position `p`.
    pub partitions: Vec<Partition>,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its Raft group, never used again after the topic is deleted.
    pub group: u64,
    /// The nodes that hold it; the first is the preferred leader.
    pub replicas: Vec<u64>,
}

/// Everything group 0 has agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(super) topics: BTreeMap<String, Arc<Topic>>,
    /// Group -> its topic and partition. Redundant to `topics`, kept for looking up.
    pub(super) groups: BTreeMap<u64, (Arc<Topic>, u32)>,
    /// The next group to be given out; all groups ever used are below it.
    pub(super) next_group: u64,
    pub(super) next_topic: u64,
    pub(super) next_producer: u64,
}

impl Default for State {
    fn default() -> State {
        State {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_group: 1,
            next_topic: 1,
            next_producer: 1,
        }
    }
}

impl State {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The topic and partition that `group` holds.
    pub fn group(&self, group: u64) -> Option<(&Arc<Topic>, u32)> {
        self.groups
            .get(&group)
            .map(|(topic, partition)| (topic, *partition))
    }

    /// All partition groups that exist, ascending, with their replicas; the first replica is the preferred leader.
    pub fn groups(&self) -> impl Iterator<Item = (u64, &[u64])> {
        self.groups.iter().map(|(group, (topic, partition))| {
            (
                *group,
                topic.partitions[*partition as usize].replicas.as_slice(),
            )
        })
    }

    /// Whether the creation of topic number `id` has been applied; the topic may be deleted again.
    pub fn has_made(&self, id: u64) -> bool {
        id < self.next_topic
    }

    /// Whether `group` held a partition once and its topic has been deleted since: its files may go.
    pub fn is_deleted(&self, group: u64) -> bool {
        group != super::CONTROLLER_GROUP
            && group < self.next_group
            && !self.groups.contains_key(&group)
    }

    /// Carries out one command. A refused command changes nothing.
    pub fn apply(&mut self, command: Command) -> Outcome {
        let done = match command {
            Command::CreateTopic {
                name,
                partitions,
                replicas,
                nodes,
                partitions_max,
                token,
            } => self.create_topic(name, partitions, replicas, nodes, partitions_max, token),
            Command::DeleteTopic { name } => self.delete_topic(&name),
            Command::AllocateProducerIds { count } => self.allocate_producer_ids(count),
        };
        done.unwrap_or_else(Outcome::Refused)
    }

    fn create_topic(
        &mut self,
        name: String,
        partitions: u32,
        replicas: u32,
        mut nodes: Vec<u64>,
        partitions_max: u32,
        token: u64,
    ) -> Result<Outcome, Refusal> {
        topic_name::check(&name).map_err(|reason| Refusal::InvalidTopic { reason })?;
        match self.topics.get(&name) {
            // The same creation again, whose first answer was lost.
            Some(topic) if topic.token == token => {
                return Ok(Outcome::TopicCreated { topic: topic.id });
            }
            Some(_) => return Err(Refusal::TopicExists),
            None => {}
        }
        nodes.sort_unstable();
        nodes.dedup();
        self.check_numbers(partitions, replicas, &nodes, partitions_max)?;
        let placed = placement::place(&mut self.load_of(&nodes), partitions, replicas);
        let partitions = (self.next_group..)
            .zip(placed)
            .map(|(group, replicas)| Partition { group, replicas })
            .collect();
        let topic = Topic {
            name,
            id: self.next_topic,
            token,
            partitions,
        };
        self.next_topic += 1;
        self.next_group += topic.partitions.len() as u64;
        let id = topic.id;
        self.insert(topic);
        Ok(Outcome::TopicCreated { topic: id })
    }

    fn check_numbers(
        &self,
        partitions: u32,
        replicas: u32,
        nodes: &[u64],
        partitions_max: u32,
    ) -> Result<(), Refusal> {
        let refuse = |reason: String| Err(Refusal::InvalidRequest { reason });
        if partitions == 0 || partitions > PARTITIONS_PER_TOPIC_MAX {
            return refuse(format!(
                "{partitions} partitions: a topic has 1 to {PARTITIONS_PER_TOPIC_MAX}"
            ));
        }
        if self.groups.len() + partitions as usize > partitions_max as usize {
            return refuse(format!(
                "the cluster has {} partitions of {partitions_max} at most",
                self.groups.len()
            ));
        }
        if nodes.len() > NODES_MAX || nodes.first() == Some(&0) {
            return refuse(format!(
                "nodes are numbered from 1, and there are {NODES_MAX} at most"
            ));
        }
        if replicas == 0 || replicas as usize > nodes.len() {
            return refuse(format!(
                "{replicas} replicas: this cluster can hold 1 to {}",
                nodes.len()
            ));
        }
        Ok(())
    }

    fn load_of(&self, nodes: &[u64]) -> BTreeMap<u64, Load> {
        let mut load: BTreeMap<u64, Load> =
            nodes.iter().map(|node| (*node, Load::default())).collect();
        for (_, replicas) in self.groups() {
            for (place, node) in replicas.iter().enumerate() {
                if let Some(count) = load.get_mut(node) {
                    count.replicas += 1;
                    count.preferred += u64::from(place == 0);
                }
            }
        }
        load
    }

    fn delete_topic(&mut self, name: &str) -> Result<Outcome, Refusal> {
        let topic = self.topics.remove(name).ok_or(Refusal::UnknownTopic)?;
        for partition in &topic.partitions {
            self.groups.remove(&partition.group);
        }
        Ok(Outcome::TopicDeleted { topic: topic.id })
    }

    fn allocate_producer_ids(&mut self, count: u64) -> Result<Outcome, Refusal> {
        if count == 0 || count > PRODUCER_ID_BLOCK_MAX {
            return Err(Refusal::InvalidRequest {
                reason: format!("{count} producer ids: a block has 1 to {PRODUCER_ID_BLOCK_MAX}"),
            });
        }
        let first = self.next_producer;
        self.next_producer += count;
        Ok(Outcome::ProducerIds { first, count })
    }

    /// Adds a topic whose groups and number are settled.
    pub(super) fn insert(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        for (number, partition) in (0..).zip(&topic.partitions) {
            self.groups
                .insert(partition.group, (Arc::clone(&topic), number));
        }
        self.topics.insert(topic.name.clone(), topic);
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
