//! Traces in files: the whole of a run written down, and a run held against what was written.
//!
//! Owns the format of a trace file: a first line that names it, seed, mode and setup, one line per event, and a last line with
//! count and hash, or with what broke. Must not know what the events mean.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::rc::Rc;

use crate::run::Mode;
use crate::trace::Line;

const MAGIC: &str = "plimsoll simulator trace 1";
/// A longer file is no trace of ours: runs end after seconds of virtual time.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A trace file that was read.
#[derive(Debug)]
pub struct Recorded {
    /// The seed it is of.
    pub seed: u64,
    /// What of the seed was run.
    pub mode: Mode,
    lines: Vec<String>,
}

impl Recorded {
    /// Reads the trace file `path`.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read, or that it is no trace.
    pub fn read(path: &Path) -> Result<Recorded, String> {
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(told)?;
        if file.metadata().map_err(told)?.len() > FILE_BYTES_MAX {
            return Err(format!("{}: too long for a trace", path.display()));
        }
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| format!("{}: no trace of the simulator: {error}", path.display()))?;
        Recorded::parse(&text).map_err(|what| format!("{}: {what}", path.display()))
    }

    fn parse(text: &str) -> Result<Recorded, String> {
        let mut lines = text.lines();
        if lines.next() != Some(MAGIC) {
            return Err(format!(
                "no trace of the simulator: its first line is not `{MAGIC}`"
            ));
        }
        let mut field = |name: &str| {
            let line = lines.next().unwrap_or_default();
            let value = line
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(' '));
            value.ok_or_else(|| format!("damaged: `{name}` is missing"))
        };
        let seed = field("seed")?;
        let seed = seed
            .parse()
            .map_err(|_| format!("damaged: seed `{seed}` is no number"))?;
        let mode = field("mode")?;
        let mode =
            Mode::named(mode).ok_or_else(|| format!("damaged: there is no mode `{mode}`"))?;
        field("setup")?;
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        let whole = lines
            .last()
            .is_some_and(|last| last.starts_with("end ") || last.starts_with("broke "));
        match whole {
            true => Ok(Recorded { seed, mode, lines }),
            false => Err("damaged: it stops in the middle".to_owned()),
        }
    }
}

/// Hears of every event of a run. Clones are the same recorder.
#[derive(Clone, Debug)]
pub struct Recorder(Rc<RefCell<To>>);

#[derive(Debug)]
enum To {
    File {
        file: BufWriter<File>,
        error: Option<String>,
    },
    Compare {
        lines: Vec<String>,
        next: usize,
        differs: Option<String>,
    },
}

impl Recorder {
    /// Writes to the file `path`, replacing what is there.
    ///
    /// # Errors
    /// A sentence that says why it cannot be written.
    pub fn create(path: &Path) -> Result<Recorder, String> {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let to = To::File {
            file: BufWriter::new(file),
            error: None,
        };
        Ok(Recorder(Rc::new(RefCell::new(to))))
    }

    /// Holds the run against `recorded`.
    pub fn compare(recorded: Recorded) -> Recorder {
        let to = To::Compare {
            lines: recorded.lines,
            next: 0,
            differs: None,
        };
        Recorder(Rc::new(RefCell::new(to)))
    }

    /// What went wrong: the file could not be written, or the run is not the one that was written down.
    pub fn complaint(&self) -> Option<String> {
        match &*self.0.borrow() {
            To::File { error, .. } => error.clone(),
            To::Compare { differs, .. } => differs.clone(),
        }
    }

    pub(crate) fn begin(&self, seed: u64, mode: Mode, setup: &str) {
        if let To::File { .. } = &*self.0.borrow() {
        } else {
            return;
        }
        for line in [
            MAGIC.to_owned(),
            format!("seed {seed}"),
            format!("mode {}", mode.name()),
            format!("setup {setup}"),
        ] {
            self.line(&line);
        }
    }

    pub(crate) fn note(&self, line: &Line) {
        let [a, b, c, d] = line.numbers;
        let (at, node, what) = (line.at, line.node, line.what);
        self.line(&format!("{at} us, node {node}: {what} {a} {b} {c} {d}"));
    }

    pub(crate) fn end(&self, events: u64, hash: u64) {
        self.line(&format!("end {events} events, hash {hash:016x}"));
        self.flush();
    }

    pub(crate) fn broke(&self, message: &str) {
        self.line(&format!("broke {}", message.replace('\n', " ")));
        self.flush();
    }

    fn line(&self, line: &str) {
        match &mut *self.0.borrow_mut() {
            To::File { file, error } => {
                if let Err(why) = writeln!(file, "{line}") {
                    error.get_or_insert_with(|| why.to_string());
                }
            }
            To::Compare {
                lines,
                next,
                differs,
            } => {
                let at = *next;
                *next += 1;
                if differs.is_none() && lines.get(at).map(String::as_str) != Some(line) {
                    let was = lines.get(at).map_or("nothing more", String::as_str);
                    *differs = Some(format!(
                        "differs from the trace at line {}: it says `{was}`, and now `{line}` happened",
                        at + 1
                    ));
                }
            }
        }
    }

    fn flush(&self) {
        if let To::File { file, error } = &mut *self.0.borrow_mut()
            && let Err(why) = file.flush()
        {
            error.get_or_insert_with(|| why.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Recorded;

    #[test]
    fn foreign_and_cut_off_files_are_refused_with_a_reason() {
        let refused = [
            ("", "first line"),
            ("hello\n", "first line"),
            ("plimsoll simulator trace 1\nseed x\n", "no number"),
            ("plimsoll simulator trace 1\nseed 1\nmode wild\n", "no mode"),
            (
                "plimsoll simulator trace 1\nseed 1\nmode full\nsetup -\n1 us, node 1: starts 0 0 0 0\n",
                "in the middle",
            ),
        ];
        for (text, why) in refused {
            let error = Recorded::parse(text).expect_err("it is no whole trace");
            assert!(error.contains(why), "{error:?} does not say {why:?}");
        }
    }
}
