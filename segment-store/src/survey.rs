//! A close look at a log that is damaged: every byte of every file, to find out what is left and what exactly is missing. Owns the judgement
//! which frames count although others before them do not.
//!
//! On the repair walk. It only reads. A frame counts if its checksums hold and it has its place between frames that count; a hole is
//! bounded on both sides, so what fills it can be proven. Must not know: where the missing frames come from.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::OpenError;
use crate::fault::Fault;
use crate::footer;
use crate::fs::{Fs, FsFile};
use crate::header_rebuild::rebuild;
use crate::lenient::{Lenient, Nothing};
use crate::log::{LogBase, LogIdentity};
use crate::scan::Scan;
use crate::segment::{
    FileName, HEADER_PAGE, SegmentHeader, TrimMarks, decode_durable_mark, has_trust_mark,
    segment_path,
};

mod before;
mod runs;

/// A run of consecutive whole frames in one file.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Where the first frame begins.
    pub(crate) position: u64,
    /// Where the last frame ends.
    pub(crate) end: u64,
    /// Link of the first frame: header checksum of the one before.
    pub(crate) link: u32,
    pub(crate) last_crc: u32,
    pub(crate) last_term: u64,
    pub(crate) next_offset: u64,
    /// `(index, position)` of some frames, the first among them.
    pub(crate) steps: Vec<(u64, u64)>,
}

/// Entries that were durable here and cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Header checksum of the entry before the first.
    pub(crate) after: u32,
    /// Header checksum that the last one must have.
    pub(crate) link: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Held(Run),
    Lost(Hole),
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Another one goes on.
    Joined,
    /// Here the log ends, and did.
    Clean,
    /// Here the log ends, and may once have gone on.
    Loss,
}

/// One segment as it is and as it should be.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<Lenient>,
    pub(crate) header: SegmentHeader,
    pub(crate) segment_crc: u32,
    pub(crate) trusted: bool,
    pub(crate) trim_marks: TrimMarks,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) end: End,
    /// Nothing has to be done about the file.
    pub(crate) sound: bool,
    /// What the last entry of the file is, something else than that entry's own frame says.
    pub(crate) anchored: bool,
    /// Entries of which frames taken from elsewhere have proven the header checksum. Another frame of such an index is none of this log's,
    /// although it lies here: what was meant for another place of the disk, or an older file's.
    proven: Vec<(u64, u32)>,
    durable_mark: u64,
}

/// All that is left of a log, and what is missing.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Ascending; never empty.
    pub(crate) sheets: Vec<Sheet>,
    /// Files that do not say what they hold, by their generation.
    pub(crate) unknown: Vec<(u64, PathBuf)>,
    /// Files whose creation was not finished, and frames fetched for a repair that was not.
    pub(crate) unborn: Vec<PathBuf>,
    /// The log went at least that far.
    base: Option<LogBase>,
}

/// Looks at every byte of the log in `dir`.
pub(crate) fn survey(
    fs: &dyn Fs,
    dir: &Path,
    identity: LogIdentity,
    base: Option<&LogBase>,
) -> Result<Survey, OpenError> {
    let names = fs
        .list(dir)
        .map_err(|error| Fault::new("listing", dir, error))?;
    let mut survey = Survey {
        sheets: Vec::new(),
        unknown: Vec::new(),
        unborn: Vec::new(),
        base: base.copied(),
    };
    let mut generations = Vec::new();
    for name in names {
        match FileName::parse(&name) {
            FileName::Segment(generation) => generations.push(generation),
            FileName::Unborn => survey.unborn.push(dir.join(name)),
            FileName::Repaired(_) | FileName::Other => {}
        }
    }
    generations.sort_unstable();
    for generation in generations {
        let path = segment_path(dir, generation);
        let looked = look_at(fs, &path, generation, identity, &survey.sheets)?;
        match looked {
            Some(sheet) => survey.put(sheet),
            None => survey.unknown.push((generation, path)),
        }
    }
    survey.leave_out_trimmed();
    if let Some(base) = base {
        survey.begin_at(dir, identity, base)?;
    }
    for at in 0..survey.sheets.len() {
        survey
            .lay_out(at)
            .map_err(|error| Fault::new("reading in", dir, error))?;
    }
    Ok(survey)
}

