//! The simulator: a whole cluster in one thread, from one seed, in virtual time. The code that ships (`raft`, `replica`,
//! `controller`, `wire`, `segment-store`) runs over a simulated network and simulated disks, under faults, and is checked after every step.
//!
//! `PLIMSOLL_SIM_SEEDS=START..END` runs those seeds, `PLIMSOLL_SIM_COUNT=N` the first N; without either, a few hundred.
//! With `PLIMSOLL_SIM_LOG=1` the program's own log is shown.

#![allow(clippy::unwrap_used)]

mod checks;
mod clients;
mod ending;
mod faults;
mod lives;
#[cfg(plimsoll_mutations)]
mod mutations;
mod network;
mod node;
mod summary;
mod swarm;
mod trace;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use summary::Summary;
use world::World;

/// Seeds of a run that nobody asked more of.
const SEEDS: u64 = 200;

fn seeds() -> Range<u64> {
    if let Ok(range) = std::env::var("PLIMSOLL_SIM_SEEDS") {
        let (start, end) = range
            .split_once("..")
            .expect("PLIMSOLL_SIM_SEEDS is START..END");
        let number = |text: &str| {
            text.parse()
                .expect("PLIMSOLL_SIM_SEEDS is two numbers, START..END")
        };
        return number(start)..number(end);
    }
    match std::env::var("PLIMSOLL_SIM_COUNT") {
        Ok(count) => 0..count.parse().expect("PLIMSOLL_SIM_COUNT is a number"),
        Err(_) => 0..SEEDS,
    }
}

/// Runs `seeds`, as many at a time as the machine has cores; each run is one thread's alone.
fn run(seeds: Range<u64>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            let mut sum = Summary::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    return sum;
                }
                sum.add(&World::new(seed).run());
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
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

#[test]
fn every_seed_keeps_every_promise_under_faults_and_comes_right_after_them() {
    if std::env::var_os("PLIMSOLL_SIM_LOG").is_some() {
        tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .init();
    }
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    let started = Instant::now();
    let sum = run(seeds);
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{count} seeds in {seconds:.1} s, {:.1} seeds/s: {sum:#?}",
        count as f64 / seconds
    );
    if count >= SEEDS {
        sum.assert_busy(count);
    }
}

#[test]
fn same_seed_twice_is_the_same_run() {
    for seed in 0..10 {
        let run = || {
            let mut world = World::new(seed);
            let summary = world.run();
            (world.trace.hash(), summary)
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
