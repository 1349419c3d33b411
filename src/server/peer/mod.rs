//! What nodes say to each other: where each envelope goes, in which stream, and what happens when it cannot.
//!
//! A connection dialed by this node carries this node's requests; the other's replies come back on the same streams. So each peer has
//! two sets of lanes: requests on streams opened here, replies on streams the peer opened. A lane's envelopes keep their order; lanes
//! are independent, so bulk data of one group delays neither votes nor other groups. Must not know what an envelope means beyond
//! which stream it belongs to. On the walk of AppendEntries and its ack, and of elections.

mod dial;
mod lane;
mod repair;
mod serve;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use transport::{Alpn, Connection, Endpoint, Limits, Link};

use self::lane::{Budget, Full, Lane};
use crate::config::Config;
use crate::raft::Message;
use crate::replica::{Outbound, Replicas};
use crate::wire::{Content, Envelope, PeerCaps, StreamHello};

/// Nodes that repair and are answered at a time.
const GIVING_MAX: usize = 4;
/// What a message between nodes may hold besides its entries.
const BODY_SLACK_BYTES: usize = 64 << 10;

/// All other nodes of the cluster.
#[derive(Debug)]
pub(super) struct Peers {
    /// This node; stands in every message sent.
    node: u64,
    others: BTreeMap<u64, Arc<Peer>>,
    caps: PeerCaps,
    runtime: Handle,
    /// Set once, right after the replicas were made around this very object.
    replicas: OnceLock<Replicas>,
    /// Bounds what is read from the disk for nodes that repair.
    giving: Semaphore,
}

/// One other node: the connections dialed to it, and the lanes in both directions.
#[derive(Debug)]
struct Peer {
    node: u64,
    address: String,
    /// Carries votes and heartbeats alone: streams of one connection share its windows, whatever their priority.
    control: Link,
    /// Carries everything else.
    bulk: Link,
    budget: Arc<Budget>,
    requests: Mutex<HashMap<StreamHello, OwnStream>>,
    replies: Mutex<HashMap<StreamHello, Arc<Lane>>>,
    /// The connections that the peer dialed to us, oldest first.
    accepted: Mutex<VecDeque<Connection>>,
}

/// A stream opened from here, and the task that keeps it open.
#[derive(Debug)]
struct OwnStream {
    lane: Arc<Lane>,
    task: AbortHandle,
}

impl Drop for OwnStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peers {
    /// Starts dialing every other node. Must be called within the runtime of the network thread.
    pub(super) fn connect(config: &Config, endpoint: &Endpoint) -> Arc<Peers> {
        let peer = |id: u64, address: &str| {
            let link = || Link::spawn(endpoint.clone(), address.to_owned(), id, Alpn::Peer);
            Arc::new(Peer {
                node: id,
                address: address.to_owned(),
                control: link(),
                bulk: link(),
                budget: Budget::new(config.limits.peer_queue_bytes_max as usize),
                requests: Mutex::default(),
                replies: Mutex::default(),
                accepted: Mutex::default(),
            })
        };
        let others = config
            .nodes
            .iter()
            .filter(|other| other.id != config.node.id);
        let entries = config
            .limits
            .batch_bytes_max
            .max(config.raft.in_flight_bytes_max) as usize;
        Arc::new(Peers {
            node: config.node.id,
            others: others
                .map(|other| (other.id, peer(other.id, &other.address)))
                .collect(),
            caps: PeerCaps {
                body_bytes_max: entries + BODY_SLACK_BYTES,
                ..PeerCaps::default()
            },
            runtime: Handle::current(),
            replicas: OnceLock::new(),
            giving: Semaphore::new(GIVING_MAX),
        })
    }

    /// Tells where to deliver what arrives, and starts to watch the connections.
    pub(super) fn attach(self: &Arc<Peers>, replicas: Replicas) {
        self.replicas
            .set(replicas)
            .expect("attached once, by the node's start");
        for peer in self.others.values() {
            for link in [&peer.control, &peer.bulk] {
                let watch = dial::watch(Arc::clone(self), Arc::clone(peer), link.connection());
                self.runtime.spawn(watch);
            }
        }
    }

