//! `plimsoll bench produce`: how many records the cluster acknowledges.
//!
//! Owns the measurement of producers alone, which `latency` shares with other settings.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Args;
use plimsoll::client::Client;
use serde_json::{Value, json};

use super::meter::Meter;
use super::report::Report;
use super::send::{Room, Sending, with_meter};
use super::usage::Watch;
use super::{Common, Producing, on_own_topic};
use crate::cli::output::Failure;

/// Batches in flight in each partition, unless told otherwise: as the client has it.
const IN_FLIGHT: usize = 5;

/// Throughput of acknowledged records, as many as the cluster takes or at a given rate
///
/// One record for each batch, with a thousand in flight: --batch-bytes 1 --linger-ms 0 --in-flight 1000
#[derive(Args)]
pub(super) struct Produce {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    producing: Producing,
}

impl Produce {
    pub(super) async fn measure(&self, client: &Client) -> Result<Report, Failure> {
        let common = &self.common;
        let sending = self
            .producing
            .sending(common, Room::Batches(IN_FLIGHT), None);
        let settings = settings(common.settings("produce"), &sending);
        on_own_topic(client, common.partitions, async |topic| {
            measure(client, topic, common, &sending, settings).await
        })
        .await
    }
}

/// Measures producers at work, without anybody who reads.
pub(super) async fn measure(
    client: &Client,
    topic: &str,
    common: &Common,
    sending: &Sending,
    settings: Value,
) -> Result<Report, Failure> {
    let producers = sending.build(client, topic).await?;
    let values = common.values();
    let window = common.window();
    let watch = Watch::start(client, topic, window.clone()).await?;
    let meter = Arc::new(Mutex::new(Meter::new(window.clone())));
    let span = Instant::now()..window.end;
    sending.run(producers, values, span, &meter).await?;
    let usage = watch.end().await;
    Ok(with_meter(&meter, |meter| {
        Report::new(meter, &usage, settings)
    }))
}

/// Puts beside the settings what producers were told.
pub(super) fn settings(mut common: Value, sending: &Sending) -> Value {
    let in_flight = match (sending.rate, sending.room) {
        (Some(_), _) => Value::Null,
        (None, Room::Batches(batches)) => json!(batches),
        (None, Room::Records(records)) => json!(records),
    };
    common["producers"] = json!(sending.producers);
    common["rate"] = json!(sending.rate);
    common["in_flight"] = in_flight;
    common["linger_ms"] = json!(sending.linger.map(|linger| linger.as_millis() as u64));
    common["batch_bytes"] = json!(sending.batch_bytes);
    common
}
