//! The network between the nodes, in our hands: a UDP relay in front of each node, that delays, loses, doubles, reorders and cuts.
//!
//! Owns the datagrams on their way and what happens to them. Knows nothing of what they carry. A node dials from the port it listens on, so a
//! datagram's source tells which node sent it; every other source is a client. Each pair of ends has a link in either direction, with a
//! weather of its own. What happens is drawn from a seed; when it happens is the machine's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

/// Bytes that wait in all relays of a cluster together; more is lost, as in a router.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Senders that one relay tells apart; datagrams of more are lost.
const FLOWS_MAX: usize = 512;
/// Longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// How far a datagram out of order falls behind, at most.
const REORDERED_BY_MAX: Duration = Duration::from_millis(20);

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// A node of the cluster.
    Node(u64),
    /// Whoever is no node.
    Client,
}

/// What a link does to datagrams. The default lets all pass at once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Time on the way.
    pub(crate) delay: Duration,
    /// Up to this much longer, drawn for each datagram.
    pub(crate) jitter: Duration,
    /// Share that is lost, 0 to 1.
    pub(crate) loss: f64,
    /// Share that arrives twice.
    pub(crate) doubled: f64,
    /// Share that is held back until later ones have passed.
    pub(crate) reordered: f64,
}

/// What happened to datagrams until now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) delayed: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) cut: u64,
    /// Lost for want of room in the relay itself.
    pub(crate) overflowed: u64,
}

type Link = (End, End);
/// A socket that is sent from; it does not block. Readiness to send is not waited for: a full buffer loses, as networks do.
type Sender = Arc<std::net::UdpSocket>;

/// The relays of one cluster, on a thread of their own; stopped when dropped.
pub(crate) struct Relays {
    shared: Arc<Shared>,
    fronts: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Where each node really listens; node n at n - 1.
    nodes: Vec<SocketAddr>,
    state: Mutex<State>,
    /// Rung when something that waits may be due earlier than all before.
    bell: Notify,
}

struct State {
    dice: fastrand::Rng,
    cut: HashSet<Link>,
    weather: HashMap<Link, Weather>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    waiting_bytes: usize,
    turn: u64,
    counts: Counts,
}

/// A datagram on its way.
struct Waiting {
    due: Instant,
    turn: u64,
    link: Link,
    socket: Sender,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Relays {
    /// A relay in front of each of these addresses.
    pub(crate) fn start(nodes: Vec<SocketAddr>, seed: u64) -> Relays {
        let fronts: Vec<std::net::UdpSocket> = nodes
            .iter()
            .map(|node| bind(*node).expect("a free port"))
            .collect();
        let addresses = fronts
            .iter()
            .map(|front| front.local_addr().expect("it is bound"))
            .collect();
        let shared = Arc::new(Shared {
            nodes,
            state: Mutex::new(State::new(seed)),
            bell: Notify::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let run = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                for (at, front) in fronts.into_iter().enumerate() {
                    tokio::spawn(forth(Arc::clone(&run), at, Arc::new(front)));
                }
                tokio::spawn(deliver_late(run));
                // An error says that the owner is gone: the same thing.
                let _ = stopped.await;
            });
        });
        Relays {
            shared,
            fronts: addresses,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where node `node` is to be dialled.
    pub(crate) fn address(&self, node: u64) -> SocketAddr {
        self.fronts[node as usize - 1]
    }

    /// From now on nothing goes from `from` to `to`, not even what is on its way.
    pub(crate) fn cut(&self, from: End, to: End) {
        self.shared.lock().cut.insert((from, to));
    }

    /// Nothing goes between the two, in either direction.
    pub(crate) fn part(&self, one: End, other: End) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Nothing goes between `node` and the other nodes; clients still reach all.
    pub(crate) fn isolate(&self, node: u64) {
        for other in 1..=self.fronts.len() as u64 {
            if other != node {
                self.part(End::Node(node), End::Node(other));
            }
        }
    }

    /// Sets the weather of one direction of a link.
    pub(crate) fn weather(&self, from: End, to: End, weather: Weather) {
        self.shared.lock().weather.insert((from, to), weather);
    }

    /// Sets the weather between all nodes, and between them and clients.
    pub(crate) fn weather_everywhere(&self, weather: Weather) {
        let mut ends: Vec<End> = (1..=self.fronts.len() as u64).map(End::Node).collect();
        ends.push(End::Client);
        for &from in &ends {
            for &to in &ends {
                self.weather(from, to, weather);
            }
        }
    }

    /// Every link lets everything pass again; what is on its way still arrives late.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.lock();
        state.cut.clear();
        state.weather.clear();
    }

    /// What happened until now.
    pub(crate) fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, is on the screen already.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who sends from there.
    fn end_at(&self, address: SocketAddr) -> End {
        match self.nodes.iter().position(|node| *node == address) {
            Some(at) => End::Node(at as u64 + 1),
            None => End::Client,
        }
    }

