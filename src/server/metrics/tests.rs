//! The table is sound, the documentation agrees with it, and registries do not mix.

use std::collections::HashSet;

use super::sample::{GroupLabels, GroupSample, NodeSample, PeerLag};
use super::table::Metric;
use super::*;

const GROUP: GroupLabels<'static> = GroupLabels {
    group: 7,
    topic: "logs",
    partition: 3,
};

#[test]
fn names_are_unique_and_say_their_unit() {
    let mut seen = HashSet::new();
    for metric in TABLE {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is listed twice");
        assert!(name.starts_with("plimsoll_"), "{name}");
        let counted = matches!(metric.kind, Kind::Counter);
        assert_eq!(counted, name.ends_with("_total"), "{name}");
        for unit in ["seconds", "bytes"] {
            assert_eq!(metric.unit == unit, name.contains(unit), "{name}");
        }
        if let Kind::Histogram(buckets) = metric.kind {
            assert!(buckets.is_sorted_by(|a, b| a < b), "{name}");
        }
    }
}

#[test]
fn documentation_lists_exactly_the_table() {
    let page = include_str!("../../../docs/METRICS.md");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `plimsoll_"))
        .collect();
    let expected: Vec<String> = TABLE.iter().map(row).collect();
    assert_eq!(
        rows,
        expected,
        "docs/METRICS.md must hold these rows:\n{}",
        expected.join("\n")
    );
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels = metric.labels.join(", ");
    let Metric {
        name, unit, help, ..
    } = metric;
    format!("| `{name}` | {kind} | {unit} | {labels} | {help} |").replace("|  |", "| |")
}

#[test]
fn everything_in_the_table_is_rendered_once_it_has_a_value() {
    let metrics = Metrics::new();
    let topic = metrics.topic("logs");
    topic.produced_records.increment(2);
    topic.produced_bytes.increment(200);
    topic.consumed_records.increment(1);
    topic.consumed_bytes.increment(100);
    let meters = metrics.meters();
    meters.append_seconds.record(0.000_08);
    meters.sync_seconds.record(0.000_1);
    meters.batches_per_sync.record(3.0);
    meters.commit_seconds.record(0.000_4);
    meters.append_bytes.increment(4096);
    meters.proposals_pending.set(1.0);
    meters.proposals_failed.increment(1);
    meters.disk_queue_bytes.set(4096.0);
    meters.disk_full.set(0.0);
    metrics.rejected("not_leader");
    metrics.moves_done(3);
    metrics.damage_found();
    metrics.repaired();
    metrics.repaired_entries(2, 300);
    metrics.scrubbed(4096);
    metrics.scrub_pass(1_800_000_000);
    metrics.connection_refused("foreign_cluster");
    let text = metrics.render(|sample| {
        sample.group(
            GROUP,
            &GroupSample {
                is_leader: true,
                ..GroupSample::default()
            },
        );
        sample.peer_lag(&PeerLag {
            group: 7,
            topic: "logs".to_owned(),
            partition: 3,
            peer: 2,
            entries: 5,
            bytes: 4096,
            catching_up: true,
        });
        sample.link(2, 0.000_07, LinkTotals::default());
        sample.node(&NodeSample::default());
    });
    for metric in TABLE {
        let name = metric.name;
        assert!(
            text.contains(&format!("# HELP {name} {}", metric.help)),
            "{name}:\n{text}"
        );
        let typed = format!("# TYPE {name} ");
        assert_eq!(text.matches(&typed).count(), 1, "{name}:\n{text}");
    }
    assert!(text.contains("plimsoll_is_leader{group=\"7\",topic=\"logs\",partition=\"3\"} 1"));
    assert!(
        text.contains("plimsoll_fsync_seconds_bucket{le=\"0.0001\"} 1"),
        "{text}"
    );
    assert!(!text.contains("quantile="), "histograms, not summaries");
}

#[test]
fn registries_of_two_nodes_do_not_mix() {
    let (one, two) = (Metrics::new(), Metrics::new());
    one.rejected("overloaded");
    assert!(one.render(|_| ()).contains("overloaded"));
    assert!(!two.render(|_| ()).contains("overloaded"));
}

#[test]
fn gauges_of_a_deleted_topic_are_gone_from_the_next_scrape() {
    let metrics = Metrics::new();
    let before = metrics.render(|sample| sample.group(GROUP, &GroupSample::default()));
    assert!(before.contains("topic=\"logs\""));
    assert!(!metrics.render(|_| ()).contains("topic=\"logs\""));
}

#[test]
fn link_counters_go_on_rising_when_the_connection_is_new() {
    let metrics = Metrics::new();
    let totals = |packets| LinkTotals {
        sent_packets: packets,
        ..LinkTotals::default()
    };
    let scrape = |packets| metrics.render(|sample| sample.link(2, 0.001, totals(packets)));
    let counter = |text: &str, value: u64| {
        let line = format!("plimsoll_quic_sent_packets_total{{peer=\"2\"}} {value}\n");
        assert!(text.contains(&line), "{line} in\n{text}");
    };
    counter(&scrape(100), 100);
    counter(&scrape(130), 130);
    counter(&scrape(20), 150);
    counter(&scrape(25), 155);
}

#[test]
fn label_values_cannot_break_the_format() {
    let metrics = Metrics::new();
    metrics.topic("a\"b\n").produced_records.increment(1);
    let text = metrics.render(|_| ());
    assert!(text.contains("topic=\"a\\\"b\\n\""), "{text}");
}
