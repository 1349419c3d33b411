//! Changes of the cluster that a client asks for: nodes that join, leave or are replaced, replicas evened out.
//!
//! The controller decides what shall be, and `mover` brings it about. Refused here is only what the controller cannot know: that a change
//! would leave a group without a majority that is up. Must not know how replicas are placed.

use std::time::{Duration, Instant};

use super::shared::Shared;
use crate::controller::{Command, Outcome, State};
use crate::wire::{ApiError, Reply};

/// How long a node that has just started may take to be reached.
const UP_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks at whether it can be.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Carries out a change; answers once it is agreed on and known here, which is long before the last replica has moved.
pub(super) async fn change(shared: &Shared, command: Command) -> Result<Reply, ApiError> {
    let until = Instant::now() + UP_WITHIN;
    loop {
        shared.catch_up_with_controller().await?;
        let before = shared.view.state();
        match would_stall(&before, &command, |node| shared.peers.is_up(node)) {
            None => break,
            Some(reason) if Instant::now() >= until => {
                return Err(ApiError::InvalidRequest { reason });
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    let outcome = shared.command(&command).await?;
    tracing::info!(?command, ?outcome, "the cluster changes");
    let Outcome::Changed { moves } = outcome else {
        return Err(ApiError::Internal);
    };
    // It is agreed on; whether this node knows of it already makes no difference to that.
    let _ = shared.catch_up_with_controller().await;
    Ok(Reply::Changed { moves })
}

/// Why a change must not be made now, if so: some group would come to stand on nodes of which no majority can be reached. Nodes that
/// this very command takes in may come up later: what depends on them waits, and the old replicas go on meanwhile.
fn would_stall(before: &State, command: &Command, is_up: impl Fn(u64) -> bool) -> Option<String> {
    let (Command::RemoveNode { .. } | Command::ReplaceNode { .. } | Command::Rebalance) = command
    else {
        return None;
    };
    let mut after = before.clone();
    let Outcome::Changed { .. } = after.apply(command.clone()) else {
        // The controller refuses it, and says why.
        return None;
    };
    let stands = |nodes: &[u64]| {
        let new = |node: u64| before.node(node).is_none();
        let up = nodes.iter().filter(|node| is_up(**node) || new(**node));
        up.count() > nodes.len() / 2
    };
    let down = |nodes: &[u64]| {
        let down = nodes.iter().filter(|node| !is_up(**node));
        down.map(u64::to_string).collect::<Vec<_>>().join(", ")
    };
    for partition in after.partitions() {
        let changes = before
            .partition(partition.group)
            .is_some_and(|old| old.version != partition.version);
        if changes && !stands(&partition.replicas) {
            let (topic, number) = after.group(partition.group)?;
            return Some(format!(
                "partition {number} of {} would have no majority of its replicas up: node {} cannot be reached; \
                 start it first, or replace it",
                topic.name,
                down(&partition.replicas),
            ));
        }
    }
    let (voters, _) = after.controller_members(&[], &is_up);
    if !stands(&voters) {
        return Some(format!(
            "the controller would have no majority of its voters up: node {} cannot be reached; start it first, or replace it",
            down(&voters),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(nodes: u64, replicas: u32) -> State {
        let mut state = State::default();
        let nodes = (1..=nodes).map(|node| (node, format!("host-{node}:7600")));
        state.apply(Command::Found {
            nodes: nodes.collect(),
        });
        state.apply(Command::CreateTopic {
            name: "ships".into(),
            partitions: 8,
            replicas,
            partitions_max: 100,
            token: 1,
        });
        state
    }

    #[test]
    fn a_node_is_not_removed_when_that_leaves_a_majority_of_dead_replicas() {
        let state = cluster(3, 2);
        let remove = Command::RemoveNode { node: 2 };
        assert_eq!(would_stall(&state, &remove, |_| true), None);
        let said = would_stall(&state, &remove, |node| node != 3).unwrap();
        assert!(said.contains("node 3 cannot be reached"), "{said}");
        let the_dead_one = Command::RemoveNode { node: 3 };
        assert_eq!(would_stall(&state, &the_dead_one, |node| node != 3), None);
    }

    #[test]
    fn a_dead_node_can_be_replaced_by_one_that_is_not_up_yet() {
        let replace = Command::ReplaceNode {
            old: 3,
            new: 4,
            address: "host-4:7600".into(),
        };
        assert_eq!(would_stall(&cluster(3, 3), &replace, |node| node < 3), None);
        let only_one = would_stall(&cluster(3, 3), &replace, |node| node < 2);
        assert_eq!(only_one, None, "with the new one there are two of three");
    }

    #[test]
    fn what_the_controller_refuses_is_left_for_it_to_say() {
        let unknown = Command::RemoveNode { node: 9 };
        assert_eq!(would_stall(&cluster(3, 3), &unknown, |_| false), None);
    }
}
