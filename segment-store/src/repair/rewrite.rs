//! A segment written again: from what is left of it and what was fetched, every frame checked once more on its way. Owns the new file's
//! layout.
//!
//! On the repair walk. Must not know: how the file gets its name.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::Fetched;
use crate::contents::Contents;
use crate::footer::{self, footer_len};
use crate::format::FrameHeader;
use crate::frame::Frame;
use crate::fs::{Fs, FsFile};
use crate::index::SparseIndex;
use crate::log::LogOptions;
use crate::segment::{
    DURABLE_MARK_AT, EndMark, HEADER_PAGE, SegmentHeader, TRUST_MARK_AT, TrimMarks,
    encode_durable_mark, encode_trust_mark,
};
use crate::survey::{End, Piece, Run, Sheet};
use crate::tail::END_MARKS_LEN;

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Writes the segment that `sheet` should be to `path`, durably but for its name.
pub(super) fn write(
    fs: &dyn Fs,
    sheet: &Sheet,
    fetched: &[Fetched],
    path: &Path,
    options: &LogOptions,
) -> io::Result<()> {
    let mut fetched: Vec<&Fetched> = fetched
        .iter()
        .filter(|chunk| sheet.header.base_index <= chunk.first && chunk.last <= sheet.last_index())
        .collect();
    fetched.sort_unstable_by_key(|chunk| chunk.first);
    let frames: u64 = sheet.held().map(|run| run.end - run.position).sum();
    let frames = frames + fetched.iter().map(|chunk| chunk.len).sum::<u64>();
    // As long as it was, so that every frame gets its place back; longer, if it also takes in what a lost file held.
    let entries = usize::try_from(frames / options.index_every_bytes.max(1) + 2);
    let room = footer_len(entries.unwrap_or(usize::MAX / 64), 64, 64);
    let needed = HEADER_PAGE + frames + END_MARKS_LEN + room;
    let own_len = sheet.header.file_len;
    let mut file_len = match HEADER_PAGE + frames + END_MARKS_LEN <= own_len {
        true => own_len,
        false => needed.next_multiple_of(HEADER_PAGE),
    };
    loop {
        if fs.exists(path)? {
            fs.remove(path)?;
        }
        let mut writer = Writer::begin(fs, sheet, file_len, path, options)?;
        writer.fill(fs, sheet, &fetched, options)?;
        match writer.end(sheet)? {
            None => return Ok(()),
            Some(longer) => file_len = longer,
        }
    }
}

/// A new segment file while it fills.
struct Writer {
    file: std::sync::Arc<dyn FsFile>,
    header: SegmentHeader,
    segment_crc: u32,
    contents: Contents,
    index: SparseIndex,
    index_every_bytes: u64,
    buffer: BytesMut,
    /// Where the buffer goes.
    position: u64,
}

impl Writer {
    fn begin(
        fs: &dyn Fs,
        sheet: &Sheet,
        file_len: u64,
        path: &Path,
        options: &LogOptions,
    ) -> io::Result<Writer> {
        let header = SegmentHeader {
            file_len,
            ..sheet.header
        };
        let (mut page, segment_crc) = header.encode();
        TrimMarks::of_new(sheet.trim_marks.first(), &mut page, segment_crc);
        let file = fs.create(path, file_len)?;
        file.write_all_at(&page, 0)?;
        Ok(Writer {
            contents: Contents::empty(&header),
            index: SparseIndex::for_segment(file_len, options.index_every_bytes),
            index_every_bytes: options.index_every_bytes,
            file,
            header,
            segment_crc,
            buffer: BytesMut::with_capacity(WRITE_BYTES),
            position: HEADER_PAGE,
        })
    }

    /// Everything that the segment should hold.
    fn fill(
        &mut self,
        fs: &dyn Fs,
        sheet: &Sheet,
        fetched: &[&Fetched],
        options: &LogOptions,
    ) -> io::Result<()> {
        for piece in &sheet.pieces {
            match piece {
                Piece::Held(run) => self.copy(sheet, run)?,
                Piece::Lost(hole) => {
                    for chunk in fetched {
                        if hole.first <= chunk.first && chunk.last <= hole.last {
                            self.take(fs, chunk, options.payload_bytes_max)?;
                        }
                    }
                }
            }
        }
        match self.contents.last_index == sheet.last_index() {
            true => Ok(()),
            false => Err(out_of_place(self.contents.last_index + 1)),
        }
    }

