//! A cluster that holds many partitions and is asked nothing.

use std::time::Duration;

use plimsoll::client::{Admin, Client};
use plimsoll::config::ClientConfig;
use plimsoll::wire::NodeUsage;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Making a topic of thousands of partitions takes its time.
const CREATE_WITHIN: Duration = Duration::from_secs(120);

pub(crate) async fn measure(partitions: u32, seconds: u64) -> Value {
    let cluster = Cluster::start(3).await;
    let config = ClientConfig::load(&cluster.client_file()).expect("init wrote it");
    let client = Client::connect(&config).await.expect("a node answers");
    let admin = client.admin().timeout(CREATE_WITHIN);
    let empty = usages(&admin).await;
    let made = admin.create_topic("rest", partitions, 3).await;
    made.expect("nodes take as many");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let before = usages(&admin).await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = usages(&admin).await;
    client.close().await;
    let share = |place: usize| {
        let (before, after) = (&before[place], &after[place]);
        (after.cpu_ns - before.cpu_ns) as f64 / (after.clock_ns - before.clock_ns) as f64
    };
    let cpu: Vec<f64> = (0..3).map(|place| 100.0 * share(place)).collect();
    let grown = |place: usize| {
        let bytes = after[place]
            .anonymous_bytes
            .saturating_sub(empty[place].anonymous_bytes);
        bytes as f64 / 1024.0 / f64::from(partitions)
    };
    let kib: Vec<f64> = (0..3).map(grown).collect();
    let of = |field: fn(&NodeUsage) -> u64| after.iter().map(field).collect::<Vec<u64>>();
    json!({
        "case": "rest",
        "partitions": partitions,
        "seconds": seconds,
        "cpu_percent_of_a_core": { "all": cpu.iter().sum::<f64>(), "nodes": cpu },
        "kib_per_replica": kib,
        "anonymous_bytes": of(|usage| usage.anonymous_bytes),
        "page_cache_bytes": of(|usage| usage.file_bytes),
    })
}

async fn usages(admin: &Admin) -> Vec<NodeUsage> {
    let mut usages = Vec::new();
    for node in 1..=3 {
        usages.push(admin.usage(node).await.expect("the node runs"));
    }
    usages
}
