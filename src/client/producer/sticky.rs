//! Where records without a key go: to one partition until its batch is full, so that batches are large, and then on.
//!
//! Owns that choice, and the count of what waits for each partition, which it goes by. On the produce walk, first step. Knows nothing of batches and
//! connections.
//!
//! Turn about alone would have all that the producer may hold gather at a partition that nobody leads, until it could send to none.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Shared by all who send and by all lanes. Its numbers steer; no data is passed on by them, so their order in memory does not matter.
#[derive(Debug)]
pub(super) struct Sticky {
    now: AtomicU32,
    /// Bytes of batches that take no more records and are not settled, by partition.
    waiting: Vec<AtomicUsize>,
    total: AtomicUsize,
}

impl Sticky {
    pub(super) fn new(partitions: u32) -> Self {
        Self {
            now: AtomicU32::new(0),
            waiting: (0..partitions).map(|_| AtomicUsize::new(0)).collect(),
            total: AtomicUsize::new(0),
        }
    }

    /// The partition that records without a key go to now.
    pub(super) fn partition(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// A batch of `partition` takes no more records: if it was the one that is filled, the next one is elsewhere.
    pub(super) fn sealed(&self, partition: u32, bytes: usize) {
        self.waiting[partition as usize].fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
        if self.partition() == partition {
            let (next, order) = (self.after(partition), Ordering::Relaxed);
            // Unless another thread has moved it on already.
            let _ = self.now.compare_exchange(partition, next, order, order);
        }
    }

    /// Batches of `partition` that were sealed are acked or have failed.
    pub(super) fn settled(&self, partition: u32, bytes: usize) {
        self.waiting[partition as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// In turn, but not to one for which more waits than for all others together.
    fn after(&self, partition: u32) -> u32 {
        let next = (partition + 1) % self.waiting.len() as u32;
        let total = self.total.load(Ordering::Relaxed);
        let takes_more = |candidate: &u32| {
            let waiting = self.waiting[*candidate as usize].load(Ordering::Relaxed);
            waiting <= total.saturating_sub(waiting)
        };
        (next..self.waiting.len() as u32)
            .chain(0..next)
            .find(takes_more)
            // All that waits is for the only one, or the numbers change meanwhile.
            .unwrap_or(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seals a batch of 100 bytes wherever records go now, so many times; says where that was.
    fn fill(sticky: &Sticky, batches: usize) -> Vec<u32> {
        let fill_one = |_| {
            let partition = sticky.partition();
            sticky.sealed(partition, 100);
            partition
        };
        (0..batches).map(fill_one).collect()
    }

    #[test]
    fn partitions_that_take_alike_take_turns() {
        let sticky = Sticky::new(3);
        assert_eq!(fill(&sticky, 7), [0, 1, 2, 0, 1, 2, 0]);

        let acked_at_once = Sticky::new(3);
        for expected in [0, 1, 2, 0] {
            assert_eq!(fill(&acked_at_once, 1), [expected]);
            acked_at_once.settled(expected, 100);
        }
    }

    #[test]
    fn partition_that_takes_nothing_never_gets_more_than_half_of_what_waits() {
        let sticky = Sticky::new(3);
        let mut waiting = [0; 3];
        // Nothing ever becomes of what is for partition 1; the others ack whatever is over 1,000 bytes.
        for _ in 0..500 {
            for partition in fill(&sticky, 1) {
                waiting[partition as usize] += 100;
            }
            for partition in [0, 2] {
                if waiting[partition] > 1_000 {
                    waiting[partition] -= 100;
                    sticky.settled(partition as u32, 100);
                }
            }
        }
        assert_eq!(waiting[0] + waiting[2], 2_000, "they were kept busy");
        // As much as the others ever had while it was decided, and one batch.
        assert!(waiting[1] <= 2_200, "{waiting:?}");

        sticky.settled(1, waiting[1]);
        assert!(fill(&sticky, 3).contains(&1), "it is there again");
    }

    #[test]
    fn batch_that_is_sealed_elsewhere_moves_nothing_and_counts() {
        let sticky = Sticky::new(3);
        // Records with keys filled them, or such that name their partition.
        for _ in 0..2 {
            sticky.sealed(1, 100);
        }
        assert_eq!(fill(&sticky, 4), [0, 2, 0, 1]);
    }

    #[test]
    fn single_partition_gets_everything() {
        let sticky = Sticky::new(1);
        assert_eq!(fill(&sticky, 3), [0, 0, 0]);
    }
}