    fn push(&mut self, header: &FrameHeader, crc: u32, bytes: &[u8]) -> io::Result<()> {
        if header.group != self.header.identity.group || !self.contents.admits(header) {
            return Err(out_of_place(header.index));
        }
        self.contents
            .add(header, crc, &self.index, self.index_every_bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.position)?;
        self.position += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Frames that are still there.
    fn copy(&mut self, sheet: &Sheet, run: &Run) -> io::Result<()> {
        let mut scan = sheet.scan();
        let mut at = run.position;
        while at < run.end {
            let Some((header, crc)) = scan.frame_at(at)? else {
                return Err(out_of_place(self.contents.last_index + 1));
            };
            let len = header.frame_len();
            if let Some(bytes) = scan.frame_bytes(at, len)? {
                self.push(&header, crc, bytes)?;
            }
            at += len as u64;
        }
        Ok(())
    }

    /// Frames from elsewhere.
    fn take(&mut self, fs: &dyn Fs, chunk: &Fetched, payload_bytes_max: usize) -> io::Result<()> {
        let file = fs.open_read(&chunk.path)?;
        let len = usize::try_from(chunk.len).map_err(io::Error::other)?;
        let mut bytes = BytesMut::zeroed(len);
        file.read_exact_at(&mut bytes, 0)?;
        let mut bytes = bytes.freeze();
        while !bytes.is_empty() {
            let frame = Frame::split_from(&mut bytes, payload_bytes_max, true);
            let frame = frame.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.push(frame.header(), frame.header_crc(), frame.bytes())?;
        }
        Ok(())
    }

    /// The end as the segment's place in the log asks for it, durably. If there is no room for it: how long the file has to be.
    fn end(mut self, sheet: &Sheet) -> io::Result<Option<u64>> {
        self.flush()?;
        let (contents, header) = (&self.contents, &self.header);
        match sheet.end {
            End::Joined | End::Loss => {
                // Behind a footer without a successor, opening goes on in a fresh file and does not trust the end.
                let bytes = footer::encode(contents, &self.index, header, self.segment_crc);
                let at = header.file_len.checked_sub(bytes.len() as u64);
                match at.filter(|&at| at >= contents.end_position + END_MARKS_LEN) {
                    Some(at) => self.file.write_all_at(&bytes, at)?,
                    // As with any segment whose footer found no room, it is scanned when the log is opened.
                    None if sheet.end == End::Joined => {}
                    // Without it, the end would be trusted.
                    None => {
                        let needed = contents.end_position + END_MARKS_LEN + bytes.len() as u64;
                        return Ok(Some(needed.next_multiple_of(HEADER_PAGE)));
                    }
                }
            }
            End::Clean => {
                let last = contents.last_index;
                let mark = EndMark {
                    last_index: last,
                    durable_index: last,
                    last_header_crc: contents.last_header_crc,
                };
                let mark = mark.encode(&header.identity, self.segment_crc);
                self.file.write_all_at(&mark, contents.end_position)?;
                let mark = encode_durable_mark(last, self.segment_crc);
                self.file.write_all_at(&mark, DURABLE_MARK_AT)?;
                if sheet.trusted {
                    let mark = encode_trust_mark(last, self.segment_crc);
                    self.file.write_all_at(&mark, TRUST_MARK_AT)?;
                }
            }
        }
        self.file.sync_data()?;
        Ok(None)
    }
}

/// Frames of `run` that end with the one at `last`, as [`super::Repair::read_before`] gives them.
pub(super) fn read_run_before(
    sheet: &Sheet,
    run: &Run,
    first: u64,
    last: u64,
    bytes_max: usize,
) -> io::Result<Bytes> {
    let mut scan = sheet.scan();
    let step = |accepts: &dyn Fn(u64, u64) -> bool| {
        let count = run.steps.partition_point(|&(index, at)| accepts(index, at));
        run.steps[count.saturating_sub(1)]
    };
    let (_, near) = step(&|index, _| index <= last);
    // From so far back that all that is asked for comes by, and not much more.
    let back = near.saturating_sub(bytes_max as u64);
    let (mut index, mut at) = step(&|index, at| index <= first || at <= back);
    let mut frames: std::collections::VecDeque<(u64, usize)> = std::collections::VecDeque::new();
    let mut total = 0;
    while index <= last {
        let Some((header, _)) = scan.frame_at(at)? else {
            return Ok(Bytes::new());
        };
        let len = header.frame_len();
        if index >= first {
            frames.push_back((at, len));
            total += len;
        }
        while total > bytes_max && frames.len() > 1 {
            total -= frames.pop_front().map_or(0, |(_, len)| len);
        }
        at += len as u64;
        index += 1;
    }
    let mut bytes = BytesMut::with_capacity(total);
    for (at, len) in frames {
        if let Some(frame) = scan.frame_bytes(at, len)? {
            bytes.extend_from_slice(frame);
        }
    }
    Ok(bytes.freeze())
}

fn out_of_place(index: u64) -> io::Error {
    let what = format!("index {index} does not fit between what is here");
    io::Error::new(io::ErrorKind::InvalidData, what)
}
