//! The produce walk: acks, their order, their offsets, and what is recognised as seen before.

use bytes::Bytes;
use plimsoll::replica::{Answer, Input, PRODUCER_WINDOW_BATCHES};
use plimsoll::wire::ApiError;
use segment_store::kind;

use crate::batches::{batch, is_ack};
use crate::cluster::Cluster;

#[test]
fn produced_batches_are_acked_with_dense_offsets_and_identical_on_all_nodes() {
    let mut cluster = Cluster::three();
    let mut offset = 0;
    for sequence in 0..5 {
        let acked = cluster.acked(1, &batch(5, 0, sequence * 3, 3));
        assert_eq!(acked.base_offset, offset, "no-ops take no offsets");
        offset += 3;
    }
    cluster.run_for(200);
    for id in 1..=3 {
        assert_eq!(cluster.node(id).high_watermark(), 15);
        let last = cluster_last(&mut cluster, id);
        let frames = cluster.frames(id, last);
        let records = frames
            .iter()
            .filter(|frame| frame.header().kind == kind::RECORDS);
        assert_eq!(records.count(), 5);
    }
    cluster.check_identical();
}

fn cluster_last(cluster: &mut Cluster, id: u64) -> u64 {
    cluster.node(id).published.applied_index
}

#[test]
fn fresh_group_begins_with_a_no_op_and_its_membership() {
    let mut cluster = Cluster::three();
    let last = cluster_last(&mut cluster, 1);
    let kinds: Vec<u8> = cluster
        .frames(1, last)
        .iter()
        .map(|frame| frame.header().kind)
        .collect();
    assert_eq!(kinds, [kind::NOOP, kind::MEMBERSHIP]);
    assert_eq!(cluster.node(3).replica.status().voters, [1, 2, 3]);
}

#[test]
fn no_ack_leaves_before_a_majority_has_the_batch_on_disk() {
    let mut cluster = Cluster::three();
    for id in 1..=3 {
        cluster.node(id).disk_paused = true;
    }
    let token = cluster.offer(1, &batch(5, 0, 0, 1), false);
    cluster.quiet();
    assert_eq!(cluster.reply(1, token), None, "nobody has synced it");
    assert!(
        !cluster
            .network()
            .iter()
            .any(|(_, _, envelope)| is_ack(envelope))
    );
    // The leader alone is no majority.
    cluster.node(1).disk_paused = false;
    cluster.quiet();
    assert_eq!(cluster.reply(1, token), None, "the leader is no majority");
    cluster.node(2).disk_paused = false;
    cluster.quiet();
    assert!(matches!(
        cluster.reply(1, token),
        Some(Ok(Answer::Acked(_)))
    ));
}

#[test]
fn batch_is_acked_by_both_followers_while_the_leaders_disk_is_slow_and_hidden_from_readers_until_it_is_not()
 {
    let mut cluster = Cluster::three();
    cluster.node(1).disk_paused = true;
    let token = cluster.offer(1, &batch(5, 0, 0, 4), false);
    cluster.quiet();
    assert!(matches!(
        cluster.reply(1, token),
        Some(Ok(Answer::Acked(_)))
    ));
    assert_eq!(cluster.node(1).high_watermark(), 0, "not on this disk yet");
    cluster.node(1).disk_paused = false;
    cluster.quiet();
    assert_eq!(cluster.node(1).high_watermark(), 4);
}

#[test]
fn acks_leave_in_the_order_of_the_batches() {
    let mut cluster = Cluster::three();
    let tokens: Vec<u64> = (0..10)
        .map(|sequence| cluster.offer(1, &batch(5, 0, sequence, 1), false))
        .collect();
    cluster.quiet();
    assert_eq!(cluster.node(1).answered, tokens);
}

#[test]
fn batches_of_one_turn_go_to_each_peer_in_one_message() {
    let mut cluster = Cluster::three();
    for sequence in 0..10 {
        cluster.offer(1, &batch(5, 0, sequence, 1), false);
    }
    cluster.turn(1);
    let with_frames = cluster
        .network()
        .iter()
        .filter(|(_, _, envelope)| !envelope.frames.is_empty());
    let frames: Vec<usize> = with_frames
        .map(|(_, _, envelope)| envelope.frames.len())
        .collect();
    assert_eq!(frames, [10, 10]);
}

