//! Making a damaged log whole: what is missing, taking it from whoever has it, and putting the repaired files in place. Owns the proof that
//! a frame from elsewhere is the one that was here.
//!
//! On the repair walk; the log is not open meanwhile. A frame is taken only if it has the header checksum that a frame, a mark or a header
//! page still here says it had: from the last missing one backwards, each taken frame says what the one before it was. So whoever gave
//! it need not be trusted. A damaged file is never written: a new one takes its place, and the old one is kept in `damaged/`. Must not
//! know: who is asked, when, how often.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::OpenError;
use crate::fault::{Fault, is_no_space};
use crate::frame::Frame;
use crate::fs::{Fs, ensure_dir};
use crate::log::{LogBase, LogIdentity, LogOptions};
use crate::segment::{FileName, repaired_path, segment_path};
use crate::survey::{End, Hole, Piece, Run, Sheet, Survey, survey};

mod rewrite;

/// The folder, in the log's own, where damaged files are kept.
const ASIDE: &str = "damaged";
/// Damaged files kept; the oldest go first.
const ASIDE_MAX: usize = 8;

/// Consecutive entries that were promised here and cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first one.
    pub first: u64,
    /// The last one (inclusive).
    pub last: u64,
}

/// Why frames were not taken, or the log not made whole. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Not what is missing: damaged on the way, or of another history.
    #[error("not the frames that are missing: {0}")]
    Unproven(String),
    /// No room for the frames or for the repaired file; may be tried again.
    #[error("no space left to repair the log")]
    NoSpace,
    /// Something is still missing.
    #[error("entries are still missing")]
    Incomplete,
    /// The machine failed us.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A damaged log, being repaired.
#[derive(Debug)]
pub struct Repair {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    identity: LogIdentity,
    options: LogOptions,
    survey: Survey,
    /// Ascending; what is still missing of each hole, from its first entry on.
    open: Vec<Hole>,
    /// Frames that were taken, by their first index; each file is one answer.
    fetched: Vec<Fetched>,
}

/// Frames taken from elsewhere, in a file of their own.
#[derive(Debug)]
struct Fetched {
    first: u64,
    last: u64,
    len: u64,
    path: PathBuf,
}

impl Repair {
    /// Looks at every byte of the log in `dir`, which is not open. Only names are changed, of files whose place is known: an interrupted
    /// repair is finished or forgotten. Up to `base` the owner has another account of what the log held (a snapshot): the log may begin
    /// behind that entry, must not begin later, and went at least as far.
    ///
    /// # Errors
    /// [`OpenError`], if the files are of another log or of a newer release, or nothing is left that says what was there.
    pub fn examine(
        fs: Arc<dyn Fs>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
        base: &LogBase,
    ) -> Result<Repair, OpenError> {
        finish_repairs(fs.as_ref(), dir)?;
        let survey = survey(fs.as_ref(), dir, identity, Some(base))?;
        for path in &survey.unborn {
            fs.remove(path)
                .map_err(|error| Fault::new("removing", path, error))?;
        }
        let open = holes(&survey.sheets).copied().collect();
        Ok(Repair {
            fs,
            dir: dir.to_owned(),
            identity,
            options,
            survey,
            open,
            fetched: Vec::new(),
        })
    }

    /// Whether nothing is damaged: opening the log needs no repair.
    pub fn is_sound(&self) -> bool {
        self.survey.unknown.is_empty() && self.survey.sheets.iter().all(|sheet| sheet.sound)
    }

