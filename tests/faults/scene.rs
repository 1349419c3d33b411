//! A cluster at work, and the judgement over it: what every scenario begins and ends with.
//!
//! Owns the topic that is written and the order of the final checks: histories by the public client from each node's replicas, then the
//! files of the stopped nodes. Knows no particular fault.

use std::future::pending;
use std::time::{Duration, Instant};

use plimsoll::client::{Client, Replica};
use tokio::time::timeout;

use crate::cluster::{Cluster, Setup, verify};
use crate::frames;
use crate::workload::{Load, connect, consume_all};

pub(crate) const TOPIC: &str = "ledger";
pub(crate) const PARTITIONS: u32 = 2;

/// A cluster whose topic is written, read and asked about.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) load: Load,
    began: Instant,
}

/// Cycles per test; a few in CI, any number by hand.
pub(crate) fn cycles(usual: u32) -> u32 {
    let cycles = match std::env::var("PLIMSOLL_KILL_CYCLES") {
        Ok(text) => text.parse().expect("PLIMSOLL_KILL_CYCLES is a number"),
        Err(_) => usual,
    };
    eprintln!("{cycles} cycles");
    cycles
}

/// Seed of what is drawn at random; printed, and set by hand to draw the same again.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("PLIMSOLL_FAULT_SEED") {
        Ok(text) => text.parse().expect("PLIMSOLL_FAULT_SEED is a number"),
        Err(_) => fastrand::u64(..1 << 32),
    };
    eprintln!("PLIMSOLL_FAULT_SEED={seed}");
    seed
}

/// Lets a fault last. Nothing may depend on how long it really takes.
pub(crate) async fn for_a_while(time: Duration) {
    drop(timeout(time, pending::<()>()).await);
}

impl Scene {
    /// Starts a cluster, makes the topic with a replica on every node, and sets everybody to work.
    pub(crate) async fn start(setup: Setup) -> Scene {
        let nodes = u32::from(setup.nodes);
        let cluster = Cluster::start_as(setup).await;
        let client = connect(&cluster.client_file()).await;
        make_topic(&client, PARTITIONS, nodes).await;
        let replicas = [Replica::Leader, Replica::Any, Replica::Node(1)];
        let load = Load::start(&cluster.client_file(), TOPIC, &replicas).await;
        load.wait_for_acks(200).await;
        Scene {
            cluster,
            client,
            load,
            began: Instant::now(),
        }
    }

    /// Leader of partition 0, as soon as one is known.
    pub(crate) async fn leader(&self) -> u64 {
        leader(&self.client).await
    }

    /// Reads everything back from each node and holds it against what everybody was told; then stops all nodes and looks at their files.
    pub(crate) async fn judge(self) {
        let Scene {
            mut cluster,
            client,
            load,
            began,
        } = self;
        cluster.wait_ready().await;
        let story = load.finish().await;
        eprintln!(
            "{} acked, {} failed, {} ends told, {:.0} s, longest time between two acks of a producer {:.1} s",
            story.history.acked(),
            story.history.failed(),
            story.answers,
            began.elapsed().as_secs_f64(),
            story.longest.as_secs_f64(),
        );
        assert!(story.history.acked() > 0, "nothing was acked at all");
        assert!(story.answers > 0, "no end was told at all");
        for partition in 0..PARTITIONS {
            wait_until_caught_up(&client, partition, cluster.all().len()).await;
        }
        for node in cluster.all() {
            let seen = consume_all(&client, TOPIC, Replica::Node(node)).await;
            let wrong = story.anomalies(&seen);
            assert!(wrong.is_empty(), "as read from node {node}: {wrong:#?}");
        }
        client.close().await;
        stop_and_compare(cluster);
    }
}

/// Makes the topic; a cluster that has just started may take its time.
pub(crate) async fn make_topic(client: &Client, partitions: u32, replicas: u32) {
    let admin = client.admin().timeout(Duration::from_secs(60));
    admin
        .create_topic(TOPIC, partitions, replicas)
        .await
        .expect("a topic can be created");
}

/// Leader of partition 0, as soon as one is known.
pub(crate) async fn leader(client: &Client) -> u64 {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..3_000 {
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

/// Stops all nodes in good order, and looks whether their files are whole and the same.
pub(crate) fn stop_and_compare(mut cluster: Cluster) {
    for node in cluster.running() {
        let status = cluster.stop(node);
        assert!(status.success(), "node {node} ended with {status}");
    }
    let folders: Vec<_> = cluster
        .all()
        .iter()
        .map(|&node| cluster.data_dir(node))
        .collect();
    for folder in &folders {
        verify(folder);
    }
    frames::assert_identical(&folders);
}

/// A follower may still be told of the last commits: waits until each has what is committed now.
pub(crate) async fn wait_until_caught_up(client: &Client, partition: u32, nodes: usize) {
    let admin = client.admin().timeout(Duration::from_secs(60));
    let end = admin
        .end_offset(TOPIC, partition)
        .await
        .expect("the end of the log can be asked for");
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..1_200 {
        tick.tick().await;
        if all_have(client, partition, nodes, end).await {
            return;
        }
    }
    panic!("partition {partition} does not converge");
}

/// Whether every replica of a partition has what is committed now.
pub(crate) async fn has_caught_up(client: &Client, partition: u32, nodes: usize) -> bool {
    match client.admin().end_offset(TOPIC, partition).await {
        Ok(end) => all_have(client, partition, nodes, end).await,
        Err(_) => false,
    }
}

async fn all_have(client: &Client, partition: u32, nodes: usize, end: u64) -> bool {
    let Ok(status) = client.admin().status().await else {
        return false;
    };
    let ours = |topic: Option<&str>, of: Option<u32>| topic == Some(TOPIC) && of == Some(partition);
    let mut groups = status.groups.iter();
    let Some(group) = groups.find(|group| ours(group.topic.as_deref(), group.partition)) else {
        // A node that has just started has not heard of the topic yet.
        return false;
    };
    let replicas = &group.replicas;
    replicas.len() == nodes && replicas.iter().all(|replica| replica.high_watermark >= end)
}

/// Whether this machine lets us run something by `command`, which runs what follows it. Says so if not: the test is then not run.
pub(crate) fn can_run_within(command: &[String], otherwise: &str) -> bool {
    let tried = std::process::Command::new(&command[0])
        .args(&command[1..])
        .arg("true")
        .stdin(std::process::Stdio::null())
        .output();
    let said = match tried {
        Ok(done) if done.status.success() => return true,
        Ok(done) => String::from_utf8_lossy(&done.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("NOT RUN: {otherwise}: {said}");
    false
}
