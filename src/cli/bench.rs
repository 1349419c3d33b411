//! `plimsoll bench`: measure this cluster from where the command runs, with the client library any program would use.
//!
//! Owns the flags that all measurements share, and the topic that each makes for itself and removes in the end. Must not flatter: a
//! record counts once it is acknowledged, and under a given rate its time runs from when it was due, not from when there was
//! room to send it.

mod beat;
mod consume;
mod latency;
mod load;
mod meter;
mod mixed;
mod plot;
mod produce;
mod report;
mod send;
mod usage;

use std::ops::Range;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use plimsoll::client::{Client, ClientError, Compression};
use plimsoll::wire::ApiError;
use serde_json::{Value, json};

use super::Shared;
use super::output::{Failure, Out};
use load::{Sizes, Values};
use report::Report;
use send::{Room, Sending};

/// Largest value of a record, in bytes.
const RECORD_BYTES_MAX: u32 = 1 << 20;

/// Measure throughput and latency of the cluster
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Throughput of acknowledged records, as many as the cluster takes or at a given rate
    Produce(produce::Produce),
    /// Throughput of reading a topic from its start, after filling it
    Consume(consume::Consume),
    /// Time from sending a record to its ack, few in flight or at a given rate, or at one rate after another
    Latency(latency::Latency),
    /// Producers and consumers that follow, at the same time: time to the ack, and time to the consumer
    Mixed(mixed::Mixed),
}

/// What all measurements take.
#[derive(Args, Clone)]
struct Common {
    /// Bytes of each record's value, or their mean
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=i64::from(RECORD_BYTES_MAX)))]
    record_bytes: u32,
    /// How the sizes of records are spread around --record-bytes
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Sizes::Fixed)]
    record_sizes: Sizes,
    /// Different keys; records have none if 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=99_999_999))]
    keys: u32,
    /// Seconds to measure
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Seconds before that, in which connections, leaders and pages get warm
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    warm_up: u32,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// How batches are compressed; records are made of words
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Codec::None)]
    compression: Codec,
}

/// What producers are told.
#[derive(Args, Clone)]
struct Producing {
    /// Producers at work at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    producers: u32,
    /// Records per second of all producers together, each sent when due whether or not the ones before are acknowledged
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// What is on its way at once, for each producer, without --rate: batches in each partition, or for `latency` records [default: 5; 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: Option<u32>,
    /// Time a batch waits for company [default: 2 while something is on its way; 0 for `latency` and `mixed`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    linger_ms: Option<u32>,
    /// Size at which a batch is sent at once; 1 for batches of one record
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
    batch_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Codec {
    None,
    Lz4,
    Zstd,
}

impl Codec {
    fn compression(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Lz4 => Compression::Lz4,
            Self::Zstd => Compression::Zstd,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Common {
    /// The time to measure, from now.
    fn window(&self) -> Range<Instant> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        meter::window(seconds(self.warm_up), seconds(self.seconds))
    }

    fn values(&self) -> Values {
        Values::new(self.record_bytes, self.record_sizes, self.keys)
    }

    /// As they stand in the report.
    fn settings(&self, load: &str) -> Value {
        json!({
            "load": load,
            "record_bytes": self.record_bytes,
            "record_sizes": self.record_sizes.name(),
            "keys": self.keys,
            "seconds": self.seconds,
            "warm_up": self.warm_up,
            "partitions": self.partitions,
            "compression": self.compression.name(),
        })
    }
}

impl Producing {
    /// What producers do; `usual` is what is in flight unless told otherwise, and `linger_ms` how long a batch lingers, if not
    /// as the client has it.
    fn sending(&self, common: &Common, usual: Room, linger_ms: Option<u32>) -> Sending {
        let room = match (usual, self.in_flight) {
            (usual, None) => usual,
            (Room::Batches(_), Some(batches)) => Room::Batches(batches as usize),
            (Room::Records(_), Some(records)) => Room::Records(records as usize),
        };
        let linger_ms = self.linger_ms.or(linger_ms);
        Sending {
            producers: self.producers,
            rate: self.rate,
            room,
            linger: linger_ms.map(|ms| Duration::from_millis(ms.into())),
            batch_bytes: self.batch_bytes as usize,
            record_bytes: common.record_bytes as usize,
            compression: common.compression.compression(),
            stamps_since: None,
        }
    }
}

impl Bench {
    pub(crate) fn run(self, shared: &Shared) -> Result<(), Failure> {
        super::with_client(shared, async |client| {
            let mut out = Out::new();
            let mut show = |report: &Report| {
                report.print(shared.output, &mut out)?;
                out.flush()
            };
            match &self.verb {
                Verb::Produce(produce) => show(&produce.measure(client).await?),
                Verb::Consume(consume) => show(&consume.measure(client).await?),
                Verb::Latency(latency) => latency.measure_all(client, show).await,
                Verb::Mixed(mixed) => show(&mixed.measure(client).await?),
            }
        })
    }
}

/// Measures on a topic of its own, which is gone afterwards, however the measurement ends.
async fn on_own_topic<T>(
    client: &Client,
    partitions: u32,
    measure: impl AsyncFnOnce(&str) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let topic = format!("bench-{:016x}", fastrand::u64(..));
    client.admin().create_topic(&topic, partitions, 0).await?;
    let measured = tokio::select! {
        measured = measure(&topic) => measured,
        _ = tokio::signal::ctrl_c() => Err(Failure::Message("interrupted".to_owned())),
    };
    match client.admin().delete_topic(&topic).await {
        // Nobody else knows it: an attempt before this one, whose answer was lost, has deleted it.
        Ok(()) | Err(ClientError::Refused(ApiError::UnknownTopic)) => {}
        // The figures are there all the same.
        Err(error) => eprintln!(
            "plimsoll: cannot remove the topic {topic} made for the measurement, delete it by hand: {error}"
        ),
    }
    measured
}