    /// What is still missing, ascending. Empty: [`Repair::finish`] can be called.
    pub fn missing(&self) -> impl Iterator<Item = Missing> + '_ {
        self.open.iter().map(|hole| Missing {
            first: hole.first,
            last: hole.last,
        })
    }

    /// Index of the first entry kept.
    pub fn first_index(&self) -> u64 {
        let first = self.survey.sheets.first();
        first.map_or(1, |first| first.header.base_index)
    }

    /// Index of the last entry that is here or known to be missing.
    pub fn last_index(&self) -> u64 {
        self.survey.sheets.last().map_or(0, Sheet::last_index)
    }

    /// Whole frames that end with the one at `last` and do not begin before `first`: as many as fit into `bytes_max`, at least one.
    /// Every checksum is right. Empty if that entry is not here.
    ///
    /// # Errors
    /// The disk could not be read.
    pub fn read_before(&self, first: u64, last: u64, bytes_max: usize) -> Result<Bytes, Fault> {
        let held = self.survey.sheets.iter().find_map(|sheet| {
            let run = sheet
                .held()
                .find(|run| run.first <= last && last <= run.last)?;
            Some((sheet, run))
        });
        let Some((sheet, run)) = held else {
            return Ok(Bytes::new());
        };
        let read = rewrite::read_run_before(sheet, run, first, last, bytes_max);
        read.map_err(|error| Fault::new("reading", &sheet.path, error))
    }

    /// Takes whole frames that end where something missing ends ([`Missing::last`]) and begin no earlier than it does. The value is the
    /// number of entries. It is 0 if they have proven that what lies here before them is none of this log's: then more is missing than was
    /// known, these entries among it.
    ///
    /// # Errors
    /// [`RepairError::Unproven`]: nothing was taken.
    pub fn accept(&mut self, frames: &Bytes) -> Result<u64, RepairError> {
        let (at, proven) = self.prove(frames.clone())?;
        let first = proven.first;
        if let Some(sheet) = proven.disproves {
            return self.disown(sheet, first - 1, proven.link).map(|()| 0);
        }
        let path = crate::segment::fetched_path(&self.dir, first);
        let written = self.fs.create(&path, frames.len() as u64);
        let written = written.and_then(|file| file.write_all_at(frames, 0));
        if let Err(error) = written {
            // It counts for nothing, and is cleared away when the log is looked at again.
            let _ = self.fs.remove(&path);
            return Err(no_space_or_fault("writing", &path, error));
        }
        self.fetched.push(Fetched {
            first,
            last: proven.last,
            len: frames.len() as u64,
            path,
        });
        let hole = &mut self.open[at];
        if first == hole.first {
            self.open.remove(at);
        } else {
            hole.last = first - 1;
            hole.link = proven.link;
        }
        Ok(proven.last + 1 - first)
    }

    /// The open hole that `frames` fill from behind, and what they are.
    fn prove(&self, mut frames: Bytes) -> Result<(usize, Proven), RepairError> {
        let unproven = |what: &str| RepairError::Unproven(what.to_owned());
        let mut chain: Vec<Frame> = Vec::new();
        while !frames.is_empty() {
            let frame = Frame::split_from(&mut frames, self.options.payload_bytes_max, true);
            chain.push(frame.map_err(|error| RepairError::Unproven(error.to_string()))?);
        }
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
            return Err(unproven("there are none"));
        };
        let (first, last) = (first.header(), last);
        let at = self
            .open
            .iter()
            .position(|hole| hole.last == last.header().index && hole.first <= first.index)
            .ok_or_else(|| unproven("they end where nothing missing ends"))?;
        let hole = &self.open[at];
        if last.header_crc() != hole.link {
            return Err(unproven("the last one is another entry"));
        }
        let linked = chain.windows(2).all(|pair| {
            let (one, next) = (&pair[0], pair[1].header());
            next.prev_header_crc == one.header_crc()
                && next.index == one.header().index + 1
                && next.base_offset == one.header().next_offset()
        });
        if !linked
            || chain
                .iter()
                .any(|frame| frame.header().group != self.identity.group)
        {
            return Err(unproven("they do not follow each other"));
        }
        let mut disproves = None;
        if first.index == hole.first && first.prev_header_crc != hole.after {
            let unproven = unproven("the first one does not follow what is here");
            disproves = Some(self.sheet_that_may_err(at).ok_or(unproven)?);
        }
        let proven = Proven {
            first: first.index,
            last: last.header().index,
            link: first.prev_header_crc,
            disproves,
        };
        Ok((at, proven))
    }

    /// The file in which a frame before an open hole is to be doubted rather than frames that fill the hole: the proof of these reaches from
    /// what says how the file ends, through everything behind the hole, while nothing proves that frame.
    fn sheet_that_may_err(&self, at: usize) -> Option<usize> {
        let hole = &self.open[at];
        let sheets = &self.survey.sheets;
        let sheet = sheets
            .iter()
            .rposition(|sheet| sheet.header.base_index <= hole.first)?;
        let end = sheets[sheet].last_index();
        let last_one = self.open.get(at + 1).is_none_or(|next| next.first > end);
        let held_before = sheets[sheet].header.base_index < hole.first;
        (last_one && held_before && hole.last <= end && sheets[sheet].anchored).then_some(sheet)
    }

    /// What lies at `index` in the file of a sheet is not the entry that was here. The file is looked at again, and what was fetched for it is
    /// fetched again.
    fn disown(&mut self, at: usize, index: u64, header_crc: u32) -> Result<(), RepairError> {
        tracing::warn!(
            index,
            "a whole frame lies where another one was; it is taken for damage"
        );
        let learned = self.survey.learn(at, index, header_crc);
        let sheet = &self.survey.sheets[at];
        learned.map_err(|error| Fault::new("reading", &sheet.path, error))?;
        let held = sheet.header.base_index..=sheet.last_index();
        let again = holes(std::slice::from_ref(sheet)).copied();
        self.open.retain(|hole| !held.contains(&hole.first));
        self.open.extend(again);
        self.open.sort_unstable_by_key(|hole| hole.first);
        self.drop_fetched(|chunk| held.contains(&chunk.first));
        Ok(())
    }

    /// If a file cannot be removed, it is cleared away when the log is looked at again.
    fn drop_fetched(&mut self, is_void: impl Fn(&Fetched) -> bool) {
        let fetched = std::mem::take(&mut self.fetched).into_iter();
        let (void, kept): (Vec<Fetched>, Vec<Fetched>) = fetched.partition(is_void);
        self.fetched = kept;
        for chunk in void {
            let _ = self.fs.remove(&chunk.path);
        }
    }

    /// Whether `frames` show that what is missing up to `last` is of a history that was given up elsewhere: whole frames that end with
    /// another entry at that index. For the caller to know that it is a committed one.
    pub fn is_superseded_by(&self, last: u64, mut frames: Bytes) -> bool {
        let Some(hole) = self.open.iter().find(|hole| hole.last == last) else {
            return false;
        };
        let mut end = None;
        while !frames.is_empty() {
            match Frame::split_from(&mut frames, self.options.payload_bytes_max, true) {
                Ok(frame) => end = Some(frame),
                Err(_) => return false,
            }
        }
        end.is_some_and(|frame| {
            let header = frame.header();
            header.group == self.identity.group
                && header.index == last
                && frame.header_crc() != hole.link
        })
    }

    /// Gives up what is missing up to `last`, and everything behind it: entries of a history that others have superseded. What is before may
    /// have gone on otherwise, so the end of the log is not trusted afterwards. The files are kept in `damaged/`.
    pub fn give_up(&mut self, last: u64) {
        let Some(at) = self.open.iter().position(|hole| hole.last == last) else {
            return;
        };
        let first = self.open[at].first;
        self.open.truncate(at);
        let is_lost_from =
            |piece: &Piece| matches!(piece, Piece::Lost(hole) if hole.first == first);
        let sheets = &mut self.survey.sheets;
        let found = sheets
            .iter()
            .position(|sheet| sheet.pieces.iter().any(is_lost_from));
        let Some(found) = found else {
            return;
        };
        for sheet in sheets.drain(found + 1..) {
            self.survey
                .unknown
                .push((sheet.header.generation, sheet.path));
        }
        let sheet = &mut sheets[found];
        let kept = sheet.pieces.iter().position(is_lost_from);
        sheet.pieces.truncate(kept.unwrap_or(0));
        sheet.end = End::Loss;
        sheet.sound = false;
        // From now on, it ends otherwise than its own files say.
        sheet.anchored = false;
        self.drop_fetched(|chunk| chunk.first >= first);
    }

    /// Puts whole files in the place of damaged ones, durably; these are kept in `damaged/`. Then the log can be opened. Interrupted
    /// anywhere, it leaves a log that is damaged or whole, never shorter.
    ///
    /// # Errors
    /// [`RepairError::Incomplete`], [`RepairError::NoSpace`]: call it again later. A [`Fault`] is final.
    pub fn finish(&mut self) -> Result<(), RepairError> {
        if !self.open.is_empty() {
            return Err(RepairError::Incomplete);
        }
        for sheet in self.survey.sheets.iter_mut().filter(|sheet| !sheet.sound) {
            let temporary = crate::segment::unborn_path(&self.dir, sheet.header.generation);
            let file = rewrite::write(
                self.fs.as_ref(),
                sheet,
                &self.fetched,
                &temporary,
                &self.options,
            );
            if let Err(error) = file {
                let _ = self.fs.remove(&temporary);
                return Err(no_space_or_fault("repairing", &sheet.path, error));
            }
            let repaired = repaired_path(&self.dir, sheet.header.generation);
            let named = self.fs.rename(&temporary, &repaired);
            named
                .and_then(|()| self.fs.sync_dir(&self.dir))
                .map_err(|error| Fault::new("naming", &repaired, error))?;
            put_in_place(self.fs.as_ref(), &self.dir, sheet.header.generation)?;
            sheet.sound = true;
        }
        for (_, path) in std::mem::take(&mut self.survey.unknown) {
            keep_aside(self.fs.as_ref(), &self.dir, &path)?;
        }
        for fetched in self.fetched.drain(..) {
            let removed = self.fs.remove(&fetched.path);
            removed.map_err(|error| Fault::new("removing", &fetched.path, error))?;
        }
        Ok(())
    }
}

