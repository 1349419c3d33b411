//! Throughput under circumstances, each beside the plain one. With many partitions it is `plimsoll bench produce`, as anybody would run it.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plimsoll::client::{Client, Record};
use plimsoll::config::ClientConfig;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::{Rounds, median};

/// Of the load with a lame follower.
const TOPIC: &str = "lame";
/// A follower that crawls runs for this long of each period: a hundredth.
const RUNS: Duration = Duration::from_millis(5);
const PERIOD: Duration = Duration::from_millis(500);

/// What one run of `plimsoll bench produce` tells.
fn produce(cluster: &Cluster, seconds: u64, flags: &str) -> Value {
    let done = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["bench", "produce", "-o", "json", "--seconds"])
        .arg(seconds.to_string())
        .args(flags.split_whitespace())
        .arg("--client")
        .arg(cluster.client_file())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("plimsoll runs");
    assert!(done.status.success(), "the measurement failed");
    serde_json::from_slice(&done.stdout).expect("one report")
}

fn figure(report: &Value, path: &str) -> f64 {
    report
        .pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or(f64::NAN)
}

/// Medians of what was measured in one circumstance.
struct Taken {
    name: &'static str,
    reports: Vec<Value>,
}

impl Taken {
    fn new(name: &'static str) -> Taken {
        Taken {
            name,
            reports: Vec::new(),
        }
    }

    fn mb_per_s(&self) -> f64 {
        median(self.all("/mb_per_s"))
    }

    fn all(&self, path: &str) -> Vec<f64> {
        let figures = self.reports.iter().map(|report| figure(report, path));
        figures.collect()
    }

    fn figures(&self, plain: f64) -> Value {
        json!({
            "circumstance": self.name,
            "mb_per_s": self.mb_per_s(),
            "mb_per_s_of_rounds": self.all("/mb_per_s"),
            "ratio": self.mb_per_s() / plain,
            "p99_ms": median(self.all("/latency_ms/p99")),
            "cpu_s_per_gb": median(self.all("/cpu_s_per_gb/nodes")),
            "largest_rss_bytes": largest_rss(&self.reports),
        })
    }
}

/// The most memory, page cache apart, that any node had in any round.
fn largest_rss(reports: &[Value]) -> Option<u64> {
    let processes = reports
        .iter()
        .filter_map(|report| report.pointer("/rss_bytes/processes")?.as_array());
    let bytes = processes
        .flatten()
        .filter_map(|process| process["anonymous"].as_u64());
    bytes.max()
}

fn report(case: &str, taken: &[Taken]) -> Value {
    let plain = taken[0].mb_per_s();
    let figures: Vec<Value> = taken.iter().map(|taken| taken.figures(plain)).collect();
    json!({ "case": case, "figures": figures })
}

/// Many partitions with small batches, beside one with large ones and one with the same.
pub(crate) async fn many_partitions(partitions: u32, batch_bytes: u32, rounds: Rounds) -> Value {
    let cluster = Cluster::start(3).await;
    let mut taken = [
        (Taken::new("one partition, 1 MiB batches"), String::new()),
        (
            Taken::new("one partition, small batches"),
            format!("--batch-bytes {batch_bytes}"),
        ),
        (
            Taken::new("many partitions, small batches"),
            format!("--batch-bytes {batch_bytes} --partitions {partitions}"),
        ),
    ];
    for _ in 0..rounds.rounds {
        for (taken, flags) in &mut taken {
            taken.reports.push(produce(&cluster, rounds.seconds, flags));
        }
    }
    report("active", &taken.map(|(taken, _)| taken))
}

/// One follower that crawls, and then one that is gone, beside a cluster that is well. The load is on a topic whose leader stays.
pub(crate) async fn lame_follower(rounds: Rounds) -> Value {
    let mut figures: [Vec<f64>; 3] = Default::default();
    let mut largest = 0;
    for _ in 0..rounds.rounds {
        let mut cluster = Cluster::start(3).await;
        let config = ClientConfig::load(&cluster.client_file()).expect("init wrote it");
        let client = Client::connect(&config).await.expect("a node answers");
        let made = client.admin().create_topic(TOPIC, 1, 3).await;
        made.expect("it is new");
        let leader = leader(&client).await;
        let lame = (1..=3).find(|node| *node != leader).expect("two follow");
        figures[0].push(drive(&client, rounds.seconds).await);

        let (pid, crawls) = (cluster.pid(lame), Arc::new(AtomicBool::new(true)));
        let crawling = Arc::clone(&crawls);
        let crawler = std::thread::spawn(move || crawl(pid, &crawling));
        figures[1].push(drive(&client, rounds.seconds).await);
        crawls.store(false, Ordering::Relaxed);
        crawler.join().expect("it only sends signals");

        cluster.kill(lame);
        figures[2].push(drive(&client, rounds.seconds).await);
        let used = client.admin().usage(leader).await.expect("it runs");
        largest = largest.max(used.anonymous_bytes);
        client.close().await;
    }
    let [well, crawling, gone] = &figures;
    let plain = median(well.clone());
    let figures = |name: &str, taken: &Vec<f64>| {
        let mb_per_s = median(taken.clone());
        json!({
            "circumstance": name,
            "mb_per_s": mb_per_s,
            "mb_per_s_of_rounds": taken,
            "ratio": mb_per_s / plain,
        })
    };
    json!({
        "case": "follower",
        "figures": [
            figures("all well", well),
            figures("one follower at a hundredth of its speed", crawling),
            figures("one follower gone", gone),
        ],
        "leader_anonymous_bytes": largest,
    })
}

async fn leader(client: &Client) -> u64 {
    let topic = client.admin().describe_topic(TOPIC).await;
    let leader = topic.expect("just made").partitions[0].leader;
    leader.expect("its making waited for a leader")
}

/// MB a second of records of 1 KiB in batches of up to 1 MiB, as many as are acked, after a second that does not count.
async fn drive(client: &Client, seconds: u64) -> f64 {
    let builder = client
        .producer(TOPIC)
        .batch_bytes(1 << 20)
        .buffer_bytes(8 << 20);
    let producer = builder.build().await.expect("the topic is there");
    let value = vec![7; 1024];
    let mut acked = 0;
    for seconds in [1, seconds] {
        let began = Instant::now();
        let mut bytes = 0_u64;
        while began.elapsed() < Duration::from_secs(seconds) {
            for _ in 0..64 {
                let delivery = producer.send(Record::value(&value)).await;
                drop(delivery.expect("a majority is well"));
                bytes += value.len() as u64;
            }
        }
        producer.flush().await.expect("a majority is well");
        acked = (bytes as f64 / began.elapsed().as_secs_f64()) as u64;
    }
    producer.close().await.expect("a majority is well");
    acked as f64 / 1e6
}

/// Lets a process run for a hundredth of the time, until it is told to stop; then it runs on.
fn crawl(pid: Pid, crawls: &AtomicBool) {
    let send = |signal| kill_process(pid, signal).expect("a child can be sent a signal");
    while crawls.load(Ordering::Relaxed) {
        send(Signal::STOP);
        std::thread::sleep(PERIOD - RUNS);
        send(Signal::CONT);
        std::thread::sleep(RUNS);
    }
}
