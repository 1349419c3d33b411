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
use crate::segment::{FileName, HEADER_PAGE, SegmentHeader};
use crate::survey::{End, Piece, Sheet, survey};

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
    let findings = match look_at(fs, dir) {
        Err(error) if error.is_damage() => return report_damage(fs, dir, error),
        findings => findings?,
    };
    let mut report = Report {
        identity: findings.segments.first().map(|s| s.file.header.identity),
        found: (!findings.segments.is_empty()).then(|| findings.recovered()),
        segments: Vec::with_capacity(findings.segments.len()),
        problems: Vec::new(),
        leftovers: [findings.cut, findings.trimmed, findings.unborn].concat(),
    };
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
    if let (TailVerdict::Lost, Some(last)) = (findings.verdict, findings.segments.last()) {
        report.problems.push(Problem {
            path: last.file.path.clone(),
            index: last.contents.last_index.saturating_add(1),
            position: last.contents.end_position,
            what: "the file in which the log went on from here is missing".to_owned(),
        });
    }
    Ok(report)
}

/// What is left of a log that does not open, and what is missing.
fn report_damage(fs: &dyn Fs, dir: &Path, error: OpenError) -> Result<Report, OpenError> {
    let Some(identity) = identity_of(fs, dir)? else {
        return Err(error);
    };
    // Where the log may begin is not known here.
    let survey = survey(fs, dir, identity, None)?;
    let mut report = Report {
        identity: Some(identity),
        found: None,
        segments: Vec::with_capacity(survey.sheets.len()),
        problems: Vec::new(),
        leftovers: survey.unborn,
    };
    for sheet in &survey.sheets {
        report.problems.extend(problems_of(sheet));
        let held = sheet.pieces.iter().filter_map(|piece| match piece {
            Piece::Held(run) => Some(run.end - run.position),
            Piece::Lost(_) => None,
        });
        report.segments.push(SegmentReport {
            path: sheet.path.clone(),
            base_index: sheet.header.base_index,
            last_index: sheet.last_index(),
            frame_bytes: held.sum(),
            file_bytes: sheet.file.real_len(),
            sealed: sheet.end == End::Joined,
        });
    }
    let unknown = survey.unknown.into_iter().map(|(_, path)| Problem {
        path,
        index: 0,
        position: 0,
        what: "the header page is damaged, and nothing else tells which segment this is".to_owned(),
    });
    report.problems.extend(unknown);
    Ok(report)
}

fn problems_of(sheet: &Sheet) -> Vec<Problem> {
    let mut problems = Vec::new();
    let problem = |index, position, what: String| Problem {
        path: sheet.path.clone(),
        index,
        position,
        what,
    };
    let mut position = HEADER_PAGE;
    for piece in &sheet.pieces {
        match piece {
            Piece::Held(run) => position = run.end,
            Piece::Lost(hole) => problems.push(problem(
                hole.first,
                position,
                format!("damaged or missing up to index {}", hole.last),
            )),
        }
    }
    if problems.is_empty() && !sheet.sound {
        let what = "the header page, the length or the end of the file is not what was written";
        problems.push(problem(sheet.header.base_index, 0, what.to_owned()));
    }
    problems
}

/// Whose log it is, as the first file says that still can.
fn identity_of(fs: &dyn Fs, dir: &Path) -> Result<Option<LogIdentity>, OpenError> {
    let names = fs
        .list(dir)
        .map_err(|error| Fault::new("listing", dir, error))?;
    for name in names {
        if let FileName::Segment(_) = FileName::parse(&name)
            && let Ok(file) = open_segment_of_any_length(fs, &dir.join(name))
        {
            return Ok(Some(file.identity));
        }
    }
    Ok(None)
}

fn open_segment_of_any_length(fs: &dyn Fs, path: &Path) -> Result<SegmentHeader, OpenError> {
    let mut page = vec![0; HEADER_PAGE as usize];
    let read = fs
        .open_read(path)
        .and_then(|file| file.read_exact_at(&mut page, 0));
    read.map_err(|error| Fault::new("reading", path, error))?;
    Ok(SegmentHeader::decode_page(&page, path, None)?.0)
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
