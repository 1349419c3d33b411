//! How replicas and preferred leaders are evened out over the nodes: the fewest moves that do it, and the same on every node that works
//! it out.
//!
//! Pure arithmetic over lists of node numbers; must not know names, addresses, or how a move is carried out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One partition as it shall be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its group.
    pub(super) group: u64,
    /// The number of its topic.
    pub(super) topic: u64,
    /// The nodes that shall hold it; the first is the preferred leader.
    pub(super) replicas: Vec<u64>,
}

/// Replicas per node, in all and by topic.
struct Counts {
    all: BTreeMap<u64, usize>,
    by_topic: BTreeMap<(u64, u64), usize>,
}

impl Counts {
    fn new(partitions: &[Placed], nodes: &BTreeSet<u64>) -> Counts {
        let mut counts = Counts {
            all: nodes.iter().map(|node| (*node, 0)).collect(),
            by_topic: BTreeMap::new(),
        };
        for partition in partitions {
            for node in &partition.replicas {
                counts.add(partition.topic, *node);
            }
        }
        counts
    }

    /// A node that is not to hold anything is not counted.
    fn add(&mut self, topic: u64, node: u64) {
        if let Some(count) = self.all.get_mut(&node) {
            *count += 1;
            *self.by_topic.entry((topic, node)).or_default() += 1;
        }
    }

    fn shift(&mut self, topic: u64, from: u64, to: u64) {
        if let Some(count) = self.all.get_mut(&from) {
            *count -= 1;
            *self.by_topic.entry((topic, from)).or_default() -= 1;
        }
        self.add(topic, to);
    }

    fn of_topic(&self, topic: u64, node: u64) -> usize {
        self.by_topic.get(&(topic, node)).copied().unwrap_or(0)
    }
}

/// Gives each replica on a node outside `nodes` to the node with the fewest that does not hold the partition yet. There must be one:
/// no partition has more replicas than there are `nodes`.
pub(super) fn evict(partitions: &mut [Placed], nodes: &BTreeSet<u64>) {
    let mut counts = Counts::new(partitions, nodes);
    for partition in partitions {
        for place in 0..partition.replicas.len() {
            let from = partition.replicas[place];
            if nodes.contains(&from) {
                continue;
            }
            let to = nodes
                .iter()
                .filter(|node| !partition.replicas.contains(node))
                .min_by_key(|node| (counts.all[node], counts.of_topic(partition.topic, **node)))
                .expect("the caller checked that there are enough nodes");
            partition.replicas[place] = *to;
            counts.shift(partition.topic, from, *to);
        }
    }
}

/// Moves as few replicas as it takes until no node has two more than another. All replicas must be on `nodes`.
///
/// Takes from topics that crowd the fuller node, and leaves preferred leaders where they are if it can.
pub(super) fn even_out(partitions: &mut [Placed], nodes: &BTreeSet<u64>) {
    let mut counts = Counts::new(partitions, nodes);
    loop {
        let fullest = nodes.iter().max_by_key(|node| (counts.all[node], **node));
        let emptiest = nodes.iter().min_by_key(|node| (counts.all[node], **node));
        let (Some(from), Some(to)) = (fullest, emptiest) else {
            return;
        };
        if counts.all[from] < counts.all[to] + 2 {
            return;
        }
        let crowding = |topic| {
            counts
                .of_topic(topic, *from)
                .saturating_sub(counts.of_topic(topic, *to))
        };
        let chosen = partitions
            .iter_mut()
            .filter(|p| p.replicas.contains(from) && !p.replicas.contains(to))
            .min_by_key(|p| {
                let leads = p.replicas[0] == *from;
                (usize::MAX - crowding(p.topic), leads, p.group)
            })
            .expect("the fuller node holds a partition that the other does not");
        let place = chosen.replicas.iter().position(|node| node == from);
        chosen.replicas[place.expect("it was chosen for holding one")] = *to;
        let topic = chosen.topic;
        counts.shift(topic, *from, *to);
    }
}

/// Chooses preferred leaders among the replicas that each partition has, so that no exchange could spread them better; changes as few as
/// it finds.
///
/// Leads go along a chain from a node with many to a node with two fewer: each node of the chain gives one to the next.
pub(super) fn spread_leaders(partitions: &mut [Placed], nodes: &BTreeSet<u64>) {
    let mut leads: BTreeMap<u64, usize> = nodes.iter().map(|node| (*node, 0)).collect();
    for partition in partitions.iter() {
        if let Some(count) = leads.get_mut(&partition.replicas[0]) {
            *count += 1;
        }
    }
    while let Some((from, to, chain)) = chain(partitions, &leads) {
        for (at, leader) in chain {
            let replicas = &mut partitions[at].replicas;
            let place = replicas.iter().position(|node| *node == leader);
            replicas.swap(0, place.expect("the chain goes over its replicas"));
        }
        *leads.entry(from).or_default() -= 1;
        *leads.entry(to).or_default() += 1;
    }
}

/// From, to, and which partition gets which leader in between.
type Chain = (u64, u64, Vec<(usize, u64)>);

/// A shortest chain from a node that leads most to one that leads at least two fewer; none if there is no such chain from any node.
fn chain(partitions: &[Placed], leads: &BTreeMap<u64, usize>) -> Option<Chain> {
    // For each pair of nodes the first partition that the one leads and the other could.
    let mut edges: BTreeMap<u64, BTreeMap<u64, usize>> = BTreeMap::new();
    for (at, partition) in partitions.iter().enumerate() {
        let from = edges.entry(partition.replicas[0]).or_default();
        for other in &partition.replicas[1..] {
            from.entry(*other).or_insert(at);
        }
    }
    let mut sources: Vec<u64> = leads.keys().copied().collect();
    sources.sort_by_key(|node| (std::cmp::Reverse(leads[node]), *node));
    for source in sources {
        let mut before: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let mut queue = VecDeque::from([source]);
        while let Some(node) = queue.pop_front() {
            if leads
                .get(&node)
                .is_some_and(|count| count + 2 <= leads[&source])
            {
                let mut chain = Vec::new();
                let mut at = node;
                while at != source {
                    let (giver, partition) = before[&at];
                    chain.push((partition, at));
                    at = giver;
                }
                return Some((source, node, chain));
            }
            for (next, partition) in edges.get(&node).into_iter().flatten() {
                if *next != source && leads.contains_key(next) && !before.contains_key(next) {
                    before.insert(*next, (node, *partition));
                    queue.push_back(*next);
                }
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
