//! Time without service after SIGKILL of a leader, seen by a producer and by a consumer.
//!
//! Three `plimsoll serve` processes. First with one partition: a producer sends a record each millisecond, each acked alone, and a consumer follows; the
//! leader is killed, and the clocks run from the kill to the first ack of a record sent after it, and until the consumer has such a record. Then with many partitions, at rest: the node that
//! leads most of them is killed, a record goes to each partition at that moment, and the clock runs until the last of them is acked: then
//! all are led again. After each round the node is started again. At last all nodes with many partitions are killed and started at once, and
//! the clock runs until all are ready: everything is led. Run by `cargo bench --bench failover`; `PLIMSOLL_ROUNDS` says how many
//! rounds each (default 15), `PLIMSOLL_PARTITIONS` how many partitions the other two parts have (default 1000), `PLIMSOLL_PART` which part alone is to be
//! measured: `leader`, `node` or `start`. In the first, a killed node is away for up to `PLIMSOLL_AWAY_MS` (default 2500), a bit longer in each round:
//! connections to it that nobody has closed are then in all states when it leads again.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/faults/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "../tests/faults/relay.rs"]
#[allow(dead_code)]
mod relay;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cluster::Cluster;
use plimsoll::client::{Client, Consumer, Producer, Record};
use plimsoll::config::ClientConfig;
use plimsoll::wire::GroupStatus;
use tokio::sync::watch;

const TOPIC: &str = "failover";

fn main() {
    let rounds = number("PLIMSOLL_ROUNDS", 15);
    let partitions = number("PLIMSOLL_PARTITIONS", 1000);
    let part = std::env::var("PLIMSOLL_PART").unwrap_or_default();
    let asked = |name: &str| part.is_empty() || part == name;
    if asked("leader") {
        let (acks, records) = runtime().block_on(measure(rounds));
        report("from SIGKILL of the leader to the next ack", acks);
        report(
            "from SIGKILL of the leader to the consumer's next record",
            records,
        );
    }
    if asked("node") {
        let gaps = runtime().block_on(measure_many(rounds, partitions));
        let what = format!(
            "from SIGKILL of a node until all of {partitions} partitions at rest are led again"
        );
        report(&what, gaps);
    }
    if asked("start") {
        let gaps = runtime().block_on(measure_starts(rounds, partitions));
        let what =
            format!("from the start of all nodes until all of {partitions} partitions are led");
        report(&what, gaps);
    }
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A runtime of its own for each part: what is left of the first ends with it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

fn report(what: &str, mut gaps: Vec<Duration>) {
    gaps.sort_unstable();
    let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share).round() as usize].as_millis();
    println!(
        "{what}, {} rounds, ms: min {} p50 {} p90 {} p99 {} max {}",
        gaps.len(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// For each round the time until the first ack, and until the consumer's first record.
async fn measure(rounds: u32) -> (Vec<Duration>, Vec<Duration>) {
    let mut cluster = Cluster::start(3).await;
    let config = ClientConfig::load(&cluster.client_file()).expect("client.toml can be read");
    let client = Client::connect(&config).await.expect("a node answers");
    let admin = client.admin();
    admin.create_topic(TOPIC, 1, 3).await.expect("it is new");
    // Of its own: what the other one asks of nodes would find out which of its connections are dead.
    let producing = Client::connect(&config).await.expect("a node answers");
    let producer = producing
        .producer(TOPIC)
        .linger(Duration::ZERO)
        .build()
        .await
        .expect("the topic is there");
    let consuming = Client::connect(&config).await.expect("a node answers");
    let consumer = consuming.consumer(TOPIC).follow(true).stream().await;
    // The newest send time of a record that is acked, and of one that the consumer has.
    let (acked, newest_acked) = watch::channel(Instant::now());
    let (seen, newest_seen) = watch::channel(Instant::now());
    let sender = tokio::spawn(send(producer, acked));
    let receiver = tokio::spawn(receive(consumer.expect("the topic is there"), seen));
    let (mut acks, mut records) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let victim = leader(&client).await;
        cluster.kill(victim);
        let killed = Instant::now();
        let (ack, record) = tokio::join!(
            later(newest_acked.clone(), killed),
            later(newest_seen.clone(), killed)
        );
        eprintln!(
            "round {round}: ack {} ms, record {} ms",
            ack.as_millis(),
            record.as_millis()
        );
        acks.push(ack);
        records.push(record);
        let away = number("PLIMSOLL_AWAY_MS", 2500);
        tokio::time::sleep(Duration::from_millis(u64::from(away * round / rounds))).await;
        cluster.serve(victim);
        cluster.wait_ready().await;
        settle(&client).await;
    }
    sender.abort();
    receiver.abort();
    (acks, records)
}

/// Time from `killed` until there is something newer.
async fn later(mut newest: watch::Receiver<Instant>, killed: Instant) -> Duration {
    let newer = newest.wait_for(|newest| *newest > killed).await;
    newer.expect("the sender and the receiver go on");
    killed.elapsed()
}

/// Takes records as they come, each once and in order, and tells when the newest was sent.
async fn receive(mut consumer: Consumer, seen: watch::Sender<Instant>) {
    // Records carry the time of day; both clocks are read at the same moment, once.
    let (start, start_ms) = (Instant::now(), now_ms());
    let mut next = 0;
    loop {
        let record = consumer.next().await.expect("it follows");
        let record = record.expect("the cluster goes on");
        assert_eq!(record.offset(), next, "none is missing, none comes twice");
        next += 1;
        let after = record.timestamp_ms().saturating_sub(start_ms);
        seen.send_replace(start + Duration::from_millis(after));
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_millis() as u64
}

async fn send(producer: Producer, acked: watch::Sender<Instant>) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let sent = Instant::now();
        let delivery = producer
            .send(Record::value("x"))
            .await
            .expect("there is room");
        let acked = acked.clone();
        tokio::spawn(async move {
            delivery.await.expect("the cluster goes on");
            acked.send_if_modified(|newest| {
                let newer = sent > *newest;
                *newest = sent.max(*newest);
                newer
            });
        });
    }
}

