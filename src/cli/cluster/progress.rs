//! How far a change of the cluster is: a bar on a terminal, a line per step in a pipe, an object per step for programs.
//!
//! Owns how that looks. Must not know what a step means. The cluster goes on without whoever watches.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::output::{Failure, Format, Out};

/// Between two turns of the bar's wheel.
const TURN: Duration = Duration::from_millis(120);

/// Where a change stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// A word for programs.
    pub(super) name: &'static str,
    /// A sentence for people.
    pub(super) text: String,
    /// How much of it is done, of how much, where that can be counted.
    pub(super) done: Option<(usize, usize)>,
}

impl Step {
    pub(super) fn new(name: &'static str, text: impl Into<String>) -> Step {
        Step {
            name,
            text: text.into(),
            done: None,
        }
    }

    pub(super) fn counted(self, done: usize, total: usize) -> Step {
        Step {
            done: Some((done, total)),
            ..self
        }
    }
}

/// Shows steps, each once.
pub(super) struct Progress {
    format: Format,
    bar: Option<ProgressBar>,
    shown: Option<Step>,
}

impl Progress {
    pub(super) fn new(format: Format) -> Progress {
        let fancy = format == Format::Human && std::io::stderr().is_terminal();
        Progress {
            format,
            bar: fancy.then(ProgressBar::new_spinner),
            shown: None,
        }
    }

    /// Shows a step, unless it is the one shown last.
    pub(super) fn show(&mut self, step: Step) -> Result<(), Failure> {
        if self.shown.as_ref() == Some(&step) {
            return Ok(());
        }
        let drawn = match &self.bar {
            Some(bar) => {
                draw(bar, &step);
                Ok(())
            }
            None => self.print(&step),
        };
        self.shown = Some(step);
        drawn
    }

    /// Shows the last step, after which nothing follows.
    pub(super) fn end(&mut self, step: &Step) -> Result<(), Failure> {
        self.clear();
        self.print(step)
    }

    /// Takes the bar away, so that something else can be said.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn print(&self, step: &Step) -> Result<(), Failure> {
        let mut out = Out::new();
        match (self.format, step.done) {
            (Format::Json, Some((done, total))) => out.json(&json!({
                "step": step.name, "text": step.text, "done": done, "total": total
            }))?,
            (Format::Json, None) => out.json(&json!({ "step": step.name, "text": step.text }))?,
            (Format::Human, Some((done, total))) => {
                out.line(format!("{}: {done} of {total}", step.text))?;
            }
            (Format::Human, None) => out.line(&step.text)?,
        }
        out.flush()
    }
}

fn draw(bar: &ProgressBar, step: &Step) {
    let template = match step.done {
        Some(_) => "{spinner} {msg} {wide_bar} {pos}/{len}",
        None => "{spinner} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if let Some((done, total)) = step.done {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    }
    bar.set_message(step.text.clone());
    bar.enable_steady_tick(TURN);
}
