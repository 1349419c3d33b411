//! What producers were told and what consumers saw, and whether it all fits together.
//!
//! Judges by the public face alone: it knows values, partitions and offsets, nothing of frames, terms or nodes. The classes of
//! anomaly are those of the property P9: lost write, unseen write, duplicate, inconsistent offset, reordering, a value nobody sent or
//! that was refused, a hole, a consumer that goes back or skips, a read beyond or behind the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Values of one producer lie this far from those of the next.
pub(crate) const SPAN: u64 = 1 << 40;
/// Anomalies that are listed; of more, the number is told.
const LISTED_MAX: usize = 30;

/// One partition's records in the order a consumer got them: offset and value.
pub(crate) type Seen = BTreeMap<u32, Vec<(u64, u64)>>;

/// What one producer did. Its values ascend from `producer * SPAN + 1`, each sent once.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Which producer.
    pub(crate) producer: u64,
    /// Number of values handed to the producer.
    pub(crate) count: u64,
    /// Value to where the ack said it is.
    pub(crate) acked: HashMap<u64, (u32, u64)>,
    /// Values that were refused for good: they must not be in the log.
    pub(crate) refused: HashSet<u64>,
    /// Values of which the producer was told that nobody knows: they may be in the log or not.
    pub(crate) unknown: HashSet<u64>,
}

/// What all producers did.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By their number, from 0.
    pub(crate) producers: Vec<Sent>,
}

impl History {
    /// Records acked, of all producers.
    pub(crate) fn acked(&self) -> usize {
        self.producers.iter().map(|sent| sent.acked.len()).sum()
    }

    /// Records whose fate the producers were not told, or that were refused.
    pub(crate) fn failed(&self) -> usize {
        let failed = |sent: &Sent| sent.unknown.len() + sent.refused.len();
        self.producers.iter().map(failed).sum()
    }

    /// Everything wrong between this history and what a consumer saw from the start of every partition; empty when all is well.
    pub(crate) fn anomalies(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut place_of: HashMap<u64, (u32, u64)> = HashMap::new();
        for (&partition, records) in seen {
            let mut newest: HashMap<u64, u64> = HashMap::new();
            for (at, &(offset, value)) in records.iter().enumerate() {
                let place = format!("{} at {partition}/{offset}", name(value));
                if offset != at as u64 {
                    wrong.push(format!(
                        "hole: partition {partition} has offset {offset} where {at} is due"
                    ));
                }
                if let Some(first) = place_of.insert(value, (partition, offset)) {
                    wrong.push(format!("duplicate: {place} and at {first:?}"));
                }
                let Some(sent) = self.sender_of(value) else {
                    wrong.push(format!("unsent: {place}"));
                    continue;
                };
                if sent.refused.contains(&value) {
                    wrong.push(format!("refused, and yet there: {place}"));
                }
                if sent.unknown.contains(&value) {
                    // Given up, it may come at any time: only what was acked keeps its order.
                    continue;
                }
                let newest = newest.entry(sent.producer).or_default();
                if *newest > value {
                    wrong.push(format!("reordered: {place} after {}", name(*newest)));
                }
                *newest = value.max(*newest);
            }
        }
        for (&value, &place) in self.producers.iter().flat_map(|sent| &sent.acked) {
            let end = seen.get(&place.0).map_or(0, Vec::len) as u64;
            let value = (value, name(value));
            match place_of.get(&value.0) {
                None if place.1 >= end => wrong.push(format!(
                    "unseen: {} was acked at {place:?}, the log is read up to {end}",
                    value.1
                )),
                None => wrong.push(format!("lost: {} was acked at {place:?}", value.1)),
                Some(&found) if found != place => wrong.push(format!(
                    "inconsistent offset: {} was acked at {place:?} and is at {found:?}",
                    value.1
                )),
                Some(_) => {}
            }
        }
        abridged(wrong)
    }

    fn sender_of(&self, value: u64) -> Option<&Sent> {
        let sent = self.producers.get((value / SPAN) as usize)?;
        (1..=sent.count).contains(&(value % SPAN)).then_some(sent)
    }
}

/// What a consumer saw while faults went on, checked as it came.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Who it is, for messages.
    name: String,
    /// Values by partition; the offset is the position.
    values: BTreeMap<u32, Vec<u64>>,
    wrong: Vec<String>,
}

