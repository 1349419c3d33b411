//! Real processes, really killed: what an ack promised is still there, exactly once, and service goes on by itself.
//!
//! The nodes are `plimsoll serve` processes with real files, real fsync and real certificates; faults are SIGKILL and SIGTERM. Whatever is
//! judged is judged from outside, by the public client and the offline tools. `PLIMSOLL_KILL_CYCLES` makes the runs longer.

#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
mod frames;
mod history;
mod workload;

use std::time::Duration;

use cluster::{Cluster, verify};
use plimsoll::client::{Client, Replica};
use workload::{Load, connect, consume_all};

const TOPIC: &str = "ledger";
const PARTITIONS: u32 = 2;
const NODES: u64 = 3;

/// Kill cycles per test; a few in CI, any number by hand.
fn cycles(usual: u32) -> u32 {
    match std::env::var("PLIMSOLL_KILL_CYCLES") {
        Ok(text) => text.parse().expect("PLIMSOLL_KILL_CYCLES is a number"),
        Err(_) => usual,
    }
}

async fn ledger(cluster: &Cluster) -> Client {
    let client = connect(&cluster.client_file()).await;
    client
        .admin()
        .create_topic(TOPIC, PARTITIONS, NODES as u32)
        .await
        .expect("a topic can be created");
    client
}

/// Leader of partition 0, as soon as one is known.
async fn leader(client: &Client) -> u64 {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1_000 {
        tick.tick().await;
        let Ok(topic) = client.admin().describe_topic(TOPIC).await else {
            continue;
        };
        if let Some(leader) = topic.partitions[0].leader {
            return leader;
        }
    }
    panic!("partition 0 finds no leader");
}

/// Reads everything back from each node and holds it against what the producer was told; then stops all nodes and looks at their files.
async fn judge(mut cluster: Cluster, client: Client, load: Load) {
    let (history, longest) = load.finish().await;
    eprintln!(
        "{} acked, {} failed, longest time between two acks {longest:?}",
        history.acked.len(),
        history.failed.len()
    );
    assert!(!history.acked.is_empty(), "nothing was acked at all");
    for partition in 0..PARTITIONS {
        // A follower may still be told of the last commits; wait until each has what is committed now.
        wait_until_caught_up(&client, partition).await;
    }
    for node in 1..=NODES {
        let seen = consume_all(&client, TOPIC, Replica::Node(node)).await;
        let wrong = history.anomalies(&seen);
        assert!(wrong.is_empty(), "as read from node {node}: {wrong:#?}");
    }
    client.close().await;
    for node in 1..=NODES {
        let status = cluster.stop(node);
        assert!(status.success(), "node {node} ended with {status}");
    }
    let folders: Vec<_> = (1..=NODES).map(|node| cluster.data_dir(node)).collect();
    for folder in &folders {
        verify(folder);
    }
    frames::assert_identical(&folders);
}

async fn wait_until_caught_up(client: &Client, partition: u32) {
    let end = client
        .admin()
        .end_offset(TOPIC, partition)
        .await
        .expect("the end of the log can be asked for");
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..600 {
        tick.tick().await;
        let Ok(status) = client.admin().status().await else {
            continue;
        };
        let group = status
            .groups
            .iter()
            .find(|group| {
                group.topic.as_deref() == Some(TOPIC) && group.partition == Some(partition)
            })
            .expect("the topic's groups are in the status");
        if group.replicas.len() == NODES as usize
            && group
                .replicas
                .iter()
                .all(|replica| replica.high_watermark >= end)
        {
            return;
        }
    }
    panic!("partition {partition} does not converge");
}

#[tokio::test]
async fn killing_the_leader_again_and_again_loses_and_doubles_no_acked_record() {
    let mut cluster = Cluster::start(NODES as u16);
    let client = ledger(&cluster).await;
    let load = Load::start(&client, TOPIC);
    load.wait_for_acks(200).await;
    for _ in 0..cycles(5) {
        let victim = leader(&client).await;
        cluster.kill(victim);
        load.wait_for_acks(500).await;
        cluster.serve(victim);
        cluster.wait_ready();
        load.wait_for_acks(200).await;
    }
    judge(cluster, client, load).await;
}

#[tokio::test]
async fn killing_every_node_at_once_loses_and_doubles_no_acked_record() {
    let mut cluster = Cluster::start(NODES as u16);
    let client = ledger(&cluster).await;
    let load = Load::start(&client, TOPIC);
    for _ in 0..cycles(3) {
        load.wait_for_acks(500).await;
        for node in 1..=NODES {
            cluster.kill(node);
        }
        for node in 1..=NODES {
            cluster.serve(node);
        }
        cluster.wait_ready();
        load.wait_for_acks(200).await;
    }
    judge(cluster, client, load).await;
}

#[tokio::test]
async fn stopping_nodes_in_turn_with_sigterm_costs_nothing() {
    let mut cluster = Cluster::start(NODES as u16);
    let client = ledger(&cluster).await;
    let load = Load::start(&client, TOPIC);
    for node in 1..=NODES {
        load.wait_for_acks(200).await;
        let status = cluster.stop(node);
        assert!(status.success(), "node {node} ended with {status}");
        load.wait_for_acks(200).await;
        cluster.serve(node);
        cluster.wait_ready();
    }
    judge(cluster, client, load).await;
}
