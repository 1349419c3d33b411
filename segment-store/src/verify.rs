//! Looking at a log without opening it: every byte checked, nothing written. Owns the report an operator reads.
//!
//! For `plimsoll log verify` and `log dump`; no lock is taken, so a log in use may be looked at, and then its end may seem unfinished. Must
//! not know: how anything is printed.

use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fault::Fault;
use crate::format::FrameHeader;
use crate::fs::Fs;
use crate::log::LogIdentity;
use crate::recover::{Examined, Recovered, TailVerdict, examine};
use crate::scan::Scan;
use crate::segment::HEADER_PAGE;

/// What there is to say of a log's files.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose log it is; `None` if there is no segment.
    pub identity: Option<LogIdentity>,
    /// What opening the log would find; `None` if there is no segment.
    pub found: Option<Recovered>,
    /// The segments up to the end of the intact log, ascending.
    pub segments: Vec<SegmentReport>,
    /// Whatever is not as it was written. A write that was not finished is no problem; it shows in `found`.
    pub problems: Vec<Problem>,
    /// Files that hold nothing of the log and go at the next opening.
    pub leftovers: Vec<PathBuf>,
}

/// One segment file.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// Index of the first frame.
    pub base_index: u64,
    /// Index of the last frame (inclusive); `base_index - 1` if there is none.
    pub last_index: u64,
    /// Bytes that the frames take.
    pub frame_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Whether it has a footer, and so is not read when the log is opened.
    pub sealed: bool,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: index {index}, position {position}: {what}")]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The entry concerned, or the first of many.
    pub index: u64,
    /// Byte in the file.
    pub position: u64,
    /// What is wrong.
    pub what: String,
}

impl Report {
    /// Whether every entry that was ever durable is there and whole.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads and checks every frame of the log in `dir`.
///
/// # Errors
/// Files that no log can be read from: foreign, of a newer version, cut short, with a damaged header page; and failing reads.
pub fn verify(fs: &dyn Fs, dir: &Path) -> Result<Report, OpenError> {
    let findings = look_at(fs, dir)?;
    let mut report = Report {
        identity: findings.segments.first().map(|s| s.file.header.identity),
        found: (!findings.segments.is_empty()).then(|| findings.recovered()),
        segments: Vec::with_capacity(findings.segments.len()),
        problems: Vec::new(),
        leftovers: findings.cut.into_iter().chain(findings.unborn).collect(),
    };
    let last = findings.segments.last().map(|last| last.file.path.clone());
    for segment in &findings.segments {
        let problem = check_frames(segment);
        let problem = problem.map_err(|error| Fault::new("reading", &segment.file.path, error))?;
        report.problems.extend(problem);
        let contents = &segment.contents;
        report.segments.push(SegmentReport {
            path: segment.file.path.clone(),
            base_index: contents.base_index,
            last_index: contents.last_index,
            frame_bytes: contents.end_position - HEADER_PAGE,
            file_bytes: segment.file.header.file_len,
            sealed: segment.sealed,
        });
    }
    if let (TailVerdict::Damaged { index, position }, Some(path)) = (findings.verdict, last) {
        report.problems.push(Problem {
            path,
            index,
            position,
            what: "entries from here on were durable and are damaged or missing".to_owned(),
        });
    }
    Ok(report)
}

/// Walks the frames that the log's index or chain leads to, and checks that they are what the segment claims.
fn check_frames(segment: &Examined) -> std::io::Result<Option<Problem>> {
    let claimed = &segment.contents;
    let mut scan = segment.file.scan();
    let (found, _) = scan.chain(claimed.last_index, u64::MAX, |_, _, _| {})?;
    let problem = |index, position, what: &str| {
        Some(Problem {
            path: segment.file.path.clone(),
            index,
            position,
            what: what.to_owned(),
        })
    };
    if found.last_index < claimed.last_index {
        let index = found.last_index + 1;
        return Ok(problem(
            index,
            found.end_position,
            "not the frame that was written",
        ));
    }
    let same = found.end_position == claimed.end_position
        && found.last_header_crc == claimed.last_header_crc
        && found.next_offset == claimed.next_offset
        && found.term_runs == claimed.term_runs
        && found.memberships == claimed.memberships
        && found.max_timestamp <= claimed.max_timestamp;
    Ok(if same {
        None
    } else {
        problem(
            found.last_index,
            found.end_position,
            "the footer does not describe the frames",
        )
    })
}

/// The headers of a log's frames in order, each with its checksum; ends after the first error.
#[derive(Debug)]
pub struct Dump {
    /// Segments still to come, the next one last.
    segments: Vec<Examined>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    scan: Scan,
    position: u64,
    end_position: u64,
    index: u64,
}

/// Lists the frames of the log in `dir`, up to the end of the intact log.
///
/// # Errors
/// As [`verify`]; a frame that is not what was written is an error of the iterator.
pub fn dump(fs: &dyn Fs, dir: &Path) -> Result<Dump, OpenError> {
    let mut segments = look_at(fs, dir)?.segments;
    segments.reverse();
    Ok(Dump {
        segments,
        current: None,
    })
}

impl Iterator for Dump {
    type Item = Result<(FrameHeader, u32), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(mut current) = self.current.take()
                && current.position < current.end_position
            {
                let next = current.next_frame();
                match next {
                    Ok(_) => self.current = Some(current),
                    Err(_) => self.segments.clear(),
                }
                return Some(next);
            }
            let segment = self.segments.pop()?;
            self.current = Some(Current {
                scan: segment.file.scan(),
                path: segment.file.path,
                position: HEADER_PAGE,
                end_position: segment.contents.end_position,
                index: segment.contents.base_index,
            });
        }
    }
}

impl Current {
    fn next_frame(&mut self) -> Result<(FrameHeader, u32), Fault> {
        let found = self.scan.frame_at(self.position);
        let found = found.map_err(|error| Fault::new("reading", &self.path, error))?;
        match found {
            Some((header, crc)) if header.index == self.index => {
                self.position += header.frame_len() as u64;
                self.index += 1;
                Ok((header, crc))
            }
            _ => Err(Fault::damaged(
                "reading",
                &self.path,
                format!(
                    "index {} at position {} is not the frame that was written",
                    self.index, self.position
                ),
            )),
        }
    }
}

/// What opening would find, whoever the log belongs to, as long as all its files are of one log.
fn look_at(fs: &dyn Fs, dir: &Path) -> Result<crate::recover::Findings, OpenError> {
    const INDEX_EVERY_BYTES: u64 = 64 << 10;
    let findings = examine(fs, dir, None, INDEX_EVERY_BYTES)?;
    match findings.segments.first() {
        Some(first) => examine(fs, dir, Some(first.file.header.identity), INDEX_EVERY_BYTES),
        None => Ok(findings),
    }
}