impl Watch {
    pub(crate) fn new(name: String) -> Watch {
        Watch {
            name,
            values: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    /// Takes in a record that was just received.
    pub(crate) fn take(&mut self, partition: u32, offset: u64, value: u64) {
        let values = self.values.entry(partition).or_default();
        let due = values.len() as u64;
        if offset == due {
            return values.push(value);
        }
        let class = if offset < due { "went back" } else { "skipped" };
        self.wrong.push(format!(
            "{class}: {} got {partition}/{offset} where {due} is due",
            self.name
        ));
        if offset > due {
            values.resize(offset as usize, 0);
            values.push(value);
        }
    }

    /// Takes note that the consumer gave up.
    pub(crate) fn gave_up(&mut self, why: &str) {
        self.wrong.push(format!("gave up: {}: {why}", self.name));
    }

    /// Next offset due of a partition.
    pub(crate) fn next(&self, partition: u32) -> u64 {
        self.values.get(&partition).map_or(0, Vec::len) as u64
    }

    /// Everything wrong in what it saw, given what is in the log in the end.
    pub(crate) fn anomalies(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        for (partition, values) in &self.values {
            let kept = seen.get(partition).map_or(&[][..], Vec::as_slice);
            for (at, value) in values.iter().enumerate() {
                let was = format!("{} got {} at {partition}/{at}", self.name, name(*value));
                match kept.get(at) {
                    None => wrong.push(format!("read beyond: {was}, and the log ends before")),
                    Some((_, found)) if found != value => {
                        wrong.push(format!("taken back: {was}, where {} is now", name(*found)));
                    }
                    Some(_) => {}
                }
            }
        }
        abridged(wrong)
    }
}

/// How far the log is known to reach, by partition: whatever somebody was told, nobody may be told less afterwards.
#[derive(Debug)]
pub(crate) struct Floor {
    ends: Vec<AtomicU64>,
}

impl Floor {
    pub(crate) fn new(partitions: u32) -> Floor {
        Floor {
            ends: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The end, exclusive, that everybody must be told at least from now on.
    pub(crate) fn at(&self, partition: u32) -> u64 {
        self.ends[partition as usize].load(Ordering::SeqCst)
    }

    /// Number of partitions.
    pub(crate) fn partitions(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Somebody was told that the partition reaches up to `end`, exclusive.
    pub(crate) fn raise(&self, partition: u32, end: u64) {
        self.ends[partition as usize].fetch_max(end, Ordering::SeqCst);
    }

    /// Whether the log in the end reaches as far as anyone was ever told.
    pub(crate) fn anomalies(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        for (partition, end) in self.ends.iter().enumerate() {
            let end = end.load(Ordering::SeqCst);
            let kept = seen.get(&(partition as u32)).map_or(0, Vec::len) as u64;
            if kept < end {
                wrong.push(format!(
                    "end beyond: somebody was told that partition {partition} reaches {end}, it reaches {kept}"
                ));
            }
        }
        wrong
    }
}

fn name(value: u64) -> String {
    format!("value {} of producer {}", value % SPAN, value / SPAN)
}

fn abridged(mut wrong: Vec<String>) -> Vec<String> {
    let more = wrong.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        wrong.truncate(LISTED_MAX);
        wrong.push(format!("and {more} more"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::{Floor, History, SPAN, Seen, Sent, Watch};

    fn acked(values: &[(u64, u64)]) -> History {
        let sent = Sent {
            count: values.len() as u64,
            acked: values
                .iter()
                .map(|&(value, offset)| (value, (0, offset)))
                .collect(),
            ..Sent::default()
        };
        History {
            producers: vec![sent],
        }
    }

    fn seen(records: &[(u64, u64)]) -> Seen {
        Seen::from([(0, records.to_vec())])
    }

    fn has(wrong: &[String], expected: &str) -> bool {
        wrong.iter().any(|line| line.starts_with(expected))
    }

    #[test]
    fn the_checker_accepts_what_was_acked_in_order() {
        let history = acked(&[(1, 0), (2, 1)]);
        assert!(history.anomalies(&seen(&[(0, 1), (1, 2)])).is_empty());
    }

    #[test]
    fn the_checker_names_each_class_of_anomaly() {
        let history = acked(&[(1, 0), (2, 1), (3, 2)]);
        let classes = [
            (seen(&[(0, 1), (1, 2)]), "unseen: value 3"),
            (seen(&[(0, 1), (1, 3)]), "lost: value 2"),
            (
                seen(&[(0, 1), (1, 2), (2, 3), (3, 3)]),
                "duplicate: value 3",
            ),
            (seen(&[(0, 1), (1, 2), (2, 9)]), "unsent: value 9"),
            (
                seen(&[(0, 1), (1, 2), (2, SPAN + 1)]),
                "unsent: value 1 of producer 1",
            ),
            (seen(&[(0, 1), (1, 3), (2, 2)]), "reordered: value 2"),
            (
                seen(&[(0, 1), (1, 3), (2, 2)]),
                "inconsistent offset: value 3",
            ),
            (seen(&[(0, 1), (2, 2), (3, 3)]), "hole: partition 0"),
        ];
        for (seen, expected) in classes {
            let wrong = history.anomalies(&seen);
            assert!(has(&wrong, expected), "{expected}: {wrong:?}");
        }
    }

    #[test]
    fn what_was_given_up_may_be_there_and_what_was_refused_may_not() {
        let mut history = acked(&[(1, 0), (2, 1)]);
        history.producers[0].count = 4;
        history.producers[0].unknown.insert(3);
        history.producers[0].refused.insert(4);
        assert!(
            history
                .anomalies(&seen(&[(0, 1), (1, 2), (2, 3)]))
                .is_empty()
        );
        let wrong = history.anomalies(&seen(&[(0, 1), (1, 2), (2, 4)]));
        assert!(has(&wrong, "refused, and yet there: value 4"), "{wrong:?}");
    }

    #[test]
    fn a_consumer_that_goes_back_skips_or_reads_what_is_taken_back_is_found_out() {
        let kept = seen(&[(0, 1), (1, 2)]);
        let watched = |records: &[(u64, u64)]| {
            let mut watch = Watch::new("c".to_owned());
            for &(offset, value) in records {
                watch.take(0, offset, value);
            }
            watch.anomalies(&kept)
        };
        assert!(watched(&[(0, 1), (1, 2)]).is_empty());
        assert!(has(&watched(&[(0, 1), (0, 1)]), "went back: c got 0/0"));
        assert!(has(&watched(&[(1, 2)]), "skipped: c got 0/1"));
        assert!(has(&watched(&[(0, 1), (1, 2), (2, 3)]), "read beyond: c"));
        assert!(has(
            &watched(&[(0, 1), (1, 7)]),
            "taken back: c got value 7"
        ));
    }

    #[test]
    fn a_log_that_ends_before_what_somebody_was_told_is_found_out() {
        let floor = Floor::new(1);
        floor.raise(0, 2);
        floor.raise(0, 1);
        assert!(floor.anomalies(&seen(&[(0, 1), (1, 2)])).is_empty());
        assert!(has(&floor.anomalies(&seen(&[(0, 1)])), "end beyond"));
    }
}
