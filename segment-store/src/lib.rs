//! Append-only segment files for one group's log: prewritten, checksummed in a chain, read through a map.
//!
//! This crate knows files and frames. It knows nothing of consensus, of records inside a payload, of the network, of time.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ballot;
pub mod data_dir;
pub mod fault;
pub mod fs;
mod map;
pub mod prepare;
mod sealed_page;
pub mod snapshot;

pub use ballot::{BallotError, BallotFile};
pub use data_dir::{DataDir, DataDirError};
pub use fault::Fault;
pub use prepare::{Preparer, PreparerOptions};
