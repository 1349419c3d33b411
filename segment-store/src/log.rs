//! The writer of one group's log.
#![allow(
    clippy::todo,
    unused_variables,
    dead_code,
    reason = "skeleton, filled in by the next commits"
)]

use std::path::Path;
use std::sync::Arc;

use crate::error::{AppendError, OpenError};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::fs::Fs;
use crate::prepare::Preparer;
use crate::reader::LogReader;
use crate::recover::Recovered;

/// Sizes of a log; all in bytes.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Largest segment (a single frame that needs more gets a segment of its own size).
    pub segment_bytes_max: u64,
    /// First segment of a log; each next one is twice as long, up to the maximum.
    pub segment_bytes_first: u64,
    /// Longest payload that `append` takes.
    pub payload_bytes_max: usize,
    /// Distance of entries in the sparse index.
    pub index_every_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes_max: 128 << 20,
            segment_bytes_first: 1 << 20,
            payload_bytes_max: 8 << 20,
            index_every_bytes: 64 << 10,
        }
    }
}

/// Whose log this is; every segment carries it, and a foreign one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster's UUID.
    pub cluster: [u8; 16],
    /// The Raft group.
    pub group: u64,
}

/// The writer of one group's log.
#[derive(Debug)]
pub struct Log {}

impl Log {
    /// Opens the log in `dir` (which exists), creating it if `dir` holds no segment.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        identity: LogIdentity,
        options: LogOptions,
        preparer: Option<Preparer>,
    ) -> Result<(Log, Recovered), OpenError> {
        todo!()
    }

    /// Writes consecutive frames after the last one and publishes them to readers; durable after `sync`.
    pub fn append(&mut self, frames: &[Frame]) -> Result<(), AppendError> {
        todo!()
    }

    /// Makes all that was appended durable; the value is the durable index (inclusive).
    pub fn sync(&mut self) -> Result<u64, Fault> {
        todo!()
    }

    /// Cuts every frame after `index`, durably.
    pub fn truncate_after(&mut self, index: u64) -> Result<(), AppendError> {
        todo!()
    }

    /// Removes whole segments that hold only entries before `index`; the value is the new first index.
    pub fn trim_before(&mut self, index: u64) -> Result<u64, Fault> {
        todo!()
    }

    /// A reader, which may go to any thread.
    pub fn reader(&self) -> LogReader {
        todo!()
    }

    /// Index of the first entry kept; `last_index + 1` if there is none.
    pub fn first_index(&self) -> u64 {
        todo!()
    }

    /// Index of the last entry written; `first_index - 1` if there is none.
    pub fn last_index(&self) -> u64 {
        todo!()
    }

    /// Index up to which everything is durable (inclusive).
    pub fn durable_index(&self) -> u64 {
        todo!()
    }

    /// Term of the last entry (of the one before the first, if the log is empty).
    pub fn last_term(&self) -> u64 {
        todo!()
    }

    /// Offset that the next record gets.
    pub fn next_offset(&self) -> u64 {
        todo!()
    }

    /// Header checksum of the last entry: the link of the next one.
    pub fn last_header_crc(&self) -> u32 {
        todo!()
    }

    /// First offset kept.
    pub fn log_start(&self) -> u64 {
        todo!()
    }
}
