//! The search for damage beside what else goes on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use plimsoll::client::{Compression, Record};

use crate::harness::Cluster;
use crate::raw::within;

/// Of the log that is searched; at the least rate there is, that takes two minutes.
const LOG_BYTES: usize = 8 << 20;
const SCRUB_BYTES_PER_S: u64 = 64 << 10;

/// Bytes that a node has searched since it was started.
fn searched(admin: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("plimsoll_scrub_bytes_total "));
    line.map_or(0, |bytes| bytes.parse().unwrap())
}

/// Files under `dir` that are removed and still mapped by this process.
fn mapped_and_removed(dir: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let dir = dir.to_str().unwrap();
    let lines = maps.lines();
    lines
        .filter(|line| line.contains(dir) && line.ends_with("(deleted)"))
        .count()
}

async fn poll_until(mut holds: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    within(async {
        while !holds() {
            looks.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn topic_that_is_deleted_while_it_is_searched_gives_its_room_back() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client().await;
    let admin = client.admin();
    admin.create_topic("ships", 1, 1).await.unwrap();
    let group = admin.describe_topic("ships").await.unwrap().partitions[0].group;
    let builder = client.producer("ships").compression(Compression::None);
    let producer = builder.batch_bytes(16 << 10).build().await.unwrap();
    let value = vec![7; 1 << 10];
    for _ in 0..LOG_BYTES / value.len() {
        drop(within(producer.send(Record::value(&value))).await.unwrap());
    }
    within(producer.close()).await.unwrap();

    // The search begins with the node.
    cluster = cluster.stop_meanwhile(1).await;
    cluster.config_mut(1).log.scrub_bytes_per_s = SCRUB_BYTES_PER_S;
    cluster.start_node(1);
    cluster.wait_ready();
    let at = cluster.node(1).admin_address();
    poll_until(|| searched(at) > 2 * SCRUB_BYTES_PER_S).await;
    within(admin.delete_topic("ships")).await.unwrap();
    let group_dir = cluster.group_dir(1, group);
    let data_dir = &cluster.config(1).node.data_dir;
    poll_until(|| !group_dir.exists()).await;
    poll_until(|| mapped_and_removed(data_dir) == 0).await;
    assert!(
        searched(at) < LOG_BYTES as u64,
        "the search ended before its time"
    );
}
