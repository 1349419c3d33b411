//! Keeps the open groups equal to what the controller has agreed on: the only place where partition groups are opened and closed.
//!
//! A node finds its groups in the controller's state, never in its folders. A folder is removed only when the state says that its topic was
//! deleted, or that the partition has moved elsewhere and its group's leader has seen a committed membership without this node. Must not
//! know what the groups hold.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use segment_store::{DataDir, Fault};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::repair;
use super::shared::Shared;
use crate::controller::State;
use crate::replica::{GroupSpec, OpenError, Removal};

/// Pause before groups that could not be opened are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Groups that are opened at a time: their disk work is small, and waits for the disk more than for the processor.
const OPENING_MAX: usize = 16;

/// What earlier times left on the disk.
#[derive(Debug)]
pub(super) struct Leftovers {
    /// Groups that have a folder and are not open.
    folders: BTreeSet<u64>,
    /// Groups of which a replica was here and went elsewhere.
    left: BTreeSet<u64>,
}

impl Leftovers {
    /// Those that are found at the start.
    pub(super) fn find(data_dir: &DataDir) -> Result<Leftovers, Fault> {
        Ok(Leftovers {
            folders: data_dir.groups()?.into_iter().collect(),
            left: data_dir.left_groups()?.into_iter().collect(),
        })
    }
}

/// Follows the controller's view for as long as the node runs.
pub(super) async fn reconcile(shared: Arc<Shared>, mut leftovers: Leftovers) {
    let mut changes = shared.view.subscribe();
    loop {
        let revision = *changes.borrow_and_update();
        let state = shared.view.state();
        meet(&shared, &state);
        let complete = settle(&shared, &state, &mut leftovers).await;
        shared
            .reconciled
            .send_replace(Reconciled { revision, complete });
        let retry = async {
            match complete {
                true => std::future::pending().await,
                false => tokio::time::sleep(RETRY_AFTER).await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shared.repairs.reopen.notified() => {}
            () = retry => {}
        }
    }
}

/// How far the open groups match the controller's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reconciled {
    /// The revision of the view they were brought in line with.
    pub(super) revision: u64,
    /// Whether every group could be opened.
    pub(super) complete: bool,
}

/// A channel for `Reconciled`, before anything is.
pub(super) fn channel() -> watch::Sender<Reconciled> {
    watch::Sender::new(Reconciled::default())
}

/// Keeps connections to the nodes of the cluster, and to no others. Before it is founded, those of the settings are all there are.
fn meet(shared: &Shared, state: &State) {
    if state.nodes().next().is_some() {
        let removed = state.removed().collect();
        shared.peers.set_nodes(&shared.nodes(), &removed);
    }
}

/// Opens what belongs here, closes and deletes what does not any more. False if not all of that could be done.
async fn settle(shared: &Arc<Shared>, state: &State, leftovers: &mut Leftovers) -> bool {
    let here = shared.config.node.id;
    let open: BTreeSet<u64> = shared.replicas.groups().into_iter().collect();
    leftovers
        .folders
        .extend(shared.replicas.repairs().iter().map(|repair| repair.group));
    let gone = open
        .iter()
        .chain(&leftovers.folders)
        .chain(&leftovers.left)
        .copied()
        .filter(|group| state.is_deleted(*group))
        .collect::<BTreeSet<_>>();
    for group in gone {
        shared.peers.close_group(group);
        if shared.replicas.repair(group).is_some() {
            shared.replicas.end_repair(group);
        }
        match shared.replicas.close(group, Removal::Group).await {
            Ok(()) => tracing::info!(group, "removed the replica of a deleted topic"),
            Err(error) => {
                tracing::error!(group, %error, "the folder of a deleted topic cannot be removed");
            }
        }
        leftovers.folders.remove(&group);
        leftovers.left.remove(&group);
    }
    let elsewhere = |group: &u64| {
        let partition = state.partition(*group);
        partition.is_some_and(|partition| !partition.holders.contains(&here))
    };
    let moved = open.union(&leftovers.folders).copied().filter(elsewhere);
    let moved = moved.collect::<BTreeSet<u64>>();
    let removed = remove_moved(shared, moved, leftovers).await;
    // Some may have come back while others were removed.
    let state = shared.view.state();
    let open: BTreeSet<u64> = shared.replicas.groups().into_iter().collect();
    let specs = state
        .partitions()
        .filter(|partition| partition.holders.contains(&here))
        .filter(|partition| !open.contains(&partition.group))
        .filter(|partition| shared.replicas.repair(partition.group).is_none())
        .map(|partition| GroupSpec {
            group: partition.group,
            voters: partition.founders.clone(),
            others: others(&partition.holders, here),
            moved: partition.version > 0,
            preferred: partition.replicas.first().copied(),
            state_machine: None,
        })
        .collect::<Vec<_>>();
    for spec in &specs {
        leftovers.folders.remove(&spec.group);
    }
    let whole = shared.replicas.repairs().is_empty();
    open_all(shared, specs).await && removed && whole
}

