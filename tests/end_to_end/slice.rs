//! The thinnest slice of the whole: three nodes, one partition, one batch in, the same records out of each replica.

use plimsoll::wire::{BatchCaps, BatchReader, FetchFrom, Reply, Request};

use crate::harness::Cluster;
use crate::raw::{Raw, batch};

#[tokio::test]
async fn batch_acked_by_the_leader_is_fetched_from_every_replica() {
    let cluster = Cluster::start(3);
    let first = Raw::connect(&cluster, 1).await;
    let partition = first.create_topic(3).await;
    let leader = Raw::connect(&cluster, partition.leader.unwrap()).await;
    assert_eq!(
        leader
            .produce(
                partition.group,
                batch(partition.group, &[b"sloop", b"brig"])
            )
            .await,
        Ok(0)
    );
    assert_eq!(
        leader
            .produce(partition.group, batch(partition.group, &[b"ketch"]))
            .await,
        Ok(2)
    );
    for node in 1..=3 {
        let replica = Raw::connect(&cluster, node).await;
        assert_eq!(
            fetch(&replica, partition.group, 3).await,
            ["sloop", "brig", "ketch"],
            "node {node}"
        );
    }
}

/// Follows the group from its start until `count` records have come.
async fn fetch(replica: &Raw, group: u64, count: usize) -> Vec<String> {
    let mut stream = replica.open().await;
    stream
        .send(
            &Request::Fetch {
                group,
                from: FetchFrom::Start,
                max_bytes: 1 << 20,
                follow: true,
            },
            &[],
        )
        .await;
    let mut values = Vec::new();
    while values.len() < count {
        let (reply, body) = stream.reply().await;
        assert!(matches!(reply, Reply::Fetched { .. }), "{reply:?}");
        let mut body = body.freeze();
        while !body.is_empty() {
            let frame = segment_store::Frame::split_from(&mut body, 1 << 20, true).unwrap();
            if frame.header().kind != segment_store::kind::RECORDS {
                continue;
            }
            let batch = BatchReader::parse(&frame, &BatchCaps::default()).unwrap();
            values.extend(
                batch
                    .records()
                    .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()),
            );
        }
    }
    values
}
