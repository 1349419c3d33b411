//! The leader and the followers: take batches from a stream, check them, have them written, pass them on, tell what is durable.
//!
//! Owns the wire between the processes: a batch has kind 1 and in its head a sequence and a CRC; the answer has kind 2 and the last durable sequence, which
//! speaks for all before it. Must not know what is measured.

use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};
use transport::{
    Alpn, Connection, Credentials, Endpoint, Limits, RecvHalf, SendHalf, TransportOptions,
};

use crate::disk::{self, Job};

pub(crate) const BATCH: u8 = 1;
pub(crate) const DURABLE: u8 = 2;
pub(crate) const LIMITS: Limits = Limits {
    head_bytes_max: 16,
    body_bytes_max: 16 << 20,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Leader,
    Follower,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Leader => "leader",
            Part::Follower => "follower",
        }
    }
}

pub(crate) fn batch_head(sequence: u64, crc: u32) -> [u8; 12] {
    let mut head = [0; 12];
    head[..8].copy_from_slice(&sequence.to_le_bytes());
    head[8..].copy_from_slice(&crc.to_le_bytes());
    head
}

pub(crate) fn sequence_of(head: &[u8]) -> u64 {
    u64::from_le_bytes(head[..8].try_into().expect("eight bytes"))
}

/// Plays `part` until the input of this process ends. Prints the address first.
pub(crate) fn run(part: Part, folder: &Path, options: &TransportOptions, followers: &[SocketAddr]) {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("put there before");
    let credentials =
        Credentials::from_pem(&text("ca.pem"), &text("cert.pem"), &text("key.pem")).expect("sound");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    LocalSet::new().block_on(&runtime, async {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoint = Endpoint::server(&credentials, listen, options).expect("binds");
        println!("{}", endpoint.local_addr());
        std::io::stdout().flush().expect("the parent reads");
        let mut links = Vec::new();
        for (number, address) in (2..).zip(followers) {
            let link = endpoint.connect(*address, number, Alpn::Peer).await;
            links.push(link.expect("the followers were started before"));
        }
        let node = Node::start(part, folder, links);
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.identify().await.expect("our own client");
            while let Ok((send, recv)) = connection.accept_bi().await {
                node.serve(send, recv).await;
            }
        }
    });
}

/// One process's state: the streams it serves.
struct Node {
    disk: Sender<Job>,
    streams: Rc<RefCell<Vec<Rc<Progress>>>>,
    links: Vec<Connection>,
    voters: usize,
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
    fn start(part: Part, folder: &Path, links: Vec<Connection>) -> Node {
        let streams: Rc<RefCell<Vec<Rc<Progress>>>> = Rc::default();
        let (report, mut reports) = mpsc::unbounded_channel();
        let disk = disk::start(folder, move |stream, sequence| {
            let _ = report.send((stream, sequence));
        });
        let theirs = Rc::clone(&streams);
        spawn_local(async move {
            while let Some((stream, sequence)) = reports.recv().await {
                theirs.borrow()[stream].raise(0, sequence);
            }
        });
        let voters = match part {
            Part::Leader => 3,
            Part::Follower => 1,
        };
        Node {
            disk,
            streams,
            links,
            voters,
        }
    }

    /// Takes up a stream of batches.
    async fn serve(&self, send: SendHalf, recv: RecvHalf) {
        let progress = Rc::new(Progress {
            durable: RefCell::new(vec![0; self.voters]),
            changed: Notify::new(),
            told: Cell::new(0),
        });
        let number = self.streams.borrow().len();
        self.streams.borrow_mut().push(Rc::clone(&progress));
        let mut onward = Vec::new();
        for (place, link) in (1..).zip(&self.links) {
            let (to, from) = link.open_bi(0).await.expect("the follower is there");
            let (batches, queue) = mpsc::unbounded_channel();
            spawn_local(pass_on(to, queue));
            spawn_local(hear(from, Rc::clone(&progress), place));
            onward.push(batches);
        }
        spawn_local(answer(send, progress));
        spawn_local(take(recv, number, self.disk.clone(), onward));
    }
}

/// A batch on its way to a follower.
type Onward = mpsc::UnboundedSender<(Bytes, Bytes)>;

/// Checks each batch, and starts its write and its way to the followers at the same moment.
async fn take(mut recv: RecvHalf, stream: usize, disk: Sender<Job>, onward: Vec<Onward>) {
    while let Ok(Some(message)) = recv.recv(&LIMITS).await {
        let body = message.body.freeze();
        let crc = u32::from_le_bytes(message.head[8..].try_into().expect("four bytes"));
        assert_eq!(crc32fast::hash(&body), crc, "a batch was damaged");
        let sequence = sequence_of(&message.head);
        for follower in &onward {
            let _ = follower.send((message.head.clone(), body.clone()));
        }
        let _ = disk.send(Job {
            stream,
            sequence,
            body,
        });
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
