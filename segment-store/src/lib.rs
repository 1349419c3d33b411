//! Append-only segment files for one group's log: of fixed length, checksummed in a chain, read through a map.
//!
//! This crate knows files and frames. It knows nothing of consensus, of records inside a payload, of the network, of time.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ballot;
mod contents;
pub mod data_dir;
pub mod error;
mod extent;
pub mod fault;
mod footer;
pub mod format;
pub mod frame;
pub mod fs;
mod header_rebuild;
mod huge_memory;
mod index;
mod lenient;
mod load_memory;
pub mod log;
mod map;
#[cfg(plimsoll_mutations)]
pub mod mutation;
#[cfg(not(plimsoll_mutations))]
mod mutation;
pub mod prepare;
pub mod reader;
pub mod recover;
pub mod repair;
mod scan;
pub mod scrub;
mod sealed_page;
mod segment;
pub mod snapshot;
pub mod standing;
mod survey;
mod sync;
mod tail;
pub mod unsynced;
pub mod verify;
mod view;

pub use ballot::{BallotError, BallotFile, Save};
pub use data_dir::{DataDir, DataDirError};
pub use error::{AppendError, FrameError, OpenError, ReadError};
pub use fault::Fault;
pub use format::{FRAME_ALIGN, FrameHeader, HEADER_LEN, codec, kind};
pub use frame::{Frame, UnstampedFrame, UnstampedRun};
pub use load_memory::LoadMemory;
pub use log::{BegunSync, EndedSync, Log, LogBase, LogIdentity, LogOptions};
pub use prepare::{Preparer, PreparerOptions};
pub use reader::{FrameRun, LogReader};
pub use recover::{Recovered, TailVerdict};
pub use repair::{Missing, Repair, RepairError};
pub use scrub::{Scrub, Scrubbed};
pub use standing::{Bar, Boot, Memory, Pin};
pub use verify::{Dump, Problem, Report, SegmentReport, dump, verify};
