//! What is known of the cluster: each node reports on its own replicas, and whoever is asked puts the reports together.
//!
//! On no hot walk. Must not know what the figures are for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::shared::Shared;
use crate::controller::{CONTROLLER_GROUP, State};
use crate::raft::Role;
use crate::replica::{GroupStatus as OwnStatus, RepairStatus, Replicas};
use crate::wire::{
    ClusterStatus, GroupStatus, NodeReport, NodeStatus, ReplicaReport, ReplicaRole, ReplicaStatus,
};

/// How long the answer waits for a majority to confirm that it is the latest.
const CURRENT_WITHIN: Duration = Duration::from_secs(1);

/// What this node knows of its own replicas.
pub(super) async fn own(node: u64, replicas: &Replicas) -> NodeReport {
    let mut reports = Vec::new();
    for group in replicas.groups() {
        let Some(group) = replicas.get(group) else {
            continue;
        };
        if let Some(status) = group.status().await {
            reports.push(replica(&status));
        }
    }
    reports.extend(replicas.repairs().iter().map(repairing));
    NodeReport {
        node,
        replicas: reports,
    }
}

/// A replica whose log is damaged: it takes no part, and knows only how far its log goes.
fn repairing(status: &RepairStatus) -> ReplicaReport {
    ReplicaReport {
        group: status.group,
        role: match status.halted {
            true => ReplicaRole::Halted,
            false => ReplicaRole::Damaged,
        },
        term: 0,
        leader: None,
        durable_index: status.last_index,
        commit_index: 0,
        high_watermark: 0,
        log_start: 0,
        voters: Vec::new(),
        learners: Vec::new(),
        followers: Vec::new(),
    }
}

fn replica(status: &OwnStatus) -> ReplicaReport {
    ReplicaReport {
        group: status.group,
        role: role(status.role),
        term: status.term,
        leader: status.leader,
        durable_index: status.durable_index,
        commit_index: status.commit_index,
        high_watermark: status.high_watermark,
        log_start: status.log_start,
        voters: status.voters.clone(),
        learners: status.learners.clone(),
        followers: status
            .peers
            .iter()
            .map(|peer| (peer.node, peer.match_index))
            .collect(),
    }
}

fn role(role: Role) -> ReplicaRole {
    match role {
        Role::Leader => ReplicaRole::Leader,
        Role::Follower => ReplicaRole::Follower,
        Role::PreCandidate | Role::Candidate => ReplicaRole::Candidate,
    }
}

/// The whole cluster: this node's own report, and those of the nodes it can reach.
pub(super) async fn cluster(shared: &Shared) -> ClusterStatus {
    let here = shared.config.node.id;
    let fresh = tokio::time::timeout(CURRENT_WITHIN, shared.catch_up_with_controller()).await;
    let current = matches!(fresh, Ok(Ok(())));
    let mut reports: BTreeMap<u64, NodeReport> = BTreeMap::new();
    reports.insert(here, own(here, &shared.replicas).await);
    let nodes = shared.nodes();
    let asked: Vec<_> = nodes
        .keys()
        .copied()
        .filter(|node| *node != here)
        .map(|node| {
            let peers = std::sync::Arc::clone(&shared.peers);
            tokio::spawn(async move { (node, peers.report_of(node).await) })
        })
        .collect();
    for asked in asked {
        if let Ok((node, Some(report))) = asked.await {
            reports.insert(node, report);
        }
    }
    let state = shared.view.state();
    let status = |(id, address): (u64, String)| NodeStatus {
        id,
        address,
        up: shared.peers.is_up(id),
        leaving: state.node(id).is_some_and(|member| member.leaving),
    };
    ClusterStatus {
        cluster: shared.config.node.cluster.clone(),
        current,
        nodes: nodes.into_iter().map(status).collect(),
        groups: groups(&state, &reports),
    }
}

fn groups(state: &State, reports: &BTreeMap<u64, NodeReport>) -> Vec<GroupStatus> {
    let by_group: BTreeMap<(u64, u64), &ReplicaReport> = reports
        .values()
        .flat_map(|report| {
            report
                .replicas
                .iter()
                .map(|replica| ((replica.group, report.node), replica))
        })
        .collect();
    let all: Vec<u64> = match state.nodes().next() {
        Some(_) => state.nodes().map(|(node, _)| node).collect(),
        None => reports.keys().copied().collect(),
    };
    let controller = std::iter::once(group(CONTROLLER_GROUP, None, &all, &by_group));
    let partitions = state.partitions().map(|placed| {
        let (topic, partition) = state.group(placed.group).expect("of the same state");
        let of = Some((topic.name.clone(), partition));
        let status = group(placed.group, of, &placed.holders, &by_group);
        GroupStatus {
            shall: placed.replicas.clone(),
            settled: placed.settled,
            ..status
        }
    });
    controller.chain(partitions).collect()
}

/// Puts together what the nodes say of one group. Where a node does not answer, its leader's word stands in.
fn group(
    number: u64,
    of: Option<(String, u32)>,
    nodes: &[u64],
    reports: &BTreeMap<(u64, u64), &ReplicaReport>,
) -> GroupStatus {
    let known = || {
        nodes
            .iter()
            .filter_map(|node| reports.get(&(number, *node)).map(|report| (*node, *report)))
    };
    let leading = known()
        .filter(|(_, report)| report.role == ReplicaRole::Leader)
        .max_by_key(|(_, report)| report.term);
    // Without a leader's report, the freshest of the others has the best idea.
    let best =
        leading.or_else(|| known().max_by_key(|(_, report)| (report.term, report.commit_index)));
    let matched = |node: u64| {
        leading.and_then(|(_, leader)| {
            leader
                .followers
                .iter()
                .find(|(follower, _)| *follower == node)
                .map(|(_, index)| *index)
        })
    };
    let learns = |node: u64| best.is_some_and(|(_, report)| report.learners.contains(&node));
    let replicas = nodes.iter().map(|node| {
        let own = reports.get(&(number, *node));
        ReplicaStatus {
            node: *node,
            role: match own.map_or(ReplicaRole::Unknown, |own| own.role) {
                ReplicaRole::Follower if learns(*node) => ReplicaRole::Learner,
                role => role,
            },
            match_index: matched(*node)
                .or(own.map(|own| own.durable_index))
                .unwrap_or(0),
            high_watermark: own.map_or(0, |own| own.high_watermark),
        }
    });
    let (topic, partition) = of.unzip();
    GroupStatus {
        group: number,
        topic,
        partition,
        leader: leading
            .map(|(node, _)| node)
            .or(best.and_then(|(_, report)| report.leader)),
        term: best.map_or(0, |(_, report)| report.term),
        commit_index: best.map_or(0, |(_, report)| report.commit_index),
        high_watermark: best.map_or(0, |(_, report)| report.high_watermark),
        log_start: best.map_or(0, |(_, report)| report.log_start),
        replicas: replicas.collect(),
        shall: nodes.to_vec(),
        settled: true,
    }
}
