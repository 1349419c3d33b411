//! A producer that keeps going whatever happens to the nodes, and a consumer that reads everything back.
//!
//! Uses the public client alone, so that what it is told is what any user would be told.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plimsoll::client::{Client, From, Record, Replica};
use plimsoll::config::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::history::{History, Seen};

/// Acks a producer waits for at most before it sends on: keeps the history small enough for many cycles in CI.
const IN_FLIGHT: usize = 256;

/// A client of the cluster whose settings are in `file`.
pub(crate) async fn connect(file: &Path) -> Client {
    let config = ClientConfig::load(file).expect("the client.toml that init wrote can be read");
    Client::connect(&config)
        .await
        .expect("a node of the cluster answers")
}

/// A producer at work in the background.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    sending: JoinHandle<(History, Duration)>,
}

impl Load {
    /// Starts to send numbered records to every partition of `topic` in turn, as fast as acks come back.
    pub(crate) fn start(client: &Client, topic: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let sending = tokio::spawn(send(
            client.clone(),
            topic.to_owned(),
            Arc::clone(&stop),
            Arc::clone(&acked),
        ));
        Load {
            stop,
            acked,
            sending,
        }
    }

    /// Waits until `more` records beyond those acked by now are acked; panics after a minute without enough.
    pub(crate) async fn wait_for_acks(&self, more: u64) {
        let goal = self.acked.load(Ordering::Acquire) + more;
        let until = Instant::now() + Duration::from_secs(60);
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while self.acked.load(Ordering::Acquire) < goal {
            assert!(Instant::now() < until, "no service: acks do not come back");
            assert!(!self.sending.is_finished(), "the producer gave up");
            tick.tick().await;
        }
    }

    /// Stops sending, waits for what is on its way, and returns the history and the longest time between two acks.
    pub(crate) async fn finish(self) -> (History, Duration) {
        self.stop.store(true, Ordering::Release);
        self.sending.await.expect("the producer's task ends")
    }
}

async fn send(
    client: Client,
    topic: String,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
) -> (History, Duration) {
    let producer = client
        .producer(topic)
        .linger(Duration::from_millis(1))
        .delivery_timeout(Duration::from_secs(60))
        .build()
        .await
        .expect("the topic is there");
    let (queue, mut deliveries) = mpsc::channel(IN_FLIGHT);
    let collector = tokio::spawn(async move {
        let (mut placed, mut failed) = (HashMap::new(), Vec::new());
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        while let Some((value, delivery)) = deliveries.recv().await {
            let delivery: plimsoll::client::Delivery = delivery;
            match delivery.await {
                Ok(ack) => {
                    placed.insert(value, (ack.partition, ack.offset));
                    acked.fetch_add(1, Ordering::AcqRel);
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                Err(error) => {
                    eprintln!("record {value}: {error}");
                    failed.push(value);
                }
            }
        }
        (placed, failed, longest)
    });
    let mut history = History::default();
    let mut value = 0u64;
    while !stop.load(Ordering::Acquire) {
        value += 1;
        let partition = (value % u64::from(producer.partitions())) as u32;
        history.sent.insert(value);
        let text = value.to_string();
        match producer
            .send(Record::value(&text).partition(partition))
            .await
        {
            Ok(delivery) => queue
                .send((value, delivery))
                .await
                .expect("the collector runs as long as there is something to collect"),
            Err(error) => {
                eprintln!("record {value} not taken: {error}");
                history.failed.insert(value);
            }
        }
    }
    drop(queue);
    let (placed, failed, longest) = collector.await.expect("the collector ends");
    history.acked = placed;
    history.failed.extend(failed);
    producer.close().await.expect("nothing is left to send");
    (history, longest)
}

/// Everything in the topic, from the start to what is committed now, read from one node's replicas.
pub(crate) async fn consume_all(client: &Client, topic: &str, replica: Replica) -> Seen {
    let mut consumer = client
        .consumer(topic)
        .from(From::Start)
        .replica(replica)
        .stream()
        .await
        .expect("the topic can be read");
    let mut seen = Seen::new();
    while let Some(record) = consumer.next().await {
        let record = record.expect("a record can be read");
        let text = record.value().expect("every record has a value");
        let value = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("values are numbers");
        seen.entry(record.partition())
            .or_default()
            .push((record.offset(), value));
    }
    seen
}
