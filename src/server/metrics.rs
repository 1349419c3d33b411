//! The metrics of a node: one registry per node, and the handles that owners keep.
//!
//! Owns a Prometheus recorder of its own for each node, so that the nodes of one process (`plimsoll dev`) do not mix their
//! figures; nothing here is global. Must not know how a value comes about: owners hand it in. On the produce and fetch walks
//! only by the handles, one atomic operation per batch.
//!
//! Every name is in [`table`]. What *happens* is counted through handles. What each group and peer *is* (indexes, lags, sizes)
//! is sampled at each scrape, in [`sample`].

pub mod sample;
pub mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use sample::{LinkTotals, Sample};
use table::{Kind, TABLE};

use crate::replica::Meters;

/// The registry of one node. Cheap to clone; all clones are the same registry.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Last totals seen of the connection to each peer: a new connection counts from zero again, our counters must not.
    links: Mutex<HashMap<u64, LinkTotals>>,
}

/// Handles of the produce and fetch walks of one topic.
#[derive(Clone)]
pub struct TopicMetrics {
    /// Records committed and acknowledged.
    pub produced_records: Counter,
    /// Payload bytes committed and acknowledged, as they came (compressed, if they came so).
    pub produced_bytes: Counter,
    /// Records in the frames sent to consumers.
    pub consumed_records: Counter,
    /// Bytes of the frames sent to consumers.
    pub consumed_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry, which knows every name of [`TABLE`].
    #[must_use]
    pub fn new() -> Self {
        let recorder = recorder();
        Self {
            shared: Arc::new(Shared {
                handle: recorder.handle(),
                recorder,
                links: Mutex::default(),
            }),
        }
    }

    /// Handles for `topic`, to be kept by whoever serves it.
    #[must_use]
    pub fn topic(&self, topic: &str) -> TopicMetrics {
        let label = || vec![Label::new("topic", topic.to_owned())];
        TopicMetrics {
            produced_records: self.counter("plimsoll_produced_records_total", label()),
            produced_bytes: self.counter("plimsoll_produced_bytes_total", label()),
            consumed_records: self.counter("plimsoll_consumed_records_total", label()),
            consumed_bytes: self.counter("plimsoll_consumed_bytes_total", label()),
        }
    }

    /// Handles for the replicas and the disk thread of the node.
    #[must_use]
    pub fn meters(&self) -> Meters {
        Meters {
            append_seconds: self.histogram("plimsoll_append_seconds"),
            sync_seconds: self.histogram("plimsoll_fsync_seconds"),
            batches_per_sync: self.histogram("plimsoll_batches_per_fsync"),
            append_bytes: self.counter("plimsoll_append_bytes_total", Vec::new()),
            catch_up_bytes: self.counter("plimsoll_catch_up_bytes_total", Vec::new()),
            installs: self.counter("plimsoll_installs_total", Vec::new()),
            commit_seconds: self.histogram("plimsoll_commit_seconds"),
            proposals_pending: self.gauge("plimsoll_proposals_pending"),
            proposals_failed: self.counter("plimsoll_proposals_failed_total", Vec::new()),
            disk_queue_bytes: self.gauge("plimsoll_disk_queue_bytes"),
            disk_full: self.gauge("plimsoll_disk_full"),
        }
    }

    /// Counts one request refused for `reason`, a word in snake_case. For the error path: looks the counter up each time.
    pub fn rejected(&self, reason: &'static str) {
        let label = vec![Label::from_static_parts("reason", reason)];
        self.counter("plimsoll_rejected_requests_total", label)
            .increment(1);
    }

    /// Counts replicas' groups that were led here and became what they shall be.
    pub fn moves_done(&self, groups: u64) {
        self.counter("plimsoll_moves_done_total", Vec::new())
            .increment(groups);
    }

    /// Counts one connection refused for `reason`, a word in snake_case.
    pub fn connection_refused(&self, reason: &'static str) {
        let label = vec![Label::from_static_parts("reason", reason)];
        self.counter("plimsoll_connections_refused_total", label)
            .increment(1);
    }

