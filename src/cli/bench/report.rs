//! The figures of one measurement, and how they are shown.
//!
//! Owns the shape of `bench -o json`. Units: MB is a million bytes of record values, GB a thousand of those.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use serde_json::Value;

use super::usage;
use crate::cli::output::{Failure, Format, Out};

const NS_PER_MS: f64 = 1e6;
/// Longer than any delivery is waited for.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// Figures, as printed.
#[derive(Serialize)]
pub(super) struct Report {
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_s: f64,
    mb_per_s: f64,
    /// Absent where there is nothing to wait for, as when reading.
    latency_ms: Option<LatencyMs>,
    cpu_s_per_gb: Client<f64>,
    rss_bytes: Client<u64>,
    settings: Value,
}

#[derive(Serialize)]
struct LatencyMs {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// A figure of this process. Those of the nodes are in their own metrics.
#[derive(Serialize)]
struct Client<T> {
    client: T,
}

/// A measurement under way: counts what happens within its window.
pub(super) struct Meter {
    begins: Instant,
    ends: Instant,
    cpu_seconds_before: Option<f64>,
    cpu_seconds_after: Option<f64>,
    records: u64,
    latency_ns: Histogram<u64>,
}

impl Meter {
    /// Will count for `duration`, from `warm_up` after now.
    pub(super) fn new(warm_up: Duration, duration: Duration) -> Self {
        let begins = Instant::now() + warm_up;
        Self {
            begins,
            ends: begins + duration,
            cpu_seconds_before: None,
            cpu_seconds_after: None,
            records: 0,
            latency_ns: Histogram::new_with_max(LATENCY_NS_MAX, 3)
                .expect("the bounds are constant and sound"),
        }
    }

    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// Notes the time; to be called before [`count`](Self::count), and now and then.
    pub(super) fn at(&mut self, now: Instant) {
        if now >= self.begins && self.cpu_seconds_before.is_none() {
            self.cpu_seconds_before = Some(usage::cpu_seconds());
        }
        if now >= self.ends && self.cpu_seconds_after.is_none() {
            self.cpu_seconds_after = Some(usage::cpu_seconds());
        }
    }

    /// Counts a record that began at `begun` and was done at `now`. Throughput counts what was done within the window, latency
    /// what began in it, however late it was done.
    pub(super) fn count(&mut self, begun: Instant, now: Instant) {
        let window = self.begins..self.ends;
        if window.contains(&now) {
            self.records += 1;
        }
        if window.contains(&begun) {
            let latency = now.saturating_duration_since(begun);
            let ns = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
            self.latency_ns.saturating_record(ns.max(1));
        }
    }

    /// The figures, for records of `record_bytes` bytes.
    pub(super) fn report(mut self, record_bytes: u32, settings: Value) -> Report {
        self.at(self.ends);
        let seconds = (self.ends - self.begins).as_secs_f64();
        let ms = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / NS_PER_MS;
        let latency_ms = LatencyMs {
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            p999: ms(0.999),
            max: self.latency_ns.max() as f64 / NS_PER_MS,
        };
        let cpu_seconds = self.cpu_seconds_after.unwrap_or_default()
            - self.cpu_seconds_before.unwrap_or_default();
        Report::new(
            self.records,
            record_bytes,
            seconds,
            cpu_seconds,
            Some(latency_ms),
            settings,
        )
    }
}

impl Report {
    /// Figures of reading: records done in `seconds`.
    pub(super) fn of_reading(
        records: u64,
        record_bytes: u32,
        seconds: f64,
        cpu_seconds: f64,
        settings: Value,
    ) -> Self {
        Self::new(records, record_bytes, seconds, cpu_seconds, None, settings)
    }

    fn new(
        records: u64,
        record_bytes: u32,
        seconds: f64,
        cpu_seconds: f64,
        latency_ms: Option<LatencyMs>,
        settings: Value,
    ) -> Self {
        let bytes = records * u64::from(record_bytes);
        let (records_per_s, bytes_per_s) = (records as f64 / seconds, bytes as f64 / seconds);
        let gigabytes = bytes as f64 / 1e9;
        Self {
            records,
            bytes,
            seconds,
            records_per_s,
            mb_per_s: bytes_per_s / 1e6,
            latency_ms,
            cpu_s_per_gb: Client {
                client: if bytes == 0 {
                    0.0
                } else {
                    cpu_seconds / gigabytes
                },
            },
            rss_bytes: Client {
                client: usage::resident_bytes_max(),
            },
            settings,
        }
    }

    pub(super) fn print(&self, format: Format, out: &mut Out) -> Result<(), Failure> {
        if format == Format::Json {
            return out.json(self);
        }
        let per_second = HumanCount(self.records_per_s as u64);
        out.line(format!(
            "{} records in {:.2} s",
            HumanCount(self.records),
            self.seconds
        ))?;
        out.line(format!(
            "  throughput  {per_second} records/s, {:.1} MB/s",
            self.mb_per_s
        ))?;
        if let Some(LatencyMs {
            p50,
            p90,
            p99,
            p999,
            max,
        }) = &self.latency_ms
        {
            let line = format!(
                "p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3} ms"
            );
            out.line(format!("  latency     {line}"))?;
        }
        let memory = HumanBytes(self.rss_bytes.client);
        out.line(format!(
            "  client      {:.2} CPU seconds per GB, {memory} resident",
            self.cpu_s_per_gb.client
        ))?;
        out.line(format!("  settings    {}", self.settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_counts_what_was_done_in_the_window_and_latency_what_began_in_it() {
        let mut meter = Meter::new(Duration::from_secs(1), Duration::from_secs(10));
        let at = |ms: u64| meter.begins - Duration::from_secs(1) + Duration::from_millis(ms);
        let times = [
            (500, 900),
            (900, 1100),
            (1500, 1510),
            (10_900, 11_400),
            (11_200, 11_300),
        ];
        let times = times.map(|(begun, done)| (at(begun), at(done)));
        for (begun, done) in times {
            meter.count(begun, done);
        }
        assert_eq!(meter.records, 2, "done within the window");
        assert_eq!(meter.latency_ns.len(), 2, "begun within the window");
        let report = meter.report(1000, Value::Null);
        assert_eq!(report.bytes, 2000);
        let latency = report.latency_ms.unwrap();
        assert!((latency.max - 500.0).abs() < 1.0, "{}", latency.max);
        assert!((latency.p50 - 10.0).abs() < 0.1, "{}", latency.p50);
    }

    #[test]
    fn report_of_nothing_has_no_figure_that_json_cannot_hold() {
        let report = Meter::new(Duration::ZERO, Duration::from_secs(1)).report(1024, Value::Null);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"cpu_s_per_gb\":{\"client\":0.0}"), "{text}");
    }
}
