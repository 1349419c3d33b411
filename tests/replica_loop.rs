//! The loop with real files: three nodes in one process and one thread, each with its own loop and disk
//! thread, connected by queues. What the scenarios prove of the replica, this shows of the loop around
//! it: acks, publication, restarts, hand-over, closing.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use plimsoll::raft::{self, NodeId};
use plimsoll::replica::{
    Acked, Acks, Group, GroupSpec, Lane, LoopConfig, MailboxLimits, Meters, OpenError, Outbound,
    Poisoned, Removal, ReplicaConfig, Replicas, spawn,
};
use plimsoll::wire::{
    ApiError, BatchBuilder, BatchCaps, Codec, Envelope, ProducerStamp, check_batch,
};
use segment_store::fs::{Fs, Injection, RealFs, SimFs, When};
use segment_store::{DataDir, LogOptions, UnstampedFrame};
use tokio::sync::mpsc;

const CLUSTER: [u8; 16] = [3; 16];
const GROUP: u64 = 1;
/// Far longer than any election timeout here.
const CAMPAIGNS_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

type Queue = mpsc::UnboundedSender<(NodeId, Envelope)>;

/// The network: a queue into each node that is up.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<HashMap<NodeId, Queue>>>, Tasks);

/// What delivers to each node.
type Tasks = Arc<Mutex<HashMap<NodeId, tokio::task::JoinHandle<()>>>>;

struct Wire {
    from: NodeId,
    network: Network,
}

impl Outbound for Wire {
    fn send(&self, to: NodeId, envelope: Envelope, _: Lane) {
        if let Some(queue) = self.network.0.lock().unwrap().get(&to) {
            // A node that has just gone down loses the message.
            let _ = queue.send((self.from, envelope));
        }
    }
}

impl Network {
    fn start(
        &self,
        node: NodeId,
        fs: Arc<dyn Fs>,
        dir: &Path,
        fatal: mpsc::UnboundedSender<Poisoned>,
    ) -> Replicas {
        let data_dir = DataDir::open(Arc::clone(&fs), dir, CLUSTER, node).unwrap();
        let config = LoopConfig {
            node,
            cluster: CLUSTER,
            fs,
            data_dir: Arc::new(data_dir),
            raft: raft::Config::new(node, 0),
            replica: ReplicaConfig::new(0),
            mailbox: MailboxLimits::default(),
            log: LogOptions {
                segment_bytes_first: 256 << 10,
                segment_bytes_max: 1 << 20,
                ..LogOptions::default()
            },
            acks: Acks::default(),
            preparer: None,
            meters: Meters::default(),
            on_damage: Box::new(|_| {}),
            on_fatal: Box::new(move |poisoned| {
                let _ = fatal.send(poisoned);
            }),
        };
        let wire = Wire {
            from: node,
            network: self.clone(),
        };
        let replicas = spawn(config, Arc::new(wire)).unwrap();
        let (queue, mut messages) = mpsc::unbounded_channel();
        self.0.lock().unwrap().insert(node, queue);
        let deliver = replicas.clone();
        let task = tokio::spawn(async move {
            while let Some((from, envelope)) = messages.recv().await {
                deliver.deliver(from, vec![envelope]).await;
            }
        });
        self.1.lock().unwrap().insert(node, task);
        replicas
    }

    /// Stops a node; its folder can be opened again afterwards.
    async fn stop(&self, node: NodeId, replicas: Replicas) {
        replicas.shutdown().await;
        drop(replicas);
        self.0.lock().unwrap().remove(&node);
        let task = self.1.lock().unwrap().remove(&node);
        task.expect("the node was started").await.unwrap();
    }
}

struct Nodes {
    network: Network,
    folder: tempfile::TempDir,
    replicas: Vec<Replicas>,
    fatal: mpsc::UnboundedSender<Poisoned>,
}

