//! The log as the core knows it: which index has which term.
//!
//! Owns the runs of equal terms and the trimmed prefix. It must not know what the entries contain, which of them are
//! durable, or which are committed. On the walks produce and append.

use super::{Index, LogId, Run, Term};

/// Terms of the entries `first_index ..= last_index`, and the identity of the entry before them.
///
/// Terms never fall along the log, so the runs are strictly ascending both in `first` and in `term`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TermRuns {
    /// The entry before the first one kept.
    prev: LogId,
    /// Ascending; the first starts at `prev.index + 1`.
    runs: Vec<Run>,
    /// Inclusive; `prev.index` if nothing is kept.
    last_index: Index,
}

impl TermRuns {
    /// Panics if the runs do not describe `prev.index + 1 ..= last_index`.
    pub(super) fn new(prev: LogId, runs: Vec<Run>, last_index: Index) -> TermRuns {
        assert!(
            well_formed(prev, &runs, last_index),
            "term runs {runs:?} do not describe the log from {prev:?} to {last_index}"
        );
        TermRuns {
            prev,
            runs,
            last_index,
        }
    }

    pub(super) fn prev(&self) -> LogId {
        self.prev
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn first_index(&self) -> Index {
        self.prev.index + 1
    }

    pub(super) fn last_index(&self) -> Index {
        self.last_index
    }

    pub(super) fn last_id(&self) -> LogId {
        LogId {
            term: self.runs.last().map_or(self.prev.term, |run| run.term),
            index: self.last_index,
        }
    }

    /// Term of the entry at `index`; known for the kept entries and the one before them.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.prev.index {
            return Some(self.prev.term);
        }
        if index < self.prev.index || index > self.last_index {
            return None;
        }
        Some(self.runs[self.run_of(index)].term)
    }

    /// Identity of the entry at `index`, where [`TermRuns::term_at`] knows it.
    pub(super) fn id_at(&self, index: Index) -> Option<LogId> {
        self.term_at(index).map(|term| LogId { term, index })
    }

    /// First kept index of the term that the entry at `index` has; `index` itself for the entry before the kept ones.
    pub(super) fn first_of_term_at(&self, index: Index) -> Index {
        if index <= self.prev.index {
            index
        } else {
            self.runs[self.run_of(index)].first
        }
    }

    /// The last entry at or below `upto` whose term is at most `term`, the entry before the kept ones included.
    pub(super) fn last_at_most(&self, term: Term, upto: Index) -> Option<LogId> {
        let later = self.runs.partition_point(|run| run.term <= term);
        let end = self
            .runs
            .get(later)
            .map_or(self.last_index, |run| run.first - 1);
        self.id_at(end.min(upto)).filter(|id| id.term <= term)
    }

    /// Position in `runs` of the run that holds `index`, a kept index.
    fn run_of(&self, index: Index) -> usize {
        self.runs.partition_point(|run| run.first <= index) - 1
    }

    /// Appends entries of `term` up to and including `last`.
    pub(super) fn push(&mut self, term: Term, last: Index) {
        assert!(last > self.last_index, "an append must extend the log");
        assert!(
            term >= self.last_id().term,
            "terms never fall along the log"
        );
        if self.runs.last().is_none_or(|run| run.term != term) {
            self.runs.push(Run {
                first: self.last_index + 1,
                term,
            });
        }
        self.last_index = last;
    }

    /// Appends that part of `runs`, which end at `last`, that lies beyond the end of the log.
    pub(super) fn extend(&mut self, runs: &[Run], last: Index) {
        for (position, run) in runs.iter().enumerate() {
            let end = runs.get(position + 1).map_or(last, |next| next.first - 1);
            if end > self.last_index {
                self.push(run.term, end);
            }
        }
    }

    /// Removes the entries after `index`.
    pub(super) fn truncate_after(&mut self, index: Index) {
        assert!(
            index >= self.prev.index && index < self.last_index,
            "nothing to truncate after {index}"
        );
        self.runs
            .truncate(self.runs.partition_point(|run| run.first <= index));
        self.last_index = index;
    }

    /// Forgets everything: the log goes on after `prev`, which need not be in it.
    pub(super) fn begin_anew(&mut self, prev: LogId) {
        *self = TermRuns::new(prev, Vec::new(), prev.index);
    }

    /// Forgets the entries up to and including `prev`, which must be in the log.
    pub(super) fn trim_to(&mut self, prev: LogId) {
        assert_eq!(
            self.term_at(prev.index),
            Some(prev.term),
            "only what is in the log can be trimmed"
        );
        if prev.index == self.prev.index {
            return;
        }
        if prev.index == self.last_index {
            self.runs.clear();
        } else {
            let kept = self.run_of(prev.index + 1);
            self.runs.drain(..kept);
            self.runs[0].first = prev.index + 1;
        }
        self.prev = prev;
    }

    /// Runs of the entries `first ..= last`, all kept.
    pub(super) fn slice(&self, first: Index, last: Index) -> Vec<Run> {
        assert!(
            first > self.prev.index && first <= last && last <= self.last_index,
            "outside the kept log"
        );
        let (from, to) = (self.run_of(first), self.run_of(last));
        self.runs[from..=to]
            .iter()
            .map(|run| Run {
                first: run.first.max(first),
                term: run.term,
            })
            .collect()
    }

    /// First index at which this log and `runs` (which end at `last`) both have an entry, but of different terms.
    pub(super) fn first_conflict(&self, runs: &[Run], last: Index) -> Option<Index> {
        for (position, run) in runs.iter().enumerate() {
            let end = runs
                .get(position + 1)
                .map_or(last, |next| next.first - 1)
                .min(self.last_index);
            let mut index = run.first.max(self.first_index());
            while index <= end {
                let ours = self.run_of(index);
                if self.runs[ours].term != run.term {
                    return Some(index);
                }
                index = self.runs.get(ours + 1).map_or(end + 1, |next| next.first);
            }
        }
        None
    }
}

/// Whether `runs` describe exactly the entries `prev.index + 1 ..= last_index`, with terms that never fall.
pub(super) fn well_formed(prev: LogId, runs: &[Run], last_index: Index) -> bool {
    let Some((first, last)) = runs.first().zip(runs.last()) else {
        return last_index == prev.index;
    };
    // `checked_add`: the numbers may come from a peer.
    Some(first.first) == prev.index.checked_add(1)
        && first.term >= prev.term.max(1)
        && last.first <= last_index
        && runs
            .windows(2)
            .all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term)
}

#[cfg(test)]
mod tests;