impl Survey {
    /// A later file overrides earlier ones from its base on, and one that starts anew all of them.
    fn put(&mut self, sheet: Sheet) {
        while let Some(last) = self.sheets.last()
            && (sheet.header.anew || last.header.base_index >= sheet.header.base_index)
        {
            // Opening the log removes it.
            self.sheets.pop();
        }
        self.sheets.push(sheet);
    }

    /// Files that hold only what was trimmed hold nothing of the log; opening it removes them. All others say so from now on.
    fn leave_out_trimmed(&mut self) {
        let marks = self.sheets.iter().map(|sheet| sheet.trim_marks);
        let Some(newest) = marks.max_by_key(|marks| marks.first()) else {
            return;
        };
        let first = newest.first();
        self.sheets.retain(|sheet| sheet.header.base_index >= first);
        for sheet in &mut self.sheets {
            sheet.trim_marks = newest;
        }
    }

    /// The log begins where its owner has no other account of it. If no file does, the first ones are lost.
    fn begin_at(
        &mut self,
        dir: &Path,
        identity: LogIdentity,
        base: &LogBase,
    ) -> Result<(), OpenError> {
        let first = self.sheets.first().map(|first| first.header);
        if first.is_some_and(|first| first.base_index <= base.index + 1) {
            return Ok(());
        }
        let below = first.map_or(u64::MAX, |first| first.generation);
        let at = self
            .unknown
            .iter()
            .rposition(|&(unknown, _)| unknown < below);
        let generation = match (at, first) {
            // The place of a file that no longer says what it was; it is replaced like any damaged one.
            (Some(at), _) => self.unknown.remove(at).0,
            (None, Some(first)) => first.generation.saturating_sub(1),
            (None, None) => 1,
        };
        let path = segment_path(dir, generation);
        if generation == 0 {
            return Err(OpenError::DamagedHeader { path });
        }
        let header = SegmentHeader {
            identity,
            generation,
            base_index: base.index + 1,
            base_offset: base.next_offset,
            prev_term: base.term,
            prev_header_crc: base.header_crc,
            file_len: 2 * HEADER_PAGE,
            anew: false,
            after_loss: false,
        };
        let sheet = Sheet {
            path,
            file: Arc::new(Lenient::new(Arc::new(Nothing))),
            header,
            segment_crc: header.crc(),
            trusted: false,
            trim_marks: TrimMarks::default(),
            pieces: Vec::new(),
            end: End::Loss,
            sound: false,
            anchored: false,
            proven: Vec::new(),
            durable_mark: 0,
        };
        sheet.file.set_len(header.file_len);
        self.sheets.insert(0, sheet);
        Ok(())
    }

    /// The entry at `index`, which the file of this sheet should hold, has this header checksum, as what was missing behind it proves. Finds
    /// out anew what of that file counts.
    pub(crate) fn learn(&mut self, at: usize, index: u64, header_crc: u32) -> io::Result<()> {
        let sheet = &mut self.sheets[at];
        sheet.proven.push((index, header_crc));
        sheet.pieces.clear();
        self.lay_out(at)
    }

    /// Finds out what of a file counts.
    fn lay_out(&mut self, at: usize) -> io::Result<()> {
        // A file behind the last one that we know was there, whatever it held.
        let last = self.sheets.last().map(|last| last.header.generation);
        let lost_successor = self.unknown.last().map(|&(generation, _)| generation) > last;
        let next = self.sheets.get(at + 1).map(|next| next.header);
        let sheet = &mut self.sheets[at];
        match next {
            Some(next) => sheet.lay_out_before(&next)?,
            None => sheet.lay_out_last(lost_successor)?,
        }
        if sheet.file.failed() {
            sheet.sound = false;
        }
        if let (None, Some(base)) = (next, &self.base) {
            sheet.reach(base);
        }
        Ok(())
    }
}