async fn leader(client: &Client) -> u64 {
    loop {
        let topic = client
            .admin()
            .describe_topic(TOPIC)
            .await
            .expect("it is there");
        if let Some(leader) = topic.partitions[0].leader {
            return leader;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Making a topic of thousands of partitions takes its time.
const CREATE_WITHIN: Duration = Duration::from_secs(120);
/// How long partitions are left alone before a kill, so that they rest.
const AT_REST: Duration = Duration::from_secs(3);

/// Most partitions of a topic here; there are several topics where more are asked for.
const TOPIC_PARTITIONS: u32 = 1000;

/// Topics of so many partitions in all, and a record in each.
async fn many(client: &Client, partitions: u32) -> Vec<(Producer, u32)> {
    let admin = client.admin().timeout(CREATE_WITHIN);
    let mut producers = Vec::new();
    for first in (0..partitions).step_by(TOPIC_PARTITIONS as usize) {
        let here = TOPIC_PARTITIONS.min(partitions - first);
        let topic = format!("{TOPIC}-{first}");
        let made = admin.create_topic(&topic, here, 3).await;
        made.expect("it is new");
        let producer = client.producer(&topic).linger(Duration::ZERO);
        let producer = producer.build().await.expect("the topic is there");
        producers.push((producer, here));
    }
    send_to_each(&producers).await;
    settle(client).await;
    producers
}

async fn measure_many(rounds: u32, partitions: u32) -> Vec<Duration> {
    let mut cluster = Cluster::start(3).await;
    let config = ClientConfig::load(&cluster.client_file()).expect("client.toml can be read");
    let client = Client::connect(&config).await.expect("a node answers");
    let producers = many(&client, partitions).await;
    let mut gaps = Vec::new();
    for round in 1..=rounds {
        tokio::time::sleep(AT_REST).await;
        let victim = leader_of_most(&client).await;
        cluster.kill(victim);
        let killed = Instant::now();
        send_to_each(&producers).await;
        gaps.push(killed.elapsed());
        eprintln!("round {round}: {} ms", killed.elapsed().as_millis());
        cluster.serve(victim);
        cluster.wait_ready().await;
        settle(&client).await;
    }
    gaps
}

async fn measure_starts(rounds: u32, partitions: u32) -> Vec<Duration> {
    let mut cluster = Cluster::start(3).await;
    let config = ClientConfig::load(&cluster.client_file()).expect("client.toml can be read");
    let client = Client::connect(&config).await.expect("a node answers");
    many(&client, partitions).await;
    let mut gaps = Vec::new();
    for round in 1..=rounds {
        tokio::time::sleep(AT_REST).await;
        let before = terms(&client).await;
        cluster.kill_all(&cluster.all());
        let started = Instant::now();
        for node in cluster.all() {
            cluster.serve(node);
        }
        cluster.wait_ready().await;
        gaps.push(started.elapsed());
        settle(&client).await;
        let after = terms(&client).await;
        let mut elections: Vec<u64> = after
            .iter()
            .map(|(group, term)| term - before[group])
            .collect();
        elections.sort_unstable();
        eprintln!(
            "round {round}: {} ms, elections a group: {} in the middle, {} at most",
            gaps[gaps.len() - 1].as_millis(),
            elections[elections.len() / 2],
            elections[elections.len() - 1]
        );
    }
    gaps
}

/// The term of each group.
async fn terms(client: &Client) -> BTreeMap<u64, u64> {
    let status = client.admin().status().await.expect("a node answers");
    let groups = status.groups.iter();
    groups.map(|group| (group.group, group.term)).collect()
}

/// A record to each partition, acked.
async fn send_to_each(producers: &[(Producer, u32)]) {
    let mut deliveries = Vec::new();
    for (producer, partitions) in producers {
        for partition in 0..*partitions {
            let record = Record::value("x").partition(partition);
            deliveries.push(producer.send(record).await.expect("there is room"));
        }
    }
    for delivery in deliveries {
        delivery.await.expect("the cluster goes on");
    }
}

async fn leader_of_most(client: &Client) -> u64 {
    let status = client.admin().status().await.expect("a node answers");
    let mut led = BTreeMap::<u64, usize>::new();
    for leader in status.groups.iter().filter_map(|group| group.leader) {
        *led.entry(leader).or_default() += 1;
    }
    let most = led.into_iter().max_by_key(|(_, led)| *led);
    most.expect("there are partitions").0
}

/// Waits until every replica has what is committed: else the next kill could leave no majority that has it at once.
async fn settle(client: &Client) {
    loop {
        let status = client.admin().status().await.expect("a node answers");
        let ours = |group: &&GroupStatus| {
            (group.topic.as_deref()).is_some_and(|topic| topic.starts_with(TOPIC))
        };
        let even = |group: &GroupStatus| {
            let end = group.high_watermark;
            group.replicas.len() == 3
                && (group.replicas.iter()).all(|replica| replica.high_watermark >= end)
        };
        if status.groups.iter().filter(ours).all(even) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
