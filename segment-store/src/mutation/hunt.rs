//! The hunt: a test of the running test program is run with a bug in the code, and must fail.
//!
//! Owns the processes and their judgement. Each test runs in a process of its own, so that a bug may wedge it, kill it or reach all its
//! threads; and it must pass without the bug, or its failure would prove nothing. Must not know what any of the bugs does.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::VARIABLE;

/// A test that has not ended after this long under a bug has caught it.
const WEDGED: Duration = Duration::from_secs(120);

/// A bug, and the test that must catch it.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// Its name, as the code asks for it.
    pub name: &'static str,
    /// Its number in the project's list of real bugs.
    pub real: &'static str,
    /// The test, as the test program itself lists it.
    pub test: &'static str,
}

/// Runs the test of each of `bugs` with that bug put back, and once without any. Returns how each was caught, a row of a table each.
/// `PLIMSOLL_MUTATION=WORDS` hunts those with these words in their name alone.
///
/// # Panics
/// If a test fails without a bug, or passes with the one it is to catch.
#[must_use]
pub fn assert_each_is_caught(bugs: &[Bug]) -> String {
    let wanted = std::env::var("PLIMSOLL_MUTATION").unwrap_or_default();
    let bugs: Vec<Bug> = bugs
        .iter()
        .filter(|bug| bug.name.contains(&wanted))
        .copied()
        .collect();
    let tests: BTreeSet<&str> = bugs.iter().map(|bug| bug.test).collect();
    let healthy = tests.into_iter().map(|test| (test, None));
    let runs: Vec<(&str, Option<Bug>)> = healthy
        .chain(bugs.iter().map(|bug| (bug.test, Some(*bug))))
        .collect();
    let next = AtomicUsize::new(0);
    let judged = Mutex::new((String::new(), Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((test, bug)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = judge(test, bug.as_ref());
                    let mut judged = judged
                        .lock()
                        .expect("no code panics while it holds this lock");
                    match row {
                        Ok(row) => judged.0 += &row,
                        Err(what) => judged.1.push(what),
                    }
                }
            });
        }
    });
    let (rows, wrong) = judged
        .into_inner()
        .expect("no code panics while it holds this lock");
    assert!(wrong.is_empty(), "{rows}{}", wrong.join("\n"));
    rows
}

/// How this run of `test` caught the bug, as a row (none for a run without a bug), or what is wrong with it.
fn judge(test: &str, bug: Option<&Bug>) -> Result<String, String> {
    let outcome = run(test, bug.map_or("", |bug| bug.name));
    match (bug, outcome) {
        (None, Outcome::Passed) => Ok(String::new()),
        (None, other) => Err(format!("{test} does not pass without a bug: {other:?}")),
        (Some(bug), Outcome::Passed) => Err(format!("{test} does not catch: {}", bug.name)),
        (Some(bug), Outcome::NotThere) => Err(format!("there is no test {test} for: {}", bug.name)),
        (Some(bug), Outcome::Failed(why)) => Ok(format!(
            "| {} | {} | `{test}`: {why:.140} |\n",
            bug.name, bug.real
        )),
    }
}

#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    NotThere,
}

fn run(test: &str, bug: &str) -> Outcome {
    let program = std::env::current_exe().expect("a program knows its own path");
    let mut child = Command::new(program)
        .args(["--exact", test])
        .env(VARIABLE, bug)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test program starts once more");
    let mut stdout = child.stdout.take().expect("it is piped");
    let (told, heard) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        let _ = told.send(String::from_utf8_lossy(&text).into_owned());
    });
    let text = heard.recv_timeout(WEDGED);
    if text.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().expect("it was started here");
    let _ = reader.join();
    let Ok(text) = text else {
        return Outcome::Failed(format!("it does not end within {} s", WEDGED.as_secs()));
    };
    match status.success() {
        true if text.contains("1 passed") => Outcome::Passed,
        true => Outcome::NotThere,
        false => Outcome::Failed(reason(&text, &status.to_string())),
    }
}

/// The first line of the panic in a test's output; `status` if there is none.
fn reason(text: &str, status: &str) -> String {
    let mut lines = text
        .lines()
        .skip_while(|line| !line.contains("panicked at "));
    let line = lines.nth(1).unwrap_or(status);
    line.replace('|', "/")
}
