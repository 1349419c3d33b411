//! What nodes say to each other: where each envelope goes, in which stream, and what happens when it cannot.
//!
//! A connection dialed by this node carries this node's requests; the other's replies come back on the same streams. So each peer has
//! two sets of lanes: requests on streams opened here, replies on streams the peer opened. A lane's envelopes keep their order; lanes
//! are independent, so bulk data of one group delays neither votes nor other groups. Must not know what an envelope means beyond
//! which stream it belongs to. On the walk of AppendEntries and its ack, and of elections.
//!
//! Any node with a certificate of the cluster is heard, unless it was removed: a node that was down while others joined has yet to hear of
//! them, and hears it from them. Dialed are the nodes whose addresses are known.

mod dial;
mod greet;
mod lane;
mod repair;
mod serve;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use segment_store::{DataDirError, Memory};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use transport::{Connection, Endpoint, Limits};

use self::dial::Dialed;
pub(super) use self::greet::Expelled;
use self::greet::Greeter;
use self::lane::{Budget, Full, Lane};
use crate::config::Config;
use crate::raft::Message;
use crate::replica::{Lane as Urgency, Outbound, Replicas};
use crate::wire::{Content, Envelope, Greeting, PeerCaps, StreamHello};

/// Nodes that repair and are answered at a time.
const GIVING_MAX: usize = 4;
/// What a message between nodes may hold besides its entries.
const BODY_SLACK_BYTES: usize = 64 << 10;
/// Most other nodes that are heard at a time.
const PEERS_MAX: usize = segment_store::standing::PEERS_MAX;

/// All other nodes of the cluster.
#[derive(Debug)]
pub(super) struct Peers {
    /// This node; stands in every message sent.
    node: u64,
    endpoint: Endpoint,
    /// Addresses in this node's own settings, which go before what the cluster says: they may be right for this node alone.
    configured: BTreeMap<u64, String>,
    others: ArcSwap<BTreeMap<u64, Arc<Peer>>>,
    greeter: Greeter,
    queue_bytes_max: usize,
    caps: PeerCaps,
    runtime: Handle,
    /// Set once, right after the replicas were made around this very object.
    replicas: OnceLock<Replicas>,
    /// Bounds what is read from the disk for nodes that repair.
    giving: Semaphore,
}

/// One other node: the connections dialed to it, if its address is known, and the lanes in both directions.
#[derive(Debug)]
struct Peer {
    node: u64,
    dialed: ArcSwapOption<Dialed>,
    /// Nonce of the start of it that was greeted last, in either direction: connections to an earlier one are dead.
    start: watch::Sender<Option<u64>>,
    budget: Arc<Budget>,
    /// Of what goes to the peer while it is far behind: it must not keep anything else from being queued.
    catch_up_budget: Arc<Budget>,
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
    /// The other nodes, none of them dialed yet. `own` is what this node says of itself, `memory` what it has seen of the others;
    /// `expelled` is told when one of them refuses this node. Must be called within the runtime of the network thread.
    pub(super) fn new(
        config: &Config,
        endpoint: Endpoint,
        own: Greeting,
        memory: Memory,
        expelled: mpsc::UnboundedSender<Expelled>,
    ) -> Result<Arc<Peers>, DataDirError> {
        let configured = config.nodes.iter();
        let entries = config
            .limits
            .batch_bytes_max
            .max(config.raft.in_flight_bytes_max)
            .max(config.raft.catch_up_in_flight_bytes_max) as usize;
        Ok(Arc::new(Peers {
            node: config.node.id,
            endpoint,
            configured: configured
                .map(|other| (other.id, other.address.clone()))
                .collect(),
            others: ArcSwap::default(),
            greeter: Greeter::new(own, memory, expelled)?,
            queue_bytes_max: config.limits.peer_queue_bytes_max as usize,
            caps: PeerCaps {
                body_bytes_max: entries + BODY_SLACK_BYTES,
                ..PeerCaps::default()
            },
            runtime: Handle::current(),
            replicas: OnceLock::new(),
            giving: Semaphore::new(GIVING_MAX),
        }))
    }

    /// Tells where to deliver what arrives, and dials the nodes of the settings.
    pub(super) fn attach(self: &Arc<Peers>, replicas: Replicas) {
        self.replicas
            .set(replicas)
            .expect("attached once, by the node's start");
        let configured = self.configured.clone();
        self.set_nodes(&configured, &BTreeSet::new());
    }

    /// The nodes of the cluster, with their addresses, and those that were removed from it. Dials the new ones, and lets go of the others.
    pub(super) fn set_nodes(
        self: &Arc<Peers>,
        nodes: &BTreeMap<u64, String>,
        removed: &BTreeSet<u64>,
    ) {
        self.greeter.set_removed(removed);
        for (node, address) in nodes {
            let address = self.configured.get(node).unwrap_or(address);
            if *node == self.node {
                continue;
            }
            if let Some(peer) = self.peer_or_new(*node) {
                self.dial(&peer, address);
            }
        }
        for peer in self.others.load().values() {
            if removed.contains(&peer.node) {
                self.drop_peer(peer);
            } else if !nodes.contains_key(&peer.node) {
                peer.hang_up();
            }
        }
    }

    /// Keeps connections to `peer` at `address`.
    fn dial(self: &Arc<Peers>, peer: &Arc<Peer>, address: &str) {
        let current = peer.dialed.load();
        if current
            .as_ref()
            .is_none_or(|dialed| dialed.address != address)
        {
            peer.hang_up();
            let dialed = Dialed::new(self, peer, address.to_owned());
            peer.dialed.store(Some(Arc::new(dialed)));
        }
    }

