//! The controller's state and the one function that changes it. Deterministic: the same commands give the same state on every node.
//!
//! Must not know logs, nodes' configurations or the network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::{Command, Outcome, Refusal};
use super::placement::{self, Load};
use crate::wire::topic_name;

/// Most partitions one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 1_024;
/// Most producer ids one command may take.
pub const PRODUCER_ID_BLOCK_MAX: u64 = 1 << 20;

/// Replicas of a partition when the creator leaves it to the cluster: as many as survive one failure.
const REPLICAS_DEFAULT: u32 = 3;

/// A topic as group 0 knows it.
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

/// One partition of a topic: where it shall be, and where it may be meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its Raft group, never used again after the topic is deleted.
    pub group: u64,
    /// The voters its group was created with, ascending.
    pub founders: Vec<u64>,
    /// The nodes that shall hold it; the first is the preferred leader.
    pub replicas: Vec<u64>,
    /// The nodes that may hold it, ascending: those that shall, and those that a move under way has not yet been seen to have left.
    pub holders: Vec<u64>,
    /// Counts the changes of the set of `replicas`, so that word of an earlier one is not taken for this one's.
    pub version: u64,
    /// Whether its group is known to have become what it shall be.
    pub settled: bool,
}

impl Partition {
    /// A new partition on `replicas`, which its group is created with.
    pub(super) fn new(group: u64, replicas: Vec<u64>) -> Partition {
        let mut founders = replicas.clone();
        founders.sort_unstable();
        Partition {
            group,
            holders: founders.clone(),
            founders,
            replicas,
            version: 0,
            settled: true,
        }
    }

    /// Sets where it shall be. What may hold it grows by that; it shrinks when the move is known to be over.
    pub(super) fn place_on(&mut self, replicas: Vec<u64>) {
        let set = |list: &[u64]| -> BTreeSet<u64> { list.iter().copied().collect() };
        if set(&replicas) != set(&self.replicas) {
            let mut holders = set(&self.holders);
            holders.extend(&replicas);
            self.holders = holders.into_iter().collect();
            self.version += 1;
            self.settled = false;
        }
        self.replicas = replicas;
    }

    /// Its group has become what `version` of the target asked for. False if that is news of an earlier one, or no news.
    pub(super) fn settle(&mut self, version: u64) -> bool {
        if self.settled || version != self.version {
            return false;
        }
        self.settled = true;
        self.holders.clone_from(&self.replicas);
        self.holders.sort_unstable();
        true
    }
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `host:port` of its QUIC endpoint.
    pub address: String,
    /// Whether it gives its replicas away, to be forgotten.
    pub leaving: bool,
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
    /// The nodes of the cluster; empty until it is founded.
    pub(super) nodes: BTreeMap<u64, Member>,
    /// Numbers of nodes that were removed, never used again.
    pub(super) removed: BTreeSet<u64>,
}

impl Default for State {
    fn default() -> State {
        State {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_group: 1,
            next_topic: 1,
            next_producer: 1,
            nodes: BTreeMap::new(),
            removed: BTreeSet::new(),
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

    /// The partition that `group` holds.
    pub fn partition(&self, group: u64) -> Option<&Partition> {
        let (topic, partition) = self.groups.get(&group)?;
        topic.partitions.get(*partition as usize)
    }

    /// All partitions of all topics, by group.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.groups
            .values()
            .map(|(topic, partition)| &topic.partitions[*partition as usize])
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
                partitions_max,
                token,
            } => self.create_topic(name, partitions, replicas, partitions_max, token),
            Command::DeleteTopic { name } => self.delete_topic(&name),
            Command::AllocateProducerIds { count } => self.allocate_producer_ids(count),
            Command::Found { nodes } => self.found(nodes),
            Command::AddNode { node, address } => self.add_node(node, address),
            Command::RemoveNode { node } => self.remove_node(node),
            Command::ReplaceNode { old, new, address } => self.replace_node(old, new, address),
            Command::Rebalance => self.rebalance(),
            Command::PreferLeader { group, node } => self.prefer_leader(group, node),
            Command::Settle { groups } => Ok(self.settle(&groups)),
            Command::ForgetNode { node } => self.forget_node(node),
        };
        done.unwrap_or_else(Outcome::Refused)
    }

    fn create_topic(
        &mut self,
        name: String,
        partitions: u32,
        replicas: u32,
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
        let mut load = self.load();
        if load.is_empty() {
            return Err(Refusal::Unfounded);
        }
        let replicas = match replicas {
            0 => REPLICAS_DEFAULT.min(load.len() as u32),
            given => given,
        };
        self.check_numbers(partitions, replicas, load.len(), partitions_max)?;
        let placed = placement::place(&mut load, partitions, replicas);
        let partitions = (self.next_group..)
            .zip(placed)
            .map(|(group, replicas)| Partition::new(group, replicas))
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
        nodes: usize,
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
        if replicas as usize > nodes {
            return refuse(format!(
                "{replicas} replicas: this cluster can hold 1 to {nodes}"
            ));
        }
        Ok(())
    }

    /// What each node that may get replicas carries.
    fn load(&self) -> BTreeMap<u64, Load> {
        let staying = self.staying().into_iter();
        let mut load: BTreeMap<u64, Load> = staying.map(|node| (node, Load::default())).collect();
        for partition in self.partitions() {
            for (place, node) in partition.replicas.iter().enumerate() {
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
