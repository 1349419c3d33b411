//! Nodes that say nothing: a port where nobody answers, and a node that stops in the middle. QUIC here gives up only after an hour, so that whoever waits
//! for that fails; and nodes that answer are played, so that a test says when who leads.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use segment_store::UnstampedFrame;
use tokio::sync::oneshot;
use tokio::time::timeout;
use transport::{Authority, Limits};

use super::*;
use crate::client::{ConsumerBuilder, ProducerBuilder, Record, Replica};
use crate::wire::{
    BatchBuilder, Codec, FetchFrom, NodeInfo, PartitionInfo, ProducedAck, ProducerStamp,
    REQUEST_HEAD_BYTES_MAX, decode_request, encode_reply,
};

const TOPIC: &str = "ships";
const GROUP: u64 = 7;
/// An upper guard: a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(60);
const LIMITS: Limits = Limits {
    head_bytes_max: REQUEST_HEAD_BYTES_MAX,
    body_bytes_max: 1 << 20,
};

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("hangs")
}

fn patient() -> TransportOptions {
    TransportOptions {
        idle_timeout: Duration::from_secs(3600),
        handshake_timeout: Duration::from_secs(3600),
        keep_alive: Duration::from_millis(500),
        ..TransportOptions::default()
    }
}

/// What all played nodes say of the cluster.
struct World {
    authority: Authority,
    nodes: Vec<NodeAddress>,
    replicas: Mutex<Vec<u64>>,
    leader: AtomicU64,
}

impl World {
    /// Three nodes, of which the first leads; none answers yet.
    fn new() -> (Arc<World>, Vec<UdpSocket>) {
        let sockets: Vec<UdpSocket> = (0..3)
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let nodes = (1..).zip(&sockets).map(|(id, socket)| NodeAddress {
            id,
            address: socket.local_addr().unwrap().to_string(),
        });
        let world = World {
            authority: Authority::create("blue").unwrap(),
            nodes: nodes.collect(),
            replicas: Mutex::new(vec![1, 2, 3]),
            leader: AtomicU64::new(1),
        };
        (Arc::new(world), sockets)
    }

    fn client(&self) -> Arc<Cluster> {
        let issued = self.authority.issue_client("app").unwrap();
        let (cert, key) = (&issued.cert_pem, &issued.key_pem);
        let credentials = Credentials::from_pem(self.authority.cert_pem(), cert, key).unwrap();
        let endpoint = Endpoint::client(&credentials, &patient()).unwrap();
        Arc::new(Cluster::new(endpoint, &self.nodes))
    }

    fn metadata(&self) -> Reply {
        let info = |node: &NodeAddress| NodeInfo {
            id: node.id,
            address: node.address.clone(),
        };
        let partition = PartitionInfo {
            partition: 0,
            group: GROUP,
            leader: Some(self.leader.load(Ordering::SeqCst)),
            replicas: lock(&self.replicas).clone(),
        };
        Reply::Metadata(Metadata {
            cluster: String::from("blue"),
            controller_leader: None,
            nodes: self.nodes.iter().map(info).collect(),
            topics: vec![TopicInfo {
                name: String::from(TOPIC),
                id: 1,
                partitions: vec![partition],
            }],
        })
    }

    /// From now on node 2 leads, and these are the replicas. Whoever was told something else does not know.
    fn change(&self, replicas: &[u64]) {
        self.leader.store(2, Ordering::SeqCst);
        *lock(&self.replicas) = replicas.to_vec();
    }
}

