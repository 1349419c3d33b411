//! The client: sends batches with a number of them in flight on each stream, and takes the figures.
//!
//! Owns the measurement. Must not know what the nodes do with the batches.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::Semaphore;
use transport::{Alpn, Connection, Credentials, Endpoint, RecvHalf, SendHalf, TransportOptions};

use crate::node::{BATCH, LIMITS, batch_head, sequence_of};
use crate::usage::cpu_seconds;

/// Batches on each stream before anything counts: discovery of the path's MTU takes some megabytes.
const WARM_UP: Duration = Duration::from_millis(1_000);

pub(crate) struct Load {
    pub(crate) leader: SocketAddr,
    pub(crate) streams: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) in_flight: u64,
    pub(crate) seconds: u64,
    /// Processes of the leader and the followers.
    pub(crate) pids: [u32; 3],
}

/// What one measurement came to. MB are millions of bytes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    mb_per_s: f64,
    batches_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_s_per_gb_client: f64,
    cpu_s_per_gb_leader: f64,
    cpu_s_per_gb_followers: f64,
}

impl Figures {
    pub(crate) const TITLES: &'static str =
        "   MB/s  batches/s   p50 ms   p99 ms   CPU-s/GB: client leader followers";

    /// The figures of the round with the median throughput.
    pub(crate) fn median(mut rounds: Vec<Figures>) -> Figures {
        rounds.sort_by(|a, b| a.mb_per_s.total_cmp(&b.mb_per_s));
        rounds.swap_remove(rounds.len() / 2)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:7.1} {:10.0} {:8.3} {:8.3} {:18.2} {:6.2} {:9.2}",
            self.mb_per_s,
            self.batches_per_s,
            self.p50_ms,
            self.p99_ms,
            self.cpu_s_per_gb_client,
            self.cpu_s_per_gb_leader,
            self.cpu_s_per_gb_followers
        )
    }
}

impl Load {
    pub(crate) fn run(&self, credentials: &Credentials, options: &TransportOptions) -> Figures {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(async {
            let endpoint = Endpoint::client(credentials, options).expect("binds");
            let connection = endpoint
                .connect(self.leader, 1, Alpn::Client)
                .await
                .expect("the leader is there");
            let figures = self.measure(&connection).await;
            endpoint.close(0, "done").await;
            figures
        })
    }

    async fn measure(&self, connection: &Connection) -> Figures {
        let begins = Instant::now() + WARM_UP;
        let ends = begins + Duration::from_secs(self.seconds);
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..self.streams {
            let (send, recv) = connection.open_bi(0).await.expect("the leader is there");
            streams.spawn(stream(
                send,
                recv,
                self.batch_bytes,
                self.in_flight,
                begins..ends,
            ));
        }
        tokio::time::sleep_until(begins.into()).await;
        let before = self.cpu();
        tokio::time::sleep_until(ends.into()).await;
        let after = self.cpu();
        let mut latency_ns = Histogram::<u64>::new(3).expect("three digits are allowed");
        for done in streams.join_all().await {
            latency_ns.add(done).expect("of the same precision");
        }
        let batches = latency_ns.len() as f64;
        let seconds = self.seconds as f64;
        let gigabytes = batches * self.batch_bytes as f64 / 1e9;
        let cpu = |place: usize| (after[place] - before[place]) / gigabytes;
        let ms = |quantile| latency_ns.value_at_quantile(quantile) as f64 / 1e6;
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

    /// CPU seconds so far of the client, the leader and each follower.
    fn cpu(&self) -> [f64; 4] {
        let [leader, one, other] = self.pids;
        [std::process::id(), leader, one, other].map(cpu_seconds)
    }
}

/// Drives one stream; returns the latencies of the batches that were durable within the window.
async fn stream(
    mut send: SendHalf,
    mut recv: RecvHalf,
    batch_bytes: usize,
    in_flight: u64,
    window: std::ops::Range<Instant>,
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
        let mut latency_ns = Histogram::<u64>::new(3).expect("three digits are allowed");
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
