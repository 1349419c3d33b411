//! Opening a log. Owns what is done about what [`crate::recover`] found: clear away, seal, make durable, go on.
//!
//! On the recovery walk. Nothing is written before everything has been judged, and a damaged log is not written at all: it is left to
//! [`crate::repair`]. Must not know: how the judgement was reached.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cached::Cached;
use super::roll::{Unborn, segment_len};
use super::{Log, LogIdentity, LogOptions, Sealed, State};
use crate::error::{AppendError, OpenError};
use crate::fault::{Fault, is_no_space};
use crate::fs::Fs;
use crate::mutation;
use crate::prepare::Preparer;
use crate::recover::{Examined, Findings, Recovered, TailVerdict, examine};
use crate::repair::finish_repairs;
use crate::segment::{EndMark, FileName, HEADER_PAGE, SegmentHeader};
use crate::tail::{Tail, write_footer};
use crate::view::{SegmentView, Shared};

/// Frames are written again in pieces of this many bytes.
const REWRITE_BYTES: usize = 1 << 20;

impl Log {
    /// Opens the log in `dir` (which exists and is locked by its owner), creating it if `dir` holds no segment. Segments are made here
    /// if there is no preparer. All that is found is durable when this returns.
    ///
    /// Time grows with the bytes of the tail and the number of segments, not with the sealed bytes.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
        preparer: Option<Preparer>,
    ) -> Result<(Log, Recovered), OpenError> {
        finish_repairs(fs.as_ref(), dir)?;
        let mut findings = examine(fs.as_ref(), dir, Some(identity), options.index_every_bytes)?;
        clear_away(fs.as_ref(), dir, &mut findings)?;
        if findings.segments.is_empty() {
            return Log::create(
                fs,
                dir,
                identity,
                options,
                preparer,
                findings.next_generation,
            );
        }
        let recovered = findings.recovered();
        let mut log = Log::assemble(fs, dir, identity, options, preparer, findings)?;
        log.settle(recovered.tail)?;
        Ok((log, recovered))
    }

    /// Whether `dir` holds any segment, in whatever state: a log that is opened without any is a new one.
    pub fn is_there(fs: &dyn Fs, dir: &Path) -> Result<bool, Fault> {
        let names = fs
            .list(dir)
            .map_err(|error| Fault::new("listing", dir, error))?;
        let is_segment = |name: &String| {
            matches!(
                FileName::parse(name),
                FileName::Segment(_) | FileName::Repaired(_)
            )
        };
        Ok(names.iter().any(is_segment))
    }

    /// Makes the first segment of a new log.
    fn create(
        fs: Arc<dyn Fs>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
        preparer: Option<Preparer>,
        generation: u64,
    ) -> Result<(Log, Recovered), OpenError> {
        let header = SegmentHeader {
            identity,
            generation,
            base_index: 1,
            base_offset: 0,
            prev_term: 0,
            prev_header_crc: 0,
            file_len: 0,
            anew: false,
            after_loss: false,
        };
        let len = segment_len(options.segment_bytes_first.min(options.segment_bytes_max));
        let tail = Unborn::take(fs.as_ref(), dir, preparer.as_ref(), generation, len)
            .and_then(|file| file.bear(fs.as_ref(), dir, header, &options, 0, 0))
            .map_err(|error| no_space_or_fault(dir, error))?;
        let recovered = Recovered {
            first_index: 1,
            prev_term: 0,
            last_index: 0,
            last_term: 0,
            term_runs: Vec::new(),
            last_header_crc: 0,
            next_offset: 0,
            log_start: 0,
            memberships: Vec::new(),
            tail: TailVerdict::Clean,
            suspect_tail: false,
        };
        let log = Log::of(
            fs,
            dir,
            identity,
            options,
            preparer,
            Vec::new(),
            tail,
            0,
            generation + 1,
        );
        Ok((log, recovered))
    }

    /// A log over the segments that were found.
    fn assemble(
        fs: Arc<dyn Fs>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
        preparer: Option<Preparer>,
        mut findings: Findings,
    ) -> Result<Log, OpenError> {
        let last = findings
            .segments
            .pop()
            .expect("a log without segments is created, not assembled");
        let mut sealed = Vec::with_capacity(findings.segments.len());
        for segment in findings.segments {
            sealed.push(seal(fs.as_ref(), segment)?);
        }
        let tail = open_tail(fs.as_ref(), last, &options)?;
        let durable = findings.durable_index.min(tail.contents.last_index);
        let next = findings.next_generation;
        let mut log = Log::of(
            fs, dir, identity, options, preparer, sealed, tail, durable, next,
        );
        log.suspect = findings.suspect;
        log.trimmed_before = findings.trimmed_before;
        Ok(log)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the one place that lists a log's parts"
    )]
    fn of(
        fs: Arc<dyn Fs>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
        preparer: Option<Preparer>,
        sealed: Vec<Sealed>,
        tail: Tail,
        durable_index: u64,
        next_generation: u64,
    ) -> Log {
        let mut views: Vec<_> = sealed
            .iter()
            .map(|sealed| Arc::clone(&sealed.view))
            .collect();
        views.push(Arc::clone(&tail.view));
        Log {
            fs,
            dir: dir.to_owned(),
            identity,
            options,
            preparer,
            shared: Arc::new(Shared::new(views, &tail.contents)),
            sealed,
            tail,
            durable_index,
            next_generation,
            opened_generation: next_generation,
            unsynced_footers: Vec::new(),
            sync_begun: false,
            unmarked: false,
            hinted: false,
            trimmed_before: 0,
            suspect: false,
            torn: false,
            state: State::Writable,
            cached: Cached::default(),
        }
    }

    /// Makes what was found durable, and after an unfinished write goes on in a fresh file: what lies behind the last good frame can then never
    /// be taken for a part of the log.
    fn settle(&mut self, verdict: TailVerdict) -> Result<(), OpenError> {
        if mutation::is("the page cache taken for the disk") {
            self.durable_index = self.tail.contents.last_index;
        }
        if self.durable_index < self.tail.contents.last_index {
            // Only a clean end gets its mark: another one has to be found for what it is until the log has left it.
            let rewritten = self.rewrite_after_durable(verdict == TailVerdict::Clean);
            rewritten.map_err(|error| self.poison_tail("writing", error))?;
            self.sync_tail()?;
            self.durable_index = self.tail.contents.last_index;
        }
        let unfinished = matches!(verdict, TailVerdict::Torn { .. } | TailVerdict::Lost);
        if unfinished {
            tracing::warn!(dir = %self.dir.display(), after_index = self.last_index(), ?verdict, suspect = self.suspect, "the log ends in a write that was not finished, or before a file that is lost; it goes on in a fresh file");
            return self.leave_tail();
        }
        // The name of a file without an entry may be one whose sync failed before its maker was killed, which no later sync makes durable.
        // A file that holds an entry has been through here, or was named by who wrote the entry.
        let empty = self.tail.contents.last_index < self.tail.header.base_index;
        let trusted =
            mutation::is("found names are trusted") || mutation::is("names whose sync failed stay");
        if empty && !trusted {
            return self.leave_tail();
        }
        let marked = self.tail.mark_durable(self.durable_index);
        Ok(marked.map_err(|error| self.poison_tail("writing", error))?)
    }

    /// Goes on in a fresh file.
    fn leave_tail(&mut self) -> Result<(), OpenError> {
        self.torn = true;
        match self.leave_torn_tail() {
            // What is there can be read all the same; the first append that finds room leaves this tail.
            Ok(()) | Err(AppendError::NoSpace) => Ok(()),
            Err(AppendError::Fault(fault)) => Err(fault.into()),
        }
    }

    /// Writes the frames again that may never have reached the disk. Reading them proves nothing: after a failed sync the kernel keeps
    /// the pages, marked clean, and a sync that follows succeeds without writing them.
    fn rewrite_after_durable(&self, mark: bool) -> io::Result<()> {
        let (contents, file) = (&self.tail.contents, self.tail.file.as_ref());
        let first = self.durable_index + 1;
        let entry = self.tail.view.index.floor(|entry| entry.index <= first);
        let mut position = entry.map_or(HEADER_PAGE, |entry| entry.position);
        let mut buffer = vec![0; REWRITE_BYTES];
        while position < contents.end_position {
            let left = contents.end_position - position;
            let len = usize::try_from(left).map_or(REWRITE_BYTES, |left| left.min(REWRITE_BYTES));
            file.read_exact_at(&mut buffer[..len], position)?;
            file.write_all_at(&buffer[..len], position)?;
            position += len as u64;
        }
        if !mark {
            return Ok(());
        }
        let mark = EndMark {
            last_index: contents.last_index,
            durable_index: self.durable_index,
            last_header_crc: contents.last_header_crc,
        };
        let mark = mark.encode(&self.identity, self.tail.segment_crc);
        file.write_all_at(&mark, contents.end_position)
    }
}

