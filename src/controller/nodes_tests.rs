//! Nodes that join, leave and are replaced: where partitions shall be after that, and every change that is refused.

use super::super::command::Command;
use super::*;

/// A cluster of `nodes` nodes with a topic of twelve partitions, three replicas each where there are as many nodes.
fn cluster(nodes: u64) -> State {
    let mut state = State::default();
    let nodes = (1..=nodes).map(|node| (node, address(node))).collect();
    assert_eq!(moves(state.apply(Command::Found { nodes })), 0);
    create(&mut state, "ships", 12, 0);
    state
}

fn address(node: u64) -> String {
    format!("host-{node}:7600")
}

fn create(state: &mut State, name: &str, partitions: u32, replicas: u32) {
    let outcome = state.apply(Command::CreateTopic {
        name: name.into(),
        partitions,
        replicas,
        partitions_max: 10_000,
        token: 7,
    });
    assert!(
        matches!(outcome, Outcome::TopicCreated { .. }),
        "{outcome:?}"
    );
}

fn add(node: u64) -> Command {
    Command::AddNode {
        node,
        address: address(node),
    }
}

fn replace(old: u64, new: u64) -> Command {
    Command::ReplaceNode {
        old,
        new,
        address: address(new),
    }
}

fn moves(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Changed { moves } => moves,
        other => panic!("{other:?}"),
    }
}

/// Every group reports that it has become what it shall be.
fn settle_all(state: &mut State) {
    let groups = state.partitions().map(|p| (p.group, p.version)).collect();
    state.apply(Command::Settle { groups });
}

#[track_caller]
fn refused(state: &mut State, command: Command, why: &str) {
    let (before, asked) = (state.clone(), format!("{command:?}"));
    match state.apply(command) {
        Outcome::Refused(Refusal::InvalidChange { reason }) => {
            assert!(reason.contains(why), "{asked}: {reason}");
        }
        other => panic!("{asked} was not refused: {other:?}"),
    }
    assert_eq!(*state, before, "{asked} was refused and changed something");
}

#[test]
fn the_first_founding_counts_and_nothing_is_placed_before_it() {
    let mut state = State::default();
    let create = Command::CreateTopic {
        name: "ships".into(),
        partitions: 1,
        replicas: 1,
        partitions_max: 10,
        token: 7,
    };
    assert_eq!(state.apply(create), Outcome::Refused(Refusal::Unfounded));
    assert_eq!(state.apply(add(4)), Outcome::Refused(Refusal::Unfounded));
    let found = |node| Command::Found {
        nodes: vec![(node, address(node))],
    };
    refused(
        &mut state,
        Command::Found { nodes: vec![] },
        "without nodes",
    );
    refused(&mut state, found(0), "numbered from 1");
    state.apply(found(1));
    let before = state.clone();
    assert_eq!(moves(state.apply(found(2))), 0);
    assert_eq!(state, before);
}

#[test]
fn a_node_that_joined_gets_its_share_when_the_cluster_is_rebalanced() {
    let mut state = cluster(3);
    assert_eq!(moves(state.apply(add(4))), 0);
    assert!(state.partitions().all(|p| p.settled));
    assert_eq!(moves(state.apply(Command::Rebalance)), 9);
    let on_four = state.partitions().filter(|p| p.replicas.contains(&4));
    assert_eq!(on_four.count(), 9);
    assert_eq!(moves(state.apply(Command::Rebalance)), 0, "repeated");
    let moving = state.partitions().find(|p| !p.settled).unwrap();
    assert_eq!(
        moving.holders,
        [1, 2, 3, 4],
        "all may hold it until it settles"
    );
    assert_eq!(moving.founders, [1, 2, 3]);
    settle_all(&mut state);
    assert!(
        state
            .partitions()
            .all(|p| p.settled && p.holders.len() == 3)
    );
}

#[test]
fn a_node_that_leaves_is_forgotten_only_when_nothing_of_it_is_left() {
    let mut state = cluster(4);
    let held = state
        .partitions()
        .filter(|p| p.replicas.contains(&2))
        .count() as u64;
    let remove = Command::RemoveNode { node: 2 };
    assert_eq!(moves(state.apply(remove.clone())), held);
    assert!(state.partitions().all(|p| !p.replicas.contains(&2)));
    assert_eq!(moves(state.apply(remove.clone())), 0, "repeated");
    refused(&mut state, Command::ForgetNode { node: 2 }, "still holds");
    assert!(state.emptied().is_empty());
    settle_all(&mut state);
    assert_eq!(state.emptied(), BTreeSet::from([2]));
    assert_eq!(moves(state.apply(Command::ForgetNode { node: 2 })), 0);
    assert!(state.node(2).is_none() && state.was_removed(2));
    assert_eq!(moves(state.apply(remove)), 0, "repeated after it was done");
    refused(&mut state, add(2), "never used");
}

#[test]
fn a_node_that_takes_over_gets_exactly_what_the_old_one_had() {
    let mut state = cluster(3);
    let of = |state: &State, node| -> Vec<u64> {
        let held = state.partitions().filter(|p| p.replicas.contains(&node));
        held.map(|p| p.group).collect()
    };
    let had = of(&state, 2);
    assert_eq!(moves(state.apply(replace(2, 4))), had.len() as u64);
    assert_eq!(of(&state, 4), had);
    assert_eq!(moves(state.apply(replace(2, 4))), 0, "repeated");
    settle_all(&mut state);
    state.apply(Command::ForgetNode { node: 2 });
    assert_eq!(
        moves(state.apply(replace(2, 4))),
        0,
        "repeated after it was done"
    );
}

