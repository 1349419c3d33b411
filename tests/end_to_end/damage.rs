//! Files of running and stopped nodes spoilt by hand: what the disks of a cluster still have between them comes back by itself, and what
//! none of them has stops its group and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll::client::{From, Record, Replica};
use plimsoll::wire::ReplicaRole;
use segment_store::fs::RealFs;
use segment_store::{FrameHeader, verify};

use crate::harness::{Cluster, PATIENCE};
use crate::raw::within;

const RECORDS: usize = 1_500;

/// Three nodes with a topic of one partition that fills several segments, and its group.
async fn filled() -> (Cluster, u64) {
    let cluster = Cluster::start_with(3, |config| {
        config.log.segment_bytes_first = 64 << 10;
        config.log.segment_bytes_max = 1 << 20;
    });
    let group = fill(&cluster, "ships").await;
    (cluster, group)
}

async fn fill(cluster: &Cluster, topic: &str) -> u64 {
    let client = cluster.client().await;
    client.admin().create_topic(topic, 1, 3).await.unwrap();
    // Many small entries.
    let producer = client.producer(topic).batch_bytes(4 << 10);
    let producer = producer.build().await.unwrap();
    let mut deliveries = Vec::new();
    for value in values() {
        let record = Record::value(&value).partition(0);
        deliveries.push(within(producer.send(record)).await.unwrap());
    }
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
    within(producer.close()).await.unwrap();
    let status = client.admin().status().await.unwrap();
    let group = status
        .groups
        .iter()
        .find(|group| group.topic.as_deref() == Some(topic));
    let group = group.unwrap().group;
    client.close().await;
    group
}

/// Records that do not compress.
fn values() -> Vec<Vec<u8>> {
    let mut dice = fastrand::Rng::with_seed(7);
    let mut value = || (0..400).map(|_| dice.u8(..)).collect();
    (0..RECORDS).map(|_| value()).collect()
}

async fn consume(cluster: &Cluster, topic: &str, node: u64) -> Vec<Vec<u8>> {
    let client = cluster.client().await;
    let consumer = client.consumer(topic).partition(0).from(From::Start);
    let consumer = consumer.follow(true).replica(Replica::Node(node));
    let mut consumer = within(consumer.stream()).await.unwrap();
    let mut found = Vec::new();
    while found.len() < RECORDS {
        let record = within(consumer.next()).await.unwrap().unwrap();
        found.push(record.value().unwrap().to_vec());
    }
    client.close().await;
    found
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect();
    paths.sort();
    paths
}

fn flip(path: &Path, position: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], position).unwrap();
}

fn kept_aside(dir: &Path) -> usize {
    fs::read_dir(dir.join("damaged")).map_or(0, Iterator::count)
}

/// Every frame of a stopped node's log, by header and checksum; it must be sound.
fn frames(dir: &Path) -> Vec<(FrameHeader, u32)> {
    let report = verify(&RealFs, dir).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    let frames = segment_store::dump(&RealFs, dir).unwrap();
    frames.map(Result::unwrap).collect()
}

/// Stops all nodes and holds their logs of `group` against each other.
fn assert_identical(cluster: &mut Cluster, group: u64) {
    (1..=3).for_each(|node| cluster.stop_node(node));
    let logs: Vec<_> = (1..=3)
        .map(|node| frames(&cluster.group_dir(node, group)))
        .collect();
    for log in &logs[1..] {
        let common = log.len().min(logs[0].len());
        assert!(common >= 10);
        assert_eq!(log[..common], logs[0][..common]);
    }
}

/// Where the frame with `index` begins in the first segment of the log in `dir`.
fn position_of(dir: &Path, index: u64) -> u64 {
    let frames = segment_store::dump(&RealFs, dir).unwrap();
    let before = frames.map(Result::unwrap).map(|(header, _)| header);
    let lens = before
        .take_while(|header| header.index < index)
        .map(|header| header.frame_len() as u64);
    4096 + lens.sum::<u64>()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tick.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "it never came to be that {what}");
}

#[tokio::test]
async fn whatever_is_spoilt_on_one_node_of_three_is_repaired_by_itself() {
    type Spoil = fn(&[PathBuf]);
    let spoils: [(&str, Spoil); 6] = [
        ("a frame of a sealed segment", |files| {
            flip(&files[1], 5_000);
        }),
        ("a header page", |files| flip(&files[0], 20)),
        ("a footer", |files| {
            let len = fs::metadata(&files[0]).unwrap().len();
            flip(&files[0], len - 50);
        }),
        ("a frame of the tail", |files| {
            flip(files.last().unwrap(), 4096 + 10);
        }),
        ("the length of a file", |files| {
            let file = File::options().write(true).open(&files[1]).unwrap();
            file.set_len(30_000).unwrap();
        }),
        ("a whole file", |files| {
            fs::remove_file(&files[1]).unwrap();
        }),
    ];
    let (mut cluster, group) = filled().await;
    let dir = cluster.group_dir(2, group);
    for (what, spoil) in spoils {
        cluster.stop_node(2);
        let before = frames(&dir);
        spoil(&segments(&dir));
        cluster.start_node(2);
        cluster.wait_ready();
        // A sealed frame is not read at the start: its reader finds it.
        let found = consume(&cluster, "ships", 2).await;
        assert!(found == values(), "{what}");
        cluster.wait_ready();
        cluster.stop_node(2);
        let after = frames(&dir);
        assert_eq!(after[..before.len()], before[..], "{what}");
        cluster.start_node(2);
        cluster.wait_ready();
    }
    // The footer was made again in place, and of the file that was gone nothing is left to keep.
    assert!(kept_aside(&dir) >= 4, "{}", kept_aside(&dir));
    assert_identical(&mut cluster, group);
}

