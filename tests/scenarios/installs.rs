//! Retention, and followers that were away for longer than what is retained: they are given a state, and then what is kept.

use bytes::{Bytes, BytesMut};
use plimsoll::raft::{Message, ProgressState};
use plimsoll::replica::Pacer;
use plimsoll::wire::{ApiError, Content};
use segment_store::fs::{Fs, SimFs};

use crate::batches::batch_of;
use crate::cluster::{Cluster, DIR, Options};
use crate::snapshots::{Sum, run};

const BATCH_BYTES: usize = 8_000;

/// Keeps about a segment, and takes snapshots often.
fn retaining() -> Options {
    let mut options = Options::default();
    options.replica.retention_bytes = Some(64 << 10);
    options.replica.snapshot_every_bytes = 32 << 10;
    options
}

fn produce(cluster: &mut Cluster, from: u64, to: u64) {
    for sequence in from..to {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, BATCH_BYTES));
    }
}

/// Node 3 is down, with one batch; the others have moved on and kept less than it would need.
fn away(options: Options) -> Cluster {
    let mut cluster = Cluster::with(options);
    produce(&mut cluster, 0, 1);
    cluster.run_for(200);
    let had = cluster.node(3).replica.raft().last_index();
    cluster.crash(3);
    produce(&mut cluster, 1, 60);
    assert!(cluster.node(1).reader.first_index() > had + 1);
    cluster
}

fn is_level(cluster: &mut Cluster) -> bool {
    let leaders = cluster.node(1).high_watermark();
    (2..=3).all(|id| cluster.is_up(id) && cluster.node(id).high_watermark() == leaders)
}

#[test]
fn partition_lets_go_of_whole_segments_beyond_what_is_retained() {
    let mut cluster = Cluster::with(retaining());
    produce(&mut cluster, 0, 60);
    cluster.run_for(200);
    for id in 1..=3 {
        let reader = cluster.node(id).reader.clone();
        let kept = reader.bytes_from(reader.first_index(), u64::MAX);
        assert!(kept >= 64 << 10, "node {id} keeps {kept} bytes");
        assert!(kept <= 320 << 10, "node {id} keeps {kept} bytes");
        let published = cluster.node(id).published;
        assert_eq!(published.log_start, reader.log_start());
        assert!(reader.log_start() > 0);
        assert!(reader.seek_offset(0).is_err());
    }
    cluster.check_identical();
    // What a restart finds is what was kept.
    for id in 1..=3 {
        cluster.restart(id);
    }
    cluster.run_until(|cluster| cluster.leader().is_some());
    cluster.run_until(|cluster| (1..=3).all(|id| cluster.node(id).high_watermark() == 60));
}

#[test]
fn without_retention_a_partition_keeps_everything() {
    let mut options = retaining();
    options.replica.retention_bytes = None;
    let mut cluster = Cluster::with(options);
    produce(&mut cluster, 0, 60);
    assert_eq!(cluster.node(1).reader.first_index(), 1);
}

#[test]
fn follower_behind_the_log_start_comes_up_and_equals_the_others() {
    let mut cluster = away(retaining());
    cluster.start(3);
    cluster.run_until(is_level);
    let (first, base) = (
        cluster.node(1).reader.first_index(),
        cluster.node(3).reader.first_index(),
    );
    assert!(
        base <= first && base > 2,
        "node 3 has what the leader keeps"
    );
    cluster.check_identical();
    // And so it does after a restart.
    cluster.restart(3);
    cluster.run_until(is_level);
    produce(&mut cluster, 60, 65);
    cluster.run_until(is_level);
    cluster.check_identical();
}

#[test]
fn follower_that_was_given_a_state_knows_the_producers_when_it_leads() {
    let mut cluster = away(retaining());
    cluster.start(3);
    cluster.run_until(is_level);
    cluster.transfer(3);
    for sequence in [59, 40, 30] {
        let again = cluster.acked(3, &batch_of(5, 0, sequence, 1, BATCH_BYTES));
        assert_eq!(again.base_offset, sequence, "a duplicate, not a new record");
    }
    let refused = cluster.produce(3, &batch_of(5, 0, 62, 1, BATCH_BYTES));
    assert!(
        matches!(refused, Some(Err(ApiError::OutOfOrderSequence { .. }))),
        "{refused:?}"
    );
    let next = cluster.acked(3, &batch_of(5, 0, 60, 1, BATCH_BYTES));
    assert_eq!(next.base_offset, 60);
}

#[test]
fn new_replica_of_a_group_with_data_is_given_a_state_while_records_come_in() {
    let mut cluster = away(retaining());
    let empty = SimFs::new(33);
    empty.create_dir(std::path::Path::new(DIR)).unwrap();
    empty.sync_dir(std::path::Path::new("/")).unwrap();
    cluster.disks.insert(3, empty);
    cluster.start(3);
    for sequence in 60..90 {
        cluster.acked(1, &batch_of(5, 0, sequence, 1, BATCH_BYTES));
        cluster.run_for(30);
    }
    cluster.run_until(is_level);
    cluster.check_identical();
}