impl Nodes {
    fn three() -> Nodes {
        let (fatal, mut poisoned) = mpsc::unbounded_channel::<Poisoned>();
        tokio::spawn(async move {
            if let Some(poisoned) = poisoned.recv().await {
                panic!("{poisoned}");
            }
        });
        let mut nodes = Nodes {
            network: Network::default(),
            folder: tempfile::tempdir().unwrap(),
            replicas: Vec::new(),
            fatal,
        };
        for node in 1..=3 {
            let replicas = nodes.start(node);
            nodes.replicas.push(replicas);
        }
        nodes
    }

    fn start(&self, node: NodeId) -> Replicas {
        let dir = self.folder.path().join(format!("node-{node}"));
        self.network
            .start(node, Arc::new(RealFs), &dir, self.fatal.clone())
    }

    async fn open(&self, group: u64) -> Vec<Group> {
        let mut groups = Vec::new();
        for replicas in &self.replicas {
            groups.push(replicas.open(spec(group)).await.unwrap());
        }
        groups
    }

    async fn stop(self) {
        for (node, replicas) in (1..).zip(self.replicas) {
            self.network.stop(node, replicas).await;
        }
    }
}

fn spec(group: u64) -> GroupSpec {
    GroupSpec {
        group,
        voters: vec![1, 2, 3],
        others: Vec::new(),
        moved: false,
        preferred: Some(1),
        state_machine: None,
    }
}

/// The group at the node that leads.
async fn leader(groups: &[Group]) -> &Group {
    let mark = groups[0].watermark();
    let mut known = mark.leader();
    loop {
        match known {
            Some(node) if !groups[node as usize - 1].watermark().is_closed() => {
                return &groups[node as usize - 1];
            }
            _ => known = mark.leader_changed(known).await,
        }
    }
}

fn batch(group: u64, first_sequence: u64, count: u32, len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(8 << 20, 0);
    for _ in 0..count {
        builder
            .push(None, Some(&vec![b'x'; len]), &[], 1_700_000_000_000)
            .unwrap();
    }
    let stamp = ProducerStamp {
        id: 4,
        epoch: 0,
        first_sequence,
    };
    builder.build(stamp, group, Codec::None)
}

fn submit(group: &Group, batch: &Bytes) -> plimsoll::replica::Submitted {
    let frame = UnstampedFrame::parse(BytesMut::from(&batch[..]), 8 << 20).unwrap();
    let caps = BatchCaps::default();
    let head = check_batch(frame.header(), frame.payload(), group.group(), &caps).unwrap();
    group.submit(frame, head, true)
}