/// Three batches of producer 5 in a row, of 3, 1 and 2 records.
fn three_in_a_row() -> Bytes {
    let parts = [batch(5, 0, 0, 3), batch(5, 0, 3, 1), batch(5, 0, 4, 2)];
    Bytes::from(parts.concat())
}

#[test]
fn batches_of_one_request_lie_in_their_order_and_are_acked_together() {
    let mut cluster = Cluster::three();
    let before = cluster.node(1).replica.raft().last_index();
    let first = cluster.acked(1, &three_in_a_row());
    assert_eq!((first.index, first.base_offset), (before + 3, 0));
    let next = cluster.acked(1, &batch(5, 0, 6, 1));
    assert_eq!((next.index, next.base_offset), (before + 4, 6));
    // Each of them is known by itself.
    let second_again = cluster.acked(1, &batch(5, 0, 3, 1));
    assert_eq!(
        (second_again.index, second_again.base_offset),
        (before + 2, 3)
    );
    cluster.run_for(200);
    cluster.check_identical();
}

#[test]
fn several_batches_of_which_one_is_in_the_log_are_refused_and_go_one_by_one() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 3));
    let last = cluster.node(1).replica.raft().last_index();
    let answer = cluster.produce(1, &three_in_a_row());
    assert!(
        matches!(answer, Some(Err(ApiError::InvalidRequest { .. }))),
        "{answer:?}"
    );
    assert_eq!(cluster.node(1).replica.raft().last_index(), last);
    assert_eq!(cluster.acked(1, &batch(5, 0, 0, 3)).base_offset, 0);
    assert_eq!(cluster.acked(1, &batch(5, 0, 3, 1)).base_offset, 3);
}

#[test]
fn batches_of_one_request_are_not_acked_before_a_majority_has_the_last_of_them() {
    let mut cluster = Cluster::three();
    for id in 1..=3 {
        cluster.node(id).disk_paused = true;
    }
    let token = cluster.offer(1, &three_in_a_row(), false);
    cluster.quiet();
    assert_eq!(cluster.reply(1, token), None);
    cluster.node(2).disk_paused = false;
    cluster.node(3).disk_paused = false;
    cluster.quiet();
    assert!(matches!(
        cluster.reply(1, token),
        Some(Ok(Answer::Acked(_)))
    ));
}

#[test]
fn retry_of_a_committed_batch_is_answered_with_its_offset_and_not_appended() {
    let mut cluster = Cluster::three();
    let first = cluster.acked(1, &batch(5, 0, 0, 3));
    cluster.acked(1, &batch(5, 0, 3, 3));
    let last = cluster.node(1).replica.raft().last_index();
    assert_eq!(cluster.acked(1, &batch(5, 0, 0, 3)), first);
    assert_eq!(cluster.node(1).replica.raft().last_index(), last);
}

#[test]
fn retry_while_the_original_is_uncommitted_waits_for_it() {
    let mut cluster = Cluster::three();
    cluster.node(2).disk_paused = true;
    cluster.node(3).disk_paused = true;
    let original = cluster.offer(1, &batch(5, 0, 0, 3), false);
    let retry = cluster.offer(1, &batch(5, 0, 0, 3), false);
    cluster.quiet();
    assert_eq!(cluster.reply(1, retry), None);
    cluster.node(2).disk_paused = false;
    cluster.quiet();
    let answer = cluster.reply(1, original);
    assert!(matches!(answer, Some(Ok(Answer::Acked(_)))));
    assert_eq!(cluster.reply(1, retry), answer);
    assert_eq!(cluster.node(1).high_watermark(), 3);
}

#[test]
fn gap_in_the_sequence_is_refused_with_what_is_expected() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 3));
    let gap = cluster.produce(1, &batch(5, 0, 4, 1));
    assert_eq!(gap, Some(Err(ApiError::OutOfOrderSequence { expected: 3 })));
    cluster.acked(1, &batch(5, 0, 3, 1));
}

#[test]
fn batch_of_an_older_epoch_is_fenced() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 1));
    cluster.acked(1, &batch(5, 1, 0, 1));
    let old = cluster.produce(1, &batch(5, 0, 1, 1));
    assert_eq!(old, Some(Err(ApiError::ProducerFenced { epoch: 1 })));
}

#[test]
fn producer_without_an_id_is_never_deduplicated() {
    let mut cluster = Cluster::three();
    let first = cluster.acked(1, &batch(0, 0, 0, 2));
    let second = cluster.acked(1, &batch(0, 0, 0, 2));
    assert_eq!((first.base_offset, second.base_offset), (0, 2));
}

