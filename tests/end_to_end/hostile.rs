//! Bytes that should not be: from clients and from peers. The answer is clear, nothing is changed, and the node goes on.

use bytes::{BufMut, Bytes, BytesMut};
use plimsoll::wire::{
    ApiError, BatchBuilder, Codec, FetchFrom, Greeting, ProducerStamp, Reply, Request, StreamHello,
    encode_envelopes, encode_greeting, encode_hello,
};
use segment_store::{FrameHeader, HEADER_LEN};
use transport::{Alpn, Credentials};

use crate::harness::Cluster;
use crate::raw::{Raw, batch, within};

/// A cluster of one node with a topic of one partition.
async fn one_partition() -> (Cluster, Raw, u64) {
    let cluster = Cluster::start(1);
    let raw = Raw::connect(&cluster, 1).await;
    let group = raw.create_topic(1).await.group;
    (cluster, raw, group)
}

/// The frame with its header changed and made valid again.
fn with_header(frame: &Bytes, change: impl Fn(&mut FrameHeader)) -> Bytes {
    let (mut header, _) = FrameHeader::decode(frame[..HEADER_LEN].try_into().unwrap()).unwrap();
    change(&mut header);
    let mut changed = BytesMut::from(&frame[..]);
    changed[..HEADER_LEN].copy_from_slice(&header.encode());
    changed.freeze()
}

#[tokio::test]
async fn batches_that_fail_a_check_are_refused_and_the_next_one_is_taken() {
    let (_cluster, raw, group) = one_partition().await;
    let good = batch(group, &[b"sloop", b"brig"]);
    let mut flipped = BytesMut::from(&good[..]);
    flipped[HEADER_LEN + 45] ^= 1;
    let wrong_count = with_header(&good, |header| header.record_count = 3);
    let no_records = with_header(&good, |header| header.record_count = 0);
    let foreign = batch(group + 1, &[b"sloop"]);
    let cut = good.slice(..good.len() - 64);
    for (bad, what) in [
        (flipped.freeze(), "flipped"),
        (wrong_count, "count"),
        (no_records, "no records"),
        (foreign, "foreign"),
        (cut, "cut"),
        (Bytes::new(), "empty"),
    ] {
        let refused = raw.produce(group, bad).await.unwrap_err();
        assert!(
            matches!(refused, ApiError::CorruptBatch { .. }),
            "{what}: {refused:?}"
        );
    }
    let oversize = Bytes::from(vec![0; 2 << 20]);
    let refused = raw.produce(group, oversize).await.unwrap_err();
    assert_eq!(refused, ApiError::BatchTooLarge { max: 1 << 20 });
    let unknown = raw.produce(99, batch(99, &[b"sloop"])).await.unwrap_err();
    assert_eq!(unknown, ApiError::UnknownGroup);
    assert_eq!(raw.produce(group, good.clone()).await, Ok(0));
    assert_eq!(raw.produce(group, good).await, Ok(2));
}

#[tokio::test]
async fn several_batches_in_one_request_must_be_one_producers_in_order_and_small() {
    let (_cluster, raw, group) = one_partition().await;
    let by = |id, first_sequence| {
        let mut builder = BatchBuilder::new(1 << 20, 0);
        builder.push(None, Some(b"sloop"), &[], 1_000).unwrap();
        let stamp = ProducerStamp {
            id,
            epoch: 0,
            first_sequence,
        };
        builder.build(stamp, group, Codec::None)
    };
    let large = batch(group, &[&[7; 100 << 10]]);
    for (bad, what) in [
        ([by(5, 0), by(6, 1)], "two producers"),
        ([by(5, 0), by(5, 2)], "a gap"),
        ([by(5, 0), by(5, 0)], "one of them twice"),
        ([large.clone(), large], "more than is merged"),
    ] {
        let refused = raw.produce(group, Bytes::from(bad.concat())).await;
        assert!(
            matches!(refused, Err(ApiError::InvalidRequest { .. })),
            "{what}: {refused:?}"
        );
    }
    let several = Bytes::from([by(5, 0), by(5, 1), by(5, 2)].concat());
    let passed_on = raw.produce_by(group, several.clone(), true).await;
    assert!(matches!(passed_on, Err(ApiError::InvalidRequest { .. })));
    assert_eq!(raw.produce(group, several).await, Ok(0));
    assert_eq!(raw.produce(group, by(5, 3)).await, Ok(3));
}

#[tokio::test]
async fn offset_out_of_range_is_answered_with_the_valid_range() {
    let (_cluster, raw, group) = one_partition().await;
    assert_eq!(
        raw.produce(group, batch(group, &[b"sloop", b"brig"])).await,
        Ok(0)
    );
    let fetch = |from| Request::Fetch {
        group,
        from,
        max_bytes: 1 << 20,
        follow: false,
    };
    let error = ApiError::OffsetOutOfRange {
        log_start: 0,
        high_watermark: 2,
    };
    assert_eq!(
        raw.ask(&fetch(FetchFrom::Offset(3))).await,
        Reply::Error {
            correlation: 0,
            error
        }
    );
    for (from, first) in [
        (FetchFrom::Offset(1), 1),
        (FetchFrom::Start, 0),
        (FetchFrom::Time(0), 0),
        (FetchFrom::End, 2),
        (FetchFrom::Time(u64::MAX), 2),
    ] {
        match raw.ask(&fetch(from)).await {
            Reply::Fetched {
                first_offset,
                high_watermark: 2,
                log_start: 0,
                end,
                ..
            } => {
                assert_eq!((first_offset, end), (first, first == 2), "{from:?}");
            }
            other => panic!("{from:?} was answered with {other:?}"),
        }
    }
    let unknown = Request::Fetch {
        group: 99,
        from: FetchFrom::Start,
        max_bytes: 1,
        follow: true,
    };
    assert_eq!(
        raw.ask(&unknown).await,
        Reply::Error {
            correlation: 0,
            error: ApiError::UnknownGroup
        }
    );
}

