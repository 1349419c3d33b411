//! `plimsoll bench`: measure this cluster from where the command runs, with the client library any program would use.
//!
//! Owns the loads, the clocks and the figures. It makes a topic for itself and removes it in the end. Must not flatter: a
//! record counts once it is acknowledged, and under a given rate its time runs from when it was due, not from when there was
//! room to send it.

mod consume;
mod latency;
mod load;
mod produce;
mod report;
mod usage;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use plimsoll::client::{Client, Compression};

use super::Shared;
use super::output::{Failure, Out};
use report::Report;

/// Time before the measurement in which connections, leaders and pages get warm.
const WARM_UP: Duration = Duration::from_secs(1);

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
    /// Time from sending a record to its ack, few in flight or at a given rate
    Latency(latency::Latency),
}

/// What all measurements take.
#[derive(Args, Clone)]
struct Common {
    /// Bytes of each record's value
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    record_bytes: u32,
    /// Seconds to measure, after one second to warm up
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// How batches are compressed; records are made of words
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
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
    fn duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }
}

impl Bench {
    pub(crate) fn run(self, shared: &Shared) -> Result<(), Failure> {
        super::with_client(shared, async |client| {
            let report = self.measure(client).await?;
            let mut out = Out::new();
            report.print(shared.output, &mut out)?;
            out.flush()
        })
    }

    /// Measures on a topic of its own, which is gone afterwards, however the measurement ends.
    async fn measure(&self, client: &Client) -> Result<Report, Failure> {
        let topic = format!("bench-{:016x}", fastrand::u64(..));
        let partitions = self.common().partitions;
        client.admin().create_topic(&topic, partitions, 0).await?;
        let measured = tokio::select! {
            measured = self.verb(client, &topic) => measured,
            _ = tokio::signal::ctrl_c() => Err(Failure::Message("interrupted".to_owned())),
        };
        let deleted = client.admin().delete_topic(&topic).await;
        let report = measured?;
        deleted.map_err(|error| {
            Failure::Message(format!(
                "cannot remove the topic {topic} made for the measurement: {error}"
            ))
        })?;
        Ok(report)
    }

    async fn verb(&self, client: &Client, topic: &str) -> Result<Report, Failure> {
        match &self.verb {
            Verb::Produce(produce) => produce.measure(client, topic).await,
            Verb::Consume(consume) => consume.measure(client, topic).await,
            Verb::Latency(latency) => latency.measure(client, topic).await,
        }
    }

    fn common(&self) -> &Common {
        match &self.verb {
            Verb::Produce(produce) => &produce.common,
            Verb::Consume(consume) => &consume.common,
            Verb::Latency(latency) => &latency.common,
        }
    }
}