/// Produces as a client does: through whoever leads, again until it is acked.
async fn produce(groups: &[Group], batch: &Bytes) -> Acked {
    loop {
        match submit(leader(groups).await, batch).await {
            Ok(acked) => return acked,
            Err(error) => {
                assert!(error.is_retriable(), "{error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

fn bytes_of(group: &Group, last: u64) -> Vec<u8> {
    let reader = group.reader();
    let mut bytes = Vec::new();
    let mut next = reader.first_index();
    while next <= last {
        let run = reader.read(next, last, 1 << 20).unwrap();
        bytes.extend_from_slice(&run.bytes);
        next = run.last_index + 1;
    }
    bytes
}

#[tokio::test]
async fn batches_are_acked_in_order_published_everywhere_and_equal_on_all_disks() {
    let nodes = Nodes::three();
    let groups = nodes.open(GROUP).await;
    assert_eq!(
        produce(&groups, &batch(GROUP, 0, 10, 100))
            .await
            .base_offset,
        0
    );
    let leads = leader(&groups).await;
    // In flight together, answered in order.
    let under_way: Vec<_> = (1..20)
        .map(|at| submit(leads, &batch(GROUP, at * 10, 10, 100)))
        .collect();
    for (at, answer) in (1..).zip(under_way) {
        assert_eq!(answer.await.unwrap().base_offset, at * 10);
    }
    assert_eq!(leads.read_index().await.unwrap(), 200);
    let last = leads.watermark().applied_index();
    let expected = bytes_of(leads, last);
    for group in &groups {
        let mut seen = group.watermark().high_watermark();
        while seen < 200 {
            seen = group.watermark().changed(seen).await;
        }
        assert_eq!(bytes_of(group, last), expected);
    }
    let status = leads.status().await.unwrap();
    assert_eq!(
        (status.high_watermark, status.pending, status.peers.len()),
        (200, 0, 2)
    );
    nodes.stop().await;
}

#[tokio::test]
async fn node_that_was_down_catches_up_from_the_segments_of_the_others() {
    let mut nodes = Nodes::three();
    let mut groups = nodes.open(GROUP).await;
    produce(&groups, &batch(GROUP, 0, 1, 10)).await;
    let away = nodes.replicas.pop().unwrap();
    nodes.network.stop(3, away).await;
    for at in 0..40 {
        produce(&groups, &batch(GROUP, 1 + at, 1, 100_000)).await;
    }
    let back = nodes.start(3);
    groups[2] = back.open(spec(GROUP)).await.unwrap();
    nodes.replicas.push(back);
    let mark = groups[2].watermark();
    let mut seen = mark.high_watermark();
    while seen < 41 {
        seen = mark.changed(seen).await;
    }
    let last = mark.applied_index();
    assert_eq!(bytes_of(&groups[2], last), bytes_of(&groups[0], last));
    nodes.stop().await;
}

#[tokio::test]
async fn leader_that_is_stopped_hands_over_and_retries_make_no_duplicates() {
    let mut nodes = Nodes::three();
    let groups = nodes.open(GROUP).await;
    produce(&groups, &batch(GROUP, 0, 5, 10)).await;
    let first = leader(&groups).await.group_node(&groups);
    let stopped = nodes.replicas.remove(first);
    nodes.network.stop(first as u64 + 1, stopped).await;
    let left: Vec<&Group> = groups
        .iter()
        .filter(|group| !group.watermark().is_closed())
        .collect();
    assert_eq!(left.len(), 2);
    let mark = left[0].watermark();
    let mut known = mark.leader();
    while known.is_none() || known == Some(first as u64 + 1) {
        known = mark.leader_changed(known).await;
    }
    let again = submit(left[0], &batch(GROUP, 0, 5, 10)).await;
    if let Ok(acked) = again {
        assert_eq!(acked.base_offset, 0);
    }
    assert!(matches!(
        submit(&groups[first], &batch(GROUP, 5, 1, 10)).await,
        Err(ApiError::ShuttingDown)
    ));
    for (node, replicas) in (1..=3)
        .filter(|node| *node != first as u64 + 1)
        .zip(nodes.replicas)
    {
        nodes.network.stop(node, replicas).await;
    }
}

trait Position {
    fn group_node(&self, groups: &[Group]) -> usize;
}

impl Position for &Group {
    /// Which of `groups` this is.
    fn group_node(&self, groups: &[Group]) -> usize {
        groups
            .iter()
            .position(|group| std::ptr::eq(group, *self))
            .unwrap()
    }
}

#[tokio::test]
async fn restart_of_all_nodes_keeps_what_was_acked() {
    let mut nodes = Nodes::three();
    let groups = nodes.open(GROUP).await;
    for at in 0..5 {
        produce(&groups, &batch(GROUP, at, 1, 1_000)).await;
    }
    for (node, replicas) in (1..).zip(std::mem::take(&mut nodes.replicas)) {
        nodes.network.stop(node, replicas).await;
    }
    nodes.replicas = (1..=3).map(|node| nodes.start(node)).collect();
    let groups = nodes.open(GROUP).await;
    for at in 0..6 {
        let acked = produce(&groups, &batch(GROUP, at, 1, 1_000)).await;
        assert_eq!(acked.base_offset, at, "known batches are found again");
    }
    nodes.stop().await;
}

#[tokio::test]
async fn many_groups_share_one_loop_and_one_disk_thread() {
    let nodes = Nodes::three();
    let mut opened = Vec::new();
    for group in 1..=20 {
        opened.push(nodes.open(group).await);
    }
    assert_eq!(nodes.replicas[0].groups(), (1..=20).collect::<Vec<u64>>());
    for (group, groups) in (1..).zip(&opened) {
        assert_eq!(
            produce(groups, &batch(group, 0, 3, 10)).await.base_offset,
            0
        );
    }
    nodes.stop().await;
}

#[tokio::test]
async fn group_is_opened_once_closed_and_deleted() {
    let nodes = Nodes::three();
    let groups = nodes.open(GROUP).await;
    let node = &nodes.replicas[0];
    assert!(matches!(
        node.open(spec(GROUP)).await,
        Err(OpenError::AlreadyOpen(GROUP))
    ));
    node.close(GROUP, Removal::Nothing).await.unwrap();
    assert!(node.get(GROUP).is_none() && groups[0].watermark().is_closed());
    let refused = submit(&groups[0], &batch(GROUP, 0, 1, 10)).await;
    assert_eq!(refused, Err(ApiError::UnknownGroup));
    node.open(spec(GROUP)).await.unwrap();
    node.close(GROUP, Removal::Group).await.unwrap();
    let folder = nodes.folder.path().join("node-1/groups/1");
    assert!(!folder.exists());
    // A folder left over from before is removed without being opened.
    node.close(GROUP, Removal::Group).await.unwrap();
    nodes.stop().await;
}

#[tokio::test]
async fn founders_that_left_and_come_back_empty_do_not_elect_each_other() {
    let nodes = Nodes::three();
    let groups = nodes.open(GROUP).await;
    let term = leader(&groups).await.watermark().term();
    for (node, replicas) in (1..).zip(&nodes.replicas) {
        replicas.close(GROUP, Removal::Replica).await.unwrap();
        let folder = nodes.folder.path().join(format!("node-{node}/groups/1"));
        assert!(!folder.exists());
    }
    let mut back = Vec::new();
    for replicas in &nodes.replicas {
        // The group lives on nodes 4 to 6, which are not heard here.
        let returned = GroupSpec {
            others: vec![4, 5, 6],
            moved: true,
            ..spec(GROUP)
        };
        back.push(replicas.open(returned).await.unwrap());
    }
    let mut statuses = Vec::new();
    for group in &back {
        statuses.push(group.status().await.unwrap());
    }
    for status in &statuses {
        assert_eq!(status.voters, [4, 5, 6]);
        // Nobody gets a vote of this replica in a term in which it may have voted before.
        assert!(status.term > term, "{status:?}");
    }
    // Each campaigns when it has heard nobody for that long, if it ever does: the next tick after it is the first to tell.
    for group in &back {
        let alone = tokio::time::timeout(CAMPAIGNS_WITHIN, group.watermark().leader_changed(None));
        assert!(alone.await.is_err(), "somebody leads");
        assert_eq!(group.status().await.unwrap().voters, [4, 5, 6]);
    }
    nodes.stop().await;
}

#[tokio::test]
async fn a_founder_that_was_never_opened_before_its_group_moved_founds_nothing() {
    let nodes = Nodes::three();
    for _ in 0..2 {
        for replicas in &nodes.replicas {
            let late = GroupSpec {
                others: vec![4, 5, 6],
                moved: true,
                ..spec(GROUP)
            };
            let group = replicas.open(late).await.unwrap();
            assert_eq!(group.status().await.unwrap().voters, [4, 5, 6]);
            replicas.close(GROUP, Removal::Nothing).await.unwrap();
        }
    }
    nodes.stop().await;
}

#[tokio::test]
async fn failed_sync_is_told_to_the_node_and_nothing_is_acked() {
    let (fatal, mut poisoned) = mpsc::unbounded_channel();
    let network = Network::default();
    let fs = SimFs::new(1);
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let replicas = network.start(1, disk, Path::new("/data"), fatal);
    let alone = GroupSpec {
        voters: vec![1],
        ..spec(GROUP)
    };
    let groups = [replicas.open(alone).await.unwrap()];
    produce(&groups, &batch(GROUP, 0, 1, 10)).await;
    fs.inject(When::Next, Injection::FailedSync);
    let answer = submit(&groups[0], &batch(GROUP, 1, 1, 10)).await;
    assert_eq!(answer, Err(ApiError::Unavailable));
    assert_eq!(poisoned.recv().await.unwrap().group, GROUP);
    assert_eq!(groups[0].watermark().high_watermark(), 1);
    network.stop(1, replicas).await;
}
