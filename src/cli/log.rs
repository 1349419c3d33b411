//! `plimsoll log`: look at a log on disk, offline and without writing a byte.
//!
//! Owns how frames and findings are shown, and which folders a path stands for. Must not know the format: `segment-store`
//! reads it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use segment_store::fs::RealFs;
use segment_store::verify::{self, Report};
use segment_store::{FrameHeader, TailVerdict, kind};
use serde::Serialize;
use serde_json::{Value, json};

use super::output::{Failure, Format, Out, Table};

/// Folder of a node's data that holds one folder per group.
const GROUPS: &str = "groups";

/// Look at a log on disk, offline
#[derive(Args)]
pub(crate) struct Log {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the header of every frame
    Dump {
        /// A node's data folder, or the folder of one group in it (DIR/node-N/groups/GROUP)
        path: PathBuf,
    },
    /// Check every byte: checksums, the chain of headers, indexes and offsets
    Verify {
        /// A node's data folder, or the folder of one group in it (DIR/node-N/groups/GROUP)
        path: PathBuf,
    },
}

/// A frame, as `log dump -o json` shows it.
#[derive(Serialize)]
struct Shown {
    index: u64,
    term: u64,
    kind: &'static str,
    base_offset: u64,
    record_count: u32,
    payload_len: u32,
    payload_crc: u32,
    header_crc: u32,
    prev_header_crc: u32,
    group: u64,
}

impl Log {
    pub(crate) fn run(self, format: Format) -> Result<(), Failure> {
        match self.verb {
            Verb::Dump { path } => dump(&groups(&path)?, format),
            Verb::Verify { path } => verify(&groups(&path)?, format),
        }
    }
}

/// The folders of groups that a path stands for, by ascending number.
fn groups(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |what: &Path| Failure::doing(format!("cannot read {}", what.display()));
    let inner = path.join(GROUPS);
    if !inner.is_dir() {
        fs::read_dir(path).map_err(cannot(path))?;
        return Ok(vec![path.to_owned()]);
    }
    let mut numbered = Vec::new();
    for entry in fs::read_dir(&inner).map_err(cannot(&inner))? {
        let folder = entry.map_err(cannot(&inner))?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(|name| name.parse::<u64>().ok()) {
            numbered.push((number, folder));
        }
    }
    if numbered.is_empty() {
        return Err(Failure::Message(format!(
            "{} holds no groups",
            path.display()
        )));
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, folder)| folder).collect())
}

