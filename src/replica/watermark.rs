//! What readers may see of a group, and who leads it: owns the published numbers and the wake-up of
//! those who wait for more.
//!
//! It must not know how the numbers come about. It ends the produce walk (publication) and opens the
//! fetch walk: readers take no lock and send nothing to the loop to read a value; the writer is the
//! loop of the node, alone.

use super::sync::{Arc, AtomicU64, Notify, Ordering};
use crate::raft::{Index, NodeId, Term};

/// One publication: what a replica says about itself after a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// End offset (exclusive) of the records that are committed and on this node's disk.
    pub high_watermark: u64,
    /// Index (inclusive) up to which entries are committed and on this node's disk.
    pub applied_index: Index,
    /// Index (inclusive) of the last entry known to be committed; at least `applied_index`.
    pub commit_index: Index,
    /// First offset kept.
    pub log_start: u64,
    /// The replica's current term.
    pub term: Term,
    /// Who leads `term`, as far as this replica knows.
    pub leader: Option<NodeId>,
}

/// Read side of a replica's publication. Clones share the same numbers.
#[derive(Clone, Debug)]
pub struct Watermark {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: NodeId,
    high_watermark: AtomicU64,
    applied_index: AtomicU64,
    commit_index: AtomicU64,
    log_start: AtomicU64,
    term: AtomicU64,
    /// 0 stands for "none known"; node ids start at 1.
    leader: AtomicU64,
    /// How often `leader` moved to another node.
    leader_changes: AtomicU64,
    /// 1 once the group was closed on this node.
    closed: AtomicU64,
    /// Wakes those who wait for a higher `high_watermark`, for another leader, or for the close.
    wake: Notify,
}

impl Watermark {
    /// The publication of a replica on `node`, of which nothing is known yet.
    pub fn new(node: NodeId) -> Watermark {
        let shared = Shared {
            node,
            high_watermark: AtomicU64::new(0),
            applied_index: AtomicU64::new(0),
            commit_index: AtomicU64::new(0),
            log_start: AtomicU64::new(0),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            wake: Notify::new(),
        };
        Watermark {
            shared: Arc::new(shared),
        }
    }

    /// End offset (exclusive) of what may be read here. Never goes back.
    pub fn high_watermark(&self) -> u64 {
        // Acquire: whoever sees the mark also sees the bytes below it.
        self.shared.high_watermark.load(Ordering::Acquire)
    }

    /// Index (inclusive) of the last entry that may be read here: committed, and on this disk.
    pub fn applied_index(&self) -> Index {
        self.shared.applied_index.load(Ordering::Acquire)
    }

    /// Index (inclusive) of the last entry known to be committed.
    pub fn commit_index(&self) -> Index {
        self.shared.commit_index.load(Ordering::Acquire)
    }

    /// First offset kept.
    pub fn log_start(&self) -> u64 {
        self.shared.log_start.load(Ordering::Acquire)
    }

    /// The replica's current term.
    pub fn term(&self) -> Term {
        self.shared.term.load(Ordering::Relaxed)
    }

    /// Who leads, as far as this replica knows. A hint: it may be out of date.
    pub fn leader(&self) -> Option<NodeId> {
        match self.shared.leader.load(Ordering::Relaxed) {
            0 => None,
            node => Some(node),
        }
    }

    /// Whether this replica believes that it leads. A hint: it may be out of date.
    pub fn is_leader(&self) -> bool {
        self.shared.leader.load(Ordering::Relaxed) == self.shared.node
    }

    /// How often the known leader moved to another node since the replica opened.
    pub fn leader_changes(&self) -> u64 {
        self.shared.leader_changes.load(Ordering::Relaxed)
    }

