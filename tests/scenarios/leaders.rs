//! Changes of leader: what was acked stays, what was not is retried without a duplicate.

use plimsoll::replica::{Answer, Input};
use plimsoll::wire::ApiError;

use crate::batches::batch;
use crate::cluster::{Cluster, Reply};

fn is_retriable_error(reply: &Option<Reply>) -> bool {
    matches!(reply, Some(Err(error)) if error.is_retriable())
}

/// Waits for a leader other than node 1.
fn next_leader(cluster: &mut Cluster) -> u64 {
    cluster.run_until(|cluster| cluster.leader().is_some_and(|leader| leader != 1));
    cluster.leader().unwrap()
}

#[test]
fn retry_at_the_next_leader_finds_the_batch_that_the_fallen_one_replicated() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 3));
    let retried = batch(5, 0, 3, 3);
    let token = cluster.offer(1, &retried, false);
    cluster.turn(1);
    while cluster.deliver() {}
    // The followers have it; nobody hears from the leader again.
    cluster.isolate(1);
    let leader = next_leader(&mut cluster);
    let acked = cluster.acked(leader, &retried);
    assert_eq!(acked.base_offset, 3);
    assert_eq!(cluster.node(leader).high_watermark(), 6);
    cluster.heal();
    cluster.run_for(1_000);
    let reply = cluster.reply(1, token);
    assert!(is_retriable_error(&reply), "{reply:?}");
    assert_eq!(cluster.node(1).high_watermark(), 6);
    cluster.check_identical();
}

#[test]
fn batch_that_only_the_fallen_leader_had_is_cut_with_its_deduplication() {
    let mut cluster = Cluster::three();
    cluster.isolate(1);
    let lost = cluster.offer(1, &batch(5, 0, 0, 3), false);
    let leader = next_leader(&mut cluster);
    // The producer went on elsewhere, with another batch under the same sequence.
    cluster.acked(leader, &batch(5, 0, 0, 1));
    cluster.heal();
    cluster.run_for(1_000);
    let reply = cluster.reply(1, lost);
    assert!(is_retriable_error(&reply), "{reply:?}");
    cluster.check_identical();
    cluster.transfer(1);
    let again = cluster.produce(1, &batch(5, 0, 0, 3));
    assert_eq!(
        again,
        Some(Err(ApiError::OutOfOrderSequence { expected: 1 }))
    );
    assert_eq!(cluster.acked(1, &batch(5, 0, 1, 3)).base_offset, 1);
}

#[test]
fn room_of_proposals_that_were_lost_is_given_back() {
    let mut cluster = Cluster::three();
    cluster.options.replica.uncommitted_bytes_max = 1_000;
    cluster.restart(1);
    cluster.run_until(|cluster| cluster.leader().is_some());
    cluster.transfer(1);
    cluster.isolate(1);
    for sequence in 0..20 {
        cluster.offer(1, &batch(5, 0, sequence, 1), false);
    }
    next_leader(&mut cluster);
    cluster.heal();
    cluster.run_for(1_000);
    cluster.transfer(1);
    assert_eq!(cluster.acked(1, &batch(5, 0, 0, 1)).base_offset, 0);
}

#[test]
fn isolated_leader_acks_nothing_and_steps_down() {
    let mut cluster = Cluster::three();
    cluster.isolate(1);
    let token = cluster.offer(1, &batch(5, 0, 0, 1), false);
    let retry = cluster.offer(1, &batch(5, 0, 0, 1), false);
    cluster.run_for(2_000);
    for token in [token, retry] {
        let reply = cluster.reply(1, token);
        assert!(is_retriable_error(&reply), "{reply:?}");
    }
    let refused = cluster.produce(1, &batch(5, 0, 0, 1));
    assert_eq!(refused, Some(Err(ApiError::NotLeader { leader: None })));
    assert_eq!(cluster.node(1).high_watermark(), 0);
}

#[test]
fn transfer_is_answered_once_the_other_leads_and_producing_goes_on() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 1));
    let token = cluster.token();
    cluster.input(1, Input::Transfer { token, to: 3 });
    cluster.run_until(|cluster| cluster.leader() == Some(3));
    cluster.run_for(100);
    assert_eq!(cluster.reply(1, token), Some(Ok(Answer::Transferred)));
    assert_eq!(cluster.acked(3, &batch(5, 0, 1, 1)).base_offset, 1);
}

#[test]
fn transfer_to_a_stranger_is_refused() {
    let mut cluster = Cluster::three();
    let token = cluster.token();
    cluster.input(1, Input::Transfer { token, to: 9 });
    cluster.quiet();
    let reply = cluster.reply(1, token);
    assert!(matches!(reply, Some(Err(ApiError::InvalidRequest { .. }))));
}

#[test]
fn follower_that_was_away_gets_all_it_missed() {
    let mut cluster = Cluster::three();
    cluster.isolate(3);
    for sequence in 0..50 {
        cluster.acked(1, &crate::batches::batch_of(5, 0, sequence, 1, 3_000));
    }
    cluster.heal();
    cluster.run_until(|cluster| cluster.node(3).high_watermark() == 50);
    cluster.check_identical();
}