    /// Counts a log that was found damaged while in use.
    pub fn damage_found(&self) {
        self.counter("plimsoll_damage_found_total", Vec::new())
            .increment(1);
    }

    /// Counts a damaged log that is whole again.
    pub fn repaired(&self) {
        self.counter("plimsoll_repairs_total", Vec::new())
            .increment(1);
    }

    /// Counts what another node gave for a repair.
    pub fn repaired_entries(&self, entries: u64, bytes: u64) {
        self.counter("plimsoll_repaired_entries_total", Vec::new())
            .increment(entries);
        self.counter("plimsoll_repaired_bytes_total", Vec::new())
            .increment(bytes);
    }

    /// Counts what the search for damage has read.
    pub fn scrubbed(&self, bytes: u64) {
        self.counter("plimsoll_scrub_bytes_total", Vec::new())
            .increment(bytes);
    }

    /// Notes that the search for damage has read everything, at this time since 1970.
    pub fn scrub_pass(&self, unix_seconds: u64) {
        self.gauge("plimsoll_scrub_last_pass_timestamp_seconds")
            .set(unix_seconds as f64);
    }

    /// One scrape, in Prometheus text format: everything counted, and what `fill` puts into the sample.
    #[must_use]
    pub fn render(&self, fill: impl FnOnce(&Sample<'_>)) -> String {
        let sample = Sample::new(self);
        fill(&sample);
        let mut text = self.shared.handle.render();
        text.push_str(&sample.render());
        text
    }

    /// Folds recorded durations into their buckets. To be called every few seconds; without it the samples of histograms
    /// pile up until the next scrape.
    pub fn upkeep(&self) {
        self.shared.handle.run_upkeep();
    }

    /// Advances the counters of the connection to `peer` by what it counted since the last call.
    fn advance_link(&self, peer: u64, now: LinkTotals) {
        let mut links = self
            .shared
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let seen = links.insert(peer, now).unwrap_or_default();
        let seen = if now.sent_packets < seen.sent_packets {
            LinkTotals::default()
        } else {
            seen
        };
        let add = |name, now: u64, seen: u64| {
            let label = vec![Label::new("peer", peer.to_string())];
            self.counter(name, label)
                .increment(now.saturating_sub(seen));
        };
        add(
            "plimsoll_quic_sent_packets_total",
            now.sent_packets,
            seen.sent_packets,
        );
        add(
            "plimsoll_quic_sent_bytes_total",
            now.sent_bytes,
            seen.sent_bytes,
        );
        add(
            "plimsoll_quic_lost_packets_total",
            now.lost_packets,
            seen.lost_packets,
        );
        add(
            "plimsoll_quic_retransmitted_bytes_total",
            now.lost_bytes,
            seen.lost_bytes,
        );
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let key = key(name, labels, |kind| matches!(kind, Kind::Counter));
        self.shared.recorder.register_counter(&key, &METADATA)
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        let key = key(name, Vec::new(), |kind| matches!(kind, Kind::Gauge));
        self.shared.recorder.register_gauge(&key, &METADATA)
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        let key = key(name, Vec::new(), |kind| matches!(kind, Kind::Histogram(_)));
        self.shared.recorder.register_histogram(&key, &METADATA)
    }
}

static METADATA: Metadata<'static> =
    Metadata::new("plimsoll", Level::INFO, Some("plimsoll::server::metrics"));

/// The key of a metric of the table, which must have it with these labels and this kind.
fn key(name: &'static str, labels: Vec<Label>, kind: impl Fn(Kind) -> bool) -> Key {
    let metric = table::find(name);
    assert!(kind(metric.kind), "{name} is of another kind in the table");
    let as_listed = labels
        .iter()
        .map(Label::key)
        .eq(metric.labels.iter().copied());
    assert!(as_listed, "{name} has other labels in the table");
    Key::from_parts(name, labels)
}

/// A recorder that has the help and the buckets of every metric of the table, and renders those that get a value.
fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for metric in TABLE {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .expect("the table has no empty list of buckets");
        }
    }
    let recorder = builder.build_recorder();
    for metric in TABLE {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
        }
    }
    recorder
}
