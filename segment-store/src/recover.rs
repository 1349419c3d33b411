//! What the files of a log say, and what to make of it. Owns every judgement: which files count, where the log ends, and whether what
//! is missing was ever promised.
//!
//! On the recovery walk and in the offline tools; it only reads. Sealed segments cost their header page and footer; only the tail (and
//! a segment whose footer is missing) is scanned. What is damaged is refused here and looked at closely by `survey`. Must not
//! know: how the log goes on afterwards. `docs/FORMAT.md` lists the cases.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::contents::Contents;
use crate::error::OpenError;
use crate::fault::Fault;
use crate::footer;
use crate::fs::{Fs, FsFile};
use crate::index::SparseIndex;
use crate::log::LogIdentity;
use crate::mutation;
use crate::scan::Scan;
use crate::segment::{
    FileName, HEADER_PAGE, SegmentHeader, TrimMarks, decode_durable_mark, has_trust_mark,
    repaired_path, segment_path,
};

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Index of the first entry kept; `last_index + 1` if there is none.
    pub first_index: u64,
    /// Term of the entry before the first (0 if that is the log's beginning).
    pub prev_term: u64,
    /// Index of the last entry; `first_index - 1` if there is none.
    pub last_index: u64,
    /// Term of the last entry; `prev_term` if there is none.
    pub last_term: u64,
    /// `(first index, term)` of each run of entries of one term, ascending.
    pub term_runs: Vec<(u64, u64)>,
    /// Header checksum of the last entry: the link of the next one.
    pub last_header_crc: u32,
    /// Offset that the next record gets.
    pub next_offset: u64,
    /// First offset kept.
    pub log_start: u64,
    /// Indexes of the membership entries, ascending.
    pub memberships: Vec<u64>,
    /// How the log ended.
    pub tail: TailVerdict,
    /// Entries after `last_index` may have been promised to others and lost here, and the log has not caught up since
    /// ([`crate::Log::trust_tail`]).
    pub suspect_tail: bool,
}

/// How a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailVerdict {
    /// At the end of a complete write.
    Clean,
    /// In a write that was not finished, nothing of which had been synced: cut off, and the log goes on in a fresh file.
    Torn {
        /// Bytes cut off.
        bytes: u64,
    },
    /// Before a file that is gone: nothing says how far it went. The log goes on in a fresh file.
    Lost,
}

/// A segment file whose header page is sound.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn FsFile>,
    pub(crate) header: SegmentHeader,
    pub(crate) segment_crc: u32,
    /// Index in the durable mark of the header page.
    pub(crate) durable_mark: u64,
    pub(crate) trim_marks: TrimMarks,
    /// Born after a loss that has not been made good since.
    pub(crate) suspect: bool,
}

impl SegmentFile {
    pub(crate) fn scan(&self) -> Scan {
        Scan::new(Arc::clone(&self.file), self.header, self.segment_crc)
    }
}

/// A segment and what counts of it.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) file: SegmentFile,
    pub(crate) contents: Contents,
    pub(crate) index: SparseIndex,
    /// Its footer says exactly this.
    pub(crate) sealed: bool,
}

/// All there is to know of a log's files.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Gapless, ascending, all intact; the last one is where the intact log ends. Empty for a new log.
    pub(crate) segments: Vec<Examined>,
    /// Files that a later one overrides from their very base on: cut off, only not removed yet.
    pub(crate) cut: Vec<PathBuf>,
    /// Files that hold only what was trimmed: their removal was not finished, or was undone by a power cut.
    pub(crate) trimmed: Vec<PathBuf>,
    /// Every entry before this index was trimmed; 0 if nothing ever was.
    pub(crate) trimmed_before: u64,
    /// Files whose creation was not finished.
    pub(crate) unborn: Vec<PathBuf>,
    /// Largest index known to have been synced.
    pub(crate) durable_index: u64,
    pub(crate) verdict: TailVerdict,
    /// Entries after the end may have been promised and lost.
    pub(crate) suspect: bool,
    /// Larger than that of any file there is.
    pub(crate) next_generation: u64,
}

impl Findings {
    /// What the log's owner is told. There is at least one segment.
    pub(crate) fn recovered(&self) -> Recovered {
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else {
            unreachable!("asked of a log with at least one segment");
        };
        let mut term_runs: Vec<(u64, u64)> = Vec::new();
        for &(index, term) in self.segments.iter().flat_map(|s| &s.contents.term_runs) {
            if term_runs.last().is_none_or(|&(_, last)| last != term) {
                term_runs.push((index, term));
            }
        }
        let memberships = self.segments.iter();
        let memberships = memberships.flat_map(|s| s.contents.memberships.iter().copied());
        Recovered {
            first_index: first.contents.base_index,
            prev_term: first.file.header.prev_term,
            last_index: last.contents.last_index,
            last_term: last.contents.last_term,
            term_runs,
            last_header_crc: last.contents.last_header_crc,
            next_offset: last.contents.next_offset,
            log_start: first.file.header.base_offset,
            memberships: memberships.collect(),
            tail: self.verdict,
            suspect_tail: self.suspect,
        }
    }
}

