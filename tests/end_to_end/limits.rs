//! The limits of a node: each is held, and none is in the way of what it allows.

use bytes::Bytes;
use plimsoll::client::ClientError;
use plimsoll::wire::{ApiError, BatchBuilder, Codec, FetchFrom, ProducerStamp, Reply, Request};
use segment_store::{FrameHeader, HEADER_LEN};
use tokio::task::JoinSet;

use crate::harness::Cluster;
use crate::raw::{Raw, batch, within};

const BATCH_BYTES_MAX: usize = 1 << 20;

fn payload_len(frame: &Bytes) -> usize {
    let header = FrameHeader::decode(frame[..HEADER_LEN].try_into().unwrap());
    header.unwrap().0.payload_len as usize
}

/// A batch of one record whose payload is exactly this long.
fn batch_of(group: u64, payload_bytes: usize) -> Bytes {
    let overhead = payload_len(&batch(group, &[b"sloop"])) - b"sloop".len();
    let frame = batch(group, &[&vec![7; payload_bytes - overhead]]);
    assert_eq!(payload_len(&frame), payload_bytes);
    frame
}

#[tokio::test]
async fn largest_batch_fits_the_smallest_budget_and_one_byte_more_is_refused() {
    let cluster = Cluster::start_with(1, |config| {
        config.limits.produce_in_flight_bytes_max = BATCH_BYTES_MAX as u64;
    });
    let raw = Raw::connect(&cluster, 1).await;
    let group = raw.create_topic(1).await.group;
    let largest = batch_of(group, BATCH_BYTES_MAX);
    assert_eq!(within(raw.produce(group, largest)).await, Ok(0));
    let larger = batch_of(group, BATCH_BYTES_MAX + 1);
    let refused = within(raw.produce(group, larger)).await.unwrap_err();
    assert!(
        matches!(
            refused,
            ApiError::BatchTooLarge { .. } | ApiError::CorruptBatch { .. }
        ),
        "{refused:?}"
    );
    assert_eq!(raw.produce(group, batch(group, &[b"sloop"])).await, Ok(1));
}

#[tokio::test]
async fn many_senders_with_more_than_the_budget_are_all_served_in_their_turn() {
    let cluster = Cluster::start_with(1, |config| {
        config.limits.produce_in_flight_bytes_max = BATCH_BYTES_MAX as u64;
    });
    let first = Raw::connect(&cluster, 1).await;
    let group = first.create_topic(1).await.group;
    let mut senders = JoinSet::new();
    for _ in 0..3 {
        let raw = std::sync::Arc::new(Raw::connect(&cluster, 1).await);
        for _ in 0..4 {
            let raw = std::sync::Arc::clone(&raw);
            let frame = batch_of(group, 700_000);
            senders.spawn(async move { raw.produce(group, frame).await });
        }
    }
    let mut offsets = Vec::new();
    while let Some(sent) = within(senders.join_next()).await {
        offsets.push(sent.unwrap().unwrap());
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..12).collect::<Vec<u64>>());
}

#[tokio::test]
async fn hundred_thousand_records_in_one_batch_are_taken_and_one_record_more_than_a_batch_is_not() {
    let cluster = Cluster::start_with(1, |config| {
        config.limits.batch_bytes_max = 8 << 20;
    });
    let raw = Raw::connect(&cluster, 1).await;
    let group = raw.create_topic(1).await.group;
    let mut builder = BatchBuilder::new(8 << 20, 0);
    for number in 0..100_000_u32 {
        let value = number.to_le_bytes();
        builder.push(None, Some(&value), &[], 1_000).unwrap();
    }
    let frame = builder.build(ProducerStamp::default(), group, Codec::Zstd);
    assert_eq!(within(raw.produce(group, frame)).await, Ok(0));
    assert_eq!(
        raw.produce(group, batch(group, &[b"next"])).await,
        Ok(100_000)
    );
    let client = cluster.client().await;
    let mut consumer = within(client.consumer("ships").stream()).await.unwrap();
    let mut next = 0;
    while let Some(read) = within(consumer.next_batch()).await {
        for record in read.unwrap().records() {
            assert_eq!(record.offset, next);
            if next < 100_000 {
                assert_eq!(record.value, Some(&(next as u32).to_le_bytes()[..]));
            }
            next += 1;
        }
    }
    assert_eq!(next, 100_001);
}

#[tokio::test]
async fn one_client_follows_as_many_partitions_as_the_widest_topic_has() {
    let cluster = Cluster::start(1);
    let raw = Raw::connect(&cluster, 1).await;
    let group = raw.create_topic(1).await.group;
    assert_eq!(raw.produce(group, batch(group, &[b"sloop"])).await, Ok(0));
    let fetch = Request::Fetch {
        group,
        from: FetchFrom::Start,
        max_bytes: 1 << 20,
        follow: true,
    };
    let mut streams = Vec::new();
    for _ in 0..plimsoll::controller::PARTITIONS_PER_TOPIC_MAX {
        let mut stream = within(raw.open()).await;
        stream.send(&fetch, &[]).await;
        streams.push(stream);
    }
    for stream in &mut streams {
        assert!(matches!(
            stream.reply().await.0,
            Reply::Fetched {
                first_offset: 0,
                ..
            }
        ));
    }
    // And there is room left for everything else.
    assert_eq!(raw.produce(group, batch(group, &[b"brig"])).await, Ok(1));
}

#[tokio::test]
async fn partitions_of_all_topics_together_are_limited() {
    let cluster = Cluster::start_with(1, |config| config.limits.partitions_max = 3);
    let client = cluster.client().await;
    let admin = client.admin();
    within(admin.create_topic("ships", 2, 1)).await.unwrap();
    let refused = within(admin.create_topic("harbours", 2, 1)).await;
    let ClientError::Refused(ApiError::InvalidRequest { reason }) = refused.unwrap_err() else {
        panic!("it is refused for another reason");
    };
    assert!(reason.contains("2 partitions of 3"), "{reason}");
    within(admin.create_topic("harbours", 1, 1)).await.unwrap();
}

#[tokio::test]
async fn creation_that_is_sent_again_is_answered_again_and_makes_one_topic() {
    let cluster = Cluster::start(1);
    let raw = Raw::connect(&cluster, 1).await;
    let made = raw.create_topic(1).await;
    assert_eq!(raw.create_topic(1).await, made);
    assert_eq!(raw.metadata().await.topics.len(), 1);
    let by_another = Request::CreateTopic {
        name: "ships".into(),
        partitions: 1,
        replicas: 1,
        token: 2,
    };
    let error = ApiError::TopicExists;
    assert_eq!(
        raw.ask(&by_another).await,
        Reply::Error {
            correlation: 0,
            error
        }
    );
}
