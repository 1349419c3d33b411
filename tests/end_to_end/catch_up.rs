//! Nodes that were away for longer than what is retained, and nodes that are new to a group with data: they are brought up, and then
//! hold what the others hold.

use std::time::Duration;

use plimsoll::client::{Client, Record};
use plimsoll::wire::GroupStatus;
use segment_store::fs::RealFs;
use segment_store::{FrameHeader, verify};

use crate::harness::Cluster;
use crate::raw::within;

const TOPIC: &str = "ships";
const RECORD_BYTES: usize = 4_000;

/// Keeps about a MiB of each partition, and takes any lag of more than a quarter of that for far behind.
fn retaining() -> Cluster {
    Cluster::start_with(3, |config| {
        config.log.segment_bytes_first = 256 << 10;
        config.log.segment_bytes_max = 1 << 20;
        config.log.retention_bytes = 1 << 20;
        config.raft.catch_up_lag_bytes = 256 << 10;
    })
}

/// Records that do not compress.
async fn produce(client: &Client, count: usize, seed: u64) {
    let producer = client.producer(TOPIC).build().await.unwrap();
    let mut dice = fastrand::Rng::with_seed(seed);
    for _ in 0..count.div_ceil(200) {
        let mut deliveries = Vec::new();
        for _ in 0..200 {
            let value: Vec<u8> = (0..RECORD_BYTES).map(|_| dice.u8(..)).collect();
            let record = Record::value(&value).partition(0);
            deliveries.push(within(producer.send(record)).await.unwrap());
        }
        for delivery in deliveries {
            within(delivery).await.unwrap();
        }
    }
    within(producer.close()).await.unwrap();
}

async fn partition(client: &Client) -> GroupStatus {
    let status = within(client.admin().status()).await.unwrap();
    let mut groups = status.groups.into_iter();
    groups
        .find(|group| group.topic.as_deref() == Some(TOPIC))
        .unwrap()
}

/// Waits until every replica shows readers as much as the leader does.
async fn level(client: &Client) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    within(async {
        loop {
            tick.tick().await;
            let group = partition(client).await;
            let replicas = &group.replicas;
            let level = |mark: u64| mark == group.high_watermark && mark > 0;
            if replicas.len() == 3 && replicas.iter().all(|one| level(one.high_watermark)) {
                return;
            }
        }
    })
    .await;
}

fn frames(cluster: &Cluster, node: u64, group: u64) -> Vec<(FrameHeader, u32)> {
    let dir = cluster.group_dir(node, group);
    let report = verify(&RealFs, &dir).unwrap();
    assert!(report.is_sound(), "node {node}: {:?}", report.problems);
    let frames = segment_store::dump(&RealFs, &dir).unwrap();
    frames.map(Result::unwrap).collect()
}

/// Stops all nodes and holds what their logs have in common against each other.
fn assert_identical(cluster: &mut Cluster, group: u64) {
    (1..=3).for_each(|node| cluster.stop_node(node));
    let logs: Vec<_> = (1..=3).map(|node| frames(cluster, node, group)).collect();
    let first = logs.iter().map(|log| log[0].0.index).max().unwrap();
    let last = logs.iter().map(|log| log[log.len() - 1].0.index).min();
    let last = last.unwrap();
    assert!(last > first + 2, "{first} to {last}");
    let common = |log: &[(FrameHeader, u32)]| -> Vec<(FrameHeader, u32)> {
        let within = |at: u64| (first..=last).contains(&at);
        let frames = log.iter().filter(|(header, _)| within(header.index));
        frames.copied().collect()
    };
    assert_eq!(common(&logs[1]), common(&logs[0]));
    assert_eq!(common(&logs[2]), common(&logs[0]));
}

#[tokio::test]
async fn node_that_was_down_for_longer_than_what_is_retained_comes_back_and_equals_the_others() {
    let mut cluster = retaining();
    let client = cluster.client().await;
    client.admin().create_topic(TOPIC, 1, 3).await.unwrap();
    produce(&client, 400, 1).await;
    level(&client).await;
    let before = partition(&client).await;
    cluster = cluster.stop_meanwhile(3).await;
    produce(&client, 2_400, 2).await;
    let meanwhile = partition(&client).await;
    assert!(
        meanwhile.log_start > before.high_watermark,
        "the others keep offset {} on, node 3 had {}",
        meanwhile.log_start,
        before.high_watermark
    );
    cluster.start_node(3);
    produce(&client, 400, 3).await;
    level(&client).await;
    // Whoever lags by little is served as ever.
    produce(&client, 200, 4).await;
    level(&client).await;
    client.close().await;
    assert_identical(&mut cluster, before.group);
}

#[tokio::test]
async fn node_that_lost_nothing_but_time_is_fed_from_the_log_while_a_producer_runs() {
    let mut cluster = Cluster::start_with(3, |config| {
        config.log.segment_bytes_first = 256 << 10;
        config.log.segment_bytes_max = 1 << 20;
        config.raft.catch_up_lag_bytes = 256 << 10;
        config.raft.catch_up_bytes_per_s = 4 << 20;
    });
    let client = cluster.client().await;
    client.admin().create_topic(TOPIC, 1, 3).await.unwrap();
    produce(&client, 200, 1).await;
    cluster = cluster.stop_meanwhile(3).await;
    produce(&client, 2_400, 2).await;
    cluster.start_node(3);
    produce(&client, 400, 3).await;
    level(&client).await;
    let group = partition(&client).await;
    assert_eq!(group.log_start, 0);
    client.close().await;
    assert_identical(&mut cluster, group.group);
    assert_eq!(frames(&cluster, 3, group.group)[0].0.index, 1);
}
