//! One run: a seed, what of it is run, and what came of it.
//!
//! Owns the choice between the modes. Must not know how a world works, nor how many runs there are.

use crate::record::Recorder;
use crate::summary::Summary;
use crate::world::World;

/// What of a seed is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The storm, then calm, in which everything must come right (P10).
    #[default]
    Full,
    /// The storm alone: promises that hold at any time, and none about coming right.
    SafetyOnly,
}

impl Mode {
    /// Its name in trace files.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Full => "full",
            Mode::SafetyOnly => "safety-only",
        }
    }

    /// The mode of that name.
    pub fn named(name: &str) -> Option<Mode> {
        [Mode::Full, Mode::SafetyOnly]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// A run that has not begun.
#[derive(Debug)]
pub struct Run {
    seed: u64,
    mode: Mode,
    hushed: bool,
    recorder: Option<Recorder>,
}

/// A run that kept every promise.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// How often what happened.
    pub summary: Summary,
    /// Hash of everything that happened, in order.
    pub hash: u64,
}

impl Run {
    /// The run of `seed`, in full.
    pub fn new(seed: u64) -> Run {
        Run {
            seed,
            mode: Mode::Full,
            hushed: false,
            recorder: None,
        }
    }

    /// The same seed in another mode.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Run {
        self.mode = mode;
        self
    }

    /// Prints nothing when it panics: for who wants it to.
    #[must_use]
    pub fn quiet(mut self) -> Run {
        self.hushed = true;
        self
    }

    /// Lets `recorder` hear of every event.
    #[must_use]
    pub fn recorded(mut self, recorder: Recorder) -> Run {
        self.recorder = Some(recorder);
        self
    }

    /// Runs it. Panics at the first promise that is broken.
    pub fn go(self) -> Done {
        let mut world = World::new(self.seed, self.mode);
        world.trace.begin(self.hushed, self.recorder);
        let summary = world.run();
        Done {
            summary,
            hash: world.trace.end(),
        }
    }
}
