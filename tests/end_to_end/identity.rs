//! A node that lost what it had is not taken for the one it was: emptied, rolled back or copied, it is refused and stops for good.

use std::fs;
use std::path::Path;

use plimsoll::client::Record;
use plimsoll::server::{NodeFailure, StartError};

use crate::harness::Cluster;

async fn write(cluster: &Cluster, count: usize) {
    let client = cluster.client().await;
    if client.admin().describe_topic("ships").await.is_err() {
        client.admin().create_topic("ships", 1, 3).await.unwrap();
    }
    let producer = client.producer("ships").build().await.unwrap();
    for _ in 0..count {
        let sent = producer.send(Record::value(b"barque")).await.unwrap();
        sent.await.unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => _ = fs::copy(entry.path(), target).unwrap(),
        }
    }
}

/// Node 3 is refused, stops by itself, and its data directory does not start again.
async fn is_refused(cluster: &mut Cluster, what: &str) {
    match cluster.ends_by_itself(3).await {
        Err(NodeFailure::Refused(why)) => {
            assert!(why.contains(what), "{why}");
            assert!(why.contains("cluster replace-node 3"), "{why}");
        }
        other => panic!("node 3 was not refused: {other:?}"),
    }
    match cluster.try_start_node(3) {
        Err(error @ StartError::DataDir { .. }) => {
            let said = error.to_string();
            assert!(said.contains("must not be used again"), "{said}");
        }
        other => panic!("node 3 was started again: {other:?}"),
    }
    write(cluster, 3).await;
}

#[tokio::test]
async fn a_node_whose_disk_was_emptied_is_refused() {
    let mut cluster = Cluster::start(3);
    write(&cluster, 10).await;
    cluster.stop_node(3);
    fs::remove_dir_all(&cluster.config(3).node.data_dir).unwrap();
    cluster.start_node(3);
    is_refused(&mut cluster, "emptied or replaced").await;
}

#[tokio::test]
async fn a_stale_copy_of_a_data_directory_is_refused() {
    let mut cluster = Cluster::start(3);
    write(&cluster, 10).await;
    let data = cluster.config(3).node.data_dir.clone();
    let aside = cluster.dir().join("aside");
    cluster.stop_node(3);
    copy(&data, &aside);
    // The others see a later start of it than the copy knows of.
    cluster.start_node(3);
    cluster.wait_ready();
    write(&cluster, 10).await;
    cluster.stop_node(3);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    cluster.start_node(3);
    is_refused(&mut cluster, "there are two").await;
}

#[tokio::test]
async fn restarts_and_a_move_of_the_whole_directory_are_nothing_unusual() {
    let mut cluster = Cluster::start(3);
    write(&cluster, 10).await;
    let moved = cluster.dir().join("another-disk");
    for _ in 0..2 {
        cluster.stop_node(3);
        cluster.start_node(3);
        cluster.wait_ready();
    }
    cluster.stop_node(3);
    fs::rename(&cluster.config(3).node.data_dir, &moved).unwrap();
    cluster.config_mut(3).node.data_dir = moved;
    cluster.start_node(3);
    cluster.wait_ready();
    (1..=3).for_each(|node| cluster.stop_node(node));
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.wait_ready();
    write(&cluster, 10).await;
}