#[test]
fn state_machine_is_taken_over_and_no_command_counts_twice() {
    let mut options = Options {
        machine: Some(|| Box::<Sum>::default()),
        ..Options::default()
    };
    options.replica.snapshot_every_bytes = 32 << 10;
    let mut cluster = Cluster::with(options);
    assert_eq!(run(&mut cluster, 1, 8_000), (1, 8_000));
    cluster.run_for(200);
    cluster.crash(3);
    for at in 2..=60 {
        assert_eq!(run(&mut cluster, 1, 8_000), (at, at * 8_000));
    }
    assert!(cluster.node(1).reader.first_index() > 10);
    cluster.start(3);
    cluster.run_until(|cluster| {
        let applied = cluster.node(1).published.applied_index;
        cluster.node(3).published.applied_index == applied
    });
    cluster.transfer(3);
    assert_eq!(run(&mut cluster, 3, 1), (61, 480_001));
    cluster.restart(3);
    cluster.run_until(|cluster| cluster.leader().is_some());
    cluster.transfer(3);
    assert_eq!(run(&mut cluster, 3, 1), (62, 480_002));
}

#[test]
fn follower_that_loses_power_at_any_operation_of_an_install_comes_up_all_the_same() {
    let mut whole = away(retaining());
    whole.start(3);
    let first = whole.disk(3).operations();
    whole.run_until(is_level);
    let operations = whole.disk(3).operations() - first;
    assert!(operations > 10);
    for cut in 0..=operations {
        let mut cluster = away(retaining());
        cluster.start(3);
        let at = cluster.disk(3).operations() + cut;
        cluster.disk(3).cut_after(at);
        cluster.run_for(1_000);
        cluster.crash(3);
        // And again, while it finishes what it finds.
        let at = cluster.disk(3).operations() + cut % 7;
        cluster.disk(3).cut_after(at);
        drop(cluster.try_open(3));
        cluster.crash(3);
        cluster.start(3);
        cluster.run_until(is_level);
        cluster.check_identical();
        let next = cluster.acked(1, &batch_of(5, 0, 60, 1, BATCH_BYTES));
        assert_eq!(next.base_offset, 60, "cut after {cut}");
    }
}

#[test]
fn disk_without_room_delays_an_install_and_spoils_nothing() {
    let mut cluster = away(retaining());
    cluster.start(3);
    cluster.disk(3).set_capacity(Some(1));
    cluster.run_for(2_000);
    assert!(!is_level(&mut cluster));
    assert!(cluster.node(3).replica.poisoned().is_none());
    cluster.disk(3).set_capacity(None);
    cluster.run_until(is_level);
    cluster.check_identical();
}

/// Changes the first piece of a state under way.
fn tamper(cluster: &mut Cluster, change: fn(&mut Vec<Bytes>)) -> bool {
    let mut under_way = cluster.network().iter_mut();
    let found = under_way
        .find(|(_, _, envelope)| matches!(&envelope.content, Content::Raft(Message::Install(_))));
    found.is_some_and(|(_, _, envelope)| {
        change(&mut envelope.frames);
        true
    })
}

#[test]
fn damaged_piece_is_refused_and_the_state_is_sent_again() {
    let changes: [fn(&mut Vec<Bytes>); 3] = [
        |frames| {
            let mut bytes = BytesMut::from(&frames[0][..]);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            frames[0] = bytes.freeze();
        },
        |frames| frames.clear(),
        |frames| frames.push(Bytes::from_static(b"more")),
    ];
    for change in changes {
        let mut cluster = away(retaining());
        cluster.start(3);
        let mut spoilt = false;
        for _ in 0..10_000 {
            if spoilt {
                break;
            }
            for id in 1..=3 {
                cluster.turn(id);
                cluster.work_disk(id);
                cluster.turn(id);
            }
            spoilt = tamper(&mut cluster, change);
            if !cluster.deliver() {
                cluster.advance(10);
            }
        }
        assert!(spoilt, "a state was under way");
        assert!(cluster.node(3).high_watermark() < 2);
        cluster.run_until(is_level);
        cluster.check_identical();
    }
}

#[test]
fn high_watermark_and_log_start_of_a_follower_only_rise_and_fit_each_other() {
    let mut cluster = away(retaining());
    cluster.start(3);
    let mut last = (0, 0);
    while !is_level(&mut cluster) {
        cluster.tick();
        let published = cluster.node(3).published;
        let now = (published.high_watermark, published.log_start);
        assert!(now.0 >= last.0 && now.1 >= last.1, "{last:?}, then {now:?}");
        assert!(now.1 <= now.0, "{now:?}");
        last = now;
    }
    assert!(last.1 > 0);
}

#[test]
fn peer_far_behind_is_fed_apart_at_the_pace_of_the_node_and_then_like_the_others() {
    let mut options = Options {
        catch_up_lag_bytes: 64 << 10,
        ..Options::default()
    };
    options.replica.pacer = Pacer::new(200_000);
    let mut cluster = Cluster::with(options);
    cluster.crash(3);
    produce(&mut cluster, 0, 60);
    assert_eq!(cluster.node(1).bulk_sends, 0);
    cluster.start(3);
    let began = cluster.now;
    let mut fed_apart = false;
    while !is_level(&mut cluster) {
        let view = cluster.node(1).replica.raft().progress(3).unwrap();
        fed_apart |= view.state == ProgressState::CatchUp;
        cluster.tick();
        assert!(cluster.now < began + 20_000);
    }
    assert!(fed_apart && cluster.node(1).bulk_sends > 0);
    let took = cluster.now - began;
    assert!(
        took >= 1_800,
        "{took} ms for 480 kB, less what comes last, at 200 kB/s"
    );
    let view = cluster.node(1).replica.raft().progress(3).unwrap();
    assert_eq!(view.state, ProgressState::Pipeline);
    let sent_apart = cluster.node(1).bulk_sends;
    produce(&mut cluster, 60, 65);
    cluster.run_until(is_level);
    assert_eq!(cluster.node(1).bulk_sends, sent_apart);
    cluster.check_identical();
}
