//! The table of every metric: name, kind, unit, labels, help.
//!
//! Owns the names. `docs/METRICS.md` is the same table for people, and a test holds the two together. Counters end in
//! `_total`, durations are in seconds and sizes in bytes, and both say so in their names.

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises, from zero at the start of the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Observations counted by upper bound, inclusive, ascending.
    Histogram(&'static [f64]),
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Full name, with prefix and unit.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Unit of the value: `seconds`, `bytes`, what is counted, or `1` for yes and no.
    pub unit: &'static str,
    /// Labels in order.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

/// From 20 us, below any fdatasync seen, to 10 s, past which something else raises the alarm.
const SECONDS: &[f64] = &[
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.003, 0.005,
    0.007_5, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];
const BATCHES: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

const GROUP: &[&str] = &["group", "topic", "partition"];
const GROUP_PEER: &[&str] = &["group", "topic", "partition", "peer"];

/// Every metric there is.
#[rustfmt::skip] // one row a line: it is a table
pub const TABLE: &[Metric] = &[
    gauge("plimsoll_build_info", "1", &["version"], "Always 1; the label says which build runs."),
    gauge("plimsoll_has_leader", "1", GROUP, "1 if the replica knows a leader of its term. Alert on 0 that lasts."),
    gauge("plimsoll_is_leader", "1", GROUP, "1 if the replica leads its group."),
    gauge("plimsoll_term", "terms", GROUP, "The replica's term."),
    gauge("plimsoll_commit_index", "entries", GROUP, "Index of the last entry known committed, inclusive."),
    gauge("plimsoll_last_index", "entries", GROUP, "Index of the last entry written here, inclusive."),
    gauge("plimsoll_high_watermark", "records", GROUP, "End offset of what is committed, exclusive: how far consumers may read."),
    gauge("plimsoll_log_start", "records", GROUP, "First offset kept."),
    gauge("plimsoll_segments", "files", GROUP, "Segment files of the replica."),
    gauge("plimsoll_disk_bytes", "bytes", GROUP, "Bytes of those files, reserved space included."),
    gauge("plimsoll_peer_lag_entries", "entries", GROUP_PEER, "On the leader: entries the peer has yet to make durable."),
    gauge("plimsoll_peer_lag_bytes", "bytes", GROUP_PEER, "On the leader: bytes the peer has yet to make durable, of what the leader knows without reading its log."),
    gauge("plimsoll_peer_catching_up", "1", GROUP_PEER, "On the leader: 1 while the peer is far behind and is fed apart from what is new."),
    gauge("plimsoll_peer_rtt_seconds", "seconds", &["peer"], "Smoothed round trip of the connection to the peer. Absent while it is down."),
    gauge("plimsoll_connections", "connections", &["side"], "Open connections accepted, by side: client or peer."),
    gauge("plimsoll_proposals_pending", "proposals", &[], "Proposals accepted by this node that wait for their commit."),
    gauge("plimsoll_disk_queue_bytes", "bytes", &[], "Bytes handed to the disk thread and not yet durable, or not yet written where acks come before the sync."),
    gauge("plimsoll_acks_before_sync", "1", &[], "1 if this node acknowledges what is not synced yet (log.durability = page-cache): a power cut may take it."),
    gauge("plimsoll_disk_full", "1", &[], "1 while the disk has no room for the log and produce is refused."),
    gauge("plimsoll_disk_free_bytes", "bytes", &[], "Bytes free on the file system of the data folder."),
    gauge("plimsoll_groups_damaged", "groups", &[], "Replicas of this node whose log is being repaired from other nodes; they take no part meanwhile."),
    gauge("plimsoll_groups_halted", "groups", &[], "Those among them of which no node has what is missing. Page on anything but 0."),
    gauge("plimsoll_scrub_last_pass_timestamp_seconds", "seconds", &[], "When the search for damage last ended a pass over all logs of this node, since 1970."),
    counter("plimsoll_scrub_bytes_total", "bytes", &[], "Bytes read in search of damage and found right."),
    counter("plimsoll_damage_found_total", "logs", &[], "Logs found damaged while they were in use, by readers or by the search."),
    counter("plimsoll_repairs_total", "logs", &[], "Damaged logs made whole with the help of other nodes."),
    counter("plimsoll_repaired_entries_total", "entries", &[], "Entries taken from other nodes for that."),
    counter("plimsoll_repaired_bytes_total", "bytes", &[], "Bytes of those."),
    gauge("plimsoll_moves_under_way", "partitions", &[], "Partitions of the cluster that are not where they shall be yet. Alert on a number that does not fall."),
    counter("plimsoll_moves_done_total", "partitions", &[], "Moves of partitions concluded while this node led them."),
    counter("plimsoll_leader_changes_total", "changes", GROUP, "Changes of leader that the replica has seen since it was opened."),
    counter("plimsoll_proposals_failed_total", "proposals", &[], "Proposals accepted and then answered with an error."),
    counter("plimsoll_append_bytes_total", "bytes", &[], "Bytes of frames written to the logs of this node."),
    counter("plimsoll_catch_up_bytes_total", "bytes", &[], "Bytes of entries and states sent by this node to peers that are far behind."),
    counter("plimsoll_installs_total", "installs", &[], "States that replicas of this node took from a leader in place of entries trimmed there."),
    counter("plimsoll_produced_records_total", "records", &["topic"], "Records committed and acknowledged by this node."),
    counter("plimsoll_produced_bytes_total", "bytes", &["topic"], "Payload bytes of those, compressed if they came so."),
    counter("plimsoll_consumed_records_total", "records", &["topic"], "Records in frames sent to consumers by this node."),
    counter("plimsoll_consumed_bytes_total", "bytes", &["topic"], "Bytes of those frames."),
    counter("plimsoll_rejected_requests_total", "requests", &["reason"], "Requests of clients answered with an error, by reason."),
    counter("plimsoll_connections_refused_total", "connections", &["reason"], "Connections refused, by reason."),
    counter("plimsoll_quic_sent_packets_total", "packets", &["peer"], "QUIC packets sent to the peer."),
    counter("plimsoll_quic_sent_bytes_total", "bytes", &["peer"], "UDP payload bytes sent to the peer."),
    counter("plimsoll_quic_lost_packets_total", "packets", &["peer"], "QUIC packets to the peer declared lost."),
    counter("plimsoll_quic_retransmitted_bytes_total", "bytes", &["peer"], "Bytes of lost packets to the peer, sent again."),
    histogram("plimsoll_append_seconds", "seconds", SECONDS, "One write of appended frames to a segment, without the sync."),
    histogram("plimsoll_fsync_seconds", "seconds", SECONDS, "One fdatasync of a segment."),
    histogram("plimsoll_commit_seconds", "seconds", SECONDS, "From a proposal's arrival at the leader to its commit."),
    histogram("plimsoll_batches_per_fsync", "batches", BATCHES, "Frames made durable by one fdatasync."),
];

/// The row of `name`.
///
/// # Panics
/// When the table has no such name: every metric is listed before it is used.
#[must_use]
pub fn find(name: &str) -> &'static Metric {
    TABLE
        .iter()
        .find(|metric| metric.name == name)
        .expect("every metric is listed in the table")
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        unit,
        labels,
        help,
    }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        unit,
        labels,
        help,
    }
}

const fn histogram(
    name: &'static str,
    unit: &'static str,
    buckets: &'static [f64],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram(buckets),
        unit,
        labels: &[],
        help,
    }
}