    /// Sends a datagram on, now or later, once, twice or not at all.
    fn carry(&self, link: Link, socket: &Sender, to: SocketAddr, bytes: &[u8]) {
        let mut state = self.lock();
        for delay in state.fate(link) {
            if delay.is_zero() {
                drop(socket.send_to(bytes, to));
                state.counts.passed += 1;
                continue;
            }
            if state.waiting_bytes + bytes.len() > WAITING_BYTES_MAX {
                state.counts.overflowed += 1;
                continue;
            }
            state.waiting_bytes += bytes.len();
            state.turn += 1;
            let waiting = Waiting {
                due: Instant::now() + delay,
                turn: state.turn,
                link,
                socket: Arc::clone(socket),
                to,
                bytes: bytes.to_vec(),
            };
            state.waiting.push(Reverse(waiting));
            self.bell.notify_one();
        }
    }
}

impl State {
    fn new(seed: u64) -> State {
        State {
            dice: fastrand::Rng::with_seed(seed),
            cut: HashSet::new(),
            weather: HashMap::new(),
            waiting: BinaryHeap::new(),
            waiting_bytes: 0,
            turn: 0,
            counts: Counts::default(),
        }
    }

    /// The delay of each copy of a datagram that arrives.
    fn fate(&mut self, link: Link) -> Vec<Duration> {
        if self.cut.contains(&link) {
            self.counts.cut += 1;
            return Vec::new();
        }
        let Some(weather) = self.weather.get(&link).copied() else {
            return vec![Duration::ZERO];
        };
        if self.dice.f64() < weather.loss {
            self.counts.lost += 1;
            return Vec::new();
        }
        let mut copies = 1;
        if self.dice.f64() < weather.doubled {
            self.counts.doubled += 1;
            copies = 2;
        }
        (0..copies)
            .map(|_| {
                let mut delay = weather.delay + weather.jitter.mul_f64(self.dice.f64());
                if self.dice.f64() < weather.reordered {
                    delay += REORDERED_BY_MAX.mul_f64(self.dice.f64());
                }
                if !delay.is_zero() {
                    self.counts.delayed += 1;
                }
                delay
            })
            .collect()
    }

    /// Sends what is due, and says when the next is.
    fn send_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse(next)) = self.waiting.peek() {
            if next.due > now {
                return Some(next.due);
            }
            let Some(Reverse(due)) = self.waiting.pop() else {
                break;
            };
            self.waiting_bytes -= due.bytes.len();
            if self.cut.contains(&due.link) {
                self.counts.cut += 1;
                continue;
            }
            drop(due.socket.send_to(&due.bytes, due.to));
            self.counts.passed += 1;
        }
        None
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.turn).cmp(&(other.due, other.turn))
    }
}

/// A socket on the same host as `node`, that does not block.
fn bind(node: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((node.ip(), 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The end of a socket that is received from.
fn receiver(socket: &Sender) -> std::io::Result<UdpSocket> {
    UdpSocket::from_std(socket.try_clone()?)
}

/// From whoever dials a node to that node; each sender gets a socket of its own towards it, whose answers go back.
async fn forth(shared: Arc<Shared>, at: usize, front: Sender) {
    let (node, address) = (End::Node(at as u64 + 1), shared.nodes[at]);
    let arriving = receiver(&front).expect("a socket of this runtime");
    let mut flows: HashMap<SocketAddr, Sender> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((len, from)) = arriving.recv_from(&mut buffer).await else {
            continue;
        };
        let end = shared.end_at(from);
        if !flows.contains_key(&from) {
            let bound = bind(address).and_then(|socket| {
                let socket = Arc::new(socket);
                Ok((receiver(&socket)?, socket))
            });
            let (Ok((answers, socket)), true) = (bound, flows.len() < FLOWS_MAX) else {
                shared.lock().counts.overflowed += 1;
                continue;
            };
            let run = back(
                Arc::clone(&shared),
                (node, end),
                answers,
                (Arc::clone(&front), from),
            );
            tokio::spawn(run);
            flows.insert(from, socket);
        }
        shared.carry((end, node), &flows[&from], address, &buffer[..len]);
    }
}

/// From a node back to one that dialled it.
async fn back(
    shared: Arc<Shared>,
    link: Link,
    answers: UdpSocket,
    (front, to): (Sender, SocketAddr),
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((len, from)) = answers.recv_from(&mut buffer).await else {
            continue;
        };
        // Anyone else who finds the port is no part of this network.
        if shared.end_at(from) == link.0 {
            shared.carry(link, &front, to, &buffer[..len]);
        }
    }
}

/// Sends what waits when it is due.
async fn deliver_late(shared: Arc<Shared>) {
    loop {
        let next = shared.lock().send_due(Instant::now());
        match next {
            Some(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = shared.bell.notified() => {}
            },
            None => shared.bell.notified().await,
        }
    }
}
