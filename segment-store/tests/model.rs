//! Random histories against a model that is a plain list of frames.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use segment_store::fs::{Fs, SimFs, ensure_dir};
use segment_store::{Frame, Log, TailVerdict};
use support::{Chain, open, read_all};

const DIR: &str = "/log";

#[derive(Clone, Debug)]
enum Step {
    Append {
        lens: Vec<usize>,
        next_term: bool,
    },
    Sync,
    /// Cut at this share of the entries, in 256ths.
    Truncate(u8),
    Trim(u8),
    Reopen,
    PowerCycle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lens = proptest::collection::vec(0usize..4_000, 1..8);
    let step = prop_oneof![
        6 => (lens, any::<bool>()).prop_map(|(lens, next_term)| Step::Append { lens, next_term }),
        4 => Just(Step::Sync),
        2 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::Trim),
        2 => Just(Step::Reopen),
        1 => Just(Step::PowerCycle),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the log should hold: frames from `first` on.
#[derive(Debug, Default)]
struct Model {
    first: usize,
    frames: Vec<Frame>,
    acked: usize,
}

impl Model {
    fn check(&self, log: &Log) {
        let kept: Vec<Bytes> = self.frames[self.first - 1..]
            .iter()
            .map(|frame| frame.bytes().clone())
            .collect();
        let reader = log.reader();
        assert_eq!(read_all(&reader).unwrap(), kept);
        let end = |index: usize| match index {
            0 => (0, 0, 0),
            _ => {
                let frame = &self.frames[index - 1];
                let header = frame.header();
                (header.term, frame.header_crc(), header.next_offset())
            }
        };
        let (term, crc, offset) = end(self.frames.len());
        assert_eq!(log.last_index() as usize, self.frames.len());
        assert_eq!((log.last_term(), log.last_header_crc()), (term, crc));
        assert_eq!((log.next_offset(), reader.next_offset()), (offset, offset));
        assert_eq!(log.first_index() as usize, self.first);
        assert_eq!(log.log_start(), end(self.first - 1).2);
        for frame in self.frames[self.first - 1..].iter().step_by(3) {
            let header = frame.header();
            if header.record_count > 0 {
                let middle = header.base_offset + 1;
                assert_eq!(reader.seek_offset(middle).unwrap(), header.index);
                assert_eq!(
                    reader.seek_time(header.max_timestamp).unwrap(),
                    header.index
                );
            }
        }
    }
}

fn run(seed: u64, steps: &[Step]) {
    let sim = SimFs::new(seed);
    ensure_dir(&sim, Path::new(DIR)).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let mut model = Model {
        first: 1,
        ..Model::default()
    };
    let mut term = 1;
    for step in steps {
        match step {
            Step::Append { lens, next_term } => {
                term += u64::from(*next_term);
                let mut chain = Chain::after(&log);
                chain.term = term;
                let frames: Vec<Frame> = lens
                    .iter()
                    .map(|&len| match len % 5 {
                        0 => chain.noop(),
                        1 => chain.membership(),
                        _ => chain.batch(len, term as u8),
                    })
                    .collect();
                log.append(&frames).unwrap();
                model.frames.extend(frames);
            }
            Step::Sync => {
                assert_eq!(log.sync().unwrap() as usize, model.frames.len());
                model.acked = model.frames.len();
            }
            Step::Truncate(share) => {
                let kept = model.frames.len() + 1 - model.first;
                let index = model.first - 1 + kept * usize::from(*share) / 256;
                log.truncate_after(index as u64).unwrap();
                if index < model.frames.len() {
                    model.frames.truncate(index);
                    model.acked = index;
                }
            }
            Step::Trim(share) => {
                let index = model.frames.len() * usize::from(*share) / 256;
                let first = log.trim_before(index as u64).unwrap() as usize;
                assert!(first >= model.first && first <= index.max(model.first));
                model.first = first;
            }
            Step::Reopen | Step::PowerCycle => {
                drop(log);
                let cut = matches!(step, Step::PowerCycle);
                if cut {
                    sim.power_cycle();
                }
                let (opened, recovered) = open(&fs, Path::new(DIR)).unwrap();
                log = opened;
                assert_ne!(recovered.tail, TailVerdict::Lost);
                let last = recovered.last_index as usize;
                if cut {
                    assert!((model.acked..=model.frames.len()).contains(&last));
                    model.frames.truncate(last);
                } else {
                    assert_eq!(recovered.tail, TailVerdict::Clean);
                }
                model.acked = last;
                check_recovered(&model, &recovered);
            }
        }
        model.check(&log);
    }
}

fn check_recovered(model: &Model, recovered: &segment_store::Recovered) {
    let kept = &model.frames[model.first - 1..];
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut memberships = Vec::new();
    for header in kept.iter().map(Frame::header) {
        if runs.last().is_none_or(|&(_, term)| term != header.term) {
            runs.push((header.index, header.term));
        }
        if header.kind == segment_store::kind::MEMBERSHIP {
            memberships.push(header.index);
        }
    }
    assert_eq!(recovered.term_runs, runs);
    assert_eq!(recovered.memberships, memberships);
    assert_eq!(recovered.first_index as usize, model.first);
    assert_eq!(recovered.last_index as usize, model.frames.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_log_holds_what_a_plain_list_would(seed in any::<u64>(), steps in steps()) {
        run(seed, &steps);
    }
}
