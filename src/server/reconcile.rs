//! Keeps the open groups equal to what the controller has agreed on: the only place where partition groups are opened and closed.
//!
//! A node finds its groups in the controller's state, never in its folders; a folder is removed only when the state says that its topic was
//! deleted, which is committed by then. Must not know what the groups hold.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::repair;
use super::shared::Shared;
use crate::controller::State;
use crate::replica::{GroupSpec, OpenError};

/// Pause before groups that could not be opened are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Groups that are opened at a time: their disk work is small, and waits for the disk more than for the processor.
const OPENING_MAX: usize = 16;

/// Follows the controller's view for as long as the node runs. `leftovers` are the folders found at the start.
pub(super) async fn reconcile(shared: Arc<Shared>, leftovers: Vec<u64>) {
    let mut changes = shared.view.subscribe();
    let mut leftovers: BTreeSet<u64> = leftovers.into_iter().collect();
    loop {
        let revision = *changes.borrow_and_update();
        let state = shared.view.state();
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

/// Opens what belongs here, closes and deletes what does not any more. False if a group could not be opened.
async fn settle(shared: &Arc<Shared>, state: &State, leftovers: &mut BTreeSet<u64>) -> bool {
    let here = shared.config.node.id;
    let open: BTreeSet<u64> = shared.replicas.groups().into_iter().collect();
    leftovers.extend(shared.replicas.repairs().iter().map(|repair| repair.group));
    let gone = open
        .union(leftovers)
        .copied()
        .filter(|group| state.is_deleted(*group))
        .collect::<Vec<_>>();
    for group in gone {
        shared.peers.close_group(group);
        if shared.replicas.repair(group).is_some() {
            shared.replicas.end_repair(group);
        }
        match shared.replicas.close(group, true).await {
            Ok(()) => tracing::info!(group, "removed the replica of a deleted topic"),
            Err(error) => {
                tracing::error!(group, %error, "the folder of a deleted topic cannot be removed");
            }
        }
        leftovers.remove(&group);
    }
    let specs = state
        .groups()
        .filter(|(group, replicas)| replicas.contains(&here) && !open.contains(group))
        .filter(|(group, _)| shared.replicas.repair(*group).is_none())
        .map(|(group, replicas)| GroupSpec {
            group,
            voters: replicas.to_vec(),
            preferred: replicas.first().copied(),
            state_machine: None,
        })
        .collect::<Vec<_>>();
    for spec in &specs {
        leftovers.remove(&spec.group);
    }
    let whole = shared.replicas.repairs().is_empty();
    open_all(shared, specs).await && whole
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
