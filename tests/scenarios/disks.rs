//! Disks that are full, break their promises, or spoil what passes: nothing false leaves, and what can
//! go on goes on.

use bytes::{Bytes, BytesMut};
use plimsoll::replica::Answer;
use plimsoll::wire::ApiError;
use segment_store::fs::{Injection, When};

use crate::batches::{batch, batch_of};
use crate::cluster::Cluster;

/// Produces at node 1, from `sequence` on, until it says that the disk is full. Returns the next sequence.
fn fill(cluster: &mut Cluster, mut sequence: u64) -> u64 {
    for _ in 0..100 {
        match cluster.produce(1, &batch_of(5, 0, sequence, 1, 8_000)) {
            Some(Ok(_)) => sequence += 1,
            Some(Err(ApiError::DiskFull)) => return sequence,
            other => panic!("{other:?}"),
        }
    }
    panic!("the disk never fills up");
}

#[test]
fn leader_with_a_full_disk_refuses_and_resumes_by_itself() {
    let mut cluster = Cluster::three();
    cluster.disk(1).set_capacity(Some(1));
    let next = fill(&mut cluster, 0);
    // What was taken is acked: the followers have it. Retries are answered, reads go on.
    assert!(next > 0);
    let retried = cluster.acked(1, &batch_of(5, 0, next - 1, 1, 8_000));
    assert_eq!(retried.base_offset, next - 1);
    assert!(
        cluster.node(1).high_watermark() < next,
        "the last is not on this disk"
    );
    cluster.disk(1).set_capacity(None);
    cluster.quiet();
    assert_eq!(cluster.node(1).high_watermark(), next);
    cluster.acked(1, &batch_of(5, 0, next, 1, 8_000));
    cluster.run_for(200);
    cluster.check_identical();
}

#[test]
fn node_with_a_full_disk_takes_part_in_elections_and_catches_up_later() {
    let mut cluster = Cluster::three();
    cluster.disk(3).set_capacity(Some(1));
    for sequence in 0..20 {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, 8_000));
    }
    assert!(cluster.node(3).high_watermark() < 20);
    cluster.crash(1);
    // Of two nodes, neither is elected without the ballot of the other.
    cluster.run_until(|cluster| cluster.leader().is_some());
    cluster.disk(3).set_capacity(None);
    cluster.run_until(|cluster| (2..=3).all(|id| cluster.node(id).high_watermark() == 20));
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.acked(leader, &batch(5, 0, 20, 1)).base_offset, 20);
    cluster.check_identical();
}

#[test]
fn leader_whose_sync_failed_acks_nothing_and_says_nothing_more() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 1));
    cluster.disk(1).inject(When::Next, Injection::FailedSync);
    let token = cluster.offer(1, &batch(5, 0, 1, 1), false);
    cluster.turn(1);
    cluster.network().clear();
    cluster.work_disk(1);
    cluster.turn(1);
    assert!(cluster.node(1).replica.poisoned().is_some());
    let reply = cluster.reply(1, token);
    assert!(
        matches!(reply, Some(Err(ApiError::Unavailable))),
        "{reply:?}"
    );
    let mine = |cluster: &mut Cluster| cluster.network().iter().any(|(from, _, _)| *from == 1);
    assert!(!mine(&mut cluster));
    cluster.run_until(|cluster| {
        assert!(!cluster.network().iter().any(|(from, _, _)| *from == 1));
        cluster.node(2).replica.raft().leader() == Some(2)
            || cluster.node(3).replica.raft().leader() == Some(3)
    });
    let refused = cluster.produce(1, &batch(5, 0, 1, 1));
    assert_eq!(refused, Some(Err(ApiError::Unavailable)));
}

#[test]
fn node_whose_ballot_cannot_be_synced_never_votes() {
    let mut cluster = Cluster::three();
    cluster.crash(1);
    for id in [2, 3] {
        cluster.disk(id).inject(When::Next, Injection::FailedSync);
    }
    let term = cluster.node(2).replica.raft().term();
    cluster.run_for(3_000);
    assert_eq!(cluster.leader(), None);
    for id in [2, 3] {
        assert!(cluster.node(id).replica.raft().term() <= term + 1);
    }
    assert!(
        cluster.node(2).replica.poisoned().is_some()
            || cluster.node(3).replica.poisoned().is_some()
    );
}

/// Changes the frames of the first Append with entries under way to node 2.
fn tamper(cluster: &mut Cluster, change: impl Fn(&mut Vec<Bytes>)) {
    let found = cluster
        .network()
        .iter_mut()
        .find(|(_, to, envelope)| *to == 2 && !envelope.frames.is_empty());
    change(&mut found.expect("an append is under way").2.frames);
}

fn flip(frames: &mut [Bytes], position: usize) {
    let mut bytes = BytesMut::from(&frames[0][..]);
    bytes[position] ^= 1;
    frames[0] = bytes.freeze();
}

#[test]
fn append_whose_frames_are_not_what_it_names_is_dropped_and_sent_again() {
    type Change = fn(&mut Vec<Bytes>);
    let changes: [(&str, Change); 6] = [
        ("a flipped byte of the payload", |frames| flip(frames, 100)),
        ("a flipped byte of the header", |frames| flip(frames, 20)),
        ("a missing frame", |frames| {
            frames.pop();
        }),
        ("a frame twice", |frames| {
            let again = frames[0].clone();
            frames.push(again);
        }),
        ("frames in another order", |frames| frames.reverse()),
        ("a frame cut short", |frames| {
            let len = frames[0].len();
            frames[0].truncate(len - 64);
        }),
    ];
    for (what, change) in changes {
        let mut cluster = Cluster::three();
        for sequence in 0..3 {
            cluster.offer(1, &batch(5, 0, sequence, 1), false);
        }
        cluster.turn(1);
        let before = cluster.node(2).replica.raft().last_index();
        tamper(&mut cluster, change);
        while cluster.deliver() {}
        let after = cluster.node(2).replica.raft().last_index();
        assert_eq!(before, after, "{what}");
        // The good copies make up for it.
        cluster.run_until(|cluster| cluster.node(2).high_watermark() == 3);
        cluster.check_identical();
    }
}

#[test]
fn acked_batches_survive_a_power_cut_of_any_node_at_any_disk_operation() {
    let history = |cluster: &mut Cluster| -> u64 {
        let mut acked = 0;
        for sequence in 0..6 {
            let reply = cluster.produce(1, &batch_of(5, 0, sequence, 2, 3_000));
            if !matches!(reply, Some(Ok(Answer::Acked(_)))) {
                break;
            }
            acked = (sequence + 1) * 2;
        }
        acked
    };
    for victim in 1..=3 {
        let mut cluster = Cluster::three();
        let first = cluster.disk(victim).operations();
        history(&mut cluster);
        let last = cluster.disk(victim).operations();
        assert!(last > first, "the history uses the disk");
        for cut in first..=last {
            let mut cluster = Cluster::three();
            cluster.disk(victim).cut_after(cut);
            let acked = history(&mut cluster);
            cluster.restart(victim);
            cluster.run_until(|cluster| cluster.leader().is_some());
            let leader = cluster.leader().unwrap();
            cluster.run_until(|cluster| cluster.node(leader).high_watermark() >= acked);
            cluster.run_until(|cluster| {
                let all = (1..=3).map(|id| cluster.node(id).high_watermark());
                let all: Vec<u64> = all.collect();
                all.iter().all(|mark| *mark == all[0])
            });
            cluster.check_identical();
        }
    }
}