    /// Whether the group was closed on this node: nothing will be published any more.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire) != 0
    }

    /// Waits until the high watermark is above `seen`, or the group is closed; returns the mark.
    pub async fn changed(&self, seen: u64) -> u64 {
        self.wait(|mark| mark.high_watermark() > seen).await;
        self.high_watermark()
    }

    /// Waits until somebody other than `seen` leads, or the group is closed; returns who.
    pub async fn leader_changed(&self, seen: Option<NodeId>) -> Option<NodeId> {
        self.wait(|mark| mark.leader() != seen).await;
        self.leader()
    }

    async fn wait(&self, ready: impl Fn(&Watermark) -> bool) {
        loop {
            // Registered before the look, so that a publication in between is not missed.
            let mut woken = std::pin::pin!(self.shared.wake.notified());
            woken.as_mut().enable();
            if ready(self) || self.is_closed() {
                return;
            }
            woken.await;
        }
    }

    /// Publishes `new`. For the loop alone: there is one writer per group.
    ///
    /// # Panics
    /// When a mark that may only rise would fall: what was visible would be gone (P8).
    pub(crate) fn publish(&self, new: Published) {
        let shared = &*self.shared;
        let seen = shared.high_watermark.load(Ordering::Relaxed);
        assert!(
            new.high_watermark >= seen,
            "high watermark would fall from {seen} to {}",
            new.high_watermark
        );
        let leader = new.leader.unwrap_or(0);
        let leader_before = shared.leader.swap(leader, Ordering::Relaxed);
        if leader != 0 && leader != leader_before {
            shared.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        shared.term.store(new.term, Ordering::Relaxed);
        shared.log_start.store(new.log_start, Ordering::Release);
        shared
            .commit_index
            .store(new.commit_index, Ordering::Release);
        shared
            .applied_index
            .store(new.applied_index, Ordering::Release);
        shared
            .high_watermark
            .store(new.high_watermark, Ordering::Release);
        if new.high_watermark > seen || leader != leader_before {
            shared.wake.notify_waiters();
        }
    }

    /// Says that nothing will be published any more, and wakes everybody who waits.
    pub(crate) fn close(&self) {
        self.shared.closed.store(1, Ordering::Release);
        self.shared.wake.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(high_watermark: u64, leader: Option<NodeId>) -> Published {
        Published {
            high_watermark,
            leader,
            ..Published::default()
        }
    }

    #[tokio::test]
    async fn reader_that_waits_is_woken_by_the_next_publication() {
        let watermark = Watermark::new(1);
        let reader = watermark.clone();
        let waiting = tokio::spawn(async move { reader.changed(3).await });
        tokio::task::yield_now().await;
        watermark.publish(mark(3, None));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "3 is what the reader has seen");
        watermark.publish(mark(7, None));
        assert_eq!(waiting.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn reader_that_is_behind_does_not_wait() {
        let watermark = Watermark::new(1);
        watermark.publish(mark(5, None));
        assert_eq!(watermark.changed(4).await, 5);
    }

    #[tokio::test]
    async fn close_wakes_those_who_wait() {
        let watermark = Watermark::new(1);
        let reader = watermark.clone();
        let waiting = tokio::spawn(async move { reader.changed(0).await });
        tokio::task::yield_now().await;
        watermark.close();
        assert_eq!(waiting.await.unwrap(), 0);
        assert!(watermark.is_closed());
    }

    #[tokio::test]
    async fn change_of_leader_is_told_and_counted_once() {
        let watermark = Watermark::new(1);
        watermark.publish(mark(0, Some(1)));
        assert!(watermark.is_leader());
        watermark.publish(mark(0, Some(1)));
        watermark.publish(mark(0, None));
        assert_eq!(watermark.leader_changed(Some(1)).await, None);
        watermark.publish(mark(0, Some(2)));
        assert!(!watermark.is_leader());
        assert_eq!(watermark.leader_changes(), 2);
    }

    #[test]
    #[should_panic(expected = "high watermark would fall")]
    fn high_watermark_never_falls() {
        let watermark = Watermark::new(1);
        watermark.publish(mark(5, None));
        watermark.publish(mark(4, None));
    }
}
