//! Leadership on the move: on request, and by itself, so that the leaders of many partitions spread over the nodes.
//!
//! The preferred leader of a group is its first replica, and placement spreads those evenly. A leader that is not preferred hands over once
//! the preferred one has caught up; gently, a few at a time, and not while things are changing. Must not know how a transfer works.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::Shared;
use crate::replica::Group;
use crate::wire::{ApiError, Reply};

/// Between two looks at who leads what.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long this node must have led a group, and known its peers to be connected, before it hands over.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Most handovers in one look.
const HANDOVERS: usize = 8;

/// Hands leadership of a group to `to`, as a client asks; only the leader can.
pub(super) async fn transfer(shared: &Shared, number: u64, to: u64) -> Result<Reply, ApiError> {
    let group = shared.group(number)?;
    if group.watermark().leader() == Some(to) {
        return Ok(Reply::Transferred);
    }
    if !group.watermark().is_leader() {
        return Err(shared.not_leader(&group));
    }
    group.transfer(to).await?;
    Ok(Reply::Transferred)
}

/// Spreads leaders for as long as the node runs.
pub(super) async fn spread(shared: Arc<Shared>) {
    let mut led_since: HashMap<u64, (u64, Instant)> = HashMap::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let state = shared.view.state();
        let mut settled = Vec::new();
        let mut leading = HashMap::new();
        for partition in state.partitions() {
            let number = partition.group;
            let Some(group) = shared.replicas.get(number) else {
                continue;
            };
            let (term, to) = (group.watermark().term(), partition.replicas[0]);
            if to == shared.config.node.id
                || !group.watermark().is_leader()
                || !shared.peers.is_up(to)
            {
                continue;
            }
            let since = match led_since.get(&number) {
                Some((known, since)) if *known == term => *since,
                _ => Instant::now(),
            };
            leading.insert(number, (term, since));
            if since.elapsed() >= SETTLED_AFTER {
                settled.push((group, to));
            }
        }
        led_since = leading;
        for (group, to) in settled.into_iter().take(HANDOVERS) {
            hand_over(&group, to).await;
            led_since.remove(&group.group());
        }
    }
}

/// Hands a group over if `to` has all of it; otherwise a later look will.
async fn hand_over(group: &Group, to: u64) {
    let Some(status) = group.status().await else {
        return;
    };
    let caught_up = status
        .peers
        .iter()
        .any(|peer| peer.node == to && peer.match_index >= status.commit_index);
    if !caught_up || !status.voters.contains(&to) {
        return;
    }
    match group.transfer(to).await {
        Ok(()) => tracing::info!(
            group = group.group(),
            to,
            "leadership went to the preferred replica"
        ),
        Err(error) => {
            tracing::debug!(group = group.group(), to, %error, "the preferred replica did not take over");
        }
    }
}
