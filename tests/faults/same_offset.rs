//! An offset that was acked is never given to another record: not by a node alone, not by three or five, however they die.
//!
//! Known from other systems: a solo node acks, crashes, and hands the same offset out again. One record at a time here, and a SIGKILL
//! between each ack and the next record.

use std::time::Duration;

use plimsoll::client::{Client, Record, Replica};

use crate::cluster::Cluster;
use crate::scene::{TOPIC, cycles, leader, make_topic, seed};
use crate::workload::{connect, consume_all};

/// Sends one record with a fresh producer, and gives the offset of its ack.
async fn produce_one(client: &Client, value: u64) -> u64 {
    let producer = client
        .producer(TOPIC)
        .linger(Duration::ZERO)
        .delivery_timeout(Duration::from_secs(90))
        .build()
        .await
        .expect("the topic is there");
    let text = value.to_string();
    let sent = producer.send(Record::value(&text)).await;
    let ack = sent.expect("it is taken").await.expect("it is acked");
    ack.offset
}

async fn acked_offsets_stay_taken(nodes: u16, rounds: u32) {
    let mut dice = fastrand::Rng::with_seed(seed());
    let mut cluster = Cluster::start(nodes).await;
    let client = connect(&cluster.client_file()).await;
    make_topic(&client, 1, u32::from(nodes)).await;
    let rounds = u64::from(cycles(rounds));
    for round in 0..rounds {
        let offset = produce_one(&client, round).await;
        assert_eq!(offset, round, "record {round} was acked at offset {offset}");
        let mut victims = cluster.all();
        if dice.bool() {
            victims = vec![leader(&client).await];
        }
        cluster.kill_all(&victims);
        for node in victims {
            cluster.serve(node);
        }
        cluster.wait_ready().await;
    }
    let expected: Vec<(u64, u64)> = (0..rounds).map(|round| (round, round)).collect();
    for node in cluster.all() {
        let seen = consume_all(&client, TOPIC, Replica::Node(node)).await;
        assert_eq!(seen[&0], expected, "as read from node {node}");
    }
}

#[tokio::test]
async fn node_alone_never_gives_an_acked_offset_to_another_record() {
    acked_offsets_stay_taken(1, 8).await;
}

#[tokio::test]
async fn three_nodes_never_give_an_acked_offset_to_another_record() {
    acked_offsets_stay_taken(3, 4).await;
}

#[tokio::test]
async fn five_nodes_never_give_an_acked_offset_to_another_record() {
    acked_offsets_stay_taken(5, 3).await;
}
