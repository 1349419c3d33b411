//! What a producer was told and what a consumer saw, and whether the two fit together.
//!
//! Judges by the public face alone: it knows values, partitions and offsets, nothing of frames, terms or nodes. The classes of
//! anomaly are those of the property P9: lost write, duplicate, inconsistent offset, reordering, a value nobody sent, a hole.

use std::collections::{BTreeMap, HashMap, HashSet};

/// One partition's records in the order a consumer got them: offset and value.
pub(crate) type Seen = BTreeMap<u32, Vec<(u64, u64)>>;

/// What one producer did. Values are numbers, sent in ascending order, never twice.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Every value handed to the producer.
    pub(crate) sent: HashSet<u64>,
    /// Value to where the ack said it is.
    pub(crate) acked: HashMap<u64, (u32, u64)>,
    /// Values whose future resolved to an error: they may be in the log or not.
    pub(crate) failed: HashSet<u64>,
}

impl History {
    /// Everything wrong between this history and what a consumer saw from the start of every partition; empty when all is well.
    pub(crate) fn anomalies(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut place_of: HashMap<u64, (u32, u64)> = HashMap::new();
        for (&partition, records) in seen {
            let mut newest: Option<u64> = None;
            for (at, &(offset, value)) in records.iter().enumerate() {
                if offset != at as u64 {
                    wrong.push(format!(
                        "hole: partition {partition} has offset {offset} where {at} is due"
                    ));
                }
                if !self.sent.contains(&value) {
                    wrong.push(format!("unsent: {value} at {partition}/{offset}"));
                }
                if let Some(first) = place_of.insert(value, (partition, offset)) {
                    wrong.push(format!(
                        "duplicate: {value} at {first:?} and at {partition}/{offset}"
                    ));
                }
                if newest.is_some_and(|newest| newest > value) {
                    wrong.push(format!(
                        "reordered: {value} at {partition}/{offset} after {newest:?}"
                    ));
                }
                newest = newest.max(Some(value));
            }
        }
        for (&value, &place) in &self.acked {
            match place_of.get(&value) {
                None => wrong.push(format!("lost: {value} was acked at {place:?}")),
                Some(&found) if found != place => wrong.push(format!(
                    "inconsistent offset: {value} was acked at {place:?} and is at {found:?}"
                )),
                Some(_) => {}
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Seen};

    fn acked(values: &[(u64, u64)]) -> History {
        History {
            sent: values.iter().map(|&(value, _)| value).collect(),
            acked: values
                .iter()
                .map(|&(value, offset)| (value, (0, offset)))
                .collect(),
            ..History::default()
        }
    }

    fn seen(records: &[(u64, u64)]) -> Seen {
        Seen::from([(0, records.to_vec())])
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
            (seen(&[(0, 1), (1, 2)]), "lost: 3"),
            (seen(&[(0, 1), (1, 2), (2, 3), (3, 3)]), "duplicate: 3"),
            (seen(&[(0, 1), (1, 2), (2, 9)]), "unsent: 9"),
            (seen(&[(0, 1), (1, 3), (2, 2)]), "reordered: 2"),
            (seen(&[(0, 1), (1, 3), (2, 2)]), "inconsistent offset: 3"),
            (seen(&[(0, 1), (2, 2), (3, 3)]), "hole: partition 0"),
        ];
        for (seen, expected) in classes {
            let wrong = history.anomalies(&seen);
            assert!(
                wrong.iter().any(|line| line.starts_with(expected)),
                "{expected}: {wrong:?}"
            );
        }
    }
}
