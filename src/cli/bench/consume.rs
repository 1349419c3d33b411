//! `plimsoll bench consume`: how fast a topic is read from its start.
//!
//! Owns the filling and the reading. Every record is looked at, so that what is measured is records in hand, not bytes on a wire.

use std::time::{Duration, Instant};

use clap::Args;
use plimsoll::client::{Client, From, Record, Replica};
use serde_json::{Value, json};

use super::load::Values;
use super::report::Report;
use super::{Common, usage};
use crate::cli::consume::replica;
use crate::cli::output::Failure;

/// Throughput of reading a topic from its start, after filling it
///
/// Fills the topic for as long as --seconds says, then reads all of it once.
#[derive(Args)]
pub(super) struct Consume {
    #[command(flatten)]
    pub(super) common: Common,
    /// Whom to read from: the leader of each partition, any replica, or the replica on one node
    #[arg(long, value_name = "leader|any|NODE", default_value = "leader", value_parser = replica)]
    replica: Replica,
    /// Size of the batches the topic is filled with
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
    batch_bytes: u32,
}

impl Consume {
    pub(super) async fn measure(&self, client: &Client, topic: &str) -> Result<Report, Failure> {
        let filled = self.fill(client, topic).await?;
        let mut consumer = client
            .consumer(topic)
            .from(From::Start)
            .replica(self.replica)
            .stream()
            .await?;
        let (began, cpu_seconds) = (Instant::now(), usage::cpu_seconds());
        let (mut records, mut bytes) = (0, 0);
        while let Some(batch) = consumer.next_batch().await {
            for record in batch?.records() {
                records += 1;
                bytes += record.value.map_or(0, <[u8]>::len) as u64;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu_seconds = usage::cpu_seconds() - cpu_seconds;
        // A follower may not have heard of the last commits yet; of the leader everything must come.
        let missing = records > filled || self.replica == Replica::Leader && records < filled;
        if missing || bytes != records * u64::from(self.common.record_bytes) {
            return Err(Failure::Message(format!(
                "{filled} records were acknowledged, but {records} were read"
            )));
        }
        Ok(Report::of_reading(
            records,
            self.common.record_bytes,
            seconds,
            cpu_seconds,
            self.settings(),
        ))
    }

    /// Produces for the time given; says how many records were acknowledged.
    async fn fill(&self, client: &Client, topic: &str) -> Result<u64, Failure> {
        let producer = client
            .producer(topic)
            .linger(Duration::from_millis(2))
            .batch_bytes(self.batch_bytes as usize)
            .compression(self.common.compression.compression())
            .build()
            .await?;
        let mut values = Values::new(self.common.record_bytes);
        let ends = Instant::now() + self.common.duration();
        let mut records = 0;
        while Instant::now() < ends {
            for _ in 0..64 {
                drop(producer.send(Record::value(values.next())).await?);
                records += 1;
            }
        }
        producer.close().await?;
        Ok(records)
    }

    fn settings(&self) -> Value {
        json!({
            "load": "consume",
            "record_bytes": self.common.record_bytes,
            "seconds": self.common.seconds,
            "partitions": self.common.partitions,
            "replica": match self.replica {
                Replica::Leader => "leader".to_owned(),
                Replica::Any => "any".to_owned(),
                Replica::Node(node) => node.to_string(),
            },
            "batch_bytes": self.batch_bytes,
            "compression": self.common.compression.name(),
        })
    }
}
