//! A disk that fills up, for real: each node's data lies on a small file system of its own.
//!
//! Owns the mounts: each is made in a namespace of the node's process, so that it goes when the process goes. Where the machine
//! does not let us mount, the test says so and ends.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll::client::{Client, ProduceError, Producer, Record, Replica};

use crate::cluster::{Cluster, Setup};
use crate::history::{History, Sent};
use crate::scene::{TOPIC, can_run_within, leader, make_topic, wait_until_caught_up};
use crate::workload::{connect, consume_all};

/// Size of a node's file system.
const DISK_MIB: u64 = 48;
/// Bytes of a record.
const RECORD_BYTES: usize = 32 << 10;
/// More records than any of the file systems holds.
const RECORDS_MAX: u64 = 2 * (DISK_MIB << 20) / RECORD_BYTES as u64;

/// Which kind of file system.
#[derive(Clone, Copy)]
enum Kind {
    Tmpfs,
    /// In a file, by a loop device.
    Ext4,
}

impl Kind {
    /// A command that mounts a small file system at `at` and runs what follows it.
    fn within(self, at: &Path) -> Vec<String> {
        let at = at.display();
        let (unshare, mount) = match self {
            Kind::Tmpfs => (
                "-rm",
                format!("mount -t tmpfs -o size={DISK_MIB}m,mode=0755 none {at}"),
            ),
            Kind::Ext4 => (
                "-m",
                format!(
                    "truncate -s {DISK_MIB}m {at}.img && mkfs.ext4 -q -m 0 {at}.img && mount -o loop {at}.img {at} && rmdir {at}/lost+found"
                ),
            ),
        };
        let script = format!("{mount} && exec \"$@\"");
        ["unshare", unshare, "sh", "-c", &script, "sh"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Whether this machine lets us.
    fn is_possible(self) -> bool {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let command = self.within(&dir.path().join("probe"));
        std::fs::create_dir(dir.path().join("probe")).expect("a folder can be made");
        can_run_within(&command, "no small file system can be mounted here")
    }
}

/// A cluster on small disks, and one producer of large records.
struct Small {
    cluster: Cluster,
    client: Client,
    producer: Producer,
    sent: Sent,
}

impl Small {
    async fn start(nodes: u16, kind: Kind) -> Small {
        let mut cluster = Cluster::make(Setup {
            nodes,
            settings: vec![
                "log.segment_bytes_max=1048576".to_owned(),
                "log.segment_bytes_first=1048576".to_owned(),
            ],
            ..Setup::default()
        });
        for node in cluster.all() {
            let at = cluster.data_dir(node);
            std::fs::create_dir_all(&at).expect("a folder can be made");
            cluster.run_within(node, kind.within(&at));
            cluster.serve(node);
        }
        cluster.wait_ready().await;
        let client = connect(&cluster.client_file()).await;
        make_topic(&client, 1, u32::from(nodes)).await;
        let producer = client
            .producer(TOPIC)
            .delivery_timeout(Duration::from_secs(5))
            .build()
            .await
            .expect("the topic is there");
        Small {
            cluster,
            client,
            producer,
            sent: Sent::default(),
        }
    }

    /// The data folder of a node, as the node sees it.
    fn disk(&self, node: u64) -> PathBuf {
        let pid = self.cluster.pid(node).as_raw_nonzero();
        let folder = self.cluster.data_dir(node);
        let inside = folder.strip_prefix("/").expect("data folders are absolute");
        Path::new("/proc")
            .join(pid.to_string())
            .join("root")
            .join(inside)
    }

    /// Takes all room that is left on the disk of a node.
    fn fill(&self, node: u64) {
        let mut filler = File::create(self.disk(node).join("filler")).expect("room for a name");
        // The last bit of room goes in small pieces, each asked for at once.
        for piece in [1 << 20, 4096] {
            let block = vec![7u8; piece];
            let mut pieces = 0;
            while filler
                .write_all(&block)
                .and_then(|()| filler.sync_data())
                .is_ok()
            {
                pieces += 1;
                assert!(
                    pieces <= DISK_MIB << 8,
                    "the disk of node {node} does not fill up"
                );
            }
        }
    }

    /// Gives the room back.
    fn free(&self, node: u64) {
        std::fs::remove_file(self.disk(node).join("filler")).expect("the filler can be removed");
    }

    /// Sends one large record and waits for what becomes of it.
    async fn produce(&mut self) -> Result<u64, ProduceError> {
        self.sent.count += 1;
        let value = self.sent.count;
        let text = format!("{value:<RECORD_BYTES$}");
        let sent = self.producer.send(Record::value(&text)).await;
        match sent.expect("it fits a batch").await {
            Ok(ack) => {
                self.sent.acked.insert(value, (ack.partition, ack.offset));
                Ok(ack.offset)
            }
            Err(error) => {
                self.sent.unknown.insert(value);
                Err(error)
            }
        }
    }

    async fn produce_many(&mut self, records: u64) {
        for _ in 0..records {
            self.produce().await.expect("there is room, so it is acked");
        }
    }

    /// Sends until the disk is full, and checks that this is what a producer is told then.
    async fn produce_until_full(&mut self) {
        let mut sent = 0;
        // The one that finds no room was taken in before that was known, and waits.
        while self.produce().await.is_ok() {
            sent += 1;
            assert!(sent < RECORDS_MAX, "the disks never fill up");
        }
        let refused = self.produce().await;
        let said = refused.expect_err("there is no room").to_string();
        assert!(said.contains("disk full"), "the producer was told: {said}");
    }

    /// Everything that was acked can be read, from every node.
    async fn judge(self) {
        let nodes = self.cluster.all();
        wait_until_caught_up(&self.client, 0, nodes.len()).await;
        let history = History {
            producers: vec![self.sent],
        };
        for node in nodes {
            let seen = consume_all(&self.client, TOPIC, Replica::Node(node)).await;
            let wrong = history.anomalies(&seen);
            assert!(wrong.is_empty(), "as read from node {node}: {wrong:#?}");
        }
        eprintln!("{} acked, {} not", history.acked(), history.failed());
    }
}

async fn full_disks_refuse_writes_serve_reads_and_recover(nodes: u16, kind: Kind) {
    if !kind.is_possible() {
        return;
    }
    let mut small = Small::start(nodes, kind).await;
    small.produce_many(20).await;
    for _round in 0..2 {
        for node in small.cluster.all() {
            small.fill(node);
        }
        small.produce_until_full().await;
        let read = consume_all(&small.client, TOPIC, Replica::Leader).await;
        assert!(read[&0].len() >= small.sent.acked.len(), "reads go on");
        for node in small.cluster.all() {
            small.free(node);
        }
        // No restart: the same processes go on by themselves. What was given up last may be on its way still.
        let mut refusals = 0;
        while small.produce().await.is_err() {
            refusals += 1;
            assert!(refusals < 20, "service does not resume");
        }
        small.produce_many(40).await;
    }
    small.judge().await;
}

#[tokio::test]
async fn node_alone_on_a_full_disk_refuses_writes_serves_reads_and_resumes_by_itself() {
    full_disks_refuse_writes_serve_reads_and_recover(1, Kind::Tmpfs).await;
}

#[tokio::test]
async fn node_alone_on_a_full_ext4_refuses_writes_serves_reads_and_resumes_by_itself() {
    full_disks_refuse_writes_serve_reads_and_recover(1, Kind::Ext4).await;
}

#[tokio::test]
async fn three_nodes_on_full_disks_refuse_writes_serve_reads_and_resume_by_themselves() {
    full_disks_refuse_writes_serve_reads_and_recover(3, Kind::Tmpfs).await;
}

#[tokio::test]
async fn full_disk_of_one_follower_stops_nobody_and_it_catches_up_when_there_is_room() {
    if !Kind::Tmpfs.is_possible() {
        return;
    }
    let mut small = Small::start(3, Kind::Tmpfs).await;
    small.produce_many(20).await;
    let follower = leader(&small.client).await % 3 + 1;
    small.fill(follower);
    // More than the room it has reserved.
    small.produce_many(4 << 20 >> RECORD_BYTES.ilog2()).await;
    small.free(follower);
    small.produce_many(40).await;
    small.judge().await;
}
