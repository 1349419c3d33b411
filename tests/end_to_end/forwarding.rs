//! Batches that arrive at a node that does not lead: passed on if the sender wants that, and then acked as by the leader.

use plimsoll::client::{Client, Record};
use plimsoll::wire::ApiError;
use tokio::net::UdpSocket;

use crate::harness::Cluster;
use crate::raw::{Raw, batch, within};

/// A topic of one partition on three nodes: its group and its leader.
async fn topic(cluster: &Cluster) -> (u64, u64) {
    let raw = Raw::connect(cluster, 1).await;
    let partition = raw.create_topic(3).await;
    // Every node has opened its replica, and knows who leads.
    cluster.wait_ready();
    (partition.group, partition.leader.unwrap())
}

#[tokio::test]
async fn batch_sent_to_a_follower_is_passed_on_if_asked_and_else_answered_with_the_leader() {
    let cluster = Cluster::start(3);
    let (group, leader) = topic(&cluster).await;
    let mut offset = 0;
    for follower in (1..=3).filter(|node| *node != leader) {
        let raw = Raw::connect(&cluster, follower).await;
        let refused = raw.produce(group, batch(group, &[b"sloop"])).await;
        let address = cluster.address(leader).to_string();
        assert_eq!(
            refused,
            Err(ApiError::NotLeader {
                leader: Some((leader, address))
            })
        );
        let records: &[&[u8]] = &[b"sloop", b"brig"];
        let passed_on = raw.produce_by(group, batch(group, records), true).await;
        assert_eq!(passed_on, Ok(offset));
        offset += 2;
    }
    let raw = Raw::connect(&cluster, leader).await;
    let led = raw.produce_by(group, batch(group, &[b"ketch"]), true).await;
    assert_eq!(led, Ok(offset));
}

#[tokio::test]
async fn producer_that_cannot_reach_the_leader_goes_by_way_of_a_follower() {
    let cluster = Cluster::start(3);
    let (_, leader) = topic(&cluster).await;
    // To this client, the leader is an address that takes everything and answers nothing.
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut config = cluster.client_config().clone();
    for node in config.nodes.iter_mut().filter(|node| node.id == leader) {
        node.address = nobody.local_addr().unwrap().to_string();
    }
    let client = within(Client::connect(&config)).await.unwrap();
    let producer = within(client.producer("ships").build()).await.unwrap();
    for offset in 0..3 {
        let delivery = within(producer.send(Record::value("sloop"))).await.unwrap();
        let ack = within(delivery).await.unwrap();
        assert_eq!((ack.partition, ack.offset), (0, offset));
    }
    within(producer.close()).await.unwrap();
    let unreached = cluster.client().await;
    let end = within(unreached.admin().end_offset("ships", 0)).await;
    assert_eq!(end.unwrap(), 3);
}