    fn drop_peer(&self, peer: &Arc<Peer>) {
        peer.hang_up();
        for connection in lock(&peer.accepted).drain(..) {
            self.greeter.turn_away(peer.node, &connection);
        }
        self.others.rcu(|others| {
            let mut others = BTreeMap::clone(others);
            others.remove(&peer.node);
            others
        });
    }

    fn peer(&self, node: u64) -> Option<Arc<Peer>> {
        self.others.load().get(&node).cloned()
    }

    /// The peer of that number, made now if there is none; `None` when there are too many.
    fn peer_or_new(&self, node: u64) -> Option<Arc<Peer>> {
        if let Some(peer) = self.peer(node) {
            return Some(peer);
        }
        if self.others.load().len() >= PEERS_MAX {
            return None;
        }
        let peer = Arc::new(Peer {
            node,
            dialed: ArcSwapOption::empty(),
            start: watch::Sender::new(None),
            budget: Budget::new(self.queue_bytes_max),
            catch_up_budget: Budget::new(self.queue_bytes_max),
            requests: Mutex::default(),
            replies: Mutex::default(),
            accepted: Mutex::default(),
        });
        self.others.rcu(|others| {
            let mut others = BTreeMap::clone(others);
            others.insert(node, Arc::clone(&peer));
            others
        });
        Some(peer)
    }

    /// Whether a connection to `node` is up; always true of this node itself.
    pub(super) fn is_up(&self, node: u64) -> bool {
        node == self.node
            || self
                .peer(node)
                .is_some_and(|peer| peer.current(StreamHello::Control).is_some())
    }

    /// The connections for entries dialed from here that are up now.
    pub(super) fn connections(&self) -> Vec<(u64, Connection)> {
        let bulk = |peer: &Arc<Peer>| Some((peer.node, peer.current(StreamHello::Report)?));
        self.others.load().values().filter_map(bulk).collect()
    }

    /// Ends the streams of a group that is closed here.
    pub(super) fn close_group(&self, group: u64) {
        let streams = [
            StreamHello::Replication { group },
            StreamHello::CatchUp { group },
        ];
        for peer in self.others.load().values() {
            for stream in &streams {
                drop(lock(&peer.requests).remove(stream));
                if let Some(lane) = lock(&peer.replies).remove(stream) {
                    lane.end();
                }
            }
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
            let lane = Lane::new(Arc::clone(peer.budget(stream)));
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
    /// The connection that `stream` belongs on, if it is up and greeted.
    fn current(&self, stream: StreamHello) -> Option<Connection> {
        self.dialed.load().as_ref()?.line(stream).current()
    }

    /// What `stream` counts against.
    fn budget(&self, stream: StreamHello) -> &Arc<Budget> {
        match stream {
            StreamHello::CatchUp { .. } => &self.catch_up_budget,
            _ => &self.budget,
        }
    }

    /// It has greeted, as the start of that nonce.
    fn note_start(&self, nonce: u64) {
        self.start
            .send_if_modified(|start| start.replace(nonce) != Some(nonce));
    }

    /// Gives up the connections dialed to it, and the streams on them.
    fn hang_up(&self) {
        lock(&self.requests).clear();
        self.dialed.store(None);
    }
}

/// What the replicas hold of the peers.
#[derive(Debug, Clone)]
pub(super) struct Outgoing(pub(super) Arc<Peers>);

impl Outbound for Outgoing {
    fn send(&self, to: u64, envelope: Envelope, urgency: Urgency) {
        let Outgoing(peers) = self;
        let Some(peer) = peers.peer(to) else {
            tracing::debug!(
                to,
                "a message for a node that is not known here was dropped"
            );
            return;
        };
        let lane = match place(&envelope, urgency) {
            // Without a connection there is nobody to send to; the loss was reported when it was lost.
            Place::Request(stream) if peer.current(stream).is_none() => return,
            Place::Request(stream) => peers.request_lane(&peer, stream),
            Place::Reply(stream) => match lock(&peer.replies).get(&stream) {
                Some(lane) => Arc::clone(lane),
                None => return,
            },
        };
        let full = lane.push(envelope) == Err(Full);
        if full && urgency == Urgency::Bulk {
            // Sent again once its answer is overdue; nothing else of the peer's is in doubt.
            tracing::debug!(to, "the queue to a peer that is far behind is full");
        } else if full {
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

fn place(envelope: &Envelope, urgency: Urgency) -> Place {
    if urgency == Urgency::Bulk {
        return Place::Request(StreamHello::CatchUp {
            group: envelope.group,
        });
    }
    let bulk = StreamHello::Replication {
        group: envelope.group,
    };
    match &envelope.content {
        Content::Raft(message) => match message {
            Message::Append(_) | Message::Install(_) => Place::Request(bulk),
            Message::AppendReply { .. } | Message::InstallReply { .. } => Place::Reply(bulk),
            Message::PreVoteReply { .. }
            | Message::VoteReply { .. }
            | Message::HeartbeatReply { .. }
            | Message::RestReply { .. }
            | Message::ReadIndexReply { .. } => Place::Reply(StreamHello::Control),
            Message::PreVote { .. }
            | Message::Vote { .. }
            | Message::Heartbeat { .. }
            | Message::Rest { .. }
            | Message::ReadIndex { .. }
            | Message::TimeoutNow { .. } => Place::Request(StreamHello::Control),
        },
        Content::Beat { .. } => Place::Request(StreamHello::Control),
        Content::Forward { .. } => Place::Request(bulk),
        Content::ForwardReply { .. } => Place::Reply(bulk),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
