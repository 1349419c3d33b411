//! `plimsoll cluster status`: every node and every group, as the cluster itself sees them.
//!
//! Owns how that is shown. Must not know how it is gathered.

use clap::{Args, Subcommand};
use plimsoll::wire::{ClusterStatus, GroupStatus};
use serde_json::{Value, json};

use super::Shared;
use super::output::{Failure, Format, Out, Table, or_dash};

/// Show the nodes and the groups of the cluster
#[derive(Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Which nodes are up, who leads what, and how far each replica is
    Status,
}

impl Cluster {
    pub(crate) fn run(self, shared: &Shared) -> Result<(), Failure> {
        let Verb::Status = self.verb;
        super::with_client(shared, async |client| {
            let status = client.admin().status().await?;
            let mut out = Out::new();
            match shared.output {
                Format::Json => out.json(&as_json(&status))?,
                Format::Human => print(&status, &mut out)?,
            }
            out.flush()
        })
    }
}

fn print(status: &ClusterStatus, out: &mut Out) -> Result<(), Failure> {
    out.line(format!("cluster {}\n", status.cluster))?;
    let mut nodes = Table::new(&["NODE", "ADDRESS", "STATE"]);
    for node in &status.nodes {
        let state = if node.up { "up" } else { "down" };
        nodes.row(vec![
            node.id.to_string(),
            node.address.clone(),
            state.to_owned(),
        ]);
    }
    nodes.print(out)?;
    out.line("")?;
    let mut groups = Table::new(&[
        "GROUP",
        "TOPIC",
        "PARTITION",
        "LEADER",
        "TERM",
        "COMMIT",
        "HIGH-WATERMARK",
        "LOG-START",
        "REPLICAS (DURABLE)",
    ]);
    for group in &status.groups {
        groups.row(vec![
            group.group.to_string(),
            group
                .topic
                .clone()
                .unwrap_or_else(|| "(controller)".to_owned()),
            or_dash(group.partition),
            or_dash(group.leader),
            group.term.to_string(),
            group.commit_index.to_string(),
            group.high_watermark.to_string(),
            group.log_start.to_string(),
            replicas(group),
        ]);
    }
    groups.print(out)
}

/// Each replica's node with the last index durable there, and its role where that is not the usual one.
fn replicas(group: &GroupStatus) -> String {
    let shown = group.replicas.iter().map(|replica| {
        let role = match replica.role.as_str() {
            "leader" | "follower" => String::new(),
            other => format!(" {other}"),
        };
        format!("{}:{}{role}", replica.node, replica.match_index)
    });
    shown.collect::<Vec<_>>().join("  ")
}

fn as_json(status: &ClusterStatus) -> Value {
    let nodes: Vec<Value> = status
        .nodes
        .iter()
        .map(|node| json!({ "id": node.id, "address": node.address, "up": node.up }))
        .collect();
    let groups: Vec<Value> = status.groups.iter().map(group_as_json).collect();
    json!({ "cluster": status.cluster, "nodes": nodes, "groups": groups })
}

fn group_as_json(group: &GroupStatus) -> Value {
    let replicas: Vec<Value> = group
        .replicas
        .iter()
        .map(|replica| {
            json!({
                "node": replica.node,
                "role": replica.role.as_str(),
                "match_index": replica.match_index,
                "high_watermark": replica.high_watermark,
            })
        })
        .collect();
    json!({
        "group": group.group,
        "topic": group.topic,
        "partition": group.partition,
        "leader": group.leader,
        "term": group.term,
        "commit_index": group.commit_index,
        "high_watermark": group.high_watermark,
        "log_start": group.log_start,
        "replicas": replicas,
    })
}
