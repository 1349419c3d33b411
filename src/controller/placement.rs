//! Where the replicas of a new topic go: evenly, preferred leaders evenly too, and the same on every node that works it out.
//!
//! Pure arithmetic over counts; must not know topics, names or the network.

use std::collections::BTreeMap;

/// What a node carries already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Partitions whose first replica, the preferred leader, is here.
    pub(super) preferred: u64,
    /// Replicas here, preferred ones included.
    pub(super) replicas: u64,
}

/// Chooses `replicas` different nodes for each of `partitions` partitions; the first of each is its preferred leader.
///
/// Takes the least loaded node each time, and among equals goes round from the last choice, so that the same nodes are
/// not paired again and again. `load` holds every node that may be chosen, and is brought up to date.
pub(super) fn place(
    load: &mut BTreeMap<u64, Load>,
    partitions: u32,
    replicas: u32,
) -> Vec<Vec<u64>> {
    assert!(
        replicas as usize <= load.len(),
        "the caller checked that there are enough nodes"
    );
    let nodes: Vec<u64> = load.keys().copied().collect();
    let mut last = nodes.len().saturating_sub(1);
    (0..partitions)
        .map(|_| {
            let mut chosen = Vec::with_capacity(replicas as usize);
            for place in 0..replicas {
                let position = (0..nodes.len())
                    .filter(|position| !chosen.contains(&nodes[*position]))
                    .min_by_key(|position| {
                        let Load {
                            preferred,
                            replicas,
                        } = load[&nodes[*position]];
                        let distance = (position + nodes.len() - last - 1) % nodes.len();
                        (if place == 0 { preferred } else { 0 }, replicas, distance)
                    })
                    .expect("there are at least as many nodes as replicas");
                let count = load
                    .get_mut(&nodes[position])
                    .expect("positions come from its keys");
                count.replicas += 1;
                count.preferred += u64::from(place == 0);
                chosen.push(nodes[position]);
                last = position;
            }
            chosen
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(nodes: u64) -> BTreeMap<u64, Load> {
        (1..=nodes).map(|node| (node, Load::default())).collect()
    }

    fn spread(values: impl Iterator<Item = u64> + Clone) -> u64 {
        values.clone().max().unwrap() - values.min().unwrap()
    }

    #[test]
    fn replicas_of_a_partition_are_on_different_nodes() {
        for nodes in 1..=7 {
            for replicas in 1..=nodes as u32 {
                for mut placed in place(&mut empty(nodes), 50, replicas) {
                    placed.sort_unstable();
                    placed.dedup();
                    assert_eq!(placed.len(), replicas as usize);
                }
            }
        }
    }

    #[test]
    fn replicas_and_preferred_leaders_are_spread_evenly() {
        for nodes in 1..=7 {
            for replicas in 1..=nodes as u32 {
                let mut load = empty(nodes);
                place(&mut load, 100, replicas);
                assert!(
                    spread(load.values().map(|l| l.preferred)) <= 1,
                    "{nodes} nodes, {replicas} replicas: {load:?}"
                );
                assert!(
                    spread(load.values().map(|l| l.replicas)) <= 2,
                    "{nodes} nodes, {replicas} replicas: {load:?}"
                );
            }
        }
    }

    #[test]
    fn many_small_topics_are_spread_as_evenly_as_one_large_one() {
        let mut load = empty(3);
        for _ in 0..30 {
            place(&mut load, 1, 2);
        }
        assert!(
            load.values().all(|l| l.preferred == 10 && l.replicas == 20),
            "{load:?}"
        );
    }

    #[test]
    fn a_new_node_is_filled_first() {
        let mut load = empty(3);
        place(&mut load, 30, 2);
        load.insert(4, Load::default());
        assert!(
            place(&mut load, 5, 2)
                .iter()
                .all(|placed| placed.contains(&4))
        );
    }
}
