//! The end of the loop: leaderships go to others, the disk finishes its work, the groups close.
//!
//! Owns how long that may take. It must not know why the node stops.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::effects::Input;
use super::jobs::DiskJob;
use super::run::NodeLoop;
use super::running::Running;
use crate::raft::{NodeId, Role};
use crate::wire::ApiError;

/// How long a stopping node waits for others to take its leaderships.
const HAND_OVER: Duration = Duration::from_millis(1_500);

/// A stop under way.
pub(super) struct Stopping {
    done: oneshot::Sender<()>,
    pub(super) deadline: Instant,
}

impl NodeLoop {
    /// Asks the best peer of every group led here to take over.
    pub(super) fn on_shutdown(&mut self, done: oneshot::Sender<()>) {
        if self.stopping.is_some() {
            return;
        }
        let deadline = Instant::now() + HAND_OVER;
        self.stopping = Some(Stopping { done, deadline });
        let led = self.running.iter().filter_map(|(group, running)| {
            let status = running.replica.status();
            let voters = status.voters;
            let peers = status.peers.into_iter();
            let best = peers
                .filter(|peer| voters.contains(&peer.node))
                .max_by_key(|peer| peer.match_index)?;
            Some((*group, best.node))
        });
        let led: Vec<(u64, NodeId)> = led.collect();
        for (group, to) in led {
            // No caller waits under this token.
            let token = u64::MAX;
            self.input(group, Input::Transfer { token, to });
        }
    }

    /// Whether the node stops and nothing is led here any more, or that took too long.
    pub(super) fn has_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else {
            return false;
        };
        let leads = |running: &Running| {
            let raft = running.replica.raft();
            raft.role() == Role::Leader && raft.membership().1.voters.len() > 1
        };
        Instant::now() >= stopping.deadline || !self.running.values().any(leads)
    }

    /// Finishes the disk's work and closes every group.
    pub(super) async fn close(mut self) {
        let mut closed = Vec::new();
        let mut jobs = Vec::new();
        for (group, mut running) in self.running.drain() {
            running.fail_callers(&ApiError::ShuttingDown, &self.config.meters);
            running.watermark.close();
            let (done, told) = oneshot::channel();
            jobs.push(DiskJob::Close { group, done });
            closed.push(told);
        }
        self.disk.submit(jobs);
        for told in closed {
            // An error means that the group is closed, too: the thread has ended.
            let _ = told.await;
        }
        // Joins the thread, whose queue is empty; then lets go of the folder, so that whoever is told
        // can open it again.
        drop(self.disk);
        drop(self.config);
        if let Some(stopping) = self.stopping {
            // Who asked may have given up waiting.
            let _ = stopping.done.send(());
        }
    }
}
