//! A producer of many partitions of which one has no leader.

use std::collections::BTreeMap;

use plimsoll::client::Record;

use crate::harness::Cluster;
use crate::raw::within;

#[tokio::test]
async fn records_without_a_key_go_on_to_other_partitions_while_one_has_no_leader() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    // One replica each, on a node of its own: while that is away, nobody leads.
    let admin = client.admin();
    admin.create_topic("apart", 3, 1).await.unwrap();
    let topic = admin.describe_topic("apart").await.unwrap();
    assert!(topic.partitions.iter().any(|info| info.replicas == [2]));
    let producer = client
        .producer("apart")
        .batch_bytes(4 << 10)
        .buffer_bytes(128 << 10)
        .build()
        .await
        .unwrap();
    cluster = cluster.stop_meanwhile(2).await;
    let value = [7; 1 << 10];
    let mut deliveries = Vec::new();
    for _ in 0..1024 {
        // Eight times what the buffer holds.
        let sending = producer.send(Record::value(&value));
        deliveries.push(within(sending).await.unwrap());
    }
    cluster.start_node(2);
    let mut by_partition = BTreeMap::<u32, u64>::new();
    for delivery in deliveries {
        let ack = within(delivery).await.unwrap();
        *by_partition.entry(ack.partition).or_default() += 1;
    }
    assert_eq!(by_partition.values().sum::<u64>(), 1024);
    for (partition, records) in by_partition {
        let end = admin.end_offset("apart", partition).await.unwrap();
        assert_eq!(end, records, "each is there once");
    }
}
