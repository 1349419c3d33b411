//! Allocations of three nodes for each batch that is produced, and for each that is fetched: so many, and none for a record.
//!
//! The nodes run in this process; the client's thread is left out. Batches have 64 KiB each, first of a few large records and then of many small
//! ones: what grows from the one to the other is for each record. Ends with status 1 if that is not nothing, or a batch costs more than the
//! bound below.
//!
//! `cargo bench --bench allocations`

#![allow(clippy::unwrap_used, missing_docs)]

mod counting;
#[path = "../../tests/end_to_end/harness.rs"]
#[allow(dead_code)]
mod harness;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use plimsoll::client::{Client, From, Record};
use plimsoll::config::{LimitsConfig, LogConfig};

use counting::{Counting, allocations, leave_out_this_thread};
use harness::Cluster;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH_BYTES: usize = 64 << 10;
const BATCHES: usize = 2_000;
/// Of a few large records, and of many small ones.
const RECORD_BYTES: [usize; 2] = [8 << 10, 64];
/// Allocations that a record may cost: none, but for what else happens meanwhile.
const PER_RECORD_MAX: f64 = 0.01;
/// Allocations that a batch may cost on all three nodes together, datagrams and messages of the transport included.
const PER_BATCH_MAX: f64 = 100.0;

/// What one batch cost on all nodes together.
struct Cost {
    records_per_batch: f64,
    allocations: f64,
    bytes: f64,
}

fn main() -> ExitCode {
    leave_out_this_thread();
    // The harness would show what nodes log.
    let quiet = tracing::subscriber::NoSubscriber::default();
    tracing::subscriber::set_global_default(quiet).expect("the first to set it");
    let cluster = Cluster::start_with(3, |config| {
        config.log = LogConfig::default();
        config.limits = LimitsConfig::default();
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let costs = runtime.block_on(async {
        let client = cluster.client().await;
        let mut costs = Vec::new();
        for record_bytes in RECORD_BYTES {
            costs.push(measure(&client, record_bytes).await);
        }
        client.close().await;
        costs
    });
    println!(
        "batches of 64 KiB, three nodes together   records a batch   allocations a batch   bytes a batch"
    );
    let mut kept = true;
    for (walk, place) in [("produce", 0), ("fetch", 1)] {
        let of = |costs: &[Cost; 2]| -> (f64, f64) {
            let Cost {
                records_per_batch,
                allocations,
                bytes,
            } = costs[place];
            println!("{walk:40} {records_per_batch:17.0} {allocations:21.1} {bytes:15.0}");
            (records_per_batch, allocations)
        };
        let ((few, large), (many, small)) = (of(&costs[0]), of(&costs[1]));
        let per_record = (small - large) / (many - few);
        println!("{walk:40} allocations a record: {per_record:.4}");
        kept &= per_record <= PER_RECORD_MAX && large.max(small) <= PER_BATCH_MAX;
    }
    match kept {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("above the bounds of {PER_RECORD_MAX} a record and {PER_BATCH_MAX} a batch");
            ExitCode::FAILURE
        }
    }
}

/// What a batch of records of this size costs: to produce, and to fetch.
async fn measure(client: &Client, record_bytes: usize) -> [Cost; 2] {
    let topic = format!("allocations-{record_bytes}");
    let admin = client.admin();
    admin.create_topic(&topic, 1, 3).await.expect("it is new");
    // Connections grow their buffers, and the first segments are short.
    produce(client, &topic, record_bytes).await;
    let at_rest = at_rest().await;
    let produced = counted(at_rest, async || {
        produce(client, &topic, record_bytes).await;
    });
    let produced = produced.await;
    let (batches, records) = fetch(client, &topic).await;
    let fetched = counted(at_rest, async || {
        fetch(client, &topic).await;
    });
    let fetched = fetched.await;
    // All of it is fetched, and half of it was produced by what was counted.
    let cost = |(allocations, bytes): (f64, f64), batches: f64| Cost {
        records_per_batch: records / batches,
        allocations: allocations / batches,
        bytes: bytes / batches,
    };
    let mut produced = cost(produced, batches / 2.0);
    produced.records_per_batch /= 2.0;
    [produced, cost(fetched, batches)]
}

/// Allocations a second of nodes that nobody asks anything.
async fn at_rest() -> f64 {
    let (before, _) = allocations();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (after, _) = allocations();
    (after - before) as f64
}

/// Allocations and bytes of the nodes meanwhile, less what they would have done at rest.
async fn counted(at_rest: f64, work: impl AsyncFnOnce()) -> (f64, f64) {
    let ((count, bytes), began) = (allocations(), Instant::now());
    work().await;
    let (count_after, bytes_after) = allocations();
    let rest = at_rest * began.elapsed().as_secs_f64();
    (
        (count_after - count) as f64 - rest,
        (bytes_after - bytes) as f64,
    )
}

async fn produce(client: &Client, topic: &str, record_bytes: usize) {
    let producer = client
        .producer(topic)
        .batch_bytes(BATCH_BYTES)
        .linger(Duration::from_millis(100))
        .build()
        .await
        .expect("the topic is there");
    let value = vec![7; record_bytes];
    let mut bytes = 0;
    while bytes < BATCHES * BATCH_BYTES {
        let delivery = producer.send(Record::value(&value)).await;
        drop(delivery.expect("the cluster is well"));
        bytes += value.len();
    }
    producer.close().await.expect("the cluster is well");
}

/// Reads all of it: batches and records.
async fn fetch(client: &Client, topic: &str) -> (f64, f64) {
    let consumer = client.consumer(topic).from(From::Start).stream().await;
    let mut consumer = consumer.expect("the topic is there");
    let (mut batches, mut records) = (0.0, 0.0);
    while let Some(batch) = consumer.next_batch().await {
        batches += 1.0;
        records += batch.expect("the cluster is well").len() as f64;
    }
    (batches, records)
}