fn others(holders: &[u64], here: u64) -> Vec<u64> {
    let others = holders.iter().copied();
    others.filter(|holder| *holder != here).collect()
}

/// Removes the replicas of partitions that are elsewhere now. False if it is not certain that they are.
///
/// This node may be reading an old state: the partition may have come back to it meanwhile. So the replica is closed first, and asserts
/// nothing any more; what the controller says after that decides.
async fn remove_moved(shared: &Shared, moved: BTreeSet<u64>, leftovers: &mut Leftovers) -> bool {
    if moved.is_empty() {
        return true;
    }
    for group in &moved {
        shared.peers.close_group(*group);
        if let Err(error) = shared.replicas.close(*group, Removal::Nothing).await {
            tracing::error!(group, %error, "a replica that moved elsewhere cannot be closed");
        }
        leftovers.folders.insert(*group);
    }
    if shared.catch_up_with_controller().await.is_err() {
        return false;
    }
    let state = shared.view.state();
    for group in moved {
        let partition = state.partition(group);
        if partition.is_some_and(|partition| partition.holders.contains(&shared.config.node.id)) {
            continue;
        }
        if shared.replicas.repair(group).is_some() {
            shared.replicas.end_repair(group);
        }
        match shared.replicas.close(group, Removal::Replica).await {
            Ok(()) => tracing::info!(group, "removed a replica that moved elsewhere"),
            Err(error) => {
                tracing::error!(group, %error, "the folder of a replica that moved elsewhere cannot be removed");
            }
        }
        leftovers.folders.remove(&group);
        leftovers.left.insert(group);
    }
    true
}

/// Opens groups, some at a time, in their order. False if one could not be opened.
async fn open_all(shared: &Arc<Shared>, specs: Vec<GroupSpec>) -> bool {
    let mut waiting = specs.into_iter();
    let mut opening = JoinSet::new();
    let mut complete = true;
    loop {
        while opening.len() < OPENING_MAX
            && !shared.is_stopping()
            && let Some(spec) = waiting.next()
        {
            let (replicas, group) = (shared.replicas.clone(), spec.group);
            opening.spawn(async move { (group, replicas.open(spec).await) });
        }
        match opening.join_next().await {
            None => return complete && waiting.next().is_none(),
            Some(Ok((_, Ok(_)))) => {}
            Some(Ok((_, Err(OpenError::ShuttingDown)))) => complete = false,
            Some(Ok((group, Err(OpenError::Damaged { .. })))) => {
                repair::begin(shared, group);
                complete = false;
            }
            Some(Ok((group, Err(error)))) => {
                tracing::error!(group, %error, "a group cannot be opened on this node");
                complete = false;
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the opening of a group ended unexpectedly");
                complete = false;
            }
        }
    }
}
