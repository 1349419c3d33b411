//! Reading a log through the map, without a lock.
#![allow(
    clippy::todo,
    unused_variables,
    dead_code,
    reason = "skeleton, filled in by the next commits"
)]

use bytes::Bytes;

use crate::error::ReadError;

/// Reads a log: cheap to clone, goes to any thread, takes no lock and copies nothing.
#[derive(Clone, Debug)]
pub struct LogReader {}

/// Whole consecutive frames as they lie in one segment.
#[derive(Clone, Debug)]
pub struct FrameRun {
    /// The frames, padding included; empty if there are none. Keeps the map alive.
    pub bytes: Bytes,
    /// Index of the first frame.
    pub first_index: u64,
    /// Index of the last frame (inclusive); `first_index - 1` if there is none.
    pub last_index: u64,
    /// Offset after the last record of the run.
    pub next_offset: u64,
    /// Whether the bytes may have to come from the disk; see [`LogReader::is_cold`].
    pub cold: bool,
}

impl LogReader {
    /// Longest run of whole frames from `from` on, within one segment, ending at or before `last` (inclusive): at least one
    /// frame if there is any, at most `bytes_max` bytes otherwise. Empty if `from` is past `last` or past what is written.
    pub fn read(&self, from: u64, last: u64, bytes_max: usize) -> Result<FrameRun, ReadError> {
        todo!()
    }

    /// Whether reading `bytes_max` bytes from `from` on may wait for the disk. Then call [`LogReader::populate`] on a thread
    /// that may block, first.
    pub fn is_cold(&self, from: u64, bytes_max: usize) -> bool {
        todo!()
    }

    /// Brings what `read(from, _, bytes_max)` touches into memory; blocks.
    pub fn populate(&self, from: u64, bytes_max: usize) -> Result<(), ReadError> {
        todo!()
    }

    /// Index of the frame that holds the record at `offset`; `last_index + 1` if that is the next record to come.
    pub fn seek_offset(&self, offset: u64) -> Result<u64, ReadError> {
        todo!()
    }

    /// Index of the first frame with a record at or after `timestamp_ms`; `last_index + 1` if there is none.
    pub fn seek_time(&self, timestamp_ms: u64) -> Result<u64, ReadError> {
        todo!()
    }

    /// Index of the first entry kept; `last_index + 1` if there is none.
    pub fn first_index(&self) -> u64 {
        todo!()
    }

    /// Index of the last entry written (not: durable).
    pub fn last_index(&self) -> u64 {
        todo!()
    }

    /// First offset kept.
    pub fn log_start(&self) -> u64 {
        todo!()
    }

    /// Offset after the last record written.
    pub fn next_offset(&self) -> u64 {
        todo!()
    }

    /// Bytes of disk that the log's segments take.
    pub fn disk_bytes(&self) -> u64 {
        todo!()
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        todo!()
    }
}
