//! Restarts: what was acked is there, and retries from before are still recognised.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use plimsoll::replica::{OpenError, RepairAnswer, RepairStep, Repairing, open_damaged};
use segment_store::fs::Fs;
use segment_store::{LogIdentity, Repair};

use crate::batches::{batch, batch_of};
use crate::cluster::{Cluster, DIR, GROUP, Options};

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
    let path = segment_of(&cluster, 3);
    cluster.disk(3).flip_bit(&path, 4096 + 3_000, 0);
    match cluster.try_open(3) {
        Err(OpenError::Damaged { group, .. }) => assert_eq!(group, crate::cluster::GROUP),
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_damaged_in_the_middle_come_from_any_other_replica() {
    let mut cluster = Cluster::three();
    for sequence in 0..10 {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, 2_000));
    }
    cluster.run_for(200);
    cluster.crash(3);
    let path = segment_of(&cluster, 3);
    cluster.disk(3).flip_bit(&path, 4096 + 3_000, 0);
    let mut repairing = Repairing::new(GROUP, mend(&cluster, 3).unwrap());
    // The first one asked lacks it, as far as it says.
    let step = repairing.next(0, &[1, 2]).unwrap();
    let RepairStep::Ask { peer, first, last } = step else {
        panic!("{step:?}");
    };
    let nothing = RepairAnswer::Frames(Bytes::new());
    repairing.answered(0, peer, last, nothing).unwrap();
    let other = 3 - peer;
    let ask = RepairStep::Ask {
        peer: other,
        first,
        last,
    };
    assert_eq!(repairing.next(0, &[1, 2]).unwrap(), ask);
    // The other one is slow, and asked again later.
    repairing
        .answered(0, other, last, RepairAnswer::Silence)
        .unwrap();
    let step = repairing.next(0, &[1, 2]).unwrap();
    let RepairStep::Wait { until } = step else {
        panic!("{step:?}");
    };
    assert!(!repairing.status().halted);
    assert_eq!(repairing.next(until, &[1, 2]).unwrap(), ask);
    let frames = cluster.node(other).reader.read_before(first, last, 1 << 20);
    let frames = RepairAnswer::Frames(frames.unwrap());
    repairing.answered(until, other, last, frames).unwrap();
    let step = repairing.next(until, &[1, 2]).unwrap();
    assert_eq!(step, RepairStep::Whole);
    cluster.start(3);
    assert!(!cluster.node(3).replica.raft().tail_suspect());
    cluster.run_for(1_000);
    cluster.check_identical();
}

#[test]
fn entries_that_nobody_has_halt_the_replica_until_somebody_has_them() {
    let mut cluster = Cluster::three();
    for sequence in 0..10 {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, 2_000));
    }
    cluster.run_for(200);
    cluster.crash(3);
    let path = segment_of(&cluster, 3);
    cluster.disk(3).flip_bit(&path, 4096 + 3_000, 0);
    let mut repairing = Repairing::new(GROUP, mend(&cluster, 3).unwrap());
    let mut wanted = Vec::new();
    let until = loop {
        match repairing.next(7, &[1, 2]).unwrap() {
            RepairStep::Ask { peer, first, last } => {
                wanted.push((peer, first, last));
                let nothing = RepairAnswer::Frames(Bytes::new());
                repairing.answered(7, peer, last, nothing).unwrap();
            }
            RepairStep::Wait { until } => break until,
            RepairStep::Whole => panic!("out of nothing"),
        }
    };
    assert_eq!(wanted.len(), 2);
    assert!(repairing.status().halted && repairing.status().missing_entries > 0);
    let step = repairing.next(until, &[1, 2]).unwrap();
    let RepairStep::Ask { peer, first, last } = step else {
        panic!("{step:?}");
    };
    let frames = cluster.node(peer).reader.read_before(first, last, 1 << 20);
    let frames = RepairAnswer::Frames(frames.unwrap());
    repairing.answered(until, peer, last, frames).unwrap();
    assert!(!repairing.status().halted);
    assert_eq!(repairing.next(until, &[1, 2]).unwrap(), RepairStep::Whole);
}

