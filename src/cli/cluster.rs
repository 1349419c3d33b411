//! `plimsoll cluster`: every node and every group, as the cluster itself sees them, and what changes them.
//!
//! Owns the words of the verbs, and how the status is shown. Must not know how it is gathered.

mod change;
mod progress;

use clap::{Args, Subcommand};
use plimsoll::client::Client;
use plimsoll::wire::{ClusterStatus, GroupStatus};
use serde_json::{Value, json};

use super::Shared;
use super::output::{Failure, Format, Out, Table, or_dash};

/// Show the nodes and the groups of the cluster, or change them
#[derive(Args)]
pub(crate) struct Cluster {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Which nodes are up, who leads what, and how far each replica is
    Status,
    /// Take a node into the cluster, and give it its share of the replicas
    ///
    /// `plimsoll init DIR --add-node` makes its settings. It may be started before or after this.
    AddNode {
        /// Its number, which no node of this cluster ever had
        node: u64,
        /// Where the others dial it
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// Leave the replicas of existing topics where they are
        #[arg(long)]
        empty: bool,
    },
    /// Have a node give its replicas to the others, and forget it
    RemoveNode {
        /// Its number
        node: u64,
    },
    /// Have a new node take over everything of another, dead or alive
    ReplaceNode {
        /// The node that leaves
        old: u64,
        /// The number of the new one, which no node of this cluster ever had
        new: u64,
        /// Where the others dial the new one
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
    },
    /// Hand the leadership of a partition to one of its replicas, and have it stay there
    TransferLeader {
        /// TOPIC/PARTITION, or the number of a group (0 is the controller's)
        place: String,
        /// The node that shall lead
        node: u64,
    },
    /// Spread replicas and leaders evenly over the nodes
    Rebalance,
}

impl Cluster {
    pub(crate) fn run(self, shared: &Shared) -> Result<(), Failure> {
        let format = shared.output;
        super::with_client(shared, async |client| match &self.verb {
            Verb::Status => status(client, format).await,
            Verb::AddNode {
                node,
                address,
                empty,
            } => change::add_node(client, format, *node, address, *empty).await,
            Verb::RemoveNode { node } => change::remove_node(client, format, *node).await,
            Verb::ReplaceNode { old, new, address } => {
                change::replace_node(client, format, *old, *new, address).await
            }
            Verb::TransferLeader { place, node } => {
                change::transfer_leader(client, format, place, *node).await
            }
            Verb::Rebalance => change::rebalance(client, format).await,
        })
    }
}

async fn status(client: &Client, format: Format) -> Result<(), Failure> {
    let status = client.admin().status().await?;
    let mut out = Out::new();
    match format {
        Format::Json => out.json(&as_json(&status))?,
        Format::Human => print(&status, &mut out)?,
    }
    out.flush()
}

fn print(status: &ClusterStatus, out: &mut Out) -> Result<(), Failure> {
    out.line(format!("cluster {}\n", status.cluster))?;
    if !status.current {
        out.line("The controller has no leader with a majority: this is what was known before.\n")?;
    }
    let mut nodes = Table::new(&["NODE", "ADDRESS", "STATE"]);
    for node in &status.nodes {
        let state = match (node.up, node.leaving) {
            (true, false) => "up",
            (true, true) => "up, leaving",
            (false, false) => "down",
            (false, true) => "down, leaving",
        };
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
    groups.print(out)?;
    match status.groups.iter().filter(|group| !group.settled).count() {
        0 => Ok(()),
        moving => out.line(format!("\n{moving} partitions are on the move.")),
    }
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
    let now = shown.collect::<Vec<_>>().join("  ");
    if group.settled {
        return now;
    }
    let shall: Vec<String> = group.shall.iter().map(u64::to_string).collect();
    format!("{now}  -> {}", shall.join(","))
}

fn as_json(status: &ClusterStatus) -> Value {
    let nodes: Vec<Value> = status
        .nodes
        .iter()
        .map(|node| json!({ "id": node.id, "address": node.address, "up": node.up, "leaving": node.leaving }))
        .collect();
    let groups: Vec<Value> = status.groups.iter().map(group_as_json).collect();
    json!({ "cluster": status.cluster, "current": status.current, "nodes": nodes, "groups": groups })
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
        "shall": group.shall,
        "settled": group.settled,
    })
}