/// Removes files that hold nothing of the log: cut off by a truncation, trimmed, or never finished. And makes the names that are there
/// durable: whoever gave them may have been killed before.
fn clear_away(fs: &dyn Fs, dir: &Path, findings: &mut Findings) -> Result<(), Fault> {
    if let (Some(last), false) = (findings.segments.last_mut(), findings.trimmed.is_empty()) {
        // Some of them may be gone after a power cut, and others not: the mark has to be there. A sync of it may have failed.
        let file = &mut last.file;
        let first = findings.trimmed_before;
        let (mark, at) = file.trim_marks.renewed(first, file.segment_crc);
        let marked = fs.open(&file.path).and_then(|file| {
            file.write_all_at(&mark, at)?;
            file.sync_data()
        });
        marked.map_err(|error| Fault::new("writing", &file.path, error))?;
    }
    let nothing = [&findings.cut, &findings.trimmed, &findings.unborn];
    for path in nothing.into_iter().flatten() {
        fs.remove(path)
            .map_err(|error| Fault::new("removing", path, error))?;
    }
    fs.sync_dir(dir)
        .map_err(|error| Fault::new("syncing", dir, error))
}

/// A segment before the tail, given the footer it lacks.
fn seal(fs: &dyn Fs, segment: Examined) -> Result<Sealed, OpenError> {
    let Examined {
        file,
        contents,
        index,
        sealed,
    } = segment;
    let fault = |what, error| Fault::new(what, &file.path, error);
    let map = file.file.map().map_err(|error| fault("mapping", error))?;
    let view = SegmentView::new(
        file.path.clone(),
        &file.header,
        &contents,
        Arc::new(index),
        map,
        None,
    );
    if !sealed {
        let written = fs.open(&file.path).and_then(|writer| {
            write_footer(
                writer.as_ref(),
                &file.header,
                file.segment_crc,
                &contents,
                &view,
            )?;
            writer.sync_data()
        });
        written.map_err(|error| fault("sealing", error))?;
    }
    Ok(Sealed {
        header: file.header,
        segment_crc: file.segment_crc,
        contents,
        view: Arc::new(view),
    })
}