fn dump(groups: &[PathBuf], format: Format) -> Result<(), Failure> {
    let mut out = Out::new();
    let mut failed = false;
    if format == Format::Human {
        out.line(human_headings())?;
    }
    for group in groups {
        failed |= !dump_group(group, format, &mut out)?;
    }
    out.flush()?;
    if failed {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// Prints a group's frames up to the first that is damaged; says whether there was none.
fn dump_group(group: &Path, format: Format, out: &mut Out) -> Result<bool, Failure> {
    let frames = match verify::dump(&RealFs, group) {
        Ok(frames) => frames,
        Err(error) => return told(group, &error, out),
    };
    for frame in frames {
        match frame {
            Ok((header, header_crc)) => match format {
                Format::Json => out.json(&shown(&header, header_crc))?,
                Format::Human => out.line(human(&shown(&header, header_crc)))?,
            },
            Err(error) => return told(group, &error, out),
        }
    }
    Ok(true)
}

/// Says what is wrong with a group, after what was printed of it.
fn told(group: &Path, error: &dyn std::error::Error, out: &mut Out) -> Result<bool, Failure> {
    out.flush()?;
    eprintln!("plimsoll: {}: {error}", group.display());
    Ok(false)
}

fn shown(header: &FrameHeader, header_crc: u32) -> Shown {
    Shown {
        index: header.index,
        term: header.term,
        kind: match header.kind {
            kind::RECORDS => "records",
            kind::NOOP => "noop",
            kind::MEMBERSHIP => "membership",
            kind::CONTROLLER => "controller",
            _ => "unknown",
        },
        base_offset: header.base_offset,
        record_count: header.record_count,
        payload_len: header.payload_len,
        payload_crc: header.payload_crc,
        header_crc,
        prev_header_crc: header.prev_header_crc,
        group: header.group,
    }
}

fn human_headings() -> String {
    format!(
        "{:>6} {:>10} {:>6} {:10} {:>12} {:>8} {:>9} {:>8} {:>8} {:>8}",
        "GROUP",
        "INDEX",
        "TERM",
        "KIND",
        "OFFSET",
        "RECORDS",
        "BYTES",
        "PAYLOAD",
        "HEADER",
        "PREVIOUS"
    )
}

/// One line, aligned as long as the figures are of common size: a log is too long to measure its columns first.
fn human(frame: &Shown) -> String {
    let Shown {
        index,
        term,
        kind,
        base_offset,
        record_count,
        payload_len,
        group,
        ..
    } = frame;
    format!(
        "{group:>6} {index:>10} {term:>6} {kind:10} {base_offset:>12} {record_count:>8} {payload_len:>9} {:08x} {:08x} {:08x}",
        frame.payload_crc, frame.header_crc, frame.prev_header_crc
    )
}

fn verify(groups: &[PathBuf], format: Format) -> Result<(), Failure> {
    let mut out = Out::new();
    let mut table = Table::new(&["FOLDER", "SEGMENTS", "FIRST", "LAST", "OFFSETS", "VERDICT"]);
    let mut problems = Vec::new();
    for group in groups {
        let report = verify::verify(&RealFs, group).map_err(|error| error.to_string());
        let report = report.and_then(|report| match report.segments.is_empty() {
            true => Err("there is no log in this folder".to_owned()),
            false => Ok(report),
        });
        match format {
            Format::Json => out.json(&verdict_as_json(group, &report))?,
            Format::Human => table.row(verdict_row(group, &report)),
        }
        match report {
            Ok(report) => problems.extend(report.problems.iter().map(ToString::to_string)),
            Err(error) => problems.push(format!("{}: {error}", group.display())),
        }
    }
    if format == Format::Human {
        table.print(&mut out)?;
    }
    out.flush()?;
    problems
        .iter()
        .for_each(|problem| eprintln!("plimsoll: {problem}"));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

fn verdict_row(group: &Path, report: &Result<Report, String>) -> Vec<String> {
    let folder = group.display().to_string();
    let dash = || "-".to_owned();
    let Ok(report) = report else {
        return vec![
            folder,
            dash(),
            dash(),
            dash(),
            dash(),
            "unreadable".to_owned(),
        ];
    };
    let segments = report.segments.len().to_string();
    let Some(found) = &report.found else {
        return vec![
            folder,
            segments,
            dash(),
            dash(),
            dash(),
            verdict(report).to_owned(),
        ];
    };
    let offsets = format!("{}..{}", found.log_start, found.next_offset);
    let (first, last) = (found.first_index.to_string(), found.last_index.to_string());
    vec![
        folder,
        segments,
        first,
        last,
        offsets,
        verdict(report).to_owned(),
    ]
}

fn verdict_as_json(group: &Path, report: &Result<Report, String>) -> Value {
    let report = match report {
        Ok(report) => report,
        Err(error) => return json!({ "path": group, "sound": false, "problems": [error] }),
    };
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let mut shown = json!({
        "path": group,
        "sound": report.is_sound(),
        "verdict": verdict(report),
        "segments": report.segments.len(),
        "problems": problems,
    });
    if let Some(found) = &report.found {
        shown["group"] = json!(report.identity.as_ref().map(|identity| identity.group));
        shown["first_index"] = json!(found.first_index);
        shown["last_index"] = json!(found.last_index);
        shown["last_term"] = json!(found.last_term);
        shown["log_start"] = json!(found.log_start);
        shown["next_offset"] = json!(found.next_offset);
    }
    shown
}

/// One word for it. A torn tail is what a crash leaves of a write nobody was told of: it is sound.
fn verdict(report: &Report) -> &'static str {
    let tail = report.found.as_ref().map(|found| found.tail);
    match (report.is_sound(), tail) {
        (false, _) => "damaged",
        (true, Some(TailVerdict::Torn { .. })) => "sound, torn tail",
        (true, _) => "sound",
    }
}
