//! The measurements this room takes: handles given from outside, so that no name of a metric is known here.

use metrics::{Counter, Gauge, Histogram};

/// Handles the loop and the disk thread write to. The default goes nowhere.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Seconds one write of a group of frames took (no sync).
    pub append_seconds: Histogram,
    /// Seconds one fdatasync took.
    pub sync_seconds: Histogram,
    /// Frames made durable by one fdatasync.
    pub batches_per_sync: Histogram,
    /// Bytes of frames written to logs.
    pub append_bytes: Counter,
    /// Bytes of frames and states sent to peers that are far behind.
    pub catch_up_bytes: Counter,
    /// States taken from peers in place of entries.
    pub installs: Counter,
    /// Seconds from the arrival of a proposal at the loop to its answer of success.
    pub commit_seconds: Histogram,
    /// Proposals that wait for their commit, on this node.
    pub proposals_pending: Gauge,
    /// Proposals answered with an error.
    pub proposals_failed: Counter,
    /// Bytes handed to the disk thread and not yet done.
    pub disk_queue_bytes: Gauge,
    /// 1 while the disk has no room for the log, 0 otherwise.
    pub disk_full: Gauge,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            append_seconds: Histogram::noop(),
            sync_seconds: Histogram::noop(),
            batches_per_sync: Histogram::noop(),
            append_bytes: Counter::noop(),
            catch_up_bytes: Counter::noop(),
            installs: Counter::noop(),
            commit_seconds: Histogram::noop(),
            proposals_pending: Gauge::noop(),
            proposals_failed: Counter::noop(),
            disk_queue_bytes: Gauge::noop(),
            disk_full: Gauge::noop(),
        }
    }
}
