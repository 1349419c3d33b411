//! The client library against three nodes in this process: what it promises, and what it says when something cannot be.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use plimsoll::client::{
    Client, ClientError, Compression, ConsumeReason, Consumer, From, ProduceError, Record, Replica,
};
use plimsoll::config::LimitsConfig;
use plimsoll::wire::{ApiError, PushError};

use crate::harness::Cluster;

/// One cluster for all tests that stop no node.
async fn shared() -> Client {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(three).client().await
}

/// Three nodes that take batches as large as they do when nothing is set.
fn three() -> Cluster {
    Cluster::start_with(3, |config| config.limits = LimitsConfig::default())
}

/// All records up to the end: partition, offset, value.
async fn read_all(mut consumer: Consumer) -> Vec<(u32, u64, Vec<u8>)> {
    let mut seen = Vec::new();
    while let Some(record) = consumer.next().await {
        let record = record.unwrap();
        seen.push((
            record.partition(),
            record.offset(),
            record.value().unwrap().to_vec(),
        ));
    }
    seen
}

/// Reads `count` records of one partition, however long it takes them to come.
async fn read_some(consumer: &mut Consumer, count: usize) -> Vec<(u64, Vec<u8>)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let record = consumer.next().await.expect("it follows").unwrap();
        seen.push((record.offset(), record.value().unwrap().to_vec()));
    }
    seen
}

#[tokio::test]
async fn records_come_back_in_order_under_every_codec_from_every_replica() {
    let client = shared().await;
    client.admin().create_topic("codecs", 1, 3).await.unwrap();
    let mut expected = Vec::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let producer = client
            .producer("codecs")
            .compression(compression)
            .build()
            .await
            .unwrap();
        let mut deliveries = Vec::new();
        for i in 0..1000 {
            let value = format!("{compression:?} {i}");
            deliveries.push(producer.send(Record::value(&value)).await.unwrap());
            expected.push((expected.len() as u64, value.into_bytes()));
        }
        let first = expected.len() as u64 - 1000;
        for (i, delivery) in (first..).zip(deliveries) {
            let ack = delivery.await.unwrap();
            assert_eq!((ack.partition, ack.offset), (0, i));
        }
        producer.close().await.unwrap();
    }
    assert_eq!(client.admin().end_offset("codecs", 0).await.unwrap(), 3000);
    for replica in [
        Replica::Leader,
        Replica::Any,
        Replica::Node(1),
        Replica::Node(2),
        Replica::Node(3),
    ] {
        let consumer = client
            .consumer("codecs")
            .replica(replica)
            .follow(true)
            .stream()
            .await;
        assert_eq!(
            read_some(&mut consumer.unwrap(), 3000).await,
            expected,
            "{replica:?}"
        );
    }
}

