//! Time without service after SIGKILL of the leader, seen by a producer.
//!
//! Three `plimsoll serve` processes; a producer sends a record each millisecond to one partition, each acked alone. The leader is
//! killed, and the clock runs from the kill to the first ack of a record sent after it. Then the node is started again, and the next round
//! begins. Run by `cargo bench --bench failover`; `PLIMSOLL_ROUNDS` says how many rounds (default 15).

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/faults/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "../tests/faults/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::time::{Duration, Instant};

use cluster::Cluster;
use plimsoll::client::{Client, Producer, Record};
use plimsoll::config::ClientConfig;
use tokio::sync::watch;

const TOPIC: &str = "failover";

fn main() {
    let rounds = std::env::var("PLIMSOLL_ROUNDS").map_or(15, |text| {
        text.parse().expect("PLIMSOLL_ROUNDS is a number")
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let mut gaps = runtime.block_on(measure(rounds));
    gaps.sort_unstable();
    let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share).round() as usize].as_millis();
    println!(
        "time from SIGKILL of the leader to the next ack, {rounds} rounds, ms: min {} p50 {} p90 {} max {}",
        at(0.0),
        at(0.5),
        at(0.9),
        at(1.0)
    );
}

async fn measure(rounds: usize) -> Vec<Duration> {
    let mut cluster = Cluster::start(3).await;
    let config = ClientConfig::load(&cluster.client_file()).expect("client.toml can be read");
    let client = Client::connect(&config).await.expect("a node answers");
    let admin = client.admin();
    admin.create_topic(TOPIC, 1, 3).await.expect("it is new");
    let producer = client
        .producer(TOPIC)
        .linger(Duration::ZERO)
        .build()
        .await
        .expect("the topic is there");
    // The newest send time of a record that is acked.
    let (acked, mut newest) = watch::channel(Instant::now());
    let sender = tokio::spawn(send(producer, acked));
    let mut gaps = Vec::with_capacity(rounds);
    for round in 1..=rounds {
        let victim = leader(&client).await;
        cluster.kill(victim);
        let killed = Instant::now();
        while *newest.borrow_and_update() < killed {
            newest.changed().await.expect("the sender goes on");
        }
        gaps.push(killed.elapsed());
        eprintln!("round {round}: {} ms", killed.elapsed().as_millis());
        cluster.serve(victim);
        cluster.wait_ready().await;
        settle(&client).await;
    }
    sender.abort();
    gaps
}

async fn send(producer: Producer, acked: watch::Sender<Instant>) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let sent = Instant::now();
        let delivery = producer
            .send(Record::value("x"))
            .await
            .expect("there is room");
        let acked = acked.clone();
        tokio::spawn(async move {
            delivery.await.expect("the cluster goes on");
            acked.send_if_modified(|newest| {
                let newer = sent > *newest;
                *newest = sent.max(*newest);
                newer
            });
        });
    }
}

async fn leader(client: &Client) -> u64 {
    loop {
        let topic = client
            .admin()
            .describe_topic(TOPIC)
            .await
            .expect("it is there");
        if let Some(leader) = topic.partitions[0].leader {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until every replica has what is committed: else the next kill could leave no majority that has it at once.
async fn settle(client: &Client) {
    let end = client
        .admin()
        .end_offset(TOPIC, 0)
        .await
        .expect("it has a leader");
    loop {
        let status = client.admin().status().await.expect("a node answers");
        let group = status
            .groups
            .iter()
            .find(|group| group.topic.as_deref() == Some(TOPIC));
        let replicas = &group.expect("it is listed").replicas;
        if replicas.len() == 3 && replicas.iter().all(|replica| replica.high_watermark >= end) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
