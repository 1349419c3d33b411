//! Deduplication: which batches of which producer are in the log, so that a retry is recognised.
//!
//! Owns the last batches of each producer, in log order: those committed (the state, a function of the
//! committed log alone) and those appended after (dropped again when the log is truncated). It must not
//! know of terms, tickets or time: nothing here expires by the clock. It is the second step of the
//! produce walk.
//!
//! Sequences count records, from 0 for each epoch of a producer, without gaps. The rule is Kafka's: a
//! batch must start where the one before ended, unless it is one of the last batches again.

use std::collections::{BTreeMap, HashMap, VecDeque};

use segment_store::Frame;

use super::snapshot::{BatchRow, ProducerRow};
use crate::raft::Index;
use crate::wire::BatchHead;

/// Committed batches remembered per producer, while few producers share a group; a producer may have this many in flight and
/// still retry every one of them.
pub const PRODUCER_WINDOW_BATCHES: usize = 1024;

/// Committed batches remembered of every producer, however many there are.
const PRODUCER_WINDOW_BATCHES_MIN: usize = 32;

/// Batches that the producers of a group share: with more than 128 of them, each has a smaller window.
const WINDOWS_BATCHES: usize = 131_072;

/// Producers remembered per group. Past it, the one whose last commit is the oldest in the log is
/// forgotten: the same one on every replica.
pub const PRODUCERS_MAX: usize = 4096;

/// Who sent a batch, and where it stands in that producer's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The producer; never 0 here (0 on the wire means: do not deduplicate).
    pub(crate) producer_id: u64,
    /// Fencing: a higher epoch shuts out the lower ones.
    pub(crate) epoch: u32,
    /// Sequence of the first record.
    pub(crate) first_sequence: u64,
    /// Records in the batch, at least 1.
    pub(crate) record_count: u32,
}

impl Stamp {
    /// The stamp of a batch; `None` if it asks not to be deduplicated.
    pub(crate) fn of(head: &BatchHead, record_count: u32) -> Option<Stamp> {
        (head.producer_id != 0).then_some(Stamp {
            producer_id: head.producer_id,
            epoch: head.producer_epoch,
            first_sequence: head.first_sequence,
            record_count,
        })
    }
}

/// What to do with a batch that asks to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one: append it.
    New,
    /// It is in the log at `index` already; the answer is `base_offset`, once `index` is committed.
    Duplicate {
        /// Index of the original.
        index: Index,
        /// First offset of the original.
        base_offset: u64,
    },
    /// It does not follow what is in the log; `expected` does.
    OutOfOrder {
        /// First sequence of the batch that would be accepted.
        expected: u64,
    },
    /// A newer epoch of this producer was seen.
    Fenced {
        /// That newer epoch.
        epoch: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    index: Index,
    epoch: u32,
    record_count: u32,
    first_sequence: u64,
    base_offset: u64,
}

impl Batch {
    fn next_sequence(&self) -> u64 {
        self.first_sequence
            .saturating_add(u64::from(self.record_count))
    }
}

/// One producer: batches in log order; the first `committed` of them are committed.
#[derive(Debug, Default)]
struct Producer {
    batches: VecDeque<Batch>,
    committed: usize,
}

impl Producer {
    /// Index of the last committed batch.
    fn last_committed(&self) -> Option<Index> {
        let at = self.committed.checked_sub(1)?;
        Some(self.batches[at].index)
    }

    /// Forgets committed batches that no retry may refer to: of older epochs, and beyond the window.
    fn prune(&mut self, window: usize) {
        let Some(at) = self.committed.checked_sub(1) else {
            return;
        };
        let epoch = self.batches[at].epoch;
        while self.committed > window || self.batches[0].epoch < epoch {
            self.batches.pop_front();
            self.committed -= 1;
        }
    }
}

/// Committed batches remembered of each of `producers`. A function of the committed log, as all of the state is.
fn window(producers: usize) -> usize {
    (WINDOWS_BATCHES / producers.max(1)).clamp(PRODUCER_WINDOW_BATCHES_MIN, PRODUCER_WINDOW_BATCHES)
}

