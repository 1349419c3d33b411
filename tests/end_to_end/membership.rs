//! Nodes that join, leave and are replaced while a producer runs: nothing acked is lost or doubled, and what is there is spread evenly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plimsoll::client::{Admin, Client, ClientError, From, Record};
use plimsoll::wire::{ClusterStatus, GroupStatus, ReplicaRole};

use crate::harness::Cluster;
use crate::raw::within;

const TOPIC: &str = "ships";

/// Polls the cluster until `done`; statuses that no majority confirmed do not count.
async fn until(admin: &Admin, done: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    within(async {
        loop {
            if let Ok(status) = admin.status().await
                && status.current
                && done(&status)
            {
                return status;
            }
        }
    })
    .await
}

fn partitions(status: &ClusterStatus) -> impl Iterator<Item = &GroupStatus> {
    status.groups.iter().filter(|group| group.topic.is_some())
}

fn settled(status: &ClusterStatus) -> bool {
    partitions(status).all(|group| group.settled)
}

fn nodes(status: &ClusterStatus) -> Vec<u64> {
    status.nodes.iter().map(|node| node.id).collect()
}

/// What each node shall hold: replicas and preferred leaders.
fn shares(status: &ClusterStatus) -> BTreeMap<u64, (usize, usize)> {
    let mut shares: BTreeMap<u64, (usize, usize)> =
        nodes(status).into_iter().map(|n| (n, (0, 0))).collect();
    for group in partitions(status) {
        for node in &group.shall {
            shares.get_mut(node).unwrap().0 += 1;
        }
        shares.get_mut(&group.shall[0]).unwrap().1 += 1;
    }
    shares
}

fn controller(status: &ClusterStatus) -> &GroupStatus {
    &status.groups[0]
}

/// A producer that goes on until it is told to stop; gives each record's value with the place it was acked at.
struct Load {
    stop: Arc<AtomicBool>,
    acks: tokio::task::JoinHandle<Vec<(String, u32, u64)>>,
}

impl Load {
    async fn start(client: &Client) -> Load {
        let producer = client.producer(TOPIC).build().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let acks = tokio::spawn(async move {
            let mut acks = Vec::new();
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                let mut sent = Vec::new();
                for _ in 0..20 {
                    let value = format!("record {number}");
                    number += 1;
                    let record = Record::value(value.as_bytes()).key(value.as_bytes());
                    sent.push((value.clone(), producer.send(record).await.unwrap()));
                }
                for (value, delivery) in sent {
                    let ack = delivery.await.unwrap();
                    acks.push((value, ack.partition, ack.offset));
                }
            }
            acks
        });
        Load { stop, acks }
    }

    /// Stops, and holds what was acked against what can be read.
    async fn check(self, client: &Client) {
        self.stop.store(true, Ordering::Relaxed);
        let acks = within(self.acks).await.unwrap();
        assert!(acks.len() > 100, "it hardly ran: {} records", acks.len());
        let consumer = client.consumer(TOPIC).from(From::Start);
        let mut consumer = consumer.stream().await.unwrap();
        let mut read = BTreeMap::new();
        while let Some(record) = within(consumer.next()).await {
            let record = record.unwrap();
            let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
            let place = (record.partition(), record.offset());
            let before = read.insert(value, place);
            assert_eq!(before, None, "a record is there twice: {place:?}");
        }
        for (value, partition, offset) in &acks {
            assert_eq!(read.get(value), Some(&(*partition, *offset)), "{value}");
        }
        assert_eq!(read.len(), acks.len(), "records that nobody was acked");
    }
}

#[tokio::test]
async fn three_nodes_become_five_and_then_three_others_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin().timeout(Duration::from_secs(30));
    admin.create_topic(TOPIC, 10, 3).await.unwrap();
    let load = Load::start(&client).await;
    for _ in 0..2 {
        let (node, address) = cluster.prepare_another();
        admin.add_node(node, &address).await.unwrap();
        cluster.start_node(node);
    }
    until(&admin, |status| {
        let controller = controller(status).replicas.iter();
        let voters = controller
            .filter(|replica| matches!(replica.role, ReplicaRole::Leader | ReplicaRole::Follower));
        voters.count() == 5
    })
    .await;
    assert_eq!(admin.rebalance().await.unwrap(), 12);
    let five = until(&admin, settled).await;
    assert_eq!(shares(&five), (1..=5).map(|n| (n, (6, 2))).collect());
    assert_eq!(admin.rebalance().await.unwrap(), 0);
    // The founders go, the seeds of the client among them.
    admin.remove_node(1).await.unwrap();
    let refused = admin.remove_node(2).await.unwrap_err();
    assert!(
        refused.to_string().contains("node 1 is leaving"),
        "{refused}"
    );
    until(&admin, |status| nodes(status) == [2, 3, 4, 5]).await;
    admin.remove_node(2).await.unwrap();
    let three = until(&admin, |status| nodes(status) == [3, 4, 5]).await;
    assert!(settled(&three));
    for (node, (replicas, _)) in shares(&three) {
        assert_eq!(replicas, 10, "node {node}");
    }
    for node in [1, 2] {
        assert_eq!(cluster.ends_by_itself(node).await, Ok(()), "node {node}");
        assert!(cluster.try_start_node(node).is_err(), "node {node}");
    }
    load.check(&client).await;
    // Each group is led by the node that shall lead it, by and by.
    until(&admin, |status| {
        partitions(status).all(|group| group.leader == group.shall.first().copied())
    })
    .await;
}