#[tokio::test]
async fn a_majority_damaged_in_different_entries_is_repaired_by_itself() {
    let (mut cluster, group) = filled().await;
    (1..=3).for_each(|node| cluster.stop_node(node));
    let files = |node: u64, group: u64| segments(&cluster.group_dir(node, group));
    // Tails are read at the start, sealed segments are not: so that all damage is met at once, header pages are spoilt as well.
    flip(&files(1, group)[0], 4096 + 1_000);
    flip(&files(1, group)[0], 20);
    flip(&files(2, group)[1], 4096 + 1_000);
    flip(&files(2, group)[1], 20);
    flip(&files(3, group)[0], 30_000);
    flip(&files(3, group)[0], 20);
    // And the controller's log on one of them.
    flip(&files(2, 0)[0], 4096 + 70);
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.wait_ready();
    for node in 1..=3 {
        assert!(consume(&cluster, "ships", node).await == values(), "{node}");
        assert!(kept_aside(&cluster.group_dir(node, group)) >= 1, "{node}");
    }
    assert!(kept_aside(&cluster.group_dir(2, 0)) >= 1);
    assert_identical(&mut cluster, group);
    assert_identical_again(&cluster, 0);
}

fn assert_identical_again(cluster: &Cluster, group: u64) {
    let logs: Vec<_> = (1..=3)
        .map(|node| frames(&cluster.group_dir(node, group)))
        .collect();
    for log in &logs[1..] {
        let common = log.len().min(logs[0].len());
        assert_eq!(log[..common], logs[0][..common]);
    }
}

#[tokio::test]
async fn an_entry_damaged_everywhere_halts_its_group_alone_until_one_copy_is_back() {
    let (mut cluster, group) = filled().await;
    fill(&cluster, "boats").await;
    (1..=3).for_each(|node| cluster.stop_node(node));
    let spoilt: Vec<(PathBuf, u64)> = (1..=3)
        .map(|node| {
            let dir = cluster.group_dir(node, group);
            (segments(&dir)[0].clone(), position_of(&dir, 4) + 64 + 5)
        })
        .collect();
    let one_good = fs::read(&spoilt[0].0).unwrap();
    for (path, position) in &spoilt {
        flip(path, *position);
        flip(path, 20);
    }
    (1..=3).for_each(|node| cluster.start_node(node));
    let client = cluster.client().await;
    until("all replicas say that they are halted", async || {
        let Ok(status) = client.admin().status().await else {
            return false;
        };
        let found = status.groups.iter().find(|found| found.group == group);
        let roles = found.map(|group| group.replicas.iter().map(|replica| replica.role));
        roles.is_some_and(|mut roles| roles.all(|role| role == ReplicaRole::Halted))
    })
    .await;
    for node in 1..=3 {
        assert!(!cluster.node(node).ready());
    }
    assert!(consume(&cluster, "boats", 1).await == values());
    client.close().await;
    // Nothing was cut off: one good copy is enough for all.
    cluster.stop_node(1);
    fs::write(&spoilt[0].0, one_good).unwrap();
    cluster.start_node(1);
    cluster.wait_ready();
    for node in 1..=3 {
        assert!(consume(&cluster, "ships", node).await == values(), "{node}");
    }
    assert_identical(&mut cluster, group);
}

#[tokio::test]
async fn a_lost_ballot_keeps_one_replica_out_while_the_rest_of_its_node_serves() {
    let (mut cluster, group) = filled().await;
    let other = fill(&cluster, "boats").await;
    cluster.stop_node(2);
    let ballot = cluster.group_dir(2, group).join("ballot");
    let bytes = vec![0x5a; fs::metadata(&ballot).unwrap().len() as usize];
    fs::write(&ballot, &bytes).unwrap();
    let before = frames(&cluster.group_dir(2, group));
    cluster.start_node(2);
    assert!(consume(&cluster, "boats", 2).await == values());
    let client = cluster.client().await;
    until("the rest of node 2 takes part", async || {
        let Ok(status) = client.admin().status().await else {
            return false;
        };
        let role = |group: u64| {
            let found = status.groups.iter().find(|found| found.group == group)?;
            let replica = found.replicas.iter().find(|replica| replica.node == 2)?;
            Some(replica.role)
        };
        role(group) == Some(ReplicaRole::Unknown)
            && matches!(
                role(other),
                Some(ReplicaRole::Leader | ReplicaRole::Follower)
            )
    })
    .await;
    client.close().await;
    assert!(!cluster.node(2).ready());
    assert!(consume(&cluster, "ships", 1).await == values());
    cluster.stop_node(2);
    assert_eq!(frames(&cluster.group_dir(2, group)), before);
    assert_eq!(fs::read(&ballot).unwrap(), bytes);
}

#[tokio::test]
async fn rot_that_nobody_reads_is_found_and_repaired_while_the_node_serves() {
    let (mut cluster, group) = filled().await;
    let dirs: BTreeSet<PathBuf> = (1..=3).map(|node| cluster.group_dir(node, group)).collect();
    for (dir, nth) in dirs.iter().zip(0..) {
        flip(&segments(dir)[nth % 2], 4096 + 3_000 + nth as u64 * 2_000);
    }
    until("all of it is repaired", async || {
        dirs.iter().all(|dir| kept_aside(dir) > 0)
    })
    .await;
    cluster.wait_ready();
    for node in 1..=3 {
        assert!(consume(&cluster, "ships", node).await == values(), "{node}");
    }
    assert_identical(&mut cluster, group);
}