#[test]
fn changes_that_cannot_be_are_refused_and_change_nothing() {
    let mut state = cluster(3);
    refused(&mut state, add(0), "numbered from 1");
    refused(&mut state, Command::RemoveNode { node: 9 }, "no node 9");
    refused(
        &mut state,
        Command::RemoveNode { node: 3 },
        "has 3 replicas",
    );
    refused(&mut state, replace(9, 4), "no node 9");
    refused(&mut state, replace(3, 3), "its own place");
    refused(
        &mut state,
        Command::ReplaceNode {
            old: 3,
            new: 2,
            address: address(9),
        },
        "in the cluster already",
    );
    let elsewhere = |node, address: &str| Command::AddNode {
        node,
        address: address.into(),
    };
    refused(
        &mut state,
        elsewhere(3, "host-9:1"),
        "in the cluster already",
    );
    refused(&mut state, elsewhere(4, "host-3:7600"), "address of node 3");
    for address in [
        "",
        "host",
        ":1",
        "host:0",
        "host:65536",
        "ho st:1",
        "host:x",
    ] {
        refused(&mut state, elsewhere(4, address), "no address");
    }
    let long = format!("{}:1", "x".repeat(300));
    refused(&mut state, elsewhere(4, &long), "no address");
    state.apply(replace(3, 4));
    refused(&mut state, elsewhere(3, "host-9:1"), "it is leaving");
    let prefer = |group, node| Command::PreferLeader { group, node };
    refused(&mut state, prefer(1, 9), "holds no replica");
    refused(&mut state, prefer(99, 1), "no partition");
}

#[test]
fn the_last_node_stays_and_there_is_an_end_to_their_number() {
    let mut state = cluster(1);
    refused(&mut state, Command::RemoveNode { node: 1 }, "last node");
    (2..=NODES_MAX as u64).for_each(|node| assert_eq!(moves(state.apply(add(node))), 0));
    refused(&mut state, add(NODES_MAX as u64 + 1), "at most");
}

#[test]
fn word_of_an_earlier_target_does_not_settle_a_later_one() {
    let mut state = cluster(3);
    state.apply(add(4));
    state.apply(Command::Rebalance);
    let early: Vec<(u64, u64)> = state.partitions().map(|p| (p.group, p.version)).collect();
    state.apply(Command::RemoveNode { node: 4 });
    let back = state.partitions().find(|p| p.version == 2).unwrap().group;
    state.apply(Command::Settle { groups: early });
    let (topic, partition) = state.group(back).unwrap();
    let partition = &topic.partitions[partition as usize];
    assert!(!partition.settled && partition.holders == [1, 2, 3, 4]);
    assert!(state.emptied().is_empty());
    settle_all(&mut state);
    assert_eq!(state.emptied(), BTreeSet::from([4]));
}

#[test]
fn group_0_keeps_its_voters_and_has_five_at_most() {
    let mut state = cluster(3);
    let members =
        |state: &State, voters: &[u64]| state.controller_members(voters, |node| node != 4);
    assert_eq!(members(&state, &[1, 2, 3]), (vec![1, 2, 3], vec![]));
    (4..=7).for_each(|node| _ = state.apply(add(node)));
    assert_eq!(
        members(&state, &[1, 2, 3]),
        (vec![1, 2, 3, 5, 6], vec![4, 7]),
        "node 4 cannot be reached"
    );
    assert_eq!(
        members(&state, &[3, 4, 5, 6, 7]),
        (vec![3, 4, 5, 6, 7], vec![1, 2])
    );
    state.apply(Command::RemoveNode { node: 3 });
    let (voters, learners) = members(&state, &[1, 2, 3, 4, 5]);
    assert_eq!(voters, [1, 2, 4, 5, 6]);
    assert_eq!(
        learners,
        [3, 7],
        "it hears of its own leaving until it holds nothing"
    );
    settle_all(&mut state);
    assert_eq!(members(&state, &voters), (vec![1, 2, 4, 5, 6], vec![7]));
}

#[test]
fn a_preferred_leader_is_one_of_the_replicas_and_moves_nothing() {
    let mut state = cluster(3);
    let (group, other) = {
        let partition = state.partitions().next().unwrap();
        (partition.group, partition.replicas[2])
    };
    let prefer = Command::PreferLeader { group, node: other };
    assert_eq!(moves(state.apply(prefer)), 0);
    let partition = state.partitions().next().unwrap();
    assert!(partition.replicas[0] == other && partition.settled && partition.version == 0);
}

#[test]
fn while_a_node_leaves_no_other_does_and_nothing_changes() {
    let mut state = cluster(5);
    assert!(moves(state.apply(Command::RemoveNode { node: 5 })) > 0);
    let before = state.clone();
    for command in [
        Command::RemoveNode { node: 4 },
        replace(4, 6),
        Command::Rebalance,
    ] {
        let outcome = state.apply(command);
        let Outcome::Refused(Refusal::InvalidChange { reason }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.starts_with("node 5 is leaving"), "{reason}");
        assert_eq!(state, before);
    }
    // Again is not another.
    assert_eq!(moves(state.apply(Command::RemoveNode { node: 5 })), 0);
}