/// The producers of one group.
#[derive(Debug)]
pub(crate) struct Producers {
    producers: HashMap<u64, Producer>,
    /// Appended and not yet committed, in log order: (index, producer id).
    uncommitted: VecDeque<(Index, u64)>,
    /// Index of a producer's last committed batch -> its id. The eviction order.
    by_last_commit: BTreeMap<Index, u64>,
    producers_max: usize,
}

impl Producers {
    /// Nobody known.
    pub(crate) fn new() -> Producers {
        Producers::with_limit(PRODUCERS_MAX)
    }

    fn with_limit(producers_max: usize) -> Producers {
        Producers {
            producers: HashMap::new(),
            uncommitted: VecDeque::new(),
            by_last_commit: BTreeMap::new(),
            producers_max,
        }
    }

    /// Judges a batch against all that is in the log here, committed or not.
    pub(crate) fn check(&self, stamp: &Stamp) -> Verdict {
        let known = self.producers.get(&stamp.producer_id);
        let Some(last) = known.and_then(|producer| producer.batches.back()) else {
            return Self::expect_sequence(stamp, 0);
        };
        if stamp.epoch < last.epoch {
            return Verdict::Fenced { epoch: last.epoch };
        }
        if stamp.epoch > last.epoch {
            return Self::expect_sequence(stamp, 0);
        }
        let expected = last.next_sequence();
        if stamp.first_sequence == expected {
            return Verdict::New;
        }
        // Sequences of an epoch ascend in the log, and so do epochs.
        let batches = known.map(|producer| &producer.batches);
        let original = batches.and_then(|batches| {
            let wanted = (stamp.epoch, stamp.first_sequence);
            let at = batches.partition_point(|batch| (batch.epoch, batch.first_sequence) < wanted);
            let found = batches.get(at)?;
            let same = (found.epoch, found.first_sequence, found.record_count)
                == (stamp.epoch, stamp.first_sequence, stamp.record_count);
            same.then_some(found)
        });
        match original {
            Some(batch) => Verdict::Duplicate {
                index: batch.index,
                base_offset: batch.base_offset,
            },
            None => Verdict::OutOfOrder { expected },
        }
    }

    fn expect_sequence(stamp: &Stamp, expected: u64) -> Verdict {
        if stamp.first_sequence == expected {
            Verdict::New
        } else {
            Verdict::OutOfOrder { expected }
        }
    }

    /// Notes a batch that was appended at `index`, which is above every index noted before.
    pub(crate) fn appended(&mut self, index: Index, base_offset: u64, stamp: &Stamp) {
        let producer = self.producers.entry(stamp.producer_id).or_default();
        note(&mut self.uncommitted, producer, index, base_offset, stamp);
    }

    /// Notes the batches of `frames`, which were appended: all of one producer, whose stamp of the first is `stamp`.
    pub(crate) fn appended_run(&mut self, mut stamp: Stamp, frames: &[Frame]) {
        let producer = self.producers.entry(stamp.producer_id).or_default();
        for frame in frames {
            let header = frame.header();
            let (index, base_offset) = (header.index, header.base_offset);
            stamp.record_count = header.record_count;
            note(&mut self.uncommitted, producer, index, base_offset, &stamp);
            stamp.first_sequence += u64::from(header.record_count);
        }
    }

    /// Forgets the batches above `after`: they are cut from the log. None of them was committed.
    pub(crate) fn truncate(&mut self, after: Index) {
        while let Some(&(index, producer_id)) = self.uncommitted.back() {
            if index <= after {
                return;
            }
            self.uncommitted.pop_back();
            let producer = self
                .producers
                .get_mut(&producer_id)
                .expect("a producer stays while it has uncommitted batches");
            producer.batches.pop_back();
            if producer.batches.is_empty() {
                self.producers.remove(&producer_id);
            }
        }
    }

