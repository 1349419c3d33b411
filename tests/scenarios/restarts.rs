//! Restarts: what was acked is there, and retries from before are still recognised.

use std::path::Path;

use plimsoll::replica::OpenError;
use segment_store::fs::Fs;

use crate::batches::{batch, batch_of};
use crate::cluster::{Cluster, DIR, Options};

fn restart_all(cluster: &mut Cluster) -> u64 {
    for id in 1..=3 {
        cluster.restart(id);
    }
    cluster.run_until(|cluster| cluster.leader().is_some());
    cluster.quiet();
    cluster.leader().unwrap()
}

fn snapshots(cluster: &Cluster, id: u64) -> usize {
    let names = cluster.disk(id).list(Path::new(DIR)).unwrap();
    names
        .iter()
        .filter(|name| name.ends_with(".snapshot"))
        .count()
}

#[test]
fn restart_of_all_nodes_keeps_what_was_acked_and_who_sent_it() {
    let mut cluster = Cluster::three();
    for sequence in 0..5 {
        cluster.acked(1, &batch(5, 0, sequence * 2, 2));
    }
    let leader = restart_all(&mut cluster);
    assert_eq!(snapshots(&cluster, leader), 0, "from the log alone");
    cluster.run_until(|cluster| cluster.node(leader).high_watermark() == 10);
    for sequence in 0..5 {
        let acked = cluster.acked(leader, &batch(5, 0, sequence * 2, 2));
        assert_eq!(acked.base_offset, sequence * 2);
    }
    assert_eq!(cluster.acked(leader, &batch(5, 0, 10, 1)).base_offset, 10);
    cluster.run_for(200);
    cluster.check_identical();
}

#[test]
fn restart_from_snapshot_and_log_recognises_retries_from_before_and_after_the_snapshot() {
    let mut options = Options::default();
    options.replica.snapshot_every_entries = 7;
    let mut cluster = Cluster::with(options);
    for sequence in 0..20 {
        cluster.acked(1, &batch(5, 0, sequence, 1));
    }
    cluster.run_for(200);
    let leader = restart_all(&mut cluster);
    assert!(snapshots(&cluster, leader) > 0);
    for sequence in 0..20 {
        let acked = cluster.acked(leader, &batch(5, 0, sequence, 1));
        assert_eq!(acked.base_offset, sequence);
    }
    assert_eq!(cluster.acked(leader, &batch(5, 0, 20, 1)).base_offset, 20);
    cluster.run_for(200);
    cluster.check_identical();
}

#[test]
fn high_watermark_after_a_restart_never_shows_more_than_is_committed() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 3));
    cluster.crash(2);
    cluster.crash(3);
    // On the leader's disk alone: durable, not committed.
    cluster.offer(1, &batch(5, 0, 3, 3), false);
    cluster.quiet();
    cluster.restart(1);
    cluster.run_for(500);
    assert_eq!(
        cluster.node(1).high_watermark(),
        0,
        "nobody has confirmed anything yet"
    );
    cluster.start(2);
    cluster.run_until(|cluster| cluster.node(1).high_watermark() >= 3);
    cluster.start(3);
    cluster.run_for(1_000);
    cluster.check_identical();
}

#[test]
fn log_damaged_in_the_middle_is_not_opened() {
    let mut cluster = Cluster::three();
    for sequence in 0..10 {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, 2_000));
    }
    cluster.crash(3);
    let names = cluster.disk(3).list(Path::new(DIR)).unwrap();
    let segment = names
        .iter()
        .find(|name| name.ends_with(".segment") || name.ends_with(".seg"));
    let path = Path::new(DIR).join(segment.expect("a segment file"));
    cluster.disk(3).flip_bit(&path, 4096 + 3_000, 0);
    match cluster.try_open(3) {
        Err(OpenError::Damaged { group, .. }) => assert_eq!(group, crate::cluster::GROUP),
        other => panic!("{other:?}"),
    }
}

/// A leader that restarted from a snapshot no longer knows which entries before it were memberships; whoever lacks one of
/// them must be brought up all the same.
#[test]
fn follower_that_lacks_a_membership_from_before_the_leaders_snapshot_catches_up() {
    let mut options = Options::default();
    options.replica.snapshot_every_entries = 7;
    let mut cluster = Cluster::with(options);
    let mut sequence = 0;
    for _ in 0..2 {
        let leader = cluster.leader().unwrap();
        for _ in 0..20 {
            cluster.acked(leader, &batch(5, 0, sequence, 1));
            sequence += 1;
        }
        cluster.run_for(200);
        // From now on node 3 lacks what the others add, the membership that a new leader opens its log with among it.
        cluster.isolate(3);
        cluster.restart(1);
        cluster.restart(2);
        cluster.run_until(|cluster| matches!(cluster.leader(), Some(1 | 2)));
        cluster.quiet();
    }
    cluster.heal();
    cluster.run_until(|cluster| cluster.node(3).high_watermark() == 40);
    cluster.check_identical();
}