impl Drop for Repair {
    fn drop(&mut self) {
        for fetched in &self.fetched {
            // If that fails, it is cleared away when the log is looked at again.
            let _ = self.fs.remove(&fetched.path);
        }
    }
}

/// Frames that are the missing ones.
struct Proven {
    first: u64,
    last: u64,
    /// Header checksum of the entry before the first.
    link: u32,
    /// The file in which something else lies in the place of that entry.
    disproves: Option<usize>,
}

impl Sheet {
    fn held(&self) -> impl Iterator<Item = &Run> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Held(run) => Some(run),
            Piece::Lost(_) => None,
        })
    }
}

fn holes(sheets: &[Sheet]) -> impl Iterator<Item = &Hole> {
    let pieces = sheets.iter().flat_map(|sheet| &sheet.pieces);
    pieces.filter_map(|piece| match piece {
        Piece::Held(_) => None,
        Piece::Lost(hole) => Some(hole),
    })
}

/// Gives repaired segments their names, if a repair was interrupted when they were complete.
pub(crate) fn finish_repairs(fs: &dyn Fs, dir: &Path) -> Result<(), Fault> {
    let names = fs
        .list(dir)
        .map_err(|error| Fault::new("listing", dir, error))?;
    for name in names {
        if let FileName::Repaired(generation) = FileName::parse(&name) {
            // Whoever named it may have been killed before the name was durable.
            fs.sync_dir(dir)
                .map_err(|error| Fault::new("syncing", dir, error))?;
            put_in_place(fs, dir, generation)?;
        }
    }
    Ok(())
}

