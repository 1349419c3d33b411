//! The nodes of the cluster: who joins, who leaves, where each partition shall be after that, and who has a say in group 0.
//!
//! The state says what shall be; the leader of each group brings it about and says when it has (`Settle`). So every command here takes
//! effect at once and whole, can be repeated, and can follow another whose moves are still under way. Must not know how a replica moves.

use std::collections::{BTreeMap, BTreeSet};

use super::balance::{self, Placed};
use super::command::{Outcome, Refusal};
use super::state::{Member, Partition, State, Topic};

/// Most nodes of one cluster, those that leave included.
pub const NODES_MAX: usize = 32;
/// Most voters of group 0; the other nodes are its learners.
pub const CONTROLLER_VOTERS_MAX: usize = 5;
/// Longest address of a node.
const ADDRESS_BYTES_MAX: usize = 256;

fn refuse<T>(reason: String) -> Result<T, Refusal> {
    Err(Refusal::InvalidChange { reason })
}

impl State {
    /// The nodes of the cluster, by number. Empty until the cluster is founded.
    pub fn nodes(&self) -> impl Iterator<Item = (u64, &Member)> {
        self.nodes.iter().map(|(node, member)| (*node, member))
    }

    /// One node of the cluster.
    pub fn node(&self, node: u64) -> Option<&Member> {
        self.nodes.get(&node)
    }

    /// Whether there was a node of that number and it has been removed.
    pub fn was_removed(&self, node: u64) -> bool {
        self.removed.contains(&node)
    }

