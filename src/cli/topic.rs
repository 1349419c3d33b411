//! `plimsoll topic`: create, list, describe and delete topics.
//!
//! Owns how topics are shown. Must not know how they are placed or kept: it asks the cluster.

use clap::{Args, Subcommand};
use plimsoll::client::Client;
use plimsoll::wire::TopicInfo;
use serde_json::{Value, json};

use super::Shared;
use super::output::{Failure, Format, Out, Table, or_dash};

/// Create, list, describe or delete topics
#[derive(Args)]
pub(crate) struct Topic {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a topic
    Create {
        /// 1 to 100 of A-Z, a-z, 0-9, `.`, `_` and `-`
        name: String,
        /// Number of partitions, for ever
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        partitions: u32,
        /// Replicas of each partition [default: 3, or all nodes where there are fewer]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        replicas: Option<u32>,
    },
    /// Show all topics
    List,
    /// Show the partitions of a topic, their leaders and replicas
    Describe {
        /// The topic
        name: String,
    },
    /// Delete a topic with all its records
    Delete {
        /// The topic
        name: String,
    },
}

impl Topic {
    pub(crate) fn run(self, shared: &Shared) -> Result<(), Failure> {
        super::with_client(shared, async |client| {
            self.verb.run(client, shared.output).await
        })
    }
}

impl Verb {
    async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let admin = client.admin();
        let mut out = Out::new();
        match self {
            Self::Create {
                name,
                partitions,
                replicas,
            } => {
                admin
                    .create_topic(&name, partitions, replicas.unwrap_or(0))
                    .await?;
                let topic = admin.describe_topic(&name).await?;
                match format {
                    Format::Json => out.json(&summary(&topic))?,
                    Format::Human => {
                        let (partitions, replicas) = (topic.partitions.len(), replicas_of(&topic));
                        out.line(format!(
                            "created {name}: {partitions} partitions, {replicas} replicas each"
                        ))?;
                    }
                }
            }
            Self::List => list(&admin.list_topics().await?, format, &mut out)?,
            Self::Describe { name } => {
                describe(&admin.describe_topic(&name).await?, format, &mut out)?;
            }
            Self::Delete { name } => {
                admin.delete_topic(&name).await?;
                match format {
                    Format::Json => out.json(&json!({ "name": name, "deleted": true }))?,
                    Format::Human => out.line(format!("deleted {name}"))?,
                }
            }
        }
        out.flush()
    }
}

fn list(topics: &[TopicInfo], format: Format, out: &mut Out) -> Result<(), Failure> {
    if format == Format::Json {
        let topics: Vec<Value> = topics.iter().map(summary).collect();
        return out.json(&json!({ "topics": topics }));
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS"]);
    for topic in topics {
        let (partitions, replicas) = (topic.partitions.len(), replicas_of(topic));
        table.row(vec![
            topic.name.clone(),
            partitions.to_string(),
            replicas.to_string(),
        ]);
    }
    table.print(out)
}

fn describe(topic: &TopicInfo, format: Format, out: &mut Out) -> Result<(), Failure> {
    if format == Format::Json {
        let partitions: Vec<Value> = topic
            .partitions
            .iter()
            .map(|p| json!({ "partition": p.partition, "group": p.group, "leader": p.leader, "replicas": p.replicas }))
            .collect();
        return out.json(&json!({ "name": topic.name, "id": topic.id, "partitions": partitions }));
    }
    let mut table = Table::new(&["PARTITION", "GROUP", "LEADER", "REPLICAS"]);
    for p in &topic.partitions {
        let replicas: Vec<String> = p.replicas.iter().map(u64::to_string).collect();
        let (partition, group) = (p.partition.to_string(), p.group.to_string());
        table.row(vec![
            partition,
            group,
            or_dash(p.leader),
            replicas.join(","),
        ]);
    }
    table.print(out)
}

fn summary(topic: &TopicInfo) -> Value {
    json!({
        "name": topic.name,
        "id": topic.id,
        "partitions": topic.partitions.len(),
        "replicas": replicas_of(topic),
    })
}

/// All partitions of a topic have the same number of replicas.
fn replicas_of(topic: &TopicInfo) -> usize {
    topic
        .partitions
        .first()
        .map_or(0, |partition| partition.replicas.len())
}