/// Moves the damaged segment aside and the repaired one, whose content and name are durable, to its place.
fn put_in_place(fs: &dyn Fs, dir: &Path, generation: u64) -> Result<(), Fault> {
    let (path, repaired) = (
        segment_path(dir, generation),
        repaired_path(dir, generation),
    );
    let there = fs.exists(&path);
    if there.map_err(|error| Fault::new("looking for", &path, error))? {
        keep_aside(fs, dir, &path)?;
    }
    let placed = fs.rename(&repaired, &path);
    placed
        .and_then(|()| fs.sync_dir(dir))
        .map_err(|error| Fault::new("naming", &path, error))
}

/// Moves a damaged file into the folder for such.
pub(crate) fn keep_aside(fs: &dyn Fs, dir: &Path, path: &Path) -> Result<(), Fault> {
    let aside = dir.join(ASIDE);
    let moved = ensure_dir(fs, &aside).and_then(|()| {
        let kept = fs.list(&aside)?;
        let mut numbers: Vec<(u64, &String)> = kept
            .iter()
            .filter_map(|name| Some((name.split_once('-')?.0.parse().ok()?, name)))
            .collect();
        numbers.sort_unstable();
        let number = numbers.last().map_or(1, |&(last, _)| last + 1);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let to = aside.join(format!("{number:06}-{name}"));
        fs.rename(path, &to)?;
        fs.sync_dir(&aside)?;
        fs.sync_dir(dir)?;
        tracing::warn!(from = %path.display(), to = %to.display(), "a damaged file is kept aside");
        let too_many = (numbers.len() + 1).saturating_sub(ASIDE_MAX);
        for (_, oldest) in &numbers[..too_many] {
            fs.remove(&aside.join(oldest))?;
        }
        Ok(())
    });
    moved.map_err(|error| Fault::new("keeping aside", path, error))
}

fn no_space_or_fault(what: &'static str, path: &Path, error: std::io::Error) -> RepairError {
    if is_no_space(&error) {
        RepairError::NoSpace
    } else {
        Fault::new(what, path, error).into()
    }
}