#[test]
fn entries_that_were_never_committed_are_given_up_once_others_have_committed_others() {
    let mut cluster = Cluster::three();
    for sequence in 0..10 {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, 2_000));
    }
    cluster.run_for(200);
    // A leader that nobody hears any more writes on.
    cluster.isolate(1);
    for sequence in 10..16 {
        cluster.offer(1, &batch_of(5, 0, sequence, 1, 2_000), false);
    }
    cluster.quiet();
    let last = cluster.node(1).reader.last_index();
    cluster.run_until(|cluster| matches!(cluster.leader(), Some(2 | 3)));
    let leader = cluster.leader().unwrap();
    for sequence in 10..30 {
        cluster.acked(leader, &batch_of(5, 0, sequence, 1, 100));
    }
    let position = {
        let frames = cluster
            .node(1)
            .reader
            .read(1, last - 2, usize::MAX)
            .unwrap();
        4096 + frames.bytes.len() as u64
    };
    cluster.crash(1);
    let path = segment_of(&cluster, 1);
    cluster.disk(1).flip_bit(&path, position - 100, 0);
    let mut repairing = Repairing::new(GROUP, mend(&cluster, 1).unwrap());
    let step = repairing.next(0, &[leader]).unwrap();
    let RepairStep::Ask { peer, first, last } = step else {
        panic!("{step:?}");
    };
    let others = cluster
        .node(leader)
        .reader
        .read_before(first, last, 1 << 20);
    let others = others.unwrap();
    // Of entries that are not known to be committed nothing follows.
    let unproven = RepairAnswer::Frames(others.clone());
    repairing.answered(0, peer, last, unproven).unwrap();
    let step = repairing.next(0, &[leader]).unwrap();
    let RepairStep::Wait { until } = step else {
        panic!("{step:?}");
    };
    assert!(repairing.status().halted);
    let committed = RepairAnswer::Committed(others);
    repairing.answered(until, peer, last, committed).unwrap();
    let step = repairing.next(until, &[leader]).unwrap();
    assert_eq!(step, RepairStep::Whole);
    cluster.heal();
    cluster.start(1);
    assert!(cluster.node(1).replica.raft().tail_suspect());
    cluster.run_until(|cluster| !cluster.node(1).replica.raft().tail_suspect());
    cluster.run_for(1_000);
    cluster.check_identical();
}

#[test]
fn replica_that_lost_its_log_is_suspect_until_a_later_leader_filled_it_and_trusted_from_then_on() {
    let mut cluster = Cluster::three();
    for sequence in 0..10 {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, 2_000));
    }
    cluster.run_for(200);
    cluster.crash(3);
    let path = segment_of(&cluster, 3);
    cluster.disk(3).remove(&path).unwrap();
    assert!(matches!(
        cluster.try_open(3),
        Err(OpenError::Damaged { .. })
    ));
    assert!(mend(&cluster, 3).is_none(), "there is nothing to ask for");
    cluster.start(3);
    assert!(cluster.node(3).replica.raft().tail_suspect());
    cluster.restart(3);
    assert!(cluster.node(3).replica.raft().tail_suspect());
    cluster.run_until(|cluster| !cluster.node(3).replica.raft().tail_suspect());
    cluster.run_for(1_000);
    cluster.check_identical();
    cluster.restart(3);
    assert!(!cluster.node(3).replica.raft().tail_suspect());
}

/// Repairs a node's log by its own files; what is missing for that otherwise.
fn mend(cluster: &Cluster, id: u64) -> Option<Repair> {
    let fs: Arc<dyn Fs> = Arc::new(cluster.disk(id).clone());
    let identity = LogIdentity {
        cluster: [9; 16],
        group: GROUP,
    };
    open_damaged(&fs, Path::new(DIR), identity, &Options::default().log).unwrap()
}

fn segment_of(cluster: &Cluster, id: u64) -> PathBuf {
    let names = cluster.disk(id).list(Path::new(DIR)).unwrap();
    let segment = names.iter().find(|name| name.ends_with(".segment"));
    Path::new(DIR).join(segment.expect("a segment file"))
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
