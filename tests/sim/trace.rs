//! The trace: what happened last, readable, and a hash of everything that ever happened.
//!
//! Owns the ring of the last events and the hash that two runs of one seed must share. When a run panics, in the code
//! under test or in a check, it prints the seed and the ring. Must not know what the events mean.

use std::collections::VecDeque;

use crate::world::Micros;

/// Events kept for printing.
const KEPT: usize = 160;

#[derive(Clone, Copy, Debug)]
struct Line {
    at: Micros,
    node: u64,
    what: &'static str,
    numbers: [u64; 4],
}

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    seed: u64,
    setup: String,
    hash: u64,
    events: u64,
    lines: VecDeque<Line>,
    hushed: bool,
}

impl Trace {
    pub(crate) fn new(seed: u64, setup: String) -> Trace {
        Trace {
            seed,
            setup,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: VecDeque::with_capacity(KEPT),
            hushed: false,
        }
    }

    /// Notes that `what` happened at `node` (0: to no node in particular).
    pub(crate) fn note(&mut self, at: Micros, node: u64, what: &'static str, numbers: [u64; 4]) {
        for byte in what.bytes() {
            self.mix(u64::from(byte));
        }
        self.mix(at);
        self.mix(node);
        for number in numbers {
            self.mix(number);
        }
        self.events += 1;
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(Line {
            at,
            node,
            what,
            numbers,
        });
    }

    /// Prints nothing when the run panics: a panic is what is wanted.
    #[cfg(plimsoll_mutations)]
    pub(crate) fn hush(&mut self) {
        self.hushed = true;
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }

    /// The hash of everything noted so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if !std::thread::panicking() || self.hushed {
            return;
        }
        eprintln!("the last {} of {} events:", self.lines.len(), self.events);
        for line in &self.lines {
            let [a, b, c, d] = line.numbers;
            let (ms, us) = (line.at / 1_000, line.at % 1_000);
            eprintln!(
                "{ms:>7}.{us:03} ms  node {}  {:<24} {a} {b} {c} {d}",
                line.node, line.what
            );
        }
        eprintln!("setup: {}", self.setup);
        eprintln!(
            "seed {}: run it alone with PLIMSOLL_SIM_SEEDS={}..{}",
            self.seed,
            self.seed,
            self.seed + 1
        );
    }
}
