//! The files of a stopped node, and how to spoil them.
//!
//! Knows of the format what `docs/FORMAT.md` says and no more: names of files, the header page, where a frame's length stands, pages of the
//! ballot. Every change can be undone, byte by byte.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;
const FRAME_HEADER: usize = 64;
const FOOTER_TRAILER: usize = 128;

/// What is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// A byte of a frame in a segment that is full.
    SealedFrame,
    /// A byte of a frame in the segment that is being written.
    TailFrame,
    /// A byte of a segment's header page.
    HeaderPage,
    /// A byte of a segment's footer.
    Footer,
    /// The second half of a full segment is cut off.
    CutSealed,
    /// The tail is cut off behind its first frame.
    CutTail,
    /// A full segment is gone.
    MissingSegment,
    /// A byte in one of the two pages of a ballot.
    BallotPage,
    /// A byte in each of the two pages of a ballot.
    Ballot,
}

/// All of them.
pub(crate) const SPOILS: [Spoil; 9] = [
    Spoil::SealedFrame,
    Spoil::TailFrame,
    Spoil::HeaderPage,
    Spoil::Footer,
    Spoil::CutSealed,
    Spoil::CutTail,
    Spoil::MissingSegment,
    Spoil::BallotPage,
    Spoil::Ballot,
];

/// A file as it was before.
pub(crate) struct Spoilt {
    pub(crate) path: PathBuf,
    before: Vec<u8>,
}

impl Spoilt {
    /// Brings the file back as it was.
    pub(crate) fn undo(&self) {
        fs::write(&self.path, &self.before).expect("a file can be written");
    }
}

/// Spoils a file of the stopped node whose data is in `folder`; `None` if it has no file of that kind.
pub(crate) fn spoil(folder: &Path, what: Spoil, dice: &mut fastrand::Rng) -> Option<Spoilt> {
    let path = victim(folder, what, dice)?;
    let before = fs::read(&path).expect("a file of a stopped node can be read");
    let mut bytes = before.clone();
    let mut flip = |at: usize| bytes[at] ^= 1 << dice.u8(..8);
    match what {
        Spoil::SealedFrame | Spoil::TailFrame => {
            let frames = frames_of(&before);
            let (at, len) = *frames.get(frames.len() / 2)?;
            flip(at + len / 2);
        }
        Spoil::HeaderPage => flip(40),
        Spoil::Footer => flip(before.len() - FOOTER_TRAILER + 48),
        Spoil::BallotPage => flip(PAGE + 24),
        Spoil::Ballot => {
            flip(24);
            flip(PAGE + 24);
        }
        Spoil::CutSealed => bytes.truncate(before.len() / 2),
        Spoil::CutTail => {
            let (at, len) = *frames_of(&before).first()?;
            bytes.truncate(at + len);
        }
        Spoil::MissingSegment => {
            fs::remove_file(&path).expect("a file can be removed");
            return Some(Spoilt { path, before });
        }
    }
    fs::write(&path, bytes).expect("a file of a stopped node can be written");
    Some(Spoilt { path, before })
}

/// The file to spoil: one of the partition with most segments.
fn victim(folder: &Path, what: Spoil, dice: &mut fastrand::Rng) -> Option<PathBuf> {
    let groups = listed(&folder.join("groups"));
    let partitions = groups.get(1..)?;
    let segments = |group: &PathBuf| -> Vec<PathBuf> {
        let mut files = listed(group);
        files.retain(|file| has_extension(file, "segment"));
        files
    };
    let group = partitions
        .iter()
        .max_by_key(|group| segments(group).len())?;
    let mut segments = segments(group);
    let tail = segments.pop()?;
    match what {
        Spoil::TailFrame | Spoil::CutTail => Some(tail),
        Spoil::BallotPage | Spoil::Ballot => Some(group.join("ballot")),
        // A missing first segment looks trimmed: one in the middle it must be.
        Spoil::MissingSegment => segments.get(1).cloned(),
        _ => dice.choice(segments),
    }
}

/// Where each frame begins, and how long it is without its padding.
fn frames_of(segment: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut at = PAGE;
    while segment.get(at) == Some(&1) && at + FRAME_HEADER <= segment.len() {
        let field = [40, 41, 42, 43].map(|byte| segment[at + byte]);
        let len = FRAME_HEADER + u32::from_le_bytes(field) as usize;
        if at + len > segment.len() {
            break;
        }
        frames.push((at, len));
        at += len.next_multiple_of(FRAME_HEADER);
    }
    frames
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

/// What is in a folder, by name; names of numbers by their value.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of a stopped node can be listed");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    paths.sort_by_key(|path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (name.parse::<u64>().unwrap_or(u64::MAX), name)
    });
    paths
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in listed(from) {
        let target = to.join(entry.file_name().expect("it has a name"));
        if entry.is_dir() {
            copy_folder(&entry, &target);
        } else {
            fs::copy(&entry, &target).expect("a file can be copied");
        }
    }
}