/// Reads what the files in `dir` say. With `identity` given, files of another log are refused.
pub(crate) fn examine(
    fs: &dyn Fs,
    dir: &Path,
    identity: Option<LogIdentity>,
    index_every_bytes: u64,
) -> Result<Findings, OpenError> {
    let (files, unborn) = open_all(fs, dir, identity)?;
    let next_generation = files
        .last()
        .map_or(1, |last| last.header.generation.saturating_add(1));
    let trimmed_before = files.iter().map(|file| file.trim_marks.first()).max();
    let trimmed_before = trimmed_before.unwrap_or(0);
    // Where one is left and another one gone, there is a gap that means nothing.
    let (files, trimmed): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.header.base_index >= trimmed_before);
    let (files, cut) = leave_out_overridden(files);
    let mut findings = Findings {
        segments: Vec::with_capacity(files.len()),
        cut,
        trimmed: trimmed.into_iter().map(|file| file.path).collect(),
        trimmed_before,
        unborn,
        durable_index: 0,
        verdict: TailVerdict::Clean,
        suspect: false,
        next_generation,
    };
    let mut files = files.into_iter().peekable();
    while let Some(file) = files.next() {
        let path = file.path.clone();
        let judged = match files.peek() {
            Some(next) => examine_before(file, &next.header, index_every_bytes),
            None => examine_last(file, index_every_bytes),
        };
        let judged = judged.map_err(|error| Fault::new("reading", &path, error))?;
        if let Some(index) = judged.damaged {
            return Err(OpenError::Damaged { path, index });
        }
        findings.durable_index = judged.durable_index;
        findings.verdict = judged.verdict;
        findings.suspect = judged.suspect;
        findings.segments.push(judged.segment);
    }
    Ok(findings)
}

/// Opens every segment file, in order of generation, and lists those whose creation was not finished.
fn open_all(
    fs: &dyn Fs,
    dir: &Path,
    identity: Option<LogIdentity>,
) -> Result<(Vec<SegmentFile>, Vec<PathBuf>), OpenError> {
    let names = fs
        .list(dir)
        .map_err(|error| Fault::new("listing", dir, error))?;
    let mut files = Vec::new();
    let mut unborn = Vec::new();
    for name in &names {
        match FileName::parse(name) {
            FileName::Segment(generation) => {
                if names.contains(&format!("{name}.repaired")) {
                    continue;
                }
                let path = segment_path(dir, generation);
                files.push(open_named(fs, path, generation, identity)?);
            }
            FileName::Repaired(generation) => {
                let path = repaired_path(dir, generation);
                files.push(open_named(fs, path, generation, identity)?);
            }
            FileName::Unborn => unborn.push(dir.join(name)),
            FileName::Other => {}
        }
    }
    files.sort_by_key(|file| file.header.generation);
    Ok((files, unborn))
}

fn open_named(
    fs: &dyn Fs,
    path: PathBuf,
    generation: u64,
    identity: Option<LogIdentity>,
) -> Result<SegmentFile, OpenError> {
    let file = open_segment(fs, path, identity)?;
    // A file under another's name is a mix-up by hand; its order in the log would be wrong.
    if file.header.generation != generation {
        return Err(OpenError::Misnamed { path: file.path });
    }
    Ok(file)
}

/// Opens one file for reading and checks its header page.
pub(crate) fn open_segment(
    fs: &dyn Fs,
    path: PathBuf,
    identity: Option<LogIdentity>,
) -> Result<SegmentFile, OpenError> {
    let read = |path: &Path| {
        let file = fs.open_read(path)?;
        let mut page = vec![0; HEADER_PAGE.min(file.len()) as usize];
        file.read_exact_at(&mut page, 0)?;
        Ok((file, page))
    };
    let (file, page) = read(&path).map_err(|error| Fault::new("reading", &path, error))?;
    let (header, segment_crc) = SegmentHeader::decode(&page, &path, file.len(), identity)?;
    Ok(SegmentFile {
        durable_mark: decode_durable_mark(&page, segment_crc),
        trim_marks: TrimMarks::decode(&page, segment_crc),
        suspect: header.after_loss && !has_trust_mark(&page, segment_crc),
        path,
        file,
        header,
        segment_crc,
    })
}

