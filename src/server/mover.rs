//! Makes the members of each group what the controller says they shall be: the leader of a group adds learners, waits until they have
//! caught up, lets them vote in place of others, and reports when that is done.
//!
//! Every step looks at what is so and at what shall be, and nothing is remembered in between. So a node may die at any point, and a
//! command may come while another's moves are under way: the next look goes on from there. Must not know how a membership changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::shared::Shared;
use crate::controller::{CONTROLLER_GROUP, Command};
use crate::raft::{Role, Target};
use crate::replica::{Group, GroupStatus};
use crate::wire::ApiError;

/// Between two looks at what there is to move, when nothing changes.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at a move that waits for a replica.
const STEP_EVERY: Duration = Duration::from_millis(50);
/// Groups that one node moves at a time: each brings up at most a few new replicas, which share the network with the producers.
const MOVES_MAX: usize = 8;

/// Moves what is led here, for as long as the node runs.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.view.subscribe();
    let mut moves = Moves::default();
    loop {
        moves.look(&shared).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = moves.ended() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        moves.report(&shared).await;
    }
}

/// The moves under way on this node.
#[derive(Default)]
struct Moves {
    running: JoinSet<(u64, Option<u64>)>,
    groups: BTreeSet<u64>,
    /// Groups that have become what they shall be, with the version that they have reached; the controller has yet to hear of it.
    reached: BTreeMap<u64, u64>,
    /// The group begun last: the next in turn is the one after it, so that moves that wait do not hold up others.
    last: u64,
}

impl Moves {
    /// Begins what there is to do and not under way. Cheap when there is nothing.
    async fn look(&mut self, shared: &Arc<Shared>) {
        if let Err(error) = controller(shared).await {
            tracing::debug!(%error, "the controller's members are not as they shall be yet");
        }
        let state = shared.view.state();
        let unsettled = state.partitions().filter(|partition| !partition.settled);
        let mut unsettled: Vec<u64> = unsettled.map(|partition| partition.group).collect();
        unsettled.sort_by_key(|group| (*group <= self.last, *group));
        for group in unsettled {
            let led = |group: Group| group.watermark().is_leader();
            if self.running.len() >= MOVES_MAX {
                break;
            }
            if !shared.replicas.get(group).is_some_and(led) || !self.groups.insert(group) {
                continue;
            }
            self.last = group;
            let shared = Arc::clone(shared);
            self.running
                .spawn(async move { (group, move_group(&shared, group).await) });
        }
    }

    /// Waits until a move has ended. Never returns while there are none.
    async fn ended(&mut self) {
        match self.running.join_next().await {
            Some(ended) => self.note(ended.ok()),
            None => std::future::pending().await,
        }
    }

    /// Tells the controller of the groups that got where they shall be, all together.
    async fn report(&mut self, shared: &Shared) {
        while let Some(ended) = self.running.try_join_next() {
            self.note(ended.ok());
        }
        if self.reached.is_empty() {
            return;
        }
        let groups: Vec<(u64, u64)> = self.reached.iter().map(|(g, v)| (*g, *v)).collect();
        let count = groups.len() as u64;
        match shared.command(&Command::Settle { groups }).await {
            Ok(_) => {
                shared.metrics.moves_done(count);
                self.reached.clear();
            }
            Err(error) => {
                tracing::warn!(%error, "the controller could not be told of finished moves yet");
            }
        }
    }

    fn note(&mut self, ended: Option<(u64, Option<u64>)>) {
        match ended {
            Some((group, reached)) => {
                self.groups.remove(&group);
                if let Some(version) = reached {
                    self.reached.insert(group, version);
                }
            }
            // A panic: which group it was is not known, so all are looked at again.
            None => self.groups.clear(),
        }
    }
}

/// Moves one group as long as it is led here; gives the version of the target that it has reached, if it has.
async fn move_group(shared: &Shared, group: u64) -> Option<u64> {
    let handle = shared.replicas.get(group)?;
    loop {
        // What the controller said a while ago may be overtaken, and its consequences done: only a leader that knows the latest may act.
        shared.catch_up_with_controller().await.ok()?;
        let state = shared.view.state();
        let partition = state.partition(group)?;
        let status = handle.status().await?;
        if partition.settled || status.role != Role::Leader {
            return None;
        }
        let shall = Target {
            voters: sorted(&partition.replicas),
            learners: Vec::new(),
        };
        let lacks = |node: &&u64| !status.voters.contains(node) && !shared.peers.is_up(**node);
        let cannot = shall.voters.iter().any(|node| lacks(&node));
        match next_step(&status, &shall, |node| shared.peers.is_up(node)) {
            Step::Done => return Some(partition.version),
            // Another group's turn.
            Step::Wait if cannot => return None,
            Step::Wait => {}
            Step::Change(target) => match change(&handle, target).await {
                Ok(()) => continue,
                Err(ApiError::NotYet { .. }) => {}
                Err(_) => return None,
            },
        }
        tokio::time::sleep(STEP_EVERY).await;
    }
}