#[tokio::test]
async fn keys_headers_times_and_absence_arrive_as_sent() {
    let client = shared().await;
    client.admin().create_topic("details", 1, 3).await.unwrap();
    let producer = client.producer("details").build().await.unwrap();
    let headers: &[(&str, &[u8])] = &[("trace", b"\xff\x00"), ("", b"")];
    let records = [
        Record::value("v")
            .key("k")
            .headers(headers)
            .timestamp_ms(77),
        Record::without_value().key(""),
        Record::value(""),
    ];
    for record in records {
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let mut consumer = client.consumer("details").stream().await.unwrap();
    let first = consumer.next().await.unwrap().unwrap();
    assert_eq!(
        (first.key(), first.value()),
        (Some(&b"k"[..]), Some(&b"v"[..]))
    );
    assert_eq!(first.timestamp_ms(), 77);
    assert_eq!(first.headers().collect::<Vec<_>>(), headers);
    let second = consumer.next().await.unwrap().unwrap();
    assert_eq!((second.key(), second.value()), (Some(&b""[..]), None));
    let third = consumer.next().await.unwrap().unwrap();
    assert_eq!((third.key(), third.value()), (None, Some(&b""[..])));
    assert!(third.timestamp_ms() > 1_600_000_000_000);
    assert!(consumer.next().await.is_none());
}

#[tokio::test]
async fn records_of_a_key_share_a_partition_and_others_are_spread() {
    let client = shared().await;
    client.admin().create_topic("spread", 4, 3).await.unwrap();
    let producer = client
        .producer("spread")
        .batch_bytes(2000)
        .build()
        .await
        .unwrap();
    assert_eq!(producer.partitions(), 4);
    for i in 0..2000 {
        let value = i.to_string();
        drop(
            producer
                .send(Record::value(&value).key(&format!("key {}", i % 50)))
                .await
                .unwrap(),
        );
        drop(producer.send(Record::value("no key")).await.unwrap());
    }
    producer.close().await.unwrap();
    let mut consumer = client.consumer("spread").stream().await.unwrap();
    let (mut of_key, mut without) = (BTreeMap::<Vec<u8>, (u32, u64)>::new(), [0; 4]);
    while let Some(record) = consumer.next().await {
        let record = record.unwrap();
        let Some(key) = record.key() else {
            without[record.partition() as usize] += 1;
            continue;
        };
        let number: u64 = std::str::from_utf8(record.value().unwrap())
            .unwrap()
            .parse()
            .unwrap();
        let (partition, last) = of_key
            .entry(key.to_vec())
            .or_insert((record.partition(), number));
        assert_eq!(*partition, record.partition(), "a key moved");
        assert!(*last <= number, "a key's records changed places");
        *last = number;
    }
    assert_eq!(of_key.len(), 50);
    assert!(without.iter().all(|count| *count > 100), "{without:?}");
}

#[tokio::test]
async fn a_hundred_thousand_records_pass_through_a_small_buffer() {
    let client = shared().await;
    client.admin().create_topic("many", 1, 3).await.unwrap();
    let producer = client
        .producer("many")
        .buffer_bytes(8 << 20)
        .build()
        .await
        .unwrap();
    let payload = [7; 200];
    let mut last = None;
    for _ in 0..100_000 {
        last = Some(producer.send(Record::value(&payload)).await.unwrap());
    }
    assert_eq!(last.unwrap().await.unwrap().offset, 99_999);
    producer.close().await.unwrap();
    let mut consumer = client.consumer("many").stream().await.unwrap();
    let (mut next, mut bytes) = (0, 0);
    while let Some(batch) = consumer.next_batch().await {
        for record in batch.unwrap().records() {
            assert_eq!(record.offset, next);
            next += 1;
            bytes += record.value.unwrap().len();
        }
    }
    assert_eq!((next, bytes), (100_000, 20_000_000));
}

#[tokio::test]
async fn a_consumer_starts_where_it_is_told() {
    let client = shared().await;
    client.admin().create_topic("starts", 1, 3).await.unwrap();
    let producer = client
        .producer("starts")
        .linger(Duration::ZERO)
        .build()
        .await
        .unwrap();
    let first = |from| {
        let consumer = client.consumer("starts").from(from);
        async move {
            let record = consumer.stream().await.unwrap().next().await;
            record.map(|record| record.map(|record| record.offset()))
        }
    };
    for from in [From::Start, From::End, From::Offset(0), From::Time(1)] {
        assert!(first(from).await.is_none(), "{from:?} of an empty topic");
    }
    for i in 0..100_u64 {
        let record = Record::value("x").timestamp_ms(1000 + i);
        producer.send(record).await.unwrap().await.unwrap();
    }
    assert_eq!(first(From::Start).await.unwrap().unwrap(), 0);
    assert_eq!(first(From::Offset(42)).await.unwrap().unwrap(), 42);
    assert_eq!(first(From::Time(1042)).await.unwrap().unwrap(), 42);
    assert_eq!(first(From::Time(0)).await.unwrap().unwrap(), 0);
    assert!(first(From::Time(2000)).await.is_none());
    assert!(first(From::End).await.is_none());
    assert!(first(From::Offset(100)).await.is_none());
    let refused = first(From::Offset(101)).await.unwrap().unwrap_err();
    assert_eq!(refused.partition, 0);
    let range = ApiError::OffsetOutOfRange {
        log_start: 0,
        high_watermark: 100,
    };
    assert!(matches!(refused.reason, ConsumeReason::Refused(error) if error == range));

    let mut tail = client
        .consumer("starts")
        .from(From::End)
        .follow(true)
        .stream()
        .await
        .unwrap();
    // The tail may begin before or behind the first of these, but then nothing is left out.
    let sender = tokio::spawn(async move {
        for _ in 0..50 {
            producer
                .send(Record::value("y"))
                .await
                .unwrap()
                .await
                .unwrap();
        }
    });
    let seen = read_some(&mut tail, 10).await;
    assert!(seen[0].0 >= 100);
    assert!(
        seen.iter()
            .map(|(offset, _)| *offset)
            .eq(seen[0].0..seen[0].0 + 10)
    );
    sender.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_said_clearly() {
    let client = shared().await;
    let admin = client.admin();
    let refused = |error: ClientError| match error {
        ClientError::Refused(error) => error,
        other => panic!("{other:?}"),
    };
    for name in ["../up", "", "a b"] {
        let error = refused(admin.create_topic(name, 1, 3).await.unwrap_err());
        assert!(matches!(error, ApiError::InvalidTopic { .. }), "{error:?}");
    }
    admin.create_topic("errors", 2, 3).await.unwrap();
    assert_eq!(
        refused(admin.create_topic("errors", 2, 3).await.unwrap_err()),
        ApiError::TopicExists
    );
    assert_eq!(
        refused(admin.describe_topic("none").await.unwrap_err()),
        ApiError::UnknownTopic
    );
    assert_eq!(
        refused(admin.delete_topic("none").await.unwrap_err()),
        ApiError::UnknownTopic
    );
    assert_eq!(
        refused(client.producer("none").build().await.unwrap_err()),
        ApiError::UnknownTopic
    );
    assert_eq!(
        refused(client.consumer("none").stream().await.unwrap_err()),
        ApiError::UnknownTopic
    );
}

#[tokio::test]
async fn what_a_topic_cannot_take_is_refused_before_it_is_sent() {
    let client = shared().await;
    client.admin().create_topic("bounds", 2, 3).await.unwrap();
    let no_partition = client
        .consumer("bounds")
        .partition(2)
        .stream()
        .await
        .unwrap_err();
    assert!(matches!(
        no_partition,
        ClientError::UnknownPartition {
            partition: 2,
            partitions: 2
        }
    ));
    let too_wide = client
        .producer("bounds")
        .in_flight(1025)
        .build()
        .await
        .unwrap_err();
    assert!(matches!(too_wide, ClientError::InvalidOption { .. }));

    let producer = client.producer("bounds").build().await.unwrap();
    let no_partition = producer
        .send(Record::value("x").partition(2))
        .await
        .unwrap_err();
    assert!(matches!(
        no_partition,
        ProduceError::UnknownPartition {
            partition: 2,
            partitions: 2
        }
    ));
    let giant = vec![0; 9 << 20];
    let too_large = producer.send(Record::value(&giant)).await.unwrap_err();
    assert!(matches!(
        too_large,
        ProduceError::Record(PushError::TooLarge { .. })
    ));
    let large = vec![1; 4 << 20];
    let ack = producer
        .send(Record::value(&large).partition(1))
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!((ack.partition, ack.offset), (1, 0));
}

#[tokio::test]
async fn a_deleted_topic_ends_its_producers_and_consumers() {
    let client = shared().await;
    client.admin().create_topic("doomed", 1, 3).await.unwrap();
    let producer = client.producer("doomed").build().await.unwrap();
    producer
        .send(Record::value("x"))
        .await
        .unwrap()
        .await
        .unwrap();
    let mut tail = client
        .consumer("doomed")
        .follow(true)
        .stream()
        .await
        .unwrap();
    tail.next().await.unwrap().unwrap();
    client.admin().delete_topic("doomed").await.unwrap();
    let error = tail.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error.reason, ConsumeReason::Refused(ApiError::UnknownTopic)),
        "{error:?}"
    );
    assert!(tail.next().await.is_none());
    let error = producer
        .send(Record::value("y"))
        .await
        .unwrap()
        .await
        .unwrap_err();
    assert!(
        matches!(error, ProduceError::Refused(ApiError::UnknownTopic)),
        "{error:?}"
    );
    assert!(producer.flush().await.is_err());
    assert!(producer.flush().await.is_ok());
}