    /// Makes the batches up to `through` (inclusive) part of the state.
    pub(crate) fn commit(&mut self, through: Index) {
        while let Some(&(first, producer_id)) = self.uncommitted.front() {
            if first > through {
                return;
            }
            // All batches in a row of one producer at once: what is left of each of them in the end is the same.
            let (mut count, mut index) = (0, first);
            while let Some(&(next, _)) = self
                .uncommitted
                .front()
                .filter(|(next, id)| *next <= through && *id == producer_id)
            {
                self.uncommitted.pop_front();
                (count, index) = (count + 1, next);
            }
            let producer = self
                .producers
                .get_mut(&producer_id)
                .expect("a producer stays while it has uncommitted batches");
            if let Some(before) = producer.last_committed() {
                self.by_last_commit.remove(&before);
            }
            producer.committed += count;
            self.by_last_commit.insert(index, producer_id);
            producer.prune(window(self.by_last_commit.len()));
            self.evict();
        }
    }

    fn evict(&mut self) {
        while self.by_last_commit.len() > self.producers_max {
            let (_, oldest) = self
                .by_last_commit
                .pop_first()
                .expect("there are more than the limit");
            let producer = self
                .producers
                .get_mut(&oldest)
                .expect("who has a commit is known");
            producer.batches.drain(..producer.committed);
            producer.committed = 0;
            if producer.batches.is_empty() {
                self.producers.remove(&oldest);
            }
        }
    }

    /// The committed state, in eviction order: equal on all replicas that committed as far.
    pub(super) fn rows(&self) -> Vec<ProducerRow> {
        let ids = self.by_last_commit.values();
        ids.map(|&producer_id| {
            let producer = &self.producers[&producer_id];
            let committed = producer.batches.iter().take(producer.committed);
            ProducerRow {
                producer_id,
                batches: committed.map(Batch::row).collect(),
            }
        })
        .collect()
    }

    /// The state that `rows` gave, or what is wrong with it.
    pub(super) fn from_rows(rows: &[ProducerRow]) -> Result<Producers, String> {
        let mut producers = Producers::new();
        for row in rows {
            let batches: VecDeque<Batch> = row.batches.iter().map(Batch::from_row).collect();
            let Some(last) = batches.back().map(|batch| batch.index) else {
                return Err(format!("producer {} has no batches", row.producer_id));
            };
            let committed = batches.len();
            let producer = Producer { batches, committed };
            if producers
                .producers
                .insert(row.producer_id, producer)
                .is_some()
                || producers
                    .by_last_commit
                    .insert(last, row.producer_id)
                    .is_some()
            {
                return Err(format!("producer {} appears twice", row.producer_id));
            }
        }
        Ok(producers)
    }
}

impl Default for Producers {
    fn default() -> Producers {
        Producers::new()
    }
}

impl Batch {
    fn row(&self) -> BatchRow {
        BatchRow {
            index: self.index,
            first_sequence: self.first_sequence,
            base_offset: self.base_offset,
            epoch: self.epoch,
            record_count: self.record_count,
        }
    }

    fn from_row(row: &BatchRow) -> Batch {
        Batch {
            index: row.index,
            epoch: row.epoch,
            record_count: row.record_count,
            first_sequence: row.first_sequence,
            base_offset: row.base_offset,
        }
    }
}

/// Notes a batch of `producer` that was appended at `index`, above every index of `uncommitted`.
fn note(
    uncommitted: &mut VecDeque<(Index, u64)>,
    producer: &mut Producer,
    index: Index,
    base_offset: u64,
    stamp: &Stamp,
) {
    if let Some(&(last, _)) = uncommitted.back() {
        assert!(index > last, "batch {index} noted after {last}");
    }
    producer.batches.push_back(Batch {
        index,
        epoch: stamp.epoch,
        record_count: stamp.record_count,
        first_sequence: stamp.first_sequence,
        base_offset,
    });
    uncommitted.push_back((index, stamp.producer_id));
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
