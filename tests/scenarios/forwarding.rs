//! Proposals that arrive at a follower: passed on to the leader, or answered with who that is.

use bytes::BytesMut;
use plimsoll::replica::{Acked, Answer};
use plimsoll::wire::{ApiError, Content};

use crate::batches::batch;
use crate::cluster::Cluster;

#[test]
fn follower_passes_a_batch_on_and_returns_the_leaders_ack() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 2));
    let token = cluster.offer(3, &batch(5, 0, 2, 2), true);
    cluster.quiet();
    let acked = Acked {
        index: 4,
        base_offset: 2,
    };
    assert_eq!(cluster.reply(3, token), Some(Ok(Answer::Acked(acked))));
}

#[test]
fn follower_that_shall_not_forward_names_the_leader() {
    let mut cluster = Cluster::three();
    let refused = cluster.produce(3, &batch(5, 0, 0, 1));
    let leader = Some((1, String::new()));
    assert_eq!(refused, Some(Err(ApiError::NotLeader { leader })));
}

#[test]
fn forward_that_is_lost_ends_in_a_retriable_error_and_the_retry_makes_no_duplicate() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 1));
    // The leader gets it; its answer never arrives.
    cluster.lose = |content| matches!(content, Content::ForwardReply { .. });
    let token = cluster.offer(3, &batch(5, 0, 1, 1), true);
    cluster.run_for(6_000);
    let reply = cluster.reply(3, token);
    assert_eq!(reply, Some(Err(ApiError::Timeout)));
    assert_eq!(cluster.node(1).high_watermark(), 2);
    cluster.lose = |_| false;
    let retry = cluster.offer(3, &batch(5, 0, 1, 1), true);
    cluster.quiet();
    let reply = cluster.reply(3, retry);
    assert!(
        matches!(reply, Some(Ok(Answer::Acked(Acked { base_offset: 1, .. })))),
        "{reply:?}"
    );
    assert_eq!(cluster.node(1).high_watermark(), 2);
}

#[test]
fn forwards_to_a_fallen_leader_are_given_up_when_another_leads() {
    let mut cluster = Cluster::three();
    cluster.crash(1);
    let token = cluster.offer(3, &batch(5, 0, 0, 1), true);
    cluster.run_until(|cluster| cluster.leader().is_some());
    cluster.run_for(200);
    let reply = cluster.reply(3, token);
    assert!(
        matches!(&reply, Some(Err(error)) if error.is_retriable()),
        "{reply:?}"
    );
}

#[test]
fn forwarded_batch_that_was_spoilt_on_the_way_is_refused_by_the_leader() {
    let mut cluster = Cluster::three();
    let token = cluster.offer(3, &batch(5, 0, 0, 1), true);
    cluster.turn(3);
    let (_, _, envelope) = cluster.network().front_mut().unwrap();
    let mut bytes = BytesMut::from(&envelope.frames[0][..]);
    bytes[110] ^= 1;
    envelope.frames[0] = bytes.freeze();
    cluster.quiet();
    let reply = cluster.reply(3, token);
    assert!(
        matches!(reply, Some(Err(ApiError::CorruptBatch { .. }))),
        "{reply:?}"
    );
    assert_eq!(cluster.node(1).high_watermark(), 0);
}
