//! Producers, consumers and readers of the end that keep going whatever happens to the nodes.
//!
//! Uses the public client alone, so that what it is told is what any user would be told. Each of them is a client of its own, with
//! connections and knowledge of leaders of its own. The pace is bounded, so that a long run fits into memory.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plimsoll::client::{Client, Delivery, From, ProduceError, Record, Replica};
use plimsoll::config::ClientConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};

use crate::history::{Floor, History, SPAN, Seen, Sent, Watch};

const PRODUCERS: u64 = 2;
const ASKERS: u32 = 2;
/// Acks a producer waits for at most before it sends on.
const IN_FLIGHT: usize = 512;
/// Records a producer sends at a time, and the pause after them.
const BURST: u64 = 10;
const PACE: Duration = Duration::from_millis(5);
/// Rounds of questions by a reader of the end that had no answer yet when all is over.
const LATE_QUESTIONS: u32 = 5;
/// How long acks may stay away before the test fails: an upper guard on a loaded machine.
const SERVICE_WITHIN: Duration = Duration::from_secs(90);
/// How long consumers may take to see what was acked, once all is healed.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

/// A client of the cluster whose settings are in `file`.
pub(crate) async fn connect(file: &Path) -> Client {
    let config = ClientConfig::load(file).expect("the client.toml that init wrote can be read");
    // One attempt ends after ten seconds; a cluster that elects a leader on a loaded machine gets another.
    for _ in 0..5 {
        if let Ok(client) = Client::connect(&config).await {
            return client;
        }
    }
    Client::connect(&config)
        .await
        .expect("a node of the cluster answers")
}

/// Everybody at work in the background.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    floor: Arc<Floor>,
    goal: watch::Sender<Option<Vec<u64>>>,
    producers: Vec<JoinHandle<(Sent, Duration)>>,
    watchers: Vec<JoinHandle<Watch>>,
    askers: Vec<JoinHandle<Asked>>,
}

/// What a reader of the end was told.
#[derive(Default)]
struct Asked {
    answers: u64,
    wrong: Vec<String>,
}

/// What everybody saw.
pub(crate) struct Story {
    /// Of the producers.
    pub(crate) history: History,
    /// Longest time between two acks of one producer.
    pub(crate) longest: Duration,
    /// Of the consumers.
    pub(crate) watches: Vec<Watch>,
    /// Ends that were told.
    pub(crate) answers: u64,
    /// Ends that were told too low.
    stale: Vec<String>,
    floor: Arc<Floor>,
}

impl Load {
    /// Starts producers to every partition of `topic`, a consumer for each of `replicas`, and readers of the end.
    pub(crate) async fn start(file: &Path, topic: &str, replicas: &[Replica]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let (goal, reached) = watch::channel(None);
        let client = connect(file).await;
        let partitions = partitions_of(&client, topic).await;
        let floor = Arc::new(Floor::new(partitions));
        let mut load = Load {
            stop: Arc::clone(&stop),
            acked: Arc::clone(&acked),
            floor: Arc::clone(&floor),
            goal,
            producers: Vec::new(),
            watchers: Vec::new(),
            askers: Vec::new(),
        };
        for number in 0..PRODUCERS {
            let producing = Producing {
                client: connect(file).await,
                topic: topic.to_owned(),
                number,
                stop: Arc::clone(&stop),
                acked: Arc::clone(&acked),
                floor: Arc::clone(&floor),
            };
            load.producers.push(tokio::spawn(producing.run()));
        }
        for &replica in replicas {
            let (client, floor) = (connect(file).await, Arc::clone(&floor));
            let watching = watch_topic(client, topic.to_owned(), replica, floor, reached.clone());
            load.watchers.push(tokio::spawn(watching));
        }
        for _ in 0..ASKERS {
            let (client, floor, stop) =
                (connect(file).await, Arc::clone(&floor), Arc::clone(&stop));
            let asking = ask_for_ends(client, topic.to_owned(), partitions, floor, stop);
            load.askers.push(tokio::spawn(asking));
        }
        load
    }

