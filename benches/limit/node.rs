//! A node: takes batches from a stream, checks them, has them written, passes them on where it leads, tells what is durable; or lets a client read.
//!
//! Owns the wire between the processes: a batch has kind 1 and in its head a sequence and a CRC; the answer has kind 2 and the last durable sequence, which
//! speaks for all before it. Kind 3 asks for batches without end. Who comes as a client is led, who comes as a peer is followed. Must not know what is
//! measured.

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use transport::{
    Alpn, Connection, Credentials, Endpoint, Limits, Message, RecvHalf, SendHalf, TransportOptions,
};

use crate::disk::{self, Job};

pub(crate) const BATCH: u8 = 1;
pub(crate) const DURABLE: u8 = 2;
pub(crate) const READ: u8 = 3;
pub(crate) const LIMITS: Limits = Limits {
    head_bytes_max: 16,
    body_bytes_max: 16 << 20,
};
/// What a client reads, over and over: more than the caches of a CPU hold.
const READ_BYTES: usize = 128 << 20;
const READ_BATCH_BYTES: usize = 1 << 20;

pub(crate) fn batch_head(sequence: u64, crc: u32) -> [u8; 12] {
    let mut head = [0; 12];
    head[..8].copy_from_slice(&sequence.to_le_bytes());
    head[8..].copy_from_slice(&crc.to_le_bytes());
    head
}

pub(crate) fn sequence_of(head: &[u8]) -> u64 {
    u64::from_le_bytes(head[..8].try_into().expect("eight bytes"))
}

/// Is node `number` until the input of this process ends. Prints its address first, and is told those of all then.
pub(crate) fn run(
    number: u64,
    folder: &Path,
    options: &TransportOptions,
    streams: usize,
    sync: bool,
    fresh: bool,
) {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("put there before");
    let credentials =
        Credentials::from_pem(&text("ca.pem"), &text("cert.pem"), &text("key.pem")).expect("sound");
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = String::new();
        input.read_line(&mut line).expect("text");
        let addresses = line.split_whitespace();
        let addresses: Vec<SocketAddr> = addresses
            .map(|text| text.parse().expect("an address"))
            .collect();
        let _ = tell.send(addresses);
        let _ = input.read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    LocalSet::new().block_on(&runtime, async {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoint = Endpoint::server(&credentials, listen, options).expect("binds");
        let mut node = Node::start(folder, streams, sync, fresh, endpoint.clone());
        println!("{}", endpoint.local_addr());
        std::io::stdout().flush().expect("the parent reads");
        let others = (1..).zip(told.await.expect("the parent tells"));
        node.others = others.filter(|(other, _)| *other != number).collect();
        let node = Rc::new(node);
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.identify().await.expect("one of us");
            let node = Rc::clone(&node);
            spawn_local(async move {
                while let Ok((send, recv)) = connection.accept_bi().await {
                    spawn_local(Rc::clone(&node).serve(connection.alpn(), send, recv));
                }
            });
        }
    });
}

/// One process's state: the streams it serves.
struct Node {
    /// For each stream.
    disks: Vec<Sender<Job>>,
    streams: Rc<RefCell<Vec<Rc<Progress>>>>,
    endpoint: Endpoint,
    others: Vec<(u64, SocketAddr)>,
    /// To those, once it leads something.
    links: tokio::sync::OnceCell<Vec<Connection>>,
}

/// What is durable of one stream: here, and at each follower.
struct Progress {
    durable: RefCell<Vec<u64>>,
    changed: Notify,
    told: Cell<u64>,
}

impl Progress {
    fn raise(&self, place: usize, sequence: u64) {
        self.durable.borrow_mut()[place] = sequence;
        self.changed.notify_one();
    }

    /// What a majority has.
    fn reached(&self) -> u64 {
        let mut durable = self.durable.borrow().clone();
        durable.sort_unstable();
        durable[(durable.len() - 1) / 2]
    }
}

