//! `plimsoll bench latency`: how long an ack takes.
//!
//! Owns the load that is light on purpose: so many records in flight, each sent when one before it is acknowledged, or a rate.

use std::time::{Duration, Instant};

use clap::Args;
use plimsoll::client::{Client, ProduceError, Producer, Record};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::load::{Beat, Values};
use super::produce::{at_rate, await_all};
use super::report::{Meter, Report};
use super::{Common, WARM_UP};
use crate::cli::output::Failure;

/// Acks awaited at a time.
const AWAITED_MAX: usize = 1 << 16;

/// Time from sending a record to its ack, few in flight or at a given rate
#[derive(Args)]
pub(super) struct Latency {
    #[command(flatten)]
    pub(super) common: Common,
    /// Records per second, sent when due whether or not the ones before are acknowledged; replaces --in-flight
    #[arg(long, value_name = "N", conflicts_with = "in_flight", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Records in flight; each ack lets the next one go
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// Time a batch waits for company
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    linger_ms: u32,
    /// Size at which a batch is full; 1 for batches of one record
    #[arg(long, value_name = "N", default_value_t = 256 << 10, value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
    batch_bytes: u32,
}

impl Latency {
    pub(super) async fn measure(&self, client: &Client, topic: &str) -> Result<Report, Failure> {
        let producer = client
            .producer(topic)
            .linger(Duration::from_millis(u64::from(self.linger_ms)))
            .batch_bytes(self.batch_bytes as usize)
            .compression(self.common.compression.compression())
            .build()
            .await?;
        let mut meter = Meter::new(WARM_UP, self.common.duration());
        match self.rate {
            Some(rate) => self.open_loop(rate, producer, &mut meter).await?,
            None => self.closed_loop(producer, &mut meter).await?,
        }
        Ok(meter.report(self.common.record_bytes, self.settings()))
    }

    async fn open_loop(
        &self,
        rate: u64,
        producer: Producer,
        meter: &mut Meter,
    ) -> Result<(), Failure> {
        let beat = Beat::spawn(rate as f64, Instant::now(), meter.ends())?;
        let values = Values::new(self.common.record_bytes);
        let (sent, acks) = mpsc::channel(AWAITED_MAX);
        let (sender, awaited) = tokio::join!(
            at_rate(producer, values, beat, sent),
            await_all(acks, meter)
        );
        sender?;
        awaited
    }

    async fn closed_loop(&self, producer: Producer, meter: &mut Meter) -> Result<(), Failure> {
        let producer = Arc::new(producer);
        let (done, mut times) = mpsc::unbounded_channel();
        let mut loops = JoinSet::new();
        for _ in 0..self.in_flight {
            let (producer, ends, done) = (Arc::clone(&producer), meter.ends(), done.clone());
            let values = Values::new(self.common.record_bytes);
            loops.spawn(one_at_a_time(producer, values, ends, done));
        }
        drop(done);
        while let Some((begun, now)) = times.recv().await {
            meter.at(now);
            meter.count(begun, now);
        }
        while let Some(ended) = loops.join_next().await {
            ended.expect("a loop does not panic")?;
        }
        Ok(())
    }

    fn settings(&self) -> Value {
        json!({
            "load": "latency",
            "record_bytes": self.common.record_bytes,
            "seconds": self.common.seconds,
            "producers": 1,
            "partitions": self.common.partitions,
            "rate": self.rate,
            "in_flight": self.rate.is_none().then_some(self.in_flight),
            "linger_ms": self.linger_ms,
            "batch_bytes": self.batch_bytes,
            "compression": self.common.compression.name(),
        })
    }
}

async fn one_at_a_time(
    producer: Arc<Producer>,
    mut values: Values,
    ends: Instant,
    done: mpsc::UnboundedSender<(Instant, Instant)>,
) -> Result<(), ProduceError> {
    loop {
        let begun = Instant::now();
        if begun >= ends {
            return Ok(());
        }
        producer.send(Record::value(values.next())).await?.await?;
        if done.send((begun, Instant::now())).is_err() {
            return Ok(());
        }
    }
}