#[tokio::test]
async fn garbage_and_length_bombs_of_a_client_end_its_stream_and_nothing_else() {
    let (_cluster, raw, group) = one_partition().await;
    for (kind, head) in [
        (1, vec![]),
        (1, vec![9, 1, 2, 3]),
        (77, vec![1, 2]),
        (1, vec![1; 100]),
    ] {
        let mut stream = raw.open().await;
        stream.send.send(kind, &head, &mut []).await.unwrap();
        assert!(
            matches!(stream.reply().await.0, Reply::Error { .. }),
            "kind {kind}, head {head:?}"
        );
    }
    // A head over its cap cannot be answered: the stream just ends.
    let mut stream = raw.open().await;
    let _ = stream.send.send(1, &vec![0; 2 << 20], &mut []).await;
    let limits = transport::Limits {
        head_bytes_max: 1 << 20,
        body_bytes_max: 0,
    };
    assert!(!matches!(
        within(stream.recv.recv(&limits)).await,
        Ok(Some(_))
    ));
    assert_eq!(raw.produce(group, batch(group, &[b"sloop"])).await, Ok(0));
}

/// Two nodes of three, and what the third would show and say.
fn two_of_three() -> (Cluster, Credentials, Greeting) {
    let mut cluster = Cluster::prepare(3);
    cluster.start_node(1);
    cluster.start_node(2);
    cluster.wait_ready();
    let issued = cluster.authority.issue_node(3).unwrap();
    let third = Credentials::from_pem(
        cluster.authority.cert_pem(),
        &issued.cert_pem,
        &issued.key_pem,
    )
    .unwrap();
    let greeting = Greeting {
        cluster: cluster.config(1).cluster_id(),
        node: 3,
        replica: [3; 16],
        boot: 1,
        nonces: vec![7],
    };
    (cluster, third, greeting)
}

#[tokio::test]
async fn peer_that_lies_about_its_sender_or_sends_garbage_is_cut_off() {
    let (cluster, third, greeting) = two_of_three();
    let (kind, impostor, _) = encode_envelopes(2, &[]);
    let mut garbage = BytesMut::new();
    garbage.put_bytes(0xa5, 5_000);
    for head in [impostor, garbage.to_vec(), vec![]] {
        let peer = Raw::connect_as(&cluster, 1, &third, Alpn::Peer).await;
        peer.greet(&greeting).await;
        let mut stream = peer.open().await;
        let (hello_kind, hello) = encode_hello(&StreamHello::Control);
        stream.send.send(hello_kind, &hello, &mut []).await.unwrap();
        stream.send.send(kind, &head, &mut []).await.unwrap();
        let why = within(peer.connection().closed()).await.to_string();
        assert!(why.contains("closed by the other side"), "{why}");
    }
    // A head over its cap, and a message of a later version.
    let later = [&[200][..], &encode_envelopes(3, &[]).1[1..]].concat();
    for head in [vec![0; 8 << 20], later] {
        let peer = Raw::connect_as(&cluster, 1, &third, Alpn::Peer).await;
        peer.greet(&greeting).await;
        let mut stream = peer.open().await;
        let (hello_kind, hello) = encode_hello(&StreamHello::Control);
        stream.send.send(hello_kind, &hello, &mut []).await.unwrap();
        // The node may hang up before it has all of it.
        let _ = stream.send.send(kind, &head, &mut []).await;
        within(peer.connection().closed()).await;
    }
    // No hello, no service.
    let peer = Raw::connect_as(&cluster, 1, &third, Alpn::Peer).await;
    peer.greet(&greeting).await;
    let mut stream = peer.open().await;
    stream.send.send(kind, &[1, 2, 3], &mut []).await.unwrap();
    within(peer.connection().closed()).await;
    assert!(cluster.node(1).ready() || cluster.node(1).wait_ready(crate::harness::PATIENCE));
}

#[tokio::test]
async fn peer_that_does_not_greet_as_itself_is_cut_off() {
    let (cluster, third, greeting) = two_of_three();
    let (hello_kind, hello) = encode_hello(&StreamHello::Control);
    let of_another = encode_greeting(&Greeting {
        node: 2,
        ..greeting.clone()
    });
    let of_another_cluster = encode_greeting(&Greeting {
        cluster: [0; 16],
        ..greeting.clone()
    });
    let no_nonce = encode_greeting(&Greeting {
        nonces: Vec::new(),
        ..greeting
    });
    for (kind, head) in [
        (hello_kind, hello),
        of_another,
        of_another_cluster,
        no_nonce,
    ] {
        let peer = Raw::connect_as(&cluster, 1, &third, Alpn::Peer).await;
        let mut stream = peer.open().await;
        stream.send.send(kind, &head, &mut []).await.unwrap();
        let why = within(peer.connection().closed()).await.to_string();
        assert!(why.contains("closed by the other side"), "{why}");
    }
    assert!(cluster.node(1).ready() || cluster.node(1).wait_ready(crate::harness::PATIENCE));
}
