//! Many seeds: as many at a time as are asked for, each run one thread's alone.
//!
//! Owns how seeds are shared out, and the stop at the first breach. Must not know what a run does.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::run::{Mode, Run};
use crate::summary::Summary;

/// Seeds to run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The seeds.
    pub seeds: Range<u64>,
    /// What of each is run.
    pub mode: Mode,
    /// Runs at a time.
    pub jobs: usize,
}

/// Tells the other threads that this one has panicked.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Batch {
    /// `seeds` in full, with a thread for each core.
    pub fn new(seeds: Range<u64>) -> Batch {
        Batch {
            seeds,
            mode: Mode::Full,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Runs them all; `done` hears how many are, after each. Panics at the first promise that is broken.
    pub fn run(&self, done: impl Fn(u64) + Sync) -> Summary {
        let next = AtomicU64::new(self.seeds.start);
        let finished = AtomicU64::new(0);
        let broken = AtomicBool::new(false);
        let work = || {
            let _alarm = Alarm(&broken);
            let mut sum = Summary::default();
            while !broken.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end {
                    break;
                }
                sum.add(&Run::new(seed).mode(self.mode).go().summary);
                done(finished.fetch_add(1, Ordering::Relaxed) + 1);
            }
            sum
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            let mut sum = Summary::default();
            for worker in workers {
                match worker.join() {
                    Ok(part) => sum.add(&part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            sum
        })
    }
}
