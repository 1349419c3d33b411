//! The trace: what happened last, readable, and a hash of everything that ever happened.
//!
//! Owns the ring of the last events and the hash that two runs of one seed must share. When a run panics, in the code
//! under test or in a check, it tells the seed and the ring. Must not know what the events mean.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::record::Recorder;
use crate::run::Mode;
use crate::world::Micros;

/// Events kept for printing.
const KEPT: usize = 160;

thread_local! {
    /// The run under way on this thread: for a panic hook, which no unwinding may follow.
    static CURRENT: RefCell<Option<Rc<RefCell<Ring>>>> = const { RefCell::new(None) };
}

/// An event as it is noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) at: Micros,
    pub(crate) node: u64,
    pub(crate) what: &'static str,
    pub(crate) numbers: [u64; 4],
}

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    ring: Rc<RefCell<Ring>>,
}

#[derive(Debug)]
struct Ring {
    seed: u64,
    mode: Mode,
    setup: String,
    hash: u64,
    events: u64,
    lines: VecDeque<Line>,
    hushed: bool,
    recorder: Option<Recorder>,
}

impl Trace {
    pub(crate) fn new(seed: u64, mode: Mode, setup: String) -> Trace {
        let ring = Ring {
            seed,
            mode,
            setup,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: VecDeque::with_capacity(KEPT),
            hushed: false,
            recorder: None,
        };
        Trace {
            ring: Rc::new(RefCell::new(ring)),
        }
    }

    /// The run begins: from here on this thread's panics are its. `hushed`, it prints nothing.
    pub(crate) fn begin(&self, hushed: bool, recorder: Option<Recorder>) {
        let mut ring = self.ring.borrow_mut();
        if let Some(recorder) = &recorder {
            recorder.begin(ring.seed, ring.mode, &ring.setup);
        }
        ring.hushed = hushed;
        ring.recorder = recorder;
        CURRENT.with(|current| *current.borrow_mut() = Some(Rc::clone(&self.ring)));
    }

    /// The run is over and kept every promise; gives its hash.
    pub(crate) fn end(&self) -> u64 {
        CURRENT.with(|current| *current.borrow_mut() = None);
        let ring = self.ring.borrow();
        if let Some(recorder) = &ring.recorder {
            recorder.end(ring.events, ring.hash);
        }
        ring.hash
    }

    /// Notes that `what` happened at `node` (0: to no node in particular).
    pub(crate) fn note(&mut self, at: Micros, node: u64, what: &'static str, numbers: [u64; 4]) {
        self.ring.borrow_mut().note(Line {
            at,
            node,
            what,
            numbers,
        });
    }

    pub(crate) fn events(&self) -> u64 {
        self.ring.borrow().events
    }
}

impl Ring {
    fn note(&mut self, line: Line) {
        // The address of a name differs between builds, its bytes do not.
        for bytes in line.what.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(line.at);
        self.mix(line.node);
        for number in line.numbers {
            self.mix(number);
        }
        self.events += 1;
        if let Some(recorder) = &self.recorder {
            recorder.note(&line);
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }

    fn print(&self, message: &str) {
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
        let mode = match self.mode {
            Mode::Full => "",
            Mode::SafetyOnly => " --safety-only",
        };
        eprintln!("broken: {message}");
        eprintln!(
            "seed {}: run it alone with cargo run --release -p simulator -- --seed {}{mode}",
            self.seed, self.seed
        );
    }
}

/// Prints seed, setup and last events of the run under way on this thread, and gives its seed; for a panic hook.
pub fn print_last(message: &str) -> Option<u64> {
    let ring = CURRENT.with(|current| current.borrow_mut().take())?;
    let ring = ring.try_borrow().ok()?;
    if let Some(recorder) = &ring.recorder {
        recorder.broke(message);
    }
    if !ring.hushed {
        ring.print(message);
    }
    Some(ring.seed)
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_last("the run panicked");
        }
    }
}
