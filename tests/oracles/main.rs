//! Our core and our cluster held against code that nobody here wrote: the test data of another Raft, that Raft itself, and a
//! checker of linearizability.
//!
//! The other Raft is the crate `raft` 0.7 (`raft_rs` here). All of it are dev-dependencies: nothing of it ships.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod differential;
#[path = "../raft_paper/disk.rs"]
#[allow(
    dead_code,
    reason = "shared with tests/raft_paper, which uses all of it"
)]
mod disk;
mod mixed;
mod ours;
mod quorum;
mod testdata;
mod theirs;
mod translate;
