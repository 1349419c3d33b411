//! The client: sends batches with a number of them in flight on each stream, or reads; and takes the figures.
//!
//! Owns the measurement. Must not know what the nodes do with the batches.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use transport::{Alpn, Connection, Credentials, Endpoint, RecvHalf, SendHalf, TransportOptions};

use crate::cases::Work;
use crate::figures::Figures;
use crate::node::{BATCH, LIMITS, READ, batch_head, sequence_of};
use crate::usage::cpu_seconds;

/// Batches on each stream before anything counts: discovery of the path's MTU takes some megabytes.
const WARM_UP: Duration = Duration::from_millis(1_000);

pub(crate) struct Load {
    pub(crate) nodes: [SocketAddr; 3],
    pub(crate) work: Work,
    pub(crate) streams: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) in_flight: u64,
    pub(crate) seconds: u64,
    /// Processes of the nodes.
    pub(crate) pids: [u32; 3],
}

impl Load {
    pub(crate) fn run(&self, credentials: &Credentials, options: &TransportOptions) -> Figures {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(async {
            let endpoint = Endpoint::client(credentials, options).expect("binds");
            let mut connections = Vec::new();
            for (number, address) in (1..).zip(self.nodes) {
                let connection = endpoint.connect(address, number, Alpn::Client).await;
                connections.push(connection.expect("the node is there"));
            }
            let figures = self.measure(&connections).await;
            endpoint.close(0, "done").await;
            figures
        })
    }

    /// Streams go to the nodes in turn.
    async fn measure(&self, connections: &[Connection]) -> Figures {
        let begins = Instant::now() + WARM_UP;
        let window = begins..begins + Duration::from_secs(self.seconds);
        let mut streams = JoinSet::new();
        for number in 0..self.streams {
            let connection = &connections[number % connections.len()];
            let (send, recv) = connection.open_bi(0).await.expect("the node is there");
            match self.work {
                Work::Produce => streams.spawn(produce(
                    send,
                    recv,
                    self.batch_bytes,
                    self.in_flight,
                    window.clone(),
                )),
                Work::Consume => streams.spawn(consume(send, recv, window.clone())),
            };
        }
        tokio::time::sleep_until(window.start.into()).await;
        let before = self.cpu();
        tokio::time::sleep_until(window.end.into()).await;
        let after = self.cpu();
        let mut latency_ns = Histogram::<u64>::new(3).expect("three digits are allowed");
        for done in streams.join_all().await {
            latency_ns.add(done).expect("of the same precision");
        }
        let batches = latency_ns.len() as f64;
        let seconds = self.seconds as f64;
        let gigabytes = batches * self.batch_bytes as f64 / 1e9;
        let cpu = |place: usize| (after[place] - before[place]) / gigabytes;
        let ms = |quantile| {
            let ns = latency_ns.value_at_quantile(quantile) as f64;
            (self.work == Work::Produce).then_some(ns / 1e6)
        };
        Figures {
            mb_per_s: gigabytes * 1e3 / seconds,
            batches_per_s: batches / seconds,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            cpu_s_per_gb_client: cpu(0),
            cpu_s_per_gb_leader: cpu(1),
            cpu_s_per_gb_followers: cpu(2) + cpu(3),
        }
    }

    /// CPU seconds so far of the client and each node.
    fn cpu(&self) -> [f64; 4] {
        let [one, two, three] = self.pids;
        [std::process::id(), one, two, three].map(cpu_seconds)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Drives one stream; returns the latencies of the batches that were durable within the window.
async fn produce(
    mut send: SendHalf,
    mut recv: RecvHalf,
    batch_bytes: usize,
    in_flight: u64,
    window: Range<Instant>,
) -> Histogram<u64> {
    let body: Vec<u8> = (0..batch_bytes).map(|_| fastrand::u8(..)).collect();
    let body = Bytes::from(body);
    let room = Semaphore::new(in_flight as usize);
    let (sent, mut due) = tokio::sync::mpsc::unbounded_channel();
    let ends = window.end;
    let sending = async {
        for sequence in 1.. {
            room.acquire().await.expect("never closed").forget();
            let now = Instant::now();
            if now >= ends {
                break;
            }
            // The producer computes it for each batch.
            let head = batch_head(sequence, crc32fast::hash(&body));
            let _ = sent.send(now);
            let sent = send.send(BATCH, &head, &mut [body.clone()]).await;
            sent.expect("the leader is there");
        }
        send.finish();
        drop(sent);
    };
    let hearing = async {
        let mut latency_ns = histogram();
        let mut known = 0;
        while let Ok(Some(message)) = recv.recv(&LIMITS).await {
            let now = Instant::now();
            let durable = sequence_of(&message.head);
            for _ in known..durable {
                let began = due.recv().await.expect("sent before it was durable");
                if window.contains(&now) {
                    latency_ns
                        .record((now - began).as_nanos() as u64)
                        .expect("it grows as needed");
                }
                room.add_permits(1);
            }
            known = durable;
            if now >= ends && due.is_empty() {
                break;
            }
        }
        latency_ns
    };
    let ((), latency_ns) = tokio::join!(sending, hearing);
    latency_ns
}

/// Reads what comes and throws it away; counts the batches that came within the window.
async fn consume(mut send: SendHalf, mut recv: RecvHalf, window: Range<Instant>) -> Histogram<u64> {
    let asked = send.send(READ, &batch_head(0, 0), &mut []).await;
    asked.expect("the leader is there");
    let mut batches = histogram();
    loop {
        let head = recv.recv_head(&LIMITS).await.expect("it goes on for ever");
        head.expect("it goes on for ever");
        recv.skip_body().await.expect("it goes on for ever");
        let now = Instant::now();
        if now >= window.end {
            return batches;
        }
        if window.contains(&now) {
            batches.record(1).expect("it grows as needed");
        }
    }
}
