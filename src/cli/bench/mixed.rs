//! `plimsoll bench mixed`: producers and consumers that follow them, at the same time.
//!
//! Owns the consumers and the clock they share with the producers: each value begins with the moment at which it was sent or due, so that
//! its way to the consumer is measured from there, as its way to the ack is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Args;
use plimsoll::client::{Client, Consumer, From, Replica};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::load::{STAMP_BYTES, stamp_of};
use super::meter::Meter;
use super::produce::settings;
use super::report::Report;
use super::send::{Room, SharedMeter, with_meter};
use super::usage::Watch;
use super::{Common, Producing, Sizes, on_own_topic};
use crate::cli::consume::replica;
use crate::cli::output::Failure;

/// Batches in flight in each partition, unless told otherwise.
const IN_FLIGHT: usize = 5;
/// How long after the last ack a consumer may take to have everything.
const TAIL_WITHIN: Duration = Duration::from_secs(30);

/// Producers and consumers that follow, at the same time: time to the ack, and time to the consumer
///
/// "latency_ms" is from when a record was sent, or due, to its ack; "tail_latency_ms" from the same moment to a consumer that follows. All
/// live in this process, and share its one thread.
#[derive(Args)]
pub(super) struct Mixed {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    producing: Producing,
    /// Consumers, each of which follows all partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    consumers: u32,
    /// Whom they read from: the leader of each partition, any replica, or the replica on one node
    #[arg(long, value_name = "leader|any|NODE", default_value = "leader", value_parser = replica)]
    replica: Replica,
}

impl Mixed {
    pub(super) async fn measure(&self, client: &Client) -> Result<Report, Failure> {
        let Common {
            record_bytes,
            record_sizes,
            ..
        } = self.common;
        if record_sizes != Sizes::Fixed || (record_bytes as usize) < STAMP_BYTES {
            return Err(Failure::Message(format!(
                "values tell when they were sent: --record-bytes must be {STAMP_BYTES} or more, and --record-sizes fixed"
            )));
        }
        on_own_topic(client, self.common.partitions, async |topic| {
            self.measure_on(client, topic).await
        })
        .await
    }

    async fn measure_on(&self, client: &Client, topic: &str) -> Result<Report, Failure> {
        let common = &self.common;
        let mut sending = self
            .producing
            .sending(common, Room::Batches(IN_FLIGHT), Some(0));
        let producers = sending.build(client, topic).await?;
        let values = common.values();
        let window = common.window();
        let begins = Instant::now();
        sending.stamps_since = Some(begins);
        let watch = Watch::start(client, topic, window.clone()).await?;
        let meter = || Arc::new(Mutex::new(Meter::new(window.clone())));
        let (acks, tail) = (meter(), meter());
        let (told, acked) = watch::channel(None);
        let mut consumers = JoinSet::new();
        for _ in 0..self.consumers {
            let consumer = client
                .consumer(topic)
                .from(From::Start)
                .replica(self.replica)
                .follow(true);
            let consumer = consumer.stream().await?;
            consumers.spawn(follow(consumer, begins, Arc::clone(&tail), acked.clone()));
        }
        let span = Instant::now()..window.end;
        let sent = sending.run(producers, values, span, &acks).await?;
        told.send_replace(Some(sent));
        while let Some(consumer) = consumers.join_next().await {
            consumer.expect("a task of ours does not panic")?;
        }
        let usage = watch.end().await;
        let mut settings = settings(common.settings("mixed"), &sending);
        settings["consumers"] = json!(self.consumers);
        let report = with_meter(&acks, |acks| Report::new(acks, &usage, settings));
        Ok(with_meter(&tail, |tail| report.with_tail(tail)))
    }
}

/// Follows until everything that was acknowledged has come.
async fn follow(
    mut consumer: Consumer,
    begins: Instant,
    meter: SharedMeter,
    mut acked: watch::Receiver<Option<u64>>,
) -> Result<(), Failure> {
    let mut seen = 0;
    let mut all = None;
    let mut until = None;
    while all.is_none_or(|all| seen < all) {
        tokio::select! {
            batch = consumer.next_batch() => {
                let Some(batch) = batch else {
                    return Err(Failure::Message("a consumer that follows came to an end".to_owned()));
                };
                let batch = batch?;
                let now = Instant::now();
                seen += batch.len() as u64;
                with_meter(&meter, |meter| {
                    for value in batch.records().filter_map(|record| record.value) {
                        if let Some(moment) = stamp_of(value) {
                            meter.count(begins + moment, now, 1, value.len() as u64);
                        }
                    }
                });
            }
            changed = acked.changed(), if all.is_none() => {
                if changed.is_err() {
                    // The producers failed, and say why.
                    return Ok(());
                }
                all = *acked.borrow();
                until = Some(tokio::time::Instant::now() + TAIL_WITHIN);
            }
            () = tokio::time::sleep_until(until.unwrap_or_else(tokio::time::Instant::now)), if until.is_some() => {
                let all = all.unwrap_or_default();
                return Err(Failure::Message(format!(
                    "{all} records were acknowledged, but a consumer got {seen} of them within {TAIL_WITHIN:?}"
                )));
            }
        }
    }
    match all {
        Some(all) if seen > all => Err(Failure::Message(format!(
            "{all} records were acknowledged, but a consumer got {seen}"
        ))),
        _ => Ok(()),
    }
}
