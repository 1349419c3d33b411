//! The figures of one measurement, and how they are shown.
//!
//! Owns the shape of `bench -o json`. Units: MB is a million bytes of record values, GB a thousand of those.

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use serde_json::Value;

use super::meter::Meter;
use super::usage::{NodeProcess, Usage};
use crate::cli::output::{Failure, Format, Out};

const NS_PER_MS: f64 = 1e6;

/// Figures, as printed.
#[derive(Serialize)]
pub(super) struct Report {
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_s: f64,
    mb_per_s: f64,
    /// Absent where there is nothing to wait for, as when reading from the start.
    pub(super) latency_ms: Option<LatencyMs>,
    /// From when a record was sent, or due, to a consumer that follows; where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    tail_latency_ms: Option<LatencyMs>,
    cpu_s_per_gb: Cpu,
    rss_bytes: Rss,
    settings: Value,
}

/// Milliseconds.
#[derive(Clone, Copy, Serialize)]
pub(super) struct LatencyMs {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// CPU seconds, user and system, within the window, for each GB done in it.
#[derive(Serialize)]
struct Cpu {
    client: f64,
    /// Absent unless one node leads all partitions and has a process of its own.
    leader: Option<f64>,
    /// All of them together; absent as `leader` is.
    followers: Option<f64>,
    /// All nodes together.
    nodes: f64,
    processes: Vec<ProcessCpu>,
}

#[derive(Serialize)]
struct ProcessCpu {
    nodes: Vec<u64>,
    leads: u32,
    cpu_s_per_gb: f64,
}

/// The most resident memory seen within the window, page cache apart.
#[derive(Serialize)]
struct Rss {
    client: u64,
    /// Absent as in [`Cpu`].
    leader: Option<u64>,
    /// The largest of them.
    followers: Option<u64>,
    /// All processes of nodes together.
    nodes: u64,
    processes: Vec<ProcessRss>,
}

#[derive(Serialize)]
struct ProcessRss {
    nodes: Vec<u64>,
    anonymous: u64,
    page_cache: u64,
}

impl LatencyMs {
    fn of(latency_ns: &Histogram<u64>) -> Self {
        let ms = |quantile| latency_ns.value_at_quantile(quantile) as f64 / NS_PER_MS;
        Self {
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            p999: ms(0.999),
            max: latency_ns.max() as f64 / NS_PER_MS,
        }
    }

    fn line(&self) -> String {
        let Self {
            p50,
            p90,
            p99,
            p999,
            max,
        } = self;
        format!("p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3} ms")
    }
}

impl Report {
    pub(super) fn new(meter: &Meter, usage: &Usage, settings: Value) -> Self {
        let seconds = meter.seconds();
        let (records, bytes) = (meter.records, meter.bytes);
        let latency_ns = &meter.latency_ns;
        Self {
            records,
            bytes,
            seconds,
            records_per_s: records as f64 / seconds,
            mb_per_s: bytes as f64 / seconds / 1e6,
            latency_ms: (!latency_ns.is_empty()).then(|| LatencyMs::of(latency_ns)),
            tail_latency_ms: None,
            cpu_s_per_gb: Cpu::new(usage, bytes),
            rss_bytes: Rss::new(usage),
            settings,
        }
    }

