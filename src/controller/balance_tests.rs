//! Evening out: even, with the fewest moves, over drawn placements.

use proptest::prelude::*;

use super::*;

fn nodes(count: u64) -> BTreeSet<u64> {
    (1..=count).collect()
}

fn counts(
    partitions: &[Placed],
    nodes: &BTreeSet<u64>,
    of: impl Fn(&Placed, u64) -> bool,
) -> Vec<usize> {
    nodes
        .iter()
        .map(|node| partitions.iter().filter(|p| of(p, *node)).count())
        .collect()
}

fn held(partition: &Placed, node: u64) -> bool {
    partition.replicas.contains(&node)
}

fn led(partition: &Placed, node: u64) -> bool {
    partition.replicas[0] == node
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// Replicas that are somewhere else than before.
fn moves(before: &[Placed], after: &[Placed]) -> usize {
    before
        .iter()
        .zip(after)
        .map(|(before, after)| {
            let stays = |node: &&u64| before.replicas.contains(node);
            after.replicas.len() - after.replicas.iter().filter(stays).count()
        })
        .sum()
}

/// How many replicas any even placement must move: those above what each node may keep, where as many nodes as the division
/// leaves over may keep one more, the fullest first.
fn fewest_moves(counts: &[usize]) -> usize {
    let (total, nodes) = (counts.iter().sum::<usize>(), counts.len());
    let mut fullest_first = counts.to_vec();
    fullest_first.sort_unstable_by(|a, b| b.cmp(a));
    let may_keep = |place: usize| total / nodes + usize::from(place < total % nodes);
    let over = fullest_first.iter().enumerate();
    over.map(|(place, count)| count.saturating_sub(may_keep(place)))
        .sum()
}

/// Up to seven nodes, partitions of up to five topics, each topic with its own number of replicas, somehow placed.
fn placements() -> impl Strategy<Value = (u64, Vec<Placed>)> {
    (1_u64..=7).prop_flat_map(|nodes| {
        let factors = prop::collection::vec(1..=nodes as usize, 5);
        let drawn = prop::collection::vec((0_u64..5, any::<u64>()), 0..60);
        (factors, drawn).prop_map(move |(factors, drawn)| {
            let place = |(group, (topic, seed)): (u64, (u64, u64))| {
                let mut all: Vec<u64> = (1..=nodes).collect();
                fastrand::Rng::with_seed(seed).shuffle(&mut all);
                all.truncate(factors[topic as usize]);
                Placed {
                    group,
                    topic,
                    replicas: all,
                }
            };
            (nodes, (1..).zip(drawn).map(place).collect())
        })
    })
}

fn check_sound(before: &[Placed], after: &[Placed], nodes: &BTreeSet<u64>) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before.replicas.len(), after.replicas.len());
        let different: BTreeSet<_> = after.replicas.iter().collect();
        assert_eq!(different.len(), after.replicas.len(), "{after:?}");
        assert!(after.replicas.iter().all(|node| nodes.contains(node)));
    }
}

proptest! {
    #[test]
    fn replicas_come_out_even_with_the_fewest_moves((count, before) in placements()) {
        let nodes = nodes(count);
        let mut after = before.clone();
        even_out(&mut after, &nodes);
        check_sound(&before, &after, &nodes);
        let (was, is) = (counts(&before, &nodes, held), counts(&after, &nodes, held));
        prop_assert!(spread(&is) <= 1, "{was:?} became {is:?}");
        prop_assert_eq!(moves(&before, &after), fewest_moves(&was));
        let even = after.clone();
        even_out(&mut after, &nodes);
        prop_assert_eq!(after, even, "what is even stays as it is");
    }

    #[test]
    fn leaders_are_spread_without_moving_a_replica((count, before) in placements()) {
        let nodes = nodes(count);
        let mut after = before.clone();
        spread_leaders(&mut after, &nodes);
        check_sound(&before, &after, &nodes);
        prop_assert_eq!(moves(&before, &after), 0);
        let (was, is) = (counts(&before, &nodes, led), counts(&after, &nodes, led));
        prop_assert!(spread(&is) <= spread(&was));
        let everywhere = before.iter().all(|p| p.replicas.len() == count as usize);
        prop_assert!(!everywhere || spread(&is) <= 1, "{is:?}");
        // No single exchange helps any more.
        for partition in &after {
            let leads = |node: u64| after.iter().filter(|p| led(p, node)).count();
            for other in &partition.replicas[1..] {
                prop_assert!(leads(*other) + 2 > leads(partition.replicas[0]));
            }
        }
    }

    #[test]
    fn a_node_that_leaves_gives_up_its_replicas_and_nobody_else_does(
        (count, before) in placements(),
        gone in 1_u64..=7,
    ) {
        let mut nodes = nodes(count);
        nodes.remove(&gone);
        prop_assume!(before.iter().all(|p| p.replicas.len() <= nodes.len()));
        let mut after = before.clone();
        evict(&mut after, &nodes);
        check_sound(&before, &after, &nodes);
        let gave_up = before.iter().filter(|p| held(p, gone)).count();
        prop_assert_eq!(moves(&before, &after), gave_up);
    }
}

#[test]
fn a_node_that_joins_three_gets_its_share_of_each_topic() {
    let three = nodes(3);
    let mut partitions: Vec<Placed> = (0..24)
        .map(|group| Placed {
            group,
            topic: group / 8,
            replicas: vec![1 + group % 3, 1 + (group + 1) % 3, 1 + (group + 2) % 3],
        })
        .collect();
    spread_leaders(&mut partitions, &three);
    let four = nodes(4);
    even_out(&mut partitions, &four);
    spread_leaders(&mut partitions, &four);
    for topic in 0..3 {
        let of_topic = |p: &Placed, node| p.topic == topic && held(p, node);
        assert_eq!(counts(&partitions, &four, of_topic), [6, 6, 6, 6]);
    }
    assert_eq!(counts(&partitions, &four, led), [6, 6, 6, 6]);
}