#[tokio::test]
async fn a_producer_and_its_consumers_go_on_through_changes_of_leader() {
    let mut cluster = three();
    let client = cluster.client().await;
    let admin = client.admin().timeout(Duration::from_secs(30));
    admin.create_topic("moving", 1, 3).await.unwrap();
    let producer = client
        .producer("moving")
        .batch_bytes(1000)
        .build()
        .await
        .unwrap();
    let mut tail = client
        .consumer("moving")
        .follow(true)
        .replica(Replica::Any)
        .stream()
        .await
        .unwrap();
    let reading = tokio::spawn(async move { read_some(&mut tail, 3000).await });
    let sent: Vec<String> = (0..3000).map(|i| i.to_string()).collect();
    let mut deliveries = Vec::new();
    for (round, chunk) in sent.chunks(1000).enumerate() {
        for value in chunk {
            deliveries.push(producer.send(Record::value(value)).await.unwrap());
        }
        let topic = admin.describe_topic("moving").await.unwrap();
        let leader = topic.partitions[0].leader.unwrap_or(1);
        if round == 0 {
            let to = leader % 3 + 1;
            admin.transfer_leader("moving", 0, to).await.unwrap();
        } else {
            cluster = cluster.stop_meanwhile(leader).await;
            cluster.start_node(leader);
        }
    }
    for (i, delivery) in (0_u64..).zip(deliveries) {
        assert_eq!(delivery.await.unwrap().offset, i);
    }
    let expected: Vec<(u64, Vec<u8>)> = (0..)
        .zip(sent.into_iter().map(String::into_bytes))
        .collect();
    assert_eq!(reading.await.unwrap(), expected);
    let consumer = client.consumer("moving").stream().await.unwrap();
    assert_eq!(read_all(consumer).await.len(), 3000);
}

