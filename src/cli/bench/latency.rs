//! `plimsoll bench latency`: how long an ack takes.
//!
//! Owns the load that is light on purpose: so many records in flight, each sent when one before it is acknowledged, or a rate; and the
//! sweep over several rates, with its plot.

use std::path::PathBuf;

use clap::Args;
use plimsoll::client::Client;

use super::plot::{Plot, Point};
use super::produce::settings;
use super::report::Report;
use super::send::Room;
use super::{Common, Producing, on_own_topic, produce};
use crate::cli::output::Failure;

/// Time from sending a record to its ack, few in flight or at a given rate, or at one rate after another
///
/// With --rates it measures each of them on a topic of its own and prints a report for each; with -o json, one a line.
#[derive(Args)]
pub(super) struct Latency {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    producing: Producing,
    /// Records per second, one rate after another
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', conflicts_with_all = ["rate", "in_flight"], value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rates: Vec<u64>,
    /// Draw latency against rate into this file, as SVG
    #[arg(long, value_name = "FILE", requires = "rates")]
    plot: Option<PathBuf>,
}

impl Latency {
    /// Hands each report over as soon as it is there.
    pub(super) async fn measure_all(
        &self,
        client: &Client,
        mut show: impl FnMut(&Report) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.rates.is_empty() {
            return show(&self.measure(client, self.producing.rate).await?);
        }
        // Now rather than after all measurements.
        let file = self.plot.as_ref().map(Plot::create).transpose()?;
        let mut points = Vec::new();
        for rate in &self.rates {
            let report = self.measure(client, Some(*rate)).await?;
            show(&report)?;
            if let Some(latency) = report.latency_ms {
                points.push(Point {
                    rate: *rate as f64,
                    latency,
                });
            }
        }
        match file {
            Some(file) => file.draw(&points, &self.title()),
            None => Ok(()),
        }
    }

    async fn measure(&self, client: &Client, rate: Option<u64>) -> Result<Report, Failure> {
        let common = &self.common;
        let mut sending = self.producing.sending(common, Room::Records(1), Some(0));
        sending.rate = rate;
        let settings = settings(common.settings("latency"), &sending);
        on_own_topic(client, common.partitions, async |topic| {
            produce::measure(client, topic, common, &sending, settings).await
        })
        .await
    }

    fn title(&self) -> String {
        let Common {
            record_bytes,
            partitions,
            seconds,
            ..
        } = self.common;
        let partitions = match partitions {
            1 => "1 partition".to_owned(),
            several => format!("{several} partitions"),
        };
        format!("Time to ack, records of {record_bytes} bytes, {partitions}, {seconds} s a rate")
    }
}