#[test]
fn whole_window_of_batches_in_flight_can_be_retried() {
    let mut cluster = Cluster::three();
    let window = PRODUCER_WINDOW_BATCHES as u64;
    let send = |cluster: &mut Cluster| -> Vec<_> {
        let tokens: Vec<u64> = (0..window)
            .map(|sequence| cluster.offer(1, &batch(5, 0, sequence, 1), false))
            .collect();
        cluster.quiet();
        tokens
            .into_iter()
            .map(|token| cluster.reply(1, token))
            .collect()
    };
    let first = send(&mut cluster);
    let retries = send(&mut cluster);
    assert_eq!(first, retries);
    assert_eq!(cluster.node(1).high_watermark(), window);
}

#[test]
fn proposals_past_the_limit_of_uncommitted_bytes_are_refused_and_taken_again_later() {
    let mut cluster = Cluster::three();
    cluster.options.replica.uncommitted_bytes_max = 1_000;
    for id in 1..=3 {
        cluster.restart(id);
    }
    cluster.run_until(|cluster| cluster.leader().is_some());
    let leader = cluster.leader().unwrap();
    for id in 1..=3 {
        cluster.node(id).disk_paused = true;
    }
    let tokens: Vec<u64> = (0..20)
        .map(|sequence| cluster.offer(leader, &batch(5, 0, sequence, 1), false))
        .collect();
    cluster.quiet();
    let last = *tokens.last().unwrap();
    // Those behind the first refused one do not follow in the sequence any more.
    assert!(matches!(
        cluster.reply(leader, last),
        Some(Err(
            ApiError::Overloaded | ApiError::OutOfOrderSequence { .. }
        ))
    ));
    assert!(tokens.iter().any(|token| {
        cluster.node(leader).replies.get(token) == Some(&Err(ApiError::Overloaded))
    }));
    for id in 1..=3 {
        cluster.node(id).disk_paused = false;
    }
    cluster.quiet();
    let taken = cluster.node(leader).high_watermark();
    assert!(taken > 0);
    cluster.acked(leader, &batch(5, 0, taken, 1));
}

#[test]
fn command_to_a_partition_is_refused() {
    let mut cluster = Cluster::three();
    let token = cluster.command(1, b"create");
    cluster.quiet();
    let answer = cluster.reply(1, token);
    assert!(matches!(answer, Some(Err(ApiError::InvalidRequest { .. }))));
}

#[test]
fn read_index_at_the_leader_covers_every_acked_batch() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 3));
    let token = cluster.token();
    cluster.input(1, Input::ReadIndex { token });
    cluster.quiet();
    let answer = Some(Ok(Answer::ReadAt { high_watermark: 3 }));
    assert_eq!(cluster.reply(1, token), answer);
}

#[test]
fn read_index_at_a_leader_whose_disk_is_behind_waits_for_it() {
    let mut cluster = Cluster::three();
    cluster.node(1).disk_paused = true;
    cluster.acked(1, &batch(5, 0, 0, 3));
    let token = cluster.token();
    cluster.input(1, Input::ReadIndex { token });
    cluster.run_for(60);
    assert_eq!(cluster.reply(1, token), None, "its disk lacks the batch");
    cluster.node(1).disk_paused = false;
    cluster.run_for(200);
    let answer = Some(Ok(Answer::ReadAt { high_watermark: 3 }));
    assert_eq!(cluster.reply(1, token), answer);
}

#[test]
fn read_index_at_a_follower_waits_until_it_has_applied_as_far() {
    let mut cluster = Cluster::three();
    cluster.node(3).disk_paused = true;
    cluster.acked(1, &batch(5, 0, 0, 3));
    let token = cluster.token();
    cluster.input(3, Input::ReadIndex { token });
    cluster.run_for(60);
    assert_eq!(cluster.reply(3, token), None, "its disk lacks the batch");
    cluster.node(3).disk_paused = false;
    cluster.run_for(200);
    let answer = Some(Ok(Answer::ReadAt { high_watermark: 3 }));
    assert_eq!(cluster.reply(3, token), answer);
}

#[test]
fn read_index_without_a_majority_is_never_served() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 3));
    cluster.isolate(1);
    let token = cluster.token();
    cluster.input(1, Input::ReadIndex { token });
    cluster.run_for(6_000);
    let answer = cluster.reply(1, token);
    assert!(matches!(answer, Some(Err(_))), "{answer:?}");
}
