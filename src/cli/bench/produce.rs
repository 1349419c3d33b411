//! `plimsoll bench produce`: how many records the cluster acknowledges.
//!
//! Owns the load of producers: closed loop, in which each sends as fast as its window lets it, or open loop at a rate. Every ack
//! of every record is awaited.

use std::time::{Duration, Instant};

use clap::Args;
use plimsoll::client::{Client, Delivery, ProduceError, Producer, Record};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::load::{Beat, Values};
use super::report::{Meter, Report};
use super::{Common, WARM_UP};
use crate::cli::output::Failure;

/// Acks awaited at a time, over all producers.
const AWAITED_MAX: usize = 1 << 17;
/// Bytes a producer may have waiting for acks: enough to fill the pipe, no more, as a queue only adds to the latency.
const BUFFER_BYTES: usize = 8 << 20;
/// Records that share one reading of the clock, in a closed loop.
const CLOCK_EVERY: u32 = 16;

/// Throughput of acknowledged records, as many as the cluster takes or at a given rate
#[derive(Args)]
pub(super) struct Produce {
    #[command(flatten)]
    pub(super) common: Common,
    /// Producers at work at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    producers: u32,
    /// Records per second of all producers together; as fast as the acks allow if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// Batches on their way at once, per partition and producer
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=5))]
    in_flight: u8,
    /// Time a batch waits for company
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    linger_ms: u32,
    /// Size at which a batch is sent at once; 1 for batches of one record
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
    batch_bytes: u32,
}

/// A record whose ack is awaited.
type Sent = (Instant, Delivery);

impl Produce {
    pub(super) async fn measure(&self, client: &Client, topic: &str) -> Result<Report, Failure> {
        let mut producers = Vec::new();
        for _ in 0..self.producers {
            producers.push(self.producer(client, topic).await?);
        }
        let mut meter = Meter::new(WARM_UP, self.common.duration());
        let ends = meter.ends();
        let (sent, acks) = mpsc::channel(AWAITED_MAX);
        let mut senders = tokio::task::JoinSet::new();
        for producer in producers {
            let values = Values::new(self.common.record_bytes);
            let beat = self.beat(ends)?;
            let sent = sent.clone();
            senders.spawn(async move {
                match beat {
                    Some(beat) => at_rate(producer, values, beat, sent).await,
                    None => at_full_speed(producer, values, ends, sent).await,
                }
            });
        }
        drop(sent);
        await_all(acks, &mut meter).await?;
        while let Some(sender) = senders.join_next().await {
            sender.expect("a sender does not panic")?;
        }
        Ok(meter.report(self.common.record_bytes, self.settings()))
    }

    async fn producer(&self, client: &Client, topic: &str) -> Result<Producer, Failure> {
        let builder = client
            .producer(topic)
            .linger(Duration::from_millis(u64::from(self.linger_ms)))
            .batch_bytes(self.batch_bytes as usize)
            .in_flight(usize::from(self.in_flight))
            .buffer_bytes(BUFFER_BYTES)
            .compression(self.common.compression.compression());
        Ok(builder.build().await?)
    }

    /// Each producer's share of the rate.
    fn beat(&self, ends: Instant) -> std::io::Result<Option<Beat>> {
        let share = |rate: u64| rate as f64 / f64::from(self.producers);
        self.rate
            .map(|rate| Beat::spawn(share(rate), Instant::now(), ends))
            .transpose()
    }

    fn settings(&self) -> Value {
        json!({
            "load": "produce",
            "record_bytes": self.common.record_bytes,
            "seconds": self.common.seconds,
            "producers": self.producers,
            "partitions": self.common.partitions,
            "rate": self.rate,
            "in_flight": self.in_flight,
            "linger_ms": self.linger_ms,
            "batch_bytes": self.batch_bytes,
            "compression": self.common.compression.name(),
        })
    }
}

/// Closed loop: the next record as soon as there is room for it. Records share a reading of the clock with some before them, so that
/// their latency is, if anything, told too long.
pub(super) async fn at_full_speed(
    producer: Producer,
    mut values: Values,
    ends: Instant,
    sent: mpsc::Sender<Sent>,
) -> Result<(), ProduceError> {
    loop {
        let now = Instant::now();
        if now >= ends {
            return producer.close().await;
        }
        for _ in 0..CLOCK_EVERY {
            let delivery = producer.send(Record::value(values.next())).await?;
            if sent.send((now, delivery)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Open loop: each record when it is due, and its time runs from then.
pub(super) async fn at_rate(
    producer: Producer,
    mut values: Values,
    mut beat: Beat,
    sent: mpsc::Sender<Sent>,
) -> Result<(), ProduceError> {
    while let Some(due) = beat.next().await {
        let delivery = producer.send(Record::value(values.next())).await?;
        if sent.send((due, delivery)).await.is_err() {
            return Ok(());
        }
    }
    producer.close().await
}

/// Awaits every ack and counts it. A record that is not acknowledged ends the measurement: its figures would be worth nothing.
pub(super) async fn await_all(
    mut acks: mpsc::Receiver<Sent>,
    meter: &mut Meter,
) -> Result<(), Failure> {
    let mut burst = Vec::with_capacity(1024);
    while acks.recv_many(&mut burst, 1024).await > 0 {
        for (begun, delivery) in burst.drain(..) {
            delivery.await?;
            let now = Instant::now();
            meter.at(now);
            meter.count(begun, now);
        }
    }
    Ok(())
}