/// One look at the controller's own group, by its leader: founds the cluster, takes its members in and out, forgets nodes that have left.
async fn controller(shared: &Shared) -> Result<(), ApiError> {
    let Some(group) = shared.replicas.get(CONTROLLER_GROUP) else {
        return Ok(());
    };
    if !group.watermark().is_leader() {
        return Ok(());
    }
    let state = shared.view.state();
    if state.nodes().next().is_none() {
        shared.catch_up_with_controller().await?;
        if shared.view.state().nodes().next().is_none() {
            let nodes = shared.nodes().into_iter().collect();
            shared.command(&Command::Found { nodes }).await?;
        }
        return Ok(());
    }
    let Some(status) = group.status().await else {
        return Ok(());
    };
    let is_up = |node| shared.peers.is_up(node);
    let shall = |state: &crate::controller::State| {
        let (voters, learners) = state.controller_members(&status.voters, is_up);
        Target { voters, learners }
    };
    match next_step(&status, &shall(&state), is_up) {
        Step::Done => {}
        Step::Wait => return Ok(()),
        Step::Change(_) => {
            shared.catch_up_with_controller().await?;
            let shall = shall(&shared.view.state());
            if let Step::Change(target) = next_step(&status, &shall, is_up) {
                tracing::info!(voters = ?target.voters, learners = ?target.learners, "the controller's members change");
                change(&group, target).await?;
            }
            return Ok(());
        }
    }
    for node in state.emptied() {
        shared.command(&Command::ForgetNode { node }).await?;
        tracing::info!(node, "a node has left the cluster");
    }
    Ok(())
}

async fn change(group: &Group, target: Target) -> Result<(), ApiError> {
    let changed = group.change_membership(target.clone()).await;
    match &changed {
        Ok(index) => {
            tracing::info!(group = group.group(), voters = ?target.voters, learners = ?target.learners, index, "the members of a group changed");
        }
        Err(error) => {
            tracing::debug!(group = group.group(), %error, "the members of a group do not change yet");
        }
    }
    changed.map(drop)
}

fn sorted(nodes: &[u64]) -> Vec<u64> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}

/// What to do next for a group to become what it shall be.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is, and that is committed.
    Done,
    /// Nothing now.
    Wait,
    /// Make it this.
    Change(Target),
}

/// New voters are learners first, until all of them have caught up; then everything changes at once. Not before a majority of those who
/// shall vote can be reached: the group would stand still.
fn next_step(status: &GroupStatus, shall: &Target, is_up: impl Fn(u64) -> bool) -> Step {
    if status.membership_index > status.commit_index || !status.voters_outgoing.is_empty() {
        return Step::Wait;
    }
    if status.voters == shall.voters && status.learners == shall.learners {
        return Step::Done;
    }
    let new = shall.voters.iter().copied();
    let new: Vec<u64> = new.filter(|node| !status.voters.contains(node)).collect();
    if !new.iter().all(|node| status.learners.contains(node)) {
        let mut learners: BTreeSet<u64> = shall.learners.iter().chain(&new).copied().collect();
        learners.retain(|node| !status.voters.contains(node));
        return Step::Change(Target {
            voters: status.voters.clone(),
            learners: learners.into_iter().collect(),
        });
    }
    let caught_up = |node: &u64| {
        let mut peers = status.peers.iter();
        peers.any(|peer| peer.node == *node && peer.caught_up)
    };
    let up = shall.voters.iter().filter(|node| is_up(**node)).count();
    let voters_change = status.voters != shall.voters;
    if voters_change && (!new.iter().all(caught_up) || up <= shall.voters.len() / 2) {
        return Step::Wait;
    }
    Step::Change(shall.clone())
}

#[cfg(test)]
#[path = "mover_tests.rs"]
mod tests;