    /// The numbers of the nodes that have been removed.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.removed.iter().copied()
    }

    /// The nodes that may get replicas.
    pub fn staying(&self) -> BTreeSet<u64> {
        let staying = self.nodes.iter().filter(|(_, member)| !member.leaving);
        staying.map(|(node, _)| *node).collect()
    }

    /// Nodes that leave and of which nothing is left in any partition: to be taken out of group 0, and then forgotten.
    pub fn emptied(&self) -> BTreeSet<u64> {
        let leaving = self.nodes.iter().filter(|(_, member)| member.leaving);
        let mut emptied: BTreeSet<u64> = leaving.map(|(node, _)| *node).collect();
        for partition in self.partitions() {
            for holder in &partition.holders {
                emptied.remove(holder);
            }
        }
        emptied
    }

    /// Who shall vote in group 0, and who shall only receive its log, given who votes now and who can be reached: the fewest changes.
    pub fn controller_members(
        &self,
        voters: &[u64],
        is_up: impl Fn(u64) -> bool,
    ) -> (Vec<u64>, Vec<u64>) {
        let mut shall: Vec<u64> = self.staying().into_iter().collect();
        shall.sort_by_key(|node| (!voters.contains(node), !is_up(*node), *node));
        shall.truncate(CONTROLLER_VOTERS_MAX);
        shall.sort_unstable();
        let emptied = self.emptied();
        let learners = self.nodes.keys().copied();
        let learners = learners.filter(|node| !shall.contains(node) && !emptied.contains(node));
        let learners = learners.collect();
        (shall, learners)
    }

    pub(super) fn found(&mut self, nodes: Vec<(u64, String)>) -> Result<Outcome, Refusal> {
        if !self.nodes.is_empty() {
            return Ok(Outcome::Changed { moves: 0 });
        }
        if nodes.is_empty() {
            return refuse("a cluster is not founded without nodes".to_owned());
        }
        let mut founded = State::default();
        for (node, address) in nodes {
            founded.check_new(node, &address)?;
            founded.join(node, address);
        }
        self.nodes = founded.nodes;
        Ok(Outcome::Changed { moves: 0 })
    }

    pub(super) fn add_node(&mut self, node: u64, address: String) -> Result<Outcome, Refusal> {
        self.check_founded()?;
        if self.is_staying_at(node, &address) {
            return Ok(Outcome::Changed { moves: 0 });
        }
        self.check_new(node, &address)?;
        self.join(node, address);
        Ok(Outcome::Changed { moves: 0 })
    }

    pub(super) fn remove_node(&mut self, node: u64) -> Result<Outcome, Refusal> {
        self.check_founded()?;
        if self.removed.contains(&node) || self.nodes.get(&node).is_some_and(|n| n.leaving) {
            return Ok(Outcome::Changed { moves: 0 });
        }
        self.check_known(node)?;
        self.check_none_leaves(None)?;
        let mut staying = self.staying();
        staying.remove(&node);
        if staying.is_empty() {
            return refuse(format!(
                "node {node} is the last node: a cluster has at least one"
            ));
        }
        let too_wide = |topic: &&std::sync::Arc<Topic>| {
            let mut partitions = topic.partitions.iter();
            partitions.any(|partition| partition.replicas.len() > staying.len())
        };
        if let Some(topic) = self.topics().find(too_wide) {
            return refuse(format!(
                "topic {} has {} replicas, and without node {node} there are {} nodes: add or replace a node instead, or delete the topic",
                topic.name,
                topic.partitions[0].replicas.len(),
                staying.len(),
            ));
        }
        self.leave(node);
        let mut placed = self.placed();
        balance::evict(&mut placed, &staying);
        balance::spread_leaders(&mut placed, &staying);
        Ok(self.place(placed))
    }

    pub(super) fn replace_node(
        &mut self,
        old: u64,
        new: u64,
        address: String,
    ) -> Result<Outcome, Refusal> {
        self.check_founded()?;
        if old == new {
            return refuse(format!(
                "node {old} cannot take its own place: a node that comes back with an empty disk is another node, and gets a number that was never used"
            ));
        }
        let done = self.removed.contains(&old) && self.is_staying_at(new, &address);
        if done {
            return Ok(Outcome::Changed { moves: 0 });
        }
        self.check_known(old)?;
        let has_joined = self.is_staying_at(new, &address);
        self.check_none_leaves(has_joined.then_some(old))?;
        if !has_joined {
            self.check_new(new, &address)?;
            self.join(new, address);
        }
        self.leave(old);
        let mut placed = self.placed();
        for partition in &mut placed {
            if !partition.replicas.contains(&new) {
                let places = partition.replicas.iter_mut();
                places
                    .filter(|node| **node == old)
                    .for_each(|node| *node = new);
            }
        }
        let staying = self.staying();
        balance::evict(&mut placed, &staying);
        balance::spread_leaders(&mut placed, &staying);
        Ok(self.place(placed))
    }

    pub(super) fn rebalance(&mut self) -> Result<Outcome, Refusal> {
        self.check_founded()?;
        self.check_none_leaves(None)?;
        let staying = self.staying();
        let mut placed = self.placed();
        balance::even_out(&mut placed, &staying);
        balance::spread_leaders(&mut placed, &staying);
        Ok(self.place(placed))
    }

    pub(super) fn prefer_leader(&mut self, group: u64, node: u64) -> Result<Outcome, Refusal> {
        let Some((topic, partition)) = self.group(group) else {
            return refuse(format!("there is no partition with the group {group}"));
        };
        let mut replicas = topic.partitions[partition as usize].replicas.clone();
        let Some(place) = replicas.iter().position(|replica| *replica == node) else {
            return refuse(format!(
                "node {node} holds no replica of partition {partition} of {}: its replicas are on {replicas:?}",
                topic.name,
            ));
        };
        replicas.swap(0, place);
        Ok(self.place(vec![Placed {
            group,
            topic: topic.id,
            replicas,
        }]))
    }

    pub(super) fn settle(&mut self, groups: &[(u64, u64)]) -> Outcome {
        let reached: BTreeMap<u64, u64> = groups.iter().copied().collect();
        self.update(|partition| {
            let version = reached.get(&partition.group);
            version.is_some_and(|version| partition.settle(*version))
        });
        Outcome::Changed { moves: 0 }
    }

    pub(super) fn forget_node(&mut self, node: u64) -> Result<Outcome, Refusal> {
        if self.removed.contains(&node) {
            return Ok(Outcome::Changed { moves: 0 });
        }
        self.check_known(node)?;
        if !self.emptied().contains(&node) {
            return refuse(format!(
                "node {node} does not leave, or still holds replicas"
            ));
        }
        self.nodes.remove(&node);
        self.removed.insert(node);
        Ok(Outcome::Changed { moves: 0 })
    }

    fn check_founded(&self) -> Result<(), Refusal> {
        match self.nodes.is_empty() {
            true => Err(Refusal::Unfounded),
            false => Ok(()),
        }
    }

    /// One node leaves at a time. A command that is repeated goes on: it is about `again`.
    fn check_none_leaves(&self, again: Option<u64>) -> Result<(), Refusal> {
        let mut leaving = self.nodes.iter().filter(|(_, member)| member.leaving);
        match leaving.find(|(node, _)| Some(**node) != again) {
            None => Ok(()),
            Some((node, _)) => refuse(format!(
                "node {node} is leaving: wait until `plimsoll cluster status` shows it no longer, or repeat the command that removes it to see how far it is"
            )),
        }
    }

    fn check_known(&self, node: u64) -> Result<(), Refusal> {
        if self.nodes.contains_key(&node) {
            return Ok(());
        }
        let known: Vec<String> = self.nodes.keys().map(u64::to_string).collect();
        refuse(format!(
            "there is no node {node} in the cluster; its nodes are {}",
            known.join(", ")
        ))
    }

    /// Whether a node of that number and address is part of the cluster for good.
    fn is_staying_at(&self, node: u64, address: &str) -> bool {
        let member = self.nodes.get(&node);
        member.is_some_and(|member| !member.leaving && member.address == address)
    }

    fn check_new(&self, node: u64, address: &str) -> Result<(), Refusal> {
        if node == 0 {
            return refuse("nodes are numbered from 1".to_owned());
        }
        if self.removed.contains(&node) {
            return refuse(format!(
                "there was a node {node} and it was removed: give a number that was never used"
            ));
        }
        if let Some(member) = self.nodes.get(&node) {
            let what = match member.leaving {
                true => "and it is leaving",
                false => "already",
            };
            return refuse(format!(
                "node {node} is in the cluster {what}, at {}: give a number that was never used",
                member.address
            ));
        }
        if !is_address(address) {
            return refuse(format!(
                "{address:?} is no address: write host:port, the port 1 to 65535"
            ));
        }
        if let Some((other, _)) = self.nodes().find(|(_, member)| member.address == address) {
            return refuse(format!("{address} is the address of node {other}"));
        }
        if self.nodes.len() >= NODES_MAX {
            return refuse(format!("a cluster has at most {NODES_MAX} nodes"));
        }
        Ok(())
    }

    fn join(&mut self, node: u64, address: String) {
        let member = Member {
            address,
            leaving: false,
        };
        self.nodes.insert(node, member);
    }

    fn leave(&mut self, node: u64) {
        if let Some(member) = self.nodes.get_mut(&node) {
            member.leaving = true;
        }
    }

    /// Where all partitions shall be now, by group.
    fn placed(&self) -> Vec<Placed> {
        let placed = self.groups.values().map(|(topic, partition)| {
            let partition = &topic.partitions[*partition as usize];
            Placed {
                group: partition.group,
                topic: topic.id,
                replicas: partition.replicas.clone(),
            }
        });
        placed.collect()
    }

    /// Sets where partitions shall be, and counts the replicas that have to move for that.
    fn place(&mut self, placed: Vec<Placed>) -> Outcome {
        let mut shall: BTreeMap<u64, Vec<u64>> =
            placed.into_iter().map(|p| (p.group, p.replicas)).collect();
        let mut moves = 0;
        self.update(|partition| {
            let Some(replicas) = shall.remove(&partition.group) else {
                return false;
            };
            if replicas == partition.replicas {
                return false;
            }
            let new = |node: &&u64| !partition.replicas.contains(node);
            moves += replicas.iter().filter(new).count() as u64;
            partition.place_on(replicas);
            true
        });
        Outcome::Changed { moves }
    }

    /// Offers every partition to `change`, which says whether it changed it.
    fn update(&mut self, mut change: impl FnMut(&mut Partition) -> bool) {
        let topics: Vec<_> = self.topics.values().cloned().collect();
        for topic in topics {
            let mut partitions = topic.partitions.clone();
            let mut changed = false;
            for partition in &mut partitions {
                changed |= change(partition);
            }
            if changed {
                self.insert(Topic {
                    partitions,
                    ..Topic::clone(&topic)
                });
            }
        }
    }
}

/// `host:port`, with a port that can be dialed.
fn is_address(address: &str) -> bool {
    let port = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && !host.contains(char::is_whitespace))
        .and_then(|(_, port)| port.parse::<u16>().ok());
    address.len() <= ADDRESS_BYTES_MAX && port.is_some_and(|port| port > 0)
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
