//! Term runs against a plain list of terms.

use super::*;

/// A log as a list: `terms[0]` is the term of the entry before the first one kept.
#[derive(Clone, Debug)]
struct Model {
    first: Index,
    terms: Vec<Term>,
}

impl Model {
    fn last(&self) -> Index {
        self.first - 1 + self.terms.len() as Index - 1
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let position = (index + 1).checked_sub(self.first)?;
        self.terms.get(position as usize).copied()
    }
}

fn runs_of(first: Index, terms: &[Term]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, &term) in (first..).zip(terms) {
        if runs.last().is_none_or(|run| run.term != term) {
            runs.push(Run { first: index, term });
        }
    }
    runs
}

fn assert_same(log: &TermRuns, model: &Model) {
    assert_eq!(
        (log.first_index(), log.last_index()),
        (model.first, model.last())
    );
    assert!(
        well_formed(log.prev(), log.runs(), log.last_index()),
        "{log:?}"
    );
    for index in 0..=model.last() + 2 {
        assert_eq!(
            log.term_at(index),
            model.term_at(index),
            "term at {index} of {log:?}"
        );
    }
    for index in model.first..=model.last() {
        let start = (model.first..=index)
            .find(|&start| model.term_at(start) == model.term_at(index))
            .unwrap();
        assert_eq!(log.first_of_term_at(index), start);
        assert_eq!(
            log.slice(model.first, index),
            runs_of(
                model.first,
                &model.terms[1..][..(index + 1 - model.first) as usize]
            )
        );
    }
    for term in 0..8 {
        for upto in model.first - 1..=model.last() {
            let found = (model.first - 1..=upto)
                .rev()
                .find(|&index| model.term_at(index).unwrap() <= term);
            assert_eq!(
                log.last_at_most(term, upto).map(|id| id.index),
                found,
                "term {term} up to {upto} in {log:?}"
            );
        }
    }
}

#[test]
fn runs_say_the_same_as_a_list_of_terms() {
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..300 {
        let mut log = TermRuns::new(LogId::ZERO, Vec::new(), 0);
        let mut model = Model {
            first: 1,
            terms: vec![0],
        };
        for _ in 0..30 {
            let (first, last) = (model.first, model.last());
            match rng.u32(0..6) {
                0..3 => {
                    let term = (log.last_id().term + rng.u64(0..2)).clamp(1, 7);
                    let count = rng.u64(1..4);
                    log.push(term, last + count);
                    model.terms.extend((0..count).map(|_| term));
                }
                3 if last >= first => {
                    let after = rng.u64(first - 1..last);
                    log.truncate_after(after);
                    model.terms.truncate((after + 2 - first) as usize);
                }
                4 if rng.bool() => {
                    let index = rng.u64(first - 1..=last);
                    log.trim_to(log.id_at(index).unwrap());
                    model.terms.drain(..(index + 1 - first) as usize);
                    model.first = index + 1;
                }
                _ => {
                    // Runs that overlap the end of the log: only what lies beyond is new.
                    let from = rng.u64(first..=last + 1);
                    let mut terms: Vec<Term> = (from..=last)
                        .map(|index| model.term_at(index).unwrap())
                        .collect();
                    terms.push(log.last_id().term.max(1));
                    log.extend(&runs_of(from, &terms), last + 1);
                    model.terms.push(log.last_id().term);
                }
            }
            assert_same(&log, &model);
        }
    }
}

#[test]
fn first_conflict_is_the_first_index_with_two_terms() {
    let logs: Vec<Vec<Term>> = (0..3u64.pow(5))
        .map(|number| {
            (0..5)
                .map(|digit| number / 3u64.pow(digit) % 3 + 1)
                .collect::<Vec<_>>()
        })
        .filter(|terms| terms.is_sorted())
        .collect();
    for ours in &logs {
        for theirs in &logs {
            for first in 1..=4u64 {
                let log = TermRuns::new(LogId::ZERO, runs_of(1, ours), 5);
                let sent = &theirs[first as usize - 1..];
                let model = (first..=5)
                    .find(|&index| ours[index as usize - 1] != theirs[index as usize - 1]);
                assert_eq!(
                    log.first_conflict(&runs_of(first, sent), 5),
                    model,
                    "{theirs:?} from {first} on {ours:?}"
                );
            }
        }
    }
}

#[test]
fn conflicts_are_looked_for_only_where_both_logs_have_entries() {
    let log = TermRuns::new(LogId { term: 2, index: 4 }, runs_of(5, &[2, 3]), 6);
    assert_eq!(
        log.first_conflict(&runs_of(3, &[1, 1, 2, 3, 9]), 7),
        None,
        "below the kept log, and beyond its end"
    );
    assert_eq!(log.first_conflict(&[], 2), None);
}

#[test]
fn runs_that_do_not_describe_a_log_are_told_apart() {
    let prev = LogId { term: 2, index: 4 };
    let run = |first, term| Run { first, term };
    assert!(well_formed(prev, &[], 4));
    assert!(well_formed(prev, &[run(5, 2), run(6, 4)], 9));
    let wrong: [(&[Run], Index); 8] = [
        (&[], 5),
        (&[run(5, 2)], 4),
        (&[run(4, 2)], 9),
        (&[run(6, 2)], 9),
        (&[run(5, 1)], 9),
        (&[run(5, 3), run(7, 3)], 9),
        (&[run(5, 3), run(5, 4)], 9),
        (&[run(5, 3), run(8, 4)], 7),
    ];
    for (runs, last) in wrong {
        assert!(!well_formed(prev, runs, last), "{runs:?} up to {last}");
    }
    assert!(!well_formed(
        LogId {
            term: 1,
            index: u64::MAX
        },
        &[run(0, 1)],
        u64::MAX
    ));
}