/// A node that is played, on a thread of its own.
struct Played {
    stop: Option<oneshot::Sender<()>>,
    has_stopped: mpsc::Receiver<()>,
    /// Until this is dropped, a node that was stopped keeps its port and what it has opened.
    held: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Played {
    /// Node `id`, which answers what is no metadata by `answer`: a reply and its body.
    fn start(
        world: &Arc<World>,
        id: u64,
        socket: UdpSocket,
        answer: impl Fn(Request) -> (Reply, Bytes) + Send + Sync + 'static,
    ) -> Played {
        let issued = world.authority.issue_node(id).unwrap();
        let (cert, key) = (&issued.cert_pem, &issued.key_pem);
        let credentials = Credentials::from_pem(world.authority.cert_pem(), cert, key).unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let (world, answer) = (Arc::clone(world), Arc::new(answer));
        let (stop, stopping) = oneshot::channel();
        let (held, hold) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let (stopped, has_stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let endpoint = Endpoint::server(&credentials, address, &patient()).unwrap();
                tokio::spawn(accept(endpoint, world, answer));
                ready.send(()).unwrap();
                // Stopped or dropped: the same from here on.
                let _ = stopping.await;
            });
            // The runtime stands still, and with it the node; no client is told.
            let _ = stopped.send(());
            let _ = hold.recv();
        });
        is_ready.recv().unwrap();
        Played {
            stop: Some(stop),
            has_stopped,
            held: Some(held),
            thread: Some(thread),
        }
    }

    /// From now on it does and says nothing.
    fn fall_silent(&mut self) {
        self.stop.take();
        self.has_stopped.recv().unwrap();
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.stop.take();
        self.held.take();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

type Answer = dyn Fn(Request) -> (Reply, Bytes) + Send + Sync;

async fn accept(endpoint: Endpoint, world: Arc<World>, answer: Arc<Answer>) {
    while let Some(incoming) = endpoint.accept().await {
        let (world, answer) = (Arc::clone(&world), Arc::clone(&answer));
        tokio::spawn(async move {
            let connection = incoming.identify().await.unwrap();
            while let Ok((send, recv)) = connection.accept_bi().await {
                tokio::spawn(serve(send, recv, Arc::clone(&world), Arc::clone(&answer)));
            }
        });
    }
}

async fn serve(mut send: SendHalf, mut recv: RecvHalf, world: Arc<World>, answer: Arc<Answer>) {
    while let Ok(Some(message)) = recv.recv(&LIMITS).await {
        let (reply, body) = match decode_request(message.kind, &message.head).unwrap() {
            Request::Metadata { .. } => (world.metadata(), Bytes::new()),
            request => answer(request),
        };
        let (kind, head) = encode_reply(&reply);
        let body: &mut [Bytes] = if body.is_empty() {
            &mut []
        } else {
            &mut [body]
        };
        if send.send(kind, &head, body).await.is_err() {
            return;
        }
    }
    send.finish();
}

/// Answers a fetch with the three records from `offset` on, and nothing after.
fn fetched(offset: u64) -> (Reply, Bytes) {
    let mut batch = BatchBuilder::new(1 << 20, 0);
    for value in offset..offset + 3 {
        let value = value.to_string();
        batch.push(None, Some(value.as_bytes()), &[], 0).unwrap();
    }
    let bytes = batch.build(ProducerStamp::default(), GROUP, Codec::None);
    let unstamped = UnstampedFrame::parse(BytesMut::from(&bytes[..]), 1 << 20).unwrap();
    let frame = unstamped.stamp(offset + 1, 1, offset, 0);
    let reply = Reply::Fetched {
        group: GROUP,
        first_offset: offset,
        high_watermark: offset + 3,
        log_start: 0,
        end: false,
    };
    (reply, frame.bytes().clone())
}

/// Serves the log from wherever it is asked for.
fn log(request: Request) -> (Reply, Bytes) {
    match request {
        Request::Fetch { from, .. } => match from {
            FetchFrom::Offset(offset) => fetched(offset),
            _ => fetched(0),
        },
        other => panic!("{other:?} is not asked here"),
    }
}

async fn consumer(cluster: &Arc<Cluster>, replica: Replica) -> crate::client::Consumer {
    let consumer = ConsumerBuilder::new(Arc::clone(cluster), String::from(TOPIC));
    let consumer = consumer.replica(replica).follow(true);
    consumer.stream().await.unwrap()
}

async fn offsets(consumer: &mut crate::client::Consumer) -> Vec<u64> {
    let mut offsets = Vec::new();
    while offsets.len() < 3 {
        let record = within(consumer.next()).await.unwrap().unwrap();
        assert_eq!(record.value(), Some(record.offset().to_string().as_bytes()));
        offsets.push(record.offset());
    }
    offsets
}

#[tokio::test]
async fn request_is_answered_by_another_node_while_the_one_asked_first_does_not_answer_its_dial() {
    let (world, mut sockets) = World::new();
    let answers = |_| (Reply::ProducerId { id: 9, epoch: 0 }, Bytes::new());
    let _second = Played::start(&world, 2, sockets.remove(1), answers);
    let cluster = world.client();
    // Only as long as a single attempt may take.
    let asked = cluster.producer_id(ATTEMPT_TIMEOUT).await;
    assert_eq!(asked.unwrap(), (9, 0));
}

#[tokio::test]
async fn request_to_a_leader_that_fell_silent_goes_by_way_of_another_node_to_the_one_that_leads() {
    let (world, mut sockets) = World::new();
    let end = |offset| (Reply::EndOffset { offset }, Bytes::new());
    let address = world.nodes[2].address.clone();
    let third = Played::start(&world, 3, sockets.remove(2), move |_| end(5));
    let second = Played::start(&world, 2, sockets.remove(1), move |_| {
        let leader = Some((3, address.clone()));
        let error = ApiError::NotLeader { leader };
        let correlation = 0;
        (Reply::Error { correlation, error }, Bytes::new())
    });
    let mut first = Played::start(&world, 1, sockets.remove(0), move |_| end(4));
    let (cluster, request) = (world.client(), Request::EndOffset { group: GROUP });
    cluster.learn_leader(GROUP, 1, "");
    let target = Target::Leader(GROUP);
    let (node, reply) = within(cluster.call(target, &request, ATTEMPT_TIMEOUT))
        .await
        .unwrap();
    assert_eq!((node, reply), (1, Reply::EndOffset { offset: 4 }));
    first.fall_silent();
    let (node, reply) = within(cluster.call(target, &request, ATTEMPT_TIMEOUT))
        .await
        .unwrap();
    assert_eq!((node, reply), (3, Reply::EndOffset { offset: 5 }));
    assert!(
        cluster.node(1).unwrap().is_up(),
        "nobody knows that it is gone"
    );
    drop((first, second, third));
}

#[tokio::test]
async fn producer_whose_leader_does_not_answer_its_dial_goes_to_the_one_that_leads_meanwhile() {
    let (world, mut sockets) = World::new();
    let _second = Played::start(&world, 2, sockets.remove(1), |request| {
        let reply = match request {
            Request::ProducerId => Reply::ProducerId { id: 9, epoch: 0 },
            Request::Produce { correlation, .. } => Reply::Produced {
                acks: vec![ProducedAck {
                    correlation,
                    base_offset: 42,
                }],
            },
            other => panic!("{other:?} is not asked here"),
        };
        (reply, Bytes::new())
    });
    let cluster = world.client();
    let producer = ProducerBuilder::new(Arc::clone(&cluster), String::from(TOPIC));
    let producer = within(producer.delivery_timeout(PATIENCE).build())
        .await
        .unwrap();
    world.change(&[1, 2, 3]);
    let delivery = producer.send(Record::value("sloop")).await.unwrap();
    assert_eq!(within(delivery).await.unwrap().offset, 42);
}

#[tokio::test]
async fn consumer_whose_leader_does_not_answer_its_dial_goes_to_the_one_that_leads_meanwhile() {
    let (world, mut sockets) = World::new();
    let _second = Played::start(&world, 2, sockets.remove(1), log);
    let cluster = world.client();
    within(cluster.topic(TOPIC)).await.unwrap();
    world.change(&[1, 2, 3]);
    let mut consumer = within(consumer(&cluster, Replica::Leader)).await;
    assert_eq!(offsets(&mut consumer).await, [0, 1, 2]);
}

#[tokio::test]
async fn consumer_of_any_replica_leaves_one_that_does_not_answer_its_dial() {
    let (world, mut sockets) = World::new();
    let _second = Played::start(&world, 2, sockets.remove(1), log);
    *lock(&world.replicas) = vec![1];
    let cluster = world.client();
    within(cluster.topic(TOPIC)).await.unwrap();
    world.change(&[1, 2]);
    let mut consumer = within(consumer(&cluster, Replica::Any)).await;
    assert_eq!(offsets(&mut consumer).await, [0, 1, 2]);
}

#[tokio::test]
async fn consumer_whose_leader_falls_silent_goes_on_where_it_was_at_the_one_that_leads_now() {
    for replica in [Replica::Leader, Replica::Any] {
        let (world, mut sockets) = World::new();
        let second = Played::start(&world, 2, sockets.remove(1), log);
        let mut first = Played::start(&world, 1, sockets.remove(0), log);
        *lock(&world.replicas) = vec![1];
        let cluster = world.client();
        let mut consumer = within(consumer(&cluster, replica)).await;
        assert_eq!(offsets(&mut consumer).await, [0, 1, 2]);
        first.fall_silent();
        world.change(&[1, 2]);
        assert_eq!(offsets(&mut consumer).await, [3, 4, 5], "{replica:?}");
        drop((first, second));
    }
}

#[tokio::test]
async fn consumer_of_one_certain_node_stays_there_while_the_node_is_silent() {
    let (world, mut sockets) = World::new();
    let _second = Played::start(&world, 2, sockets.remove(1), log);
    let mut first = Played::start(&world, 1, sockets.remove(0), log);
    let cluster = world.client();
    let mut consumer = within(consumer(&cluster, Replica::Node(1))).await;
    assert_eq!(offsets(&mut consumer).await, [0, 1, 2]);
    first.fall_silent();
    let silent = cluster.node(1).unwrap();
    tokio::select! {
        record = consumer.next() => panic!("{record:?} comes from somewhere else"),
        // Silence is noticed as for anybody, and makes no difference.
        () = within(silent.silence()) => {}
    }
}