#[tokio::test]
async fn a_dead_node_is_replaced_and_its_folders_are_not_missed() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin().timeout(Duration::from_secs(30));
    admin.create_topic(TOPIC, 4, 3).await.unwrap();
    let load = Load::start(&client).await;
    cluster = cluster.stop_meanwhile(2).await;
    let (four, address) = cluster.prepare_another();
    assert_eq!(admin.replace_node(2, four, &address).await.unwrap(), 4);
    // The command is repeated, as after an interruption, before the new node runs, and after all is done.
    assert_eq!(admin.replace_node(2, four, &address).await.unwrap(), 0);
    cluster.start_node(four);
    let done = until(&admin, |status| nodes(status) == [1, 3, 4]).await;
    assert!(settled(&done));
    assert_eq!(admin.replace_node(2, four, &address).await.unwrap(), 0);
    // The old node comes back, and is told.
    cluster.start_node(2);
    assert_eq!(cluster.ends_by_itself(2).await, Ok(()));
    load.check(&client).await;
}

#[tokio::test]
async fn a_replica_that_moves_away_takes_its_folder_with_it_and_can_come_back() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin().timeout(Duration::from_secs(30));
    admin.create_topic(TOPIC, 8, 2).await.unwrap();
    let load = Load::start(&client).await;
    let (four, address) = cluster.prepare_another();
    cluster.start_node(four);
    admin.add_node(four, &address).await.unwrap();
    assert_eq!(admin.rebalance().await.unwrap(), 4);
    let status = until(&admin, settled).await;
    let groups: Vec<GroupStatus> = partitions(&status).cloned().collect();
    within(async {
        for group in &groups {
            for node in 1..=4 {
                let there = || cluster.group_dir(node, group.group).exists();
                while there() != group.shall.contains(&node) {
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await;
    admin.remove_node(four).await.unwrap();
    until(&admin, |status| nodes(status) == [1, 2, 3]).await;
    assert_eq!(cluster.ends_by_itself(four).await, Ok(()));
    load.check(&client).await;
}

#[tokio::test]
async fn a_move_goes_on_when_the_nodes_that_drive_it_restart() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin().timeout(Duration::from_secs(30));
    admin.create_topic(TOPIC, 6, 3).await.unwrap();
    let load = Load::start(&client).await;
    let (four, address) = cluster.prepare_another();
    admin.replace_node(3, four, &address).await.unwrap();
    cluster.start_node(four);
    for node in [1, 2, four] {
        cluster = cluster.stop_meanwhile(node).await;
        cluster.start_node(node);
        until(&admin, |status| {
            let back = status.nodes.iter().find(|other| other.id == node);
            back.is_some_and(|back| back.up)
        })
        .await;
    }
    until(&admin, |status| nodes(status) == [1, 2, 4]).await;
    load.check(&client).await;
}

#[tokio::test]
async fn changes_that_cannot_be_are_refused_with_a_reason_and_change_nothing() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin();
    admin.create_topic(TOPIC, 2, 3).await.unwrap();
    let before = until(&admin, |_| true).await;
    let taken = before.nodes[0].address.clone();
    for (refused, why) in [
        (admin.remove_node(9).await.map(drop), "no node 9"),
        (admin.remove_node(3).await.map(drop), "has 3 replicas"),
        (admin.add_node(3, "host:1").await, "already"),
        (admin.add_node(0, "host:1").await, "numbered from 1"),
        (admin.add_node(4, "nowhere").await, "host:port"),
        (admin.add_node(4, &taken).await, "address of node 1"),
        (
            admin.replace_node(9, 4, "host:1").await.map(drop),
            "no node 9",
        ),
        (
            admin.replace_node(3, 3, "host:1").await.map(drop),
            "own place",
        ),
        (admin.prefer_leader(TOPIC, 0, 9).await, "holds no replica"),
    ] {
        match refused {
            Err(ClientError::Refused(error)) => {
                assert!(error.to_string().contains(why), "{error}");
            }
            other => panic!("not refused ({why}): {other:?}"),
        }
    }
    let too_long = admin.add_node(4, &format!("{}:1", "x".repeat(2_000))).await;
    assert!(too_long.is_err());
    let after = until(&admin, |_| true).await;
    assert_eq!(nodes(&after), nodes(&before));
    assert_eq!(shares(&after), shares(&before));
    // What would leave a majority of dead replicas is refused as long as they are dead.
    admin.create_topic("pairs", 6, 2).await.unwrap();
    admin.delete_topic(TOPIC).await.unwrap();
    cluster = cluster.stop_meanwhile(3).await;
    until(&admin, |status| !status.nodes[2].up).await;
    let error = admin.remove_node(2).await.unwrap_err().to_string();
    assert!(error.contains("node 3 cannot be reached"), "{error}");
    cluster.start_node(3);
}

#[tokio::test]
async fn a_preferred_leader_leads_and_stays() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin();
    admin.create_topic(TOPIC, 1, 3).await.unwrap();
    let shall = admin.describe_topic(TOPIC).await.unwrap().partitions[0]
        .replicas
        .clone();
    admin.prefer_leader(TOPIC, 0, shall[2]).await.unwrap();
    admin.transfer_leader(TOPIC, 0, shall[2]).await.unwrap();
    let status = until(&admin, |status| {
        partitions(status).all(|group| group.leader == Some(shall[2]))
    })
    .await;
    assert_eq!(partitions(&status).next().unwrap().shall[0], shall[2]);
}