    /// Waits until `more` records beyond those acked by now are acked; panics if they do not come.
    pub(crate) async fn wait_for_acks(&self, more: u64) {
        let goal = self.acked.load(Ordering::Acquire) + more;
        let until = Instant::now() + SERVICE_WITHIN;
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while self.acked.load(Ordering::Acquire) < goal {
            assert!(Instant::now() < until, "no service: acks do not come back");
            let ended = self.producers.iter().any(JoinHandle::is_finished);
            assert!(!ended, "a producer gave up");
            tick.tick().await;
        }
    }

    /// End of a partition, exclusive, that everybody must be told at least from now on.
    pub(crate) fn floor(&self, partition: u32) -> u64 {
        self.floor.at(partition)
    }

    /// Stops sending, waits for what is on its way and until the consumers have seen it, and tells all.
    pub(crate) async fn finish(self) -> Story {
        self.stop.store(true, Ordering::Release);
        let mut story = Story {
            history: History::default(),
            longest: Duration::ZERO,
            watches: Vec::new(),
            answers: 0,
            stale: Vec::new(),
            floor: Arc::clone(&self.floor),
        };
        for producer in self.producers {
            let (sent, longest) = producer.await.expect("the producer's task ends");
            story.history.producers.push(sent);
            story.longest = story.longest.max(longest);
        }
        for asker in self.askers {
            let asked = asker.await.expect("the asker's task ends");
            story.answers += asked.answers;
            story.stale.extend(asked.wrong);
        }
        let partitions = story.floor.partitions();
        let ends = (0..partitions).map(|partition| story.floor.at(partition));
        self.goal.send_replace(Some(ends.collect()));
        for watcher in self.watchers {
            story
                .watches
                .push(watcher.await.expect("the consumer's task ends"));
        }
        story
    }
}

impl Story {
    /// Everything wrong, given what is in the log in the end; empty when all is well.
    pub(crate) fn anomalies(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = self.history.anomalies(seen);
        for watch in &self.watches {
            wrong.extend(watch.anomalies(seen));
        }
        wrong.extend(self.floor.anomalies(seen));
        wrong.extend(self.stale.iter().cloned());
        wrong
    }
}

async fn partitions_of(client: &Client, topic: &str) -> u32 {
    let admin = client.admin().timeout(SERVICE_WITHIN);
    let topic = admin
        .describe_topic(topic)
        .await
        .expect("the topic is there");
    topic.partitions.len() as u32
}

/// One producer.
struct Producing {
    client: Client,
    topic: String,
    number: u64,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    floor: Arc<Floor>,
}

/// What became of the records of one producer.
#[derive(Default)]
struct Fates {
    acked: HashMap<u64, (u32, u64)>,
    refused: HashSet<u64>,
    unknown: HashSet<u64>,
    longest: Duration,
}

impl Producing {
    async fn run(self) -> (Sent, Duration) {
        let producer = self
            .client
            .producer(self.topic)
            .linger(Duration::from_millis(1))
            .delivery_timeout(SERVICE_WITHIN)
            .build()
            .await
            .expect("the topic is there");
        let (queue, deliveries) = mpsc::channel(IN_FLIGHT);
        let collector = tokio::spawn(collect(deliveries, self.acked, self.floor));
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0u64;
        while !self.stop.load(Ordering::Acquire) {
            count += 1;
            let value = self.number * SPAN + count;
            let partition = (count % u64::from(producer.partitions())) as u32;
            let text = value.to_string();
            let sent = producer
                .send(Record::value(&text).partition(partition))
                .await;
            queue
                .send((value, sent))
                .await
                .expect("the collector runs as long as there is something to collect");
            if count.is_multiple_of(BURST) {
                pace.tick().await;
            }
        }
        drop(queue);
        let fates = collector.await.expect("the collector ends");
        // Failures have been counted record by record.
        drop(producer.close().await);
        let sent = Sent {
            producer: self.number,
            count,
            acked: fates.acked,
            refused: fates.refused,
            unknown: fates.unknown,
        };
        (sent, fates.longest)
    }
}

