//! What a node *is* at the moment of a scrape: indexes, lags, sizes, connections.
//!
//! Owns the gauges of groups, peers and the node. They live in a recorder made for the one scrape, so the gauges of a deleted topic or a lost peer are gone
//! with the next one, and nothing is spent between scrapes. Must not know the replicas: the node reads them and fills this in.

use metrics::{Label, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::table::Kind;
use super::{METADATA, Metrics, key, recorder};

/// The gauges of one scrape.
pub struct Sample<'a> {
    metrics: &'a Metrics,
    recorder: PrometheusRecorder,
}

/// Which replica's group a figure belongs to.
#[derive(Clone, Copy, Debug)]
pub struct GroupLabels<'a> {
    /// The group's number.
    pub group: u64,
    /// Its topic; `@controller` for group 0, a name no topic can have.
    pub topic: &'a str,
    /// Its partition.
    pub partition: u32,
}

/// One replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupSample {
    /// Whether the replica knows a leader of its term.
    pub has_leader: bool,
    /// Whether it is that leader.
    pub is_leader: bool,
    /// Its term.
    pub term: u64,
    /// Index of the last entry known committed, inclusive.
    pub commit_index: u64,
    /// Index of the last entry written, inclusive.
    pub last_index: u64,
    /// End offset of what is committed, exclusive.
    pub high_watermark: u64,
    /// First offset kept.
    pub log_start: u64,
    /// Changes of leader that the replica has seen since it was opened.
    pub leader_changes: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of those files.
    pub disk_bytes: u64,
}

/// How far the replica of a group on another node is behind the leader here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLag {
    /// The group's number.
    pub group: u64,
    /// Its topic, as in [`GroupLabels`].
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The other node.
    pub peer: u64,
    /// Entries it has yet to make durable.
    pub entries: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Whether it is far behind, and fed apart.
    pub catching_up: bool,
}

/// What the connection to one peer has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTotals {
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Packets declared lost.
    pub lost_packets: u64,
    /// Bytes of those packets: what had to be sent again.
    pub lost_bytes: u64,
}

/// The node as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeSample {
    /// Open connections of clients.
    pub client_connections: u64,
    /// Open connections accepted from peers.
    pub peer_connections: u64,
    /// Bytes free on the file system of the data folder.
    pub disk_free_bytes: u64,
    /// Whether acks come before the sync.
    pub acks_before_sync: bool,
    /// Replicas being repaired.
    pub groups_damaged: u64,
    /// Those among them that nobody can help.
    pub groups_halted: u64,
    /// Partitions of the cluster that are not where they shall be yet.
    pub moves_under_way: u64,
}

impl<'a> Sample<'a> {
    pub(super) fn new(metrics: &'a Metrics) -> Self {
        let sample = Self {
            metrics,
            recorder: recorder(),
        };
        let version = vec![Label::from_static_parts(
            "version",
            env!("CARGO_PKG_VERSION"),
        )];
        sample.gauge("plimsoll_build_info", version, 1);
        sample
    }

    /// One replica of this node.
    pub fn group(&self, of: GroupLabels<'_>, group: &GroupSample) {
        let figures = [
            ("plimsoll_has_leader", u64::from(group.has_leader)),
            ("plimsoll_is_leader", u64::from(group.is_leader)),
            ("plimsoll_term", group.term),
            ("plimsoll_commit_index", group.commit_index),
            ("plimsoll_last_index", group.last_index),
            ("plimsoll_high_watermark", group.high_watermark),
            ("plimsoll_log_start", group.log_start),
            ("plimsoll_segments", group.segments),
            ("plimsoll_disk_bytes", group.disk_bytes),
        ];
        for (name, value) in figures {
            self.gauge(name, group_labels(of), value);
        }
        let changes = key("plimsoll_leader_changes_total", group_labels(of), |kind| {
            matches!(kind, Kind::Counter)
        });
        let counter = self.recorder.register_counter(&changes, &METADATA);
        counter.absolute(group.leader_changes);
    }

    /// A peer of a group that this node leads.
    pub fn peer_lag(&self, lag: &PeerLag) {
        let of = GroupLabels {
            group: lag.group,
            topic: &lag.topic,
            partition: lag.partition,
        };
        for (name, value) in [
            ("plimsoll_peer_lag_entries", lag.entries),
            ("plimsoll_peer_lag_bytes", lag.bytes),
            ("plimsoll_peer_catching_up", u64::from(lag.catching_up)),
        ] {
            let mut labels = group_labels(of);
            labels.push(Label::new("peer", lag.peer.to_string()));
            self.gauge(name, labels, value);
        }
    }

    /// The connection to `peer`: its smoothed round trip in seconds, and its totals since it was opened.
    pub fn link(&self, peer: u64, rtt_seconds: f64, totals: LinkTotals) {
        let label = vec![Label::new("peer", peer.to_string())];
        let key = key("plimsoll_peer_rtt_seconds", label, |kind| {
            matches!(kind, Kind::Gauge)
        });
        self.recorder
            .register_gauge(&key, &METADATA)
            .set(rtt_seconds);
        self.metrics.advance_link(peer, totals);
    }

    /// The node as a whole.
    pub fn node(&self, node: &NodeSample) {
        for (side, connections) in [
            ("client", node.client_connections),
            ("peer", node.peer_connections),
        ] {
            let label = vec![Label::from_static_parts("side", side)];
            self.gauge("plimsoll_connections", label, connections);
        }
        self.gauge("plimsoll_disk_free_bytes", Vec::new(), node.disk_free_bytes);
        self.gauge(
            "plimsoll_acks_before_sync",
            Vec::new(),
            u64::from(node.acks_before_sync),
        );
        self.gauge("plimsoll_groups_damaged", Vec::new(), node.groups_damaged);
        self.gauge("plimsoll_groups_halted", Vec::new(), node.groups_halted);
        self.gauge("plimsoll_moves_under_way", Vec::new(), node.moves_under_way);
    }

    pub(super) fn render(&self) -> String {
        self.recorder.handle().render()
    }

    /// Values past 2^53 lose their last digits, as every Prometheus gauge does.
    fn gauge(&self, name: &'static str, labels: Vec<Label>, value: u64) {
        let key = key(name, labels, |kind| matches!(kind, Kind::Gauge));
        let gauge = self.recorder.register_gauge(&key, &METADATA);
        gauge.set(value as f64);
    }
}

fn group_labels(of: GroupLabels<'_>) -> Vec<Label> {
    vec![
        Label::new("group", of.group.to_string()),
        Label::new("topic", of.topic.to_owned()),
        Label::new("partition", of.partition.to_string()),
    ]
}