    /// Puts beside it how long records took to reach those who follow.
    pub(super) fn with_tail(self, tail: &Meter) -> Self {
        Self {
            tail_latency_ms: Some(LatencyMs::of(&tail.latency_ns)),
            ..self
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
        if let Some(latency) = &self.latency_ms {
            out.line(format!("  latency     {}", latency.line()))?;
        }
        if let Some(tail) = &self.tail_latency_ms {
            out.line(format!("  to tail     {}", tail.line()))?;
        }
        self.print_usage(out)?;
        out.line(format!("  settings    {}", self.settings))
    }

    fn print_usage(&self, out: &mut Out) -> Result<(), Failure> {
        let (cpu, rss) = (&self.cpu_s_per_gb, &self.rss_bytes);
        out.line(format!(
            "  client      {:.2} CPU seconds per GB, {} resident",
            cpu.client,
            HumanBytes(rss.client)
        ))?;
        for (process, memory) in cpu.processes.iter().zip(&rss.processes) {
            let nodes: Vec<String> = process.nodes.iter().map(u64::to_string).collect();
            let who = match (&nodes[..], process.leads) {
                ([node], 0) => format!("node {node}"),
                ([node], leads) => format!("node {node}, leads {leads}"),
                (several, _) => format!("nodes {}, in one process", several.join(" ")),
            };
            out.line(format!(
                "  nodes       {:.2} CPU seconds per GB, {} resident, {} of page cache mapped ({who})",
                process.cpu_s_per_gb,
                HumanBytes(memory.anonymous),
                HumanBytes(memory.page_cache)
            ))?;
        }
        Ok(())
    }
}

impl Cpu {
    fn new(usage: &Usage, bytes: u64) -> Self {
        let per_gb = |seconds: f64| match bytes {
            0 => 0.0,
            bytes => seconds / (bytes as f64 / 1e9),
        };
        let of = |process: &NodeProcess| per_gb(process.used.cpu_seconds);
        let (leader, followers) = usage.by_role().unzip();
        let processes = usage.processes.iter().map(|process| ProcessCpu {
            nodes: process.nodes.clone(),
            leads: process.leads,
            cpu_s_per_gb: of(process),
        });
        Self {
            client: per_gb(usage.client.cpu_seconds),
            leader: leader.map(of),
            followers: followers.map(|others| others.into_iter().map(of).sum()),
            nodes: usage.processes.iter().map(of).sum(),
            processes: processes.collect(),
        }
    }
}

impl Rss {
    fn new(usage: &Usage) -> Self {
        let of = |process: &NodeProcess| process.used.anonymous_bytes;
        let (leader, followers) = usage.by_role().unzip();
        let largest = |others: Vec<&NodeProcess>| others.into_iter().map(of).max();
        let processes = usage.processes.iter().map(|process| ProcessRss {
            nodes: process.nodes.clone(),
            anonymous: of(process),
            page_cache: process.used.file_bytes,
        });
        Self {
            client: usage.client.anonymous_bytes,
            leader: leader.map(of),
            followers: followers.and_then(largest),
            nodes: usage.processes.iter().map(of).sum(),
            processes: processes.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::cli::bench::usage::Used;

    #[test]
    fn report_of_nothing_has_no_figure_that_json_cannot_hold() {
        let now = Instant::now();
        let meter = Meter::new(now..now + Duration::from_secs(1));
        let report = Report::new(&meter, &Usage::default(), Value::Null);
        let report = serde_json::to_value(&report).unwrap();
        assert_eq!(report["cpu_s_per_gb"]["client"], json!(0.0));
        assert_eq!(report["cpu_s_per_gb"]["leader"], Value::Null);
        assert_eq!(report["latency_ms"], Value::Null);
        assert!(report.get("tail_latency_ms").is_none());
    }

    #[test]
    fn report_tells_leader_and_followers_apart() {
        let now = Instant::now();
        let mut meter = Meter::new(now..now + Duration::from_secs(1));
        meter.count(now, now, 2_000_000, 2_000_000_000);
        let process = |node, leads, cpu_seconds, anonymous_bytes| NodeProcess {
            nodes: vec![node],
            leads,
            used: Used {
                cpu_seconds,
                anonymous_bytes,
                ..Used::default()
            },
        };
        let usage = Usage {
            client: Used::default(),
            processes: vec![
                process(1, 0, 2.0, 10),
                process(2, 1, 4.0, 30),
                process(3, 0, 1.0, 20),
            ],
        };
        let report = serde_json::to_value(Report::new(&meter, &usage, Value::Null)).unwrap();
        let (cpu, rss) = (&report["cpu_s_per_gb"], &report["rss_bytes"]);
        assert_eq!(cpu["leader"], json!(2.0));
        assert_eq!(cpu["followers"], json!(1.5));
        assert_eq!(cpu["nodes"], json!(3.5));
        assert_eq!(rss["leader"], json!(30));
        assert_eq!(rss["followers"], json!(20));
        assert_eq!(rss["nodes"], json!(60));
    }
}