/// A truncation goes on in a later file with a lower base: files from that base on are cut off, whether or not they are gone yet. So is
/// everything before a file with which the log starts anew.
fn leave_out_overridden(files: Vec<SegmentFile>) -> (Vec<SegmentFile>, Vec<PathBuf>) {
    let mut kept = Vec::with_capacity(files.len());
    let mut cut = Vec::new();
    let mut lowest_base = u64::MAX;
    for file in files.into_iter().rev() {
        if file.header.base_index < lowest_base {
            // No index is below 0: nothing earlier is kept.
            lowest_base = if file.header.anew {
                0
            } else {
                file.header.base_index
            };
            kept.push(file);
        } else {
            cut.push(file.path);
        }
    }
    kept.reverse();
    (kept, cut)
}

/// A segment and what was concluded from it.
struct Judged {
    segment: Examined,
    durable_index: u64,
    verdict: TailVerdict,
    suspect: bool,
    /// First index that was durable and is damaged or missing.
    damaged: Option<u64>,
}

/// A segment that `next` goes on from. It was synced before `next` got its name, so whatever is missing before `next` is damage.
fn examine_before(
    file: SegmentFile,
    next: &SegmentHeader,
    index_every_bytes: u64,
) -> std::io::Result<Judged> {
    let footer = footer::read(file.file.as_ref(), &file.header, file.segment_crc)?;
    let mut sealed = footer.is_some();
    let (mut contents, index) = match footer {
        Some(found) => found,
        None => file
            .scan()
            .chain(next.base_index - 1, index_every_bytes, |_, _, _| {})?,
    };
    if contents.last_index >= next.base_index {
        // Sealed further on, before the truncation that made `next`.
        sealed = false;
        if let Some(end) = end_of(&file, &index, next)? {
            contents = contents.cut_before(next, end);
        }
    }
    let whole = contents.joins(next) || mutation::is("a hole between segments is passed over");
    let first_missing = contents.last_index.saturating_add(1).min(next.base_index);
    Ok(Judged {
        damaged: (!whole).then_some(first_missing),
        suspect: false,
        verdict: TailVerdict::Clean,
        durable_index: contents.last_index,
        segment: Examined {
            file,
            contents,
            index,
            sealed,
        },
    })
}

/// Where the frame before `next` ends in `file`; `None` if it is not there as `next` knows it.
fn end_of(
    file: &SegmentFile,
    index: &SparseIndex,
    next: &SegmentHeader,
) -> std::io::Result<Option<u64>> {
    let Some(entry) = index.floor(|entry| entry.index < next.base_index) else {
        return Ok(None);
    };
    let mut scan = file.scan();
    let (mut position, mut expected) = (entry.position, entry.index);
    while let Some((header, crc)) = scan.frame_at(position)? {
        if header.index != expected || header.group != file.header.identity.group {
            return Ok(None);
        }
        position += header.frame_len() as u64;
        expected += 1;
        if expected == next.base_index {
            return Ok((crc == next.prev_header_crc).then_some(position));
        }
    }
    Ok(None)
}

/// The segment at the end of the log.
fn examine_last(file: SegmentFile, index_every_bytes: u64) -> std::io::Result<Judged> {
    if let Some((contents, index)) =
        footer::read(file.file.as_ref(), &file.header, file.segment_crc)?
    {
        // A footer is only written once the file that goes on has a durable name: that file is lost.
        return Ok(Judged {
            durable_index: contents.last_index,
            verdict: TailVerdict::Lost,
            suspect: true,
            damaged: None,
            segment: Examined {
                file,
                contents,
                index,
                sealed: true,
            },
        });
    }
    let mut scan = file.scan();
    let (contents, index) = scan.chain(u64::MAX, index_every_bytes, |_, _, _| {})?;
    let beyond = scan.beyond(&contents)?;
    let durable_index = (file.header.base_index - 1)
        .max(file.durable_mark)
        .max(beyond.durable_index);
    let end = contents.end_position;
    let rot = durable_index > contents.last_index
        && !mutation::is("rot is taken for an unfinished write");
    let verdict = if beyond.ended_here && beyond.written_until.is_none() {
        TailVerdict::Clean
    } else {
        let until = beyond.written_until.unwrap_or(end + 64);
        TailVerdict::Torn { bytes: until - end }
    };
    // Behind a write that was not finished lies what nobody can tell from a promised write that rotted. Zeros were never written.
    let torn = verdict != TailVerdict::Clean && !beyond.blank;
    Ok(Judged {
        damaged: rot.then_some(contents.last_index + 1),
        suspect: torn || file.suspect,
        durable_index,
        segment: Examined {
            file,
            contents,
            index,
            sealed: false,
        },
        verdict,
    })
}