    /// Whether a connection to `node` is up; always true of this node itself.
    pub(super) fn is_up(&self, node: u64) -> bool {
        node == self.node
            || self
                .others
                .get(&node)
                .is_some_and(|peer| peer.control.current().is_some())
    }

    /// The connections for entries dialed from here that are up now.
    pub(super) fn connections(&self) -> impl Iterator<Item = (u64, Connection)> {
        self.others
            .values()
            .filter_map(|peer| Some((peer.node, peer.bulk.current()?)))
    }

    /// Forgets the streams of a group that is closed here.
    pub(super) fn close_group(&self, group: u64) {
        let stream = StreamHello::Replication { group };
        for peer in self.others.values() {
            drop(lock(&peer.requests).remove(&stream));
            drop(lock(&peer.replies).remove(&stream));
        }
    }

    fn replicas(&self) -> &Replicas {
        self.replicas
            .get()
            .expect("attached before anything is sent or received")
    }

    fn limits(&self) -> Limits {
        Limits {
            head_bytes_max: self.caps.head_bytes_max,
            body_bytes_max: self.caps.body_bytes_max,
        }
    }

    /// The lane of a stream opened from here; opens it at first use.
    fn request_lane(self: &Arc<Peers>, peer: &Arc<Peer>, stream: StreamHello) -> Arc<Lane> {
        let mut requests = lock(&peer.requests);
        let own = requests.entry(stream).or_insert_with(|| {
            let lane = Lane::new(Arc::clone(&peer.budget));
            let keep = dial::keep_open(
                Arc::clone(self),
                Arc::clone(peer),
                stream,
                Arc::clone(&lane),
            );
            OwnStream {
                lane,
                task: self.runtime.spawn(keep).abort_handle(),
            }
        });
        Arc::clone(&own.lane)
    }
}

impl Peer {
    /// The connection that `stream` belongs on.
    fn link(&self, stream: StreamHello) -> &Link {
        match stream {
            StreamHello::Control => &self.control,
            StreamHello::Replication { .. } | StreamHello::Report | StreamHello::Repair { .. } => {
                &self.bulk
            }
        }
    }
}

/// What the replicas hold of the peers.
#[derive(Debug, Clone)]
pub(super) struct Outgoing(pub(super) Arc<Peers>);

impl Outbound for Outgoing {
    fn send(&self, to: u64, envelope: Envelope) {
        let Outgoing(peers) = self;
        let Some(peer) = peers.others.get(&to) else {
            tracing::error!(
                to,
                "a message for a node that is not in the configuration was dropped"
            );
            return;
        };
        let lane = match place(&envelope) {
            // Without a connection there is nobody to send to; the loss was reported when it was lost.
            Place::Request(stream) if peer.link(stream).current().is_none() => return,
            Place::Request(stream) => peers.request_lane(peer, stream),
            Place::Reply(stream) => match lock(&peer.replies).get(&stream) {
                Some(lane) => Arc::clone(lane),
                None => return,
            },
        };
        if lane.push(envelope) == Err(Full) {
            tracing::warn!(
                to,
                "the queue to a peer is full; what does not fit is dropped and sent again later"
            );
            peers.replicas().peer_unreachable(to);
        }
    }
}

/// Which stream an envelope goes on: one opened from here, or the one its request came on.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Request(StreamHello),
    Reply(StreamHello),
}

fn place(envelope: &Envelope) -> Place {
    let bulk = StreamHello::Replication {
        group: envelope.group,
    };
    match &envelope.content {
        Content::Raft(message) => match message {
            Message::Append(_) => Place::Request(bulk),
            Message::AppendReply { .. } => Place::Reply(bulk),
            Message::PreVoteReply { .. }
            | Message::VoteReply { .. }
            | Message::HeartbeatReply { .. }
            | Message::ReadIndexReply { .. } => Place::Reply(StreamHello::Control),
            Message::PreVote { .. }
            | Message::Vote { .. }
            | Message::Heartbeat { .. }
            | Message::ReadIndex { .. }
            | Message::TimeoutNow { .. } => Place::Request(StreamHello::Control),
        },
        Content::Forward { .. } => Place::Request(bulk),
        Content::ForwardReply { .. } => Place::Reply(bulk),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
