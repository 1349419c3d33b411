//! `plimsoll bench consume`: how fast a topic is read from its start.
//!
//! Owns the filling and the reading. Every record is looked at, so that what is measured is records in hand, not bytes on a wire.

use std::time::Instant;

use clap::Args;
use plimsoll::client::{Client, From, Record, Replica};
use serde_json::{Value, json};

use super::meter::Meter;
use super::report::Report;
use super::usage::Watch;
use super::{Common, on_own_topic};
use crate::cli::consume::replica;
use crate::cli::output::Failure;

/// Throughput of reading a topic from its start, after filling it
///
/// Fills the topic with --fill-bytes, then reads all of it from its start, again and again, for --warm-up and --seconds.
#[derive(Args)]
pub(super) struct Consume {
    #[command(flatten)]
    common: Common,
    /// Whom to read from: the leader of each partition, any replica, or the replica on one node
    #[arg(long, value_name = "leader|any|NODE", default_value = "leader", value_parser = replica)]
    replica: Replica,
    /// Bytes of values the topic is filled with
    #[arg(long, value_name = "N", default_value_t = 1_000_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    fill_bytes: u64,
    /// Size of the batches the topic is filled with
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
    batch_bytes: u32,
}

impl Consume {
    pub(super) async fn measure(&self, client: &Client) -> Result<Report, Failure> {
        on_own_topic(client, self.common.partitions, async |topic| {
            self.measure_on(client, topic).await
        })
        .await
    }

    async fn measure_on(&self, client: &Client, topic: &str) -> Result<Report, Failure> {
        let filled = self.fill(client, topic).await?;
        let window = self.common.window();
        let watch = Watch::start(client, topic, window.clone()).await?;
        let mut meter = Meter::new(window);
        while Instant::now() < meter.ends() {
            self.read(client, topic, filled, &mut meter).await?;
        }
        let usage = watch.end().await;
        Ok(Report::new(&meter, &usage, self.settings()))
    }

    /// Reads the topic once, or until the time is over.
    async fn read(
        &self,
        client: &Client,
        topic: &str,
        filled: u64,
        meter: &mut Meter,
    ) -> Result<(), Failure> {
        let mut consumer = client
            .consumer(topic)
            .from(From::Start)
            .replica(self.replica)
            .stream()
            .await?;
        let mut read = 0;
        while let Some(batch) = consumer.next_batch().await {
            let (mut records, mut bytes) = (0, 0);
            for record in batch?.records() {
                records += 1;
                bytes += record.value.map_or(0, <[u8]>::len) as u64;
            }
            let now = Instant::now();
            meter.count_done(now, records, bytes);
            read += u64::from(records);
            if now >= meter.ends() {
                return Ok(());
            }
        }
        if read == filled {
            return Ok(());
        }
        Err(Failure::Message(format!(
            "{filled} records were acknowledged, but {read} were read"
        )))
    }

    /// Produces what is to be read; says how many records were acknowledged.
    async fn fill(&self, client: &Client, topic: &str) -> Result<u64, Failure> {
        let producer = client
            .producer(topic)
            .batch_bytes(self.batch_bytes as usize)
            .compression(self.common.compression.compression())
            .build()
            .await?;
        let mut values = self.common.values();
        let (mut records, mut bytes) = (0, 0);
        while bytes < self.fill_bytes {
            let (key, value) = values.next();
            bytes += value.len() as u64;
            let record = Record::value(value);
            let record = match key {
                Some(key) => record.key(key),
                None => record,
            };
            drop(producer.send(record).await?);
            records += 1;
        }
        producer.close().await?;
        Ok(records)
    }

    fn settings(&self) -> Value {
        let mut settings = self.common.settings("consume");
        settings["replica"] = match self.replica {
            Replica::Leader => json!("leader"),
            Replica::Any => json!("any"),
            Replica::Node(node) => json!(node),
        };
        settings["fill_bytes"] = json!(self.fill_bytes);
        settings["batch_bytes"] = json!(self.batch_bytes);
        settings
    }
}