#[tokio::test]
async fn a_batch_that_is_not_acked_in_time_fails_and_later_ones_are_still_in_order() {
    let mut cluster = three();
    let client = cluster.client().await;
    client.admin().create_topic("late", 1, 3).await.unwrap();
    let producer = client
        .producer("late")
        .linger(Duration::ZERO)
        .delivery_timeout(Duration::from_secs(3))
        .build()
        .await
        .unwrap();
    producer
        .send(Record::value("before"))
        .await
        .unwrap()
        .await
        .unwrap();
    cluster = cluster.stop_meanwhile(2).await.stop_meanwhile(3).await;
    let mut failing = Vec::new();
    for i in 0..20 {
        failing.push(
            producer
                .send(Record::value(&format!("lost {i}")))
                .await
                .unwrap(),
        );
    }
    for delivery in failing {
        let error = delivery.await.unwrap_err();
        let expected = matches!(
            error,
            ProduceError::Timeout { .. } | ProduceError::EarlierFailed { .. }
        );
        assert!(expected, "{error:?}");
    }
    cluster.start_node(2);
    cluster.start_node(3);
    let mut acked = Vec::new();
    for i in 0..20 {
        // While there is no leader yet these may fail too; what is acked must be in order.
        let value = format!("after {i}");
        if let Ok(ack) = producer.send(Record::value(&value)).await.unwrap().await {
            acked.push((ack.offset, value.into_bytes()));
        }
    }
    assert!(acked.len() > 10, "{}", acked.len());
    let all = read_all(client.consumer("late").stream().await.unwrap()).await;
    let offsets = all.iter().map(|(_, offset, _)| *offset);
    assert!(offsets.eq(0..all.len() as u64));
    for (offset, value) in &acked {
        assert_eq!(&all[*offset as usize].2, value);
    }
    assert!(acked.is_sorted());
}