fn open_tail(fs: &dyn Fs, segment: Examined, options: &LogOptions) -> Result<Tail, OpenError> {
    let Examined {
        file,
        contents,
        index,
        ..
    } = segment;
    let opened = fs.open(&file.path);
    let opened = opened.and_then(|writer| Ok((writer.map()?, writer)));
    let (map, writer) = opened.map_err(|error| Fault::new("opening", &file.path, error))?;
    let view = SegmentView::new(
        file.path.clone(),
        &file.header,
        &contents,
        Arc::new(index),
        map,
        Some(0),
    );
    Ok(Tail {
        path: file.path,
        file: writer,
        header: file.header,
        segment_crc: file.segment_crc,
        trim_marks: file.trim_marks,
        marked_position: contents.end_position,
        contents,
        view: Arc::new(view),
        index_every_bytes: options.index_every_bytes,
        ahead_bytes_max: options.ahead_bytes_max,
        past_cache_bytes_min: options.past_cache_bytes_min,
        past_cache: false,
        reached: 0,
        dirty: false,
    })
}

fn no_space_or_fault(dir: &Path, error: io::Error) -> OpenError {
    if is_no_space(&error) {
        OpenError::NoSpace {
            path: dir.to_owned(),
        }
    } else {
        Fault::new("creating a segment in", dir, error).into()
    }
}