impl Node {
    fn start(
        folder: &Path,
        streams_max: usize,
        sync: bool,
        fresh: bool,
        endpoint: Endpoint,
    ) -> Node {
        let streams: Rc<RefCell<Vec<Rc<Progress>>>> = Rc::default();
        let (report, mut reports) = mpsc::unbounded_channel();
        let disks = disk::start(folder, streams_max, sync, fresh, move |stream, sequence| {
            let _ = report.send((stream, sequence));
        });
        let theirs = Rc::clone(&streams);
        spawn_local(async move {
            while let Some((stream, sequence)) = reports.recv().await {
                theirs.borrow()[stream].raise(0, sequence);
            }
        });
        Node {
            disks,
            streams,
            endpoint,
            others: Vec::new(),
            links: tokio::sync::OnceCell::new(),
        }
    }

    /// Takes up a stream: the first message says what it is for.
    async fn serve(self: Rc<Self>, alpn: Alpn, send: SendHalf, mut recv: RecvHalf) {
        let Ok(Some(first)) = recv.recv(&LIMITS).await else {
            return;
        };
        if first.kind == READ {
            return feed(send).await;
        }
        let links = match alpn {
            Alpn::Client => self.links().await,
            Alpn::Peer => &[],
        };
        let progress = Rc::new(Progress {
            durable: RefCell::new(vec![0; 1 + links.len()]),
            changed: Notify::new(),
            told: Cell::new(0),
        });
        let number = self.streams.borrow().len();
        self.streams.borrow_mut().push(Rc::clone(&progress));
        let mut onward = Vec::new();
        for (place, link) in (1..).zip(links) {
            let (to, from) = link.open_bi(0).await.expect("the follower is there");
            let (batches, queue) = mpsc::unbounded_channel();
            spawn_local(pass_on(to, queue));
            spawn_local(hear(from, Rc::clone(&progress), place));
            onward.push(batches);
        }
        spawn_local(answer(send, progress));
        take(first, recv, &self.disks[number], &onward).await;
    }

    async fn links(&self) -> &[Connection] {
        let dial = || async {
            let mut links = Vec::new();
            for (number, address) in &self.others {
                let link = self.endpoint.connect(*address, *number, Alpn::Peer).await;
                links.push(link.expect("all were started before"));
            }
            links
        };
        self.links.get_or_init(dial).await
    }
}

/// A batch on its way to a follower.
type Onward = mpsc::UnboundedSender<(Bytes, Bytes)>;

/// Checks each batch, and starts its write and its way to the followers at the same moment.
async fn take(first: Message, mut recv: RecvHalf, disk: &Sender<Job>, onward: &[Onward]) {
    let mut next = Some(first);
    while let Some(message) = next {
        let body = message.body.freeze();
        let crc = u32::from_le_bytes(message.head[8..].try_into().expect("four bytes"));
        assert_eq!(crc32fast::hash(&body), crc, "a batch was damaged");
        let sequence = sequence_of(&message.head);
        for follower in onward {
            let _ = follower.send((message.head.clone(), body.clone()));
        }
        let _ = disk.send(Job { sequence, body });
        next = recv.recv(&LIMITS).await.ok().flatten();
    }
}

async fn pass_on(mut send: SendHalf, mut queue: mpsc::UnboundedReceiver<(Bytes, Bytes)>) {
    while let Some((head, body)) = queue.recv().await {
        if send.send(BATCH, &head, &mut [body]).await.is_err() {
            return;
        }
    }
}

async fn hear(mut recv: RecvHalf, progress: Rc<Progress>, place: usize) {
    while let Ok(Some(message)) = recv.recv(&LIMITS).await {
        progress.raise(place, sequence_of(&message.head));
    }
}

async fn answer(mut send: SendHalf, progress: Rc<Progress>) {
    loop {
        let reached = progress.reached();
        if reached == progress.told.get() {
            progress.changed.notified().await;
            continue;
        }
        progress.told.set(reached);
        let told = send.send(DURABLE, &reached.to_le_bytes(), &mut []).await;
        if told.is_err() {
            return;
        }
    }
}

/// Sends batches from memory until nobody reads.
async fn feed(mut send: SendHalf) {
    let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u64(..).to_le_bytes())
        .take(READ_BYTES / 8)
        .flatten()
        .collect();
    let bytes = Bytes::from(bytes);
    let mut at = 0;
    loop {
        let batch = bytes.slice(at..at + READ_BATCH_BYTES);
        at = (at + READ_BATCH_BYTES) % READ_BYTES;
        if send
            .send(DURABLE, &batch_head(0, 0), &mut [batch])
            .await
            .is_err()
        {
            return;
        }
    }
}
