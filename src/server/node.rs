//! A node from start to stop: its threads, in the order they come up and go down.
//!
//! Owns the network thread; the disk and prepare threads belong to `replica` and `segment-store`, the admin thread to `http`. Must not
//! know requests or frames.
#![allow(clippy::todo)]

use std::time::Duration;

use super::error::{NodeFailure, StartError};
use crate::config::Config;

/// A running node. Dropping it stops it gracefully.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Locks the data directory, recovers the logs, binds the ports and joins the cluster. Returns when the node listens; it serves as
    /// soon as a majority of the cluster does the same (see `ready`).
    ///
    /// # Errors
    /// `StartError`, which says what to do; nothing is left running.
    pub fn start(config: Config) -> Result<Node, StartError> {
        drop(config);
        todo!()
    }

    /// Whether the node takes part: the controller has a leader, and every group that belongs here is open and knows its leader.
    pub fn ready(&self) -> bool {
        todo!()
    }

    /// Waits until `ready`, at most `limit`; says whether it is.
    pub fn wait_ready(&self, limit: Duration) -> bool {
        let _ = limit;
        todo!()
    }

    /// Asks for a graceful stop and returns at once: leaderships go to other nodes, logs are synced, connections closed. Asking twice is
    /// harmless.
    pub fn stop(&self) {
        todo!()
    }

    /// Blocks until the node has stopped, after `stop` or by a failure of its own.
    ///
    /// # Errors
    /// `NodeFailure` when nobody asked it to stop. The process should end with status 1.
    pub fn wait(&self) -> Result<(), NodeFailure> {
        todo!()
    }
}
