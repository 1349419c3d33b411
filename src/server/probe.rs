//! What the admin port asks of a running node: whether it is ready, and its figures at the moment.
//!
//! Called on the admin thread; reads what is published without a lock; only for the lags of peers it asks the loop. Must not know HTTP.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use segment_store::fs::Fs;

use super::http::Probe;
use super::metrics::sample::{GroupLabels, GroupSample, LinkTotals, NodeSample, PeerLag, Sample};
use super::shared::Shared;
use crate::config::Durability;
use crate::controller::{CONTROLLER_GROUP, State};
use crate::raft::ProgressState;
use crate::replica::Group;

/// Name of the controller's group in labels; no topic can have it.
const CONTROLLER: &str = "@controller";

/// The probe of one node.
pub(super) struct NodeProbe {
    pub(super) shared: Arc<Shared>,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) data_dir: PathBuf,
}

impl Probe for NodeProbe {
    fn missing(&self) -> Vec<String> {
        missing(&self.shared)
    }

    fn sample(&self, sample: &Sample<'_>) {
        let shared = &self.shared;
        let state = shared.view.state();
        for number in shared.replicas.groups() {
            let group = shared.replicas.get(number);
            if let (Some(group), Some(labels)) = (group, labels(&state, number)) {
                sample.group(labels, &group_sample(&group));
            }
        }
        for (peer, connection) in shared.peers.connections() {
            let stats = connection.stats();
            let totals = LinkTotals {
                sent_packets: stats.sent_packets,
                sent_bytes: stats.sent_bytes,
                lost_packets: stats.lost_packets,
                lost_bytes: stats.retransmitted_bytes,
            };
            sample.link(peer, stats.rtt.as_secs_f64(), totals);
        }
        let repairs = shared.replicas.repairs();
        let under_way = state.partitions().filter(|partition| !partition.settled);
        sample.node(&NodeSample {
            acks_before_sync: shared.config.log.durability == Durability::PageCache,
            groups_damaged: repairs.len() as u64,
            groups_halted: repairs.iter().filter(|repair| repair.halted).count() as u64,
            moves_under_way: under_way.count() as u64,
            client_connections: shared.clients.load(Ordering::Relaxed),
            peer_connections: shared.peers.accepted_count() as u64,
            disk_free_bytes: self.fs.free_bytes(&self.data_dir).unwrap_or(0),
        });
    }

    fn lags(&self) -> Pin<Box<dyn Future<Output = Vec<PeerLag>> + Send + '_>> {
        Box::pin(async {
            let (replicas, state) = (&self.shared.replicas, self.shared.view.state());
            let mut lags = Vec::new();
            for number in replicas.groups() {
                let led = replicas
                    .get(number)
                    .filter(|group| group.watermark().is_leader());
                let (Some(group), Some(labels)) = (led, labels(&state, number)) else {
                    continue;
                };
                let Some(status) = group.status().await else {
                    continue;
                };
                lags.extend(status.peers.iter().map(|peer| PeerLag {
                    group: number,
                    topic: labels.topic.to_owned(),
                    partition: labels.partition,
                    peer: peer.node,
                    entries: peer.lag_entries,
                    bytes: peer.lag_bytes,
                    catching_up: matches!(
                        peer.state,
                        ProgressState::CatchUp | ProgressState::Install
                    ),
                }));
            }
            lags
        })
    }
}

/// The labels of a group that the controller knows, or of the controller's own.
fn labels(state: &State, group: u64) -> Option<GroupLabels<'_>> {
    let (topic, partition) = match state.group(group) {
        Some((topic, partition)) => (topic.name.as_str(), partition),
        None if group == CONTROLLER_GROUP => (CONTROLLER, 0),
        None => return None,
    };
    Some(GroupLabels {
        group,
        topic,
        partition,
    })
}

fn group_sample(group: &Group) -> GroupSample {
    let (watermark, reader) = (group.watermark(), group.reader());
    GroupSample {
        has_leader: watermark.leader().is_some(),
        is_leader: watermark.is_leader(),
        term: watermark.term(),
        commit_index: watermark.commit_index(),
        last_index: reader.last_index(),
        high_watermark: watermark.high_watermark(),
        log_start: watermark.log_start(),
        leader_changes: watermark.leader_changes(),
        segments: reader.segments() as u64,
        disk_bytes: reader.disk_bytes(),
    }
}

/// What the node still lacks to serve, one sentence each.
pub(super) fn missing(shared: &Shared) -> Vec<String> {
    let mut missing = Vec::new();
    if shared.is_stopping() {
        missing.push("the node is shutting down".to_owned());
    }
    for repair in shared.replicas.repairs() {
        missing.push(match repair.halted {
            true => format!(
                "group {} is halted: no node has entry {}, which is damaged here",
                repair.group, repair.first_missing
            ),
            false => format!("group {} is being repaired from other nodes", repair.group),
        });
    }
    let controller = shared.replicas.get(CONTROLLER_GROUP);
    let Some(controller) = controller else {
        missing.push("the controller's group is not open".to_owned());
        return missing;
    };
    let watermark = controller.watermark();
    if watermark.leader().is_none() {
        missing.push(
            "the controller has no leader: is a majority of the nodes running and connected?"
                .to_owned(),
        );
    } else if watermark.commit_index() == 0 || watermark.applied_index() < watermark.commit_index()
    {
        missing.push("the controller's log is still being applied".to_owned());
    }
    let reconciled = *shared.reconciled.borrow();
    if reconciled.revision != *shared.view.subscribe().borrow() || !reconciled.complete {
        missing.push("not all groups that belong here are open".to_owned());
    }
    let leaderless = |group: &u64| {
        shared
            .replicas
            .get(*group)
            .is_some_and(|group| group.watermark().leader().is_none())
    };
    let leaderless = shared
        .replicas
        .groups()
        .into_iter()
        .filter(|group| *group != CONTROLLER_GROUP)
        .filter(leaderless)
        .count();
    if leaderless > 0 {
        missing.push(format!("{leaderless} groups have no leader"));
    }
    missing
}
