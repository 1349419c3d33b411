//! The tables in `docs/PERFORMANCE.md`, and on the terminal.
//!
//! Owns the words around the figures, and the place between two marks that `--write` rewrites. Knows nothing of how figures are taken.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::figures::{Line, Results, Spread};
use crate::peers::System;
use crate::work::{self, Kind, Work};

const BEGINS: &str = "<!-- benches/compare writes from here -->";
const ENDS: &str = "<!-- benches/compare writes to here -->";

/// Everything measured so far, as Markdown.
pub(crate) fn tables(systems: &[Box<dyn System>], results: &Results) -> String {
    let mut text = String::new();
    for work in &work::ALL {
        let _ = write!(text, "{}", table(systems, results, work));
    }
    text.push_str(&about(systems, results));
    text.push_str(&missing(results));
    text
}

fn table(systems: &[Box<dyn System>], results: &Results, work: &Work) -> String {
    let lines: Vec<(&dyn System, Line)> = systems
        .iter()
        .filter_map(|system| Some((system.as_ref(), results.line(system.name(), work.name)?)))
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let ours = results.line(systems[0].name(), work.name);
    let mut text = format!("### {}\n\n", work.title);
    text.push_str(match work.kind {
        Kind::Failover => "| system | an ack means | ms | Plimsoll is faster by | rounds |\n|---|---|---|---|---|\n",
        _ if work.is_latency() => "| system | an ack means | records/s | p50 ms | p99 ms | Plimsoll is faster by, p50, p99 | rounds |\n|---|---|---|---|---|---|---|\n",
        Kind::Consume => "| system | records/s | MB/s | Plimsoll does | rounds |\n|---|---|---|---|---|\n",
        _ => "| system | an ack means | records/s | MB/s | p50 ms | p99 ms | Plimsoll does | rounds |\n|---|---|---|---|---|---|---|---|\n",
    });
    for (system, line) in &lines {
        text.push_str(&row(*system, line, ours.as_ref(), work));
    }
    text.push('\n');
    text
}

fn row(system: &dyn System, line: &Line, ours: Option<&Line>, work: &Work) -> String {
    let (title, ack, rounds) = (system.title(), system.ack(), line.rounds);
    let rate = with_ends(Some(line.records_per_s), grouped);
    let bytes = format!("{:.1}", line.mb_per_s.median);
    let p50 = with_ends(line.p50, milliseconds);
    let p99 = with_ends(line.p99, milliseconds);
    let over = |theirs: Option<Spread>, ours: Option<Spread>| match (theirs, ours) {
        (Some(theirs), Some(ours)) if ours.median > 0.0 => times(theirs.median / ours.median),
        _ => "-".to_owned(),
    };
    let quicker = over(line.p50, ours.and_then(|ours| ours.p50));
    if work.kind == Kind::Failover {
        return format!("| {title} | {ack} | {p50} | {quicker} | {rounds} |\n");
    }
    if work.is_latency() {
        let tail = over(line.p99, ours.and_then(|ours| ours.p99));
        return format!(
            "| {title} | {ack} | {rate} | {p50} | {p99} | {quicker}, {tail} | {rounds} |\n"
        );
    }
    let more = over(
        ours.map(|ours| ours.records_per_s),
        Some(line.records_per_s),
    );
    if work.kind == Kind::Consume {
        return format!("| {title} | {rate} | {bytes} | {more} | {rounds} |\n");
    }
    format!("| {title} | {ack} | {rate} | {bytes} | {p50} | {p99} | {more} | {rounds} |\n")
}

/// How each system was run.
fn about(systems: &[Box<dyn System>], results: &Results) -> String {
    let mut text = String::from(
        "### How each was run\n\n| system | at full speed | settings | not measured |\n|---|---|---|---|\n",
    );
    for system in systems {
        let measured = |work: &&Work| results.line(system.name(), work.name).is_some();
        if !work::ALL.iter().any(|work| measured(&work)) {
            continue;
        }
        let mut lacking: Vec<&str> = Vec::new();
        for work in &work::ALL {
            match system.lacks(work.kind) {
                Some(why) if !lacking.contains(&why) => lacking.push(why),
                _ => {}
            }
        }
        let (title, sends, settings) = (system.title(), system.sends(), system.settings());
        let _ = writeln!(
            text,
            "| {title} | {sends} | {settings} | {} |",
            lacking.join("; ")
        );
    }
    text.push('\n');
    text
}

fn missing(results: &Results) -> String {
    let mut text = String::new();
    if !results.missing.is_empty() {
        text.push_str("### Not measured, and why\n\n");
    }
    for (what, why) in &results.missing {
        let _ = writeln!(text, "- {what}:\n\n```text\n{}\n```\n", why.trim_end());
    }
    text
}

/// The median, and the least and greatest where there is more than one.
fn with_ends(spread: Option<Spread>, told: impl Fn(f64) -> String) -> String {
    let Some(spread) = spread else {
        return "-".to_owned();
    };
    let (median, least, greatest) = (
        told(spread.median),
        told(spread.least),
        told(spread.greatest),
    );
    if least == greatest {
        return median;
    }
    format!("{median} ({least}-{greatest})")
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.3}"),
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 10.0 => format!("{ratio:.2}x"),
        ratio => format!("{ratio:.0}x"),
    }
}

/// With commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Puts `section` between the marks of a file.
pub(crate) fn write(file: &Path, section: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(told)?;
    let marks = || format!("{} has no lines {BEGINS:?} and {ENDS:?}", file.display());
    let (before, rest) = text.split_once(BEGINS).ok_or_else(marks)?;
    let (_, after) = rest.split_once(ENDS).ok_or_else(marks)?;
    fs::write(
        file,
        format!("{before}{BEGINS}\n\n{}\n{ENDS}{after}", section.trim_end()),
    )
    .map_err(told)
}