/// Opens a file and finds out which segment it is; `None` if nothing tells.
fn look_at(
    fs: &dyn Fs,
    path: &Path,
    generation: u64,
    identity: LogIdentity,
    before: &[Sheet],
) -> Result<Option<Sheet>, OpenError> {
    let fault = |error| Fault::new("reading", path, error);
    let file = Arc::new(Lenient::new(fs.open_read(path).map_err(fault)?));
    let mut page = vec![0; HEADER_PAGE as usize];
    file.read_exact_at(&mut page, 0).map_err(fault)?;
    let (header, segment_crc, whole) = match SegmentHeader::decode_page(&page, path, Some(identity))
    {
        Ok((header, _)) if header.generation != generation => {
            return Err(OpenError::Misnamed {
                path: path.to_owned(),
            });
        }
        Ok((header, crc)) => (header, crc, true),
        Err(error) if error.is_damage() => {
            let find = |index, crc| before::find(before, index, crc);
            match rebuild(&file, generation, identity, find).map_err(fault)? {
                Some(rebuilt)
                    if rebuilt.proven
                        || !before::overrides(before, &rebuilt.header).map_err(fault)? =>
                {
                    (rebuilt.header, rebuilt.crc, false)
                }
                _ => return Ok(None),
            }
        }
        Err(error) => return Err(error),
    };
    let sound = whole && file.real_len() == header.file_len;
    file.set_len(header.file_len);
    Ok(Some(Sheet {
        path: path.to_owned(),
        durable_mark: decode_durable_mark(&page, segment_crc),
        trusted: has_trust_mark(&page, segment_crc),
        trim_marks: TrimMarks::decode(&page, segment_crc),
        file,
        header,
        segment_crc,
        pieces: Vec::new(),
        end: End::Joined,
        sound,
        anchored: false,
        proven: Vec::new(),
    }))
}

impl Sheet {
    pub(crate) fn scan(&self) -> Scan {
        let file: Arc<dyn FsFile> = Arc::clone(&self.file) as Arc<dyn FsFile>;
        Scan::new(file, self.header, self.segment_crc).within(self.file.real_len())
    }

    /// Index of the last entry that the segment holds or should.
    pub(crate) fn last_index(&self) -> u64 {
        match self.pieces.last() {
            Some(Piece::Held(run)) => run.last,
            Some(Piece::Lost(hole)) => hole.last,
            None => self.header.base_index - 1,
        }
    }

    /// Whether a frame may be the entry of its index.
    fn admits(&self, index: u64, header_crc: u32) -> bool {
        let mut proven = self.proven.iter();
        proven.all(|&(known, crc)| known != index || crc == header_crc)
    }

    /// The log goes as far as its owner knows that it went.
    fn reach(&mut self, base: &LogBase) {
        if self.last_index() < base.index {
            self.fill_to((base.index, base.header_crc));
            self.end = End::Loss;
        }
    }

    /// A segment that `next` goes on from: everything between their bases was durable.
    fn lay_out_before(&mut self, next: &SegmentHeader) -> io::Result<()> {
        let limit = (next.base_index - 1, next.prev_header_crc);
        let footer = footer::read(self.file.as_ref(), &self.header, self.segment_crc)?;
        // What the footer does not count was cut off.
        let own = footer.map(|(contents, _)| (contents.last_index, contents.last_header_crc));
        let own = own.filter(|&(last, _)| last < limit.0).unwrap_or(limit);
        let runs = self.runs(HEADER_PAGE, self.header.base_index - 1, own.0, Some(own.1))?;
        self.take(runs, own);
        self.fill_to(limit);
        self.end = End::Joined;
        self.anchored = true;
        Ok(())
    }