async fn collect(
    mut deliveries: mpsc::Receiver<(u64, Result<Delivery, ProduceError>)>,
    acked: Arc<AtomicU64>,
    floor: Arc<Floor>,
) -> Fates {
    let mut fates = Fates::default();
    let mut last = Instant::now();
    while let Some((value, sent)) = deliveries.recv().await {
        let fate = match sent {
            Ok(delivery) => delivery.await,
            Err(error) => Err(error),
        };
        match fate {
            Ok(ack) => {
                fates.acked.insert(value, (ack.partition, ack.offset));
                floor.raise(ack.partition, ack.offset + 1);
                acked.fetch_add(1, Ordering::AcqRel);
                fates.longest = fates.longest.max(last.elapsed());
                last = Instant::now();
            }
            Err(error @ (ProduceError::Timeout { .. } | ProduceError::EarlierFailed { .. })) => {
                eprintln!("record {value}: {error}");
                fates.unknown.insert(value);
            }
            Err(error) => {
                eprintln!("record {value} refused: {error}");
                fates.refused.insert(value);
            }
        }
    }
    fates
}

/// A consumer that follows all partitions from the start, until it has seen all that was acked.
async fn watch_topic(
    client: Client,
    topic: String,
    replica: Replica,
    floor: Arc<Floor>,
    mut goal: watch::Receiver<Option<Vec<u64>>>,
) -> Watch {
    let mut watch = Watch::new(format!("the consumer of {replica:?}"));
    let consumer = client.consumer(&topic).from(From::Start).follow(true);
    let mut consumer = match consumer.replica(replica).stream().await {
        Ok(consumer) => consumer,
        Err(error) => {
            watch.gave_up(&error.to_string());
            return watch;
        }
    };
    let reached = |watch: &Watch, goal: &Option<Vec<u64>>| {
        goal.as_ref().is_some_and(|ends| {
            let mut ends = ends.iter().enumerate();
            ends.all(|(partition, end)| watch.next(partition as u32) >= *end)
        })
    };
    let mut goes_on = true;
    while goes_on && goal.borrow().is_none() {
        tokio::select! {
            record = consumer.next() => goes_on = take(&mut watch, &floor, record),
            _ = goal.changed() => {}
        }
    }
    let ends = goal.borrow().clone();
    let rest = async {
        while goes_on && !reached(&watch, &ends) {
            let record = consumer.next().await;
            goes_on = take(&mut watch, &floor, record);
        }
    };
    if timeout(SEEN_WITHIN, rest).await.is_err() {
        watch.gave_up(&format!("it has not seen all up to {ends:?} in time"));
    }
    watch
}

type Received = Option<Result<plimsoll::client::ConsumedRecord, plimsoll::client::ConsumeError>>;

/// Takes in what a consumer got; false if it gave up, which one that follows may never do.
fn take(watch: &mut Watch, floor: &Floor, record: Received) -> bool {
    let why = match record {
        Some(Ok(record)) => {
            watch.take(record.partition(), record.offset(), value_of(&record));
            floor.raise(record.partition(), record.offset() + 1);
            return true;
        }
        Some(Err(error)) => error.to_string(),
        None => String::from("it came to an end"),
    };
    watch.gave_up(&why);
    false
}

/// Asks where the partitions end, again and again. An answer below what anybody knew before the question is stale.
async fn ask_for_ends(
    client: Client,
    topic: String,
    partitions: u32,
    floor: Arc<Floor>,
    stop: Arc<AtomicBool>,
) -> Asked {
    let admin = client.admin();
    let mut asked = Asked::default();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When all is over and healed, somebody must get an answer at last.
    let mut late = 0;
    while !stop.load(Ordering::Acquire) || (asked.answers == 0 && late < LATE_QUESTIONS) {
        late += u32::from(stop.load(Ordering::Acquire));
        for partition in 0..partitions {
            pace.tick().await;
            let known = floor.at(partition);
            // Without a leader there is no answer; that is no anomaly.
            let Ok(end) = admin.end_offset(&topic, partition).await else {
                continue;
            };
            asked.answers += 1;
            floor.raise(partition, end);
            if end < known {
                asked.wrong.push(format!(
                    "stale read: partition {partition} was said to end at {end}, {known} was known before"
                ));
            }
        }
    }
    asked
}

fn value_of(record: &plimsoll::client::ConsumedRecord) -> u64 {
    let text = record.value().expect("every record has a value");
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
        .expect("values are numbers")
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
        seen.entry(record.partition())
            .or_default()
            .push((record.offset(), value_of(&record)));
    }
    seen
}
