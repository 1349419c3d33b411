//! Topics come and go while the cluster runs, their leaders spread, and what is stored survives restarts.

use plimsoll::client::{ClientError, From, Record, Replica};
use plimsoll::wire::{ApiError, ReplicaRole};

use crate::harness::Cluster;
use crate::raw::within;

/// Produces `values` to partition 0 and waits for all acks.
async fn produce(cluster: &Cluster, topic: &str, values: &[String]) {
    let client = cluster.client().await;
    let producer = client.producer(topic).build().await.unwrap();
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(
            within(producer.send(Record::value(value).partition(0)))
                .await
                .unwrap(),
        );
    }
    for (delivery, expected) in deliveries.into_iter().zip(0..) {
        let ack = within(delivery).await.unwrap();
        assert_eq!((ack.partition, ack.offset), (0, expected));
    }
    within(producer.close()).await.unwrap();
    client.close().await;
}

/// What partition 0 holds, as `replica` tells it.
async fn consume(cluster: &Cluster, topic: &str, replica: Replica, count: usize) -> Vec<String> {
    let client = cluster.client().await;
    let consumer = client
        .consumer(topic)
        .partition(0)
        .from(From::Start)
        .follow(true)
        .replica(replica);
    let mut consumer = within(consumer.stream()).await.unwrap();
    let mut values = Vec::new();
    while values.len() < count {
        let record = within(consumer.next()).await.unwrap().unwrap();
        assert_eq!(record.offset(), values.len() as u64);
        values.push(String::from_utf8(record.value().unwrap().to_vec()).unwrap());
    }
    client.close().await;
    values
}

fn values(count: usize) -> Vec<String> {
    (0..count).map(|value| format!("value {value}")).collect()
}

#[tokio::test]
async fn topics_are_created_described_listed_and_deleted_while_running() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin();
    admin.create_topic("ships", 4, 3).await.unwrap();
    admin.create_topic("harbours", 2, 1).await.unwrap();
    let again = admin.create_topic("ships", 1, 1).await.unwrap_err();
    assert!(
        matches!(again, ClientError::Refused(ApiError::TopicExists)),
        "{again}"
    );
    for (name, partitions, replicas) in [("../etc", 1, 1), ("many", 1, 4), ("none", 0, 1)] {
        let refused = admin
            .create_topic(name, partitions, replicas)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused(_)),
            "{name}: {refused}"
        );
    }
    let names: Vec<String> = admin
        .list_topics()
        .await
        .unwrap()
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    assert_eq!(names, ["harbours", "ships"]);
    let ships = admin.describe_topic("ships").await.unwrap();
    assert!(
        ships
            .partitions
            .iter()
            .all(|partition| partition.leader.is_some() && partition.replicas.len() == 3)
    );
    let group = ships.partitions[0].group;
    assert!((1..=3).all(|node| cluster.group_dir(node, group).exists()));
    admin.delete_topic("ships").await.unwrap();
    let gone = admin.describe_topic("ships").await.unwrap_err();
    assert!(
        matches!(gone, ClientError::Refused(ApiError::UnknownTopic)),
        "{gone}"
    );
    let unknown = admin.delete_topic("ships").await.unwrap_err();
    assert!(
        matches!(unknown, ClientError::Refused(ApiError::UnknownTopic)),
        "{unknown}"
    );
    for node in 1..=3 {
        let dir = cluster.group_dir(node, group);
        within(async {
            while dir.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // The name is free again, and the new topic has groups of its own.
    admin.create_topic("ships", 1, 3).await.unwrap();
    assert!(admin.describe_topic("ships").await.unwrap().partitions[0].group > group);
}

#[tokio::test]
async fn records_come_back_through_every_replica_and_status_tells_of_all() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    client.admin().create_topic("ships", 3, 3).await.unwrap();
    produce(&cluster, "ships", &values(200)).await;
    for replica in [
        Replica::Leader,
        Replica::Any,
        Replica::Node(1),
        Replica::Node(2),
        Replica::Node(3),
    ] {
        assert_eq!(
            consume(&cluster, "ships", replica, 200).await,
            values(200),
            "{replica:?}"
        );
    }
    assert_eq!(client.admin().end_offset("ships", 0).await.unwrap(), 200);
    let status = client.admin().status().await.unwrap();
    assert_eq!(
        status
            .nodes
            .iter()
            .map(|node| (node.id, node.up))
            .collect::<Vec<_>>(),
        [(1, true), (2, true), (3, true)]
    );
    assert_eq!(
        status
            .groups
            .iter()
            .map(|group| group.group)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let group = status
        .groups
        .iter()
        .find(|group| group.partition == Some(0))
        .unwrap();
    assert_eq!(
        (
            group.topic.as_deref(),
            group.high_watermark,
            group.log_start
        ),
        (Some("ships"), 200, 0)
    );
    let leaders = group
        .replicas
        .iter()
        .filter(|replica| replica.role == ReplicaRole::Leader);
    assert_eq!(
        leaders
            .map(|replica| Some(replica.node))
            .collect::<Vec<_>>(),
        [group.leader]
    );
    let mut leaders: Vec<u64> = status.groups[1..]
        .iter()
        .map(|group| group.leader.unwrap())
        .collect();
    leaders.sort_unstable();
    assert!(
        leaders.iter().all(|leader| (1..=3).contains(leader)),
        "{leaders:?}"
    );
}

#[tokio::test]
async fn one_node_and_then_all_nodes_restart_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3);
    cluster
        .client()
        .await
        .admin()
        .create_topic("ships", 1, 3)
        .await
        .unwrap();
    produce(&cluster, "ships", &values(100)).await;
    for node in 1..=3 {
        cluster.stop_node(node);
        assert_eq!(
            consume(&cluster, "ships", Replica::Any, 100).await,
            values(100),
            "without node {node}"
        );
        cluster.start_node(node);
        cluster.wait_ready();
    }
    (1..=3).for_each(|node| cluster.stop_node(node));
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.wait_ready();
    for node in 1..=3 {
        assert_eq!(
            consume(&cluster, "ships", Replica::Node(node), 100).await,
            values(100),
            "node {node}"
        );
    }
}

#[tokio::test]
async fn topic_deleted_while_a_node_is_down_leaves_no_files_behind_there() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    client.admin().create_topic("ships", 1, 3).await.unwrap();
    let group = client
        .admin()
        .describe_topic("ships")
        .await
        .unwrap()
        .partitions[0]
        .group;
    cluster.stop_node(3);
    client.admin().delete_topic("ships").await.unwrap();
    assert!(cluster.group_dir(3, group).exists());
    cluster.start_node(3);
    cluster.wait_ready();
    within(async {
        while cluster.group_dir(3, group).exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn leadership_moved_by_hand_goes_back_to_the_preferred_replica_in_time() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    let admin = client.admin();
    admin.create_topic("ships", 1, 3).await.unwrap();
    let leads = async |node: u64| {
        within(async {
            while admin.describe_topic("ships").await.unwrap().partitions[0].leader != Some(node) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    let preferred = admin.describe_topic("ships").await.unwrap().partitions[0].replicas[0];
    leads(preferred).await;
    let other = preferred % 3 + 1;
    admin.transfer_leader("ships", 0, other).await.unwrap();
    leads(other).await;
    leads(preferred).await;
}