    /// The last segment there is.
    fn lay_out_last(&mut self, lost_successor: bool) -> io::Result<()> {
        let base = self.header.base_index - 1;
        if let Some((contents, _)) =
            footer::read(self.file.as_ref(), &self.header, self.segment_crc)?
        {
            let own = (contents.last_index, contents.last_header_crc);
            let runs = self.runs(HEADER_PAGE, base, own.0, Some(own.1))?;
            self.take(runs, own);
            self.fill_to(own);
            self.end = End::Loss;
            self.anchored = true;
            return Ok(());
        }
        let marks = self.scan().end_marks(HEADER_PAGE)?;
        let durable = marks
            .iter()
            .map(|(_, mark)| mark.durable_index)
            .chain([self.durable_mark, base])
            .max()
            .unwrap_or(base);
        let mut runs = self.runs(HEADER_PAGE, base, u64::MAX, None)?;
        // Frames behind a hole count if everything in the hole had been promised; else they are what is left of an unfinished write.
        let mut reached = base;
        let counts = |run: &Run, reached: u64| run.first == reached + 1 || run.first <= durable + 1;
        let kept = runs.iter().position(|run| {
            let stays = counts(run, reached);
            reached = run.last;
            !stays
        });
        runs.truncate(kept.unwrap_or(runs.len()));
        let reached = runs.last().map_or(base, |run| run.last);
        // A mark behind lost frames says what the last of them was.
        let promised = marks
            .iter()
            .map(|(_, mark)| (mark.last_index, mark.last_header_crc))
            .filter(|&(last, _)| last > reached && last <= durable)
            .max();
        let own = match (promised, runs.last()) {
            (Some(own), _) => own,
            (None, Some(run)) => (run.last, run.last_crc),
            (None, None) => (base, self.header.prev_header_crc),
        };
        self.take(runs, own);
        self.fill_to(own);
        self.anchored = marks
            .iter()
            .any(|(_, mark)| (mark.last_index, mark.last_header_crc) == own);
        let ended = |end: u64| {
            marks
                .iter()
                .any(|&(at, mark)| at == end && mark.last_index == own.0)
        };
        let clean = match self.pieces.last() {
            Some(Piece::Lost(_)) => true,
            Some(Piece::Held(run)) => ended(run.end),
            None => ended(HEADER_PAGE),
        };
        self.end = match clean && durable <= own.0 && !lost_successor {
            true => End::Clean,
            false => End::Loss,
        };
        // An end that nothing was promised behind is told by opening the log, too.
        self.sound &= durable <= own.0 && !lost_successor;
        Ok(())
    }

    /// Takes runs that were found, so that each has its place; `own` is the last entry that the file should hold, and its checksum.
    fn take(&mut self, runs: Vec<Run>, own: (u64, u32)) {
        let (mut next_first, mut link) = (own.0 + 1, own.1);
        let mut kept = Vec::with_capacity(runs.len());
        for run in runs.into_iter().rev() {
            let fits = run.last < next_first && (run.last + 1 < next_first || run.last_crc == link);
            if fits {
                (next_first, link) = (run.first, run.link);
                kept.push(run);
            }
        }
        // The first run begins the file, and chains to what is before, or it is none of ours.
        let header = self.header;
        let begins =
            |run: &Run| run.first > header.base_index || run.link == header.prev_header_crc;
        for run in kept.into_iter().rev().filter(begins) {
            if run.first > self.last_index() + 1 {
                self.fill_to((run.first - 1, run.link));
            }
            self.pieces.push(Piece::Held(run));
        }
    }

    /// Everything from the last piece on up to this entry is missing.
    fn fill_to(&mut self, (last, link): (u64, u32)) {
        let first = self.last_index() + 1;
        if first > last {
            return;
        }
        self.sound = false;
        let after = match self.pieces.last() {
            Some(Piece::Held(run)) => run.last_crc,
            Some(Piece::Lost(hole)) => hole.link,
            None => self.header.prev_header_crc,
        };
        self.pieces.push(Piece::Lost(Hole {
            first,
            last,
            after,
            link,
        }));
    }
}
